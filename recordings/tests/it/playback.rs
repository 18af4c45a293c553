//! Playback: any part of a recording, wherever it lies, is the same bytes.

use std::sync::Arc;

use futures_util::TryStreamExt;
use recordings::{Cast, Compression, Library, PlaybackError};

use crate::world::{Book, World, header, ms, record, say, upload_until, uploader};

async fn read(cast: &Cast, range: std::ops::Range<u64>) -> Vec<u8> {
    cast.read(range).try_collect::<Vec<_>>().await.unwrap().concat()
}

/// Every range worth trying: ends, chunk borders and around them.
async fn ranges_agree(cast: &Cast, plain: &[u8], borders: &[u64]) {
    assert_eq!(cast.plain_len, plain.len() as u64);
    assert_eq!(read(cast, 0..u64::MAX).await, plain);
    let mut places = vec![0, 1, cast.plain_len / 2, cast.plain_len - 1, cast.plain_len];
    places.extend(borders.iter().flat_map(|at| [at.saturating_sub(1), *at, at + 1]));
    for &from in &places {
        for &to in &places {
            let expected = plain.get(from as usize..to.min(cast.plain_len) as usize).unwrap_or_default();
            assert_eq!(read(cast, from..to).await, expected, "{from}..{to}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_reads_the_same_from_spool_and_store_in_any_form() {
    for compression in [Compression::Zstd, Compression::None] {
        let world = World::new();
        let (spool, book) = (world.spool(), Arc::new(Book::default()));
        let library = Library::new(world.store(), spool.clone());
        record(&spool, "s1", 8000).await;
        let cast = library.cast("s1", None).await.unwrap();
        assert!(cast.etag.is_none() && cast.raw().is_none());
        let spooled = read(&cast, 0..u64::MAX).await;
        let stored =
            upload_until(uploader(&spool, world.store(), &book, compression), book.stored("s1")).await;
        let object = world.stored_file(&stored.key);
        let plain = match compression {
            Compression::Zstd => zstd::decode_all(&object[..]).unwrap(),
            Compression::None => object.clone(),
        };
        assert!(spooled == plain, "spool and store differ");
        let index: recordings::Index =
            serde_json::from_slice(&world.stored_file("2026/11/23/s1.index.json")).unwrap();
        let borders: Vec<_> = index.chunks.iter().take(3).map(|chunk| chunk.plain_at).collect();
        let opened = library.cast("s1", Some(&stored)).await.unwrap();
        assert_eq!(opened.etag, Some(format!("\"{}\"", stored.plain_sha256)));
        assert!(opened.last_modified.is_some());
        ranges_agree(&opened, &plain, &borders).await;
        match opened.raw() {
            Some((len, bits)) => {
                assert_eq!(compression, Compression::Zstd);
                assert_eq!(len, object.len() as u64);
                assert_eq!(bits.try_collect::<Vec<_>>().await.unwrap().concat(), object);
            }
            None => assert_eq!(compression, Compression::None),
        }
        // The journal is gone from its folder, but what was opened before stays readable.
        ranges_agree(&cast, &plain, &borders).await;
    }
}

#[tokio::test]
async fn a_running_session_plays_as_far_as_it_goes_in_whole_lines() {
    let world = World::new();
    let spool = world.spool();
    let library = Library::new(world.store(), spool.clone());
    let mut recorder = spool.start(header("s1")).await.unwrap();
    let silent = library.cast("s1", None).await.unwrap();
    assert_eq!(read(&silent, 0..u64::MAX).await.iter().filter(|byte| **byte == b'\n').count(), 2);
    say(&mut recorder, ms(10), b"hello").await;
    let first = library.cast("s1", None).await.unwrap();
    say(&mut recorder, ms(20), b"more").await;
    let text = String::from_utf8(read(&first, 0..u64::MAX).await).unwrap();
    assert!(text.ends_with("[0.01,\"o\",\"hello\"]\n"), "{text}");
    let second = library.cast("s1", None).await.unwrap();
    let text = String::from_utf8(read(&second, 0..u64::MAX).await).unwrap();
    assert!(text.ends_with("[0.02,\"o\",\"more\"]\n"), "{text}");
    assert_eq!(second.plain_len, text.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_is_missing_and_what_is_altered_is_named() {
    let world = World::new();
    let (spool, book) = (world.spool(), Arc::new(Book::default()));
    let library = Library::new(world.store(), spool.clone());
    assert!(matches!(library.cast("s1", None).await, Err(PlaybackError::Missing)));
    assert!(library.cast("../s1", None).await.is_err());
    record(&spool, "s1", 3000).await;
    let stored =
        upload_until(uploader(&spool, world.store(), &book, Compression::Zstd), book.stored("s1")).await;
    let path = world.store_dir().join(&stored.key);
    let mut object = std::fs::read(&path).unwrap();
    let last = object.len() - 10;
    object[last] ^= 1;
    std::fs::write(&path, &object).unwrap();
    let cast = library.cast("s1", Some(&stored)).await.unwrap();
    let damaged = cast.read(0..cast.plain_len).try_collect::<Vec<_>>().await.err().unwrap();
    assert!(matches!(damaged, PlaybackError::Damaged(n) if n + 1 == stored.chunks), "{damaged}");
    std::fs::remove_file(world.store_dir().join("2026/11/23/s1.index.json")).unwrap();
    assert!(matches!(library.cast("s1", Some(&stored)).await, Err(PlaybackError::Absent("index"))));
}
