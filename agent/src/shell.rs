//! A session's shell on its terminal: which may be started, how it is read, written and sized, and how it ends.

use std::{
    collections::VecDeque,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use openapi::agents::COMMAND_MAX;
use portable_pty::CommandBuilder;
use tokio::sync::Notify;

pub use crate::platform::{Echoing, Exit};
use crate::{
    platform::{self, Pty},
    processes,
};

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

/// The near end of a session's terminal.
pub enum Terminal {
    /// A real one.
    Pty(Pty),
    /// None: bytes written come back.
    Loop(Loop),
}

/// The session's first process.
pub enum Process {
    /// A real one.
    Child {
        /// The shell.
        child: platform::Child,
        /// The session's id, which marks the shell's descendants.
        session_id: String,
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
        Shell::Login => start(command(allowed, request)?, request),
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

fn start(command: CommandBuilder, request: &Request) -> Result<(Terminal, Process), ShellError> {
    let started = platform::start(command, request.cols, request.rows);
    let (pty, child) = started.map_err(|error| ShellError::Start(error.to_string()))?;
    Ok((Terminal::Pty(pty), Process::Child { child, session_id: request.session_id.clone() }))
}

/// What to run, as whom, in which environment.
fn command(allowed: &Allowed, request: &Request) -> Result<CommandBuilder, ShellError> {
    let line = request.command.as_deref();
    if line.is_some_and(|line| line.len() > COMMAND_MAX) {
        return Err(ShellError::TooLong);
    }
    let own = platform::own_account();
    let (mut command, account) = match request.run_as.as_deref() {
        None => (platform::own_shell(&own, line), own),
        Some(name) => {
            let account =
                platform::account_by_name(name).ok_or_else(|| ShellError::NoAccount(name.to_owned()))?;
            if account.uid == own.uid {
                (platform::own_shell(&account, line), account)
            } else {
                let root = account.uid == 0 && !allowed.root;
                let may = !root && allowed.run_as.contains(&account.name);
                let switched = may.then(|| platform::switched_shell(&own, &account, line)).flatten();
                (switched.ok_or_else(|| ShellError::NotAllowed(account.name.clone()))?, account)
            }
        }
    };
    platform::equip(&mut command, &account, &request.session_id);
    Ok(command)
}

impl Terminal {
    /// Waits for output and reads what is there, as much as fits: the first byte after a pause comes at once. 0: the
    /// end. Cancel safe.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub async fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Pty(pty) => pty.read(room).await,
            Self::Loop(echo) => Ok(echo.read(room).await),
        }
    }

    /// Waits until the terminal takes input and writes what it takes, at least one byte. Cancel safe.
    ///
    /// # Errors
    /// Whatever the kernel says, such as that nobody reads any more.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Pty(pty) => pty.write(bytes).await,
            Self::Loop(echo) => Ok(echo.write(bytes).await),
        }
    }

    /// The same, and what the terminal did with input at that moment; perhaps only the first line of it. `shell` is
    /// the terminal's first process.
    ///
    /// # Errors
    /// Whatever the kernel says, such as that nobody reads any more.
    pub async fn write_watched(&self, bytes: &[u8], shell: u32) -> io::Result<(usize, Echoing)> {
        match self {
            Self::Pty(pty) => pty.write_watched(bytes, shell).await,
            Self::Loop(echo) => Ok((echo.write(bytes).await, Echoing::Shown)),
        }
    }

    /// Gives it a size.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn resize(&self, cols: u16, rows: u16) -> io::Result<()> {
        match self {
            Self::Pty(pty) => pty.resize(cols, rows),
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

    /// Ends it, as far as it can be ended from here: a shell without a process, and all on a console.
    pub fn close(&self) {
        match self {
            Self::Pty(pty) => pty.close(),
            Self::Loop(echo) => {
                echo.state().ended = true;
                echo.changed.notify_waiters();
            }
        }
    }
}

impl Process {
    /// The terminal's first process; 0: none.
    #[must_use]
    pub fn id(&self) -> u32 {
        match self {
            Self::Child { child, .. } => child.id(),
            Self::None { .. } => 0,
        }
    }

    /// Waits for the shell's end. Cancel safe.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub async fn exit(&mut self, terminal: &Terminal) -> io::Result<Exit> {
        match self {
            Self::Child { child, .. } => child.exit().await,
            Self::None { code } => {
                terminal.looped_out().await;
                Ok(Exit { code: Some(*code), signal: None })
            }
        }
    }

    /// Asks the shell to go, as a lost terminal does.
    pub fn hang_up(&self, terminal: &Terminal) {
        terminal.close();
        if let Self::Child { child, .. } = self
            && !child.is_over()
        {
            platform::hang_up(child.id());
        }
    }

    /// Ends the shell and every process of its session, those that left the terminal too.
    pub async fn end(&mut self, terminal: &Terminal, grace: std::time::Duration) {
        terminal.close();
        if let Self::Child { child, session_id } = self {
            processes::end(child.id(), session_id, grace).await;
            if !matches!(child.look(), Ok(Some(_))) {
                tracing::warn!(session = session_id, "the shell could not be ended");
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

#[cfg(all(test, unix))]
#[path = "shell_tests.rs"]
mod tests;
