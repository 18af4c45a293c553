//! The recorder by itself, in this process: a journal, its packing into a store, and what is derived.

use std::{future::pending, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use recordings::{
    Compression, Durability, Event, Facts, Header, Kind, Ledger, LedgerError, Library, RecordingState,
    SealError, Sealer, Spool, SpoolOptions, Stored, UploadOptions, Uploader, open_store,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::process::{files_below, own_cpu};

/// How long a step took, and this process' CPU meanwhile; seconds.
#[derive(Clone, Copy)]
pub struct Cost {
    /// By the clock.
    pub wall: f64,
    /// User and system.
    pub cpu: f64,
}

/// Does something, and says what it cost.
pub async fn cost_of<T>(work: impl Future<Output = T>) -> (T, Cost) {
    let (began, cpu) = (Instant::now(), own_cpu());
    let done = work.await;
    (done, Cost { wall: began.elapsed().as_secs_f64(), cpu: own_cpu() - cpu })
}

/// Bytes in a store.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kept {
    /// Casts.
    pub cast: u64,
    /// Their indices and seals.
    pub proof: u64,
    /// What is derived from them.
    pub derived: u64,
}

impl Kept {
    fn below(folder: &Path) -> Self {
        let mut kept = Self::default();
        for (file, bytes) in files_below(folder) {
            let name = file.to_string_lossy();
            let ends = |ends: [&str; 2]| ends.iter().any(|end| name.ends_with(end));
            if ends([".cast", ".cast.zst"]) {
                kept.cast += bytes;
            } else if ends([".index.json", ".seal"]) {
                kept.proof += bytes;
            } else {
                kept.derived += bytes;
            }
        }
        kept
    }
}

/// A spool and a store of one's own.
pub struct Shelf {
    home: TempDir,
    spool: Spool,
}

impl Shelf {
    /// Empty ones.
    pub fn new(durability: Durability) -> Self {
        let home = TempDir::new().unwrap();
        let options = SpoolOptions { dir: home.path().join("spool"), min_free: 1 << 20, durability };
        let spool = Spool::open(options).unwrap();
        Self { home, spool }
    }

    fn store(&self) -> recordings::Store {
        open_store(&format!("file://{}/store", self.home.path().display())).unwrap()
    }

    /// What the store holds.
    pub fn kept(&self) -> Kept {
        Kept::below(&self.home.path().join("store"))
    }

    /// Waits until the disk has what was written: its own work must not fall into the next step's time.
    pub async fn rested(&self) {
        let folder = std::fs::File::open(self.home.path()).unwrap();
        tokio::task::spawn_blocking(move || folder.sync_all()).await.unwrap().unwrap();
        sleep(Duration::from_millis(50)).await;
    }

    /// Records a session from its events, one batch each, as the relay does.
    pub async fn record(&self, session: &str, events: impl Iterator<Item = (Duration, Bytes)>) {
        let mut recorder = self.spool.start(header(session)).await.unwrap();
        let (mut offset, mut last) = (0, Duration::ZERO);
        for (at, bytes) in events {
            let next = offset + bytes.len() as u64;
            let kind = Kind::Output { offset, bytes };
            recorder.record(vec![Event { at, kind }]).await.unwrap();
            (offset, last) = (next, at);
        }
        recorder.finish(last, "exit", None).await.unwrap();
    }

    /// Packs all that is finished into the store, as far as the journal's removal; derives nothing.
    pub async fn pack(&self, compression: Compression, sessions: usize) -> Vec<Stored> {
        // The uploader waits here, once its recording is stored.
        let (tell, mut told) = mpsc::channel(1);
        let uploader = Uploader::new(
            self.spool.clone(),
            self.store(),
            Arc::new(Stops(tell)),
            Arc::new(Unsigned),
            UploadOptions { compression, now: || 0, chance: || 0.0 },
        );
        let mut running = Box::pin(uploader.run(CancellationToken::new()));
        let mut stored = Vec::new();
        while stored.len() < sessions {
            tokio::select! {
                () = &mut running => unreachable!("nobody stops it"),
                one = told.recv() => stored.push(one.unwrap()),
            }
        }
        stored
    }

    /// Reads what is in the store.
    pub fn library(&self) -> Library {
        Library::new(self.store(), self.spool.clone())
    }
}

fn header(session: &str) -> Header {
    let facts = Facts {
        asset: "web-1".to_owned(),
        cols: 80,
        rows: 24,
        session: session.to_owned(),
        started: "2026-11-23T09:00:00.000Z".to_owned(),
        user: "alice".to_owned(),
    };
    let term = "xterm-256color".to_owned();
    Header { facts, timestamp: 1_795_424_400, title: None, term, shell: None, records_input: false }
}

/// Hands on what is stored, and then holds the uploader: what it derives after that is another step.
struct Stops(mpsc::Sender<Stored>);

#[async_trait]
impl Ledger for Stops {
    async fn moved(&self, _: &str, state: &RecordingState) -> Result<(), LedgerError> {
        if let RecordingState::Stored(stored) = state {
            self.0.send((**stored).clone()).await.map_err(|error| LedgerError(error.to_string()))?;
            pending::<()>().await;
        }
        Ok(())
    }
}

/// A seal that proves nothing: a signature costs nothing to speak of.
struct Unsigned;

impl Sealer for Unsigned {
    fn seal(&self, claims: &Value) -> Result<String, SealError> {
        Ok(claims.to_string())
    }

    fn issuer(&self) -> &str {
        "https://bastion"
    }
}
