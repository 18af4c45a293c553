//! The journal: what happened in one session, record by record; how a record lies in its file, and no file handling.
//!
//! # Format, version 1
//!
//! A preamble of 16 bytes, then records back to back until the end of the file. Integers are big-endian.
//!
//! ```text
//! preamble   0..8   the bytes "CSTLJRNL"
//!            8..10  u16 version, 1
//!           10..16  zero
//! record     0      u8  kind: 1 start · 2 output · 3 input · 4 resize · 5 marker · 6 gap · 7 exit · 8 end
//!            1      u8  flags: bit 0, the host's terminal did not echo (input)
//!            2..4   zero
//!            4..8   u32 length of the payload, at most 1 MiB
//!            8..16  u64 µs since the session started; never less than in the record before
//!           16..24  u64 offset in the raw stream after this record: of input for input, of output for all others
//!           24..28  u32 CRC-32C (Castagnoli) of bytes 0..24 and the payload
//!           28..    payload
//! ```
//!
//! Payloads: start, the [`Header`] as JSON; output, the raw bytes; input, the raw bytes if the header says that
//! input is recorded *and* the terminal echoed, else nothing (of keys that are hidden the offset alone is kept); resize, u16
//! columns and u16 rows; marker, UTF-8; gap, u64 bytes of output lost; exit, the [`Exit`] as JSON; end, the
//! [`End`] as JSON. The first record is the start; nothing follows the end. A reader takes whole records and stops
//! at the first that is not: there the file is cut when it is recovered.

use std::io::{self, BufRead, BufReader, Read};
use std::time::Duration;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use serde::{Deserialize, Serialize};

pub(crate) const PREAMBLE: [u8; 16] = *b"CSTLJRNL\x00\x01\x00\x00\x00\x00\x00\x00";
pub(crate) const HEAD_LEN: usize = 28;
const MAX_PAYLOAD: usize = 1 << 20;
const NO_ECHO: u8 = 1;
/// No terminal has more columns or rows: who says so is not believed.
pub(crate) const MAX_SIDE: u16 = 1000;

/// What a recording is about: signed, and the root of its hash chain.
// INVARIANT: the fields stand in the order of their names, so that the derived JSON is the JCS form (seal.rs).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// Id of the asset.
    pub asset: String,
    /// Columns of the terminal at the start, 1..=1000.
    pub cols: u16,
    /// Rows of the terminal at the start, 1..=1000.
    pub rows: u16,
    /// Id of the session: letters, digits, `-` and `_`, at most 64.
    pub session: String,
    /// When the session started: RFC 3339, UTC, milliseconds.
    pub started: String,
    /// Id of the user.
    pub user: String,
}

/// What is known of a session when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The signed part.
    pub facts: Facts,
    /// Unix seconds of the start, for players.
    pub timestamp: i64,
    /// Title for players; control characters are dropped, 128 characters kept.
    pub title: Option<String>,
    /// `TERM` on the host.
    pub term: String,
    /// `SHELL` on the host.
    pub shell: Option<String>,
    /// Whether what is typed is recorded too.
    pub records_input: bool,
}

/// Something that happened in a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Time since the session started, by the caller's one monotonic clock; never goes back (it is clamped).
    pub at: Duration,
    /// What.
    pub kind: Kind,
}

/// The kinds of [`Event`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The host printed.
    Output {
        /// Offset of the first byte in the output stream; must continue it exactly.
        offset: u64,
        /// The raw bytes, at most 1 MiB.
        bytes: Bytes,
    },
    /// The host took input: one event a DATA frame, once it is acknowledged.
    Input {
        /// Offset of the first byte in the input stream, which must continue it exactly. Where nothing is kept (`echo`
        /// is not set) the bytes need not be given either: then, as when it is read back, the end of what was typed.
        offset: u64,
        /// The raw bytes; kept only if input is recorded and `echo` is set.
        bytes: Bytes,
        /// Whether the host's terminal echoed; if not, no key is ever written anywhere.
        echo: bool,
    },
    /// The terminal has a new size.
    Resize {
        /// Output offset from which it holds.
        offset: u64,
        /// Columns; a size that is not within 1..=1000 does not count.
        cols: u16,
        /// Rows, likewise.
        rows: u16,
    },
    /// Something worth finding again (joined, left, resumed, a policy's word); no secrets.
    Marker(String),
    /// Output that is lost for good, after a power cut.
    Gap {
        /// How many bytes.
        lost: u64,
    },
    /// The shell has ended.
    Exit(Exit),
}

/// How a shell ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status, if it exited.
    pub code: Option<i32>,
    /// Name of the signal that killed it, as in `SIGHUP`.
    pub signal: Option<String>,
}

/// The last record of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why the session ended, one of the protocol's `end_reason`s.
    pub reason: String,
    /// Whether it was sealed after a crash, as it stood.
    pub recovered: bool,
}

/// Why a journal could not be read, or an event not be put into it.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum JournalError {
    #[error("the file is empty")]
    Empty,
    #[error("this is not a journal")]
    Magic,
    #[error("the journal has version {0}, this program reads version 1")]
    Version(u16),
    #[error("the journal's first record is not whole")]
    NoStart,
    #[error("the journal is that of session {0}")]
    Foreign(String),
    #[error("the event continues the {stream} at {got}, but it stands at {at}")]
    Discontinuous { stream: &'static str, at: u64, got: u64 },
    #[error("the event has {0} bytes, more than a record holds")]
    TooLarge(usize),
    #[error("the journal cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("a value cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// One record as read back.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) at: Duration,
    pub(crate) entry: Entry,
}

#[derive(Debug)]
pub(crate) enum Entry {
    Start(Header),
    Event(Kind),
    End(End),
}

/// One record as it goes into the file: its head, and its payload untouched.
#[derive(Debug)]
pub(crate) struct Framed {
    pub(crate) head: [u8; HEAD_LEN],
    pub(crate) payload: Bytes,
}

impl Framed {
    fn new(code: u8, flags: u8, at: Duration, offset: u64, payload: Bytes) -> Result<Self, JournalError> {
        if payload.len() > MAX_PAYLOAD {
            return Err(JournalError::TooLarge(payload.len()));
        }
        let mut head = [0; HEAD_LEN];
        head[0] = code;
        head[1] = flags;
        head[4..8].copy_from_slice(&(payload.len() as u32).to_be_bytes());
        head[8..16].copy_from_slice(&micros(at).to_be_bytes());
        head[16..24].copy_from_slice(&offset.to_be_bytes());
        let crc = checksum(&head, &payload);
        head[24..].copy_from_slice(&crc.to_be_bytes());
        Ok(Self { head, payload })
    }

    pub(crate) fn len(&self) -> u64 {
        (HEAD_LEN + self.payload.len()) as u64
    }
}

/// Where a journal stands: what the next record continues.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) at: Duration,
    pub(crate) output: u64,
    pub(crate) input: u64,
    pub(crate) records_input: bool,
}

impl Cursor {
    pub(crate) fn start(&mut self, header: &Header) -> Result<Framed, JournalError> {
        self.records_input = header.records_input;
        Framed::new(1, 0, Duration::ZERO, 0, json(header)?)
    }

    pub(crate) fn end(&mut self, at: Duration, end: &End) -> Result<Framed, JournalError> {
        self.at = self.at.max(at);
        Framed::new(8, 0, self.at, self.output, json(end)?)
    }

    /// Frames `event` as the next record.
    pub(crate) fn event(&mut self, event: Event) -> Result<Framed, JournalError> {
        self.at = self.at.max(event.at);
        let at = self.at;
        match event.kind {
            Kind::Output { offset, bytes } => {
                continues("output", self.output, offset)?;
                self.output += bytes.len() as u64;
                Framed::new(2, 0, at, self.output, bytes)
            }
            Kind::Input { offset, bytes, echo } => {
                // What is hidden may come as its end alone.
                if echo || offset < self.input {
                    continues("input", self.input, offset)?;
                }
                self.input = offset + bytes.len() as u64;
                let kept = if self.records_input && echo { bytes } else { Bytes::new() };
                Framed::new(3, if echo { 0 } else { NO_ECHO }, at, self.input, kept)
            }
            Kind::Resize { offset, cols, rows } => {
                let [a, b] = cols.to_be_bytes();
                let [c, d] = rows.to_be_bytes();
                Framed::new(4, 0, at, offset, Bytes::copy_from_slice(&[a, b, c, d]))
            }
            Kind::Marker(label) => Framed::new(5, 0, at, self.output, Bytes::from(label)),
            Kind::Gap { lost } => {
                self.output += lost;
                Framed::new(6, 0, at, self.output, Bytes::copy_from_slice(&lost.to_be_bytes()))
            }
            Kind::Exit(exit) => Framed::new(7, 0, at, self.output, json(&exit)?),
        }
    }
}

/// Reads a journal to its last whole record.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    from: R,
    whole: u64,
    cursor: Cursor,
}

impl<R: Read> Reader<R> {
    /// Reads the preamble and the start.
    pub(crate) fn open(mut from: R) -> Result<(Self, Header), JournalError> {
        let mut preamble = [0; PREAMBLE.len()];
        match fill(&mut from, &mut preamble)? {
            0 => return Err(JournalError::Empty),
            16 => (),
            _ => return Err(JournalError::Magic),
        }
        if preamble[..8] != PREAMBLE[..8] {
            return Err(JournalError::Magic);
        }
        if preamble != PREAMBLE {
            return Err(JournalError::Version(u16::from_be_bytes([preamble[8], preamble[9]])));
        }
        let mut reader = Self { from, whole: PREAMBLE.len() as u64, cursor: Cursor::default() };
        match reader.next()? {
            Some(Record { entry: Entry::Start(header), .. }) => Ok((reader, header)),
            _ => Err(JournalError::NoStart),
        }
    }

    /// Goes on after the record that ends at `whole`.
    pub(crate) fn resume(from: R, whole: u64, cursor: Cursor) -> Self {
        Self { from, whole, cursor }
    }

    /// The next whole record; none at the end, be it clean or torn.
    pub(crate) fn next(&mut self) -> Result<Option<Record>, JournalError> {
        let mut head = [0; HEAD_LEN];
        if fill(&mut self.from, &mut head)? < HEAD_LEN {
            return Ok(None);
        }
        let len = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if len > MAX_PAYLOAD {
            return Ok(None);
        }
        let mut payload = vec![0; len];
        if fill(&mut self.from, &mut payload)? < len || head[24..] != checksum(&head, &payload).to_be_bytes()
        {
            return Ok(None);
        }
        let at = Duration::from_micros(eight(&head[8..16]));
        let Some(entry) = self.entry(head[0], head[1], eight(&head[16..24]), payload) else {
            return Ok(None);
        };
        self.cursor.at = self.cursor.at.max(at);
        self.whole += (HEAD_LEN + len) as u64;
        Ok(Some(Record { at, entry }))
    }

    /// Length of the file up to the end of the last whole record read.
    pub(crate) fn whole(&self) -> u64 {
        self.whole
    }

    /// Where the journal stands after the last record read.
    pub(crate) fn cursor(&self) -> Cursor {
        self.cursor
    }

    fn entry(&mut self, code: u8, flags: u8, offset: u64, payload: Vec<u8>) -> Option<Entry> {
        let cursor = &mut self.cursor;
        Some(match code {
            1 => {
                let header: Header = serde_json::from_slice(&payload).ok()?;
                cursor.records_input = header.records_input;
                Entry::Start(header)
            }
            2 => {
                cursor.output = offset;
                let first = offset.checked_sub(payload.len() as u64)?;
                Entry::Event(Kind::Output { offset: first, bytes: payload.into() })
            }
            3 => {
                cursor.input = offset;
                let first = offset.checked_sub(payload.len() as u64)?;
                Entry::Event(Kind::Input { offset: first, bytes: payload.into(), echo: flags & NO_ECHO == 0 })
            }
            4 => {
                let [a, b, c, d] = payload[..].try_into().ok()?;
                let (cols, rows) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                Entry::Event(Kind::Resize { offset, cols, rows })
            }
            5 => Entry::Event(Kind::Marker(String::from_utf8(payload).ok()?)),
            6 => {
                cursor.output = offset;
                Entry::Event(Kind::Gap { lost: u64::from_be_bytes(payload[..].try_into().ok()?) })
            }
            7 => Entry::Event(Kind::Exit(serde_json::from_slice(&payload).ok()?)),
            8 => Entry::End(serde_json::from_slice(&payload).ok()?),
            _ => return None,
        })
    }
}

/// Whether what follows a journal's last whole record, `len` bytes, is what a crash or a power cut leaves: the
/// beginning of one record, or space that never was written.
pub(crate) fn is_torn(from: impl Read, len: u64) -> io::Result<bool> {
    let mut from = BufReader::with_capacity(1 << 16, from);
    let mut head = [0; HEAD_LEN];
    let have = fill(&mut from, &mut head)?;
    let payload = u32::from_be_bytes([head[4], head[5], head[6], head[7]]) as usize;
    if have < HEAD_LEN || payload <= MAX_PAYLOAD && len < (HEAD_LEN + payload) as u64 {
        return Ok(true);
    }
    let mut blank = head.iter().all(|byte| *byte == 0);
    while blank {
        let piece = from.fill_buf()?;
        if piece.is_empty() {
            break;
        }
        blank = piece.iter().all(|byte| *byte == 0);
        let len = piece.len();
        from.consume(len);
    }
    Ok(blank)
}

fn continues(stream: &'static str, at: u64, got: u64) -> Result<(), JournalError> {
    if at == got { Ok(()) } else { Err(JournalError::Discontinuous { stream, at, got }) }
}

fn json(value: &impl Serialize) -> Result<Bytes, JournalError> {
    Ok(serde_json::to_vec(value)?.into())
}

fn micros(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
}

fn eight(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |sum, &byte| sum << 8 | u64::from(byte))
}

fn checksum(head: &[u8; HEAD_LEN], payload: &[u8]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(&head[..24]);
    digest.update(payload);
    digest.finalize() as u32
}

/// Reads until `buffer` is full or the file ends; how much.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut have = 0;
    while have < buffer.len() {
        match from.read(&mut buffer[have..]) {
            Ok(0) => break,
            Ok(n) => have += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => (),
            Err(e) => return Err(e),
        }
    }
    Ok(have)
}

#[cfg(test)]
mod tests;
