//! Request bodies: counted as they come, under a cap and a deadline, whatever their headers claim.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use http_body_util::{BodyExt, combinators::BoxBody};
use hyper::body::{Body as _, Frame, SizeHint};
use poem::{Body, error::ResponseError};
use tokio::time::{Sleep, sleep, timeout};

/// Why a body was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// More bytes than allowed, or announced to be: 413.
    #[error("the body is larger than {0} bytes")]
    TooLarge(usize),
    /// Not complete in time: 408.
    #[error("the body took too long")]
    TooSlow,
    /// The connection broke, or the body's encoding is wrong: 400.
    #[error("the body broke off")]
    Broken,
}

impl ResponseError for BodyError {
    fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Broken => StatusCode::BAD_REQUEST,
        }
    }
}

impl From<io::Error> for BodyError {
    /// Finds the door's own verdict inside what a body's stream failed with.
    fn from(error: io::Error) -> Self {
        let mut inner = error.get_ref();
        while let Some(cause) = inner {
            if let Some(verdict) = cause.downcast_ref::<Self>() {
                return *verdict;
            }
            // Whoever passes a stream's error on wraps it once more.
            inner = cause.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        }
        Self::Broken
    }
}

/// Reads all of `body`, at most `cap` bytes within `deadline`.
///
/// # Errors
/// At once when `Content-Length` exceeds `cap`; else as soon as the bytes do, or the deadline passes.
pub async fn read_body(body: Body, cap: usize, deadline: Duration) -> Result<Bytes, BodyError> {
    let body = BoxBody::from(body);
    if announces_more(&body, cap) {
        return Err(BodyError::TooLarge(cap));
    }
    timeout(deadline, collect(body, cap)).await.unwrap_or(Err(BodyError::TooSlow))
}

async fn collect(mut body: BoxBody<Bytes, io::Error>, cap: usize) -> Result<Bytes, BodyError> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(BodyError::from)?.into_data() else { continue };
        if data.len() > cap - all.len() {
            return Err(BodyError::TooLarge(cap));
        }
        all.extend_from_slice(&data);
    }
    Ok(all.freeze())
}

fn announces_more(body: &BoxBody<Bytes, io::Error>, cap: usize) -> bool {
    body.size_hint().lower() > cap as u64
}

/// Puts `body` under the door's own cap and deadline, for handlers that do not read by [`read_body`].
///
/// # Errors
/// When `Content-Length` exceeds `cap`.
pub(super) fn bounded(body: Body, cap: usize, deadline: Duration) -> Result<Body, BodyError> {
    let body = BoxBody::from(body);
    if body.is_end_stream() {
        return Ok(body.into());
    }
    if announces_more(&body, cap) {
        return Err(BodyError::TooLarge(cap));
    }
    Ok(Bounded { body, cap, left: cap, deadline: Box::pin(sleep(deadline)) }.boxed().into())
}

/// A body that fails once it is too large or too late.
struct Bounded {
    body: BoxBody<Bytes, io::Error>,
    cap: usize,
    left: usize,
    deadline: Pin<Box<Sleep>>,
}

impl hyper::body::Body for Bounded {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = &mut *self;
        let polled = Pin::new(&mut this.body).poll_frame(cx);
        if let Poll::Ready(frame) = polled {
            let length = match &frame {
                Some(Ok(frame)) => frame.data_ref().map_or(0, Bytes::len),
                Some(Err(_)) | None => 0,
            };
            return Poll::Ready(match this.left.checked_sub(length) {
                Some(left) => {
                    this.left = left;
                    frame
                }
                None => Some(Err(io::Error::other(BodyError::TooLarge(this.cap)))),
            });
        }
        this.deadline.as_mut().poll(cx).map(|()| Some(Err(io::Error::other(BodyError::TooSlow))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
