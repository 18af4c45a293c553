//! The accept loop, and what surrounds every request: deadlines, caps, headers, problems. Knows no route.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use http::uri::Scheme;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::{
    Endpoint,
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::config::{Config, Limits};

mod answer;
mod body;
mod guard;
mod headers;
mod limiter;
mod pace;
mod peer;
mod problem;
#[cfg(test)]
mod tests;
mod tls;

pub use body::{BodyError, read_body};
pub use guard::Guard;
pub use headers::PageClass;
pub use limiter::{AddressLimiter, RetryAfter};
pub use peer::Peer;
pub use problem::problem;
pub use tls::TlsError;

/// How many clients may be shaking hands at once; it is the costly part of a connection.
const HANDSHAKES: usize = 256;
/// Descriptors left for files, the database and the object store.
const RESERVED_DESCRIPTORS: u64 = 128;
/// How long to leave the listener alone after it failed, as when descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How connections are taken: their limits, and TLS if the bastion ends it itself.
#[derive(Clone)]
pub struct Door {
    limits: Limits,
    tls: Option<TlsAcceptor>,
}

impl Door {
    /// The door a configuration describes.
    ///
    /// # Errors
    /// When the certificate or its key cannot be read or do not fit.
    pub fn from_config(config: &Config) -> Result<Self, TlsError> {
        let tls = match (&config.server.tls.cert, &config.server.tls.key) {
            (Some(cert), Some(key)) => Some(tls::acceptor(cert, key)?),
            (None, _) | (_, None) => None,
        };
        Ok(Self { limits: config.limits.clone(), tls })
    }

    fn http(&self) -> http1::Builder {
        let limits = &self.limits;
        let mut http = http1::Builder::new();
        // The finer deadlines are `Paced`'s; this one is the fence behind them.
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.keep_alive.duration() + limits.header.duration())
            .max_headers(limits.header_count as usize)
            .max_header_size(limits.header_size.length());
        http
    }
}

/// Serves `endpoint` on `listener` until `shutdown`. Every connection is a task of `tasks`; at `shutdown` each
/// ends after the request it is in, upgraded sockets excepted. Returns once nothing more is accepted.
///
/// # Errors
/// When the listener has no address.
pub async fn serve<E: Endpoint + 'static>(
    listener: TcpListener,
    endpoint: E,
    door: Door,
    tasks: &TaskTracker,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let local = listener.local_addr()?;
    let room = Arc::new(Semaphore::new(room(door.limits.connections)));
    let visit = Arc::new(Visit {
        http: door.http(),
        handshakes: Semaphore::new(HANDSHAKES),
        local: LocalAddr(local.into()),
        door,
        endpoint: Arc::new(endpoint),
        shutdown: shutdown.clone(),
    });
    loop {
        // When every place is taken this loop waits, and the kernel's backlog with it.
        let accepted = async {
            let place = room.clone().acquire_owned().await.map_err(io::Error::other)?;
            listener.accept().await.map(|(stream, remote)| (stream, remote, place))
        };
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, remote, place)) => {
                tasks.spawn(visit.clone().welcome(stream, RemoteAddr(remote.into()), place));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// How many connections there is room for: what is wished, as far as descriptors allow.
fn room(wished: u32) -> usize {
    let wished = u64::from(wished);
    let allowed = std::fs::read_to_string("/proc/self/limits").ok().and_then(|limits| {
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    });
    let possible = allowed.map_or(wished, |all| all.saturating_sub(RESERVED_DESCRIPTORS).max(all / 2));
    if possible < wished {
        tracing::warn!(wished, possible, "fewer connections than limits.connections: too few descriptors");
    }
    usize::try_from(possible.min(wished)).unwrap_or(Semaphore::MAX_PERMITS)
}

/// What all connections share.
struct Visit<E> {
    door: Door,
    http: http1::Builder,
    handshakes: Semaphore,
    local: LocalAddr,
    endpoint: Arc<E>,
    shutdown: CancellationToken,
}

impl<E: Endpoint + 'static> Visit<E> {
    async fn welcome(self: Arc<Self>, stream: TcpStream, remote: RemoteAddr, place: OwnedSemaphorePermit) {
        // Terminals send small frames and wait for the answer.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "no TCP_NODELAY");
        }
        let Some(tls) = &self.door.tls else {
            return self.attend(stream, remote, Scheme::HTTP, place).await;
        };
        let handshake = async {
            let _turn = self.handshakes.acquire().await.map_err(io::Error::other)?;
            tls.accept(stream).await
        };
        match timeout(self.door.limits.tls_handshake.duration(), handshake).await {
            Ok(Ok(stream)) => self.attend(stream, remote, Scheme::HTTPS, place).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        }
    }

    async fn attend<S>(&self, stream: S, remote: RemoteAddr, scheme: Scheme, place: OwnedSemaphorePermit)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let pace = Arc::new(pace::Pace::default());
        let paced = pace::Paced::new(stream, pace.clone(), &self.door.limits, place);
        let service = service_fn(|request: http::Request<Incoming>| {
            let turn = pace::Turn::begin(pace.clone());
            let request = (request, self.local.clone(), remote.clone(), scheme.clone()).into();
            let endpoint = self.endpoint.clone();
            async move { Ok::<_, Infallible>(answer::of(endpoint.get_response(request).await, turn)) }
        });
        let connection = self.http.serve_connection(TokioIo::new(paced), service).with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.shutdown.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection ended");
        }
    }
}
