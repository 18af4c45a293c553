//! The browser's side: it comes, catches up, types, and goes.

use bytes::Bytes;
use openapi::frames::{Control, Frame, close};
use recordings::REPLAY;

use super::{Action, Close, Machine, Phase, Reason, Screen, control, redrawn};

/// How far a browser may fall behind, in bytes. Its credit keeps it far nearer; only an agent that resumes
/// again and again could push it further, and then the browser must start afresh.
const LAG: u64 = REPLAY + (1 << 20);

/// The browser that types.
#[derive(Debug)]
pub(super) struct Browser {
    socket: u32,
    plain: bool,
    stage: Stage,
    /// Output bytes that it said it has: more than there is, perhaps.
    claimed: u64,
    /// Output bytes it has parsed.
    acked: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It has not said hello.
    Silent,
    /// It has, with so many bytes; the agent is not there yet.
    Greeted { have: u64 },
    /// It waits for a screen; output is recorded, and not sent.
    Waiting,
    /// It is sent what comes.
    Live,
}

impl Browser {
    pub(super) fn is_plain(&self) -> bool {
        self.plain
    }
}

impl Machine {
    pub(super) fn is_browser(&self, socket: u32) -> bool {
        self.browser.as_ref().is_some_and(|browser| browser.socket == socket)
    }

    pub(super) fn take_browser(
        &mut self,
        socket: u32,
        plain: bool,
        read_only: bool,
        actions: &mut Vec<Action>,
    ) {
        if self.browser.is_some() {
            let elsewhere = Close::new(close::ELSEWHERE, "This session was opened in another browser.");
            actions.push(Action::DropBrowser(elsewhere));
            self.mark("taken over by another browser", actions);
        } else {
            self.mark("a browser is back", actions);
        }
        // A right that was taken away stays away: the agent's input must have no gap.
        self.terms.read_only |= read_only;
        self.browser = Some(Browser { socket, plain, stage: Stage::Silent, claimed: 0, acked: 0 });
        self.wanted_size = None;
        self.acknowledge(actions);
    }

    pub(super) fn on_browser(&mut self, frame: Frame, actions: &mut Vec<Action>) {
        let Some(browser) = &mut self.browser else { return };
        let greets = matches!(frame, Frame::Control(Control::Hello { .. }));
        if greets != (browser.stage == Stage::Silent) {
            return self.browser_broke("hello comes first, and once", actions);
        }
        match frame {
            Frame::Control(Control::Hello { have }) => {
                (browser.stage, browser.claimed) = (Stage::Greeted { have }, have);
                self.say_ready(actions);
            }
            Frame::Control(_) => {}
            Frame::Data { offset, bytes } => self.on_input(offset, &bytes, actions),
            Frame::Ack(taken) => self.on_browser_ack(taken, actions),
            Frame::Resize { cols, rows } => {
                if self.relay.is_ready() {
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

    /// Both ends are there: the browser hears where things stand, then what it lacks.
    pub(super) fn say_ready(&mut self, actions: &mut Vec<Action>) {
        let Some(browser) = self.browser.as_mut().filter(|_| self.relay.is_ready()) else { return };
        let Stage::Greeted { have } = browser.stage else { return };
        let ((cols, rows), socket) = (self.size, browser.socket);
        actions.push(Action::ToBrowser(control(Control::Ready {
            session_id: self.terms.id.clone(),
            cols,
            rows,
            input: self.input.begin_browser(),
            output: self.output,
        })));
        if self.peers > 0 {
            actions.push(Action::ToBrowser(control(Control::Peers { count: self.peers })));
        }
        if self.phase == Phase::Exiting {
            actions.push(Action::BrowserEnding);
        }
        // Who was away must not miss a warning.
        self.warned = false;
        // One that stands where output was lost may show what is not recorded: it gets what is.
        let after_loss = self.lost_up_to == 0 || have > self.lost_up_to;
        if !(after_loss && have <= self.output && self.output - have <= REPLAY) {
            return self.draw(actions);
        }
        (browser.stage, browser.acked) = (Stage::Live, have);
        if have < self.output {
            if have == 0 {
                // The sizes that follow change this one.
                let (cols, rows) = (self.terms.cols, self.terms.rows);
                actions.push(Action::ToBrowser(Frame::Resized { offset: 0, cols, rows }));
            }
            actions.push(Action::Replay { socket, from: have, to: self.output });
        }
        self.acknowledge(actions);
    }

    /// The browser gets a screen and the stream from there; until then nothing.
    pub(super) fn draw(&mut self, actions: &mut Vec<Action>) {
        if let Some(browser) = &mut self.browser {
            browser.stage = Stage::Waiting;
            // A plain client knows no screens: it goes on with what comes.
            if browser.plain {
                (browser.stage, browser.acked) = (Stage::Live, self.output);
            } else {
                actions.push(Action::Draw(browser.socket));
            }
        }
    }

    pub(super) fn on_drawn(&mut self, screen: Screen, actions: &mut Vec<Action>) {
        let Some(browser) = &mut self.browser else { return };
        if browser.stage != Stage::Waiting || screen.offset > self.output {
            return;
        }
        let Screen { offset, cols, rows, bytes } = screen;
        (browser.stage, browser.acked) = (Stage::Live, offset);
        let socket = browser.socket;
        actions.push(Action::ToBrowser(Frame::Resized { offset, cols, rows }));
        actions.extend(redrawn(offset, bytes).map(Action::ToBrowser));
        actions.push(Action::Replay { socket, from: offset, to: self.output });
        self.acknowledge(actions);
    }

    /// Passes output on, or a size, to a browser that takes it live.
    pub(super) fn show(&mut self, frame: Frame, actions: &mut Vec<Action>) {
        let Some(browser) = self.browser.as_ref().filter(|browser| browser.stage == Stage::Live) else {
            return;
        };
        // While the shell ends nothing waits for the browser: what it does not take is skipped.
        if self.phase == Phase::Active && self.output.saturating_sub(browser.acked) > LAG {
            let behind = Close::new(close::TRY_AGAIN, "This browser fell too far behind; it may come back.");
            actions.push(Action::DropBrowser(behind));
            self.browser = None;
            self.detached_since = self.now;
            return;
        }
        actions.push(Action::ToBrowser(frame));
    }

    /// Sends a message to a browser that knows where things stand.
    pub(super) fn to_browser(&self, frame: Frame, actions: &mut Vec<Action>) {
        let knows = |browser: &&Browser| matches!(browser.stage, Stage::Live | Stage::Waiting);
        if self.browser.as_ref().filter(knows).is_some() {
            actions.push(Action::ToBrowser(frame));
        }
    }

    /// Output bytes that the browser has parsed, or must be waited for; none: nobody is waited for.
    pub(super) fn held_back_at(&self) -> Option<u64> {
        let browser = self.browser.as_ref()?;
        match browser.stage {
            Stage::Silent | Stage::Greeted { .. } => None,
            Stage::Waiting => Some(self.relay_acked),
            Stage::Live => Some(browser.acked),
        }
    }

    fn on_input(&mut self, offset: u64, bytes: &Bytes, actions: &mut Vec<Action>) {
        let Some(browser) = &self.browser else { return };
        if !matches!(browser.stage, Stage::Live | Stage::Waiting) {
            return self.browser_broke("input before ready", actions);
        }
        let meant = !self.terms.read_only && self.phase == Phase::Active;
        if let Err(breach) = self.input.take(offset, bytes, meant) {
            return self.browser_broke(breach.0, actions);
        }
        if bytes.is_empty() {
            return;
        }
        self.on_key();
        if !meant {
            actions.push(Action::ToBrowser(Frame::Ack(self.input.acked())));
        } else {
            self.pass_on(actions);
        }
    }

    fn on_browser_ack(&mut self, taken: u64, actions: &mut Vec<Action>) {
        let Some(browser) = &mut self.browser else { return };
        // One that waits for its screen still counts by what it had.
        if browser.stage != Stage::Live {
            return;
        }
        if taken > self.output {
            // It may have said so before its screen arrived.
            if taken > browser.claimed {
                self.browser_broke("acknowledged more than was sent", actions);
            }
            return;
        }
        browser.acked = browser.acked.max(taken);
        self.acknowledge(actions);
    }

    pub(super) fn on_browser_gone(&mut self, fault: Option<Close>, actions: &mut Vec<Action>) {
        if let Some(close) = fault {
            return self.finish_with(Reason::Error, None, close, None, actions);
        }
        let Some(browser) = self.browser.take() else { return };
        self.detached_since = self.now;
        // The recording still gets the rest, and the exit.
        if browser.plain && self.phase != Phase::Exiting {
            return self.finish(Reason::Closed, None, actions);
        }
        if self.phase != Phase::Exiting {
            // What waits for it is not kept: it comes from the recording when it is back.
            actions.push(Action::DropBrowser(Close::new(close::EXIT, "You left this session.")));
        }
        self.mark("the browser is gone", actions);
        self.acknowledge(actions);
    }

    pub(super) fn on_peers(&mut self, count: u32, actions: &mut Vec<Action>) {
        if count < self.peers {
            self.mark("a watcher has left", actions);
        }
        self.peers = count;
        self.to_browser(control(Control::Peers { count }), actions);
    }

    fn browser_broke(&mut self, what: &str, actions: &mut Vec<Action>) {
        let close = Close::new(close::PROTOCOL, what);
        self.finish_with(Reason::Error, None, close, None, actions);
    }
}
