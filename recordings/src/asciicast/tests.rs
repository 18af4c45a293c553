//! The cast as readers take it: the table of quirks, and laws over any stream.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::journal::Facts;

fn header() -> Header {
    Header {
        facts: Facts {
            asset: "web-1".into(),
            cols: 80,
            rows: 24,
            session: "s1".into(),
            started: "2026-11-23T10:00:00.000Z".into(),
            user: "alice".into(),
        },
        timestamp: 1_795_428_000,
        title: None,
        term: "xterm-256color".into(),
        shell: None,
        records_input: true,
    }
}

fn output(bytes: &[u8]) -> Kind {
    Kind::Output { offset: 0, bytes: Bytes::copy_from_slice(bytes) }
}

fn input(bytes: &[u8], echo: bool) -> Kind {
    Kind::Input { offset: 0, bytes: Bytes::copy_from_slice(bytes), echo }
}

fn resize(cols: u16, rows: u16) -> Kind {
    Kind::Resize { offset: 0, cols, rows }
}

fn encode(header: &Header, events: &[(u64, Kind)]) -> String {
    let (mut encoder, mut out) = Encoder::new(header);
    let mut last = Duration::ZERO;
    for (micros, kind) in events {
        last = Duration::from_micros(*micros);
        encoder.event(kind, last, &mut out);
    }
    encoder.finish(last, &mut out);
    String::from_utf8(out).unwrap()
}

/// The lines after the header.
fn lines(events: &[(u64, Kind)]) -> Vec<String> {
    encode(&header(), events).lines().skip(1).map(str::to_owned).collect()
}

#[test]
fn the_header_line_is_what_players_expect_and_no_more() {
    let long = format!("root@web-1\u{7}\n{}", "é".repeat(200));
    let header = Header { title: Some(long), shell: Some("/bin/bash".into()), ..header() };
    let cast = encode(&header, &[]);
    let first: Value = serde_json::from_str(cast.lines().next().unwrap()).unwrap();
    let title = first["title"].as_str().unwrap();
    assert_eq!(title.chars().count(), 128);
    assert!(title.starts_with("root@web-1éé"));
    assert_eq!(first["version"], 2);
    assert_eq!((&first["width"], &first["height"]), (&80.into(), &24.into()));
    assert!(cast.contains("\"timestamp\":1795428000,"), "not an integer");
    assert_eq!(first["env"], serde_json::json!({"TERM": "xterm-256color", "SHELL": "/bin/bash"}));
    assert_eq!(first.as_object().unwrap().len(), 6);
}

#[test]
fn nothing_unknown_is_written_as_null() {
    let cast = encode(&header(), &[]);
    assert!(!cast.contains("null") && !cast.contains("title") && !cast.contains("SHELL"), "{cast}");
}

#[test]
fn a_session_that_printed_nothing_still_has_an_event() {
    assert_eq!(lines(&[]), [r#"[0.0,"o",""]"#]);
    assert_eq!(lines(&[(2_500_000, Kind::Exit(crate::journal::Exit::default()))]), [r#"[2.5,"o",""]"#]);
    assert_eq!(lines(&[(7, output(b""))]), [r#"[0.000007,"o",""]"#]);
}

#[test]
fn times_are_plain_decimals_without_needless_zeros() {
    let times = [(0, "0.0"), (12_300_000, "12.3"), (1_000_001, "1.000001"), (100_000_000_000, "100000.0")];
    for (micros, text) in times {
        assert_eq!(lines(&[(micros, output(b"x"))]), [format!(r#"[{text},"o","x"]"#)]);
    }
}

#[test]
fn a_clock_that_goes_back_stands_still_in_the_cast() {
    let got = lines(&[(2_000_000, output(b"a")), (1_000_000, output(b"b")), (3_000_000, output(b"c"))]);
    assert_eq!(got, [r#"[2.0,"o","a"]"#, r#"[2.0,"o","b"]"#, r#"[3.0,"o","c"]"#]);
}

#[test]
fn a_character_cut_in_two_comes_whole_with_its_second_half() {
    let got = lines(&[(1, output(b"\xc5")), (2, output(b"\xbc\xc3\xb3\xc5")), (3, output(b"\x82\xc4\x87"))]);
    assert_eq!(got, [r#"[0.000002,"o","żó"]"#, r#"[0.000003,"o","łć"]"#]);
}

#[test]
fn what_is_no_utf_8_becomes_replacement_characters() {
    let (bytes, text) = (b"\x83\x23\xf0\x90\x80\xc0\x21", "\u{fffd}#\u{fffd}\u{fffd}!");
    assert_eq!(lines(&[(0, output(bytes))]), [format!(r#"[0.0,"o","{text}"]"#)]);
    for (n, _) in bytes.iter().enumerate() {
        let joined = text_of(&[bytes[..n].to_vec(), bytes[n..].to_vec()]);
        assert_eq!(joined, text, "cut at {n}");
    }
}

#[test]
fn a_character_never_finished_shows_at_the_end() {
    assert_eq!(lines(&[(5, output(b"ab\xe2\x82"))]), [r#"[0.000005,"o","ab"]"#, r#"[0.000005,"o","�"]"#]);
    assert_eq!(lines(&[(5, output(b"\xe2"))]), [r#"[0.000005,"o","�"]"#]);
}

#[test]
fn controls_are_escaped_and_the_rest_is_raw() {
    let got = lines(&[(0, output("\u{0}\u{1b}[1m\"\\\r\n\u{7f}\u{9b}\u{2028}中".as_bytes()))]);
    assert_eq!(got, [format!(r#"[0.0,"o","\u0000\u001b[1m\"\\\r\n{}中"]"#, "\u{7f}\u{9b}\u{2028}")]);
}

#[test]
fn only_real_changes_of_size_are_written() {
    let storm = [(80, 24), (100, 30), (100, 30), (0, 30), (100, 0), (80, 24)];
    let events: Vec<_> = storm.iter().map(|&(cols, rows)| (0, resize(cols, rows))).collect();
    assert_eq!(lines(&events), [r#"[0.0,"r","100x30"]"#, r#"[0.0,"r","80x24"]"#]);
}

#[test]
fn input_is_shown_only_when_asked_for_and_never_without_echo() {
    let typed = [(0, input(b"ls\r", true)), (1, input(b"s3", false)), (2, input(b"", false))];
    let got = lines(&typed);
    assert_eq!(got, [r#"[0.0,"i","ls\r"]"#, r#"[0.000001,"i","•"]"#, r#"[0.000002,"i","•"]"#]);
    let quiet = Header { records_input: false, ..header() };
    let cast = encode(&quiet, &typed);
    assert!(!cast.contains("\"i\""), "{cast}");
}

#[test]
fn a_gap_ends_the_character_before_it_and_is_marked() {
    let got = lines(&[(0, output(b"a\xe4")), (1, Kind::Gap { lost: 12 }), (2, output(b"\xb8b"))]);
    assert_eq!(
        got,
        [
            r#"[0.0,"o","a"]"#,
            r#"[0.000001,"o","�"]"#,
            r#"[0.000001,"m","12 bytes of output lost"]"#,
            r#"[0.000002,"o","�b"]"#
        ]
    );
}

#[test]
fn markers_are_short_and_printable() {
    let got =
        lines(&[(0, Kind::Marker(format!("joined\n{}", "x".repeat(200)))), (0, Kind::Marker("\n".into()))]);
    assert_eq!(got, [format!(r#"[0.0,"m","joined{}"]"#, "x".repeat(93))]);
}

/// All the `o` text of a cast over `chunks`.
fn text_of(chunks: &[Vec<u8>]) -> String {
    let events: Vec<_> = chunks.iter().enumerate().map(|(n, bytes)| (n as u64, output(bytes))).collect();
    lines(&events)
        .iter()
        .map(|line| serde_json::from_str::<(f64, String, String)>(line).unwrap())
        .filter(|(_, code, _)| code == "o")
        .map(|(_, _, text)| text)
        .collect()
}

proptest! {
    #[test]
    fn the_text_does_not_depend_on_where_the_stream_was_cut(
        chunks in vec(prop_oneof![vec(any::<u8>(), 0..40), "\\PC{0,12}".prop_map(String::into_bytes)], 0..12),
        cuts in vec(any::<prop::sample::Index>(), 0..8),
    ) {
        let whole = chunks.concat();
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(whole.len() + 1)).collect();
        cuts.extend([0, whole.len()]);
        cuts.sort_unstable();
        let other: Vec<_> = cuts.windows(2).map(|pair| whole[pair[0]..pair[1]].to_vec()).collect();
        let expected = String::from_utf8_lossy(&whole);
        prop_assert_eq!(text_of(&chunks), expected.clone());
        prop_assert_eq!(text_of(&other), expected);
    }

    #[test]
    fn every_line_is_json_with_three_parts_and_no_time_goes_back(
        events in vec((any::<u32>(), 0..5u8, vec(any::<u8>(), 0..30), any::<bool>()), 0..30),
    ) {
        let events: Vec<_> = events
            .into_iter()
            .map(|(at, what, bytes, echo)| (u64::from(at), match what {
                0 => output(&bytes),
                1 => input(&bytes, echo),
                2 => resize(u16::from(bytes.first().copied().unwrap_or(0)), 9),
                3 => Kind::Marker(String::from_utf8_lossy(&bytes).into_owned()),
                _ => Kind::Gap { lost: 3 },
            }))
            .collect();
        let cast = encode(&header(), &events);
        prop_assert!(cast.ends_with('\n') && !cast.contains("\n\n"));
        let mut last = 0.0;
        let mut count = 0;
        for line in cast.lines().skip(1) {
            let (at, code, _): (f64, String, String) = serde_json::from_str(line).unwrap();
            prop_assert!(at >= last && ["o", "i", "r", "m"].contains(&code.as_str()), "{}", line);
            let plain = line[1..].bytes().take_while(|b| *b != b',').all(|b| b.is_ascii_digit() || b == b'.');
            prop_assert!(plain, "{}", line);
            last = at;
            count += 1;
        }
        prop_assert!(count > 0);
    }
}
