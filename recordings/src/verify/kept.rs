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

/// What lies beside a stored cast to prove it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// `<session id>.index.json`.
    Index,
    /// `<session id>.seal`.
    Seal,
}

impl Library {
    /// A proof of a stored recording as it lies: whether it is one is for others to judge.
    ///
    /// # Errors
    /// [`PlaybackError::Absent`] if it is gone, [`PlaybackError::Altered`] if it is longer than any, or what failed.
    pub async fn proof(&self, stored: &Stored, proof: Proof) -> Result<Bytes, PlaybackError> {
        let keys = Keys::beside(&stored.key)?;
        let (key, most, name) = match proof {
            Proof::Index => (&keys.index, INDEX_MAX, "index"),
            Proof::Seal => (&keys.seal, SEAL_MAX, "seal"),
        };
        let found = self.beside(key, most).await?.ok_or(PlaybackError::Absent(name))?;
        Some(found).filter(|found| found.len() as u64 <= most).ok_or(PlaybackError::Altered(name))
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::poll;
    use object_store::PutPayload;
    use object_store::memory::InMemory;
    use serde_json::json;

    use super::*;
    use crate::spool::{Durability, Spool, SpoolOptions};
    use crate::store::Store;
    use crate::verify::{Opened, SealFault};

    /// Knows no key, and is held for as long as it is asked.
    struct None(#[allow(dead_code)] Arc<()>);

    impl SealKeys for None {
        fn open(&self, _: &str) -> Result<Opened, SealFault> {
            Err(SealFault::UnknownKey("rec-1".into()))
        }
    }

    fn library(dir: &std::path::Path) -> (Library, Arc<InMemory>) {
        let options = SpoolOptions { dir: dir.to_owned(), min_free: 0, durability: Durability::Written };
        let objects = Arc::new(InMemory::new());
        let store = Store::new(objects.clone(), Path::default());
        (Library::new(store, Spool::open(options).unwrap()), objects)
    }

    fn stored() -> Stored {
        serde_json::from_value(json!({
            "key": "s1.cast", "size": 1, "plain_size": 1, "sha256": "", "plain_sha256": "", "seal_sha256": "",
            "duration": 0.0, "ended": "", "reason": "exit", "exit": null, "recovered": false, "output_bytes": 0,
            "lost_bytes": 0, "chunks": 1, "head": "", "compression": "none",
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn nobody_goes_on_judging_for_one_who_has_gone() {
        let dir = tempfile::tempdir().unwrap();
        let (library, objects) = library(dir.path());
        objects.put(&Path::from("s1.cast"), PutPayload::from(vec![b'x'; 40 << 20])).await.unwrap();
        let held = Arc::new(());
        let stored = stored();
        let mut verifying = Box::pin(library.verify("s1", &stored, None(held.clone())));
        assert!(poll!(&mut verifying).is_pending(), "it has begun, and is not done");
        drop(verifying);
        let ended = async {
            while Arc::strong_count(&held) > 1 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the thread ends too");
    }

    #[tokio::test]
    async fn what_is_gone_is_a_finding() {
        let dir = tempfile::tempdir().unwrap();
        let (library, _) = library(dir.path());
        let verdict = library.verify("s1", &stored(), None(Arc::default())).await.unwrap();
        let codes: Vec<_> = verdict.findings.iter().map(super::super::Finding::code).collect();
        assert_eq!(codes, ["no_seal", "no_index", "empty"]);
    }
}
