//! One terminal session as a pure machine: what happened goes in, what must be done comes out. It keeps the
//! offsets, the credit and the deadlines, and knows no socket, no file and no clock.
//!
//! Two ends come and go: a browser (the one that types; watchers read the recording and are not known here) and
//! the agent's relay. Each socket has a number, so that what an old one still says is not taken for the new one's.

use std::time::Duration;

use bytes::Bytes;
use openapi::frames::{Control, Frame, MAX_SCREEN_PART, close};

use super::{
    outbox::Close,
    reason::{Exit, Reason},
};

mod browser;
mod deadlines;
mod input;
mod relay;
mod typed;

use browser::Browser;
pub use deadlines::FAREWELL;
use input::Input;
use relay::Relay;

/// What the session must keep to, and its size when it began.
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
    /// What is typed is recorded too.
    pub records_input: bool,
    /// Without a key typed for this long it ends.
    pub idle_timeout: Option<Duration>,
    /// It ends this long after it was opened.
    pub max_duration: Option<Duration>,
    /// How long the shell lives on without a browser.
    pub detach_grace: Duration,
    /// How long a session waits for its agent to come back.
    pub resume_grace: Duration,
}

/// A screen as it stands at an output offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Screen {
    /// In the output stream.
    pub offset: u64,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// What redraws it.
    pub bytes: Bytes,
}

/// How far a recording has come, in bytes of either stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// Of output.
    pub output: u64,
    /// Of input, where it is recorded.
    pub input: u64,
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A browser's socket is here, in place of the one before.
    BrowserHere {
        /// Its number.
        socket: u32,
        /// It can neither come back nor be redrawn: its going ends the session.
        plain: bool,
        /// Its ruling lets it look only.
        read_only: bool,
    },
    /// The browser sent a frame.
    Browser(u32, Frame),
    /// The browser's socket is gone, with a fault of its own if it broke the protocol.
    BrowserGone(u32, Option<Close>),
    /// The agent's socket is here, in place of the one before.
    RelayHere {
        /// Its number.
        socket: u32,
        /// It goes on with a shell that runs.
        resumes: bool,
    },
    /// The agent sent a frame.
    Relay(u32, Frame),
    /// The agent's socket is gone, with a fault of its own if it broke the protocol.
    RelayGone(u32, Option<Close>),
    /// The screen that [`Action::Draw`] asked for.
    Drawn(u32, Screen),
    /// What [`Action::Replay`] asked for is not to be had: the browser needs a screen.
    NoReplay(u32),
    /// So many watch now.
    Peers(u32),
    /// Something worth finding in the recording.
    Mark(String),
    /// Somebody wants it to end.
    End(Reason),
    /// The bastion stops: another start of it goes on with the session.
    HandOver,
    /// Time went by.
    Tick,
}

/// Where a session stands, as its row says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Waits for its agent's first coming.
    Connecting,
    /// Both ends are there.
    Active,
    /// No browser.
    Detached,
    /// No agent.
    Resuming,
}

impl Status {
    /// As stored and published.
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Connecting => "connecting",
            Status::Active => "active",
            Status::Detached => "detached",
            Status::Resuming => "resuming",
        }
    }
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
    /// Record input that the host has taken, and its terminal shown.
    RecordInput {
        /// Of its first byte.
        offset: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// Record that the host has taken input, and not what.
    RecordMasked {
        /// Of the first byte after it.
        end: u64,
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
    /// Record that output is lost for good.
    RecordGap {
        /// How many bytes.
        lost: u64,
    },
    /// Record a marker.
    Mark(String),
    /// Send to the browser.
    ToBrowser(Frame),
    /// Send the browser what was recorded of the output between two offsets; if that is not to be had, say
    /// [`Event::NoReplay`] and send it no output that was decided on before.
    Replay {
        /// The browser's number.
        socket: u32,
        /// What it has.
        from: u64,
        /// What it will have.
        to: u64,
    },
    /// Draw the screen as it is recorded, then say [`Event::Drawn`].
    Draw(u32),
    /// Close the browser's socket; the session lives on.
    DropBrowser(Close),
    /// Send to the agent.
    ToRelay(Frame),
    /// Close the agent's socket; the session lives on.
    DropRelay(Close),
    /// The shell is ending: the browser no longer holds the agent back.
    BrowserEnding,
    /// Write where the session stands.
    Tell(Status),
    /// Close both sockets and leave recording and row as they are, for the next start to go on with.
    HandOver,
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
    /// No shell yet.
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
    /// Of the present event.
    now: Duration,
    phase: Phase,
    told: Status,
    browser: Option<Browser>,
    /// Since when there is no browser.
    detached_since: Duration,
    relay: Relay,
    /// The terminal's present size.
    size: (u16, u16),
    /// A size the browser asked for before the agent was there.
    wanted_size: Option<(u16, u16)>,
    /// Output bytes taken from the agent; the recorder has them all before anything is acknowledged.
    output: u64,
    /// Up to where output was lost: nothing before can be replayed over it.
    lost_up_to: u64,
    /// Output bytes acknowledged to the agent.
    relay_acked: u64,
    input: Input,
    peers: u32,
    /// When the shell said that it is ending.
    exiting_since: Duration,
    /// When it last printed since, or its agent last came back.
    printed_last: Duration,
    last_key: Duration,
    warned: bool,
}

impl Machine {
    /// A session that has just been opened, and waits for its browser's socket and its agent.
    pub fn new(terms: Terms) -> Self {
        Self {
            now: Duration::ZERO,
            phase: Phase::Connecting,
            told: Status::Connecting,
            browser: None,
            detached_since: Duration::ZERO,
            relay: Relay::Awaited,
            size: (terms.cols, terms.rows),
            wanted_size: None,
            output: 0,
            lost_up_to: 0,
            relay_acked: 0,
            input: Input::new(terms.records_input),
            peers: 0,
            exiting_since: Duration::ZERO,
            printed_last: Duration::ZERO,
            last_key: Duration::ZERO,
            warned: false,
            terms,
        }
    }

    /// A session that an earlier start of the bastion left at `now`: so much is recorded, both its ends are gone.
    /// What was typed before is the agent's to say.
    pub fn resumed(terms: Terms, size: (u16, u16), recorded: Recorded, now: Duration) -> Self {
        let Recorded { output, input } = recorded;
        Self {
            now,
            phase: Phase::Active,
            told: Status::Resuming,
            detached_since: now,
            relay: Relay::Gone { since: now },
            size,
            output,
            relay_acked: output,
            input: Input::unknown(terms.records_input.then_some(input)),
            last_key: now,
            ..Self::new(terms)
        }
    }

    /// Whether the session has ended, here at least.
    pub fn is_over(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Takes an event at `now`.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.phase == Phase::Over {
            return actions;
        }
        self.now = now;
        match event {
            Event::BrowserHere { socket, plain, read_only } => {
                self.take_browser(socket, plain, read_only, &mut actions);
            }
            Event::Browser(socket, frame) if self.is_browser(socket) => {
                self.on_browser(frame, &mut actions);
            }
            Event::BrowserGone(socket, fault) if self.is_browser(socket) => {
                self.on_browser_gone(fault, &mut actions);
            }
            Event::RelayHere { socket, resumes } => self.take_relay(socket, resumes, &mut actions),
            Event::Relay(socket, frame) if self.is_relay(socket) => self.on_relay(frame, &mut actions),
            Event::RelayGone(socket, fault) if self.is_relay(socket) => {
                self.on_relay_gone(fault, &mut actions);
            }
            Event::Drawn(socket, screen) if self.is_browser(socket) => self.on_drawn(screen, &mut actions),
            Event::NoReplay(socket) if self.is_browser(socket) => self.draw(&mut actions),
            // An old socket's last words.
            Event::Browser(..)
            | Event::BrowserGone(..)
            | Event::Relay(..)
            | Event::RelayGone(..)
            | Event::Drawn(..)
            | Event::NoReplay(_) => {}
            Event::Peers(count) => self.on_peers(count, &mut actions),
            Event::Mark(label) => self.mark(&label, &mut actions),
            Event::End(reason) => self.finish(reason, None, &mut actions),
            Event::HandOver => self.on_hand_over(&mut actions),
            Event::Tick => self.on_tick(&mut actions),
        }
        self.tell(&mut actions);
        actions
    }

    /// The recorder failed: the end, even if there was one already.
    pub fn recorder_failed(&mut self) -> Action {
        self.phase = Phase::Over;
        let reason = Reason::RecordingFailed;
        Action::Finish { reason, exit: None, browser: reason.close(), relay: reason.close() }
    }

    /// Where the session stands.
    fn status(&self) -> Status {
        match (self.phase, &self.relay, &self.browser) {
            (Phase::Connecting, ..) => Status::Connecting,
            (_, Relay::Gone { .. }, _) => Status::Resuming,
            (_, _, None) => Status::Detached,
            _ => Status::Active,
        }
    }

    fn tell(&mut self, actions: &mut Vec<Action>) {
        let status = self.status();
        if self.phase != Phase::Over && status != self.told {
            self.told = status;
            actions.push(Action::Tell(status));
        }
    }

    /// Markers have their place in a recording, so there is none before it begins.
    fn mark(&self, label: &str, actions: &mut Vec<Action>) {
        if self.phase != Phase::Connecting {
            actions.push(Action::Mark(label.to_owned()));
        }
    }

    /// A session without a recording has nothing to go on with.
    fn on_hand_over(&mut self, actions: &mut Vec<Action>) {
        if self.phase == Phase::Connecting {
            return self.finish(Reason::Error, None, actions);
        }
        // Nobody could come back to it.
        if self.browser.as_ref().is_some_and(Browser::is_plain) {
            return self.finish(Reason::Closed, None, actions);
        }
        self.phase = Phase::Over;
        actions.push(Action::HandOver);
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

/// How both ends are told that the bastion restarts.
pub fn restarting() -> Close {
    Close::new(close::RESTART, "The bastion is restarting.")
}

/// A screen as its frames; one at least, so that the terminal is cleared.
pub fn redrawn(offset: u64, mut bytes: Bytes) -> impl Iterator<Item = Frame> {
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let part = bytes.split_to(bytes.len().min(MAX_SCREEN_PART));
        done = bytes.is_empty();
        Some(Frame::Screen { offset, last: done, bytes: part })
    })
}

fn control(control: Control) -> Frame {
    Frame::Control(control)
}

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
