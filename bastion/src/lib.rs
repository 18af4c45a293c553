//! The bastion: composes everything; owns every URL and every table.
//!
//! [`serve`] is the server as a function: what starts, in what order, and how it stops.

use std::{sync::Arc, time::Duration};

use recordings::{Library, Spool, SpoolOptions, Store, UploadOptions, Uploader, open_store};
use tokio::{
    net::TcpListener,
    time::{Instant, Interval, MissedTickBehavior, interval, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

mod access;
mod api;
mod app;
mod clock;
pub mod config;
mod db;
mod dev;
mod door;
mod enrolment;
mod hub;
mod keeping;
pub mod operator;
mod pages;
mod passwords;
mod routes;
pub mod seals;
mod session;
mod signing;
mod sockets;
mod tickets;
mod vault;

use access::{Access, Refused};
use app::{App, Limits};
use clock::Clock;
use config::Config;
use db::{Db, DbError, slots::Node};
use enrolment::Enrolment;
use hub::{Hub, HubParts};
use session::{Reason, end_row};
use signing::Signing;
use vault::Vault;

pub use api::spec;
pub use dev::{DevError, dev};

/// The name of a bastion that is alone.
const NODE: &str = "main";
/// How often the node renews its lease.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// How long a lease runs.
const LEASE: Duration = Duration::from_millis(db::slots::LEASE.cast_unsigned());
/// How often what is past is forgotten.
const SWEEP: Duration = Duration::from_secs(60);
/// How long the sessions have to end in order when the bastion stops.
const ORDERLY: Duration = Duration::from_secs(20);

/// Why the bastion did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The database cannot be opened.
    #[error("database.url: {0}")]
    Db(#[from] db::DbError),
    /// The key file is missing, wrong or loose.
    #[error("keys.file: {0}")]
    Vault(#[from] vault::VaultError),
    /// A signing key is damaged.
    #[error(transparent)]
    Signing(#[from] signing::SigningError),
    /// Nothing could be recorded.
    #[error("spool.dir: {0}")]
    Spool(#[from] recordings::SpoolError),
    /// Nothing could be kept.
    #[error("store.url: {0}")]
    Store(#[from] recordings::StoreError),
    /// The policy document that rules cannot be used.
    #[error("policies: {0}")]
    Policies(#[from] Refused),
    /// argon2 does not work here.
    #[error(transparent)]
    Passwords(#[from] passwords::PasswordError),
    /// The certificate or its key cannot be used.
    #[error("server.tls: {0}")]
    Tls(#[from] door::TlsError),
    /// The listener failed.
    #[error("server.listen: {0}")]
    Listen(#[from] std::io::Error),
}

/// Runs a bastion on `listener` until `shutdown`; then ends what lives in order.
///
/// # Errors
/// [`ServeError`], naming the setting at fault.
pub async fn serve(
    config: Config,
    listener: TcpListener,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let tasks = TaskTracker::new();
    let app = start(config, &tasks, &shutdown).await?;
    tracing::info!(address = app.config.public_origin(), "Castellan listens");
    run(app, listener, &tasks, &shutdown).await
}

/// Opens the door until `shutdown`, then waits for what lives to end.
async fn run(
    app: Arc<App>,
    listener: TcpListener,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<(), ServeError> {
    let door = door::Door::from_config(&app.config)?;
    let local = listener.local_addr()?;
    let endpoint = door::Guard::new(&app.config, local).around(routes::routes(app));
    let served = door::serve(listener, endpoint, door, tasks, shutdown.clone()).await;
    // A door that failed must not leave the rest running.
    shutdown.cancel();
    tasks.close();
    if timeout(ORDERLY, tasks.wait()).await.is_err() {
        tracing::warn!("some tasks did not end in time; what they recorded is sealed at the next start");
    }
    Ok(served?)
}

async fn start(
    config: Config,
    tasks: &TaskTracker,
    shutdown: &CancellationToken,
) -> Result<Arc<App>, ServeError> {
    let clock = Clock::system();
    let db = Db::open(config.database.url.expose()).await?;
    let vault = Arc::new(Vault::open(&config.keys.file, &db).await?);
    let signing = Arc::new(Signing::open(&db, &vault, &clock).await?);
    // First the spool: its lock keeps a second bastion from fencing this one.
    let spool = Spool::open(spool_options(&config))?;
    let node = db.begin_node(NODE, clock.millis()).await?;
    let store = open_store(&store_url(&config))?;

    let origin = config.public_origin();
    let tickets = tickets::Tickets::new(db.clone(), signing.clone(), clock.clone(), &origin);
    let access = Access::open(db.clone(), tickets.clone(), spool.clone(), clock.clone()).await?;
    let hub = Hub::new(HubParts {
        db: db.clone(),
        spool: spool.clone(),
        tickets,
        clock: clock.clone(),
        node: node.clone(),
        ws_base: config.ws_base(),
        tasks: tasks.clone(),
        shutdown: shutdown.clone(),
        graces: config.sessions.clone(),
    });
    take_up_what_was_left(&db, &spool, &node, &hub, &clock).await?;
    tasks.spawn(uploader(&config, &db, &spool, &store, &signing, &clock).run(shutdown.clone()));
    tasks.spawn(keep_lease(db.clone(), hub.clone(), clock.clone(), shutdown.clone()));
    tasks.spawn(sweep(db.clone(), clock.clone(), shutdown.clone()));
    Ok(Arc::new(App {
        origins: config.allowed_origins(),
        enrolment: Enrolment::new(
            db.clone(),
            vault.clone(),
            signing.clone(),
            clock.clone(),
            shutdown.clone(),
        ),
        library: Library::new(store.clone(), spool.clone()),
        passwords: passwords::Passwords::new()?,
        limits: Limits::new(&config.rate_limits),
        tasks: tasks.clone(),
        config,
        db,
        vault,
        signing,
        access,
        hub,
        spool,
        store,
        clock,
    }))
}

fn spool_options(config: &Config) -> SpoolOptions {
    SpoolOptions {
        dir: config.spool.dir.clone(),
        min_free: config.spool.min_free.0,
        durability: match config.recordings.durability {
            config::Durability::Written => recordings::Durability::Written,
            config::Durability::Synced => recordings::Durability::Synced,
        },
    }
}

fn store_url(config: &Config) -> String {
    let (url, prefix) = (config.store.url.trim_end_matches('/'), config.store.prefix.trim_matches('/'));
    if prefix.is_empty() { url.to_owned() } else { format!("{url}/{prefix}") }
}

fn uploader(
    config: &Config,
    db: &Db,
    spool: &Spool,
    store: &Store,
    signing: &Arc<Signing>,
    clock: &Clock,
) -> Uploader {
    let ledger = keeping::Rows { db: db.clone(), clock: clock.clone() };
    let sealer = keeping::RecordingKey { signing: signing.clone(), issuer: config.public_origin() };
    let options = UploadOptions {
        compression: match config.recordings.compression {
            config::Compression::Zstd => recordings::Compression::Zstd,
            config::Compression::None => recordings::Compression::None,
        },
        now: || Clock::system().seconds(),
        chance: clock::fraction,
    };
    Uploader::new(spool.clone(), store.clone(), Arc::new(ledger), Arc::new(sealer), options)
}

/// Goes on with the sessions of this node's earlier lives that have a journal: they wait for their agents. The
/// others end, and so does what cannot be gone on with.
async fn take_up_what_was_left(
    db: &Db,
    spool: &Spool,
    node: &Node,
    hub: &Hub,
    clock: &Clock,
) -> Result<(), ServeError> {
    let recovery = spool.recover().await?;
    for aside in &recovery.aside {
        tracing::error!(session = aside.session, path = %aside.path.display(), reason = aside.reason,
            "a spool file is set aside");
        lost(db, clock, &aside.session, &aside.reason).await;
    }
    for journal in recovery.found.iter().filter(|journal| journal.end.is_none()) {
        let session = &journal.header.facts.session;
        if take_up(db, spool, node, hub, &journal.header).await? {
            tracing::info!(session, "a session goes on; it waits for its agent");
        } else if let Err(error) = spool.seal_interrupted(session, Reason::Error.as_str()).await {
            tracing::error!(session, %error, "a journal is not sealed; the next start tries again");
        }
    }
    for journal in &recovery.found {
        if let Some(end) = &journal.end {
            // Killed after the recording was finished and before the row was.
            let reason = Reason::named(&end.reason).unwrap_or(Reason::Error);
            end_row(db, clock, &journal.header.facts.session, reason, journal.exit.as_ref()).await?;
        }
    }
    for session in db.abandoned_sessions(node).await? {
        let is_its = |journal: &recordings::Recovered| journal.header.facts.session == session.id;
        let aside = recovery.aside.iter().any(|aside| aside.session == session.id);
        if session.started_at.is_some() && !aside && !recovery.found.iter().any(is_its) {
            lost(db, clock, &session.id, "its journal is gone from the spool").await;
        }
        end_row(db, clock, &session.id, Reason::Error, None).await?;
    }
    Ok(())
}

/// A recording that cannot be kept says why.
async fn lost(db: &Db, clock: &Clock, session: &str, reason: &str) {
    let state = recordings::RecordingState::Failed { reason: reason.to_owned() };
    let rows = keeping::Rows { db: db.clone(), clock: clock.clone() };
    if let Err(error) = recordings::Ledger::moved(&rows, session, &state).await {
        tracing::error!(session, %error, "its row does not say that it is lost");
    }
}

/// Whether the session of this journal lives, and goes on.
async fn take_up(
    db: &Db,
    spool: &Spool,
    node: &Node,
    hub: &Hub,
    header: &recordings::Header,
) -> Result<bool, ServeError> {
    let session = &header.facts.session;
    // A plain client cannot come back, so its session does not either.
    let goes_on = |row: &db::sessions::Model| row.ended_at.is_none() && !row.plain;
    let Some(row) = db.session(session).await?.filter(goes_on) else { return Ok(false) };
    match spool.resume(session).await {
        Err(error) => {
            tracing::error!(session, %error, "a journal cannot be gone on with");
            Ok(false)
        }
        Ok(recorder) => {
            let lives = db.retake_session(session, node).await?;
            if lives {
                hub.go_on(&row, header.clone(), recorder);
            }
            Ok(lives)
        }
    }
}

/// Renews the lease. When it has run out what lives no longer counts for the limits, and so ends.
async fn keep_lease(db: Db, hub: Hub, clock: Clock, shutdown: CancellationToken) {
    let mut ticks = ticks(HEARTBEAT);
    let mut renewed = Instant::now();
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        match renew_lease(&db, &hub, clock.millis()).await {
            Ok(()) => renewed = Instant::now(),
            Err(error) => {
                tracing::warn!(%error, "the lease is not renewed");
                if renewed.elapsed() >= LEASE {
                    hub.end_everything(Reason::Error);
                }
            }
        }
    }
}

async fn renew_lease(db: &Db, hub: &Hub, now: i64) -> Result<(), DbError> {
    let node = hub.node();
    if db.renew_lease(&node, now).await? {
        return Ok(());
    }
    match db.reclaim_node(&node, now).await? {
        Some(node) => {
            tracing::warn!("the lease had run out; what lived has ended, new sessions open again");
            hub.begin_again(node);
        }
        None => {
            tracing::error!("another bastion has taken this one's place in the database; stop one of them");
        }
    }
    Ok(())
}

async fn sweep(db: Db, clock: Clock, shutdown: CancellationToken) {
    let mut ticks = ticks(SWEEP);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = forget(&db, clock.millis()).await {
            tracing::warn!(%error, "what is past is not forgotten yet");
        }
    }
}

async fn forget(db: &Db, now: i64) -> Result<(), DbError> {
    db.forget_nonces(now).await?;
    db.forget_logins(now - 30 * 24 * 3600 * 1000).await?;
    db.forget_tickets(now - 3600 * 1000).await
}

fn ticks(period: Duration) -> Interval {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}
