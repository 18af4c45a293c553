//! A browser that comes back as long as there is a session, however often the bastion dies, and remembers what it got.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use openapi::frames::{Control, Frame, SUBPROTOCOL};
use rand::{RngExt as _, rngs::StdRng};
use reqwest::Method;
use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};
use tokio_util::sync::CancellationToken;

use super::{LOOK, SHORT};
use crate::{
    harness::{Actor, Credential},
    terminals::url_encoded,
};

type Stream = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// A browser that remembers what it was shown and where that stood, and comes back as long as there is a session.
pub struct Witness {
    alice: Actor,
    pub session: String,
    /// Not yet compared with a journal.
    pub shown: Vec<(u64, Bytes)>,
    received: u64,
    acked: u64,
    over: bool,
    chance: StdRng,
    /// Told of output: the session goes on.
    moved: Arc<Notify>,
}

impl Witness {
    /// Opens a session; none if the bastion died before it said which.
    pub async fn open(
        alice: &Actor,
        command: &str,
        chance: StdRng,
        moved: Arc<Notify>,
    ) -> Option<(Self, Stream)> {
        let asset = alice.bastion().asset("web-1");
        let query = format!("/assets/{asset}/tty/authorize?command={}", url_encoded(command));
        let (status, ticket) = ask(alice, &query).await?;
        assert!(status == 200 || status >= 500, "{status} {ticket}");
        let mut socket = dial(alice, ticket["token"].as_str()?, 0).await?;
        let session = loop {
            match frame(&mut socket).await? {
                Frame::Control(Control::Ready { session_id, .. }) => break session_id,
                Frame::Control(_) => {}
                other => panic!("before ready: {other:?}"),
            }
        };
        let (alice, shown) = (alice.clone(), Vec::new());
        Some((Self { alice, session, shown, received: 0, acked: 0, over: false, chance, moved }, socket))
    }

    /// Looks on, and comes back again and again, until the bastion is dead or the session is over.
    pub async fn stay(&mut self, first: Option<Stream>, dead: &CancellationToken) {
        if let Some(socket) = first {
            self.listen(socket).await;
        }
        while !self.over && !dead.is_cancelled() {
            match self.come_back().await {
                Some(socket) => self.listen(socket).await,
                None => sleep(LOOK).await,
            }
        }
    }

    async fn come_back(&mut self) -> Option<Stream> {
        let query = format!("/sessions/{}/reattach?mode=control", self.session);
        let (status, answer) = ask(&self.alice, &query).await?;
        match status {
            200 => dial(&self.alice, answer["token"].as_str()?, self.received).await,
            409 => {
                assert_eq!(answer["code"], "ended", "{answer}");
                self.over = true;
                None
            }
            500.. => None,
            _ => panic!("{}: {status} {answer}", self.session),
        }
    }

    async fn listen(&mut self, mut socket: Stream) {
        while let Some(frame) = frame(&mut socket).await {
            match frame {
                Frame::Data { offset, bytes } => {
                    assert_eq!(offset, self.received, "a gap in the output");
                    self.received += bytes.len() as u64;
                    self.shown.push((offset, bytes));
                    self.moved.notify_one();
                }
                Frame::Screen { offset, .. } => (self.received, self.acked) = (offset, offset),
                // The end of the session, told by its last frame, is asked for again: it may not be recorded.
                _ => {}
            }
            let mut answers = Vec::new();
            if self.received - self.acked >= 32 * 1024 || self.chance.random_bool(0.05) {
                self.acked = self.received;
                answers.push(Frame::Ack(self.received));
            }
            if self.chance.random_bool(0.01) {
                let (cols, rows) = (self.chance.random_range(20..200), self.chance.random_range(5..80));
                answers.push(Frame::Resize { cols, rows });
            }
            for answer in answers {
                if socket.send(Message::Binary(answer.encode())).await.is_err() {
                    break;
                }
            }
        }
    }
}

/// The answer to a request; none if the bastion dies of it.
async fn ask(actor: &Actor, path: &str) -> Option<(u16, Value)> {
    let answer = timeout(SHORT, actor.request(Method::GET, path).send()).await.ok()?.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.json().await.ok()?))
}

/// A framed socket that has said hello; none if the bastion dies of it.
async fn dial(actor: &Actor, token: &str, have: u64) -> Option<Stream> {
    let mut request =
        format!("ws://{}/api/v1/tty/ws", actor.bastion().local()).into_client_request().unwrap();
    let Credential::Login(cookie) = &actor.credential else { panic!("a browser logs in") };
    for (name, value) in [
        ("sec-websocket-protocol", format!("{SUBPROTOCOL}, ticket.{token}")),
        ("cookie", cookie.clone()),
        ("origin", actor.bastion().url()),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (mut socket, _) = timeout(SHORT, connect_async(request)).await.ok()?.ok()?;
    let hello = Frame::Control(Control::Hello { have });
    socket.send(Message::Binary(hello.encode())).await.ok()?;
    Some(socket)
}

async fn frame(socket: &mut Stream) -> Option<Frame> {
    loop {
        // Longer than the bastion's own pings.
        match timeout(SHORT * 7, socket.next()).await.ok()?? {
            Ok(Message::Binary(bytes)) => return Some(Frame::decode(bytes).unwrap()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}
