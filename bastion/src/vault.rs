//! Secrets at rest: sealed with an AEAD to the table, column and row they lie in, by keys that are never
//! in the database.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead as _, Payload},
};
use sha2::Digest as _;
use zeroize::Zeroizing;

use crate::{
    clock,
    db::{Db, DbError},
};

/// Why a secret could not be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The key file cannot be read or made.
    #[error("key file {}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the key file.
    #[error("key file {} may be read by others: run chmod 600 on it", .0.display())]
    Loose(PathBuf),
    /// The key file is damaged.
    #[error("key file {}, line {line}: not a key; expected 44 characters of base64", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// 1 is the first.
        line: usize,
    },
    /// The database was sealed with another key.
    #[error("the key file is not the one this database was sealed with; restore the right one (keys.file)")]
    WrongKey,
    /// A sealed value does not open: damaged, moved from another row, or sealed with a key that is gone.
    #[error("the sealed value at {0} does not open")]
    Closed(String),
    /// The AEAD refused; only absurdly long values do that.
    #[error("could not seal")]
    Seal,
    /// The canary could not be read or written.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Where a sealed value lies; it opens nowhere else.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// `table.column`.
    pub column: &'static str,
    /// The row's primary key.
    pub row: &'a str,
}

struct Key {
    /// First 8 hex digits of the key's SHA-256.
    id: String,
    cipher: XChaCha20Poly1305,
}

/// The keys of one bastion; the first seals, all open.
pub struct Vault {
    keys: Vec<Key>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Vault({} keys)", self.keys.len())
    }
}

const CANARY: Place<'static> = Place { column: "key_canary.sealed", row: "canary" };

impl Vault {
    /// Reads the key file, making it first if there is none and the database is new.
    pub async fn open(file: &Path, db: &Db) -> Result<Self, VaultError> {
        let canary = db.canary().await?;
        if canary.is_none() && !file.exists() {
            make_key_file(file).map_err(|source| VaultError::File { path: file.to_owned(), source })?;
        }
        let vault = Self::read(file)?;
        match canary {
            Some(sealed) => {
                vault.unseal(CANARY, &sealed).map_err(|_| VaultError::WrongKey)?;
            }
            None => db.add_canary(vault.seal(CANARY, b"castellan")?).await?,
        }
        Ok(vault)
    }

    /// Reads the key file of a database that was sealed before; makes and changes nothing.
    pub async fn open_existing(file: &Path, db: &Db) -> Result<Self, VaultError> {
        let vault = Self::read(file)?;
        let sealed = db.canary().await?.ok_or(VaultError::WrongKey)?;
        vault.unseal(CANARY, &sealed).map_err(|_| VaultError::WrongKey)?;
        Ok(vault)
    }

    fn read(file: &Path) -> Result<Self, VaultError> {
        let failed = |source| VaultError::File { path: file.to_owned(), source };
        refuse_loose(file)?;
        let text = Zeroizing::new(fs::read_to_string(file).map_err(failed)?);
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let malformed = || VaultError::Malformed { path: file.to_owned(), line: index + 1 };
            let bytes = Zeroizing::new(STANDARD.decode(line.trim()).map_err(|_| malformed())?);
            let cipher = XChaCha20Poly1305::new_from_slice(&bytes).map_err(|_| malformed())?;
            let id = hex::encode(&sha2::Sha256::digest(&*bytes)[..4]);
            keys.push(Key { id, cipher });
        }
        if keys.is_empty() {
            return Err(VaultError::Malformed { path: file.to_owned(), line: 1 });
        }
        Ok(Self { keys })
    }

    /// Seals `plain` to its place.
    pub fn seal(&self, place: Place<'_>, plain: &[u8]) -> Result<String, VaultError> {
        let key = self.keys.first().ok_or(VaultError::Seal)?;
        let nonce = clock::random::<24>();
        let aad = aad(place);
        let sealed = key
            .cipher
            .encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: aad.as_bytes() })
            .map_err(|_| VaultError::Seal)?;
        Ok(format!("v1.{}.{}", key.id, STANDARD.encode([&nonce[..], &sealed].concat())))
    }

    /// Opens what was sealed to this place.
    pub fn unseal(&self, place: Place<'_>, sealed: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        self.try_unseal(place, sealed)
            .ok_or_else(|| VaultError::Closed(format!("{} of {}", place.column, place.row)))
    }

    fn try_unseal(&self, place: Place<'_>, sealed: &str) -> Option<Zeroizing<Vec<u8>>> {
        let mut parts = sealed.split('.');
        let ("v1", id, blob) = (parts.next()?, parts.next()?, parts.next()?) else { return None };
        let key = self.keys.iter().find(|key| key.id == id)?;
        let blob = STANDARD.decode(blob).ok()?;
        let (nonce, sealed) = blob.split_at_checked(24)?;
        let nonce: [u8; 24] = nonce.try_into().ok()?;
        let aad = aad(place);
        let plain =
            key.cipher.decrypt(&XNonce::from(nonce), Payload { msg: sealed, aad: aad.as_bytes() }).ok()?;
        Some(Zeroizing::new(plain))
    }
}

fn aad(place: Place<'_>) -> String {
    format!("castellan/v1/{}/{}", place.column, place.row)
}

fn make_key_file(file: &Path) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = options.open(file)?;
    out.write_all(Zeroizing::new(format!("{}\n", STANDARD.encode(clock::random::<32>()))).as_bytes())?;
    out.sync_all()
}

#[cfg(unix)]
fn refuse_loose(file: &Path) -> Result<(), VaultError> {
    use std::os::unix::fs::PermissionsExt as _;
    let meta = fs::metadata(file).map_err(|source| VaultError::File { path: file.to_owned(), source })?;
    if meta.permissions().mode() & 0o077 == 0 { Ok(()) } else { Err(VaultError::Loose(file.to_owned())) }
}

#[cfg(not(unix))]
fn refuse_loose(_: &Path) -> Result<(), VaultError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(dir: &Path) -> Vault {
        let file = dir.join("keys");
        make_key_file(&file).unwrap();
        Vault::read(&file).unwrap()
    }

    #[test]
    fn a_sealed_value_opens_in_its_own_place_only() {
        let dir = tempfile::tempdir().unwrap();
        let vault = vault(dir.path());
        let place = Place { column: "assets.agent_secret_sealed", row: "a" };
        let sealed = vault.seal(place, b"secret").unwrap();
        assert_eq!(&**vault.unseal(place, &sealed).unwrap(), b"secret");
        assert!(vault.unseal(Place { row: "b", ..place }, &sealed).is_err());
        assert!(vault.unseal(Place { column: "users.password_hash", ..place }, &sealed).is_err());
        assert_ne!(sealed, vault.seal(place, b"secret").unwrap());
    }

    #[test]
    fn a_flipped_bit_or_another_key_does_not_open() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (vault, other) = (vault(one.path()), vault(two.path()));
        let place = Place { column: "t.c", row: "r" };
        let sealed = vault.seal(place, b"secret").unwrap();
        assert!(other.unseal(place, &sealed).is_err());
        let swapped = if sealed.ends_with("A=") { "B=" } else { "A=" };
        assert!(vault.unseal(place, &format!("{}{swapped}", &sealed[..sealed.len() - 2])).is_err());
        assert!(vault.unseal(place, "v1.zz").is_err());
    }

    #[cfg(unix)]
    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("keys");
        make_key_file(&file).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Vault::read(&file), Err(VaultError::Loose(_))));
    }
}
