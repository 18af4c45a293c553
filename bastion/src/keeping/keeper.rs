//! How long recordings are kept: what nobody holds goes when its time is up or an admin says so, for good.
//!
//! Deletion is in three steps, each of which may be the last before a crash: the row is marked, together with its
//! tombstone in the audit log, and nobody sees the recording any more; its objects are removed, tried until they are
//! gone; the row says so.

use std::{sync::Arc, time::Duration};

use recordings::{Library, Store, Stored};
use serde_json::json;
use tokio::{sync::Notify, time::sleep};
use tokio_util::sync::CancellationToken;

use super::removal::{RemoveError, remove};
use crate::{
    clock::Clock,
    config::Span,
    db::{
        Db, DbError,
        audit::{Actor, Entry},
        recordings::{Deletion, Model},
    },
};

/// How soon a store that is away is asked again at first; then ever later.
const SOON: Duration = Duration::from_secs(1);
/// How often at least it is asked again for what is not gone yet.
const AGAIN: Duration = Duration::from_secs(60);
/// How often time is looked at, in milliseconds.
const HOUR: i64 = 3600 * 1000;
/// How long the store's refusal stands, in milliseconds.
const DAY: i64 = 24 * HOUR;
/// Rows read at a time.
const PAGE: u64 = 100;

/// Keeps recordings, and stops keeping them.
pub(crate) struct Keeper {
    /// Their rows.
    pub(crate) db: Db,
    /// Their objects.
    pub(crate) store: Store,
    /// What is derived from those.
    pub(crate) library: Library,
    /// When.
    pub(crate) clock: Clock,
    /// How long; none: for ever.
    pub(crate) retention: Option<Span>,
    /// Told when a recording was marked.
    pub(crate) marked: Notify,
}

/// Who deletes a recording, and why: what stays of it.
pub(crate) struct Tombstone {
    /// The actor and the address; what else it says comes from the row.
    pub(crate) entry: Entry,
    /// Why.
    pub(crate) reason: String,
}

impl Keeper {
    /// Removes what is marked and marks what has been kept long enough, until `shutdown`.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        // At the start everything is asked for again, refused or not.
        let (mut hour, mut refused, mut pause) = (i64::MIN, i64::MAX, SOON);
        loop {
            let now = self.clock.millis();
            let pass = async {
                if now >= hour {
                    self.expire(now).await?;
                    self.forget_late(now).await?;
                }
                self.remove_marked(refused).await
            };
            match shutdown.run_until_cancelled(pass).await {
                None => return,
                Some(Ok(all)) => {
                    hour = if now >= hour { now + HOUR } else { hour };
                    pause = if all { AGAIN } else { pause.min(AGAIN / 2) * 2 };
                }
                Some(Err(error)) => tracing::warn!(%error, "recordings that should be gone are not yet"),
            }
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.marked.notified() => {}
                () = sleep(pause) => {}
            }
            pause = if pause == AGAIN { SOON } else { pause };
            refused = self.clock.millis() - DAY;
        }
    }

    /// Marks a stored recording: from here on it is there for nobody, and its objects go.
    pub(crate) async fn delete(&self, row: &Model, tombstone: Tombstone) -> Result<Deletion, DbError> {
        let stored = stored(row);
        let stored = stored.as_ref();
        let entry = tombstone.entry.on("session", &row.session_id).with(json!({
            "reason": tombstone.reason,
            "key": row.object_key,
            "sha256": row.sha256,
            "plain_sha256": row.plain_sha256,
            "seal_sha256": stored.map(|stored| &stored.seal_sha256),
            "head": stored.map(|stored| &stored.head),
        }));
        let deletion = self.db.delete_recording(&row.session_id, self.clock.millis(), entry).await?;
        if deletion == Deletion::Marked {
            self.marked.notify_one();
        }
        Ok(deletion)
    }

    /// Marks what has been kept long enough.
    async fn expire(&self, now: i64) -> Result<(), DbError> {
        let Some(retention) = self.retention else { return Ok(()) };
        let kept = i64::try_from(retention.duration().as_millis()).unwrap_or(i64::MAX);
        loop {
            let rows = self.db.recordings_expired(now.saturating_sub(kept), PAGE).await?;
            let mut marked = 0;
            for row in &rows {
                let entry = Entry::new(now, Actor::System, "recording.delete");
                let reason = format!("kept for {retention} (recordings.retention)");
                let deletion = self.delete(row, Tombstone { entry, reason }).await?;
                marked += usize::from(deletion == Deletion::Marked);
            }
            if marked > 0 {
                tracing::info!(marked, %retention, "recordings have been kept long enough");
            }
            // A page that was held meanwhile must not be read for ever.
            if marked == 0 || (rows.len() as u64) < PAGE {
                return Ok(());
            }
        }
    }

    /// Removes what is marked; false when the store is away, which ends the pass. Where it refuses it is asked again after a
    /// day.
    async fn remove_marked(&self, refused: i64) -> Result<bool, DbError> {
        let mut cursor = String::new();
        loop {
            let rows = self.db.recordings_going(&cursor, refused, PAGE).await?;
            let Some(last) = rows.last() else { return Ok(true) };
            cursor.clone_from(&last.session_id);
            for row in &rows {
                match self.remove(row).await {
                    Ok(()) => {
                        self.db.recording_is_gone(row, self.clock.millis()).await?;
                        tracing::info!(session = row.session_id, "a recording is deleted");
                    }
                    Err(RemoveError::Refused(reason)) => {
                        tracing::warn!(
                            session = row.session_id,
                            reason,
                            "the store keeps a deleted recording"
                        );
                        self.db.recording_is_kept(row, &reason, self.clock.millis()).await?;
                    }
                    Err(RemoveError::Away(reason)) => {
                        tracing::warn!(session = row.session_id, reason, "a recording is not deleted yet");
                        return Ok(false);
                    }
                }
            }
        }
    }

    async fn remove(&self, row: &Model) -> Result<(), RemoveError> {
        match stored(row) {
            Some(stored) => remove(&self.store, &self.library, &stored).await,
            None => Err(RemoveError::Refused("its row does not say where it lies".to_owned())),
        }
    }

    /// Somebody may have asked for a recording just before it went, and what was derived for him come after.
    async fn forget_late(&self, now: i64) -> Result<(), DbError> {
        let mut cursor = String::new();
        loop {
            let rows = self.db.recordings_gone(now - 2 * HOUR, &cursor, PAGE).await?;
            let Some(last) = rows.last() else { return Ok(()) };
            cursor.clone_from(&last.session_id);
            for stored in rows.iter().filter_map(stored) {
                if let Err(error) = self.library.forget_derived(&stored).await {
                    tracing::warn!(%error, key = stored.key, "what was derived from a deleted recording may be there");
                }
            }
        }
    }
}

fn stored(row: &Model) -> Option<Stored> {
    serde_json::from_str(row.stored.as_deref()?).ok()
}
