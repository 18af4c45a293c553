//! What surrounds every request: whose it is, which host it means, its body's cap, its answer's headers, its log line.

use std::{
    net::{Ipv4Addr, SocketAddr},
    panic::AssertUnwindSafe,
    time::Duration,
};

use futures_util::FutureExt;
use http::{Method, StatusCode, header, uri::Authority};
use ipnet::IpNet;
use poem::{Endpoint, IntoResponse, Request, Response, Result};
use tokio::time::Instant;

use super::{Peer, body, headers, problem};
use crate::config::{Config, is_loopback_name};

/// Paths that probes ask for under whatever name they know.
const ANY_HOST: [&str; 2] = ["/healthz", "/readyz"];
/// How much of a path is logged.
const LOGGED_PATH: usize = 256;

/// What every request must keep to, and what every response carries.
#[derive(Debug, Clone)]
pub struct Guard {
    authority: String,
    /// The port at which loopback names are ours too, while we listen on loopback.
    loopback: Option<u16>,
    secure: bool,
    proxies: Vec<IpNet>,
    body_size: usize,
    body_time: Duration,
}

impl Guard {
    /// The guard that `config` describes, of a bastion listening on `local`.
    pub fn new(config: &Config, local: SocketAddr) -> Self {
        Self {
            authority: config.authority(),
            loopback: local.ip().is_loopback().then_some(local.port()),
            secure: config.is_secure(),
            proxies: config.server.trusted_proxies.clone(),
            body_size: config.limits.body_size.length(),
            body_time: config.limits.body.duration(),
        }
    }

    /// Puts the guard around `inner`, which is to be the whole application.
    pub fn around<E: Endpoint>(self, inner: E) -> Guarded<E> {
        Guarded { guard: self, inner }
    }

    fn peer(&self, request: &Request) -> Peer {
        // Only tests without a connection have no address.
        let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
        let socket = request.remote_addr().as_socket_addr().copied().unwrap_or(nowhere);
        Peer::of(socket, request.headers(), &self.proxies)
    }

    /// Whether the request names this bastion, and no other, as its host.
    fn is_ours(&self, request: &Request) -> bool {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return false };
        let Ok(host) = Authority::try_from(host.as_bytes()) else { return false };
        self.is_our_name(&host) && request.original_uri().authority().is_none_or(|uri| self.is_our_name(uri))
    }

    fn is_our_name(&self, name: &Authority) -> bool {
        let default_port = if self.secure { 443 } else { 80 };
        let host = name.host().to_ascii_lowercase();
        let port = match (name.port_u16(), name.port().is_some() || name.as_str().ends_with(':')) {
            (Some(port), _) => port,
            (None, false) => default_port,
            (None, true) => return false,
        };
        let written = if port == default_port { host.clone() } else { format!("{host}:{port}") };
        let plain = !name.as_str().contains('@');
        plain && (written == self.authority || (self.loopback == Some(port) && is_loopback_name(&host)))
    }
}

/// An application under a [`Guard`]. It never fails: every error is a response.
pub struct Guarded<E> {
    guard: Guard,
    inner: E,
}

impl<E: Endpoint> Guarded<E> {
    async fn answer(&self, mut request: Request) -> Response {
        let path = request.original_uri().path();
        if !ANY_HOST.contains(&path) && !self.guard.is_ours(&request) {
            return problem::plain(StatusCode::MISDIRECTED_REQUEST);
        }
        match body::bounded(request.take_body(), self.guard.body_size, self.guard.body_time) {
            Ok(body) => request.set_body(body),
            Err(error) => return problem::of_error(error.into()),
        }
        match AssertUnwindSafe(self.inner.call(request)).catch_unwind().await {
            Ok(Ok(output)) => problem::of_response(output.into_response()),
            Ok(Err(error)) => problem::of_error(error),
            Err(panic) => {
                tracing::error!(panic = panic_message(panic.as_ref()), "a handler panicked");
                problem::plain(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

impl<E: Endpoint> Endpoint for Guarded<E> {
    type Output = Response;

    async fn call(&self, mut request: Request) -> Result<Response> {
        let began = Instant::now();
        let peer = self.guard.peer(&request);
        request.set_data(peer);
        let line = Line::of(&request, peer);
        let mut response = self.answer(request).await;
        headers::dress(&mut response, self.guard.secure);
        line.log(response.status(), began.elapsed());
        Ok(response)
    }
}

/// The access log's line: never the query, never a header.
struct Line {
    method: Method,
    path: String,
    peer: Peer,
}

impl Line {
    fn of(request: &Request, peer: Peer) -> Self {
        let path = request.original_uri().path();
        let path = path.chars().take(LOGGED_PATH).collect();
        Self { method: request.method().clone(), path, peer }
    }

    fn log(&self, status: StatusCode, took: Duration) {
        let ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        tracing::info!(
            target: "bastion::access",
            method = %self.method,
            path = self.path,
            status = status.as_u16(),
            ms,
            peer = %self.peer.addr,
        );
    }
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}
