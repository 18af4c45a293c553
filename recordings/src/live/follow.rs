//! Following a recording: the screen as it stands, then every event, at the follower's own pace.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use super::tape::{Heard, Place, Standing, Tape};
use super::{Live, LiveError, Redraw};
use crate::journal::{End, Event};

/// Bytes of journal that a follower may be behind before it gets a screen instead: 1 MiB.
pub const LAG: u64 = 1 << 20;
/// Bytes of journal read ahead for a follower.
const AHEAD: u64 = 64 << 10;

/// What a follower hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Followed {
    /// The screen as it stands; what it replaces, if anything, is left out.
    Screen(Redraw),
    /// What came next.
    Event(Event),
    /// The recording is finished; nothing follows.
    Ended(End),
    /// The recorder has gone before the end: another may go on with the journal, but not here.
    Interrupted,
}

/// Follows one recording; see [`Live::follow`].
pub struct Follow {
    live: Live,
    heard: watch::Receiver<Heard>,
    /// After the last record read; none before the first screen.
    place: Option<Place>,
    ready: VecDeque<Event>,
    /// A read under way. Kept here, so that it is not begun anew where `next` is cancelled again and again.
    reading: Option<JoinHandle<Read>>,
}

/// Events, and the place after them.
type Read = Result<(VecDeque<Event>, Place), LiveError>;

impl Follow {
    pub(super) fn new(live: Live) -> Self {
        let heard = live.tape.heard();
        Self { live, heard, place: None, ready: VecDeque::new(), reading: None }
    }

    /// What is next. First a screen, then the events, none twice and none left out; when the follower is more than
    /// [`LAG`] behind, a screen again instead of what lies between. Waits while there is nothing new. Cancel safe.
    ///
    /// # Errors
    /// If the journal cannot be read.
    pub async fn next(&mut self) -> Result<Followed, LiveError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Followed::Event(event));
            }
            if let Some(reading) = &mut self.reading {
                let read = reading.await;
                self.reading = None;
                let (events, place) = read.map_err(|_| LiveError::Stopped)??;
                (self.ready, self.place) = (events, Some(place));
                continue;
            }
            let heard = self.heard.borrow_and_update().clone();
            let end = heard.place.pos;
            let Some(place) = self.place.filter(|place| end - place.pos <= LAG) else {
                let checkpoint = self.live.build(u64::MAX).await?;
                self.place = Some(checkpoint.place);
                return Ok(Followed::Screen(checkpoint.into()));
            };
            if place.pos < end {
                let tape = Arc::clone(&self.live.tape);
                self.reading = Some(spawn_blocking(move || read(&tape, place, end)));
                continue;
            }
            match heard.standing {
                Standing::Ended(end) => return Ok(Followed::Ended(end)),
                Standing::Interrupted => return Ok(Followed::Interrupted),
                Standing::Open => (),
            }
            // Who only waits holds nothing.
            self.ready = VecDeque::new();
            // The sender lives as long as `live` does.
            let _ = self.heard.changed().await;
        }
    }
}

fn read(tape: &Tape, from: Place, end: u64) -> Read {
    let mut stretch = tape.stretch(from, end);
    let mut events = VecDeque::new();
    while stretch.place.pos - from.pos < AHEAD
        && let Some((at, kind)) = stretch.next()?
    {
        events.push_back(Event { at, kind });
    }
    Ok((events, stretch.place))
}
