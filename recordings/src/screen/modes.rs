//! What a grid does not hold and its dump leaves out: input modes, cursor style, title.

use std::fmt::Write as _;

/// Characters of a title that are kept.
const MAX_TITLE: usize = 256;
/// Switches that are merely on or off, off after a reset: reverse wrap, focus reports, two old mouse encodings,
/// extended reverse wrap, bracketed paste. (Synchronized output, 2026, is for a moment only and would freeze a screen.)
const SWITCHES: [u16; 6] = [45, 1004, 1005, 1015, 1045, 2004];
/// Of [`SWITCHES`], those that xterm.js turns off in a soft reset.
const SOFT: [u16; 3] = [45, 1004, 2004];

/// The modes as the output so far has set them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Modes {
    switches: [bool; SWITCHES.len()],
    /// 9, 1000, 1002 or 1003: one holds at a time.
    mouse: Option<u16>,
    /// 1006 or 1016: one holds at a time. The older ones are switches, since xterm.js passes them by.
    mouse_encoding: Option<u16>,
    application_keypad: bool,
    cursor_style: Option<u16>,
    icon: Option<String>,
    title: Option<String>,
}

impl Modes {
    /// Follows a whole sequence; says whether it is a soft reset.
    pub(super) fn sequence(&mut self, sequence: &str) -> bool {
        match sequence {
            "\u{1b}c" => self.hard_reset(),
            "\u{1b}=" => self.application_keypad = true,
            "\u{1b}>" => self.application_keypad = false,
            _ => {
                let csi = sequence.strip_prefix("\u{1b}[").or_else(|| sequence.strip_prefix('\u{9b}'));
                return csi.is_some_and(|body| self.csi(body));
            }
        }
        false
    }

    /// Follows a whole control string.
    pub(super) fn string(&mut self, string: &str) {
        let osc = string.strip_prefix("\u{1b}]").or_else(|| string.strip_prefix('\u{9d}'));
        let Some((code, text)) = osc.and_then(|osc| osc.split_once(';')) else {
            return;
        };
        let text = text.strip_suffix("\u{1b}\\").unwrap_or(text);
        let title = || Some(text.chars().filter(|c| !c.is_control()).take(MAX_TITLE).collect());
        match code {
            "0" => (self.icon, self.title) = (title(), title()),
            "1" => self.icon = title(),
            "2" => self.title = title(),
            _ => (),
        }
    }

    /// Appends what sets these modes in a terminal that was just reset.
    pub(super) fn redraw(&self, out: &mut String) {
        let on = SWITCHES.iter().zip(self.switches).filter_map(|(&mode, on)| on.then_some(mode));
        for mode in on.chain(self.mouse).chain(self.mouse_encoding) {
            // Writing into a String cannot fail.
            let _ = write!(out, "\x1b[?{mode}h");
        }
        if self.application_keypad {
            out.push_str("\x1b=");
        }
        if let Some(style) = self.cursor_style {
            let _ = write!(out, "\x1b[{style} q");
        }
        match (&self.icon, &self.title) {
            (Some(icon), Some(title)) if icon == title => put_osc(out, 0, title),
            (icon, title) => {
                icon.iter().for_each(|icon| put_osc(out, 1, icon));
                title.iter().for_each(|title| put_osc(out, 2, title));
            }
        }
    }

    fn csi(&mut self, body: &str) -> bool {
        let Some(last) = body.chars().next_back().filter(|last| matches!(last, 'h' | 'l' | 'p' | 'q')) else {
            return false;
        };
        // Controls in the middle of a sequence are executed and are no part of it.
        let body: String = body.chars().filter(|c| !c.is_control()).collect();
        let params = &body[..body.len() - 1];
        match last {
            'p' if params == "!" => {
                self.soft_reset();
                return true;
            }
            'q' => {
                if let Some(style) = params.strip_suffix(' ') {
                    self.style(style);
                }
            }
            'h' | 'l' => {
                let modes = params.strip_prefix('?').into_iter().flat_map(|modes| modes.split(';'));
                for mode in modes.filter_map(|mode| mode.parse().ok()) {
                    self.set(mode, last == 'h');
                }
            }
            _ => (),
        }
        false
    }

    fn style(&mut self, style: &str) {
        match style.parse() {
            Ok(style @ 1..=6) => self.cursor_style = Some(style),
            Ok(0_u16) => self.cursor_style = None,
            Ok(_) => (),
            Err(_) if style.is_empty() => self.cursor_style = None,
            Err(_) => (),
        }
    }

    fn set(&mut self, mode: u16, on: bool) {
        match mode {
            9 | 1000 | 1002 | 1003 => self.mouse = on.then_some(mode),
            1006 | 1016 => self.mouse_encoding = on.then_some(mode),
            66 => self.application_keypad = on,
            _ => {
                if let Some(at) = SWITCHES.iter().position(|&switch| switch == mode) {
                    self.switches[at] = on;
                }
            }
        }
    }

    fn soft_reset(&mut self) {
        for mode in SOFT {
            self.set(mode, false);
        }
        self.application_keypad = false;
        self.cursor_style = None;
    }

    /// All but the titles, which no terminal forgets in a reset.
    fn hard_reset(&mut self) {
        let (icon, title) = (self.icon.take(), self.title.take());
        *self = Self { icon, title, ..Self::default() };
    }
}

fn put_osc(out: &mut String, code: u8, text: &str) {
    let _ = write!(out, "\x1b]{code};{text}\x1b\\");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(sequences: &[&str]) -> String {
        let mut modes = Modes::default();
        for sequence in sequences {
            if sequence.starts_with("\x1b]") { modes.string(sequence) } else { _ = modes.sequence(sequence) }
        }
        let mut out = String::new();
        modes.redraw(&mut out);
        out
    }

    #[test]
    fn what_was_set_is_set_again() {
        assert_eq!(after(&["\x1b[?2004;1004h", "\x1b[?1004l"]), "\x1b[?2004h");
        assert_eq!(after(&["\x1b[?1000;1002;1006h"]), "\x1b[?1002h\x1b[?1006h");
        assert_eq!(after(&["\x1b[?1000h", "\x1b[?1003l"]), "");
        assert_eq!(after(&["\x1b[?1000;1006;1015h"]), "\x1b[?1015h\x1b[?1000h\x1b[?1006h");
        assert_eq!(after(&["\x1b=", "\x1b[5 q"]), "\x1b=\x1b[5 q");
        assert_eq!(after(&["\x1b[?66h", "\u{9b} q"]), "\x1b=");
        assert_eq!(after(&["\x1b[?20\r04h"]), "\x1b[?2004h");
        assert_eq!(after(&["\x1b[?2026h", "\x1b[2004h", "\x1b[=2004h"]), "");
    }

    #[test]
    fn titles_are_bounded_and_hold_no_controls() {
        assert_eq!(after(&["\x1b]0;a\x01b;c\x07"]), "\x1b]0;ab;c\x1b\\");
        assert_eq!(after(&["\x1b]0;a\x07", "\x1b]2;b\x1b\\"]), "\x1b]1;a\x1b\\\x1b]2;b\x1b\\");
        let long = format!("\x1b]2;{}\x07", "é".repeat(1000));
        assert_eq!(after(&[&long]), format!("\x1b]2;{}\x1b\\", "é".repeat(MAX_TITLE)));
    }

    #[test]
    fn resets_forget_what_xterm_js_forgets() {
        let all = ["\x1b[?1004;2004;1003;1006h", "\x1b=", "\x1b[2 q", "\x1b]2;t\x07"];
        assert_eq!(after(&[&all[..], &["\x1bc"]].concat()), "\x1b]2;t\x1b\\");
        assert_eq!(after(&[&all[..], &["\x1b[!p"]].concat()), "\x1b[?1003h\x1b[?1006h\x1b]2;t\x1b\\");
    }
}
