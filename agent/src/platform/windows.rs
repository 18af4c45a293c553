//! A Windows host: consoles through ConPTY, the agent's own account only, and processes ended as a tree.
//!
//! Files have no modes here. The state folder stands in the user's profile, whose access list lets in that user, the
//! system and the administrators; whoever puts it elsewhere with `--state-dir` has to see to its access list.

use std::{
    fs::{self, Metadata, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use portable_pty::CommandBuilder;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};
use tokio::signal::windows::{
    CtrlBreak, CtrlC, CtrlClose, CtrlShutdown, ctrl_break, ctrl_c, ctrl_close, ctrl_shutdown,
};

pub use super::threads::{Child, Pty, start};
use super::{Account, Exposure, Row};

/// Where the shell stands under the system's folder.
const SHELL: &str = r"System32\WindowsPowerShell\v1.0\powershell.exe";

/// The account that the agent runs as.
#[must_use]
pub fn own_account() -> Account {
    let system = variable("SystemRoot").unwrap_or_else(|| r"C:\Windows".to_owned());
    let shell = Path::new(&system).join(SHELL).to_string_lossy().into_owned();
    Account {
        name: variable("USERNAME").unwrap_or_default(),
        // Any number but the superuser's elsewhere.
        uid: 1,
        home: variable("USERPROFILE").unwrap_or(system),
        shell,
    }
}

/// The account with this name: the agent's own. Another one would need its password, so there is none.
#[must_use]
pub fn account_by_name(name: &str) -> Option<Account> {
    Some(own_account()).filter(|own| own.name.eq_ignore_ascii_case(name))
}

/// The home folder for the agent's own files.
#[must_use]
pub fn home() -> Option<PathBuf> {
    variable("USERPROFILE").map(PathBuf::from)
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The account's shell, or a command in it.
#[must_use]
pub fn own_shell(account: &Account, command: Option<&str>) -> CommandBuilder {
    let mut argv = vec![account.shell.clone().into(), "-NoLogo".into()];
    if let Some(command) = command {
        argv.extend(["-Command".into(), command.into()]);
    }
    CommandBuilder::from_argv(argv)
}

/// None: there is no account to switch to.
#[must_use]
pub fn switched_shell(_own: &Account, _account: &Account, _command: Option<&str>) -> Option<CommandBuilder> {
    None
}

/// Adds the session to the user's own environment, without which few programs start here, and sets the folder.
pub fn equip(command: &mut CommandBuilder, account: &Account, session_id: &str) {
    command.env("TERM", "xterm-256color");
    command.env(super::MARKER, session_id);
    command.cwd(&account.home);
}

/// Whether this is a terminal's way to say that nobody reads any more.
#[must_use]
pub fn is_hung_up(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Makes a folder, and those above it, with the access list of where it stands.
///
/// # Errors
/// Whatever the system says.
pub fn make_private_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

/// Nothing to set: a file has the access list of its folder.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// Nobody that can be told from here.
#[must_use]
pub fn exposure(_meta: &Metadata) -> Option<Exposure> {
    None
}

/// Nothing to do: folders cannot be synced here, and a rename is journalled.
///
/// # Errors
/// None.
pub fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// The events that stop the agent.
pub struct Stop {
    interrupt: CtrlC,
    interrupt_all: CtrlBreak,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl Stop {
    /// Listens from now on.
    ///
    /// # Errors
    /// Whatever the system says.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            interrupt_all: ctrl_break()?,
            close: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    /// Waits for one of them.
    pub async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.interrupt_all.recv() => {}
            _ = self.close.recv() => {}
            _ = self.shutdown.recv() => {}
        }
    }
}

/// Nothing to do: processes are asked to go by closing their terminal.
pub fn hang_up(_pid: u32) {}

/// Ends a process.
pub fn kill(pid: u32) {
    let pid = Pid::from_u32(pid);
    if let Ok(mut system) = System::new() {
        system.refresh_processes_specifics(
            ProcessesToUpdate::Some(&[pid]),
            true,
            ProcessRefreshKind::nothing(),
        );
        if let Some(process) = system.process(pid) {
            process.kill();
        }
    }
}

/// The living processes.
#[must_use]
pub fn living() -> Vec<Row> {
    let Ok(mut system) = System::new() else { return Vec::new() };
    system.refresh_processes_specifics(ProcessesToUpdate::All, true, ProcessRefreshKind::nothing());
    let processes = system.processes();
    let row = |(pid, process): (&Pid, &sysinfo::Process)| {
        // A number is used again once its process is gone, and a child keeps its parent's: one that is younger than
        // its child is no parent.
        let parent = process.parent().filter(|parent| {
            processes.get(parent).is_none_or(|parent| parent.start_time() <= process.start_time())
        });
        Row { pid: pid.as_u32(), parent: parent.map_or(0, Pid::as_u32), session: 0 }
    };
    processes.iter().map(row).collect()
}

/// Never: the environment of a process is its own. It is found as a descendant.
#[must_use]
pub fn is_marked(_pid: u32, _entry: &str) -> bool {
    false
}
