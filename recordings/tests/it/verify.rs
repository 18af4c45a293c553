//! Verifying: what was recorded is whole, and whatever byte is changed, cut or invented is found and its chunk named.

use bytes::Bytes;
use proptest::prelude::*;
use recordings::verify::{Finding, Form, Standing};
use recordings::{Compression, Event, Index, Kind};
use serde_json::Value;

use crate::kept::{FORMS, Kept, judge, kept};
use crate::world::{World, header, ms, say};

#[test]
fn an_untouched_recording_is_whole_in_both_forms() {
    for (kept, session) in kept().iter().zip(["s1", "s2"]) {
        for form in FORMS {
            let verdict = kept.verify(form, kept.cast(form));
            assert_eq!(verdict.standing(), Standing::Whole, "{:?}", verdict.findings);
            assert!(verdict.proven && verdict.first_bad().is_none());
            assert_eq!((verdict.chunks, verdict.matched), (Some(4), 4));
            let seal = verdict.seal.unwrap();
            assert_eq!((seal.kid.as_str(), seal.claims.sub.as_str()), ("rec-1", session));
            assert_eq!(seal.claims.iss, "https://bastion.example");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_session_is_whole_when_untouched() {
    let output = |offset: u64, bytes: &[u8]| Kind::Output { offset, bytes: Bytes::copy_from_slice(bytes) };
    let day = 24 * 3_600_000;
    let escapes = vec![0x1b; 1 << 20];
    let kinds: [(&str, Vec<(u64, Kind)>); 6] = [
        ("silent", vec![]),
        ("late", vec![(12_345, Kind::Exit(recordings::Exit::default()))]),
        ("idle", vec![(1, output(0, b"$ ")), (day, output(2, b"x")), (day + 9_999, output(3, b"y"))]),
        ("burst", vec![(7, output(0, &escapes)), (7, output(1 << 20, &escapes)), (8, output(2 << 20, b"."))]),
        (
            "torn",
            vec![
                (1, output(0, b"\xe7\xbb\xff\0\xf0\x9f")),
                (11_000, Kind::Gap { lost: 17 }),
                (11_000, Kind::Marker("the host is back".into())),
            ],
        ),
        (
            "resized",
            (1..400).map(|n| (n * 50, Kind::Resize { offset: 0, cols: n as u16, rows: 9 })).collect(),
        ),
    ];
    for compression in [Compression::Zstd, Compression::None] {
        let world = World::new();
        let spool = world.spool();
        for (session, events) in kinds.clone() {
            let mut recorder = spool.start(header(session)).await.unwrap();
            let last = events.last().map_or(0, |(at, _)| *at);
            for (at, kind) in events {
                recorder.record(vec![Event { at: ms(at), kind }]).await.unwrap();
            }
            recorder.finish(ms(last + 3), "exit", None).await.unwrap();
            let kept = Kept::of(&world, &spool, session, compression).await;
            let forms = if compression == Compression::None { &FORMS[..1] } else { &FORMS };
            for form in forms {
                let verdict = kept.verify(*form, kept.cast(*form));
                assert_eq!(verdict.findings, [], "{session} {form:?}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recording_that_was_recovered_is_whole_and_says_so() {
    let world = World::new();
    let spool = world.spool();
    let mut recorder = spool.start(header("s1")).await.unwrap();
    say(&mut recorder, ms(5), b"as it stood").await;
    drop((recorder, spool));
    let spool = world.spool();
    spool.seal_interrupted("s1", "host_gone").await.unwrap();
    let kept = Kept::of(&world, &spool, "s1", Compression::Zstd).await;
    let verdict = kept.verify(Form::Stored, &kept.stored);
    assert_eq!(verdict.standing(), Standing::Whole, "{:?}", verdict.findings);
    assert!(verdict.seal.unwrap().claims.recovered);
}

proptest! {
    #[test]
    fn a_flipped_byte_of_the_plain_cast_is_found(at in any::<prop::sample::Index>(), mask in 1..=255u8) {
        let [kept, _] = kept();
        let mut cast = kept.plain.clone();
        let at = at.index(cast.len());
        cast[at] ^= mask;
        let verdict = kept.verify(Form::Plain, &cast);
        prop_assert_eq!(verdict.standing(), Standing::Altered);
        prop_assert_eq!(verdict.first_bad(), Some(kept.chunk_at(Form::Plain, at)), "{:?}", verdict.findings);
    }

    /// What still unpacks to the very bytes that were sealed is what was sealed: zstd has bits that mean nothing.
    #[test]
    fn a_flipped_byte_of_the_stored_cast_is_found(at in any::<prop::sample::Index>(), mask in 1..=255u8) {
        let [kept, _] = kept();
        let mut cast = kept.stored.clone();
        let at = at.index(cast.len());
        cast[at] ^= mask;
        let chunk = kept.chunk_at(Form::Stored, at);
        let entry = &kept.index().chunks[chunk as usize];
        let frame = &cast[entry.at as usize..][..entry.len as usize];
        let same = zstd::bulk::decompress(frame, entry.plain_len as usize)
            .is_ok_and(|plain| plain == kept.plain[entry.plain_at as usize..][..entry.plain_len as usize]);
        let verdict = kept.verify(Form::Stored, &cast);
        let expected = if same { (Standing::Whole, None) } else { (Standing::Altered, Some(chunk)) };
        prop_assert_eq!((verdict.standing(), verdict.first_bad()), expected, "{:?}", verdict.findings);
        let alone = judge(Form::Stored, &cast, None, Some(&kept.seal));
        prop_assert_ne!(alone.standing(), Standing::Whole);
        prop_assert_eq!(alone.proven, same, "{:?}", alone.findings);
    }

    #[test]
    fn a_cast_cut_anywhere_is_authentic_as_far_as_it_goes(at in any::<prop::sample::Index>(), stored: bool) {
        let [kept, _] = kept();
        let form = FORMS[usize::from(stored)];
        let cast = kept.cast(form);
        let at = at.index(cast.len());
        let chunk = kept.chunk_at(form, at);
        let verdict = kept.verify(form, &cast[..at]);
        prop_assert_eq!(verdict.standing(), Standing::Incomplete, "{:?}", verdict.findings);
        prop_assert_eq!(verdict.matched, chunk);
        let expected = if at == 0 { Finding::Empty } else { Finding::Cut { chunk, of: Some(4) } };
        prop_assert_eq!(&verdict.findings, &[expected]);
        let alone = judge(form, &cast[..at], None, Some(&kept.seal));
        prop_assert_eq!(alone.standing(), Standing::Incomplete, "{:?}", alone.findings);
        prop_assert!(!alone.proven && alone.findings.len() == 2);
    }

    #[test]
    fn a_cast_cut_after_an_alteration_is_altered(at in any::<prop::sample::Index>(), stored: bool) {
        let [kept, _] = kept();
        let form = FORMS[usize::from(stored)];
        let pieces = kept.pieces(form);
        let mut cast = [&pieces[0][..], &pieces[2]].concat();
        cast.extend(&kept.cast(form)[cast.len()..]);
        cast.truncate(pieces[0].len() + pieces[1].len() + at.index(pieces[2].len()));
        let verdict = kept.verify(form, &cast);
        prop_assert_eq!((verdict.standing(), verdict.first_bad()), (Standing::Altered, Some(1)));
    }

    #[test]
    fn a_flipped_byte_of_the_index_is_found(
        at in any::<prop::sample::Index>(), mask in 1..=255u8, stored: bool, sealed: bool
    ) {
        let [kept, _] = kept();
        let form = FORMS[usize::from(stored)];
        let mut index = kept.index.clone();
        let at = at.index(index.len());
        index[at] ^= mask;
        let same = serde_json::from_slice::<Index>(&index).is_ok_and(|index| index == kept.index());
        let verdict = judge(form, kept.cast(form), Some(&index), sealed.then_some(&kept.seal));
        // What only the seal could tell does not show without it.
        let unseen = !sealed && at > index.len() - 140;
        if !same && !unseen {
            prop_assert_eq!(verdict.standing(), Standing::Altered, "{} {:?}", at, verdict.findings);
        }
        if let Some(bad) = verdict.first_bad() {
            let text = &kept.index[..at];
            let entries = text.windows(5).filter(|bytes| bytes == b"{\"n\":").count() as u64;
            let beyond = text.windows(9).any(|bytes| bytes == b"plain_len" ) && at > index.len() - 200;
            prop_assert!(beyond || bad + 1 == entries || entries == 0 && bad == 0, "{} {:?}", at, verdict.findings);
        }
    }

    #[test]
    fn a_flipped_byte_of_the_seal_is_found(at in any::<prop::sample::Index>(), mask in 1..=255u8) {
        let [kept, _] = kept();
        let mut seal = kept.seal.clone();
        let at = at.index(seal.len());
        seal[at] ^= mask;
        let standing = judge(Form::Plain, &kept.plain, Some(&kept.index), Some(&seal)).standing();
        // The kid may have become another's; it is not known before the signature is.
        let header = at < seal.iter().position(|byte| *byte == b'.').unwrap();
        prop_assert!(standing == Standing::Altered || header && standing == Standing::UnknownKey);
    }

    #[test]
    fn no_number_in_an_index_is_believed(
        n in 0..4usize, field in 0..5usize, value in prop_oneof![any::<u64>(), 0..400_000u64, Just(u64::MAX)],
        stored: bool,
    ) {
        let [kept, _] = kept();
        let form = FORMS[usize::from(stored)];
        let mut index: Value = serde_json::from_slice(&kept.index).unwrap();
        let number = &mut index["chunks"][n][["n", "at", "len", "plain_at", "plain_len"][field]];
        if *number == value {
            return Ok(());
        }
        *number = value.into();
        let index = index.to_string();
        for seal in [Some(&kept.seal[..]), None] {
            let verdict = judge(form, kept.cast(form), Some(index.as_bytes()), seal);
            // Against the last stored length stands only the total, and either may be false.
            let bad = verdict.first_bad();
            let named = bad == Some(n as u64) || field == 2 && !stored && n == 3 && bad.is_none();
            prop_assert!(named, "{:?}", verdict.findings);
            prop_assert_eq!(verdict.standing(), Standing::Altered);
        }
    }

    #[test]
    fn noise_is_never_whole_and_never_panics(
        cast in prop::collection::vec(any::<u8>(), 0..600),
        index in prop::option::of(prop::collection::vec(any::<u8>(), 0..600)),
        seal in prop::option::of(prop::collection::vec(any::<u8>(), 0..600)),
    ) {
        for form in FORMS {
            let verdict = judge(form, &cast, index.as_deref(), seal.as_deref());
            prop_assert_ne!(verdict.standing(), Standing::Whole);
            let [kept, _] = kept();
            prop_assert_ne!(kept.verify(form, &cast).standing(), Standing::Whole);
            let packed = [&kept.stored[..kept.index().chunks[1].at as usize], &cast].concat();
            prop_assert_ne!(judge(form, &packed, None, Some(&kept.seal)).standing(), Standing::Whole);
        }
    }
}
