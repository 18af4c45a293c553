//! Passwords: argon2id off the async threads, a few at a time, with the same work for unknown users.

use std::sync::Arc;

use argon2::{Argon2, PasswordHasher as _, PasswordVerifier as _, password_hash};
use tokio::sync::Semaphore;

/// The shortest and the longest password, in bytes.
pub const LENGTH: std::ops::RangeInclusive<usize> = 12..=256;

/// Verifiers that may wait; more are refused rather than queued.
const QUEUE: usize = 64;

/// Why a password could not be hashed or checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many are being checked.
    #[error("too many logins at once")]
    Busy,
    /// argon2 refused; a damaged hash does that.
    #[error("password hash: {0}")]
    Hash(password_hash::Error),
    /// The worker thread died.
    #[error("password worker: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

/// Hashes and checks passwords.
#[derive(Clone, Debug)]
pub struct Passwords {
    /// Who waits: whoever logs in, while both workers are busy.
    workers: Arc<Semaphore>,
    queue: Arc<Semaphore>,
    /// The hash of a password nobody has: the same work for a user nobody is.
    decoy: Arc<str>,
}

impl Passwords {
    /// Makes the decoy.
    pub fn new() -> Result<Self, PasswordError> {
        let decoy = hash(&crate::clock::random_secret())?;
        Ok(Self {
            workers: Arc::new(Semaphore::new(2)),
            queue: Arc::new(Semaphore::new(QUEUE)),
            decoy: decoy.into(),
        })
    }

    /// The PHC string of a new password.
    pub async fn hash(&self, password: String) -> Result<String, PasswordError> {
        self.work(move || hash(&password)).await
    }

    /// Whether `password` is the one of `phc`; with none, as much work for a certain no.
    pub async fn verify(&self, password: String, phc: Option<String>) -> Result<bool, PasswordError> {
        let known = phc.is_some();
        let phc = phc.unwrap_or_else(|| self.decoy.to_string());
        let right = self
            .work(move || match Argon2::default().verify_password(password.as_bytes(), &*phc) {
                Ok(()) => Ok(true),
                Err(password_hash::Error::PasswordInvalid) => Ok(false),
                Err(error) => Err(PasswordError::Hash(error)),
            })
            .await?;
        Ok(right && known)
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = self.queue.clone().try_acquire_owned().map_err(|_| PasswordError::Busy)?;
        let worker = self.workers.clone().acquire_owned().await.map_err(|_| PasswordError::Busy)?;
        // The permits go with the work: it goes on when whoever asked has gone.
        tokio::task::spawn_blocking(move || {
            let _held = (place, worker);
            work()
        })
        .await?
    }
}

/// argon2id with 19 MiB and two passes, as OWASP advises.
fn hash(password: &str) -> Result<String, PasswordError> {
    let hash = Argon2::default().hash_password(password.as_bytes()).map_err(PasswordError::Hash)?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_verifies_and_another_or_an_unknown_user_does_not() {
        let passwords = Passwords::new().unwrap();
        let phc = passwords.hash("correct horse".to_owned()).await.unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
        assert!(passwords.verify("correct horse".to_owned(), Some(phc.clone())).await.unwrap());
        assert!(!passwords.verify("correct horsf".to_owned(), Some(phc)).await.unwrap());
        assert!(!passwords.verify("correct horse".to_owned(), None).await.unwrap());
    }
}
