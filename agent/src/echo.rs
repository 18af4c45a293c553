//! Whether what is typed is shown, by offset in the input: told to a bastion that records input, and told again to
//! the next socket. Pure; the terminal is asked elsewhere.

use std::collections::VecDeque;

use openapi::frames::{Frame, INPUT_WINDOW};

use crate::platform::{Echoing, ends_line};

/// How many changes are kept: what lies before them the bastion takes for hidden.
const KEPT: usize = 32;

/// What a session tells of its terminal's echo.
///
/// INVARIANT: what is told of a byte was seen at the moment the terminal took it, and in doubt is that it was hidden.
#[derive(Debug, Default)]
pub struct Echo {
    /// From which offset on; the last holds now.
    changes: VecDeque<(u64, bool)>,
    /// The shell got a line from its editor, and has not begun another for all that is known: what is typed now may be
    /// for a program that hides it.
    entered: bool,
    /// A change that the socket was not told of yet.
    news: Option<(u64, bool)>,
}

impl Echo {
    /// The terminal took `bytes`, the first of them at `offset`, while it did so with them.
    pub fn took(&mut self, offset: u64, bytes: &[u8], seen: Echoing) {
        let on = match seen {
            Echoing::Shown => true,
            Echoing::Edited => !self.entered,
            Echoing::Hidden => false,
        };
        self.entered |= seen == Echoing::Edited && bytes.iter().copied().any(ends_line);
        if self.changes.back().is_some_and(|(_, last)| *last == on) {
            return;
        }
        // The bastion has all but the last window's.
        while self.changes.get(1).is_some_and(|(next, _)| next + INPUT_WINDOW < offset)
            || self.changes.len() >= KEPT
        {
            self.changes.pop_front();
        }
        self.changes.push_back((offset, on));
        self.news = Some((offset, on));
    }

    /// The terminal printed this: an editor that got a line ends it before the shell acts on it.
    pub fn printed(&mut self, bytes: &[u8]) {
        self.entered &= !bytes.contains(&b'\n');
    }

    /// What the present socket is to be told now.
    pub fn news(&mut self) -> Option<Frame> {
        self.news.take().map(|(offset, on)| Frame::Echo { offset, on })
    }

    /// What a new socket is to be told that holds input acknowledged up to `from`.
    pub fn since(&mut self, from: u64) -> impl Iterator<Item = Frame> {
        self.news = None;
        let first = self.changes.partition_point(|(offset, _)| *offset <= from).saturating_sub(1);
        self.changes.range(first..).map(|(offset, on)| Frame::Echo { offset: *offset, on: *on })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(echo: &mut Echo, from: u64) -> Vec<(u64, bool)> {
        let told = |frame| if let Frame::Echo { offset, on } = frame { (offset, on) } else { unreachable!() };
        echo.since(from).map(told).collect()
    }

    #[test]
    fn a_change_is_told_once_and_again_to_who_has_not_got_so_far() {
        let mut echo = Echo::default();
        for (offset, seen) in
            [(0, Echoing::Shown), (1, Echoing::Shown), (2, Echoing::Hidden), (3, Echoing::Hidden)]
        {
            echo.took(offset, b"x", seen);
            let news = [0, 2].contains(&offset).then_some(Frame::Echo { offset, on: offset == 0 });
            assert_eq!(echo.news(), news);
        }
        echo.took(4, b"x", Echoing::Edited);
        assert_eq!(told(&mut echo, 0), [(0, true), (2, false), (4, true)]);
        assert_eq!(told(&mut echo, 1), [(0, true), (2, false), (4, true)]);
        assert_eq!(told(&mut echo, 2), [(2, false), (4, true)]);
        assert_eq!(told(&mut echo, 9), [(4, true)]);
    }

    #[test]
    fn what_follows_a_line_is_hidden_until_the_editor_has_ended_it() {
        let mut echo = Echo::default();
        echo.took(0, b"sudo id\r", Echoing::Edited);
        echo.took(8, b"secret\r", Echoing::Edited);
        echo.printed(b"sudo id");
        echo.took(15, b"x", Echoing::Edited);
        assert_eq!(told(&mut echo, 0), [(0, true), (8, false)]);
        echo.printed(b"\r\n");
        echo.took(16, b"x", Echoing::Edited);
        assert_eq!(told(&mut echo, 16), [(16, true)]);
        echo.took(17, b"\r", Echoing::Edited);
        echo.took(18, b"typed into a program that shows it", Echoing::Shown);
        assert_eq!(told(&mut echo, 20), [(16, true)]);
    }

    #[test]
    fn what_is_kept_is_bounded_and_covers_a_window() {
        let mut echo = Echo::default();
        for offset in 0..10_000 {
            echo.took(offset, b"x", if offset % 2 == 0 { Echoing::Shown } else { Echoing::Hidden });
        }
        assert_eq!(told(&mut echo, 0).len(), KEPT);
        echo.took(10_000 + 2 * INPUT_WINDOW, b"x", Echoing::Shown);
        echo.took(10_001 + 2 * INPUT_WINDOW, b"x", Echoing::Hidden);
        assert_eq!(told(&mut echo, 0).len(), 3);
    }
}
