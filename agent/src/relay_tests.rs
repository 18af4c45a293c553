//! A session whose sockets are cut, against a bastion played by the test: real connections, without the upgrade.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::sync::{
    Arc,
    atomic::{AtomicU16, AtomicUsize, Ordering},
};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use openapi::frames::{INPUT_WINDOW, MAX_DATA, close};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role},
    },
};

use super::*;
use crate::shell::{Allowed, Shell};

const GRACE: Duration = Duration::from_secs(60);

/// How the played bastion takes a relay: it does, or refuses with this status.
#[derive(Clone, Default)]
struct Door {
    status: Arc<AtomicU16>,
    tries: Arc<AtomicUsize>,
}

struct Played {
    address: std::net::SocketAddr,
    door: Door,
}

impl Line for Played {
    type Stream = TcpStream;

    async fn dial(&self) -> Result<Wire<TcpStream>, DialError> {
        self.door.tries.fetch_add(1, Ordering::Relaxed);
        match self.door.status.load(Ordering::Relaxed) {
            0 => {
                let stream = TcpStream::connect(self.address).await;
                let stream = stream.map_err(|error| DialError::Unreachable(error.to_string()))?;
                Ok(Wire::new(WebSocketStream::from_raw_socket(stream, Role::Client, None).await))
            }
            status => Err(DialError::Refused { status, detail: String::new() }),
        }
    }

    fn grace(&self) -> Duration {
        GRACE
    }

    fn session(&self) -> &'static str {
        "s"
    }
}

struct Bastion {
    listener: TcpListener,
    door: Door,
    stop: CancellationToken,
    session: JoinHandle<Parting>,
    socket: Option<WebSocketStream<TcpStream>>,
    output: Vec<u8>,
    others: Vec<Frame>,
    acked: u64,
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(120), future).await.expect("in time")
}

/// Starts a session, and takes its `hello`.
async fn begin(shell: Shell, command: Option<&str>) -> Bastion {
    begin_for(shell, command, false).await
}

/// The same for a bastion that records input, or does not.
async fn begin_for(shell: Shell, command: Option<&str>, records_input: bool) -> Bastion {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let line = Played { address: listener.local_addr().unwrap(), door: Door::default() };
    let (door, stop) = (line.door.clone(), CancellationToken::new());
    let request = Request {
        session_id: uuid::Uuid::new_v4().to_string(),
        run_as: None,
        command: command.map(str::to_owned),
        cols: 80,
        rows: 24,
    };
    let (terminal, process) = shell::open(shell, &Allowed::default(), &request).unwrap();
    let stopped = stop.clone();
    let session = tokio::spawn(async move {
        let mut session = Session::new(terminal, process, records_input);
        let wire = line.dial().await.unwrap();
        let parting = hold(&mut session, wire, &line, &stopped).await;
        session.end(false, Duration::from_millis(200)).await;
        parting
    });
    let (output, others) = (Vec::new(), Vec::new());
    let mut bastion = Bastion { listener, door, stop, session, socket: None, output, others, acked: 0 };
    bastion.accept().await;
    assert_eq!(bastion.next().await, Frame::Control(Control::Hello { have: 0 }));
    bastion
}

impl Bastion {
    async fn accept(&mut self) {
        let (stream, _) = within(self.listener.accept()).await.unwrap();
        self.socket = Some(WebSocketStream::from_raw_socket(stream, Role::Server, None).await);
    }

    fn cut(&mut self) {
        self.socket = None;
    }

    /// Refuses whoever comes, with this status; 0: nobody.
    fn refuse(&self, status: u16) {
        self.door.status.store(status, Ordering::Relaxed);
    }

    /// Takes the next relay and says where the bastion stands; answers what the agent has taken of the input.
    async fn resume(&mut self, input: u64) -> u64 {
        self.accept().await;
        let have = self.output.len() as u64;
        self.send(Frame::Control(Control::Resume { have, input })).await;
        assert_eq!(self.next().await, Frame::Control(Control::Hello { have }));
        match self.next().await {
            Frame::Ack(taken) => taken,
            other => panic!("{other:?} before the acknowledgement"),
        }
    }

    async fn send(&mut self, frame: Frame) {
        within(self.socket.as_mut().unwrap().send(Message::Binary(frame.encode()))).await.unwrap();
    }

    async fn type_at(&mut self, offset: u64, text: &[u8]) {
        self.send(Frame::Data { offset, bytes: Bytes::copy_from_slice(text) }).await;
    }

    async fn next(&mut self) -> Frame {
        loop {
            match within(self.socket.as_mut().unwrap().next()).await.expect("open").expect("whole") {
                Message::Binary(bytes) => return Frame::decode(bytes).unwrap(),
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Receives until a frame is the one; acknowledges half of what comes.
    async fn until(&mut self, mut is: impl FnMut(&Frame) -> bool) {
        loop {
            let frame = self.next().await;
            let found = is(&frame);
            match frame {
                Frame::Data { offset, bytes } => {
                    assert_eq!(offset, self.output.len() as u64, "the stream continues exactly");
                    self.output.extend_from_slice(&bytes);
                    self.acked = self.acked.max(self.output.len() as u64 / 2);
                    self.send(Frame::Ack(self.acked.max((self.output.len() as u64).saturating_sub(65_536))))
                        .await;
                }
                other => self.others.push(other),
            }
            if found {
                return;
            }
        }
    }

    async fn close(&mut self, code: u16) {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        self.socket.as_mut().unwrap().close(Some(frame)).await.unwrap();
    }

    /// The code that the agent closes with.
    async fn closed(&mut self) -> u16 {
        loop {
            match within(self.socket.as_mut().unwrap().next()).await.expect("a close").expect("whole") {
                Message::Close(frame) => return frame.expect("a code").code.into(),
                other => drop(other),
            }
        }
    }

    async fn parting(self) -> Parting {
        within(self.session).await.unwrap()
    }

    /// Reads the first line of the output, the shell's process id.
    async fn leader(&mut self) -> String {
        self.until(|frame| matches!(frame, Frame::Data { bytes, .. } if bytes.contains(&b'\n'))).await;
        let text = String::from_utf8_lossy(&self.output).into_owned();
        text.lines().next().unwrap().to_owned()
    }
}

fn is_exit(frame: &Frame) -> bool {
    matches!(frame, Frame::Control(Control::Exit { .. }))
}

/// Waits until a process is no more, nor a zombie.
async fn gone(pid: &str) {
    let path = format!("/proc/{pid}");
    within(async {
        while std::fs::exists(&path).unwrap() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_flood_that_is_cut_again_and_again_arrives_once() {
    let wanted: String = (1..=200_000).map(|number| format!("{number}\r\n")).collect();
    let mut bastion = begin(Shell::Login, Some("seq 1 200000; exit 7")).await;
    for part in 1..=4 {
        let enough = wanted.len() * part / 5;
        let mut received = bastion.output.len();
        bastion
            .until(|frame| {
                received += if let Frame::Data { bytes, .. } = frame { bytes.len() } else { 0 };
                received >= enough
            })
            .await;
        bastion.cut();
        bastion.resume(0).await;
    }
    bastion.until(is_exit).await;
    assert!(bastion.output == wanted.as_bytes(), "{} of {} bytes", bastion.output.len(), wanted.len());
    let exit = Frame::Control(Control::Exit { code: Some(7), signal: None });
    assert_eq!(bastion.others, [Frame::Control(Control::Exiting), exit]);
    bastion.close(close::EXIT).await;
    assert_eq!(bastion.parting().await, Parting::Closed(close::EXIT));
}

#[tokio::test]
async fn an_exit_without_a_socket_is_told_on_the_next_and_on_the_one_after() {
    let mut bastion = begin(Shell::Login, Some("echo $$; read line; seq 1 9; exit 3")).await;
    let leader = bastion.leader().await;
    bastion.type_at(0, b"\n").await;
    bastion.until(|frame| matches!(frame, Frame::Ack(1))).await;
    bastion.refuse(503);
    bastion.cut();
    gone(&leader).await;
    bastion.refuse(0);
    for _ in 0..2 {
        bastion.others.clear();
        assert_eq!(bastion.resume(1).await, 1);
        bastion.until(is_exit).await;
        let exit = Frame::Control(Control::Exit { code: Some(3), signal: None });
        assert_eq!(bastion.others, [Frame::Control(Control::Exiting), exit]);
        assert!(bastion.output.ends_with(b"8\r\n9\r\n"));
        bastion.cut();
    }
    bastion.resume(1).await;
    bastion.close(close::EXIT).await;
    assert_eq!(bastion.parting().await, Parting::Closed(close::EXIT));
}

#[tokio::test]
async fn a_spent_window_waits_with_the_rest_of_an_ended_shell() {
    // The window and a little that only the terminal holds; longer without a socket than a drain may take.
    let command = "echo $$; read line; head -c 264144 /dev/zero | tr '\\0' x";
    let mut bastion = begin(Shell::Login, Some(command)).await;
    let leader = bastion.leader().await;
    bastion.refuse(503);
    bastion.type_at(0, b"\n").await;
    bastion.until(|frame| matches!(frame, Frame::Ack(1))).await;
    bastion.cut();
    gone(&leader).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    bastion.refuse(0);
    bastion.resume(1).await;
    bastion.until(is_exit).await;
    let wanted = format!("{leader}\r\n\r\n{}", "x".repeat(264_144));
    assert!(bastion.output == wanted.as_bytes(), "{} of {} bytes", bastion.output.len(), wanted.len());
}

#[tokio::test]
async fn input_in_flight_is_written_once() {
    let typed: Vec<u8> = (0..300_000u32).map(|at| u8::try_from(at % 200).unwrap() + 32).collect();
    let mut bastion = begin(Shell::Echo, None).await;
    let (mut sent, mut taken) = (0, 0);
    let mut rounds = 0;
    while bastion.output.len() < typed.len() {
        let room = (taken + usize::try_from(INPUT_WINDOW).unwrap()).min(typed.len());
        while sent < room {
            let end = (sent + MAX_DATA / 2).min(room);
            bastion.type_at(sent as u64, &typed[sent..end]).await;
            sent = end;
        }
        rounds += 1;
        if rounds % 8 == 0 {
            // Whatever is between the bastion and the terminal now is lost.
            bastion.cut();
            taken = usize::try_from(bastion.resume(taken as u64).await).unwrap();
            sent = taken;
        } else {
            let whole = bastion.output.len();
            let mut now = whole;
            bastion
                .until(|frame| {
                    match frame {
                        Frame::Ack(count) => taken = usize::try_from(*count).unwrap(),
                        Frame::Data { bytes, .. } => now += bytes.len(),
                        _ => {}
                    }
                    now > whole
                })
                .await;
        }
    }
    assert!(bastion.output == typed);
    bastion.stop.cancel();
}

#[tokio::test]
async fn a_restart_and_a_newer_relay_are_no_end_and_an_admins_word_is() {
    let mut bastion = begin(Shell::Echo, None).await;
    for code in [close::RESTART, close::ELSEWHERE, 1001, 1011, 4999] {
        bastion.close(code).await;
        assert_eq!(bastion.resume(0).await, 0, "after {code}");
    }
    bastion.close(close::ENDED_BY_ADMIN).await;
    assert_eq!(bastion.parting().await, Parting::Closed(close::ENDED_BY_ADMIN));
}

#[tokio::test]
async fn a_session_that_is_over_at_the_bastion_ends_its_shell() {
    let mut bastion = begin(Shell::Login, Some("echo $$; sleep 1000")).await;
    let leader = bastion.leader().await;
    bastion.refuse(GONE);
    bastion.cut();
    gone(&leader).await;
    assert_eq!(bastion.parting().await, Parting::Gone);
}

#[tokio::test]
async fn a_stopped_session_ends_without_a_socket_too() {
    let mut bastion = begin(Shell::Login, Some("echo $$; sleep 1000")).await;
    let leader = bastion.leader().await;
    bastion.refuse(404);
    bastion.cut();
    bastion.stop.cancel();
    gone(&leader).await;
    assert_eq!(bastion.parting().await, Parting::Over);
}

#[tokio::test(start_paused = true)]
async fn a_bastion_that_stays_away_is_given_up_after_its_grace_and_a_minute() {
    let mut bastion = begin(Shell::Echo, None).await;
    let began = Instant::now();
    bastion.refuse(503);
    bastion.cut();
    let tries = Arc::clone(&bastion.door.tries);
    assert_eq!(bastion.session.await.unwrap(), Parting::Abandoned);
    let held = GRACE + MARGIN;
    // A loss is noticed at once, or by its silence.
    assert!((held..held + wire::SILENCE + CAP).contains(&began.elapsed()), "{:?}", began.elapsed());
    let tries = tries.load(Ordering::Relaxed);
    assert!((20..200).contains(&tries), "{tries} tries");
}

#[tokio::test(start_paused = true)]
async fn an_exit_that_was_told_to_a_lost_socket_waits_as_long_for_the_next() {
    let mut bastion = begin(Shell::Echo, None).await;
    bastion.type_at(0, b"\x04").await;
    bastion.until(is_exit).await;
    bastion.refuse(503);
    bastion.cut();
    // Longer than a bastion may take that was told.
    tokio::time::sleep(Duration::from_secs(90)).await;
    bastion.refuse(0);
    bastion.resume(0).await;
    bastion.until(is_exit).await;
    bastion.close(close::EXIT).await;
    assert_eq!(bastion.parting().await, Parting::Closed(close::EXIT));
}

#[tokio::test(start_paused = true)]
async fn a_bastion_that_takes_a_relay_and_says_nothing_is_dialled_again() {
    let mut bastion = begin(Shell::Echo, None).await;
    bastion.cut();
    bastion.accept().await;
    let silent = bastion.socket.take();
    assert_eq!(bastion.resume(0).await, 0);
    drop(silent);
    bastion.stop.cancel();
}

#[tokio::test]
async fn a_bastion_that_claims_what_was_never_said_breaks_the_protocol() {
    for wrong in [
        Control::Resume { have: 1, input: 0 },
        Control::Resume { have: 0, input: 1 },
        Control::Hello { have: 0 },
    ] {
        let mut bastion = begin(Shell::Echo, None).await;
        bastion.cut();
        bastion.accept().await;
        bastion.send(Frame::Control(wrong)).await;
        assert_eq!(bastion.closed().await, close::PROTOCOL);
        assert_eq!(bastion.parting().await, Parting::Broken);
    }
}

#[tokio::test]
async fn a_terminal_that_does_not_echo_is_told_again() {
    let command = "echo $$; stty -echo; echo go; read line; read line";
    let mut bastion = begin_for(Shell::Login, Some(command), true).await;
    while !bastion.output.ends_with(b"go\r\n") {
        bastion.until(|frame| matches!(frame, Frame::Data { .. })).await;
    }
    bastion.type_at(0, b"secret\n").await;
    bastion.until(|frame| matches!(frame, Frame::Ack(7))).await;
    bastion.cut();
    bastion.accept().await;
    bastion.send(Frame::Control(Control::Resume { have: 0, input: 0 })).await;
    assert!(matches!(bastion.next().await, Frame::Control(Control::Hello { .. })));
    assert_eq!(
        bastion.next().await,
        Frame::Echo { offset: 0, on: false },
        "before what it speaks of is acknowledged"
    );
    assert_eq!(bastion.next().await, Frame::Ack(7));
    bastion.stop.cancel();
}
