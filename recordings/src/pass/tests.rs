//! One pass over a cast: segments, transcript and commands.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use avt::Terminal;
use bytes::Bytes;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::asciicast;
use crate::journal::{Facts, Header, Kind};
use crate::screen::tests::vocabulary;
use crate::transcript::{ScreenLine, parse};

/// The cast of some events, each with the milliseconds since the one before.
fn cast(size: (u16, u16), events: &[(u64, Kind)]) -> Vec<u8> {
    let facts = Facts {
        asset: "web-1".into(),
        cols: size.0,
        rows: size.1,
        session: "s1".into(),
        started: "2026-11-23T12:00:00Z".into(),
        user: "alice".into(),
    };
    let header =
        Header { facts, timestamp: 1, title: None, term: "xterm".into(), shell: None, records_input: true };
    let (mut encoder, mut out) = asciicast::Encoder::new(&header);
    let mut at = Duration::ZERO;
    for (after, kind) in events {
        at += Duration::from_millis(*after);
        encoder.event(kind, at, &mut out);
    }
    encoder.finish(at, &mut out);
    out
}

fn said(text: &str) -> Kind {
    Kind::Output { offset: 0, bytes: Bytes::copy_from_slice(text.as_bytes()) }
}

struct Whole {
    index: Value,
    segments: Vec<Value>,
    lines: Vec<ScreenLine>,
    commands: Vec<Command>,
}

/// All that one pass makes, whatever the pieces it gets the cast in.
fn passed(cast: &[u8], segment_bytes: usize, piece: usize) -> Whole {
    let (mut pass, mut made) = (Pass::new(Some(segment_bytes)), Made::default());
    for piece in cast.chunks(piece) {
        pass.push(piece, &mut made).unwrap();
    }
    let finished = pass.finish(&mut made).unwrap();
    let index = serde_json::from_slice(&finished.index.unwrap()).unwrap();
    let segments =
        made.segments.iter().map(|segment| serde_json::from_slice(&segment.json).unwrap()).collect();
    for segment in &made.segments[1..] {
        let line = cast[segment.begin.at as usize..].split(|byte| *byte == b'\n').next().unwrap();
        let at = asciicast::read::line(line).unwrap().at;
        assert_eq!(at.as_micros(), segment.begin.start.into(), "a segment's line lies where it says");
    }
    let _: Vec<ScreenLine> = serde_json::from_slice(&made.transcript).unwrap();
    let lines = made.transcript.split(|byte| *byte == b'\n').filter_map(parse).collect();
    Whole { index, segments, lines, commands: finished.commands }
}

fn events(json: &Value) -> &Vec<Value> {
    json["events"].as_array().unwrap()
}

/// The player's own rules (asciinema-player 3.18, `segmented.js`).
fn obeys_the_player(whole: &Whole) {
    let time = |value: &Value| value.as_f64().unwrap();
    let (index, duration) = (&whole.index, time(&whole.index["duration"]));
    assert_eq!(index["version"], 1);
    assert!(index["term"]["cols"].as_u64().unwrap() > 0 && index["term"]["rows"].as_u64().unwrap() > 0);
    let places = index["segments"].as_array().unwrap();
    assert_eq!(places.len(), whole.segments.len());
    assert_eq!(places[0]["start"], 0.0);
    let mut markers = Vec::new();
    for (n, (place, segment)) in places.iter().zip(&whole.segments).enumerate() {
        assert_eq!(place["url"], format!("{n}.json"));
        let start = time(&place["start"]);
        let next = places.get(n + 1).map(|next| time(&next["start"]));
        let all = events(segment);
        assert!(!all.is_empty(), "segment {n} is empty");
        if n > 0 {
            assert!(start > time(&places[n - 1]["start"]) && start < duration, "start {start} of {duration}");
            assert_eq!(all[0][0], place["start"]);
        }
        let mut before = start;
        for event in all {
            let at = time(&event[0]);
            assert!(at >= before && next.map_or(at <= duration, |next| at < next), "{at} in {n}");
            before = at;
            if event[1] == "m" {
                markers.push(event[0].clone());
            }
        }
        assert!(segment["snapshot"]["cols"].as_u64().unwrap() > 0 && segment["snapshot"]["init"].is_string());
    }
    assert_eq!(events(whole.segments.last().unwrap()).last().unwrap()[0], index["duration"]);
    let listed = index["markers"].as_array().unwrap();
    assert_eq!(listed.iter().map(|marker| marker[0].clone()).collect::<Vec<_>>(), markers);
    for marker in listed {
        assert!(marker[1].as_str().unwrap().chars().count() < 100);
    }
}

fn replayed(terminal: &mut Terminal, events: &[Value]) {
    for event in events {
        let data = event[2].as_str().unwrap();
        if event[1] == "o" {
            terminal.feed(data);
        } else if event[1] == "r" {
            let (cols, rows) = data.split_once('x').unwrap();
            terminal.resize(cols.parse().unwrap(), rows.parse().unwrap());
        }
    }
}

fn holds(cast: &[u8], whole: &Whole) {
    obeys_the_player(whole);
    let lines: Vec<Value> = cast
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    let joined: Vec<_> = whole.segments.iter().flat_map(events).cloned().collect();
    assert_eq!(joined, lines[1..], "the segments' events are the cast's");
    let size = |json: &Value, cols, rows| {
        (json[cols].as_u64().unwrap() as usize, json[rows].as_u64().unwrap() as usize)
    };
    let (cols, rows) = size(&lines[0], "width", "height");
    assert_eq!((cols, rows), size(&whole.index["term"], "cols", "rows"));
    let mut through = Terminal::new(cols, rows).unwrap();
    for (n, segment) in whole.segments.iter().enumerate() {
        let (cols, rows) = size(&segment["snapshot"], "cols", "rows");
        assert_eq!((cols, rows), through.size());
        let mut from_here = Terminal::new(cols, rows).unwrap();
        from_here.feed(segment["snapshot"]["init"].as_str().unwrap());
        assert_eq!(from_here.dump(), through.dump(), "at the beginning of {n}");
        replayed(&mut from_here, events(segment));
        replayed(&mut through, events(segment));
        assert_eq!(from_here.dump(), through.dump(), "at the end of {n}");
    }
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        12 => vocabulary().prop_map(|bytes| Kind::Output { offset: 0, bytes: bytes.into() }),
        1 => (1..20_u16, 1..9_u16).prop_map(|(cols, rows)| Kind::Resize { offset: 0, cols, rows }),
        1 => "[a-z]{0,120}".prop_map(Kind::Marker),
        1 => "[a-z]{1,3}".prop_map(|text| Kind::Input { offset: 0, bytes: text.into(), echo: true }),
        1 => Just(Kind::Gap { lost: 7 }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn segments_are_the_cast_and_each_begins_with_the_screen_as_it_stood(
        all in prop::collection::vec((prop_oneof![Just(0_u64), 0..3000_u64], kinds()), 0..80),
        bytes in 1..500_usize, piece in 1..300_usize, cols in 1..16_u16, rows in 1..8_u16,
    ) {
        let cast = cast((cols, rows), &all);
        holds(&cast, &passed(&cast, bytes, piece));
    }
}

#[test]
fn there_is_one_segment_where_nothing_may_be_cut() {
    for (name, all) in [
        ("no output at all", vec![]),
        ("one event", vec![(1500, said("hello"))]),
        ("everything at once", vec![(0, said("x")); 300]),
        ("everything at once, later", vec![(77, said("x")), (0, said("y")), (0, said("z"))]),
        ("two moments", vec![(0, said("x")), (1, said("y")), (0, said("z"))]),
        ("one event larger than a segment", vec![(5, said(&"wide ".repeat(1000)))]),
    ] {
        let cast = cast((80, 24), &all);
        let whole = passed(&cast, 1, 4096);
        holds(&cast, &whole);
        assert_eq!(whole.segments.len(), 1, "{name}");
    }
}

#[test]
fn a_cut_comes_after_the_bytes_asked_for_and_never_at_the_very_end() {
    let all: Vec<_> = (0..100).map(|n| (10, said(&format!("line {n} {}\r\n", "x".repeat(80))))).collect();
    let cast = cast((80, 24), &all);
    let whole = passed(&cast, 1000, 64);
    holds(&cast, &whole);
    assert_eq!(whole.segments.len(), 10);
    let each = passed(&cast, 1, 64);
    holds(&cast, &each);
    assert_eq!(each.segments.len(), 99, "the last two moments are one segment");
}

#[test]
fn commands_are_markers_in_the_segments_and_end_with_their_status() {
    const PROMPT: &str = "\x1b]133;A\x07$ \x1b]133;B\x07";
    let all = [
        (0, said(PROMPT)),
        (100, said("make te")),
        (100, said("st\r\n\x1b]133;C\x07")),
        (0, Kind::Marker("alice joined".into())),
        (900, said("failed\r\n\x1b]133;D;")),
        (100, said("2\x07")),
        (0, said(PROMPT)),
        (50, said("true\r\n\x1b]133;C\x07\x1b]133;D;0\x07")),
        (50, said("the end")),
    ];
    let whole = passed(&cast((40, 5), &all), 1, 16);
    obeys_the_player(&whole);
    let command = |t, text: &str, exit| Command { t, text: Some(text.into()), exit: Some(exit) };
    assert_eq!(whole.commands, [command(0.2, "make test", 2), command(1.25, "true", 0)]);
    let markers = json!([[0.2, "make test (exit 2)"], [0.2, "alice joined"], [1.25, "true"]]);
    assert_eq!(whole.index["markers"], markers);
    let shown: Vec<_> = whole.lines.iter().map(|line| (line.t, line.line.as_str())).collect();
    assert_eq!(shown, [(0.2, "$ make test"), (1.1, "failed"), (1.25, "$ true"), (1.3, "the end")]);
}

#[test]
fn what_is_no_cast_is_refused() {
    let (mut pass, mut made) = (Pass::new(None), Made::default());
    assert!(matches!(pass.push(b"{\"version\":3}\n", &mut made), Err(CastError::Header)));
    for wrong in ["[1.0,\"o\",\"a\"]\n[0.5,\"o\",\"b\"]\n", "nonsense\n", "[1.0,\"o\",\"a\"]"] {
        let text = format!("{{\"version\":2,\"width\":80,\"height\":24}}\n{wrong}");
        let (mut pass, mut made) = (Pass::new(None), Made::default());
        let result = pass.push(text.as_bytes(), &mut made).and_then(|()| pass.finish(&mut made).map(|_| ()));
        assert!(matches!(result, Err(CastError::Line(_))), "{wrong}");
    }
}
