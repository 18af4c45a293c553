//! The public keys that seals are checked with.

use openapi::ticket::{self, Jwk, RECORDING_KID, TicketError};
use recordings::verify::{Opened, SealFault, SealKeys};
use serde_json::Value;

use super::SEAL_TYP;

/// The bastion's public recording keys, retired ones too.
#[derive(Clone, Debug)]
pub struct RecordingKeys(Vec<Jwk>);

impl RecordingKeys {
    /// Those of `keys` that are for recordings.
    pub fn new(keys: Vec<Jwk>) -> Self {
        Self(keys.into_iter().filter(|key| key.kid.starts_with(RECORDING_KID)).collect())
    }
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
