//! What hosts differ in: accounts, terminals, processes, signals and private files. One module a kind of host, with
//! the same names in each; no other file of the agent asks which it runs on.

#[cfg(any(windows, test))]
mod threads;
#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub use unix::*;
#[cfg(windows)]
pub use windows::*;

/// What names a session in the environment of its processes.
pub const MARKER: &str = "CASTELLAN_SESSION_ID";

/// Whether a shell may act on what was typed up to this byte.
#[must_use]
pub fn ends_line(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// A row of the host's account database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The login name.
    pub name: String,
    /// The user id; on Windows there is only the agent's own account, and this says nothing.
    pub uid: u32,
    /// The home folder.
    pub home: String,
    /// The login shell, absolute.
    pub shell: String,
}

/// What a terminal does with what is typed into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Echoing {
    /// It shows it itself.
    Shown,
    /// The line editor of the session's own shell shows it.
    Edited,
    /// Nobody shows it, or nobody can tell.
    Hidden,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal's name.
    pub signal: Option<String>,
}

/// Who has access to a file that should be the agent's only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposure {
    /// Another user owns it.
    Owner {
        /// Whose it is.
        owner: u32,
        /// Who the agent is.
        own: u32,
    },
    /// Its mode lets others in.
    Mode(u32),
}

/// A living process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub pid: u32,
    /// Its parent's; 0: none that is alive.
    pub parent: u32,
    /// Its session's leader; 0 where there are no sessions.
    pub session: u32,
}
