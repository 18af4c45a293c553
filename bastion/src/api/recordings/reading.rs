//! Recordings opened: by whom, where they lie, and once more if they moved meanwhile.

use std::future::Future;

use ::recordings::{PlaybackError, Stored};

use super::refusal::Refusal;
use crate::{
    api::{callers::User, error::ApiError, sessions::seen},
    app::App,
    db::{recordings, sessions},
};

/// A recording that the caller may see.
pub struct Found {
    /// Of its session.
    pub session: sessions::Model,
    /// Its own.
    pub row: recordings::Model,
}

impl Found {
    /// What lies in the store, once it does.
    pub fn stored(&self) -> Option<Stored> {
        stored(&self.row)
    }

    /// What lies in the store, or 409 `not_stored`.
    pub fn require_stored(&self) -> Result<Stored, ApiError> {
        self.stored().ok_or_else(|| {
            let detail = match (self.row.state.as_str(), &self.row.reason) {
                ("failed", Some(reason)) => format!("The recording could not be stored: {reason}."),
                ("recording", _) => "The session is still being recorded.".to_owned(),
                _ => "The recording is on its way to the store; try again soon.".to_owned(),
            };
            ApiError::conflict("not_stored", detail)
        })
    }
}

/// What lies in the store, by a recording's row.
pub fn stored(row: &recordings::Model) -> Option<Stored> {
    serde_json::from_str(row.stored.as_deref()?).ok()
}

/// A recording that the caller may see; what is somebody else's, or deleted, is not there.
pub async fn found(app: &App, caller: &User, id: &str) -> Result<Found, ApiError> {
    let session = seen(app, caller, id).await?;
    let row = app.db.recording(id).await?.ok_or_else(ApiError::not_found)?;
    Ok(Found { session, row })
}

/// Reads a recording: where its row says, and once more if that was true no longer, as when it has just moved to the
/// store, or was deleted.
pub async fn read<T, F: Future<Output = Result<T, PlaybackError>>>(
    app: &App,
    caller: &User,
    id: &str,
    read: impl Fn(Option<Stored>) -> F,
) -> Result<(Found, T), Refusal> {
    read_where_found(|| found(app, caller, id), read).await
}

async fn read_where_found<T, L, F>(
    look: impl Fn() -> L,
    read: impl Fn(Option<Stored>) -> F,
) -> Result<(Found, T), Refusal>
where
    L: Future<Output = Result<Found, ApiError>>,
    F: Future<Output = Result<T, PlaybackError>>,
{
    let before = look().await?;
    let error = match read(before.stored()).await {
        Ok(it) => return Ok((before, it)),
        Err(error) => error,
    };
    if !matches!(error, PlaybackError::Missing | PlaybackError::Absent(_)) {
        return Err(Refusal::to_read(&before, &error));
    }
    let now = look().await?;
    if now.row.stored == before.row.stored {
        return Err(Refusal::to_read(&now, &error));
    }
    match read(now.stored()).await {
        Ok(it) => Ok((now, it)),
        Err(error) => Err(Refusal::to_read(&now, &error)),
    }
}

/// As [`read`], of what only stored recordings have; 409 `not_stored` for others.
pub async fn read_stored<T, F: Future<Output = Result<T, PlaybackError>>>(
    app: &App,
    caller: &User,
    id: &str,
    from_store: impl Fn(Stored) -> F,
) -> Result<(Found, T), Refusal> {
    let before = found(app, caller, id).await?;
    match from_store(before.require_stored()?).await {
        Ok(it) => Ok((before, it)),
        // Perhaps it was deleted just now: then it is not there, and not damaged.
        Err(error @ PlaybackError::Absent(_)) => {
            Err(Refusal::to_read(&found(app, caller, id).await?, &error))
        }
        Err(error) => Err(Refusal::to_read(&before, &error)),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::{Value, json};

    use super::*;

    fn found(stored: Option<Value>) -> Found {
        let session = sessions::Model {
            id: "s1".into(),
            user_id: "u1".into(),
            asset_id: "a1".into(),
            node_id: "main".into(),
            node_epoch: 1,
            status: "closed".into(),
            end_reason: Some("exit".into()),
            decision_id: "d1".into(),
            credential: None,
            address: "::1".into(),
            plain: false,
            command: None,
            run_as: None,
            cols: 80,
            rows: 24,
            obligations: "{}".into(),
            ends_at: None,
            exit_code: None,
            exit_signal: None,
            created_at: 0,
            started_at: None,
            ended_at: Some(1),
        };
        let row = recordings::Model::begun("s1", 0);
        Found { session, row: recordings::Model { stored: stored.map(|it| it.to_string()), ..row } }
    }

    fn lies() -> Value {
        json!({
            "key": "s1.cast", "size": 1, "plain_size": 1, "sha256": "", "plain_sha256": "", "seal_sha256": "",
            "duration": 0.0, "ended": "", "reason": "exit", "exit": null, "recovered": false, "output_bytes": 0,
            "lost_bytes": 0, "chunks": 1, "head": "", "compression": "none",
        })
    }

    #[tokio::test]
    async fn what_moves_to_the_store_while_it_is_opened_is_opened_there() {
        let looks = AtomicUsize::new(0);
        let look = || async {
            let moved = looks.fetch_add(1, Ordering::Relaxed) > 0;
            Ok(found(moved.then(lies)))
        };
        let open = |stored: Option<Stored>| async { stored.map(|it| it.key).ok_or(PlaybackError::Missing) };
        let (now, key) = read_where_found(look, open).await.unwrap();
        assert_eq!((key.as_str(), now.stored().is_some()), ("s1.cast", true));
        assert_eq!(looks.into_inner(), 2);
    }

    #[tokio::test]
    async fn what_is_gone_is_not_looked_for_for_ever() {
        let opened = AtomicUsize::new(0);
        let open = |_| async {
            opened.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(PlaybackError::Absent("cast"))
        };
        assert!(read_where_found(|| async { Ok(found(Some(lies()))) }, open).await.is_err());
        assert_eq!(opened.into_inner(), 1, "nothing has changed: nothing else would come of it");
    }
}
