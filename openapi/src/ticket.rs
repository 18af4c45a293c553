//! Tickets: the claims of a one-time JWT, what makes one valid, and the keys that sign; not whether it was used.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, crypto};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

/// `typ` of a browser's ticket.
pub const BROWSER_TYP: &str = "castellan-ticket+jwt";
/// `typ` of an agent's ticket.
pub const RELAY_TYP: &str = "castellan-relay+jwt";
/// `typ` of the proof that an approval is the bastion's.
pub const APPROVAL_TYP: &str = "castellan-approval+jwt";
/// `typ` of the signed list of keys.
pub const KEYS_TYP: &str = "castellan-keys+jwt";
/// The longest life of a ticket, in seconds.
pub const MAX_LIFETIME: i64 = 300;
/// How far `nbf` and `iat` may lie ahead of the verifier's clock, in seconds.
pub const LEEWAY: i64 = 5;
/// The longest token that is looked at, in bytes.
pub const TOKEN_MAX: usize = 8 * 1024;
/// How the `kid` of an identity key begins.
pub const IDENTITY_KID: &str = "id-";
/// How the `kid` of a ticket key begins.
pub const TICKET_KID: &str = "tk-";
/// How the `kid` of a recording key begins.
pub const RECORDING_KID: &str = "rec-";

/// Why a token is refused, or cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TicketError {
    /// Not a compact JWS of acceptable length, or its claims are not the expected ones.
    #[error("the token is malformed")]
    Malformed,
    /// `alg` is not EdDSA.
    #[error("the token's algorithm is not EdDSA")]
    Algorithm,
    /// `typ` is another kind of token.
    #[error("the token is of another type")]
    Type,
    /// `kid` names none of the known keys, or a key for another purpose.
    #[error("the token's key is not known")]
    Kid,
    /// The signature is not this key's over this token.
    #[error("the token's signature does not match")]
    Signature,
    /// `iss` is another bastion.
    #[error("the token is another bastion's")]
    Issuer,
    /// `aud` is somebody else.
    #[error("the token is for somebody else")]
    Audience,
    /// `sub`, `jti` or another id is empty, or names another asset.
    #[error("the token does not say who it is for")]
    Subject,
    /// The time is past `exp`.
    #[error("the token has expired")]
    Expired,
    /// The time is before `nbf` or `iat`.
    #[error("the token is not valid yet")]
    NotYet,
    /// It would live longer than [`MAX_LIFETIME`].
    #[error("the token's lifetime is too long")]
    Lifetime,
    /// The key is not Ed25519, or cannot sign.
    #[error("the key is not a usable Ed25519 key")]
    Key,
}

/// What a reattaching browser may do.
#[derive(Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Type and resize.
    Control,
    /// Only look.
    Watch,
}

/// The claims of a browser's ticket. Times are unix seconds.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct BrowserClaims {
    /// The bastion's public URL.
    pub iss: String,
    /// [`browser_audience`].
    pub aud: String,
    /// The user's id.
    pub sub: String,
    /// The asset's id.
    pub asset: String,
    /// This ticket's id.
    pub jti: String,
    /// When it was made.
    pub iat: i64,
    /// Not valid before.
    pub nbf: i64,
    /// Not valid from here on.
    pub exp: i64,
    /// The decision's id.
    pub dec: String,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// The command; none: the login shell.
    pub command: Option<String>,
    /// For a reattach: the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// For a reattach: what it may do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Whether it suffices alone, for a plain client.
    #[serde(default)]
    pub plain: bool,
}

/// The claims of an agent's ticket. Times are unix seconds.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct RelayClaims {
    /// The bastion's public URL.
    pub iss: String,
    /// [`relay_audience`] of the asset.
    pub aud: String,
    /// The user's id.
    pub sub: String,
    /// The asset's id.
    pub asset: String,
    /// This ticket's id.
    pub jti: String,
    /// When it was made.
    pub iat: i64,
    /// Not valid before.
    pub nbf: i64,
    /// Not valid from here on.
    pub exp: i64,
    /// The session's id.
    pub sid: String,
    /// The host's account to run as; none: the agent's own.
    pub run_as: Option<String>,
    /// The command; none: the login shell.
    pub command: Option<String>,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// The user's name, for people to read.
    pub user: String,
    /// Whether input is recorded: only then are ECHO frames of use. An agent that is not told sends them.
    #[serde(default = "in_doubt")]
    pub records_input: bool,
}

fn in_doubt() -> bool {
    true
}

/// The claims of the proof that comes with an approval.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ApprovalClaims {
    /// The application.
    pub apply_id: String,
    /// The agent's id.
    pub client_id: String,
    /// The fingerprint of the approved key.
    pub fingerprint: String,
    /// Hex SHA-256 of the text of `encrypted_secret`.
    pub secret_sha256: String,
    /// When it was made, unix seconds.
    pub iat: i64,
}

/// The `aud` of every browser's ticket.
#[must_use]
pub fn browser_audience() -> &'static str {
    "castellan:browser"
}

/// The `aud` of a ticket for one asset's agent.
#[must_use]
pub fn relay_audience(asset: &str) -> String {
    format!("castellan:agent:{asset}")
}

/// A public Ed25519 key as RFC 8037 writes it.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "poem", derive(poem_openapi::Object))]
pub struct Jwk {
    /// `OKP`.
    pub kty: String,
    /// `Ed25519`.
    pub crv: String,
    /// The 32 bytes, base64url without padding.
    pub x: String,
    /// Begins with `id-`, `tk-` or `rec-`: what the key is for.
    pub kid: String,
    /// `sig`.
    #[serde(rename = "use")]
    #[cfg_attr(feature = "poem", oai(rename = "use"))]
    pub usage: String,
    /// `EdDSA`.
    pub alg: String,
}

impl Jwk {
    /// Describes a raw public key of 32 bytes.
    #[must_use]
    pub fn from_public(kid: &str, raw: &[u8]) -> Self {
        Self {
            kty: "OKP".to_owned(),
            crv: "Ed25519".to_owned(),
            x: URL_SAFE_NO_PAD.encode(raw),
            kid: kid.to_owned(),
            usage: "sig".to_owned(),
            alg: "EdDSA".to_owned(),
        }
    }

    /// The RFC 7638 thumbprint: base64url SHA-256 of the required members.
    #[must_use]
    pub fn thumbprint(&self) -> String {
        let Self { kty, crv, x, .. } = self;
        // Three plain strings in lexical order; anything that would need escaping is no Ed25519 key.
        URL_SAFE_NO_PAD.encode(Sha256::digest(format!(r#"{{"crv":"{crv}","kty":"{kty}","x":"{x}"}}"#)))
    }

    fn decoding(&self) -> Result<DecodingKey, TicketError> {
        let raw = URL_SAFE_NO_PAD.decode(&self.x).map_err(|_| TicketError::Key)?;
        let ours = self.kty == "OKP" && self.crv == "Ed25519" && self.alg == "EdDSA" && raw.len() == 32;
        if ours { Ok(DecodingKey::from_ed_der(&raw)) } else { Err(TicketError::Key) }
    }
}

/// The bastion's public keys, as a JWK set.
#[derive(Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "poem", derive(poem_openapi::Object))]
pub struct KeyList {
    /// All of them, retired ones too.
    pub keys: Vec<Jwk>,
    /// When the signed list was made, unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "poem", oai(skip_serializing_if_is_none))]
    pub iat: Option<i64>,
}

/// The protected header. Strict: a header that brings its own key (`jwk`, `jku`, `x5c`) or `crit` is none of ours.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

/// A private Ed25519 key and its id.
#[derive(Clone)]
pub struct Signer {
    kid: String,
    key: EncodingKey,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Signer {
    /// Takes an Ed25519 key in PKCS#8 DER, and tries it.
    ///
    /// # Errors
    /// [`TicketError::Key`] when it cannot sign.
    pub fn from_pkcs8(kid: &str, der: &[u8]) -> Result<Self, TicketError> {
        let key = EncodingKey::from_ed_der(der);
        crypto::sign(b"", &key, Algorithm::EdDSA).map_err(|_| TicketError::Key)?;
        Ok(Self { kid: kid.to_owned(), key })
    }

    /// The key's id.
    #[must_use]
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// A compact JWS over the claims.
    ///
    /// # Errors
    /// [`TicketError::Malformed`] when the claims are no JSON, [`TicketError::Key`] when signing fails.
    pub fn sign<T: Serialize>(&self, typ: &str, claims: &T) -> Result<String, TicketError> {
        let header = Header { alg: "EdDSA".to_owned(), kid: self.kid.clone(), typ: typ.to_owned() };
        let message = format!("{}.{}", encode_part(&header)?, encode_part(claims)?);
        let signature = crypto::sign(message.as_bytes(), &self.key, Algorithm::EdDSA);
        Ok(format!("{message}.{}", signature.map_err(|_| TicketError::Key)?))
    }
}

/// Checks header and signature, and reads the claims; looks at no clock and at no claim.
///
/// # Errors
/// [`TicketError`] for the first thing that is wrong.
pub fn verify<T: DeserializeOwned>(token: &str, typ: &str, keys: &[Jwk]) -> Result<T, TicketError> {
    if token.len() > TOKEN_MAX {
        return Err(TicketError::Malformed);
    }
    let (message, signature) = token.rsplit_once('.').ok_or(TicketError::Malformed)?;
    let (header, claims) = message.split_once('.').ok_or(TicketError::Malformed)?;
    let header: Header = decode_part(header)?;
    if header.alg != "EdDSA" {
        return Err(TicketError::Algorithm);
    }
    if header.typ != typ {
        return Err(TicketError::Type);
    }
    let key = keys.iter().find(|key| key.kid == header.kid).ok_or(TicketError::Kid)?;
    let valid = crypto::verify(signature, message.as_bytes(), &key.decoding()?, Algorithm::EdDSA);
    if !valid.map_err(|_| TicketError::Signature)? {
        return Err(TicketError::Signature);
    }
    decode_part(claims)
}

/// The `kid` a token names, unverified: to know whether a newer list of keys is worth asking for.
#[must_use]
pub fn kid_of(token: &str) -> Option<String> {
    let header = token.split('.').next().filter(|_| token.len() <= TOKEN_MAX)?;
    decode_part::<Header>(header).ok().map(|header| header.kid)
}

/// Checks a browser's ticket wholly, but for whether it was used. `now` is unix seconds.
///
/// # Errors
/// [`TicketError`] for the first thing that is wrong.
pub fn verify_browser(token: &str, keys: &[Jwk], iss: &str, now: i64) -> Result<BrowserClaims, TicketError> {
    let claims: BrowserClaims = verify(token, BROWSER_TYP, &ticket_keys(keys))?;
    if claims.iss != iss {
        return Err(TicketError::Issuer);
    }
    if claims.aud != browser_audience() {
        return Err(TicketError::Audience);
    }
    check_ids(&[&claims.sub, &claims.jti, &claims.asset])?;
    check_times(claims.iat, claims.nbf, claims.exp, now)?;
    Ok(claims)
}

/// Checks an agent's ticket wholly, but for whether it was used. `now` is unix seconds.
///
/// # Errors
/// [`TicketError`] for the first thing that is wrong.
pub fn verify_relay(token: &str, keys: &[Jwk], asset: &str, now: i64) -> Result<RelayClaims, TicketError> {
    let claims: RelayClaims = verify(token, RELAY_TYP, &ticket_keys(keys))?;
    if claims.aud != relay_audience(asset) {
        return Err(TicketError::Audience);
    }
    if claims.asset != asset {
        return Err(TicketError::Subject);
    }
    check_ids(&[&claims.sub, &claims.jti, &claims.sid, &claims.iss])?;
    check_times(claims.iat, claims.nbf, claims.exp, now)?;
    Ok(claims)
}

fn ticket_keys(keys: &[Jwk]) -> Vec<Jwk> {
    keys.iter().filter(|key| key.kid.starts_with(TICKET_KID)).cloned().collect()
}

fn check_ids(ids: &[&str]) -> Result<(), TicketError> {
    if ids.iter().any(|id| id.is_empty()) { Err(TicketError::Subject) } else { Ok(()) }
}

fn check_times(iat: i64, nbf: i64, exp: i64, now: i64) -> Result<(), TicketError> {
    if exp.saturating_sub(iat) > MAX_LIFETIME || exp.saturating_sub(nbf) > MAX_LIFETIME {
        return Err(TicketError::Lifetime);
    }
    if exp <= now {
        return Err(TicketError::Expired);
    }
    if nbf.max(iat) > now.saturating_add(LEEWAY) { Err(TicketError::NotYet) } else { Ok(()) }
}

fn encode_part<T: Serialize>(part: &T) -> Result<String, TicketError> {
    serde_json::to_vec(part).map(|json| URL_SAFE_NO_PAD.encode(json)).map_err(|_| TicketError::Malformed)
}

fn decode_part<T: DeserializeOwned>(part: &str) -> Result<T, TicketError> {
    let json = URL_SAFE_NO_PAD.decode(part).map_err(|_| TicketError::Malformed)?;
    serde_json::from_slice(&json).map_err(|_| TicketError::Malformed)
}

#[cfg(test)]
#[path = "ticket_tests.rs"]
mod tests;
