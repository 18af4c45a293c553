//! The process dies, the power goes or the disk fails at any durable step: nothing shown is lost, all is stored once.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use recordings::{Compression, Disk, Durability, RecordingState, Spool, Stored, System};

use crate::faults::is_whole;
use crate::flaky::Watched;
use crate::world::{Book, World, header, ms, say, upload_until, uploader};

const LINES: u64 = 5;

/// What the session prints in all.
fn spoken() -> String {
    (0..LINES).map(line).collect()
}

fn line(n: u64) -> String {
    format!("line {n}: 中文\r\n")
}

/// Both folders as they stood at one step.
struct Moment {
    label: String,
    world: World,
    /// Bytes of output that had been acknowledged, and so may have been shown.
    shown: u64,
    started: bool,
    told: Option<Stored>,
    /// Bytes of the journal that were on the disk for good.
    synced: u64,
}

/// Remembers each step.
struct Witness {
    world: World,
    book: Arc<Book>,
    shown: AtomicU64,
    started: AtomicU64,
    synced: Mutex<HashMap<u64, u64>>,
    moments: Mutex<Vec<Moment>>,
}

impl Witness {
    fn look(&self, label: &str) {
        // Looked at by more than one thread, a folder is copied by one at a time.
        let mut moments = self.moments.lock().unwrap();
        let copy = World::new();
        copied(&self.world.spool_dir(), &copy.spool_dir());
        copied(&self.world.store_dir(), &copy.store_dir());
        let journal = fs::metadata(self.world.spool_dir().join("s1.journal"));
        let synced = journal.ok().and_then(|file| self.synced.lock().unwrap().get(&file.ino()).copied());
        let told = self.book.states("s1").into_iter().find_map(|state| match state {
            RecordingState::Stored(stored) => Some(*stored),
            _ => None,
        });
        moments.push(Moment {
            label: label.to_owned(),
            world: copy,
            shown: self.shown.load(Ordering::SeqCst),
            started: self.started.load(Ordering::SeqCst) > 0,
            told,
            synced: synced.unwrap_or(0),
        });
    }
}

/// Copies what is there now; a file that goes meanwhile has gone.
fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    let Ok(entries) = fs::read_dir(from) else { return };
    for entry in entries.filter_map(Result::ok).filter(|entry| entry.file_name() != ".lock") {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copied(&entry.path(), &to);
        } else {
            let _ = fs::copy(entry.path(), to);
        }
    }
}

struct WatchedDisk(Arc<Witness>);

impl Disk for WatchedDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        let file = System.create(path);
        self.0.look(&format!("created {}", path.display()));
        file
    }

    fn write(&self, file: &File, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = System.write(file, bytes);
        self.0.look("written");
        written
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        System.sync(file)?;
        let meta = file.metadata()?;
        self.0.synced.lock().unwrap().insert(meta.ino(), meta.len());
        self.0.look("synced");
        Ok(())
    }

    fn reserve(&self, file: &File, at: u64, len: u64) -> io::Result<()> {
        System.reserve(file, at, len)?;
        self.0.look("reserved");
        Ok(())
    }

    fn cut(&self, file: &File, len: u64) -> io::Result<()> {
        System.cut(file, len)?;
        self.0.look("cut");
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        System.rename(from, to)?;
        self.0.look("renamed");
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        System.remove(path)?;
        self.0.look(&format!("removed {}", path.display()));
        Ok(())
    }
}

/// Every moment of a session and its upload.
async fn moments(durability: Durability) -> Vec<Moment> {
    let world = World::new();
    let book = Arc::new(Book::default());
    let witness = Arc::new(Witness {
        world,
        book: Arc::clone(&book),
        shown: AtomicU64::default(),
        started: AtomicU64::default(),
        synced: Mutex::default(),
        moments: Mutex::default(),
    });
    let world = &witness.world;
    let spool = world.spool_on(durability, Arc::new(WatchedDisk(Arc::clone(&witness))));
    let mut recorder = spool.start(header("s1")).await.unwrap();
    witness.started.store(1, Ordering::SeqCst);
    for n in 0..LINES {
        say(&mut recorder, ms(n), line(n).as_bytes()).await;
        witness.shown.store(recorder.output_offset(), Ordering::SeqCst);
    }
    recorder.finish(ms(LINES), "exit", None).await.unwrap();
    let seen = Arc::clone(&witness);
    let store = Watched::wrap(&world.store(), Arc::new(move |label: &str| seen.look(label)));
    upload_until(uploader(&spool, store, &book, Compression::Zstd), async {
        book.stored("s1").await;
        world.spool_is_empty().await;
    })
    .await;
    drop(spool);
    let moments = std::mem::take(&mut *witness.moments.lock().unwrap());
    assert!(moments.len() > 20, "only {} steps", moments.len());
    moments
}

/// What a cast shows in all.
fn shown(plain: &[u8]) -> String {
    let lines = std::str::from_utf8(plain).unwrap().lines().skip(1);
    let events = lines.map(|line| serde_json::from_str::<(f64, String, String)>(line).unwrap());
    events.filter(|(_, code, _)| code == "o").map(|(_, _, text)| text).collect()
}

/// Recovers as the bastion does, uploads, and says what was stored; none if there was nothing to recover.
async fn recovered(world: &World) -> Option<Stored> {
    let spool = world.spool();
    let recovery = spool.recover().await.unwrap();
    let found = recovery.found.first()?;
    if found.end.is_none() {
        spool.seal_interrupted("s1", "error").await.unwrap();
    }
    let book = Arc::new(Book::strict(world.spool_dir()));
    let stored = upload_until(uploader(&spool, world.store(), &book, Compression::Zstd), async {
        let stored = book.stored("s1").await;
        world.spool_is_empty().await;
        stored
    })
    .await;
    book.is_in_order("s1");
    Some(stored)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_step_costs_nothing_that_was_shown() {
    for durability in [Durability::Written, Durability::Synced] {
        for moment in moments(durability).await {
            let label = format!("{durability:?}: {}", moment.label);
            let stored = match (recovered(&moment.world).await, moment.told) {
                (None, Some(told)) => told,
                (None, None) => {
                    assert!(!moment.started, "{label}: the recording is gone");
                    continue;
                }
                (Some(stored), Some(told)) => {
                    assert_eq!(stored, told, "{label}: stored again, it is another");
                    stored
                }
                (Some(stored), None) => stored,
            };
            is_whole(&moment.world, &stored, Compression::Zstd);
            let text = shown(&zstd::decode_all(&moment.world.stored_file(&stored.key)[..]).unwrap());
            assert!(text.len() as u64 >= moment.shown && spoken().starts_with(&text), "{label}: {text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_at_any_step_costs_nothing_that_was_synced() {
    for durability in [Durability::Written, Durability::Synced] {
        let mut seen = HashSet::new();
        for moment in moments(durability).await {
            let path = moment.world.spool_dir().join("s1.journal");
            let Ok(journal) = fs::read(&path) else { continue };
            for len in (moment.synced..=journal.len() as u64).rev() {
                if !seen.insert((moment.shown, len)) {
                    continue;
                }
                OpenOptions::new().write(true).truncate(true).open(&path).unwrap();
                fs::write(&path, &journal[..len as usize]).unwrap();
                let label = format!("{durability:?}: {} cut at {len}", moment.label);
                let spool = moment.world.spool();
                let recovery = spool.recover().await.unwrap();
                let kept = match &recovery.found[..] {
                    [found] => found.output_offset,
                    _ => {
                        assert!(!moment.started || durability == Durability::Written, "{label}: gone");
                        fs::rename(&recovery.aside[0].path, &path).unwrap();
                        0
                    }
                };
                if durability == Durability::Synced {
                    assert!(kept >= moment.shown, "{label}: {kept} of {} bytes", moment.shown);
                }
            }
        }
        assert!(seen.len() > 100, "only {} lengths", seen.len());
    }
}

/// A disk whose `n`-th step fails.
struct Failing {
    left: AtomicUsize,
    code: i32,
    /// Whether the step, or a part of it, is done all the same.
    does: bool,
}

impl Failing {
    fn step<T>(&self, doing: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let before = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if before != Ok(1) {
            return doing();
        }
        if self.does {
            doing()?;
        }
        Err(io::Error::from_raw_os_error(self.code))
    }
}

impl Disk for Failing {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.step(|| System.create(path))
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        self.step(|| System.open(path))
    }

    fn write(&self, file: &File, bytes: &[IoSlice<'_>]) -> io::Result<usize> {
        // What is done of a failing write is its first half.
        let whole: Vec<u8> = bytes.iter().flat_map(|slice| slice.iter().copied()).collect();
        let half = IoSlice::new(&whole[..whole.len() / 2]);
        if self.left.load(Ordering::SeqCst) == 1 {
            return self.step(|| System.write(file, &[half]));
        }
        self.step(|| System.write(file, bytes))
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        self.step(|| System.sync(file))
    }

    fn sync_folder(&self, path: &Path) -> io::Result<()> {
        self.step(|| System.sync_folder(path))
    }

    fn reserve(&self, file: &File, at: u64, len: u64) -> io::Result<()> {
        self.step(|| System.reserve(file, at, len))
    }

    fn cut(&self, file: &File, len: u64) -> io::Result<()> {
        self.step(|| System.cut(file, len))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(|| System.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.step(|| System.remove(path))
    }

    fn free(&self, file: &File) -> io::Result<u64> {
        self.step(|| System.free(file))
    }
}

/// Speaks until the recorder refuses, then ends in order; what was shown, and whether the recording has its end.
async fn speak(spool: &Spool) -> (u64, bool) {
    let Ok(mut recorder) = spool.start(header("s1")).await else { return (0, false) };
    for n in 0..LINES {
        let kind = recordings::Kind::Output { offset: recorder.output_offset(), bytes: line(n).into() };
        if recorder.record(vec![recordings::Event { at: ms(n), kind }]).await.is_err() {
            break;
        }
    }
    let shown = recorder.output_offset();
    (shown, recorder.finish(ms(LINES), "exit", None).await.is_ok())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_at_any_step_costs_nothing_that_was_shown() {
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    let kinds = [Durability::Written, Durability::Synced].into_iter().flat_map(|durability| {
        [(EIO, false), (EIO, true), (ENOSPC, false), (ENOSPC, true)].map(|f| (durability, f))
    });
    for (durability, (code, does)) in kinds {
        for at in 0.. {
            let world = World::new();
            let disk = Arc::new(Failing { left: AtomicUsize::new(at + 1), code, does });
            let spool = world.spool_on(durability, Arc::clone(&disk) as Arc<dyn Disk>);
            let (shown_bytes, ended) = speak(&spool).await;
            let label = format!("{durability:?} {code} {does} at {at}");
            let mut stored = None;
            if ended {
                let book = Arc::new(Book::strict(world.spool_dir()));
                let run = uploader(&spool, world.store(), &book, Compression::Zstd);
                stored = Some(
                    upload_until(run, async {
                        let stored = book.stored("s1").await;
                        world.spool_is_empty().await;
                        stored
                    })
                    .await,
                );
            }
            drop(spool);
            let stored = match stored {
                Some(stored) => stored,
                None => match recovered(&world).await {
                    Some(stored) => stored,
                    None => {
                        assert_eq!(shown_bytes, 0, "{label}: the recording is gone");
                        continue;
                    }
                },
            };
            is_whole(&world, &stored, Compression::Zstd);
            let text = shown(&zstd::decode_all(&world.stored_file(&stored.key)[..]).unwrap());
            assert!(text.len() as u64 >= shown_bytes && spoken().starts_with(&text), "{label}: {text}");
            if disk.left.load(Ordering::SeqCst) > 0 {
                assert!(at > 15, "only {at} steps");
                assert_eq!(text, spoken());
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_while_a_spool_is_recovered_loses_nothing() {
    for at in 0.. {
        let world = World::new();
        let mut recorder = world.spool().start(header("s1")).await.unwrap();
        say(&mut recorder, ms(1), b"whole").await;
        let journal = world.spool_dir().join("s1.journal");
        let whole = fs::metadata(&journal).unwrap().len() as usize;
        say(&mut recorder, ms(2), b"damaged").await;
        say(&mut recorder, ms(3), b"whole, but after that").await;
        drop(recorder);
        let mut bytes = fs::read(&journal).unwrap();
        bytes[whole + 30] ^= 1;
        fs::write(&journal, &bytes).unwrap();
        fs::write(world.spool_dir().join("none.journal"), b"none").unwrap();
        fs::write(world.spool_dir().join("gone.seal"), b"left over").unwrap();

        let disk = Arc::new(Failing { left: AtomicUsize::new(at + 1), code: 5, does: false });
        let spool = world.spool_on(Durability::Written, Arc::clone(&disk) as Arc<dyn Disk>);
        let first = spool.recover().await.unwrap();
        assert_eq!(first.found.len() + first.aside.len(), 2, "at {at}: {first:?}");
        drop(spool);
        let second = world.spool().recover().await.unwrap();
        assert_eq!(second.found[0].output_offset, 5, "at {at}");
        let kept = world.spooled_files().iter().any(|name| {
            name.starts_with("s1.journal.bad-tail")
                && fs::read(world.spool_dir().join(name)).unwrap() == bytes[whole..]
        });
        assert!(kept, "at {at}: {:?}", world.spooled_files());
        let none = world.spooled_files().into_iter().find(|name| name.starts_with("none.")).unwrap();
        assert_eq!(fs::read(world.spool_dir().join(&none)).unwrap(), b"none", "at {at}");
        if disk.left.load(Ordering::SeqCst) > 0 {
            assert!(at > 6, "only {at} steps");
            assert!(none.starts_with("none.journal.bad-"));
            return;
        }
    }
}

/// A disk with so much space, and no more.
struct Small(AtomicU64);

impl Disk for Small {
    fn free(&self, _: &File) -> io::Result<u64> {
        Ok(self.0.load(Ordering::SeqCst))
    }
}

#[tokio::test]
async fn a_disk_that_fills_up_refuses_the_next_session_and_ends_the_running_one_in_order() {
    let world = World::new();
    let disk = Arc::new(Small(AtomicU64::new(1 << 30)));
    let options = recordings::SpoolOptions {
        dir: world.spool_dir(),
        min_free: 1 << 20,
        durability: Durability::Written,
    };
    let spool = Spool::open_on(options, Arc::clone(&disk) as Arc<dyn Disk>).unwrap();
    let mut recorder = spool.start(header("s1")).await.unwrap();
    disk.0.store((1 << 20) - 1, Ordering::SeqCst);
    assert!(matches!(spool.start(header("s2")).await, Err(recordings::SpoolError::NoSpace { .. })));
    let refused = loop {
        let kind =
            recordings::Kind::Output { offset: recorder.output_offset(), bytes: vec![b'x'; 9999].into() };
        match recorder.record(vec![recordings::Event { at: ms(1), kind }]).await {
            Ok(()) => assert!(recorder.output_offset() < 1 << 20, "it is never refused"),
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, recordings::RecorderError::NoSpace { .. }), "{refused}");
    let shown = recorder.output_offset();
    recorder.finish(ms(2), "recording_failed", None).await.unwrap();
    let found = spool.recover().await.unwrap().found;
    assert_eq!(
        (found[0].output_offset, found[0].end.as_ref().unwrap().reason.as_str()),
        (shown, "recording_failed")
    );
    disk.0.store(1 << 30, Ordering::SeqCst);
    spool.start(header("s2")).await.unwrap();
}
