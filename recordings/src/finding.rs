//! A library's derived forms: segments to play, the transcript to search, commands, windows.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use futures_util::{StreamExt, TryStreamExt};
use serde::Deserialize;

use crate::asciicast::read::{Head, Lines};
use crate::commands::Command;
use crate::derived::Derived;
use crate::forms::{SEGMENTED, Which};
use crate::ledger::Stored;
use crate::pass::{Made, Pass};
use crate::playback::{Bits, Cast, Library, PlaybackError, blocking};
use crate::transcript::{Query, ScreenLine, parse};
use crate::window::{Seed, Window};

impl Library {
    /// Whether a recording plays better in segments than as one file: from 4 MiB of plain cast on.
    pub fn wants_segments(stored: &Stored) -> bool {
        stored.plain_size >= SEGMENTED
    }

    /// The `index.json` of asciinema-player's segmented form, whose segments' URLs are `0.json`, `1.json` … beside it.
    /// Made, with everything else that is derived, if it is not there: a second for each 20 MB or so.
    ///
    /// # Errors
    /// If the cast cannot be read, or the store fails.
    pub async fn segments(&self, stored: &Stored) -> Result<Derived, PlaybackError> {
        self.forms.open(stored, Which::Index).await
    }

    /// The `N.json` of segment `n`.
    ///
    /// # Errors
    /// [`PlaybackError::Missing`] if there are not so many; else as [`Library::segments`].
    pub async fn segment(&self, stored: &Stored, n: usize) -> Result<Derived, PlaybackError> {
        self.forms.open(stored, Which::Segment(n)).await
    }

    /// What was on the screen. Kept for a stored recording; of one still in the spool made while it is read.
    ///
    /// # Errors
    /// As [`Library::cast`], or as [`Library::segments`].
    pub async fn transcript(
        &self,
        session: &str,
        stored: Option<&Stored>,
    ) -> Result<Transcript, PlaybackError> {
        Ok(Transcript(match stored {
            Some(stored) => Source::Kept(self.forms.open(stored, Which::Transcript).await?),
            None => Source::Cast(self.cast(session, None).await?),
        }))
    }

    /// The commands of a stored recording, where its shell marked them (OSC 133).
    ///
    /// # Errors
    /// As [`Library::segments`].
    pub async fn commands(&self, stored: &Stored) -> Result<Vec<Command>, PlaybackError> {
        Ok(self.forms.manifest(stored, false).await?.commands)
    }

    /// A stretch of a recording as an asciicast v2 of its own: the header has the size at `from`, the first event is
    /// the screen redrawn, times count from `from`, and all events are before `to`. Begins at the nearest segment of a
    /// recording that has them, and else reads all that is before `from`.
    ///
    /// # Errors
    /// As [`Library::cast`].
    pub async fn window(
        &self,
        session: &str,
        stored: Option<&Stored>,
        from: Duration,
        to: Option<Duration>,
    ) -> Result<Bits, PlaybackError> {
        let cast = self.cast(session, stored).await?;
        let stored = stored.filter(|stored| Self::wants_segments(stored));
        let Some((stored, seed)) = self.seed(stored, from).await? else {
            return Ok(cast.window(from, to));
        };
        tracing::trace!(key = stored.key, at = seed.at, "a window begins at a segment");
        let head = Head::parse(&first_line(&cast).await?)?;
        let plain = cast.read(seed.at..u64::MAX);
        let window = blocking(move || Ok(Window::seeded(head, &seed, from, to))).await?;
        Ok(windowed(plain, window))
    }

    /// Removes what was derived from a recording; to be called when the recording is deleted. What is not there is no
    /// error.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn forget_derived(&self, stored: &Stored) -> Result<(), PlaybackError> {
        self.forms.remove(stored).await
    }

    async fn seed<'a>(
        &self,
        stored: Option<&'a Stored>,
        from: Duration,
    ) -> Result<Option<(&'a Stored, Seed)>, PlaybackError> {
        let Some(stored) = stored else {
            return Ok(None);
        };
        let manifest = self.forms.manifest(stored, true).await?;
        let after = manifest.segments.partition_point(|part| Duration::from_micros(part.begin.start) <= from);
        // Before the first segment there is nothing to begin with.
        let Some(n @ 1..) = after.checked_sub(1) else {
            return Ok(None);
        };
        let at = manifest.segments[n].begin.at;
        let json = self.segment(stored, n).await?.bytes().await?;
        let Segment { snapshot: Snapshot { cols, rows, init } } =
            blocking(move || Ok(serde_json::from_slice(&json)?)).await?;
        Ok(Some((stored, Seed { at, size: (cols, rows), init })))
    }
}

#[derive(Deserialize)]
struct Segment {
    snapshot: Snapshot,
}

#[derive(Deserialize)]
struct Snapshot {
    cols: u16,
    rows: u16,
    init: String,
}

async fn first_line(cast: &Cast) -> Result<BytesMut, PlaybackError> {
    let mut plain = cast.read(0..u64::MAX);
    let mut lines = Lines::at(0);
    while let Some(piece) = plain.try_next().await? {
        lines.push(&piece);
        if let Some((_, line)) = lines.next() {
            return Ok(line);
        }
    }
    Err(crate::asciicast::read::CastError::Header.into())
}

impl Cast {
    /// A stretch of the cast as a cast of its own, found by reading all that is before it; see [`Library::window`].
    pub fn window(&self, from: Duration, to: Option<Duration>) -> Bits {
        windowed(self.read(0..u64::MAX), Window::new(from, to))
    }
}

fn windowed(plain: Bits, window: Window) -> Bits {
    mapped(plain, window, |window, plain, out| {
        let Some(plain) = plain else {
            window.finish(out);
            return Ok(false);
        };
        let goes_on = window.push(plain, out)?;
        Ok(goes_on)
    })
}

/// What was on the screen, line by line.
pub struct Transcript(Source);

enum Source {
    Kept(Derived),
    Cast(Cast),
}

impl Transcript {
    /// The kept object, zstd, if there is one.
    pub fn kept(&self) -> Option<&Derived> {
        match &self.0 {
            Source::Kept(derived) => Some(derived),
            Source::Cast(_) => None,
        }
    }

    /// `[{"t":s,"line":"…"},…]`, one a line.
    pub fn json(&self) -> Bits {
        match &self.0 {
            Source::Kept(derived) => derived.plain(),
            Source::Cast(cast) => {
                mapped(cast.read(0..u64::MAX), Some(Pass::new(None)), |pass, plain, out| {
                    let mut made = Made { transcript: std::mem::take(out), ..Made::default() };
                    match (plain, pass.as_mut()) {
                        (Some(plain), Some(pass)) => pass.push(plain, &mut made)?,
                        (None, Some(_)) => {
                            if let Some(pass) = pass.take() {
                                pass.finish(&mut made)?;
                            }
                        }
                        (_, None) => (),
                    }
                    *out = made.transcript;
                    Ok(plain.is_some())
                })
            }
        }
    }

    /// The lines alone.
    pub fn text(&self) -> Bits {
        mapped(self.json(), Lines::at(0), |lines, json, out| {
            each(lines, json, |line| {
                out.extend_from_slice(line.line.as_bytes());
                out.push(b'\n');
                true
            })
        })
    }

    /// The first `most` lines that have `query` in them, whatever the case; none for a blank query.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn search(&self, query: &str, most: usize) -> Result<Vec<ScreenLine>, PlaybackError> {
        let Some(query) = Query::new(query).filter(|_| most > 0) else {
            return Ok(Vec::new());
        };
        let (mut json, mut state) = (self.json(), (Lines::at(0), Vec::new()));
        loop {
            let piece = json.try_next().await?;
            let query = query.clone();
            let (next, goes_on) = blocking(move || {
                let (lines, found) = &mut state;
                let goes_on = each(lines, piece.as_deref(), |line| {
                    if query.is_in(&line.line) {
                        found.push(line);
                    }
                    found.len() < most
                })?;
                Ok((state, goes_on))
            })
            .await?;
            state = next;
            if !goes_on {
                return Ok(state.1);
            }
        }
    }
}

/// Hands on each line of the next JSON for as long as they are wanted; says whether more is.
fn each(
    lines: &mut Lines,
    json: Option<&[u8]>,
    mut wants: impl FnMut(ScreenLine) -> bool,
) -> Result<bool, PlaybackError> {
    lines.push(json.unwrap_or_default());
    while let Some((_, line)) = lines.next() {
        if let Some(line) = parse(&line)
            && !wants(line)
        {
            return Ok(false);
        }
    }
    Ok(json.is_some())
}

/// Makes other bytes of a stream's, off the async threads. `step` gets the next piece, or none at the end, and says
/// whether it wants more; once it does not, what it has written is the last.
fn mapped<S: Send + 'static>(
    bits: Bits,
    state: S,
    step: impl FnMut(&mut S, Option<&[u8]>, &mut Vec<u8>) -> Result<bool, PlaybackError> + Clone + Send + 'static,
) -> Bits {
    stream::try_unfold(Some((bits, state, step)), |place| async move {
        let Some((mut bits, mut state, mut step)) = place else {
            return Ok(None);
        };
        loop {
            let piece = bits.try_next().await?;
            let (next_state, next_step, out, goes_on) = blocking(move || {
                let mut out = Vec::new();
                let goes_on = step(&mut state, piece.as_deref(), &mut out)?;
                Ok((state, step, out, goes_on))
            })
            .await?;
            (state, step) = (next_state, next_step);
            if !goes_on {
                return Ok(Some((Bytes::from(out), None)));
            }
            if !out.is_empty() {
                return Ok(Some((Bytes::from(out), Some((bits, state, step)))));
            }
        }
    })
    .try_filter(|bytes| std::future::ready(!bytes.is_empty()))
    .boxed()
}
