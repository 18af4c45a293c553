//! Seals opened: by which keys, and what makes one no seal. Seals are made in `keeping`.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use openapi::ticket::{self, Jwk, RECORDING_KID, TicketError};
use recordings::verify::{Opened, SealFault, SealKeys};
use serde_json::Value;

/// The type of a seal.
pub(crate) const SEAL_TYP: &str = "castellan-seal+jwt";

/// Why a list of keys is of no use.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// It has no recording key.
    #[error("no recording key in it (kid rec-…); fetch /.well-known/jwks.json anew")]
    None,
    /// A recording key is damaged.
    #[error("{0} is no Ed25519 key; fetch /.well-known/jwks.json anew")]
    Damaged(String),
}

/// A bastion's recording keys, retired ones too.
#[derive(Clone, Debug)]
pub struct RecordingKeys(Vec<Jwk>);

impl RecordingKeys {
    /// Those of a list of keys.
    ///
    /// # Errors
    /// If there are none, or one is damaged.
    pub fn of(list: &[Jwk]) -> Result<Self, KeysError> {
        let keys: Vec<Jwk> = list.iter().filter(|key| key.kid.starts_with(RECORDING_KID)).cloned().collect();
        if keys.is_empty() {
            return Err(KeysError::None);
        }
        match keys.iter().find(|key| !is_ed25519(key)) {
            Some(bad) => Err(KeysError::Damaged(bad.kid.clone())),
            None => Ok(Self(keys)),
        }
    }
}

fn is_ed25519(key: &Jwk) -> bool {
    let raw = URL_SAFE_NO_PAD.decode(&key.x).is_ok_and(|raw| raw.len() == 32);
    raw && key.kty == "OKP" && key.crv == "Ed25519" && key.alg == "EdDSA"
}

impl SealKeys for RecordingKeys {
    fn open(&self, seal: &str) -> Result<Opened, SealFault> {
        let refused = |error: TicketError| SealFault::Refused(error.to_string());
        let kid = ticket::kid_of(seal).ok_or(refused(TicketError::Malformed))?;
        if !kid.starts_with(RECORDING_KID) {
            return Err(SealFault::Refused(format!("its key {kid} is none for recordings")));
        }
        match ticket::verify::<Value>(seal, SEAL_TYP, &self.0) {
            Ok(claims) => Ok(Opened { kid, claims }),
            Err(TicketError::Kid) => Err(SealFault::UnknownKey(kid)),
            Err(error) => Err(refused(error)),
        }
    }
}
