//! A store whose `n`-th call of a kind goes wrong, in every way a store can; and one that says what it is about to do.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta,
    ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use recordings::Store;

use crate::world::ms;

/// A kind of call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Call {
    Any,
    Put,
    Begin,
    Part,
    Complete,
    Get,
    /// The bytes of an object, which come after the answer to the call.
    Body,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    /// It fails; a body midway.
    Fail,
    /// It is done, and said to have failed.
    DoThenFail,
    /// It never answers; a body stops midway.
    Hang,
    /// A byte becomes another, on the way in or out.
    Alter,
    /// The second half is lost, on the way in or out, and nobody says so.
    Truncate,
    /// What is there is said not to be.
    Stale,
}

#[derive(Clone)]
pub(crate) struct Flaky {
    inner: Arc<dyn ObjectStore>,
    call: Call,
    fault: Fault,
    left: Arc<AtomicUsize>,
}

impl Flaky {
    /// The counter is 0 once the fault has happened.
    pub(crate) fn wrap(store: &Store, call: Call, fault: Fault, at: usize) -> (Store, Arc<AtomicUsize>) {
        let left = Arc::new(AtomicUsize::new(at + 1));
        let mut store = store.clone();
        store.objects = Arc::new(Self { inner: store.objects, call, fault, left: Arc::clone(&left) });
        // Nothing healthy takes that long here, and what hangs need not be waited for.
        let limit = ms(if fault == Fault::Hang && call != Call::Any { 1000 } else { 60_000 });
        (store.within(limit), left)
    }

    fn due(&self, call: Call) -> Option<Fault> {
        if self.call != call && (self.call != Call::Any || call == Call::Body) {
            return None;
        }
        let before = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        (before == Ok(1)).then_some(self.fault)
    }

    async fn call<T>(&self, call: Call, doing: impl Future<Output = Result<T>>) -> Result<T> {
        Self::suffer(self.due(call), doing).await
    }

    async fn suffer<T>(fault: Option<Fault>, doing: impl Future<Output = Result<T>>) -> Result<T> {
        match fault {
            None => doing.await,
            Some(Fault::DoThenFail) => doing.await.and_then(|_| Err(broken())),
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::Fail | Fault::Alter | Fault::Truncate | Fault::Stale) => Err(broken()),
        }
    }

    /// What is left of `payload`; and what of the fault then still is to come.
    fn harmed(&self, call: Call, payload: PutPayload) -> (PutPayload, Option<Fault>) {
        match self.due(call) {
            Some(harm @ (Fault::Alter | Fault::Truncate)) => {
                let bytes: Vec<u8> = payload.iter().flatten().copied().collect();
                (spoilt(harm, bytes).into(), None)
            }
            fault => (payload, fault),
        }
    }
}

fn spoilt(harm: Fault, mut bytes: Vec<u8>) -> Vec<u8> {
    let middle = bytes.len() / 2;
    match harm {
        Fault::Truncate => bytes.truncate(middle),
        _ => bytes[middle] ^= 1,
    }
    bytes
}

fn broken() -> Error {
    Error::Generic { store: "flaky", source: "out of order".into() }
}

/// The whole of a body as it was harmed, in one piece; or its first half and then nothing good.
async fn spoil(found: GetResult, fault: Fault) -> Result<GetResult> {
    let (meta, range, attributes) = (found.meta.clone(), found.range.clone(), found.attributes.clone());
    let extensions = found.extensions.clone();
    let bytes = found.bytes().await?.to_vec();
    let half = Bytes::copy_from_slice(&bytes[..bytes.len() / 2]);
    let body = match fault {
        Fault::Alter | Fault::Truncate => stream::iter([Ok(spoilt(fault, bytes).into())]).boxed(),
        Fault::Hang => stream::iter([Ok(half)]).chain(stream::pending()).boxed(),
        Fault::Fail | Fault::DoThenFail | Fault::Stale => stream::iter([Ok(half), Err(broken())]).boxed(),
    };
    Ok(GetResult { payload: GetResultPayload::Stream(body), meta, range, attributes, extensions })
}

impl fmt::Display for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Flaky({})", self.inner)
    }
}

impl fmt::Debug for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        let (payload, fault) = self.harmed(Call::Put, payload);
        Self::suffer(fault, self.inner.put_opts(at, payload, options)).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.call(Call::Begin, self.inner.put_multipart_opts(at, options)).await?;
        Ok(Box::new(FlakyUpload { inner: upload, store: self.clone() }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        let head = options.head;
        let found = match self.due(Call::Get) {
            Some(Fault::Stale) => {
                return Err(Error::NotFound { path: at.to_string(), source: "stale".into() });
            }
            Some(harm @ (Fault::Alter | Fault::Truncate)) if !head => {
                return spoil(self.inner.get_opts(at, options).await?, harm).await;
            }
            fault => Self::suffer(fault, self.inner.get_opts(at, options)).await?,
        };
        match (!head).then(|| self.due(Call::Body)).flatten() {
            Some(fault) => spoil(found, fault).await,
            None => Ok(found),
        }
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
        let (data, fault) = self.store.harmed(Call::Part, data);
        let part = self.inner.put_part(data);
        Box::pin(Flaky::suffer(fault, part))
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let store = self.store.clone();
        store.call(Call::Complete, self.inner.complete()).await
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}

/// Told each call before it is made and after, whatever comes of it.
pub(crate) type Witness = Arc<dyn Fn(&str) + Send + Sync>;

/// A store that is watched at every step that changes it.
pub(crate) struct Watched {
    inner: Arc<dyn ObjectStore>,
    witness: Witness,
}

impl Watched {
    pub(crate) fn wrap(store: &Store, witness: Witness) -> Store {
        let mut store = store.clone();
        store.objects = Arc::new(Self { inner: store.objects, witness });
        store
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Watched({})", self.inner)
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[async_trait]
impl ObjectStore for Watched {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        (self.witness)(&format!("before the put of {at}"));
        let put = self.inner.put_opts(at, payload, options).await;
        (self.witness)(&format!("after the put of {at}"));
        put
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        options: PutMultipartOptions,
    ) -> Result<Box<dyn MultipartUpload>> {
        let upload = self.inner.put_multipart_opts(at, options).await?;
        (self.witness)(&format!("after the beginning of {at}"));
        Ok(Box::new(WatchedUpload { inner: upload, witness: Arc::clone(&self.witness) }))
    }

    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        (self.witness)(&format!("before the get of {at}"));
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let witness = Arc::clone(&self.witness);
        self.inner.delete_stream(locations).inspect_ok(move |at| witness(&format!("after {at} went"))).boxed()
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

struct WatchedUpload {
    inner: Box<dyn MultipartUpload>,
    witness: Witness,
}

impl fmt::Debug for WatchedUpload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

#[async_trait]
impl MultipartUpload for WatchedUpload {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let (part, witness) = (self.inner.put_part(data), Arc::clone(&self.witness));
        Box::pin(async move {
            let put = part.await;
            witness("after a part");
            put
        })
    }

    async fn complete(&mut self) -> Result<PutResult> {
        (self.witness)("before the completion");
        let put = self.inner.complete().await;
        (self.witness)("after the completion");
        put
    }

    async fn abort(&mut self) -> Result<()> {
        self.inner.abort().await
    }
}
