//! A part of a cast that plays by itself.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::screen::tests::vocabulary;

fn cast(events: &[(u64, Vec<u8>)]) -> (Vec<u8>, Vec<(Duration, String)>) {
    let mut out =
        b"{\"version\":2,\"width\":12,\"height\":5,\"timestamp\":1,\"env\":{\"TERM\":\"xterm\"}}\n".to_vec();
    let (mut at, mut all) = (Duration::ZERO, Vec::new());
    for (after, bytes) in events {
        at += Duration::from_millis(*after);
        let text = String::from_utf8_lossy(bytes).into_owned();
        put_line(&mut out, at, 'o', &text);
        all.push((at, text));
    }
    (out, all)
}

fn windowed(cast: &[u8], from: Duration, to: Option<Duration>) -> Vec<Value> {
    let (mut window, mut out) = (Window::new(from, to), Vec::new());
    for piece in cast.chunks(100) {
        if !window.push(piece, &mut out).unwrap() {
            break;
        }
    }
    window.finish(&mut out);
    let lines = out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap()).collect()
}

proptest! {
    #[test]
    fn a_window_shows_what_the_whole_shows(
        events in prop::collection::vec((0..3000_u64, vocabulary()), 1..40), from in 0..60_000_u64, len in 0..60_000_u64,
    ) {
        let (cast, all) = cast(&events);
        let (from, to) = (Duration::from_millis(from), Duration::from_millis(from + len));
        let lines = windowed(&cast, from, Some(to));
        prop_assert_eq!(&lines[0]["env"]["TERM"], "xterm");
        prop_assert_eq!(&lines[1][0], 0.0);
        let (mut whole, mut part) = (Played::new(12, 5), Played::new(12, 5));
        all.iter().filter(|(at, _)| *at < to.max(from)).for_each(|(_, text)| whole.feed(text, &mut ()));
        for line in &lines[1..] {
            let at = line[0].as_f64().unwrap();
            prop_assert!(at >= 0.0 && (at == 0.0 || from.as_secs_f64() + at < to.as_secs_f64() + 1e-9));
            part.feed(line[2].as_str().unwrap(), &mut ());
        }
        prop_assert_eq!(part.redraw(), whole.redraw());
        prop_assert_eq!(lines.len() - 2, all.iter().filter(|(at, _)| *at >= from && *at < to).count());
    }
}

#[test]
fn a_window_has_the_size_that_held_there_and_times_of_its_own() {
    let mut cast = b"{\"version\":2,\"width\":80,\"height\":24,\"timestamp\":1}\n".to_vec();
    for line in [
        "[1.0,\"o\",\"a\"]",
        "[2.0,\"r\",\"100x30\"]",
        "[2.5,\"o\",\"b\"]",
        "[4.0,\"o\",\"c\"]",
        "[4.0,\"r\",\"9x9\"]",
    ] {
        cast.extend_from_slice(line.as_bytes());
        cast.push(b'\n');
    }
    let lines = windowed(&cast, Duration::from_secs(2), Some(Duration::from_secs(4)));
    assert_eq!((&lines[0]["width"], &lines[0]["height"]), (&80.into(), &24.into()));
    assert_eq!(
        (&lines[2], &lines[3]),
        (&serde_json::json!([0.0, "r", "100x30"]), &serde_json::json!([0.5, "o", "b"]))
    );
    assert_eq!(lines.len(), 4);
    let lines = windowed(&cast, Duration::from_millis(2001), None);
    assert_eq!((&lines[0]["width"], &lines[0]["height"]), (&100.into(), &30.into()));
    assert_eq!(windowed(&cast, Duration::from_secs(9), None).len(), 2);
}
