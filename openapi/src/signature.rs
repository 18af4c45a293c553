//! Signed requests: RFC 9421 signatures and RFC 9530 digests in the one shape the contract allows.
//!
//! Pure: the clock, the nonce and the store of used nonces are the caller's.

use std::fmt;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use crate::keys::{RsaPrivate, RsaPublic, Secret};

/// How far `created` may be off the verifier's clock, in seconds, either way.
pub const MAX_SKEW_SECONDS: i64 = 120;
/// The longest header that is looked at, in bytes.
pub const HEADER_MAX: usize = 2 * 1024;
/// The longest key id, in bytes.
pub const KEYID_MAX: usize = 64;

const RSA: &str = "rsa-pss-sha512";
const HMAC: &str = "hmac-sha256";
const BARE: &str = r#"("@method" "@authority" "@path" "@query")"#;
const WITH_BODY: &str = r#"("@method" "@authority" "@path" "@query" "content-digest")"#;

/// Why a request could not be signed, or its signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// A header is missing, too long or not in the one accepted shape.
    #[error("the signature headers are malformed")]
    Malformed,
    /// The key id cannot be written into a header.
    #[error("the key id is empty, too long or not plain text")]
    KeyId,
    /// The body and the covered components do not agree.
    #[error("the signature does not cover what the request carries")]
    Coverage,
    /// The body is not the one that was digested.
    #[error("the content digest is not that of the body")]
    Digest,
    /// `alg` is not the key's algorithm.
    #[error("the algorithm is not that of the key")]
    Algorithm,
    /// The signature is not this key's over this request.
    #[error("the signature does not match")]
    Mismatch,
    /// The key cannot sign.
    #[error("the key cannot sign")]
    Key,
}

/// What signs: an agent's RSA key before approval, the shared secret after it.
#[derive(Clone)]
pub enum SigningKey {
    /// `rsa-pss-sha512`, salt of 64 bytes.
    Rsa(Box<RsaPrivate>),
    /// `hmac-sha256`.
    Hmac(Secret),
}

/// What verifies; the key, not the request, decides the algorithm.
#[derive(Clone)]
pub enum VerifyingKey {
    /// `rsa-pss-sha512`, salt of 64 bytes.
    Rsa(Box<RsaPublic>),
    /// `hmac-sha256`.
    Hmac(Secret),
}

/// The request as both ends see it.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The method, upper case.
    pub method: &'a str,
    /// Host and port as [`authority_of`] writes them.
    pub authority: &'a str,
    /// The path as sent, before any router changes it.
    pub path: &'a str,
    /// The query as sent, without `?`.
    pub query: Option<&'a str>,
    /// The raw body; an empty one is no body.
    pub body: Option<&'a [u8]>,
}

/// The values of the headers to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureHeaders {
    /// `Content-Digest`, when there is a body.
    pub content_digest: Option<String>,
    /// `Signature-Input`.
    pub signature_input: String,
    /// `Signature`.
    pub signature: String,
}

/// What a request claims about itself: well-formed, and nothing more until [`Claim::verify`] agrees.
#[derive(Clone, Debug)]
pub struct Claim {
    /// Whose key: a `client_id`, or an asset's id.
    pub keyid: String,
    /// When it was signed, unix seconds.
    pub created: i64,
    /// 16 random bytes, base64url without padding.
    pub nonce: String,
    alg: String,
    params: String,
    content_digest: Option<String>,
    signature: Vec<u8>,
}

/// Host and port as `@authority` has them: lower case, without the scheme's default port.
#[must_use]
pub fn authority_of(host: &str, scheme: &str) -> String {
    let host = host.to_ascii_lowercase();
    let default = match scheme.to_ascii_lowercase().as_str() {
        "http" | "ws" => ":80",
        "https" | "wss" => ":443",
        _ => return host,
    };
    host.strip_suffix(default).map_or(host.clone(), str::to_owned)
}

/// Signs a request. An empty body counts as none.
///
/// # Errors
/// [`SignatureError::KeyId`] for a key id no header can hold, [`SignatureError::Key`] when the key fails.
pub fn sign(
    key: &SigningKey,
    keyid: &str,
    target: &Target<'_>,
    created: i64,
    nonce: &[u8; 16],
) -> Result<SignatureHeaders, SignatureError> {
    if !is_keyid(keyid) {
        return Err(SignatureError::KeyId);
    }
    let content_digest = target.content().map(digest_of);
    let list = if content_digest.is_some() { WITH_BODY } else { BARE };
    let nonce = URL_SAFE_NO_PAD.encode(nonce);
    let alg = key.algorithm();
    let params = format!("{list};created={created};nonce=\"{nonce}\";keyid=\"{keyid}\";alg=\"{alg}\"");
    let signature = key.sign(target.base(content_digest.as_deref(), &params).as_bytes())?;
    Ok(SignatureHeaders {
        content_digest,
        signature_input: format!("agent={params}"),
        signature: format!("agent=:{}:", STANDARD.encode(signature)),
    })
}

impl Claim {
    /// Reads the headers' values, strictly: one label, `agent`, the exact components and parameters in their order.
    ///
    /// # Errors
    /// [`SignatureError::Malformed`], or [`SignatureError::Coverage`] when the digest's header and its component do not
    /// come together.
    pub fn parse(
        signature_input: &str,
        signature: &str,
        content_digest: Option<&str>,
    ) -> Result<Self, SignatureError> {
        if [signature_input, signature, content_digest.unwrap_or_default()]
            .iter()
            .any(|h| h.len() > HEADER_MAX)
        {
            return Err(SignatureError::Malformed);
        }
        let read = read_params(signature_input).ok_or(SignatureError::Malformed)?;
        if read.covers_body != content_digest.is_some() {
            return Err(SignatureError::Coverage);
        }
        let signature = between(signature, "agent=:", ":").and_then(|text| STANDARD.decode(text).ok());
        Ok(Self {
            keyid: read.keyid.to_owned(),
            created: read.created,
            nonce: read.nonce.to_owned(),
            alg: read.alg.to_owned(),
            params: read.params.to_owned(),
            content_digest: content_digest.map(str::to_owned),
            signature: signature.ok_or(SignatureError::Malformed)?,
        })
    }

    /// Checks body, algorithm and signature; neither the clock ([`Claim::fresh`]) nor whether the nonce was used.
    ///
    /// # Errors
    /// [`SignatureError`] for whatever does not agree; the other end learns only that the signature is bad.
    pub fn verify(&self, key: &VerifyingKey, target: &Target<'_>) -> Result<(), SignatureError> {
        match (&self.content_digest, target.content()) {
            (None, None) => {}
            (Some(header), Some(body)) => check_digest(header, body)?,
            (Some(_), None) | (None, Some(_)) => return Err(SignatureError::Coverage),
        }
        if self.alg != key.algorithm() {
            return Err(SignatureError::Algorithm);
        }
        let base = target.base(self.content_digest.as_deref(), &self.params);
        key.verify(base.as_bytes(), &self.signature)
    }

    /// Whether the digest it carries is `body`'s; for a body that brings the key, before it is parsed.
    #[must_use]
    pub fn covers(&self, body: &[u8]) -> bool {
        self.content_digest.as_deref().is_some_and(|header| check_digest(header, body).is_ok())
    }

    /// Whether it was signed within [`MAX_SKEW_SECONDS`] of `now` (unix seconds).
    #[must_use]
    pub fn fresh(&self, now: i64) -> bool {
        now.abs_diff(self.created) <= MAX_SKEW_SECONDS.unsigned_abs()
    }
}

impl<'a> Target<'a> {
    fn content(&self) -> Option<&'a [u8]> {
        self.body.filter(|body| !body.is_empty())
    }

    fn base(&self, content_digest: Option<&str>, params: &str) -> String {
        let query = format!("?{}", self.query.unwrap_or_default());
        let path = if self.path.is_empty() { "/" } else { self.path };
        let bare = [
            ("@method", self.method),
            ("@authority", self.authority),
            ("@path", path),
            ("@query", query.as_str()),
        ];
        signature_base(
            bare.into_iter().chain(content_digest.map(|digest| ("content-digest", digest))),
            params,
        )
    }
}

impl SigningKey {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => RSA,
            Self::Hmac(_) => HMAC,
        }
    }

    fn sign(&self, base: &[u8]) -> Result<Vec<u8>, SignatureError> {
        match self {
            Self::Rsa(key) => key.pss_sign::<Sha512>(base).map_err(|_| SignatureError::Key),
            Self::Hmac(secret) => Ok(mac(secret.expose(), base)?.finalize().into_bytes().to_vec()),
        }
    }
}

impl VerifyingKey {
    fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => RSA,
            Self::Hmac(_) => HMAC,
        }
    }

    fn verify(&self, base: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
        match self {
            Self::Rsa(key) => key.pss_verify::<Sha512>(base, signature).map_err(|_| SignatureError::Mismatch),
            Self::Hmac(secret) => verify_mac(secret.expose(), base, signature),
        }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.algorithm())
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({})", self.algorithm())
    }
}

/// RFC 9421, 2.5: a line for each component, then the parameters.
fn signature_base<'a>(components: impl Iterator<Item = (&'a str, &'a str)>, params: &str) -> String {
    let mut base = String::new();
    for (name, value) in components {
        base.extend(["\"", name, "\": ", value, "\n"]);
    }
    base.extend(["\"@signature-params\": ", params]);
    base
}

fn mac(secret: &[u8], base: &[u8]) -> Result<Hmac<Sha256>, SignatureError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).map_err(|_| SignatureError::Key)?;
    mac.update(base);
    Ok(mac)
}

fn verify_mac(secret: &[u8], base: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
    mac(secret, base)?.verify_slice(signature).map_err(|_| SignatureError::Mismatch)
}

fn digest_of(body: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(body)))
}

fn check_digest(header: &str, body: &[u8]) -> Result<(), SignatureError> {
    let claimed = between(header, "sha-256=:", ":").and_then(|text| STANDARD.decode(text).ok());
    let claimed = claimed.ok_or(SignatureError::Malformed)?;
    let same = Sha256::digest(body).as_slice().ct_eq(&claimed);
    if bool::from(same) { Ok(()) } else { Err(SignatureError::Digest) }
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.strip_prefix(before)?.strip_suffix(after)
}

/// Printable ASCII that a quoted string holds without escapes.
fn is_keyid(keyid: &str) -> bool {
    (1..=KEYID_MAX).contains(&keyid.len())
        && keyid.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\')
}

/// `Signature-Input`, taken apart.
struct Params<'a> {
    params: &'a str,
    covers_body: bool,
    created: i64,
    nonce: &'a str,
    keyid: &'a str,
    alg: &'a str,
}

fn read_params(header: &str) -> Option<Params<'_>> {
    let params = header.strip_prefix("agent=")?;
    let (covers_body, rest) = match params.strip_prefix(BARE) {
        Some(rest) => (false, rest),
        None => (true, params.strip_prefix(WITH_BODY)?),
    };
    let (created, rest) = rest.strip_prefix(";created=")?.split_once(";nonce=\"")?;
    let (nonce, rest) = rest.split_once("\";keyid=\"")?;
    let (keyid, rest) = rest.split_once("\";alg=\"")?;
    let alg = rest.strip_suffix('"').filter(|alg| matches!(*alg, RSA | HMAC))?;
    URL_SAFE_NO_PAD.decode(nonce).ok().filter(|bytes| bytes.len() == 16)?;
    is_keyid(keyid).then_some(())?;
    let canonical = matches!(created.len(), 1..=15) && created.bytes().all(|byte| byte.is_ascii_digit());
    let created = created.parse().ok().filter(|_| canonical)?;
    Some(Params { params, covers_body, created, nonce, keyid, alg })
}

#[cfg(test)]
#[path = "signature_tests.rs"]
mod tests;
