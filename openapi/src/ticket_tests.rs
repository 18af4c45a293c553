//! Tickets: what must be refused, as a table, and what must not.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use serde_json::{Value, json};

use super::*;

const NOW: i64 = 1_764_000_000;
const ISS: &str = "https://bastion.example";

/// RFC 8037 appendix A.1: the key pair of the RFC.
const SEED: &str = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
const PUBLIC: &str = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

fn pkcs8(seed: &[u8]) -> Vec<u8> {
    [&hex::decode("302e020100300506032b657004220420").unwrap()[..], seed].concat()
}

fn signer(kid: &str) -> Signer {
    Signer::from_pkcs8(kid, &pkcs8(&hex::decode(SEED).unwrap())).unwrap()
}

fn keys() -> Vec<Jwk> {
    let raw = URL_SAFE_NO_PAD.decode(PUBLIC).unwrap();
    vec![Jwk::from_public("id-1", &raw), Jwk::from_public("tk-1", &raw)]
}

fn claims() -> Value {
    json!({
        "iss": ISS, "aud": "castellan:browser", "sub": "u1", "asset": "a1", "jti": "j1",
        "iat": NOW, "nbf": NOW, "exp": NOW + 300, "dec": "d1", "cols": 80, "rows": 24, "command": null,
    })
}

fn relay_claims() -> Value {
    json!({
        "iss": ISS, "aud": "castellan:agent:a1", "sub": "u1", "asset": "a1", "jti": "j1", "iat": NOW, "nbf": NOW,
        "exp": NOW + 300, "sid": "s1", "run_as": null, "command": "x".repeat(4096), "cols": 80, "rows": 24, "user": "alice",
    })
}

fn browser(token: &str) -> Result<BrowserClaims, TicketError> {
    verify_browser(token, &keys(), ISS, NOW)
}

/// The good claims but for one.
fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

/// Signs any header and any text with the right key.
fn forged(header: &Value, claims: &str) -> String {
    let message = format!("{}.{}", encode_part(header).unwrap(), URL_SAFE_NO_PAD.encode(claims));
    let signature = crypto::sign(message.as_bytes(), &signer("tk-1").key, Algorithm::EdDSA).unwrap();
    format!("{message}.{signature}")
}

#[test]
fn a_good_ticket_is_read() {
    let read = browser(&signer("tk-1").sign(BROWSER_TYP, &claims()).unwrap()).unwrap();
    assert_eq!((read.sub.as_str(), read.cols, read.plain, read.sid), ("u1", 80, false, None));
    let relay = signer("tk-1").sign(RELAY_TYP, &relay_claims()).unwrap();
    assert!(relay.len() <= TOKEN_MAX, "the longest command fits");
    assert_eq!(verify_relay(&relay, &keys(), "a1", NOW).unwrap().sid, "s1");
    assert_eq!(kid_of(&relay).as_deref(), Some("tk-1"));
}

#[test]
fn claims_that_do_not_hold_are_refused() {
    let table = [
        (without("aud"), TicketError::Malformed),
        (without("iss"), TicketError::Malformed),
        (without("nbf"), TicketError::Malformed),
        (without("exp"), TicketError::Malformed),
        (without("sub"), TicketError::Malformed),
        (without("jti"), TicketError::Malformed),
        (with("aud", json!(1)), TicketError::Malformed),
        (with("aud", json!(["castellan:browser"])), TicketError::Malformed),
        (with("aud", json!("castellan:agent:a1")), TicketError::Audience),
        (with("iss", json!("https://bastion.example.evil")), TicketError::Issuer),
        (with("sub", json!("")), TicketError::Subject),
        (with("jti", json!("")), TicketError::Subject),
        (with("exp", json!(NOW + 100 * 365 * 86_400)), TicketError::Lifetime),
        (with("iat", json!(i64::MIN)), TicketError::Lifetime),
        (with("exp", json!(NOW - 1)), TicketError::Expired),
        (with("exp", json!(NOW)), TicketError::Expired),
        (with("nbf", json!(NOW + 10)), TicketError::NotYet),
        (with("iat", json!(NOW + 10)), TicketError::NotYet),
        (with("exp", json!(1e12)), TicketError::Malformed),
        (with("cols", json!(70_000)), TicketError::Malformed),
    ];
    for (claims, why) in table {
        let token = signer("tk-1").sign(BROWSER_TYP, &claims).unwrap();
        assert_eq!(browser(&token), Err(why), "{claims}");
    }
}

#[test]
fn a_header_that_is_not_ours_is_refused() {
    let header = |alg: &str, kid: &str, typ: &str| json!({"alg": alg, "kid": kid, "typ": typ});
    let mut own_key = header("EdDSA", "tk-1", BROWSER_TYP);
    own_key["jwk"] = json!({"kty": "OKP"});
    let table = [
        (header("none", "tk-1", BROWSER_TYP), TicketError::Algorithm),
        (header("HS512", "tk-1", BROWSER_TYP), TicketError::Algorithm),
        (header("RS256", "tk-1", BROWSER_TYP), TicketError::Algorithm),
        (header("EdDSA", "tk-1", RELAY_TYP), TicketError::Type),
        (header("EdDSA", "tk-1", "JWT"), TicketError::Type),
        (header("EdDSA", "tk-2", BROWSER_TYP), TicketError::Kid),
        (header("EdDSA", "../tk-1", BROWSER_TYP), TicketError::Kid),
        (header("EdDSA", "id-1", BROWSER_TYP), TicketError::Kid),
        (json!({"alg": "EdDSA", "kid": "tk-1"}), TicketError::Malformed),
        (json!({"alg": "EdDSA", "typ": BROWSER_TYP}), TicketError::Malformed),
        (own_key, TicketError::Malformed),
    ];
    for (header, why) in table {
        assert_eq!(browser(&forged(&header, &claims().to_string())), Err(why), "{header}");
    }
}

#[test]
fn damaged_oversized_and_ambiguous_tokens_are_refused() {
    let good = signer("tk-1").sign(BROWSER_TYP, &claims()).unwrap();
    let header = json!({"alg": "EdDSA", "kid": "tk-1", "typ": BROWSER_TYP});
    assert!(browser(&forged(&header, &claims().to_string())).is_ok());
    let twice = claims().to_string().replacen('{', r#"{"aud":"castellan:agent:a1","#, 1);
    assert_eq!(browser(&forged(&header, &twice)), Err(TicketError::Malformed));
    let huge = with("dec", json!("x".repeat(TOKEN_MAX)));
    assert_eq!(browser(&signer("tk-1").sign(BROWSER_TYP, &huge).unwrap()), Err(TicketError::Malformed));
    for bad in ["", ".", "..", "a.b.c", good.rsplit_once('.').unwrap().0] {
        assert!(browser(bad).is_err(), "{bad}");
    }
    for at in 0..good.len() {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let flipped = String::from_utf8(bytes).unwrap();
        assert!(browser(&flipped).is_err(), "byte {at}");
    }
}

#[test]
fn a_foreign_key_and_a_foreign_asset_are_refused() {
    let thief = Signer::from_pkcs8("tk-1", &pkcs8(&[3; 32])).unwrap();
    assert_eq!(browser(&thief.sign(BROWSER_TYP, &claims()).unwrap()), Err(TicketError::Signature));
    let relay = signer("tk-1").sign(RELAY_TYP, &relay_claims()).unwrap();
    assert_eq!(verify_relay(&relay, &keys(), "a2", NOW), Err(TicketError::Audience));
    assert_eq!(browser(&relay), Err(TicketError::Type));
    assert!(Signer::from_pkcs8("tk-1", b"not a key").is_err());
}

#[test]
fn a_thumbprint_is_that_of_rfc_8037() {
    assert_eq!(keys()[0].thumbprint(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn a_key_is_published_under_its_registered_names() {
    let list = KeyList { keys: vec![keys().remove(1)], iat: None };
    assert_eq!(
        serde_json::to_value(list).unwrap(),
        json!({"keys": [
            {"kty": "OKP", "crv": "Ed25519", "x": PUBLIC, "kid": "tk-1", "use": "sig", "alg": "EdDSA"},
        ]})
    );
}
