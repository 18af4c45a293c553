//! The folder of journals: who may start one, which are being written, which wait for upload, what a crash left.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, IoSlice};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::fs::Access;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::disk::{Disk, System, write_all};
use crate::journal::{Cursor, End, Header, JournalError, PREAMBLE};
use crate::live::Place;
use crate::recorder::{Recorder, RecorderError};
use crate::writer::{self, Dirty, Order, Tail};

mod recovery;

pub use recovery::{Aside, Recovered, Recovery};
use recovery::{Scan, scan};

/// Batches that wait for the writer thread. When it is full, recorders wait: their sessions' output stands still.
const ORDERS: usize = 1024;
const JOURNAL: &str = "journal";
const LOCK_TRIES: u32 = 500;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// When a batch counts as recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// `write(2)` has returned: a crash of the process loses nothing. Synced every second.
    #[default]
    Written,
    /// `fdatasync` has returned: a power cut loses nothing. Commits are grouped.
    Synced,
}

/// Where journals lie, and what is promised about them.
#[derive(Clone, Debug)]
pub struct SpoolOptions {
    /// The folder; made if missing, mode 0700.
    pub dir: PathBuf,
    /// Bytes to leave free: below it no session starts, and running ones end.
    pub min_free: u64,
    /// When a batch counts as recorded.
    pub durability: Durability,
}

/// Why the spool refused.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// A file operation failed.
    #[error("{}: {source}", path.display())]
    Io {
        /// On what.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
    /// Too little space is left.
    #[error("the spool has {free} bytes left, {min_free} must stay free")]
    NoSpace {
        /// Bytes left.
        free: u64,
        /// Bytes that must stay.
        min_free: u64,
    },
    /// The header cannot be recorded.
    #[error("the recording's header is wrong: {0}")]
    Header(&'static str),
    /// There is a journal of this session already.
    #[error("session {0} has a journal already")]
    Exists(String),
    /// There is no journal of this session.
    #[error("session {0} has no journal")]
    Unknown(String),
    /// The session's journal has its end.
    #[error("the recording of session {0} is finished")]
    Finished(String),
    /// The session is being recorded.
    #[error("session {0} is being recorded")]
    Busy(String),
    /// The journal cannot be read or written.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The recorder failed.
    #[error(transparent)]
    Recorder(#[from] RecorderError),
    /// Another process uses the spool.
    #[error("{}: another process uses this spool", .0.display())]
    InUse(PathBuf),
    /// The program is stopping.
    #[error("the spool has stopped")]
    Stopped,
}

/// The folder of journals and its writer; clones are the same spool.
#[derive(Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

struct Inner {
    options: SpoolOptions,
    orders: mpsc::Sender<Order>,
    dirty: Arc<Dirty>,
    shelf: Arc<Shelf>,
}

/// Which journals are being written, and which are finished.
pub(crate) struct Shelf {
    /// Locked as long as anything may still write here: another process would cut journals under our feet.
    lock: File,
    disk: Arc<dyn Disk>,
    state: Mutex<ShelfState>,
    /// One permit says that there is something in `finished`; the uploader waits on it.
    changed: Notify,
}

#[derive(Default)]
struct ShelfState {
    live: HashSet<String>,
    /// Finished, and taken by nobody yet.
    finished: BTreeSet<String>,
    /// Taken for upload, and still here: found again, they must not be uploaded twice at once.
    taken: HashSet<String>,
}

impl Shelf {
    fn state(&self) -> MutexGuard<'_, ShelfState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn finished(&self, session: &str) {
        let mut state = self.state();
        if !state.taken.contains(session) {
            state.finished.insert(session.to_owned());
        }
        drop(state);
        self.changed.notify_one();
    }
}

/// The right to write one session's journal, held as long as anything may still write it.
pub(crate) struct Lease {
    shelf: Arc<Shelf>,
    session: String,
}

impl Lease {
    fn take(shelf: &Arc<Shelf>, session: &str) -> Result<Self, SpoolError> {
        if !shelf.state().live.insert(session.to_owned()) {
            return Err(SpoolError::Busy(session.to_owned()));
        }
        Ok(Self { shelf: Arc::clone(shelf), session: session.to_owned() })
    }

    pub(crate) fn finished(&self) {
        self.shelf.finished(&self.session);
    }

    pub(crate) fn disk(&self) -> Arc<dyn Disk> {
        Arc::clone(&self.shelf.disk)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.shelf.state().live.remove(&self.session);
    }
}

impl Spool {
    /// Opens the folder (made if missing, mode 0700), sees that it can be written, starts the writer. A predecessor
    /// that is just leaving is waited for, 5 s at most.
    ///
    /// # Errors
    /// If any of that fails; the message names the path.
    pub fn open(options: SpoolOptions) -> Result<Self, SpoolError> {
        Self::open_on(options, Arc::new(System))
    }

    /// The same on a file system of one's own: tests have some that fail.
    ///
    /// # Errors
    /// As [`Spool::open`].
    pub fn open_on(options: SpoolOptions, disk: Arc<dyn Disk>) -> Result<Self, SpoolError> {
        let at = |path: &Path| io_at(path);
        DirBuilder::new().recursive(true).mode(0o700).create(&options.dir).map_err(at(&options.dir))?;
        let probe = options.dir.join(".probe");
        fs::write(&probe, b"probe").map_err(at(&probe))?;
        fs::remove_file(&probe).map_err(at(&probe))?;
        let lock = lock(&options.dir)?;
        let (orders, receiver) = mpsc::channel(ORDERS);
        let dirty = Arc::new(Dirty::default());
        writer::start(receiver, options.durability, Arc::clone(&dirty)).map_err(at(&options.dir))?;
        let shelf = Arc::new(Shelf { lock, disk, state: Mutex::default(), changed: Notify::new() });
        Ok(Self { inner: Arc::new(Inner { options, orders, dirty, shelf }) })
    }

    /// Whether a session may start: the spool is writable and has `min_free` bytes. Cheap.
    ///
    /// # Errors
    /// [`SpoolError::NoSpace`], [`SpoolError::Io`] or [`SpoolError::Stopped`].
    pub fn admit(&self) -> Result<(), SpoolError> {
        let Inner { options: SpoolOptions { dir, min_free, .. }, orders, .. } = &*self.inner;
        if orders.is_closed() {
            return Err(SpoolError::Stopped);
        }
        let errno = |e: rustix::io::Errno| SpoolError::Io { path: dir.clone(), source: e.into() };
        rustix::fs::access(dir, Access::WRITE_OK | Access::EXEC_OK).map_err(errno)?;
        let free = self.disk().free(&self.inner.shelf.lock).map_err(io_at(dir))?;
        if free < *min_free {
            return Err(SpoolError::NoSpace { free, min_free: *min_free });
        }
        Ok(())
    }

    /// Starts the recording of a session: its journal holds the header, durably, and space is reserved for its end.
    ///
    /// # Errors
    /// As [`Spool::admit`]; and if the header is wrong or the session has a journal already.
    pub async fn start(&self, header: Header) -> Result<Recorder, SpoolError> {
        self.admit()?;
        check(&header)?;
        self.blocking(move |spool| spool.create(&header)).await
    }

    /// Finds every journal, cuts it to its last whole record, and queues the finished ones for upload. Files that
    /// cannot be read are set aside. Journals that are being written are left alone.
    ///
    /// # Errors
    /// Only if the folder itself cannot be read.
    pub async fn recover(&self) -> Result<Recovery, SpoolError> {
        self.blocking(Self::recover_all).await
    }

    /// Goes on with the journal of a session that was interrupted.
    ///
    /// # Errors
    /// If there is none, it has its end, it is being written, or cannot be read.
    pub async fn resume(&self, session: &str) -> Result<Recorder, SpoolError> {
        let session = checked(session)?.to_owned();
        let again = session.clone();
        match self.blocking(move |spool| spool.reopen(&session)).await {
            // Perhaps only by the last batch of a recorder that was dropped before it had its answer.
            Err(SpoolError::Busy(_)) => {
                self.pass().await?;
                self.blocking(move |spool| spool.reopen(&again)).await
            }
            reopened => reopened,
        }
    }

    /// Returns when the writer has done all that it has been asked for.
    async fn pass(&self) -> Result<(), SpoolError> {
        let (done, passed) = oneshot::channel();
        self.inner.orders.send(Order::Pass(done)).await.map_err(|_| SpoolError::Stopped)?;
        passed.await.map_err(|_| SpoolError::Stopped)
    }

    /// Ends the journal of a session that did not come back, as it stands; says what was in it.
    ///
    /// # Errors
    /// As [`Spool::resume`].
    pub async fn seal_interrupted(&self, session: &str, reason: &str) -> Result<(), SpoolError> {
        let recorder = self.resume(session).await?;
        let at = recorder.last_at();
        let end = End { reason: reason.to_owned(), recovered: true };
        Ok(recorder.end(at, None, end).await?)
    }

    /// Takes the finished recordings that nobody has taken yet.
    pub(crate) fn take_finished(&self) -> BTreeSet<String> {
        let mut state = self.inner.shelf.state();
        let finished = std::mem::take(&mut state.finished);
        state.taken.extend(finished.iter().cloned());
        finished
    }

    /// Returns when there may be something to take.
    pub(crate) async fn changed(&self) {
        self.inner.shelf.changed.notified().await;
    }

    /// The journal of `session` as it stands, for reading.
    pub(crate) fn read(&self, session: &str) -> Result<File, SpoolError> {
        let path = self.path(checked(session)?, JOURNAL);
        match File::open(&path) {
            Ok(file) => Ok(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Err(SpoolError::Unknown(session.to_owned())),
            Err(source) => Err(SpoolError::Io { path, source }),
        }
    }

    /// The seal made for `session` in an earlier try, if any.
    pub(crate) fn kept_seal(&self, session: &str) -> Option<String> {
        fs::read_to_string(self.path(session, "seal")).ok()
    }

    /// Keeps the seal of `session`, so that a later try stores the same.
    pub(crate) fn keep_seal(&self, session: &str, seal: &str) -> Result<(), SpoolError> {
        let (new, path) = (self.path(session, "seal-new"), self.path(session, "seal"));
        let (disk, dir) = (self.disk(), &self.inner.options.dir);
        self.remove(&new)?;
        let write = || {
            let file = disk.create(&new)?;
            write_all(disk, &file, &mut [IoSlice::new(seal.as_bytes())])?;
            disk.sync(&file)?;
            disk.rename(&new, &path)?;
            // Once it is in the store its hash may be known elsewhere: no power cut may take it back.
            disk.sync_folder(dir)
        };
        write().map_err(io_at(&path))
    }

    /// Removes all there is of `session`: it is in the store.
    pub(crate) fn discard(&self, session: &str) -> Result<(), SpoolError> {
        for extension in [JOURNAL, "seal", "seal-new"] {
            self.remove(&self.path(session, extension))?;
        }
        let dir = &self.inner.options.dir;
        // Deleted from the store later, a recording must not come back with the power.
        self.disk().sync_folder(dir).map_err(io_at(dir))?;
        self.inner.shelf.state().taken.remove(session);
        Ok(())
    }

    /// Removes a file if it is there.
    fn remove(&self, path: &Path) -> Result<(), SpoolError> {
        match self.disk().remove(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(io_at(path)(e)),
            _ => Ok(()),
        }
    }

    /// Puts the journal of `session` where nothing looks for it, but a person can.
    pub(crate) fn set_aside(&self, session: &str, reason: &str) -> Result<Aside, SpoolError> {
        let path = self.path(session, JOURNAL);
        let slug: String =
            reason.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(60).collect();
        let aside = free_name(&path.with_extension(format!("{JOURNAL}.bad-{slug}")));
        self.disk().rename(&path, &aside).map_err(io_at(&path))?;
        self.inner.shelf.state().taken.remove(session);
        tracing::error!(session, reason, path = %aside.display(), "a journal was set aside");
        Ok(Aside { session: session.to_owned(), path: aside, reason: reason.to_owned() })
    }

    fn path(&self, session: &str, extension: &str) -> PathBuf {
        self.inner.options.dir.join(format!("{session}.{extension}"))
    }

    fn disk(&self) -> &dyn Disk {
        &*self.inner.shelf.disk
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Self) -> Result<T, SpoolError> + Send + 'static,
    ) -> Result<T, SpoolError> {
        let spool = self.clone();
        tokio::task::spawn_blocking(move || work(&spool)).await.map_err(|_| SpoolError::Stopped)?
    }

    fn create(&self, header: &Header) -> Result<Recorder, SpoolError> {
        let session = header.facts.session.clone();
        let path = self.path(&session, JOURNAL);
        let lease = Lease::take(&self.inner.shelf, &session)?;
        let mut cursor = Cursor::default();
        let first = cursor.start(header)?;
        let file = match self.disk().create(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(SpoolError::Exists(session)),
            Err(source) => return Err(SpoolError::Io { path, source }),
        };
        let start = [&PREAMBLE[..], &first.head[..], &first.payload[..]].concat();
        let written = write_all(self.disk(), &file, &mut [IoSlice::new(&start)]);
        let written = written.map_err(io_at(&path)).and_then(|()| {
            let place = Place::first(start.len() as u64, cursor, header);
            Ok(Tail::new(file, place, self.inner.options.min_free, lease)?)
        });
        let tail = written.and_then(|tail| self.settle(tail)).inspect_err(|_| {
            // Nothing has been recorded yet; what is left of it would only be set aside at the next start.
            let _ = self.remove(&path);
        })?;
        Ok(Recorder::new(session, tail, self.inner.orders.clone()))
    }

    /// Makes a new journal, name and all, as durable as configured.
    fn settle(&self, tail: Tail) -> Result<Tail, SpoolError> {
        let dir = &self.inner.options.dir;
        match self.inner.options.durability {
            Durability::Written => self.inner.dirty.add(tail.target()),
            Durability::Synced => {
                tail.target().sync().map_err(io_at(dir))?;
                self.disk().sync_folder(dir).map_err(io_at(dir))?;
            }
        }
        Ok(tail)
    }

    fn reopen(&self, session: &str) -> Result<Recorder, SpoolError> {
        let path = self.path(session, JOURNAL);
        let lease = Lease::take(&self.inner.shelf, session)?;
        let file = match self.disk().open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(SpoolError::Unknown(session.to_owned()));
            }
            Err(source) => return Err(SpoolError::Io { path, source }),
        };
        let Scan { recovered, place, marks } = scan(&file)?;
        if recovered.end.is_some() {
            // Perhaps it could be written, and then not be told.
            lease.finished();
            return Err(SpoolError::Finished(session.to_owned()));
        }
        self.cut_off(session, &file, place.pos)?;
        let tail = Tail::reopen(file, place, marks, self.inner.options.min_free, lease)?;
        Ok(Recorder::new(session.to_owned(), tail, self.inner.orders.clone()))
    }
}

/// `path`, or with a number at its end if there is something of that name.
fn free_name(path: &Path) -> PathBuf {
    let name = path.as_os_str();
    let numbered = (2..).map(|n: u32| {
        let mut numbered = name.to_owned();
        numbered.push(format!("-{n}"));
        PathBuf::from(numbered)
    });
    let mut names = std::iter::once(path.to_owned()).chain(numbered);
    names.find(|path| fs::symlink_metadata(path).is_err()).unwrap_or_else(|| path.to_owned())
}

/// Sees that a session id can be a file name and an object's key.
pub(crate) fn checked(session: &str) -> Result<&str, SpoolError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    if (1..=64).contains(&session.len()) && session.bytes().all(fits) {
        Ok(session)
    } else {
        Err(SpoolError::Header("the session id must be 1 to 64 letters, digits, '-' and '_'"))
    }
}

/// Takes the folder for this process; the system gives it back however the process ends.
fn lock(dir: &Path) -> Result<File, SpoolError> {
    let path = dir.join(".lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.map_err(io_at(&path))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => return Err(SpoolError::Io { path, source }),
        }
    }
    Err(SpoolError::InUse(dir.to_owned()))
}

fn check(header: &Header) -> Result<(), SpoolError> {
    checked(&header.facts.session)?;
    let sizes = 1..=1000;
    if !sizes.contains(&header.facts.cols) || !sizes.contains(&header.facts.rows) {
        return Err(SpoolError::Header("columns and rows must be 1 to 1000"));
    }
    match OffsetDateTime::parse(&header.facts.started, &Rfc3339) {
        Ok(started) if started.offset().is_utc() => Ok(()),
        _ => Err(SpoolError::Header("the start must be an RFC 3339 time in UTC")),
    }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> SpoolError + use<> {
    let path = path.to_owned();
    move |source| SpoolError::Io { path, source }
}
