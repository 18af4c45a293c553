//! What a journal promises: it reads back what was written, and never more than whole records.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn header(records_input: bool) -> Header {
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
        records_input,
    }
}

/// A journal of `kinds` (times and contents; offsets are filled in), where each record ends, and what it must say.
fn write(header: &Header, kinds: Vec<(u64, Kind)>) -> (Vec<u8>, Vec<usize>, Vec<(Duration, Kind)>) {
    let mut cursor = Cursor::default();
    let mut file = PREAMBLE.to_vec();
    let put = |framed: Framed, file: &mut Vec<u8>| {
        file.extend_from_slice(&framed.head);
        file.extend_from_slice(&framed.payload);
        file.len()
    };
    let mut ends = vec![put(cursor.start(header).unwrap(), &mut file)];
    let mut said = Vec::new();
    for (at, mut kind) in kinds {
        match &mut kind {
            Kind::Output { offset, .. } => *offset = cursor.output,
            Kind::Input { offset, .. } => *offset = cursor.input,
            _ => (),
        }
        let framed = cursor.event(Event { at: Duration::from_micros(at), kind: kind.clone() }).unwrap();
        ends.push(put(framed, &mut file));
        if let Kind::Input { offset, bytes, echo } = &mut kind
            && !(*echo && header.records_input)
        {
            *offset += bytes.len() as u64;
            *bytes = Bytes::new();
        }
        said.push((cursor.at, kind));
    }
    (file, ends, said)
}

fn read(file: &[u8]) -> Result<(Vec<(Duration, Kind)>, u64), JournalError> {
    let (mut reader, _) = Reader::open(file)?;
    let mut said = Vec::new();
    while let Some(record) = reader.next()? {
        if let Entry::Event(kind) = record.entry {
            said.push((record.at, kind));
        }
    }
    Ok((said, reader.whole()))
}

fn kind() -> impl Strategy<Value = Kind> {
    let bytes = || vec(any::<u8>(), 0..200).prop_map(Bytes::from);
    prop_oneof![
        bytes().prop_map(|bytes| Kind::Output { offset: 0, bytes }),
        (bytes(), any::<bool>()).prop_map(|(bytes, echo)| Kind::Input { offset: 0, bytes, echo }),
        (any::<u64>(), 1..1000u16, 1..1000u16).prop_map(|(offset, cols, rows)| Kind::Resize {
            offset,
            cols,
            rows
        }),
        "\\PC{0,20}".prop_map(Kind::Marker),
        (1..1000u64).prop_map(|lost| Kind::Gap { lost }),
        any::<Option<i32>>().prop_map(|code| Kind::Exit(Exit { code, signal: Some("SIGHUP".into()) })),
    ]
}

fn kinds() -> impl Strategy<Value = Vec<(u64, Kind)>> {
    vec((any::<u32>().prop_map(u64::from), kind()), 0..20)
}

proptest! {
    #[test]
    fn a_journal_reads_back_as_written(kinds in kinds(), records_input: bool) {
        let (file, _, said) = write(&header(records_input), kinds);
        let (got, whole) = read(&file).unwrap();
        prop_assert_eq!(whole, file.len() as u64);
        prop_assert!(got.windows(2).all(|pair| pair[0].0 <= pair[1].0), "time went back");
        prop_assert_eq!(got, said);
    }

    #[test]
    fn a_journal_cut_anywhere_reads_to_its_last_whole_record(kinds in kinds(), at: prop::sample::Index) {
        let (file, ends, said) = write(&header(true), kinds);
        let len = at.index(file.len() + 1);
        match read(&file[..len]) {
            Ok((got, whole)) => {
                let records = ends.iter().take_while(|end| **end <= len).count();
                prop_assert_eq!(whole, ends[records - 1] as u64);
                prop_assert_eq!(&got[..], &said[..records - 1]);
            }
            Err(_) => prop_assert!(len < ends[0], "a whole header was refused"),
        }
    }

    #[test]
    fn a_flipped_bit_ends_the_journal_before_its_record(
        kinds in kinds(),
        at: prop::sample::Index,
        bit in 0..8u8,
    ) {
        let (mut file, ends, said) = write(&header(true), kinds);
        let at = at.index(file.len());
        file[at] ^= 1 << bit;
        match read(&file) {
            Ok((got, whole)) => {
                let before = ends.iter().take_while(|end| **end <= at).count();
                prop_assert_eq!(whole, ends[before - 1] as u64);
                prop_assert_eq!(&got[..], &said[..before - 1]);
            }
            Err(_) => prop_assert!(at < ends[0]),
        }
    }

    #[test]
    fn any_bytes_at_all_are_read_without_panic(bytes in vec(any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        let _ = read(&[&PREAMBLE[..], &bytes].concat());
    }
}

#[test]
fn the_checksum_is_crc_32c() {
    // The check value of CRC-32/ISCSI, split as a head and a payload are.
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    digest.update(b"12345");
    digest.update(b"6789");
    assert_eq!(digest.finalize(), 0xe306_9283);
}

#[test]
fn a_record_lies_byte_by_byte_as_documented() {
    let mut cursor = Cursor { output: 7, ..Cursor::default() };
    let kind = Kind::Output { offset: 7, bytes: Bytes::from_static(b"hi") };
    let framed = cursor.event(Event { at: Duration::from_micros(258), kind }).unwrap();
    assert_eq!(framed.head[..24], *b"\x02\0\0\0\0\0\0\x02\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\0\x09");
    assert_eq!(framed.head[24..], checksum(&framed.head, b"hi").to_be_bytes());
    assert_eq!(&framed.payload[..], b"hi");
    assert_eq!(PREAMBLE, *b"CSTLJRNL\0\x01\0\0\0\0\0\0");
}

#[test]
fn keys_typed_without_echo_or_without_leave_are_nowhere_in_the_file() {
    let typed = |echo| Kind::Input { offset: 0, bytes: Bytes::from_static(b"hunter2"), echo };
    let holds = |file: &[u8]| file.windows(7).any(|part| part == b"hunter2");
    assert!(!holds(&write(&header(true), vec![(1, typed(false))]).0));
    assert!(!holds(&write(&header(false), vec![(1, typed(true))]).0));
    assert!(holds(&write(&header(true), vec![(1, typed(true))]).0));
}

#[test]
fn an_event_that_does_not_continue_its_stream_is_refused() {
    let mut cursor = Cursor { output: 5, input: 9, ..Cursor::default() };
    let bytes = Bytes::from_static(b"x");
    for offset in [0, 4, 6] {
        let kind = Kind::Output { offset, bytes: bytes.clone() };
        let error = cursor.event(Event { at: Duration::ZERO, kind }).unwrap_err();
        assert!(matches!(error, JournalError::Discontinuous { at: 5, .. }), "{error}");
    }
    let kind = Kind::Input { offset: 5, bytes, echo: true };
    assert!(cursor.event(Event { at: Duration::ZERO, kind }).is_err());
}

#[test]
fn what_is_hidden_is_written_by_its_end_alone_and_never_goes_back() {
    let mut cursor = Cursor { input: 5, records_input: true, ..Cursor::default() };
    let hidden = |offset| Kind::Input { offset, bytes: Bytes::new(), echo: false };
    let mut put = |kind| cursor.event(Event { at: Duration::ZERO, kind }).map(|framed| framed.len());
    assert_eq!(put(hidden(9)).unwrap(), HEAD_LEN as u64);
    assert!(put(hidden(8)).is_err());
    assert!(put(Kind::Input { offset: 9, bytes: Bytes::from_static(b"x"), echo: true }).is_ok());
}

#[test]
fn other_files_are_told_apart() {
    assert!(matches!(read(b""), Err(JournalError::Empty)));
    assert!(matches!(read(b"CSTL"), Err(JournalError::Magic)));
    assert!(matches!(read(b"#!/bin/sh\necho hello world"), Err(JournalError::Magic)));
    assert!(matches!(read(b"CSTLJRNL\0\x02\0\0\0\0\0\0"), Err(JournalError::Version(2))));
    assert!(matches!(read(&PREAMBLE), Err(JournalError::NoStart)));
}
