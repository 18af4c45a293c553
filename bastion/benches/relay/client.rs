//! A terminal's client that reads as fast as it can: framed to the house, raw to the floor.

use std::{net::SocketAddr, time::Duration};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use openapi::frames::{Control, Frame, SUBPROTOCOL};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};

use crate::{
    floor,
    harness::{Actor, Credential, within},
};

/// Output bytes after which it acknowledges.
const ACK_EVERY: u64 = 32 * 1024;
/// After which it acknowledges in any case.
const ACK_WITHIN: Duration = Duration::from_millis(50);

/// A terminal's socket.
pub struct Line {
    socket: WebSocketStream<TcpStream>,
    framed: bool,
    typed: u64,
    /// Output bytes taken.
    pub received: u64,
    acked: u64,
    eager: bool,
}

impl Line {
    /// With a ticket, as a logged-in browser does it; `address` may be a proxy's.
    pub async fn framed(address: SocketAddr, actor: &Actor, token: &str) -> Self {
        let mut line = Self::silent(address, actor, token).await;
        line.hello(0).await;
        line
    }

    /// The same, before it has said hello.
    pub async fn silent(address: SocketAddr, actor: &Actor, token: &str) -> Self {
        let Credential::Login(cookie) = &actor.credential else { panic!("a browser has a login") };
        let bastion = actor.bastion();
        let mut request =
            format!("{}/api/v1/tty/ws", bastion.config().ws_base()).into_client_request().unwrap();
        for (name, value) in [
            ("sec-websocket-protocol", format!("{SUBPROTOCOL}, ticket.{token}")),
            ("cookie", cookie.clone()),
            ("origin", bastion.url()),
        ] {
            request.headers_mut().insert(name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (socket, _) = within("an upgrade", client_async(request, stream)).await.unwrap();
        Self::of(socket, true)
    }

    /// Says hello.
    pub async fn hello(&mut self, have: u64) {
        self.frame(Frame::Control(Control::Hello { have })).await;
    }

    /// Reads until a whole screen has come.
    pub async fn screened(&mut self) {
        loop {
            let Some(Ok(Message::Binary(bytes))) = within("a screen", self.socket.next()).await else {
                panic!("no screen")
            };
            if let Frame::Screen { last: true, .. } = Frame::decode(bytes).unwrap() {
                return;
            }
        }
    }

    /// To a floor; `address` may be a proxy's.
    pub async fn raw(address: SocketAddr, command: &str) -> Self {
        Self::of(floor::dial(address, &format!("/client/{}", hex::encode(command))).await, false)
    }

    fn of(socket: WebSocketStream<TcpStream>, framed: bool) -> Self {
        Self { socket, framed, typed: 0, received: 0, acked: 0, eager: false }
    }

    /// From now on every message is acknowledged at once.
    pub fn eager(&mut self) {
        self.eager = true;
    }

    /// Types.
    pub async fn type_in(&mut self, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let offset = self.typed;
        self.typed += bytes.len() as u64;
        if self.framed {
            self.frame(Frame::Data { offset, bytes }).await;
        } else {
            within("input is taken", self.socket.send(Message::Binary(bytes))).await.unwrap();
        }
    }

    /// The next piece of output; none: the end. Panics at a gap.
    pub async fn next(&mut self) -> Option<Bytes> {
        loop {
            let waits = self.received > self.acked;
            let message = if self.framed && waits {
                match timeout(ACK_WITHIN, self.socket.next()).await {
                    Ok(message) => message,
                    Err(_) => {
                        self.acknowledge().await;
                        continue;
                    }
                }
            } else {
                within("a message", self.socket.next()).await
            };
            let bytes = match message? {
                Ok(Message::Binary(bytes)) if self.framed => match Frame::decode(bytes).unwrap() {
                    Frame::Data { offset, bytes } => {
                        assert_eq!(offset, self.received, "a gap in the output");
                        bytes
                    }
                    Frame::Control(Control::Ping) => {
                        self.frame(Frame::Control(Control::Pong)).await;
                        continue;
                    }
                    _ => continue,
                },
                Ok(Message::Binary(bytes)) => bytes,
                Ok(_) => continue,
                Err(_) => return None,
            };
            self.received += bytes.len() as u64;
            if self.framed && (self.eager || self.received - self.acked >= ACK_EVERY) {
                self.acknowledge().await;
            }
            return Some(bytes);
        }
    }

    /// Reads until `text` was in the output; its pieces may come in several messages.
    pub async fn until(&mut self, text: &str) {
        let mut tail = Vec::new();
        loop {
            tail.extend_from_slice(&self.next().await.expect("output"));
            if tail.windows(text.len()).any(|part| part == text.as_bytes()) {
                return;
            }
            tail.drain(..tail.len().saturating_sub(text.len()));
        }
    }

    /// Reads to the end.
    pub async fn ended(&mut self) {
        while self.next().await.is_some() {}
    }

    /// Acknowledges all it has; said again, it only shows that the client is there.
    pub async fn acknowledge(&mut self) {
        self.acked = self.received;
        self.frame(Frame::Ack(self.acked)).await;
    }

    async fn frame(&mut self, frame: Frame) {
        // A session that is over takes nothing more; the next read says so.
        let _ = within("a frame is taken", self.socket.send(Message::Binary(frame.encode()))).await;
    }
}
