//! An agent's socket: signed before the upgrade, its ticket spent after it.

use openapi::frames::{SUBPROTOCOL, close};
use poem::{IntoResponse as _, Request, Response, handler, http::StatusCode, web::websocket::WebSocket};
use serde::Deserialize;

use super::{RELAY, config, offered, pump, refuse, require_upgrade};
use crate::{
    api::{
        callers::{app, peer},
        error::ApiError,
        signed_request,
    },
    hub::RelayRefused,
    session::Close,
    tickets::TicketRefused,
};

#[derive(Deserialize)]
struct Query {
    session_id: Option<String>,
}

/// `GET /agent/tty/relay?session_id=…`
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
    let bearer = request.header("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let token =
        bearer.ok_or_else(|| ApiError::invalid_field("Authorization", "the session's token is required"))?;
    let token = token.to_owned();
    let socket = websocket(request).await?;
    let tracked = app.tasks.token();
    Ok(socket
        .protocols([SUBPROTOCOL])
        .config(config())
        .on_upgrade(move |socket| async move {
            match app.hub.attach_relay(&asset.id, &session, &token).await {
                Ok(attached) => pump(socket, RELAY, attached.inbox, attached.outbox).await,
                Err(error) => {
                    tracing::info!(session, %error, "a relay was refused");
                    refuse(socket, refusal(&error)).await;
                }
            }
            drop(tracked);
        })
        .into_response())
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
