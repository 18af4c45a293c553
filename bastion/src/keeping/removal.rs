//! A recording's objects taken out of the store, and what keeps them there.

use object_store::{Error as ObjectError, ObjectStoreExt as _, path::Path};
use recordings::{Keys, Library, PlaybackError, Store, StoreError, Stored};

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

/// Takes a recording out of the store, and whatever was derived from it; what is not there any more is no error.
pub(crate) async fn remove(store: &Store, library: &Library, stored: &Stored) -> Result<(), RemoveError> {
    let keys = Keys::beside(&stored.key).map_err(|error| RemoveError::Refused(error.to_string()))?;
    // The cast first: without it nothing is derived anew.
    let sealed = [keys.cast, keys.index, keys.seal];
    // A store that was away at first, and so had nothing to delete, may be back by now.
    for _ in 0..2 {
        for key in &sealed {
            match store.objects.delete(key).await {
                Ok(()) | Err(ObjectError::NotFound { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        library.forget_derived(stored).await?;
        if are_gone(store, &sealed).await? {
            return Ok(());
        }
    }
    Err(RemoveError::Refused(format!("{} is still there after it was deleted", stored.key)))
}

async fn are_gone(store: &Store, keys: &[Path]) -> Result<bool, RemoveError> {
    // In a folder that is not there nothing is found either.
    let is_here = async || store.probe().await.map_err(|error| RemoveError::Away(error.to_string()));
    is_here().await?;
    for key in keys {
        match store.objects.head(key).await {
            Err(ObjectError::NotFound { .. }) => {}
            Ok(_) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    is_here().await?;
    Ok(true)
}
