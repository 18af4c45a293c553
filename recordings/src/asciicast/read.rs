//! asciicast v2, read back as this program writes it: bytes cut anywhere in, lines out; strict, since nobody else writes here.

use std::borrow::Cow;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Why a cast could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CastError {
    /// The first line is no header.
    #[error("the header of the cast cannot be read")]
    Header,
    /// An event's line is not one, or its time goes back.
    #[error("the line at byte {0} of the cast is no event")]
    Line(u64),
}

/// The first line; what is not needed is kept as it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) version: u8,
    pub(crate) width: u16,
    pub(crate) height: u16,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

impl Head {
    pub(crate) fn parse(line: &[u8]) -> Result<Self, CastError> {
        serde_json::from_slice(line)
            .ok()
            .filter(|head: &Self| head.version == 2 && head.width > 0 && head.height > 0)
            .ok_or(CastError::Header)
    }
}

/// One event, as its line says.
#[derive(Debug, PartialEq)]
pub(crate) struct Line<'a> {
    pub(crate) at: Duration,
    pub(crate) code: u8,
    pub(crate) data: Cow<'a, str>,
}

impl Line<'_> {
    /// The size that an `r` event tells.
    pub(crate) fn size(&self) -> Option<(u16, u16)> {
        let (cols, rows) = self.data.split_once('x').filter(|_| self.code == b'r')?;
        Some((cols.parse().ok().filter(|n| *n > 0)?, rows.parse().ok().filter(|n| *n > 0)?))
    }
}

#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// The event of one line, `[time,"code","data"]`.
pub(crate) fn line(line: &[u8]) -> Option<Line<'_>> {
    let inner = line.strip_prefix(b"[")?.strip_suffix(b"]")?;
    let comma = inner.iter().position(|byte| *byte == b',')?;
    let (time, rest) = inner.split_at(comma);
    let [b',', b'"', code, b'"', b',', data @ ..] = rest else {
        return None;
    };
    let Text(data) = serde_json::from_slice(data).ok()?;
    Some(Line { at: time_of(time)?, code: *code, data })
}

/// Seconds in plain decimals, µs at most.
fn time_of(text: &[u8]) -> Option<Duration> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(part) || part.len() > 6 {
        return None;
    }
    let micros = part.parse::<u32>().ok()? * 10_u32.pow(6 - part.len() as u32);
    Some(Duration::new(whole.parse().ok()?, micros * 1000))
}

/// Puts lines together again; keeps no more than the one that is not whole.
#[derive(Debug)]
pub(crate) struct Lines {
    rest: BytesMut,
    /// Up to here `rest` has no line feed.
    looked: usize,
    /// Where `rest` lies in the cast.
    at: u64,
}

impl Lines {
    /// Of a cast from its byte `at` on, where a line begins.
    pub(crate) fn at(at: u64) -> Self {
        Self { rest: BytesMut::new(), looked: 0, at }
    }

    pub(crate) fn push(&mut self, plain: &[u8]) {
        self.rest.extend_from_slice(plain);
    }

    /// The next whole line without its line feed, and where it lies.
    pub(crate) fn next(&mut self) -> Option<(u64, BytesMut)> {
        let Some(end) = self.rest[self.looked..].iter().position(|byte| *byte == b'\n') else {
            self.looked = self.rest.len();
            return None;
        };
        let line = self.rest.split_to(self.looked + end);
        let at = self.at;
        self.rest.advance(1);
        self.looked = 0;
        self.at += line.len() as u64 + 1;
        Some((at, line))
    }

    /// Whether nothing is left over.
    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Where the next line lies.
    pub(crate) fn place(&self) -> u64 {
        self.at
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_line_is_read_exactly_or_not_at_all() {
        let read = line(br#"[12.000345,"o","a\u001b\"\u4e2d"]"#).unwrap();
        assert_eq!(
            (read.at, read.code, &*read.data),
            (Duration::from_micros(12_000_345), b'o', "a\u{1b}\"中")
        );
        assert_eq!(line(br#"[0.0,"r","80x24"]"#).unwrap().size(), Some((80, 24)));
        assert_eq!(line(br#"[7,"r","0x24"]"#).unwrap().size(), None);
        for wrong in [
            "",
            "[]",
            "[1.0,\"o\"]",
            "[-1,\"o\",\"\"]",
            "[1e3,\"o\",\"\"]",
            "[1.0,\"o\",\"\",2]",
            "[1.,\"o\",\"\"]",
        ] {
            assert_eq!(line(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let text = b"one\n\ntwo\nthr";
        for cut in 0..text.len() {
            let mut lines = Lines::at(10);
            let mut found = Vec::new();
            for part in [&text[..cut], &text[cut..]] {
                lines.push(part);
                found.extend(std::iter::from_fn(|| lines.next()).map(|(at, line)| (at, line.to_vec())));
            }
            assert_eq!(found, [(10, b"one".to_vec()), (14, Vec::new()), (15, b"two".to_vec())]);
            assert!(!lines.is_empty() && lines.place() == 19);
        }
    }
}
