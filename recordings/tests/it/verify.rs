//! Verifying: whatever is done to cast, index or seal is found, and the first chunk it was done to is named.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use proptest::prelude::*;
use recordings::seal::Chain;
use recordings::verify::{Beside, Finding, Form, Opened, SealFault, SealKeys, Standing, Verdict, verify};
use recordings::{
    Compression, Event, Index, Kind, Ledger, SealError, Sealer, Spool, UploadOptions, Uploader,
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::world::{Book, World, header, ms, say, upload_until};

const FORMS: [Form; 2] = [Form::Plain, Form::Stored];

/// Signs, and knows who signed, by a hash instead of a key pair: nobody here forges one.
struct Notary(&'static str);

impl Notary {
    fn signature(message: &str, kid: &str) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(format!("the secret of {kid}: {message}")))
    }
}

impl Sealer for Notary {
    fn seal(&self, claims: &Value) -> Result<String, SealError> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({ "alg": "EdDSA", "kid": self.0, "typ": "castellan-seal+jwt" });
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = Self::signature(&message, self.0);
        Ok(format!("{message}.{signature}"))
    }

    fn issuer(&self) -> &str {
        "https://bastion.example"
    }
}

impl SealKeys for Notary {
    fn open(&self, seal: &str) -> Result<Opened, SealFault> {
        let refused = |reason: &str| SealFault::Refused(reason.into());
        let part = |text: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
        };
        let (message, signature) = seal.rsplit_once('.').ok_or(refused("no dots"))?;
        let (header, claims) = message.split_once('.').ok_or(refused("one dot"))?;
        let header = part(header).ok_or(refused("no header"))?;
        let kid = header["kid"].as_str().ok_or(refused("no kid"))?.to_owned();
        if kid != self.0 {
            return Err(SealFault::UnknownKey(kid));
        }
        if signature != Self::signature(message, &kid) {
            return Err(refused("signature"));
        }
        Ok(Opened { kid, claims: part(claims).ok_or(refused("no claims"))? })
    }
}

/// A recording as it was stored.
#[derive(Clone)]
struct Kept {
    plain: Vec<u8>,
    stored: Vec<u8>,
    index: Vec<u8>,
    seal: Vec<u8>,
}

impl Kept {
    async fn of(world: &World, spool: &Spool, session: &str, compression: Compression) -> Self {
        let book = Arc::new(Book::default());
        let options = UploadOptions { compression, now: || 1_795_480_000, chance: || 0.0 };
        let ledger = Arc::clone(&book) as Arc<dyn Ledger>;
        let uploader =
            Uploader::new(spool.clone(), world.store(), ledger, Arc::new(Notary("rec-1")), options);
        let key = upload_until(uploader, book.stored(session)).await.key;
        let (stem, _) = key.split_once(".cast").unwrap();
        let stored = world.stored_file(&key);
        let plain = match compression {
            Compression::Zstd => zstd::decode_all(&stored[..]).unwrap(),
            Compression::None => stored.clone(),
        };
        let file = |end: &str| world.stored_file(&format!("{stem}.{end}"));
        Self { plain, stored, index: file("index.json"), seal: file("seal") }
    }

    fn index(&self) -> Index {
        serde_json::from_slice(&self.index).unwrap()
    }

    fn cast(&self, form: Form) -> &[u8] {
        match form {
            Form::Plain => &self.plain,
            Form::Stored => &self.stored,
        }
    }

    /// The chunks' bytes in the cast of that form.
    fn pieces(&self, form: Form) -> Vec<Vec<u8>> {
        let place = |chunk: &recordings::Chunk| match form {
            Form::Plain => (chunk.plain_at, chunk.plain_len),
            Form::Stored => (chunk.at, chunk.len),
        };
        let piece = |(at, len): (u64, u64)| self.cast(form)[at as usize..][..len as usize].to_vec();
        self.index().chunks.iter().map(place).map(piece).collect()
    }

    /// The chunk that a byte of the cast lies in.
    fn chunk_at(&self, form: Form, at: usize) -> u64 {
        let pieces = self.pieces(form);
        let ends = pieces.iter().scan(0, |end, piece| {
            *end += piece.len();
            Some(*end)
        });
        ends.take_while(|end| *end <= at).count() as u64
    }

    fn verify(&self, form: Form, cast: &[u8]) -> Verdict {
        judge(form, cast, Some(&self.index), Some(&self.seal))
    }
}

fn judge(form: Form, cast: &[u8], index: Option<&[u8]>, seal: Option<&[u8]>) -> Verdict {
    verify(cast, form, &Beside { index, seal, session: None }, &Notary("rec-1")).unwrap()
}

/// A finished recording whose lines are its own.
async fn speak(spool: &Spool, session: &str, lines: u64) {
    let mut recorder = spool.start(header(session)).await.unwrap();
    for n in 0..lines {
        say(&mut recorder, ms(n * 20), format!("line {n} of {session}, 中文 {}\r\n", n * 7919).as_bytes())
            .await;
    }
    recorder.finish(ms(lines * 20), "exit", None).await.unwrap();
}

/// Two recordings of four chunks each.
fn kept() -> &'static [Kept; 2] {
    static KEPT: OnceLock<[Kept; 2]> = OnceLock::new();
    KEPT.get_or_init(|| {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let world = World::new();
            let spool = world.spool();
            speak(&spool, "s1", 1800).await;
            let first = Kept::of(&world, &spool, "s1", Compression::Zstd).await;
            speak(&spool, "s2", 1900).await;
            let second = Kept::of(&world, &spool, "s2", Compression::Zstd).await;
            assert!(first.index().chunks.len() == 4 && second.index().chunks.len() == 4);
            [first, second]
        })
    })
}

/// What somebody writes who has no key, but can count and hash.
fn remade(index: &Index, plain: &[Vec<u8>], stored: &[Vec<u8>]) -> Vec<u8> {
    let mut index = index.clone();
    let mut chain = Chain::new(&index.facts).unwrap();
    let like = index.chunks.clone();
    index.chunks.clear();
    (index.plain_len, index.stored_len) = (0, 0);
    for (n, (plain, stored)) in plain.iter().zip(stored).enumerate() {
        let sha256: [u8; 32] = Sha256::digest(plain).into();
        chain.push(sha256);
        let mut chunk = like[n.min(like.len() - 1)].clone();
        (chunk.n, chunk.at, chunk.plain_at) = (n as u64, index.stored_len, index.plain_len);
        (chunk.len, chunk.plain_len) = (stored.len() as u64, plain.len() as u64);
        (chunk.sha256, chunk.chain) = (hex::encode(sha256), chain.head());
        index.stored_len += chunk.len;
        index.plain_len += chunk.plain_len;
        index.chunks.push(chunk);
    }
    serde_json::to_vec(&index).unwrap()
}

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
