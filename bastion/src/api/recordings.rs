//! Recordings: listed here; looked at, kept, played, searched and proven in the files below.

use std::{sync::Arc, time::Duration};

use ::recordings::{Library, Stored};
use poem::web::Data;
use poem_openapi::{Object, OpenApi, param::Query, payload::Json};
use serde_json::Value;
use tokio::time::timeout;

use super::{
    Chapter,
    callers::{User, actor},
    error::ApiError,
    lists::{self, list_of, page},
    nullable::Nullable,
    sessions::{AssetRef, Names, UserRef, owner},
};
use crate::{
    app::App,
    clock::rfc3339,
    config::Span,
    db::{DbError, audit::Entry, recordings, sessions},
    keeping::deletes_at,
};

mod cast;
mod evidence;
mod files;
mod finding;
mod one;
mod reading;
mod refusal;
mod search;
mod viewings;

use reading::{Found, found, read, read_stored, stored};

/// How long the store has to give a seal that is only shown.
const SEAL: Duration = Duration::from_secs(3);

/// All operations on recordings.
pub type Parts = (Recordings, cast::Casts, finding::Findings, search::Search, evidence::Evidence, one::One);

/// All operations on recordings, with what they remember.
pub fn parts() -> Parts {
    let viewings = viewings::Viewings::default();
    (
        Recordings,
        cast::Casts { viewings: viewings.clone() },
        finding::Findings { viewings },
        search::Search::default(),
        evidence::Evidence::default(),
        one::One,
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
    /// Not to be deleted, neither by an admin nor by itself.
    hold: bool,
    /// Seconds.
    duration: Nullable<f64>,
    /// RFC 3339, UTC.
    started_at: String,
    /// RFC 3339, UTC.
    ended_at: Nullable<String>,
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
}

/// Writes down who did what to a recording.
async fn note(
    app: &App,
    caller: &User,
    action: &'static str,
    session: &str,
    detail: Value,
) -> Result<(), DbError> {
    let entry = Entry::new(app.clock.millis(), actor(caller), action)
        .on("session", session)
        .at_address(&caller.address.to_string())
        .with(detail);
    app.db.note(entry).await
}

/// A recording with everything that is shown of one.
async fn whole(app: &App, found: Found) -> Result<Recording, DbError> {
    let names = Names::of(app, std::slice::from_ref(&found.session)).await?;
    let (mut seal, mut detail) = (None, None);
    if let Some(stored) = found.stored() {
        // A store that is away must not hide the rest, nor keep one waiting for it.
        seal = timeout(SEAL, app.library.seal(&stored)).await.ok().and_then(Result::ok);
        detail = Some(detail_of(stored, &found, app.config.recordings.retention));
    }
    let shown = show(found.row, &found.session, &names);
    Ok(Recording { seal: seal.into(), detail: detail.into(), ..shown })
}

fn detail_of(stored: Stored, found: &Found, retention: Option<Span>) -> Detail {
    let session = &found.session;
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
        deletes_at: deletes_at(session.ended_at, found.row.hold, retention).map(rfc3339).into(),
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
        hold: row.hold,
        duration: duration.into(),
        started_at: started_at(session),
        ended_at: session.ended_at.map(rfc3339).into(),
        seal: None.into(),
        detail: None.into(),
    }
}

/// RFC 3339, UTC.
fn started_at(session: &sessions::Model) -> String {
    rfc3339(session.started_at.unwrap_or(session.created_at))
}
