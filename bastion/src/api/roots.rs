//! What stands at the root: health, the spec, the key lists.

use std::sync::{Arc, LazyLock};

use ::openapi::ticket::KeyList;
use poem::{IntoResponse as _, Response, handler, web::Data};

use super::error::ApiError;
use crate::app::App;

/// The process is alive.
#[handler]
pub fn healthz() -> Response {
    Response::builder().content_type("text/plain").body("ok\n")
}

/// The bastion can work: database and object store answer, and recordings can be made.
#[handler]
pub async fn readyz(Data(app): Data<&Arc<App>>) -> Response {
    let mut faults = Vec::new();
    if let Err(error) = app.db.ping().await {
        tracing::warn!(%error, "not ready");
        faults.push("database");
    }
    if let Err(error) = app.store.probe().await {
        tracing::warn!(%error, "not ready");
        faults.push("object store");
    }
    if let Err(error) = app.spool.admit() {
        tracing::warn!(%error, "not ready");
        faults.push("spool");
    }
    if faults.is_empty() {
        return Response::builder().content_type("text/plain").body("ready\n");
    }
    ApiError::unavailable("not_ready", format!("Not ready: {}.", faults.join(", "))).into_response()
}

/// The published contract.
#[handler]
pub fn published() -> Response {
    static SPEC: LazyLock<String> = LazyLock::new(super::spec);
    Response::builder().content_type("application/json").body(SPEC.as_str())
}

/// All public keys.
#[handler]
pub fn jwks(Data(app): Data<&Arc<App>>) -> Result<Response, ApiError> {
    let list = KeyList { keys: app.signing.keys().to_vec(), iat: None };
    let body = serde_json::to_string(&list).map_err(|error| ApiError::internal(&error))?;
    Ok(Response::builder().content_type("application/jwk-set+json").body(body))
}

/// All public keys, signed by the identity key.
#[handler]
pub fn signed_jwks(Data(app): Data<&Arc<App>>) -> Result<Response, ApiError> {
    let body = app.signing.signed_keys(app.clock.seconds())?;
    Ok(Response::builder().content_type("application/jose").body(body))
}
