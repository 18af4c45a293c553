//! What may lie in a store instead of a recording: each is named for what it is, and none costs memory or a panic.

use std::fs;
use std::sync::Arc;

use futures_util::TryStreamExt;
use proptest::prelude::*;
use recordings::{Compression, Index, Library, PlaybackError, Stored};
use serde_json::{Value, json};

use crate::flaky::{Call, Fault, Flaky};
use crate::kept::speak;
use crate::world::{Book, World, upload_until, uploader};

const STEM: &str = "2026/11/23/s1";

/// A stored recording of four chunks, and what it plays.
struct Shelf {
    world: World,
    library: Library,
    stored: Stored,
    plain: Vec<u8>,
}

impl Shelf {
    async fn new(compression: Compression) -> Self {
        let world = World::new();
        let (spool, book) = (world.spool(), Arc::new(Book::default()));
        speak(&spool, "s1", 1800).await;
        let run = uploader(&spool, world.store(), &book, compression);
        let stored = upload_until(run, book.stored("s1")).await;
        let mut shelf =
            Self { library: Library::new(world.store(), spool), world, stored, plain: Vec::new() };
        shelf.plain = shelf.read().await.unwrap();
        shelf
    }

    async fn read(&self) -> Result<Vec<u8>, PlaybackError> {
        let cast = self.library.cast("s1", Some(&self.stored)).await?;
        Ok(cast.read(0..u64::MAX).try_collect::<Vec<_>>().await?.concat())
    }

    async fn raw(&self) -> Result<Vec<u8>, PlaybackError> {
        let cast = self.library.cast("s1", Some(&self.stored)).await?;
        Ok(cast.raw().unwrap().1.try_collect::<Vec<_>>().await?.concat())
    }

    fn file(&self, end: &str) -> std::path::PathBuf {
        self.world.store_dir().join(format!("{STEM}.{end}"))
    }

    fn index(&self) -> Value {
        serde_json::from_slice(&fs::read(self.file("index.json")).unwrap()).unwrap()
    }

    /// What reading says while `bytes` lie in the place of one of its objects.
    async fn with(&self, end: &str, bytes: Option<&[u8]>) -> Result<Vec<u8>, PlaybackError> {
        let path = self.file(end);
        let before = fs::read(&path).unwrap();
        match bytes {
            Some(bytes) => fs::write(&path, bytes).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let read = self.read().await;
        fs::write(&path, before).unwrap();
        read
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_is_not_what_was_stored_is_no_index() {
    type Spoil = fn(&mut Value);
    let spoilt: [(&str, Spoil); 17] = [
        ("another version", |index| index["version"] = 2.into()),
        ("a version that is none", |index| index["version"] = (-1).into()),
        ("another compression", |index| index["compression"] = "none".into()),
        ("an unknown compression", |index| index["compression"] = "xz".into()),
        ("overlapping chunks", |index| index["chunks"][1]["at"] = 10.into()),
        ("overlapping plain chunks", |index| index["chunks"][2]["plain_at"] = 0.into()),
        ("a chunk beyond the object", |index| index["chunks"][3]["at"] = 999_999_999.into()),
        ("a chunk longer than the object", |index| index["chunks"][3]["len"] = 8_000_000.into()),
        ("a stored chunk without an end", |index| index["chunks"][0]["len"] = u64::MAX.into()),
        ("ten terabytes", |index| index["chunks"][0]["plain_len"] = 10_000_000_000_000_u64.into()),
        ("a whole of ten terabytes", |index| index["plain_len"] = 10_000_000_000_000_u64.into()),
        ("an empty chunk", |index| index["chunks"][0]["len"] = 0.into()),
        ("chunks in another order", |index| index["chunks"].as_array_mut().unwrap().swap(0, 1)),
        ("a chunk too few", |index| drop(index["chunks"].as_array_mut().unwrap().pop())),
        ("no chunks", |index| index["chunks"] = json!([])),
        ("another hash", |index| index["chunks"][1]["sha256"] = index["chunks"][0]["sha256"].clone()),
        ("another session's facts", |index| index["facts"]["user"] = "mallory".into()),
    ];
    for compression in [Compression::Zstd, Compression::None] {
        let shelf = Shelf::new(compression).await;
        for (case, spoil) in spoilt {
            let mut index = shelf.index();
            spoil(&mut index);
            if index == shelf.index() {
                continue;
            }
            let read = shelf.with("index.json", Some(index.to_string().as_bytes())).await.err();
            assert!(matches!(read, Some(PlaybackError::Index(_))), "{case}: {read:?}");
        }
        let whole = shelf.index().to_string().into_bytes();
        let deep = vec![b'['; 1 << 20];
        let long = [&whole[..], &vec![b' '; 64 << 20]].concat();
        for (case, bytes) in [
            ("nothing", &b""[..]),
            ("half of it", &whole[..whole.len() / 2]),
            ("another file", b"<?xml version=\"1.0\"?><Error/>"),
            ("no text", &[0xff; 64]),
            ("brackets", &deep),
            ("more than anybody reads", &long),
        ] {
            let read = shelf.with("index.json", Some(bytes)).await.err();
            assert!(matches!(read, Some(PlaybackError::Index(_))), "{case}: {read:?}");
            assert!(read.unwrap().is_damage());
        }
        let read = shelf.with("index.json", None).await.err().unwrap();
        assert!(matches!(read, PlaybackError::Absent("index")) && read.is_damage(), "{read}");
        assert!(shelf.read().await.unwrap() == shelf.plain, "as it was");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cast_that_is_not_what_was_stored_is_named_and_never_played() {
    for (compression, end) in [(Compression::Zstd, "cast.zst"), (Compression::None, "cast")] {
        let shelf = Shelf::new(compression).await;
        let whole = fs::read(shelf.file(end)).unwrap();
        let index: Index = serde_json::from_value(shelf.index()).unwrap();
        for len in [0, 1, whole.len() / 2, whole.len() - 1] {
            let read = shelf.with(end, Some(&whole[..len])).await.err();
            assert!(matches!(read, Some(PlaybackError::Altered("cast"))), "{len} bytes: {read:?}");
        }
        let longer = [&whole[..], b"\n"].concat();
        let read = shelf.with(end, Some(&longer)).await.err();
        assert!(matches!(read, Some(PlaybackError::Altered("cast"))), "longer: {read:?}");
        for chunk in &index.chunks {
            let mut altered = whole.clone();
            altered[(chunk.at + chunk.len / 2) as usize] ^= 1;
            let read = shelf.with(end, Some(&altered)).await.err();
            let named = matches!(read, Some(PlaybackError::Damaged(n)) if n == chunk.n);
            assert!(named && read.unwrap().is_damage(), "chunk {}", chunk.n);
        }
        let read = shelf.with(end, None).await.err().unwrap();
        assert!(matches!(read, PlaybackError::Absent("cast")) && read.is_damage(), "{read}");
        assert!(shelf.read().await.unwrap() == shelf.plain, "as it was");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bomb_in_the_place_of_a_chunk_is_not_unpacked() {
    let shelf = Shelf::new(Compression::Zstd).await;
    let mut object = fs::read(shelf.file("cast.zst")).unwrap();
    let index: Index = serde_json::from_value(shelf.index()).unwrap();
    let chunk = &index.chunks[1];
    let zeros = std::io::Read::take(std::io::repeat(0), 64 << 20);
    let mut bomb = zstd::encode_all(zeros, 19).unwrap();
    // A frame that readers skip, up to the next chunk.
    let rest = (chunk.len as usize).checked_sub(bomb.len() + 8).expect("the bomb is larger than the chunk");
    bomb.extend(0x184D_2A50_u32.to_le_bytes());
    bomb.extend((rest as u32).to_le_bytes());
    bomb.resize(chunk.len as usize, 0);
    object[chunk.at as usize..][..bomb.len()].copy_from_slice(&bomb);
    let read = shelf.with("cast.zst", Some(&object)).await.err();
    assert!(matches!(read, Some(PlaybackError::Damaged(1))), "{read:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_goes_out_as_it_lies_breaks_off_before_its_end_if_it_is_another() {
    let shelf = Shelf::new(Compression::Zstd).await;
    let path = shelf.file("cast.zst");
    let whole = fs::read(&path).unwrap();
    assert!(shelf.raw().await.unwrap() == whole);
    let mut altered = whole.clone();
    altered[20] ^= 1;
    for bytes in [&altered[..], &whole[..whole.len() - 1], b""] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(shelf.raw().await, Err(PlaybackError::Altered("cast"))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_that_is_gone_or_is_none_is_named() {
    let shelf = Shelf::new(Compression::Zstd).await;
    assert_eq!(shelf.library.seal(&shelf.stored).await.unwrap().split('.').count(), 3);
    fs::write(shelf.file("seal"), vec![b'x'; 1 << 20]).unwrap();
    let seal = shelf.library.seal(&shelf.stored).await;
    assert!(matches!(seal, Err(PlaybackError::Altered("seal"))));
    fs::remove_file(shelf.file("seal")).unwrap();
    let seal = shelf.library.seal(&shelf.stored).await;
    assert!(matches!(seal, Err(PlaybackError::Absent("seal"))));
    assert!(shelf.read().await.is_ok(), "the recording plays without it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_is_not_taken_for_a_damaged_recording() {
    let shelf = Shelf::new(Compression::Zstd).await;
    for at in 0.. {
        let (store, left) = Flaky::wrap(&shelf.world.store(), Call::Get, Fault::Fail, at);
        let spool = recordings::SpoolOptions {
            dir: shelf.world.folder.path().join(format!("spool-{at}")),
            min_free: 0,
            durability: recordings::Durability::Written,
        };
        let library = Library::new(store, recordings::Spool::open(spool).unwrap());
        let read = async {
            let cast = library.cast("s1", Some(&shelf.stored)).await?;
            Ok::<_, PlaybackError>(cast.read(0..u64::MAX).try_collect::<Vec<_>>().await?.concat())
        };
        let read = read.await;
        if left.load(std::sync::atomic::Ordering::SeqCst) > 0 {
            assert!(at >= 2 && read.unwrap() == shelf.plain);
            return;
        }
        let error = read.err().unwrap();
        assert!(matches!(error, PlaybackError::Store(_)) && !error.is_damage(), "at {at}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn whatever_lies_there_plays_as_it_was_recorded_or_not_at_all(
        at in any::<prop::sample::Index>(), bytes in prop::collection::vec(any::<u8>(), 1..9), what in 0..3usize,
    ) {
        static SHELF: std::sync::OnceLock<(tokio::runtime::Runtime, Shelf)> = std::sync::OnceLock::new();
        let (runtime, shelf) = SHELF.get_or_init(|| {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let shelf = runtime.block_on(Shelf::new(Compression::Zstd));
            (runtime, shelf)
        });
        let end = if what == 0 { "cast.zst" } else { "index.json" };
        let mut harmed = fs::read(shelf.file(end)).unwrap();
        let at = at.index(harmed.len());
        let to = (at + bytes.len()).min(harmed.len());
        harmed.splice(at..to, bytes);
        match runtime.block_on(shelf.with(end, Some(&harmed))) {
            Ok(plain) => prop_assert!(plain == shelf.plain),
            Err(error) => prop_assert!(error.is_damage(), "{error}"),
        }
    }
}
