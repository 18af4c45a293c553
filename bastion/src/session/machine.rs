//! One terminal session as a pure machine: what happened goes in, what must be done comes out. It keeps the
//! offsets, the credit and the deadlines, and knows no socket, no file and no clock.

use std::time::Duration;

use bytes::Bytes;
use openapi::{
    agents::clean,
    frames::{Control, Frame, INPUT_WINDOW, OUTPUT_WINDOW, close},
};

use super::outbox::Close;

/// How long a session waits for its agent.
const AGENT_WITHIN: Duration = Duration::from_secs(20);
/// How long before a deadline the user is warned.
const WARNING: Duration = Duration::from_secs(60);
/// How long a shell that is ending may take to say how.
const EXIT_WITHIN: Duration = Duration::from_secs(15);
/// The longest name of a signal that is kept, in characters.
const SIGNAL_MAX: usize = 32;
/// How long a browser has for the rest, once the shell is ending.
pub const FAREWELL: Duration = Duration::from_secs(10);

/// Why a session ended: the contract's `end_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The shell exited.
    Exit,
    /// Its user closed it.
    Closed,
    /// No key was typed for too long.
    Idle,
    /// It lived as long as it may.
    MaxTime,
    /// An admin ended it.
    EndedByAdmin,
    /// Its user may no longer have it.
    Policy,
    /// The agent's socket went.
    HostGone,
    /// The agent never came.
    NoAgent,
    /// The recorder failed.
    RecordingFailed,
    /// Somebody broke the protocol, or the bastion failed.
    Error,
}

impl Reason {
    /// As stored and published.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Exit => "exit",
            Reason::Closed => "closed",
            Reason::Idle => "idle",
            Reason::MaxTime => "max_time",
            Reason::EndedByAdmin => "ended_by_admin",
            Reason::Policy => "policy",
            Reason::HostGone => "host_gone",
            Reason::NoAgent => "no_agent",
            Reason::RecordingFailed => "recording_failed",
            Reason::Error => "error",
        }
    }

    /// The status the session's row ends with.
    pub fn status(self) -> &'static str {
        match self {
            Reason::Exit
            | Reason::Closed
            | Reason::Idle
            | Reason::MaxTime
            | Reason::EndedByAdmin
            | Reason::Policy => "closed",
            Reason::HostGone | Reason::NoAgent | Reason::RecordingFailed | Reason::Error => "error",
        }
    }

    fn close(self) -> Close {
        let (code, sentence) = match self {
            Reason::Exit => (close::EXIT, "The shell has ended."),
            Reason::Closed => (close::EXIT, "You closed this session."),
            Reason::Idle => (close::TIMEOUT, "No key was typed for too long."),
            Reason::MaxTime => (close::TIMEOUT, "The session has lived as long as it may."),
            Reason::EndedByAdmin => (close::ENDED_BY_ADMIN, "An administrator ended this session."),
            Reason::Policy => (close::POLICY, "You may no longer use this host."),
            Reason::HostGone => (close::HOST_GONE, "The connection to the host is gone."),
            Reason::NoAgent => (close::HOST_GONE, "The host did not answer in time."),
            Reason::RecordingFailed => (close::RECORDING_FAILED, "The session can no longer be recorded."),
            Reason::Error => (close::FAULT, "Something went wrong; the session had to end."),
        };
        Close::new(code, sentence)
    }
}

/// How a shell ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exit {
    /// Exit status.
    pub code: Option<i32>,
    /// As in `SIGHUP`.
    pub signal: Option<String>,
}

/// What the session must keep to, and its first size.
#[derive(Clone, Debug)]
pub struct Terms {
    /// The session's id.
    pub id: String,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// No input is passed on.
    pub read_only: bool,
    /// Without a key typed for this long it ends.
    pub idle_timeout: Option<Duration>,
    /// It ends this long after it began.
    pub max_duration: Option<Duration>,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// The browser sent a frame.
    Browser(Frame),
    /// The browser's socket is gone, with a fault of its own if it broke the protocol.
    BrowserGone(Option<Close>),
    /// The agent sent a frame.
    Relay(Frame),
    /// The agent's socket is gone, with a fault of its own if it broke the protocol.
    RelayGone(Option<Close>),
    /// Somebody wants it to end.
    End(Reason),
    /// Time went by.
    Tick,
}

/// What must be done, in this order. A record must be taken before anything after it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Begin the recording: the shell is here.
    Begin,
    /// Record output.
    RecordOutput {
        /// Of its first byte.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Record a size.
    RecordSize {
        /// Output offset.
        offset: u64,
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// Send to the browser.
    ToBrowser(Frame),
    /// Send to the agent.
    ToRelay(Frame),
    /// The shell is ending: the browser no longer holds the agent back.
    BrowserEnding,
    /// The end: finish the recording, then close both sockets, each with its word.
    Finish {
        /// Why.
        reason: Reason,
        /// How the shell ended, if it did.
        exit: Option<Exit>,
        /// To the browser.
        browser: Close,
        /// To the agent.
        relay: Close,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// No agent yet.
    Connecting,
    /// The shell runs.
    Active,
    /// The shell has ended; its last output is coming.
    Exiting,
    /// Nothing more.
    Over,
}

/// The machine. Times are since the session was opened.
#[derive(Debug)]
pub struct Machine {
    terms: Terms,
    phase: Phase,
    browser_greeted: bool,
    relay_greeted: bool,
    /// What the browser claimed to have, though nothing was sent yet.
    claimed: u64,
    /// When the shell said that it is ending.
    exiting_since: Duration,
    /// A size the browser asked for before the agent was there.
    wanted_size: Option<(u16, u16)>,
    /// Output bytes taken from the agent; the recorder has them all before anything is acknowledged.
    output: u64,
    /// Output bytes the browser has parsed.
    browser_acked: u64,
    /// Output bytes acknowledged to the agent.
    relay_acked: u64,
    /// Input bytes taken from the browser.
    input: u64,
    /// Input bytes the agent has taken.
    input_acked: u64,
    last_key: Duration,
    warned: bool,
}

impl Machine {
    /// A session that has just been opened.
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            phase: Phase::Connecting,
            browser_greeted: false,
            relay_greeted: false,
            claimed: 0,
            exiting_since: Duration::ZERO,
            wanted_size: None,
            output: 0,
            browser_acked: 0,
            relay_acked: 0,
            input: 0,
            input_acked: 0,
            last_key: Duration::ZERO,
            warned: false,
        }
    }

    /// Whether the session has ended.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// When to tick next, at the latest.
    pub fn next_deadline(&self) -> Option<Duration> {
        match self.phase {
            Phase::Connecting => Some(AGENT_WITHIN),
            Phase::Active => {
                let (end, _) = self.end()?;
                let warning = end.saturating_sub(WARNING);
                Some(if self.warned { end } else { warning })
            }
            Phase::Exiting => Some(self.exiting_since + EXIT_WITHIN),
            Phase::Over => None,
        }
    }

    /// Takes an event at `now`.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase != Phase::Over {
            match event {
                Event::Browser(frame) => self.on_browser(frame, now, &mut actions),
                Event::BrowserGone(fault) => self.on_browser_gone(fault, &mut actions),
                Event::Relay(frame) => self.on_relay(frame, now, &mut actions),
                Event::RelayGone(fault) => self.on_relay_gone(fault, &mut actions),
                Event::End(reason) => self.finish(reason, None, &mut actions),
                Event::Tick => self.on_tick(now, &mut actions),
            }
        }
        actions
    }

    /// The recorder failed: the end, even if there was one already.
    pub fn recorder_failed(&mut self) -> Action {
        self.phase = Phase::Over;
        let reason = Reason::RecordingFailed;
        Action::Finish { reason, exit: None, browser: reason.close(), relay: reason.close() }
    }

    fn on_browser(&mut self, frame: Frame, now: Duration, actions: &mut Vec<Action>) {
        match frame {
            Frame::Control(Control::Hello { have }) if !self.browser_greeted => {
                self.greet_browser(have, actions);
            }
            Frame::Control(control) => {
                if matches!(control, Control::Hello { .. }) || !self.browser_greeted {
                    self.browser_broke("hello comes first, and once", actions);
                }
            }
            _ if !self.browser_greeted => self.browser_broke("the first message must be hello", actions),
            Frame::Data { offset, bytes } => self.on_input(offset, bytes, now, actions),
            Frame::Ack(taken) => self.on_browser_ack(taken, actions),
            Frame::Resize { cols, rows } => {
                if self.relay_greeted {
                    actions.push(Action::ToRelay(Frame::Resize { cols, rows }));
                } else {
                    self.wanted_size = Some((cols, rows));
                }
            }
            Frame::Resized { .. } | Frame::Echo { .. } | Frame::Screen { .. } => {
                self.browser_broke("a frame of the other direction", actions);
            }
        }
    }

    fn greet_browser(&mut self, have: u64, actions: &mut Vec<Action>) {
        self.browser_greeted = true;
        self.claimed = have;
        self.say_ready(actions);
    }

    /// Both ends are there: input may come.
    fn say_ready(&mut self, actions: &mut Vec<Action>) {
        if self.browser_greeted && self.relay_greeted {
            actions.push(Action::ToBrowser(Frame::Control(Control::Ready {
                session_id: self.terms.id.clone(),
                cols: self.terms.cols,
                rows: self.terms.rows,
                input: self.input_acked,
            })));
            if self.claimed > 0 {
                // It claims what never was: its screen starts over.
                let screen = Frame::Screen { offset: 0, last: true, bytes: Bytes::new() };
                actions.push(Action::ToBrowser(screen));
            }
        }
    }

    fn on_input(&mut self, offset: u64, bytes: Bytes, now: Duration, actions: &mut Vec<Action>) {
        if !self.relay_greeted {
            return self.browser_broke("input before ready", actions);
        }
        if offset != self.input {
            return self.browser_broke("input must continue its stream exactly", actions);
        }
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        if end - self.input_acked > INPUT_WINDOW {
            return self.browser_broke("more input than the window allows", actions);
        }
        self.input = end;
        self.last_key = now;
        // A warning stands unless the key has put the end off.
        self.warned &= self.end().is_some_and(|(end, _)| end <= now + WARNING);
        if self.terms.read_only || self.phase == Phase::Exiting {
            self.input_acked = end;
            actions.push(Action::ToBrowser(Frame::Ack(end)));
        } else {
            actions.push(Action::ToRelay(Frame::Data { offset, bytes }));
        }
    }

    fn on_browser_ack(&mut self, taken: u64, actions: &mut Vec<Action>) {
        if taken > self.output {
            return self.browser_broke("acknowledged more than was sent", actions);
        }
        self.browser_acked = self.browser_acked.max(taken);
        self.acknowledge(actions);
    }

    fn on_relay(&mut self, frame: Frame, now: Duration, actions: &mut Vec<Action>) {
        if !self.relay_greeted {
            return match frame {
                Frame::Control(Control::Hello { have: 0 }) => self.greet_relay(now, actions),
                _ => self.relay_broke("the first message must be hello with have 0", actions),
            };
        }
        match frame {
            Frame::Data { offset, bytes } => self.on_output(offset, bytes, actions),
            Frame::Ack(taken) => self.on_relay_ack(taken, actions),
            Frame::Resized { offset, cols, rows } => {
                if offset != self.output {
                    return self.relay_broke("a size must stand where the output is", actions);
                }
                actions.push(Action::RecordSize { offset, cols, rows });
                actions.push(Action::ToBrowser(Frame::Resized { offset, cols, rows }));
            }
            Frame::Control(Control::Exiting) if self.phase == Phase::Active => {
                self.phase = Phase::Exiting;
                self.exiting_since = now;
                actions.push(Action::BrowserEnding);
                self.acknowledge(actions);
            }
            Frame::Control(Control::Exit { code, signal }) => {
                // An agent's word is hostile text.
                let signal = signal.map(|signal| clean(&signal, SIGNAL_MAX));
                self.finish(Reason::Exit, Some(Exit { code, signal }), actions);
            }
            Frame::Control(Control::Hello { .. }) => self.relay_broke("a second hello", actions),
            // Echo matters to recorded input only, and this session records none.
            Frame::Control(_) | Frame::Echo { .. } => {}
            Frame::Resize { .. } | Frame::Screen { .. } => {
                self.relay_broke("a frame of the other direction", actions);
            }
        }
    }

    fn greet_relay(&mut self, now: Duration, actions: &mut Vec<Action>) {
        self.relay_greeted = true;
        self.phase = Phase::Active;
        self.last_key = now;
        actions.push(Action::Begin);
        if let Some((cols, rows)) = self.wanted_size.take() {
            actions.push(Action::ToRelay(Frame::Resize { cols, rows }));
        }
        self.say_ready(actions);
    }

    fn on_output(&mut self, offset: u64, bytes: Bytes, actions: &mut Vec<Action>) {
        if offset != self.output {
            return self.relay_broke("output must continue its stream exactly", actions);
        }
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        if end - self.relay_acked > OUTPUT_WINDOW {
            return self.relay_broke("more output than the window allows", actions);
        }
        self.output = end;
        actions.push(Action::RecordOutput { offset, bytes: bytes.clone() });
        actions.push(Action::ToBrowser(Frame::Data { offset, bytes }));
        self.acknowledge(actions);
    }

    fn on_relay_ack(&mut self, taken: u64, actions: &mut Vec<Action>) {
        if taken > self.input {
            return self.relay_broke("acknowledged more input than there was", actions);
        }
        if taken > self.input_acked {
            self.input_acked = taken;
            actions.push(Action::ToBrowser(Frame::Ack(taken)));
        }
    }

    /// Acknowledges to the agent what the recorder has and, while the shell runs, the browser too.
    /// INVARIANT: pushed after the record it speaks of; never less than before.
    fn acknowledge(&mut self, actions: &mut Vec<Action>) {
        let taken = if self.phase == Phase::Exiting { self.output } else { self.browser_acked };
        if taken > self.relay_acked {
            self.relay_acked = taken;
            actions.push(Action::ToRelay(Frame::Ack(taken)));
        }
    }

    fn on_browser_gone(&mut self, fault: Option<Close>, actions: &mut Vec<Action>) {
        match fault {
            Some(close) => self.finish_with(Reason::Error, None, close, None, actions),
            // The recording still gets the rest, and the exit.
            None if self.phase == Phase::Exiting => {}
            None => self.finish(Reason::Closed, None, actions),
        }
    }

    fn on_relay_gone(&mut self, fault: Option<Close>, actions: &mut Vec<Action>) {
        match fault {
            Some(close) => {
                let browser = Close::new(close::FAULT, "The host's agent broke the protocol.");
                self.finish_with(Reason::Error, None, browser, Some(close), actions);
            }
            None => self.finish(Reason::HostGone, None, actions),
        }
    }

    fn browser_broke(&mut self, what: &str, actions: &mut Vec<Action>) {
        self.on_browser_gone(Some(Close::new(close::PROTOCOL, what)), actions);
    }

    fn relay_broke(&mut self, what: &str, actions: &mut Vec<Action>) {
        self.on_relay_gone(Some(Close::new(close::PROTOCOL, what)), actions);
    }

    fn on_tick(&mut self, now: Duration, actions: &mut Vec<Action>) {
        match self.phase {
            Phase::Connecting if now >= AGENT_WITHIN => self.finish(Reason::NoAgent, None, actions),
            Phase::Active => {
                let Some((end, reason)) = self.end() else { return };
                if now >= end {
                    self.finish(reason, None, actions);
                } else if !self.warned && now + WARNING >= end {
                    self.warned = true;
                    let in_seconds = (end - now).as_secs();
                    let reason = reason.as_str().to_owned();
                    let warning = Control::Closing { reason, in_seconds };
                    actions.push(Action::ToBrowser(Frame::Control(warning)));
                }
            }
            Phase::Exiting if now >= self.exiting_since + EXIT_WITHIN => {
                self.finish(Reason::Error, None, actions);
            }
            Phase::Connecting | Phase::Exiting | Phase::Over => {}
        }
    }

    /// The earliest deadline of the terms.
    fn end(&self) -> Option<(Duration, Reason)> {
        let idle = self.terms.idle_timeout.map(|idle| (self.last_key + idle, Reason::Idle));
        let longest = self.terms.max_duration.map(|longest| (longest, Reason::MaxTime));
        match (idle, longest) {
            (Some(idle), Some(longest)) => Some(if idle.0 < longest.0 { idle } else { longest }),
            (idle, longest) => idle.or(longest),
        }
    }

    fn finish(&mut self, reason: Reason, exit: Option<Exit>, actions: &mut Vec<Action>) {
        self.finish_with(reason, exit, reason.close(), None, actions);
    }

    fn finish_with(
        &mut self,
        reason: Reason,
        exit: Option<Exit>,
        browser: Close,
        relay: Option<Close>,
        actions: &mut Vec<Action>,
    ) {
        self.phase = Phase::Over;
        // To the agent every one of these means: end the shell.
        let relay = relay.unwrap_or_else(|| reason.close());
        actions.push(Action::Finish { reason, exit, browser, relay });
    }
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
