//! The security headers of every response, errors included, and what each class of page may load.

use http::{HeaderMap, HeaderName, HeaderValue, header};
use poem::Response;

/// What a response is to a browser, and so what it may load; `pages` says it as the response's data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PageClass {
    /// No page at all: JSON, a download, an error, an asset.
    #[default]
    Api,
    /// The application's pages.
    App,
    /// The recordings' player, whose decoder is WebAssembly.
    Player,
    /// Swagger UI.
    Docs,
}

impl PageClass {
    fn content_security_policy(self) -> &'static str {
        match self {
            Self::Api => "default-src 'none'; frame-ancestors 'none'; sandbox",
            Self::App | Self::Docs => {
                "default-src 'none'; connect-src 'self'; img-src 'self' data:; font-src 'self'; \
                 script-src 'self'; style-src 'self' 'unsafe-inline'; manifest-src 'self'; \
                 base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
            }
            Self::Player => {
                "default-src 'none'; connect-src 'self'; img-src 'self' data:; font-src 'self'; \
                 script-src 'self' 'wasm-unsafe-eval'; style-src 'self' 'unsafe-inline'; manifest-src 'self'; \
                 base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
            }
        }
    }
}

const ALWAYS: [(HeaderName, HeaderValue); 6] = [
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (
        HeaderName::from_static("permissions-policy"),
        HeaderValue::from_static(
            "camera=(), microphone=(), geolocation=(), usb=(), serial=(), clipboard-read=(self), clipboard-write=(self)",
        ),
    ),
];

const TRANSPORT: HeaderValue = HeaderValue::from_static("max-age=63072000; includeSubDomains");

/// Sets the headers; `secure` where people come by HTTPS.
pub(super) fn dress(response: &mut Response, secure: bool) {
    let class = response.data::<PageClass>().copied().unwrap_or_default();
    let headers: &mut HeaderMap = response.headers_mut();
    headers.extend(ALWAYS.map(|(name, value)| (Some(name), value)));
    let policy = HeaderValue::from_static(class.content_security_policy());
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.remove(header::SERVER);
    if secure {
        headers.insert(header::STRICT_TRANSPORT_SECURITY, TRANSPORT);
    }
}
