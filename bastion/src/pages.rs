//! The pages, embedded in the binary: which path shows which, and what each may load.

use std::borrow::Cow;

use http::{HeaderValue, Method, StatusCode, header};
use poem::{Body, Endpoint, Error, Request, Response, Result};
use rust_embed::{Embed, EmbeddedFile};

use crate::door::PageClass;

/// What Vite builds; read from the folder itself in debug builds.
#[derive(Embed)]
#[folder = "$CARGO_MANIFEST_DIR/web/dist"]
struct Files;

/// Paths of the application's pages.
const APP: [&str; 11] = [
    "/",
    "/login",
    "/hosts",
    "/terminal",
    "/sessions",
    "/recordings",
    "/approvals",
    "/users",
    "/tokens",
    "/audit",
    "/policies",
];

/// Assets have their content's hash in their name.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// Files like the icon keep their name when they change.
const AN_HOUR: HeaderValue = HeaderValue::from_static("public, max-age=3600");

/// An endpoint for every path that nothing else answers.
pub fn pages() -> impl Endpoint<Output = Response> {
    Pages
}

struct Pages;

impl Endpoint for Pages {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let path = request.original_uri().path();
        let found = page(path).or_else(|| file(path, &request)).or_else(|| lost(&request));
        let response = found.ok_or_else(|| Error::from_status(StatusCode::NOT_FOUND))?;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let status = if response.status().is_success() {
                StatusCode::METHOD_NOT_ALLOWED
            } else {
                StatusCode::NOT_FOUND
            };
            return Ok(Response::builder().status(status).header(header::ALLOW, "GET, HEAD").finish());
        }
        Ok(response)
    }
}

/// The page that `path` shows.
fn page(path: &str) -> Option<Response> {
    let recording = path.strip_prefix("/recordings/").is_some_and(|id| !id.is_empty() && !id.contains('/'));
    let (name, class) = match path {
        "/docs" => ("docs.html", PageClass::Docs),
        _ if recording => ("player.html", PageClass::Player),
        _ if APP.contains(&path) => ("index.html", PageClass::App),
        _ => return None,
    };
    html(name, class)
}

fn html(name: &str, class: PageClass) -> Option<Response> {
    // Before the pages are built there is one placeholder for all.
    let file = Files::get(name).or_else(|| Files::get("index.html"))?;
    let mut response = Response::builder().content_type("text/html; charset=utf-8").body(body_of(file));
    response.set_data(class);
    Some(response)
}

/// The page for people who followed a link to nowhere; programs get a problem instead.
fn lost(request: &Request) -> Option<Response> {
    let navigates = request.header(header::ACCEPT).is_some_and(|accept| accept.contains("text/html"));
    let mut response = navigates.then(|| html("index.html", PageClass::App)).flatten()?;
    response.set_status(StatusCode::NOT_FOUND);
    Some(response)
}

/// A file that is no page: an asset, the icon.
fn file(path: &str, request: &Request) -> Option<Response> {
    let name = path.strip_prefix('/').filter(|name| !name.ends_with(".html"))?;
    let file = Files::get(name)?;
    Some(tagged(name, file, request.header(header::IF_NONE_MATCH)))
}

/// `file`, unless its tag is among those the client `knows` already.
fn tagged(name: &str, file: EmbeddedFile, knows: Option<&str>) -> Response {
    let tag = format!("\"{}\"", hex::encode(&file.metadata.sha256_hash()[..16]));
    let known = knows.is_some_and(|tags| {
        tags.split(',').any(|it| it.trim().trim_start_matches("W/") == tag || it.trim() == "*")
    });
    let cache = if name.starts_with("assets/") { FOR_EVER } else { AN_HOUR };
    let response = Response::builder().header(header::ETAG, tag).header(header::CACHE_CONTROL, cache);
    if known {
        return response.status(StatusCode::NOT_MODIFIED).finish();
    }
    let kind = mime_guess::from_path(name).first_or_octet_stream();
    response.content_type(kind.as_ref()).body(body_of(file))
}

fn body_of(file: EmbeddedFile) -> Body {
    match file.data {
        Cow::Borrowed(bytes) => Body::from(bytes),
        Cow::Owned(bytes) => Body::from(bytes),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn an_asset_is_kept_for_ever_and_not_sent_twice() {
        let page = || Files::get("index.html").unwrap();
        let response = tagged("assets/app-1a2b.js", page(), None);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.content_type(), Some("text/javascript"));
        assert_eq!(response.header(header::CACHE_CONTROL), Some("public, max-age=31536000, immutable"));
        let tag = response.header(header::ETAG).unwrap().to_owned();
        assert_eq!(response.into_body().into_vec().await.unwrap(), page().data.into_owned());

        let again = tagged("assets/app-1a2b.js", page(), Some(&format!("\"other\", W/{tag}")));
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
        assert!(again.into_body().into_vec().await.unwrap().is_empty());
        assert_eq!(tagged("favicon.svg", page(), Some("\"other\"")).status(), StatusCode::OK);
        let icon = tagged("favicon.svg", page(), None);
        assert_eq!(icon.header(header::CACHE_CONTROL), Some("public, max-age=3600"));
    }
}
