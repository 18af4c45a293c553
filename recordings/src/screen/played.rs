//! The screen of a player of recordings: `avt` to the letter, with the modes that only a real terminal has use for.

use avt::{Observer, Terminal};

use super::{Modes, Piece, Pieces, bounded, shortened};

/// What a player shows after some decoded output. Unlike [`super::Screen`] it acts on what is unfinished as a player
/// does, at once, and can be watched.
pub(crate) struct Played {
    terminal: Terminal,
    modes: Modes,
    /// A sequence that is not finished; the modes have not seen it.
    held: String,
}

impl Played {
    /// A blank screen; columns and rows are brought within 1..=1000.
    pub(crate) fn new(cols: u16, rows: u16) -> Self {
        let (cols, rows) = bounded(cols, rows);
        let Ok(terminal) = Terminal::new(cols, rows) else {
            unreachable!("both are at least 1");
        };
        Self { terminal, modes: Modes::default(), held: String::new() }
    }

    /// Takes the next output and shows `observer` what it does.
    pub(crate) fn feed<O: Observer>(&mut self, text: &str, observer: O) -> O::Output {
        if self.held.is_empty() {
            self.held = follow(&mut self.modes, text);
        } else {
            let mut joined = std::mem::take(&mut self.held);
            joined.push_str(text);
            self.held = follow(&mut self.modes, &joined);
        }
        self.terminal.feed_with(text, observer)
    }

    /// Changes the size as the host's terminal did, brought within 1..=1000.
    pub(crate) fn resize<O: Observer>(&mut self, cols: u16, rows: u16, observer: O) -> O::Output {
        let (cols, rows) = bounded(cols, rows);
        self.terminal.resize_with(cols, rows, observer)
    }

    /// What makes a freshly reset terminal of the same size show this, and go on with the output.
    pub(crate) fn redraw(&self) -> String {
        let mut text = String::new();
        self.modes.redraw(&mut text);
        text.push_str(&self.terminal.dump());
        text
    }

    /// Columns and rows.
    pub(crate) fn size(&self) -> (u16, u16) {
        let (cols, rows) = self.terminal.size();
        (cols as u16, rows as u16)
    }

    /// The grid.
    pub(crate) fn terminal(&self) -> &Terminal {
        &self.terminal
    }
}

/// Shows the modes what is whole; gives back what is not.
fn follow(modes: &mut Modes, text: &str) -> String {
    let mut pieces = Pieces::of(text);
    for piece in pieces.by_ref() {
        match piece {
            Piece::Sequence(sequence) => _ = modes.sequence(&shortened(sequence)),
            Piece::String(string) => modes.string(&shortened(string)),
            Piece::Plain(_) | Piece::Cancelled(_) => (),
        }
    }
    shortened(pieces.rest()).into_owned()
}
