//! Screens, drawn beside the session's path: one at a time, for a browser that waits for it or ahead of need.

use std::{
    future::{Future, pending},
    pin::Pin,
    time::Duration,
};

use recordings::{Live, LiveError, Redraw};
use tokio::time::Instant;

/// Journal bytes after which the screen is drawn on ahead of need, so that drawing it when asked is quick.
const AHEAD: u64 = 4 << 20;
/// Drawing ahead rests this many times as long as it worked: a flood must not cost a processor twice.
const REST: u32 = 9;

type Work = Pin<Box<dyn Future<Output = Drawn> + Send + Sync>>;

/// What was drawn.
pub(super) enum Drawn {
    /// For the browser's socket of this number.
    For(u32, Result<Redraw, LiveError>),
    /// Ahead of need.
    Ahead(Result<u64, LiveError>),
}

pub(super) struct Drawer {
    work: Option<Work>,
    wanted_by: Option<u32>,
    began: Instant,
    rests_until: Instant,
}

impl Drawer {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { work: None, wanted_by: None, began: now, rests_until: now }
    }

    /// A browser waits for its screen; one that waited before has gone.
    pub(super) fn want(&mut self, socket: u32) {
        self.wanted_by = Some(socket);
    }

    /// Begins what is to be done, if nothing is under way. Says when to look again.
    pub(super) fn begin(&mut self, live: Option<Live>) -> Option<Instant> {
        let live = live.filter(|_| self.work.is_none())?;
        let now = Instant::now();
        if let Some(socket) = self.wanted_by.take() {
            self.work = Some(Box::pin(async move { Drawn::For(socket, live.screen().await) }));
        } else if live.behind() <= AHEAD {
            return None;
        } else if now < self.rests_until {
            return Some(self.rests_until);
        } else {
            self.work = Some(Box::pin(async move { Drawn::Ahead(live.advance(AHEAD).await) }));
        }
        self.began = now;
        None
    }

    /// Waits until what is under way is done; for ever, if nothing is. Cancel safe.
    pub(super) async fn done(&mut self) -> Drawn {
        let Some(work) = &mut self.work else { return pending().await };
        let drawn = work.await;
        self.work = None;
        let rest: Duration = self.began.elapsed() * REST;
        self.rests_until = Instant::now() + rest;
        drawn
    }
}
