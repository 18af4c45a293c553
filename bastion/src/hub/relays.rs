//! Live sessions and their agents: tasks handed out, sockets that come and come back, what heartbeats name.

use std::{sync::Arc, time::Duration};

use openapi::agents::PendingSession;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

use super::{Attached, Hub, lock};
use crate::{
    session::{Event, Message, Outbox, Reason},
    tickets::{RelayTicket, TicketRefused},
};

/// A task whose relay has not come this long after it was handed out is handed out again.
const HAND_OUT_AGAIN: Duration = Duration::from_secs(10);
/// A relay younger than this at the agent's previous heartbeat need not be named by it, in milliseconds.
const NAMED_AFTER: i64 = 10_000;

/// Why an agent's socket was not taken.
#[derive(Debug, thiserror::Error)]
pub enum RelayRefused {
    /// There is no such session, or it is over, or another agent's.
    #[error("no such session")]
    Gone,
    /// It has its relay.
    #[error("the session has its relay already")]
    Taken,
    /// The ticket is no good.
    #[error(transparent)]
    Ticket(#[from] TicketRefused),
}

/// Where a session's agent is.
pub(super) enum Relay {
    /// Not handed out, or when.
    Waiting(Option<Instant>),
    /// Since when, UTC milliseconds.
    Open(i64),
    /// The shell is there, and its agent is not.
    Lost,
}

fn resumable(relay: &Relay) -> Result<(), RelayRefused> {
    match relay {
        Relay::Open(_) | Relay::Lost => Ok(()),
        Relay::Waiting(_) => Err(RelayRefused::Gone),
    }
}

impl Hub {
    /// Sessions that wait for this agent. Answers when there is one, or after `wait` with none.
    pub async fn pending(&self, asset: &str, wait: Duration) -> Result<Vec<PendingSession>, TicketRefused> {
        let deadline = Instant::now() + wait;
        let mut arrivals = self.arrivals(asset);
        loop {
            arrivals.borrow_and_update();
            let (due, next) = self.take_due(asset);
            if !due.is_empty() {
                return self.hand_out(due).await;
            }
            let until = next.map_or(deadline, |next| next.min(deadline));
            let woken = tokio::select! {
                woken = timeout_at(until, arrivals.changed()) => woken.is_ok(),
                () = self.0.shutdown.cancelled() => return Ok(Vec::new()),
            };
            if !woken && Instant::now() >= deadline {
                return Ok(Vec::new());
            }
        }
    }

    /// Marks what is due as handed out; also says when the next will be.
    fn take_due(&self, asset: &str) -> (Vec<RelayTicket>, Option<Instant>) {
        let (now, mut due, mut next) = (Instant::now(), Vec::new(), None::<Instant>);
        for live in self.live().values_mut().filter(|live| live.asset == asset) {
            let (Relay::Waiting(handed), Some(task)) = (&mut live.relay, &live.task) else { continue };
            match handed.map(|at| at + HAND_OUT_AGAIN).filter(|again| *again > now) {
                Some(again) => next = Some(next.map_or(again, |next| next.min(again))),
                None => {
                    *handed = Some(now);
                    due.push(task.clone());
                }
            }
        }
        (due, next)
    }

    async fn hand_out(&self, due: Vec<RelayTicket>) -> Result<Vec<PendingSession>, TicketRefused> {
        let mut sessions = Vec::with_capacity(due.len());
        for task in due {
            let token =
                self.0.tickets.mint_relay(&task).await.inspect_err(|_| self.take_back(&task.session))?;
            sessions.push(PendingSession {
                token,
                relay_url: format!("{}?session_id={}", self.0.relay_url, task.session),
                session_id: task.session,
                cols: task.cols,
                rows: task.rows,
                user: task.username,
                command: task.command,
                run_as: task.run_as,
            });
        }
        Ok(sessions)
    }

    /// A task that was not handed out after all waits for the next request.
    fn take_back(&self, session: &str) {
        if let Some(live) = self.live().get_mut(session)
            && matches!(live.relay, Relay::Waiting(_))
        {
            live.relay = Relay::Waiting(None);
        }
    }

    /// Spends the agent's ticket and gives its socket to the session.
    pub async fn attach_relay(
        &self,
        asset: &str,
        session: &str,
        token: &str,
    ) -> Result<Attached, RelayRefused> {
        self.0.tickets.redeem_relay(token, asset, session).await?;
        let taken =
            |relay: &Relay| if let Relay::Waiting(_) = relay { Ok(()) } else { Err(RelayRefused::Taken) };
        self.take_relay(asset, session, false, taken).await
    }

    /// Gives the socket of an agent that comes back to the session; it replaces the one before.
    pub async fn resume_relay(&self, asset: &str, session: &str) -> Result<Attached, RelayRefused> {
        self.take_relay(asset, session, true, resumable).await
    }

    /// Whether an agent may come back to a session: it lives here, is the agent's, and has had it before.
    pub fn may_resume(&self, asset: &str, session: &str) -> bool {
        let live = self.live();
        live.get(session).is_some_and(|live| live.asset == asset && resumable(&live.relay).is_ok())
    }

    async fn take_relay(
        &self,
        asset: &str,
        session: &str,
        resumes: bool,
        may: impl FnOnce(&Relay) -> Result<(), RelayRefused>,
    ) -> Result<Attached, RelayRefused> {
        let (socket, inbox) = {
            let mut live = self.live();
            let live = live.get_mut(session).filter(|live| live.asset == asset).ok_or(RelayRefused::Gone)?;
            may(&live.relay)?;
            live.relay = Relay::Open(self.0.clock.millis());
            let (socket, inbox) = live.next_socket();
            live.relay_socket = socket;
            (socket, inbox)
        };
        let outbox = Arc::new(Outbox::default());
        let message = Message::Relay(outbox.clone(), Event::RelayHere { socket, resumes });
        inbox.send(message).await.map_err(|_| RelayRefused::Gone)?;
        Ok(Attached { session: session.to_owned(), socket, inbox, outbox, hello: None })
    }

    /// The socket of a session's agent is gone: until it is back it need not name the session.
    pub fn relay_lost(&self, session: &str, socket: u32) {
        if let Some(live) = self.live().get_mut(session)
            && live.relay_socket == socket
        {
            live.relay = Relay::Lost;
        }
    }

    /// Sets what an agent says it holds against what is live here. Sessions it should hold and does not
    /// name are ended; returns those it must end.
    pub fn reconcile(&self, asset: &str, named: &[String], previous_heartbeat: Option<i64>) -> Vec<String> {
        let mut unknown: Vec<_> = named.to_vec();
        for (id, live) in self.live().iter().filter(|(_, live)| live.asset == asset) {
            unknown.retain(|name| name != id);
            let long_open = match (&live.relay, previous_heartbeat) {
                (Relay::Open(since), Some(previous)) => since + NAMED_AFTER <= previous,
                _ => false,
            };
            if long_open && !named.contains(id) {
                live.end(Reason::Error);
            }
        }
        unknown
    }

    pub(super) fn announce(&self, asset: &str) {
        let mut arrivals = lock(&self.0.arrivals);
        arrivals.retain(|_, sender| sender.receiver_count() > 0);
        if let Some(sender) = arrivals.get(asset) {
            sender.send_replace(());
        }
    }

    fn arrivals(&self, asset: &str) -> watch::Receiver<()> {
        lock(&self.0.arrivals).entry(asset.to_owned()).or_insert_with(|| watch::channel(()).0).subscribe()
    }
}
