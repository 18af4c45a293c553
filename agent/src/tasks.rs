//! Tasks: sessions that wait for this agent, who is told of them once, and what is held of those that run.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use openapi::agents::{PendingSession, WAIT_MAX};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::{Agent, backoff::Backoff, heartbeat::report, relay};

/// How long a bastion that does not wait is left alone.
const POLL: Duration = Duration::from_secs(5);
/// An answer faster than this was not waited for.
const AT_ONCE: Duration = Duration::from_secs(1);
/// The longest pause after a failure, while nobody may be typing.
const CAP_IDLE: Duration = Duration::from_secs(60);
/// How many ended sessions are remembered, so that none is started twice.
const REMEMBERED: usize = 1024;

/// Asks for tasks until it is cancelled, and starts what is for this agent.
pub(crate) async fn run(agent: &Arc<Agent>, shutdown: &CancellationToken) {
    let mut backoff = Backoff::default();
    loop {
        let asked = Instant::now();
        let Some(answer) = shutdown.run_until_cancelled(ask(agent)).await else { return };
        let wait = match answer {
            Ok(tasks) => {
                backoff.reset();
                let idle = tasks.is_empty() && asked.elapsed() < AT_ONCE;
                tasks.into_iter().for_each(|task| begin(agent, task, shutdown));
                if idle { POLL } else { Duration::ZERO }
            }
            Err(error) => {
                report(&error);
                let cap = if agent.sessions.ids().is_empty() { CAP_IDLE } else { relay::CAP };
                backoff.next(cap, &mut crate::backoff::dice())
            }
        };
        if shutdown.run_until_cancelled(sleep(wait)).await.is_none() {
            return;
        }
    }
}

async fn ask(agent: &Agent) -> Result<Vec<PendingSession>, crate::client::ClientError> {
    let id = agent.identity.client_id();
    agent.client.wait_for(&agent.key, id, "agent/tty/pending-sessions", &[("agent_id", id)], WAIT_MAX).await
}

fn begin(agent: &Arc<Agent>, task: PendingSession, shutdown: &CancellationToken) {
    let Some(seat) = agent.sessions.take(&task.session_id, shutdown) else {
        tracing::debug!(session = task.session_id, "this session has its task already");
        return;
    };
    let agent = Arc::clone(agent);
    agent.clone().tracker.spawn(async move {
        if let Err(error) = relay::serve(&agent, &task, &seat).await {
            let session = openapi::agents::clean(&task.session_id, 64);
            tracing::warn!(session, %error, "the session was not served");
        }
    });
}

/// The sessions this agent holds, and those it held.
#[derive(Debug, Default)]
pub struct Sessions {
    // Held for moments only, never across an await.
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    live: HashMap<String, Live>,
    over: VecDeque<String>,
}

#[derive(Debug)]
struct Live {
    stop: CancellationToken,
    started: bool,
}

/// A session's place among those held; leaving is dropping it.
#[derive(Debug)]
pub struct Seat {
    sessions: Arc<Sessions>,
    id: String,
    stop: CancellationToken,
}

impl Sessions {
    /// Takes a place, unless the session is held or was started before. Cancelled with `parent`.
    #[must_use]
    pub fn take(self: &Arc<Self>, id: &str, parent: &CancellationToken) -> Option<Seat> {
        let mut held = self.held();
        if held.live.contains_key(id) || held.over.iter().any(|over| over == id) {
            return None;
        }
        let stop = parent.child_token();
        held.live.insert(id.to_owned(), Live { stop: stop.clone(), started: false });
        Some(Seat { sessions: Arc::clone(self), id: id.to_owned(), stop })
    }

    /// The sessions whose shell runs.
    #[must_use]
    pub fn ids(&self) -> Vec<String> {
        let held = self.held();
        held.live.iter().filter(|(_, live)| live.started).map(|(id, _)| id.clone()).collect()
    }

    /// Ends these sessions, as far as they are held.
    pub fn end(&self, ids: &[String]) {
        let held = self.held();
        ids.iter().filter_map(|id| held.live.get(id)).for_each(|live| live.stop.cancel());
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// The session has its shell now: it never gets another.
    pub fn start(&self) {
        if let Some(live) = self.sessions.held().live.get_mut(&self.id) {
            live.started = true;
        }
    }

    /// Cancelled when the session must end.
    #[must_use]
    pub fn stop(&self) -> &CancellationToken {
        &self.stop
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut held = self.sessions.held();
        if held.live.remove(&self.id).is_some_and(|live| live.started) {
            held.over.push_back(std::mem::take(&mut self.id));
            if held.over.len() > REMEMBERED {
                held.over.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;

    #[test]
    fn a_session_gets_one_shell_ever_but_a_failed_dial_may_be_repeated() {
        let sessions = Arc::new(Sessions::default());
        let all = CancellationToken::new();
        let first = sessions.take("s", &all).unwrap();
        assert!(sessions.take("s", &all).is_none(), "it is held");
        assert!(sessions.ids().is_empty(), "nothing runs yet");
        drop(first);
        let second = sessions.take("s", &all).expect("the first never had a shell");
        second.start();
        assert_eq!(sessions.ids(), ["s"]);
        drop(second);
        assert!(sessions.take("s", &all).is_none(), "it had its shell");
        assert!(sessions.ids().is_empty());
    }

    #[test]
    fn ending_reaches_the_named_sessions_only() {
        let sessions = Arc::new(Sessions::default());
        let all = CancellationToken::new();
        let (a, b) = (sessions.take("a", &all).unwrap(), sessions.take("b", &all).unwrap());
        sessions.end(&["a".to_owned(), "unknown".to_owned()]);
        assert!(a.stop().is_cancelled() && !b.stop().is_cancelled());
        all.cancel();
        assert!(b.stop().is_cancelled());
    }
}
