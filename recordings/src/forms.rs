//! What is derived from a stored cast, kept beside it: made in one pass, checked when read, made anew when it is not whole.
//!
//! `<session id>.segments/` holds the player's index and segments, `<session id>.transcript.json.zst` the transcript,
//! `<session id>.forms.json.zst` what all of them should be; it is put last, and what it does not name does not count.
//! Whoever makes them makes the same bytes, so that two may do it at once.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::buffered::BufWriter;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::io::AsyncWriteExt;
use tokio::sync::Semaphore;

use crate::commands::Command;
use crate::derived::{Body, Derived};
use crate::ledger::Stored;
use crate::pass::{Finished, Made, Pass};
use crate::playback::{Cast, PlaybackError, blocking};
use crate::segments::{Begin, SEGMENT_BYTES};
use crate::store::{Keys, Store};

/// Plain casts from this size on (4 MiB) get segments without being asked.
pub(crate) const SEGMENTED: u64 = 4 << 20;
/// Of the derived objects; others are made anew.
const VERSION: u8 = 1;
/// Objects up to this size are compared with what they should be before any of it is used.
const WHOLE: u64 = 8 << 20;
/// Bytes of the transcript packed together.
const FRAME: usize = 256 << 10;
const LEVEL: i32 = 3;
/// Bytes sent to the store at a time.
const PART: usize = 8 << 20;

/// What was made, and from what.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Manifest {
    version: u8,
    /// SHA-256 of the plain cast.
    source: String,
    pub(crate) transcript: Object,
    /// None if there are no segments.
    pub(crate) index: Option<Object>,
    pub(crate) segments: Vec<Part>,
    pub(crate) commands: Vec<Command>,
}

/// What an object should be. SHA-256 in hex, of the bytes as they lie.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Object {
    len: u64,
    plain_len: u64,
    sha256: String,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Part {
    #[serde(flatten)]
    pub(crate) begin: Begin,
    #[serde(flatten)]
    object: Object,
}

/// Which of the derived objects.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Which {
    Transcript,
    Index,
    Segment(usize),
}

/// Makes and reads what is derived; clones share their turns.
#[derive(Clone)]
pub(crate) struct Forms {
    objects: Arc<dyn ObjectStore>,
    /// One pass at a time: it keeps a processor busy. Whoever else wants one waits, and mostly finds it done then.
    turns: Arc<Semaphore>,
}

impl Forms {
    pub(crate) fn new(store: &Store) -> Self {
        Self { objects: Arc::clone(&store.objects), turns: Arc::new(Semaphore::new(1)) }
    }

    /// Makes what a recording of its size should have, unless it is there.
    pub(crate) async fn make(&self, stored: &Stored) -> Result<(), PlaybackError> {
        self.manifest(stored, stored.plain_size >= SEGMENTED).await.map(|_| ())
    }

    /// What there is, made if it is not there.
    pub(crate) async fn manifest(&self, stored: &Stored, segmented: bool) -> Result<Manifest, PlaybackError> {
        let keys = Keys::beside(&stored.key)?;
        if let Some(manifest) = self.found(&keys, stored, segmented).await? {
            return Ok(manifest);
        }
        let _turn = self.turns.acquire().await.map_err(|_| PlaybackError::Stopped)?;
        match self.found(&keys, stored, segmented).await? {
            Some(manifest) => Ok(manifest),
            None => self.build(&keys, stored, segmented).await,
        }
    }

    /// One of the objects as it should be, made anew if it is not there or not that.
    pub(crate) async fn open(&self, stored: &Stored, which: Which) -> Result<Derived, PlaybackError> {
        let keys = Keys::beside(&stored.key)?;
        let segmented = which != Which::Transcript;
        let manifest = self.manifest(stored, segmented).await?;
        if let Some(found) = self.look(&keys, &manifest, which).await? {
            return Ok(found);
        }
        let _turn = self.turns.acquire().await.map_err(|_| PlaybackError::Stopped)?;
        // Another may have had the turn before.
        if let Some(manifest) = self.found(&keys, stored, segmented).await?
            && let Some(found) = self.look(&keys, &manifest, which).await?
        {
            return Ok(found);
        }
        let manifest = self.build(&keys, stored, segmented).await?;
        self.look(&keys, &manifest, which).await?.ok_or(PlaybackError::Missing)
    }

    /// Removes all that was derived; what is not there is no error.
    pub(crate) async fn remove(&self, stored: &Stored) -> Result<(), PlaybackError> {
        let keys = Keys::beside(&stored.key)?;
        let segments = self.objects.list(Some(&keys.segments()?));
        let locations = segments.map_ok(|found| found.location).boxed();
        let deleted = self.objects.delete_stream(locations);
        deleted.filter_map(async |one| one.err().filter(is_trouble)).map(Err).try_collect::<()>().await?;
        for key in [keys.transcript()?, keys.forms()?] {
            if let Err(error) = self.objects.delete(&key).await
                && is_trouble(&error)
            {
                return Err(error.into());
            }
        }
        Ok(())
    }

    async fn found(
        &self,
        keys: &Keys,
        stored: &Stored,
        segmented: bool,
    ) -> Result<Option<Manifest>, PlaybackError> {
        let Some(bytes) = self.get(&keys.forms()?).await? else {
            return Ok(None);
        };
        // Whatever is wrong with it: it is made anew.
        let manifest: Option<Manifest> = blocking(move || {
            Ok(zstd::decode_all(&bytes[..]).ok().and_then(|json| serde_json::from_slice(&json).ok()))
        })
        .await?;
        Ok(manifest.filter(|manifest| {
            let whole = manifest.index.is_some() || !segmented;
            manifest.version == VERSION && manifest.source == stored.plain_sha256 && whole
        }))
    }

    async fn look(
        &self,
        keys: &Keys,
        manifest: &Manifest,
        which: Which,
    ) -> Result<Option<Derived>, PlaybackError> {
        let (key, object) = match which {
            Which::Transcript => (keys.transcript()?, Some(&manifest.transcript)),
            Which::Index => (keys.segments_index()?, manifest.index.as_ref()),
            Which::Segment(n) => (keys.segment(n)?, manifest.segments.get(n).map(|part| &part.object)),
        };
        let object = object.ok_or(PlaybackError::Missing)?;
        let body = if object.len <= WHOLE {
            let bytes =
                self.get(&key).await?.filter(|bytes| hex::encode(Sha256::digest(bytes)) == object.sha256);
            bytes.map(Body::Whole)
        } else {
            let (objects, forms) = (Arc::clone(&self.objects), keys.forms()?);
            match objects.head(&key).await {
                Ok(meta) => (meta.size == object.len).then_some(Body::Object { objects, key, forms }),
                Err(error) if !is_trouble(&error) => None,
                Err(error) => return Err(error.into()),
            }
        };
        let etag = format!("\"{}\"", object.sha256);
        Ok(body.map(|body| Derived { plain_len: object.plain_len, stored_len: object.len, etag, body }))
    }

    async fn get(&self, key: &Path) -> Result<Option<Bytes>, PlaybackError> {
        match self.objects.get(key).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(error) if !is_trouble(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn build(&self, keys: &Keys, stored: &Stored, segmented: bool) -> Result<Manifest, PlaybackError> {
        let segmented = segmented || stored.plain_size >= SEGMENTED;
        let cast = Cast::stored(&self.objects, stored).await?;
        let writer = BufWriter::with_capacity(Arc::clone(&self.objects), keys.transcript()?, PART);
        let making = Making { forms: self, keys, writer, transcript: Sum::default(), parts: Vec::new() };
        making.run(&cast, stored, segmented).await
    }
}

/// Whether an error is one, and not that there is nothing.
fn is_trouble(error: &object_store::Error) -> bool {
    !matches!(error, object_store::Error::NotFound { .. })
}

/// A pass and what it needs besides, handed to and fro between threads.
struct Work {
    pass: Option<Pass>,
    made: Made,
    finished: Option<Finished>,
}

/// Packed objects of one step.
#[derive(Default)]
struct Packed {
    segments: Vec<(Begin, Object, Bytes)>,
    /// Frames, and the plain bytes in them.
    transcript: (Vec<u8>, u64),
}

impl Work {
    fn step(&mut self, plain: Option<&[u8]>) -> Result<Packed, PlaybackError> {
        match (plain, &mut self.pass) {
            (Some(plain), Some(pass)) => pass.push(plain, &mut self.made)?,
            (None, pass) => {
                self.finished = pass.take().map(|pass| pass.finish(&mut self.made)).transpose()?;
            }
            (Some(_), None) => return Err(PlaybackError::Stopped),
        }
        let mut packed = Packed::default();
        for segment in self.made.segments.drain(..) {
            let (object, bytes) = pack(&segment.json)?;
            packed.segments.push((segment.begin, object, bytes));
        }
        if self.made.transcript.len() >= FRAME || plain.is_none() {
            // Frames of a fixed size: the same bytes, however the cast was cut in reading.
            let whole = self.made.transcript.len() / FRAME * FRAME;
            let end = if plain.is_none() { self.made.transcript.len() } else { whole };
            for frame in self.made.transcript[..end].chunks(FRAME) {
                packed.transcript.0.extend_from_slice(&compress(frame)?);
            }
            packed.transcript.1 = end as u64;
            self.made.transcript.drain(..end);
        }
        Ok(packed)
    }
}

#[derive(Default)]
struct Sum {
    len: u64,
    plain_len: u64,
    hash: Sha256,
}

/// One making under way.
struct Making<'a> {
    forms: &'a Forms,
    keys: &'a Keys,
    writer: BufWriter,
    transcript: Sum,
    parts: Vec<Part>,
}

impl Making<'_> {
    async fn run(mut self, cast: &Cast, stored: &Stored, segmented: bool) -> Result<Manifest, PlaybackError> {
        let pass = Pass::new(segmented.then_some(SEGMENT_BYTES));
        let mut work = Work { pass: Some(pass), made: Made::default(), finished: None };
        let mut plain = cast.read(0..u64::MAX);
        loop {
            let piece = plain.try_next().await?;
            let last = piece.is_none();
            let (next, packed) = blocking(move || {
                let packed = work.step(piece.as_deref())?;
                Ok((work, packed))
            })
            .await?;
            work = next;
            self.put(packed).await?;
            if last {
                break;
            }
        }
        self.writer.shutdown().await.map_err(PlaybackError::Derived)?;
        let finished = work.finished.ok_or(PlaybackError::Stopped)?;
        self.conclude(stored, finished).await
    }

    async fn put(&mut self, packed: Packed) -> Result<(), PlaybackError> {
        for (begin, object, bytes) in packed.segments {
            let key = self.keys.segment(self.parts.len())?;
            self.forms.objects.put(&key, PutPayload::from(bytes)).await?;
            self.parts.push(Part { begin, object });
        }
        let (frames, plain_len) = packed.transcript;
        self.transcript.hash.update(&frames);
        self.transcript.len += frames.len() as u64;
        self.transcript.plain_len += plain_len;
        self.writer.put(frames.into()).await?;
        Ok(())
    }

    async fn conclude(self, stored: &Stored, finished: Finished) -> Result<Manifest, PlaybackError> {
        let objects = &self.forms.objects;
        let mut index = None;
        if let Some(json) = finished.index {
            let (object, bytes) = pack(&json)?;
            objects.put(&self.keys.segments_index()?, PutPayload::from(bytes)).await?;
            index = Some(object);
        }
        let Sum { len, plain_len, hash } = self.transcript;
        let manifest = Manifest {
            version: VERSION,
            source: stored.plain_sha256.clone(),
            transcript: Object { len, plain_len, sha256: hex::encode(hash.finalize()) },
            index,
            segments: self.parts,
            commands: finished.commands,
        };
        let bytes = compress(&serde_json::to_vec(&manifest)?)?;
        objects.put(&self.keys.forms()?, PutPayload::from(bytes)).await?;
        Ok(manifest)
    }
}

fn pack(json: &[u8]) -> Result<(Object, Bytes), PlaybackError> {
    let bytes = compress(json)?;
    let sha256 = hex::encode(Sha256::digest(&bytes));
    Ok((Object { len: bytes.len() as u64, plain_len: json.len() as u64, sha256 }, bytes.into()))
}

fn compress(plain: &[u8]) -> Result<Vec<u8>, PlaybackError> {
    let mut compressor = zstd::bulk::Compressor::new(LEVEL).map_err(PlaybackError::Derived)?;
    let checksum = zstd::zstd_safe::CParameter::ChecksumFlag(true);
    compressor.set_parameter(checksum).map_err(PlaybackError::Derived)?;
    compressor.compress(plain).map_err(PlaybackError::Derived)
}
