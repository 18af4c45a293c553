//! The agent: runs on a host, dials out, serves shells.
//!
//! [`run`] is the whole of it: known to a bastion or getting known, then heartbeats and sessions until it is told
//! to stop.

mod backoff;
pub mod client;
mod echo;
pub mod enrol;
mod heartbeat;
pub mod identity;
pub mod metrics;
pub mod parting;
pub mod platform;
pub mod processes;
pub mod relay;
pub mod session;
pub mod shell;
pub mod stream;
pub mod tasks;
pub mod trust;
pub mod wire;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use openapi::{agents, keys::Secret, signature::SigningKey};
pub use shell::Shell;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    backoff::Backoff,
    client::{Client, ClientError},
    enrol::{EnrolError, Introduction},
    identity::{Identity, IdentityError},
    metrics::Host,
    tasks::Sessions,
    trust::{Trust, TrustError},
};

/// The agent's version and the commit it is built from.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "+", env!("CASTELLAN_COMMIT"));
/// The longest pause before the bastion is asked again who it is.
const CAP: Duration = Duration::from_secs(60);
/// How long a bastion that does not say so waits for a session's agent, in seconds, and how long any may.
const RESUME_GRACE: (u64, u64) = (60, 24 * 60 * 60);

/// What an agent's owner may set.
#[derive(Clone, Debug)]
pub struct Options {
    /// The bastion's root: `https://…`, or `http://` to loopback.
    pub server: String,
    /// Where id, keys and secret are kept.
    pub state_dir: PathBuf,
    /// Labels to propose.
    pub labels: BTreeMap<String, String>,
    /// The host's name; none: what the host says.
    pub hostname: Option<String>,
    /// The thumbprint the bastion's identity key must have.
    pub pin: Option<String>,
    /// The only certificate authorities to trust, as PEM; none: the host's.
    pub ca: Option<PathBuf>,
    /// Accounts beside the agent's own in which sessions may run.
    pub allow_run_as: Vec<String>,
    /// Whether `allow_run_as` may name the superuser.
    pub allow_root: bool,
    /// Whether what a session leaves running is ended with it.
    pub kill_on_end: bool,
    /// What sessions run.
    pub shell: Shell,
}

impl Options {
    /// The usual settings for a bastion and a state folder.
    #[must_use]
    pub fn new(server: impl Into<String>, state_dir: impl Into<PathBuf>) -> Self {
        Self {
            server: server.into(),
            state_dir: state_dir.into(),
            labels: BTreeMap::new(),
            hostname: None,
            pin: None,
            ca: None,
            allow_run_as: Vec::new(),
            allow_root: false,
            kill_on_end: true,
            shell: Shell::Login,
        }
    }
}

/// Why the agent cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A setting that cannot be used.
    #[error("{0}")]
    Option(String),
    /// The state folder.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The bastion's address or certificate authority.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The bastion is not the known one.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The agent was not let in.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
}

/// What the agent's parts share once it is let in.
pub(crate) struct Agent {
    client: Client,
    identity: Identity,
    key: SigningKey,
    trust: Trust,
    sessions: Arc<Sessions>,
    allowed: shell::Allowed,
    kill_on_end: bool,
    shell: Shell,
    tracker: TaskTracker,
    // Seconds.
    resume_grace: AtomicU64,
}

impl Agent {
    /// Takes the bastion's word for how long its sessions wait for their agent.
    fn set_resume_grace(&self, seconds: Option<u64>) {
        let (usual, most) = RESUME_GRACE;
        self.resume_grace.store(seconds.unwrap_or(usual).min(most), Ordering::Relaxed);
    }

    /// How long the bastion's sessions wait for their agent.
    fn resume_grace(&self) -> Duration {
        Duration::from_secs(self.resume_grace.load(Ordering::Relaxed))
    }
}

/// Runs until `shutdown` is cancelled; then every shell has ended and every task is joined before it returns.
///
/// # Errors
/// [`AgentError`] for what will not pass by itself; a bastion that is away is waited for.
pub async fn run(options: Options, shutdown: CancellationToken) -> Result<(), AgentError> {
    check_labels(&options.labels)?;
    // A second installation is refused and harmless: somebody chose before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let client = Client::new(&options.server, options.ca.as_deref())?;
    let identity = load(&options.state_dir).await?;
    let entering = enter(&options, &client, &identity);
    let Some(entered) = shutdown.run_until_cancelled(entering).await else { return Ok(()) };
    let (trust, secret) = entered?;
    let agent = Arc::new(Agent {
        client,
        identity,
        key: SigningKey::Hmac(secret),
        trust,
        sessions: Arc::default(),
        allowed: shell::Allowed { run_as: options.allow_run_as, root: options.allow_root },
        kill_on_end: options.kill_on_end,
        shell: options.shell,
        tracker: TaskTracker::new(),
        resume_grace: AtomicU64::new(RESUME_GRACE.0),
    });
    tokio::join!(heartbeat::run(&agent, &shutdown), tasks::run(&agent, &shutdown));
    agent.tracker.close();
    agent.tracker.wait().await;
    Ok(())
}

/// Making a key takes the processor for a while, so not on an async thread.
async fn load(folder: &Path) -> Result<Identity, AgentError> {
    let folder = folder.to_owned();
    let loaded = tokio::task::spawn_blocking(move || Identity::load_or_create(&folder)).await;
    Ok(loaded.map_err(|error| IdentityError::Key(error.to_string()))??)
}

/// Knows the bastion, and is known to it.
async fn enter(
    options: &Options,
    client: &Client,
    identity: &Identity,
) -> Result<(Trust, Secret), AgentError> {
    let trust = know(client, identity, options.pin.as_deref()).await?;
    if let Some(secret) = identity.secret()? {
        return Ok((trust, secret));
    }
    let introduction = introduce(options).await;
    let secret = enrol::enrol(client, identity, &trust.identity().await, &introduction).await?;
    Ok((trust, secret))
}

async fn know(client: &Client, identity: &Identity, pin: Option<&str>) -> Result<Trust, TrustError> {
    let mut backoff = Backoff::default();
    loop {
        match Trust::establish(client, identity, pin).await {
            Err(TrustError::Client(error)) => {
                tracing::warn!(%error, "the bastion's keys are not to be had; trying again");
                let wait = backoff.next(CAP, &mut crate::backoff::dice());
                tokio::time::sleep(wait).await;
            }
            known => return known,
        }
    }
}

async fn introduce(options: &Options) -> Introduction {
    let hostname = options.hostname.clone().or_else(|| sysinfo::System::host_name().ok());
    let static_info = tokio::task::spawn_blocking(|| Host::new().static_info()).await.unwrap_or_default();
    Introduction {
        hostname: agents::clean(&hostname.unwrap_or_else(|| "unknown".to_owned()), agents::HOSTNAME_MAX),
        labels: options.labels.clone(),
        static_info,
    }
}

fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), AgentError> {
    if labels.len() > agents::LABELS_MAX {
        return Err(AgentError::Option(format!("at most {} labels", agents::LABELS_MAX)));
    }
    for (key, value) in labels {
        if !agents::valid_label_key(key) || !agents::valid_label_value(value) {
            return Err(AgentError::Option(format!("{key}={value} is not a valid label")));
        }
    }
    Ok(())
}
