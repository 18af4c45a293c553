//! Inside one recording: its transcript, what is in it, and its commands.

use std::sync::Arc;

use ::recordings::{PlaybackError, Transcript, playback::Bits};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use poem::{Request, web::Data};
use poem_openapi::{
    Object, OpenApi,
    param::{Path, Query},
    payload::Json,
};

use super::{
    Found,
    files::{File, Source, TranscriptFile, takes},
    note, read, read_stored,
    refusal::Refusal,
    viewings::{Look, Viewings},
};
use crate::{
    api::{Chapter, callers::User, error::ApiError, nullable::Nullable},
    app::App,
};

/// Lines that are found in one recording unless asked otherwise.
const LINES: u32 = 200;
/// The longest that may be searched for, in characters.
const QUERY: usize = 200;

/// A line that was on the screen.
#[derive(Debug, Object)]
pub struct ScreenLine {
    /// Seconds from the recording's start: when it was last written.
    t: f64,
    /// Its text, 8 KiB at most.
    line: String,
}

impl From<::recordings::ScreenLine> for ScreenLine {
    fn from(line: ::recordings::ScreenLine) -> Self {
        Self { t: line.t, line: line.line }
    }
}

/// A command that the shell marked (OSC 133).
#[derive(Debug, Object)]
pub struct Command {
    /// Seconds from the recording's start: when it was given.
    t: f64,
    /// What was typed, if the shell told.
    text: Nullable<String>,
    /// Its exit status, if the shell told.
    exit: Nullable<u8>,
}

/// The commands of a recording, in order.
#[derive(Debug, Object)]
pub struct CommandList {
    /// All of them, 10,000 at most.
    items: Vec<Command>,
}

/// Recordings read.
pub struct Findings {
    /// Of this and of what else shows recordings.
    pub viewings: Viewings,
}

#[OpenApi(tag = "Chapter::Recordings")]
impl Findings {
    /// Read a recording, or search it
    ///
    /// What was on the screen, line by line: for `Accept: application/json` with times, in seconds from the start; else
    /// as text. With `q` (1 to 200 characters) only the lines that have it in them, whatever the case: the first
    /// `limit` (1 to 1000, by default 200). What programs draw on the alternate screen is not in it. Recordings that
    /// are not stored yet are read from the spool, as far as they go. Reading and searching are audited, never what
    /// was searched for; `download` (any value) is audited as that, and is a file of text.
    #[oai(path = "/recordings/:id/transcript", method = "get")]
    async fn transcript(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        request: &Request,
        id: Path<String>,
        q: Query<Option<String>>,
        limit: Query<Option<u32>>,
        download: Query<Option<String>>,
    ) -> Result<TranscriptFile, Refusal> {
        let most = limit.0.unwrap_or(LINES);
        if !(1..=1000).contains(&most) {
            return Err(ApiError::invalid_field("limit", "must be 1 to 1000").into());
        }
        let q = q.0.as_deref().map(query).transpose()?;
        let (id, library) = (id.0.as_str(), &app.library);
        let transcript =
            read(app, &caller, id, |stored| async move { library.transcript(id, stored.as_ref()).await });
        let (found, transcript) = transcript.await?;
        let download = download.0.is_some();
        let json = !download && takes(request.headers(), "application/json");
        if q.is_some() && !download {
            note(app, &caller, "recording.search", id, "transcript").await?;
        } else {
            self.viewings
                .look(app, &caller, id, "transcript", Look::download(download, Look::Begins))
                .await?;
        }
        let source = match q {
            None => all(transcript, json),
            Some(q) => some(&found, &transcript, q, most as usize, json).await?,
        };
        let kind = if json { "application/json" } else { "text/plain; charset=utf-8" };
        let mut file = File::new(kind, source).negotiated();
        if download {
            file = file.attached(id, "txt");
        }
        let answer = file.answer(request.headers()).await;
        answer.map(TranscriptFile).map_err(|error| Refusal::to_read(&found, &error))
    }

    /// List a recording's commands
    ///
    /// Those that the shell marked as OSC 133 says; none if it marks none. 409 `not_stored` until it is stored.
    /// Viewing is audited.
    #[oai(path = "/recordings/:id/commands", method = "get")]
    async fn commands(
        &self,
        Data(app): Data<&Arc<App>>,
        caller: User,
        id: Path<String>,
    ) -> Result<Json<CommandList>, Refusal> {
        let (id, library) = (id.0.as_str(), &app.library);
        let commands = read_stored(app, &caller, id, |stored| async move { library.commands(&stored).await });
        let (_, commands) = commands.await?;
        self.viewings.look(app, &caller, id, "commands", Look::Continues).await?;
        let items = commands.into_iter().map(|command| Command {
            t: command.t,
            text: command.text.into(),
            exit: command.exit.into(),
        });
        Ok(Json(CommandList { items: items.collect() }))
    }
}

/// What may be searched for.
pub fn query(q: &str) -> Result<&str, ApiError> {
    if q.trim().is_empty() || q.chars().count() > QUERY {
        return Err(ApiError::invalid_field("q", format!("must be 1 to {QUERY} characters, not all blank")));
    }
    Ok(q)
}

fn all(transcript: Transcript, json: bool) -> Source {
    match (transcript.kept(), json) {
        (Some(kept), true) => Source::Derived(kept.clone()),
        (Some(kept), false) => {
            let etag = format!("{}-text\"", kept.etag.trim_end_matches('"'));
            Source::Made { bits: transcript.text(), etag: Some(etag) }
        }
        (None, true) => Source::Made { bits: transcript.json(), etag: None },
        (None, false) => Source::Made { bits: transcript.text(), etag: None },
    }
}

async fn some(
    found: &Found,
    transcript: &Transcript,
    q: &str,
    most: usize,
    json: bool,
) -> Result<Source, Refusal> {
    let lines = transcript.search(q, most).await.map_err(|error| Refusal::to_read(found, &error))?;
    let bytes = if json {
        serde_json::to_vec(&lines).map_err(|error| ApiError::internal(&error))?
    } else {
        lines.into_iter().flat_map(|line| [line.line, "\n".to_owned()]).collect::<String>().into_bytes()
    };
    let bits: Bits = stream::iter([Ok::<_, PlaybackError>(Bytes::from(bytes))]).boxed();
    Ok(Source::Made { bits, etag: None })
}
