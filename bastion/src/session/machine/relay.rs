//! The agent's side: it comes, prints, goes, comes back, and says how the shell ended.

use std::time::Duration;

use bytes::Bytes;
use openapi::{
    agents::clean,
    frames::{Control, Frame, OUTPUT_WINDOW, close},
};

use super::{Action, Close, Exit, Machine, Phase, Reason, control};

/// The longest name of a signal that is kept, in characters.
const SIGNAL_MAX: usize = 32;
/// More output than any session prints: an agent that says it lost more is not believed.
const LOST_MAX: u64 = 1 << 40;

/// The agent's socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Relay {
    /// The agent never came.
    Awaited,
    /// It is gone.
    Gone { since: Duration },
    /// It is here.
    Here { socket: u32, stage: Stage, since: Duration },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Its hello must come; `resumes`: it goes on with a shell that runs.
    Hello { resumes: bool },
    /// Then, how much input it has taken.
    Count,
    /// Both streams flow.
    Ready,
}

impl Relay {
    /// Whether input may go to the agent.
    pub(super) fn is_ready(&self) -> bool {
        matches!(self, Relay::Here { stage: Stage::Ready, .. })
    }
}

impl Machine {
    pub(super) fn is_relay(&self, socket: u32) -> bool {
        matches!(self.relay, Relay::Here { socket: here, .. } if here == socket)
    }

    pub(super) fn take_relay(&mut self, socket: u32, resumes: bool, actions: &mut Vec<Action>) {
        if let Relay::Here { .. } = self.relay {
            let replaced = Close::new(close::ELSEWHERE, "Replaced by a newer relay.");
            actions.push(Action::DropRelay(replaced));
        }
        self.relay = Relay::Here { socket, stage: Stage::Hello { resumes }, since: self.now };
        self.input.begin_relay();
        if resumes {
            let resume = Control::Resume { have: self.output, input: self.input.agent_acked() };
            actions.push(Action::ToRelay(control(resume)));
        }
    }

    pub(super) fn on_relay(&mut self, frame: Frame, actions: &mut Vec<Action>) {
        let Relay::Here { stage, .. } = self.relay else { return };
        if let Stage::Hello { resumes } = stage {
            return match frame {
                Frame::Control(Control::Hello { have }) if resumes => self.go_on(have, actions),
                Frame::Control(Control::Hello { have: 0 }) => self.begin(actions),
                _ => self.relay_broke("the first message must be hello", actions),
            };
        }
        match frame {
            Frame::Data { offset, bytes } => self.on_output(offset, bytes, actions),
            Frame::Ack(taken) if stage == Stage::Count => self.on_count(taken, actions),
            Frame::Ack(taken) => {
                if !self.input.acknowledge(taken) {
                    return self.relay_broke("acknowledged more input than there was", actions);
                }
                actions.extend(self.input.drain_typed());
                self.to_browser(Frame::Ack(self.input.acked()), actions);
                self.pass_on(actions);
            }
            Frame::Resized { offset, cols, rows } => self.on_resized(offset, (cols, rows), actions),
            Frame::Control(Control::Exiting) => self.on_exiting(actions),
            Frame::Control(Control::Exit { code, signal }) => {
                // An agent's word is hostile text.
                let signal = signal.map(|signal| clean(&signal, SIGNAL_MAX));
                self.finish(Reason::Exit, Some(Exit { code, signal }), actions);
            }
            Frame::Control(Control::Hello { .. }) => self.relay_broke("a second hello", actions),
            Frame::Echo { offset, on } => self.input.echo(offset, on),
            Frame::Control(_) => {}
            Frame::Resize { .. } | Frame::Screen { .. } => {
                self.relay_broke("a frame of the other direction", actions);
            }
        }
    }

    /// The shell is here.
    fn begin(&mut self, actions: &mut Vec<Action>) {
        self.phase = Phase::Active;
        self.last_key = self.now;
        self.told = super::Status::Active;
        actions.push(Action::Begin);
        self.flow(actions);
    }

    /// The agent goes on from `have`: what lies between that and what is recorded is lost.
    fn go_on(&mut self, have: u64, actions: &mut Vec<Action>) {
        let Some(lost) = have.checked_sub(self.output).filter(|lost| *lost <= LOST_MAX) else {
            return self.relay_broke("hello goes on before what is recorded", actions);
        };
        if self.phase == Phase::Connecting {
            self.begin(actions);
        } else {
            self.mark("the host is back", actions);
        }
        if lost > 0 {
            actions.push(Action::RecordGap { lost });
            self.output = have;
            self.lost_up_to = have;
            self.redraw(actions);
        }
        // Its `have` was an acknowledgement.
        self.relay_acked = self.output;
        self.printed_last = self.now;
        self.set_stage(Stage::Count);
    }

    /// The agent that resumes says what it has taken of the input: the rest is sent again.
    fn on_count(&mut self, taken: u64, actions: &mut Vec<Action>) {
        if !self.input.resume(taken) {
            return self.relay_broke("acknowledged input that cannot be so", actions);
        }
        actions.extend(self.input.drain_typed());
        self.to_browser(Frame::Ack(self.input.acked()), actions);
        if self.phase == Phase::Exiting {
            self.input.drop_all();
        }
        self.flow(actions);
    }

    /// Both streams flow from here.
    fn flow(&mut self, actions: &mut Vec<Action>) {
        self.set_stage(Stage::Ready);
        self.pass_on(actions);
        if let Some((cols, rows)) = self.wanted_size.take() {
            actions.push(Action::ToRelay(Frame::Resize { cols, rows }));
        }
        self.say_ready(actions);
    }

    /// Passes on what was typed, as far as the agent's window has room for it.
    pub(super) fn pass_on(&mut self, actions: &mut Vec<Action>) {
        if self.relay.is_ready() {
            let next = self.input.pass_on().into_iter().map(|(offset, bytes)| Frame::Data { offset, bytes });
            actions.extend(next.map(Action::ToRelay));
        }
    }

    fn set_stage(&mut self, to: Stage) {
        if let Relay::Here { stage, .. } = &mut self.relay {
            *stage = to;
        }
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
        if self.phase == Phase::Exiting {
            self.printed_last = self.now;
        }
        actions.push(Action::RecordOutput { offset, bytes: bytes.clone() });
        self.show(Frame::Data { offset, bytes }, actions);
        self.acknowledge(actions);
    }

    fn on_resized(&mut self, offset: u64, (cols, rows): (u16, u16), actions: &mut Vec<Action>) {
        if offset != self.output {
            return self.relay_broke("a size must stand where the output is", actions);
        }
        // An agent that comes back says its size again.
        if (cols, rows) != self.size {
            self.size = (cols, rows);
            actions.push(Action::RecordSize { offset, cols, rows });
        }
        self.show(Frame::Resized { offset, cols, rows }, actions);
    }

    /// Acknowledges to the agent what the recorder has and, while the shell runs, the browser too.
    /// INVARIANT: pushed after the record it speaks of; never less than before.
    pub(super) fn acknowledge(&mut self, actions: &mut Vec<Action>) {
        let held_back = self.held_back_at().filter(|_| self.phase != Phase::Exiting);
        let taken = held_back.unwrap_or(self.output);
        if taken > self.relay_acked {
            self.relay_acked = taken;
            if let Relay::Here { stage: Stage::Ready | Stage::Count, .. } = self.relay {
                actions.push(Action::ToRelay(Frame::Ack(taken)));
            }
        }
    }

    /// Said again by an agent that resumed meanwhile.
    fn on_exiting(&mut self, actions: &mut Vec<Action>) {
        if self.phase != Phase::Exiting {
            self.phase = Phase::Exiting;
            (self.exiting_since, self.printed_last) = (self.now, self.now);
            actions.push(Action::BrowserEnding);
            self.acknowledge(actions);
        }
    }

    pub(super) fn on_relay_gone(&mut self, fault: Option<Close>, actions: &mut Vec<Action>) {
        if let Some(close) = fault {
            let browser = Close::new(close::FAULT, "The host's agent broke the protocol.");
            return self.finish_with(Reason::Error, None, browser, Some(close), actions);
        }
        self.relay = Relay::Gone { since: self.now };
        self.mark("the host is out of reach", actions);
    }

    fn relay_broke(&mut self, what: &str, actions: &mut Vec<Action>) {
        let browser = Close::new(close::FAULT, "The host's agent broke the protocol.");
        let relay = Close::new(close::PROTOCOL, what);
        self.finish_with(Reason::Error, None, browser, Some(relay), actions);
    }

    /// A gap went by: a browser that was live needs a screen.
    fn redraw(&mut self, actions: &mut Vec<Action>) {
        if self.held_back_at().is_some() {
            self.draw(actions);
        }
    }
}
