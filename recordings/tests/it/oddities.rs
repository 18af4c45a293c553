//! What may lie in a spool's folder besides journals: each is set aside or left with its reason, and the start goes on.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use crc_fast::{CrcAlgorithm, checksum};
use recordings::{Aside, Compression, Recovery};
use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::world::{Book, World, eventually, header, ms, record, say, upload_until, uploader};

/// A spool with one good recording in it; what its journal holds; and where the journal's start record ends.
async fn spool() -> (World, Vec<u8>, usize) {
    let world = World::new();
    let spool = world.spool();
    let _kept = spool.start(header("good")).await.unwrap();
    let path = world.spool_dir().join("good.journal");
    let start = fs::read(&path).unwrap().len();
    drop((_kept, spool));
    fs::remove_file(&path).unwrap();
    record(&world.spool(), "good", 3).await;
    let journal = fs::read(path).unwrap();
    (world, journal, start)
}

/// Sees that the good one is found whatever else there is, and goes to the store.
async fn recovered(world: &World) -> Recovery {
    let spool = world.spool();
    let recovery = spool.recover().await.unwrap();
    assert!(recovery.found.iter().any(|found| found.header.facts.session == "good" && found.end.is_some()));
    let book = Arc::new(Book::default());
    let journal = world.spool_dir().join("good.journal");
    let moved = async {
        book.stored("good").await;
        eventually(|| (!journal.exists()).then_some(())).await;
    };
    upload_until(uploader(&spool, world.store(), &book, Compression::Zstd), moved).await;
    recovery
}

fn only(recovery: &Recovery) -> &Aside {
    let [aside] = &recovery.aside[..] else { panic!("{:?}", recovery.aside) };
    aside
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_journal_is_set_aside_with_its_reason_and_its_bytes() {
    let (_, good, start) = spool().await;
    let version = [&good[..8], &[0, 9], &good[10..]].concat();
    let reserved = [&good[..15], &[7], &good[16..]].concat();
    let beginning = [&good[..16], &good[start..]].concat();
    let cases: [(&str, &str, &[u8], &str); 10] = [
        ("empty", "bad", b"", "empty"),
        ("half a preamble", "bad", &good[..9], "not a journal"),
        ("a preamble and no more", "bad", &good[..16], "first record"),
        ("half a start", "bad", &good[..start - 1], "first record"),
        ("no start", "bad", &beginning, "first record"),
        ("another version", "bad", &version, "version 9"),
        ("what is zero is not", "bad", &reserved, "version 1"),
        ("foreign", "bad", b"\x7fELF\x02\x01\x01 and so on, more than sixteen bytes", "not a journal"),
        ("another's", "bad", &good, "that of session good"),
        ("no session's name", "a name", &good, "that of session good"),
    ];
    for (case, name, bytes, reason) in cases {
        let (world, ..) = spool().await;
        fs::write(world.spool_dir().join(format!("{name}.journal")), bytes).unwrap();
        let recovery = recovered(&world).await;
        let aside = only(&recovery);
        assert_eq!(aside.session, name, "{case}");
        assert!(aside.reason.contains(reason), "{case}: {}", aside.reason);
        assert!(aside.path.to_str().unwrap().contains(".journal.bad-"), "{case}");
        assert_eq!(fs::read(&aside.path).unwrap(), bytes, "{case}");
        assert!(world.spool().recover().await.unwrap().aside.is_empty(), "{case}: found again");
    }
}

/// Makes something odd at a path, of what lies outside of the spool if need be.
type Make = fn(&Path, &Path);

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_plain_file_is_set_aside_and_never_followed_read_or_cut() {
    let make: [(&str, Make); 3] = [
        ("folder", |_, path| fs::create_dir_all(path.join("within")).unwrap()),
        ("link", |outside, path| symlink(outside, path).unwrap()),
        ("pipe", |_, path| mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap()),
    ];
    for (case, make) in make {
        let (world, good, _) = spool().await;
        let outside = world.folder.path().join("outside");
        fs::write(&outside, [&good[..], b"and what would be cut off"].concat()).unwrap();
        make(&outside, &world.spool_dir().join("odd.journal"));
        let recovery = recovered(&world).await;
        assert!(only(&recovery).reason.contains("no plain file"), "{case}: {recovery:?}");
        assert!(fs::symlink_metadata(&only(&recovery).path).is_ok());
        assert!(fs::read(&outside).unwrap().ends_with(b"cut off"), "{case}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_now_stays_for_the_next_start() {
    let (world, good, _) = spool().await;
    let path = world.spool_dir().join("bad.journal");
    fs::write(&path, &good).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o000)).unwrap();
    if File::open(&path).is_ok() {
        // To root nothing is unreadable; `a_disk_that_fails_while_a_spool_is_recovered_loses_nothing` has the same.
        return;
    }
    let recovery = recovered(&world).await;
    assert_eq!(only(&recovery).path, path);
    assert!(only(&recovery).reason.contains("denied"), "{recovery:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_follows_damage_is_kept_and_what_is_only_torn_is_cut() {
    let (_, good, start) = spool().await;
    let record = |kind: u8, payload: &[u8]| {
        let mut record = vec![0; 24];
        record[0] = kind;
        record[4..8].copy_from_slice(&(payload.len() as u32).to_be_bytes());
        let sum = checksum(CrcAlgorithm::Crc32Iscsi, &[&record[..], payload].concat()) as u32;
        record.extend(sum.to_be_bytes());
        record.extend(payload);
        record
    };
    let mut huge = record(2, b"x");
    huge[4..8].fill(0xff);
    let mut altered = good[start..].to_vec();
    altered[29] ^= 1;
    let cases: [(&str, Vec<u8>, bool); 8] = [
        (
            "a kind of a later version",
            [record(77, b"what it means nobody knows"), record(5, b"m")].concat(),
            true,
        ),
        ("a length beyond all", [&huge[..], b"and more"].concat(), true),
        ("a byte that is another", altered.clone(), true),
        ("the last record, altered", record(77, b"x"), true),
        ("half a record", good[start..start + 40].to_vec(), false),
        ("half a head", good[start..start + 20].to_vec(), false),
        ("zeros", vec![0; 5000], false),
        ("one that begins with zeros", [&[0; 28][..], b"then not"].concat(), true),
    ];
    for (case, tail, kept) in cases {
        let (world, good, _) = spool().await;
        let path = world.spool_dir().join("s1.journal");
        let own = String::from_utf8_lossy(&good[16 + 28..start]).into_owned();
        assert!(own.contains("\"session\":\"good\""), "{own}");
        let mut recorder = world.spool().start(header("s1")).await.unwrap();
        say(&mut recorder, ms(1), b"whole").await;
        drop(recorder);
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&tail).unwrap();
        // Twice: what was kept first is not written over.
        for n in 1..=2 {
            let found = recovered(&world).await.found;
            let found = found.iter().find(|found| found.header.facts.session == "s1").unwrap();
            assert_eq!((found.output_offset, found.end.is_none()), (5, true), "{case}");
            assert_eq!(found.cut, tail.len() as u64, "{case}");
            let name = if n == 1 { "s1.journal.bad-tail" } else { "s1.journal.bad-tail-2" };
            let aside = fs::read(world.spool_dir().join(name)).ok();
            assert_eq!(aside, kept.then(|| tail.clone()), "{case}");
            OpenOptions::new().append(true).open(&path).unwrap().write_all(&tail).unwrap();
            record_again(&world, &good);
        }
        let mut recorder = world.spool().resume("s1").await.unwrap();
        assert_eq!(
            world.spool_dir().join("s1.journal.bad-tail-3").exists(),
            kept,
            "{case}: cut while resuming"
        );
        say(&mut recorder, ms(2), b", and more").await;
        assert_eq!(recorder.output_offset(), 15);
    }
}

fn record_again(world: &World, good: &[u8]) {
    fs::write(world.spool_dir().join("good.journal"), good).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gibibyte_of_zeros_costs_neither_memory_nor_space() {
    let (world, _, start) = spool().await;
    let grown = |name: &str, from: &[u8]| {
        fs::write(world.spool_dir().join(name), from).unwrap();
        OpenOptions::new().write(true).open(world.spool_dir().join(name)).unwrap().set_len(1 << 30).unwrap();
    };
    grown("zeros.journal", b"");
    let mut recorder = world.spool().start(header("s1")).await.unwrap();
    say(&mut recorder, ms(1), b"whole").await;
    drop(recorder);
    let journal = fs::read(world.spool_dir().join("s1.journal")).unwrap();
    grown("s1.journal", &journal);
    let recovery = recovered(&world).await;
    assert!(only(&recovery).reason.contains("not a journal"), "{recovery:?}");
    let found = recovery.found.iter().find(|found| found.header.facts.session == "s1").unwrap();
    assert_eq!((found.output_offset, found.cut), (5, (1 << 30) - journal.len() as u64));
    assert!(journal.len() > start && fs::read(world.spool_dir().join("s1.journal")).unwrap() == journal);
    assert!(!world.spooled_files().iter().any(|name| name.contains("bad-tail")));
}

#[tokio::test(flavor = "multi_thread")]
async fn seals_that_are_left_over_go_or_stay_and_stop_nobody() {
    let (world, ..) = spool().await;
    fs::write(world.spool_dir().join("gone.seal"), b"left by a crash").unwrap();
    fs::write(world.spool_dir().join("half.seal-new"), b"left by an ea").unwrap();
    fs::create_dir_all(world.spool_dir().join("folder.seal/within")).unwrap();
    let recovery = recovered(&world).await;
    assert!(recovery.aside.is_empty());
    let files = world.spooled_files();
    assert!(!files.iter().any(|name| name.starts_with("gone") || name.starts_with("half")), "{files:?}");
    assert!(world.spool_dir().join("folder.seal/within").exists());
}
