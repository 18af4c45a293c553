//! Who is looking at what: a player asks many times, and one viewing is one row of the log.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::note;
use crate::{api::callers::User, app::App, db::DbError};

/// How long requests continue a viewing, in milliseconds.
const LONGEST: i64 = 60 * 60 * 1000;
/// Viewings remembered; those forgotten are written down anew.
const MOST: usize = 4096;

/// What a request is to a viewing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// Its beginning: written down.
    Begins,
    /// A part of one: written down only if none is known that it continues.
    Continues,
    /// A copy to keep: written down, as that.
    Download,
}

impl Look {
    /// `otherwise`, unless it is to be kept.
    pub fn download(asked: bool, otherwise: Self) -> Self {
        if asked { Self::Download } else { otherwise }
    }
}

/// By whom, from where, of which session.
type Viewing = (String, String, String);

/// Viewings that were written down; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Viewings(Arc<Mutex<HashMap<Viewing, i64>>>);

impl Viewings {
    /// Writes a look down, before anything is shown. `what` names the form that is read.
    pub async fn look(
        &self,
        app: &App,
        caller: &User,
        session: &str,
        what: &str,
        look: Look,
    ) -> Result<(), DbError> {
        let viewing = (caller.id().to_owned(), caller.address.to_string(), session.to_owned());
        let now = app.clock.millis();
        match look {
            Look::Download => note(app, caller, "recording.download", session, what).await,
            Look::Continues if self.is_known(&viewing, now) => Ok(()),
            Look::Begins | Look::Continues => {
                note(app, caller, "recording.view", session, what).await?;
                self.remember(viewing, now);
                Ok(())
            }
        }
    }

    fn is_known(&self, viewing: &Viewing, now: i64) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(viewing).is_some_and(|at| now - at < LONGEST)
    }

    fn remember(&self, viewing: Viewing, now: i64) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST {
            known.retain(|_, at| now - *at < LONGEST);
        }
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(viewing, now);
    }
}
