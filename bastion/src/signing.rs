//! The bastion's three Ed25519 keys: identity, ticket and recording; kept sealed, published as a key list.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use openapi::ticket::{Jwk, KEYS_TYP, KeyList, Signer, TicketError};

use crate::{
    clock::Clock,
    db::{Db, DbError, keys},
    seals::RecordingKeys,
    vault::{Place, Vault, VaultError},
};

/// Why the keys could not be had or used.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The database did not answer.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A key does not open.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// A key is damaged, or signing failed.
    #[error("signing key: {0}")]
    Key(#[from] TicketError),
    /// No key could be made.
    #[error("no signing key could be made")]
    Make,
}

/// The keys that sign now, and the public ones of all times.
#[derive(Debug)]
pub struct Signing {
    /// Signs approvals and the key list; agents pin it.
    pub identity: Signer,
    /// Signs tickets.
    pub ticket: Signer,
    /// Signs seals.
    pub recording: Signer,
    keys: Vec<Jwk>,
    recording_keys: RecordingKeys,
}

impl Signing {
    /// Reads the keys, making those that are missing.
    pub async fn open(db: &Db, vault: &Vault, clock: &Clock) -> Result<Self, SigningError> {
        let mut rows = db.signing_keys().await?;
        for (purpose, prefix) in [("identity", "id-"), ("ticket", "tk-"), ("recording", "rec-")] {
            if !rows.iter().any(|row| row.purpose == purpose && row.retired_at.is_none()) {
                let row = make(purpose, prefix, vault, clock.millis())?;
                db.add_signing_key(row.clone()).await?;
                rows.push(row);
            }
        }
        let keys: Vec<_> = rows.iter().map(jwk).collect::<Result<_, _>>()?;
        Ok(Self {
            identity: signer(&rows, "identity", vault)?,
            ticket: signer(&rows, "ticket", vault)?,
            recording: signer(&rows, "recording", vault)?,
            recording_keys: RecordingKeys::own(&keys),
            keys,
        })
    }

    /// All public keys, retired ones too.
    pub fn keys(&self) -> &[Jwk] {
        &self.keys
    }

    /// Those of them that seal.
    pub fn recording_keys(&self) -> &RecordingKeys {
        &self.recording_keys
    }

    /// The key list as a compact JWS of the identity key.
    pub fn signed_keys(&self, now: i64) -> Result<String, TicketError> {
        self.identity.sign(KEYS_TYP, &KeyList { keys: self.keys.clone(), iat: Some(now) })
    }
}

/// The public halves of all recording keys whose private halves open with `vault`: who can write to the database, and
/// no more, cannot add one.
pub async fn recording_keys(db: &Db, vault: &Vault) -> Result<RecordingKeys, SigningError> {
    let rows = db.signing_keys().await?;
    let recording = rows.iter().filter(|row| row.purpose == "recording");
    let proven: Vec<_> = recording.filter_map(|row| proven(row, vault)).collect();
    Ok(RecordingKeys::own(&proven))
}

fn proven(row: &keys::Model, vault: &Vault) -> Option<Jwk> {
    let place = Place { column: "signing_keys.private_key_sealed", row: &row.kid };
    let der = vault.unseal(place, &row.private_key_sealed).ok()?;
    let pair = Ed25519KeyPair::from_pkcs8(&der).ok()?;
    Some(Jwk::from_public(&row.kid, pair.public_key().as_ref()))
}

fn make(purpose: &'static str, prefix: &str, vault: &Vault, now: i64) -> Result<keys::Model, SigningError> {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| SigningError::Make)?;
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).map_err(|_| SigningError::Make)?;
    let public = pair.public_key().as_ref();
    let thumbprint = Jwk::from_public(prefix, public).thumbprint();
    let kid = format!("{prefix}{}", &thumbprint[..16]);
    let place = Place { column: "signing_keys.private_key_sealed", row: &kid };
    Ok(keys::Model {
        purpose: purpose.to_owned(),
        public_key: URL_SAFE_NO_PAD.encode(public),
        private_key_sealed: vault.seal(place, pkcs8.as_ref())?,
        created_at: now,
        retired_at: None,
        kid,
    })
}

fn jwk(row: &keys::Model) -> Result<Jwk, SigningError> {
    let raw = URL_SAFE_NO_PAD.decode(&row.public_key).map_err(|_| SigningError::Make)?;
    Ok(Jwk::from_public(&row.kid, &raw))
}

fn signer(rows: &[keys::Model], purpose: &str, vault: &Vault) -> Result<Signer, SigningError> {
    let row = rows
        .iter()
        .rev()
        .find(|row| row.purpose == purpose && row.retired_at.is_none())
        .ok_or(SigningError::Make)?;
    let place = Place { column: "signing_keys.private_key_sealed", row: &row.kid };
    let der = vault.unseal(place, &row.private_key_sealed)?;
    Ok(Signer::from_pkcs8(&row.kid, &der)?)
}
