//! Across recordings: an exact scan of what was on their screens, the newest first, a stretch at a time.

use std::{sync::Arc, time::Duration};

use ::recordings::{PlaybackError, ScreenLine as Line, Stored};
use futures_util::{StreamExt as _, stream};
use poem::web::Data;
use poem_openapi::{Object, OpenApi, param::Query, payload::Json};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use super::{Recording, finding, finding::ScreenLine, show, started_at, stored};
use crate::{
    api::{
        Chapter,
        callers::{User, actor},
        error::ApiError,
        lists,
        nullable::Nullable,
        sessions::{Names, owner},
    },
    app::App,
    db::{DbError, Page, audit::Entry, recordings, sessions},
};

/// How long one request searches.
const BUDGET: Duration = Duration::from_secs(2);
/// How long the first recording of a request may take, so that every request comes further.
const FIRST: Duration = Duration::from_secs(20);
/// Transcripts read at a time, by everybody together.
const READERS: usize = 8;
/// Rows fetched at a time.
const ROWS: u64 = 64;
/// Recordings found by one request unless asked otherwise.
const LIMIT: u32 = 20;
/// Lines shown of each.
const LINES: usize = 5;

/// A recording in which something was found.
#[derive(Debug, Object)]
pub struct SearchHit {
    /// Which.
    recording: Recording,
    /// The first lines that have it, 5 at most.
    lines: Vec<ScreenLine>,
    /// There are more of them.
    more: bool,
}

/// What one stretch of a search found.
#[derive(Debug, Object)]
pub struct SearchPage {
    /// Newest first; may be empty while there is more to search.
    items: Vec<SearchHit>,
    /// The `cursor` that goes on from here; null: all has been searched.
    next_cursor: Nullable<String>,
    /// RFC 3339, UTC: when the oldest recording that was looked at started; null: none was.
    searched_to: Nullable<String>,
    /// Recordings that could not be searched.
    unreadable: u32,
}

/// Recordings searched.
pub struct Search {
    /// Whoever else wants to read a transcript waits.
    readers: Semaphore,
}

impl Default for Search {
    fn default() -> Self {
        Self { readers: Semaphore::new(READERS) }
    }
}

#[OpenApi(tag = "Chapter::Recordings")]
impl Search {
    /// Search recordings
    ///
    /// For what was on the screen: lines with `q` (1 to 200 characters) in them, whatever the case, in stored
    /// recordings of one's own sessions, in all for admins and auditors; newest first. One request searches for about
    /// two seconds, or until it has found `limit` (1 to 50, by default 20) recordings; `next_cursor` goes on from there, so
    /// `items` may be empty and the search not over. `user` and `asset` are ids, `from` and `to` bound the session's
    /// start (RFC 3339). Searching is audited, never what was searched for.
    #[oai(path = "/recordings/search", method = "get")]
    async fn search(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        q: Query<String>,
        user: Query<Option<String>>,
        asset: Query<Option<String>>,
        from: Query<Option<String>>,
        to: Query<Option<String>>,
        limit: Query<Option<u32>>,
        cursor: Query<Option<String>>,
    ) -> Result<Json<SearchPage>, ApiError> {
        let limit = limit.0.unwrap_or(LIMIT);
        if !(1..=50).contains(&limit) {
            return Err(ApiError::invalid_field("limit", "must be 1 to 50"));
        }
        let q = finding::query(&q.0)?;
        let page = Page { limit: ROWS, ..lists::page(None, cursor.0)? };
        let Some(owner) = owner(&caller, user.0) else {
            return Ok(Json(Stretch { over: true, ..Stretch::default() }.shown(app).await?));
        };
        let filter = lists::sessions(owner, asset.0, None, from.0.as_deref(), to.0.as_deref())?;
        let entry = Entry::new(app.clock.millis(), actor(&caller), "recording.search");
        app.db.note(entry.at_address(&caller.address.to_string())).await?;
        let stretch = Stretch { cursor: page.cursor.clone(), ..Stretch::default() };
        let searched = stretch.search(app, &self.readers, q, &filter, page, limit as usize).await?;
        Ok(Json(searched.shown(app).await?))
    }
}

type Pair = (recordings::Model, sessions::Model);

/// A stretch of a search: how far it came, and what it found.
#[derive(Default)]
struct Stretch {
    hits: Vec<(Pair, Vec<Line>)>,
    /// The last recording that was looked at.
    cursor: Option<String>,
    over: bool,
    searched_to: Option<String>,
    unreadable: u32,
}

impl Stretch {
    async fn search(
        mut self,
        app: &App,
        readers: &Semaphore,
        q: &str,
        filter: &sessions::Filter,
        mut page: Page,
        limit: usize,
    ) -> Result<Self, DbError> {
        let deadline = Instant::now() + BUDGET;
        loop {
            let (rows, next) = app.db.recordings(filter, None, &page).await?;
            let kept = rows.into_iter().filter_map(|pair| stored(&pair.0).map(|stored| (pair, stored)));
            let mut searched = stream::iter(kept)
                .map(|(pair, stored)| lines(app, readers, q, pair, stored))
                .buffered(READERS);
            loop {
                // Every request comes at least one further.
                let wait = if self.searched_to.is_some() { deadline } else { deadline + FIRST };
                match timeout_at(wait, searched.next()).await {
                    Ok(Some((pair, found))) => self.take(pair, found),
                    Ok(None) => break,
                    Err(_) => return Ok(self),
                }
                if self.hits.len() == limit {
                    return Ok(self);
                }
            }
            self.over = next.is_none();
            if self.over {
                return Ok(self);
            }
            self.cursor.clone_from(&next);
            page.cursor = next;
            if Instant::now() >= deadline {
                return Ok(self);
            }
        }
    }

    fn take(&mut self, pair: Pair, found: Option<Vec<Line>>) {
        self.cursor = Some(pair.0.session_id.clone());
        self.searched_to = Some(started_at(&pair.1));
        match found {
            None => self.unreadable += 1,
            Some(lines) if lines.is_empty() => {}
            Some(lines) => self.hits.push((pair, lines)),
        }
    }

    async fn shown(self, app: &App) -> Result<SearchPage, DbError> {
        let (pairs, lines): (Vec<_>, Vec<_>) = self.hits.into_iter().unzip();
        let (rows, sessions): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let names = Names::of(app, &sessions).await?;
        let hits = rows.into_iter().zip(&sessions).zip(lines).map(|((row, session), lines)| SearchHit {
            recording: show(row, session, &names),
            more: lines.len() > LINES,
            lines: lines.into_iter().take(LINES).map(ScreenLine::from).collect(),
        });
        Ok(SearchPage {
            items: hits.collect(),
            next_cursor: self.cursor.filter(|_| !self.over).into(),
            searched_to: self.searched_to.into(),
            unreadable: self.unreadable,
        })
    }
}

/// The first lines of one recording that have `q` in them, and one more to tell that there are more; none if it
/// cannot be read, or takes too long.
async fn lines(
    app: &App,
    readers: &Semaphore,
    q: &str,
    pair: Pair,
    stored: Stored,
) -> (Pair, Option<Vec<Line>>) {
    let session = pair.0.session_id.as_str();
    let read = async {
        let _turn = readers.acquire().await.map_err(|_| PlaybackError::Stopped)?;
        let searched = async {
            let transcript = app.library.transcript(session, Some(&stored)).await?;
            transcript.search(q, LINES + 1).await
        };
        timeout(FIRST, searched).await.unwrap_or(Err(PlaybackError::Stopped))
    };
    let found =
        read.await.inspect_err(|error| tracing::warn!(session, %error, "a recording is not searched"));
    let found = found.ok();
    (pair, found)
}
