//! Recordings played: the whole, ranges, windows and segments.

use std::{sync::Arc, time::Duration};

use poem::{
    Request,
    http::{HeaderMap, header},
    web::Data,
};
use poem_openapi::{
    OpenApi,
    param::{Path, Query},
};

use super::{
    files::{AsciicastFile, File, JsonFile, Source},
    found, read, read_stored,
    refusal::Refusal,
    viewings::{Look, Viewings},
};
use crate::{
    api::{Chapter, callers::User, error::ApiError},
    app::App,
};

/// Recordings played.
pub struct Casts {
    /// Of this and of what else shows recordings.
    pub viewings: Viewings,
}

#[OpenApi(tag = "Chapter::Recordings")]
impl Casts {
    /// Play a recording
    ///
    /// asciicast v2, with `ETag`, `Range` (of the plain cast) and, for those who accept zstd, as it is stored.
    /// Recordings that are not stored yet come from the spool, as far as they go. With `from` or `to`, in seconds from
    /// the recording's start, a window: a cast of its own that begins with the screen redrawn, whose times count from
    /// `from`, and that ends before `to`; it has neither `ETag` nor `Range`. Viewing is audited; `download` (any
    /// value) is audited as that, and names the file. What turns out to be damaged on the way breaks off.
    #[oai(path = "/recordings/:id/cast", method = "get")]
    async fn cast(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        request: &Request,
        id: Path<String>,
        from: Query<Option<f64>>,
        to: Query<Option<f64>>,
        download: Query<Option<String>>,
    ) -> Result<AsciicastFile, Refusal> {
        let window = window(from.0, to.0)?;
        let (id, library, headers) = (id.0.as_str(), &app.library, request.headers());
        let (found, source, what) = match window {
            None => {
                let cast =
                    read(app, &caller, id, |stored| async move { library.cast(id, stored.as_ref()).await });
                let (found, cast) = cast.await?;
                (found, Source::Cast(cast), "cast")
            }
            Some((from, to)) => {
                let bits = read(app, &caller, id, |stored| async move {
                    library.window(id, stored.as_ref(), from, to).await
                });
                let (found, bits) = bits.await?;
                (found, Source::Made { bits, etag: None }, "window")
            }
        };
        let begins = window.is_none() && from_the_start(headers);
        let look = Look::download(download.0.is_some(), if begins { Look::Begins } else { Look::Continues });
        self.viewings.look(app, &caller, id, what, look).await?;
        let mut file = File::new("application/x-asciicast", source);
        if look == Look::Download {
            // A window is no recording: under a session's name it would be taken for an altered one.
            file = file.attached(id, if window.is_none() { "cast" } else { "part.cast" });
        }
        file.answer(headers).await.map(AsciicastFile).map_err(|error| Refusal::to_read(&found, &error))
    }

    /// Play a long recording in segments
    ///
    /// `index.json`, and what it names: `0.json`, `1.json` and so on: the form that asciinema-player 3.17 and later
    /// call `segmented`. With `ETag` and, for those who accept zstd, as it is stored. Every stored recording has it;
    /// `detail.segmented` says for which it is worth while. 409 `not_stored` until it is stored. Viewing is audited.
    #[oai(path = "/recordings/:id/segments/:name", method = "get")]
    async fn segment(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        request: &Request,
        id: Path<String>,
        name: Path<String>,
    ) -> Result<JsonFile, Refusal> {
        let (id, library) = (id.0.as_str(), &app.library);
        let Some(segment) = segment_named(&name.0) else {
            found(app, &caller, id).await?.require_stored()?;
            return Err(ApiError::not_found().into());
        };
        let derived = read_stored(app, &caller, id, |stored| async move {
            match segment {
                Segment::Index => library.segments(&stored).await,
                Segment::Numbered(n) => library.segment(&stored, n).await,
            }
        });
        let (found, derived) = derived.await?;
        let look = if segment == Segment::Index { Look::Begins } else { Look::Continues };
        self.viewings.look(app, &caller, id, "segments", look).await?;
        let file = File::new("application/json", Source::Derived(derived));
        let answer = file.answer(request.headers()).await;
        answer.map(JsonFile).map_err(|error| Refusal::to_read(&found, &error))
    }
}

/// What is asked of the whole: where a window begins, and ends; none if no window is asked for.
fn window(from: Option<f64>, to: Option<f64>) -> Result<Option<(Duration, Option<Duration>)>, ApiError> {
    let time = |name, seconds: Option<f64>| {
        let time = seconds.map(Duration::try_from_secs_f64).transpose();
        time.map_err(|_| ApiError::invalid_field(name, "must be seconds from the start, 0 or more"))
    };
    let (from, to) = (time("from", from)?, time("to", to)?);
    if from.is_none() && to.is_none() {
        return Ok(None);
    }
    let from = from.unwrap_or_default();
    if to.is_some_and(|to| to <= from) {
        return Err(ApiError::invalid_field("to", "must be after from"));
    }
    Ok(Some((from, to)))
}

/// Whether a request asks for the first byte too, as the first one of a viewing does.
fn from_the_start(headers: &HeaderMap) -> bool {
    let range = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    range.is_none_or(|range| range.trim().starts_with("bytes=0-"))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment {
    Index,
    Numbered(usize),
}

fn segment_named(name: &str) -> Option<Segment> {
    let stem = name.strip_suffix(".json")?;
    if stem == "index" {
        return Some(Segment::Index);
    }
    // One name a segment: neither 007.json nor +7.json.
    let n: usize = stem.parse().ok()?;
    (n.to_string() == stem).then_some(Segment::Numbered(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_before_it_ends() {
        let seconds = Duration::from_secs;
        assert_eq!(window(None, None).unwrap(), None);
        assert_eq!(window(Some(2.0), None).unwrap(), Some((seconds(2), None)));
        assert_eq!(window(None, Some(3.0)).unwrap(), Some((seconds(0), Some(seconds(3)))));
        for (from, to) in [
            (Some(-1.0), None),
            (Some(f64::NAN), None),
            (Some(f64::INFINITY), None),
            (None, Some(1e300)),
            (None, Some(0.0)),
            (Some(2.0), Some(2.0)),
            (Some(3.0), Some(2.0)),
        ] {
            assert!(window(from, to).is_err(), "{from:?} {to:?}");
        }
    }

    #[test]
    fn segments_have_one_name_each() {
        assert_eq!(segment_named("index.json"), Some(Segment::Index));
        assert_eq!(segment_named("12.json"), Some(Segment::Numbered(12)));
        for name in ["", "0", "00.json", "+1.json", "-1.json", "../index.json", "index.json.zst", "a.json"] {
            assert_eq!(segment_named(name), None, "{name}");
        }
    }
}
