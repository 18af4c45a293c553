//! A bucket behind a real S3 server: everything that is done with a store, and everything that goes wrong on the wire.

use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use http::{Method, StatusCode};
use recordings::verify::{Form, Standing};
use recordings::{Compression, Library, PlaybackError, RecordingState, Spool, Store, Stored};

use crate::bucket::{Bucket, Trick};
use crate::kept::{judge, speak};
use crate::world::{Book, World, eventually, header, ms, say, upload_until, uploader};

const STEM: &str = "kept/here/2026/11/23/s1";

/// More than one part, stored plain.
async fn speak_long(spool: &Spool) {
    let mut recorder = spool.start(header("s1")).await.unwrap();
    for n in 0..9_u8 {
        say(&mut recorder, ms(u64::from(n) * 1000), &vec![b'a' + n; 1_000_000]).await;
    }
    recorder.finish(ms(10_000), "exit", None).await.unwrap();
}

async fn stored(world: &World, spool: &Spool, store: Store, compression: Compression) -> Stored {
    let book = Arc::new(Book::strict(world.spool_dir()));
    let stored = upload_until(uploader(spool, store, &book, compression), async {
        let stored = book.stored("s1").await;
        world.spool_is_empty().await;
        stored
    })
    .await;
    book.is_in_order("s1");
    stored
}

fn is_whole(bucket: &Bucket, stored: &Stored, compression: Compression) {
    let (form, name) = match compression {
        Compression::Zstd => (Form::Stored, "cast.zst"),
        Compression::None => (Form::Plain, "cast"),
    };
    assert_eq!(stored.key, format!("{STEM}.{name}"));
    let file = |end: &str| bucket.object(&format!("{STEM}.{end}"));
    let verdict = judge(form, &file(name), Some(&file("index.json")), Some(&file("seal")));
    assert_eq!(verdict.standing(), Standing::Whole, "{:?}", verdict.findings);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_does_all_that_a_store_must() {
    for compression in [Compression::Zstd, Compression::None] {
        let (bucket, world) = (Bucket::start().await, World::new());
        let spool = world.spool();
        let library = Library::new(bucket.store(), spool.clone());
        bucket.store().probe().await.unwrap();
        speak(&spool, "s1", 1800).await;
        let spooled = library.cast("s1", None).await.unwrap();
        let plain = spooled.read(0..u64::MAX).try_collect::<Vec<_>>().await.unwrap().concat();
        let stored = stored(&world, &spool, bucket.store(), compression).await;
        is_whole(&bucket, &stored, compression);

        let cast = library.cast("s1", Some(&stored)).await.unwrap();
        let len = plain.len() as u64;
        for range in [0..len, 0..1, len - 1..len, 1000..2000, len / 2..len, 5..len - 5] {
            let read = cast.read(range.clone()).try_collect::<Vec<_>>().await.unwrap().concat();
            assert!(read == plain[range.start as usize..range.end as usize], "{range:?}");
        }
        if let Some((len, bits)) = cast.raw() {
            let raw = bits.try_collect::<Vec<_>>().await.unwrap().concat();
            assert!(raw.len() as u64 == len && zstd::decode_all(&raw[..]).unwrap() == plain);
        }
        let (from, to) = (Duration::from_secs(10), Duration::from_secs(12));
        let window = library.window("s1", Some(&stored), from, Some(to)).await.unwrap();
        let window = window.try_collect::<Vec<_>>().await.unwrap().concat();
        assert!(String::from_utf8(window).unwrap().contains("line 501 of s1"));
        let index = library.segments(&stored).await.unwrap().bytes().await.unwrap();
        assert!(library.segment(&stored, 0).await.unwrap().bytes().await.unwrap().len() > 1000);
        assert!(index.starts_with(b"{"));
        let found = library.transcript("s1", Some(&stored)).await.unwrap();
        assert_eq!(found.search("line 1234 of", 9).await.unwrap().len(), 1);
        library.forget_derived(&stored).await.unwrap();
        library.forget_derived(&stored).await.unwrap();
        is_whole(&bucket, &stored, compression);
        bucket.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_recording_goes_up_in_parts_whatever_happens_to_them() {
    let (bucket, world) = (Bucket::start().await, World::new());
    let spool = world.spool();
    speak_long(&spool).await;
    let slow_down = Trick::Refuse(StatusCode::SERVICE_UNAVAILABLE, "SlowDown");
    bucket.ambush(Method::POST, "?uploads", slow_down, 1);
    bucket.ambush(Method::PUT, "partNumber=1", slow_down, 2);
    bucket.ambush(Method::PUT, "partNumber=2", Trick::BreakIn, 1);
    bucket.ambush(Method::PUT, "partNumber=2", Trick::Unsaid, 1);
    bucket.ambush(Method::POST, "uploadId=", slow_down, 1);
    bucket.ambush(Method::GET, ".cast", Trick::BreakOut, 1);
    bucket.ambush(Method::GET, ".cast", Trick::Alter, 1);
    bucket.ambush(
        Method::PUT,
        "index.json",
        Trick::Refuse(StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
        1,
    );
    bucket.ambush(Method::PUT, ".seal", Trick::Unsaid, 1);
    let stored = stored(&world, &spool, bucket.store(), Compression::None).await;
    assert_eq!(bucket.waiting(), 0);
    assert!(stored.size > 8 << 20);
    is_whole(&bucket, &stored, Compression::None);
    bucket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_server_refuses_is_told_with_its_reason_and_tried_again() {
    let refusals = [
        (StatusCode::FORBIDDEN, "AccessDenied"),
        (StatusCode::NOT_FOUND, "NoSuchBucket"),
        (StatusCode::BAD_REQUEST, "InvalidRequest"),
    ];
    for (status, code) in refusals {
        let (bucket, world) = (Bucket::start().await, World::new());
        let spool = world.spool();
        speak(&spool, "s1", 20).await;
        bucket.ambush(Method::PUT, ".cast", Trick::Refuse(status, code), 1);
        let book = Arc::new(Book::strict(world.spool_dir()));
        let stored = upload_until(uploader(&spool, bucket.store(), &book, Compression::Zstd), async {
            let told = |state: &RecordingState| {
                matches!(state, RecordingState::Uploading { reason: Some(reason), .. } if reason.contains(code))
            };
            book.state("s1", told).await;
            book.stored("s1").await
        })
        .await;
        is_whole(&bucket, &stored, Compression::Zstd);
        bucket.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_is_refused_and_nothing_is_lost_by_it() {
    let (bucket, world) = (Bucket::start().await, World::new());
    let spool = world.spool();
    speak(&spool, "s1", 20).await;
    let wrong = bucket.store_as("another secret");
    assert!(wrong.probe().await.is_err());
    let book = Arc::new(Book::default());
    upload_until(uploader(&spool, wrong, &book, Compression::Zstd), async {
        let told = |state: &RecordingState| {
            matches!(state, RecordingState::Uploading { attempt: 2.., reason: Some(_) })
        };
        book.state("s1", told).await;
    })
    .await;
    assert_eq!(world.spooled_files(), ["s1.journal"]);
    drop(spool);
    let spool = world.spool();
    spool.recover().await.unwrap();
    let stored = stored(&world, &spool, bucket.store(), Compression::Zstd).await;
    is_whole(&bucket, &stored, Compression::Zstd);
    bucket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_and_comes_again_gets_the_recording() {
    let (mut bucket, world) = (Bucket::start().await, World::new());
    let spool = world.spool();
    speak_long(&spool).await;
    // The first part arrives; then the server goes, with the second on its way.
    bucket.ambush(Method::PUT, "partNumber=2", Trick::BreakIn, 1);
    let book = Arc::new(Book::strict(world.spool_dir()));
    let stored = upload_until(uploader(&spool, bucket.store(), &book, Compression::None), async {
        eventually(|| (bucket.waiting() == 0).then_some(())).await;
        bucket.stop().await;
        assert_eq!(world.spooled_files(), ["s1.journal"]);
        bucket.again().await;
        book.stored("s1").await
    })
    .await;
    is_whole(&bucket, &stored, Compression::None);
    bucket.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_bytes_from_the_server_are_never_played_as_right_ones() {
    for compression in [Compression::Zstd, Compression::None] {
        let (bucket, world) = (Bucket::start().await, World::new());
        let spool = world.spool();
        speak(&spool, "s1", 1800).await;
        let stored = stored(&world, &spool, bucket.store(), compression).await;
        let library = Library::new(bucket.store(), spool);
        let read = async || {
            let cast = library.cast("s1", Some(&stored)).await?;
            Ok::<_, PlaybackError>(cast.read(0..u64::MAX).try_collect::<Vec<_>>().await?.concat())
        };
        let right = read().await.unwrap();
        bucket.ambush(Method::GET, ".cast", Trick::Alter, 1);
        let altered = read().await;
        assert!(matches!(altered, Err(PlaybackError::Damaged(_))), "{altered:?}");
        bucket.ambush(Method::GET, ".cast", Trick::BreakOut, 1);
        bucket.ambush(Method::GET, ".cast", Trick::Refuse(StatusCode::SERVICE_UNAVAILABLE, "SlowDown"), 1);
        assert!(read().await.unwrap() == right, "a broken connection is taken up again");
        bucket.ambush(Method::GET, ".cast", Trick::Refuse(StatusCode::FORBIDDEN, "AccessDenied"), 1);
        let refused = read().await.err().unwrap();
        assert!(matches!(refused, PlaybackError::Store(_)) && !refused.is_damage(), "{refused}");
        bucket.remove(&stored.key);
        assert!(matches!(read().await, Err(PlaybackError::Absent("cast"))));
        bucket.stop().await;
    }
}
