//! A session against a bastion played by the test, over a socket in memory.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use openapi::frames::OUTPUT_WINDOW;
use tokio::io::DuplexStream;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Message,
        protocol::{CloseFrame, Role},
    },
};

use super::*;
use crate::{
    shell::{self, Allowed, Request, Shell},
    wire,
};

struct Bastion {
    socket: WebSocketStream<DuplexStream>,
    stop: CancellationToken,
    session: tokio::task::JoinHandle<Parting>,
    received: u64,
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("in time")
}

/// Starts a session, and takes its `hello`.
async fn begin(shell: Shell, command: Option<&str>) -> Bastion {
    begin_for(shell, command, false).await
}

/// The same for a bastion that records input, or does not.
async fn begin_for(shell: Shell, command: Option<&str>, records_input: bool) -> Bastion {
    let (near, far) = tokio::io::duplex(8 * 1024);
    let near = WebSocketStream::from_raw_socket(near, Role::Client, None).await;
    let socket = WebSocketStream::from_raw_socket(far, Role::Server, None).await;
    let stop = CancellationToken::new();
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
        let mut wire = Wire::new(near);
        let parting = session.run(&mut wire, None, &stopped).await;
        wire.close(1000, "").await;
        session.end(false, Duration::from_millis(200)).await;
        parting
    });
    let mut bastion = Bastion { socket, stop, session, received: 0 };
    assert_eq!(bastion.next().await, Frame::Control(Control::Hello { have: 0 }));
    bastion
}

impl Bastion {
    async fn send(&mut self, frame: Frame) {
        within(self.socket.send(Message::Binary(frame.encode()))).await.unwrap();
    }

    async fn type_at(&mut self, offset: u64, text: &'static [u8]) {
        self.send(Frame::Data { offset, bytes: Bytes::from_static(text) }).await;
    }

    async fn next(&mut self) -> Frame {
        loop {
            match within(self.socket.next()).await.expect("open").expect("whole") {
                Message::Binary(bytes) => {
                    let frame = Frame::decode(bytes).unwrap();
                    if let Frame::Data { offset, bytes } = &frame {
                        assert_eq!(*offset, self.received, "the stream continues exactly");
                        self.received += bytes.len() as u64;
                    }
                    return frame;
                }
                Message::Close(frame) => panic!("closed: {frame:?}"),
                _ => {}
            }
        }
    }

    /// Receives until a frame is the one; acknowledges output on the way.
    async fn until(&mut self, mut is: impl FnMut(&Frame) -> bool) -> (Vec<u8>, Vec<Frame>) {
        let (mut output, mut others) = (Vec::new(), Vec::new());
        loop {
            let frame = self.next().await;
            let found = is(&frame);
            if let Frame::Data { bytes, .. } = &frame {
                output.extend_from_slice(bytes);
                self.send(Frame::Ack(self.received)).await;
            } else {
                others.push(frame);
            }
            if found {
                return (output, others);
            }
        }
    }

    async fn close(mut self, code: u16) -> Parting {
        let frame = CloseFrame { code: code.into(), reason: "".into() };
        let _ = self.socket.close(Some(frame)).await;
        within(self.session).await.unwrap()
    }
}

fn is_exit(frame: &Frame) -> bool {
    matches!(frame, Frame::Control(Control::Exit { .. }))
}

#[tokio::test]
async fn all_output_comes_before_the_exit_and_the_bastion_closes() {
    let mut bastion = begin(Shell::Login, Some("seq 1 200000; exit 7")).await;
    let (output, others) = bastion.until(is_exit).await;
    let wanted: String = (1..=200_000).map(|number| format!("{number}\r\n")).collect();
    assert!(output == wanted.as_bytes(), "{} of {} bytes", output.len(), wanted.len());
    let exit = Frame::Control(Control::Exit { code: Some(7), signal: None });
    assert_eq!(others, [Frame::Control(Control::Exiting), exit]);
    assert_eq!(bastion.close(1000).await, Parting::Closed(1000));
}

#[tokio::test]
async fn what_an_ended_shell_left_in_its_terminal_comes_before_the_exit() {
    let mut bastion = begin(Shell::Login, Some("head -c 264144 /dev/zero | tr '\\0' x")).await;
    while bastion.received < OUTPUT_WINDOW {
        assert!(matches!(bastion.next().await, Frame::Data { .. }));
    }
    // The window is spent, the rest fits the terminal, so the shell can end.
    assert_eq!(bastion.next().await, Frame::Control(Control::Exiting));
    bastion.send(Frame::Ack(OUTPUT_WINDOW)).await;
    let (rest, _) = bastion.until(is_exit).await;
    assert!(rest == [b'x'; 2000], "{} bytes of 2000", rest.len());
}

#[tokio::test]
async fn keys_are_written_acknowledged_and_seen() {
    let mut bastion = begin(Shell::Echo, None).await;
    bastion.type_at(0, b"hello").await;
    let (output, _) = bastion.until(|frame| matches!(frame, Frame::Data { .. })).await;
    assert_eq!(output, b"hello");
    bastion.type_at(5, b"\x04").await;
    let (_, others) = bastion.until(is_exit).await;
    assert!(others.contains(&Frame::Control(Control::Exit { code: Some(0), signal: None })));
}

#[tokio::test]
async fn output_stops_at_its_window_and_ctrl_c_gets_through() {
    let mut bastion =
        begin(Shell::Login, Some("trap 'echo stopped; exit 0' INT; while :; do echo yyyyyyyyyyyyyyy; done"))
            .await;
    while bastion.received < OUTPUT_WINDOW {
        assert!(matches!(bastion.next().await, Frame::Data { .. }));
    }
    assert_eq!(bastion.received, OUTPUT_WINDOW);
    // The window is spent: the next frames are the answers to these two, not output.
    bastion.send(Frame::Control(Control::Ping)).await;
    assert_eq!(bastion.next().await, Frame::Control(Control::Pong));
    bastion.type_at(0, b"\x03").await;
    assert_eq!(bastion.next().await, Frame::Ack(1));
    bastion.send(Frame::Ack(OUTPUT_WINDOW)).await;
    let (output, _) = bastion.until(is_exit).await;
    assert!(output.windows(7).any(|part| part == b"stopped"));
}

#[tokio::test]
async fn a_size_is_applied_and_told_in_the_streams_order() {
    let mut bastion = begin(Shell::Login, Some("stty size; read line; stty size")).await;
    bastion.until(|frame| matches!(frame, Frame::Data { .. })).await;
    bastion.send(Frame::Resize { cols: 132, rows: 43 }).await;
    let (_, others) = bastion.until(|frame| matches!(frame, Frame::Resized { .. })).await;
    assert_eq!(others.last(), Some(&Frame::Resized { offset: bastion.received, cols: 132, rows: 43 }));
    bastion.type_at(0, b"\n").await;
    let (output, _) = bastion.until(is_exit).await;
    assert!(String::from_utf8_lossy(&output).contains("43 132"));
}

#[tokio::test]
async fn a_hidden_terminal_is_told_before_what_was_typed_into_it_is_acknowledged() {
    let command = "stty -echo; echo go; read line; stty echo; echo on; read line";
    let mut bastion = begin_for(Shell::Login, Some(command), true).await;
    bastion.until(|frame| matches!(frame, Frame::Data { bytes, .. } if bytes.starts_with(b"go"))).await;
    bastion.type_at(0, b"secret\n").await;
    let (_, others) = bastion.until(|frame| matches!(frame, Frame::Data { .. })).await;
    assert_eq!(others[..2], [Frame::Echo { offset: 0, on: false }, Frame::Ack(7)]);
    bastion.type_at(7, b"x\n").await;
    let (_, others) = bastion.until(|frame| matches!(frame, Frame::Ack(_))).await;
    assert_eq!(others[..2], [Frame::Echo { offset: 7, on: true }, Frame::Ack(9)]);
}

#[tokio::test]
async fn a_bastion_that_records_no_input_is_not_told_of_echo() {
    let mut bastion = begin(Shell::Login, Some("stty -echo; echo go; read line")).await;
    bastion.until(|frame| matches!(frame, Frame::Data { bytes, .. } if bytes.starts_with(b"go"))).await;
    bastion.type_at(0, b"secret\n").await;
    let (_, others) = bastion.until(is_exit).await;
    assert!(others.iter().all(|frame| !matches!(frame, Frame::Echo { .. })), "{others:?}");
}

#[tokio::test]
async fn a_gap_and_an_ack_of_the_future_break_the_protocol() {
    let mut bastion = begin(Shell::Echo, None).await;
    bastion.type_at(1, b"x").await;
    assert_eq!(within(bastion.session).await.unwrap(), Parting::Broken);
    let mut bastion = begin(Shell::Echo, None).await;
    bastion.send(Frame::Ack(1)).await;
    assert_eq!(within(bastion.session).await.unwrap(), Parting::Broken);
}

#[tokio::test]
async fn a_stopped_session_tells_its_exit() {
    let mut bastion = begin(Shell::Login, Some("echo up; sleep 1000")).await;
    bastion.until(|frame| matches!(frame, Frame::Data { .. })).await;
    bastion.stop.cancel();
    let (_, others) = bastion.until(is_exit).await;
    let exit = Control::Exit { code: None, signal: Some("SIGHUP".to_owned()) };
    assert_eq!(others.last(), Some(&Frame::Control(exit)));
    assert_eq!(bastion.close(1000).await, Parting::Closed(1000));
}

#[tokio::test]
async fn a_lost_socket_and_a_terminal_close_end_the_session() {
    let bastion = begin(Shell::Login, Some("sleep 1000")).await;
    drop(bastion.socket);
    assert_eq!(within(bastion.session).await.unwrap(), Parting::Lost);
    let bastion = begin(Shell::Login, Some("sleep 1000")).await;
    assert_eq!(bastion.close(4410).await, Parting::Closed(4410));
}

#[tokio::test(start_paused = true)]
async fn silence_of_thirty_five_seconds_is_a_loss() {
    let bastion = begin(Shell::Echo, None).await;
    let began = Instant::now();
    assert_eq!(bastion.session.await.unwrap(), Parting::Lost);
    assert!((wire::SILENCE..wire::SILENCE + Duration::from_secs(3)).contains(&began.elapsed()));
    drop(bastion.socket);
}
