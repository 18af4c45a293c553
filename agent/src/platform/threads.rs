//! A terminal without readiness, such as a Windows console: one thread reads it, one writes it, one waits for its
//! first process. Each is a step ahead at most, so a spent window stops the terminal here as well.

use std::{
    io::{self, Read, Write},
    sync::{Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    thread,
};

use bytes::Bytes;
use portable_pty::{ChildKiller, CommandBuilder, MasterPty, PtySize, native_pty_system};
use tokio::sync::{mpsc, watch};

use super::{Echoing, Exit};

/// How much is read or written at once.
const PIECE: usize = 16 * 1024;

/// Starts a program on a new terminal.
///
/// # Errors
/// Whatever the host says, such as that there is no such program.
pub fn start(command: CommandBuilder, cols: u16, rows: u16) -> io::Result<(Pty, Child)> {
    let pair = native_pty_system().openpty(size(cols, rows)).map_err(io::Error::other)?;
    let reader = pair.master.try_clone_reader().map_err(io::Error::other)?;
    let writer = pair.master.take_writer().map_err(io::Error::other)?;
    let child = pair.slave.spawn_command(command).map_err(io::Error::other)?;
    // Both of capacity one: the threads wait for the session, and the session's input for the thread.
    let (output, read) = mpsc::channel(1);
    let (write, input) = mpsc::channel(1);
    spawn("terminal-reader", move || copy_output(reader, &output))?;
    spawn("terminal-writer", move || copy_input(writer, input))?;
    let reading = Mutex::new(Reading { pieces: read, left: Bytes::new() });
    let pty = Pty { master: Mutex::new(Some(pair.master)), reading, input: write };
    Ok((pty, Child::watch(child)?))
}

/// The threads end with the terminal: each sees it closed, or its channel.
fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
}

fn size(cols: u16, rows: u16) -> PtySize {
    PtySize { cols, rows, pixel_width: 0, pixel_height: 0 }
}

/// Reads to the end even when nobody listens, since a console closes only once all of it was read.
fn copy_output(mut terminal: impl Read, pieces: &mpsc::Sender<Bytes>) {
    let mut room = vec![0; PIECE];
    loop {
        match terminal.read(&mut room) {
            Ok(0) => return,
            Ok(count) => drop(pieces.blocking_send(Bytes::copy_from_slice(&room[..count]))),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // A closed terminal, in whatever words.
            Err(_) => return,
        }
    }
}

fn copy_input(mut terminal: impl Write, mut pieces: mpsc::Receiver<Bytes>) {
    while let Some(piece) = pieces.blocking_recv() {
        if terminal.write_all(&piece).and_then(|()| terminal.flush()).is_err() {
            return;
        }
    }
}

struct Reading {
    pieces: mpsc::Receiver<Bytes>,
    left: Bytes,
}

/// A terminal.
pub struct Pty {
    // Held for moments only, never across an await.
    master: Mutex<Option<Box<dyn MasterPty + Send>>>,
    reading: Mutex<Reading>,
    input: mpsc::Sender<Bytes>,
}

impl Pty {
    /// Waits for output and takes what fits. 0: the end. Cancel safe.
    ///
    /// # Errors
    /// None: a terminal that fails has ended.
    pub async fn read(&self, room: &mut [u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_read(cx, room)).await
    }

    fn poll_read(&self, cx: &mut Context<'_>, room: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut reading = lock(&self.reading);
        if reading.left.is_empty() {
            match reading.pieces.poll_recv(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(Ok(0)),
                Poll::Ready(Some(piece)) => reading.left = piece,
            }
        }
        let count = reading.left.len().min(room.len());
        room[..count].copy_from_slice(&reading.left.split_to(count));
        Poll::Ready(Ok(count))
    }

    /// Waits until the writer takes input and gives it a piece. Cancel safe.
    ///
    /// # Errors
    /// [`io::ErrorKind::BrokenPipe`] when nobody reads any more.
    pub async fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let permit = self.input.reserve().await.map_err(|_| io::ErrorKind::BrokenPipe)?;
        let count = bytes.len().min(PIECE);
        permit.send(Bytes::copy_from_slice(&bytes[..count]));
        Ok(count)
    }

    /// The same. A console does not tell whether it shows what is typed, so no key is taken for harmless.
    ///
    /// # Errors
    /// [`io::ErrorKind::BrokenPipe`] when nobody reads any more.
    pub async fn write_watched(&self, bytes: &[u8], _shell: u32) -> io::Result<(usize, Echoing)> {
        Ok((self.write(bytes).await?, Echoing::Hidden))
    }

    /// Gives it a size.
    ///
    /// # Errors
    /// Whatever the host says, such as that the terminal is gone.
    pub fn resize(&self, cols: u16, rows: u16) -> io::Result<()> {
        let master = lock(&self.master);
        let master = master.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        master.resize(size(cols, rows)).map_err(io::Error::other)
    }

    /// Closes it: its processes are told, as when a user closes the window.
    pub fn close(&self) {
        if let Some(master) = lock(&self.master).take() {
            // A console may take its time until all of its output was read; were there no thread, it closes here.
            let _ = spawn("terminal-closer", move || drop(master));
        }
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        self.close();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A terminal's first process.
pub struct Child {
    id: u32,
    // While it is held, the number is no other process's.
    _handle: Box<dyn ChildKiller + Send + Sync>,
    exit: watch::Receiver<Option<Exit>>,
}

impl Child {
    fn watch(mut child: Box<dyn portable_pty::Child + Send + Sync>) -> io::Result<Self> {
        let id = child.process_id().ok_or_else(|| io::Error::other("a process without a number"))?;
        let handle = child.clone_killer();
        let (told, exit) = watch::channel(None);
        spawn("terminal-waiter", move || {
            let code = child.wait().map_or(1, |status| status.exit_code().cast_signed());
            told.send_replace(Some(Exit { code: Some(code), signal: None }));
        })?;
        Ok(Self { id, _handle: handle, exit })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.exit.borrow().is_some()
    }

    /// Waits for its end. Cancel safe.
    ///
    /// # Errors
    /// When it cannot be known any more.
    pub async fn exit(&mut self) -> io::Result<Exit> {
        let exit = self.exit.wait_for(Option::is_some).await.map_err(io::Error::other)?;
        exit.clone().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// How it ended, if it did.
    ///
    /// # Errors
    /// None.
    pub fn look(&mut self) -> io::Result<Option<Exit>> {
        Ok(self.exit.borrow().clone())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use std::time::Duration;

    use super::*;

    async fn within<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time")
    }

    fn run(command: &str) -> (Pty, Child) {
        let argv = ["/bin/sh", "-c", command].map(Into::into).to_vec();
        start(CommandBuilder::from_argv(argv), 80, 24).unwrap()
    }

    async fn read_until(pty: &Pty, text: &str) -> String {
        let mut all = String::new();
        let mut room = [0; 100];
        while !all.contains(text) {
            let count = within(pty.read(&mut room)).await.unwrap();
            assert!(count > 0, "{text:?} is not in {all:?}");
            all.push_str(&String::from_utf8_lossy(&room[..count]));
        }
        all
    }

    #[tokio::test]
    async fn output_input_size_and_exit_go_through_threads_too() {
        let (pty, mut child) = run("stty size; read line; stty size; seq 1 5000; exit 7");
        read_until(&pty, "24 80").await;
        assert!(!child.is_over() && std::fs::exists(format!("/proc/{}", child.id())).unwrap());
        pty.resize(132, 43).unwrap();
        let wrote = within(pty.write_watched(b"\n", child.id())).await.unwrap();
        assert_eq!(wrote, (1, Echoing::Hidden), "nobody can tell");
        read_until(&pty, "43 132").await;
        read_until(&pty, "\n5000\r\n").await;
        assert_eq!(within(child.exit()).await.unwrap(), Exit { code: Some(7), signal: None });
        assert!(child.is_over());
        assert_eq!(child.look().unwrap().unwrap().code, Some(7));
    }

    #[tokio::test]
    async fn a_key_reaches_a_program_whose_output_nobody_reads() {
        let (pty, mut child) = run("trap 'exit 3' INT; while :; do echo yyyyyyyyyyyyyyy; done");
        within(pty.read(&mut [0; 10])).await.unwrap();
        within(pty.write(b"\x03")).await.unwrap();
        let mut count = 1;
        let mut room = vec![0; PIECE];
        while count > 0 {
            count = within(pty.read(&mut room)).await.unwrap();
        }
        assert_eq!(within(child.exit()).await.unwrap().code, Some(3));
    }

    #[tokio::test]
    async fn a_terminal_that_is_closed_ends_its_program() {
        let (pty, mut child) = run("echo up; cat; exit 0");
        read_until(&pty, "up").await;
        drop(pty);
        within(child.exit()).await.unwrap();
    }
}
