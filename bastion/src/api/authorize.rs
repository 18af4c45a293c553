//! A terminal is asked for: the chain rules, a ticket is minted.

use std::sync::Arc;

use openapi::{
    agents::{COMMAND_MAX, REASON_MAX},
    frames::MAX_SIDE,
};
use poem::{http::StatusCode, web::Data};
use poem_openapi::{
    ApiResponse, Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};

use super::{Chapter, callers::User, error::ApiError, nullable::Nullable};
use crate::{
    access::{Ask, Asker, Refused},
    app::App,
    tickets::TicketRefused,
};

/// The session that the ticket will open.
#[derive(Debug, Object)]
pub struct Proposed {
    /// Null: the login shell.
    command: Nullable<String>,
    /// Columns.
    cols: u16,
    /// Rows.
    rows: u16,
    /// Whether what is typed is recorded.
    records_input: bool,
}

/// A ticket.
#[derive(Debug, Object)]
#[oai(rename = "Ticket")]
pub struct Authorized {
    /// Opens one terminal, once.
    token: String,
    /// Where to connect.
    ws_url: String,
    /// Seconds.
    expires_in: i64,
    /// What it opens.
    session: Proposed,
}

/// Somebody must agree first.
#[derive(Debug, Object)]
pub struct Waiting {
    /// `waiting`.
    status: String,
    /// Of the access request.
    request_id: String,
}

/// A ticket, or a wait for an approval.
#[derive(ApiResponse)]
pub enum Answer {
    /// A ticket.
    #[oai(status = 200)]
    Ticket(Json<Authorized>),
    /// Somebody must agree first.
    #[oai(status = 202)]
    #[allow(dead_code, reason = "published already; the approval module makes it")]
    Waiting(Json<Waiting>),
}

/// Tickets for terminals.
pub struct Authorize;

#[OpenApi(tag = "Chapter::Sessions")]
impl Authorize {
    /// Ask for a terminal
    ///
    /// With `plain=1` the ticket is for a plain client: it suffices alone, from the same address, for 60 s.
    #[oai(path = "/assets/:id/tty/authorize", method = "get")]
    async fn authorize(
        &self,
        Data(app): Data<&Arc<App>>,
        user: User,
        id: Path<String>,
        cols: Query<Option<u16>>,
        rows: Query<Option<u16>>,
        command: Query<Option<String>>,
        reason: Query<Option<String>>,
        plain: Query<Option<u8>>,
    ) -> Result<Answer, ApiError> {
        user.require_same_site()?;
        let ask = Ask {
            asset: id.0,
            cols: side("cols", cols.0, 80)?,
            rows: side("rows", rows.0, 24)?,
            command: checked_command(command.0)?,
            reason: checked_reason(reason.0)?,
            plain: flag("plain", plain.0)?,
            back_to: None,
        };
        Ok(Answer::Ticket(Json(issued(app, &user, ask).await?)))
    }
}

/// Has the chain rule, within the caller's limits, and mints the ticket.
pub async fn issued(app: &App, user: &User, ask: Ask) -> Result<Authorized, ApiError> {
    if let Some(wait) = app.limits.denials.blocked(user.id()) {
        return Err(ApiError::rate_limited(wait));
    }
    app.limits.tickets.check(user.id()).map_err(|wait| ApiError::rate_limited(wait.0))?;
    let credential = user.credential.reference();
    let asker = Asker { user: &user.row, address: user.address, credential: &credential };
    let issued = app.access.issue(&asker, &ask).await.map_err(|error| {
        if matches!(error, Refused::NotAvailable { .. } | Refused::Guard { .. }) {
            app.limits.denials.failed(user.id());
        }
        refusal(error)
    })?;
    Ok(Authorized {
        token: issued.token,
        ws_url: format!("{}/api/v1/tty/ws", app.config.ws_base()),
        expires_in: issued.expires_in,
        session: Proposed {
            command: ask.command.into(),
            cols: ask.cols,
            rows: ask.rows,
            records_input: issued.records_input,
        },
    })
}

/// A side of a terminal.
pub fn side(name: &str, value: Option<u16>, default: u16) -> Result<u16, ApiError> {
    match value.unwrap_or(default) {
        side @ 1..=MAX_SIDE => Ok(side),
        _ => Err(ApiError::invalid_field(name, format!("must be 1 to {MAX_SIDE}"))),
    }
}

fn flag(name: &str, value: Option<u8>) -> Result<bool, ApiError> {
    match value {
        None | Some(0) => Ok(false),
        Some(1) => Ok(true),
        Some(_) => Err(ApiError::invalid_field(name, "must be 0 or 1")),
    }
}

fn checked_command(command: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(command) = command.filter(|command| !command.is_empty()) else { return Ok(None) };
    if command.len() > COMMAND_MAX {
        return Err(ApiError::invalid_field("command", format!("at most {COMMAND_MAX} bytes")));
    }
    // A script of several lines is fine; what could hide in a log or end a C string is not.
    if command.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(ApiError::invalid_field("command", "no control characters but tab and newline"));
    }
    Ok(Some(command))
}

fn checked_reason(reason: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(reason) = reason.filter(|reason| !reason.is_empty()) else { return Ok(None) };
    if reason.chars().count() > REASON_MAX || reason.chars().any(char::is_control) {
        let detail = format!("at most {REASON_MAX} characters, no control characters");
        return Err(ApiError::invalid_field("reason", detail));
    }
    Ok(Some(reason))
}

/// A refusal of the chain, as the API says it.
pub fn refusal(error: Refused) -> ApiError {
    match error {
        Refused::NotAvailable { decision } => {
            let detail = "There is no such host, or you have no access to it.";
            ApiError::new(StatusCode::NOT_FOUND, "not_available", detail).with("decision_id", decision)
        }
        Refused::Guard { code, detail, details, decision } => {
            let status = match code.as_str() {
                "asset_offline" | "asset_maintenance" | "asset_quarantined" | "limit_reached" => {
                    StatusCode::CONFLICT
                }
                "rate_limited" => StatusCode::TOO_MANY_REQUESTS,
                _ => StatusCode::FORBIDDEN,
            };
            ApiError::new(status, code, detail).with_all(details).with("decision_id", decision)
        }
        Refused::Challenge { decision } => {
            let detail = "An approval is needed.";
            ApiError::new(StatusCode::FORBIDDEN, "approval_required", detail).with("decision_id", decision)
        }
        Refused::Recording(error) => {
            tracing::error!(%error, "no session: it could not be recorded");
            let detail = "No session can be recorded now, so none is opened.";
            ApiError::unavailable("recording_unavailable", detail)
        }
        Refused::Ticket(TicketRefused::Db(error)) | Refused::Db(error) => error.into(),
        Refused::Ticket(TicketRefused::Bad | TicketRefused::Signing(_)) | Refused::Policy(_) => {
            ApiError::internal(&error)
        }
    }
}
