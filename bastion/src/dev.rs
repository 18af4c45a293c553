//! `castellan dev`: a whole Castellan on this machine, for trying it out. An admin, a bastion, an agent.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::TcpListener,
    process::{Child, Command},
    time::sleep,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    ServeError,
    app::App,
    clock,
    config::Config,
    db::{DbError, Page, registrations::Standing},
    enrolment::{Approval, DecisionRefused},
    operator::{Operator, OperatorError},
};

/// The admin of a development bastion.
const ADMIN: &str = "admin";

/// Why it did not start.
#[derive(Debug, thiserror::Error)]
pub enum DevError {
    /// The folder cannot be made.
    #[error("{}: {source}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}: {source}; choose another with --listen")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Anything but loopback needs TLS, and so a configuration.
    #[error("{0} is not this machine's loopback; use `castellan serve --config …` with TLS for others")]
    NotLoopback(SocketAddr),
    /// There is no agent to start.
    #[error("cannot start {}: {source}; it is built beside castellan by `make build`", path.display())]
    Agent {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The admin could not be made.
    #[error(transparent)]
    Operator(#[from] OperatorError),
    /// The bastion failed.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Runs until `shutdown`. Keeps everything under `data`; prints the address and a password that is good
/// until the next start.
///
/// # Errors
/// [`DevError`], with what to do.
pub async fn dev(data: &Path, listen: SocketAddr, shutdown: CancellationToken) -> Result<(), DevError> {
    if !listen.ip().is_loopback() {
        return Err(DevError::NotLoopback(listen));
    }
    let data = make_folder(data)?;
    let refused = |source| DevError::Listen { address: listen, source };
    let listener = TcpListener::bind(listen).await.map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let config = Config::for_dev(&data, address);
    let password = clock::random_secret()[..16].to_owned();
    let admin = admin(&config, &password).await?;

    let tasks = TaskTracker::new();
    let app = crate::start(config, &tasks, &shutdown).await?;
    let state = data.join("agent");
    let agent = start_agent(&agent_binary(), address, &state)?;
    tasks.spawn(approve_own_agent(app.clone(), state.join("client_id"), admin, shutdown.clone()));
    announce(address, &password, &data);
    let served = crate::run(app, listener, &tasks, &shutdown).await;
    stop_agent(agent).await;
    Ok(served?)
}

fn make_folder(data: &Path) -> Result<PathBuf, DevError> {
    let failed = |source| DevError::Folder { path: data.to_owned(), source };
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(data).map_err(failed)?;
    data.canonicalize().map_err(failed)
}

/// Makes the admin, or gives the one of an earlier start a new password. Returns the id.
async fn admin(config: &Config, password: &str) -> Result<String, OperatorError> {
    let operator = Operator::open(config).await?;
    let known = operator.users().await?.into_iter().find(|user| user.username == ADMIN);
    match known {
        Some(user) => {
            operator.set_password(ADMIN, password.to_owned()).await?;
            Ok(user.id)
        }
        None => operator.add_user(ADMIN, password.to_owned(), "admin").await,
    }
}

#[allow(clippy::print_stdout, reason = "this is what the command is for")]
fn announce(address: SocketAddr, password: &str, data: &Path) {
    println!("Castellan listens on http://{address}");
    println!("user {ADMIN}, one-time password: {password}");
    println!("data in {}; Ctrl-C stops", data.display());
}

fn agent_binary() -> PathBuf {
    let beside = std::env::current_exe().ok().map(|own| own.with_file_name("castellan-agent"));
    beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("castellan-agent"))
}

fn start_agent(binary: &Path, address: SocketAddr, state: &Path) -> Result<Child, DevError> {
    let arguments: [OsString; 7] = [
        "run".into(),
        "--server".into(),
        format!("http://{address}").into(),
        "--state-dir".into(),
        state.into(),
        "--label".into(),
        "env=dev".into(),
    ];
    Command::new(binary)
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| DevError::Agent { path: binary.to_owned(), source })
}

/// Asks the agent to stop, so that it ends its shells; does not wait for ever.
async fn stop_agent(mut agent: Child) {
    if let Some(id) = agent.id() {
        let asked = Command::new("kill").arg(id.to_string()).status().await;
        if asked.is_ok_and(|status| status.success())
            && tokio::time::timeout(Duration::from_secs(10), agent.wait()).await.is_ok()
        {
            return;
        }
    }
    if let Err(error) = agent.kill().await {
        tracing::warn!(%error, "the agent did not stop");
    }
}

/// Approves the agent that this process started itself, known by the id in its state folder, and nobody else.
async fn approve_own_agent(app: Arc<App>, id_file: PathBuf, admin: String, shutdown: CancellationToken) {
    let mut approved = false;
    while !approved {
        if let Ok(id) = tokio::fs::read_to_string(&id_file).await {
            match approve(&app, id.trim(), &admin).await {
                Ok(done) => approved = done,
                Err(error) => tracing::warn!(%error, "this host is not approved yet"),
            }
        }
        if shutdown.run_until_cancelled(sleep(Duration::from_millis(100))).await.is_none() {
            return;
        }
    }
}

/// True once the host is enrolled.
async fn approve(app: &App, client_id: &str, admin: &str) -> Result<bool, DecisionRefused> {
    if app.db.asset(client_id).await?.is_some() {
        return Ok(true);
    }
    let Some(apply_id) = pending(app, client_id).await? else { return Ok(false) };
    let allowed_users = Some(vec![admin.to_owned()]);
    let approval = Approval { allowed_users, ..Approval::default() };
    app.enrolment.approve(&apply_id, approval, admin).await?;
    Ok(true)
}

async fn pending(app: &App, client_id: &str) -> Result<Option<String>, DbError> {
    let page = Page { cursor: None, limit: 200 };
    let now = app.clock.millis();
    let (rows, _) = app.db.applications(Some(Standing::Pending), now, &page).await?;
    Ok(rows.into_iter().find(|row| row.client_id == client_id).map(|row| row.apply_id))
}
