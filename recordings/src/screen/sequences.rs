//! Where control sequences begin and end in decoded text: a terminal's parser without a terminal.

/// A stretch of text, all of one kind.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// Characters to print and controls to execute.
    Plain(&'a str),
    /// A whole sequence that is no string: `ESC c`, `CSI … m`.
    Sequence(&'a str),
    /// A whole control string, its terminator included: OSC, DCS, SOS, PM, APC.
    String(&'a str),
    /// What was begun and given up, through a character that is in it or one that comes next.
    Cancelled(&'a str),
}

/// Makes a piece of its text.
type Kind<'a> = fn(&'a str) -> Piece<'a>;

/// The pieces of a text that begins in the ground state; stops before a sequence that is not finished.
pub(super) struct Pieces<'a> {
    rest: &'a str,
}

impl<'a> Pieces<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        Self { rest: text }
    }

    /// What has not been given out: once there is no more piece, the unfinished sequence.
    pub(super) fn rest(&self) -> &'a str {
        self.rest
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = Piece<'a>;

    fn next(&mut self) -> Option<Piece<'a>> {
        let plain = introducer(self.rest);
        let (end, piece): (usize, Kind<'a>) = match plain {
            0 => sequence(self.rest)?,
            _ => (plain, Piece::Plain),
        };
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        Some(piece(text))
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Escape,
    Intermediate,
    Csi,
    Osc,
    Ignored,
}

/// Where the first sequence begins, or the text ends.
fn introducer(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(found) = bytes[at..].iter().position(|&b| b == 0x1b || b == 0xc2) {
        at += found;
        let opens = matches!(bytes[at..], [0x1b, ..] | [0xc2, 0x90 | 0x98 | 0x9b | 0x9d..=0x9f, ..]);
        if opens {
            return at;
        }
        at += 1;
    }
    bytes.len()
}

/// The end and kind of the sequence at the beginning of `text`; none if it is not finished.
fn sequence(text: &str) -> Option<(usize, Kind<'_>)> {
    let mut inside = match text.chars().next()? {
        '\u{1b}' => Inside::Escape,
        '\u{9b}' => Inside::Csi,
        '\u{9d}' => Inside::Osc,
        _ => Inside::Ignored,
    };
    for (at, c) in text.char_indices().skip(1) {
        let end = at + c.len_utf8();
        let string = matches!(inside, Inside::Osc | Inside::Ignored);
        match (inside, c) {
            (_, '\u{1b}') if string => {
                return match text[end..].chars().next()? {
                    '\\' => Some((end + 1, Piece::String)),
                    _ => Some((at, Piece::Cancelled)),
                };
            }
            (_, '\u{1b}' | '\u{90}' | '\u{98}' | '\u{9b}' | '\u{9d}'..='\u{9f}') => {
                return Some((at, Piece::Cancelled));
            }
            (_, '\u{9c}') if string => return Some((end, Piece::String)),
            (Inside::Osc, '\u{7}') => return Some((end, Piece::String)),
            (_, '\u{18}' | '\u{1a}' | '\u{80}'..='\u{9f}') => return Some((end, Piece::Cancelled)),
            (Inside::Escape, '[') => inside = Inside::Csi,
            (Inside::Escape, ']') => inside = Inside::Osc,
            (Inside::Escape, 'P' | 'X' | '^' | '_') => inside = Inside::Ignored,
            (Inside::Escape | Inside::Intermediate, ' '..='/') => inside = Inside::Intermediate,
            (Inside::Escape | Inside::Intermediate, '0'..='~' | '\u{a0}'..) => {
                return Some((end, Piece::Sequence));
            }
            (Inside::Csi, '@'..='~' | '\u{a0}'..) => return Some((end, Piece::Sequence)),
            // Parameters, a string's content, and controls that are executed in passing.
            _ => (),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> (Vec<Piece<'_>>, &str) {
        let mut pieces = Pieces::of(text);
        let all = pieces.by_ref().collect();
        (all, pieces.rest())
    }

    #[test]
    fn text_and_sequences_are_told_apart() {
        use Piece::{Plain, Sequence, String};
        let (all, rest) = pieces("a\u{85}\x1b[1mż\x1bc\x1b]0;t\x07\u{9b}2J\x1bPq\x1b[\x1b\\\x1b(0z\x1b[3");
        let expected = [
            Plain("a\u{85}"),
            Sequence("\x1b[1m"),
            Plain("ż"),
            Sequence("\x1bc"),
            String("\x1b]0;t\x07"),
            Sequence("\u{9b}2J"),
            Piece::Cancelled("\x1bPq"),
            Piece::Cancelled("\x1b["),
            Sequence("\x1b\\"),
            Sequence("\x1b(0"),
            Plain("z"),
        ];
        assert_eq!(all, expected);
        assert_eq!(rest, "\x1b[3");
    }

    #[test]
    fn a_string_ends_with_its_terminator_only() {
        for (text, end) in [("\x1b]0;a\x1b\\", 7), ("\x1b]0;a\u{9c}", 7), ("\x1bPa\x07b\x1b\\", 7)] {
            assert_eq!(pieces(text), (vec![Piece::String(&text[..end])], ""));
        }
        assert_eq!(pieces("\x1b]0;a\x1b"), (vec![], "\x1b]0;a\x1b"));
        assert_eq!(pieces("\x1b]0;\x1b[").0, [Piece::Cancelled("\x1b]0;")]);
        assert_eq!(pieces("\x1b[3\x18").0, [Piece::Cancelled("\x1b[3\x18")]);
    }
}
