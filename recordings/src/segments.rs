//! The form that asciinema-player plays at any size: an index, and pieces that each begin with a snapshot of the screen.
//!
//! ```text
//! index.json  {"version":1,"duration":s,"term":{"cols","rows"},"markers":[[s,label]…],"segments":[{"start":s,"url":"0.json"}…]}
//! N.json      {"snapshot":{"cols","rows","init"},"events":[[s,code,data]…]}
//! ```
//!
//! Times are seconds from the start of the recording. The player refuses anything but this: the first segment starts at
//! 0; each later one starts with its first event, after all before it, and before the end; the last event is the end.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::asciicast::{put_json, put_line};
use crate::chunks::seconds;
use crate::commands::Command;
use crate::screen::Played;

/// Bytes of events after which a segment ends, where the time lets it: 1 MiB.
pub const SEGMENT_BYTES: usize = 1 << 20;

/// Where a segment begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Begin {
    /// Time of its first event, µs; 0 for the first segment.
    pub(crate) start: u64,
    /// Where the line of its first event lies in the plain cast.
    pub(crate) at: u64,
}

/// One finished segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) begin: Begin,
    pub(crate) json: Vec<u8>,
}

/// A segment that goes on.
#[derive(Debug)]
struct Open {
    begin: Begin,
    json: Vec<u8>,
    /// Where in `json` the first event lies.
    events: usize,
}

impl Open {
    fn new(begin: Begin, screen: &Played) -> Self {
        #[derive(Serialize)]
        struct Snapshot<'a> {
            cols: u16,
            rows: u16,
            init: &'a str,
        }
        let (cols, rows) = screen.size();
        let init = &screen.redraw();
        let mut json = br#"{"snapshot":"#.to_vec();
        put_json(&mut json, &Snapshot { cols, rows, init });
        json.extend_from_slice(br#","events":["#);
        let events = json.len();
        Self { begin, json, events }
    }

    fn is_empty(&self) -> bool {
        self.json.len() == self.events
    }

    fn push(&mut self, event: &[u8]) {
        if !self.is_empty() {
            self.json.push(b',');
        }
        self.json.extend_from_slice(event);
    }

    fn close(mut self) -> Segment {
        self.json.extend_from_slice(b"]}");
        Segment { begin: self.begin, json: self.json }
    }
}

#[derive(Debug)]
enum Label {
    Text(String),
    /// A command's, which is known when it has ended.
    Command(usize),
}

/// Cuts events into segments. Holds two: nothing may begin at the very end, and the end shows only when it comes.
#[derive(Debug)]
pub(crate) struct Cutter {
    term: (u16, u16),
    bytes: usize,
    before: Option<Open>,
    open: Option<Open>,
    begins: Vec<Begin>,
    markers: Vec<(Duration, Label)>,
    last: Duration,
}

impl Cutter {
    /// Cuts after about `bytes`; the cast begins with the size `term`.
    pub(crate) fn new(term: (u16, u16), bytes: usize) -> Self {
        let (markers, begins) = (Vec::new(), Vec::new());
        Self { term, bytes, before: None, open: None, begins, markers, last: Duration::ZERO }
    }

    /// Takes the event whose line lies at `at`, before `screen` has; gives the segment that is known to be finished.
    pub(crate) fn event(&mut self, time: Duration, line: &[u8], at: u64, screen: &Played) -> Option<Segment> {
        let mut finished = None;
        match &mut self.open {
            None => self.open = Some(Open::new(Begin { start: 0, at }, screen)),
            Some(open) if time > self.last => {
                // What is open is not the end: what is before it is finished.
                finished = self.before.take();
                if open.json.len() - open.events >= self.bytes {
                    let next = Open::new(Begin { start: micros(time), at }, screen);
                    self.before = Some(std::mem::replace(open, next));
                }
            }
            Some(_) => (),
        }
        self.last = time;
        self.push(line);
        finished.map(|open| self.close(open))
    }

    /// Notes a marker of the cast, whose line was taken.
    pub(crate) fn marker(&mut self, label: &str) {
        self.markers.push((self.last, Label::Text(label.to_owned())));
    }

    /// Adds a marker for a command that the last event began.
    pub(crate) fn command(&mut self, n: usize, command: &Command) {
        let mut line = Vec::new();
        put_line(&mut line, self.last, 'm', &command.label());
        line.pop();
        self.push(&line);
        self.markers.push((self.last, Label::Command(n)));
    }

    /// The last segments and the index.
    pub(crate) fn finish(mut self, commands: &[Command]) -> (Vec<Segment>, Vec<u8>) {
        let mut segments = Vec::new();
        match (self.before.take(), self.open.take()) {
            (Some(mut before), Some(open)) if open.begin.start == micros(self.last) => {
                before.push(&open.json[open.events..]);
                segments.push(self.close(before));
            }
            (before, open) => {
                let both = [before, open].into_iter().flatten();
                segments.extend(both.map(|open| self.close(open)));
            }
        }
        let index = self.index(commands);
        (segments, index)
    }

    fn push(&mut self, line: &[u8]) {
        if let Some(open) = &mut self.open {
            open.push(line);
        }
    }

    fn close(&mut self, open: Open) -> Segment {
        self.begins.push(open.begin);
        open.close()
    }

    fn index(&self, commands: &[Command]) -> Vec<u8> {
        let marker = |(at, label): &(Duration, Label)| {
            let label = match label {
                Label::Text(text) => text.clone(),
                Label::Command(n) => commands.get(*n).map(Command::label).unwrap_or_default(),
            };
            (seconds(*at), label)
        };
        let segment = |(n, begin): (usize, &Begin)| Place {
            start: seconds(Duration::from_micros(begin.start)),
            url: format!("{n}.json"),
        };
        let (cols, rows) = self.term;
        let index = Index {
            version: 1,
            duration: seconds(self.last),
            term: Term { cols, rows },
            markers: self.markers.iter().map(marker).collect(),
            segments: self.begins.iter().enumerate().map(segment).collect(),
        };
        let mut json = Vec::new();
        put_json(&mut json, &index);
        json
    }
}

#[derive(Serialize)]
struct Index {
    version: u8,
    duration: f64,
    term: Term,
    markers: Vec<(f64, String)>,
    segments: Vec<Place>,
}

#[derive(Serialize)]
struct Term {
    cols: u16,
    rows: u16,
}

#[derive(Serialize)]
struct Place {
    start: f64,
    url: String,
}

pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
