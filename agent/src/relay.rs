//! One session: its shell on one side, its relay on the other, and how both end.
//!
//! [`Session`] holds what outlives a socket (streams, shell, exit), [`Session::run`] drives it over one socket.

use std::time::Duration;

use bytes::Bytes;
use openapi::{
    agents::PendingSession,
    frames::{Control, Frame, MAX_DATA, close},
    ticket::RelayClaims,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};

use crate::{
    Agent, processes,
    shell::{self, Exit, Process, Request, Terminal},
    stream::{Input, Output, StreamError},
    tasks::Seat,
    trust::TrustError,
    wire::{self, DialError, Incoming, Relay, Wire},
};

/// Silence after which an ended shell's terminal is done.
const DRAIN_SILENCE: Duration = Duration::from_millis(500);
/// How long an ended shell's terminal is read at most.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the bastion may take to close after the exit.
const CLOSING: Duration = Duration::from_secs(60);
/// How long a stopped session's shell may take to end by itself and tell how.
const STOPPING: Duration = processes::GRACE;

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

/// How a session and its socket parted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parting {
    /// The bastion closed with this code.
    Closed(u16),
    /// The socket is gone, or silent for too long.
    Lost,
    /// The bastion broke the protocol.
    Broken,
    /// The terminal failed.
    Fault,
    /// The agent stops, or the bastion took too long to close.
    Over,
}

/// Checks a task's token, dials, runs the shell, and leaves nothing of it behind.
///
/// # Errors
/// [`RelayError`], before there is a shell.
pub(crate) async fn serve(agent: &Agent, task: &PendingSession, seat: &Seat) -> Result<(), RelayError> {
    // Boxed, since the handshake's state is large and a session is long.
    let dialling = Box::pin(dial(agent, task));
    let Some(dialled) = seat.stop().run_until_cancelled(dialling).await else { return Ok(()) };
    let (claims, mut wire) = dialled?;
    seat.start();
    let request = Request {
        session_id: claims.sid,
        run_as: claims.run_as,
        command: claims.command,
        cols: claims.cols.clamp(1, openapi::frames::MAX_SIDE),
        rows: claims.rows.clamp(1, openapi::frames::MAX_SIDE),
    };
    let (terminal, process) = shell::open(agent.shell, &agent.allowed, &request).unwrap_or_else(|error| {
        tracing::warn!(session = request.session_id, %error, "no shell");
        shell::refusal(&error.to_string())
    });
    tracing::info!(
        session = request.session_id,
        user = openapi::agents::clean(&claims.user, 64),
        "session begins"
    );
    let mut session = Session::new(terminal, process);
    let parting = session.run(&mut wire, seat).await;
    tracing::info!(session = request.session_id, ?parting, "session ends");
    let (code, reason) = parting.farewell();
    wire.close(code, reason).await;
    // Without resume every parting ends the shell.
    if agent.kill_on_end {
        // Who was told to stop has had the time.
        let grace = if parting == Parting::Over { Duration::ZERO } else { processes::GRACE };
        session.process.end(grace).await;
    } else {
        session.process.hang_up(&session.terminal);
    }
    Ok(())
}

/// Checks that the task is the bastion's and for this agent, and opens its relay.
async fn dial(agent: &Agent, task: &PendingSession) -> Result<(RelayClaims, Relay), RelayError> {
    let Agent { client, identity, key, trust, .. } = agent;
    let claims = trust.relay_claims(client, identity, &task.token).await?;
    if claims.sid != task.session_id {
        return Err(RelayError::Session);
    }
    Ok((claims, wire::dial(client, identity, key, &task.relay_url, &task.token).await?))
}

impl Parting {
    fn farewell(self) -> (u16, &'static str) {
        match self {
            Self::Closed(_) | Self::Lost | Self::Over => (close::EXIT, "the session is over"),
            Self::Broken => (close::PROTOCOL, "the bastion broke the protocol"),
            Self::Fault => (close::FAULT, "the host's terminal failed"),
        }
    }
}

/// Where the shell stands.
#[derive(Debug)]
enum Phase {
    /// It runs.
    Running,
    /// It ended; its last output is read until the earlier of the two.
    Draining { exit: Exit, silent_at: Instant, until: Instant },
    /// The exit is told; the bastion closes.
    Told { until: Instant },
}

/// A session's part that does not depend on its socket.
pub struct Session {
    terminal: Terminal,
    process: Process,
    output: Output,
    input: Input,
    echo: bool,
    // Everything that had the terminal open has closed it.
    closed: bool,
    phase: Phase,
    scratch: Vec<u8>,
    stopping: Option<Instant>,
}

/// What happened; one at a time.
enum Event {
    Wire(Incoming),
    Wrote(std::io::Result<usize>),
    Read(std::io::Result<usize>),
    Exited(std::io::Result<Exit>),
    Stop,
    Deadline,
}

impl Session {
    /// A session whose shell has just begun.
    #[must_use]
    pub fn new(terminal: Terminal, process: Process) -> Self {
        Self {
            terminal,
            process,
            output: Output::default(),
            input: Input::default(),
            // What a terminal does until something is found to be otherwise.
            echo: true,
            closed: false,
            phase: Phase::Running,
            scratch: vec![0; MAX_DATA],
            stopping: None,
        }
    }

    /// Drives the session over one socket until they part.
    async fn run<S: AsyncRead + AsyncWrite + Unpin>(&mut self, wire: &mut Wire<S>, seat: &Seat) -> Parting {
        wire.urgent(Frame::Control(Control::Hello { have: self.output.offset() }));
        loop {
            let event = self.event(wire, seat).await;
            if let Err(parting) = self.on(event, wire) {
                return parting;
            }
        }
    }

    async fn event<S: AsyncRead + AsyncWrite + Unpin>(&mut self, wire: &mut Wire<S>, seat: &Seat) -> Event {
        let room = self.output.room();
        let reads =
            room > 0 && wire.takes_output() && !self.closed && !matches!(self.phase, Phase::Told { .. });
        let typed = self.input.next().cloned().filter(|_| wire.takes_input());
        let running = matches!(self.phase, Phase::Running);
        if let Phase::Draining { silent_at, .. } = &mut self.phase
            && !reads
        {
            // What is not read cannot be silent.
            *silent_at = Instant::now() + DRAIN_SILENCE;
        }
        let deadline = self.deadline(wire.silent_at());
        // What was typed is sampled before it is written: the terminal may change by it.
        if typed.is_some() {
            self.sample_echo(wire);
        }
        tokio::select! {
            // In this order, so that neither keys nor acknowledgements wait for output.
            biased;
            () = seat.stop().cancelled(), if self.stopping.is_none() => Event::Stop,
            incoming = wire.next() => Event::Wire(incoming),
            wrote = self.terminal.write(typed.as_deref().unwrap_or_default()), if typed.is_some() && running => Event::Wrote(wrote),
            exit = self.process.exit(&self.terminal), if running => Event::Exited(exit),
            read = self.terminal.read(&mut self.scratch[..room]), if reads => Event::Read(read),
            () = sleep_until(deadline) => Event::Deadline,
        }
    }

    /// The earliest moment at which something must happen by itself.
    fn deadline(&self, silent_at: Instant) -> Instant {
        let phase = match &self.phase {
            Phase::Running => silent_at,
            Phase::Draining { silent_at, until, .. } => (*silent_at).min(*until),
            Phase::Told { until } => *until,
        };
        phase.min(silent_at).min(self.stopping.unwrap_or(silent_at))
    }

    fn on<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        event: Event,
        wire: &mut Wire<S>,
    ) -> Result<(), Parting> {
        match event {
            Event::Wire(incoming) => self.on_incoming(incoming, wire),
            Event::Wrote(wrote) => self.on_wrote(wrote, wire),
            Event::Read(Ok(0)) => {
                self.on_end_of_output(wire);
                Ok(())
            }
            Event::Read(Ok(count)) => {
                self.on_output(count, wire);
                Ok(())
            }
            Event::Exited(Ok(exit)) => {
                self.on_exit(exit, wire);
                Ok(())
            }
            Event::Read(Err(error)) | Event::Exited(Err(error)) => {
                tracing::warn!(%error, "the terminal failed");
                Err(Parting::Fault)
            }
            Event::Stop => {
                self.stopping = Some(Instant::now() + STOPPING);
                self.process.hang_up(&self.terminal);
                Ok(())
            }
            Event::Deadline => self.on_deadline(wire),
        }
    }

    fn on_incoming<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        incoming: Incoming,
        wire: &mut Wire<S>,
    ) -> Result<(), Parting> {
        let broken = |error: StreamError| {
            tracing::warn!(%error, "the bastion broke the protocol");
            Parting::Broken
        };
        match incoming {
            Incoming::Sent => Ok(()),
            Incoming::Closed(Some(code)) => Err(Parting::Closed(code)),
            Incoming::Closed(None) => Err(Parting::Lost),
            Incoming::Broken(error) => {
                tracing::warn!(%error, "the bastion broke the protocol");
                Err(Parting::Broken)
            }
            Incoming::Frame(Frame::Data { offset, bytes }) => self.input.push(offset, bytes).map_err(broken),
            Incoming::Frame(Frame::Ack(taken)) => self.output.ack(taken).map_err(broken),
            Incoming::Frame(Frame::Resize { cols, rows }) => {
                // A terminal that is gone has no size; its end is on the way.
                if self.terminal.resize(cols, rows).is_ok() {
                    wire.ordered(Frame::Resized { offset: self.output.offset(), cols, rows });
                }
                Ok(())
            }
            Incoming::Frame(Frame::Control(_)) => Ok(()),
            Incoming::Frame(Frame::Resized { .. } | Frame::Echo { .. } | Frame::Screen { .. }) => {
                Err(Parting::Broken)
            }
        }
    }

    fn sample_echo<S: AsyncRead + AsyncWrite + Unpin>(&mut self, wire: &mut Wire<S>) {
        let on = self.terminal.echoes();
        if on != self.echo {
            self.echo = on;
            wire.urgent(Frame::Echo { offset: self.input.taken(), on });
        }
    }

    fn on_wrote<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wrote: std::io::Result<usize>,
        wire: &mut Wire<S>,
    ) -> Result<(), Parting> {
        match wrote {
            Ok(count) => {
                self.input.advance(count);
                wire.ack(self.input.taken());
                Ok(())
            }
            // Nobody reads any more: the shell's end is on the way, and what was typed has nowhere to go.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                while let Some(left) = self.input.next().map(Bytes::len) {
                    self.input.advance(left);
                }
                Ok(())
            }
            Err(error) => {
                tracing::warn!(%error, "the terminal failed");
                Err(Parting::Fault)
            }
        }
    }

    fn on_output<S: AsyncRead + AsyncWrite + Unpin>(&mut self, count: usize, wire: &mut Wire<S>) {
        let bytes = Bytes::copy_from_slice(&self.scratch[..count]);
        let offset = self.output.push(bytes.clone());
        wire.ordered(Frame::Data { offset, bytes });
        if let Phase::Draining { silent_at, .. } = &mut self.phase {
            *silent_at = Instant::now() + DRAIN_SILENCE;
        }
    }

    /// All have closed the terminal: the drain is over, or the shell's exit is a moment away.
    fn on_end_of_output<S: AsyncRead + AsyncWrite + Unpin>(&mut self, wire: &mut Wire<S>) {
        self.closed = true;
        if matches!(self.phase, Phase::Draining { .. }) {
            self.tell_exit(wire);
        }
    }

    fn on_exit<S: AsyncRead + AsyncWrite + Unpin>(&mut self, exit: Exit, wire: &mut Wire<S>) {
        let now = Instant::now();
        wire.ordered(Frame::Control(Control::Exiting));
        self.phase = Phase::Draining { exit, silent_at: now + DRAIN_SILENCE, until: now + DRAIN };
        if self.closed {
            self.tell_exit(wire);
        }
    }

    fn tell_exit<S: AsyncRead + AsyncWrite + Unpin>(&mut self, wire: &mut Wire<S>) {
        let told = Phase::Told { until: Instant::now() + CLOSING };
        if let Phase::Draining { exit, .. } = std::mem::replace(&mut self.phase, told) {
            wire.ordered(Frame::Control(Control::Exit { code: exit.code, signal: exit.signal }));
        }
    }

    fn on_deadline<S: AsyncRead + AsyncWrite + Unpin>(&mut self, wire: &mut Wire<S>) -> Result<(), Parting> {
        let now = Instant::now();
        if now >= wire.silent_at() {
            return Err(Parting::Lost);
        }
        if self.stopping.is_some_and(|until| now >= until) {
            return Err(Parting::Over);
        }
        match &self.phase {
            Phase::Draining { .. } => self.tell_exit(wire),
            Phase::Told { until } if now >= *until => return Err(Parting::Over),
            Phase::Running | Phase::Told { .. } => {}
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
