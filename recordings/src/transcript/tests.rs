//! What was on the screen, line by line.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;
use crate::screen::Played;
use crate::screen::tests::vocabulary;

/// The lines of what is said, a second after each other.
fn lines(size: (u16, u16), said: &[&str]) -> Vec<(u64, String)> {
    let (mut screen, mut writing) = (Played::new(size.0, size.1), Writing::default());
    for (second, text) in said.iter().enumerate() {
        writing.tick(Duration::from_secs(second as u64));
        screen.feed(text, &mut writing);
    }
    writing.finish(screen.terminal());
    writing.drain().map(|(at, line)| (at.as_secs(), line)).collect()
}

fn expect(lines: &[(u64, String)], expected: &[(u64, &str)]) {
    let lines: Vec<_> = lines.iter().map(|(at, line)| (*at, line.as_str())).collect();
    assert_eq!(lines, expected);
}

#[test]
fn a_line_has_the_time_it_was_written_not_the_time_it_scrolled_away() {
    let found = lines((20, 3), &["one\r\n", "two\r\n", "three\r\n", "fo", "ur\r\n", "five"]);
    expect(&found, &[(0, "one"), (1, "two"), (2, "three"), (4, "four"), (5, "five")]);
}

#[test]
fn a_line_wider_than_the_screen_is_one_and_what_is_cleared_stays_known() {
    let found = lines((4, 3), &["abcdefgh", "ij\r\n", "\x1b[H\x1b[2J", "new", "\x1bc", "newer"]);
    expect(&found, &[(1, "abcdefghij"), (3, "new"), (5, "newer")]);
}

#[test]
fn what_is_drawn_on_the_alternate_screen_is_not_in_it() {
    let found = lines((20, 3), &["$ vim\r\n", "\x1b[?1049h\x1b[Hsecret text", "\x1b[?1049l", "$ exit"]);
    expect(&found, &[(0, "$ vim"), (3, "$ exit")]);
}

#[test]
fn an_endless_line_takes_no_endless_space() {
    let endless = "中".repeat(10_000);
    let found = lines((80, 3), &[&endless, &endless]);
    assert_eq!(found.len(), 1);
    assert!(found[0].1.len() <= MAX_LINE && found[0].1.len() > MAX_LINE - 4);
}

#[test]
fn a_delete_character_is_no_text() {
    expect(&lines((20, 3), &["a\u{7f}b"]), &[(0, "ab")]);
}

#[test]
fn a_search_minds_neither_case_nor_script_and_stops() {
    let line = |t, line: &str| ScreenLine { t, line: line.into() };
    let all = [line(0.5, "Permission DENIED"), line(1.0, "Żółć i 中文"), line(2.0, "permission denied")];
    assert_eq!(search(&all, "permission denied", 9), [all[0].clone(), all[2].clone()]);
    assert_eq!(search(&all, "PERMISSION", 1), [all[0].clone()]);
    assert_eq!(search(&all, "żÓŁĆ", 9), [all[1].clone()]);
    assert_eq!(search(&all, "中文", 9), [all[1].clone()]);
    assert_eq!(search(&all, "  ", 9), []);
    assert_eq!(search(&all, "nothing", 9), []);
}

#[test]
fn a_transcript_reads_back_line_by_line() {
    for count in 0..3 {
        let (mut encoder, mut json) = (Encoder::default(), Vec::new());
        for n in 0..count {
            encoder.line(Duration::from_millis(n * 1500), format!("\"[line {n}]\","), &mut json);
        }
        encoder.finish(&mut json);
        let whole: Vec<ScreenLine> = serde_json::from_slice(&json).unwrap();
        assert_eq!(whole.len() as u64, count);
        let single: Vec<_> = json.split(|byte| *byte == b'\n').filter_map(parse).collect();
        assert_eq!(single, whole);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_lines_are_avts_and_hold_no_controls(
        said in prop::collection::vec(vocabulary(), 0..80), cols in 1..14_u16, rows in 1..8_u16,
    ) {
        let text = String::from_utf8_lossy(&said.concat()).replace('\u{7f}', "");
        let found = lines((cols, rows), &[&text]);
        let mut terminal = Terminal::new(cols.into(), rows.into()).unwrap();
        let mut transcript = avt::observer::Transcript::new();
        let mut expected = terminal.feed_with(&*text, &mut transcript);
        expected.extend(transcript.finish(&terminal));
        let found: Vec<_> = found.into_iter().map(|(_, line)| line).collect();
        for line in &found {
            prop_assert!(!line.contains(char::is_control), "{line:?}");
        }
        prop_assert_eq!(found, expected);
    }
}
