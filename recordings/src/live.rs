//! A recording read while it is being written: its screen, a stretch of its output, or all that comes.
//!
//! Nobody but the recorder sees a byte first: whatever is read here is read from the journal, so nothing is shown
//! that was not recorded, the session never waits for who watches it, and nothing is kept in memory for them.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use crate::journal::{JournalError, Kind};

mod follow;
mod tape;

pub use follow::{Follow, Followed, LAG};
use tape::{Checkpoint, Stretch};
pub(crate) use tape::{Head, Marks, Place, Standing, Tape, View};

/// Bytes of output that are replayed at most: 1 MiB. Who missed more gets a screen.
pub const REPLAY: u64 = 1 << 20;

/// Why a running recording could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// There is no whole record where one was written.
    #[error("the journal is damaged at byte {0}")]
    Damaged(u64),
    /// The program is stopping.
    #[error("reading was stopped")]
    Stopped,
}

/// A screen as it stands at an output offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redraw {
    /// Offset of the next byte of output.
    pub offset: u64,
    /// Time of the last record before it.
    pub at: Duration,
    /// Columns, 1..=1000.
    pub cols: u16,
    /// Rows, 1..=1000.
    pub rows: u16,
    /// What redraws it in a freshly reset terminal of that size, which can then go on with the raw stream.
    pub bytes: Bytes,
    /// How many of the last of `bytes` belong to a character that is not finished; all before is UTF-8.
    pub pending: usize,
}

impl From<Checkpoint> for Redraw {
    fn from(Checkpoint { place, redraw, pending }: Checkpoint) -> Self {
        let (cols, rows) = place.size;
        Self { offset: place.cursor.output, at: place.cursor.at, cols, rows, bytes: redraw, pending }
    }
}

/// A recording that is being written, for reading; clones are the same.
#[derive(Clone)]
pub struct Live {
    tape: Arc<Tape>,
}

impl Live {
    pub(crate) fn new(tape: Arc<Tape>) -> Self {
        Self { tape }
    }

    /// The screen after everything recorded when asked; found from the last checkpoint, and kept as the next.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn screen(&self) -> Result<Redraw, LiveError> {
        Ok(self.build(u64::MAX).await?.into())
    }

    /// Bytes of journal after the checkpoint: what [`Live::screen`] would have to read.
    pub fn behind(&self) -> u64 {
        self.tape.end().pos - self.tape.checkpoint().place.pos
    }

    /// Moves the checkpoint on by about `bytes` of journal at most; says how many are left behind.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn advance(&self, bytes: u64) -> Result<u64, LiveError> {
        self.build(bytes).await?;
        Ok(self.behind())
    }

    /// The output from offset `from` to offset `to` and the sizes in between, in order; a size that stands exactly
    /// at either end is included. None if that is more than [`REPLAY`], if output was lost in between, or if not
    /// all of it is there.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn replay(&self, from: u64, to: u64) -> Result<Option<Vec<Kind>>, LiveError> {
        if from > to || to - from > REPLAY || to > self.tape.end().cursor.output {
            return Ok(None);
        }
        let tape = Arc::clone(&self.tape);
        blocking(move || replay(tape.stretch_before(from), from, to)).await
    }

    /// Follows the recording from the screen as it stands when first asked.
    pub fn follow(&self) -> Follow {
        Follow::new(self.clone())
    }

    async fn build(&self, most: u64) -> Result<Checkpoint, LiveError> {
        let turn = Arc::clone(&self.tape.building).lock_owned().await;
        let kept = self.tape.checkpoint();
        if kept.place.pos == self.tape.end().pos {
            return Ok(kept);
        }
        let tape = Arc::clone(&self.tape);
        // The turn goes along: a build that nobody waits for any more still ends before the next begins.
        blocking(move || {
            let built = tape.build(most);
            drop(turn);
            built
        })
        .await
    }
}

fn replay(mut stretch: Stretch, from: u64, to: u64) -> Result<Option<Vec<Kind>>, LiveError> {
    let mut replayed = Replayed { kinds: Vec::new(), offset: from, output: BytesMut::new() };
    let mut at = stretch.place.cursor.output;
    while at <= to
        && let Some((_, kind)) = stretch.next()?
    {
        match kind {
            Kind::Output { offset, bytes } => {
                let first = from.clamp(offset, offset + bytes.len() as u64) - offset;
                let last = to.clamp(offset, offset + bytes.len() as u64) - offset;
                replayed.output.extend_from_slice(&bytes[first as usize..last as usize]);
            }
            Kind::Resize { cols: cols @ 1.., rows: rows @ 1.., .. } if at >= from => {
                replayed.cut();
                replayed.kinds.push(Kind::Resize { offset: at, cols, rows });
            }
            Kind::Gap { .. } if at < to && stretch.place.cursor.output > from => return Ok(None),
            Kind::Resize { .. } | Kind::Input { .. } | Kind::Marker(_) | Kind::Exit(_) | Kind::Gap { .. } => {
            }
        }
        at = stretch.place.cursor.output;
    }
    replayed.cut();
    Ok(Some(replayed.kinds))
}

/// Output put together as far as no size comes in between.
struct Replayed {
    kinds: Vec<Kind>,
    offset: u64,
    output: BytesMut,
}

impl Replayed {
    fn cut(&mut self) {
        if !self.output.is_empty() {
            let bytes = self.output.split().freeze();
            let next = self.offset + bytes.len() as u64;
            self.kinds.push(Kind::Output { offset: self.offset, bytes });
            self.offset = next;
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LiveError> + Send + 'static,
) -> Result<T, LiveError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| LiveError::Stopped)?
}
