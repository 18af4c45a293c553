//! The object store: a folder or a bucket, opened by URL; where a recording's objects lie in it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use url::Url;

use crate::chunks::Compression;
use crate::journal::Facts;

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
        source: std::io::Error,
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
    let refuse = |why: String| StoreError::Url { url: url.to_owned(), why };
    let parsed = Url::parse(url).map_err(|e| refuse(e.to_string()))?;
    match parsed.scheme() {
        // "file:folder" would parse too, as one at the root of the file system.
        "file" if !url.starts_with("file:///") => Err(refuse("it needs an absolute path: file:///…".into())),
        "file" => open_folder(parsed.to_file_path().map_err(|()| refuse("not an absolute path".into()))?),
        "s3" | "s3a" | "gs" | "az" | "azure" | "abfs" | "abfss" => {
            let settings = std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
            let (objects, prefix) =
                object_store::parse_url_opts(&parsed, settings).map_err(|e| refuse(e.to_string()))?;
            Ok(Store { objects: objects.into(), prefix, folder: None })
        }
        scheme => Err(refuse(format!("unknown scheme {scheme}"))),
    }
}

fn open_folder(path: PathBuf) -> Result<Store, StoreError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&path);
    made.map_err(|source| StoreError::Folder { path: path.clone(), source })?;
    // The journal goes once the object is there: that must hold after a power cut too.
    let objects = LocalFileSystem::new_with_prefix(&path)?.with_fsync(true);
    Ok(Store { objects: Arc::new(objects), prefix: Path::default(), folder: Some(path) })
}

impl Store {
    /// A store opened elsewhere.
    pub fn new(objects: Arc<dyn ObjectStore>, prefix: Path) -> Self {
        Self { objects, prefix, folder: None }
    }

    /// Whether the store answers. Writes nothing.
    ///
    /// # Errors
    /// What it answered instead.
    pub async fn probe(&self) -> Result<(), StoreError> {
        if let Some(path) = &self.folder {
            let failed = |source| StoreError::Folder { path: path.clone(), source };
            if !tokio::fs::metadata(path).await.map_err(failed)?.is_dir() {
                return Err(failed(std::io::ErrorKind::NotADirectory.into()));
            }
            return rustix::fs::access(path, rustix::fs::Access::WRITE_OK).map_err(|e| failed(e.into()));
        }
        match self.objects.head(&self.prefix.clone().join("probe")).await {
            Ok(_) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
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
