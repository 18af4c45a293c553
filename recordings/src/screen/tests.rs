//! What a screen restores, for any stream cut anywhere.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Something a host may print; often only the beginning of it.
pub(crate) fn vocabulary() -> impl Strategy<Value = Vec<u8>> {
    let words = select(vec![
        "a",
        "hello, world ",
        "\r\n",
        "\n",
        "\t",
        "\x08",
        "żółć",
        "中文字",
        "e\u{301}",
        "\u{85}",
        "xxxxxxxxxxxxxxxxxxxx",
        "\x1b[31m",
        "\x1b[0m",
        "\x1b[1;4;38;5;200m",
        "\x1b[48:2:1:2:3m",
        "\x1b[H",
        "\x1b[5;7H",
        "\x1b[A",
        "\x1b[3B",
        "\x1b[20C",
        "\x1b[2D",
        "\x1b[J",
        "\x1b[2J",
        "\x1b[K",
        "\x1b[1K",
        "\x1b[L",
        "\x1b[2M",
        "\x1b[P",
        "\x1b[3@",
        "\x1b[4X",
        "\x1b[2S",
        "\x1b[T",
        "\x1bM",
        "\x1bD",
        "\x1bE",
        "\x1b7",
        "\x1b8",
        "\x1b[s",
        "\x1b[u",
        "\x1bH",
        "\x1b[3g",
        "\x1b[5b",
        "\x1b[2;4r",
        "\x1b[r",
        "\x1b[?6h",
        "\x1b[?6l",
        "\x1b[?7l",
        "\x1b[?7h",
        "\x1b[4h",
        "\x1b[4l",
        "\x1b[20h",
        "\x1b[?1h",
        "\x1b[?1049h",
        "\x1b[?1049l",
        "\x1b[?47h",
        "\x1b[?1047l",
        "\x1b[?1048h",
        "\x1b[?25l",
        "\x1b[?25h",
        "\x1b(0",
        "\x1b(B",
        "\x1b)0",
        "\x0e",
        "\x0f",
        "\x1b[?2004h",
        "\x1b[?2004l",
        "\x1b[?1000;1006h",
        "\x1b[?1002h",
        "\x1b[?1003l",
        "\x1b[?1004h",
        "\x1b[?1015h",
        "\x1b[?9h",
        "\x1b[?2026h",
        "\x1b[?45h",
        "\x1b[?66h",
        "\x1b=",
        "\x1b>",
        "\x1b[5 q",
        "\x1b[ q",
        "\x1bc",
        "\x1b[!p",
        "\x1b]0;title\x07",
        "\x1b]2;中\x1b\\",
        "\x1b]1;icon\u{9c}",
        "\x1b]8;;http://x\x07",
        "\x1b]52;c;YQ==\x1b\\",
        "\x1bP1$r0m\x1b\\",
        "\x1b_G;a\x1b\\",
        "\x1bX\n\x1b\\",
        "\u{9b}5;5H",
        "\u{9d}2;c1\x07",
        "\u{90}q\u{9c}",
        "\x1b[3\x1b[1m",
        "\x1b[?20\x0804h",
        "\x1b[1\x18",
        "\x1b]0;x\x1b[m",
        "\x1b#8",
        "\x1b[8;10;10t",
        "\x1b[?1049h\x1b[H中",
        "\x1b[99999C",
        "\x7f",
    ]);
    let raw = prop::collection::vec(any::<u8>(), 0..4);
    prop_oneof![
        12 => words.clone().prop_map(|word| word.as_bytes().to_vec()),
        2 => (words, 0..8_usize).prop_map(|(word, len)| word.as_bytes()[..len.min(word.len())].to_vec()),
        1 => raw,
    ]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(vocabulary(), 0..60).prop_map(|parts| parts.concat())
}

fn shown(screen: &Screen) -> String {
    format!("{:?} {:?}", String::from_utf8_lossy(&screen.redraw()), screen.modes)
}

fn fed(cols: u16, rows: u16, bytes: &[u8]) -> Screen {
    let mut screen = Screen::new(cols, rows);
    screen.feed(bytes);
    screen
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_screen_goes_on_from_its_redraw_as_if_nothing_had_been(
        stream in stream(), cut in any::<prop::sample::Index>(), cols in 1..14_u16, rows in 1..8_u16,
        size in prop::option::of((1..14_u16, 1..8_u16)),
    ) {
        let cut = cut.index(stream.len() + 1);
        let mut whole = fed(cols, rows, &stream[..cut]);
        let mut restored = fed(cols, rows, &whole.redraw());
        prop_assert_eq!(shown(&restored), shown(&whole));
        if let Some((cols, rows)) = size {
            whole.resize(cols, rows);
            restored.resize(cols, rows);
            prop_assert_eq!(shown(&restored), shown(&whole));
        }
        whole.feed(&stream[cut..]);
        restored.feed(&stream[cut..]);
        prop_assert_eq!(shown(&restored), shown(&whole));
    }

    #[test]
    fn holding_sequences_back_draws_what_a_terminal_draws_that_gets_all(stream in stream()) {
        // Here a screen does more: see `a_soft_reset_is_xterm_js_s`.
        prop_assume!(!stream.windows(3).any(|part| part == b"[!p"));
        // Ends whatever is not finished.
        let stream = [&stream[..], b"\x18"].concat();
        let mut alone = Terminal::new(10, 5).unwrap();
        alone.feed(Utf8::default().decode(&stream));
        prop_assert_eq!(format!("{:?}", fed(10, 5, &stream).terminal.dump()), format!("{:?}", alone.dump()));
    }

    #[test]
    fn where_the_stream_is_cut_changes_nothing(
        stream in stream(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.sort_unstable();
        let mut screen = Screen::new(10, 5);
        let mut from = 0;
        for cut in cuts {
            screen.feed(&stream[from..cut]);
            from = cut;
        }
        screen.feed(&stream[from..]);
        prop_assert_eq!(shown(&screen), shown(&fed(10, 5, &stream)));
    }
}

#[test]
fn an_unfinished_character_is_handed_on() {
    let screen = fed(20, 3, "ab中".as_bytes().split_last().unwrap().1);
    assert_eq!(screen.pending(), &"中".as_bytes()[..2]);
    let redraw = screen.redraw();
    assert!(redraw.ends_with(screen.pending()));
    let mut other = fed(20, 3, &redraw);
    other.feed(&"中".as_bytes()[2..]);
    assert_eq!(shown(&other), shown(&fed(20, 3, "ab中".as_bytes())));
}

#[test]
fn an_unfinished_sequence_is_handed_on_byte_for_byte() {
    for begun in ["\x1b", "\x1b[?1$", "\x1bP+q54", "\x1b]52;c;YWJj", "\x1b]0;half\x1b", "\x1b[>4;"] {
        let redraw = fed(20, 3, format!("text{begun}").as_bytes()).redraw();
        assert!(redraw.ends_with(begun.as_bytes()), "{begun:?}: {}", String::from_utf8_lossy(&redraw));
    }
}

#[test]
fn a_gap_ends_what_was_unfinished() {
    let mut screen = fed(20, 3, b"a\x1b]0;title \xe4\xb8");
    screen.lost();
    screen.feed(b"b");
    assert_eq!(shown(&screen), shown(&fed(20, 3, "a\u{fffd}b".as_bytes())));
}

#[test]
fn an_endless_sequence_takes_no_endless_space() {
    for (begin, end) in
        [("\x1b]2;", "\x1b\\"), ("\x1bP", "\x1b\\"), ("\x1b[", "H"), ("\x1b[", "\x18"), ("\x1b]0;", "\x07")]
    {
        let content = "1".repeat(3 * MAX_SEQUENCE);
        let all = format!("x{begin}{content}{end}y");
        let mut screen = Screen::new(20, 3);
        for piece in all.as_bytes().chunks(1000) {
            screen.feed(piece);
            assert!(screen.held.len() <= MAX_SEQUENCE + 2);
        }
        assert_eq!(shown(&screen), shown(&fed(20, 3, all.as_bytes())));
    }
}

#[test]
fn a_soft_reset_is_xterm_js_s() {
    let redraw = fed(20, 3, b"\x1b[?1h\x1b[?7l\x1b[?2004h\x1b[!p").redraw();
    assert_eq!(redraw, Screen::new(20, 3).redraw());
}

#[test]
fn sizes_are_kept_within_the_protocols() {
    assert_eq!(Screen::new(0, 5000).size(), (1, 1000));
    let mut screen = Screen::new(80, 24);
    screen.resize(120, 0);
    assert_eq!(screen.size(), (120, 1));
}

#[test]
fn true_colours_are_written_as_every_terminal_reads_them() {
    let mut screen = Screen::new(40, 3);
    screen.feed(b"\x1b[1;38;2;121;87;88mx\x1b[48;2;1;2;3my\x1b[0m 38:2:1:2:3 \x1b[38;5;200mz");
    let redraw = String::from_utf8(screen.redraw()).unwrap();
    assert!(redraw.contains("38;2;121;87;88") && redraw.contains("48;2;1;2;3"), "{redraw:?}");
    assert!(redraw.contains(" 38:2:1:2:3 "), "what is text stays text: {redraw:?}");
    let mut again = Screen::new(40, 3);
    again.feed(redraw.as_bytes());
    assert_eq!(again.redraw(), screen.redraw());
}
