//! One live terminal: record, then show. Receives what happened, asks the machine, does what it says.

use std::{sync::Arc, time::Duration};

use openapi::frames::{Control, Frame};
use recordings::{Exit as RecordedExit, Header, Kind, Recorder, RecorderError, Spool, SpoolError};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;

mod machine;
mod outbox;

pub use machine::{Event, Reason, Terms};
pub use outbox::{Close, Next, Outbox};

use crate::{
    clock::Clock,
    db::{
        Db, DbError,
        audit::{Actor, Entry},
        recordings as rows, sessions,
    },
};
use machine::{Action, Exit, FAREWELL, Machine};

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
    /// The agent's socket is here; frames for it go to this outbox.
    Relay(Arc<Outbox>),
    /// Anything else.
    Event(Event),
}

/// A session's task.
pub struct Session {
    machine: Machine,
    inbox: mpsc::Receiver<Message>,
    /// Set by whoever ends the session; never waits behind messages.
    ending: watch::Receiver<Option<Reason>>,
    browser: Arc<Outbox>,
    relay: Option<Arc<Outbox>>,
    recorder: Option<Recorder>,
    header: Header,
    opened: Instant,
    /// When the recording began; its times count from here.
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

impl Session {
    /// A session, the way to it, and what its browser is to be sent. `ending` ends it.
    pub fn new(
        parts: Parts,
        ending: watch::Receiver<Option<Reason>>,
    ) -> (Self, mpsc::Sender<Message>, Arc<Outbox>) {
        let (sender, inbox) = mpsc::channel(INBOX);
        let browser = Arc::new(Outbox::for_browser());
        let now = Instant::now();
        let session = Self {
            machine: Machine::new(parts.terms),
            inbox,
            ending,
            browser: browser.clone(),
            relay: None,
            recorder: None,
            header: parts.header,
            opened: now,
            begun: now,
            spool: parts.spool,
            db: parts.db,
            clock: parts.clock,
            owner: parts.owner,
        };
        (session, sender, browser)
    }

    /// Runs the session to its end; `shutdown` ends it.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH);
        while !self.machine.is_over() {
            self.receive(&mut batch, &shutdown).await;
            let mut actions = Vec::with_capacity(batch.len() * 3);
            for message in batch.drain(..) {
                match message {
                    Message::Event(event) => actions.extend(self.machine.on(event, self.opened.elapsed())),
                    Message::Relay(outbox) => self.relay = Some(outbox),
                }
            }
            self.perform(actions).await;
        }
    }

    /// Waits for messages, the next deadline or the end of the bastion.
    async fn receive(&mut self, batch: &mut Vec<Message>, shutdown: &CancellationToken) {
        let deadline = self.machine.next_deadline().map(|at| self.opened + at);
        let tick = async {
            match deadline {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ending = asked_to_end(&mut self.ending) => batch.push(Message::Event(Event::End(ending))),
            _ = self.inbox.recv_many(batch, BATCH) => {}
            () = tick => batch.push(Message::Event(Event::Tick)),
            () = shutdown.cancelled() => batch.push(Message::Event(Event::End(Reason::Error))),
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
        for action in actions {
            self.deliver(action).await;
        }
    }

    async fn record(&mut self, actions: &[Action]) -> Result<(), RecordError> {
        if actions.contains(&Action::Begin) {
            self.begin().await?;
        }
        let at = self.begun.elapsed();
        let kinds = actions.iter().filter_map(|action| match action {
            Action::RecordOutput { offset, bytes } => {
                Some(Kind::Output { offset: *offset, bytes: bytes.clone() })
            }
            Action::RecordSize { offset, cols, rows } => {
                Some(Kind::Resize { offset: *offset, cols: *cols, rows: *rows })
            }
            Action::Begin
            | Action::ToBrowser(_)
            | Action::ToRelay(_)
            | Action::BrowserEnding
            | Action::Finish { .. } => None,
        });
        let events: Vec<_> = kinds.map(|kind| recordings::Event { at, kind }).collect();
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
        self.recorder = Some(self.spool.start(self.header.clone()).await?);
        self.db.keep_recording(rows::Model::begun(&self.header.facts.session, now)).await?;
        self.db.start_session(&self.header.facts.session, now).await?;
        Ok(())
    }

    async fn deliver(&mut self, action: Action) {
        match action {
            Action::Begin | Action::RecordOutput { .. } | Action::RecordSize { .. } => {}
            Action::ToBrowser(frame) => self.browser.push(frame),
            Action::ToRelay(frame) => {
                if let Some(relay) = &self.relay {
                    relay.push(frame);
                }
            }
            Action::BrowserEnding => self.browser.ending(),
            Action::Finish { reason, exit, browser, relay } => {
                self.finish(reason, exit, browser, relay).await;
            }
        }
    }

    /// Closes the recording, then tells both ends, then writes the row.
    async fn finish(&mut self, reason: Reason, exit: Option<Exit>, browser: Close, relay: Close) {
        // Nobody reads it any more: sockets must not wait for that.
        self.inbox.close();
        if let Some(recorder) = self.recorder.take() {
            let recorded =
                exit.as_ref().map(|exit| RecordedExit { code: exit.code, signal: exit.signal.clone() });
            let finishing = recorder.finish(self.begun.elapsed(), reason.as_str(), recorded);
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
        self.browser.close(farewell, browser, if cut_off { now } else { now + FAREWELL });
        if let Some(outbox) = &self.relay {
            outbox.close([], relay, now);
        }
        self.write_end(reason, exit).await;
    }

    /// Tries until the database has taken it: a slot must not stay taken.
    async fn write_end(&self, reason: Reason, exit: Option<Exit>) {
        let id = &self.header.facts.session;
        let exit = exit.unwrap_or_default();
        let end = sessions::End {
            status: reason.status(),
            reason: reason.as_str(),
            exit_code: exit.code.map(i64::from),
            exit_signal: exit.signal,
        };
        let mut pause = Duration::from_millis(100);
        loop {
            let now = self.clock.millis();
            let entry = Entry::new(now, Actor::System, "session.end")
                .on("session", id)
                .with(json!({"reason": end.reason, "user": self.owner}));
            match self.db.end_session(id, end.clone(), now, entry).await {
                Ok(_) => return,
                Err(error) => tracing::warn!(session = id, %error, "the end is not written yet"),
            }
            sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
}

/// Ends a session that lives by its row only: its task is gone, as after a crash.
pub async fn end_row(db: &Db, clock: &Clock, session: &str, reason: Reason) -> Result<(), DbError> {
    let now = clock.millis();
    let end = sessions::End {
        status: reason.status(),
        reason: reason.as_str(),
        exit_code: None,
        exit_signal: None,
    };
    let entry = Entry::new(now, Actor::System, "session.end").on("session", session);
    db.end_session(session, end, now, entry).await?;
    Ok(())
}

async fn asked_to_end(ending: &mut watch::Receiver<Option<Reason>>) -> Reason {
    let asked = ending.wait_for(Option::is_some).await.map(|reason| *reason);
    match asked {
        Ok(reason) => reason.unwrap_or(Reason::Error),
        // Nobody is left who could.
        Err(_) => std::future::pending().await,
    }
}
