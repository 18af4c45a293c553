//! The proof of the audit log: its rows chained by a writer of their own, the chain's head signed and kept apart.
//!
//! Rows are written unchained, each in the transaction that made it true: a chain in there would make every request
//! wait for every other. Within a second the [`Scribe`] gives each its place and its hash, and every minute signs the
//! head and puts it into the object store and the log. [`judge`] tells whether rows, heads and stored recordings are
//! still what they were.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use recordings::Store;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::{Clock, rfc3339},
    db::{
        Db, DbError,
        audit::{Chained, Head},
    },
    signing::Signing,
};

mod chain;
mod findings;
mod head;
mod judge;
mod stored;

pub use findings::{Finding, Standing, Verdict};
pub use head::HeadClaims;
pub use judge::{Ask, JudgeError, Pin, judge};

/// How often rows are looked for that are not chained yet.
const CHAIN_EVERY: Duration = Duration::from_millis(500);
/// How soon a first head is signed.
const SIGN_FIRST: Duration = Duration::from_secs(2);
/// How often the head is signed, if there is anything new.
const SIGN_EVERY: Duration = Duration::from_secs(60);
/// Rows chained in one transaction: on SQLite others wait for it.
const BATCH: u64 = 200;
/// After a fault.
const PAUSE: Duration = Duration::from_secs(5);
/// How long a store may take for a head before the next minute's is tried.
const SIGN_WITHIN: Duration = Duration::from_secs(30);
/// How long the last rows and the last head may take when the bastion stops.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// Chains the audit log and signs its head.
pub(crate) struct Scribe {
    /// The rows.
    pub(crate) db: Db,
    /// Where heads are kept.
    pub(crate) store: Store,
    /// Signs them.
    pub(crate) signing: Arc<Signing>,
    /// The bastion's public origin.
    pub(crate) issuer: String,
    /// When.
    pub(crate) clock: Clock,
    /// The place of the newest head in the store, as far as this life of the bastion knows.
    pub(crate) signed: AtomicI64,
}

impl Scribe {
    /// Chains what is written, for ever.
    pub(crate) async fn chain(self: Arc<Self>, shutdown: CancellationToken) {
        let mut ticks = interval(CHAIN_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
            let done = shutdown.run_until_cancelled(self.chain_all()).await;
            if let Some(Err(error)) = done {
                tracing::warn!(%error, "the audit log is not chained yet");
                shutdown.run_until_cancelled(sleep(PAUSE)).await;
            }
        }
    }

    /// Signs what is chained, for ever.
    pub(crate) async fn sign(self: Arc<Self>, shutdown: CancellationToken) {
        // The first one soon: until then the chain rests on the database alone.
        let mut pause = SIGN_FIRST;
        while shutdown.run_until_cancelled(sleep(pause)).await.is_some() {
            if self.is_begun().await {
                pause = SIGN_EVERY;
            }
            let signing = timeout(SIGN_WITHIN, self.sign_head());
            if let Some(Err(_)) = shutdown.run_until_cancelled(signing).await {
                tracing::warn!(
                    "the store takes too long for the audit chain's head; the next minute tries again"
                );
            }
        }
    }

    /// Chains and signs what the end of everything else has left.
    pub(crate) async fn close(&self) {
        let closing = async {
            if let Err(error) = self.chain_all().await {
                tracing::warn!(%error, "the last rows of the audit log are chained at the next start");
            }
            self.sign_head().await;
        };
        if timeout(CLOSE_WITHIN, closing).await.is_err() {
            tracing::warn!("the audit chain's last head is not in the store; the next start signs it");
        }
    }

    async fn chain_all(&self) -> Result<(), DbError> {
        while self.db.has_unchained().await? {
            match self.db.chain_audit(BATCH, chain::link).await? {
                Chained::Rows(_) => {}
                // The other one does it.
                Chained::Beaten => return Ok(()),
                Chained::Broken => {
                    tracing::error!(
                        "the audit chain's last hash is none: castellan verify --audit says more"
                    );
                    sleep(PAUSE).await;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn is_begun(&self) -> bool {
        self.db.audit_head().await.is_ok_and(|head| head.seq > 0)
    }

    /// Puts the head into the store and the log, unless it is there; what fails is told, and tried again.
    async fn sign_head(&self) {
        let head = match self.db.audit_head().await {
            Ok(head) => head,
            Err(error) => return tracing::warn!(%error, "the audit chain's head is not signed yet"),
        };
        if head.seq <= self.signed.load(Ordering::Relaxed) {
            return;
        }
        let claims = self.claims(&head);
        let jws = match self.signing.recording.sign(head::HEAD_TYP, &claims) {
            Ok(jws) => jws,
            Err(error) => return tracing::error!(%error, "the audit chain's head cannot be signed"),
        };
        // In the log in any case: who can reach the store only cannot reach that.
        tracing::info!(seq = head.seq, hash = head.hash, "the audit chain's head");
        match head::put(&self.store, &jws, &claims, self.signing.recording_keys()).await {
            Ok(_) => self.signed.store(head.seq, Ordering::Relaxed),
            Err(head::HeadError::Store(error)) => {
                tracing::warn!(%error, "the audit chain's head is not in the store yet");
            }
            Err(error @ head::HeadError::Rewritten { .. }) => {
                // Told once: the next minute cannot know more.
                self.signed.store(head.seq, Ordering::Relaxed);
                tracing::error!(%error, "the audit log is not what it was");
            }
        }
    }

    fn claims(&self, head: &Head) -> HeadClaims {
        HeadClaims {
            iss: self.issuer.clone(),
            iat: self.clock.seconds(),
            seq: head.seq,
            hash: head.hash.clone(),
            at: rfc3339(head.at),
        }
    }
}
