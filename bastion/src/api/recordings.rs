//! Recordings: listed and looked at here; played, searched and proven in the files below.

use std::{future::Future, sync::Arc};

use ::recordings::{Library, PlaybackError, Stored};
use poem::web::Data;
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};
use serde_json::Value;

use super::{
    Chapter,
    callers::{User, actor},
    error::ApiError,
    lists::{self, list_of, page},
    nullable::Nullable,
    sessions::{AssetRef, Names, UserRef, owner, seen},
};
use crate::{
    app::App,
    clock::rfc3339,
    db::{DbError, audit::Entry, recordings, sessions},
};

mod cast;
mod evidence;
mod files;
mod finding;
mod refusal;
mod search;
mod viewings;

use refusal::Refusal;

/// All operations on recordings.
pub type Parts = (Recordings, cast::Casts, finding::Findings, search::Search, evidence::Evidence);

/// All operations on recordings, with what they remember.
pub fn parts() -> Parts {
    let viewings = viewings::Viewings::default();
    (
        Recordings,
        cast::Casts { viewings: viewings.clone() },
        finding::Findings { viewings },
        search::Search::default(),
        evidence::Evidence::default(),
    )
}

/// A recording.
#[derive(Debug, Object)]
pub struct Recording {
    /// The session's id.
    session_id: String,
    /// Whose session.
    user: UserRef,
    /// On which host.
    asset: AssetRef,
    /// `recording`, `spooled`, `uploading`, `stored` or `failed`.
    state: String,
    /// Why it is not stored yet.
    reason: Nullable<String>,
    /// Bytes of the stored object.
    size: Nullable<u64>,
    /// Bytes of the asciicast.
    plain_size: Nullable<u64>,
    /// Of the asciicast, hex SHA-256.
    sha256: Nullable<String>,
    /// Seconds.
    duration: Nullable<f64>,
    /// RFC 3339, UTC.
    started_at: String,
    /// RFC 3339, UTC.
    ended_at: Nullable<String>,
    /// Kept until an admin lets it go, whatever the retention.
    hold: bool,
    /// Compact JWS over the recording's hash chain. Null in lists, and when the store does not give it.
    seal: Nullable<String>,
    /// Null in lists, and until it is stored.
    detail: Nullable<Detail>,
}

/// What is known of a stored recording beyond what lists show.
#[derive(Debug, Object)]
#[oai(rename = "RecordingDetail")]
pub struct Detail {
    /// Why the session ended, as in `Session`.
    end_reason: String,
    /// Of the shell.
    exit_code: Nullable<i32>,
    /// Of the shell: the name of the signal that ended it.
    exit_signal: Nullable<String>,
    /// It was sealed after a crash, as it stood then.
    recovered: bool,
    /// Bytes the host printed, as recorded.
    output_bytes: u64,
    /// Bytes the host printed that are known to be lost; the gap is marked where it is.
    lost_bytes: u64,
    /// Chunks of the hash chain.
    chunks: u64,
    /// It is long: players begin sooner, and seek faster, by `segments/index.json` than by `cast`.
    segmented: bool,
    /// What was typed is in it, but for what the host did not echo.
    records_input: bool,
    /// RFC 3339, UTC: from when on the retention deletes it; null: never.
    deletes_at: Nullable<String>,
}

list_of!(/// Recordings, newest first.
    RecordingList, Recording);

/// Recordings.
pub struct Recordings;

#[OpenApi(tag = "Chapter::Recordings")]
impl Recordings {
    /// List recordings
    ///
    /// Of one's own sessions; all for admins and auditors. `q` finds session ids, user and host names.
    #[oai(path = "/recordings", method = "get")]
    async fn list(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        user: Query<Option<String>>,
        asset: Query<Option<String>>,
        from: Query<Option<String>>,
        to: Query<Option<String>>,
        q: Query<Option<String>>,
        limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Json<RecordingList>, ApiError> {
        let page = page(limit.0, cursor.0)?;
        let Some(owner) = owner(&caller, user.0) else {
            return Ok(Json(RecordingList { items: Vec::new(), next_cursor: None.into() }));
        };
        let filter = lists::sessions(owner, asset.0, None, from.0.as_deref(), to.0.as_deref())?;
        let (pairs, next_cursor) = app.db.recordings(&filter, q.0.as_deref(), &page).await?;
        let (rows, sessions): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let names = Names::of(app, &sessions).await?;
        let items = rows.into_iter().zip(&sessions).map(|(row, session)| show(row, session, &names));
        Ok(Json(RecordingList { items: items.collect(), next_cursor: next_cursor.into() }))
    }

    /// Look at a recording
    ///
    /// A store that is away or damaged hides no more than the seal.
    #[oai(path = "/recordings/:id", method = "get")]
    async fn one(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        id: Path<String>,
    ) -> Result<Json<Recording>, ApiError> {
        let found = found(app, &caller, &id.0).await?;
        Ok(Json(whole(app, found).await?))
    }
}

/// A recording that the caller may see.
struct Found {
    session: sessions::Model,
    row: recordings::Model,
}

impl Found {
    /// What lies in the store, once it does.
    fn stored(&self) -> Option<Stored> {
        stored(&self.row)
    }

    /// What lies in the store, or 409 `not_stored`.
    fn require_stored(&self) -> Result<Stored, ApiError> {
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

fn stored(row: &recordings::Model) -> Option<Stored> {
    serde_json::from_str(row.stored.as_deref()?).ok()
}

async fn found(app: &App, caller: &User, id: &str) -> Result<Found, ApiError> {
    let session = seen(app, caller, id).await?;
    let row = app.db.recording(id).await?.ok_or_else(ApiError::not_found)?;
    Ok(Found { session, row })
}

/// Reads a recording: where its row says, and once more if that was true no longer, as when it has just moved to the
/// store, or was deleted.
async fn read<T, F: Future<Output = Result<T, PlaybackError>>>(
    app: &App,
    caller: &User,
    id: &str,
    read: impl Fn(Option<Stored>) -> F,
) -> Result<(Found, T), Refusal> {
    let before = found(app, caller, id).await?;
    match read(before.stored()).await {
        Ok(it) => Ok((before, it)),
        Err(error @ (PlaybackError::Missing | PlaybackError::Absent(_))) => {
            let now = found(app, caller, id).await?;
            if now.row.stored == before.row.stored {
                return Err(Refusal::to_read(&now, &error));
            }
            match read(now.stored()).await {
                Ok(it) => Ok((now, it)),
                Err(error) => Err(Refusal::to_read(&now, &error)),
            }
        }
        Err(error) => Err(Refusal::to_read(&before, &error)),
    }
}

/// As [`read`], of what only stored recordings have; 409 `not_stored` for others.
async fn read_stored<T, F: Future<Output = Result<T, PlaybackError>>>(
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

/// Writes down who reads what. `what` names the form that is read.
async fn note(
    app: &App,
    caller: &User,
    action: &'static str,
    session: &str,
    what: &str,
) -> Result<(), DbError> {
    let entry = Entry::new(app.clock.millis(), actor(caller), action)
        .on("session", session)
        .at_address(&caller.address.to_string())
        .with(serde_json::json!({ "what": what }));
    app.db.note(entry).await
}

/// A recording with everything that is shown of one.
async fn whole(app: &App, found: Found) -> Result<Recording, DbError> {
    let names = Names::of(app, std::slice::from_ref(&found.session)).await?;
    let (mut seal, mut detail) = (None, None);
    if let Some(stored) = found.stored() {
        // A store that is away must not hide the rest.
        seal = app.library.seal(&stored).await.ok();
        detail = Some(detail_of(stored, &found.session));
    }
    let shown = show(found.row, &found.session, &names);
    Ok(Recording { seal: seal.into(), detail: detail.into(), ..shown })
}

fn detail_of(stored: Stored, session: &sessions::Model) -> Detail {
    let obligations: Value = serde_json::from_str(&session.obligations).unwrap_or_default();
    let segmented = Library::wants_segments(&stored);
    let exit = stored.exit.unwrap_or_default();
    Detail {
        end_reason: stored.reason,
        exit_code: exit.code.into(),
        exit_signal: exit.signal.into(),
        recovered: stored.recovered,
        output_bytes: stored.output_bytes,
        lost_bytes: stored.lost_bytes,
        chunks: stored.chunks,
        segmented,
        records_input: obligations["record_input"].as_bool().unwrap_or(false),
        deletes_at: None.into(),
    }
}

fn show(row: recordings::Model, session: &sessions::Model, names: &Names) -> Recording {
    let size = |size: Option<i64>| size.and_then(|size| u64::try_from(size).ok());
    #[allow(clippy::cast_precision_loss, reason = "milliseconds of a session fit")]
    let duration = row.duration_ms.map(|millis| millis as f64 / 1000.0);
    Recording {
        user: names.user(session),
        asset: names.asset(session),
        session_id: row.session_id,
        state: row.state,
        reason: row.reason.into(),
        size: size(row.size).into(),
        plain_size: size(row.plain_size).into(),
        sha256: row.plain_sha256.into(),
        duration: duration.into(),
        started_at: started_at(session),
        ended_at: session.ended_at.map(rfc3339).into(),
        hold: row.hold,
        seal: None.into(),
        detail: None.into(),
    }
}

/// RFC 3339, UTC.
fn started_at(session: &sessions::Model) -> String {
    rfc3339(session.started_at.unwrap_or(session.created_at))
}
