//! Whether one recording that the audit log says was stored lies in the store, and is the one that was.

use bytes::Bytes;
use object_store::{Error as ObjectError, ObjectStoreExt as _, path::Path};
use recordings::{
    Keys, Store,
    verify::{SEAL_MAX, Standing as Of, verify_stored},
};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::findings::{Finding, Standing};
use crate::{
    db::{Db, DbError, audit::Model},
    seals::RecordingKeys,
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
    seal_sha256: String,
}

/// One recording that is looked at.
struct Look<'a> {
    store: &'a Store,
    seq: i64,
    session: &'a str,
    said: Said,
    objects: Keys,
}

/// What is wrong with the recording that `row` says was stored; none if a later row says that it was deleted or stored
/// anew.
pub(super) async fn look(
    db: &Db,
    store: &Store,
    keys: &RecordingKeys,
    row: &Model,
    deep: bool,
) -> Result<Option<Vec<Finding>>, DbError> {
    let seq = row.seq.unwrap_or_default();
    let session = row.target_id.as_deref().unwrap_or_default();
    if db.has_later(session, &LATER, seq).await? {
        return Ok(None);
    }
    let said = serde_json::from_str::<Said>(&row.detail).ok();
    let said = said.and_then(|said| Some((Keys::beside(&said.key).ok()?, said)));
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

    /// All of it, by the rules of `castellan verify`.
    async fn deep(&self, keys: &RecordingKeys) -> Vec<Finding> {
        if let Err(error) = self.store.objects.head(&self.objects.index).await {
            return vec![self.trouble(&self.objects.index, &error)];
        }
        let verdict = match verify_stored(self.store, self.session, &self.said.key, keys.clone()).await {
            Ok(verdict) => verdict,
            Err(error) => return vec![self.unread(&self.objects.cast, error.to_string())],
        };
        let wrong = verdict.findings.iter().map(|finding| Finding::Recording {
            seq: self.seq,
            session: self.session.to_owned(),
            key: self.objects.cast.to_string(),
            reason: finding.to_string(),
            standing: standing(finding.standing()),
        });
        wrong.collect()
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
