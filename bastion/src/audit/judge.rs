//! Whether an audit log is what was written: its chain, its signed heads, the recordings it says were stored.
//!
//! Memory is bounded by a page of rows and eight bytes a head. The bastion may run meanwhile: heads are listed before
//! rows are read, and a recording that is missing may have been deleted just now.

use std::path::PathBuf;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::Error as ObjectError;
use recordings::{Store, StoreError, open_store, verify::SealFault};

use super::{
    chain,
    findings::{Finding, Verdict},
    head, stored,
};
use crate::{
    config::Config,
    db::{Db, DbError, audit::Model},
    seals::RecordingKeys,
    signing::{self, SigningError},
    vault::{Vault, VaultError},
};

/// Rows read at a time.
const PAGE: u64 = 500;
/// Objects asked for at a time.
const PARALLEL: usize = 8;

/// Why nothing could be judged.
#[derive(Debug, thiserror::Error)]
pub enum JudgeError {
    /// The database cannot be opened or read.
    #[error("database.url: {0}")]
    Db(#[from] DbError),
    /// The keys of the bastion cannot be read.
    #[error("keys.file: {0}; or give the bastion's public keys with --keys")]
    Vault(#[from] VaultError),
    /// The keys of the bastion are damaged.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The store cannot be opened.
    #[error("store.url: {0}")]
    Store(#[from] StoreError),
    /// The store's folder is not there.
    #[error("store.url: {} is no folder", .0.display())]
    Folder(PathBuf),
    /// The heads cannot be listed.
    #[error("store.url: the heads of the audit chain cannot be listed: {0}")]
    Heads(#[source] ObjectError),
}

/// A head that is known from elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Its place.
    pub seq: i64,
    /// Its hash, hex.
    pub hash: String,
}

impl std::str::FromStr for Pin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FORM: &str = "must be SEQ:HASH, as the bastion's log has them";
        let (seq, hash) = text.split_once(':').ok_or(FORM)?;
        let seq: i64 = seq.parse().map_err(|_| FORM)?;
        let hash = hash.to_ascii_lowercase();
        let is_hash = hash.len() == 64 && hash.bytes().all(|it| it.is_ascii_hexdigit());
        if seq > 0 && is_hash { Ok(Self { seq, hash }) } else { Err(FORM) }
    }
}

/// What is to be judged, besides what the configuration says.
#[derive(Clone, Debug, Default)]
pub struct Ask {
    /// The bastion's public recording keys; none: those of the database that the key file opens.
    pub keys: Option<RecordingKeys>,
    /// Heads known from elsewhere.
    pub pins: Vec<Pin>,
    /// Whether every recording is read and verified in whole.
    pub deep: bool,
}

/// Judges the audit log of the bastion that is configured so. Changes nothing.
///
/// # Errors
/// [`JudgeError`] when there is nothing to judge; what is wrong with it is a finding, never an error.
pub async fn judge(config: &Config, ask: Ask) -> Result<Verdict, JudgeError> {
    let db = Db::open_existing(config.database.url.expose()).await?;
    let keys = match ask.keys {
        Some(keys) => keys,
        None => signing::recording_keys(&db, &Vault::open_existing(&config.keys.file, &db).await?).await?,
    };
    let store = store(config)?;
    store.probe().await?;
    let mut pins = ask.pins;
    pins.sort_by_key(|pin| pin.seq);
    let heads = heads(&store).await.map_err(JudgeError::Heads)?;
    let verdict = Verdict { heads: heads.len() as u64, ..Verdict::default() };
    let mut walk = Walk { db, store, keys, pins, deep: ask.deep, heads, known: Some(String::new()), verdict };
    walk.run().await?;
    Ok(walk.verdict)
}

/// The store as it is: a folder that is missing is not made.
fn store(config: &Config) -> Result<Store, JudgeError> {
    if let Some(path) = config.store.url.strip_prefix("file://").map(PathBuf::from)
        && !path.is_dir()
    {
        return Err(JudgeError::Folder(path));
    }
    Ok(open_store(&crate::store_url(config))?)
}

/// The places of all heads, the last first, so that they are taken from the end.
async fn heads(store: &Store) -> Result<Vec<i64>, ObjectError> {
    let listed = store.objects.list(Some(&head::folder(store)));
    let places = listed.try_filter_map(async |found| Ok(head::seq_of(&found.location)));
    let mut places: Vec<_> = match places.try_collect().await {
        Err(ObjectError::NotFound { .. }) => Vec::new(),
        places => places?,
    };
    places.sort_unstable_by(|a: &i64, b| b.cmp(a));
    Ok(places)
}

struct Walk {
    db: Db,
    store: Store,
    keys: RecordingKeys,
    /// In order of place.
    pins: Vec<Pin>,
    deep: bool,
    /// Those that are still to be looked at, the last first.
    heads: Vec<i64>,
    /// The hash before the next row; none after a gap.
    known: Option<String>,
    verdict: Verdict,
}

impl Walk {
    async fn run(&mut self) -> Result<(), JudgeError> {
        loop {
            let rows = self.db.audit_after(self.verdict.last, PAGE).await?;
            if rows.is_empty() {
                break;
            }
            rows.iter().for_each(|row| self.on_row(row));
            self.on_heads(&rows).await;
            self.on_recordings(&rows).await?;
        }
        self.on_end().await;
        self.verdict.unchained = self.db.unchained().await?;
        Ok(())
    }

    fn on_row(&mut self, row: &Model) {
        let seq = row.seq.unwrap_or_default();
        let expected = self.verdict.last + 1;
        if seq > expected {
            self.verdict.find(Finding::Missing { first: expected, last: seq - 1 });
            self.known = None;
        }
        let hash = row.hash.clone().unwrap_or_default();
        let is_as_chained =
            self.known.take().is_none_or(|before| chain::link(&before, row).as_ref() == Some(&hash));
        // A row that is none of the chain's own leaves its neighbours to be judged by what they say themselves.
        if !is_as_chained {
            self.verdict.find(Finding::Row { seq, id: row.id.clone() });
        }
        if self.pins.iter().any(|pin| pin.seq == seq && pin.hash != hash) {
            self.verdict.find(Finding::Pinned { seq });
        }
        self.known = Some(hash.clone());
        self.verdict.rows += 1;
        self.verdict.last = seq;
        self.verdict.hash = hash;
    }

    /// Holds the heads up to the last of `rows` against them.
    async fn on_heads(&mut self, rows: &[Model]) {
        let last = self.verdict.last;
        let due = self.heads.partition_point(|seq| *seq > last);
        let due: Vec<_> = self.heads.split_off(due).into_iter().rev().collect();
        let (store, keys) = (&self.store, &self.keys);
        let read = stream::iter(due).map(async |seq| (seq, opened(store, keys, seq).await));
        let read: Vec<_> = read.buffered(PARALLEL).collect().await;
        for (seq, opened) in read {
            let claims = match opened {
                Ok(claims) => claims,
                Err(finding) => {
                    self.verdict.find(finding);
                    continue;
                }
            };
            let at = rows.partition_point(|row| row.seq < Some(seq));
            // Where there is no row, that is told already.
            let Some(row) = rows.get(at).filter(|row| row.seq == Some(seq)) else { continue };
            if row.hash.as_ref() == Some(&claims.hash) {
                self.verdict.signed = seq;
            } else {
                let key = head::key(&self.store, seq).to_string();
                self.verdict.find(Finding::Rewritten { seq, after: self.verdict.signed, key });
            }
        }
    }

    /// Holds the store against what `rows` say was stored.
    async fn on_recordings(&mut self, rows: &[Model]) -> Result<(), JudgeError> {
        let (db, store, keys) = (&self.db, &self.store, &self.keys);
        let rows = rows.iter().filter(|row| row.action == stored::ACTION);
        let looked = stream::iter(rows).map(async |row| stored::look(db, store, keys, row, self.deep).await);
        let looked: Vec<_> = looked.buffered(PARALLEL).try_collect().await?;
        for findings in looked.into_iter().flatten() {
            self.verdict.recordings += 1;
            findings.into_iter().for_each(|finding| self.verdict.find(finding));
        }
        Ok(())
    }

    /// What is beyond the last row.
    async fn on_end(&mut self) {
        let last = self.verdict.last;
        for pin in std::mem::take(&mut self.pins).into_iter().filter(|pin| pin.seq > last) {
            self.verdict.find(Finding::Pinned { seq: pin.seq });
        }
        // The newest that is signed says it all; one that is not is told.
        for seq in std::mem::take(&mut self.heads) {
            match opened(&self.store, &self.keys, seq).await {
                Ok(_) => {
                    let key = head::key(&self.store, seq).to_string();
                    self.verdict.find(Finding::Truncated { seq, last, key });
                    return;
                }
                Err(finding) => self.verdict.find(finding),
            }
        }
        if self.verdict.heads == 0 && self.verdict.rows > 0 {
            self.verdict.find(Finding::Unsigned);
        }
    }
}

/// A head whose signature holds and which is of this place, or what is wrong with it.
async fn opened(store: &Store, keys: &RecordingKeys, seq: i64) -> Result<head::HeadClaims, Finding> {
    let at = head::key(store, seq);
    let key = at.to_string();
    let jws = match head::read(store, &at).await {
        Ok(jws) => jws,
        Err(error) => return Err(Finding::Unread { seq, session: None, key, reason: error.to_string() }),
    };
    match head::open(&jws, keys) {
        Ok(claims) if claims.seq == seq => Ok(claims),
        Ok(claims) => Err(Finding::Head { seq, key, reason: format!("it is that of row {}", claims.seq) }),
        Err(SealFault::UnknownKey(kid)) => Err(Finding::UnknownKey { seq, key, kid }),
        Err(SealFault::Refused(reason)) => Err(Finding::Head { seq, key, reason }),
    }
}
