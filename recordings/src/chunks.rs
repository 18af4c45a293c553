//! A cast cut into chunks: each ends on a line, is hashed into the chain, and is a zstd frame of its own.

use std::io::{self, Read};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zstd::bulk::Compressor;
use zstd::zstd_safe::CParameter;

use crate::journal::{End, Exit, Facts, Header, JournalError};
use crate::ledger::Stored;
use crate::render::Render;
use crate::seal::Chain;

const CHUNK_BYTES: usize = 256 << 10;
/// No chunk is longer: it is cut after the record that fills it, and a record of 1 MiB makes lines of 6 MiB at most
/// (each byte a `\u001b`).
pub(crate) const MAX_CHUNK: u64 = 8 << 20;
const CHUNK_TIME: Duration = Duration::from_secs(10);
/// Level 3 takes twice the time for 1 % less, on terminal output in frames of this size.
const LEVEL: i32 = 1;

/// How a cast is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// One zstd frame a chunk; `zstd -d` gives the plain cast.
    #[default]
    Zstd,
    /// The plain cast.
    None,
}

impl Compression {
    /// The stored file's extension.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Zstd => "cast.zst",
            Self::None => "cast",
        }
    }
}

/// What lies in `<session id>.index.json`: where each chunk is, and its place in the chain.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Index {
    /// Of this format: 1.
    pub version: u8,
    /// Id of the session.
    pub session: String,
    /// How the cast is stored.
    pub compression: Compression,
    /// The chain's root.
    pub facts: Facts,
    /// In order.
    pub chunks: Vec<Chunk>,
    /// Bytes of the plain cast.
    pub plain_len: u64,
    /// Bytes of the stored object.
    pub stored_len: u64,
    /// Raw bytes the host printed, as recorded.
    pub output_bytes: u64,
    /// SHA-256 over them, hex.
    pub output_sha256: String,
    /// Raw bytes known to be lost.
    pub lost_bytes: u64,
}

/// One chunk of a cast. Times are seconds, hashes hex.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chunk {
    /// Its number, from 0.
    pub n: u64,
    /// Time of its first event.
    pub first: f64,
    /// Time of its last event.
    pub last: f64,
    /// Where it lies in the stored object.
    pub at: u64,
    /// Its bytes there.
    pub len: u64,
    /// Where it lies in the plain cast.
    pub plain_at: u64,
    /// Its bytes there.
    pub plain_len: u64,
    /// SHA-256 of its plain bytes.
    pub sha256: String,
    /// The chain's value with it.
    pub chain: String,
}

impl Chunk {
    /// Whether a recorder could have written this, so that nobody allocates by its word.
    pub(crate) fn is_plausible(&self) -> bool {
        let most = zstd::zstd_safe::compress_bound(MAX_CHUNK as usize) as u64;
        (1..=MAX_CHUNK).contains(&self.plain_len) && (1..=most).contains(&self.len)
    }
}

impl Index {
    /// What keeps this from being the index of what was stored, if anything: nobody seeks or allocates by a false one.
    pub(crate) fn fault(&self, stored: &Stored) -> Option<String> {
        let (mut at, mut plain_at) = (0_u64, 0_u64);
        let Ok(mut chain) = Chain::new(&self.facts) else { return Some("its facts are none".into()) };
        if self.version != 1 {
            return Some(format!("it has version {}, this program reads version 1", self.version));
        }
        for (n, chunk) in (0..).zip(&self.chunks) {
            if chunk.n != n || (chunk.at, chunk.plain_at) != (at, plain_at) || !chunk.is_plausible() {
                return Some(format!("chunk {n} is not where it should be"));
            }
            (at, plain_at) = (at + chunk.len, plain_at + chunk.plain_len);
            let Some(sha256) = digest(&chunk.sha256) else {
                return Some(format!("chunk {n} has no hash"));
            };
            chain.push(sha256);
        }
        let same = (self.stored_len, self.plain_len) == (at, plain_at)
            && (stored.size, stored.plain_size) == (at, plain_at)
            && (stored.chunks, stored.compression) == (self.chunks.len() as u64, self.compression)
            && stored.head == chain.head();
        (!same).then(|| "it is not that of what was stored".into())
    }
}

/// The 32 bytes that a hash in lower-case hex stands for.
pub(crate) fn digest(hex: &str) -> Option<[u8; 32]> {
    let bytes = hex::decode(hex).ok()?.try_into().ok()?;
    (hex::encode(bytes) == hex).then_some(bytes)
}

/// Why a journal could not be made into a cast.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The journal is damaged.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// It has no end: the session runs, or its tail is damaged.
    #[error("the journal has no whole end record")]
    Unfinished,
    /// The compressor failed.
    #[error("a chunk could not be compressed: {0}")]
    Compress(#[source] io::Error),
    /// The facts could not be written as JSON.
    #[error("the facts cannot be written: {0}")]
    Facts(#[from] serde_json::Error),
}

/// What is known of a cast once all of it has been packed.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) index: Index,
    pub(crate) header: Header,
    pub(crate) end: End,
    pub(crate) exit: Option<Exit>,
    pub(crate) duration: Duration,
    pub(crate) head: String,
    pub(crate) sha256: String,
    pub(crate) plain_sha256: String,
}

/// Packs a finished journal, one chunk at a time; memory is bounded by a chunk and a record.
pub(crate) struct Packer<R> {
    render: Render<R>,
    compressor: Option<Compressor<'static>>,
    plain: Vec<u8>,
    /// Lines of the record that did not fit the chunk before.
    next: Vec<u8>,
    first: Option<Duration>,
    last: Duration,
    chain: Chain,
    chunks: Vec<Chunk>,
    at: u64,
    plain_at: u64,
    /// Of the object, where that is not the plain cast.
    stored_hash: Option<Sha256>,
    plain_hash: Sha256,
}

impl<R: Read> Packer<R> {
    pub(crate) fn open(from: R, compression: Compression) -> Result<Self, PackError> {
        let mut render = Render::open(from, true)?;
        let chain = Chain::new(&render.header.facts)?;
        let plain = render.first_line().unwrap_or_default();
        let compressor = compressor(compression).map_err(PackError::Compress)?;
        Ok(Self {
            render,
            stored_hash: compressor.is_some().then(Sha256::new),
            compressor,
            plain,
            next: Vec::new(),
            first: None,
            last: Duration::ZERO,
            chain,
            chunks: Vec::new(),
            at: 0,
            plain_at: 0,
            plain_hash: Sha256::new(),
        })
    }

    pub(crate) fn facts(&self) -> &Facts {
        &self.render.header.facts
    }

    /// The next chunk as it is stored; none after the last.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, PackError> {
        loop {
            if !self.next.is_empty() {
                let at = self.render.at();
                self.first.get_or_insert(at);
                self.last = at;
                self.plain.append(&mut self.next);
                if self.plain.len() >= CHUNK_BYTES {
                    return self.cut().map(Some);
                }
            }
            if !self.render.pull(&mut self.next)? {
                return if self.plain.is_empty() { Ok(None) } else { self.cut().map(Some) };
            }
            let late = self.first.is_some_and(|first| self.render.at().saturating_sub(first) >= CHUNK_TIME);
            if late && !self.next.is_empty() {
                return self.cut().map(Some);
            }
        }
    }

    /// What the whole came to, after the last chunk.
    pub(crate) fn finish(self) -> Result<Packed, PackError> {
        let render = self.render;
        let end = render.end.clone().ok_or(PackError::Unfinished)?;
        let compression = if self.compressor.is_some() { Compression::Zstd } else { Compression::None };
        let duration = render.at();
        let index = Index {
            version: 1,
            session: render.header.facts.session.clone(),
            compression,
            facts: render.header.facts.clone(),
            chunks: self.chunks,
            plain_len: self.plain_at,
            stored_len: self.at,
            output_bytes: render.output_bytes,
            output_sha256: hex::encode(render.output_hash.unwrap_or_default().finalize()),
            lost_bytes: render.lost_bytes,
        };
        let plain_sha256 = hex::encode(self.plain_hash.finalize());
        let sha256 = self.stored_hash.map(|hash| hex::encode(hash.finalize()));
        Ok(Packed {
            index,
            header: render.header,
            end,
            exit: render.exit,
            duration,
            head: self.chain.head(),
            sha256: sha256.unwrap_or_else(|| plain_sha256.clone()),
            plain_sha256,
        })
    }

    fn cut(&mut self) -> Result<Bytes, PackError> {
        let plain = std::mem::take(&mut self.plain);
        let sha256: [u8; 32] = Sha256::digest(&plain).into();
        self.chain.push(sha256);
        self.plain_hash.update(&plain);
        let plain_len = plain.len() as u64;
        let stored = match &mut self.compressor {
            Some(compressor) => compressor.compress(&plain).map_err(PackError::Compress)?,
            None => plain,
        };
        if let Some(hash) = &mut self.stored_hash {
            hash.update(&stored);
        }
        self.chunks.push(Chunk {
            n: self.chunks.len() as u64,
            first: seconds(self.first.take().unwrap_or_default()),
            last: seconds(self.last),
            at: self.at,
            len: stored.len() as u64,
            plain_at: self.plain_at,
            plain_len,
            sha256: hex::encode(sha256),
            chain: self.chain.head(),
        });
        self.at += stored.len() as u64;
        self.plain_at += plain_len;
        Ok(stored.into())
    }
}

/// Seconds as the nearest number to a whole count of µs.
pub(crate) fn seconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e6
}

fn compressor(compression: Compression) -> io::Result<Option<Compressor<'static>>> {
    if compression == Compression::None {
        return Ok(None);
    }
    let mut compressor = Compressor::new(LEVEL)?;
    compressor.set_parameter(CParameter::ChecksumFlag(true))?;
    Ok(Some(compressor))
}

#[cfg(test)]
mod tests;
