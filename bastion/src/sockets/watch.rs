//! A watcher that speaks in frames: it is shown the recording as it grows, and what it types is nobody's.
//!
//! It reads the journal at its own pace, so the session neither waits for it nor knows it.

use openapi::frames::{Control, Frame, OUTPUT_WINDOW, close};
use poem::web::websocket::WebSocketStream;
use recordings::{Event as Recorded, Follow, Followed, Kind, LiveError, Redraw};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};

use super::{BROWSER, FIRST, pump};
use crate::{
    hub::{Attached, Watch},
    session::{Close, Event, FAREWELL, INBOX, Message, Outbox, Reason, redrawn, shown},
};

/// Shows a session to a watcher until either is done.
pub(super) async fn pump_watcher(socket: WebSocketStream, session: String, watch: Watch) {
    // The socket waits when it is full.
    let (inbox, events) = mpsc::channel(INBOX);
    let outbox = std::sync::Arc::new(Outbox::for_browser());
    let attached =
        Attached { session: session.clone(), socket: 0, inbox, outbox: outbox.clone(), hello: None };
    let mut watcher = Watcher { session, outbox, events, sent: 0, acked: 0, size: None, exit: None };
    let show = async {
        let Done(close) = watcher.show(watch).await;
        watcher.events.close();
        watcher.outbox.close(watcher.exit.take(), close, Instant::now() + FAREWELL);
    };
    tokio::join!(pump(socket, BROWSER, attached, || ()), show);
}

struct Watcher {
    session: String,
    outbox: std::sync::Arc<Outbox>,
    events: mpsc::Receiver<Message>,
    sent: u64,
    acked: u64,
    /// The last it was told; none before it is ready.
    size: Option<(u16, u16)>,
    /// How the shell ended; said last.
    exit: Option<Frame>,
}

/// The watcher is gone, or must go: how its socket is closed.
struct Done(Close);

impl Watcher {
    async fn show(&mut self, mut watch: Watch) -> Done {
        let stop = watch.stop.clone();
        tokio::select! {
            () = stop.cancelled() => Done(Reason::Policy.close()),
            done = self.follow(&mut watch) => match done {
                Ok(never) => match never {},
                Err(done) => done,
            },
        }
    }

    async fn follow(&mut self, watch: &mut Watch) -> Result<std::convert::Infallible, Done> {
        self.greeted().await?;
        let mut follow = self.begun(watch).await?;
        loop {
            if !self.has_room() {
                self.wait_for_room(&mut follow).await?;
            }
            tokio::select! {
                heard = self.events.recv() => self.take(heard)?,
                news = follow.next() => self.tell(news, &mut follow)?,
            }
        }
    }

    fn has_room(&self) -> bool {
        self.sent - self.acked < OUTPUT_WINDOW
    }

    /// Waits for acknowledgements; once the recording is over no longer than a browser has for the rest.
    async fn wait_for_room(&mut self, follow: &mut Follow) -> Result<(), Done> {
        while !self.has_room() {
            tokio::select! {
                heard = self.events.recv() => self.take(heard)?,
                () = follow.over() => return self.wait_for_the_last(follow).await,
            }
        }
        Ok(())
    }

    async fn wait_for_the_last(&mut self, follow: &mut Follow) -> Result<(), Done> {
        let by = Instant::now() + FAREWELL;
        while !self.has_room() {
            match timeout_at(by, self.events.recv()).await {
                Ok(heard) => self.take(heard)?,
                Err(_) => return Err(self.told_at_last(follow).await),
            }
        }
        Ok(())
    }

    /// What it does not take is left out; how it ended is not.
    async fn told_at_last(&mut self, follow: &mut Follow) -> Done {
        loop {
            match follow.next().await {
                Ok(Followed::Event(event)) => self.note_exit(&event.kind),
                Ok(Followed::Screen(_)) => {}
                news => {
                    if let Err(done) = self.tell(news, follow) {
                        return done;
                    }
                }
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

    fn take(&mut self, heard: Option<Message>) -> Result<(), Done> {
        match heard {
            Some(Message::Event(Event::Browser(_, Frame::Ack(taken)))) => {
                if taken > self.sent {
                    return Err(Done(Close::new(close::PROTOCOL, "acknowledged more than was sent")));
                }
                self.acked = self.acked.max(taken);
                Ok(())
            }
            Some(Message::Event(Event::BrowserGone(_, fault))) => Err(gone(fault)),
            // A watcher's keys and sizes are nobody's.
            Some(_) => Ok(()),
            None => Err(over()),
        }
    }

    fn tell(&mut self, news: Result<Followed, LiveError>, follow: &mut Follow) -> Result<(), Done> {
        match news {
            Ok(Followed::Screen(redraw)) => self.redraw(redraw),
            // The stream does not go on from where it was.
            Ok(Followed::Event(Recorded { kind: Kind::Gap { .. }, .. })) => follow.start_over(),
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
        let Redraw { offset, cols, rows, bytes, .. } = redraw;
        if self.size.is_none() {
            self.outbox.push(Frame::Control(Control::Ready {
                session_id: self.session.clone(),
                cols,
                rows,
                input: 0,
                output: offset,
            }));
        }
        self.size = Some((cols, rows));
        (self.sent, self.acked) = (offset, offset);
        self.outbox.push(Frame::Resized { offset, cols, rows });
        redrawn(offset, bytes).for_each(|frame| self.outbox.push(frame));
    }

    fn note_exit(&mut self, kind: &Kind) {
        if let Kind::Exit(exit) = kind {
            let (code, signal) = (exit.code, exit.signal.clone());
            self.exit = Some(Frame::Control(Control::Exit { code, signal }));
        }
    }

    fn event(&mut self, kind: Kind) {
        self.note_exit(&kind);
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
