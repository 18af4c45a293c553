//! Recordings' rows and seals, and how long they are kept: what the recordings crate leaves to others, done with the
//! database and the recording key.

use std::sync::Arc;

use async_trait::async_trait;
use recordings::{Compression, Ledger, LedgerError, RecordingState, SealError, Sealer, Stored};
use serde_json::{Value, json};

use crate::{
    clock::Clock,
    config::Span,
    db::{
        Db,
        audit::{Actor, Entry},
        recordings::Model,
    },
    seals::SEAL_TYP,
    signing::Signing,
};

mod keeper;
mod removal;

pub(crate) use keeper::{Keeper, Tombstone};

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
        let now = self.clock.millis();
        let (row, entry) = (row(session, state, now), entry(session, state, now));
        self.db.keep_recording(row, entry).await.map_err(|error| LedgerError(error.to_string()))
    }
}

/// What the audit log says of the two ends of the way: stored, whereby the seal enters the chain, or never.
fn entry(session: &str, state: &RecordingState, now: i64) -> Option<Entry> {
    let entry = |action| Entry::new(now, Actor::System, action).on("session", session);
    match state {
        RecordingState::Stored(stored) => Some(entry("recording.stored").with(json!({
            "key": stored.key,
            "size": stored.size,
            "sha256": stored.sha256,
            "plain_len": stored.plain_size,
            "plain_sha256": stored.plain_sha256,
            "seal_sha256": stored.seal_sha256,
            "chunks": stored.chunks,
            "head": stored.head,
        }))),
        RecordingState::Failed { reason } => Some(entry("recording.failed").with(json!({"reason": reason}))),
        RecordingState::Recording | RecordingState::Spooled | RecordingState::Uploading { .. } => None,
    }
}

/// When a recording is deleted by itself, UTC milliseconds: so long after its session ended, unless it is held.
pub fn deletes_at(ended: Option<i64>, held: bool, retention: Option<Span>) -> Option<i64> {
    let kept = i64::try_from(retention?.duration().as_millis()).ok()?;
    ended.filter(|_| !held)?.checked_add(kept)
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
