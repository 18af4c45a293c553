//! A Unix host: accounts and modes, terminals driven by readiness, signals, `/proc`.
#![allow(unsafe_code, reason = "accounts, termios and signals have no safe interface in std")]

use std::{
    ffi::{CStr, CString, c_char},
    fs::{self, DirBuilder, File, Metadata, OpenOptions},
    io::{self, Read as _, Write as _},
    mem,
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        unix::{
            fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _},
            process::ExitStatusExt as _,
        },
    },
    path::{Path, PathBuf},
    process, ptr,
};

use portable_pty::{CommandBuilder, PtySize, native_pty_system};
use tokio::{
    io::unix::AsyncFd,
    signal::unix::{Signal, SignalKind},
};

use super::{Account, Echoing, Exit, Exposure, Row};

/// The search path of every shell, until the shell's own start files change it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Shells whose line editor tells itself apart from their hidden reads, as [`is_edited`] looks for it.
const EDITORS: [&str; 3] = ["bash", "sh", "zsh"];
/// What stands between the agent and the shell of another account.
const SWITCHES: [&str; 2] = ["runuser", "su"];

/// The account that the agent runs as.
#[must_use]
pub fn own_account() -> Account {
    let uid = own_uid();
    account_by_uid(uid).unwrap_or_else(|| Account {
        name: uid.to_string(),
        uid,
        home: "/".to_owned(),
        shell: "/bin/sh".to_owned(),
    })
}

/// The home folder for the agent's own files.
#[must_use]
pub fn home() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty()).map(PathBuf::from);
    home.or_else(|| account_by_uid(own_uid()).map(|account| PathBuf::from(account.home)))
}

/// The account's login shell, or a command in it, run by the account itself.
#[must_use]
pub fn own_shell(account: &Account, command: Option<&str>) -> CommandBuilder {
    match command {
        // The default program is `$SHELL` with a `-` before its name: a login shell.
        None => CommandBuilder::new_default_prog(),
        Some(command) => {
            CommandBuilder::from_argv(vec![account.shell.clone().into(), "-c".into(), command.into()])
        }
    }
}

/// The same in another account: the host's own program switches to it, so that PAM opens and closes the session as
/// for any login. None where there is no such program.
#[must_use]
pub fn switched_shell(own: &Account, account: &Account, command: Option<&str>) -> Option<CommandBuilder> {
    let runuser = own.uid == 0
        && ["/usr/sbin/runuser", "/sbin/runuser"].iter().any(|path| fs::exists(path).unwrap_or(false));
    let mut argv = vec![if runuser { "runuser" } else { "su" }.to_owned(), "-l".to_owned()];
    argv.push("--whitelist-environment=CASTELLAN_SESSION_ID,LANG".to_owned());
    if let Some(command) = command {
        // `-c` would leave the terminal's session, and Ctrl-C would reach nobody.
        argv.push(format!("--session-command={command}"));
    }
    argv.push(account.name.clone());
    Some(CommandBuilder::from_argv(argv.into_iter().map(Into::into).collect()))
}

/// Gives a shell its environment, built from nothing, and its folder.
pub fn equip(command: &mut CommandBuilder, account: &Account, session_id: &str) {
    let language = std::env::var("LANG").ok().filter(|language| !language.is_empty());
    command.env_clear();
    for (name, value) in [
        ("TERM", "xterm-256color"),
        ("HOME", &account.home),
        ("USER", &account.name),
        ("LOGNAME", &account.name),
        ("SHELL", &account.shell),
        ("PATH", PATH),
        ("LANG", language.as_deref().unwrap_or("C.UTF-8")),
        (super::MARKER, session_id),
    ] {
        command.env(name, value);
    }
    command.cwd(&account.home);
}

/// Starts a program on a new terminal.
///
/// # Errors
/// Whatever the kernel says, such as that there is no such program.
pub fn start(command: CommandBuilder, cols: u16, rows: u16) -> io::Result<(Pty, Child)> {
    let size = PtySize { cols, rows, pixel_width: 0, pixel_height: 0 };
    let pair = native_pty_system().openpty(size).map_err(io::Error::other)?;
    let master = pair.master.as_raw_fd().ok_or_else(|| io::Error::other("no terminal"))?;
    let pty = Pty(watch(duplicate_nonblocking(master)?)?);
    // Before the start, so that no end goes unheard.
    let ended = tokio::signal::unix::signal(SignalKind::child())?;
    let child: Box<dyn portable_pty::Child> = pair.slave.spawn_command(command).map_err(io::Error::other)?;
    let child = child.downcast::<process::Child>().map_err(|_| io::Error::other("no child process"))?;
    Ok((pty, Child { child: *child, ended, over: false }))
}

/// A terminal. It is driven by the runtime's readiness, not by threads: a read that is not wanted is simply not made,
/// so a spent window needs no second mechanism, and an abandoned session leaves no blocked thread behind.
pub struct Pty(AsyncFd<File>);

impl Pty {
    /// Waits for output and reads what is there, as much as fits: the first byte after a pause comes at once. 0: the
    /// end. Cancel safe.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub async fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            let mut filled = 0;
            while filled < room.len() {
                match self.0.get_ref().read(&mut room[filled..]) {
                    Ok(0) => return Ok(filled),
                    Ok(count) => filled += count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        ready.clear_ready();
                        break;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // The far end is closed by all: end of file, in a terminal's words.
                    Err(error) if is_hung_up(&error) => return Ok(filled),
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
        self.put(|| bytes).await
    }

    /// The same, and what the terminal did with input at that moment: it is asked when it is ready to take some, not
    /// before a wait. What follows a line that a shell's editor gets is left for another write: by then a program may
    /// read it, and hide it. `shell` is the terminal's first process.
    ///
    /// # Errors
    /// Whatever the kernel says, such as that nobody reads any more.
    pub async fn write_watched(&self, bytes: &[u8], shell: u32) -> io::Result<(usize, Echoing)> {
        let mut seen = Echoing::Hidden;
        let wrote = self.put(|| {
            seen = self.echoing(shell);
            if seen == Echoing::Edited { first_line(bytes) } else { bytes }
        });
        let count = wrote.await?;
        Ok((count, seen))
    }

    /// Writes what `next` says once the terminal is ready.
    async fn put<'a>(&self, mut next: impl FnMut() -> &'a [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.writable().await?;
            match self.0.get_ref().write(next()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready.clear_ready(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                done => return done,
            }
        }
    }

    /// What it does with what is typed now; `shell` is its first process.
    #[must_use]
    pub fn echoing(&self, shell: u32) -> Echoing {
        let terminal = self.0.get_ref().as_fd();
        match settings(terminal) {
            Some(settings) if settings.c_lflag & libc::ECHO != 0 => Echoing::Shown,
            Some(settings) if is_edited(&settings) && is_at_prompt(terminal, shell) => Echoing::Edited,
            Some(_) | None => Echoing::Hidden,
        }
    }

    /// Gives it a size; its foreground processes get SIGWINCH.
    ///
    /// # Errors
    /// Whatever the kernel says, such as that the terminal is gone.
    pub fn resize(&self, cols: u16, rows: u16) -> io::Result<()> {
        resize(self.0.get_ref().as_fd(), cols, rows)
    }

    /// Nothing to do: that a terminal is lost, its processes are told by a signal.
    pub fn close(&self) {}
}

/// A terminal's first process, and what tells that a child has ended.
pub struct Child {
    child: process::Child,
    // Wakes at every child's end.
    ended: Signal,
    // Its number may be another process's from then on.
    over: bool,
}

impl Child {
    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether its end was seen.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Waits for its end. Cancel safe.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub async fn exit(&mut self) -> io::Result<Exit> {
        loop {
            if let Some(exit) = self.look()? {
                return Ok(exit);
            }
            self.ended.recv().await;
        }
    }

    /// How it ended, if it did; collects it, so that no zombie is left.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn look(&mut self) -> io::Result<Option<Exit>> {
        let status = self.child.try_wait()?;
        self.over |= status.is_some();
        Ok(status.map(|status| Exit { code: status.code(), signal: status.signal().map(signal_name) }))
    }
}

/// Makes a folder, and those above it, that only its owner may enter.
///
/// # Errors
/// Whatever the kernel says.
pub fn make_private_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// Lets a file that is made be its owner's only.
pub fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    options.mode(0o600)
}

/// Who else has access to a file or folder, if anybody.
#[must_use]
pub fn exposure(meta: &Metadata) -> Option<Exposure> {
    let (own, mode) = (own_uid(), meta.mode() & 0o7777);
    if meta.uid() != own {
        return Some(Exposure::Owner { owner: meta.uid(), own });
    }
    (mode & 0o077 != 0).then_some(Exposure::Mode(mode))
}

/// Makes a rename in a folder last.
///
/// # Errors
/// Whatever the kernel says.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The signals that stop the agent.
pub struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    /// Listens from now on.
    ///
    /// # Errors
    /// Whatever the kernel says.
    pub fn listen() -> io::Result<Self> {
        use tokio::signal::unix::signal;
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for one of them.
    pub async fn recv(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// The user the agent runs as.
fn own_uid() -> u32 {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() }
}

/// The account with this user id.
fn account_by_uid(uid: u32) -> Option<Account> {
    // SAFETY: `read_account` passes pointers that live for the call.
    read_account(|row, buffer, length, found| unsafe { libc::getpwuid_r(uid, row, buffer, length, found) })
}

/// The account with this name.
#[must_use]
pub fn account_by_name(name: &str) -> Option<Account> {
    let name = CString::new(name).ok()?;
    // SAFETY: `name` is a C string, and `read_account` passes pointers that live for the call.
    read_account(|row, buffer, length, found| unsafe {
        libc::getpwnam_r(name.as_ptr(), row, buffer, length, found)
    })
}

type Lookup = *mut *mut libc::passwd;

fn read_account(ask: impl Fn(*mut libc::passwd, *mut c_char, usize, Lookup) -> i32) -> Option<Account> {
    let mut buffer: Vec<c_char> = vec![0; 16 * 1024];
    // SAFETY: all-zero bytes are a valid `passwd` of null pointers and zeroes.
    let mut row: libc::passwd = unsafe { mem::zeroed() };
    let mut found = ptr::null_mut();
    if ask(&raw mut row, buffer.as_mut_ptr(), buffer.len(), &raw mut found) != 0 || found.is_null() {
        return None;
    }
    let text = |field: *const c_char| {
        // SAFETY: the lookup succeeded, so each field is a C string inside `buffer`, which is still alive.
        (!field.is_null()).then(|| unsafe { CStr::from_ptr(field) }.to_string_lossy().into_owned())
    };
    let shell = text(row.pw_shell).filter(|shell| shell.starts_with('/'));
    Some(Account {
        name: text(row.pw_name)?,
        uid: row.pw_uid,
        home: text(row.pw_dir).filter(|home| home.starts_with('/')).unwrap_or_else(|| "/".to_owned()),
        shell: shell.unwrap_or_else(|| "/bin/sh".to_owned()),
    })
}

/// A second descriptor of an open terminal, which never blocks and is closed on exec.
fn duplicate_nonblocking(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl takes any number for a descriptor and answers -1 for a bad one; the new one is ours alone.
    unsafe {
        let copy = libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3);
        if copy < 0 {
            return Err(io::Error::last_os_error());
        }
        let copy = OwnedFd::from_raw_fd(copy);
        let flags = libc::fcntl(copy.as_raw_fd(), libc::F_GETFL);
        if flags < 0 || libc::fcntl(copy.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(copy)
    }
}

/// Lets the runtime tell when a terminal can be read or written.
fn watch(terminal: OwnedFd) -> io::Result<AsyncFd<File>> {
    // SAFETY: a `File` owns its descriptor and gives the same one until it is dropped.
    unsafe { AsyncFd::register(File::from(terminal)) }.map_err(io::Error::from)
}

/// The terminal's settings; none when it cannot be asked.
fn settings(terminal: BorrowedFd<'_>) -> Option<libc::termios> {
    // SAFETY: all-zero bytes are a valid `termios`, and the descriptor is open while it is borrowed.
    unsafe {
        let mut settings: libc::termios = mem::zeroed();
        (libc::tcgetattr(terminal.as_raw_fd(), &raw mut settings) == 0).then_some(settings)
    }
}

/// Whether these are a line editor's settings, which shows keys itself. readline and zsh's editor take a key at a
/// time, leave signals on, and switch off the key that quotes the next. What reads a secret key by key (`read -sn1`,
/// `read -ks`) leaves that one on, and so do programs that take the whole terminal, such as ssh, tmux and sudo.
fn is_edited(settings: &libc::termios) -> bool {
    let local = settings.c_lflag & (libc::ICANON | libc::ISIG);
    local == libc::ISIG && settings.c_cc[libc::VLNEXT] == libc::_POSIX_VDISABLE
}

/// Whether the session's own shell has the terminal; false when that cannot be told.
fn is_at_prompt(terminal: BorrowedFd<'_>, shell: u32) -> bool {
    // SAFETY: tcgetpgrp takes any number for a descriptor and answers -1 for a bad one.
    let group = unsafe { libc::tcgetpgrp(terminal.as_raw_fd()) };
    let Some((name, parent)) = u32::try_from(group).ok().and_then(name_and_parent) else { return false };
    let own = group.cast_unsigned() == shell
        || parent == shell
            && name_and_parent(shell).is_some_and(|(switch, _)| SWITCHES.contains(&switch.as_str()));
    own && EDITORS.contains(&name.as_str())
}

/// A process's name and its parent.
fn name_and_parent(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
    Some((name.to_owned(), rest.split_ascii_whitespace().nth(1)?.parse().ok()?))
}

/// Up to the first end of a line, and with it.
fn first_line(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| super::ends_line(*byte));
    end.map_or(bytes, |end| &bytes[..=end])
}

/// Gives the terminal a size; its foreground processes get SIGWINCH.
fn resize(terminal: BorrowedFd<'_>, cols: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one `winsize`, which lives for the call.
    let done = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether this is a terminal's way to say that its far end is closed by all.
#[must_use]
pub fn is_hung_up(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// Sends a signal to one process; one that is gone already is no error.
fn signal(pid: u32, signal: i32) {
    if let Ok(pid) = i32::try_from(pid)
        && pid > 1
    {
        // SAFETY: kill only passes two numbers to the kernel; `pid` names one process, never a group or all.
        unsafe { libc::kill(pid, signal) };
    }
}

/// The name of a signal, such as `SIGHUP`.
fn signal_name(signal: i32) -> String {
    const NAMES: [(i32, &str); 15] = [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGTRAP, "SIGTRAP"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGUSR1, "SIGUSR1"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGUSR2, "SIGUSR2"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGTERM, "SIGTERM"),
    ];
    let known = NAMES.iter().find(|(number, _)| *number == signal);
    known.map_or_else(|| format!("SIG{signal}"), |(_, name)| (*name).to_owned())
}

/// Tells a process to go, as the loss of its terminal does; a shell passes it on to its jobs.
pub fn hang_up(pid: u32) {
    signal(pid, libc::SIGHUP);
    // A stopped one hears it only when it goes on.
    signal(pid, libc::SIGCONT);
}

/// Ends a process.
pub fn kill(pid: u32) {
    signal(pid, libc::SIGKILL);
}

/// The living processes, on hosts with `/proc`.
#[must_use]
pub fn living() -> Vec<Row> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(read_process).collect()
}

fn read_process(pid: u32) -> Option<Row> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name is in parentheses and may hold anything, so what follows the last one counts.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let alive = !matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    alive.then_some(Row { pid, parent, session })
}

/// Whether a process has this entry in its environment. Another user's cannot be read; it is found as a descendant or
/// by its session.
#[must_use]
pub fn is_marked(pid: u32, entry: &str) -> bool {
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|other| other == entry.as_bytes()))
}
