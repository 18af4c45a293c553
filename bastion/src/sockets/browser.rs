//! A browser's terminal: framed, its ticket as a subprotocol; or plain, its ticket in the query.

use std::sync::Arc;

use openapi::{
    frames::{SUBPROTOCOL, close},
    ticket::Mode,
};
use poem::{
    IntoResponse as _, Request, Response, handler, http::StatusCode, web::websocket::WebSocketStream,
};
use serde::Deserialize;

use super::{BROWSER, config, hello, offered, plain, pump, refuse, relay::websocket, require_upgrade, watch};
use crate::{
    access::{Permit, Refused},
    api::{
        authorize::side,
        callers::{app, identify, is_allowed_origin, peer},
        error::ApiError,
    },
    app::App,
    hub::{Attached, OpenError, Watch},
    session::{Close, Reason},
    tickets::TicketRefused,
};

#[derive(Deserialize)]
struct Query {
    token: Option<String>,
    cols: Option<u16>,
    rows: Option<u16>,
}

/// How the ticket came, and so how the socket speaks.
enum Speech {
    Framed(String),
    Plain(String, Option<u16>, Option<u16>),
}

/// `GET /tty/ws`
#[handler]
pub async fn open(request: &Request) -> Result<Response, ApiError> {
    let (app, peer) = (app(request)?, peer(request)?);
    require_upgrade(request)?;
    let speech = speech(request)?;
    require_origin(request, &app)?;
    // Nobody logged in is no refusal yet: a plain ticket suffices alone, and any other is refused for that.
    let user = match identify(request, &app).await {
        Ok(user) => Some(user),
        Err(error) if error.is_unauthenticated() => None,
        Err(error) => return Err(error),
    };
    let credential = user.map(|user| user.credential.reference());
    let socket = websocket(request).await?;
    let tracked = app.tasks.token();
    let address = peer.addr;
    let response = match speech {
        Speech::Framed(token) => socket
            .protocols([SUBPROTOCOL])
            .config(config())
            .on_upgrade(move |socket| async move {
                match enter(&app, &token, credential.as_deref(), address, None, false).await {
                    Ok(Entered::ToType(attached)) => pump(socket, BROWSER, attached, || ()).await,
                    Ok(Entered::Back(session, permit)) => back(&app, socket, session, *permit).await,
                    Ok(Entered::ToWatch(session, watch)) => watch::pump_watcher(socket, session, watch).await,
                    Err(close) => refuse(socket, close).await,
                }
                drop(tracked);
            })
            .into_response(),
        Speech::Plain(token, cols, rows) => socket
            .config(config())
            .on_upgrade(move |socket| async move {
                match enter(&app, &token, None, address, Some((cols, rows)), true).await {
                    Ok(Entered::ToType(attached)) => plain::pump(socket, attached).await,
                    // No plain ticket is one for a session that lives.
                    Ok(Entered::Back(..) | Entered::ToWatch(..)) => {}
                    Err(close) => refuse(socket, close).await,
                }
                drop(tracked);
            })
            .into_response(),
    };
    Ok(response)
}

fn speech(request: &Request) -> Result<Speech, ApiError> {
    let invalid = |error: poem::error::ParseQueryError| ApiError::invalid_field("query", error.to_string());
    let query: Query = request.params().map_err(invalid)?;
    if offered(request).any(|protocol| protocol == SUBPROTOCOL) {
        let ticket = offered(request).find_map(|protocol| protocol.strip_prefix("ticket."));
        let missing = || ApiError::invalid_field("Sec-WebSocket-Protocol", "ticket.<JWT> is required");
        return Ok(Speech::Framed(ticket.ok_or_else(missing)?.to_owned()));
    }
    let token = query.token.ok_or_else(|| {
        let detail = format!("offer {SUBPROTOCOL} and ticket.<JWT>, or give a plain ticket as ?token=");
        ApiError::invalid_field("Sec-WebSocket-Protocol", detail)
    })?;
    side("cols", query.cols, 80)?;
    side("rows", query.rows, 24)?;
    Ok(Speech::Plain(token, query.cols, query.rows))
}

/// A foreign page may not use the visitor's login, nor anything else, here. Programs send no Origin; a
/// cookie without one is refused too.
pub(super) fn require_origin(request: &Request, app: &App) -> Result<(), ApiError> {
    let names_origin = request.header("origin").is_some();
    let by_cookie = request.header("cookie").is_some() && request.header("authorization").is_none();
    if is_allowed_origin(request, app) || (!names_origin && !by_cookie) {
        return Ok(());
    }
    let detail = "This page may not open terminals here.";
    Err(ApiError::new(StatusCode::FORBIDDEN, "foreign_origin", detail))
}

/// What a ticket led to.
enum Entered {
    ToType(Attached),
    Back(String, Box<Permit>),
    ToWatch(String, Watch),
}

/// From a ticket to a session, or to the reason why not. `sizes` of a plain client win over the ticket's.
async fn enter(
    app: &Arc<App>,
    token: &str,
    credential: Option<&str>,
    address: std::net::IpAddr,
    sizes: Option<(Option<u16>, Option<u16>)>,
    plain: bool,
) -> Result<Entered, Close> {
    let permit = app.access.redeem(token, credential, address).await.map_err(|error| {
        tracing::info!(%address, %error, "a terminal was refused");
        refusal(error)
    })?;
    if permit.claims.plain != plain {
        let said = "A plain ticket opens a plain socket, any other a framed one.";
        return Err(Close::new(close::TICKET, said));
    }
    if let Some(session) = permit.claims.sid.clone() {
        return come_back(app, session, permit).await;
    }
    let (cols, rows) = sizes.unwrap_or_default();
    let (cols, rows) = (cols.unwrap_or(permit.claims.cols), rows.unwrap_or(permit.claims.rows));
    opened(app, permit, cols, rows).await.map(Entered::ToType)
}

/// Back to one's session, to type or to watch.
async fn come_back(app: &App, session: String, permit: Permit) -> Result<Entered, Close> {
    let entered = match permit.claims.mode {
        Some(Mode::Watch) => watched(app, session.clone(), &permit).await,
        Some(Mode::Control) | None => Some(Entered::Back(session.clone(), Box::new(permit))),
    };
    match entered {
        Some(entered) => Ok(entered),
        None => Err(how_it_ended(app, &session).await),
    }
}

/// Takes a session over, once the newcomer has shown that it speaks: one that does not costs nobody anything.
async fn back(app: &App, mut socket: WebSocketStream, session: String, permit: Permit) {
    let attached = match hello(&mut socket).await {
        Ok(hello) => app.hub.reattach(&session, permit, hello).await.ok(),
        Err(close) => return refuse(socket, close).await,
    };
    match attached {
        Some(attached) => pump(socket, BROWSER, attached, || ()).await,
        None => refuse(socket, how_it_ended(app, &session).await).await,
    }
}

async fn watched(app: &App, session: String, permit: &Permit) -> Option<Entered> {
    let note = app.note_watching(&session, &permit.user.id, &permit.address.to_string()).await;
    // Who looks on is written down, or does not look.
    note.inspect_err(|error| tracing::error!(%error, "nobody may watch unrecorded")).ok()?;
    let watch = app.hub.watch(&session, &permit.user.id, &permit.user.username).await?;
    Some(Entered::ToWatch(session, watch))
}

async fn how_it_ended(app: &App, session: &str) -> Close {
    let row = app.db.session(session).await.ok().flatten();
    let reason = row.and_then(|row| row.end_reason).and_then(|reason| Reason::named(&reason));
    reason.map_or_else(|| Close::new(close::EXIT, "The session is over."), Reason::close)
}

async fn opened(app: &App, permit: Permit, cols: u16, rows: u16) -> Result<Attached, Close> {
    app.hub.open(permit, cols, rows).await.map_err(|error| match error {
        OpenError::Full(slot) => {
            let said = format!("The limit of {} sessions ({}) is reached.", slot.limit, slot.scope.as_str());
            Close::new(close::POLICY, said)
        }
        OpenError::Fenced | OpenError::Db(_) => {
            tracing::error!(%error, "no session was opened");
            Close::new(close::FAULT, "No session can be opened now; try again soon.")
        }
    })
}

fn refusal(error: Refused) -> Close {
    match error {
        Refused::Ticket(TicketRefused::Bad) => {
            Close::new(close::TICKET, "The ticket is not valid, or has been used.")
        }
        Refused::NotAvailable { .. } => {
            Close::new(close::POLICY, "The host is not available to you any more.")
        }
        Refused::Guard { detail, .. } => Close::new(close::POLICY, detail),
        Refused::Challenge { .. } => Close::new(close::POLICY, "An approval is needed."),
        Refused::Recording(_) => {
            tracing::error!(%error, "no session: it could not be recorded");
            Close::new(close::RECORDING_FAILED, "No session can be recorded now, so none is opened.")
        }
        Refused::Ticket(TicketRefused::Signing(_) | TicketRefused::Db(_))
        | Refused::Db(_)
        | Refused::Policy(_) => {
            tracing::error!(%error, "no session was opened");
            Close::new(close::FAULT, "No session can be opened now; try again soon.")
        }
    }
}
