//! Chunks: where they end, what they hash, and that together they are the cast.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;
use crate::journal::{Cursor, Event, Framed, Kind, PREAMBLE};

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
        term: "xterm".into(),
        shell: None,
        records_input: false,
    }
}

/// A finished journal of output at the given seconds.
fn journal(output: &[(u64, &[u8])]) -> Vec<u8> {
    let mut cursor = Cursor::default();
    let mut file = PREAMBLE.to_vec();
    let mut put = |framed: Framed| {
        file.extend_from_slice(&framed.head);
        file.extend_from_slice(&framed.payload);
    };
    put(cursor.start(&header()).unwrap());
    for (at, bytes) in output {
        let kind = Kind::Output { offset: cursor.output, bytes: Bytes::copy_from_slice(bytes) };
        put(cursor.event(Event { at: Duration::from_secs(*at), kind }).unwrap());
    }
    put(cursor.end(cursor.at, &End { reason: "exit".into(), recovered: false }).unwrap());
    file
}

fn pack(journal: &[u8], compression: Compression) -> (Vec<Bytes>, Packed) {
    let mut packer = Packer::open(journal, compression).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = packer.next().unwrap() {
        frames.push(frame);
    }
    (frames, packer.finish().unwrap())
}

fn flood() -> Vec<u8> {
    let line: Vec<u8> = (0..100u32).flat_map(|n| format!("{}\r\n", n * 7919).into_bytes()).collect();
    let output: Vec<_> = (0..2000).map(|n| (n / 50, &line[..])).collect();
    journal(&output)
}

#[test]
fn the_frames_together_are_the_plain_cast_and_so_is_each_alone() {
    let journal = flood();
    let (frames, packed) = pack(&journal, Compression::Zstd);
    let (plain, plainly) = pack(&journal, Compression::None);
    let (stored, plain) = (frames.concat(), plain.concat());
    assert_eq!(zstd::decode_all(&stored[..]).unwrap(), plain);
    assert_eq!(packed.plain_sha256, hex::encode(Sha256::digest(&plain)));
    assert_eq!(packed.sha256, hex::encode(Sha256::digest(&stored)));
    assert_eq!(plainly.sha256, packed.plain_sha256);
    assert_eq!(plainly.head, packed.head);
    assert!(packed.index.chunks.len() > 3);
    for (frame, chunk) in frames.iter().zip(&packed.index.chunks) {
        let alone = zstd::decode_all(&frame[..]).unwrap();
        let (at, len) = (chunk.plain_at as usize, chunk.plain_len as usize);
        assert_eq!(alone, plain[at..at + len]);
        assert_eq!(stored[chunk.at as usize..][..chunk.len as usize], frame[..]);
        assert_eq!(chunk.sha256, hex::encode(Sha256::digest(&alone)));
        assert!(alone.ends_with(b"]\n"));
    }
}

#[test]
fn the_chain_can_be_followed_from_facts_to_head() {
    let (frames, packed) = pack(&flood(), Compression::None);
    let mut chain = Chain::new(&packed.index.facts).unwrap();
    for (frame, chunk) in frames.iter().zip(&packed.index.chunks) {
        chain.push(Sha256::digest(frame).into());
        assert_eq!(chunk.chain, chain.head());
    }
    assert_eq!(packed.head, chain.head());
}

#[test]
fn a_chunk_ends_on_the_line_that_fills_it() {
    let line = [b'x'; 1000];
    let output: Vec<_> = (0..600).map(|_| (0, &line[..])).collect();
    let (frames, _) = pack(&journal(&output), Compression::None);
    assert_eq!(frames.len(), 3);
    for frame in &frames[..2] {
        assert!((CHUNK_BYTES..CHUNK_BYTES + 1100).contains(&frame.len()), "{}", frame.len());
    }
}

#[test]
fn a_chunk_spans_less_than_ten_seconds() {
    let output: &[(u64, &[u8])] = &[(0, b"a"), (9, b"b"), (10, b"c"), (15, b"d"), (40, b"e")];
    let (_, packed) = pack(&journal(output), Compression::Zstd);
    let times: Vec<_> = packed.index.chunks.iter().map(|chunk| (chunk.first, chunk.last)).collect();
    assert_eq!(times, [(0.0, 9.0), (10.0, 15.0), (40.0, 40.0)]);
}

#[test]
fn a_silent_session_is_one_chunk_with_an_event_and_its_end() {
    let (frames, packed) = pack(&journal(&[]), Compression::None);
    assert_eq!(frames.len(), 1);
    let plain = String::from_utf8(frames[0].to_vec()).unwrap();
    let lines: Vec<_> = plain.lines().skip(1).collect();
    assert_eq!(lines, [r#"[0.0,"o",""]"#, r#"[0.0,"m","ended: exit"]"#]);
    assert_eq!(packed.index.output_sha256, hex::encode(Sha256::digest(b"")));
}

#[test]
fn a_journal_without_its_end_is_not_packed_as_whole() {
    let journal = journal(&[(0, b"hello")]);
    let mut packer = Packer::open(&journal[..journal.len() - 1], Compression::None).unwrap();
    while packer.next().unwrap().is_some() {}
    assert!(matches!(packer.finish(), Err(PackError::Unfinished)));
}

#[test]
fn the_index_says_what_the_format_promises() {
    let (_, packed) = pack(&journal(&[(1, b"hi")]), Compression::Zstd);
    let index = serde_json::to_value(&packed.index).unwrap();
    let keys: Vec<_> = index.as_object().unwrap().keys().map(String::as_str).collect();
    let mut expected = [
        "version",
        "session",
        "compression",
        "facts",
        "chunks",
        "plain_len",
        "stored_len",
        "output_bytes",
        "output_sha256",
        "lost_bytes",
    ];
    let mut keys_sorted = keys.clone();
    keys_sorted.sort_unstable();
    expected.sort_unstable();
    assert_eq!(keys_sorted, expected);
    assert_eq!(index["compression"], "zstd");
    assert_eq!(index["chunks"][0]["n"], 0);
    assert_eq!(index["output_bytes"], 2);
    assert_eq!(index["output_sha256"], hex::encode(Sha256::digest(b"hi")));
}
