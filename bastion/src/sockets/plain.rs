//! A plain client's socket, spoken for in frames: it says hello, counts its input, and acknowledges what
//! the socket has taken, so that a session knows one kind of browser only.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use openapi::frames::{Control, Frame, INPUT_WINDOW, MAX_DATA};
use poem::web::websocket::{Message as Ws, WebSocketStream};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval_at, timeout},
};

use super::{BROWSER, LAST_WORD, PING, SILENCE, hear_out, is_too_big, leave, say_goodbye, send};
use crate::{
    hub::Attached,
    session::{Close, Event, Message, Next, Outbox},
};

/// Input bytes that the agent has taken; none before the shell is ready.
type Taken = watch::Sender<Option<u64>>;

/// Carries bytes both ways until either end is done. Closing a plain socket ends its session.
pub(super) async fn pump(socket: WebSocketStream, attached: Attached) {
    let Attached { session, socket: number, inbox, outbox, .. } = attached;
    let (mut sink, mut stream) = socket.split();
    let greeting = Ws::Text(json!({"session_id": session}).to_string());
    let hello = Event::Browser(number, Frame::Control(Control::Hello { have: 0 }));
    if !send(&mut sink, greeting, &outbox).await || inbox.send(Message::Event(hello)).await.is_err() {
        return leave(&inbox, (BROWSER.gone)(number, None)).await;
    }
    let taken = Taken::new(None);
    {
        let read = read(&mut stream, number, &inbox, taken.subscribe());
        let write = write(sink, number, &inbox, &outbox, &taken);
        tokio::pin!(read, write);
        tokio::select! {
            fault = &mut read => {
                leave(&inbox, (BROWSER.gone)(number, fault)).await;
                let _ = timeout(LAST_WORD, write).await;
            }
            () = &mut write => leave(&inbox, (BROWSER.gone)(number, None)).await,
        }
    }
    hear_out(&mut stream).await;
}

/// Every message is keyboard input. While the window is spent the socket is not read.
async fn read(
    stream: &mut SplitStream<WebSocketStream>,
    number: u32,
    inbox: &mpsc::Sender<Message>,
    mut taken: watch::Receiver<Option<u64>>,
) -> Option<Close> {
    let mut offset = 0;
    loop {
        let mut input: Bytes = match timeout(SILENCE, stream.next()).await.ok()?? {
            Ok(Ws::Binary(bytes)) => bytes.into(),
            Ok(Ws::Text(text)) => text.into(),
            Ok(Ws::Ping(_) | Ws::Pong(_)) => continue,
            Err(error) if is_too_big(&error) => {
                return Some(Close::new(openapi::frames::close::TOO_BIG, "a message above 64 KiB"));
            }
            Ok(Ws::Close(_)) | Err(_) => return None,
        };
        while !input.is_empty() {
            let bytes = input.split_to(input.len().min(MAX_DATA));
            let end = offset + bytes.len() as u64;
            let fits = |taken: &Option<u64>| taken.is_some_and(|taken| end - taken <= INPUT_WINDOW);
            taken.wait_for(fits).await.ok()?;
            let frame = Event::Browser(number, Frame::Data { offset, bytes });
            inbox.send(Message::Event(frame)).await.ok()?;
            offset = end;
        }
    }
}

async fn write(
    mut sink: SplitSink<WebSocketStream, Ws>,
    number: u32,
    inbox: &mpsc::Sender<Message>,
    outbox: &Arc<Outbox>,
    taken: &Taken,
) {
    let mut ping = interval_at(Instant::now() + PING, PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let next = tokio::select! {
            next = outbox.next() => next,
            _ = ping.tick() => {
                if !send(&mut sink, Ws::Ping(Vec::new()), outbox).await {
                    return;
                }
                continue;
            }
        };
        match next {
            Next::Frame(Frame::Data { offset, bytes }) => {
                let parsed = offset + bytes.len() as u64;
                if !send(&mut sink, Ws::Binary(bytes.into()), outbox).await {
                    return;
                }
                outbox.acknowledged(parsed);
                let ack = Event::Browser(number, Frame::Ack(parsed));
                // A session that is over needs no acknowledgement.
                let _ = inbox.send(Message::Event(ack)).await;
            }
            Next::Frame(Frame::Ack(input)) => {
                taken.send_replace(Some(input));
            }
            Next::Frame(Frame::Control(Control::Ready { input, .. })) => {
                taken.send_replace(Some(input));
            }
            // A plain client has no way to be told the rest.
            Next::Frame(_) => {}
            Next::Close(close) => {
                say_goodbye(&mut sink, close).await;
                let _ = sink.flush().await;
                return;
            }
        }
    }
}
