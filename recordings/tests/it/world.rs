//! Fixtures: a spool in a folder of its own, a store that can fail, a ledger one can wait for.

use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use recordings::{
    Compression, Durability, Event, Facts, Header, Kind, Ledger, LedgerError, Recorder, RecordingState,
    SealError, Sealer, Spool, SpoolOptions, Store, Stored, UploadOptions, Uploader, open_store,
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

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

    pub(crate) fn store_dir(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub(crate) fn store(&self) -> Store {
        open_store(&format!("file://{}", self.store_dir().display())).unwrap()
    }

    pub(crate) fn stored_file(&self, key: &str) -> Vec<u8> {
        std::fs::read(self.store_dir().join(key)).unwrap()
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
    Uploader::new(spool.clone(), store, Arc::clone(ledger) as Arc<dyn Ledger>, Arc::new(Notary), options)
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
        self.lines.lock().unwrap().push((session.into(), state.clone()));
        self.written.notify_one();
        Ok(())
    }
}

impl Book {
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

    pub(crate) async fn stored(&self, session: &str) -> Stored {
        match self.state(session, |state| matches!(state, RecordingState::Stored(_))).await {
            RecordingState::Stored(stored) => *stored,
            other => unreachable!("{other:?}"),
        }
    }
}

/// Signs nothing, but in the right form.
pub(crate) struct Notary;

impl Sealer for Notary {
    fn seal(&self, claims: &Value) -> Result<String, SealError> {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        Ok(format!("{}.{}.{}", part(b"{}"), part(claims.to_string().as_bytes()), part(b"signed")))
    }

    fn issuer(&self) -> &str {
        "https://bastion.example"
    }
}

pub(crate) fn claims(seal: &[u8]) -> Value {
    let text = std::str::from_utf8(seal).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

/// What a [`Flaky`] store does at the call it was told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// Fails.
    Fail,
    /// Does it, and then says it failed.
    DoThenFail,
    /// Never answers.
    Hang,
    /// Stores something else (a put), or fails.
    Alter,
}

/// A store whose `n`-th call goes wrong.
#[derive(Clone, Debug)]
pub(crate) struct Flaky {
    inner: Arc<dyn ObjectStore>,
    fault: Fault,
    left: Arc<AtomicUsize>,
}

impl Flaky {
    pub(crate) fn wrap(store: &Store, fault: Fault, at: usize) -> (Store, Arc<AtomicUsize>) {
        let left = Arc::new(AtomicUsize::new(at + 1));
        let flaky = Self { inner: Arc::clone(&store.objects), fault, left: Arc::clone(&left) };
        (Store::new(Arc::new(flaky), store.prefix.clone()), left)
    }

    fn due(&self) -> bool {
        let before = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        before == Ok(1)
    }

    async fn call<T>(&self, doing: impl Future<Output = Result<T>>) -> Result<T> {
        match self.due().then_some(self.fault) {
            None => doing.await,
            Some(Fault::Fail | Fault::Alter) => Err(broken()),
            Some(Fault::DoThenFail) => doing.await.and_then(|_| Err(broken())),
            Some(Fault::Hang) => std::future::pending().await,
        }
    }

    fn altered(&self, payload: PutPayload) -> ControlFlow<PutPayload, PutPayload> {
        if self.fault == Fault::Alter && self.due() {
            let mut bytes: Vec<u8> = payload.iter().flatten().copied().collect();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            return ControlFlow::Break(bytes.into());
        }
        ControlFlow::Continue(payload)
    }
}

fn broken() -> object_store::Error {
    object_store::Error::Generic { store: "flaky", source: "out of order".into() }
}

impl fmt::Display for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flaky({})", self.inner)
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        match self.altered(payload) {
            ControlFlow::Break(other) => self.inner.put_opts(at, other, options).await,
            ControlFlow::Continue(payload) if self.fault == Fault::Alter => {
                self.inner.put_opts(at, payload, options).await
            }
            ControlFlow::Continue(payload) => self.call(self.inner.put_opts(at, payload, options)).await,
        }
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.call(self.inner.put_multipart_opts(at, options)).await?;
        Ok(Box::new(FlakyUpload { inner: upload, store: self.clone() }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        self.call(self.inner.get_opts(at, options)).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[derive(Debug)]
struct FlakyUpload {
    inner: Box<dyn MultipartUpload>,
    store: Flaky,
}

#[async_trait]
impl MultipartUpload for FlakyUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (store, part) = (self.store.clone(), self.inner.put_part(data));
        Box::pin(async move { store.call(part).await })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let store = self.store.clone();
        store.call(self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
