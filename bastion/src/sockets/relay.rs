//! An agent's socket: signed before the upgrade, its ticket spent after it.

use openapi::frames::{SUBPROTOCOL, close};
use poem::{
    IntoResponse as _, Request, Response, handler,
    http::StatusCode,
    web::websocket::{WebSocket, WebSocketStream},
};
use serde::Deserialize;

use super::{RELAY, config, offered, pump, refuse, require_upgrade};
use crate::{
    api::{
        callers::{app, peer},
        error::ApiError,
        signed_request,
    },
    app::App,
    hub::RelayRefused,
    session::Close,
    tickets::TicketRefused,
};

#[derive(Deserialize)]
struct Query {
    session_id: Option<String>,
    resume: Option<u8>,
}

/// `GET /agent/tty/relay?session_id=…`, and `&resume=1` to come back.
#[handler]
pub async fn open(request: &Request) -> Result<Response, ApiError> {
    let (app, peer) = (app(request)?, peer(request)?);
    if request.header("origin").is_some() {
        let detail = "Agents are no browsers: no Origin here.";
        return Err(ApiError::new(StatusCode::FORBIDDEN, "foreign_origin", detail));
    }
    let signed = signed_request(request, &app, bytes::Bytes::new());
    let asset = app.enrolment.identify(&signed).await;
    let asset = crate::api::counted(&app, &peer, asset)?;
    require_upgrade(request)?;
    if !offered(request).any(|protocol| protocol == SUBPROTOCOL) {
        return Err(ApiError::invalid_field("Sec-WebSocket-Protocol", format!("must be {SUBPROTOCOL}")));
    }
    let query: Query =
        request.params().map_err(|error| ApiError::invalid_field("query", error.to_string()))?;
    let session = query.session_id.ok_or_else(|| ApiError::invalid_field("session_id", "is required"))?;
    let coming = match query.resume {
        Some(1) if app.hub.may_resume(&asset.id, &session) => Coming::Back,
        Some(1) => return Err(ApiError::new(StatusCode::GONE, "ended", "The session is over.")),
        Some(0) | None => Coming::First(bearer(request)?),
        Some(_) => return Err(ApiError::invalid_field("resume", "must be 0 or 1")),
    };
    let socket = websocket(request).await?;
    let tracked = app.tasks.token();
    Ok(socket
        .protocols([SUBPROTOCOL])
        .config(config())
        .on_upgrade(move |socket| async move {
            serve(socket, &app, &asset.id, &session, coming).await;
            drop(tracked);
        })
        .into_response())
}

/// Whether the agent comes with a ticket, or back to a shell that runs.
enum Coming {
    First(String),
    Back,
}

fn bearer(request: &Request) -> Result<String, ApiError> {
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let missing = || ApiError::invalid_field("Authorization", "the session's token is required");
    Ok(bearer.ok_or_else(missing)?.to_owned())
}

async fn serve(socket: WebSocketStream, app: &App, asset: &str, session: &str, coming: Coming) {
    let attached = match coming {
        Coming::First(token) => app.hub.attach_relay(asset, session, &token).await,
        Coming::Back => app.hub.resume_relay(asset, session).await,
    };
    match attached {
        Ok(attached) => {
            let number = attached.socket;
            pump(socket, RELAY, attached, || app.hub.relay_lost(session, number)).await;
        }
        Err(error) => {
            tracing::info!(session, %error, "a relay was refused");
            refuse(socket, refusal(&error)).await;
        }
    }
}

/// The upgrade itself, refused in our words.
pub(super) async fn websocket(request: &Request) -> Result<WebSocket, ApiError> {
    use poem::FromRequest as _;
    WebSocket::from_request_without_body(request)
        .await
        .map_err(|error| ApiError::invalid_field("Upgrade", error.to_string()))
}

/// A relay that is refused is no better than its ticket; why, is in the log.
fn refusal(error: &RelayRefused) -> Close {
    match error {
        RelayRefused::Taken => Close::new(close::ELSEWHERE, "The session has its relay already."),
        RelayRefused::Gone | RelayRefused::Ticket(TicketRefused::Bad) => {
            Close::new(close::TICKET, "The ticket is not valid, or has been used.")
        }
        RelayRefused::Ticket(TicketRefused::Signing(_) | TicketRefused::Db(_)) => {
            Close::new(close::FAULT, "The bastion cannot take the relay now.")
        }
    }
}
