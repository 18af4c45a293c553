//! The spool: who may start, what a crash leaves, how a session goes on.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use bytes::Bytes;
use recordings::journal::JournalError;
use recordings::{Durability, Event, Exit, Header, Kind, RecorderError, Spool, SpoolError, SpoolOptions};

use crate::world::{World, header, ms, record, say};

fn output(offset: u64, bytes: &'static [u8]) -> Event {
    Event { at: ms(1), kind: Kind::Output { offset, bytes: Bytes::from_static(bytes) } }
}

#[tokio::test]
async fn folder_and_journals_are_the_owners_alone() {
    let world = World::new();
    let spool = world.spool();
    let _recorder = spool.start(header("s1")).await.unwrap();
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(world.spool_dir()), 0o700);
    assert_eq!(mode(world.spool_dir().join("s1.journal")), 0o600);
}

#[tokio::test]
async fn what_was_recorded_is_in_the_file_when_the_call_returns() {
    for durability in [Durability::Written, Durability::Synced] {
        let world = World::new();
        let spool = world.spool_with(durability);
        let mut recorder = spool.start(header("s1")).await.unwrap();
        say(&mut recorder, ms(1), b"hello").await;
        let file = fs::read(world.spool_dir().join("s1.journal")).unwrap();
        assert!(file.ends_with(b"hello"), "{durability:?}");
        assert_eq!(recorder.output_offset(), 5);
    }
}

#[tokio::test]
async fn space_for_the_end_is_allocated_and_given_back() {
    let world = World::new();
    let spool = world.spool();
    let mut recorder = spool.start(header("s1")).await.unwrap();
    let path = world.spool_dir().join("s1.journal");
    let allocated = || fs::metadata(&path).unwrap().blocks() * 512;
    assert!(allocated() >= 64 << 10, "{}", allocated());
    say(&mut recorder, ms(1), &vec![b'x'; 300 << 10]).await;
    assert!(allocated() >= (300 + 64) << 10, "{}", allocated());
    recorder.finish(ms(2), "exit", None).await.unwrap();
    assert!(allocated() < 310 << 10, "{}", allocated());
}

#[tokio::test]
async fn below_min_free_none_starts_and_running_ones_can_still_end() {
    let world = World::new();
    let mut recorder = world.spool().start(header("s1")).await.unwrap();
    say(&mut recorder, ms(1), b"before").await;
    drop(recorder);
    let full = SpoolOptions { dir: world.spool_dir(), min_free: u64::MAX, durability: Durability::Written };
    let spool = Spool::open(full).unwrap();
    assert!(matches!(spool.admit(), Err(SpoolError::NoSpace { min_free: u64::MAX, .. })));
    assert!(matches!(spool.start(header("s2")).await, Err(SpoolError::NoSpace { .. })));
    assert_eq!(world.spooled_files(), ["s1.journal"]);
    let mut recorder = spool.resume("s1").await.unwrap();
    let refused = recorder.record(vec![output(6, b"after")]).await;
    assert!(matches!(refused, Err(RecorderError::NoSpace { .. })));
    recorder.finish(ms(2), "recording_failed", None).await.unwrap();
    drop(spool);
    let found = world.spool().recover().await.unwrap().found;
    assert_eq!(found[0].output_offset, 6);
    assert_eq!(found[0].end.as_ref().unwrap().reason, "recording_failed");
}

#[tokio::test]
async fn a_spool_that_cannot_be_a_folder_says_where() {
    let world = World::new();
    fs::write(world.spool_dir(), b"a file").unwrap();
    let options = SpoolOptions { dir: world.spool_dir(), min_free: 0, durability: Durability::Written };
    let error = Spool::open(options).err().unwrap();
    assert!(error.to_string().contains("/spool"), "{error}");
}

#[test]
fn a_spool_in_use_is_nobody_elses() {
    let world = World::new();
    let _spool = world.spool();
    let options = SpoolOptions { dir: world.spool_dir(), min_free: 0, durability: Durability::Written };
    assert!(matches!(Spool::open(options), Err(SpoolError::InUse(_))));
}

#[tokio::test]
async fn a_removed_folder_admits_nobody() {
    let world = World::new();
    let spool = world.spool();
    fs::remove_dir_all(world.spool_dir()).unwrap();
    assert!(matches!(spool.admit(), Err(SpoolError::Io { .. })));
    assert!(spool.start(header("s1")).await.is_err());
}

#[tokio::test]
async fn a_wrong_header_is_refused_and_leaves_nothing() {
    let world = World::new();
    let spool = world.spool();
    for session in ["", "../etc/passwd", "a/b", "a.b", &"x".repeat(65)] {
        assert!(matches!(spool.start(header(session)).await, Err(SpoolError::Header(_))), "{session}");
        assert!(spool.resume(session).await.is_err());
    }
    for (cols, rows) in [(0, 24), (80, 0), (1001, 24)] {
        let mut wrong = header("s1");
        (wrong.facts.cols, wrong.facts.rows) = (cols, rows);
        assert!(matches!(spool.start(wrong).await, Err(SpoolError::Header(_))));
    }
    for started in ["yesterday", "2026-11-23T10:00:00.000+01:00"] {
        let mut wrong = header("s1");
        wrong.facts.started = started.into();
        assert!(matches!(spool.start(wrong).await, Err(SpoolError::Header(_))));
    }
    assert!(world.spooled_files().is_empty());
}

#[tokio::test]
async fn one_session_has_one_journal_and_one_recorder() {
    let world = World::new();
    let spool = world.spool();
    let recorder = spool.start(header("s1")).await.unwrap();
    assert!(matches!(spool.start(header("s1")).await, Err(SpoolError::Busy(_))));
    assert!(matches!(spool.resume("s1").await, Err(SpoolError::Busy(_))));
    drop(recorder);
    assert!(matches!(spool.start(header("s1")).await, Err(SpoolError::Exists(_))));
    assert!(matches!(spool.resume("s2").await, Err(SpoolError::Unknown(_))));
    spool.resume("s1").await.unwrap().finish(ms(1), "exit", None).await.unwrap();
    assert!(matches!(spool.resume("s1").await, Err(SpoolError::Finished(_))));
    assert!(matches!(spool.seal_interrupted("s1", "host_gone").await, Err(SpoolError::Finished(_))));
}

#[tokio::test]
async fn a_batch_that_does_not_continue_counts_for_nothing() {
    let world = World::new();
    let spool = world.spool();
    let mut recorder = spool.start(header("s1")).await.unwrap();
    let refused = recorder.record(vec![output(0, b"one"), output(4, b"gap")]).await;
    assert!(matches!(
        refused,
        Err(RecorderError::Journal(JournalError::Discontinuous { at: 3, got: 4, .. }))
    ));
    assert_eq!(recorder.output_offset(), 0);
    recorder.record(vec![output(0, b"one"), output(3, b"two")]).await.unwrap();
    drop((recorder, spool));
    assert_eq!(world.spool().recover().await.unwrap().found[0].output_offset, 6);
}

#[tokio::test]
async fn a_session_goes_on_in_the_same_journal_after_a_crash() {
    let world = World::new();
    let mut recorder = world.spool().start(Header { records_input: true, ..header("s1") }).await.unwrap();
    say(&mut recorder, ms(1500), b"before ").await;
    let typed = Kind::Input { offset: 0, bytes: Bytes::from_static(b"secret"), echo: false };
    recorder.record(vec![Event { at: ms(1600), kind: typed }]).await.unwrap();
    drop(recorder);
    let path = world.spool_dir().join("s1.journal");
    OpenOptions::new().append(true).open(&path).unwrap().write_all(b"\x02\0\0\0torn").unwrap();

    let spool = world.spool();
    let found = spool.recover().await.unwrap().found;
    assert_eq!((found[0].output_offset, found[0].input_offset, found[0].cut), (7, 6, 8));
    assert_eq!((found[0].last_at, found[0].end.is_none()), (ms(1600), true));
    let mut recorder = spool.resume("s1").await.unwrap();
    assert_eq!((recorder.output_offset(), recorder.input_offset()), (7, 6));
    assert_eq!(recorder.last_at(), ms(1600));
    recorder.record(vec![Event { at: ms(0), kind: Kind::Gap { lost: 3 } }]).await.unwrap();
    say(&mut recorder, ms(1700), b"after").await;
    let exit = Exit { code: Some(3), signal: None };
    recorder.finish(ms(1800), "exit", Some(exit.clone())).await.unwrap();
    drop(spool);

    let found = world.spool().recover().await.unwrap().found;
    assert_eq!(found[0].output_offset, 15);
    assert_eq!(found[0].exit, Some(exit));
    assert!(!found[0].end.as_ref().unwrap().recovered);
    assert_eq!(found[0].last_at, ms(1800));
}

#[tokio::test]
async fn a_session_that_does_not_come_back_is_sealed_as_it_stood() {
    let world = World::new();
    let mut recorder = world.spool().start(header("s1")).await.unwrap();
    say(&mut recorder, ms(10), b"last words").await;
    drop(recorder);
    let spool = world.spool();
    spool.seal_interrupted("s1", "host_gone").await.unwrap();
    let found = spool.recover().await.unwrap().found;
    let end = found[0].end.as_ref().unwrap();
    assert!(end.recovered && end.reason == "host_gone");
    assert_eq!(found[0].last_at, ms(10));
}

#[tokio::test]
async fn a_crash_between_any_two_bytes_is_recovered_from() {
    let world = World::new();
    record(&world.spool(), "s1", 3).await;
    let whole = fs::read(world.spool_dir().join("s1.journal")).unwrap();
    let mut offsets = Vec::new();
    for len in 0..whole.len() {
        let world = World::new();
        let spool = world.spool();
        fs::write(world.spool_dir().join("s1.journal"), &whole[..len]).unwrap();
        let recovery = spool.recover().await.unwrap();
        match &recovery.found[..] {
            [] => assert_eq!(recovery.aside.len(), 1),
            [found] => {
                assert!(found.end.is_none());
                offsets.push(found.output_offset);
                spool.seal_interrupted("s1", "host_gone").await.unwrap();
                drop(spool);
                let again = world.spool().recover().await.unwrap();
                assert_eq!(again.found[0].output_offset, found.output_offset);
                assert!(again.found[0].end.is_some());
            }
            more => panic!("{more:?}"),
        }
    }
    assert!(offsets.is_sorted() && offsets.first() == Some(&0));
    offsets.dedup();
    assert_eq!(offsets.len(), 4);
}

#[tokio::test]
async fn what_is_no_journal_is_set_aside_and_the_rest_is_found() {
    let world = World::new();
    let spool = world.spool();
    record(&spool, "good", 1).await;
    drop(spool);
    let put = |name: &str, bytes: &[u8]| fs::write(world.spool_dir().join(name), bytes).unwrap();
    put("empty.journal", b"");
    put("other.journal", b"#!/bin/sh\nexit 0\n");
    put("newer.journal", b"CSTLJRNL\0\x09\0\0\0\0\0\0");
    put("wrong name.journal", &fs::read(world.spool_dir().join("good.journal")).unwrap());
    put("gone.seal", b"left by a crash");
    let recovery = world.spool().recover().await.unwrap();
    assert_eq!(recovery.found.len(), 1);
    let mut aside: Vec<_> = recovery.aside.iter().map(|aside| aside.session.as_str()).collect();
    aside.sort_unstable();
    assert_eq!(aside, ["empty", "newer", "other", "wrong name"]);
    for aside in &recovery.aside {
        assert!(aside.path.exists() && aside.path.to_str().unwrap().contains(".journal.bad-"), "{aside:?}");
    }
    assert!(recovery.aside.iter().any(|aside| aside.reason.contains("version 9")));
    assert!(!world.spool_dir().join("gone.seal").exists());
    assert!(world.spool().recover().await.unwrap().aside.is_empty());
}

#[tokio::test]
async fn a_journal_damaged_in_the_middle_keeps_its_rest_for_people() {
    let world = World::new();
    let spool = world.spool();
    let mut recorder = spool.start(header("s1")).await.unwrap();
    say(&mut recorder, ms(1), b"intact").await;
    let path = world.spool_dir().join("s1.journal");
    let intact = fs::metadata(&path).unwrap().len() as usize;
    for _ in 0..30 {
        say(&mut recorder, ms(2), &[b'x'; 100 << 10]).await;
    }
    recorder.finish(ms(3), "exit", None).await.unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[intact + 100] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let found = spool.recover().await.unwrap().found;
    assert_eq!((found[0].output_offset, found[0].end.is_none()), (6, true));
    assert!(fs::read(world.spool_dir().join("s1.journal.bad-tail")).unwrap() == bytes[intact..]);
}

#[tokio::test]
async fn recovery_leaves_running_recordings_alone() {
    let world = World::new();
    let spool = world.spool();
    let mut recorder = spool.start(header("s1")).await.unwrap();
    assert!(spool.recover().await.unwrap().found.is_empty());
    say(&mut recorder, ms(1), b"still here").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_sessions_at_once_each_get_their_own_bytes() {
    for durability in [Durability::Written, Durability::Synced] {
        let world = World::new();
        let spool = world.spool_with(durability);
        let sessions: Vec<String> = (0..50).map(|n| format!("s{n}")).collect();
        let all = sessions.iter().map(|session| record(&spool, session, 20));
        futures_util::future::join_all(all).await;
        drop(spool);
        let found = world.spool().recover().await.unwrap().found;
        assert_eq!(found.len(), 50);
        assert!(found.iter().all(|one| one.end.is_some() && one.output_offset == found[0].output_offset));
    }
}

#[tokio::test]
async fn a_session_can_be_resumed_the_moment_its_recorder_is_gone() {
    for durability in [Durability::Written, Durability::Synced] {
        let world = World::new();
        let spool = world.spool_with(durability);
        let mut recorder = spool.start(header("s1")).await.unwrap();
        for n in 0..50_u64 {
            // Its last batch is on its way to the writer (or just written), and nobody waits for the answer.
            let batch = vec![output(recorder.output_offset(), b"12345")];
            let mut recording = Box::pin(recorder.record(batch));
            let _ = futures_util::poll!(&mut recording);
            drop(recording);
            drop(recorder);
            recorder = spool.resume("s1").await.unwrap();
            assert_eq!(recorder.output_offset(), (n + 1) * 5);
        }
        assert!(matches!(spool.resume("s1").await, Err(SpoolError::Busy(_))));
    }
}

#[tokio::test]
async fn after_a_power_cut_a_session_stands_at_its_last_whole_record() {
    let world = World::new();
    let mut recorder = world.spool().start(header("s1")).await.unwrap();
    let path = world.spool_dir().join("s1.journal");
    let mut stands = Vec::new();
    for n in 0..4_u64 {
        stands.push((fs::metadata(&path).unwrap().len(), recorder.output_offset(), recorder.last_at()));
        say(&mut recorder, ms(10 + n), &vec![b'x'; 100 + n as usize]).await;
    }
    drop(recorder);
    let whole = fs::metadata(&path).unwrap().len();
    for cut in (stands[0].0..whole).rev().step_by(9) {
        OpenOptions::new().write(true).open(&path).unwrap().set_len(cut).unwrap();
        let recorder = world.spool().resume("s1").await.unwrap();
        let &(pos, offset, at) = stands.iter().rev().find(|(pos, ..)| *pos <= cut).unwrap();
        assert_eq!((recorder.output_offset(), recorder.last_at()), (offset, at), "cut at {cut}");
        assert_eq!(fs::metadata(&path).unwrap().len(), pos);
        let screen = recorder.live().screen().await.unwrap();
        assert_eq!((screen.offset, screen.at), (offset, at));
    }
}
