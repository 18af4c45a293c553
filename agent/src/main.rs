//! The agent's command line, signals and exit codes; everything else is the library's.

use std::{collections::BTreeMap, path::PathBuf, process::ExitCode};

use agent::{AgentError, Options, enrol::EnrolError, identity, platform::Stop, trust::TrustError};
use clap::{Args, Parser, Subcommand};
use tokio_util::sync::CancellationToken;

const EXAMPLES: &str = "\
Examples:
  castellan-agent run --server https://bastion.example --label env=prod --label team=web
  castellan-agent run --server https://bastion.example --pin kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k
  castellan-agent run --server http://127.0.0.1:8080 --state-dir /tmp/agent
  castellan-agent status

Exit codes:
  0  stopped by a signal; status: approved
  1  failed; status: not approved yet
  2  wrong usage
  3  an admin rejected the application
  4  the state folder cannot be used (the message names the file)
  5  the bastion is not the one that was pinned";

/// Serves terminals of this host to the users of a Castellan bastion.
///
/// The agent dials out: the host needs no open port. At its first start it makes a key, prints the key's fingerprint
/// and waits until an admin of the bastion has compared and approved it.
#[derive(Parser)]
#[command(name = "castellan-agent", version = agent::VERSION, after_long_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Enrol if need be, then serve sessions until SIGTERM or SIGINT.
    #[command(after_long_help = EXAMPLES)]
    Run(Run),
    /// Show this host's id and fingerprint, whether it is approved, and which bastion it knows.
    Status {
        #[command(flatten)]
        state: State,
    },
}

#[derive(Args)]
struct State {
    /// Where id, keys and secret are kept [default: ~/.ssh/castellan]. Only its owner may have access.
    #[arg(long, env = "CASTELLAN_STATE_DIR")]
    state_dir: Option<PathBuf>,
}

#[derive(Args)]
struct Run {
    /// The bastion: https://…, or http:// to loopback.
    #[arg(long, env = "CASTELLAN_SERVER")]
    server: String,
    #[command(flatten)]
    state: State,
    /// A label to propose, as in Kubernetes; may be given again. An admin decides.
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// The host's name to show, instead of its own.
    #[arg(long)]
    hostname: Option<String>,
    /// The thumbprint (RFC 7638) that the bastion's identity key must have.
    #[arg(long, value_name = "THUMBPRINT")]
    pin: Option<String>,
    /// PEM file of the only certificate authorities to trust, instead of the host's.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// An account, beside the agent's own, in which sessions may run; may be given again.
    #[arg(long = "allow-run-as", value_name = "USER")]
    allow_run_as: Vec<String>,
    /// Let --allow-run-as name the superuser.
    #[arg(long)]
    allow_root: bool,
    /// Leave running what a session started and left behind (nohup, tmux), instead of ending it.
    #[arg(long)]
    keep_processes: bool,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into());
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
    let done = match Cli::parse().command {
        Command::Run(run) => serve(run),
        Command::Status { state } => status(state),
    };
    done.unwrap_or_else(|error| {
        tracing::error!("{error}");
        ExitCode::from(exit_code(&error))
    })
}

fn exit_code(error: &AgentError) -> u8 {
    match error {
        AgentError::Option(_) => 2,
        AgentError::Enrol(EnrolError::Rejected(_)) => 3,
        AgentError::Identity(_)
        | AgentError::Enrol(EnrolError::Identity(_))
        | AgentError::Trust(TrustError::Identity(_)) => 4,
        AgentError::Trust(TrustError::Pin { .. } | TrustError::Signature(_))
        | AgentError::Enrol(EnrolError::Proof(_)) => 5,
        AgentError::Client(_)
        | AgentError::Enrol(EnrolError::Client(_) | EnrolError::Secret(_))
        | AgentError::Trust(TrustError::Client(_)) => 1,
    }
}

fn folder(state: State) -> Result<PathBuf, AgentError> {
    Ok(state.state_dir.map_or_else(identity::default_folder, Ok)?)
}

fn serve(run: Run) -> Result<ExitCode, AgentError> {
    let options = Options {
        labels: run.labels.into_iter().collect::<BTreeMap<_, _>>(),
        hostname: run.hostname,
        pin: run.pin,
        ca: run.ca,
        allow_run_as: run.allow_run_as,
        allow_root: run.allow_root,
        kill_on_end: !run.keep_processes,
        ..Options::new(run.server, folder(run.state)?)
    };
    let failed = |error: std::io::Error| AgentError::Option(format!("the runtime cannot start: {error}"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let shutdown = CancellationToken::new();
        let mut signals = Stop::listen().map_err(failed)?;
        let running = agent::run(options, shutdown.clone());
        tokio::pin!(running);
        tokio::select! {
            ended = &mut running => ended?,
            () = signals.recv() => {
                tracing::info!("stopping: sessions are ended");
                shutdown.cancel();
                running.await?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

#[allow(clippy::print_stdout, reason = "printing is what this command is for")]
fn status(state: State) -> Result<ExitCode, AgentError> {
    let folder = folder(state)?;
    let Some(summary) = identity::peek(&folder)? else {
        println!("no agent has run on {}", folder.display());
        return Ok(ExitCode::FAILURE);
    };
    println!("id           {}", summary.client_id);
    println!("fingerprint  {}", summary.fingerprint);
    println!(
        "bastion      {}",
        if summary.bastion.is_empty() { "none yet".to_owned() } else { summary.bastion.join(", ") }
    );
    println!("approved     {}", if summary.approved { "yes" } else { "not yet" });
    Ok(if summary.approved { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
