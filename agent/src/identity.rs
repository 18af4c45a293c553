//! Who the agent is: its id, keys and secret, and the bastion it pinned, in a folder that only its user can read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use openapi::{
    keys::{self, KeyError, RsaPrivate, Secret},
    ticket::{Jwk, KeyList},
};
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};

use crate::platform::{self, Exposure};

/// The size of a new key, in bits.
const KEY_BITS: usize = 2048;
const CLIENT_ID: &str = "client_id";
const PRIVATE_KEY: &str = "agent_rsa";
const PUBLIC_KEY: &str = "agent_rsa.pub";
const SECRET: &str = "agent_secret_key";
const BASTION: &str = "bastion_identity.jwk";
const LOCK: &str = "lock";

/// Why the state folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// No home folder to put it in.
    #[error("there is no home folder; name a state folder with --state-dir")]
    NoHome,
    /// Reading or writing failed.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read or write it.
    #[error("{path} has mode {mode:04o}; only its owner may have access (chmod {wanted:04o})")]
    Loose {
        /// Which file or folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode it should have.
        wanted: u32,
    },
    /// Another user owns it.
    #[error("{path} belongs to user {owner}, not to the agent's user {own}")]
    Foreign {
        /// Which file or folder.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Who the agent is.
        own: u32,
    },
    /// A file does not hold what it should.
    #[error("{path} is damaged: {detail}")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// Another agent uses the folder.
    #[error("another agent is running on {0}")]
    InUse(PathBuf),
    /// No key could be made.
    #[error("no key could be made: {0}")]
    Key(String),
}

/// The agent's identity, and its folder, which it holds alone while it lives.
#[derive(Debug)]
pub struct Identity {
    folder: PathBuf,
    client_id: String,
    key: RsaPrivate,
    public_pem: String,
    fingerprint: String,
    // Held for its lock, which ends with it.
    _lock: File,
}

/// `~/.ssh/castellan`.
///
/// # Errors
/// [`IdentityError::NoHome`].
pub fn default_folder() -> Result<PathBuf, IdentityError> {
    Ok(platform::home().ok_or(IdentityError::NoHome)?.join(".ssh").join("castellan"))
}

impl Identity {
    /// Opens the folder, and makes what is missing: the folder, the id, the key. Slow when it makes a key.
    ///
    /// # Errors
    /// [`IdentityError`], always naming the file.
    pub fn load_or_create(folder: &Path) -> Result<Self, IdentityError> {
        make_folder(folder)?;
        check(folder, 0o700)?;
        let lock = take_lock(folder)?;
        let client_id = match read(&folder.join(CLIENT_ID))? {
            Some(id) => id.trim().to_owned(),
            None => {
                let id = uuid::Uuid::new_v4().to_string();
                write(folder, CLIENT_ID, &format!("{id}\n"))?;
                id
            }
        };
        uuid::Uuid::try_parse(&client_id).map_err(|error| damaged(folder, CLIENT_ID, &error))?;
        let key = match read(&folder.join(PRIVATE_KEY))? {
            Some(pem) => {
                RsaPrivate::from_pkcs8_pem(&pem).map_err(|error| damaged(folder, PRIVATE_KEY, &error))?
            }
            None => make_key(folder)?,
        };
        let public_pem = key.as_public_key().to_public_key_pem(LineEnding::LF);
        let public_pem = public_pem.map_err(|error| damaged(folder, PRIVATE_KEY, &error))?;
        let public =
            keys::parse_public_key(&public_pem).map_err(|error| damaged(folder, PRIVATE_KEY, &error))?;
        if read(&folder.join(PUBLIC_KEY))?.as_deref() != Some(&public_pem) {
            write(folder, PUBLIC_KEY, &public_pem)?;
        }
        let fingerprint = keys::fingerprint(&public).map_err(|error| damaged(folder, PRIVATE_KEY, &error))?;
        Ok(Self { folder: folder.to_owned(), client_id, key, public_pem, fingerprint, _lock: lock })
    }

    /// The agent's id, a UUID; the asset's id once it is approved.
    #[must_use]
    pub fn client_id(&self) -> &str {
        &self.client_id
    }

    /// The private key.
    #[must_use]
    pub fn key(&self) -> &RsaPrivate {
        &self.key
    }

    /// The public key, SPKI PEM.
    #[must_use]
    pub fn public_pem(&self) -> &str {
        &self.public_pem
    }

    /// The public key's fingerprint, for an admin to compare.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The shared secret, once approved.
    ///
    /// # Errors
    /// [`IdentityError`] when the file is damaged or open to others.
    pub fn secret(&self) -> Result<Option<Secret>, IdentityError> {
        let text = read(&self.folder.join(SECRET))?;
        let secret = text.map(|text| Secret::from_base64(text.trim_end_matches(['\n', '\r'])));
        secret.transpose().map_err(|error: KeyError| damaged(&self.folder, SECRET, &error))
    }

    /// Keeps the shared secret.
    ///
    /// # Errors
    /// [`IdentityError::Io`].
    pub fn keep_secret(&self, secret: &Secret) -> Result<(), IdentityError> {
        write(&self.folder, SECRET, &format!("{}\n", secret.to_base64()))
    }

    /// The bastion's identity keys, once pinned; the first is the one of the first contact.
    ///
    /// # Errors
    /// [`IdentityError`] when the file is damaged or open to others.
    pub fn bastion(&self) -> Result<Option<KeyList>, IdentityError> {
        let text = read(&self.folder.join(BASTION))?;
        let keys = text.map(|text| serde_json::from_str(&text)).transpose();
        keys.map_err(|error| damaged(&self.folder, BASTION, &error))
    }

    /// Pins the bastion's identity keys.
    ///
    /// # Errors
    /// [`IdentityError::Io`].
    pub fn pin_bastion(&self, keys: &KeyList) -> Result<(), IdentityError> {
        let text = serde_json::to_string(keys).map_err(|error| damaged(&self.folder, BASTION, &error))?;
        write(&self.folder, BASTION, &format!("{text}\n"))
    }
}

/// What a state folder says, for people to read; it may be in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The agent's id.
    pub client_id: String,
    /// The fingerprint of its key, for an admin to compare.
    pub fingerprint: String,
    /// Whether there is a secret: an admin approved, and the bastion delivered.
    pub approved: bool,
    /// The thumbprints of the bastion's pinned identity keys.
    pub bastion: Vec<String>,
}

/// Reads a state folder without taking it; none when no agent has run on it.
///
/// # Errors
/// [`IdentityError`], always naming the file.
pub fn peek(folder: &Path) -> Result<Option<Summary>, IdentityError> {
    let id = match check(folder, 0o700) {
        Err(IdentityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => None,
        other => other.and_then(|()| read(&folder.join(CLIENT_ID)))?,
    };
    let Some((id, pem)) = id.zip(read(&folder.join(PUBLIC_KEY))?) else { return Ok(None) };
    let fingerprint = keys::parse_public_key(&pem).and_then(|key| keys::fingerprint(&key));
    let bastion = read(&folder.join(BASTION))?.map(|text| serde_json::from_str::<KeyList>(&text)).transpose();
    let bastion = bastion.map_err(|error| damaged(folder, BASTION, &error))?;
    Ok(Some(Summary {
        client_id: id.trim().to_owned(),
        fingerprint: fingerprint.map_err(|error| damaged(folder, PUBLIC_KEY, &error))?,
        approved: read(&folder.join(SECRET))?.is_some(),
        bastion: bastion.map(|list| list.keys.iter().map(Jwk::thumbprint).collect()).unwrap_or_default(),
    }))
}

fn make_folder(folder: &Path) -> Result<(), IdentityError> {
    platform::make_private_folder(folder).map_err(|source| io_error(folder, source))
}

fn make_key(folder: &Path) -> Result<RsaPrivate, IdentityError> {
    let key = RsaPrivate::new(&mut rand::rngs::SysRng, KEY_BITS);
    let key = key.map_err(|error| IdentityError::Key(error.to_string()))?;
    let pem = key.to_pkcs8_pem(LineEnding::LF).map_err(|error| IdentityError::Key(error.to_string()))?;
    write(folder, PRIVATE_KEY, &pem)?;
    Ok(key)
}

fn take_lock(folder: &Path) -> Result<File, IdentityError> {
    let path = folder.join(LOCK);
    let mut options = OpenOptions::new();
    let file = platform::private(options.create(true).truncate(false).write(true)).open(&path);
    let file = file.map_err(|source| io_error(&path, source))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(IdentityError::InUse(folder.to_owned())),
        Err(fs::TryLockError::Error(source)) => Err(io_error(&path, source)),
    }
}

/// Refuses what another user owns or others may touch.
fn check(path: &Path, wanted: u32) -> Result<(), IdentityError> {
    let meta = fs::symlink_metadata(path).map_err(|source| io_error(path, source))?;
    let exposure = platform::exposure(&meta);
    if let Some(Exposure::Owner { owner, own }) = exposure {
        return Err(IdentityError::Foreign { path: path.to_owned(), owner, own });
    }
    if meta.file_type().is_symlink() {
        return Err(IdentityError::Damaged {
            path: path.to_owned(),
            detail: "it is a symbolic link".to_owned(),
        });
    }
    if let Some(Exposure::Mode(mode)) = exposure {
        return Err(IdentityError::Loose { path: path.to_owned(), mode, wanted });
    }
    Ok(())
}

fn read(path: &Path) -> Result<Option<String>, IdentityError> {
    match check(path, 0o600) {
        Err(IdentityError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    }
    fs::read_to_string(path).map(Some).map_err(|source| io_error(path, source))
}

/// Writes so that after a crash there is the old file or the new one, never a part of one.
fn write(folder: &Path, name: &str, text: &str) -> Result<(), IdentityError> {
    let path = folder.join(name);
    let new = folder.join(format!(".{name}.new"));
    let written = || -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = platform::private(options.create(true).truncate(true).write(true)).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        platform::sync_folder(folder)
    };
    written().map_err(|source| io_error(&path, source))
}

fn io_error(path: &Path, source: io::Error) -> IdentityError {
    IdentityError::Io { path: path.to_owned(), source }
}

fn damaged(folder: &Path, name: &str, detail: &dyn std::fmt::Display) -> IdentityError {
    IdentityError::Damaged { path: folder.join(name), detail: detail.to_string() }
}

#[cfg(all(test, unix))]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    use super::*;

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn an_identity_is_made_once_and_kept() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("a/b");
        let first = Identity::load_or_create(&folder).unwrap();
        let (id, fingerprint) = (first.client_id().to_owned(), first.fingerprint().to_owned());
        assert!(first.secret().unwrap().is_none());
        assert!(!peek(&folder).unwrap().unwrap().approved, "it can be looked at while it is held");
        assert_eq!(peek(&home.path().join("none")).unwrap(), None);
        first.keep_secret(&Secret::new([5; 32])).unwrap();
        drop(first);
        let again = Identity::load_or_create(&folder).unwrap();
        assert_eq!((again.client_id(), again.fingerprint()), (id.as_str(), fingerprint.as_str()));
        assert_eq!(again.secret().unwrap().unwrap().expose(), &[5; 32]);
        assert_eq!(
            fs::read_to_string(folder.join(SECRET)).unwrap().len(),
            45,
            "the base64 text and a newline"
        );
        assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
        for name in [CLIENT_ID, PRIVATE_KEY, PUBLIC_KEY, SECRET] {
            assert_eq!(fs::metadata(folder.join(name)).unwrap().mode() & 0o777, 0o600, "{name}");
        }
    }

    #[test]
    fn a_file_open_to_others_is_refused_by_name() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("state");
        drop(Identity::load_or_create(&folder).unwrap());
        set_mode(&folder.join(PRIVATE_KEY), 0o640);
        let error = Identity::load_or_create(&folder).unwrap_err().to_string();
        assert!(error.contains("agent_rsa") && error.contains("0640") && error.contains("0600"), "{error}");
        set_mode(&folder.join(PRIVATE_KEY), 0o600);
        set_mode(&folder, 0o755);
        let error = Identity::load_or_create(&folder).unwrap_err();
        assert!(matches!(error, IdentityError::Loose { mode: 0o755, wanted: 0o700, .. }), "{error}");
    }

    #[test]
    fn a_folder_has_one_agent_at_a_time() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("state");
        let _first = Identity::load_or_create(&folder).unwrap();
        assert!(matches!(Identity::load_or_create(&folder), Err(IdentityError::InUse(_))));
    }

    #[test]
    fn a_damaged_file_is_named() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("state");
        drop(Identity::load_or_create(&folder).unwrap());
        write(&folder, CLIENT_ID, "not a uuid").unwrap();
        assert!(matches!(Identity::load_or_create(&folder), Err(IdentityError::Damaged { .. })));
    }
}
