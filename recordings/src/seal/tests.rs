//! The canonical form and the chain, against values computed elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use super::*;

// From Python: hashlib, and json.dumps with sorted keys and no spaces.
const FACTS_HASH: &str = "094737834ccdb8c1d60403e07df9d7a61b6aa311424b6d4b8c1a24c354125c0a";
const HEAD: &str = "eb859c1929afae0538f32fa433402d62da469c54a5c47ea97e49821b91fddf6e";

fn facts(user: &str) -> Facts {
    Facts {
        asset: "web-1".into(),
        cols: 80,
        rows: 24,
        session: "s1".into(),
        started: "2026-11-23T10:00:00.000Z".into(),
        user: user.into(),
    }
}

#[test]
fn facts_are_canonical_json_as_rfc_8785_escapes_it() {
    // The string is that of RFC 8785, section 3.2.2, and so is its expected form.
    let user = "\u{20ac}$\u{000F}\u{000a}A'\u{0042}\u{0022}\u{005c}\\\"/";
    let form = canonical(&facts(user)).unwrap();
    let string = r#""€$\u000f\nA'B\"\\\\\"/""#;
    assert_eq!(
        form,
        format!(
            r#"{{"asset":"web-1","cols":80,"rows":24,"session":"s1","started":"2026-11-23T10:00:00.000Z","user":{string}}}"#
        )
    );
}

#[test]
fn the_chain_is_what_another_program_computes() {
    let mut chain = Chain::new(&facts("alice")).unwrap();
    assert_eq!(chain.head(), FACTS_HASH);
    chain.push(Sha256::digest(b"one\n").into());
    chain.push(Sha256::digest(b"two\n").into());
    assert_eq!(chain.head(), HEAD);
}
