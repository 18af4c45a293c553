//! Uploads: whatever fails, every recording ends in the store, whole, and the spool empty.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use recordings::seal::Chain;
use recordings::{Compression, Event, Index, Kind, RecordingState, Store};
use sha2::{Digest, Sha256};

use crate::flaky::{Call, Fault, Flaky};
use crate::world::{Book, World, claims, eventually, header, ms, record, say, upload_until, uploader};

fn hash(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_recording_is_stored_described_and_leaves_the_spool() {
    let world = World::new();
    let (spool, book) = (world.spool(), Arc::new(Book::default()));
    record(&spool, "s1", 2000).await;
    let stored = upload_until(uploader(&spool, world.store(), &book, Compression::Zstd), async {
        let stored = book.stored("s1").await;
        world.spool_is_empty().await;
        stored
    })
    .await;
    assert_eq!(stored.key, "2026/11/23/s1.cast.zst");
    let object = world.stored_file(&stored.key);
    let plain = zstd::decode_all(&object[..]).unwrap();
    assert_eq!((stored.size, stored.sha256.clone()), (object.len() as u64, hash(&object)));
    assert_eq!((stored.plain_size, stored.plain_sha256.clone()), (plain.len() as u64, hash(&plain)));
    assert_eq!((stored.duration, stored.ended.as_str()), (40.0, "2026-11-24T00:00:39.500Z"));

    let index: Index = serde_json::from_slice(&world.stored_file("2026/11/23/s1.index.json")).unwrap();
    let mut chain = Chain::new(&index.facts).unwrap();
    for chunk in &index.chunks {
        let bytes = &plain[chunk.plain_at as usize..][..chunk.plain_len as usize];
        chain.push(Sha256::digest(bytes).into());
        assert_eq!(chunk.chain, chain.head());
    }
    assert_eq!((index.chunks.len() as u64, chain.head()), (stored.chunks, stored.head.clone()));
    let raw: String = (0..2000).map(|n| format!("line {n} of the session, 中文 {}\r\n", n * 7919)).collect();
    assert_eq!((index.output_bytes, index.output_sha256.clone()), (raw.len() as u64, hash(raw.as_bytes())));

    let seal = world.stored_file("2026/11/23/s1.seal");
    assert_eq!(stored.seal_sha256, hash(&seal));
    assert_eq!(
        claims(&seal),
        serde_json::json!({
            "iss": "https://bastion.example", "iat": 1_795_480_000, "sub": "s1", "facts": header("s1").facts,
            "ended": "2026-11-24T00:00:39.500Z", "reason": "exit", "chunks": stored.chunks,
            "plain_len": plain.len(), "head": stored.head, "output_bytes": raw.len(),
            "output_sha256": hash(raw.as_bytes()), "recovered": false, "lost_bytes": 0, "input": false,
        })
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn states_are_told_in_order_with_the_reason_of_a_failure() {
    let world = World::new();
    let (spool, book) = (world.spool(), Arc::new(Book::default()));
    record(&spool, "s1", 3).await;
    let (store, _) = Flaky::wrap(&world.store(), Call::Any, Fault::Fail, 0);
    upload_until(uploader(&spool, store, &book, Compression::None), book.stored("s1")).await;
    let states = book.states("s1");
    let RecordingState::Uploading { attempt: 1, reason: Some(reason) } = &states[2] else {
        panic!("{states:?}");
    };
    assert!(reason.contains("out of order"), "{reason}");
    assert_eq!(states[0], RecordingState::Spooled);
    assert_eq!(states[1], RecordingState::Uploading { attempt: 1, reason: None });
    assert_eq!(states[3], RecordingState::Uploading { attempt: 2, reason: Some(reason.clone()) });
    assert!(matches!(states[4], RecordingState::Stored(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ledger_that_is_away_holds_the_journal_back() {
    let world = World::new();
    let (spool, book) = (world.spool(), Arc::new(Book::default()));
    book.refusals.store(6, Ordering::SeqCst);
    record(&spool, "s1", 3).await;
    let stored = upload_until(uploader(&spool, world.store(), &book, Compression::Zstd), async {
        let stored = book.stored("s1").await;
        world.spool_is_empty().await;
        stored
    })
    .await;
    assert_eq!(hash(&world.stored_file(&stored.key)), stored.sha256);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_once_made_stays_the_same() {
    let world = World::new();
    let (spool, book) = (world.spool(), Arc::new(Book::default()));
    record(&spool, "s1", 3).await;
    let journal = std::fs::read(world.spool_dir().join("s1.journal")).unwrap();
    // Calls: put and get of the cast, of the index, then the seal's put.
    let (store, left) = Flaky::wrap(&world.store(), Call::Any, Fault::Hang, 4);
    upload_until(
        uploader(&spool, store, &book, Compression::Zstd),
        eventually(|| (left.load(Ordering::SeqCst) == 0).then_some(())),
    )
    .await;
    let kept = std::fs::read(world.spool_dir().join("s1.seal")).unwrap();
    drop(spool);
    let spool = world.spool();
    spool.recover().await.unwrap();
    let late =
        recordings::UploadOptions { compression: Compression::Zstd, now: || 1_999_999_999, chance: || 0.0 };
    let again = recordings::Uploader::new(
        spool.clone(),
        world.store(),
        Arc::clone(&book) as Arc<dyn recordings::Ledger>,
        Arc::new(crate::kept::Notary("rec-1")),
        late,
    );
    let stored = upload_until(again, book.stored("s1")).await;
    assert_eq!(hash(&kept), stored.seal_sha256);
    assert!(!journal.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_journal_fails_visibly_and_is_kept() {
    let world = World::new();
    let (spool, book) = (world.spool(), Arc::new(Book::default()));
    record(&spool, "bad", 30).await;
    record(&spool, "good", 3).await;
    let path = world.spool_dir().join("bad.journal");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    upload_until(uploader(&spool, world.store(), &book, Compression::Zstd), async {
        book.stored("good").await;
        let failed = book.state("bad", |state| matches!(state, RecordingState::Failed { .. })).await;
        assert!(matches!(failed, RecordingState::Failed { reason } if reason.contains("end record")));
        eventually(|| {
            let files = world.spooled_files();
            (files.len() == 1 && files[0].starts_with("bad.journal.bad-")).then_some(())
        })
        .await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recordings_that_finish_later_wake_the_uploader() {
    let world = World::new();
    let (spool, book) = (world.spool(), Arc::new(Book::default()));
    let run = uploader(&spool, world.store(), &book, Compression::Zstd);
    upload_until(run, async {
        for n in 0..10 {
            let session = format!("s{n}");
            record(&spool, &session, 2).await;
            book.stored(&session).await;
        }
        world.spool_is_empty().await;
    })
    .await;
}

#[tokio::test]
async fn stores_open_by_url_and_answer() {
    let world = World::new();
    world.store().probe().await.unwrap();
    for wrong in ["", "recordings", "file:relative", "memory:///", "http://x/", "ftp://x/y"] {
        assert!(recordings::open_store(wrong).is_err(), "{wrong}");
    }
    let bucket: Store = recordings::open_store("s3://bucket/some/prefix").unwrap();
    assert_eq!(bucket.prefix.as_ref(), "some/prefix");
    let store = world.store();
    std::fs::remove_dir_all(world.store_dir()).unwrap();
    assert!(store.probe().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn output_lost_in_a_power_cut_is_marked_in_the_cast_and_counted_in_index_and_seal() {
    let world = World::new();
    let mut recorder = world.spool().start(header("s1")).await.unwrap();
    say(&mut recorder, ms(100), b"kept").await;
    say(&mut recorder, ms(200), b"this goes with the power").await;
    drop(recorder);
    let journal = world.spool_dir().join("s1.journal");
    let file = std::fs::OpenOptions::new().write(true).open(&journal).unwrap();
    file.set_len(file.metadata().unwrap().len() - 5).unwrap();

    let (spool, book) = (world.spool(), Arc::new(Book::default()));
    let mut recorder = spool.resume("s1").await.unwrap();
    assert_eq!((recorder.output_offset(), recorder.last_at()), (4, ms(100)));
    let agent_has = 4 + 24;
    let gap = Kind::Gap { lost: agent_has - recorder.output_offset() };
    let after = Kind::Output { offset: agent_has, bytes: Bytes::from_static(b"after") };
    let events = [gap, after].map(|kind| Event { at: ms(300), kind });
    recorder.record(events.to_vec()).await.unwrap();
    assert_eq!(recorder.output_offset(), agent_has + 5);
    let screen = recorder.live().screen().await.unwrap();
    assert_eq!(screen.offset, agent_has + 5);
    assert!(String::from_utf8_lossy(&screen.bytes).contains("keptafter"));
    recorder.finish(ms(400), "exit", None).await.unwrap();

    let stored =
        upload_until(uploader(&spool, world.store(), &book, Compression::None), book.stored("s1")).await;
    assert_eq!((stored.lost_bytes, stored.output_bytes), (24, 9));
    let cast = String::from_utf8(world.stored_file(&stored.key)).unwrap();
    let lines: Vec<_> = cast.lines().skip(1).collect();
    let expected = [r#"[0.1,"o","kept"]"#, r#"[0.3,"m","24 bytes of output lost"]"#, r#"[0.3,"o","after"]"#];
    assert_eq!(lines, expected);
    let index: Index = serde_json::from_slice(&world.stored_file("2026/11/23/s1.index.json")).unwrap();
    assert_eq!((index.lost_bytes, index.output_bytes), (24, 9));
    assert_eq!(index.output_sha256, hash(b"keptafter"));
    assert_eq!(claims(&world.stored_file("2026/11/23/s1.seal"))["lost_bytes"], 24);
}
