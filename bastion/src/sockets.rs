//! What HTTP cannot say: close codes, pings, size limits, origin. One pump for every framed socket.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{
    Sink, SinkExt as _, Stream, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use openapi::frames::{Control, Frame, MAX_MESSAGE, close};
use poem::{
    Request,
    http::header,
    web::websocket::{CloseCode, Message as Ws, WebSocketConfig, WebSocketStream},
};
use tokio::{
    sync::mpsc,
    time::{Instant, MissedTickBehavior, interval_at, timeout, timeout_at},
};

use crate::{
    api::error::ApiError,
    hub::Attached,
    session::{Close, Event, Message, Next, Outbox},
};

pub mod browser;
pub mod live;
mod plain;
pub mod relay;
mod watch;

/// How often every socket is pinged.
const PING: Duration = Duration::from_secs(15);
/// A socket from which nothing comes for this long is closed.
const SILENCE: Duration = Duration::from_secs(35);
/// The first message must come within this.
const FIRST: Duration = Duration::from_secs(10);
/// How long what a session says last may take: a browser has 10 s for the rest of its output.
const LAST_WORD: Duration = Duration::from_secs(15);
/// How long a client that was told goodbye is still read from: it may have much to take before it hears.
const HEARD_OUT: Duration = Duration::from_secs(10);
/// How long the close handshake may take.
const GOODBYE: Duration = Duration::from_secs(5);

/// Buffers as small as they can be: a thousand idle sessions must not cost a gigabyte. Messages are
/// bounded by [`MAX_MESSAGE`].
fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(4 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(512 * 1024)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}

/// The subprotocols that a client offers.
fn offered(request: &Request) -> impl Iterator<Item = &str> {
    request
        .headers()
        .get_all(header::SEC_WEBSOCKET_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(',').map(str::trim))
}

/// Refuses what is no WebSocket upgrade before anything is looked up.
fn require_upgrade(request: &Request) -> Result<(), ApiError> {
    let upgrade = request.header("upgrade").is_some_and(|it| it.eq_ignore_ascii_case("websocket"));
    let version = request.header("sec-websocket-version") == Some("13");
    if upgrade && version && request.header("sec-websocket-key").is_some() {
        Ok(())
    } else {
        Err(ApiError::invalid_field("Upgrade", "this is a WebSocket; ask for an upgrade to version 13"))
    }
}

/// How a socket's messages become the session's events.
#[derive(Clone, Copy)]
struct Side {
    frame: fn(u32, Frame) -> Event,
    gone: fn(u32, Option<Close>) -> Event,
}

const BROWSER: Side = Side { frame: Event::Browser, gone: Event::BrowserGone };
const RELAY: Side = Side { frame: Event::Relay, gone: Event::RelayGone };

/// Carries frames both ways until either end is done. Reading and writing go on side by side: a client
/// that stops reading can still type.
///
/// `gone` is called when nothing more comes, before the goodbyes are over.
async fn pump(socket: WebSocketStream, side: Side, attached: Attached, gone: impl FnOnce()) {
    let Attached { socket: number, inbox, outbox, hello, .. } = attached;
    let (sink, mut stream) = socket.split();
    let first_by = hello.is_none().then(|| Instant::now() + FIRST);
    if let Some(hello) = hello {
        leave(&inbox, (side.frame)(number, hello)).await;
    }
    {
        let into = |frame| (side.frame)(number, frame);
        let read = read(&mut stream, into, &inbox, &outbox, first_by);
        let write = write(sink, &outbox);
        tokio::pin!(read, write);
        tokio::select! {
            fault = &mut read => {
                leave(&inbox, (side.gone)(number, fault)).await;
                gone();
                // The session may have a last word, if the socket still takes one.
                let _ = timeout(LAST_WORD, write).await;
            }
            () = &mut write => {
                leave(&inbox, (side.gone)(number, None)).await;
                gone();
            }
        }
    }
    hear_out(&mut stream).await;
}

/// Reads until the other end has closed too: a socket that is dropped with something unread is reset, and
/// a reset may overtake what was sent last.
async fn hear_out(stream: &mut (impl Stream<Item = std::io::Result<Ws>> + Unpin)) {
    let _ = timeout(HEARD_OUT, async { while let Some(Ok(_)) = stream.next().await {} }).await;
}

async fn leave(inbox: &mpsc::Sender<Message>, gone: Event) {
    // The session may be over already.
    let _ = inbox.send(Message::Event(gone)).await;
}

/// Reads until the socket ends. Returns the fault, if the other end broke the protocol.
async fn read(
    stream: &mut SplitStream<WebSocketStream>,
    into: impl Fn(Frame) -> Event,
    inbox: &mpsc::Sender<Message>,
    outbox: &Outbox,
    // Pings and pongs keep a socket, but are no first message.
    mut first_by: Option<Instant>,
) -> Option<Close> {
    loop {
        let by = first_by.unwrap_or_else(|| Instant::now() + SILENCE);
        let message = match timeout_at(by, next(stream)).await {
            // Silence is a network that stands still, and no breach: the session waits for another socket.
            Err(_) if first_by.is_some() => {
                outbox.dismiss(Close::new(close::PROTOCOL, "the first message must come within 10 s"));
                return None;
            }
            Err(_) => {
                outbox.dismiss(Close::new(close::AWAY, "nothing was heard for 35 s"));
                return None;
            }
            Ok(Received::End) => return None,
            Ok(Received::TooBig) => return Some(Close::new(close::TOO_BIG, "a message above 64 KiB")),
            Ok(Received::Other) => continue,
            Ok(Received::Text) => return Some(Close::new(close::PROTOCOL, "text where frames are binary")),
            Ok(Received::Binary(message)) => message,
        };
        first_by = None;
        match Frame::decode(message) {
            Err(error) => return Some(Close::new(close::PROTOCOL, error.to_string())),
            Ok(Frame::Control(Control::Ping)) => outbox.push(Frame::Control(Control::Pong)),
            Ok(Frame::Control(Control::Pong)) => {}
            Ok(frame) => {
                let frame = match frame {
                    Frame::Ack(taken) => Frame::Ack(outbox.acknowledged(taken)),
                    frame => frame,
                };
                let over = inbox.send(Message::Event(into(frame))).await.is_err();
                // A session that is over may still have a word for this socket.
                if over && outbox.deadline().is_none() {
                    return None;
                }
            }
        }
    }
}

/// The hello of a browser that comes back, before it takes anything from the one that is there.
async fn hello(socket: &mut WebSocketStream) -> Result<Frame, Close> {
    let by = Instant::now() + FIRST;
    loop {
        match timeout_at(by, next(socket)).await {
            Ok(Received::Other) => {}
            Ok(Received::Binary(message)) => {
                return match Frame::decode(message) {
                    Ok(hello @ Frame::Control(Control::Hello { .. })) => Ok(hello),
                    Ok(_) => Err(Close::new(close::PROTOCOL, "the first message must be hello")),
                    Err(error) => Err(Close::new(close::PROTOCOL, error.to_string())),
                };
            }
            Ok(Received::TooBig) => return Err(Close::new(close::TOO_BIG, "a message above 64 KiB")),
            Ok(Received::Text) => return Err(Close::new(close::PROTOCOL, "text where frames are binary")),
            Ok(Received::End) => return Err(Close::new(close::EXIT, "gone")),
            Err(_) => return Err(Close::new(close::PROTOCOL, "the first message must come within 10 s")),
        }
    }
}

enum Received {
    Binary(Bytes),
    Text,
    Other,
    TooBig,
    End,
}

async fn next(stream: &mut (impl Stream<Item = std::io::Result<Ws>> + Unpin)) -> Received {
    match stream.next().await {
        Some(Ok(Ws::Binary(bytes))) => Received::Binary(bytes.into()),
        Some(Ok(Ws::Text(_))) => Received::Text,
        Some(Ok(Ws::Ping(_) | Ws::Pong(_))) => Received::Other,
        Some(Err(error)) if is_too_big(&error) => Received::TooBig,
        Some(Ok(Ws::Close(_)) | Err(_)) | None => Received::End,
    }
}

/// poem hides tungstenite's capacity error in an I/O error's text.
fn is_too_big(error: &std::io::Error) -> bool {
    let text = error.to_string().to_ascii_lowercase();
    text.contains("too long") || text.contains("too big") || text.contains("space limit exceeded")
}

/// Sends what the outbox has, pings, and closes when it says so.
async fn write(mut sink: SplitSink<WebSocketStream, Ws>, outbox: &Outbox) {
    let mut ping = interval_at(Instant::now() + PING, PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = tokio::select! {
            next = outbox.next() => next,
            _ = ping.tick() => Next::Frame(Frame::Control(Control::Ping)),
        };
        match next {
            Next::Frame(frame) => {
                if !send(&mut sink, Ws::Binary(frame.encode().into()), outbox).await {
                    return;
                }
            }
            Next::Close(close) => return say_goodbye(&mut sink, close).await,
        }
    }
}

/// Sends one message; gives up on a socket that is to be closed and takes nothing any more, not even a last word.
async fn send(sink: &mut (impl Sink<Ws> + Unpin), message: Ws, outbox: &Outbox) -> bool {
    let sending = sink.send(message);
    tokio::pin!(sending);
    loop {
        let check = Instant::now() + Duration::from_secs(1);
        let given_up = outbox.deadline().map(|by| by + GOODBYE);
        match timeout_at(given_up.map_or(check, |by| by.min(check)), &mut sending).await {
            Ok(sent) => return sent.is_ok(),
            Err(_) if given_up.is_some_and(|by| Instant::now() >= by) => return false,
            Err(_) => {}
        }
    }
}

async fn say_goodbye(sink: &mut (impl Sink<Ws> + Unpin), close: Close) {
    let message = Ws::Close(Some((CloseCode::from(close.code), close.reason)));
    let _ = timeout(GOODBYE, sink.send(message)).await;
}

/// Closes a socket that never reached a session.
async fn refuse(mut socket: WebSocketStream, close: Close) {
    say_goodbye(&mut socket, close).await;
    hear_out(&mut socket).await;
}
