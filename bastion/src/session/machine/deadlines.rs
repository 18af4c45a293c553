//! What happens by itself when time goes by.

use std::time::Duration;

use openapi::frames::Control;

use super::{Action, Machine, Phase, Reason, Relay, control, relay::Stage};

/// How long a session waits for its agent's first coming.
const AGENT_WITHIN: Duration = Duration::from_secs(20);
/// How long before a deadline the user is warned; of idleness not before half of what is allowed is over.
const WARNING: Duration = Duration::from_secs(60);
/// How long an agent may take, once its socket is here, until both streams flow.
const FLOWS_WITHIN: Duration = Duration::from_secs(15);
/// How long a shell that is ending may print nothing and not say how it ended.
const EXIT_WITHIN: Duration = Duration::from_secs(15);
/// How long it may print on.
const EXIT_AT_LAST: Duration = Duration::from_secs(120);
/// How long a browser has for the rest, once the shell is ending.
pub const FAREWELL: Duration = Duration::from_secs(10);

impl Machine {
    /// When to tick next, at the latest.
    pub fn next_deadline(&self) -> Option<Duration> {
        let warning = self.end_by_terms().filter(|_| !self.warned);
        let warning = warning.map(|(end, reason)| end.saturating_sub(self.warning(reason)));
        [self.next_end().map(|(at, _)| at), warning].into_iter().flatten().min()
    }

    pub(super) fn on_tick(&mut self, actions: &mut Vec<Action>) {
        let now = self.now;
        if let Some((_, reason)) = self.next_end().filter(|(at, _)| now >= *at) {
            return self.finish(reason, None, actions);
        }
        let Some((end, reason)) = self.end_by_terms() else { return };
        if !self.warned && now + self.warning(reason) >= end {
            self.warned = true;
            // Rounded up, so that a page's count ends with the session and not before.
            let in_seconds = (end - now).as_millis().div_ceil(1000).try_into().unwrap_or(u64::MAX);
            let reason = reason.as_str().to_owned();
            self.mark(&format!("warned: ends in {in_seconds} s, {}", reason.replace('_', " ")), actions);
            self.to_browser(control(Control::Closing { reason, in_seconds }), actions);
        }
    }

    /// A key was typed: that puts off the end for idleness, and another end stands as it was.
    pub(super) fn on_key(&mut self) {
        self.last_key = self.now;
        self.warned &= self.end_by_terms().is_some_and(|(_, reason)| reason != Reason::Idle);
    }

    fn warning(&self, reason: Reason) -> Duration {
        match (reason, self.terms.idle_timeout) {
            (Reason::Idle, Some(idle)) => WARNING.min(idle / 2),
            _ => WARNING,
        }
    }

    /// The first of all ends that are set, and what it ends the session for.
    fn next_end(&self) -> Option<(Duration, Reason)> {
        if self.phase == Phase::Over {
            return None;
        }
        let lost = match self.relay {
            Relay::Awaited => Some((AGENT_WITHIN, Reason::NoAgent)),
            Relay::Gone { since } => Some((since + self.terms.resume_grace, Reason::HostGone)),
            Relay::Here { stage: Stage::Ready, .. } => None,
            Relay::Here { since, .. } => Some((since + FLOWS_WITHIN, Reason::HostGone)),
        };
        let exit_by = (self.printed_last + EXIT_WITHIN).min(self.exiting_since + EXIT_AT_LAST);
        let exiting = (self.phase == Phase::Exiting && lost.is_none()).then_some((exit_by, Reason::Error));
        // A shell that is ending needs no browser: the recording gets the rest.
        let detached = (self.browser.is_none() && self.phase != Phase::Exiting)
            .then_some((self.detached_since + self.terms.detach_grace, Reason::Detached));
        [self.end_by_terms(), lost, exiting, detached].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// The earlier of the ends that the terms set. A shell that ends by itself is left to.
    fn end_by_terms(&self) -> Option<(Duration, Reason)> {
        if self.phase != Phase::Active {
            return None;
        }
        let idle = self.terms.idle_timeout.map(|idle| (self.last_key + idle, Reason::Idle));
        let longest = self.terms.max_duration.map(|longest| (longest, Reason::MaxTime));
        [idle, longest].into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}
