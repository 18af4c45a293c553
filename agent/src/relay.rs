//! A session's relays: the first is dialled with the task's token, each later one because the one before was lost.

use std::time::Duration;

use openapi::{
    agents::PendingSession,
    frames::{Control, Frame, MAX_SIDE},
    ticket::RelayClaims,
};
use rand::RngExt as _;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::MaybeTlsStream;
use tokio_util::sync::CancellationToken;

use crate::{
    Agent,
    backoff::{Backoff, dice},
    parting::Parting,
    processes,
    session::{Session, Standing},
    shell::{self, Request},
    tasks::Seat,
    trust::TrustError,
    wire::{self, DialError, Entrance, Incoming, Relay, Wire},
};

/// The longest pause before a try, while somebody may be typing.
pub(crate) const CAP: Duration = Duration::from_secs(5);
/// How far the first tries of a bastion's sessions are spread.
const JITTER: Duration = Duration::from_millis(200);
/// A relay that resumed and lasted as long is worth a try at once.
const STEADY: Duration = Duration::from_secs(5);
/// How long a session is held beyond what the bastion holds it.
const MARGIN: Duration = Duration::from_secs(60);
/// How long the bastion's first message may take.
const FIRST_MESSAGE: Duration = Duration::from_secs(10);
/// What the bastion answers when the session is over.
const GONE: u16 = 410;

/// Why a session was not served.
#[derive(Debug, thiserror::Error)]
pub enum RelayError {
    /// The token is not the bastion's, or not for this agent.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The token is another session's.
    #[error("the task's token is for another session")]
    Session,
    /// The relay did not come about.
    #[error(transparent)]
    Dial(#[from] DialError),
}

/// Checks a task's token, dials, runs the shell, and leaves nothing of it behind.
///
/// # Errors
/// [`RelayError`], before there is a shell.
pub(crate) async fn serve(agent: &Agent, task: &PendingSession, seat: &Seat) -> Result<(), RelayError> {
    // Boxed, since the handshake's state is large and a session is long.
    let dialling = Box::pin(dial(agent, task));
    let Some(dialled) = seat.stop().run_until_cancelled(dialling).await else { return Ok(()) };
    let (claims, wire) = dialled?;
    seat.start();
    let request = Request {
        session_id: claims.sid,
        run_as: claims.run_as,
        command: claims.command,
        cols: claims.cols.clamp(1, MAX_SIDE),
        rows: claims.rows.clamp(1, MAX_SIDE),
    };
    let session = request.session_id.as_str();
    let (terminal, process) = shell::open(agent.shell, &agent.allowed, &request).unwrap_or_else(|error| {
        tracing::warn!(session, %error, "no shell");
        shell::refusal(&error.to_string())
    });
    tracing::info!(session, user = openapi::agents::clean(&claims.user, 64), "session begins");
    let mut held = Session::new(terminal, process, claims.records_input);
    let line = Redial { agent, url: &task.relay_url, session };
    let parting = hold(&mut held, wire, &line, seat.stop()).await;
    tracing::info!(session, ?parting, "session ends");
    // Who was told to stop has had the time.
    let grace = if parting == Parting::Over { Duration::ZERO } else { processes::GRACE };
    held.end(!agent.kill_on_end, grace).await;
    Ok(())
}

/// Checks that the task is the bastion's and for this agent, and opens its first relay.
async fn dial(agent: &Agent, task: &PendingSession) -> Result<(RelayClaims, Relay), RelayError> {
    let Agent { client, identity, key, trust, .. } = agent;
    let claims = trust.relay_claims(client, identity, &task.token).await?;
    if claims.sid != task.session_id {
        return Err(RelayError::Session);
    }
    Ok((claims, wire::dial(client, identity, key, &task.relay_url, Entrance::Ticket(&task.token)).await?))
}

/// The way back to a session's bastion.
trait Line {
    type Stream: AsyncRead + AsyncWrite + Unpin + Send;

    /// Asks once for a relay to resume on.
    fn dial(&self) -> impl Future<Output = Result<Wire<Self::Stream>, DialError>> + Send;

    /// How long the bastion waits for the session's agent.
    fn grace(&self) -> Duration;

    /// The session's id, for the log.
    fn session(&self) -> &str;
}

struct Redial<'a> {
    agent: &'a Agent,
    url: &'a str,
    session: &'a str,
}

impl Line for Redial<'_> {
    type Stream = MaybeTlsStream<TcpStream>;

    async fn dial(&self) -> Result<Relay, DialError> {
        let Agent { client, identity, key, .. } = self.agent;
        Box::pin(wire::dial(client, identity, key, self.url, Entrance::Resume)).await
    }

    fn grace(&self) -> Duration {
        self.agent.resume_grace()
    }

    fn session(&self) -> &str {
        self.session
    }
}

/// Drives a session over one relay after the other, until one parts from it for good.
async fn hold<L: Line>(
    held: &mut Session,
    mut wire: Wire<L::Stream>,
    line: &L,
    stop: &CancellationToken,
) -> Parting {
    let mut backoff = Backoff::default();
    let mut standing = None;
    loop {
        let began = Instant::now();
        let parting = held.run(&mut wire, standing, stop).await;
        if !parting.resumes() {
            let (code, reason) = parting.farewell();
            wire.close(code, reason).await;
            return parting;
        }
        tracing::warn!(
            session = line.session(),
            ?parting,
            "the relay is lost; the session waits for the bastion"
        );
        drop(wire);
        let pause = if standing.is_none() || began.elapsed() >= STEADY {
            backoff.reset();
            dice().random_range(Duration::ZERO..=JITTER)
        } else {
            backoff.next(CAP, &mut dice())
        };
        let until = Instant::now() + line.grace() + MARGIN;
        let dialled = held.wait(Box::pin(redial(line, pause, &mut backoff)), until, stop).await;
        match dialled.and_then(|dialled| dialled) {
            Ok((relay, stands)) => (wire, standing) = (relay, Some(stands)),
            Err(parting) => return parting,
        }
        tracing::info!(session = line.session(), "the session resumes");
    }
}

/// Dials until the bastion says where it stands.
///
/// # Errors
/// What it says when the session is over.
async fn redial<L: Line>(
    line: &L,
    mut pause: Duration,
    backoff: &mut Backoff,
) -> Result<(Wire<L::Stream>, Standing), Parting> {
    loop {
        sleep(pause).await;
        match line.dial().await {
            Err(DialError::Refused { status: GONE, .. }) => return Err(Parting::Gone),
            Err(error) => tracing::debug!(session = line.session(), %error, "trying again"),
            Ok(mut wire) => {
                let first = timeout(FIRST_MESSAGE, first_message(&mut wire)).await;
                match first.unwrap_or(Err(Parting::Lost)) {
                    Ok(standing) => return Ok((wire, standing)),
                    Err(parting) if parting.resumes() => {}
                    Err(parting) => {
                        let (code, reason) = parting.farewell();
                        wire.close(code, reason).await;
                        return Err(parting);
                    }
                }
            }
        }
        pause = backoff.next(CAP, &mut dice());
    }
}

/// The bastion speaks first on a relay that resumes.
async fn first_message<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>) -> Result<Standing, Parting> {
    loop {
        return match wire.next().await {
            Incoming::Sent => continue,
            Incoming::Frame(Frame::Control(Control::Resume { have, input })) => Ok(Standing { have, input }),
            Incoming::Frame(_) | Incoming::Broken(_) => Err(Parting::Broken),
            Incoming::Closed(Some(code)) => Err(Parting::Closed(code)),
            Incoming::Closed(None) => Err(Parting::Lost),
        };
    }
}

#[cfg(all(test, unix))]
#[path = "relay_tests.rs"]
mod tests;
