//! What only libc can say: accounts, terminals and signals. The one file of the agent with `unsafe` in it.
#![allow(unsafe_code, reason = "accounts, termios and signals have no safe interface in std")]

/// A row of the host's account database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// The login name.
    pub name: String,
    /// The user id.
    pub uid: u32,
    /// The home folder.
    pub home: String,
    /// The login shell, absolute.
    pub shell: String,
}

#[cfg(unix)]
pub use unix::*;

#[cfg(unix)]
mod unix {
    use std::{
        ffi::{CStr, CString, c_char},
        fs::File,
        io, mem,
        os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
        ptr,
    };

    use tokio::io::unix::AsyncFd;

    use super::Account;

    /// The user the agent runs as.
    #[must_use]
    pub fn own_uid() -> u32 {
        // SAFETY: geteuid has no preconditions and cannot fail.
        unsafe { libc::geteuid() }
    }

    /// The account with this user id.
    #[must_use]
    pub fn account_by_uid(uid: u32) -> Option<Account> {
        // SAFETY: `read_account` passes pointers that live for the call.
        read_account(|row, buffer, length, found| unsafe {
            libc::getpwuid_r(uid, row, buffer, length, found)
        })
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
    ///
    /// # Errors
    /// Whatever the kernel says, such as too many open files.
    pub fn duplicate_nonblocking(fd: RawFd) -> io::Result<OwnedFd> {
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
    ///
    /// # Errors
    /// When there is no runtime, or it watches no more.
    pub fn watch(terminal: OwnedFd) -> io::Result<AsyncFd<File>> {
        // SAFETY: a `File` owns its descriptor and gives the same one until it is dropped.
        unsafe { AsyncFd::register(File::from(terminal)) }.map_err(io::Error::from)
    }

    /// Whether the terminal echoes what is typed; true when it cannot be asked.
    #[must_use]
    pub fn echoes(terminal: BorrowedFd<'_>) -> bool {
        // SAFETY: all-zero bytes are a valid `termios`, and the descriptor is open while it is borrowed.
        unsafe {
            let mut settings: libc::termios = mem::zeroed();
            libc::tcgetattr(terminal.as_raw_fd(), &raw mut settings) != 0
                || settings.c_lflag & libc::ECHO != 0
        }
    }

    /// Gives the terminal a size; its foreground processes get SIGWINCH.
    ///
    /// # Errors
    /// Whatever the kernel says, such as that the terminal is gone.
    pub fn resize(terminal: BorrowedFd<'_>, cols: u16, rows: u16) -> io::Result<()> {
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
    pub fn signal(pid: u32, signal: i32) {
        if let Ok(pid) = i32::try_from(pid)
            && pid > 1
        {
            // SAFETY: kill only passes two numbers to the kernel; `pid` names one process, never a group or all.
            unsafe { libc::kill(pid, signal) };
        }
    }

    /// The name of a signal, such as `SIGHUP`.
    #[must_use]
    pub fn signal_name(signal: i32) -> String {
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
}
