//! Clients of terminal sockets: a framed browser, a plain one, and an agent's relay made by hand.

use std::{collections::VecDeque, net::SocketAddr};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use openapi::frames::{Control, Frame, SUBPROTOCOL};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Error, Message, client::IntoClientRequest as _, http::HeaderValue},
};

use crate::harness::{Actor, Bastion, Credential, eventually, within};

/// Output bytes after which a browser acknowledges.
const ACK_EVERY: u64 = 32 * 1024;

/// A WebSocket.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// How a socket ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// Close code; 1006: none came.
    pub code: u16,
    /// For the user.
    pub reason: String,
}

impl Socket {
    /// Dials; the HTTP status, if it is refused before the upgrade.
    pub async fn dial(
        bastion: &Bastion,
        path: &str,
        headers: &[(&str, String)],
    ) -> Result<Self, (u16, Value)> {
        Self::dial_by(bastion.config().server.listen, path, headers).await
    }

    /// Dials the bastion through something else that listens.
    pub async fn dial_by(
        address: SocketAddr,
        path: &str,
        headers: &[(&str, String)],
    ) -> Result<Self, (u16, Value)> {
        let url = format!("ws://{address}/api/v1{path}");
        let mut request = url.into_client_request().unwrap();
        for (name, value) in headers {
            let name = tokio_tungstenite::tungstenite::http::HeaderName::try_from(*name).unwrap();
            request.headers_mut().insert(name, HeaderValue::try_from(value).unwrap());
        }
        match within("an upgrade", connect_async(request)).await {
            Ok((socket, response)) => {
                let asked = headers.iter().any(|(name, _)| *name == "sec-websocket-protocol");
                let chosen = response.headers().get("sec-websocket-protocol");
                let chosen = chosen.map(|it| it.to_str().unwrap());
                assert!(
                    chosen.is_some() == asked
                        && chosen.is_none_or(|it| [SUBPROTOCOL, "v1.alis"].contains(&it))
                );
                Ok(Self(socket))
            }
            Err(Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                Err((response.status().as_u16(), serde_json::from_slice(&body).unwrap_or(Value::Null)))
            }
            Err(error) => panic!("{error}"),
        }
    }

    /// Sends a message.
    pub async fn send(&mut self, message: Message) {
        within("a message is taken", self.0.send(message)).await.unwrap();
    }

    /// Sends a frame.
    pub async fn frame(&mut self, frame: Frame) {
        self.send(Message::Binary(frame.encode())).await;
    }

    /// Sends a frame to a bastion that may be dead.
    pub async fn try_frame(&mut self, frame: Frame) -> Result<(), Error> {
        within("a message is taken", self.0.send(Message::Binary(frame.encode()))).await
    }

    /// The next message, or how it ended.
    pub async fn next(&mut self) -> Result<Message, Closed> {
        loop {
            match within("a message", self.0.next()).await {
                Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
                Some(Ok(Message::Close(close))) => {
                    // The answer to the close is queued already; sent, it ends both sides in order.
                    let _ = self.0.flush().await;
                    let (code, reason) = close
                        .map_or((1005, String::new()), |close| (close.code.into(), close.reason.to_string()));
                    return Err(Closed { code, reason });
                }
                Some(Ok(message)) => return Ok(message),
                Some(Err(_)) | None => return Err(Closed { code: 1006, reason: String::new() }),
            }
        }
    }

    /// The next frame, or how it ended.
    pub async fn next_frame(&mut self) -> Result<Frame, Closed> {
        match self.next().await? {
            Message::Binary(bytes) => Ok(Frame::decode(bytes).unwrap()),
            other => panic!("not a frame: {other:?}"),
        }
    }

    /// Closes as a browser does that leaves its page.
    pub async fn leave(&mut self) {
        let _ = self.0.close(None).await;
    }

    /// Reads to the end.
    pub async fn closed(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.next().await {
                return closed;
            }
        }
    }
}

/// How an actor's browser dials with a ticket.
pub async fn dial_framed(actor: &Actor, token: &str) -> Result<Socket, (u16, Value)> {
    let mut headers = vec![("sec-websocket-protocol", format!("{SUBPROTOCOL}, ticket.{token}"))];
    match &actor.credential {
        Credential::None => {}
        Credential::Login(cookie) => {
            headers.push(("cookie", cookie.clone()));
            headers.push(("origin", actor.bastion().url()));
        }
        Credential::Token(token) => headers.push(("authorization", format!("Bearer {token}"))),
    }
    Socket::dial(actor.bastion(), "/tty/ws", &headers).await
}

/// How a framed terminal ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The socket's close.
    pub closed: Closed,
    /// The shell's exit code and signal, if it said.
    pub exit: Option<(Option<i32>, Option<String>)>,
}

/// A framed browser's terminal: acknowledges what it takes.
pub struct Terminal {
    /// The socket.
    pub socket: Socket,
    /// The session's id.
    pub session: String,
    /// The size that `ready` said.
    pub size: (u16, u16),
    /// All output so far; after a screen, what came since.
    pub output: Vec<u8>,
    /// Where the next byte of output goes.
    pub received: u64,
    /// The last screen: its offset, and what redraws it.
    pub screen: Option<(u64, Vec<u8>)>,
    /// Who watches, as far as was said.
    pub peers: u32,
    /// Warnings: why, and in how many seconds.
    pub warnings: Vec<(String, u64)>,
    /// Output bytes acknowledged.
    pub acked: u64,
    /// Input bytes sent.
    pub input: u64,
    /// Input bytes acknowledged by the host.
    pub input_acked: u64,
    /// Where in the output which size was applied.
    pub sizes: VecDeque<(u64, u16, u16)>,
    /// Bytes the bastion says it left out.
    pub skipped: u64,
    redrawing: bool,
    /// The shell's exit code and signal, if it said.
    pub exit: Option<(Option<i32>, Option<String>)>,
}

impl Actor {
    /// Opens a terminal on a host.
    pub async fn open(&self, hostname: &str) -> Terminal {
        self.open_with(hostname, "").await
    }

    /// Opens a terminal; `query` as for authorize.
    pub async fn open_with(&self, hostname: &str, query: &str) -> Terminal {
        let answer = self.authorize_with(hostname, query).await.expect(200);
        let token = answer["token"].as_str().unwrap();
        let socket = dial_framed(self, token).await.unwrap();
        Terminal::greet(socket).await.unwrap()
    }

    /// Comes back to a session with so many bytes of its output, `mode` as the API says it.
    pub async fn back(&self, session: &str, mode: &str, have: u64) -> Result<Terminal, Closed> {
        let answer = self.get(&format!("/sessions/{session}/reattach?mode={mode}")).await.expect(200);
        let socket = dial_framed(self, answer["token"].as_str().unwrap()).await.unwrap();
        Terminal::greet_with(socket, have).await
    }

    /// Waits until a session of one's own stands so.
    pub async fn until_status(&self, session: &str, status: &str) {
        eventually(status, async || (self.session(session).await["status"] == status).then_some(())).await;
    }

    /// Opens a terminal that runs a command.
    pub async fn run(&self, hostname: &str, command: &str) -> Terminal {
        let command: String = url_encoded(command);
        self.open_with(hostname, &format!("command={command}")).await
    }
}

/// Text as a query has it.
pub fn url_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

impl Terminal {
    /// Says hello and waits until both ends are there.
    pub async fn greet(socket: Socket) -> Result<Self, Closed> {
        Self::greet_with(socket, 0).await
    }

    /// Says hello with so many bytes of output, and waits until both ends are there.
    pub async fn greet_with(mut socket: Socket, have: u64) -> Result<Self, Closed> {
        socket.frame(Frame::Control(Control::Hello { have })).await;
        Ok(Self { received: have, acked: have, ..Self::of_greeted(socket).await? })
    }

    /// Waits until both ends are there, hello having been said.
    pub async fn of_greeted(mut socket: Socket) -> Result<Self, Closed> {
        let first = socket.next_frame().await?;
        let Frame::Control(Control::Ready { session_id, cols, rows, input, .. }) = first else {
            panic!("the first message must be ready: {first:?}");
        };
        Ok(Self {
            socket,
            session: session_id,
            size: (cols, rows),
            output: Vec::new(),
            received: 0,
            screen: None,
            peers: 0,
            warnings: Vec::new(),
            acked: 0,
            input,
            input_acked: input,
            sizes: VecDeque::new(),
            skipped: 0,
            redrawing: false,
            exit: None,
        })
    }

    /// Goes, and comes back with what it has; `mode` as the API says it.
    pub async fn come_back(self, actor: &Actor) -> Self {
        let Self { session, output, received, exit, .. } = self;
        let terminal = actor.back(&session, "control", received).await.unwrap();
        Self { output, received, acked: received, exit, ..terminal }
    }

    /// Types.
    pub async fn type_in(&mut self, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let frame = Frame::Data { offset: self.input, bytes };
        self.input += text.len() as u64;
        self.socket.frame(frame).await;
    }

    /// Has its window resized.
    pub async fn resize(&mut self, cols: u16, rows: u16) {
        self.socket.frame(Frame::Resize { cols, rows }).await;
    }

    /// Acknowledges all it has.
    pub async fn acknowledge(&mut self) {
        self.acked = self.received;
        self.socket.frame(Frame::Ack(self.acked)).await;
    }

    /// Takes one frame, acknowledging nothing.
    pub async fn take(&mut self) -> Result<Frame, Closed> {
        let frame = self.socket.next_frame().await?;
        match &frame {
            Frame::Data { offset, bytes } => {
                assert_eq!(*offset, self.received + self.skipped, "a gap in the output");
                self.output.extend_from_slice(bytes);
                self.received += bytes.len() as u64;
            }
            Frame::Screen { offset, last, bytes } => {
                let (_, mut screen) = self.screen.take().filter(|_| self.redrawing).unwrap_or_default();
                screen.extend_from_slice(bytes);
                (self.screen, self.redrawing) = (Some((*offset, screen)), !last);
                (self.received, self.acked) = (*offset, *offset);
                self.output.clear();
            }
            Frame::Control(Control::Peers { count }) => self.peers = *count,
            Frame::Control(Control::Closing { reason, in_seconds }) => {
                self.warnings.push((reason.clone(), *in_seconds));
            }
            Frame::Ack(taken) => self.input_acked = *taken,
            Frame::Resized { offset, cols, rows } => self.sizes.push_back((*offset, *cols, *rows)),
            Frame::Control(Control::Exit { code, signal }) => self.exit = Some((*code, signal.clone())),
            Frame::Control(Control::Skipped { bytes }) => self.skipped += bytes,
            Frame::Control(_) => {}
            other => panic!("not for a browser: {other:?}"),
        }
        Ok(frame)
    }

    /// Takes one frame and acknowledges in good time.
    pub async fn step(&mut self) -> Result<Frame, Closed> {
        let frame = self.take().await?;
        if self.received - self.acked >= ACK_EVERY {
            self.acknowledge().await;
        }
        Ok(frame)
    }

    /// Reads until the output holds `text`.
    pub async fn until(&mut self, text: &str) {
        // Of much output only what is new is looked at.
        let mut looked_at = 0;
        while !contains(&self.output[looked_at..], text.as_bytes()) {
            looked_at = self.output.len().saturating_sub(text.len());
            if let Err(closed) = self.step().await {
                panic!("{closed:?} before {text:?}: {:?}", self.shown());
            }
            looked_at = looked_at.min(self.output.len());
        }
    }

    /// The output so far, as text.
    pub fn shown(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// Reads to the end.
    pub async fn ended(&mut self) -> Ended {
        loop {
            if let Err(closed) = self.step().await {
                return Ended { closed, exit: self.exit.clone() };
            }
        }
    }
}

/// Whether `all` holds `part`.
pub fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

/// A plain client's terminal.
pub struct Plain {
    /// The socket.
    pub socket: Socket,
    /// The session's id.
    pub session: String,
    /// All output so far.
    pub output: Vec<u8>,
}

impl Plain {
    /// Opens a terminal with a plain ticket; `query` is added to the socket's.
    pub async fn open(bastion: &Bastion, token: &str, query: &str) -> Result<Self, Closed> {
        let mut socket = Socket::dial(bastion, &format!("/tty/ws?token={token}{query}"), &[]).await.unwrap();
        let Message::Text(first) = socket.next().await? else { panic!("the first message must be text") };
        let first: Value = serde_json::from_str(&first).unwrap();
        let session = first["session_id"].as_str().unwrap().to_owned();
        assert_eq!(first.as_object().unwrap().len(), 1);
        Ok(Self { socket, session, output: Vec::new() })
    }

    /// Types.
    pub async fn type_in(&mut self, text: &str) {
        self.socket.send(Message::Text(text.into())).await;
    }

    /// Reads until the output holds `text`.
    pub async fn until(&mut self, text: &str) {
        while !contains(&self.output, text.as_bytes()) {
            self.step().await.unwrap();
        }
    }

    /// Reads to the end.
    pub async fn ended(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.step().await {
                return closed;
            }
        }
    }

    async fn step(&mut self) -> Result<(), Closed> {
        match self.socket.next().await? {
            Message::Binary(bytes) => self.output.extend_from_slice(&bytes),
            other => panic!("every message out is binary: {other:?}"),
        }
        Ok(())
    }
}
