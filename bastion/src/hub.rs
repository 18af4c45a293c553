//! Live sessions by id: opened by a permit, handed to the agent they wait for, ended.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use openapi::agents::PendingSession;
use recordings::{Facts, Header, Spool};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    access::Permit,
    clock::{self, Clock},
    db::{
        Db, DbError,
        audit::{Actor, Entry},
        sessions,
        slots::{Node, Opened, Slot},
    },
    session::{Message, Outbox, Parts, Reason, Session, Terms},
    tickets::{RelayTicket, TicketRefused, Tickets},
};

/// A task whose relay has not come this long after it was handed out is handed out again.
const HAND_OUT_AGAIN: Duration = Duration::from_secs(10);
/// A relay younger than this at the agent's previous heartbeat need not be named by it, in milliseconds.
const NAMED_AFTER: i64 = 10_000;

/// Why no session was opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A limit is reached.
    #[error("limit reached")]
    Full(Slot),
    /// This node may not open any: its lease ran out.
    #[error("this node has lost its lease")]
    Fenced,
    /// The database did not answer.
    #[error(transparent)]
    Db(#[from] DbError),
}

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

/// A browser's hold on its session.
#[derive(Debug)]
pub struct Attached {
    /// The session's id.
    pub session: String,
    /// Where its frames go.
    pub inbox: mpsc::Sender<Message>,
    /// What it is to be sent.
    pub outbox: Arc<Outbox>,
}

enum Relay {
    /// Not handed out, or when.
    Waiting(Option<Instant>),
    /// UTC milliseconds.
    Open(i64),
}

struct Live {
    task: RelayTicket,
    inbox: mpsc::Sender<Message>,
    /// The first reason stays.
    ending: watch::Sender<Option<Reason>>,
    relay: Relay,
}

impl Live {
    fn end(&self, reason: Reason) {
        self.ending.send_if_modified(|ending| {
            let first = ending.is_none();
            ending.get_or_insert(reason);
            first
        });
    }
}

/// All live sessions of this node.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

struct Inner {
    db: Db,
    spool: Spool,
    tickets: Tickets,
    clock: Clock,
    node: Mutex<Node>,
    /// Where agents dial, without the query.
    relay_url: String,
    tasks: TaskTracker,
    shutdown: CancellationToken,
    live: Mutex<HashMap<String, Live>>,
    /// One an asset whose agent waits: changes when there may be a task.
    arrivals: Mutex<HashMap<String, watch::Sender<()>>>,
}

/// What a hub is made of.
pub struct HubParts {
    /// Where sessions' rows are.
    pub db: Db,
    /// Where they are recorded.
    pub spool: Spool,
    /// Who mints agents' tickets.
    pub tickets: Tickets,
    /// The time.
    pub clock: Clock,
    /// Which node this is.
    pub node: Node,
    /// The public URL for WebSockets, as in `wss://castellan.example`.
    pub ws_base: String,
    /// Where tasks are tracked.
    pub tasks: TaskTracker,
    /// Ends them.
    pub shutdown: CancellationToken,
}

impl Hub {
    /// A hub without sessions.
    pub fn new(parts: HubParts) -> Self {
        Self(Arc::new(Inner {
            relay_url: format!("{}/api/v1/agent/tty/relay", parts.ws_base),
            db: parts.db,
            spool: parts.spool,
            tickets: parts.tickets,
            clock: parts.clock,
            node: Mutex::new(parts.node),
            tasks: parts.tasks,
            shutdown: parts.shutdown,
            live: Mutex::default(),
            arrivals: Mutex::default(),
        }))
    }

    /// Opens a session: its row, its task, its place among those that wait for their agent.
    pub async fn open(&self, permit: Permit, cols: u16, rows: u16) -> Result<Attached, OpenError> {
        let inner = &self.0;
        let id = clock::new_id();
        let now = inner.clock.millis();
        let row = row(&permit, &id, &self.node(), (cols, rows), now);
        let entry = Entry::new(now, Actor::User(permit.user.id.clone()), "session.open")
            .on("session", &id)
            .at_address(&permit.address.to_string())
            .with(json!({"asset": permit.asset.id, "decision": permit.decision}));
        match inner.db.open_session(row, permit.slots.clone(), now, entry).await? {
            Opened::Yes => {}
            Opened::Full(slot) => return Err(OpenError::Full(slot)),
            Opened::Fenced => return Err(OpenError::Fenced),
        }
        let (ending, ended) = watch::channel(None);
        let parts = Parts {
            terms: terms(&permit, &id, (cols, rows), now),
            header: header(&permit, &id, (cols, rows)),
            owner: permit.user.id.clone(),
            spool: inner.spool.clone(),
            db: inner.db.clone(),
            clock: inner.clock.clone(),
        };
        let (session, inbox, outbox) = Session::new(parts, ended);
        let task = RelayTicket {
            user: permit.user.id,
            username: permit.user.username,
            asset: permit.asset.id.clone(),
            session: id.clone(),
            run_as: permit.run_as,
            command: permit.claims.command,
            cols,
            rows,
        };
        let (user, asset) = (task.user.clone(), task.asset.clone());
        let live = Live { task, inbox: inbox.clone(), ending, relay: Relay::Waiting(None) };
        self.live().insert(id.clone(), live);
        let (hub, ended) = (self.clone(), id.clone());
        let shutdown = inner.shutdown.clone();
        inner.tasks.spawn(async move {
            let _leave = Leave { hub, id: ended };
            session.run(shutdown).await;
        });
        // Whoever took the right away while this session was opening did not find it among the live ones.
        match self.still_stand(&user, &asset).await {
            Ok(true) => {}
            Ok(false) => {
                self.end(&id, Reason::Policy);
            }
            // Nobody will hold this session: it must not wait for its agent.
            Err(error) => {
                self.end(&id, Reason::Error);
                return Err(error.into());
            }
        }
        self.announce(&asset);
        Ok(Attached { session: id, inbox, outbox })
    }

    async fn still_stand(&self, user: &str, asset: &str) -> Result<bool, DbError> {
        let user = self.0.db.user(user).await?;
        let asset = self.0.db.asset(asset).await?;
        Ok(user.is_some_and(|user| !user.disabled) && asset.is_some())
    }

    /// Which node this is, in its present life.
    pub fn node(&self) -> Node {
        lock(&self.0.node).clone()
    }

    /// The lease ran out: what lives no longer counts, so it ends; a new life begins.
    pub fn begin_again(&self, node: Node) {
        self.end_everything(Reason::Error);
        *lock(&self.0.node) = node;
    }

    /// Ends everything that lives here.
    pub fn end_everything(&self, reason: Reason) {
        self.end_all(reason, |_| true);
    }

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
        for live in self.live().values_mut().filter(|live| live.task.asset == asset) {
            let Relay::Waiting(handed) = &mut live.relay else { continue };
            match handed.map(|at| at + HAND_OUT_AGAIN).filter(|again| *again > now) {
                Some(again) => next = Some(next.map_or(again, |next| next.min(again))),
                None => {
                    *handed = Some(now);
                    due.push(live.task.clone());
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
        let inbox = {
            let mut live = self.live();
            let live =
                live.get_mut(session).filter(|live| live.task.asset == asset).ok_or(RelayRefused::Gone)?;
            if matches!(live.relay, Relay::Open(_)) {
                return Err(RelayRefused::Taken);
            }
            live.relay = Relay::Open(self.0.clock.millis());
            live.inbox.clone()
        };
        let outbox = Arc::new(Outbox::default());
        inbox.send(Message::Relay(outbox.clone())).await.map_err(|_| RelayRefused::Gone)?;
        Ok(Attached { session: session.to_owned(), inbox, outbox })
    }

    /// Ends a live session; false when there is none such here.
    pub fn end(&self, session: &str, reason: Reason) -> bool {
        let live = self.live();
        let Some(live) = live.get(session) else { return false };
        live.end(reason);
        true
    }

    /// Ends every live session on an asset.
    pub fn end_on_asset(&self, asset: &str, reason: Reason) {
        self.end_all(reason, |live| live.task.asset == asset);
    }

    /// Ends every live session of a user.
    pub fn end_of_user(&self, user: &str, reason: Reason) {
        self.end_all(reason, |live| live.task.user == user);
    }

    fn end_all(&self, reason: Reason, which: impl Fn(&Live) -> bool) {
        self.live().values().filter(|live| which(live)).for_each(|live| live.end(reason));
    }

    /// Sets what an agent says it holds against what is live here. Sessions it should hold and does not
    /// name are ended; returns those it must end.
    pub fn reconcile(&self, asset: &str, named: &[String], previous_heartbeat: Option<i64>) -> Vec<String> {
        let mut unknown: Vec<_> = named.to_vec();
        for (id, live) in self.live().iter().filter(|(_, live)| live.task.asset == asset) {
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

    fn announce(&self, asset: &str) {
        let mut arrivals = lock(&self.0.arrivals);
        arrivals.retain(|_, sender| sender.receiver_count() > 0);
        if let Some(sender) = arrivals.get(asset) {
            sender.send_replace(());
        }
    }

    fn arrivals(&self, asset: &str) -> watch::Receiver<()> {
        lock(&self.0.arrivals).entry(asset.to_owned()).or_insert_with(|| watch::channel(()).0).subscribe()
    }

    fn live(&self) -> MutexGuard<'_, HashMap<String, Live>> {
        lock(&self.0.live)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a session off the list when its task is done, however it is done.
struct Leave {
    hub: Hub,
    id: String,
}

impl Drop for Leave {
    fn drop(&mut self) {
        self.hub.live().remove(&self.id);
    }
}

fn row(permit: &Permit, id: &str, node: &Node, (cols, rows): (u16, u16), now: i64) -> sessions::Model {
    sessions::Model {
        id: id.to_owned(),
        user_id: permit.user.id.clone(),
        asset_id: permit.asset.id.clone(),
        node_id: node.id.clone(),
        node_epoch: node.epoch,
        status: "connecting".to_owned(),
        end_reason: None,
        decision_id: permit.decision.clone(),
        credential: permit.credential.clone(),
        address: permit.address.to_string(),
        command: permit.claims.command.clone(),
        run_as: permit.run_as.clone(),
        cols: cols.into(),
        rows: rows.into(),
        obligations: serde_json::to_string(&permit.obligations).unwrap_or_default(),
        exit_code: None,
        exit_signal: None,
        created_at: now,
        started_at: None,
        ended_at: None,
    }
}

/// The rulings' own end and that of the obligations bound a session alike.
fn terms(permit: &Permit, id: &str, (cols, rows): (u16, u16), now: i64) -> Terms {
    let obligations = &permit.obligations;
    let until = [obligations.not_after, permit.valid_until].into_iter().flatten().min();
    let until = until.map(|at| u64::try_from(at - now).unwrap_or(0));
    let longest = obligations.max_duration.map(Duration::from_secs);
    Terms {
        id: id.to_owned(),
        cols,
        rows,
        read_only: obligations.read_only,
        idle_timeout: obligations.idle_timeout.map(Duration::from_secs),
        max_duration: [until.map(Duration::from_millis), longest].into_iter().flatten().min(),
    }
}

fn header(permit: &Permit, id: &str, (cols, rows): (u16, u16)) -> Header {
    Header {
        facts: Facts {
            session: id.to_owned(),
            user: permit.user.id.clone(),
            asset: permit.asset.id.clone(),
            started: String::new(),
            cols,
            rows,
        },
        timestamp: 0,
        title: Some(format!("{}@{}", permit.user.username, permit.asset.hostname)),
        term: "xterm-256color".to_owned(),
        shell: None,
        records_input: permit.obligations.record_input,
    }
}
