//! One session's pen: events go in, and are durable when the call returns.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::journal::{Cursor, End, Event, Exit, JournalError};
use crate::live::{Live, Tape};
use crate::writer::{Order, Tail, Task, Work};

/// Why events could not be recorded: what they say must not be shown, the session ends.
#[derive(Debug, thiserror::Error)]
pub enum RecorderError {
    /// The events do not continue the journal, or do not fit a record.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The spool is filling up; enough is reserved to [`Recorder::finish`].
    #[error("the spool has {free} bytes left, {min_free} must stay free")]
    NoSpace {
        /// Bytes left.
        free: u64,
        /// Bytes that must stay.
        min_free: u64,
    },
    /// The disk failed.
    #[error("the journal could not be written: {0}")]
    Io(#[from] io::Error),
    /// The disk failed before.
    #[error("the journal is broken since an earlier failure of the disk")]
    Broken,
    /// The writer thread is gone.
    #[error("the spool's writer has stopped")]
    Stopped,
}

/// Records one session.
///
/// Dropped without [`finish`](Self::finish), the journal stays as it is, to be resumed or sealed as interrupted.
pub struct Recorder {
    session: String,
    tail: Arc<Mutex<Tail>>,
    orders: mpsc::Sender<Order>,
    cursor: Cursor,
    tape: Arc<Tape>,
}

impl Recorder {
    pub(crate) fn new(session: String, tail: Tail, orders: mpsc::Sender<Order>) -> Self {
        let (cursor, tape) = (tail.cursor(), tail.tape());
        Self { session, tail: Arc::new(Mutex::new(tail)), orders, cursor, tape }
    }

    /// Id of the session.
    pub fn session(&self) -> &str {
        &self.session
    }

    /// The recording for reading, while it is being written and after.
    pub fn live(&self) -> Live {
        Live::new(Arc::clone(&self.tape))
    }

    /// Records `events` as one batch, all or nothing; returns when it is durable as the spool is configured.
    ///
    /// # Errors
    /// Nothing of the batch counts then: do not show it, end the session.
    pub async fn record(&mut self, events: Vec<Event>) -> Result<(), RecorderError> {
        self.cursor = self.order(Work::Append(events)).await?;
        Ok(())
    }

    /// Bytes of output recorded (or known to be lost): the offset of the next.
    pub fn output_offset(&self) -> u64 {
        self.cursor.output
    }

    /// Columns and rows that hold now.
    pub fn size(&self) -> (u16, u16) {
        self.tape.end().size
    }

    /// Bytes of input taken: the offset of the next.
    pub fn input_offset(&self) -> u64 {
        self.cursor.input
    }

    /// Time of the last record; after a resume the caller's clock goes on from here.
    pub fn last_at(&self) -> Duration {
        self.cursor.at
    }

    /// Ends the recording and hands it over for upload. Uses reserved space: works on a full disk too.
    ///
    /// # Errors
    /// The journal has no end then; [`crate::Spool::seal_interrupted`] can be tried later.
    pub async fn finish(self, at: Duration, reason: &str, exit: Option<Exit>) -> Result<(), RecorderError> {
        self.end(at, exit, End { reason: reason.to_owned(), recovered: false }).await
    }

    pub(crate) async fn end(self, at: Duration, exit: Option<Exit>, end: End) -> Result<(), RecorderError> {
        self.order(Work::Finish { at, exit, end }).await.map(|_| ())
    }

    async fn order(&self, work: Work) -> Result<Cursor, RecorderError> {
        let (reply, answer) = oneshot::channel();
        let order = Order::Write(Task { tail: Arc::clone(&self.tail), work, reply });
        self.orders.send(order).await.map_err(|_| RecorderError::Stopped)?;
        answer.await.map_err(|_| RecorderError::Stopped)?
    }
}
