//! Recordings: listed, looked at, played.

use std::{ops::Range, sync::Arc};

use ::recordings::{Cast, PlaybackError, Stored};
use poem::{
    Body as HttpBody, IntoResponse, Request, Response,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    web::Data,
};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    payload::Json,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
};

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
    db::{audit::Entry, recordings, sessions},
};

pub mod keeping;

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
    /// Compact JWS over the recording's hash chain; only where one recording is looked at.
    #[oai(skip_serializing_if_is_none)]
    seal: Option<String>,
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
    #[oai(path = "/recordings/:id", method = "get")]
    async fn one(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        id: Path<String>,
    ) -> Result<Json<Recording>, ApiError> {
        let (session, row) = found(app, &caller, &id.0).await?;
        let names = Names::of(app, std::slice::from_ref(&session)).await?;
        let seal = match stored(&row) {
            // A store that is away must not hide the rest.
            Some(stored) => app.library.seal(&stored).await.ok(),
            None => None,
        };
        Ok(Json(Recording { seal, ..show(row, &session, &names) }))
    }

    /// Play a recording
    ///
    /// asciicast v2, with `ETag`, `Range` and, for those who accept zstd, as it is stored. Recordings that
    /// are not stored yet come from the spool, as far as they go. Viewing is audited.
    #[oai(path = "/recordings/:id/cast", method = "get")]
    async fn cast(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        request: &Request,
        id: Path<String>,
        download: Query<Option<String>>,
    ) -> Result<CastFile, ApiError> {
        let (_, row) = found(app, &caller, &id.0).await?;
        let cast = app.library.cast(&id.0, stored(&row).as_ref()).await.map_err(|error| playback(&error))?;
        let action = if download.0.is_some() { "recording.download" } else { "recording.view" };
        let entry = Entry::new(app.clock.millis(), actor(&caller), action)
            .on("session", &id.0)
            .at_address(&caller.address.to_string());
        app.db.note(entry).await?;
        let attachment =
            download.0.is_some().then(|| format!("attachment; filename=\"{}.cast\"", row.session_id));
        Ok(CastFile(answer(&cast, request.headers(), attachment)))
    }
}

async fn found(app: &App, caller: &User, id: &str) -> Result<(sessions::Model, recordings::Model), ApiError> {
    let session = seen(app, caller, id).await?;
    let row = app.db.recording(id).await?.ok_or_else(ApiError::not_found)?;
    Ok((session, row))
}

fn stored(row: &recordings::Model) -> Option<Stored> {
    serde_json::from_str(row.stored.as_deref()?).ok()
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
        started_at: rfc3339(session.started_at.unwrap_or(session.created_at)),
        ended_at: session.ended_at.map(rfc3339).into(),
        seal: None,
    }
}

fn playback(error: &PlaybackError) -> ApiError {
    tracing::error!(%error, "a recording cannot be read");
    ApiError::unavailable("recording_unavailable", "The recording cannot be read now; the log says why.")
}

/// An asciicast file, whole or in part.
pub struct CastFile(Response);

impl IntoResponse for CastFile {
    fn into_response(self) -> Response {
        self.0
    }
}

impl ApiResponse for CastFile {
    fn meta() -> MetaResponses {
        let text = || MetaMediaType {
            content_type: "application/x-asciicast",
            schema: MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))),
        };
        let response = |status, description, content| MetaResponse {
            description,
            status: Some(status),
            status_range: None,
            content,
            headers: vec![],
        };
        MetaResponses {
            responses: vec![
                response(200, "The whole asciicast", vec![text()]),
                response(206, "The part that `Range` asked for", vec![text()]),
                response(304, "What the caller has is still so", vec![]),
                response(416, "There is no such part", vec![]),
            ],
        }
    }

    fn register(_: &mut Registry) {}
}

fn answer(cast: &Cast, headers: &HeaderMap, attachment: Option<String>) -> Response {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let etag = cast.etag.clone();
    let mut response = Response::builder()
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::VARY, "Accept-Encoding")
        // Shown to whoever may see it now; asked again each time.
        .header(header::CACHE_CONTROL, "private, no-cache");
    if let (Some(known), Some(etag)) = (text(header::IF_NONE_MATCH), &etag)
        && known
            .split(',')
            .any(|one| one.trim().trim_start_matches("W/").replace("-zstd", "") == *etag || one.trim() == "*")
    {
        return response.header(header::ETAG, etag).status(StatusCode::NOT_MODIFIED).finish();
    }
    response = response.content_type("application/x-asciicast");
    if let Some(attachment) = attachment {
        response = response.header(header::CONTENT_DISPOSITION, attachment);
    }
    let length = cast.plain_len;
    let range = text(header::RANGE)
        .filter(|_| text(header::IF_RANGE).is_none_or(|known| etag.as_deref() == Some(known)));
    match range.map(|range| parse_range(range, length)) {
        Some(Asked::Part(range)) => tagged(response, etag)
            .status(StatusCode::PARTIAL_CONTENT)
            .header(header::CONTENT_RANGE, format!("bytes {}-{}/{length}", range.start, range.end - 1))
            .header(header::CONTENT_LENGTH, range.end - range.start)
            .body(HttpBody::from_bytes_stream(stream(cast.read(range)))),
        Some(Asked::Nothing) => Response::builder()
            .status(StatusCode::RANGE_NOT_SATISFIABLE)
            .header(header::CONTENT_RANGE, format!("bytes */{length}"))
            .finish(),
        Some(Asked::Ignored) | None => whole(cast, response, text(header::ACCEPT_ENCODING)),
    }
}

fn whole(cast: &Cast, response: poem::ResponseBuilder, accepted: Option<&str>) -> Response {
    let takes_zstd = accepted.unwrap_or_default().split(',').any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        parts.next() == Some("zstd") && !parts.any(|part| part.replace(' ', "") == "q=0")
    });
    if let Some((length, raw)) = cast.raw().filter(|_| takes_zstd) {
        // Other bytes, another tag.
        let etag = cast.etag.as_ref().map(|etag| format!("{}-zstd\"", etag.trim_end_matches('"')));
        return tagged(response, etag)
            .header(header::CONTENT_ENCODING, "zstd")
            .header(header::CONTENT_LENGTH, length)
            .body(HttpBody::from_bytes_stream(stream(raw)));
    }
    tagged(response, cast.etag.clone())
        .header(header::CONTENT_LENGTH, cast.plain_len)
        .body(HttpBody::from_bytes_stream(stream(cast.read(0..cast.plain_len))))
}

fn tagged(response: poem::ResponseBuilder, etag: Option<String>) -> poem::ResponseBuilder {
    match etag {
        Some(etag) => response.header(header::ETAG, etag),
        None => response,
    }
}

fn stream(
    bits: ::recordings::playback::Bits,
) -> impl futures_util::Stream<Item = std::io::Result<bytes::Bytes>> + Send + 'static {
    use futures_util::StreamExt as _;
    bits.map(|bit| {
        bit.map_err(|error| {
            tracing::error!(%error, "a recording broke off while it was read");
            std::io::Error::other(error)
        })
    })
}

#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Part(Range<u64>),
    Nothing,
    /// Several ranges, another unit, or nonsense: the whole is a good answer.
    Ignored,
}

fn parse_range(text: &str, length: u64) -> Asked {
    let parse = || {
        let (first, last) = text.strip_prefix("bytes=")?.trim().split_once('-')?;
        if last.contains(',') {
            return None;
        }
        if first.is_empty() {
            let last: u64 = last.parse().ok()?;
            return Some((length.saturating_sub(last), length));
        }
        let first: u64 = first.parse().ok()?;
        if last.is_empty() {
            return Some((first, length));
        }
        let last: u64 = last.parse().ok()?;
        (last >= first).then(|| (first, last.saturating_add(1).min(length)))
    };
    match parse() {
        Some((first, end)) if first < end => Asked::Part(first..end),
        Some(_) => Asked::Nothing,
        None => Asked::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_rfc_9110_says() {
        for (text, asked) in [
            ("bytes=0-9", Asked::Part(0..10)),
            ("bytes=90-", Asked::Part(90..100)),
            ("bytes=90-1000", Asked::Part(90..100)),
            ("bytes=-10", Asked::Part(90..100)),
            ("bytes=-1000", Asked::Part(0..100)),
            ("bytes=100-", Asked::Nothing),
            ("bytes=-0", Asked::Nothing),
            ("bytes=9-0", Asked::Ignored),
            ("bytes=0-1,5-6", Asked::Ignored),
            ("lines=0-1", Asked::Ignored),
            ("bytes=a-b", Asked::Ignored),
        ] {
            assert_eq!(parse_range(text, 100), asked, "{text}");
        }
    }
}
