//! From the spool to the store: each finished journal is packed, put, read back, told of, and only then removed.
//!
//! A cast is packed straight into the store, chunk by chunk, and needs no space in the spool: uploads go on when the
//! spool is full. A try may be cut off anywhere; the next one begins anew and stores the same bytes.

use std::fs::File;
use std::io::BufReader;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use serde_json::Value;
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::chunks::{Compression, PackError, Packed, Packer, seconds};
use crate::forms::Forms;
use crate::ledger::{Ledger, LedgerError, RecordingState, Stored};
use crate::seal::{SealError, Sealer, Sums, claims};
use crate::spool::{Spool, SpoolError};
use crate::store::{Keys, Store, StoreError, pieces};

/// Recordings uploaded at a time; the others wait for a turn.
const PARALLEL: usize = 2;
/// Up to this size an object is put in one request, above it in parts of this size.
const PART: usize = 8 << 20;
const PARTS_UNDER_WAY: usize = 2;
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(300);

/// How to upload.
#[derive(Clone, Copy, Debug)]
pub struct UploadOptions {
    /// How casts are stored.
    pub compression: Compression,
    /// Unix seconds, for the seal's `iat`.
    pub now: fn() -> i64,
    /// A random number in 0..1, for the back-off.
    pub chance: fn() -> f64,
}

/// Why a try failed.
#[derive(Debug, thiserror::Error)]
enum UploadError {
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the store: {0}")]
    Put(#[source] std::io::Error),
    #[error("{key} was stored, but reads back differently")]
    Differs { key: Path },
    #[error("the end of the session is no time")]
    Ended,
    #[error("the index cannot be written: {0}")]
    Index(#[from] serde_json::Error),
    #[error("packing was stopped")]
    Stopped,
}

impl UploadError {
    /// Whether no later try can do better: the journal itself is at fault.
    fn is_final(&self) -> bool {
        match self {
            Self::Pack(PackError::Journal(e)) => !matches!(e, crate::journal::JournalError::Io(_)),
            Self::Pack(PackError::Unfinished) => true,
            Self::Spool(SpoolError::Unknown(_)) | Self::Ended => true,
            Self::Store(StoreError::Started(_) | StoreError::Key(_)) => true,
            _ => false,
        }
    }
}

impl From<object_store::Error> for UploadError {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error.into())
    }
}

/// Moves finished recordings to the store, for ever.
pub struct Uploader {
    spool: Spool,
    store: Store,
    ledger: Arc<dyn Ledger>,
    sealer: Arc<dyn Sealer>,
    options: UploadOptions,
    turns: Semaphore,
    forms: Forms,
}

impl Uploader {
    /// An uploader; nothing happens until it is [`run`](Self::run).
    pub fn new(
        spool: Spool,
        store: Store,
        ledger: Arc<dyn Ledger>,
        sealer: Arc<dyn Sealer>,
        options: UploadOptions,
    ) -> Self {
        let (turns, forms) = (Semaphore::new(PARALLEL), Forms::new(&store));
        Self { spool, store, ledger, sealer, options, turns, forms }
    }

    /// Uploads what is finished, and whatever finishes, until `shutdown`. A try under way is dropped then; the next
    /// start begins it anew.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut deliveries: FuturesUnordered<BoxFuture<'_, ()>> = FuturesUnordered::new();
        loop {
            for session in self.spool.take_finished() {
                deliveries.push(self.deliver(session).boxed());
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.spool.changed() => (),
                Some(()) = deliveries.next() => (),
            }
        }
    }

    /// Tries until the recording is stored and known to be, or cannot ever be.
    async fn deliver(&self, session: String) {
        self.note(&session, &RecordingState::Spooled).await;
        let mut way = Way::default();
        let mut reason = None;
        for attempt in 1.. {
            if let Err(error) = self.attempt(&session, attempt, reason, &mut way).await {
                if error.is_final() && self.fail(&session, &error).await {
                    return;
                }
                tracing::warn!(session, attempt, %error, "a recording could not be uploaded yet");
                reason = Some(error.to_string());
                if !way.told {
                    let state = RecordingState::Uploading { attempt, reason: reason.clone() };
                    self.note(&session, &state).await;
                }
                tokio::time::sleep(delay(attempt, (self.options.chance)())).await;
            } else {
                tracing::info!(session, attempt, "a recording is stored");
                self.derive(&session, way.stored.as_ref()).await;
                return;
            }
        }
    }

    /// Makes what is derived from the recording. A courtesy: who asks for it later makes what is missing.
    async fn derive(&self, session: &str, stored: Option<&RecordingState>) {
        if let Some(RecordingState::Stored(stored)) = stored
            && let Err(error) = self.forms.make(stored).await
        {
            tracing::warn!(session, %error, "segments and transcript of a recording could not be made yet");
        }
    }

    async fn attempt(
        &self,
        session: &str,
        attempt: u32,
        reason: Option<String>,
        way: &mut Way,
    ) -> Result<(), UploadError> {
        let Ok(_turn) = self.turns.acquire().await else {
            return Err(UploadError::Stopped);
        };
        let done = match &mut way.stored {
            Some(done) => done,
            none => {
                self.note(session, &RecordingState::Uploading { attempt, reason }).await;
                let put = self.put(session).await?;
                none.insert(RecordingState::Stored(Box::new(put)))
            }
        };
        if !way.told {
            self.ledger.moved(session, done).await?;
            way.told = true;
        }
        self.blocking(session, Spool::discard).await
    }

    /// Stores cast, index and seal, and reads each back.
    async fn put(&self, session: &str) -> Result<Stored, UploadError> {
        let compression = self.options.compression;
        let packer = self
            .blocking(session, move |spool, session| -> Result<_, UploadError> {
                let journal = BufReader::with_capacity(1 << 16, spool.read(session)?);
                Ok(Packer::open(journal, compression)?)
            })
            .await?;
        let keys = Keys::new(&self.store.prefix, packer.facts(), compression)?;
        self.store.sweep(keys.cast.as_ref()).await?;
        let packed = self.put_cast(&keys.cast, packer).await?;
        self.check(&keys.cast, packed.index.stored_len, &packed.sha256).await?;
        self.put_small(&keys.index, serde_json::to_vec(&packed.index)?.into()).await?;
        let ended = ended(&packed)?;
        let seal = self.seal(session, &packed, &ended).await?;
        let seal_sha256 = self.put_small(&keys.seal, seal.into()).await?;
        Ok(stored(&keys.cast, packed, ended, seal_sha256))
    }

    async fn put_cast(&self, key: &Path, packer: Packing) -> Result<Packed, UploadError> {
        let mut writer = BufWriter::with_capacity(Arc::clone(&self.store.objects), key.clone(), PART)
            .with_max_concurrency(PARTS_UNDER_WAY);
        match pour(packer, &mut writer).await {
            Ok(packed) => {
                writer.shutdown().await.map_err(UploadError::Put)?;
                Ok(packed)
            }
            Err(error) => {
                // The error that matters is the first; what is left of the upload the store forgets.
                let _ = writer.abort().await;
                Err(error)
            }
        }
    }

    async fn put_small(&self, key: &Path, bytes: Bytes) -> Result<String, UploadError> {
        let (len, sha256) = (bytes.len() as u64, hex::encode(Sha256::digest(&bytes)));
        self.store.objects.put(key, PutPayload::from(bytes)).await?;
        self.check(key, len, &sha256).await?;
        Ok(sha256)
    }

    /// Reads an object back and compares.
    async fn check(&self, key: &Path, len: u64, sha256: &str) -> Result<(), UploadError> {
        let differs = || UploadError::Differs { key: key.clone() };
        let mut parts = pieces(Arc::clone(&self.store.objects), key.clone(), len);
        let mut hash = Sha256::new();
        while let Some(part) = parts.try_next().await? {
            hash.update(&part.ok_or_else(differs)?);
        }
        if hex::encode(hash.finalize()) == sha256 { Ok(()) } else { Err(differs()) }
    }

    /// The seal; of an earlier try if there was one, since its hash may already be known elsewhere.
    async fn seal(&self, session: &str, packed: &Packed, ended: &str) -> Result<String, UploadError> {
        let mut wanted = claims(
            self.sealer.issuer(),
            &packed.header,
            &packed.end,
            &Sums {
                ended,
                chunks: packed.index.chunks.len(),
                plain_len: packed.index.plain_len,
                head: &packed.head,
                output_bytes: packed.index.output_bytes,
                output_sha256: &packed.index.output_sha256,
                lost_bytes: packed.index.lost_bytes,
            },
        );
        let kept = self
            .blocking(session, |spool, session| Ok::<_, UploadError>(spool.kept_seal(session)))
            .await?
            .filter(|seal| payload(seal).is_some_and(|claims| claims == wanted));
        if let Some(seal) = kept {
            return Ok(seal);
        }
        wanted["iat"] = (self.options.now)().into();
        let seal = self.sealer.seal(&wanted)?;
        let keep = seal.clone();
        self.blocking(session, move |spool, session| spool.keep_seal(session, &keep)).await?;
        Ok(seal)
    }

    /// Tells that the recording cannot be stored and puts its journal aside; whether the ledger took it.
    async fn fail(&self, session: &str, error: &UploadError) -> bool {
        let reason = error.to_string();
        let told = self.ledger.moved(session, &RecordingState::Failed { reason: reason.clone() }).await;
        if told.is_ok() {
            let aside = self.blocking(session, move |spool, session| spool.set_aside(session, &reason)).await;
            let aside: Result<_, UploadError> = aside;
            if let Err(error) = aside {
                tracing::error!(session, %error, "an unreadable journal could not be set aside");
            }
        }
        told.is_ok()
    }

    /// Tells a state that only informs: that it could not be kept must not stop an upload.
    async fn note(&self, session: &str, state: &RecordingState) {
        if let Err(error) = self.ledger.moved(session, state).await {
            tracing::warn!(session, %error, "the state of a recording is out of date");
        }
    }

    async fn blocking<T: Send + 'static, E: Send + 'static>(
        &self,
        session: &str,
        work: impl FnOnce(&Spool, &str) -> Result<T, E> + Send + 'static,
    ) -> Result<T, UploadError>
    where
        UploadError: From<E>,
    {
        let (spool, session) = (self.spool.clone(), session.to_owned());
        let done = tokio::task::spawn_blocking(move || work(&spool, &session)).await;
        Ok(done.map_err(|_| UploadError::Stopped)??)
    }
}

/// How far a recording has come; what is done of it is not done again.
#[derive(Default)]
struct Way {
    stored: Option<RecordingState>,
    /// Whether the ledger knows: then all that is left is to remove the journal.
    told: bool,
}

type Packing = Packer<BufReader<File>>;

/// Packs chunk by chunk, off the async threads, into `writer`.
async fn pour(mut packer: Packing, writer: &mut BufWriter) -> Result<Packed, UploadError> {
    loop {
        let step = tokio::task::spawn_blocking(move || packer.next().map(|chunk| (packer, chunk)));
        let (next, chunk) = step.await.map_err(|_| UploadError::Stopped)??;
        packer = next;
        match chunk {
            Some(chunk) => writer.put(chunk).await?,
            None => return Ok(packer.finish()?),
        }
    }
}

/// Full jitter: a random part of 1 s, doubled each time up to 5 min.
fn delay(attempt: u32, chance: f64) -> Duration {
    let longest = FIRST_DELAY.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(LONGEST_DELAY);
    longest.mul_f64(chance.clamp(0.0, 1.0))
}

/// The claims of a compact JWS, but for `iat`; its signature is not looked at.
fn payload(jws: &str) -> Option<Value> {
    let bytes = URL_SAFE_NO_PAD.decode(jws.split('.').nth(1)?).ok()?;
    let mut claims: Value = serde_json::from_slice(&bytes).ok()?;
    claims.as_object_mut()?.remove("iat")?;
    Some(claims)
}

fn ended(packed: &Packed) -> Result<String, UploadError> {
    let started = &packed.header.facts.started;
    let started = OffsetDateTime::parse(started, &Rfc3339).map_err(|_| UploadError::Ended)?;
    let ended = started.checked_add(packed.duration.try_into().map_err(|_| UploadError::Ended)?);
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    ended.and_then(|ended| ended.format(&form).ok()).ok_or(UploadError::Ended)
}

fn stored(key: &Path, packed: Packed, ended: String, seal_sha256: String) -> Stored {
    let Packed { index, end, exit, duration, head, sha256, plain_sha256, .. } = packed;
    Stored {
        key: key.to_string(),
        size: index.stored_len,
        plain_size: index.plain_len,
        sha256,
        plain_sha256,
        seal_sha256,
        duration: seconds(duration),
        ended,
        reason: end.reason,
        exit,
        recovered: end.recovered,
        output_bytes: index.output_bytes,
        lost_bytes: index.lost_bytes,
        chunks: index.chunks.len() as u64,
        head,
        compression: index.compression,
    }
}
