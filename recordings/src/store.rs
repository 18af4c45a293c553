//! The object store: a folder or a bucket, opened by URL; where a recording's objects lie in it.

use std::fs::DirBuilder;
use std::io;
use std::ops::Range;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, ObjectStoreExt};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::Url;

use crate::chunks::Compression;
use crate::journal::Facts;

mod patient;

use patient::Patient;

/// How long one operation on a store may take: 5 min. What a bucket's client tries again by itself is within that.
const PATIENCE: Duration = Duration::from_secs(300);
/// Of a bucket's client, unless told otherwise. Its own 30 s for a whole request are too few for 8 MiB on a slow line.
const BUCKET_SETTINGS: [(&str, &str); 2] = [("connect_timeout", "10 seconds"), ("timeout", "270 seconds")];
/// What a bucket's settings begin with in the environment; others, a `TOKEN` or an `ENDPOINT`, are somebody else's.
const BUCKET_VARIABLES: [&str; 3] = ["AWS_", "AZURE_", "GOOGLE_"];

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Not a URL, or none of a store.
    #[error("{url:?} is not the URL of a store (file://, s3://, gs://, az://): {why}")]
    Url {
        /// As given, without a password.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// The folder cannot be made or entered.
    #[error("{}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
    /// The store does not answer, or not well.
    #[error("the store: {0}")]
    Store(#[from] object_store::Error),
    /// A key would not be one.
    #[error("not a key: {0}")]
    Key(#[from] object_store::path::Error),
    /// The start of a session is not a time.
    #[error("{0:?} is not an RFC 3339 time")]
    Started(String),
}

/// A place for objects, and the prefix under which ours lie.
#[derive(Clone, Debug)]
pub struct Store {
    /// The store.
    pub objects: Arc<dyn ObjectStore>,
    /// Before every key.
    pub prefix: Path,
    folder: Option<PathBuf>,
}

/// Opens the store at `url`: `file:///path` (made if missing, mode 0700), `s3://bucket/prefix`, `gs://…`, `az://…`;
/// credentials and endpoints of buckets come from the usual environment variables.
///
/// # Errors
/// If the URL is none of these or the folder cannot be made; a bucket is not asked yet.
pub fn open_store(url: &str) -> Result<Store, StoreError> {
    let settings = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| BUCKET_VARIABLES.iter().any(|prefix| name.starts_with(prefix)));
    open_store_with(url, settings)
}

/// The same with a bucket's settings given: names and values as in the environment (`aws_endpoint`, …); others are
/// ignored.
///
/// # Errors
/// As [`open_store`].
pub fn open_store_with(
    url: &str,
    settings: impl IntoIterator<Item = (String, String)>,
) -> Result<Store, StoreError> {
    let refuse = |why: String| StoreError::Url { url: url.to_owned(), why };
    let parsed = Url::parse(url).map_err(|e| refuse(e.to_string()))?;
    match parsed.scheme() {
        // "file:folder" would parse too, as one at the root of the file system.
        "file" if !url.starts_with("file:///") => Err(refuse("it needs an absolute path: file:///…".into())),
        "file" => open_folder(parsed.to_file_path().map_err(|()| refuse("not an absolute path".into()))?),
        "s3" | "s3a" | "gs" | "az" | "azure" | "abfs" | "abfss" => {
            let own = BUCKET_SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let settings = own.into_iter().chain(settings);
            let (objects, prefix) =
                object_store::parse_url_opts(&parsed, settings).map_err(|e| refuse(e.to_string()))?;
            Ok(Store::new(objects.into(), prefix))
        }
        scheme => Err(refuse(format!("unknown scheme {scheme}"))),
    }
}

fn open_folder(path: PathBuf) -> Result<Store, StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.map_err(|source| StoreError::Folder { path: path.clone(), source })?;
    // The journal goes once the object is there: that must hold after a power cut too.
    let objects = LocalFileSystem::new_with_prefix(&path)?.with_fsync(true);
    Ok(Store { folder: Some(path), ..Store::new(Arc::new(objects), Path::default()) })
}

impl Store {
    /// A store opened elsewhere.
    pub fn new(objects: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { objects, prefix, folder: None }.within(PATIENCE)
    }

    /// The same store, but an operation that takes longer than `limit` fails; 5 min unless said otherwise.
    #[must_use]
    pub fn within(self, limit: Duration) -> Self {
        Self { objects: Arc::new(Patient::new(self.objects, limit)), ..self }
    }

    /// Whether the store answers. Writes nothing.
    ///
    /// # Errors
    /// What it answered instead.
    pub async fn probe(&self) -> Result<(), StoreError> {
        if let Some(path) = &self.folder {
            let failed = |source| StoreError::Folder { path: path.clone(), source };
            if !tokio::fs::metadata(path).await.map_err(failed)?.is_dir() {
                return Err(failed(io::ErrorKind::NotADirectory.into()));
            }
            return rustix::fs::access(path, rustix::fs::Access::WRITE_OK).map_err(|e| failed(e.into()));
        }
        match self.objects.head(&self.prefix.clone().join("probe")).await {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

impl Store {
    /// Removes what a crash left half written of a recording's objects, whose cast has `key`. Only a folder keeps such
    /// things where nobody sees them; a bucket has a rule of its own for uploads that were never completed.
    ///
    /// # Errors
    /// If the folder cannot be read, or a file not be removed.
    pub async fn sweep(&self, key: &str) -> Result<(), StoreError> {
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let stem = folder.join(Keys::beside(key)?.stem);
        let swept = tokio::task::spawn_blocking(move || sweep(&stem)).await;
        let swept = swept.unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
        swept.map_err(|source| StoreError::Folder { path: folder, source })
    }
}

/// Bytes of an object asked for at a time: one request for all of it would have to end within its time limit, however
/// long the object and however slow whoever reads it.
const PIECE: u64 = 4 << 20;

/// The object at `key` from its beginning, in pieces; none for the rest once it turns out not to be `len` bytes long.
pub(crate) fn pieces(
    objects: Arc<dyn ObjectStore>,
    key: Path,
    len: u64,
) -> BoxStream<'static, object_store::Result<Option<Bytes>>> {
    stream::try_unfold(Some(0), move |at: Option<u64>| {
        let (objects, key) = (Arc::clone(&objects), key.clone());
        async move {
            let Some(at) = at else { return Ok(None) };
            let end = at.saturating_add(PIECE).min(len);
            let piece = part(&*objects, &key, at..end, len).await?;
            let next = (piece.is_some() && end < len).then_some(end);
            Ok(Some((piece, next)))
        }
    })
    .boxed()
}

/// A part of the object at `key`; none if that is not `len` bytes long.
pub(crate) async fn part(
    objects: &dyn ObjectStore,
    key: &Path,
    range: Range<u64>,
    len: u64,
) -> object_store::Result<Option<Bytes>> {
    if range.is_empty() {
        return Ok((objects.head(key).await?.size == len).then(Bytes::new));
    }
    let options = GetOptions { range: Some(GetRange::Bounded(range.clone())), ..GetOptions::default() };
    match objects.get_opts(key, options).await {
        Ok(found) if found.meta.size != len || found.range != range => Ok(None),
        Ok(found) => {
            let bytes = found.bytes().await?;
            Ok((bytes.len() as u64 == range.end - range.start).then_some(bytes))
        }
        Err(error @ object_store::Error::NotFound { .. }) => Err(error),
        // Perhaps it ends before the range begins, which each store tells in its own way.
        Err(error) => match objects.head(key).await {
            Ok(meta) if meta.size != len => Ok(None),
            _ => Err(error),
        },
    }
}

/// Removes the scraps `<stem>.…#N` and `<stem>.segments/…#N`.
fn sweep(stem: &std::path::Path) -> io::Result<()> {
    let (Some(day), Some(session)) = (stem.parent(), stem.file_name().and_then(|name| name.to_str())) else {
        return Ok(());
    };
    let own = format!("{session}.");
    for (folder, start) in [(day.to_owned(), own.as_str()), (day.join(format!("{own}segments")), "")] {
        let entries = match std::fs::read_dir(&folder) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let digits = |n: &str| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit());
            if name.starts_with(start) && name.rsplit_once('#').is_some_and(|(_, n)| digits(n)) {
                match std::fs::remove_file(&path) {
                    // Whoever had begun it has just given it up.
                    Err(e) if e.kind() == io::ErrorKind::NotFound => (),
                    removed => removed?,
                }
            }
        }
    }
    Ok(())
}

/// The keys of one recording's objects.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) cast: Path,
    pub(crate) index: Path,
    pub(crate) seal: Path,
    /// Without an extension.
    stem: String,
}

impl Keys {
    /// `<prefix>/YYYY/MM/DD/<session id>.…`, by the day the session started (UTC).
    pub(crate) fn new(prefix: &Path, facts: &Facts, compression: Compression) -> Result<Self, StoreError> {
        let started = OffsetDateTime::parse(&facts.started, &Rfc3339)
            .map_err(|_| StoreError::Started(facts.started.clone()))?;
        let (year, month, day) = started.to_offset(time::UtcOffset::UTC).to_calendar_date();
        let day = format!("{year:04}/{:02}/{day:02}/{}", u8::from(month), facts.session);
        let stem = if prefix.as_ref().is_empty() { day } else { format!("{prefix}/{day}") };
        Ok(Self {
            cast: Path::parse(format!("{stem}.{}", compression.extension()))?,
            index: Path::parse(format!("{stem}.index.json"))?,
            seal: Path::parse(format!("{stem}.seal"))?,
            stem,
        })
    }

    /// The keys beside a cast's.
    pub(crate) fn beside(cast: &str) -> Result<Self, StoreError> {
        let stem = cast.strip_suffix(".zst").unwrap_or(cast);
        let stem = stem.strip_suffix(".cast").unwrap_or(stem);
        Ok(Self {
            cast: Path::parse(cast)?,
            index: Path::parse(format!("{stem}.index.json"))?,
            seal: Path::parse(format!("{stem}.seal"))?,
            stem: stem.to_owned(),
        })
    }

    /// What was derived from the cast, and from which.
    pub(crate) fn forms(&self) -> Result<Path, StoreError> {
        Ok(Path::parse(format!("{}.forms.json.zst", self.stem))?)
    }

    pub(crate) fn transcript(&self) -> Result<Path, StoreError> {
        Ok(Path::parse(format!("{}.transcript.json.zst", self.stem))?)
    }

    /// The folder of the segments.
    pub(crate) fn segments(&self) -> Result<Path, StoreError> {
        Ok(Path::parse(format!("{}.segments", self.stem))?)
    }

    pub(crate) fn segments_index(&self) -> Result<Path, StoreError> {
        Ok(Path::parse(format!("{}.segments/index.json.zst", self.stem))?)
    }

    pub(crate) fn segment(&self, n: usize) -> Result<Path, StoreError> {
        Ok(Path::parse(format!("{}.segments/{n}.json.zst", self.stem))?)
    }
}
