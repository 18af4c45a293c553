//! A session's shell on its terminal: how it starts, is read, written and sized, and how it ends.
//!
//! The terminal is driven by the runtime's readiness, not by threads: a read that is not wanted is simply not made,
//! so a spent window needs no second mechanism, and an abandoned session leaves no blocked thread behind.

use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read as _, Write as _},
    os::{fd::AsFd as _, unix::process::ExitStatusExt as _},
    process::Child,
    sync::{Mutex, MutexGuard, PoisonError},
};

use openapi::agents::COMMAND_MAX;
use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use tokio::{io::unix::AsyncFd, signal::unix, sync::Notify};

use crate::{
    platform::{self, Account},
    processes,
};

/// The search path of every shell, until the shell's own start files change it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How many echoed bytes the test double holds before it takes no more input.
const LOOP_ROOM: usize = 64 * 1024;
/// The exit code of a session whose shell could not be started, as shells have it.
const CANNOT_RUN: i32 = 126;

/// Why a shell could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ShellError {
    /// The host has no account of this name.
    #[error("this host has no account {0:?}")]
    NoAccount(String),
    /// The agent's own rules forbid the account.
    #[error("this host's agent does not allow sessions as {0:?}")]
    NotAllowed(String),
    /// The command is longer than the contract allows.
    #[error("a command has at most {COMMAND_MAX} bytes")]
    TooLong,
    /// The terminal or the shell failed to start.
    #[error("the shell could not be started: {0}")]
    Start(String),
}

/// What a session runs: closed, since the second is only a test double.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shell {
    /// The account's login shell on a terminal of its own.
    #[default]
    Login,
    /// Gives back every byte, has no terminal, and ends with code 0 at a Ctrl-D.
    Echo,
}

/// What the agent's owner lets the bastion ask for.
#[derive(Clone, Debug, Default)]
pub struct Allowed {
    /// Accounts beside the agent's own.
    pub run_as: Vec<String>,
    /// Whether switching to the superuser is allowed.
    pub root: bool,
}

/// What to start.
#[derive(Clone, Debug)]
pub struct Request {
    /// The session's id: the shell's environment names it.
    pub session_id: String,
    /// The account; none: the agent's own.
    pub run_as: Option<String>,
    /// The command; none: the login shell.
    pub command: Option<String>,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
}

/// How a shell ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal's name.
    pub signal: Option<String>,
}

/// The near end of a session's terminal.
pub enum Terminal {
    /// A real one.
    Pty(AsyncFd<File>),
    /// None: bytes written come back.
    Loop(Loop),
}

/// The session's first process.
pub enum Process {
    /// A real one, and what tells that a child has ended.
    Child {
        /// The shell.
        child: Child,
        /// Wakes at every child's end.
        ended: unix::Signal,
        /// The session's id, which marks the shell's descendants.
        session_id: String,
        /// Whether its end was seen: its number may be another process's from then on.
        over: bool,
    },
    /// None: it ends when its terminal does.
    None {
        /// How it ends.
        code: i32,
    },
}

/// Starts a shell on a new terminal.
///
/// # Errors
/// [`ShellError`] when the account is unknown or not allowed, or the start fails.
pub fn open(shell: Shell, allowed: &Allowed, request: &Request) -> Result<(Terminal, Process), ShellError> {
    match shell {
        Shell::Echo => Ok((Terminal::Loop(Loop::default()), Process::None { code: 0 })),
        Shell::Login => start(&command(allowed, request)?, request),
    }
}

/// A session that only says why there is no shell: the user reads it where the prompt would be.
#[must_use]
pub fn refusal(reason: &str) -> (Terminal, Process) {
    let text = format!("castellan-agent: {reason}\r\n");
    let state = LoopState { held: text.into_bytes().into(), ended: true };
    let terminal = Loop { state: Mutex::new(state), changed: Notify::new() };
    (Terminal::Loop(terminal), Process::None { code: CANNOT_RUN })
}

fn start(command: &CommandBuilder, request: &Request) -> Result<(Terminal, Process), ShellError> {
    let failed = |error: &dyn std::fmt::Display| ShellError::Start(error.to_string());
    let size = PtySize { cols: request.cols, rows: request.rows, pixel_width: 0, pixel_height: 0 };
    let pair = native_pty_system().openpty(size).map_err(|error| failed(&error))?;
    let master = pair.master.as_raw_fd().ok_or_else(|| failed(&"no terminal"))?;
    let near = platform::duplicate_nonblocking(master).map_err(|error| failed(&error))?;
    let terminal = platform::watch(near).map_err(|error| failed(&error))?;
    // Before the start, so that no end goes unheard.
    let ended = unix::signal(unix::SignalKind::child()).map_err(|error| failed(&error))?;
    let child: Box<dyn portable_pty::Child> =
        pair.slave.spawn_command(command.clone()).map_err(|error| failed(&error))?;
    let child = child.downcast::<Child>().map_err(|_| failed(&"no child process"))?;
    let process =
        Process::Child { child: *child, ended, session_id: request.session_id.clone(), over: false };
    Ok((Terminal::Pty(terminal), process))
}

/// What to run, with an environment built from nothing.
fn command(allowed: &Allowed, request: &Request) -> Result<CommandBuilder, ShellError> {
    if request.command.as_ref().is_some_and(|command| command.len() > COMMAND_MAX) {
        return Err(ShellError::TooLong);
    }
    let own = own_account();
    let (mut command, account) = match request.run_as.as_deref() {
        None => (own_shell(&own, request), own),
        Some(name) => {
            let account =
                platform::account_by_name(name).ok_or_else(|| ShellError::NoAccount(name.to_owned()))?;
            if account.uid == own.uid {
                (own_shell(&account, request), account)
            } else {
                let root = account.uid == 0 && !allowed.root;
                if root || !allowed.run_as.contains(&account.name) {
                    return Err(ShellError::NotAllowed(account.name));
                }
                (switched_shell(&own, &account, request), account)
            }
        }
    };
    command.env_clear();
    for (name, value) in environment(&account, &request.session_id) {
        command.env(name, value);
    }
    command.cwd(&account.home);
    Ok(command)
}

fn own_account() -> Account {
    let uid = platform::own_uid();
    platform::account_by_uid(uid).unwrap_or_else(|| Account {
        name: uid.to_string(),
        uid,
        home: "/".to_owned(),
        shell: "/bin/sh".to_owned(),
    })
}

fn own_shell(account: &Account, request: &Request) -> CommandBuilder {
    match &request.command {
        // The default program is `$SHELL` with a `-` before its name: a login shell.
        None => CommandBuilder::new_default_prog(),
        Some(command) => {
            CommandBuilder::from_argv(vec![account.shell.clone().into(), "-c".into(), command.into()])
        }
    }
}

/// The host's own program switches the account, so that PAM opens and closes the session as for any login.
fn switched_shell(own: &Account, account: &Account, request: &Request) -> CommandBuilder {
    let runuser = own.uid == 0
        && ["/usr/sbin/runuser", "/sbin/runuser"].iter().any(|path| std::fs::exists(path).unwrap_or(false));
    let mut argv = vec![if runuser { "runuser" } else { "su" }.to_owned(), "-l".to_owned()];
    argv.push("--whitelist-environment=CASTELLAN_SESSION_ID,LANG".to_owned());
    if let Some(command) = &request.command {
        // `-c` would leave the terminal's session, and Ctrl-C would reach nobody.
        argv.push(format!("--session-command={command}"));
    }
    argv.push(account.name.clone());
    CommandBuilder::from_argv(argv.into_iter().map(Into::into).collect())
}

fn environment(account: &Account, session_id: &str) -> [(&'static str, String); 8] {
    let language = std::env::var("LANG").ok().filter(|language| !language.is_empty());
    [
        ("TERM", "xterm-256color".to_owned()),
        ("HOME", account.home.clone()),
        ("USER", account.name.clone()),
        ("LOGNAME", account.name.clone()),
        ("SHELL", account.shell.clone()),
        ("PATH", PATH.to_owned()),
        ("LANG", language.unwrap_or_else(|| "C.UTF-8".to_owned())),
        ("CASTELLAN_SESSION_ID", session_id.to_owned()),
    ]
}

impl Terminal {
    /// Waits for output and reads what is there, as much as fits: the first byte after a pause comes at once. 0: the
    /// end. Cancel safe.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub async fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        let pty = match self {
            Self::Pty(pty) => pty,
            Self::Loop(echo) => return Ok(echo.read(room).await),
        };
        loop {
            let mut ready = pty.readable().await?;
            let mut filled = 0;
            while filled < room.len() {
                match pty.get_ref().read(&mut room[filled..]) {
                    Ok(0) => return Ok(filled),
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready.clear_ready();
                        break;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // The far end is closed by all: end of file, in a terminal's words.
                    Err(error) if error.raw_os_error() == Some(libc::EIO) => return Ok(filled),
                    Err(error) => return Err(error),
                }
            }
            if filled > 0 {
                return Ok(filled);
            }
        }
    }

    /// Waits until the terminal takes input and writes what it takes, at least one byte. Cancel safe.
    ///
    /// # Errors
    /// Whatever the kernel says, such as that nobody reads any more.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let pty = match self {
            Self::Pty(pty) => pty,
            Self::Loop(echo) => return Ok(echo.write(bytes).await),
        };
        loop {
            let mut ready = pty.writable().await?;
            match pty.get_ref().write(bytes) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// Whether it echoes what is typed.
    #[must_use]
    pub fn echoes(&self) -> bool {
        match self {
            Self::Pty(pty) => platform::echoes(pty.get_ref().as_fd()),
            Self::Loop(_) => true,
        }
    }

    /// Gives it a size.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn resize(&self, cols: u16, rows: u16) -> io::Result<()> {
        match self {
            Self::Pty(pty) => platform::resize(pty.get_ref().as_fd(), cols, rows),
            Self::Loop(_) => Ok(()),
        }
    }

    /// Waits until a shell without a process has ended.
    pub async fn looped_out(&self) {
        match self {
            Self::Pty(_) => std::future::pending().await,
            Self::Loop(echo) => echo.until(|state| state.ended.then_some(())).await,
        }
    }

    /// Ends a shell without a process.
    pub fn close_loop(&self) {
        if let Self::Loop(echo) = self {
            echo.state().ended = true;
            echo.changed.notify_waiters();
        }
    }
}

impl Process {
    /// Waits for the shell's end. Cancel safe.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub async fn exit(&mut self, terminal: &Terminal) -> io::Result<Exit> {
        match self {
            Self::Child { child, ended, over, .. } => loop {
                if let Some(status) = child.try_wait()? {
                    *over = true;
                    let signal = status.signal().map(platform::signal_name);
                    return Ok(Exit { code: status.code(), signal });
                }
                ended.recv().await;
            },
            Self::None { code } => {
                terminal.looped_out().await;
                Ok(Exit { code: Some(*code), signal: None })
            }
        }
    }

    /// Asks the shell to go (SIGHUP), as a lost terminal does.
    pub fn hang_up(&self, terminal: &Terminal) {
        match self {
            Self::Child { over: true, .. } => {}
            Self::Child { child, .. } => processes::hang_up(child.id()),
            Self::None { .. } => terminal.close_loop(),
        }
    }

    /// Ends the shell and every process of its session, those that left the terminal too.
    pub async fn end(&mut self, grace: std::time::Duration) {
        if let Self::Child { child, session_id, over, .. } = self {
            processes::end(child.id(), session_id, grace).await;
            // Collect the shell itself, so that no zombie is left.
            match child.try_wait() {
                Ok(Some(_)) => *over = true,
                Ok(None) | Err(_) => tracing::warn!(session = session_id, "the shell could not be ended"),
            }
        }
    }
}

/// The test double: what is written is what is read.
#[derive(Default)]
pub struct Loop {
    // Held for moments only, never across an await.
    state: Mutex<LoopState>,
    changed: Notify,
}

#[derive(Default)]
struct LoopState {
    held: VecDeque<u8>,
    ended: bool,
}

impl Loop {
    fn state(&self) -> MutexGuard<'_, LoopState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn until<T>(&self, mut check: impl FnMut(&mut LoopState) -> Option<T>) -> T {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if let Some(done) = check(&mut self.state()) {
                self.changed.notify_waiters();
                return done;
            }
            changed.await;
        }
    }

    async fn read(&self, room: &mut [u8]) -> usize {
        self.until(|state| {
            let count = state.held.len().min(room.len());
            for (to, from) in room.iter_mut().zip(state.held.drain(..count)) {
                *to = from;
            }
            (count > 0 || state.ended).then_some(count)
        })
        .await
    }

    async fn write(&self, bytes: &[u8]) -> usize {
        self.until(|state| {
            let count = bytes.len().min(LOOP_ROOM - state.held.len());
            let kept = bytes[..count].iter().position(|byte| *byte == 0x04);
            state.ended |= kept.is_some();
            state.held.extend(&bytes[..kept.unwrap_or(count)]);
            (count > 0).then_some(count)
        })
        .await
    }
}

#[cfg(test)]
#[path = "shell_tests.rs"]
mod tests;
