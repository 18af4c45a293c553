//! Live sessions by id: opened by a permit, handed to the agent they wait for, ended.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use openapi::frames::Frame;
use policies::Obligations;
use recordings::{Facts, Header, Recorder, Spool};
use serde_json::json;
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod relays;

use relays::Relay;
pub use relays::RelayRefused;

use crate::{
    access::Permit,
    clock::{self, Clock},
    db::{
        Db, DbError,
        audit::{Actor, Entry},
        sessions,
        slots::{Node, Opened, Slot},
    },
    session::{Ages, Asked, Doors, Event, Message, Outbox, Parts, Reason, Session, Terms},
    tickets::{RelayTicket, Tickets},
};

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

/// Why a session was not taken up.
#[derive(Debug, thiserror::Error)]
pub enum AttachRefused {
    /// It is over, or no such session is here.
    #[error("the session is over")]
    Gone,
}

/// A socket's hold on its session.
#[derive(Debug)]
pub struct Attached {
    /// The session's id.
    pub session: String,
    /// The socket's number: what it says is said with it.
    pub socket: u32,
    /// Where its frames go.
    pub inbox: mpsc::Sender<Message>,
    /// What it is to be sent.
    pub outbox: Arc<Outbox>,
    /// What it has said already.
    pub hello: Option<Frame>,
}

/// A watcher's hold on a session; leaving is dropping it.
pub struct Watch {
    /// The recording to follow, once it has begun.
    pub live: watch::Receiver<Option<recordings::Live>>,
    /// Cancelled when the watcher may see it no longer.
    pub stop: CancellationToken,
    _seat: WatchSeat,
}

/// A watcher's place among those of a session; leaving is dropping it.
struct WatchSeat {
    hub: Hub,
    session: String,
    number: u32,
}

impl Drop for WatchSeat {
    fn drop(&mut self) {
        if let Some(live) = self.hub.live().get_mut(&self.session) {
            live.watching.remove(&self.number);
            live.count_watchers();
        }
    }
}

/// Somebody who watches.
struct Watching {
    user: String,
    stop: CancellationToken,
}

struct Live {
    user: String,
    asset: String,
    /// For the agent, until it has come.
    task: Option<RelayTicket>,
    doors: Doors,
    /// The first reason stays.
    ending: watch::Sender<Option<Reason>>,
    relay: Relay,
    /// The number of the socket that came last.
    sockets: u32,
    /// That of the agent's socket.
    relay_socket: u32,
    watching: HashMap<u32, Watching>,
    /// How many; changes reach the session.
    watchers: watch::Sender<u32>,
}

impl Live {
    fn end(&self, reason: Reason) {
        self.ending.send_if_modified(|ending| {
            let first = ending.is_none();
            ending.get_or_insert(reason);
            first
        });
    }

    fn count_watchers(&self) {
        self.watchers.send_replace(u32::try_from(self.watching.len()).unwrap_or(u32::MAX));
    }

    fn next_socket(&mut self) -> (u32, mpsc::Sender<Message>) {
        self.sockets += 1;
        (self.sockets, self.doors.inbox.clone())
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
    graces: crate::config::Sessions,
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
    /// How long sessions wait for what they have lost.
    pub graces: crate::config::Sessions,
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
            graces: parts.graces,
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
        match inner.db.open_session(row.clone(), permit.slots.clone(), now, entry).await? {
            Opened::Yes => {}
            Opened::Full(slot) => return Err(OpenError::Full(slot)),
            Opened::Fenced => return Err(OpenError::Fenced),
        }
        let (strings, asked) = strings();
        let parts = self.parts(&row, &permit.obligations, header(&permit, &id, (cols, rows)));
        let (session, doors) = Session::new(parts, asked);
        let plain = permit.claims.plain;
        let task = RelayTicket {
            user: permit.user.id,
            username: permit.user.username,
            asset: permit.asset.id,
            session: id.clone(),
            run_as: permit.run_as,
            command: permit.claims.command,
            cols,
            rows,
            records_input: permit.obligations.record_input,
        };
        self.live_on(&row, session, doors, strings, (Relay::Waiting(None), Some(task)));
        let attached = self.attach(&id, plain, false).await;
        // Whoever took the right away while this session was opening did not find it among the live ones.
        match self.still_stand(&row.user_id, &row.asset_id).await {
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
        self.announce(&row.asset_id);
        attached.map_err(|AttachRefused::Gone| OpenError::Fenced)
    }

    /// Goes on with a session that an earlier life of this node left: its row, and its journal.
    pub fn go_on(&self, row: &sessions::Model, header: Header, recorder: Recorder) {
        let obligations = serde_json::from_str(&row.obligations).unwrap_or_else(|error| {
            // It was written by this program. What it demanded is unknown, so nothing more may be typed.
            tracing::error!(session = row.id, %error, "a session's obligations cannot be read");
            Obligations { read_only: true, ..Obligations::default() }
        });
        let (strings, asked) = strings();
        let now = self.0.clock.millis();
        let since = |then: i64| Duration::from_millis(u64::try_from(now - then).unwrap_or(0));
        let ages = Ages {
            session: since(row.created_at),
            recording: since(row.started_at.unwrap_or(row.created_at)),
        };
        let parts = self.parts(row, &obligations, header);
        let (session, doors) = Session::resumed(parts, recorder, &ages, asked);
        self.live_on(row, session, doors, strings, (Relay::Lost, None));
    }

    fn parts(&self, row: &sessions::Model, obligations: &Obligations, header: Header) -> Parts {
        let inner = &self.0;
        Parts {
            terms: Terms {
                // What its recording began as, not what a row says that may have been changed.
                records_input: header.records_input,
                ..terms(row, obligations, &inner.graces)
            },
            header,
            owner: row.user_id.clone(),
            spool: inner.spool.clone(),
            db: inner.db.clone(),
            clock: inner.clock.clone(),
        }
    }

    /// Gives a session its place and its task.
    fn live_on(
        &self,
        row: &sessions::Model,
        session: Session,
        doors: Doors,
        (ending, watchers): Strings,
        (relay, task): (Relay, Option<RelayTicket>),
    ) {
        let live = Live {
            user: row.user_id.clone(),
            asset: row.asset_id.clone(),
            task,
            doors,
            ending,
            relay,
            sockets: 0,
            relay_socket: 0,
            watching: HashMap::new(),
            watchers,
        };
        self.live().insert(row.id.clone(), live);
        let leave = Leave { hub: self.clone(), id: row.id.clone() };
        let shutdown = self.0.shutdown.clone();
        self.0.tasks.spawn(async move {
            let _leave = leave;
            session.run(shutdown).await;
        });
    }

    /// Goes on with one's session in another socket, which has said hello and replaces the one before.
    pub async fn reattach(
        &self,
        session: &str,
        permit: Permit,
        hello: Frame,
    ) -> Result<Attached, AttachRefused> {
        let own = |live: &Live| live.user == permit.user.id && live.asset == permit.asset.id;
        if !self.live().get(session).is_some_and(own) {
            return Err(AttachRefused::Gone);
        }
        let attached = self.attach(session, false, permit.obligations.read_only).await?;
        Ok(Attached { hello: Some(hello), ..attached })
    }

    async fn attach(&self, session: &str, plain: bool, read_only: bool) -> Result<Attached, AttachRefused> {
        let (socket, inbox) =
            self.live().get_mut(session).map(Live::next_socket).ok_or(AttachRefused::Gone)?;
        let outbox = Arc::new(Outbox::for_browser());
        let here = Event::BrowserHere { socket, plain, read_only };
        let message = Message::Browser(outbox.clone(), here);
        inbox.send(message).await.map_err(|_| AttachRefused::Gone)?;
        Ok(Attached { session: session.to_owned(), socket, inbox, outbox, hello: None })
    }

    /// Follows a live session, as a user; `name` is for the recording's marker.
    pub async fn watch(&self, session: &str, user: &str, name: &str) -> Option<Watch> {
        let stop = CancellationToken::new();
        let (inbox, watch) = {
            let mut all = self.live();
            let live = all.get_mut(session)?;
            let (number, inbox) = live.next_socket();
            live.watching.insert(number, Watching { user: user.to_owned(), stop: stop.clone() });
            live.count_watchers();
            let seat = WatchSeat { hub: self.clone(), session: session.to_owned(), number };
            (inbox, Watch { live: live.doors.live.clone(), stop, _seat: seat })
        };
        // A session that is over needs no marker.
        let _ = inbox.send(Message::Event(Event::Mark(format!("{name} watches")))).await;
        Some(watch)
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

    /// Ends a live session; false when there is none such here.
    pub fn end(&self, session: &str, reason: Reason) -> bool {
        let live = self.live();
        let Some(live) = live.get(session) else { return false };
        live.end(reason);
        true
    }

    /// Ends every live session on an asset.
    pub fn end_on_asset(&self, asset: &str, reason: Reason) {
        self.end_all(reason, |live| live.asset == asset);
    }

    /// Ends every live session of a user, and what the user watches.
    pub fn end_of_user(&self, user: &str, reason: Reason) {
        let live = self.live();
        let watching = live.values().flat_map(|live| live.watching.values());
        watching.filter(|watching| watching.user == user).for_each(|watching| watching.stop.cancel());
        drop(live);
        self.end_all(reason, |live| live.user == user);
    }

    fn end_all(&self, reason: Reason, which: impl Fn(&Live) -> bool) {
        self.live().values().filter(|live| which(live)).for_each(|live| live.end(reason));
    }

    fn live(&self) -> MutexGuard<'_, HashMap<String, Live>> {
        lock(&self.0.live)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a session is led by.
type Strings = (watch::Sender<Option<Reason>>, watch::Sender<u32>);

fn strings() -> (Strings, Asked) {
    let ((end, ending), (count, watchers)) = (watch::channel(None), watch::channel(0));
    ((end, count), Asked { ending, watchers })
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
        plain: permit.claims.plain,
        command: permit.claims.command.clone(),
        run_as: permit.run_as.clone(),
        cols: cols.into(),
        rows: rows.into(),
        obligations: serde_json::to_string(&permit.obligations).unwrap_or_default(),
        ends_at: ends_at(permit, now),
        exit_code: None,
        exit_signal: None,
        created_at: now,
        started_at: None,
        ended_at: None,
    }
}

/// The ruling's own end and those of its obligations bound a session alike.
fn ends_at(permit: &Permit, now: i64) -> Option<i64> {
    let longest = permit.obligations.max_duration.and_then(|seconds| i64::try_from(seconds).ok());
    let longest = longest.map(|seconds| now.saturating_add(seconds.saturating_mul(1000)));
    [permit.obligations.not_after, permit.valid_until, longest].into_iter().flatten().min()
}

fn terms(row: &sessions::Model, obligations: &Obligations, graces: &crate::config::Sessions) -> Terms {
    let side = |side: i64| u16::try_from(side).unwrap_or(1);
    let longest = row.ends_at.map(|at| u64::try_from(at - row.created_at).unwrap_or(0));
    Terms {
        id: row.id.clone(),
        cols: side(row.cols),
        rows: side(row.rows),
        read_only: obligations.read_only,
        records_input: obligations.record_input,
        idle_timeout: obligations.idle_timeout.map(Duration::from_secs),
        max_duration: longest.map(Duration::from_millis),
        detach_grace: graces.detach_grace.0,
        resume_grace: graces.resume_grace.0,
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
