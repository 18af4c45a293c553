//! The door over real sockets: slow clients, caps, headers, hosts, upgrades, shutting down.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{future::IntoFuture, net::SocketAddr, path::Path, time::Duration};

use futures_util::{SinkExt, StreamExt};
use poem::{
    Body, EndpointExt, IntoResponse, Request, Response, Route,
    endpoint::make,
    get, handler, post,
    web::{
        Data,
        websocket::{Message, WebSocket},
    },
};
use tokio::time::Instant;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Notify,
    task::JoinHandle,
};

use super::*;
use crate::config::{ByteSize, Span};

mod answers;
mod clients;
mod house;
mod slow;

use house::House;

/// Far longer than anything here takes, so that a failure is a failure and no hang.
const PATIENCE: Duration = Duration::from_secs(20);
/// A deadline under test.
const SOON: Span = Span(Duration::from_millis(250));

/// Deadlines of which none fires, for tests to shorten the one they are about.
fn patient() -> Limits {
    let never = Span::seconds(600);
    Limits {
        tls_handshake: never,
        first_byte: never,
        header: never,
        body: never,
        keep_alive: never,
        write_stall: never,
        ..Limits::default()
    }
}

async fn patiently<F: IntoFuture>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future.into_future()).await.expect("in time")
}
