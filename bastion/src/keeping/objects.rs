//! The objects of one recording: what is sealed, and how they are taken out of the store.

use object_store::{Error as ObjectError, ObjectStoreExt as _, path::Path};
use recordings::{Library, PlaybackError, Store, StoreError, Stored};

/// Why a recording's objects are still there.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemoveError {
    /// The store does not answer, or not well: it is asked again soon.
    #[error("{0}")]
    Away(String),
    /// The store answers, and does not let go: it is asked again in a day.
    #[error("{0}")]
    Refused(String),
}

impl From<ObjectError> for RemoveError {
    fn from(error: ObjectError) -> Self {
        let said = error.to_string();
        match error {
            // A retention rule, a legal hold or an immutability policy, as the providers put it.
            ObjectError::PermissionDenied { .. }
            | ObjectError::AlreadyExists { .. }
            | ObjectError::Precondition { .. }
            | ObjectError::NotSupported { .. } => Self::Refused(said),
            _ => Self::Away(said),
        }
    }
}

impl From<PlaybackError> for RemoveError {
    fn from(error: PlaybackError) -> Self {
        match error {
            PlaybackError::Store(StoreError::Store(error)) => error.into(),
            error => Self::Away(error.to_string()),
        }
    }
}

/// Where the sealed objects of a recording lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Objects {
    /// The cast, packed or plain.
    pub(crate) cast: Path,
    /// Its index.
    pub(crate) index: Path,
    /// Its seal.
    pub(crate) seal: Path,
}

impl Objects {
    /// By the key of the cast; `None` when it is none.
    pub(crate) fn beside(key: &str) -> Option<Self> {
        let stem = key.strip_suffix(".zst").unwrap_or(key).strip_suffix(".cast")?;
        Some(Self {
            cast: Path::parse(key).ok()?,
            index: Path::parse(format!("{stem}.index.json")).ok()?,
            seal: Path::parse(format!("{stem}.seal")).ok()?,
        })
    }
}

/// Takes a recording out of the store, and whatever was derived from it; what is not there any more is no error.
pub(crate) async fn remove(store: &Store, library: &Library, stored: &Stored) -> Result<(), RemoveError> {
    let objects = Objects::beside(&stored.key);
    let Objects { cast, index, seal } =
        objects.ok_or_else(|| RemoveError::Refused(format!("{:?} is no key of a recording", stored.key)))?;
    let sealed = [cast, index, seal];
    // The cast first: without it nothing is derived anew.
    for key in &sealed {
        match store.objects.delete(key).await {
            Ok(()) | Err(ObjectError::NotFound { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    library.forget_derived(stored).await?;
    for key in &sealed {
        match store.objects.head(key).await {
            Err(ObjectError::NotFound { .. }) => {}
            Ok(_) => return Err(RemoveError::Refused(format!("{key} is still there after it was deleted"))),
            Err(error) => return Err(error.into()),
        }
    }
    // In a folder that is not there nothing is found either.
    store.probe().await.map_err(|error| RemoveError::Away(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn index_and_seal_lie_beside_the_cast() {
        for cast in ["kept/2026/11/24/a.cast.zst", "kept/2026/11/24/a.cast"] {
            let objects = Objects::beside(cast).unwrap();
            assert_eq!(objects.cast.as_ref(), cast);
            assert_eq!(objects.index.as_ref(), "kept/2026/11/24/a.index.json");
            assert_eq!(objects.seal.as_ref(), "kept/2026/11/24/a.seal");
        }
        for other in ["", "a.seal", "a.zst", "../a.cast"] {
            assert_eq!(Objects::beside(other), None, "{other}");
        }
    }
}
