//! Recordings read back, whole or in part: from the store, or from the journal while they are not there yet.

use std::fs::File;
use std::io::BufReader;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use sha2::{Digest, Sha256};

use crate::asciicast::read::CastError;
use crate::chunks::{Chunk, Compression, Index};
use crate::forms::Forms;
use crate::journal::JournalError;
use crate::ledger::Stored;
use crate::live::View;
use crate::render::Render;
use crate::spool::{Spool, SpoolError};
use crate::store::{Keys, Store, StoreError, part, pieces};
use crate::verify::INDEX_MAX;

/// Stored bytes fetched at a time: enough for a fast store, little enough to seek.
const FETCH: u64 = 512 << 10;
/// No seal is longer.
const SEAL_MAX: u64 = 64 << 10;
/// Plain bytes read from a journal at a time.
const STEP: usize = 256 << 10;

/// Bytes of a recording, in order.
pub type Bits = BoxStream<'static, Result<Bytes, PlaybackError>>;

/// Why a recording could not be read.
#[derive(Debug, thiserror::Error)]
pub enum PlaybackError {
    /// It is neither in the store nor in the spool.
    #[error("there is no such recording")]
    Missing,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The spool failed.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// One of its objects (`cast`, `index`, `seal`) is not in the store, and should be.
    #[error("the recording's {0} is gone from the store")]
    Absent(&'static str),
    /// One of its objects (`cast`, `seal`) is not what was stored.
    #[error("the recording's {0} is not what was stored")]
    Altered(&'static str),
    /// The index is not one, or not the one that was stored.
    #[error("the index of the recording cannot be read: {0}")]
    Index(#[from] serde_json::Error),
    /// A stored chunk is not what the index says.
    #[error("chunk {0} of the recording is damaged")]
    Damaged(u64),
    /// The stored cast is none.
    #[error(transparent)]
    Cast(#[from] CastError),
    /// What was derived from the recording could not be packed or unpacked; it is made anew when next asked for.
    #[error("what was derived from the recording is damaged: {0}")]
    Derived(#[source] std::io::Error),
    /// The program is stopping.
    #[error("reading was stopped")]
    Stopped,
}

impl PlaybackError {
    /// Whether what lies in the store is at fault, so that no later try can do better.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Absent(_) | Self::Altered(_) | Self::Index(_) | Self::Damaged(_) | Self::Cast(_) => true,
            // A journal that is none was damaged; one that cannot be read may be read again.
            Self::Journal(error) => !matches!(error, JournalError::Io(_)),
            Self::Missing | Self::Store(_) | Self::Spool(_) | Self::Derived(_) | Self::Stopped => false,
        }
    }

    fn absent(what: &'static str) -> impl Fn(object_store::Error) -> Self {
        move |error| match error {
            object_store::Error::NotFound { .. } => Self::Absent(what),
            error => error.into(),
        }
    }

    fn index(reason: String) -> Self {
        Self::Index(serde::de::Error::custom(reason))
    }
}

impl From<object_store::Error> for PlaybackError {
    fn from(error: object_store::Error) -> Self {
        match error {
            object_store::Error::NotFound { .. } => Self::Missing,
            error => Self::Store(error.into()),
        }
    }
}

/// Opens recordings.
#[derive(Clone)]
pub struct Library {
    pub(crate) store: Store,
    spool: Spool,
    pub(crate) forms: Forms,
}

impl Library {
    /// A library over a store and the spool before it.
    pub fn new(store: Store, spool: Spool) -> Self {
        Self { forms: Forms::new(&store), store, spool }
    }

    /// Opens a recording: in the store if `stored` says where, else as far as its journal goes now.
    ///
    /// # Errors
    /// [`PlaybackError::Missing`] if it is not there (also when it moved to the store just now: ask again with
    /// what the ledger says then), or what failed.
    pub async fn cast(&self, session: &str, stored: Option<&Stored>) -> Result<Cast, PlaybackError> {
        match stored {
            Some(stored) => self.stored(stored).await,
            None => self.spooled(session).await,
        }
    }

    /// The seal of a stored recording, as it lies in the store.
    ///
    /// # Errors
    /// As [`Library::cast`].
    pub async fn seal(&self, stored: &Stored) -> Result<String, PlaybackError> {
        let keys = Keys::beside(&stored.key)?;
        let found = self.store.objects.get(&keys.seal).await.map_err(PlaybackError::absent("seal"))?;
        if found.meta.size > SEAL_MAX {
            return Err(PlaybackError::Altered("seal"));
        }
        Ok(String::from_utf8_lossy(&found.bytes().await?).into_owned())
    }

    async fn stored(&self, stored: &Stored) -> Result<Cast, PlaybackError> {
        Cast::stored(&self.store.objects, stored).await
    }

    async fn spooled(&self, session: &str) -> Result<Cast, PlaybackError> {
        let (spool, session) = (self.spool.clone(), session.to_owned());
        blocking(move || {
            let snapshot = match spool.read(&session) {
                Err(SpoolError::Unknown(_)) => return Err(PlaybackError::Missing),
                file => Snapshot::new(file?)?,
            };
            let mut lines = snapshot.lines()?;
            let mut plain_len = 0;
            while let Some(step) = lines.step()? {
                plain_len += step.len() as u64;
            }
            Ok(Cast { plain_len, etag: None, last_modified: None, source: Source::Spooled(snapshot) })
        })
        .await
    }
}

/// One recording, open for reading.
#[derive(Clone)]
pub struct Cast {
    /// Bytes of the plain cast; of a recording still in the spool, as it stood when it was opened.
    pub plain_len: u64,
    /// A strong entity tag, quoted; none while the recording is in the spool.
    pub etag: Option<String>,
    /// When it was stored.
    pub last_modified: Option<SystemTime>,
    source: Source,
}

#[derive(Clone)]
enum Source {
    Stored(StoredCast),
    Spooled(Snapshot),
}

impl Cast {
    /// Opens a stored one.
    pub(crate) async fn stored(
        objects: &Arc<dyn ObjectStore>,
        stored: &Stored,
    ) -> Result<Self, PlaybackError> {
        let keys = Keys::beside(&stored.key)?;
        let found = objects.get(&keys.index).await.map_err(PlaybackError::absent("index"))?;
        let last_modified = found.meta.last_modified.into();
        if found.meta.size > INDEX_MAX {
            return Err(PlaybackError::index(format!("it is longer than {INDEX_MAX} bytes")));
        }
        let (json, said) = (found.bytes().await?, stored.clone());
        let index = blocking(move || {
            let index: Index = serde_json::from_slice(&json)?;
            index.fault(&said).map_or(Ok(index), |fault| Err(PlaybackError::index(fault)))
        })
        .await?;
        Ok(Cast {
            plain_len: index.plain_len,
            etag: Some(format!("\"{}\"", stored.plain_sha256)),
            last_modified: Some(last_modified),
            source: Source::Stored(StoredCast {
                objects: Arc::clone(objects),
                key: keys.cast,
                sha256: stored.sha256.clone(),
                index: Arc::new(index),
            }),
        })
    }

    /// The plain cast, or that part of it which `range` (cut to [`Cast::plain_len`]) covers.
    pub fn read(&self, range: Range<u64>) -> Bits {
        let range = range.start.min(self.plain_len)..range.end.min(self.plain_len);
        if range.is_empty() {
            return stream::empty().boxed();
        }
        match &self.source {
            Source::Stored(cast) => cast.plain(range),
            Source::Spooled(snapshot) => snapshot.read(range),
        }
    }

    /// The object as it lies in the store, if that is zstd: its length and its bytes, the last of them only if they all
    /// are what was stored.
    pub fn raw(&self) -> Option<(u64, Bits)> {
        match &self.source {
            Source::Stored(cast) if cast.index.compression == Compression::Zstd => {
                Some((cast.index.stored_len, cast.raw()))
            }
            Source::Stored(_) | Source::Spooled(_) => None,
        }
    }
}

#[derive(Clone)]
struct StoredCast {
    objects: Arc<dyn ObjectStore>,
    key: Path,
    /// Of the object.
    sha256: String,
    index: Arc<Index>,
}

impl StoredCast {
    fn raw(&self) -> Bits {
        let pieces = pieces(Arc::clone(&self.objects), self.key.clone(), self.index.stored_len);
        let begin = (pieces, Sha256::new(), self.index.stored_len, self.sha256.clone());
        stream::try_unfold(begin, |(mut pieces, hash, left, sha256)| async move {
            let Some(piece) = pieces.try_next().await.map_err(PlaybackError::absent("cast"))? else {
                return Ok(None);
            };
            let piece = piece.ok_or(PlaybackError::Altered("cast"))?;
            let (hash, left) = (hash.chain_update(&piece), left - piece.len() as u64);
            if left == 0 && hex::encode(hash.clone().finalize()) != sha256 {
                return Err(PlaybackError::Altered("cast"));
            }
            Ok(Some((piece, (pieces, hash, left, sha256))))
        })
        .boxed()
    }

    /// The plain bytes of `range`: only the chunks that cover it are fetched, some at a time, and compared.
    fn plain(&self, range: Range<u64>) -> Bits {
        let chunks = &self.index.chunks;
        let from = chunks.partition_point(|chunk| chunk.plain_at + chunk.plain_len <= range.start);
        let to = chunks.partition_point(|chunk| chunk.plain_at < range.end);
        stream::try_unfold((self.clone(), from), move |(cast, from)| async move {
            if from >= to {
                return Ok(None);
            }
            let next = cast.window(from, to);
            let plain = cast.fetch(from..next).await?;
            Ok::<_, PlaybackError>(Some((plain, (cast, next))))
        })
        .map_ok(move |plain| stream::iter(plain).map(Ok))
        .try_flatten()
        .map_ok(move |(at, plain)| clip(&plain, at, &range))
        .boxed()
    }

    /// The chunk after those that are fetched together with `from`.
    fn window(&self, from: usize, to: usize) -> usize {
        let chunks = &self.index.chunks[from..to];
        let limit = chunks[0].at + FETCH;
        let fit = chunks.iter().take_while(|chunk| chunk.at + chunk.len <= limit).count();
        from + fit.max(1)
    }

    /// Chunks, each with its place in the plain cast.
    async fn fetch(&self, chunks: Range<usize>) -> Result<Vec<(u64, Bytes)>, PlaybackError> {
        let chunks: Vec<Chunk> = self.index.chunks[chunks].to_vec();
        let (Some(first), Some(last)) = (chunks.first(), chunks.last()) else {
            return Ok(Vec::new());
        };
        let (start, end) = (first.at, last.at + last.len);
        let stored = part(&*self.objects, &self.key, start..end, self.index.stored_len).await;
        let stored = stored.map_err(PlaybackError::absent("cast"))?.ok_or(PlaybackError::Altered("cast"))?;
        let compression = self.index.compression;
        blocking(move || {
            let plain = |chunk: &Chunk| {
                let at = (chunk.at - start) as usize;
                let piece = stored.slice(at..at + chunk.len as usize);
                let plain = unpacked(piece, compression, chunk);
                Ok((chunk.plain_at, plain.ok_or(PlaybackError::Damaged(chunk.n))?))
            };
            chunks.iter().map(plain).collect()
        })
        .await
    }
}

/// The plain bytes of a chunk, if they are those that were recorded.
fn unpacked(stored: Bytes, compression: Compression, chunk: &Chunk) -> Option<Bytes> {
    let plain = match compression {
        Compression::Zstd => zstd::bulk::decompress(&stored, chunk.plain_len as usize).ok()?.into(),
        Compression::None => stored,
    };
    (hex::encode(Sha256::digest(&plain)) == chunk.sha256).then_some(plain)
}

/// The part of `plain`, which lies at `at`, that `range` covers.
fn clip(plain: &Bytes, at: u64, range: &Range<u64>) -> Bytes {
    let len = plain.len() as u64;
    let from = range.start.saturating_sub(at).min(len);
    let to = range.end.saturating_sub(at).min(len);
    plain.slice(from as usize..to.max(from) as usize)
}

/// A journal as it stood at one moment; more may have been written to it since.
#[derive(Clone)]
struct Snapshot {
    file: Arc<File>,
    len: u64,
}

impl Snapshot {
    fn new(file: File) -> Result<Self, PlaybackError> {
        let len = file.metadata().map_err(JournalError::Io)?.len();
        Ok(Self { file: Arc::new(file), len })
    }

    fn lines(&self) -> Result<Lines, PlaybackError> {
        let view = View { file: Arc::clone(&self.file), at: 0, len: self.len };
        let render = Render::open(BufReader::with_capacity(1 << 16, view), false)?;
        Ok(Lines { render, done: false })
    }

    fn read(&self, range: Range<u64>) -> Bits {
        enum Place {
            Begin(Snapshot),
            At(Box<Lines>, u64),
        }
        let wanted = range.clone();
        stream::try_unfold(Place::Begin(self.clone()), move |place| {
            let end = wanted.end;
            blocking(move || {
                let (mut lines, at) = match place {
                    Place::Begin(snapshot) => (Box::new(snapshot.lines()?), 0),
                    Place::At(lines, at) => (lines, at),
                };
                if at >= end {
                    return Ok(None);
                }
                let step = lines.step()?;
                Ok(step.map(|plain| {
                    let next = at + plain.len() as u64;
                    ((at, plain), Place::At(lines, next))
                }))
            })
        })
        .map_ok(move |(at, plain)| clip(&plain, at, &range))
        .try_filter(|bytes| std::future::ready(!bytes.is_empty()))
        .boxed()
    }
}

/// The lines of a cast, some whole ones at a time.
struct Lines {
    render: Render<BufReader<View>>,
    done: bool,
}

impl Lines {
    fn step(&mut self) -> Result<Option<Bytes>, PlaybackError> {
        let mut plain = self.render.first_line().unwrap_or_default();
        while !self.done && plain.len() < STEP {
            self.done = !self.render.pull(&mut plain)?;
        }
        Ok((!plain.is_empty()).then(|| plain.into()))
    }
}

pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PlaybackError> + Send + 'static,
) -> Result<T, PlaybackError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| PlaybackError::Stopped)?
}
