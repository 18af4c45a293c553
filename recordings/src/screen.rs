//! A screen in memory: bytes in, and out the bytes that redraw it; no file, no clock.
//!
//! The grid is `avt`'s. What its dump leaves out lies in [`Modes`], and it is never fed a sequence before that is
//! whole, so that what is unfinished can be handed on byte for byte.

use std::borrow::Cow;

use avt::Terminal;

use crate::utf8::Utf8;

mod modes;
mod played;
mod sequences;

use modes::Modes;
pub(crate) use played::Played;
use sequences::{Piece, Pieces};

/// Characters kept of one sequence besides its end; the rest of a longer one is left out.
const MAX_SEQUENCE: usize = 4096;
/// As in the protocol: more is no terminal's size, only a waste of memory.
const MAX_SIZE: u16 = 1000;

/// What a terminal shows after some output.
pub struct Screen {
    terminal: Terminal,
    modes: Modes,
    decoder: Utf8,
    /// A sequence that is not finished; the terminal has not seen it.
    held: String,
}

impl Screen {
    /// A blank screen; columns and rows are brought within 1..=1000.
    pub fn new(cols: u16, rows: u16) -> Self {
        let (cols, rows) = bounded(cols, rows);
        let Ok(terminal) = Terminal::new(cols, rows) else {
            unreachable!("both are at least 1");
        };
        Self { terminal, modes: Modes::default(), decoder: Utf8::default(), held: String::new() }
    }

    /// Takes the next raw output, cut anywhere.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Self { terminal, modes, decoder, held } = self;
        let decoded = decoder.decode(bytes);
        if held.is_empty() {
            *held = take(terminal, modes, decoded);
        } else {
            held.push_str(decoded);
            *held = take(terminal, modes, held);
        }
    }

    /// Changes the size as the host's terminal did, brought within 1..=1000.
    pub fn resize(&mut self, cols: u16, rows: u16) {
        let (cols, rows) = bounded(cols, rows);
        self.terminal.resize(cols, rows);
    }

    /// Output is missing here: gives up a character or sequence that was not finished.
    pub fn lost(&mut self) {
        self.held.clear();
        if self.decoder.give_up() {
            self.terminal.feed(char::REPLACEMENT_CHARACTER);
        }
    }

    /// Bytes that make a freshly reset terminal of the same size show this, and go on with the raw stream.
    pub fn redraw(&self) -> Vec<u8> {
        let mut text = String::new();
        self.modes.redraw(&mut text);
        push_dump(&self.terminal.dump(), &mut text);
        text.push_str(&self.held);
        let mut bytes = text.into_bytes();
        bytes.extend_from_slice(self.pending());
        bytes
    }

    /// The end of [`Screen::redraw`] that is not text: the bytes of a character that is not finished, 3 at most.
    pub fn pending(&self) -> &[u8] {
        self.decoder.held()
    }

    /// Columns and rows.
    pub fn size(&self) -> (u16, u16) {
        let (cols, rows) = self.terminal.size();
        (cols as u16, rows as u16)
    }
}

/// avt writes true colours as `38:2:r:g:b`, in which xterm.js takes the first number for a colour space. The older form
/// with semicolons all terminals read alike.
fn push_dump(dump: &str, text: &mut String) {
    let mut pieces = Pieces::of(dump);
    for piece in pieces.by_ref() {
        match piece {
            Piece::Sequence(colours) if colours.ends_with('m') && colours.contains("8:2:") => {
                let settings = colours.split_inclusive(';').map(|setting| {
                    let true_colour = setting.contains("38:2:") || setting.contains("48:2:");
                    if true_colour { setting.replace(':', ";") } else { setting.to_owned() }
                });
                text.extend(settings);
            }
            Piece::Plain(it) | Piece::Sequence(it) | Piece::String(it) | Piece::Cancelled(it) => {
                text.push_str(it);
            }
        }
    }
    text.push_str(pieces.rest());
}

/// Feeds what is whole; gives back what is not.
fn take(terminal: &mut Terminal, modes: &mut Modes, text: &str) -> String {
    let mut pieces = Pieces::of(text);
    for piece in pieces.by_ref() {
        match piece {
            Piece::Plain(plain) => terminal.feed(plain),
            Piece::Sequence(sequence) => {
                let sequence = shortened(sequence);
                terminal.feed(&*sequence);
                if modes.sequence(&sequence) {
                    // What xterm.js resets besides.
                    terminal.feed("\x1b[?1l\x1b[?7h");
                }
            }
            // Drawn nowhere.
            Piece::String(string) => modes.string(&shortened(string)),
            // Controls in it are executed, and the parser must be back in its ground state: see `redraw`.
            Piece::Cancelled(part) => terminal.feed([&*shortened(part), "\x18"]),
        }
    }
    shortened(pieces.rest()).into_owned()
}

/// The sequence, or part of one, in bounded space. However often it is cut, shortened and gone on with: the same.
fn shortened(sequence: &str) -> Cow<'_, str> {
    let Some((end, _)) = sequence.char_indices().nth(MAX_SEQUENCE) else {
        return Cow::Borrowed(sequence);
    };
    let last = sequence.chars().next_back().map_or(0, char::len_utf8);
    let last = if sequence.ends_with("\x1b\\") { 2 } else { last };
    Cow::Owned([&sequence[..end], &sequence[(sequence.len() - last).max(end)..]].concat())
}

fn bounded(cols: u16, rows: u16) -> (usize, usize) {
    (cols.clamp(1, MAX_SIZE).into(), rows.clamp(1, MAX_SIZE).into())
}

#[cfg(test)]
pub(crate) mod tests;
