//! Files of recordings on their way out: whole, in part, packed, or not again.

use std::ops::Range;

use ::recordings::{Cast, Derived, PlaybackError, playback::Bits};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use poem::{
    Body, IntoResponse, Response, ResponseBuilder,
    http::{HeaderMap, HeaderName, StatusCode, header},
};
use poem_openapi::{
    ApiResponse,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::Type as _,
};
use sha2::{Digest as _, Sha256};

use super::finding::ScreenLine;
use crate::api::error::ApiError;

mod range;
use range::{Asked, parse_range};

/// Where a file's bytes come from.
pub enum Source {
    /// The asciicast, stored or from the spool; in ranges too.
    Cast(Cast),
    /// What is kept beside it, zstd.
    Derived(Derived),
    /// What is at hand.
    Whole(Bytes),
    /// Made while it is sent; the tag, if the same bytes would be made again.
    Made {
        /// The bytes.
        bits: Bits,
        /// A strong entity tag, quoted.
        etag: Option<String>,
    },
}

impl Source {
    fn etag(&self) -> Option<String> {
        match self {
            Self::Cast(cast) => cast.etag.clone(),
            Self::Derived(derived) => Some(derived.etag.clone()),
            Self::Whole(bytes) => Some(format!("\"{}\"", hex::encode(Sha256::digest(bytes)))),
            Self::Made { etag, .. } => etag.clone(),
        }
    }

    fn length(&self) -> Option<u64> {
        match self {
            Self::Cast(cast) => Some(cast.plain_len),
            Self::Derived(derived) => Some(derived.plain_len),
            Self::Whole(bytes) => Some(bytes.len() as u64),
            Self::Made { .. } => None,
        }
    }

    /// As it is stored, if that is zstd.
    fn packed(&self) -> Option<(u64, Bits)> {
        match self {
            Self::Cast(cast) => cast.raw(),
            Self::Derived(derived) => Some((derived.stored_len, derived.raw())),
            Self::Whole(_) | Self::Made { .. } => None,
        }
    }

    fn plain(self) -> Bits {
        match self {
            Self::Cast(cast) => cast.read(0..cast.plain_len),
            Self::Derived(derived) => derived.plain(),
            Self::Whole(bytes) => stream::iter([Ok(bytes)]).boxed(),
            Self::Made { bits, .. } => bits,
        }
    }
}

/// A file about to be sent.
pub struct File {
    kind: &'static str,
    source: Source,
    vary: &'static str,
    attachment: Option<String>,
}

impl File {
    /// `kind` is its content type.
    pub fn new(kind: &'static str, source: Source) -> Self {
        Self { kind, source, vary: "Accept-Encoding", attachment: None }
    }

    /// For its browser to keep as `<session>.<end>`.
    pub fn attached(self, session: &str, end: &str) -> Self {
        // The id is one of a row: nothing in it needs quoting.
        Self { attachment: Some(format!("attachment; filename=\"{session}.{end}\"")), ..self }
    }

    /// One of several types that `Accept` chooses from.
    pub fn negotiated(self) -> Self {
        Self { vary: "Accept, Accept-Encoding", ..self }
    }

    /// What a request with these headers gets: the whole, a part, or nothing new.
    ///
    /// # Errors
    /// If its first bytes cannot be read; later the answer breaks off.
    pub async fn answer(self, headers: &HeaderMap) -> Result<Response, PlaybackError> {
        let plain_tag = self.source.etag();
        let response = Response::builder()
            .header(header::VARY, self.vary)
            // Shown to whoever may see it now; asked again each time.
            .header(header::CACHE_CONTROL, "private, no-cache");
        let response = optional(response, header::CONTENT_DISPOSITION, self.attachment);
        if let Source::Cast(cast) = &self.source
            && let Some(asked) = asked(headers, plain_tag.as_deref(), cast.plain_len)
        {
            return match is_known(headers, plain_tag.as_deref()) {
                true => Ok(unchanged(response, plain_tag)),
                false => part(response.content_type(self.kind), cast, plain_tag, asked).await,
            };
        }
        let ranges = matches!(self.source, Source::Cast(_)).then(|| "bytes".to_owned());
        let packed = self.source.packed().filter(|_| takes_zstd(headers));
        let (etag, length, bits, coding, ranges) = match packed {
            // Other bytes, another tag; and ranges are of the plain ones.
            Some((length, bits)) => {
                let etag = plain_tag.map(|etag| format!("{}-zstd\"", etag.trim_end_matches('"')));
                (etag, Some(length), bits, Some("zstd".to_owned()), None)
            }
            None => (plain_tag, self.source.length(), self.source.plain(), None, ranges),
        };
        if is_known(headers, etag.as_deref()) {
            return Ok(unchanged(response, etag));
        }
        let response = optional(response.content_type(self.kind), header::ETAG, etag);
        let response = optional(response, header::ACCEPT_RANGES, ranges);
        let response = optional(response, header::CONTENT_ENCODING, coding);
        let response = optional(response, header::CONTENT_LENGTH, length.map(|length| length.to_string()));
        Ok(response.body(body(bits).await?))
    }
}

async fn part(
    response: ResponseBuilder,
    cast: &Cast,
    etag: Option<String>,
    asked: Asked,
) -> Result<Response, PlaybackError> {
    let length = cast.plain_len;
    let Asked::Part(range) = asked else {
        let detail = format!("The recording has {length} bytes.");
        let mut refused =
            ApiError::new(StatusCode::RANGE_NOT_SATISFIABLE, "range_not_satisfiable", detail).into_response();
        if let Ok(value) = format!("bytes */{length}").parse() {
            refused.headers_mut().insert(header::CONTENT_RANGE, value);
        }
        return Ok(refused);
    };
    let Range { start, end } = range;
    let response = optional(response.status(StatusCode::PARTIAL_CONTENT), header::ETAG, etag)
        .header(header::ACCEPT_RANGES, "bytes")
        .header(header::CONTENT_RANGE, format!("bytes {start}-{}/{length}", end - 1))
        .header(header::CONTENT_LENGTH, end - start);
    Ok(response.body(body(cast.read(range)).await?))
}

fn unchanged(response: ResponseBuilder, etag: Option<String>) -> Response {
    optional(response, header::ETAG, etag).status(StatusCode::NOT_MODIFIED).finish()
}

fn optional(response: ResponseBuilder, name: HeaderName, value: Option<String>) -> ResponseBuilder {
    match value {
        Some(value) => response.header(name, value),
        None => response,
    }
}

/// A body whose first bytes have been read: what is damaged at once is told in an answer of its own.
async fn body(mut bits: Bits) -> Result<Body, PlaybackError> {
    let Some(first) = bits.next().await.transpose()? else { return Ok(Body::empty()) };
    let bits = stream::iter([Ok(first)]).chain(bits).map(|bit| {
        bit.map_err(|error| {
            tracing::error!(%error, "a recording broke off while it was read");
            std::io::Error::other(error)
        })
    });
    Ok(Body::from_bytes_stream(bits))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether `If-None-Match` has the tag of what would be sent.
fn is_known(headers: &HeaderMap, etag: Option<&str>) -> bool {
    let (Some(known), Some(etag)) = (text(headers, header::IF_NONE_MATCH), etag) else { return false };
    known.split(',').map(str::trim).any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
}

/// The part that is asked for, unless `If-Range` says that it would be one of something else.
fn asked(headers: &HeaderMap, etag: Option<&str>, length: u64) -> Option<Asked> {
    let range = text(headers, header::RANGE)?;
    if headers.contains_key(header::IF_RANGE) && (etag.is_none() || text(headers, header::IF_RANGE) != etag) {
        return None;
    }
    Some(parse_range(range, length)).filter(|asked| *asked != Asked::Ignored)
}

fn takes_zstd(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|coding| accepts(coding, "zstd"))
}

/// Whether `Accept` names this content type.
pub fn takes(headers: &HeaderMap, kind: &str) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|one| accepts(one, kind))
}

/// Whether one member of an `Accept…` list names `wanted`, and not to refuse it.
fn accepts(one: &str, wanted: &str) -> bool {
    let mut parts = one.split(';').map(str::trim);
    let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
    let refused = parts.any(|part| {
        let value = part.strip_prefix("q=").or_else(|| part.strip_prefix("Q="));
        value.and_then(|value| value.trim().parse::<f32>().ok()) == Some(0.0)
    });
    named && !refused
}

/// Declares the published answers that carry a file.
macro_rules! files {
    ($($(#[$doc:meta])* $name:ident: $whole:literal, [$($kind:literal => $schema:expr),+] $(, part $part:literal)?;)+) => {$(
        $(#[$doc])*
        pub struct $name(pub Response);

        impl IntoResponse for $name {
            fn into_response(self) -> Response {
                self.0
            }
        }

        impl ApiResponse for $name {
            fn meta() -> MetaResponses {
                let content = || vec![$(MetaMediaType { content_type: $kind, schema: $schema }),+];
                let mut responses = vec![
                    response(200, $whole, content()),
                    response(304, "What the caller has is still so", vec![]),
                ];
                $(
                    responses.push(response(206, $part, content()));
                    responses.push(response(416, "There is no such part", vec![]));
                )?
                responses.sort_by_key(|response| response.status);
                MetaResponses { responses }
            }

            fn register(registry: &mut Registry) {
                ScreenLine::register(registry);
            }
        }
    )+};
}

files! {
    /// An asciicast file, whole or in part.
    AsciicastFile: "The asciicast, or the window of it that was asked for",
        ["application/x-asciicast" => inline("string")], part "The part that `Range` asked for";
    /// A JSON file.
    JsonFile: "The file", ["application/json" => inline("object")];
    /// A seal.
    SealFile: "The seal, a compact JWS", ["application/jose" => inline("string")];
    /// A transcript.
    TranscriptFile: "The lines",
        ["application/json" => <Vec<ScreenLine>>::schema_ref(), "text/plain; charset=utf-8" => inline("string")];
}

fn inline(kind: &'static str) -> MetaSchemaRef {
    MetaSchemaRef::Inline(Box::new(MetaSchema::new(kind)))
}

fn response(status: u16, description: &'static str, content: Vec<MetaMediaType>) -> MetaResponse {
    MetaResponse { description, status: Some(status), status_range: None, content, headers: vec![] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn zstd_is_sent_to_those_who_take_it() {
        for (accepted, taken) in [
            ("zstd", true),
            ("gzip, ZSTD;q=0.5", true),
            ("br;q=1.0, zstd ; q=0.001", true),
            ("zstd;q=0", false),
            ("zstd; q=0.000", false),
            ("gzip", false),
            ("zstandard", false),
            ("", false),
        ] {
            assert_eq!(takes_zstd(&headers(header::ACCEPT_ENCODING, accepted)), taken, "{accepted}");
        }
    }

    #[test]
    fn a_tag_is_known_by_its_value_however_weak() {
        for (known, is) in [
            ("\"a\"", true),
            ("W/\"a\"", true),
            ("\"b\", \"a\"", true),
            ("*", true),
            ("\"a-zstd\"", false),
            ("a", false),
        ] {
            assert_eq!(is_known(&headers(header::IF_NONE_MATCH, known), Some("\"a\"")), is, "{known}");
        }
        assert!(!is_known(&headers(header::IF_NONE_MATCH, "*"), None));
    }

    #[test]
    fn a_part_of_something_else_is_not_sent() {
        let mut headers = headers(header::RANGE, "bytes=2-3");
        assert_eq!(asked(&headers, Some("\"a\""), 9), Some(Asked::Part(2..4)));
        for (tag, part) in
            [("\"a\"", true), ("W/\"a\"", false), ("\"b\"", false), ("Tue, 24 Nov 2026", false)]
        {
            headers.insert(header::IF_RANGE, tag.parse().unwrap());
            assert_eq!(asked(&headers, Some("\"a\""), 9).is_some(), part, "{tag}");
            assert_eq!(asked(&headers, None, 9), None, "what has no tag cannot be told from another");
        }
    }
}
