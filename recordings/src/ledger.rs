//! Where each recording is on its way, told to whoever keeps the rows.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::chunks::Compression;
use crate::journal::Exit;

/// Where a recording is on its way.
#[derive(Clone, Debug, PartialEq)]
pub enum RecordingState {
    /// Being recorded.
    Recording,
    /// Finished; waits in the spool.
    Spooled,
    /// Being uploaded, or waiting to try again.
    Uploading {
        /// The try, from 1.
        attempt: u32,
        /// Why the last one failed, if it did.
        reason: Option<String>,
    },
    /// In the store, read back.
    Stored(Box<Stored>),
    /// Cannot be stored; the journal is kept aside in the spool.
    Failed {
        /// Why.
        reason: String,
    },
}

impl RecordingState {
    /// The state's name, as it is kept and shown.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Recording => "recording",
            Self::Spooled => "spooled",
            Self::Uploading { .. } => "uploading",
            Self::Stored(_) => "stored",
            Self::Failed { .. } => "failed",
        }
    }
}

/// What lies in the store, and what is known of it. Hashes are SHA-256 in hex.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// Key of the cast; index and seal lie beside it.
    pub key: String,
    /// Bytes of the stored object.
    pub size: u64,
    /// Bytes of the plain cast.
    pub plain_size: u64,
    /// Of the stored object.
    pub sha256: String,
    /// Of the plain cast.
    pub plain_sha256: String,
    /// Of the seal's file.
    pub seal_sha256: String,
    /// Seconds from the first to the last record.
    pub duration: f64,
    /// When the session ended: RFC 3339, UTC, milliseconds.
    pub ended: String,
    /// Why it ended.
    pub reason: String,
    /// How the shell ended, if known.
    pub exit: Option<Exit>,
    /// Whether it was sealed after a crash.
    pub recovered: bool,
    /// Raw bytes the host printed, as recorded.
    pub output_bytes: u64,
    /// Raw bytes known to be lost.
    pub lost_bytes: u64,
    /// Chunks.
    pub chunks: u64,
    /// Last value of the hash chain.
    pub head: String,
    /// How the cast is stored.
    pub compression: Compression,
}

/// Why a state could not be kept.
#[derive(Debug, thiserror::Error)]
#[error("the recording's state could not be kept: {0}")]
pub struct LedgerError(pub String);

/// Keeps the state of every recording. `Stored` and `Failed` are told until taken, and may be told twice.
#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// The recording of `session` is now in `state`.
    async fn moved(&self, session: &str, state: &RecordingState) -> Result<(), LedgerError>;
}
