//! What a recorder and its readers share: the file, how far it is whole, marks to find places by, the checkpoint.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufReader, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;

use super::LiveError;
use crate::journal::{Cursor, End, Entry, Exit, Header, Kind, MAX_SIDE, Reader, Record};
use crate::screen::Screen;

/// Bytes of output between two marks, at least.
const SPACING: u64 = 64 << 10;
/// Bytes of journal between two marks, at most, but for the last batch.
const STRIDE: u64 = 1 << 20;
/// Output that the marks reach back.
const REACH: u64 = 2 << 20;
const MOST_MARKS: usize = 64;
/// Bytes read from the file at a time.
const READ: u64 = 64 << 10;

/// A place in a journal, between two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) pos: u64,
    pub(crate) cursor: Cursor,
    /// Columns and rows that hold here.
    pub(crate) size: (u16, u16),
}

impl Place {
    /// The place after the start record.
    pub(crate) fn first(pos: u64, cursor: Cursor, header: &Header) -> Self {
        Self { pos, cursor, size: (header.facts.cols, header.facts.rows) }
    }

    /// Notes the size that `kind`, which was passed, may set.
    pub(crate) fn resized(&mut self, kind: &Kind) {
        if let Kind::Resize { cols: cols @ 1..=MAX_SIDE, rows: rows @ 1..=MAX_SIDE, .. } = kind {
            self.size = (*cols, *rows);
        }
    }
}

/// Some places of a journal: the first, and every 64 KiB or so of the last 2 MiB of output.
#[derive(Debug)]
pub(crate) struct Marks {
    first: Place,
    recent: VecDeque<Place>,
}

impl Marks {
    pub(crate) fn new(first: Place) -> Self {
        Self { first, recent: VecDeque::new() }
    }

    pub(crate) fn pass(&mut self, place: Place) {
        let last = self.recent.back().unwrap_or(&self.first);
        if place.cursor.output - last.cursor.output < SPACING && place.pos - last.pos < STRIDE {
            return;
        }
        self.recent.push_back(place);
        let beyond =
            |old: Option<&Place>| old.is_some_and(|old| old.cursor.output + REACH <= place.cursor.output);
        while beyond(self.recent.get(1)) || self.recent.len() > MOST_MARKS {
            self.recent.pop_front();
        }
    }

    /// A place before everything that stands at output offset `output`.
    fn before(&self, output: u64) -> Place {
        let after = self.recent.partition_point(|place| place.cursor.output < output);
        after.checked_sub(1).map_or(self.first, |at| self.recent[at])
    }
}

/// How far a journal is whole, and whether it goes on.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) place: Place,
    pub(super) standing: Standing,
}

#[derive(Clone, Debug)]
pub(crate) enum Standing {
    Open,
    Ended(End, Option<Exit>),
    Interrupted,
}

/// A screen as it stood at a place. Kept as the bytes that redraw it: a terminal would take a hundred times as much.
#[derive(Clone)]
pub(super) struct Checkpoint {
    pub(super) place: Place,
    pub(super) redraw: Bytes,
    pub(super) pending: usize,
}

/// A journal as its readers see it.
pub(crate) struct Tape {
    file: Arc<File>,
    heard: watch::Sender<Heard>,
    marks: Mutex<Marks>,
    checkpoint: Mutex<Checkpoint>,
    /// Held while a screen is built: whoever also wants one waits, and goes on from there.
    pub(super) building: Arc<tokio::sync::Mutex<()>>,
}

impl Tape {
    pub(super) fn heard(&self) -> watch::Receiver<Heard> {
        self.heard.subscribe()
    }

    /// The end of what is recorded.
    pub(crate) fn end(&self) -> Place {
        self.heard.borrow().place
    }

    pub(super) fn checkpoint(&self) -> Checkpoint {
        unpoisoned(&self.checkpoint).clone()
    }

    /// Moves the checkpoint to the end, or on by about `most` bytes of journal. Blocks.
    pub(super) fn build(&self, most: u64) -> Result<Checkpoint, LiveError> {
        let from = self.checkpoint();
        let until = self.end().pos;
        let mut screen = Screen::new(from.place.size.0, from.place.size.1);
        screen.feed(&from.redraw);
        let mut stretch = self.stretch(from.place, until);
        let stop = from.place.pos.saturating_add(most);
        while stretch.place.pos < stop
            && let Some((_, kind)) = stretch.next()?
        {
            match kind {
                Kind::Output { bytes, .. } => screen.feed(&bytes),
                Kind::Resize { cols: cols @ 1..=MAX_SIDE, rows: rows @ 1..=MAX_SIDE, .. } => {
                    screen.resize(cols, rows);
                }
                Kind::Gap { .. } => screen.lost(),
                Kind::Resize { .. } | Kind::Input { .. } | Kind::Marker(_) | Kind::Exit(_) => (),
            }
        }
        let redraw = Bytes::from(screen.redraw().into_boxed_slice());
        let checkpoint = Checkpoint { place: stretch.place, redraw, pending: screen.pending().len() };
        unpoisoned(&self.checkpoint).clone_from(&checkpoint);
        Ok(checkpoint)
    }

    /// The records from before output offset `output` to the end.
    pub(super) fn stretch_before(&self, output: u64) -> Stretch {
        let until = self.end().pos;
        let from = unpoisoned(&self.marks).before(output);
        self.stretch(from, until)
    }

    /// The records from a place to a position, which must be one between two records.
    pub(super) fn stretch(&self, place: Place, until: u64) -> Stretch {
        let view = View { file: Arc::clone(&self.file), at: place.pos, len: until };
        let buffer = until.saturating_sub(place.pos).min(READ) as usize;
        let reader = Reader::resume(BufReader::with_capacity(buffer, view), place.pos, place.cursor);
        Stretch { reader, place, until }
    }
}

/// The writer's side of a [`Tape`]. Dropped before the journal has its end, it is interrupted.
pub(crate) struct Head(Arc<Tape>);

impl Head {
    pub(crate) fn new(file: Arc<File>, place: Place, marks: Marks) -> Self {
        let blank = Checkpoint { place: marks.first, redraw: Bytes::new(), pending: 0 };
        Self(Arc::new(Tape {
            file,
            heard: watch::Sender::new(Heard { place, standing: Standing::Open }),
            marks: Mutex::new(marks),
            checkpoint: Mutex::new(blank),
            building: Arc::default(),
        }))
    }

    pub(crate) fn tape(&self) -> Arc<Tape> {
        Arc::clone(&self.0)
    }

    /// Tells the readers that the journal is whole up to `place`.
    pub(crate) fn recorded(&self, place: Place, standing: Standing) {
        unpoisoned(&self.0.marks).pass(place);
        self.0.heard.send_replace(Heard { place, standing });
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        self.0.heard.send_if_modified(|heard| {
            let open = matches!(heard.standing, Standing::Open);
            if open {
                heard.standing = Standing::Interrupted;
            }
            open
        });
    }
}

/// Some records of a journal, in order.
pub(super) struct Stretch {
    reader: Reader<BufReader<View>>,
    /// After the last record read.
    pub(super) place: Place,
    until: u64,
}

impl Stretch {
    /// The next event and its time.
    pub(super) fn next(&mut self) -> Result<Option<(Duration, Kind)>, LiveError> {
        while self.place.pos < self.until {
            let Some(Record { at, entry }) = self.reader.next()? else {
                return Err(LiveError::Damaged(self.place.pos));
            };
            self.place.pos = self.reader.whole();
            self.place.cursor = self.reader.cursor();
            if let Entry::Event(kind) = entry {
                self.place.resized(&kind);
                return Ok(Some((at, kind)));
            }
        }
        Ok(None)
    }
}

/// Reads a file by place: clones of the file share no position.
pub(crate) struct View {
    pub(crate) file: Arc<File>,
    pub(crate) at: u64,
    pub(crate) len: u64,
}

impl Read for View {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let most = usize::try_from(self.len - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let n = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
