//! Signed requests: RFC 9421's own vectors, the contract's example, and every byte flipped.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;
use crate::keys::parse_public_key;

const DIGEST_SHA512: &str =
    "sha-512=:WZDPaVn/7XgHaAy8pmojAkGWoRx2UFChF41A2svX+TaPm+AbwAgBWnrIiYllu7BNNyealdVLvRwEmTHWXvJwew==:";
const SHARED_SECRET: &str =
    "uzvJfB4u3N0Jy4T7NZ75MDVcr8zSTInedJtkgcu46YW4XByzNJjxBdtjUkdJPBtbmHhIDi6pcl8jsasjlTMtDQ==";

/// What each component of the RFC's test request is (appendix B.2).
fn rfc_value(name: &str) -> &'static str {
    match name {
        "date" => "Tue, 20 Apr 2021 02:07:55 GMT",
        "@method" => "POST",
        "@path" => "/foo",
        "@query" => "?param=Value&Pet=dog",
        "@authority" => "example.com",
        "content-type" => "application/json",
        "content-digest" => DIGEST_SHA512,
        "content-length" => "18",
        "@query-param\";name=\"Pet" => "dog",
        other => panic!("{other}"),
    }
}

fn rfc_base(names: &[&'static str], params: &str) -> String {
    signature_base(names.iter().map(|name| (*name, rfc_value(name))), params)
}

fn rfc_rsa() -> VerifyingKey {
    VerifyingKey::Rsa(Box::new(parse_public_key(include_str!("../tests/data/rsa-pss-public.pem")).unwrap()))
}

fn verify_rfc(base: &str, signature: &str) -> Result<(), SignatureError> {
    rfc_rsa().verify(base.as_bytes(), &STANDARD.decode(signature).unwrap())
}

#[test]
fn rfc_9421_b_2_1_verifies() {
    let base =
        rfc_base(&[], r#"();created=1618884473;keyid="test-key-rsa-pss";nonce="b3k2pp5k7z-50gnwp.yemd""#);
    let signature = "d2pmTvmbncD3xQm8E9ZV2828BjQWGgiwAaw5bAkgibUopemLJcWDy/lkbbHAve4cRAtx31Iq786U7it++wgGxbtRxf8Udx7zFZsckzXaJMkA7ChG52eSkFxykJeNqsrWH5S+oxNFlD4dzVuwe8DhTSja8xxbR/Z2cOGdCbzR72rgFWhzx2VjBqJzsPLMIQKhO4DGezXehhWwE56YCE+O6c0mKZsfxVrogUvA4HELjVKWmAvtl6UnCh8jYzuVG5WSb/QEVPnP5TmcAnLH1g+s++v6d4s8m0gCw1fV5/SITLq9mhho8K3+7EPYTU8IU1bLhdxO5Nyt8C8ssinQ98Xw9Q==";
    assert_eq!(verify_rfc(&base, signature), Ok(()));
    assert_eq!(verify_rfc(&format!("{base} "), signature), Err(SignatureError::Mismatch));
}

#[test]
fn rfc_9421_b_2_3_verifies() {
    let names = [
        "date",
        "@method",
        "@path",
        "@query",
        "@authority",
        "content-type",
        "content-digest",
        "content-length",
    ];
    let params = r#"("date" "@method" "@path" "@query" "@authority" "content-type" "content-digest" "content-length");created=1618884473;keyid="test-key-rsa-pss""#;
    let signature = "bbN8oArOxYoyylQQUU6QYwrTuaxLwjAC9fbY2F6SVWvh0yBiMIRGOnMYwZ/5MR6fb0Kh1rIRASVxFkeGt683+qRpRRU5p2voTp768ZrCUb38K0fUxN0O0iC59DzYx8DFll5GmydPxSmme9v6ULbMFkl+V5B1TP/yPViV7KsLNmvKiLJH1pFkh/aYA2HXXZzNBXmIkoQoLd7YfW91kE9o/CCoC1xMy7JA1ipwvKvfrs65ldmlu9bpG6A9BmzhuzF8Eim5f8ui9eH8LZH896+QIF61ka39VBrohr9iyMUJpvRX2Zbhl5ZJzSRxpJyoEZAFL2FUo5fTIztsDZKEgM4cUA==";
    assert_eq!(verify_rfc(&rfc_base(&names, params), signature), Ok(()));
}

#[test]
fn rfc_9421_b_2_5_comes_out_byte_for_byte() {
    let params = r#"("date" "@authority" "content-type");created=1618884473;keyid="test-shared-secret""#;
    let base = rfc_base(&["date", "@authority", "content-type"], params);
    let secret = STANDARD.decode(SHARED_SECRET).unwrap();
    let made = mac(&secret, base.as_bytes()).unwrap().finalize().into_bytes();
    assert_eq!(STANDARD.encode(made), "pxcQw6G3AjtMBQjwo8XzkZf/bws5LelbaMk5rGIGtE8=");
    assert_eq!(verify_mac(&secret, base.as_bytes(), &made), Ok(()));
    assert_eq!(verify_mac(&secret, base.as_bytes(), &made[..16]), Err(SignatureError::Mismatch));
}

#[test]
fn a_digest_is_that_of_rfc_9530() {
    assert_eq!(digest_of(br#"{"hello": "world"}"#), "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:");
}

const CREATED: i64 = 1_764_000_000;
const BODY: &[u8] = br#"{"id":"0190"}"#;

fn secret() -> Secret {
    Secret::new([9; 32])
}

fn heartbeat() -> Target<'static> {
    Target {
        method: "POST",
        authority: "bastion.example",
        path: "/api/v1/heartbeat",
        query: Some("a=b"),
        body: Some(BODY),
    }
}

fn signed(target: &Target<'_>) -> SignatureHeaders {
    sign(&SigningKey::Hmac(secret()), "0190-asset", target, CREATED, &[0xab; 16]).unwrap()
}

fn check(headers: &SignatureHeaders, target: &Target<'_>) -> Result<(), SignatureError> {
    Claim::parse(&headers.signature_input, &headers.signature, headers.content_digest.as_deref())?
        .verify(&VerifyingKey::Hmac(secret()), target)
}

#[test]
fn the_base_is_the_one_of_the_contract() {
    let target = Target { query: None, ..heartbeat() };
    let headers = signed(&target);
    let params = headers.signature_input.strip_prefix("agent=").unwrap();
    let digest = headers.content_digest.as_deref().unwrap();
    assert_eq!(
        target.base(Some(digest), params),
        format!(
            "\"@method\": POST\n\"@authority\": bastion.example\n\"@path\": /api/v1/heartbeat\n\"@query\": ?\n\
             \"content-digest\": {digest}\n\"@signature-params\": (\"@method\" \"@authority\" \"@path\" \"@query\" \
             \"content-digest\");created=1764000000;nonce=\"q6urq6urq6urq6urq6urqw\";keyid=\"0190-asset\";\
             alg=\"hmac-sha256\""
        )
    );
}

#[test]
fn what_is_signed_verifies_with_and_without_a_body() {
    assert_eq!(check(&signed(&heartbeat()), &heartbeat()), Ok(()));
    let bare = Target { method: "GET", query: None, body: None, ..heartbeat() };
    assert_eq!(check(&signed(&bare), &bare), Ok(()));
    let empty = Target { body: Some(&[]), ..bare };
    assert_eq!(check(&signed(&empty), &bare), Ok(()), "an empty body is no body");
}

#[test]
fn a_body_must_be_covered_and_only_a_body() {
    let bare = Target { body: None, ..heartbeat() };
    assert_eq!(check(&signed(&bare), &heartbeat()), Err(SignatureError::Coverage));
    assert_eq!(check(&signed(&heartbeat()), &bare), Err(SignatureError::Coverage));
    let mut headers = signed(&heartbeat());
    headers.content_digest = None;
    assert_eq!(check(&headers, &heartbeat()), Err(SignatureError::Coverage));
}

#[test]
fn the_key_fixes_the_algorithm() {
    let headers = signed(&heartbeat());
    let claim = Claim::parse(&headers.signature_input, &headers.signature, headers.content_digest.as_deref())
        .unwrap();
    assert_eq!(claim.verify(&rfc_rsa(), &heartbeat()), Err(SignatureError::Algorithm));
    let other = VerifyingKey::Hmac(Secret::new([8; 32]));
    assert_eq!(claim.verify(&other, &heartbeat()), Err(SignatureError::Mismatch));
}

#[test]
fn the_clock_may_be_two_minutes_off_and_no_more() {
    let headers = signed(&heartbeat());
    let claim = Claim::parse(&headers.signature_input, &headers.signature, headers.content_digest.as_deref())
        .unwrap();
    for (now, fresh) in
        [(0, true), (120, true), (-120, true), (121, false), (-121, false), (i64::MAX - CREATED, false)]
    {
        assert_eq!(claim.fresh(CREATED + now), fresh, "{now}");
    }
}

#[test]
fn other_shapes_of_the_headers_are_refused() {
    let good = signed(&heartbeat());
    let input = good.signature_input.as_str();
    let bad = [
        input.replace("agent=", "other="),
        format!("{input}, agent={}", &input[6..]),
        input.replace(r#""@method" "@authority""#, r#""@authority" "@method""#),
        input.replace(r#" "@query""#, ""),
        input.replace("created=", "created=0x"),
        input.replace("created=", "created=-"),
        input.replace("created=", "created=+"),
        format!("{input};tag=\"x\""),
        input.replace(";nonce", ";expires=9999999999;nonce"),
        input.replace("hmac-sha256", "ed25519"),
        input.replace("q6urq6urq6urq6urq6urqw", "q6urq6urq6urq6urq6ur"),
        input.replace("q6urq6urq6urq6urq6urqw", "q6urq6urq6urq6urq6urqw=="),
        input.replace("0190-asset", ""),
        input.replace("0190-asset", &"k".repeat(KEYID_MAX + 1)),
        input.replace("0190-asset", &"k".repeat(HEADER_MAX)),
        String::new(),
    ];
    for input in bad {
        let claim = Claim::parse(&input, &good.signature, good.content_digest.as_deref());
        assert_eq!(claim.err(), Some(SignatureError::Malformed), "{input}");
    }
    for signature in ["", "agent=::x", "agent=:!:", "sig=:AAAA:"] {
        assert!(Claim::parse(input, signature, good.content_digest.as_deref()).is_err(), "{signature}");
    }
    let sign_as = |keyid: &str| sign(&SigningKey::Hmac(secret()), keyid, &heartbeat(), CREATED, &[0; 16]);
    assert_eq!(sign_as("a\"b").err(), Some(SignatureError::KeyId));
}

#[test]
fn an_authority_is_lower_case_and_without_its_default_port() {
    assert_eq!(authority_of("Bastion.Example:443", "https"), "bastion.example");
    assert_eq!(authority_of("bastion.example:8443", "wss"), "bastion.example:8443");
    assert_eq!(authority_of("127.0.0.1:80", "ws"), "127.0.0.1");
    assert_eq!(authority_of("[::1]:443", "http"), "[::1]:443");
}

fn flip(text: &str, at: prop::sample::Index, mask: u8) -> Option<String> {
    let mut bytes = text.as_bytes().to_vec();
    let at = at.index(bytes.len());
    bytes[at] ^= mask;
    String::from_utf8(bytes).ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn any_flipped_byte_is_refused(part in 0..8usize, at in any::<prop::sample::Index>(), mask in 1..=127u8) {
        let target = heartbeat();
        let mut headers = signed(&target);
        let (mut method, mut authority, mut path) = (target.method.to_owned(), target.authority.to_owned(), target.path.to_owned());
        let (mut query, mut body) = ("a=b".to_owned(), String::from_utf8(BODY.to_vec()).unwrap());
        let field = match part {
            0 => &mut method,
            1 => &mut authority,
            2 => &mut path,
            3 => &mut query,
            4 => &mut body,
            5 => headers.content_digest.as_mut().unwrap(),
            6 => &mut headers.signature_input,
            _ => &mut headers.signature,
        };
        let Some(flipped) = flip(field, at, mask) else { return Ok(()) };
        *field = flipped;
        let target = Target {
            method: &method, authority: &authority, path: &path, query: Some(&query), body: Some(body.as_bytes()),
        };
        prop_assert!(check(&headers, &target).is_err());
    }

    #[test]
    fn no_header_makes_the_parser_panic(input in "(agent=)?\\PC{0,80}", signature in "(agent=:)?\\PC{0,20}") {
        let _ = Claim::parse(&input, &signature, None);
    }
}
