//! Refusals: one type, RFC 9457 on the wire, with a stable code.

use poem::{
    IntoResponse, Response,
    http::{HeaderValue, StatusCode, header},
};
use poem_openapi::{
    ApiResponse, Object,
    registry::{MetaMediaType, MetaResponse, MetaResponses, Registry},
    types::Type as _,
};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    db::DbError, door::RetryAfter, passwords::PasswordError, signing::SigningError, vault::VaultError,
};

/// What is wrong with one part of a request.
#[derive(Clone, Debug, Serialize, Object)]
pub struct Fault {
    /// The field, as in `labels.env` or `users[2]`; the query's or path's parameter by its name.
    pub path: String,
    /// What is wrong, and what is allowed.
    pub detail: String,
}

/// A refusal, as RFC 9457 problem details.
#[derive(Debug, Object)]
pub struct Problem {
    /// A short summary that is the same for every occurrence.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What went wrong here, and what to do.
    pub detail: String,
    /// Stable and machine-readable.
    pub code: String,
    /// For `invalid_request`: what is wrong with which part.
    #[oai(skip_serializing_if_is_none)]
    pub errors: Option<Vec<Fault>>,
    /// For rulings of the policies: under which id the decision is kept.
    #[oai(skip_serializing_if_is_none)]
    pub decision_id: Option<String>,
    /// For `clock_skew`: the bastion's clock, RFC 3339 in UTC.
    #[oai(skip_serializing_if_is_none)]
    pub server_time: Option<String>,
    /// For `outside_window`: when it opens, RFC 3339 in UTC.
    #[oai(skip_serializing_if_is_none)]
    pub opens_at: Option<String>,
    /// For `limit_reached`: which limit.
    #[oai(skip_serializing_if_is_none)]
    pub scope: Option<String>,
    /// For `limit_reached`: how many sessions it allows.
    #[oai(skip_serializing_if_is_none)]
    pub limit: Option<u64>,
    /// For `ended`: how the session ended.
    #[oai(skip_serializing_if_is_none)]
    pub end_reason: Option<String>,
}

/// A refusal on its way out.
#[derive(Debug)]
pub struct ApiError {
    status: StatusCode,
    code: String,
    detail: String,
    /// Further members of the problem document.
    pub(super) more: Map<String, Value>,
    retry_after: Option<u64>,
}

impl ApiError {
    /// Any refusal.
    pub fn new(status: StatusCode, code: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { status, code: code.into(), detail: detail.into(), more: Map::new(), retry_after: None }
    }

    /// 400, naming what is wrong.
    pub fn invalid(faults: Vec<Fault>) -> Self {
        let detail = faults.first().map_or_else(
            || "The request is malformed.".to_owned(),
            |fault| format!("{}: {}", fault.path, fault.detail),
        );
        Self::new(StatusCode::BAD_REQUEST, "invalid_request", detail)
            .with("errors", serde_json::to_value(faults).unwrap_or_default())
    }

    /// 400 for one field.
    pub fn invalid_field(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::invalid(vec![Fault { path: path.into(), detail: detail.into() }])
    }

    /// 401 without credentials.
    pub fn unauthenticated() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthenticated", "Log in, or send a valid API token.")
    }

    /// 403 for a role that is too low.
    pub fn forbidden() -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "Your role does not allow this.")
    }

    /// 404, the same for what is not there and for what is not yours.
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "There is no such thing, or it is not yours.")
    }

    /// 409.
    pub fn conflict(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 429.
    pub fn rate_limited(retry_after: std::time::Duration) -> Self {
        let seconds = RetryAfter(retry_after).seconds();
        let mut error = Self::new(
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limited",
            format!("Too many requests; try again in {seconds} s."),
        );
        error.retry_after = Some(seconds);
        error
    }

    /// 503.
    pub fn unavailable(code: &'static str, detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, code, detail)
    }

    /// 500: a fault of ours, logged where it is made.
    pub fn internal(error: &dyn std::fmt::Display) -> Self {
        tracing::error!(%error, "internal error");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Something went wrong here; it is in the log.",
        )
    }

    /// Adds a member to the problem document.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.more.insert(name.to_owned(), value.into());
        self
    }

    /// Adds members to the problem document.
    pub fn with_all(mut self, more: Map<String, Value>) -> Self {
        if let Some(seconds) = more.get("retry_after").and_then(Value::as_u64) {
            self.retry_after = Some(seconds.max(1));
        }
        self.more.extend(more);
        self
    }

    /// Whether nobody was recognised.
    pub fn is_unauthenticated(&self) -> bool {
        self.status == StatusCode::UNAUTHORIZED
    }

    /// A member of the problem document.
    #[cfg(test)]
    pub fn member(&self, name: &str) -> &Value {
        self.more.get(name).unwrap_or(&Value::Null)
    }

    /// The stable code.
    #[cfg(test)]
    pub fn code(&self) -> &str {
        &self.code
    }
}

impl From<DbError> for ApiError {
    fn from(error: DbError) -> Self {
        match error {
            DbError::Duplicate => {
                Self::conflict("conflict", "Somebody else changed this at the same time; try again.")
            }
            DbError::Damaged { .. } => Self::internal(&error),
            DbError::Unavailable(_) => {
                tracing::error!(%error, "the database refused");
                Self::unavailable("database_unavailable", "The database does not answer; try again soon.")
            }
        }
    }
}

impl From<PasswordError> for ApiError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self::unavailable("busy", "Too many logins at once; try again soon."),
            PasswordError::Hash(_) | PasswordError::Worker(_) => Self::internal(&error),
        }
    }
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        Self::internal(&error)
    }
}

impl From<SigningError> for ApiError {
    fn from(error: SigningError) -> Self {
        Self::internal(&error)
    }
}

impl From<openapi::ticket::TicketError> for ApiError {
    fn from(error: openapi::ticket::TicketError) -> Self {
        Self::internal(&error)
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = Map::new();
        body.insert("title".into(), self.status.canonical_reason().unwrap_or("Error").into());
        body.insert("status".into(), self.status.as_u16().into());
        body.insert("detail".into(), self.detail.into());
        body.insert("code".into(), self.code.into());
        body.extend(self.more);
        let mut response = Response::builder()
            .status(self.status)
            .content_type("application/problem+json")
            .body(Value::Object(body).to_string());
        if let Some(seconds) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<ApiError> for poem::Error {
    fn from(error: ApiError) -> Self {
        poem::Error::from_response(error.into_response())
    }
}

/// The statuses any operation may answer with, and what they mean.
const STATUSES: [(u16, &str); 9] = [
    (400, "`invalid_request`: malformed; `errors` names each part"),
    (401, "Not logged in, or a signature that does not hold"),
    (403, "Your role does not allow it, or a policy says no"),
    (404, "Not there, or not yours"),
    (409, "It does not fit the present state"),
    (413, "The body is too large"),
    (429, "`rate_limited`: see `Retry-After`"),
    (500, "`internal`: a fault of the bastion"),
    (503, "A part it needs does not answer"),
];

impl ApiResponse for ApiError {
    fn meta() -> MetaResponses {
        let responses = STATUSES.map(|(status, description)| MetaResponse {
            description,
            status: Some(status),
            status_range: None,
            content: vec![MetaMediaType {
                content_type: "application/problem+json",
                schema: Problem::schema_ref(),
            }],
            headers: vec![],
        });
        MetaResponses { responses: responses.into() }
    }

    fn register(registry: &mut Registry) {
        Problem::register(registry);
    }
}
