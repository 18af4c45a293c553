//! All routes. `spec` prints the contract without a database.

use std::sync::Arc;

use poem::{
    Endpoint, EndpointExt as _, Error, IntoEndpoint as _, IntoResponse as _, Request, Response, Route, get,
    http::StatusCode,
};
use poem_openapi::{OpenApiService, Tags, error::ParseParamError, error::ParsePathError};

pub mod callers;
pub mod error;

mod assets;
mod audit;
pub mod authorize;
mod body;
mod heartbeat;
mod lists;
mod nullable;
mod people;
mod policies;
mod recordings;
mod registrations;
mod roots;
mod sessions;
mod signed;
mod tokens;
mod users;

pub use signed::{counted, signed_request};

use crate::{app::App, pages, sockets};
use error::{ApiError, Fault};

/// The chapters of the published spec.
#[derive(Tags)]
enum Chapter {
    /// Log in and out, and oneself.
    People,
    /// What agents call; every request is signed (RFC 9421).
    Agents,
    /// Agents that want to be let in.
    Registrations,
    /// Hosts.
    Assets,
    /// Terminal sessions.
    Sessions,
    /// What was on the screen.
    Recordings,
    /// Who may what.
    Policies,
    /// Users, tokens, audit.
    Administration,
}

const ABOUT: &str = "Castellan is a bastion for terminals. Two operations are WebSockets and stand in the \
protocol's description only: `GET /tty/ws` (a browser's terminal) and `GET /agent/tty/relay` (an agent's).";

type Parts = (
    (people::People, users::Users, tokens::Tokens, audit::Audit),
    (registrations::Registrations, heartbeat::Heartbeats, assets::Assets, authorize::Authorize),
    (sessions::Sessions, recordings::Recordings, policies::Policies),
);

fn service() -> OpenApiService<Parts, ()> {
    let parts = (
        (people::People, users::Users, tokens::Tokens, audit::Audit),
        (registrations::Registrations, heartbeat::Heartbeats, assets::Assets, authorize::Authorize),
        (sessions::Sessions, recordings::Recordings, policies::Policies),
    );
    OpenApiService::new(parts, "Castellan", env!("CARGO_PKG_VERSION")).description(ABOUT).server("/api/v1")
}

/// The published contract, as it is in `openapi/openapi.json`.
pub fn spec() -> String {
    let mut spec = service().spec();
    spec.push('\n');
    spec
}

/// Every URL of the bastion.
pub fn routes(app: Arc<App>) -> impl Endpoint<Output = Response> {
    let api = Route::new()
        .at("/tty/ws", get(sockets::browser::open))
        .at("/agent/tty/relay", get(sockets::relay::open))
        .nest("/", service().into_endpoint().catch_all_error(refused));
    Route::new()
        .nest("/api/v1", api)
        .at("/healthz", get(roots::healthz))
        .at("/readyz", get(roots::readyz))
        .at("/openapi.json", get(roots::published))
        .at("/.well-known/jwks.json", get(roots::jwks))
        .at("/.well-known/jwks.jws", get(roots::signed_jwks))
        .nest("/", pages::pages())
        .before(refuse_nul)
        .data(app)
        .map_to_response()
}

/// A NUL in an address is never meant, and not every database takes one.
async fn refuse_nul(request: Request) -> poem::Result<Request> {
    let uri = request.original_uri();
    if uri.path().contains("%00") || uri.query().is_some_and(|query| query.contains("%00")) {
        return Err(ApiError::invalid_field("url", "must not hold a NUL").into());
    }
    Ok(request)
}

/// What poem-openapi refuses in words of its own, in ours.
async fn refused(error: Error) -> Response {
    let fault = if let Some(error) = error.downcast_ref::<ParseParamError>() {
        Some((error.name, error.reason.clone()))
    } else {
        // poem-openapi calls path parameters by number; this is the only one that is not text.
        error.downcast_ref::<ParsePathError>().map(|error| ("version", error.reason.clone()))
    };
    match fault {
        Some((name, reason)) => {
            let detail = ::openapi::agents::clean(&reason, 300);
            ApiError::invalid(vec![Fault { path: name.to_owned(), detail }]).into_response()
        }
        None if error.status() == StatusCode::NOT_FOUND && !error.is_from_response() => {
            ApiError::not_found().into_response()
        }
        None => error.into_response(),
    }
}
