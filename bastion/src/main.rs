//! The bastion's command line: configuration, signals, and the only process exit.

use std::{
    io::{IsTerminal as _, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, Result, bail};
use bastion::{
    config::{Config, Log, LogFormat},
    operator::Operator,
};
use clap::{Parser, Subcommand, ValueEnum};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

mod verifying;

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CASTELLAN_COMMIT"), ")");

const EXAMPLES: &str = "\
Examples:
  castellan dev
  castellan config check --config castellan.toml
  castellan user add alice --role admin --password-stdin --config castellan.toml < password
  castellan serve --config castellan.toml
  castellan verify session.cast.zst --keys jwks.json

Exit codes (those of verify are its own: see castellan verify --help):
  0    done, or stopped by a signal
  1    failed; the message says what to do
  2    wrong usage
  130  forced to stop by a second signal";

/// A bastion for terminals: people open a shell on any enrolled host from the browser, a chain of policies
/// decides, and every byte shown is recorded first.
#[derive(Parser)]
#[command(name = "castellan", version = VERSION, after_long_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Try it out: a bastion, an admin and an agent on this machine.
    ///
    /// Keeps everything in one folder, listens on loopback over plain HTTP, and prints the address and a
    /// password that is good until the next start.
    #[command(
        after_long_help = "Examples:\n  castellan dev\n  castellan dev --listen 127.0.0.1:9000 --data /tmp/castellan"
    )]
    Dev {
        /// Where to listen; port 0 takes a free one.
        #[arg(long, default_value = "127.0.0.1:8090")]
        listen: SocketAddr,
        /// Where everything is kept.
        #[arg(long, default_value = ".dev")]
        data: PathBuf,
    },
    /// Run the bastion.
    #[command(after_long_help = "Example:\n  castellan serve --config /etc/castellan/castellan.toml")]
    Serve {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Add users, set passwords, list users; works before the first start.
    #[command(subcommand)]
    User(UserCommand),
    /// Tell whether recordings are what was sealed, offline; or whether the audit log is what was written.
    Verify(verifying::Verify),
    /// Print the published API contract.
    Openapi,
    /// Check the configuration, or print its schema.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(clap::Args)]
struct ConfigFile {
    /// The configuration; each key may be overridden by CASTELLAN__SECTION__KEY.
    #[arg(long, env = "CASTELLAN_CONFIG", default_value = "/etc/castellan/castellan.toml")]
    config: PathBuf,
}

#[derive(Subcommand)]
enum UserCommand {
    /// Add a user.
    #[command(
        after_long_help = "Example:\n  castellan user add alice --role admin --password-stdin --config castellan.toml < password"
    )]
    Add {
        /// The user's name, 1 to 64 characters.
        name: String,
        /// What the user may do.
        #[arg(long, default_value = "user")]
        role: Role,
        /// Read the password from standard input (one trailing newline is stripped), 12 to 256 bytes.
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Set a user's password and end the user's logins.
    Password {
        /// The user's name.
        name: String,
        /// Read the password from standard input (one trailing newline is stripped), 12 to 256 bytes.
        #[arg(long)]
        password_stdin: bool,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// List the users.
    List {
        #[command(flatten)]
        config: ConfigFile,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum Role {
    /// Everything but terminals, which take a grant like anybody's.
    Admin,
    /// Reads sessions, recordings and the audit log.
    Auditor,
    /// Opens terminals where granted.
    User,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Say what is wrong with the configuration, key and line, or that nothing is.
    Check {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Print the JSON Schema of the configuration: every key, its meaning and its default.
    Schema,
}

fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return misused(&error),
    };
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("castellan: {}", told_once(&error));
            ExitCode::FAILURE
        }
    }
}

/// Help and version, or what is wrong with the arguments; `verify` keeps its other codes for verdicts.
fn misused(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || std::env::args_os().nth(1).is_none_or(|name| name != "verify") {
        error.exit();
    }
    // Where the standard error is gone, the code still says it.
    let _ = error.print();
    ExitCode::from(verifying::NOT_JUDGED)
}

fn run(command: Command) -> Result<ExitCode> {
    // Both TLS libraries' providers are in the tree; this one is meant.
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        bail!("the TLS provider was chosen before");
    }
    let done = match command {
        Command::Openapi => {
            print!("{}", bastion::spec());
            Ok(())
        }
        Command::Config(ConfigCommand::Schema) => {
            println!("{}", serde_json::to_string_pretty(&Config::schema())?);
            Ok(())
        }
        Command::Config(ConfigCommand::Check { config }) => {
            load(&config.config)?;
            println!("{}: no faults", config.config.display());
            Ok(())
        }
        Command::Dev { listen, data } => {
            log(&Log { level: "warn,bastion=info".to_owned(), ..Log::default() })?;
            runtime()?.block_on(async { Ok(bastion::dev(&data, listen, on_signal()?).await?) })
        }
        Command::Serve { config } => {
            let config = load(&config.config)?;
            log(&config.log)?;
            runtime()?.block_on(serve(config))
        }
        Command::User(command) => runtime()?.block_on(user(command)),
        Command::Verify(verify) => return Ok(verify.run()),
    };
    done.map(|()| ExitCode::SUCCESS)
}

/// The chain of reasons; many of ours name their source already.
fn told_once(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, reason| {
        if said.is_empty() || said.ends_with(&reason) {
            return if said.is_empty() { reason } else { said };
        }
        format!("{said}: {reason}")
    })
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("no runtime")
}

fn load(path: &Path) -> Result<Config> {
    Ok(Config::load(path, std::env::vars())?)
}

fn log(log: &Log) -> Result<()> {
    let filter = EnvFilter::try_new(&log.level).context("log.level")?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Text => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().init(),
    }
    Ok(())
}

async fn serve(config: Config) -> Result<()> {
    let address = config.server.listen;
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("server.listen: cannot listen on {address}"))?;
    Ok(bastion::serve(config, listener, on_signal()?).await?)
}

/// Cancelled by the first SIGTERM or SIGINT; the second one forces the exit.
fn on_signal() -> Result<CancellationToken> {
    let token = CancellationToken::new();
    let cancelled = token.clone();
    // A runtime of its own: it answers even when the other one is stuck.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = {
        let _inside = runtime.enter();
        signals()?
    };
    let wait = move || {
        runtime.block_on(signals.next());
        cancelled.cancel();
        runtime.block_on(signals.next());
        std::process::exit(130);
    };
    std::thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(token)
}

#[cfg(unix)]
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

#[cfg(unix)]
fn signals() -> Result<Signals> {
    use tokio::signal::unix::{SignalKind, signal};
    Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
}

#[cfg(unix)]
impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

async fn user(command: UserCommand) -> Result<()> {
    match command {
        UserCommand::Add { name, role, password_stdin, config } => {
            let password = password(password_stdin)?;
            let role = role.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            let operator = Operator::open(&load(&config.config)?).await?;
            let id = operator.add_user(&name, password, &role).await?;
            println!("added {name} ({role}), id {id}");
        }
        UserCommand::Password { name, password_stdin, config } => {
            let password = password(password_stdin)?;
            Operator::open(&load(&config.config)?).await?.set_password(&name, password).await?;
            println!("{name} has a new password; the logins of {name} have ended");
        }
        UserCommand::List { config } => {
            for user in Operator::open(&load(&config.config)?).await?.users().await? {
                let disabled = if user.disabled { " (disabled)" } else { "" };
                println!("{}  {:8} {}{disabled}", user.id, user.role, user.username);
            }
        }
    }
    Ok(())
}

fn password(from_stdin: bool) -> Result<String> {
    if !from_stdin {
        bail!("give the password on standard input, with --password-stdin");
    }
    let mut text = String::new();
    std::io::stdin().take(4096).read_to_string(&mut text).context("the password is no text")?;
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}
