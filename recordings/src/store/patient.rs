//! A store that always answers: what takes too long is given up, and only so much may ever be stuck.
//!
//! A bucket's client gives up by itself. A folder does not: behind a dead network file system a call never returns, its
//! thread cannot be called back, and each new try would take another until the program has none left.

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use tokio::sync::{Mutex, Semaphore};
use tokio_util::task::TaskTracker;

/// Operations under way, those that are stuck among them. Whoever wants one more waits, and in the end fails.
const UNDER_WAY: usize = 64;
/// Bytes read from a file at a time.
const PIECE: u64 = 1 << 20;

#[derive(Clone, Debug)]
pub(super) struct Patient {
    inner: Arc<dyn ObjectStore>,
    limit: Duration,
    under_way: Arc<Semaphore>,
    tasks: TaskTracker,
}

impl Patient {
    pub(super) fn new(inner: Arc<dyn ObjectStore>, limit: Duration) -> Self {
        Self { inner, limit, under_way: Arc::new(Semaphore::new(UNDER_WAY)), tasks: TaskTracker::new() }
    }

    async fn within<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let turn = Arc::clone(&self.under_way);
        let done = async {
            let turn = turn.acquire_owned().await.map_err(failed)?;
            // It goes on when nobody waits any more, and is counted until it ends.
            let task = self.tasks.spawn(async move {
                let done = work.await;
                drop(turn);
                done
            });
            task.await.map_err(failed)?
        };
        tokio::time::timeout(self.limit, done).await.unwrap_or_else(|_| Err(self.late()))
    }

    fn late(&self) -> Error {
        failed(io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {:?}", self.limit)))
    }

    /// Every item of a stream within the limit.
    fn timed<T: Send + 'static>(
        &self,
        items: BoxStream<'static, Result<T>>,
    ) -> BoxStream<'static, Result<T>> {
        let patient = self.clone();
        stream::unfold(Some(items), move |items| {
            let patient = patient.clone();
            async move {
                let mut items = items?;
                match tokio::time::timeout(patient.limit, items.next()).await {
                    Ok(item) => item.map(|item| (item, Some(items))),
                    Err(_) => Some((Err(patient.late()), None)),
                }
            }
        })
        .boxed()
    }

    fn pieces(&self, file: File, range: Range<u64>) -> BoxStream<'static, Result<Bytes>> {
        let (patient, file) = (self.clone(), Arc::new(file));
        stream::try_unfold(range.start, move |at| {
            let (patient, file) = (patient.clone(), Arc::clone(&file));
            let len = range.end.saturating_sub(at).min(PIECE);
            async move {
                if len == 0 {
                    return Ok(None);
                }
                let reading = move || {
                    let mut piece = vec![0; len as usize];
                    file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece))
                };
                let read =
                    async { tokio::task::spawn_blocking(reading).await.map_err(failed)?.map_err(failed) };
                Ok(Some((patient.within(read).await?, at + len)))
            }
        })
        .boxed()
    }
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::Generic { store: "store", source: Box::new(error) }
}

impl fmt::Display for Patient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Patient {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let (inner, at) = (Arc::clone(&self.inner), at.clone());
        self.within(async move { inner.put_opts(&at, payload, options).await }).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let (inner, at) = (Arc::clone(&self.inner), at.clone());
        let upload = self.within(async move { inner.put_multipart_opts(&at, options).await }).await?;
        Ok(Box::new(PatientUpload { inner: Arc::new(Mutex::new(upload)), store: self.clone() }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let (inner, at) = (Arc::clone(&self.inner), at.clone());
        let found = self.within(async move { inner.get_opts(&at, options).await }).await?;
        let body = match found.payload {
            GetResultPayload::File(file, _) => self.pieces(file, found.range.clone()),
            GetResultPayload::Stream(body) => self.timed(body),
        };
        Ok(GetResult { payload: GetResultPayload::Stream(body), ..found })
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.timed(self.inner.delete_stream(locations))
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.timed(self.inner.list(prefix))
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        let (inner, prefix) = (Arc::clone(&self.inner), prefix.cloned());
        self.within(async move { inner.list_with_delimiter(prefix.as_ref()).await }).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        let (inner, from, to) = (Arc::clone(&self.inner), from.clone(), to.clone());
        self.within(async move { inner.copy_opts(&from, &to, options).await }).await
    }
}

#[derive(Debug)]
struct PatientUpload {
    inner: Arc<Mutex<Box<dyn MultipartUpload>>>,
    store: Patient,
}

#[async_trait]
impl MultipartUpload for PatientUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        // Taken only by a completion or an abort that is stuck: then nothing more can be put.
        let Ok(part) = self.inner.try_lock().map(|mut upload| upload.put_part(data)) else {
            return std::future::ready(Err(self.store.late())).boxed();
        };
        let store = self.store.clone();
        async move { store.within(part).await }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let inner = Arc::clone(&self.inner);
        self.store.within(async move { inner.lock().await.complete().await }).await
    }

    async fn abort(&mut self) -> Result<()> {
        let inner = Arc::clone(&self.inner);
        self.store.within(async move { inner.lock().await.abort().await }).await
    }
}
