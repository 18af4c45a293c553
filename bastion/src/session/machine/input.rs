//! What is typed, until the agent has taken it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use openapi::frames::INPUT_WINDOW;

use super::{Action, typed::Typed};

/// The most that is kept for an agent that takes nothing, in bytes: browsers that come and go may add to it.
const HELD_MAX: u64 = 16 * INPUT_WINDOW;
/// Pieces that are joined while they wait, in bytes: a window of single keys must not cost an allocation each.
const JOINED: usize = 4 * 1024;

/// The input stream. What the agent has not acknowledged is kept, so that it can be sent again when the agent's
/// socket is lost; never more than the window.
#[derive(Debug, Default)]
pub(super) struct Input {
    /// Bytes taken from browsers.
    taken: u64,
    /// Bytes acknowledged to them: what the agent has, and what is meant for nobody.
    acked: u64,
    /// Bytes that the agent has acknowledged.
    agent_acked: u64,
    /// Where the present browser began: what was taken before is settled for it, and not in its window.
    browser_began: u64,
    /// Up to where the stream was passed on to the agent's present socket: its window is kept, too.
    passed: u64,
    /// What the agent has not acknowledged, from there on, each piece with its offset.
    held: VecDeque<(u64, Bytes)>,
    /// Nobody here knows where the stream stands: an earlier start of the bastion did.
    unknown: bool,
    /// What of it is to be recorded; none: input is not.
    typed: Option<Typed>,
}

/// Why input was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Breach(pub &'static str);

impl Input {
    /// A stream that begins; `recorded`: to be recorded.
    pub(super) fn new(recorded: bool) -> Self {
        Self { typed: recorded.then(Typed::default), ..Self::default() }
    }

    /// One that an earlier start of the bastion left; if it is recorded, with so many bytes.
    pub(super) fn unknown(recorded: Option<u64>) -> Self {
        let typed = recorded.map(Typed::recorded);
        // What is recorded was acknowledged.
        Self { unknown: true, agent_acked: recorded.unwrap_or(0), typed, ..Self::default() }
    }

    /// Another socket of the agent's: it says anew when the terminal echoed.
    pub(super) fn begin_relay(&mut self) {
        if let Some(typed) = &mut self.typed {
            typed.forget_echo();
        }
    }

    /// The host's terminal echoes, or does not, from an offset on.
    pub(super) fn echo(&mut self, offset: u64, on: bool) {
        if let Some(typed) = &mut self.typed {
            typed.echo(offset, on);
        }
    }

    /// What is to be recorded now.
    pub(super) fn drain_typed(&mut self) -> impl Iterator<Item = Action> {
        self.typed.iter_mut().flat_map(Typed::ready)
    }

    /// Where the next byte goes.
    #[cfg(test)]
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// What browsers need not keep.
    pub(super) fn acked(&self) -> u64 {
        self.acked
    }

    /// What the agent has, as far as it said.
    pub(super) fn agent_acked(&self) -> u64 {
        self.agent_acked
    }

    /// Takes what a browser typed; kept for the agent if it is `meant` for it. INVARIANT: once something was not,
    /// nothing is any more, or the agent's stream would have a gap.
    pub(super) fn take(&mut self, offset: u64, bytes: &Bytes, meant: bool) -> Result<(), Breach> {
        if offset != self.taken {
            return Err(Breach("input must continue its stream exactly"));
        }
        let end = offset + bytes.len() as u64;
        if end - self.acked.max(self.browser_began) > INPUT_WINDOW
            || end - self.agent_acked > HELD_MAX && meant
        {
            return Err(Breach("more input than the window allows"));
        }
        self.taken = end;
        if meant {
            self.hold(offset, bytes);
            if let Some(typed) = &mut self.typed {
                typed.frame(end);
            }
        } else {
            self.acked = end;
        }
        Ok(())
    }

    /// Nobody will take what is held any more: the shell is ending.
    pub(super) fn drop_all(&mut self) {
        self.held.clear();
        self.acked = self.taken;
    }

    /// A browser goes on from where the stream stands.
    pub(super) fn begin_browser(&mut self) -> u64 {
        self.browser_began = self.taken;
        self.taken
    }

    /// What the agent's window has room for, and was not passed on yet.
    pub(super) fn pass_on(&mut self) -> Vec<(u64, Bytes)> {
        let (passed, room) = (self.passed, self.agent_acked + INPUT_WINDOW);
        let next = self.held.iter().skip_while(|(offset, _)| *offset < passed);
        let next = next.take_while(|(offset, bytes)| offset + bytes.len() as u64 <= room);
        let next: Vec<_> = next.cloned().collect();
        if let Some((offset, bytes)) = next.last() {
            self.passed = offset + bytes.len() as u64;
        }
        next
    }

    /// The agent has taken the stream up to here; false when it says more than there was.
    pub(super) fn acknowledge(&mut self, upto: u64) -> bool {
        if upto > self.taken {
            return false;
        }
        self.agent_acked = self.agent_acked.max(upto);
        self.acked = self.acked.max(upto);
        while let Some((offset, bytes)) = self.held.front_mut().filter(|(offset, _)| *offset < upto) {
            let covered = usize::try_from(upto - *offset).unwrap_or(usize::MAX).min(bytes.len());
            let (at, covered) = (*offset, bytes.split_to(covered));
            *offset += covered.len() as u64;
            if bytes.is_empty() {
                self.held.pop_front();
            }
            if let Some(typed) = &mut self.typed {
                typed.taken(at, &covered);
            }
        }
        true
    }

    /// A relay that resumes says what the agent has taken; what it has not is to be passed on again. False when
    /// that cannot be.
    pub(super) fn resume(&mut self, upto: u64) -> bool {
        if std::mem::take(&mut self.unknown) {
            (self.taken, self.acked) = (upto, upto);
            if self.typed.as_mut().is_some_and(|typed| !typed.skip_to(upto)) {
                return false;
            }
            self.agent_acked = upto;
        }
        if upto < self.agent_acked || !self.acknowledge(upto) {
            return false;
        }
        self.passed = upto;
        for (offset, bytes) in std::mem::take(&mut self.held) {
            self.hold(offset, &bytes);
        }
        true
    }

    fn hold(&mut self, offset: u64, bytes: &Bytes) {
        match self.held.back_mut() {
            Some((at, last)) if *at >= self.passed && last.len() + bytes.len() <= JOINED => {
                let mut joined = BytesMut::with_capacity(last.len() + bytes.len());
                joined.extend_from_slice(last);
                joined.extend_from_slice(bytes);
                *last = joined.freeze();
            }
            _ => self.held.push_back((offset, bytes.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn text(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn what_the_agent_has_not_taken_is_passed_on_again_and_nothing_else() {
        let mut input = Input::default();
        input.take(0, &text("abc"), true).unwrap();
        assert_eq!(input.pass_on(), [(0, text("abc"))]);
        input.take(3, &text("def"), true).unwrap();
        assert_eq!(input.pass_on(), [(3, text("def"))]);
        assert!(input.pass_on().is_empty() && input.acknowledge(2));
        assert!(input.resume(4));
        assert_eq!(input.pass_on(), [(4, text("ef"))]);
        assert!(!input.resume(3), "it had said 4");
        assert!(!input.resume(7), "there are six");
        assert_eq!((input.taken(), input.acked()), (6, 4));
    }

    #[test]
    fn what_was_meant_for_nobody_is_settled_for_the_browser_and_not_the_agents() {
        let mut input = Input::default();
        input.take(0, &text("abc"), true).unwrap();
        input.take(3, &text("de"), false).unwrap();
        assert_eq!((input.acked(), input.agent_acked()), (5, 0));
        assert!(input.resume(1));
        assert_eq!(input.pass_on(), [(1, text("bc"))]);
        input.drop_all();
        assert!(input.resume(1), "the shell has ended, and the agent stands where it stood");
        assert!(input.pass_on().is_empty());
    }

    #[test]
    fn after_a_restart_the_stream_stands_where_the_agent_says() {
        let mut input = Input::unknown(None);
        assert!(input.resume(17));
        assert_eq!(input.taken(), 17);
        assert_eq!(input.take(0, &text("x"), true), Err(Breach("input must continue its stream exactly")));
        input.take(17, &text("x"), true).unwrap();
        assert_eq!(input.pass_on(), [(17, text("x"))]);
    }

    #[test]
    fn the_window_is_kept_and_single_keys_are_joined() {
        let mut input = Input::default();
        for offset in 0..INPUT_WINDOW {
            input.take(offset, &text("k"), true).unwrap();
        }
        assert!(input.take(INPUT_WINDOW, &text("k"), true).is_err());
        assert_eq!(input.held.len(), 16);
        assert!(input.acknowledge(5000));
        assert_eq!(input.held.front().unwrap().0, 5000);
    }

    #[test]
    fn a_browser_that_comes_has_a_window_of_its_own_and_the_agents_is_kept_all_the_same() {
        let mut input = Input::default();
        let window = Bytes::from(vec![b'k'; 32 * 1024]);
        let fill = |input: &mut Input| {
            let at = input.begin_browser();
            for nth in 0..2 {
                input.take(at + nth * 32 * 1024, &window, true).unwrap();
            }
            input.pass_on().len()
        };
        assert_eq!((fill(&mut input), fill(&mut input)), (2, 0));
        assert!(input.acknowledge(32 * 1024));
        assert_eq!(input.pass_on().len(), 1);
        for _ in 2..16 {
            fill(&mut input);
        }
        input.begin_browser();
        assert!(input.take(input.taken(), &window, true).is_ok(), "half a window was taken");
        assert!(input.take(input.taken(), &window, true).is_err(), "there is an end to what is kept");
    }
}
