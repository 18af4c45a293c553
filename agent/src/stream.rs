//! A session's two streams as numbers: offsets, windows, what is not acknowledged yet. Pure; it knows no socket.

use std::collections::VecDeque;

use bytes::Bytes;
use openapi::frames::{INPUT_WINDOW, MAX_DATA, OUTPUT_WINDOW};

/// How the bastion broke a stream's rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// It acknowledged bytes that were never sent.
    #[error("an acknowledgement beyond what was sent")]
    Ahead,
    /// Its data does not begin where the last ended.
    #[error("input with a gap or an overlap")]
    Gap,
    /// It sent more than the window allows.
    #[error("input beyond its window")]
    Window,
}

/// Output: what the shell printed, until the bastion has it.
///
/// INVARIANT: `sent − acked ≤ OUTPUT_WINDOW`, and `kept` is exactly the bytes from `acked` to `sent`.
#[derive(Debug, Default)]
pub struct Output {
    sent: u64,
    acked: u64,
    paused: bool,
    kept: VecDeque<Bytes>,
}

impl Output {
    /// How many bytes may be read from the terminal now: 0 once the window is spent, until half of it is free again.
    #[must_use]
    pub fn room(&self) -> usize {
        if self.paused {
            return 0;
        }
        let free = OUTPUT_WINDOW - self.outstanding();
        usize::try_from(free).unwrap_or(MAX_DATA).min(MAX_DATA)
    }

    /// Takes bytes just read, at most [`Output::room`] of them; answers the offset they are sent with.
    pub fn push(&mut self, bytes: Bytes) -> u64 {
        let offset = self.sent;
        self.sent += bytes.len() as u64;
        self.paused = self.outstanding() >= OUTPUT_WINDOW;
        self.kept.push_back(bytes);
        offset
    }

    /// Takes an acknowledgement; an old or repeated one changes nothing.
    ///
    /// # Errors
    /// [`StreamError::Ahead`] when it covers bytes that were not sent.
    pub fn ack(&mut self, taken: u64) -> Result<(), StreamError> {
        if taken > self.sent {
            return Err(StreamError::Ahead);
        }
        while let Some(first) = self.kept.front_mut() {
            let covered = usize::try_from(taken.saturating_sub(self.acked)).unwrap_or(usize::MAX);
            if covered == 0 {
                break;
            }
            let gone = covered.min(first.len());
            self.acked += gone as u64;
            let _ = first.split_to(gone);
            if first.is_empty() {
                self.kept.pop_front();
            }
        }
        if self.outstanding() <= OUTPUT_WINDOW / 2 {
            self.paused = false;
        }
        Ok(())
    }

    /// The offset of the next byte.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.sent
    }

    /// What the bastion may not have yet, from the acknowledged offset on: what a resume sends again.
    pub fn unacked(&self) -> impl Iterator<Item = (u64, &Bytes)> {
        self.kept.iter().scan(self.acked, |offset, bytes| {
            let at = *offset;
            *offset += bytes.len() as u64;
            Some((at, bytes))
        })
    }

    fn outstanding(&self) -> u64 {
        self.sent - self.acked
    }
}

/// Input: what was typed, until the terminal has taken it.
#[derive(Debug, Default)]
pub struct Input {
    received: u64,
    waiting: VecDeque<Bytes>,
    taken: u64,
}

impl Input {
    /// Takes a DATA frame.
    ///
    /// # Errors
    /// [`StreamError::Gap`] when it does not continue the stream, [`StreamError::Window`] when it is too much.
    pub fn push(&mut self, offset: u64, bytes: Bytes) -> Result<(), StreamError> {
        if offset != self.received {
            return Err(StreamError::Gap);
        }
        let received = self.received + bytes.len() as u64;
        if received - self.taken > INPUT_WINDOW {
            return Err(StreamError::Window);
        }
        self.received = received;
        self.waiting.push_back(bytes);
        Ok(())
    }

    /// What the terminal gets next.
    #[must_use]
    pub fn next(&self) -> Option<&Bytes> {
        self.waiting.front()
    }

    /// The terminal took this many bytes of [`Input::next`].
    pub fn advance(&mut self, count: usize) {
        if let Some(first) = self.waiting.front_mut() {
            let count = count.min(first.len());
            let _ = first.split_to(count);
            self.taken += count as u64;
            if first.is_empty() {
                self.waiting.pop_front();
            }
        }
    }

    /// Bytes the terminal has taken so far: what an ACK says.
    #[must_use]
    pub fn taken(&self) -> u64 {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use proptest::prelude::*;

    use super::*;

    fn fill(output: &mut Output) {
        while output.room() > 0 {
            output.push(Bytes::from(vec![0; output.room()]));
        }
    }

    #[test]
    fn a_spent_window_opens_again_at_half() {
        let mut output = Output::default();
        fill(&mut output);
        assert_eq!(output.offset(), OUTPUT_WINDOW);
        output.ack(OUTPUT_WINDOW / 2 - 1).unwrap();
        assert_eq!(output.room(), 0);
        output.ack(OUTPUT_WINDOW / 2).unwrap();
        assert_eq!(output.room(), MAX_DATA);
    }

    #[test]
    fn an_ack_of_the_future_is_refused_and_one_of_the_past_ignored() {
        let mut output = Output::default();
        output.push(Bytes::from_static(b"abcdef"));
        assert_eq!(output.ack(7), Err(StreamError::Ahead));
        output.ack(4).unwrap();
        output.ack(1).unwrap();
        let left: Vec<_> = output.unacked().map(|(at, bytes)| (at, bytes.to_vec())).collect();
        assert_eq!(left, [(4, b"ef".to_vec())]);
    }

    #[test]
    fn input_continues_exactly_and_keeps_to_its_window() {
        let mut input = Input::default();
        input.push(0, Bytes::from_static(b"ab")).unwrap();
        assert_eq!(input.push(1, Bytes::from_static(b"b")), Err(StreamError::Gap));
        assert_eq!(input.push(3, Bytes::from_static(b"d")), Err(StreamError::Gap));
        input.push(2, Bytes::from(vec![0; 65_534])).unwrap();
        assert_eq!(input.push(65_536, Bytes::from_static(b"x")), Err(StreamError::Window));
        input.advance(1);
        assert_eq!((input.taken(), input.next().unwrap().as_ref()), (1, &b"b"[..]));
        input.push(65_536, Bytes::from_static(b"x")).unwrap();
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_is_not_acknowledged(steps in proptest::collection::vec((any::<bool>(), 0..70_000u64), 0..60)) {
            let mut output = Output::default();
            let mut all = Vec::new();
            let mut acked = 0u64;
            for (send, amount) in steps {
                let room = output.room();
                if send && room > 0 {
                    let size = usize::try_from(amount).unwrap().clamp(1, room);
                    let bytes: Vec<u8> = (all.len()..all.len() + size).map(|at| (at % 251) as u8).collect();
                    prop_assert_eq!(output.push(Bytes::from(bytes.clone())), all.len() as u64);
                    all.extend(bytes);
                } else {
                    let to = (acked + amount).min(all.len() as u64);
                    output.ack(to).unwrap();
                    acked = acked.max(to);
                }
                prop_assert!(all.len() as u64 - acked <= OUTPUT_WINDOW);
                let mut next = acked;
                let mut kept = Vec::new();
                for (at, bytes) in output.unacked() {
                    prop_assert_eq!(at, next);
                    next += bytes.len() as u64;
                    kept.extend_from_slice(bytes);
                }
                prop_assert_eq!(&kept, &all[usize::try_from(acked).unwrap()..]);
            }
            output.ack(all.len() as u64).unwrap();
            prop_assert!(output.room() > 0, "an idle window is open");
        }
    }
}
