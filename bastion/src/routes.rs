//! Every URL: where the API, the sockets, the roots and the pages stand.

use std::sync::Arc;

use poem::{Endpoint, EndpointExt as _, Request, Response, Route, get};

use crate::{
    api::{self, error::ApiError, roots},
    app::App,
    pages, sockets,
};

/// Every URL of the bastion.
pub fn routes(app: Arc<App>) -> impl Endpoint<Output = Response> {
    let api = Route::new()
        .at("/tty/ws", get(sockets::browser::open))
        .at("/agent/tty/relay", get(sockets::relay::open))
        .at("/sessions/:id/live", get(sockets::live::open))
        .nest("/", api::operations());
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
    let pair = uri.query().into_iter().flat_map(|query| query.split('&')).find(|pair| pair.contains("%00"));
    let name = match pair {
        Some(pair) => pair.split('=').next().unwrap_or(pair),
        None if uri.path().contains("%00") => "path",
        None => return Ok(request),
    };
    Err(ApiError::invalid_field(name, "must not hold a NUL").into())
}
