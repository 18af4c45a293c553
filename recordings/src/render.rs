//! From a journal to the lines of its cast, a pull at a time; the same for the store and for a session still running.

use std::io::Read;
use std::time::Duration;

use sha2::{Digest, Sha256};

use crate::asciicast::Encoder;
use crate::journal::{End, Entry, Exit, Header, JournalError, Kind, Reader};

/// Pulls the lines of a cast out of a journal.
#[derive(Debug)]
pub(crate) struct Render<R> {
    pub(crate) header: Header,
    pub(crate) end: Option<End>,
    pub(crate) exit: Option<Exit>,
    pub(crate) output_bytes: u64,
    pub(crate) lost_bytes: u64,
    /// Of the raw output; none where nobody asks for it.
    pub(crate) output_hash: Option<Sha256>,
    reader: Reader<R>,
    encoder: Encoder,
    first: Option<Vec<u8>>,
    at: Duration,
    done: bool,
}

impl<R: Read> Render<R> {
    pub(crate) fn open(from: R, hash_output: bool) -> Result<Self, JournalError> {
        let (reader, header) = Reader::open(from)?;
        let (encoder, first) = Encoder::new(&header);
        Ok(Self {
            header,
            end: None,
            exit: None,
            output_bytes: 0,
            lost_bytes: 0,
            output_hash: hash_output.then(Sha256::new),
            reader,
            encoder,
            first: Some(first),
            at: Duration::ZERO,
            done: false,
        })
    }

    /// The header line, once.
    pub(crate) fn first_line(&mut self) -> Option<Vec<u8>> {
        self.first.take()
    }

    /// Appends the next record's lines (perhaps none) to `out`; false after the last.
    pub(crate) fn pull(&mut self, out: &mut Vec<u8>) -> Result<bool, JournalError> {
        if self.done {
            return Ok(false);
        }
        match self.reader.next()? {
            Some(record) => {
                self.at = self.at.max(record.at);
                match record.entry {
                    Entry::Event(kind) => self.event(&kind, out),
                    Entry::End(end) => self.close(Some(end), out),
                    Entry::Start(_) => (),
                }
            }
            None => self.close(None, out),
        }
        Ok(true)
    }

    /// Time of the last record pulled.
    pub(crate) fn at(&self) -> Duration {
        self.at
    }

    fn close(&mut self, end: Option<End>, out: &mut Vec<u8>) {
        self.encoder.finish(self.at, out);
        if let Some(end) = &end {
            self.encoder.event(&Kind::Marker(last_marker(end, self.exit.as_ref())), self.at, out);
        }
        self.end = end;
        self.done = true;
    }

    fn event(&mut self, kind: &Kind, out: &mut Vec<u8>) {
        match kind {
            Kind::Output { bytes, .. } => {
                self.output_bytes += bytes.len() as u64;
                if let Some(hash) = &mut self.output_hash {
                    hash.update(bytes);
                }
            }
            Kind::Gap { lost } => self.lost_bytes += lost,
            Kind::Exit(exit) => self.exit = Some(exit.clone()),
            Kind::Input { .. } | Kind::Resize { .. } | Kind::Marker(_) => (),
        }
        self.encoder.event(kind, self.at, out);
    }
}

/// The last marker: how and why the session ended.
fn last_marker(end: &End, exit: Option<&Exit>) -> String {
    let how = match exit {
        Some(Exit { signal: Some(signal), .. }) => format!("ended: killed by {signal}"),
        Some(Exit { code: Some(code), .. }) => format!("ended: exit {code}"),
        _ => format!("ended: {}", end.reason.replace('_', " ")),
    };
    if end.recovered { format!("{how}, sealed after a crash") } else { how }
}
