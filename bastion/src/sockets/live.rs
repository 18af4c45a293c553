//! A live session for asciinema-player: ALiS v1, joined in the middle with the current screen.
//!
//! Like every watcher it reads the journal at its own pace; one that takes nothing is dropped.

use futures_util::{
    SinkExt as _, StreamExt as _,
    stream::{SplitSink, SplitStream},
};
use openapi::frames::close;
use poem::{
    IntoResponse as _, Request, Response, handler,
    web::websocket::{Message as Ws, WebSocketStream},
};
use recordings::{Follow, Followed, alis};
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};

use super::{
    PING, SILENCE, browser::require_origin, config, hear_out, is_too_big, offered, relay::websocket,
    require_upgrade, say_goodbye,
};
use crate::{
    api::{
        callers::{app, identify},
        error::ApiError,
        sessions,
    },
    hub::Watch,
    session::{Close, Reason, restarting},
};

/// The longest message, in bytes: a screen is one, and colours cost many bytes a cell.
const MESSAGE_MAX: usize = 64 << 20;
/// The subprotocol.
const ALIS: &str = "v1.alis";

/// `GET /sessions/{id}/live`
#[handler]
pub async fn open(request: &Request) -> Result<Response, ApiError> {
    let app = app(request)?;
    require_upgrade(request)?;
    require_origin(request, &app)?;
    let caller = identify(request, &app).await?;
    let id = request.raw_path_param("id").unwrap_or_default().to_owned();
    let session = sessions::seen(&app, &caller, &id).await?;
    if !offered(request).any(|protocol| protocol == ALIS) {
        return Err(ApiError::invalid_field("Sec-WebSocket-Protocol", format!("must be {ALIS}")));
    }
    let watch = sessions::watch(&app, &caller, &session).await?;
    let socket = websocket(request).await?;
    let tracked = app.tasks.token();
    let config = config().max_write_buffer_size(MESSAGE_MAX);
    let response = socket.protocols([ALIS]).config(config).on_upgrade(move |socket| async move {
        show(socket, watch).await;
        drop(tracked);
    });
    Ok(response.into_response())
}

async fn show(socket: WebSocketStream, watch: Watch) {
    let (mut sink, mut stream) = socket.split();
    let close = tokio::select! {
        close = tell(&mut sink, watch) => close,
        close = gone(&mut stream) => close,
    };
    if let Some(close) = close {
        say_goodbye(&mut sink, close).await;
        hear_out(&mut stream).await;
    }
}

/// A player says nothing but pongs; when they stop, or it closes, it is gone.
async fn gone(stream: &mut SplitStream<WebSocketStream>) -> Option<Close> {
    loop {
        match timeout(SILENCE, stream.next()).await {
            Ok(Some(Ok(Ws::Close(_))) | None) => return None,
            Ok(Some(Ok(_))) => {}
            Ok(Some(Err(error))) if is_too_big(&error) => {
                return Some(Close::new(close::TOO_BIG, "a message above 64 KiB"));
            }
            Ok(Some(Err(_))) => return None,
            Err(_) => return Some(Close::new(close::AWAY, "nothing was heard for 35 s")),
        }
    }
}

/// Tells the player what happens, until the session ends. None: it takes nothing any more.
async fn tell(sink: &mut SplitSink<WebSocketStream, Ws>, mut watch: Watch) -> Option<Close> {
    send(sink, Ws::Binary(alis::Encoder::magic().into())).await?;
    let mut encoder = alis::Encoder::new();
    let mut ping = interval_at(Instant::now() + PING, PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut follow: Option<Follow> = None;
    let stop = watch.stop.clone();
    loop {
        let news = tokio::select! {
            () = stop.cancelled() => return Some(Reason::Policy.close()),
            news = next(&mut follow, &mut watch) => news,
            _ = ping.tick() => {
                send(sink, Ws::Ping(Vec::new())).await?;
                continue;
            }
        };
        let close = match &news {
            Some(Followed::Ended(end)) => {
                let said = Reason::named(&end.reason).unwrap_or(Reason::Error).close();
                // To a player any other code means: try again.
                Some(Close { code: close::EXIT, ..said })
            }
            // It goes on after the restart, so no end of the stream is told.
            Some(Followed::Interrupted) => return Some(restarting()),
            Some(Followed::Screen(_) | Followed::Event(_)) => None,
            None => return Some(Close::new(close::EXIT, "The session is over.")),
        };
        if let Some(message) = news.as_ref().and_then(|news| encoder.message(news)) {
            send(sink, Ws::Binary(message.into())).await?;
        }
        if close.is_some() {
            return close;
        }
    }
}

/// What happens next; none when the session ended before anything was recorded. Cancel safe.
async fn next(follow: &mut Option<Follow>, watch: &mut Watch) -> Option<Followed> {
    loop {
        if let Some(follow) = follow {
            return follow
                .next()
                .await
                .inspect_err(|error| tracing::error!(%error, "a recording cannot be followed"))
                .ok();
        }
        *follow = watch.live.borrow_and_update().as_ref().map(recordings::Live::follow);
        if follow.is_none() {
            watch.live.changed().await.ok()?;
        }
    }
}

async fn send(sink: &mut SplitSink<WebSocketStream, Ws>, message: Ws) -> Option<()> {
    timeout(SILENCE, sink.send(message)).await.ok()?.ok()
}
