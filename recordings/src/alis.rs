//! ALiS v1, written: what a follower hears as the messages of a live stream, for asciinema-player; no socket.
//!
//! One message is one binary WebSocket message. Integers are unsigned LEB128, strings their length in bytes and UTF-8:
//!
//! ```text
//! magic    41 4c 69 53 01                                     first on every connection
//! init     01 id µs cols rows 00 screen                       absolute time; 00: no theme; may come again
//! output   'o' id µs text                                     µs since the message before
//! resize   'r' id µs cols rows
//! marker   'm' id µs label
//! exit     'x' id µs status
//! end      04 id µs
//! ```

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};

use crate::journal::{Event, Exit, Kind};
use crate::live::{Followed, Redraw};
use crate::utf8::Utf8;

const INIT: u8 = 0x01;
const END: u8 = 0x04;
const NO_THEME: u8 = 0x00;

/// Encodes what one follower hears. What is typed is never in it.
#[derive(Debug, Default)]
pub struct Encoder {
    id: u64,
    at: u64,
    size: (u16, u16),
    output: Utf8,
}

impl Encoder {
    /// An encoder for one connection.
    pub fn new() -> Self {
        Self::default()
    }

    /// The first message of a connection.
    pub fn magic() -> Bytes {
        Bytes::from_static(b"ALiS\x01")
    }

    /// The message that `news` makes, if any.
    pub fn message(&mut self, news: &Followed) -> Option<Bytes> {
        match news {
            Followed::Screen(redraw) => Some(self.init(redraw)),
            Followed::Event(event) => self.event(event),
            Followed::Ended(_) | Followed::Interrupted => Some(self.next(END, self.at, 0).freeze()),
        }
    }

    fn init(&mut self, redraw: &Redraw) -> Bytes {
        let (text, pending) = redraw.bytes.split_at(redraw.bytes.len() - redraw.pending);
        self.output = Utf8::default();
        self.output.decode(pending);
        self.size = (redraw.cols, redraw.rows);
        self.at = micros(redraw.at);
        let mut message = BytesMut::with_capacity(32 + text.len());
        message.put_u8(INIT);
        put_int(&mut message, self.id);
        put_int(&mut message, self.at);
        put_int(&mut message, redraw.cols.into());
        put_int(&mut message, redraw.rows.into());
        message.put_u8(NO_THEME);
        put_text(&mut message, &String::from_utf8_lossy(text));
        message.freeze()
    }

    fn event(&mut self, event: &Event) -> Option<Bytes> {
        let at = micros(event.at);
        match &event.kind {
            Kind::Output { bytes, .. } => {
                let mut decoder = std::mem::take(&mut self.output);
                let text = decoder.decode(bytes);
                let message = (!text.is_empty()).then(|| self.text(b'o', at, text));
                self.output = decoder;
                message
            }
            Kind::Resize { cols: cols @ 1.., rows: rows @ 1.., .. } if (*cols, *rows) != self.size => {
                self.size = (*cols, *rows);
                let mut message = self.next(b'r', at, 8);
                put_int(&mut message, (*cols).into());
                put_int(&mut message, (*rows).into());
                Some(message.freeze())
            }
            Kind::Marker(label) => Some(self.text(b'm', at, label)),
            Kind::Gap { lost } => {
                self.output.give_up();
                Some(self.text(b'm', at, &format!("{lost} bytes of output lost")))
            }
            Kind::Exit(exit) => {
                let mut message = self.next(b'x', at, 8);
                put_int(&mut message, status(exit));
                Some(message.freeze())
            }
            Kind::Resize { .. } | Kind::Input { .. } => None,
        }
    }

    fn text(&mut self, code: u8, at: u64, text: &str) -> Bytes {
        let mut message = self.next(code, at, text.len() + 8);
        put_text(&mut message, text);
        message.freeze()
    }

    /// The beginning of every message but an init: its code, id and time.
    fn next(&mut self, code: u8, at: u64, more: usize) -> BytesMut {
        let since = at.saturating_sub(self.at);
        self.at = self.at.max(at);
        self.id += 1;
        let mut message = BytesMut::with_capacity(24 + more);
        message.put_u8(code);
        put_int(&mut message, self.id);
        put_int(&mut message, since);
        message
    }
}

/// As a shell would say it; of a signal it is only known that there was one.
fn status(exit: &Exit) -> u64 {
    match exit.code {
        Some(code) => u64::try_from(code).unwrap_or_default(),
        None => u64::from(exit.signal.is_some()) * 128,
    }
}

fn micros(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
}

fn put_text(message: &mut BytesMut, text: &str) {
    put_int(message, text.len() as u64);
    message.put_slice(text.as_bytes());
}

fn put_int(message: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        message.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    message.put_u8(value as u8);
}

#[cfg(test)]
mod tests;
