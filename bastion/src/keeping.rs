//! Recordings' rows and seals: what the recordings crate leaves to others, done with the database and the
//! recording key.

use std::sync::Arc;

use async_trait::async_trait;
use recordings::{Compression, Ledger, LedgerError, RecordingState, SealError, Sealer, Stored};
use serde_json::Value;

use crate::{
    clock::Clock,
    db::{Db, recordings::Model},
    signing::Signing,
};

/// The type of a seal.
const SEAL_TYP: &str = "castellan-seal+jwt";

/// Keeps the state of every recording in its row.
pub struct Rows {
    /// Where.
    pub db: Db,
    /// When.
    pub clock: Clock,
}

#[async_trait]
impl Ledger for Rows {
    async fn moved(&self, session: &str, state: &RecordingState) -> Result<(), LedgerError> {
        let row = row(session, state, self.clock.millis());
        self.db.keep_recording(row).await.map_err(|error| LedgerError(error.to_string()))
    }
}

fn row(session: &str, state: &RecordingState, now: i64) -> Model {
    let begun = Model::begun(session, now);
    match state {
        RecordingState::Recording => begun,
        RecordingState::Spooled => Model { state: "spooled".to_owned(), ..begun },
        RecordingState::Uploading { reason, .. } => {
            Model { state: "uploading".to_owned(), reason: reason.clone(), ..begun }
        }
        RecordingState::Failed { reason } => {
            Model { state: "failed".to_owned(), reason: Some(reason.clone()), ..begun }
        }
        RecordingState::Stored(stored) => stored_row(stored, begun, now),
    }
}

fn stored_row(stored: &Stored, begun: Model, now: i64) -> Model {
    let size = |bytes: u64| i64::try_from(bytes).ok();
    #[allow(clippy::cast_possible_truncation, reason = "a session's milliseconds fit")]
    let duration_ms = (stored.duration * 1000.0).round() as i64;
    let compression = match stored.compression {
        Compression::Zstd => "zstd",
        Compression::None => "none",
    };
    Model {
        state: "stored".to_owned(),
        object_key: Some(stored.key.clone()),
        compression: Some(compression.to_owned()),
        size: size(stored.size),
        plain_size: size(stored.plain_size),
        sha256: Some(stored.sha256.clone()),
        plain_sha256: Some(stored.plain_sha256.clone()),
        duration_ms: Some(duration_ms),
        stored: serde_json::to_string(stored).ok(),
        stored_at: Some(now),
        ..begun
    }
}

/// Seals with the recording key.
pub struct RecordingKey {
    /// The keys.
    pub signing: Arc<Signing>,
    /// The bastion's public origin.
    pub issuer: String,
}

impl Sealer for RecordingKey {
    fn seal(&self, claims: &Value) -> Result<String, SealError> {
        self.signing.recording.sign(SEAL_TYP, claims).map_err(|error| SealError(error.to_string()))
    }

    fn issuer(&self) -> &str {
        &self.issuer
    }
}
