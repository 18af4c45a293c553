//! The messages of a live stream, byte by byte.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;
use crate::journal::End;

fn us(at: u64) -> Duration {
    Duration::from_micros(at)
}

fn event(at: u64, kind: Kind) -> Followed {
    Followed::Event(Event { at: us(at), kind })
}

fn output(at: u64, bytes: &[u8]) -> Followed {
    event(at, Kind::Output { offset: 0, bytes: Bytes::copy_from_slice(bytes) })
}

fn screen(at: u64, (cols, rows): (u16, u16), bytes: &[u8], pending: usize) -> Followed {
    let bytes = Bytes::copy_from_slice(bytes);
    Followed::Screen(Redraw { offset: 9, at: us(at), cols, rows, bytes, pending })
}

fn ended() -> Followed {
    Followed::Ended(End { reason: "exit".into(), recovered: false })
}

/// A viewer: the messages as it would read them.
fn read(mut message: &[u8]) -> (char, Vec<u64>, String) {
    let code = message[0] as char;
    message = &message[1..];
    let int = |message: &mut &[u8]| {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = message[0];
            *message = &message[1..];
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    };
    let count = match code {
        '\x01' => 4,
        'r' => 4,
        'x' => 3,
        _ => 2,
    };
    let ints = (0..count).map(|_| int(&mut message)).collect();
    if code == '\x01' {
        assert_eq!(message[0], 0);
        message = &message[1..];
    }
    let mut text = String::new();
    if matches!(code, '\x01' | 'o' | 'm') {
        let len = int(&mut message) as usize;
        text = std::str::from_utf8(&message[..len]).unwrap().to_owned();
        message = &message[len..];
    }
    assert!(message.is_empty());
    (code, ints, text)
}

#[test]
fn the_bytes_are_those_of_the_reference() {
    assert_eq!(Encoder::magic()[..], *b"ALiS\x01");
    let mut encoder = Encoder { id: 1, ..Encoder::new() };
    let mut said = |news: &Followed| encoder.message(news).unwrap().to_vec();
    let init = said(&screen(2_003_075, (100, 30), b"\x1b[0m", 0));
    assert_eq!(init, b"\x01\x01\x83\xa1\x7a\x64\x1e\x00\x04\x1b[0m");
    let first = said(&output(2_003_075 + 1_020_321, b"live 1\r\n"));
    assert_eq!(first, b"o\x02\xa1\xa3\x3e\x08live 1\r\n");
    let exit =
        said(&event(2_003_075 + 1_020_321 + 1_005_593, Kind::Exit(Exit { code: Some(3), signal: None })));
    assert_eq!(exit, b"x\x03\x99\xb0\x3d\x03");
    assert_eq!(said(&ended()), b"\x04\x04\x00");
}

#[test]
fn every_message_follows_the_one_before() {
    let resize = |at, cols, rows| event(at, Kind::Resize { offset: 0, cols, rows });
    let news = [
        screen(5_000_000, (80, 24), b"$ ", 0),
        output(5_000_100, b"a"),
        resize(5_000_150, 80, 24),
        resize(5_000_150, 0, 24),
        resize(5_000_200, 90, 24),
        event(5_000_200, Kind::Marker("joined".into())),
        event(5_000_300, Kind::Input { offset: 0, bytes: Bytes::from_static(b"secret"), echo: true }),
        output(4_000_000, b"earlier"),
        screen(6_000_000, (90, 24), b"again", 0),
        output(6_000_001, b""),
        output(6_000_002, b"b"),
        event(6_000_002, Kind::Exit(Exit { code: Some(-1), signal: None })),
        Followed::Interrupted,
    ];
    let mut encoder = Encoder::new();
    let said: Vec<_> = news.iter().filter_map(|news| encoder.message(news)).map(|m| read(&m)).collect();
    let text = |text: &str| text.to_owned();
    let expected = [
        ('\x01', vec![0, 5_000_000, 80, 24], text("$ ")),
        ('o', vec![1, 100], text("a")),
        ('r', vec![2, 100, 90, 24], text("")),
        ('m', vec![3, 0], text("joined")),
        ('o', vec![4, 0], text("earlier")),
        ('\x01', vec![4, 6_000_000, 90, 24], text("again")),
        ('o', vec![5, 2], text("b")),
        ('x', vec![6, 0, 0], text("")),
        ('\x04', vec![7, 0], text("")),
    ];
    assert_eq!(said, expected);
}

#[test]
fn a_character_cut_by_the_screen_is_finished_after_it() {
    let mut encoder = Encoder::new();
    let bytes = "x中".as_bytes();
    let init = encoder.message(&screen(0, (80, 24), &bytes[..3], 2)).unwrap();
    assert_eq!(read(&init).2, "x");
    let rest = encoder.message(&output(1, &bytes[3..])).unwrap();
    assert_eq!(read(&rest).2, "中");
}

#[test]
fn a_gap_is_marked_and_cuts_characters() {
    let mut encoder = Encoder::new();
    assert_eq!(encoder.message(&output(0, b"\xe4\xb8")), None);
    let gap = encoder.message(&event(1, Kind::Gap { lost: 7 })).unwrap();
    assert_eq!(read(&gap), ('m', vec![1, 1], "7 bytes of output lost".to_owned()));
    assert_eq!(read(&encoder.message(&output(2, b"\xadx")).unwrap()).2, "\u{fffd}x");
}

proptest! {
    #[test]
    fn text_arrives_as_it_was_however_it_was_cut(
        text in "\\PC{0,200}", sizes in prop::collection::vec(1..9_usize, 1..8),
    ) {
        let mut encoder = Encoder::new();
        let (mut rest, mut shown, mut id) = (text.as_bytes(), String::new(), 0);
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(rest.len().min(*size));
            rest = later;
            if let Some(message) = encoder.message(&output(id, now)) {
                let (code, ints, text) = read(&message);
                id += 1;
                prop_assert_eq!((code, ints[0]), ('o', id));
                shown += &text;
            }
        }
        prop_assert_eq!(shown, text);
    }
}
