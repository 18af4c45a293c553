//! Why a recording is not shown: what any operation may say, and that it is damaged.

use ::recordings::PlaybackError;
use poem::http::StatusCode;
use poem_openapi::{
    ApiResponse,
    registry::{MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::Type as _,
};

use super::Found;
use crate::{
    api::error::{ApiError, Problem},
    db::DbError,
};

const DAMAGED: &str =
    "`recording_damaged`: what lies in the store is not what was recorded; `detail` says which part";

/// A refusal by what reads recordings: any, and 502 `recording_damaged`.
#[derive(Debug)]
pub struct Refusal(ApiError);

impl Refusal {
    /// For a recording that is there, and cannot be read.
    pub(super) fn to_read(found: &Found, error: &PlaybackError) -> Self {
        let session = &found.row.session_id;
        if let PlaybackError::Missing = error {
            return Self(match (found.row.state.as_str(), &found.row.reason) {
                // A segment that there is not.
                ("stored", _) => ApiError::not_found(),
                ("failed", Some(reason)) => damaged(format!("This recording could not be kept: {reason}.")),
                _ => unavailable(),
            });
        }
        if error.is_damage() {
            tracing::error!(session, %error, "a recording is damaged");
            return Self(damaged(format!("{} `castellan verify` tells more.", sentence(error))));
        }
        tracing::error!(session, %error, "a recording cannot be read now");
        Self(unavailable())
    }
}

fn damaged(detail: String) -> ApiError {
    ApiError::new(StatusCode::BAD_GATEWAY, "recording_damaged", detail)
}

fn unavailable() -> ApiError {
    let detail = "The recording cannot be read now; try again soon. The bastion's log says why.";
    ApiError::unavailable("recording_unavailable", detail)
}

/// What is broken; only for what [`PlaybackError::is_damage`].
fn sentence(error: &PlaybackError) -> String {
    match error {
        PlaybackError::Index(_) => "The index of this recording in the store is not readable.".to_owned(),
        PlaybackError::Absent(what) => format!("The {what} of this recording is gone from the store."),
        PlaybackError::Altered(what) => {
            format!("The {what} of this recording in the store is not what was put there.")
        }
        PlaybackError::Damaged(chunk) => format!("Chunk {chunk} of this recording is not what was recorded."),
        PlaybackError::Cast(_) => "What lies in the store is no asciicast.".to_owned(),
        PlaybackError::Journal(_) => "The journal of this recording in the spool is damaged.".to_owned(),
        PlaybackError::Missing
        | PlaybackError::Store(_)
        | PlaybackError::Spool(_)
        | PlaybackError::Derived(_)
        | PlaybackError::Stopped => "This recording cannot be read.".to_owned(),
    }
}

impl From<ApiError> for Refusal {
    fn from(error: ApiError) -> Self {
        Self(error)
    }
}

impl From<DbError> for Refusal {
    fn from(error: DbError) -> Self {
        Self(error.into())
    }
}

impl From<Refusal> for poem::Error {
    fn from(refusal: Refusal) -> Self {
        refusal.0.into()
    }
}

impl ApiResponse for Refusal {
    fn meta() -> MetaResponses {
        let mut meta = ApiError::meta();
        meta.responses.push(MetaResponse {
            description: DAMAGED,
            status: Some(502),
            status_range: None,
            content: vec![MetaMediaType {
                content_type: "application/problem+json",
                schema: Problem::schema_ref(),
            }],
            headers: vec![],
        });
        meta
    }

    fn register(registry: &mut Registry) {
        ApiError::register(registry);
    }
}
