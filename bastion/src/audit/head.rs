//! The signed head of the audit chain: what it says, where it lies, how it is put there; not when.

use object_store::{Error as ObjectError, ObjectStoreExt as _, PutMode, path::Path};
use recordings::{Store, verify::SealFault};
use serde::{Deserialize, Serialize};

use crate::seals::RecordingKeys;

/// The type of a signed head.
pub(super) const HEAD_TYP: &str = "castellan-audit+jwt";
/// The longest head that is looked at, in bytes.
const HEAD_MAX: u64 = 8 << 10;

/// What a head says: the chain's last row, and with its hash all rows before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadClaims {
    /// The bastion's public origin.
    pub iss: String,
    /// When it was signed, unix seconds.
    pub iat: i64,
    /// The row's place.
    pub seq: i64,
    /// The row's hash, hex.
    pub hash: String,
    /// The row's time: RFC 3339, UTC, milliseconds.
    pub at: String,
}

/// Why a head could not be had or kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeadError {
    /// The store failed.
    #[error("the store: {0}")]
    Store(#[from] ObjectError),
    /// There is another head of that place.
    #[error("{key} is there already and says otherwise: rows of the audit log were rewritten or taken away")]
    Rewritten {
        /// Where.
        key: Path,
    },
}

/// The folder of all heads.
pub(super) fn folder(store: &Store) -> Path {
    store.prefix.clone().join("audit").join("heads")
}

/// Where the head of a place lies; the keys sort as the places do.
pub(super) fn key(store: &Store, seq: i64) -> Path {
    folder(store).join(format!("{seq:020}.jws"))
}

/// The inverse of [`key`].
pub(super) fn seq_of(key: &Path) -> Option<i64> {
    let digits = key.filename()?.strip_suffix(".jws")?;
    (digits.len() == 20 && digits.bytes().all(|it| it.is_ascii_digit())).then(|| digits.parse().ok())?
}

/// Checks a head's signature by a recording key, and reads it.
pub(super) fn open(jws: &str, keys: &RecordingKeys) -> Result<HeadClaims, SealFault> {
    keys.opened(jws, HEAD_TYP).map(|(_, claims)| claims)
}

/// The head at `key`, of which no more is read than a head has.
pub(super) async fn read(store: &Store, key: &Path) -> Result<String, ObjectError> {
    let found = store.objects.get(key).await?;
    if found.meta.size > HEAD_MAX {
        return Ok(String::new());
    }
    Ok(String::from_utf8_lossy(&found.bytes().await?).trim().to_owned())
}

/// Puts a head, but never over another one: what was signed once stays to be seen.
pub(super) async fn put(
    store: &Store,
    jws: &str,
    claims: &HeadClaims,
    keys: &RecordingKeys,
) -> Result<Path, HeadError> {
    let key = key(store, claims.seq);
    match store.objects.put_opts(&key, jws.to_owned().into(), PutMode::Create.into()).await {
        Ok(_) => return Ok(key),
        Err(ObjectError::AlreadyExists { .. } | ObjectError::Precondition { .. }) => {}
        Err(ObjectError::NotImplemented { .. } | ObjectError::NotSupported { .. }) => {
            // A store that cannot tell whether there is one is asked first.
            match store.objects.head(&key).await {
                Err(ObjectError::NotFound { .. }) => {
                    store.objects.put(&key, jws.to_owned().into()).await?;
                    return Ok(key);
                }
                found => drop(found?),
            }
        }
        Err(error) => return Err(error.into()),
    }
    let known = open(&read(store, &key).await?, keys);
    let same = known.is_ok_and(|known| (known.seq, &known.hash) == (claims.seq, &claims.hash));
    if same { Ok(key) } else { Err(HeadError::Rewritten { key }) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;

    #[test]
    fn a_key_names_its_place_and_sorts_by_it() {
        let store = Store::new(Arc::new(InMemory::new()), Path::from("kept"));
        let keys = [9, 10, 1_000_000].map(|seq| key(&store, seq));
        assert_eq!(keys[0].as_ref(), "kept/audit/heads/00000000000000000009.jws");
        assert!(keys.is_sorted());
        assert_eq!(keys.map(|key| seq_of(&key)), [Some(9), Some(10), Some(1_000_000)]);
        for other in ["9.jws", "00000000000000000009.txt", "+0000000000000000009.jws"] {
            assert_eq!(seq_of(&folder(&store).join(other)), None, "{other}");
        }
    }
}
