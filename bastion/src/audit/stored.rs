//! Whether one recording that the audit log says was stored lies in the store, and is the one that was.

use std::io;

use bytes::{Buf as _, Bytes};
use futures_util::StreamExt as _;
use object_store::{Error as ObjectError, ObjectStoreExt as _, path::Path};
use openapi::ticket::Jwk;
use recordings::{
    Store,
    verify::{Beside, Form, INDEX_MAX, SEAL_MAX, Standing as Of, verify},
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

use super::findings::{Finding, Standing};
use crate::{
    db::{Db, DbError, audit::Model},
    keeping::{Objects, RecordingKeys},
};

/// What says that a recording was stored.
pub(super) const ACTION: &str = "recording.stored";
/// What says so anew, or that it was taken away in order.
const LATER: [&str; 2] = [ACTION, "recording.delete"];

/// What the row says of it.
#[derive(Deserialize)]
struct Said {
    key: String,
    size: u64,
    sha256: String,
    seal_sha256: String,
}

/// One recording that is looked at.
struct Look<'a> {
    store: &'a Store,
    seq: i64,
    session: &'a str,
    said: Said,
    objects: Objects,
}

/// What is wrong with the recording that `row` says was stored; none if a later row says that it was deleted or stored
/// anew.
pub(super) async fn look(
    db: &Db,
    store: &Store,
    keys: &[Jwk],
    row: &Model,
    deep: bool,
) -> Result<Option<Vec<Finding>>, DbError> {
    let seq = row.seq.unwrap_or_default();
    let session = row.target_id.as_deref().unwrap_or_default();
    if db.has_later(session, &LATER, seq).await? {
        return Ok(None);
    }
    let said = serde_json::from_str::<Said>(&row.detail).ok();
    let said = said.and_then(|said| Some((Objects::beside(&said.key)?, said)));
    let Some((objects, said)) = said else {
        return Ok(Some(vec![Finding::Unsaid { seq, session: session.to_owned() }]));
    };
    let look = Look { store, seq, session, said, objects };
    let mut findings = look.shallow().await;
    if deep && findings.is_empty() {
        findings = look.deep(keys).await;
    }
    // It may have gone while it was looked at.
    if !findings.is_empty() && db.has_later(session, &LATER, seq).await? {
        return Ok(None);
    }
    Ok(Some(findings))
}

impl Look<'_> {
    /// The seal by its hash, the cast by its size.
    async fn shallow(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        match self.get(&self.objects.seal, SEAL_MAX).await {
            Ok(seal) if hex::encode(Sha256::digest(&seal)) == self.said.seal_sha256 => {}
            Ok(_) => findings.push(self.differs(&self.objects.seal, "another hash".to_owned())),
            Err(finding) => findings.push(finding),
        }
        match self.store.objects.head(&self.objects.cast).await {
            Ok(meta) if meta.size == self.said.size => {}
            Ok(meta) => {
                let reason = format!("{} bytes, and there were {}", meta.size, self.said.size);
                findings.push(self.differs(&self.objects.cast, reason));
            }
            Err(error) => findings.push(self.trouble(&self.objects.cast, &error)),
        }
        findings
    }

    /// All of it: the cast by its hash, and everything by the rules of `castellan verify`.
    async fn deep(&self, keys: &[Jwk]) -> Vec<Finding> {
        let read = async {
            let index = self.get(&self.objects.index, INDEX_MAX).await?;
            let seal = self.get(&self.objects.seal, SEAL_MAX).await?;
            let cast = self.store.objects.get(&self.objects.cast).await;
            let cast = cast.map_err(|error| self.trouble(&self.objects.cast, &error))?;
            Ok::<_, Finding>((index, seal, cast))
        };
        let (index, seal, cast) = match read.await {
            Ok(read) => read,
            Err(finding) => return vec![finding],
        };
        // Bounded: who fetches waits for who hashes.
        let (pieces, taken) = mpsc::channel(2);
        let form = Form::of(self.objects.cast.as_ref(), &[]);
        let (keys, session) = (RecordingKeys::new(keys.to_vec()), self.session.to_owned());
        let verifying = tokio::task::spawn_blocking(move || {
            let mut cast = Pieces { taken, piece: Bytes::new(), hash: Sha256::new() };
            let beside = Beside { index: Some(&index), seal: Some(&seal), session: Some(&session) };
            let verdict = verify(&mut cast, form, &beside, &keys)?;
            io::copy(&mut cast, &mut io::sink())?;
            Ok::<_, io::Error>((verdict, hex::encode(cast.hash.finalize())))
        });
        let mut stream = cast.into_stream();
        while let Some(piece) = stream.next().await {
            if pieces.send(piece.map_err(io::Error::other)).await.is_err() {
                break;
            }
        }
        drop(pieces);
        let (verdict, sha256) = match verifying.await.map_err(io::Error::other).flatten() {
            Ok(read) => read,
            Err(error) => return vec![self.unread(&self.objects.cast, error.to_string())],
        };
        let mut findings = Vec::new();
        if sha256 != self.said.sha256 {
            findings.push(self.differs(&self.objects.cast, "another hash".to_owned()));
        }
        findings.extend(verdict.findings.iter().map(|finding| Finding::Recording {
            seq: self.seq,
            session: self.session.to_owned(),
            key: self.objects.cast.to_string(),
            reason: finding.to_string(),
            standing: standing(finding.standing()),
        }));
        findings
    }

    /// A small object; of one that is too long, nothing.
    async fn get(&self, key: &Path, most: u64) -> Result<Bytes, Finding> {
        let read = async {
            let found = self.store.objects.get(key).await?;
            if found.meta.size > most { Ok(Bytes::new()) } else { found.bytes().await }
        };
        read.await.map_err(|error| self.trouble(key, &error))
    }

    fn trouble(&self, key: &Path, error: &ObjectError) -> Finding {
        let (seq, session, key) = (self.seq, self.session.to_owned(), key.to_string());
        match error {
            ObjectError::NotFound { .. } => Finding::Gone { seq, session, key },
            error => Finding::Unread { seq, session: Some(session), key, reason: error.to_string() },
        }
    }

    fn unread(&self, key: &Path, reason: String) -> Finding {
        let session = Some(self.session.to_owned());
        Finding::Unread { seq: self.seq, session, key: key.to_string(), reason }
    }

    fn differs(&self, key: &Path, reason: String) -> Finding {
        Finding::Differs { seq: self.seq, session: self.session.to_owned(), key: key.to_string(), reason }
    }
}

fn standing(of: Of) -> Standing {
    match of {
        Of::Whole => Standing::Whole,
        Of::Altered => Standing::Altered,
        Of::Incomplete => Standing::Incomplete,
        Of::UnknownKey => Standing::UnknownKey,
    }
}

/// An object as it comes, hashed as it is read; off the async threads.
struct Pieces {
    taken: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
    hash: Sha256,
}

impl io::Read for Pieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.taken.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let count = self.piece.len().min(into.len());
        self.piece.copy_to_slice(&mut into[..count]);
        self.hash.update(&into[..count]);
        Ok(count)
    }
}
