//! A session: its shell, its streams and its end, on one socket after the other, and on none in between.
//!
//! It knows sockets only as [`Wire`]s that come and go; `relay` dials them.

use std::{io, time::Duration};

use openapi::frames::{Control, Frame, MAX_DATA};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use crate::{
    echo::Echo,
    parting::Parting,
    platform, processes,
    shell::{Echoing, Exit, Process, Terminal},
    stream::{Input, Output, StreamError},
    wire::{Incoming, Wire},
};

/// Silence after which an ended shell's terminal is done.
const DRAIN_SILENCE: Duration = Duration::from_millis(500);
/// How long an ended shell's terminal is read at most.
const DRAIN: Duration = Duration::from_secs(5);
/// How long the bastion may take to close after the exit.
const CLOSING: Duration = Duration::from_secs(60);
/// How long a stopped session's shell may take to end by itself and tell how.
const STOPPING: Duration = processes::GRACE;

/// Where the bastion stands when a session resumes: its `resume` message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Complete output bytes it has.
    pub have: u64,
    /// Input bytes it holds acknowledged.
    pub input: u64,
}

/// Where the shell stands.
#[derive(Debug)]
enum Phase {
    /// It runs.
    Running,
    /// It ended; its last output is read until the earlier of the two, not counting the time since `stalled`.
    Draining { exit: Exit, silent_at: Instant, until: Instant, stalled: Option<Instant> },
    /// All is read; once the present socket has been told of the exit, the bastion closes until then.
    Told { until: Option<Instant> },
}

/// What happened; one at a time.
enum Event {
    Wire(Incoming),
    Wrote(io::Result<(usize, Echoing)>),
    Read(io::Result<usize>),
    Exited(io::Result<Exit>),
    Stop,
    Deadline,
}

/// A session; it outlives its sockets.
pub struct Session {
    terminal: Terminal,
    process: Process,
    output: Output,
    input: Input,
    // What the terminal does with input is looked at for a bastion that records it.
    echo: Option<Echo>,
    // Everything that had the terminal open has closed it.
    closed: bool,
    phase: Phase,
    scratch: Vec<u8>,
    stopping: Option<Instant>,
}

impl Session {
    /// A session whose shell has just begun; `records_input`: its bastion wants to know when the terminal echoes.
    #[must_use]
    pub fn new(terminal: Terminal, process: Process, records_input: bool) -> Self {
        Self {
            terminal,
            process,
            output: Output::default(),
            input: Input::default(),
            echo: records_input.then(Echo::default),
            closed: false,
            phase: Phase::Running,
            scratch: vec![0; MAX_DATA],
            stopping: None,
        }
    }

    /// Drives the session over one socket until they part; the first has no `standing`.
    pub async fn run<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut Wire<S>,
        standing: Option<Standing>,
        stop: &CancellationToken,
    ) -> Parting {
        let parting = match self.greet(wire, standing) {
            Ok(()) => self.converse(wire, stop).await,
            Err(error) => broken(error),
        };
        self.input.drop_waiting();
        if let Phase::Told { until } = &mut self.phase {
            // The next socket has to be told as well.
            *until = None;
        }
        parting
    }

    /// Drives the session without a socket until there is one again: output is read while its window lasts, an exit
    /// is noticed, and nothing is typed.
    ///
    /// # Errors
    /// The session's end: [`Parting::Abandoned`] at `until`.
    pub async fn wait<T>(
        &mut self,
        dialled: impl Future<Output = T>,
        until: Instant,
        stop: &CancellationToken,
    ) -> Result<T, Parting> {
        tokio::pin!(dialled);
        loop {
            let reads = self.reads();
            self.pace_drain(reads);
            let deadline = self.deadline(until);
            let event = tokio::select! {
                biased;
                () = stop.cancelled(), if self.stopping.is_none() => Event::Stop,
                wire = &mut dialled => return Ok(wire),
                event = self.host(reads, false) => event,
                () = sleep_until(deadline) => Event::Deadline,
            };
            if Instant::now() >= until {
                return Err(Parting::Abandoned);
            }
            self.on(event)?;
            if self.stopping.is_some() && matches!(self.phase, Phase::Told { .. }) {
                // Its shell has ended, and there is nobody to tell.
                return Err(Parting::Over);
            }
        }
    }

    /// Ends the shell and, unless they are to be kept, all processes of the session.
    pub async fn end(&mut self, keep_processes: bool, grace: Duration) {
        if keep_processes {
            self.process.hang_up(&self.terminal);
        } else {
            self.process.end(&self.terminal, grace).await;
        }
    }

    /// The first messages on a socket. What follows is said in order by [`Session::converse`].
    fn greet<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut Wire<S>,
        standing: Option<Standing>,
    ) -> Result<(), StreamError> {
        let Some(Standing { have, input }) = standing else {
            wire.urgent(Frame::Control(Control::Hello { have: 0 }));
            return Ok(());
        };
        self.input.resume(input)?;
        let next = self.output.resume(have)?;
        wire.urgent(Frame::Control(Control::Hello { have: next }));
        // Before what was taken is acknowledged: the bastion heard nothing on this socket, and takes it for hidden.
        self.echo.iter_mut().flat_map(|echo| echo.since(input)).for_each(|frame| wire.urgent(frame));
        wire.urgent(Frame::Ack(self.input.taken()));
        Ok(())
    }

    async fn converse<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut Wire<S>,
        stop: &CancellationToken,
    ) -> Parting {
        loop {
            self.tell(wire);
            let taken = self.input.taken();
            let event = self.event(wire, stop).await;
            let late = matches!(event, Event::Deadline) && Instant::now() >= wire.silent_at();
            if let Err(parting) = if late { Err(Parting::Lost) } else { self.on(event) } {
                return parting;
            }
            if self.input.taken() > taken {
                if let Some(frame) = self.echo.as_mut().and_then(Echo::news) {
                    wire.urgent(frame);
                }
                wire.ack(self.input.taken());
            }
        }
    }

    /// Gives the socket what it has not been told yet, as far as it takes it.
    fn tell<S: AsyncRead + AsyncWrite + Unpin>(&mut self, wire: &mut Wire<S>) {
        while wire.takes_output()
            && let Some(frame) = self.output.pull()
        {
            wire.ordered(frame);
        }
        if let Phase::Told { until: until @ None } = &mut self.phase
            && self.output.is_said()
        {
            *until = Some(Instant::now() + CLOSING);
        }
    }

    async fn event<S: AsyncRead + AsyncWrite + Unpin>(
        &mut self,
        wire: &mut Wire<S>,
        stop: &CancellationToken,
    ) -> Event {
        let reads = self.reads() && self.output.is_said() && wire.takes_output();
        self.pace_drain(reads);
        let writes = wire.takes_input() && self.input.next().is_some();
        let deadline = self.deadline(wire.silent_at());
        tokio::select! {
            // In this order, so that neither keys nor acknowledgements wait for output.
            biased;
            () = stop.cancelled(), if self.stopping.is_none() => Event::Stop,
            incoming = wire.next() => Event::Wire(incoming),
            event = self.host(reads, writes) => event,
            () = sleep_until(deadline) => Event::Deadline,
        }
    }

    /// What the host's side does next.
    async fn host(&mut self, reads: bool, writes: bool) -> Event {
        let running = matches!(self.phase, Phase::Running);
        let typed = self.input.next().filter(|_| writes && running);
        let room = if reads { self.output.room() } else { 0 };
        let watched = self.echo.as_ref().map(|_| self.process.id());
        tokio::select! {
            biased;
            wrote = write(&self.terminal, typed.map_or(&[][..], |typed| typed), watched), if typed.is_some() => Event::Wrote(wrote),
            exit = self.process.exit(&self.terminal), if running => Event::Exited(exit),
            read = self.terminal.read(&mut self.scratch[..room]), if room > 0 => Event::Read(read),
            else => std::future::pending().await,
        }
    }

    /// Whether the terminal may have output that there is room for.
    fn reads(&self) -> bool {
        self.output.room() > 0 && !self.closed && !matches!(self.phase, Phase::Told { .. })
    }

    /// What is not read cannot be silent, and while the window is spent it is not the terminal that takes its time.
    fn pace_drain(&mut self, reads: bool) {
        let (now, spent) = (Instant::now(), self.output.room() == 0);
        let Phase::Draining { silent_at, until, stalled, .. } = &mut self.phase else { return };
        if !reads {
            *silent_at = now + DRAIN_SILENCE;
        }
        if spent {
            stalled.get_or_insert(now);
        } else if let Some(since) = stalled.take() {
            *until += now - since;
        }
    }

    /// The earliest moment, `limit` or before, at which something must happen by itself.
    fn deadline(&self, limit: Instant) -> Instant {
        let phase = match &self.phase {
            Phase::Running | Phase::Draining { stalled: Some(_), .. } => limit,
            Phase::Draining { silent_at, until, .. } => (*silent_at).min(*until),
            Phase::Told { until } => until.unwrap_or(limit),
        };
        phase.min(limit).min(self.stopping.unwrap_or(limit))
    }

    fn on(&mut self, event: Event) -> Result<(), Parting> {
        match event {
            Event::Wire(incoming) => return self.on_incoming(incoming),
            Event::Wrote(wrote) => return self.on_wrote(wrote),
            Event::Read(Ok(0)) => self.on_end_of_output(),
            Event::Read(Ok(count)) => self.on_output(count),
            Event::Exited(Ok(exit)) => self.on_exit(exit),
            Event::Read(Err(error)) | Event::Exited(Err(error)) => return Err(fault(&error)),
            Event::Stop => {
                self.stopping = Some(Instant::now() + STOPPING);
                self.process.hang_up(&self.terminal);
            }
            Event::Deadline => return self.on_deadline(),
        }
        Ok(())
    }

    fn on_incoming(&mut self, incoming: Incoming) -> Result<(), Parting> {
        match incoming {
            Incoming::Sent => Ok(()),
            Incoming::Closed(Some(code)) => Err(Parting::Closed(code)),
            Incoming::Closed(None) => Err(Parting::Lost),
            Incoming::Broken(error) => Err(broken(error)),
            Incoming::Frame(Frame::Data { offset, bytes }) => self.input.push(offset, bytes).map_err(broken),
            Incoming::Frame(Frame::Ack(taken)) => self.output.ack(taken).map_err(broken),
            Incoming::Frame(Frame::Resize { cols, rows }) => {
                // A terminal that is gone has no size; its end is on the way.
                if self.terminal.resize(cols, rows).is_ok() {
                    self.output.resize(cols, rows);
                }
                Ok(())
            }
            Incoming::Frame(Frame::Control(_)) => Ok(()),
            Incoming::Frame(Frame::Resized { .. } | Frame::Echo { .. } | Frame::Screen { .. }) => {
                Err(broken("a frame that only an agent or a browser gets"))
            }
        }
    }

    fn on_wrote(&mut self, wrote: io::Result<(usize, Echoing)>) -> Result<(), Parting> {
        let offset = self.input.taken();
        match wrote {
            Ok((count, seen)) => {
                if let (Some(echo), Some(typed)) = (&mut self.echo, self.input.next()) {
                    echo.took(offset, &typed[..count.min(typed.len())], seen);
                }
                self.input.advance(count);
            }
            // Nobody reads any more: the shell's end is on the way, and what was typed has nowhere to go.
            Err(error) if platform::is_hung_up(&error) => {
                if let Some(echo) = &mut self.echo {
                    echo.took(offset, &[], Echoing::Hidden);
                }
                self.input.advance_all();
            }
            Err(error) => return Err(fault(&error)),
        }
        Ok(())
    }

    fn on_output(&mut self, count: usize) {
        self.output.push(&self.scratch[..count]);
        if let Some(echo) = &mut self.echo {
            echo.printed(&self.scratch[..count]);
        }
        if let Phase::Draining { silent_at, .. } = &mut self.phase {
            *silent_at = Instant::now() + DRAIN_SILENCE;
        }
    }

    /// All have closed the terminal: the drain is over, or the shell's exit is a moment away.
    fn on_end_of_output(&mut self) {
        self.closed = true;
        if matches!(self.phase, Phase::Draining { .. }) {
            self.say_exit();
        }
    }

    fn on_exit(&mut self, exit: Exit) {
        let now = Instant::now();
        self.output.say(Control::Exiting);
        self.phase =
            Phase::Draining { exit, silent_at: now + DRAIN_SILENCE, until: now + DRAIN, stalled: None };
        if self.closed {
            self.say_exit();
        }
    }

    fn say_exit(&mut self) {
        if let Phase::Draining { exit, .. } = std::mem::replace(&mut self.phase, Phase::Told { until: None })
        {
            self.output.say(Control::Exit { code: exit.code, signal: exit.signal });
        }
    }

    fn on_deadline(&mut self) -> Result<(), Parting> {
        let now = Instant::now();
        if self.stopping.is_some_and(|until| now >= until) {
            return Err(Parting::Over);
        }
        match &self.phase {
            Phase::Draining { silent_at, until, stalled: None, .. } if now >= (*silent_at).min(*until) => {
                self.say_exit();
            }
            Phase::Told { until: Some(until) } if now >= *until => return Err(Parting::Over),
            Phase::Running | Phase::Draining { .. } | Phase::Told { .. } => {}
        }
        Ok(())
    }
}

/// Gives the terminal input, and looks what it does with it if somebody wants to know.
async fn write(terminal: &Terminal, bytes: &[u8], watched: Option<u32>) -> io::Result<(usize, Echoing)> {
    match watched {
        Some(shell) => terminal.write_watched(bytes, shell).await,
        None => Ok((terminal.write(bytes).await?, Echoing::Hidden)),
    }
}

fn broken(error: impl std::fmt::Display) -> Parting {
    tracing::warn!(%error, "the bastion broke the protocol");
    Parting::Broken
}

fn fault(error: &io::Error) -> Parting {
    tracing::warn!(%error, "the terminal failed");
    Parting::Fault
}

#[cfg(all(test, unix))]
#[path = "session_tests.rs"]
mod tests;
