//! What is derived: made when a recording is stored, checked when read, made anew when it is not whole, never the truth.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use recordings::{Compression, Durability, Library, PlaybackError, Spool, SpoolOptions, Stored};
use serde_json::Value;

use crate::flaky::{Call, Fault, Flaky};
use crate::world::{Book, World, eventually, header, ms, record, say, upload_until, uploader};

const STEM: &str = "2026/11/23/s1";

/// A stored recording of some lines, and a library over it.
async fn stored(world: &World, lines: u64) -> (Library, Stored) {
    let (spool, book) = (world.spool(), Arc::new(Book::default()));
    record(&spool, "s1", lines).await;
    let stored =
        upload_until(uploader(&spool, world.store(), &book, Compression::Zstd), book.stored("s1")).await;
    (Library::new(world.store(), spool), stored)
}

async fn json(derived: recordings::Derived) -> Value {
    let plain = derived.bytes().await.unwrap();
    assert_eq!(plain.len() as u64, derived.plain_len);
    let raw = derived.raw().try_collect::<Vec<_>>().await.unwrap().concat();
    assert_eq!(raw.len() as u64, derived.stored_len);
    assert_eq!(zstd::decode_all(&raw[..]).unwrap(), plain);
    serde_json::from_slice(&plain).unwrap()
}

async fn text(bits: recordings::playback::Bits) -> String {
    String::from_utf8(bits.try_collect::<Vec<_>>().await.unwrap().concat()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_gets_its_transcript_when_it_is_stored() {
    let world = World::new();
    let (spool, book) = (world.spool(), Arc::new(Book::default()));
    record(&spool, "s1", 10).await;
    let path = world.store_dir().join(format!("{STEM}.forms.json.zst"));
    let uploader = uploader(&spool, world.store(), &book, Compression::Zstd);
    upload_until(uploader, eventually(|| path.exists().then_some(()))).await;
    let transcript =
        zstd::decode_all(&world.stored_file(&format!("{STEM}.transcript.json.zst"))[..]).unwrap();
    let lines: Vec<Value> = serde_json::from_slice(&transcript).unwrap();
    assert_eq!(lines.len(), 10);
    assert!(!world.store_dir().join(format!("{STEM}.segments")).exists(), "too small for segments");
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_are_made_when_asked_for_and_are_the_cast() {
    let world = World::new();
    let (library, stored) = stored(&world, 18_000).await;
    let index = json(library.segments(&stored).await.unwrap()).await;
    let places = index["segments"].as_array().unwrap();
    assert!(places.len() > 1, "{index}");
    let mut events = Vec::new();
    for n in 0..places.len() {
        let segment = json(library.segment(&stored, n).await.unwrap()).await;
        events.extend(segment["events"].as_array().unwrap().iter().cloned());
    }
    let cast = library.cast("s1", Some(&stored)).await.unwrap();
    let plain = text(cast.read(0..u64::MAX)).await;
    let lines: Vec<Value> = plain.lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(events == lines, "the segments' events are not the cast's");
    let beyond = library.segment(&stored, places.len()).await.err().unwrap();
    assert!(matches!(beyond, PlaybackError::Missing));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_altered_cut_or_gone_is_made_anew() {
    let world = World::new();
    let (library, stored) = stored(&world, 18_000).await;
    let index = library.segments(&stored).await.unwrap().bytes().await.unwrap();
    let segment = library.segment(&stored, 1).await.unwrap().bytes().await.unwrap();
    let lines = text(library.transcript("s1", Some(&stored)).await.unwrap().text()).await;
    for name in ["segments/index.json.zst", "segments/1.json.zst", "transcript.json.zst", "forms.json.zst"] {
        for harm in ["altered", "cut", "gone"] {
            let path = world.store_dir().join(format!("{STEM}.{name}"));
            let mut bytes = std::fs::read(&path).unwrap();
            let middle = bytes.len() / 2;
            match harm {
                "altered" => bytes[middle] ^= 1,
                _ => bytes.truncate(middle),
            }
            std::fs::write(&path, &bytes).unwrap();
            if harm == "gone" {
                std::fs::remove_file(&path).unwrap();
            }
            let again = library.segments(&stored).await.unwrap().bytes().await.unwrap();
            assert!(again == index, "{name} {harm}");
            assert!(
                library.segment(&stored, 1).await.unwrap().bytes().await.unwrap() == segment,
                "{name} {harm}"
            );
            let transcript = library.transcript("s1", Some(&stored)).await.unwrap();
            assert!(text(transcript.text()).await == lines, "{name} {harm}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_may_ask_at_once_and_forget_leaves_the_recording_alone() {
    let world = World::new();
    let (library, stored) = stored(&world, 18_000).await;
    let other = Library::new(world.store(), other_spool(&world, "other"));
    let asks = (0..6).map(|n| {
        let (library, stored) = (if n % 2 == 0 { library.clone() } else { other.clone() }, stored.clone());
        async move { library.segment(&stored, n % 2).await.unwrap().bytes().await.unwrap() }
    });
    let got = futures_util::future::join_all(asks).await;
    assert!(got[0] == got[2] && got[1] == got[5] && got[0] != got[1]);
    let (cast, index, seal) = (stored.key.clone(), format!("{STEM}.index.json"), format!("{STEM}.seal"));
    library.forget_derived(&stored).await.unwrap();
    library.forget_derived(&stored).await.unwrap();
    let mut left: Vec<_> = std::fs::read_dir(world.store_dir().join("2026/11/23"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| format!("2026/11/23/{}", entry.file_name().into_string().unwrap()))
        .collect();
    left.sort();
    assert_eq!(left, [cast, index, seal]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_fails_at_any_call_costs_an_error_and_never_a_wrong_form() {
    let world = World::new();
    let (library, stored) = stored(&world, 200).await;
    let expected = library.segments(&stored).await.unwrap().bytes().await.unwrap();
    for fault in [Fault::Fail, Fault::DoThenFail, Fault::Alter] {
        for at in 0.. {
            library.forget_derived(&stored).await.unwrap();
            let (store, left) = Flaky::wrap(&world.store(), Call::Any, fault, at);
            let flaky = Library::new(store, other_spool(&world, &format!("{fault:?}-{at}")));
            let _ = flaky.segments(&stored).await;
            let again = library.segments(&stored).await.unwrap().bytes().await.unwrap();
            assert!(again == expected, "{fault:?} at {at}");
            if left.load(std::sync::atomic::Ordering::SeqCst) > 0 {
                break;
            }
        }
    }
}

/// A spool's folder is locked by its first user: another library needs one of its own.
fn other_spool(world: &World, name: &str) -> Spool {
    let dir = world.folder.path().join(name);
    Spool::open(SpoolOptions { dir, min_free: 0, durability: Durability::Written }).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_is_the_same_with_segments_and_without() {
    let world = World::new();
    let (library, stored) = stored(&world, 70_000).await;
    assert!(Library::wants_segments(&stored), "{}", stored.plain_size);
    let cast = library.cast("s1", Some(&stored)).await.unwrap();
    for (from, to) in [(0, Some(1)), (100, Some(102)), (1100, Some(1101)), (1399, None), (5000, None)] {
        let (from, to) = (Duration::from_secs(from), to.map(Duration::from_secs));
        let seeded = text(library.window("s1", Some(&stored), from, to).await.unwrap()).await;
        let whole = text(cast.window(from, to)).await;
        assert!(seeded == whole, "from {from:?}");
        assert!(seeded.lines().count() >= 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transcript_is_found_in_wherever_the_recording_lies() {
    let world = World::new();
    let spool = world.spool();
    let library = Library::new(world.store(), spool.clone());
    let mut recorder = spool.start(header("s1")).await.unwrap();
    say(&mut recorder, ms(1000), b"$ rm -rf /srv\r\n").await;
    say(&mut recorder, ms(2500), "rm: /srv: Permission denied, 中文\r\n".as_bytes()).await;
    let running = library.transcript("s1", None).await.unwrap();
    assert!(running.kept().is_none());
    let lines: Vec<Value> = serde_json::from_str(&text(running.json()).await).unwrap();
    assert_eq!(lines.len(), 2);
    recorder.finish(ms(3000), "exit", None).await.unwrap();
    let book = Arc::new(Book::default());
    let stored =
        upload_until(uploader(&spool, world.store(), &book, Compression::Zstd), book.stored("s1")).await;
    let kept = library.transcript("s1", Some(&stored)).await.unwrap();
    assert_eq!(kept.kept().unwrap().plain_len as usize, text(kept.json()).await.len());
    assert_eq!(text(kept.text()).await, "$ rm -rf /srv\nrm: /srv: Permission denied, 中文\n");
    for transcript in [&running, &kept] {
        let found = transcript.search("permission DENIED", 10).await.unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].t, 2.5);
        assert_eq!(transcript.search("rm", 1).await.unwrap().len(), 1);
        assert_eq!(transcript.search("", 10).await.unwrap(), []);
    }
    assert_eq!(library.commands(&stored).await.unwrap(), []);
}
