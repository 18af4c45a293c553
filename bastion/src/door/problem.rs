//! Errors as RFC 9457 problems: whatever poem or a handler answers in another shape is told in this one.

use http::{StatusCode, header};
use poem::{Body, Error, Response, error::ReadBodyError};
use poem_openapi::error::{ParseParamError, ParsePathError};
use serde_json::json;

use super::{body::BodyError, headers::PageClass};

/// The media type of a problem.
const MEDIA_TYPE: &str = "application/problem+json";

/// A problem of `status`; `detail` is shown to whoever asked.
pub fn problem(status: StatusCode, code: &str, detail: &str) -> Response {
    told(
        status,
        &json!({ "title": title(status), "status": status.as_u16(), "detail": detail, "code": code }),
    )
}

/// A problem of `status` alone, with the code and the sentence all such have in common.
pub(super) fn plain(status: StatusCode) -> Response {
    let (code, detail) = words(status);
    problem(status, code, detail)
}

/// A request that is wrong at `path`.
fn invalid(path: &str, detail: &str) -> Response {
    let status = StatusCode::BAD_REQUEST;
    let (code, sentence) = words(status);
    let errors = json!([{ "path": path, "detail": detail }]);
    let title = title(status);
    told(
        status,
        &json!({ "title": title, "status": 400, "detail": sentence, "code": code, "errors": errors }),
    )
}

fn told(status: StatusCode, body: &serde_json::Value) -> Response {
    Response::builder().status(status).content_type(MEDIA_TYPE).body(Body::from(body.to_string()))
}

fn title(status: StatusCode) -> &'static str {
    status.canonical_reason().unwrap_or("Error")
}

/// An endpoint's error as a problem, unless it is one.
pub(super) fn of_error(error: Error) -> Response {
    if let Some(ParseParamError { name, reason }) = error.downcast_ref() {
        return invalid(name, reason);
    }
    if let Some(ParsePathError { name, reason }) = error.downcast_ref() {
        return invalid(name, reason);
    }
    if error.is::<ReadBodyError>() {
        if let Ok(ReadBodyError::Io(error)) = error.downcast() {
            return of_error(BodyError::from(error).into());
        }
        return plain(StatusCode::BAD_REQUEST);
    }
    if let Some(BodyError::Broken) = error.downcast_ref() {
        return invalid("", "the body broke off");
    }
    of_response(error.into_response())
}

/// `response`, or the problem that says the same if it is an error in another shape. Pages stay pages.
pub(super) fn of_response(mut response: Response) -> Response {
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_problem = response.content_type().is_some_and(|kind| kind.starts_with(MEDIA_TYPE));
    if !is_error || is_problem || response.data::<PageClass>().is_some() {
        return response;
    }
    let told = if status == StatusCode::BAD_REQUEST { invalid("", words(status).1) } else { plain(status) };
    // Allow, Retry-After, WWW-Authenticate and the like still hold; what described the old body does not.
    let headers = response.headers_mut();
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::CONTENT_ENCODING);
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static(MEDIA_TYPE));
    response.set_body(told.into_body());
    response
}

/// The code and the sentence for a status that came without either.
fn words(status: StatusCode) -> (&'static str, &'static str) {
    match status.as_u16() {
        401 => ("unauthenticated", "Log in, or send an API token."),
        403 => ("forbidden", "This is not allowed."),
        404 => ("not_found", "There is nothing here."),
        405 => ("method_not_allowed", "This method is not for this path."),
        406 => ("not_acceptable", "None of the accepted media types is available."),
        408 => ("request_timeout", "The request took too long to arrive."),
        409 => ("conflict", "This conflicts with how things are."),
        410 => ("gone", "This is over."),
        411 => ("length_required", "A Content-Length is required."),
        413 => ("payload_too_large", "The body is larger than this path accepts."),
        414 => ("uri_too_long", "The URL is too long."),
        415 => ("unsupported_media_type", "Send application/json."),
        416 => ("range_not_satisfiable", "The range lies outside."),
        421 => ("misdirected", "This host name is not this bastion's."),
        426 => ("upgrade_required", "Connect with a WebSocket."),
        429 => ("rate_limited", "Too many tries; wait and try again."),
        501 => ("not_implemented", "This is not implemented."),
        502..=504 => ("unavailable", "The bastion cannot do this right now; try again."),
        400..=499 => ("invalid_request", "The request is malformed."),
        _ => ("internal", "Something failed inside the bastion; its log says what."),
    }
}
