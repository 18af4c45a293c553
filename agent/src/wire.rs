//! A relay's socket: what goes out first, what may wait, and what came in; it knows no shell.

use std::{collections::VecDeque, future::poll_fn, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use openapi::frames::{Control, Frame, FrameError, MAX_MESSAGE, SUBPROTOCOL};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_tls_with_config,
    tungstenite::{
        self, Message,
        client::IntoClientRequest as _,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};

use crate::{
    client::{Client, ClientError},
    identity::Identity,
};

/// Silence after which the other end counts as gone.
pub const SILENCE: Duration = Duration::from_secs(35);
/// How long dialling may take: less than the bastion waits before it hands the task out again.
const DIAL: Duration = Duration::from_secs(8);
/// How long a close may take to be said.
const FAREWELL: Duration = Duration::from_secs(2);
/// How many urgent frames may wait before no more input is taken.
const URGENT_MAX: usize = 64;

/// Why a relay's socket did not come about.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The address or the signature.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The request cannot be made into headers.
    #[error("the relay cannot be asked for: {0}")]
    Request(String),
    /// The bastion refused.
    #[error("the relay was not opened: {status} {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What the bastion says about it.
        detail: String,
    },
    /// The bastion was not reached.
    #[error("the relay was not opened: {0}")]
    Unreachable(String),
    /// It took too long.
    #[error("the relay was not opened within {} s", DIAL.as_secs())]
    Late,
}

/// By what right a relay is asked for, beside the agent's signature.
#[derive(Debug, Clone, Copy)]
pub enum Entrance<'a> {
    /// A new session's: its token.
    Ticket(&'a str),
    /// A session that this agent holds: none.
    Resume,
}

/// What the other end did.
#[derive(Debug)]
pub enum Incoming {
    /// It sent a frame.
    Frame(Frame),
    /// It broke the protocol.
    Broken(FrameError),
    /// It closed, with this code, or went without a word.
    Closed(Option<u16>),
    /// Some of what waited was sent.
    Sent,
}

/// One framed socket.
///
/// Two lanes: urgent frames (acknowledgements, echo, pong) overtake; those of the output stream keep their order and
/// come one at a time, so what waits here, and is lost with the socket, is bounded by one of them and [`URGENT_MAX`].
pub struct Wire<S> {
    socket: WebSocketStream<S>,
    urgent: VecDeque<Frame>,
    ack: Option<u64>,
    ordered: Option<Frame>,
    unflushed: bool,
    heard: Instant,
}

/// A relay as it is dialled.
pub type Relay = Wire<MaybeTlsStream<TcpStream>>;

/// Dials a session's relay, signed as this agent.
///
/// # Errors
/// [`DialError`].
pub async fn dial(
    client: &Client,
    identity: &Identity,
    key: &openapi::signature::SigningKey,
    relay_url: &str,
    entrance: Entrance<'_>,
) -> Result<Relay, DialError> {
    let mut url = client.relay_address(relay_url)?;
    if matches!(entrance, Entrance::Resume) {
        url.query_pairs_mut().append_pair("resume", "1");
    }
    let signed = client.sign(key, identity.client_id(), &reqwest::Method::GET, &url, None)?;
    let failed = |error: &dyn std::fmt::Display| DialError::Request(error.to_string());
    let mut request = url.as_str().into_client_request().map_err(|error| failed(&error))?;
    let token = match entrance {
        Entrance::Ticket(token) => Some(("authorization", format!("Bearer {token}"))),
        Entrance::Resume => None,
    };
    let headers = [
        ("sec-websocket-protocol", SUBPROTOCOL.to_owned()),
        ("signature-input", signed.signature_input),
        ("signature", signed.signature),
    ];
    for (name, value) in headers.into_iter().chain(token) {
        request.headers_mut().insert(name, value.parse().map_err(|error| failed(&error))?);
    }
    let dialled = connect_async_tls_with_config(request, Some(limits()), true, client.connector());
    let (socket, _) =
        timeout(DIAL, dialled).await.map_err(|_| DialError::Late)?.map_err(|error| refusal(&error))?;
    Ok(Wire::new(socket))
}

/// Small buffers: an agent may hold many sockets, and a message is written as it is.
fn limits() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

fn refusal(error: &tungstenite::Error) -> DialError {
    match error {
        tungstenite::Error::Http(response) => {
            let body = response.body().as_deref().unwrap_or_default();
            let text = String::from_utf8_lossy(&body[..body.len().min(300)]);
            let detail = openapi::agents::clean(&text, 300);
            DialError::Refused { status: response.status().as_u16(), detail }
        }
        other => DialError::Unreachable(other.to_string()),
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    /// Takes an open socket.
    #[must_use]
    pub fn new(socket: WebSocketStream<S>) -> Self {
        Self {
            socket,
            urgent: VecDeque::new(),
            ack: None,
            ordered: None,
            unflushed: false,
            heard: Instant::now(),
        }
    }

    /// Sends this before any output.
    pub fn urgent(&mut self, frame: Frame) {
        self.urgent.push_back(frame);
    }

    /// Acknowledges input; only the latest number is sent, after the urgent frames before it.
    pub fn ack(&mut self, taken: u64) {
        self.ack = Some(taken);
    }

    /// Sends this in the order of the output, once [`Wire::takes_output`].
    pub fn ordered(&mut self, frame: Frame) {
        self.ordered = Some(frame);
    }

    /// Whether output may be given: none waits.
    #[must_use]
    pub fn takes_output(&self) -> bool {
        self.ordered.is_none()
    }

    /// Whether input may be written: few frames wait that tell of it.
    #[must_use]
    pub fn takes_input(&self) -> bool {
        self.urgent.len() < URGENT_MAX
    }

    /// When the silence will have been too long.
    #[must_use]
    pub fn silent_at(&self) -> Instant {
        self.heard + SILENCE
    }

    /// Sends what waits and receives what comes, whichever is possible. Cancel safe.
    pub async fn next(&mut self) -> Incoming {
        loop {
            match poll_fn(|cx| self.poll(cx)).await {
                Ok(None) => return Incoming::Sent,
                Ok(Some(message)) => {
                    self.heard = Instant::now();
                    if let Some(incoming) = self.read(message) {
                        return incoming;
                    }
                }
                Err(tungstenite::Error::Capacity(_)) => return Incoming::Broken(FrameError::Length),
                Err(_) => return Incoming::Closed(None),
            }
        }
    }

    fn read(&mut self, message: Message) -> Option<Incoming> {
        match message {
            Message::Binary(bytes) => match Frame::decode(bytes) {
                Ok(Frame::Control(Control::Ping)) => {
                    self.urgent(Frame::Control(Control::Pong));
                    None
                }
                Ok(Frame::Control(Control::Pong | Control::Unknown)) => None,
                Ok(frame) => Some(Incoming::Frame(frame)),
                Err(error) => Some(Incoming::Broken(error)),
            },
            Message::Text(_) => Some(Incoming::Broken(FrameError::Type(b'{'))),
            Message::Close(frame) => {
                // The answer is ready and goes along if it can; nobody waits for it.
                let _ = self.socket.flush().now_or_never();
                Some(Incoming::Closed(frame.map(|frame| frame.code.into())))
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => None,
        }
    }

    fn poll(&mut self, cx: &mut std::task::Context<'_>) -> Poll<Result<Option<Message>, tungstenite::Error>> {
        let mut sent = false;
        while self.waits() {
            match self.socket.poll_ready_unpin(cx) {
                Poll::Pending => break,
                Poll::Ready(ready) => ready?,
            }
            if let Some(bytes) = self.take() {
                self.socket.start_send_unpin(Message::Binary(bytes))?;
                (sent, self.unflushed) = (true, true);
            }
        }
        if self.unflushed
            && let Poll::Ready(flushed) = self.socket.poll_flush_unpin(cx)
        {
            flushed?;
            self.unflushed = false;
        }
        match self.socket.poll_next_unpin(cx) {
            Poll::Ready(Some(message)) => Poll::Ready(message.map(Some)),
            Poll::Ready(None) => Poll::Ready(Err(tungstenite::Error::ConnectionClosed)),
            Poll::Pending if sent => Poll::Ready(Ok(None)),
            Poll::Pending => Poll::Pending,
        }
    }

    fn waits(&self) -> bool {
        self.ack.is_some() || !self.urgent.is_empty() || self.ordered.is_some()
    }

    fn take(&mut self) -> Option<Bytes> {
        let urgent = self.urgent.pop_front().or_else(|| self.ack.take().map(Frame::Ack));
        urgent.or_else(|| self.ordered.take()).map(|frame| frame.encode())
    }

    /// Says why, and goes; waits only briefly for the other end.
    pub async fn close(mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code: CloseCode::from(code), reason: reason.into() };
        let farewell = async {
            while self.waits() {
                let Some(bytes) = self.take() else { break };
                self.socket.feed(Message::Binary(bytes)).await?;
            }
            self.socket.close(Some(frame)).await
        };
        // The other end may be gone already, and then there is nobody to tell.
        let _ = timeout(FAREWELL, farewell).await;
    }
}
