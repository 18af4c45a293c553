//! What is typed, until the agent has taken it.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use openapi::frames::INPUT_WINDOW;

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
    /// What was passed on to the agent and not acknowledged yet, from there on, each piece with its offset.
    held: VecDeque<(u64, Bytes)>,
    /// Nobody here knows where the stream stands: an earlier start of the bastion did.
    unknown: bool,
}

/// Why input was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Breach(pub &'static str);

impl Input {
    pub(super) fn unknown() -> Self {
        Self { unknown: true, ..Self::default() }
    }

    /// Where the next byte goes.
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
        if end - self.acked > INPUT_WINDOW {
            return Err(Breach("more input than the window allows"));
        }
        self.taken = end;
        if meant {
            self.hold(offset, bytes);
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

    /// The agent has taken the stream up to here; false when it says more than there was.
    pub(super) fn acknowledge(&mut self, upto: u64) -> bool {
        if upto > self.taken {
            return false;
        }
        self.agent_acked = self.agent_acked.max(upto);
        self.acked = self.acked.max(upto);
        while let Some((offset, bytes)) = self.held.front_mut() {
            let covered = usize::try_from(upto.saturating_sub(*offset)).unwrap_or(usize::MAX);
            if covered < bytes.len() {
                let _ = bytes.split_to(covered);
                *offset += covered as u64;
                break;
            }
            self.held.pop_front();
        }
        true
    }

    /// A relay that resumes says what the agent has taken; what it has not is to be sent again. None when that
    /// cannot be.
    pub(super) fn resume(&mut self, upto: u64) -> Option<Vec<(u64, Bytes)>> {
        if std::mem::take(&mut self.unknown) {
            (self.taken, self.acked) = (upto, upto);
            self.agent_acked = upto;
        }
        if upto < self.agent_acked || !self.acknowledge(upto) {
            return None;
        }
        Some(self.held.iter().cloned().collect())
    }

    fn hold(&mut self, offset: u64, bytes: &Bytes) {
        match self.held.back_mut() {
            Some((_, last)) if last.len() + bytes.len() <= JOINED => {
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

    #[test]
    fn what_the_agent_has_not_taken_is_sent_again_and_nothing_else() {
        let mut input = Input::default();
        input.take(0, &Bytes::from_static(b"abc"), true).unwrap();
        input.take(3, &Bytes::from_static(b"def"), true).unwrap();
        assert!(input.acknowledge(2));
        assert_eq!(input.resume(4), Some(vec![(4, Bytes::from_static(b"ef"))]));
        assert_eq!(input.resume(3), None, "it had said 4");
        assert_eq!(input.resume(7), None, "there are six");
        assert_eq!((input.taken(), input.acked()), (6, 4));
    }

    #[test]
    fn what_was_meant_for_nobody_is_settled_for_the_browser_and_not_the_agents() {
        let mut input = Input::default();
        input.take(0, &Bytes::from_static(b"abc"), true).unwrap();
        input.take(3, &Bytes::from_static(b"de"), false).unwrap();
        assert_eq!((input.acked(), input.agent_acked()), (5, 0));
        assert_eq!(input.resume(1), Some(vec![(1, Bytes::from_static(b"bc"))]));
        input.drop_all();
        assert_eq!(
            input.resume(1),
            Some(Vec::new()),
            "the shell has ended, and the agent stands where it stood"
        );
    }

    #[test]
    fn after_a_restart_the_stream_stands_where_the_agent_says() {
        let mut input = Input::unknown();
        assert_eq!(input.resume(17), Some(Vec::new()));
        assert_eq!(input.taken(), 17);
        assert_eq!(
            input.take(0, &Bytes::from_static(b"x"), true),
            Err(Breach("input must continue its stream exactly"))
        );
        input.take(17, &Bytes::from_static(b"x"), true).unwrap();
    }

    #[test]
    fn the_window_is_kept_and_single_keys_are_joined() {
        let mut input = Input::default();
        for offset in 0..INPUT_WINDOW {
            input.take(offset, &Bytes::from_static(b"k"), true).unwrap();
        }
        assert!(input.take(INPUT_WINDOW, &Bytes::from_static(b"k"), true).is_err());
        assert_eq!(input.held.len(), 16);
        assert!(input.acknowledge(5000));
        assert_eq!(input.held.front().unwrap().0, 5000);
    }
}
