//! What is typed as it is recorded: once the host has taken it, frame by frame, and masked wherever the host's terminal
//! is not known to have shown it.

use std::collections::VecDeque;

use bytes::Bytes;

use super::Action;

/// Ends of frames that are kept; beyond, neighbours count as one frame.
const ENDS_MAX: usize = 4 * 1024;
/// Changes of echo that are kept; beyond, everything is masked.
const CHANGES_MAX: usize = 256;

/// Input on its way to the recording.
///
/// INVARIANT: a byte is recorded once the agent has acknowledged it, in order, and only if the agent's present socket
/// said before that the terminal echoed at its offset. What is masked is recorded by its end alone.
#[derive(Debug, Default)]
pub(super) struct Typed {
    /// Up to where it is recorded.
    recorded: u64,
    /// Where the browsers' frames end that are not.
    ends: VecDeque<u64>,
    /// From which offset on the terminal echoed, or did not, as the agent's present socket said. Before: unknown.
    echo: VecDeque<(u64, bool)>,
    /// What is to be recorded now.
    ready: Vec<Action>,
}

impl Typed {
    /// Of a recording that has so many bytes of input.
    pub(super) fn recorded(recorded: u64) -> Self {
        Self { recorded, ..Self::default() }
    }

    /// A browser's frame ends here.
    pub(super) fn frame(&mut self, end: u64) {
        if self.ends.len() >= ENDS_MAX {
            self.ends.pop_back();
        }
        self.ends.push_back(end);
    }

    /// The agent says that from `offset` on the terminal echoes, or does not: whatever was said of later ones.
    pub(super) fn echo(&mut self, offset: u64, on: bool) {
        while self.echo.back().is_some_and(|(at, _)| *at >= offset) {
            self.echo.pop_back();
        }
        match self.echo.back() {
            Some((_, last)) if *last == on => {}
            // They alternate: without the last, what was hidden before it stays so.
            Some(_) if self.echo.len() >= CHANGES_MAX => {
                if !on {
                    self.echo.pop_back();
                }
            }
            _ => self.echo.push_back((offset, on)),
        }
    }

    /// Another socket: what the one before said may lack its end.
    pub(super) fn forget_echo(&mut self) {
        self.echo.clear();
    }

    /// The agent has taken these.
    pub(super) fn taken(&mut self, offset: u64, bytes: &Bytes) {
        let end = offset + bytes.len() as u64;
        let mut from = offset;
        while from < end {
            while self.ends.front().is_some_and(|end| *end <= from) {
                self.ends.pop_front();
            }
            while self.echo.get(1).is_some_and(|(at, _)| *at <= from) {
                self.echo.pop_front();
            }
            let echo = self.echo.front().is_some_and(|(at, on)| *at <= from && *on);
            let change = self.echo.iter().map(|(at, _)| *at).find(|at| *at > from);
            let to = [self.ends.front().copied(), change].into_iter().flatten().fold(end, u64::min);
            let part = |at: u64| usize::try_from(at - offset).unwrap_or(usize::MAX);
            let shown = bytes.slice(part(from)..part(to));
            self.ready.push(if echo {
                Action::RecordInput { offset: from, bytes: shown }
            } else {
                masked(to)
            });
            from = to;
        }
        self.recorded = self.recorded.max(end);
    }

    /// The agent has taken everything up to here, and what that was is not known any more; false when less than is
    /// recorded, which cannot be.
    pub(super) fn skip_to(&mut self, upto: u64) -> bool {
        if upto > self.recorded {
            self.ready.push(masked(upto));
            self.recorded = upto;
        }
        upto == self.recorded
    }

    /// What is to be recorded now.
    pub(super) fn ready(&mut self) -> impl Iterator<Item = Action> {
        self.ready.drain(..)
    }
}

fn masked(end: u64) -> Action {
    Action::RecordMasked { end }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was recorded: text, or a mask's end.
    fn ready(typed: &mut Typed) -> Vec<String> {
        let said = |action| match action {
            Action::RecordInput { offset, bytes } => format!("{offset}:{}", String::from_utf8_lossy(&bytes)),
            Action::RecordMasked { end } => format!("•{end}"),
            other => format!("{other:?}"),
        };
        typed.ready().map(said).collect()
    }

    fn text(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn a_mask_stands_for_a_frame_and_not_for_its_keys() {
        let mut typed = Typed::default();
        for end in [1, 2, 8, 9] {
            typed.frame(end);
        }
        typed.echo(0, true);
        typed.echo(2, false);
        typed.echo(8, true);
        typed.taken(0, &text("a\rsecret+"));
        assert_eq!(ready(&mut typed), ["0:a", "1:\r", "•8", "8:+"]);
    }

    #[test]
    fn echo_holds_by_offset_and_not_by_arrival() {
        let mut typed = Typed::default();
        typed.frame(6);
        typed.echo(4, false);
        typed.echo(2, true);
        typed.taken(0, &text("abcdef"));
        assert_eq!(ready(&mut typed), ["•2", "2:cdef"], "the later word replaced the one before");
        typed.frame(9);
        typed.echo(7, false);
        typed.taken(6, &text("g"));
        typed.taken(7, &text("hi"));
        assert_eq!(ready(&mut typed), ["6:g", "•9"]);
    }

    #[test]
    fn what_no_socket_has_spoken_of_is_masked() {
        let mut typed = Typed::recorded(3);
        typed.taken(3, &text("a"));
        typed.echo(4, true);
        typed.taken(4, &text("b"));
        typed.forget_echo();
        typed.taken(5, &text("c"));
        assert_eq!(ready(&mut typed), ["•4", "4:b", "•6"]);
        assert!(typed.skip_to(9) && typed.skip_to(9) && !typed.skip_to(8));
        assert_eq!(ready(&mut typed), ["•9"]);
    }

    #[test]
    fn an_agent_that_flickers_is_masked_and_costs_no_memory() {
        let mut typed = Typed::default();
        let word = |at: u64| at.is_multiple_of(2);
        for at in 0..10_000 {
            typed.frame(at + 1);
            typed.echo(at, word(at));
        }
        assert!(typed.echo.len() <= CHANGES_MAX && typed.ends.len() <= ENDS_MAX);
        typed.taken(0, &Bytes::from(vec![b'k'; 10_000]));
        let kept = typed.ready().filter_map(|action| match action {
            Action::RecordInput { offset, bytes } => Some((offset, bytes.len())),
            _ => None,
        });
        assert!(kept.into_iter().all(|(at, count)| word(at) && count == 1));
    }
}
