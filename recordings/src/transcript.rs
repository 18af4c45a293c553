//! What was on the screen: every line of it with the time it was last written, and how to search them.
//!
//! The lines are those of the primary screen, as they scroll away, are cleared, or stand at the end. What programs
//! draw on the alternate screen (editors, pagers, `top`) is a picture that is taken away again, and is not in it.
//! Kept as a JSON array with one line of the screen on each line of the file, so that it can be read piece by piece.

use std::collections::VecDeque;
use std::time::Duration;

use avt::parser::Function;
use avt::{Observation, Observer, Operation, ScreenKind, Terminal};
use serde::{Deserialize, Serialize};

use crate::chunks::seconds;

/// Bytes kept of one line; the rest of a longer one is left out.
const MAX_LINE: usize = 8 << 10;

/// One line of the screen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScreenLine {
    /// Seconds from the start: when it was last written, near enough; it was on the screen then.
    pub t: f64,
    /// Its text, without controls and without blanks at the end; 8 KiB at most.
    pub line: String,
}

/// Collects the lines while a terminal is fed.
#[derive(Debug, Default)]
pub(crate) struct Writing {
    now: Duration,
    /// When each visible row of the primary screen was last written.
    rows: VecDeque<Duration>,
    pending: String,
    written: Duration,
    ready: Vec<(Duration, String)>,
}

impl Writing {
    /// Tells the time of what is fed next.
    pub(crate) fn tick(&mut self, now: Duration) {
        self.now = now;
    }

    /// The lines finished since last asked.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = (Duration, String)> + '_ {
        self.ready.drain(..)
    }

    /// Finishes what is still on the screen.
    pub(crate) fn finish(&mut self, terminal: &Terminal) {
        let start = self.ready.len();
        for (row, line) in terminal.primary_screen().all_lines().enumerate() {
            let written = self.rows.get(row).copied().unwrap_or(self.now);
            self.push(line, written);
        }
        if !self.pending.is_empty() {
            self.close();
        }
        while self.ready.len() > start && self.ready.last().is_some_and(|(_, line)| line.is_empty()) {
            self.ready.pop();
        }
    }

    fn push(&mut self, line: &avt::Line, written: Duration) {
        self.written = self.written.max(written);
        let cells = line.cells();
        let used = match line.is_wrapped() {
            true => cells.len(),
            false => cells.iter().rposition(|cell| cell.char() != ' ').map_or(0, |last| last + 1),
        };
        // A DEL is printed by `avt`.
        for cell in cells[..used].iter().filter(|cell| cell.width() > 0 && !cell.char().is_control()) {
            if self.pending.len() + cell.char().len_utf8() > MAX_LINE {
                break;
            }
            self.pending.push(cell.char());
        }
        if !line.is_wrapped() {
            self.close();
        }
    }

    fn close(&mut self) {
        self.pending.truncate(self.pending.trim_end().len());
        self.ready.push((self.written, self.pending.as_str().to_owned()));
        self.pending.clear();
        self.written = Duration::ZERO;
    }
}

impl Observer for Writing {
    type Output = ();

    fn begin(&mut self, context: &mut Observation<'_>) {
        let (_, rows) = context.terminal().size();
        if self.rows.len() != rows {
            self.rows.resize(rows, self.now);
        }
    }

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        if matches!(operation, Operation::Function(Function::Ris)) {
            self.finish(context.terminal());
        }
    }

    fn after(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        let prints = matches!(operation, Operation::Function(Function::Print(_) | Function::Rep(_)));
        if prints && context.terminal().active_screen_kind() == ScreenKind::Primary {
            let row = context.terminal().cursor().row;
            if let Some(written) = self.rows.get_mut(row) {
                *written = self.now;
            }
        }
    }

    fn evicted(&mut self, _: &mut Observation<'_>, line: &avt::Line) {
        let written = self.rows.pop_front().unwrap_or(self.now);
        self.rows.push_back(self.now);
        self.push(line, written);
    }

    fn end(&mut self, _: &mut Observation<'_>) {}
}

/// Encodes the lines as JSON.
#[derive(Debug, Default)]
pub(crate) struct Encoder {
    begun: bool,
}

impl Encoder {
    pub(crate) fn line(&mut self, at: Duration, line: String, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.begun { b",\n" } else { b"[" });
        self.begun = true;
        crate::asciicast::put_json(out, &ScreenLine { t: seconds(at), line });
    }

    pub(crate) fn finish(self, out: &mut Vec<u8>) {
        out.extend_from_slice(if self.begun { b"]\n" } else { b"[]\n" });
    }
}

/// The line of the screen on one line of the JSON, if there is one.
pub(crate) fn parse(json: &[u8]) -> Option<ScreenLine> {
    let json = json.strip_prefix(b"[").unwrap_or(json);
    let json = json.strip_suffix(b"]").or_else(|| json.strip_suffix(b",")).unwrap_or(json);
    serde_json::from_slice(json).ok()
}

/// Finds a query in lines, whatever the case.
#[derive(Clone, Debug)]
pub(crate) struct Query(String);

impl Query {
    /// None if nothing is asked for.
    pub(crate) fn new(query: &str) -> Option<Self> {
        let query = query.trim().to_lowercase();
        (!query.is_empty()).then_some(Self(query))
    }

    pub(crate) fn is_in(&self, line: &str) -> bool {
        if line.is_ascii() && !self.0.is_ascii() {
            return false;
        }
        line.to_lowercase().contains(&self.0)
    }
}

/// The first `most` lines of a transcript that have `query` in them, whatever the case; none for a blank query.
pub fn search(transcript: &[ScreenLine], query: &str, most: usize) -> Vec<ScreenLine> {
    let Some(query) = Query::new(query) else {
        return Vec::new();
    };
    transcript.iter().filter(|line| query.is_in(&line.line)).take(most).cloned().collect()
}

#[cfg(test)]
mod tests;
