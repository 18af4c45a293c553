//! What a crash left in the spool: every journal is found, cut to its last whole record, or set aside.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::{JOURNAL, Lease, Spool, SpoolError, io_at};
use crate::journal::{Cursor, End, Entry, Exit, Header, JournalError, Kind, MAX_RECORD, Reader};
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

/// A file that is no journal (any more), kept beside under another name.
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
            self.discard(orphan)?;
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
            Err(error) => recovery.aside.push(self.leave(session, &error.to_string())),
        }
    }

    /// Sets aside what cannot be read; where even that fails it stays, and the start goes on.
    fn leave(&self, session: &str, reason: &str) -> Aside {
        self.set_aside(session, reason).unwrap_or_else(|error| {
            tracing::error!(session, reason, %error, "a journal can be neither read nor set aside");
            Aside {
                session: session.to_owned(),
                path: self.path(session, JOURNAL),
                reason: reason.to_owned(),
            }
        })
    }

    fn cut(&self, session: &str) -> Result<Recovered, JournalError> {
        let file = OpenOptions::new().read(true).write(true).open(self.path(session, JOURNAL))?;
        let Scan { mut recovered, place, .. } = scan(&file)?;
        let whole = place.pos;
        if recovered.header.facts.session != session {
            return Err(JournalError::NoStart);
        }
        recovered.cut = file.metadata()?.len().saturating_sub(whole);
        if recovered.cut > 0 {
            tracing::warn!(session, bytes = recovered.cut, "a torn record was cut off a journal");
            if recovered.cut > MAX_RECORD {
                self.keep_tail(session, &file, whole)?;
            }
            file.set_len(whole)?;
            file.sync_all()?;
        }
        Ok(recovered)
    }

    /// More than one record is about to go: that is no torn write but damage, and a person may want to look at it.
    fn keep_tail(&self, session: &str, mut file: &File, from: u64) -> Result<(), JournalError> {
        let tail = self.path(session, &format!("{JOURNAL}.bad-tail"));
        tracing::error!(session, path = %tail.display(), "a journal is damaged in the middle; its rest is kept");
        file.seek(SeekFrom::Start(from))?;
        io::copy(
            &mut file,
            &mut OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(tail)?,
        )?;
        Ok(())
    }
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
