//! A response's body on its way out; while it lives, the connection is in a request.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, SizeHint};
use poem::Response;

use super::pace::Turn;

/// A body that holds the connection's turn until it is sent or dropped.
pub(super) struct Answer {
    body: BoxBody<Bytes, io::Error>,
    _turn: Turn,
}

/// Hands `response` to hyper.
pub(super) fn of(response: Response, turn: Turn) -> http::Response<Answer> {
    if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
        turn.upgraded();
    }
    http::Response::<BoxBody<Bytes, io::Error>>::from(response).map(|body| Answer { body, _turn: turn })
}

impl Body for Answer {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
