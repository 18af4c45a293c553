//! The proof that a recording is whole and unaltered: facts, hash chain, claims; signing itself is the caller's.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::journal::{End, Facts, Header};

/// Why a seal could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the seal could not be signed: {0}")]
pub struct SealError(pub String);

/// Signs seals: a compact JWS, EdDSA, `typ` `castellan-seal+jwt`, a recording key's `kid`.
pub trait Sealer: Send + Sync + 'static {
    /// Signs `claims`.
    fn seal(&self, claims: &Value) -> Result<String, SealError>;
    /// The claim `iss`.
    fn issuer(&self) -> &str;
}

/// `facts` in JCS form (RFC 8785).
///
/// # Errors
/// None in practice: the facts are strings and small integers.
pub fn canonical(facts: &Facts) -> Result<String, serde_json::Error> {
    // serde_json escapes exactly what JCS demands, and Facts declares its fields in order.
    serde_json::to_string(facts)
}

/// The hash chain over a recording's chunks: each link covers all before it, the first the facts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain([u8; 32]);

impl Chain {
    /// The chain before any chunk: SHA-256 of the facts in JCS form.
    ///
    /// # Errors
    /// As [`canonical`].
    pub fn new(facts: &Facts) -> Result<Self, serde_json::Error> {
        Ok(Self(Sha256::digest(canonical(facts)?.as_bytes()).into()))
    }

    /// Adds a chunk by the SHA-256 of its plain bytes.
    pub fn push(&mut self, chunk: [u8; 32]) {
        self.0 = Sha256::new().chain_update(self.0).chain_update(chunk).finalize().into();
    }

    /// The chain's last value in hex.
    pub fn head(&self) -> String {
        hex::encode(self.0)
    }
}

/// What a seal says, as it is read back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Claims {
    /// The bastion's public origin.
    pub iss: String,
    /// When it was sealed, unix seconds.
    pub iat: i64,
    /// Id of the session.
    pub sub: String,
    /// The chain's root.
    pub facts: Facts,
    /// When the session ended: RFC 3339, UTC, milliseconds.
    pub ended: String,
    /// Why it ended.
    pub reason: String,
    /// How many chunks there are.
    pub chunks: u64,
    /// Bytes of the plain cast.
    pub plain_len: u64,
    /// The chain's last value, hex.
    pub head: String,
    /// Raw bytes the host printed, as recorded.
    pub output_bytes: u64,
    /// SHA-256 over them, hex.
    pub output_sha256: String,
    /// Whether it was sealed after a crash, as it stood.
    pub recovered: bool,
    /// Raw bytes known to be lost.
    pub lost_bytes: u64,
    /// Whether what was typed is recorded too.
    pub input: bool,
}

/// What a seal says besides the facts, the issuer and its time.
#[derive(Debug)]
pub(crate) struct Sums<'a> {
    pub(crate) ended: &'a str,
    pub(crate) chunks: usize,
    pub(crate) plain_len: u64,
    pub(crate) head: &'a str,
    pub(crate) output_bytes: u64,
    pub(crate) output_sha256: &'a str,
    pub(crate) lost_bytes: u64,
}

/// The claims of a recording's seal, without `iat`.
pub(crate) fn claims(issuer: &str, header: &Header, end: &End, sums: &Sums<'_>) -> Value {
    json!({
        "iss": issuer,
        "sub": header.facts.session,
        "facts": header.facts,
        "ended": sums.ended,
        "reason": end.reason,
        "chunks": sums.chunks,
        "plain_len": sums.plain_len,
        "head": sums.head,
        "output_bytes": sums.output_bytes,
        "output_sha256": sums.output_sha256,
        "recovered": end.recovered,
        "lost_bytes": sums.lost_bytes,
        "input": header.records_input,
    })
}

#[cfg(test)]
mod tests;
