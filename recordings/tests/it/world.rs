//! Fixtures: a spool in a folder of its own, a store that can fail, a ledger one can wait for.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use recordings::{
    Compression, Disk, Durability, Event, Facts, Header, Kind, Ledger, LedgerError, Recorder, RecordingState,
    Spool, SpoolOptions, Store, Stored, UploadOptions, Uploader, open_store,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::kept::Notary;

/// Nothing here takes that long; it is only there to end a test that hangs.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) folder: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn spool_dir(&self) -> PathBuf {
        self.folder.path().join("spool")
    }

    pub(crate) fn spool(&self) -> Spool {
        self.spool_with(Durability::Written)
    }

    pub(crate) fn spool_with(&self, durability: Durability) -> Spool {
        Spool::open(SpoolOptions { dir: self.spool_dir(), min_free: 0, durability }).unwrap()
    }

    pub(crate) fn spool_on(&self, durability: Durability, disk: Arc<dyn Disk>) -> Spool {
        let options = SpoolOptions { dir: self.spool_dir(), min_free: 0, durability };
        Spool::open_on(options, disk).unwrap()
    }

    pub(crate) fn store_dir(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub(crate) fn store(&self) -> Store {
        open_store(&format!("file://{}", self.store_dir().display())).unwrap()
    }

    pub(crate) fn stored_file(&self, key: &str) -> Vec<u8> {
        std::fs::read(self.store_dir().join(key)).unwrap()
    }

    /// Waits until nothing is left in the spool.
    pub(crate) async fn spool_is_empty(&self) {
        eventually(|| self.spooled_files().is_empty().then_some(())).await;
    }

    /// Everything in the store, by key, but what is derived.
    pub(crate) fn stored_keys(&self) -> Vec<String> {
        let mut keys = Vec::new();
        let mut folders = vec![self.store_dir()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    let path = entry.path();
                    keys.push(path.strip_prefix(self.store_dir()).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let derived = |key: &String| {
            key.ends_with(".json.zst")
                || key.rsplit_once('#').is_some_and(|(key, _)| key.ends_with(".json.zst"))
        };
        keys.retain(|key| !derived(key));
        keys.sort();
        keys
    }

    pub(crate) fn spooled_files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.spool_dir()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name != ".lock").collect()
    }
}

pub(crate) fn header(session: &str) -> Header {
    Header {
        facts: Facts {
            asset: "web-1".into(),
            cols: 80,
            rows: 24,
            session: session.into(),
            started: "2026-11-23T23:59:59.500Z".into(),
            user: "alice".into(),
        },
        timestamp: 1_795_478_399,
        title: Some("alice on web-1".into()),
        term: "xterm-256color".into(),
        shell: Some("/bin/bash".into()),
        records_input: false,
    }
}

pub(crate) fn ms(at: u64) -> Duration {
    Duration::from_millis(at)
}

pub(crate) async fn say(recorder: &mut Recorder, at: Duration, bytes: &[u8]) {
    let offset = recorder.output_offset();
    let kind = Kind::Output { offset, bytes: Bytes::copy_from_slice(bytes) };
    recorder.record(vec![Event { at, kind }]).await.unwrap();
}

/// A finished recording of some lines.
pub(crate) async fn record(spool: &Spool, session: &str, lines: u64) {
    let mut recorder = spool.start(header(session)).await.unwrap();
    for n in 0..lines {
        say(&mut recorder, ms(n * 20), format!("line {n} of the session, 中文 {}\r\n", n * 7919).as_bytes())
            .await;
    }
    recorder.finish(ms(lines * 20), "exit", None).await.unwrap();
}

pub(crate) fn uploader(
    spool: &Spool,
    store: Store,
    ledger: &Arc<Book>,
    compression: Compression,
) -> Uploader {
    let options = UploadOptions { compression, now: || 1_795_480_000, chance: || 0.0 };
    Uploader::new(
        spool.clone(),
        store,
        Arc::clone(ledger) as Arc<dyn Ledger>,
        Arc::new(Notary("rec-1")),
        options,
    )
}

/// Runs an uploader until `until` is done.
pub(crate) async fn upload_until<T>(uploader: Uploader, until: impl Future<Output = T>) -> T {
    let shutdown = CancellationToken::new();
    let running = uploader.run(shutdown.clone());
    tokio::select! {
        () = running => panic!("the uploader stopped by itself"),
        done = within(until) => done,
    }
}

pub(crate) async fn within<T>(wanted: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wanted).await.expect("it never came")
}

/// Looks again and again until `look` finds something.
pub(crate) async fn eventually<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(found) = look() {
            return found;
        }
        tokio::time::sleep(ms(2)).await;
    }
}

/// A ledger that keeps everything it was told, and can refuse.
#[derive(Default)]
pub(crate) struct Book {
    /// Where each journal must still be when its recording is said to be stored.
    spool: Option<PathBuf>,
    lines: Mutex<Vec<(String, RecordingState)>>,
    written: Notify,
    pub(crate) refusals: AtomicUsize,
}

#[async_trait]
impl Ledger for Book {
    async fn moved(&self, session: &str, state: &RecordingState) -> Result<(), LedgerError> {
        let refuse = self.refusals.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if refuse.is_ok() {
            return Err(LedgerError("the database is away".into()));
        }
        if let (Some(spool), RecordingState::Stored(_)) = (&self.spool, state) {
            assert!(spool.join(format!("{session}.journal")).exists(), "the journal went first");
        }
        self.lines.lock().unwrap().push((session.into(), state.clone()));
        self.written.notify_one();
        Ok(())
    }
}

impl Book {
    /// One that sees each recording stored before its journal goes.
    pub(crate) fn strict(spool: PathBuf) -> Self {
        Self { spool: Some(spool), ..Self::default() }
    }

    pub(crate) fn states(&self, session: &str) -> Vec<RecordingState> {
        let lines = self.lines.lock().unwrap();
        lines.iter().filter(|(of, _)| of == session).map(|(_, state)| state.clone()).collect()
    }

    pub(crate) async fn state(
        &self,
        session: &str,
        wanted: impl Fn(&RecordingState) -> bool,
    ) -> RecordingState {
        loop {
            if let Some(found) = self.states(session).into_iter().find(&wanted) {
                return found;
            }
            self.written.notified().await;
        }
    }

    /// Sees that the states came in the order they should, and `Stored` once.
    pub(crate) fn is_in_order(&self, session: &str) {
        let states = self.states(session);
        assert_eq!(
            states[..2],
            [RecordingState::Spooled, RecordingState::Uploading { attempt: 1, reason: None }]
        );
        let mut tries = 1;
        for state in &states[2..states.len() - 1] {
            let RecordingState::Uploading { attempt, reason: Some(_) } = state else { panic!("{states:?}") };
            assert!((tries..=tries + 1).contains(attempt), "{states:?}");
            tries = *attempt;
        }
        assert!(matches!(states.last(), Some(RecordingState::Stored(_))), "{states:?}");
    }

    pub(crate) async fn stored(&self, session: &str) -> Stored {
        match self.state(session, |state| matches!(state, RecordingState::Stored(_))).await {
            RecordingState::Stored(stored) => *stored,
            other => unreachable!("{other:?}"),
        }
    }
}

pub(crate) fn claims(seal: &[u8]) -> Value {
    let text = std::str::from_utf8(seal).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.split('.').nth(1).unwrap()).unwrap()).unwrap()
}
