//! asciicast v2, written: events in, lines out; no clock, no file.
//!
//! The lines keep to what every reader accepts: integer timestamp, plain decimal times that never go back, ASCII
//! one-letter codes, strings only, no blank line, and never a cast without an event.

use std::io::Write as _;
use std::time::Duration;

use serde::Serialize;

use crate::journal::{Header, Kind, MAX_SIDE};
use crate::utf8::Utf8;

pub(crate) mod read;

const MAX_TITLE: usize = 128;
pub(crate) const MAX_LABEL: usize = 99;
/// What is shown for one DATA frame that was typed while the host's terminal did not echo.
const MASK: &str = "•";

#[derive(Serialize)]
struct FirstLine<'a> {
    version: u8,
    width: u16,
    height: u16,
    timestamp: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<String>,
    env: Env<'a>,
}

#[derive(Serialize)]
struct Env<'a> {
    #[serde(rename = "TERM")]
    term: &'a str,
    #[serde(rename = "SHELL", skip_serializing_if = "Option::is_none")]
    shell: Option<&'a str>,
}

/// Encodes one session's events as the lines of its cast.
#[derive(Debug)]
pub struct Encoder {
    output: Utf8,
    input: Utf8,
    records_input: bool,
    size: (u16, u16),
    at: Duration,
    empty: bool,
}

impl Encoder {
    /// An encoder, and the header line.
    pub fn new(header: &Header) -> (Self, Vec<u8>) {
        let facts = &header.facts;
        let title = header.title.as_deref().map(|title| printable(title, MAX_TITLE));
        let first = FirstLine {
            version: 2,
            width: facts.cols,
            height: facts.rows,
            timestamp: header.timestamp,
            title: title.filter(|title| !title.is_empty()),
            env: Env { term: &header.term, shell: header.shell.as_deref() },
        };
        let mut line = Vec::with_capacity(256);
        put_json(&mut line, &first);
        line.push(b'\n');
        let encoder = Self {
            output: Utf8::default(),
            input: Utf8::default(),
            records_input: header.records_input,
            size: (facts.cols, facts.rows),
            at: Duration::ZERO,
            empty: true,
        };
        (encoder, line)
    }

    /// Appends the lines, if any, that `kind` at `at` makes.
    pub fn event(&mut self, kind: &Kind, at: Duration, out: &mut Vec<u8>) {
        self.at = self.at.max(at);
        match kind {
            Kind::Output { bytes, .. } => {
                let text = self.output.decode(bytes);
                self.empty &= !put_text(out, self.at, 'o', text);
            }
            Kind::Input { bytes, echo, .. } if self.records_input => {
                let text = if *echo { self.input.decode(bytes) } else { MASK };
                self.empty &= !put_text(out, self.at, 'i', text);
            }
            Kind::Resize { cols: cols @ 1..=MAX_SIDE, rows: rows @ 1..=MAX_SIDE, .. }
                if (*cols, *rows) != self.size =>
            {
                self.size = (*cols, *rows);
                self.empty &= !put_text(out, self.at, 'r', &format!("{cols}x{rows}"));
            }
            Kind::Marker(label) => {
                self.empty &= !put_text(out, self.at, 'm', &printable(label, MAX_LABEL));
            }
            Kind::Gap { lost } => {
                self.cut(out);
                self.empty &= !put_text(out, self.at, 'm', &format!("{lost} bytes of output lost"));
            }
            Kind::Input { .. } | Kind::Resize { .. } | Kind::Exit(_) => (),
        }
    }

    /// Appends what must come last: a character that never was finished, and in a cast without any event one.
    pub fn finish(&mut self, at: Duration, out: &mut Vec<u8>) {
        self.at = self.at.max(at);
        self.cut(out);
        if self.empty {
            put_line(out, self.at, 'o', "");
            self.empty = false;
        }
    }

    /// The time of the last event, as written.
    pub fn at(&self) -> Duration {
        self.at
    }

    fn cut(&mut self, out: &mut Vec<u8>) {
        if self.output.give_up() {
            self.empty &= !put_text(out, self.at, 'o', "\u{fffd}");
        }
        if self.input.give_up() {
            self.empty &= !put_text(out, self.at, 'i', "\u{fffd}");
        }
    }
}

/// Appends one event line unless `text` is empty; whether it did.
fn put_text(out: &mut Vec<u8>, at: Duration, code: char, text: &str) -> bool {
    if !text.is_empty() {
        put_line(out, at, code, text);
    }
    !text.is_empty()
}

pub(crate) fn put_line(out: &mut Vec<u8>, at: Duration, code: char, text: &str) {
    out.push(b'[');
    put_time(out, at);
    // Writing into a Vec cannot fail.
    let _ = write!(out, ",\"{code}\",");
    put_json(out, text);
    out.extend_from_slice(b"]\n");
}

pub(crate) fn put_time(out: &mut Vec<u8>, at: Duration) {
    let _ = write!(out, "{}.{:06}", at.as_secs(), at.subsec_micros());
    while out.ends_with(b"0") && !out.ends_with(b".0") {
        out.pop();
    }
}

pub(crate) fn put_json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // Strings, integers and structs of them into a Vec: serde_json has nothing to fail on.
    let _ = serde_json::to_writer(out, value);
}

pub(crate) fn printable(text: &str, most: usize) -> String {
    text.chars().filter(|c| !c.is_control()).take(most).collect()
}

#[cfg(test)]
mod tests;
