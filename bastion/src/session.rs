//! One live terminal: record, then show. Receives what happened, asks the machine, does what it says.

use std::{future::pending, sync::Arc, time::Duration};

use openapi::frames::{Control, Frame};
use recordings::{Exit as RecordedExit, Header, Live, Recorder, RecorderError, Spool, SpoolError};
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

mod drawing;
mod kinds;
mod machine;
mod outbox;
mod reason;
mod row;

pub use kinds::shown;
pub use machine::{Event, FAREWELL, Terms, redrawn, restarting};
pub use outbox::{Close, Next, Outbox};
pub use reason::Reason;
pub use row::end_row;

use crate::{
    clock::Clock,
    db::{Db, DbError, recordings as rows},
};
use drawing::{Drawer, Drawn};
use kinds::recorded;
use machine::{Action, Machine, Recorded, Screen, Status};
use reason::Exit;

/// Messages that may wait for a session; its sockets wait when it is full, and stop reading.
pub const INBOX: usize = 64;
/// How long the recorder may take before it counts as failed.
const RECORD_WITHIN: Duration = Duration::from_secs(5);
/// Messages taken at once, so that what came together is recorded in one write.
const BATCH: usize = 32;
/// Why a session could not be recorded.
#[derive(Debug, thiserror::Error)]
enum RecordError {
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Recorder(#[from] RecorderError),
    #[error("nothing was begun")]
    NotBegun,
    #[error("the recorder did not answer in time")]
    TooSlow,
    #[error(transparent)]
    Db(#[from] DbError),
}

/// What reaches a session.
#[derive(Debug)]
pub enum Message {
    /// A browser's socket is here; frames for it go to this outbox. The event tells the machine.
    Browser(Arc<Outbox>, Event),
    /// The agent's socket is here, likewise.
    Relay(Arc<Outbox>, Event),
    /// Anything else.
    Event(Event),
}

/// A session's task.
pub struct Session {
    machine: Machine,
    inbox: mpsc::Receiver<Message>,
    /// Set by whoever ends the session; never waits behind messages.
    ending: watch::Receiver<Option<Reason>>,
    watchers: watch::Receiver<u32>,
    browser: Option<Arc<Outbox>>,
    relay: Option<Arc<Outbox>>,
    recorder: Option<Recorder>,
    /// The recording, for whoever follows it.
    live: watch::Sender<Option<Live>>,
    drawer: Drawer,
    status: watch::Sender<Option<Status>>,
    /// What a socket is told that comes too late.
    goodbye: Close,
    header: Header,
    /// When this start of the bastion took the session up, and how long it had lived by then.
    taken_up: Instant,
    age: Duration,
    /// The recording's time when `taken_up`, or when it began.
    recorded: Duration,
    begun: Instant,
    spool: Spool,
    db: Db,
    clock: Clock,
    owner: String,
}

/// What a session is made of.
pub struct Parts {
    /// What it must keep to.
    pub terms: Terms,
    /// How its recording begins; the time is filled in when it does.
    pub header: Header,
    /// Whose it is.
    pub owner: String,
    /// Where it is recorded.
    pub spool: Spool,
    /// Where its row is.
    pub db: Db,
    /// The time.
    pub clock: Clock,
}

/// How long a session that is taken up again has lived.
pub struct Ages {
    /// Since it was opened.
    pub session: Duration,
    /// Since its recording began.
    pub recording: Duration,
}

/// What others set that a session looks at.
pub struct Asked {
    /// Why it is to end.
    pub ending: watch::Receiver<Option<Reason>>,
    /// How many watch.
    pub watchers: watch::Receiver<u32>,
}

/// The ways to a session.
pub struct Doors {
    /// For sockets.
    pub inbox: mpsc::Sender<Message>,
    /// Its recording, once it has begun.
    pub live: watch::Receiver<Option<Live>>,
}

impl Session {
    /// A session, and the ways to it.
    pub fn new(parts: Parts, asked: Asked) -> (Self, Doors) {
        let machine = Machine::new(parts.terms.clone());
        Self::made(parts, machine, Duration::ZERO, asked)
    }

    /// A session that an earlier start of the bastion left, and its journal.
    pub fn resumed(parts: Parts, recorder: Recorder, ages: &Ages, asked: Asked) -> (Self, Doors) {
        let recorded = Recorded { output: recorder.output_offset(), input: recorder.input_offset() };
        let machine = Machine::resumed(parts.terms.clone(), recorder.size(), recorded, ages.session);
        let (mut session, doors) = Self::made(parts, machine, ages.session, asked);
        session.recorded = recorder.last_at().max(ages.recording);
        session.live.send_replace(Some(recorder.live()));
        session.recorder = Some(recorder);
        (session, doors)
    }

    fn made(parts: Parts, machine: Machine, age: Duration, asked: Asked) -> (Self, Doors) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let (live, follow) = watch::channel(None);
        let now = Instant::now();
        let session = Self {
            machine,
            inbox,
            ending: asked.ending,
            watchers: asked.watchers,
            browser: None,
            relay: None,
            recorder: None,
            live,
            drawer: Drawer::new(),
            status: watch::channel(None).0,
            goodbye: restarting(),
            header: parts.header,
            taken_up: now,
            age,
            recorded: Duration::ZERO,
            begun: now,
            spool: parts.spool,
            db: parts.db,
            clock: parts.clock,
            owner: parts.owner,
        };
        (session, Doors { inbox: sender, live: follow })
    }

    /// Runs the session to its end; `shutdown` hands it over to the next start.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let (db, session) = (self.db.clone(), self.header.facts.session.clone());
        let statuses = row::keep_status(&db, &session, self.status.subscribe());
        tokio::select! {
            () = self.live_on(shutdown) => {}
            () = statuses => {}
        }
    }

    async fn live_on(&mut self, shutdown: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        while !self.machine.is_over() {
            self.receive(&mut batch, &shutdown).await;
            let mut actions = Vec::with_capacity(batch.len() * 3);
            for message in batch.drain(..) {
                match message {
                    Message::Event(event) => actions.extend(self.machine.on(event, self.now())),
                    Message::Browser(outbox, _) | Message::Relay(outbox, _) if self.machine.is_over() => {
                        outbox.dismiss(self.goodbye.clone());
                    }
                    Message::Browser(outbox, event) => {
                        // What was decided so far is for the socket before.
                        actions.extend(self.machine.on(event, self.now()));
                        self.perform(std::mem::take(&mut actions)).await;
                        self.browser = Some(outbox);
                    }
                    Message::Relay(outbox, event) => {
                        self.perform(std::mem::take(&mut actions)).await;
                        self.take_relay(outbox, event).await;
                    }
                }
            }
            self.perform(actions).await;
        }
        self.turn_away();
    }

    /// Sockets that came too late hear so at once.
    fn turn_away(&mut self) {
        while let Ok(message) = self.inbox.try_recv() {
            if let Message::Browser(outbox, _) | Message::Relay(outbox, _) = message {
                outbox.dismiss(self.goodbye.clone());
            }
        }
    }

    /// The old relay hears of it, the new one what the machine says to it.
    async fn take_relay(&mut self, outbox: Arc<Outbox>, event: Event) {
        let actions = self.machine.on(event, self.now());
        let split = actions.iter().take_while(|action| matches!(action, Action::DropRelay(_))).count();
        let (to_the_old, to_the_new) = actions.split_at(split);
        self.perform(to_the_old.to_vec()).await;
        self.relay = Some(outbox);
        self.perform(to_the_new.to_vec()).await;
    }

    /// Since the session was opened.
    fn now(&self) -> Duration {
        self.age + self.taken_up.elapsed()
    }

    /// Waits for messages, the next deadline, a screen or the end of the bastion.
    async fn receive(&mut self, batch: &mut Vec<Message>, shutdown: &CancellationToken) {
        let look_again = self.drawer.begin(self.recorder.as_ref().map(Recorder::live));
        let deadline = self.machine.next_deadline().map(|at| self.taken_up + at.saturating_sub(self.age));
        let tick = async {
            match [deadline, look_again].into_iter().flatten().min() {
                Some(at) => sleep_until(at).await,
                None => pending().await,
            }
        };
        tokio::select! {
            ending = asked_to_end(&mut self.ending) => batch.push(Message::Event(Event::End(ending))),
            () = shutdown.cancelled() => batch.push(Message::Event(Event::HandOver)),
            count = changed(&mut self.watchers) => batch.push(Message::Event(Event::Peers(count))),
            drawn = self.drawer.done() => self.on_drawn(drawn, batch),
            _ = self.inbox.recv_many(batch, BATCH) => {}
            () = tick => batch.push(Message::Event(Event::Tick)),
        }
    }

    /// Records everything that is to be recorded, then does the rest in order.
    /// INVARIANT: nothing is sent on before the recorder has taken the whole batch.
    async fn perform(&mut self, actions: Vec<Action>) {
        let recorded = timeout(RECORD_WITHIN, self.record(&actions)).await;
        if let Err(error) = recorded.unwrap_or(Err(RecordError::TooSlow)) {
            tracing::error!(session = self.header.facts.session, %error, "the recording failed");
            // Whatever else this batch would have ended the session for: what it showed is not recorded.
            let failure = self.machine.recorder_failed();
            return self.deliver(failure).await;
        }
        let mut actions = actions.into_iter();
        while let Some(action) = actions.next() {
            if let Action::Replay { socket, from, to } = action {
                if !self.replay(from, to).await {
                    let mut instead = self.machine.on(Event::NoReplay(socket), self.now());
                    // It gets a screen; what was decided to be shown before it is not for it.
                    instead.extend(actions.filter(|action| !is_output(action)));
                    for action in instead {
                        self.deliver(action).await;
                    }
                    return;
                }
            } else {
                self.deliver(action).await;
            }
        }
    }

    async fn record(&mut self, actions: &[Action]) -> Result<(), RecordError> {
        if actions.contains(&Action::Begin) {
            self.begin().await?;
        }
        let at = self.recorded + self.begun.elapsed();
        let event = |kind| recordings::Event { at, kind };
        let events: Vec<_> = actions.iter().filter_map(recorded).map(event).collect();
        if events.is_empty() {
            return Ok(());
        }
        Ok(self.recorder.as_mut().ok_or(RecordError::NotBegun)?.record(events).await?)
    }

    async fn begin(&mut self) -> Result<(), RecordError> {
        let now = self.clock.millis();
        self.begun = Instant::now();
        self.header.timestamp = now.div_euclid(1000);
        self.header.facts.started = crate::clock::rfc3339(now);
        let recorder = self.spool.start(self.header.clone()).await?;
        self.live.send_replace(Some(recorder.live()));
        self.recorder = Some(recorder);
        self.db.keep_recording(rows::Model::begun(&self.header.facts.session, now), None).await?;
        self.db.start_session(&self.header.facts.session, now).await?;
        Ok(())
    }

    async fn deliver(&mut self, action: Action) {
        match action {
            Action::Begin
            | Action::RecordOutput { .. }
            | Action::RecordInput { .. }
            | Action::RecordMasked { .. }
            | Action::RecordSize { .. }
            | Action::RecordGap { .. }
            | Action::Mark(_)
            | Action::Replay { .. } => {}
            Action::ToBrowser(frame) => push(self.browser.as_ref(), frame),
            Action::ToRelay(frame) => push(self.relay.as_ref(), frame),
            Action::Draw(socket) => self.drawer.want(socket),
            Action::DropBrowser(close) => {
                if let Some(browser) = self.browser.take() {
                    browser.dismiss(close);
                }
            }
            Action::DropRelay(close) => {
                if let Some(relay) = self.relay.take() {
                    relay.dismiss(close);
                }
            }
            Action::BrowserEnding => {
                if let Some(browser) = &self.browser {
                    browser.ending();
                }
            }
            Action::Tell(status) => {
                self.status.send_replace(Some(status));
            }
            Action::HandOver => self.hand_over(),
            Action::Finish { reason, exit, browser, relay } => {
                self.finish(reason, exit, browser, relay).await;
            }
        }
    }

    /// Sends the browser what it lacks, as it is recorded; false when that is not to be had.
    async fn replay(&mut self, from: u64, to: u64) -> bool {
        let (Some(browser), Some(recorder)) = (&self.browser, &self.recorder) else { return true };
        let live = recorder.live();
        let replayed = match timeout(RECORD_WITHIN, live.replay(from, to)).await {
            Ok(Ok(replayed)) => replayed,
            Err(_) => None,
            Ok(Err(error)) => {
                tracing::error!(session = self.header.facts.session, %error, "a recording is not read back");
                None
            }
        };
        let Some(kinds) = replayed else { return false };
        kinds.into_iter().flat_map(shown).for_each(|frame| browser.push(frame));
        true
    }

    fn on_drawn(&mut self, drawn: Drawn, batch: &mut Vec<Message>) {
        match drawn {
            Drawn::For(socket, Ok(redraw)) => {
                let recordings::Redraw { offset, cols, rows, bytes, .. } = redraw;
                let screen = Screen { offset, cols, rows, bytes };
                batch.push(Message::Event(Event::Drawn(socket, screen)));
            }
            Drawn::Ahead(Ok(_)) => {}
            Drawn::For(_, Err(error)) => {
                // Without a screen the browser would wait for ever.
                tracing::error!(session = self.header.facts.session, %error, "the screen is not drawn");
                batch.push(Message::Event(Event::End(Reason::RecordingFailed)));
            }
            Drawn::Ahead(Err(error)) => {
                tracing::warn!(session = self.header.facts.session, %error, "the screen is not drawn ahead");
            }
        }
    }

    /// Recording and row stay as they are: the next start of the bastion goes on with them.
    fn hand_over(&mut self) {
        self.inbox.close();
        self.recorder = None;
        for outbox in [&self.browser, &self.relay].into_iter().flatten() {
            outbox.dismiss(restarting());
        }
    }

    /// Closes the recording, then tells both ends, then writes the row.
    async fn finish(&mut self, reason: Reason, exit: Option<Exit>, browser: Close, relay: Close) {
        // Nobody reads it any more: sockets must not wait for that.
        self.inbox.close();
        self.goodbye = reason.close();
        if let Some(recorder) = self.recorder.take() {
            let recorded =
                exit.as_ref().map(|exit| RecordedExit { code: exit.code, signal: exit.signal.clone() });
            let finishing = recorder.finish(self.recorded + self.begun.elapsed(), reason.as_str(), recorded);
            let finished = timeout(RECORD_WITHIN, finishing).await.map_err(|_| RecordError::TooSlow);
            if let Err(error) = finished.and_then(|finished| Ok(finished?)) {
                // The journal stays as it stands; the next start seals it.
                tracing::error!(session = self.header.facts.session, %error, "the recording was not finished");
            }
        }
        let farewell = exit
            .as_ref()
            .map(|exit| Frame::Control(Control::Exit { code: exit.code, signal: exit.signal.clone() }));
        // Who may no longer see it gets none of what waits; the shell gets no more input in any case.
        let cut_off = matches!(reason, Reason::EndedByAdmin | Reason::Policy | Reason::RecordingFailed);
        let now = Instant::now();
        if let Some(outbox) = &self.browser {
            outbox.close(farewell, browser, if cut_off { now } else { now + FAREWELL });
        }
        if let Some(outbox) = &self.relay {
            outbox.close([], relay, now);
        }
        let session = &self.header.facts.session;
        row::write_end(&self.db, &self.clock, session, &self.owner, row::end(reason, exit)).await;
    }
}

fn is_output(action: &Action) -> bool {
    matches!(action, Action::ToBrowser(Frame::Data { .. } | Frame::Resized { .. }) | Action::Replay { .. })
}

fn push(outbox: Option<&Arc<Outbox>>, frame: Frame) {
    if let Some(outbox) = outbox {
        outbox.push(frame);
    }
}

async fn changed(watchers: &mut watch::Receiver<u32>) -> u32 {
    match watchers.changed().await {
        Ok(()) => *watchers.borrow_and_update(),
        Err(_) => pending().await,
    }
}

async fn asked_to_end(ending: &mut watch::Receiver<Option<Reason>>) -> Reason {
    let asked = ending.wait_for(Option::is_some).await.map(|reason| *reason);
    match asked {
        Ok(reason) => reason.unwrap_or(Reason::Error),
        // Nobody is left who could.
        Err(_) => pending().await,
    }
}
