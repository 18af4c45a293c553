//! A recording's objects taken out of the store, and what keeps them there.

use object_store::{Error as ObjectError, ObjectStoreExt as _};
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
    let sealed = [keys.cast, keys.index, keys.seal];
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
