//! A stretch of a cast as a cast of its own: it begins with the screen as it stood there, and its times count from there.

use std::time::Duration;

use crate::asciicast::read::{CastError, Head, Line, Lines, line};
use crate::asciicast::{put_json, put_line};
use crate::screen::Played;

/// A screen that stands at a place of a cast, from where a window can be made.
pub(crate) struct Seed {
    /// Where the line after it lies in the plain cast.
    pub(crate) at: u64,
    pub(crate) size: (u16, u16),
    /// What redraws it.
    pub(crate) init: String,
}

/// Makes a window of the lines it is given.
pub(crate) struct Window {
    lines: Lines,
    head: Option<Head>,
    screen: Option<Played>,
    from: Duration,
    to: Option<Duration>,
    begun: bool,
    ended: bool,
}

impl Window {
    /// From `from` until just before `to`. The lines that will be pushed are all, beginning with the header.
    pub(crate) fn new(from: Duration, to: Option<Duration>) -> Self {
        let lines = Lines::at(0);
        Self { lines, head: None, screen: None, from, to, begun: false, ended: false }
    }

    /// The same from a seed before `from`; the lines that will be pushed are those from the seed on.
    pub(crate) fn seeded(head: Head, seed: &Seed, from: Duration, to: Option<Duration>) -> Self {
        let mut screen = Played::new(seed.size.0, seed.size.1);
        screen.feed(&seed.init, &mut ());
        let lines = Lines::at(seed.at);
        Self { lines, head: Some(head), screen: Some(screen), ..Self::new(from, to) }
    }

    /// Takes the next bytes of the cast; appends what the window has of them. False once the window has ended.
    pub(crate) fn push(&mut self, plain: &[u8], out: &mut Vec<u8>) -> Result<bool, CastError> {
        self.lines.push(plain);
        while !self.ended
            && let Some((at, bytes)) = self.lines.next()
        {
            match &self.head {
                Some(_) => self.event(&line(&bytes).ok_or(CastError::Line(at))?, out),
                None => {
                    let head = Head::parse(&bytes)?;
                    self.screen = Some(Played::new(head.width, head.height));
                    self.head = Some(head);
                }
            }
        }
        Ok(!self.ended)
    }

    /// Appends what must be there even if nothing happened.
    pub(crate) fn finish(&mut self, out: &mut Vec<u8>) {
        self.begin(out);
    }

    fn event(&mut self, event: &Line<'_>, out: &mut Vec<u8>) {
        if event.at >= self.from {
            self.begin(out);
            self.ended = self.to.is_some_and(|to| event.at >= to);
            if !self.ended {
                put_line(out, event.at - self.from, event.code.into(), &event.data);
            }
        } else if let Some(screen) = &mut self.screen {
            match event.size() {
                Some((cols, rows)) => screen.resize(cols, rows, &mut ()),
                None if event.code == b'o' => screen.feed(&event.data, &mut ()),
                None => (),
            }
        }
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if let (false, Some(head), Some(screen)) = (self.begun, &mut self.head, &self.screen) {
            self.begun = true;
            (head.width, head.height) = screen.size();
            put_json(out, head);
            out.push(b'\n');
            put_line(out, Duration::ZERO, 'o', &screen.redraw());
        }
    }
}

#[cfg(test)]
mod tests;
