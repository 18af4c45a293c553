//! The one thread that writes journals: it takes all that waits, writes it, syncs as configured, then answers.
//!
//! Under `synced` one `fdatasync` a touched file covers a whole group of batches. Under `written` a second thread
//! syncs what was touched once a second, so that no keystroke waits for a disk.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, IoSlice, Seek, SeekFrom};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc as blocking};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::disk::{Disk, write_all};
use crate::journal::{Cursor, End, Event, Exit, Framed, Kind};
use crate::live::{Head, Marks, Place, Standing, Tape};
use crate::recorder::RecorderError;
use crate::spool::{Durability, Lease};

/// Batches written before anybody is answered.
const GROUP: usize = 256;
/// What is always allocated beyond a journal's end, so that it can be ended on a full disk.
const RESERVE: u64 = 64 << 10;
const MAX_STEP: u64 = 4 << 20;
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// What the writer is asked for.
pub(crate) enum Order {
    /// By a recorder.
    Write(Task),
    /// By who must know that all orders before this one are done with.
    Pass(oneshot::Sender<()>),
}

pub(crate) struct Task {
    pub(crate) tail: Arc<Mutex<Tail>>,
    pub(crate) work: Work,
    pub(crate) reply: oneshot::Sender<Result<Cursor, RecorderError>>,
}

pub(crate) enum Work {
    Append(Vec<Event>),
    Finish { at: Duration, exit: Option<Exit>, end: End },
}

/// Work that is written: where the journal stands then.
struct Done {
    place: Place,
    standing: Standing,
}

/// An open journal file.
pub(crate) struct Target {
    file: Arc<File>,
    disk: Arc<dyn Disk>,
    /// Set when a write or sync failed: what the disk holds is then unknown, and nothing more is promised.
    broken: AtomicBool,
}

/// The end of a journal that is being written; only the writer thread works on it.
pub(crate) struct Tail {
    target: Arc<Target>,
    place: Place,
    allocated: u64,
    min_free: u64,
    lease: Lease,
    // INVARIANT: after the lease, so that who hears of an interruption can resume.
    head: Head,
}

impl Target {
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.disk.sync(&self.file).inspect_err(|_| self.broken.store(true, Ordering::Release))
    }
}

impl Tail {
    /// Takes over `file`, which has its start and nothing else; allocates the reserve.
    pub(crate) fn new(file: File, place: Place, min_free: u64, lease: Lease) -> Result<Self, RecorderError> {
        let mut tail = Self::over(file, place, Marks::new(place), min_free, lease);
        tail.allocate(0)?;
        Ok(tail)
    }

    /// Takes over `file` again, which ends at `place`.
    pub(crate) fn reopen(
        mut file: File,
        place: Place,
        marks: Marks,
        min_free: u64,
        lease: Lease,
    ) -> Result<Self, RecorderError> {
        file.seek(SeekFrom::Start(place.pos))?;
        // No new reserve yet: on a full disk a journal must still be sealed as it stands.
        Ok(Self::over(file, place, marks, min_free, lease))
    }

    fn over(file: File, place: Place, marks: Marks, min_free: u64, lease: Lease) -> Self {
        let file = Arc::new(file);
        let head = Head::new(Arc::clone(&file), place, marks);
        let target = Arc::new(Target { file, disk: lease.disk(), broken: AtomicBool::new(false) });
        Self { target, place, allocated: 0, min_free, lease, head }
    }

    pub(crate) fn target(&self) -> Arc<Target> {
        Arc::clone(&self.target)
    }

    pub(crate) fn cursor(&self) -> Cursor {
        self.place.cursor
    }

    pub(crate) fn tape(&self) -> Arc<Tape> {
        self.head.tape()
    }

    fn work(&mut self, work: Work) -> Result<Done, RecorderError> {
        match work {
            Work::Append(events) => self.append(events),
            Work::Finish { at, exit, end } => self.finish(at, exit, end),
        }
    }

    /// What must be so before anybody hears of it: it is as durable as configured.
    fn settled(&self, done: Done) -> Cursor {
        if matches!(done.standing, Standing::Ended(..)) {
            self.lease.finished();
        }
        self.head.recorded(done.place, done.standing);
        done.place.cursor
    }

    fn append(&mut self, events: Vec<Event>) -> Result<Done, RecorderError> {
        if self.target.broken.load(Ordering::Acquire) {
            return Err(RecorderError::Broken);
        }
        let mut place = self.place;
        let mut frames = Vec::with_capacity(events.len());
        for event in events {
            place.resized(&event.kind);
            frames.push(place.cursor.event(event)?);
        }
        let len = frames.iter().map(Framed::len).sum();
        self.allocate(len)?;
        self.write(&frames)?;
        place.pos += len;
        self.place = place;
        Ok(Done { place, standing: Standing::Open })
    }

    /// Writes the end from the reserve, and gives back what is left of it.
    fn finish(&mut self, at: Duration, exit: Option<Exit>, end: End) -> Result<Done, RecorderError> {
        let mut place = self.place;
        let mut frames = Vec::with_capacity(2);
        if let Some(exit) = exit.clone() {
            frames.push(place.cursor.event(Event { at, kind: Kind::Exit(exit) })?);
        }
        frames.push(place.cursor.end(at, &end)?);
        self.write(&frames)?;
        place.pos += frames.iter().map(Framed::len).sum::<u64>();
        self.place = place;
        if let Err(error) = self.target.disk.cut(&self.target.file, place.pos) {
            // Nothing is read beyond the end; all that is lost is the space, and that only until the upload.
            tracing::warn!(%error, "the reserve of a finished journal could not be given back");
        }
        Ok(Done { place, standing: Standing::Ended(end, exit) })
    }

    fn write(&mut self, frames: &[Framed]) -> Result<(), RecorderError> {
        let mut slices: Vec<IoSlice<'_>> = Vec::with_capacity(frames.len() * 2);
        for frame in frames {
            slices.push(IoSlice::new(&frame.head));
            slices.push(IoSlice::new(&frame.payload));
        }
        write_all(&*self.target.disk, &self.target.file, &mut slices).map_err(|e| {
            // The next write, the end, goes over whatever part of this one is there.
            if (&*self.target.file).seek(SeekFrom::Start(self.place.pos)).is_err() {
                self.target.broken.store(true, Ordering::Release);
            }
            RecorderError::Io(e)
        })
    }

    /// Sees that `upcoming` bytes and the reserve are allocated; asks the disk once a step, not once a batch.
    fn allocate(&mut self, upcoming: u64) -> Result<(), RecorderError> {
        let want = self.place.pos + upcoming + RESERVE;
        if want <= self.allocated {
            return Ok(());
        }
        let Target { file, disk, .. } = &*self.target;
        let free = disk.free(file)?;
        if free < self.min_free {
            return Err(RecorderError::NoSpace { free, min_free: self.min_free });
        }
        let ahead = want + (self.place.pos / 2).clamp(RESERVE, MAX_STEP);
        match disk.reserve(file, self.place.pos, ahead - self.place.pos) {
            Ok(()) => (),
            Err(e) if matches!(e.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                return Err(RecorderError::NoSpace { free, min_free: self.min_free });
            }
            // Some file systems cannot reserve: there min_free is all the reserve there is.
            Err(e) if e.kind() == io::ErrorKind::Unsupported => (),
            Err(e) => return Err(RecorderError::Io(e)),
        }
        self.allocated = ahead;
        Ok(())
    }
}

/// Files written to and not yet synced, by address (each is kept alive here).
#[derive(Default)]
pub(crate) struct Dirty {
    files: Mutex<HashMap<usize, Arc<Target>>>,
}

impl Dirty {
    pub(crate) fn add(&self, target: Arc<Target>) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.entry(Arc::as_ptr(&target) as usize).or_insert(target);
    }

    fn sync(&self) {
        let files = std::mem::take(&mut *self.files.lock().unwrap_or_else(PoisonError::into_inner));
        for target in files.into_values() {
            if let Err(error) = target.sync() {
                tracing::error!(%error, "a journal could not be synced; its session will end");
            }
        }
    }
}

/// Starts the threads; they end when the last sender of orders is gone.
pub(crate) fn start(
    orders: mpsc::Receiver<Order>,
    durability: Durability,
    dirty: Arc<Dirty>,
) -> io::Result<()> {
    // Nobody ever sends on it: the syncer's sleep ends early, and for good, when the writer has gone.
    let (alive, ended) = blocking::sync_channel::<()>(1);
    let writers = Arc::clone(&dirty);
    std::thread::Builder::new().name("journal-writer".into()).spawn(move || {
        write(orders, durability, &writers);
        drop(alive);
    })?;
    std::thread::Builder::new().name("journal-syncer".into()).spawn(move || {
        while ended.recv_timeout(SYNC_EVERY) == Err(blocking::RecvTimeoutError::Timeout) {
            dirty.sync();
        }
        dirty.sync();
    })?;
    Ok(())
}

fn write(mut orders: mpsc::Receiver<Order>, durability: Durability, dirty: &Dirty) {
    let mut group = Vec::with_capacity(GROUP);
    let mut passing = Vec::new();
    while let Some(first) = orders.blocking_recv() {
        let mut next = Some(first);
        while let Some(order) = next {
            match order {
                Order::Write(task) => group.push(task),
                Order::Pass(passed) => passing.push(passed),
            }
            next = (group.len() < GROUP).then(|| orders.try_recv().ok()).flatten();
        }
        match durability {
            Durability::Written => group.drain(..).for_each(|task| write_one(task, dirty)),
            Durability::Synced => write_group(&mut group),
        }
        for passed in passing.drain(..) {
            // Who no longer listens needs no answer.
            let _ = passed.send(());
        }
    }
}

fn write_one(task: Task, dirty: &Dirty) {
    let Task { tail, work, reply } = task;
    let mut guard = tail.lock().unwrap_or_else(PoisonError::into_inner);
    let result = guard.work(work).map(|done| {
        dirty.add(guard.target());
        guard.settled(done)
    });
    drop(guard);
    // Before the answer: who has it may drop its recorder, and the lease must go with that.
    drop(tail);
    // A recorder that no longer listens has been dropped with its session.
    let _ = reply.send(result);
}

fn write_group(group: &mut Vec<Task>) {
    let mut answers = Vec::with_capacity(group.len());
    let mut touched: Vec<(Arc<Target>, Option<i32>)> = Vec::new();
    for Task { tail, work, reply } in group.drain(..) {
        let mut guard = tail.lock().unwrap_or_else(PoisonError::into_inner);
        let result = guard.work(work);
        let target = guard.target();
        drop(guard);
        if result.is_ok() && !touched.iter().any(|(other, _)| Arc::ptr_eq(other, &target)) {
            touched.push((Arc::clone(&target), None));
        }
        answers.push((tail, target, result, reply));
    }
    for (target, failed) in &mut touched {
        if let Err(e) = target.sync() {
            *failed = Some(e.raw_os_error().unwrap_or_default());
        }
    }
    for (tail, target, result, reply) in answers {
        let failed = touched.iter().find(|(other, _)| Arc::ptr_eq(other, &target)).and_then(|(_, e)| *e);
        let result = match failed {
            Some(code) => Err(RecorderError::Io(io::Error::from_raw_os_error(code))),
            None => result.map(|done| tail.lock().unwrap_or_else(PoisonError::into_inner).settled(done)),
        };
        drop(tail);
        let _ = reply.send(result);
    }
}
