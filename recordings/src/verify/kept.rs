//! A library's evidence: a stored recording's index and seal as they lie, and the verdict over all three objects.

use std::io::{self, Read};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::stream;
use futures_util::{StreamExt, TryStreamExt, future};
use object_store::path::Path;
use object_store::{Error, ObjectStoreExt};
use tokio::sync::mpsc;

use super::{Beside, Form, INDEX_MAX, SEAL_MAX, SealKeys, Verdict, verify};
use crate::chunks::Compression;
use crate::ledger::Stored;
use crate::playback::{Bits, Library, PlaybackError, blocking};
use crate::store::{Keys, pieces};

impl Library {
    /// The index of a stored recording, as it lies: whether it is one is for others to judge.
    ///
    /// # Errors
    /// [`PlaybackError::Absent`] if it is gone, [`PlaybackError::Altered`] if it is longer than any, or what failed.
    pub async fn index(&self, stored: &Stored) -> Result<Bytes, PlaybackError> {
        let found = self.beside(&Keys::beside(&stored.key)?.index, INDEX_MAX).await?;
        let index = found.ok_or(PlaybackError::Absent("index"))?;
        Some(index).filter(|index| index.len() as u64 <= INDEX_MAX).ok_or(PlaybackError::Altered("index"))
    }

    /// Whether a stored recording is what was sealed: [`verify`] over what lies in the store, which is read while it is
    /// judged. What is gone is a finding. Dropping the future ends both.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn verify(
        &self,
        session: &str,
        stored: &Stored,
        keys: impl SealKeys + Send + 'static,
    ) -> Result<Verdict, PlaybackError> {
        let places = Keys::beside(&stored.key)?;
        let index = self.beside(&places.index, INDEX_MAX).await?;
        let seal = self.beside(&places.seal, SEAL_MAX).await?;
        let form = match stored.compression {
            Compression::Zstd => Form::Stored,
            Compression::None => Form::Plain,
        };
        // Whoever fetches waits while one piece waits to be judged.
        let (tell, pieces) = mpsc::channel(1);
        let session = session.to_owned();
        let judged = blocking(move || {
            let beside = Beside { index: index.as_deref(), seal: seal.as_deref(), session: Some(&session) };
            let cast = Pieces { at: Bytes::new(), next: pieces };
            Ok(verify(cast, form, &beside, &keys))
        });
        let mut cast = self.as_it_lies(places.cast).await?;
        let fetched = async move {
            while let Some(piece) = cast.next().await {
                if tell.send(piece).await.is_err() {
                    break;
                }
            }
        };
        let (verdict, ()) = future::join(judged, fetched).await;
        verdict?.map_err(|error| error.downcast().unwrap_or(PlaybackError::Stopped))
    }

    /// The bytes of the cast's object, whatever they are; none if it is gone.
    async fn as_it_lies(&self, key: Path) -> Result<Bits, PlaybackError> {
        let len = match self.store.objects.head(&key).await {
            Ok(meta) => meta.size,
            Err(Error::NotFound { .. }) => 0,
            Err(error) => return Err(error.into()),
        };
        if len == 0 {
            return Ok(stream::empty().boxed());
        }
        let pieces = pieces(Arc::clone(&self.store.objects), key, len);
        Ok(pieces
            .map_err(Into::into)
            .and_then(|piece| async { piece.ok_or(PlaybackError::Altered("cast")) })
            .boxed())
    }

    /// A small object; of one that is longer than `most` bytes no more than shows that it is.
    async fn beside(&self, key: &Path, most: u64) -> Result<Option<Bytes>, PlaybackError> {
        let found = match self.store.objects.get(key).await {
            Ok(found) => found,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        if found.meta.size > most {
            return Ok(Some(self.store.objects.get_range(key, 0..most + 1).await?));
        }
        Ok(Some(found.bytes().await?))
    }
}

/// What another fetches, read. Ends when there is no more, or nobody left to fetch.
struct Pieces {
    at: Bytes,
    next: mpsc::Receiver<Result<Bytes, PlaybackError>>,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at.is_empty() {
            match self.next.blocking_recv() {
                Some(piece) => self.at = piece.map_err(io::Error::other)?,
                None => return Ok(0),
            }
        }
        let len = self.at.len().min(buffer.len());
        self.at.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}
