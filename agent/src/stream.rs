//! A session's two streams as numbers: offsets, windows, what is to be said on a socket and said again on the next.
//! Pure; it knows no socket.

use std::collections::VecDeque;

use bytes::Bytes;
use openapi::frames::{Control, Frame, INPUT_WINDOW, MAX_DATA, OUTPUT_WINDOW};

/// Up to this size neighbouring pieces are kept as one, so that a trickle costs no more than its bytes.
const PIECE: usize = 4 * 1024;
/// How many marks are kept before a size replaces the one before it, wherever that stands.
const MARKS_MAX: usize = 256;

/// How the bastion broke a stream's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// It claims bytes that it was never sent, or an acknowledgement that was never given.
    #[error("an acknowledgement beyond what was sent")]
    Ahead,
    /// Its data does not begin where the last ended.
    #[error("input with a gap or an overlap")]
    Gap,
    /// It sent more than the window allows.
    #[error("input beyond its window")]
    Window,
}

/// Bytes of the output, and where they stand.
#[derive(Debug)]
struct Piece {
    offset: u64,
    bytes: Bytes,
}

impl Piece {
    fn end(&self) -> u64 {
        self.offset + self.bytes.len() as u64
    }
}

/// What stands between the bytes of the output.
#[derive(Debug)]
struct Mark {
    offset: u64,
    what: What,
}

#[derive(Debug)]
enum What {
    Size(u16, u16),
    Said(Control),
}

impl Mark {
    fn is_size(&self) -> bool {
        matches!(self.what, What::Size(..))
    }

    fn frame(&self) -> Frame {
        match &self.what {
            What::Size(cols, rows) => Frame::Resized { offset: self.offset, cols: *cols, rows: *rows },
            What::Said(control) => Frame::Control(control.clone()),
        }
    }
}

/// Output: what the shell printed and what stands in its order, until the bastion has it.
///
/// INVARIANT: `acked ≤ next ≤ read`, `acked ≤ told ≤ read`, `read − acked ≤ OUTPUT_WINDOW`, and `kept` is exactly the
/// bytes from `acked` to `read`.
#[derive(Debug, Default)]
pub struct Output {
    acked: u64,
    // What the present socket gets next: the byte, and the index of the mark.
    next: u64,
    said: usize,
    // The most any socket was given.
    told: u64,
    read: u64,
    paused: bool,
    kept: VecDeque<Piece>,
    marks: VecDeque<Mark>,
    // The newest size that needs not be said again, unless the bastion lost it.
    size: Option<(u16, u16)>,
}

impl Output {
    /// How many bytes may be read from the terminal now: 0 once the window is spent, until half of it is free again.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.paused {
            return 0;
        }
        length(self.read - self.acked, OUTPUT_WINDOW).min(MAX_DATA)
    }

    /// Takes bytes just read, at most [`Output::room`] of them.
    pub fn push(&mut self, bytes: &[u8]) {
        match self.kept.back_mut() {
            Some(last) if last.bytes.len() + bytes.len() <= PIECE => {
                last.bytes = [&last.bytes, bytes].concat().into();
            }
            _ => {
                self.kept.push_back(Piece { offset: self.read, bytes: Bytes::copy_from_slice(bytes) });
            }
        }
        self.read += bytes.len() as u64;
        self.paused = self.read - self.acked >= OUTPUT_WINDOW;
    }

    /// The terminal has this size from here on. A size replaces one that stands at the same place.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        let full = self.marks.len() >= MARKS_MAX;
        if self.marks.back().is_some_and(|last| last.is_size() && (full || last.offset == self.read)) {
            self.marks.pop_back();
            self.said = self.said.min(self.marks.len());
        }
        self.marks.push_back(Mark { offset: self.read, what: What::Size(cols, rows) });
    }

    /// Says this after all output so far, on every socket until the session is over.
    pub fn say(&mut self, control: Control) {
        self.marks.push_back(Mark { offset: self.read, what: What::Said(control) });
    }

    /// What the present socket gets next, in order: a mark, or at most [`MAX_DATA`] bytes.
    pub fn pull(&mut self) -> Option<Frame> {
        let mark = self.marks.get(self.said);
        if let Some(mark) = mark.filter(|mark| mark.offset <= self.next) {
            self.said += 1;
            return Some(mark.frame());
        }
        let until = mark.map_or(self.read, |mark| mark.offset);
        let at = self.kept.partition_point(|piece| piece.end() <= self.next);
        let piece = self.kept.get(at).filter(|_| self.next < until)?;
        let (from, to) = (length(piece.offset, self.next), length(piece.offset, until.min(piece.end())));
        let bytes = piece.bytes.slice(from..to);
        let offset = self.next;
        self.next += bytes.len() as u64;
        self.told = self.told.max(self.next);
        Some(Frame::Data { offset, bytes })
    }

    /// Whether the present socket was given everything.
    #[must_use]
    pub fn is_said(&self) -> bool {
        self.next == self.read && self.said == self.marks.len()
    }

    /// Takes an acknowledgement; an old or repeated one changes nothing.
    ///
    /// # Errors
    /// [`StreamError::Ahead`] when it covers bytes that were not sent.
    pub fn ack(&mut self, taken: u64) -> Result<(), StreamError> {
        if taken > self.told {
            return Err(StreamError::Ahead);
        }
        if taken <= self.acked {
            return Ok(());
        }
        self.acked = taken;
        self.next = self.next.max(taken);
        while self.kept.front().is_some_and(|piece| piece.end() <= taken) {
            self.kept.pop_front();
        }
        if let Some(first) = self.kept.front_mut() {
            let _ = first.bytes.split_to(length(first.offset, taken.max(first.offset)));
            first.offset = first.offset.max(taken);
        }
        self.forget_sizes();
        if self.read - taken <= OUTPUT_WINDOW / 2 {
            self.paused = false;
        }
        Ok(())
    }

    /// A new socket, on which the bastion says that it has `have` bytes: a late acknowledgement. Answers the offset of
    /// the next DATA, which is greater than `have` when the bastion lost what it had acknowledged.
    ///
    /// # Errors
    /// [`StreamError::Ahead`] when it claims bytes that were not sent.
    pub fn resume(&mut self, have: u64) -> Result<u64, StreamError> {
        let gap = have < self.acked;
        self.ack(have)?;
        (self.next, self.said) = (self.acked, 0);
        let here = self.marks.front().is_some_and(|mark| mark.is_size() && mark.offset == self.acked);
        if let Some((cols, rows)) = self.size.filter(|_| gap && !here) {
            // The bastion may have lost the size with the bytes around it.
            self.marks.push_front(Mark { offset: self.acked, what: What::Size(cols, rows) });
        }
        Ok(self.acked)
    }

    /// Bytes that follow a size prove that it arrived; one that stands at the end of what is acknowledged may not have.
    fn forget_sizes(&mut self) {
        let (mut index, mut said) = (0, self.said);
        self.marks.retain(|mark| {
            let forget = mark.offset < self.acked;
            if let (true, What::Size(cols, rows)) = (forget, &mark.what) {
                self.size = Some((*cols, *rows));
                said -= usize::from(index < self.said);
            }
            index += 1;
            !(forget && mark.is_size())
        });
        self.said = said;
    }
}

/// From one offset to a later one, within a window.
fn length(from: u64, to: u64) -> usize {
    usize::try_from(to - from).unwrap_or(usize::MAX)
}

/// Input: what was typed, until the terminal has taken it.
#[derive(Debug, Default)]
pub struct Input {
    received: u64,
    waiting: VecDeque<Bytes>,
    taken: u64,
}

impl Input {
    /// Takes a DATA frame.
    ///
    /// # Errors
    /// [`StreamError::Gap`] when it does not continue the stream, [`StreamError::Window`] when it is too much.
    pub fn push(&mut self, offset: u64, bytes: Bytes) -> Result<(), StreamError> {
        if offset != self.received {
            return Err(StreamError::Gap);
        }
        let received = self.received + bytes.len() as u64;
        if received - self.taken > INPUT_WINDOW {
            return Err(StreamError::Window);
        }
        self.received = received;
        if !bytes.is_empty() {
            self.waiting.push_back(bytes);
        }
        Ok(())
    }

    /// What the terminal gets next.
    #[must_use]
    pub fn next(&self) -> Option<&Bytes> {
        self.waiting.front()
    }

    /// The terminal took this many bytes of [`Input::next`].
    pub fn advance(&mut self, count: usize) {
        if let Some(first) = self.waiting.front_mut() {
            let count = count.min(first.len());
            let _ = first.split_to(count);
            self.taken += count as u64;
            if first.is_empty() {
                self.waiting.pop_front();
            }
        }
    }

    /// The terminal is gone, and with it everything that waits for it.
    pub fn advance_all(&mut self) {
        self.waiting.clear();
        self.taken = self.received;
    }

    /// Bytes the terminal has taken so far: what an ACK says.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// The socket is gone: what the terminal has not taken comes again on the next.
    pub fn drop_waiting(&mut self) {
        self.waiting.clear();
        self.received = self.taken;
    }

    /// The bastion holds this many bytes acknowledged, and sends from [`Input::taken`] on.
    ///
    /// # Errors
    /// [`StreamError::Ahead`] when they were not.
    pub fn resume(&mut self, acknowledged: u64) -> Result<(), StreamError> {
        self.drop_waiting();
        if acknowledged > self.taken { Err(StreamError::Ahead) } else { Ok(()) }
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
