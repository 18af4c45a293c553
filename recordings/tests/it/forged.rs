//! Verifying against a forger: chunks moved, seals and indexes replaced or left out, bombs.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use recordings::Sealer;
use recordings::verify::{Beside, Finding, Form, Standing, verify};
use serde_json::{Value, json};

use crate::kept::{FORMS, Notary, judge, kept, remade};

/// `kept`'s chunks in another order, some left out, repeated, or another recording's (100 and above).
fn rearranged(form: Form, order: &[usize]) -> Vec<Vec<u8>> {
    let [own, other] = kept().each_ref().map(|kept| kept.pieces(form));
    order.iter().map(|n| if *n < 100 { own[*n].clone() } else { other[*n - 100].clone() }).collect()
}

#[test]
fn a_removed_swapped_repeated_or_foreign_chunk_is_found_and_named() {
    let [kept, _] = kept();
    let cases: [(&[usize], u64); 14] = [
        (&[1, 2, 3], 0),
        (&[0, 2, 3], 1),
        (&[0, 1, 3], 2),
        (&[1, 0, 2, 3], 0),
        (&[0, 2, 1, 3], 1),
        (&[0, 1, 3, 2], 2),
        (&[3, 1, 2, 0], 0),
        (&[0, 0, 1, 2, 3], 1),
        (&[0, 1, 2, 2, 3], 3),
        (&[0, 1, 2, 3, 3], 4),
        (&[100, 1, 2, 3], 0),
        (&[0, 1, 102, 3], 2),
        (&[0, 1, 2, 103], 3),
        (&[0, 1, 2, 3, 103], 4),
    ];
    for form in FORMS {
        for (order, first_bad) in cases {
            let cast = rearranged(form, order).concat();
            let verdict = kept.verify(form, &cast);
            let found = (verdict.standing(), verdict.first_bad());
            assert_eq!(
                found,
                (Standing::Altered, Some(first_bad)),
                "{form:?} {order:?} {:?}",
                verdict.findings
            );
            assert!(!verdict.proven);
            // Even with an index that was made to fit.
            let index =
                remade(&kept.index(), &rearranged(Form::Plain, order), &rearranged(Form::Stored, order));
            let verdict = judge(form, &cast, Some(&index), Some(&kept.seal));
            assert_eq!(verdict.standing(), Standing::Altered, "{form:?} {order:?}");
            assert!(verdict.findings.iter().any(|finding| matches!(finding, Finding::Disagree { .. })));
        }
        let index = remade(&kept.index(), &kept.pieces(Form::Plain), &kept.pieces(Form::Stored));
        assert_eq!(index, kept.index, "what is remade without a change is the same");
        let tail = rearranged(form, &[0, 1, 2]);
        assert_eq!(kept.verify(form, &tail.concat()).findings, [Finding::Cut { chunk: 3, of: Some(4) }]);
        let index = remade(
            &kept.index(),
            &rearranged(Form::Plain, &[0, 1, 2]),
            &rearranged(Form::Stored, &[0, 1, 2]),
        );
        let verdict = judge(form, &tail.concat(), Some(&index), Some(&kept.seal));
        assert_eq!(verdict.standing(), Standing::Altered, "an index cut together with the cast");
    }
}

#[test]
fn a_replaced_seal_or_index_is_found() {
    let [kept, other] = kept();
    for form in FORMS {
        let foreign = judge(form, kept.cast(form), Some(&kept.index), Some(&other.seal));
        assert_eq!(foreign.standing(), Standing::Altered);
        assert!(matches!(&foreign.findings[..], [Finding::Disagree { fields }] if fields.contains(&"facts")));
        let foreign = judge(form, kept.cast(form), Some(&other.index), Some(&kept.seal));
        assert_eq!(foreign.standing(), Standing::Altered);
        let both = judge(form, kept.cast(form), Some(&other.index), Some(&other.seal));
        assert_eq!((both.standing(), both.first_bad()), (Standing::Altered, Some(0)));
        let alone = judge(form, kept.cast(form), None, Some(&other.seal));
        assert_ne!(alone.standing(), Standing::Whole);
        assert!(!alone.proven);
    }
    let claims: Value = {
        let text = String::from_utf8(kept.seal.clone()).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.split('.').nth(1).unwrap()).unwrap()).unwrap()
    };
    let elsewhere = Notary("rec-2").seal(&claims).unwrap();
    let verdict = judge(Form::Plain, &kept.plain, Some(&kept.index), Some(elsewhere.as_bytes()));
    assert_eq!(verdict.findings, [Finding::UnknownKey { kid: "rec-2".into() }]);
    assert!(verdict.seal.is_none() && !verdict.proven);
    let mut cast = kept.plain.clone();
    cast[9] ^= 1;
    let verdict = judge(Form::Plain, &cast, Some(&kept.index), Some(elsewhere.as_bytes()));
    assert_eq!(
        (verdict.standing(), verdict.first_bad()),
        (Standing::Altered, Some(0)),
        "what shows without a key"
    );
    // Every claim that index or cast could contradict is held against them.
    for (claim, value) in [
        ("chunks", json!(5)),
        ("plain_len", json!(kept.plain.len() + 1)),
        ("head", json!(hex::encode([7; 32]))),
        ("output_bytes", json!(1)),
        ("output_sha256", json!(hex::encode([7; 32]))),
        ("lost_bytes", json!(1)),
        ("sub", json!("s2")),
        (
            "facts",
            json!({ "asset": "web-2", "cols": 80, "rows": 24, "session": "s1",
                          "started": "2026-11-23T23:59:59.500Z", "user": "alice" }),
        ),
        ("reason", json!(7)),
    ] {
        let mut claims = claims.clone();
        claims[claim] = value;
        let seal = Notary("rec-1").seal(&claims).unwrap();
        let verdict = judge(Form::Plain, &kept.plain, Some(&kept.index), Some(seal.as_bytes()));
        assert_eq!(verdict.standing(), Standing::Altered, "{claim}");
    }
}

#[test]
fn what_is_missing_leaves_a_recording_incomplete_and_says_what_was_proven() {
    let [kept, _] = kept();
    let (index, seal) = (Some(&kept.index[..]), Some(&kept.seal[..]));
    for form in FORMS {
        for empty in [None, Some(&b""[..])] {
            let verdict = judge(form, kept.cast(form), index, empty);
            assert_eq!(verdict.findings, [Finding::NoSeal]);
            assert_eq!((verdict.matched, verdict.proven), (4, false));
            let verdict = judge(form, kept.cast(form), empty, seal);
            assert_eq!(verdict.findings, [Finding::NoIndex]);
            // A frame is a chunk: the stored form needs no index to be proven.
            assert_eq!(verdict.proven, form == Form::Stored);
            let verdict = judge(form, kept.cast(form), empty, empty);
            assert_eq!(verdict.findings, [Finding::NoSeal, Finding::NoIndex]);
        }
        let longer = [kept.cast(form), kept.cast(form)].concat();
        let verdict = judge(form, &longer, None, seal);
        assert_eq!(verdict.findings, [Finding::Unsealed, Finding::NoIndex], "longer than what was sealed");
        let mut damaged = kept.cast(form).to_vec();
        damaged[20] ^= 255;
        let verdict = judge(form, &damaged, index, None);
        assert_eq!((verdict.standing(), verdict.first_bad()), (Standing::Altered, Some(0)));
    }
    let anew = zstd::encode_all(&kept.plain[..], 3).unwrap();
    let verdict = judge(Form::Stored, &anew, None, seal);
    assert_eq!(verdict.findings, [Finding::Unsealed, Finding::NoIndex], "one frame is not four chunks");
}

#[test]
fn a_recording_under_another_sessions_name_is_found() {
    let [kept, _] = kept();
    let under = |session: &'static str| {
        let beside = Beside { index: Some(&kept.index), seal: Some(&kept.seal), session: Some(session) };
        verify(&kept.plain[..], Form::Plain, &beside, &Notary("rec-1")).unwrap().findings
    };
    assert_eq!(under("s1"), []);
    assert_eq!(under("s2"), [Finding::OtherSession { named: "s2".into(), found: "s1".into() }]);
}

#[test]
fn a_bomb_is_not_unpacked() {
    let [kept, _] = kept();
    let bomb = zstd::encode_all(std::io::Read::take(std::io::repeat(0), 256 << 20), 1).unwrap();
    let alone = judge(Form::Stored, &bomb, None, Some(&kept.seal));
    assert_eq!((alone.standing(), alone.first_bad()), (Standing::Altered, Some(0)));
    let mut index = kept.index();
    index.chunks.truncate(1);
    (index.chunks[0].len, index.stored_len) = (bomb.len() as u64, bomb.len() as u64);
    for plain_len in [1 << 20, 256 << 20, u64::MAX] {
        (index.chunks[0].plain_len, index.plain_len) = (plain_len, plain_len);
        let text = serde_json::to_vec(&index).unwrap();
        let verdict = judge(Form::Stored, &bomb, Some(&text), None);
        assert_eq!((verdict.standing(), verdict.first_bad()), (Standing::Altered, Some(0)), "{plain_len}");
    }
    let endless = verify(
        std::io::repeat(b'x'),
        Form::Plain,
        &Beside { index: None, seal: Some(&kept.seal), session: None },
        &Notary("rec-1"),
    );
    assert_eq!(endless.unwrap().standing(), Standing::Altered);
    let many = vec![b' '; recordings::verify::INDEX_MAX as usize + 1];
    let verdict = judge(Form::Plain, &kept.plain, Some(&many), Some(&kept.seal));
    assert!(matches!(verdict.findings[..], [Finding::Index { .. }]), "{:?}", verdict.findings);
}

#[test]
fn a_cast_that_cannot_be_read_is_an_error_not_a_verdict() {
    struct Torn;
    impl std::io::Read for Torn {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::from_raw_os_error(5))
        }
    }
    let [kept, _] = kept();
    for index in [None, Some(&kept.index[..])] {
        for form in FORMS {
            let beside = Beside { index, seal: Some(&kept.seal), session: None };
            assert!(verify(Torn, form, &beside, &Notary("rec-1")).is_err());
        }
    }
}
