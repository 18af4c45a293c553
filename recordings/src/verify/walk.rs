//! One pass over a cast: chunk by chunk as an index cuts it, frame by frame without one; never more than a chunk in memory.

use std::io::{self, BufRead, Read};

use sha2::{Digest, Sha256};
use zstd::bulk::Decompressor;
use zstd::stream::read::Decoder;

use super::Form;
use crate::chunks::{Chunk, Index, MAX_CHUNK};
use crate::journal::Facts;
use crate::seal::Chain;

/// Seconds; times are whole µs, and what reading a decimal may round is far less.
const NEARLY: f64 = 4e-7;

/// Where, and why, a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// At the end of the cast, where it should be.
    End,
    /// There is more than there should be.
    Surplus,
    /// There was nothing at all.
    Empty,
    /// The cast ended before this chunk did.
    Cut(u64),
    /// This chunk cannot be decoded, or is longer than any.
    Broken(u64),
    /// The index's entry of this chunk contradicts what is around it.
    Entry(u64),
    /// The index's entries do not come to its totals.
    Totals,
}

/// What was seen on the way.
#[derive(Debug)]
pub(super) struct Walk {
    /// Over the chunks as they are, from the facts given; none if there were none.
    pub(super) chain: Option<Chain>,
    /// Chunks read.
    pub(super) chunks: u64,
    /// Chunks, from the first, that are what the index says.
    pub(super) matched: u64,
    /// Bytes of the plain cast read.
    pub(super) plain: u64,
    /// The first chunk whose hash is not what the index says.
    pub(super) differs: Option<u64>,
    /// The first chunk whose times are not what the index says.
    pub(super) mistimed: Option<u64>,
    pub(super) stop: Stop,
}

impl Walk {
    fn new(root: Option<&Facts>) -> Self {
        // Facts are strings and small numbers: they can always be written.
        let chain = root.and_then(|facts| Chain::new(facts).ok());
        Self { chain, chunks: 0, matched: 0, plain: 0, differs: None, mistimed: None, stop: Stop::End }
    }

    fn take(&mut self, plain: &[u8], sha256: [u8; 32]) {
        if let Some(chain) = &mut self.chain {
            chain.push(sha256);
        }
        self.chunks += 1;
        self.plain += plain.len() as u64;
    }

    /// Takes a chunk, and holds it against the index's entry.
    fn compare(&mut self, plain: &[u8], sha256: [u8; 32], entry: &Chunk) {
        let n = self.chunks;
        if hex::encode(sha256) != entry.sha256 {
            self.differs.get_or_insert(n);
        } else if !times_are(plain, n == 0, entry) {
            self.mistimed.get_or_insert(n);
        }
        self.take(plain, sha256);
        if self.differs.is_none() && self.mistimed.is_none() {
            self.matched = self.chunks;
        }
    }

    fn stopped(mut self, stop: Stop) -> Self {
        self.stop = stop;
        self
    }
}

/// Walks as `index` cuts the cast; of what is longer than `sealed` bytes no more than a chunk.
pub(super) fn by_index(
    mut cast: impl BufRead,
    form: Form,
    index: &Index,
    root: &Facts,
    sealed: Option<u64>,
) -> io::Result<Walk> {
    let mut walk = Walk::new(Some(root));
    if cast.fill_buf()?.is_empty() {
        return Ok(walk.stopped(Stop::Empty));
    }
    let mut cutter = Cutter { form, unpack: Decompressor::new()?, stored: Vec::new(), plain: Vec::new() };
    let mut stored_at = 0;
    for (n, chunk) in (0..).zip(&index.chunks) {
        let begins = chunk.n == n && chunk.at == stored_at && chunk.plain_at == walk.plain;
        if !begins || !chunk.is_plausible() {
            // An entry that fits the one after it was misplaced by the one before it.
            let before = n.checked_sub(1).filter(|_| chunk.n == n && !begins && ends(index, chunk));
            return Ok(walk.stopped(Stop::Entry(before.unwrap_or(n))));
        }
        let piece = cutter.cut(&mut cast, chunk)?;
        let sha256 = Sha256::digest(&cutter.plain).into();
        let good = matches!(piece, Piece::Whole) && hex::encode(sha256) == chunk.sha256;
        match piece {
            // Cut by a false measure, a chunk says nothing.
            _ if !good && !ends(index, chunk) => return Ok(walk.stopped(Stop::Entry(n))),
            Piece::Cut if cutter.begins(n == 0, chunk)? => return Ok(walk.stopped(Stop::Cut(n))),
            Piece::Cut | Piece::Broken => return Ok(walk.stopped(Stop::Broken(n))),
            Piece::Whole => walk.compare(&cutter.plain, sha256, chunk),
        }
        stored_at += chunk.len;
        // After a chunk that differs only the seal still has something to say, of the whole.
        if sealed.map_or(walk.differs.is_some(), |sealed| walk.plain > sealed) {
            break;
        }
    }
    let stop = match () {
        () if !cast.fill_buf()?.is_empty() => Stop::Surplus,
        () if (stored_at, walk.plain) != (index.stored_len, index.plain_len) => Stop::Totals,
        () => Stop::End,
    };
    Ok(walk.stopped(stop))
}

/// Walks frame by frame: in the stored form each is a chunk.
pub(super) fn by_frames(
    mut cast: impl BufRead,
    root: Option<&Facts>,
    sealed: Option<u64>,
) -> io::Result<Walk> {
    let mut walk = Walk::new(root);
    if cast.fill_buf()?.is_empty() {
        return Ok(walk.stopped(Stop::Empty));
    }
    let mut plain = Vec::new();
    while !cast.fill_buf()?.is_empty() {
        plain.clear();
        match frame(&mut cast)?.take(MAX_CHUNK + 1).read_to_end(&mut plain) {
            Ok(len) if len as u64 <= MAX_CHUNK && len > 0 => walk.take(&plain, Sha256::digest(&plain).into()),
            Ok(_) => return Ok(broken(walk)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let n = walk.chunks;
                return Ok(walk.stopped(Stop::Cut(n)));
            }
            Err(error) if error.raw_os_error().is_some() => return Err(error),
            Err(_) => return Ok(broken(walk)),
        }
        if sealed.is_some_and(|sealed| walk.plain > sealed) {
            return Ok(walk.stopped(Stop::Surplus));
        }
    }
    Ok(walk)
}

fn broken(walk: Walk) -> Walk {
    let n = walk.chunks;
    walk.stopped(Stop::Broken(n))
}

/// Only counts, and no further than a byte beyond `sealed`: nothing says where a plain cast's chunks begin.
pub(super) fn uncut(mut cast: impl BufRead, sealed: u64) -> io::Result<Walk> {
    let mut walk = Walk::new(None);
    if cast.fill_buf()?.is_empty() {
        return Ok(walk.stopped(Stop::Empty));
    }
    walk.plain = io::copy(&mut cast.take(sealed.saturating_add(1)), &mut io::sink())?;
    let stop = if walk.plain > sealed { Stop::Surplus } else { Stop::End };
    Ok(walk.stopped(stop))
}

/// Whether an entry ends where the next one begins, or the last one the whole.
fn ends(index: &Index, chunk: &Chunk) -> bool {
    let next = usize::try_from(chunk.n).ok().and_then(|n| index.chunks.get(n + 1));
    let (at, plain_at) = next.map_or((index.stored_len, index.plain_len), |next| (next.at, next.plain_at));
    chunk.at.checked_add(chunk.len) == Some(at)
        && chunk.plain_at.checked_add(chunk.plain_len) == Some(plain_at)
}

enum Piece {
    Whole,
    Cut,
    Broken,
}

/// Takes chunks from a cast in either form.
struct Cutter {
    form: Form,
    unpack: Decompressor<'static>,
    stored: Vec<u8>,
    plain: Vec<u8>,
}

impl Cutter {
    /// Reads the chunk into `self.plain`; the entry has been found plausible.
    fn cut(&mut self, cast: impl Read, chunk: &Chunk) -> io::Result<Piece> {
        match self.form {
            Form::Plain => {
                let whole = fill(&mut self.plain, cast, chunk.plain_len)?;
                Ok(if whole { Piece::Whole } else { Piece::Cut })
            }
            Form::Stored => {
                if !fill(&mut self.stored, cast, chunk.len)? {
                    return Ok(Piece::Cut);
                }
                self.plain.clear();
                self.plain.reserve(chunk.plain_len as usize);
                let unpacked = self.unpack.decompress_to_buffer(&self.stored, &mut self.plain);
                let whole = unpacked.is_ok() && self.plain.len() as u64 == chunk.plain_len;
                Ok(if whole { Piece::Whole } else { Piece::Broken })
            }
        }
    }

    /// Whether what is there of a chunk that is cut can be how it begins; so that a chunk which is missing in the
    /// middle is not taken for a missing end. Only a whole chunk has a hash: this looks at times.
    fn begins(&mut self, has_header: bool, chunk: &Chunk) -> io::Result<bool> {
        if self.form == Form::Stored {
            self.plain.clear();
            let frame = frame(&self.stored[..])?;
            match frame.take(chunk.plain_len + 1).read_to_end(&mut self.plain) {
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => (),
                Ok(_) | Err(_) => return Ok(false),
            }
        }
        Ok(is_beginning(&self.plain, has_header, chunk))
    }
}

/// Unpacks one frame; what was written as a chunk needs no longer window than that.
fn frame<R: BufRead>(from: R) -> io::Result<Decoder<'static, R>> {
    let mut frame = Decoder::with_buffer(from)?.single_frame();
    frame.window_log_max(MAX_CHUNK.ilog2())?;
    Ok(frame)
}

/// Reads `len` bytes; whether there were as many.
fn fill(buffer: &mut Vec<u8>, from: impl Read, len: u64) -> io::Result<bool> {
    buffer.clear();
    Ok(from.take(len).read_to_end(buffer)? as u64 == len)
}

/// The lines of a chunk's events.
fn events(plain: &[u8], has_header: bool) -> impl DoubleEndedIterator<Item = &[u8]> {
    let mut lines = plain.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    if has_header {
        lines.next();
    }
    lines
}

/// Whether the entry's times are those of the chunk's first and last event.
fn times_are(plain: &[u8], has_header: bool, chunk: &Chunk) -> bool {
    let mut events = events(plain, has_header);
    let first = events.next();
    let last = events.next_back().or(first);
    let same = |line: Option<&[u8]>, said: f64| line.and_then(time).is_some_and(|time| is_same(time, said));
    same(first, chunk.first) && same(last, chunk.last)
}

/// Whether the whole lines in `plain` can be the first of the chunk's.
fn is_beginning(plain: &[u8], has_header: bool, chunk: &Chunk) -> bool {
    let whole = plain.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let mut times = events(&plain[..whole], has_header).map(time);
    let first = times.next().is_none_or(|time| time.is_some_and(|time| is_same(time, chunk.first)));
    first
        && times
            .all(|time| time.is_some_and(|time| time > chunk.first - NEARLY && time < chunk.last + NEARLY))
        && plain.first().is_none_or(|byte| *byte == if has_header { b'{' } else { b'[' })
}

fn is_same(time: f64, said: f64) -> bool {
    (time - said).abs() < NEARLY
}

/// The time of an event's line.
fn time(line: &[u8]) -> Option<f64> {
    let line = line.strip_prefix(b"[")?;
    let end = line.iter().position(|byte| *byte == b',')?;
    std::str::from_utf8(&line[..end]).ok()?.parse().ok()
}
