//! What a crash left in the spool: every journal is found, cut to its last whole record, or set aside.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::Duration;

use super::{JOURNAL, Lease, Spool, SpoolError, free_name, io_at};
use crate::journal::{Cursor, End, Entry, Exit, Header, JournalError, Kind, Reader, is_torn};
use crate::live::{Marks, Place};

/// A journal found at start.
#[derive(Clone, Debug)]
pub struct Recovered {
    /// What it said at the start.
    pub header: Header,
    /// Offset after the last whole output record.
    pub output_offset: u64,
    /// Offset after the last whole input record.
    pub input_offset: u64,
    /// Time of the last whole record.
    pub last_at: Duration,
    /// How the shell ended, if that was recorded.
    pub exit: Option<Exit>,
    /// The end, if the recording was finished: it is then queued for upload.
    pub end: Option<End>,
    /// Bytes of a torn last record that were cut off.
    pub cut: u64,
}

/// A file that is no journal (any more), kept beside under another name; or one that cannot be read now, and stays.
#[derive(Clone, Debug)]
pub struct Aside {
    /// The session its name speaks of.
    pub session: String,
    /// Where it is now.
    pub path: PathBuf,
    /// Why.
    pub reason: String,
}

/// What a crash left.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// Every readable journal, by session id.
    pub found: Vec<Recovered>,
    /// What could not be read.
    pub aside: Vec<Aside>,
}

impl Spool {
    pub(super) fn recover_all(&self) -> Result<Recovery, SpoolError> {
        let dir = &self.inner.options.dir;
        let mut sessions = BTreeSet::new();
        let mut seals = BTreeSet::new();
        for entry in fs::read_dir(dir).map_err(io_at(dir))? {
            let name = entry.map_err(io_at(dir))?.file_name();
            let name = name.to_string_lossy();
            if let Some(session) = name.strip_suffix(".journal") {
                sessions.insert(session.to_owned());
            } else if let Some(session) = name.strip_suffix(".seal").or(name.strip_suffix(".seal-new")) {
                seals.insert(session.to_owned());
            }
        }
        for orphan in seals.difference(&sessions) {
            // What it belonged to is in the store.
            if let Err(error) = self.discard(orphan) {
                tracing::warn!(session = orphan, %error, "a seal that is left over stays");
            }
        }
        let mut recovery = Recovery::default();
        for session in sessions {
            self.recover_one(&session, &mut recovery);
        }
        Ok(recovery)
    }

    fn recover_one(&self, session: &str, recovery: &mut Recovery) {
        let Ok(_lease) = Lease::take(&self.inner.shelf, session) else {
            return;
        };
        match self.cut(session) {
            Ok(recovered) => {
                if recovered.end.is_some() {
                    self.inner.shelf.finished(session);
                }
                recovery.found.push(recovered);
            }
            Err(error) => recovery.aside.push(self.leave(session, &error)),
        }
    }

    /// Sets aside what is no journal. What cannot be read or moved now stays: the next start may find it well.
    fn leave(&self, session: &str, error: &JournalError) -> Aside {
        let reason = error.to_string();
        if !is_passing(error) {
            match self.set_aside(session, &reason) {
                Ok(aside) => return aside,
                Err(error) => tracing::error!(session, %error, "a journal could not be set aside"),
            }
        }
        tracing::error!(session, reason, "a journal cannot be read now; it stays where it is");
        Aside { session: session.to_owned(), path: self.path(session, JOURNAL), reason }
    }

    fn cut(&self, session: &str) -> Result<Recovered, JournalError> {
        let file = self.disk().open(&self.path(session, JOURNAL))?;
        let Scan { mut recovered, place, .. } = scan(&file)?;
        if recovered.header.facts.session != session {
            return Err(JournalError::Foreign(recovered.header.facts.session));
        }
        recovered.cut = self.cut_off(session, &file, place.pos)?;
        Ok(recovered)
    }

    /// Cuts off what lies beyond the last whole record; says how much. What is no torn write is kept.
    pub(super) fn cut_off(&self, session: &str, mut file: &File, whole: u64) -> Result<u64, JournalError> {
        let len = file.metadata()?.len().saturating_sub(whole);
        if len > 0 {
            tracing::warn!(session, bytes = len, "a torn record was cut off a journal");
            file.seek(SeekFrom::Start(whole))?;
            if !is_torn(file, len)? {
                self.keep_tail(session, file, whole)?;
            }
            self.disk().cut(file, whole)?;
            self.disk().sync(file)?;
        }
        Ok(len)
    }

    /// Records are about to go that were whole once: that is damage, and a person may want to look at it.
    fn keep_tail(&self, session: &str, mut file: &File, from: u64) -> Result<(), JournalError> {
        let path = free_name(&self.path(session, &format!("{JOURNAL}.bad-tail")));
        tracing::error!(session, path = %path.display(), "a journal is damaged in the middle; its rest is kept");
        file.seek(SeekFrom::Start(from))?;
        let mut tail = self.disk().create(&path)?;
        let kept = io::copy(&mut file, &mut tail).and_then(|_| self.disk().sync(&tail));
        if kept.is_err() {
            // It is all in the journal still.
            let _ = self.remove(&path);
        }
        Ok(kept?)
    }
}

/// Whether the disk, and not what lies on it, is at fault.
fn is_passing(error: &JournalError) -> bool {
    matches!(error, JournalError::Io(e) if e.kind() != io::ErrorKind::InvalidInput)
}

pub(super) struct Scan {
    pub(super) recovered: Recovered,
    /// After the last whole record.
    pub(super) place: Place,
    pub(super) marks: Marks,
}

/// Reads a journal from its start to its last whole record.
pub(super) fn scan(file: &File) -> Result<Scan, JournalError> {
    let (mut reader, header) = Reader::open(BufReader::with_capacity(1 << 16, file))?;
    let (mut exit, mut end) = (None, None);
    let mut place = Place::first(reader.whole(), reader.cursor(), &header);
    let mut marks = Marks::new(place);
    while end.is_none()
        && let Some(record) = reader.next()?
    {
        match record.entry {
            Entry::Event(Kind::Exit(how)) => exit = Some(how),
            Entry::Event(kind) => place.resized(&kind),
            Entry::End(what) => end = Some(what),
            Entry::Start(_) => (),
        }
        (place.pos, place.cursor) = (reader.whole(), reader.cursor());
        marks.pass(place);
    }
    let Cursor { at: last_at, output: output_offset, input: input_offset, .. } = place.cursor;
    let recovered = Recovered { header, output_offset, input_offset, last_at, exit, end, cut: 0 };
    Ok(Scan { recovered, place, marks })
}
