//! All published operations. `spec` prints the contract without a database.

use poem::{
    Endpoint, EndpointExt as _, Error, IntoEndpoint as _, IntoResponse as _, Response, http::StatusCode,
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
pub mod roots;
pub mod sessions;
mod signed;
mod tokens;
mod users;

pub use signed::{counted, signed_request};

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
    (sessions::Sessions, recordings::Parts, policies::Policies),
);

fn service() -> OpenApiService<Parts, ()> {
    let parts = (
        (people::People, users::Users, tokens::Tokens, audit::Audit),
        (registrations::Registrations, heartbeat::Heartbeats, assets::Assets, authorize::Authorize),
        (sessions::Sessions, recordings::parts(), policies::Policies),
    );
    OpenApiService::new(parts, "Castellan", env!("CARGO_PKG_VERSION")).description(ABOUT).server("/api/v1")
}

/// The published contract, as it is in `openapi/openapi.json`.
pub fn spec() -> String {
    let mut spec = service().spec();
    spec.push('\n');
    spec
}

/// The published operations, refusing in our words.
pub fn operations() -> impl Endpoint<Output = Response> {
    service().into_endpoint().catch_all_error(refused).map_to_response()
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
