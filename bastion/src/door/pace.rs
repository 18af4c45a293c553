//! A connection's bytes under deadlines: a client that is silent, drips, or takes nothing is cut off.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::OwnedSemaphorePermit,
    time::{Sleep, sleep},
};

use crate::config::Limits;

/// How long a closing connection is read on, so that a client still sending sees its answer and no reset.
const LINGER: Duration = Duration::from_secs(1);
/// How much of such a client's bytes are thrown away at most.
const LINGER_BYTES: usize = 1 << 20;

/// Where a connection stands between its requests; written by the service, read by [`Paced`].
#[derive(Default)]
pub(super) struct Pace {
    /// Odd while a request is being answered; half of it, how many have been.
    turns: AtomicU64,
    upgraded: AtomicBool,
}

/// One request's time on its connection, from its headers until its answer has left.
pub(super) struct Turn(Arc<Pace>);

impl Turn {
    pub(super) fn begin(pace: Arc<Pace>) -> Self {
        pace.turns.fetch_add(1, Ordering::AcqRel);
        Self(pace)
    }

    /// From here on the connection speaks another protocol, with deadlines of its own.
    pub(super) fn upgraded(&self) {
        self.0.upgraded.store(true, Ordering::Release);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.turns.fetch_add(1, Ordering::AcqRel);
    }
}

/// A stream under deadlines. It keeps the connection's place, so that upgraded sockets count too.
pub(super) struct Paced<S> {
    stream: S,
    pace: Arc<Pace>,
    first_byte: Duration,
    header: Duration,
    keep_alive: Duration,
    write_stall: Duration,
    /// The turns when `waiting` was set.
    turns: u64,
    /// Whether a part of the next request's headers has come.
    begun: bool,
    waiting: Option<Pin<Box<Sleep>>>,
    stalled: Option<Pin<Box<Sleep>>>,
    /// Set once our side is closed; then how many bytes have been thrown away.
    lingering: Option<(Pin<Box<Sleep>>, usize)>,
    _place: OwnedSemaphorePermit,
}

impl<S> Paced<S> {
    pub(super) fn new(stream: S, pace: Arc<Pace>, limits: &Limits, place: OwnedSemaphorePermit) -> Self {
        Self {
            stream,
            pace,
            first_byte: limits.first_byte.duration(),
            header: limits.header.duration(),
            keep_alive: limits.keep_alive.duration(),
            write_stall: limits.write_stall.duration(),
            turns: 0,
            begun: false,
            waiting: None,
            stalled: None,
            lingering: None,
            _place: place,
        }
    }

    fn is_upgraded(&self) -> bool {
        self.pace.upgraded.load(Ordering::Acquire)
    }

    /// Whether the next request, or the rest of its headers, is due; forgets the last one's deadline.
    fn awaits_request(&mut self) -> bool {
        let turns = self.pace.turns.load(Ordering::Acquire);
        if turns != self.turns {
            self.turns = turns;
            self.begun = false;
            self.waiting = None;
        }
        turns.is_multiple_of(2) && !self.is_upgraded()
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let span = match (self.begun, self.turns) {
            (true, _) => self.header,
            (false, 0) => self.first_byte,
            (false, _) => self.keep_alive,
        };
        let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(span)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "no request in time"))
    }

    /// Passes a write's outcome on, unless the client has taken nothing for too long.
    fn stalls<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() || self.is_upgraded() {
            self.stalled = None;
            return outcome;
        }
        let span = self.write_stall;
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(span)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let awaits = this.awaits_request();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(outcome) => {
                if awaits && !this.begun && buf.filled().len() > before {
                    this.begun = true;
                    this.waiting = None;
                }
                Poll::Ready(outcome)
            }
            Poll::Pending if awaits => this.poll_waiting(cx).map(Err),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.stalls(cx, outcome)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.stalls(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.stream).poll_flush(cx);
        self.stalls(cx, outcome)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.lingering.is_none() {
            let outcome = Pin::new(&mut this.stream).poll_shutdown(cx);
            ready!(this.stalls(cx, outcome))?;
            if this.is_upgraded() {
                return Poll::Ready(Ok(()));
            }
        }
        let (until, thrown_away) = this.lingering.get_or_insert_with(|| (Box::pin(sleep(LINGER)), 0));
        let mut scratch = [0; 4096];
        while *thrown_away < LINGER_BYTES && until.as_mut().poll(cx).is_pending() {
            let mut buf = ReadBuf::new(&mut scratch);
            // However it ends, our part is done: the answer has left.
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => *thrown_away += buf.filled().len(),
                Ok(()) | Err(_) => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
