//! Following a recording: the screen as it stands, then every event, at the follower's own pace.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::tape::{Heard, Place, Standing, Tape};
use super::{Live, LiveError, Redraw};
use crate::journal::{End, Event, Kind};

/// Bytes of journal that a follower may be behind before it gets a screen instead: 1 MiB.
pub const LAG: u64 = 1 << 20;
const REST_MAX: Duration = Duration::from_secs(1);
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
    /// After a screen no other is drawn before.
    rests_until: Instant,
}

/// Events, and the place after them.
type Read = Result<(VecDeque<Event>, Place), LiveError>;

impl Follow {
    pub(super) fn new(live: Live) -> Self {
        let heard = live.tape.heard();
        Self { live, heard, place: None, ready: VecDeque::new(), reading: None, rests_until: Instant::now() }
    }

    /// What is next is a screen again, whatever was read ahead.
    pub fn start_over(&mut self) {
        (self.place, self.reading) = (None, None);
        self.ready.clear();
    }

    /// Waits until nothing more is recorded here. Cancel safe.
    pub async fn over(&mut self) {
        // The sender lives as long as `live` does.
        let _ = self.heard.wait_for(|heard| !matches!(heard.standing, Standing::Open)).await;
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
                if self.place.is_some() {
                    sleep_until(self.rests_until).await;
                }
                let began = Instant::now();
                let checkpoint = self.live.build(u64::MAX).await?;
                // Who follows a flood costs half a processor at most, and is shown it once a second or so.
                self.rests_until = Instant::now() + began.elapsed().min(REST_MAX);
                self.place = Some(checkpoint.place);
                self.keep_the_exit(checkpoint.place);
                return Ok(Followed::Screen(checkpoint.into()));
            };
            if place.pos < end {
                let tape = Arc::clone(&self.live.tape);
                self.reading = Some(spawn_blocking(move || read(&tape, place, end)));
                continue;
            }
            match heard.standing {
                Standing::Ended(end, _) => return Ok(Followed::Ended(end)),
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

impl Follow {
    /// A screen leaves out what lies before it, but not how the shell ended.
    fn keep_the_exit(&mut self, place: Place) {
        let heard = self.heard.borrow();
        if let Standing::Ended(_, Some(exit)) = &heard.standing
            && heard.place.pos == place.pos
        {
            self.ready.push_back(Event { at: place.cursor.at, kind: Kind::Exit(exit.clone()) });
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
