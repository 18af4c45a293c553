//! What verifying can find, how grave it is, and the sentence that says it.

use std::fmt;

use crate::chunks::Index;

/// How a recording stands, the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Authentic and whole.
    Whole,
    /// Authentic as far as it goes, but something is missing.
    Incomplete,
    /// The seal's key is not known: nothing is proven.
    UnknownKey,
    /// Something is not what was sealed.
    Altered,
}

impl Standing {
    /// `whole`, `incomplete`, `unknown_key` or `altered`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Incomplete => "incomplete",
            Self::UnknownKey => "unknown_key",
            Self::Altered => "altered",
        }
    }
}

/// Where a chunk lies, as the index says. Times are seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Span {
    /// Its first byte in the plain cast.
    pub plain_at: u64,
    /// Its bytes there.
    pub plain_len: u64,
    /// Time of its first event.
    pub first: f64,
    /// Time of its last event.
    pub last: f64,
}

impl Span {
    pub(super) fn of(index: &Index, n: u64) -> Option<Self> {
        let chunk = index.chunks.get(usize::try_from(n).ok()?)?;
        let (plain_at, plain_len) = (chunk.plain_at, chunk.plain_len);
        Some(Self { plain_at, plain_len, first: chunk.first, last: chunk.last })
    }
}

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq)]
pub enum Finding {
    /// A chunk of the cast is not the one that was recorded there.
    Chunk {
        /// Which, from 0.
        chunk: u64,
        /// Where, if there is an index to say.
        span: Option<Span>,
    },
    /// After the last chunk there is more.
    Surplus {
        /// How many chunks there should be.
        chunks: u64,
    },
    /// The cast is not the sealed one, and nothing says where it differs.
    Unsealed,
    /// The index cannot be read.
    Index {
        /// Why.
        reason: String,
    },
    /// The index's entry of a chunk is wrong: it fits neither its neighbours nor the chunk.
    IndexEntry {
        /// Which, from 0.
        chunk: u64,
    },
    /// Index and seal do not say the same.
    Disagree {
        /// In which of the seal's claims.
        fields: Vec<&'static str>,
    },
    /// It is the recording of another session than it is said to be.
    OtherSession {
        /// What it is said to be.
        named: String,
        /// What it is.
        found: String,
    },
    /// The seal is none, or its signature does not hold.
    Seal {
        /// Why.
        reason: String,
    },
    /// The seal's key is not known.
    UnknownKey {
        /// Which.
        kid: String,
    },
    /// There is no cast in the file.
    Empty,
    /// The cast ends before, or inside of, a chunk.
    Cut {
        /// The first chunk that is not all there.
        chunk: u64,
        /// Of how many, if anything says so.
        of: Option<u64>,
    },
    /// There is no index to say where, but the cast is shorter than the sealed one.
    Shorter {
        /// Bytes of the plain cast.
        have: u64,
        /// Bytes it should have.
        sealed: u64,
    },
    /// There is no index.
    NoIndex,
    /// There is no seal.
    NoSeal,
}

impl Finding {
    /// How grave it is.
    pub fn standing(&self) -> Standing {
        match self {
            Self::Chunk { .. }
            | Self::Surplus { .. }
            | Self::Unsealed
            | Self::Index { .. }
            | Self::IndexEntry { .. }
            | Self::Disagree { .. }
            | Self::OtherSession { .. }
            | Self::Seal { .. } => Standing::Altered,
            Self::UnknownKey { .. } => Standing::UnknownKey,
            Self::Empty | Self::Cut { .. } | Self::Shorter { .. } | Self::NoIndex | Self::NoSeal => {
                Standing::Incomplete
            }
        }
    }

    /// Its name, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Chunk { .. } => "chunk",
            Self::Surplus { .. } => "surplus",
            Self::Unsealed => "unsealed",
            Self::Index { .. } => "index",
            Self::IndexEntry { .. } => "index_entry",
            Self::Disagree { .. } => "disagree",
            Self::OtherSession { .. } => "other_session",
            Self::Seal { .. } => "seal",
            Self::UnknownKey { .. } => "unknown_key",
            Self::Empty => "empty",
            Self::Cut { .. } => "cut",
            Self::Shorter { .. } => "shorter",
            Self::NoIndex => "no_index",
            Self::NoSeal => "no_seal",
        }
    }

    /// The chunk it is about, if it is about one.
    pub fn chunk(&self) -> Option<u64> {
        match self {
            Self::Chunk { chunk, .. } | Self::IndexEntry { chunk } | Self::Cut { chunk, .. } => Some(*chunk),
            Self::Surplus { chunks } => Some(*chunks),
            Self::Unsealed
            | Self::Index { .. }
            | Self::Disagree { .. }
            | Self::OtherSession { .. }
            | Self::Seal { .. }
            | Self::UnknownKey { .. }
            | Self::Empty
            | Self::Shorter { .. }
            | Self::NoIndex
            | Self::NoSeal => None,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunk { chunk, span: Some(span) } => {
                let Span { plain_at, plain_len, first, last } = span;
                let end = plain_at.saturating_add(*plain_len);
                write!(
                    f,
                    "chunk {chunk} (bytes {plain_at} to {end} of the plain cast, {first} s to {last} s) "
                )?;
                f.write_str("is not what was recorded")
            }
            Self::Chunk { chunk, span: None } => write!(f, "chunk {chunk} is not what was recorded"),
            Self::Surplus { chunks } => {
                write!(f, "there is more than was recorded after the last of {chunks} chunks")
            }
            Self::Unsealed => f.write_str("the cast is not the one that was sealed"),
            Self::Index { reason } => {
                write!(f, "the index is not one that was written with a recording: {reason}")
            }
            Self::IndexEntry { chunk } => {
                write!(f, "the index's entry of chunk {chunk} is not what was written")
            }
            Self::Disagree { fields } => {
                write!(f, "index and seal disagree about {}", fields.join(", "))
            }
            Self::OtherSession { named, found } => {
                write!(f, "it is named {named} and is the recording of session {found}")
            }
            Self::Seal { reason } => write!(f, "the seal does not hold: {reason}"),
            Self::UnknownKey { kid } => write!(f, "the seal's key {kid} is not among the keys given"),
            Self::Empty => f.write_str("the file is empty"),
            Self::Cut { chunk, of: Some(of) } => {
                write!(f, "it is cut short: chunk {chunk} of {of} (from 0) is not all there")
            }
            Self::Cut { chunk, of: None } => write!(f, "it is cut short: chunk {chunk} is not all there"),
            Self::Shorter { have, sealed } => {
                write!(f, "it is cut short: of the {sealed} bytes of the plain cast {have} are there")
            }
            Self::NoIndex => f.write_str("there is no index to say where its chunks begin"),
            Self::NoSeal => f.write_str("there is no seal: nothing proves who made it"),
        }
    }
}
