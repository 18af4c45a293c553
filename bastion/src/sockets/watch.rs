//! A watcher that speaks in frames: it is shown the recording as it grows, and what it types is nobody's.
//!
//! It reads the journal at its own pace, so the session neither waits for it nor knows it.

use openapi::frames::{Control, Frame, MAX_SCREEN_PART, OUTPUT_WINDOW, close};
use poem::web::websocket::WebSocketStream;
use recordings::{Follow, Followed, Kind, LiveError, Redraw};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout},
};

use super::{BROWSER, FIRST, pump};
use crate::{
    hub::{Attached, Watch},
    session::{Close, Event, INBOX, Message, Outbox, Reason, shown},
};

/// Shows a session to a watcher until either is done.
pub(super) async fn pump_watcher(socket: WebSocketStream, session: String, watch: Watch) {
    // The socket waits when it is full.
    let (inbox, events) = mpsc::channel(INBOX);
    let outbox = std::sync::Arc::new(Outbox::for_browser());
    let attached = Attached { session: session.clone(), socket: 0, inbox, outbox: outbox.clone() };
    let mut watcher = Watcher { session, outbox, events, sent: 0, acked: 0, size: None };
    let show = async {
        let close = watcher.show(watch).await;
        watcher.events.close();
        watcher.outbox.close([], close, Instant::now() + super::LAST_WORD);
    };
    tokio::join!(pump(socket, BROWSER, attached), show);
}

struct Watcher {
    session: String,
    outbox: std::sync::Arc<Outbox>,
    events: mpsc::Receiver<Message>,
    sent: u64,
    acked: u64,
    /// The last it was told; none before it is ready.
    size: Option<(u16, u16)>,
}

/// The watcher is gone, or must go: how its socket is closed.
struct Done(Close);

impl Watcher {
    async fn show(&mut self, mut watch: Watch) -> Close {
        match self.follow(&mut watch).await {
            Ok(never) => match never {},
            Err(Done(close)) => close,
        }
    }

    async fn follow(&mut self, watch: &mut Watch) -> Result<std::convert::Infallible, Done> {
        self.greeted().await?;
        let mut follow = self.begun(watch).await?;
        loop {
            while self.sent - self.acked >= OUTPUT_WINDOW {
                self.hear().await?;
            }
            tokio::select! {
                heard = self.events.recv() => self.take(heard)?,
                news = follow.next() => self.tell(news)?,
            }
        }
    }

    /// Waits for its hello. What it has does not matter: it starts with the screen.
    async fn greeted(&mut self) -> Result<(), Done> {
        let first = timeout(FIRST, self.events.recv()).await;
        match first {
            Ok(Some(Message::Event(Event::Browser(_, Frame::Control(Control::Hello { .. }))))) => Ok(()),
            Ok(Some(Message::Event(Event::BrowserGone(_, fault)))) => Err(gone(fault)),
            _ => Err(Done(Close::new(close::PROTOCOL, "hello comes first"))),
        }
    }

    /// Waits for the recording to begin.
    async fn begun(&mut self, watch: &mut Watch) -> Result<Follow, Done> {
        loop {
            if let Some(live) = watch.live.borrow_and_update().clone() {
                return Ok(live.follow());
            }
            tokio::select! {
                changed = watch.live.changed() => changed.map_err(|_| over())?,
                heard = self.events.recv() => self.take(heard)?,
            }
        }
    }

    async fn hear(&mut self) -> Result<(), Done> {
        let heard = self.events.recv().await;
        self.take(heard)
    }

    fn take(&mut self, heard: Option<Message>) -> Result<(), Done> {
        match heard {
            Some(Message::Event(Event::Browser(_, Frame::Ack(taken)))) => {
                self.acked = self.acked.max(taken).min(self.sent);
                Ok(())
            }
            Some(Message::Event(Event::BrowserGone(_, fault))) => Err(gone(fault)),
            // A watcher's keys and sizes are nobody's.
            Some(_) => Ok(()),
            None => Err(over()),
        }
    }

    fn tell(&mut self, news: Result<Followed, LiveError>) -> Result<(), Done> {
        match news {
            Ok(Followed::Screen(redraw)) => self.redraw(redraw),
            Ok(Followed::Event(event)) => self.event(event.kind),
            Ok(Followed::Ended(end)) => {
                return Err(Done(Reason::named(&end.reason).unwrap_or(Reason::Error).close()));
            }
            Ok(Followed::Interrupted) => return Err(Done(crate::session::restarting())),
            Err(error) => {
                tracing::error!(session = self.session, %error, "a recording cannot be followed");
                return Err(Done(Reason::Error.close()));
            }
        }
        Ok(())
    }

    fn redraw(&mut self, redraw: Redraw) {
        let Redraw { offset, cols, rows, mut bytes, .. } = redraw;
        match self.size.replace((cols, rows)) {
            None => self.outbox.push(Frame::Control(Control::Ready {
                session_id: self.session.clone(),
                cols,
                rows,
                input: 0,
                output: offset,
            })),
            Some(before) if before != (cols, rows) => {
                self.outbox.push(Frame::Resized { offset, cols, rows });
            }
            Some(_) => {}
        }
        (self.sent, self.acked) = (offset, offset);
        loop {
            let part = bytes.split_to(bytes.len().min(MAX_SCREEN_PART));
            let last = bytes.is_empty();
            self.outbox.push(Frame::Screen { offset, last, bytes: part });
            if last {
                return;
            }
        }
    }

    fn event(&mut self, kind: Kind) {
        match &kind {
            Kind::Output { offset, bytes } => self.sent = offset + bytes.len() as u64,
            Kind::Resize { cols, rows, .. } => self.size = Some((*cols, *rows)),
            Kind::Input { .. } | Kind::Marker(_) | Kind::Gap { .. } | Kind::Exit(_) => {}
        }
        shown(kind).into_iter().for_each(|frame| self.outbox.push(frame));
    }
}

fn gone(fault: Option<Close>) -> Done {
    Done(fault.unwrap_or_else(|| Close::new(close::EXIT, "You stopped watching.")))
}

fn over() -> Done {
    Done(Close::new(close::EXIT, "The session is over."))
}
