//! Whether a recording is what was sealed: cast, index and seal against each other, in bounded memory, no store asked.
//!
//! Only the seal is believed, and only once its signature holds. The index is a map that anybody may have drawn: it
//! says where the chunks are, and whatever it says is held against the cast and the seal. All hashes are over the
//! plain cast, so stored and exported form prove the same. What a cast cannot prove is the SHA-256 over the raw
//! output: a cast is decoded text; index and seal must name the same one.

use std::io::{self, BufReader, Read};

use serde_json::Value;

use crate::chunks::{Index, digest};
use crate::journal::Facts;
use crate::seal::{Chain, Claims};

mod findings;
mod kept;
mod report;
mod walk;

pub use findings::{Finding, Span, Standing};
pub use report::{Report, Told};
use walk::{Stop, Walk};

/// The longest index that is looked at, in bytes: a chunk every 10 s for about three weeks.
pub const INDEX_MAX: u64 = 64 << 20;
/// The longest seal that is looked at, in bytes.
pub const SEAL_MAX: u64 = 64 << 10;

/// How the cast at hand lies in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As it is stored with compression: independent zstd frames, one a chunk.
    Stored,
    /// The plain cast.
    Plain,
}

impl Form {
    /// The form of a file by its name, or by its first bytes where the name does not say.
    pub fn of(name: &str, first: &[u8]) -> Self {
        let packed = name.ends_with(".zst") || first.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]);
        if packed { Self::Stored } else { Self::Plain }
    }

    /// `stored` or `plain`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Plain => "plain",
        }
    }
}

/// Knows the keys that seals are signed with.
pub trait SealKeys {
    /// Checks a compact JWS, EdDSA, `typ` `castellan-seal+jwt`, by the recording key that it names.
    ///
    /// # Errors
    /// [`SealFault`] when the key is not known, or anything is wrong.
    fn open(&self, seal: &str) -> Result<Opened, SealFault>;
}

/// What a seal says, once its signature holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    /// The key that signed it.
    pub kid: String,
    /// Its claims.
    pub claims: Value,
}

/// Why a seal is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SealFault {
    /// It names a recording key that is not known.
    UnknownKey(String),
    /// It is not one, or its signature does not hold; the reason.
    Refused(String),
}

/// What came with a cast. An empty file is a missing one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// `<session id>.index.json`.
    pub index: Option<&'a [u8]>,
    /// `<session id>.seal`.
    pub seal: Option<&'a [u8]>,
    /// The session whose recording this is said to be, if anything says so.
    pub session: Option<&'a str>,
}

/// A seal whose signature holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Seal {
    /// The key that signed it.
    pub kid: String,
    /// What it says.
    pub claims: Claims,
}

/// What was found out about a recording.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// How the cast lay in its file.
    pub form: Form,
    /// Everything that is wrong, the gravest first; nothing: it is authentic and whole.
    pub findings: Vec<Finding>,
    /// The seal, if its signature holds.
    pub seal: Option<Seal>,
    /// What the recording is about: by the seal, else, unproven, by the index.
    pub facts: Option<Facts>,
    /// Chunks there should be: by the seal, else, unproven, by the index.
    pub chunks: Option<u64>,
    /// Chunks, from the first, that are what the index says; without one, what the seal says of them all.
    pub matched: u64,
    /// Whether every byte of the cast is as sealed, whatever the index says.
    pub proven: bool,
}

impl Verdict {
    /// The gravest finding's.
    pub fn standing(&self) -> Standing {
        self.findings.iter().map(Finding::standing).max().unwrap_or(Standing::Whole)
    }

    /// The first chunk that is not what it was, in itself or in the index.
    pub fn first_bad(&self) -> Option<u64> {
        let altered = self.findings.iter().filter(|finding| finding.standing() == Standing::Altered);
        altered.filter_map(Finding::chunk).min()
    }
}

/// Verifies a cast by what came with it; reads as much of it as can be judged, a chunk at a time.
///
/// # Errors
/// When `cast` cannot be read; whatever it holds is a finding, never an error.
pub fn verify(cast: impl Read, form: Form, beside: &Beside<'_>, keys: &dyn SealKeys) -> io::Result<Verdict> {
    let (seal, no_seal) = split(open_seal(beside.seal, keys));
    let (index, no_index) = split(read_index(beside.index));
    let claims = seal.as_ref().map(|seal| &seal.claims);
    let facts = claims.map(|claims| &claims.facts).or(index.as_ref().map(|index| &index.facts));
    let mut verdict = Verdict {
        form,
        findings: no_seal.into_iter().chain(no_index).collect(),
        seal: None,
        facts: facts.cloned(),
        chunks: claims.map(|claims| claims.chunks).or(index.as_ref().map(|index| index.chunks.len() as u64)),
        matched: 0,
        proven: false,
    };
    verdict.check_session(beside.session);
    let cast = BufReader::with_capacity(1 << 16, cast);
    match &index {
        Some(index) => verdict.check_by_index(index, claims, cast)?,
        None => verdict.check_alone(claims, cast)?,
    }
    verdict.seal = seal;
    if verdict.findings.is_empty() && !verdict.proven {
        // Not reached while the checks are what they are; should one be lost, nothing passes for that.
        verdict.findings.push(Finding::Unsealed);
    }
    verdict.findings.sort_by_key(|finding| std::cmp::Reverse(finding.standing()));
    Ok(verdict)
}

impl Verdict {
    fn check_session(&mut self, named: Option<&str>) {
        let found = self.facts.as_ref().map(|facts| facts.session.as_str());
        if let (Some(named), Some(found)) = (named, found)
            && named != found
        {
            let finding = Finding::OtherSession { named: named.to_owned(), found: found.to_owned() };
            self.findings.push(finding);
        }
    }

    /// Walks the cast as the index cuts it.
    fn check_by_index(
        &mut self,
        index: &Index,
        claims: Option<&Claims>,
        cast: impl io::BufRead,
    ) -> io::Result<()> {
        let fields = claims.map(|claims| disagreements(index, claims)).unwrap_or_default();
        let root = claims.map_or(&index.facts, |claims| &claims.facts);
        let broken = match broken_link(index, root) {
            // Of two sessions' index and seal, the fields say all there is to say.
            Some(0) if fields.contains(&"facts") => broken_link(index, &index.facts),
            broken => broken,
        };
        let walk = walk::by_index(cast, self.form, index, root, claims.map(|claims| claims.plain_len))?;
        self.matched = walk.matched;
        self.proven = matches!(walk.stop, Stop::End) && claims.is_some_and(|claims| is_sealed(&walk, claims));
        if !fields.is_empty() {
            self.findings.push(Finding::Disagree { fields });
        }
        let entry = |n: u64| Finding::IndexEntry { chunk: n };
        let chunk = |n: u64| Finding::Chunk { chunk: n, span: Span::of(index, n) };
        let of_cast = match (walk.differs, walk.stop) {
            (Some(n), _) if self.proven => Some(entry(n)),
            (Some(n), _) => Some(chunk(n)),
            (None, Stop::End) => None,
            (None, Stop::Empty) => Some(Finding::Empty),
            (None, Stop::Surplus) => Some(Finding::Surplus { chunks: walk.chunks }),
            (None, Stop::Cut(n)) => Some(Finding::Cut { chunk: n, of: self.chunks }),
            (None, Stop::Broken(n)) => Some(chunk(n)),
            (None, Stop::Entry(n)) => Some(entry(n)),
            (None, Stop::Totals) => Some(Finding::Index { reason: "its totals are not its chunks'".into() }),
        };
        for finding in of_cast.into_iter().chain([broken, walk.mistimed].into_iter().flatten().map(entry)) {
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
        Ok(())
    }

    /// Without an index only the stored form still shows its chunks: each is a frame.
    fn check_alone(&mut self, claims: Option<&Claims>, cast: impl io::BufRead) -> io::Result<()> {
        let root = claims.map(|claims| &claims.facts);
        let walk = match (self.form, claims) {
            (Form::Stored, _) => walk::by_frames(cast, root, claims.map(|claims| claims.plain_len))?,
            (Form::Plain, claims) => walk::uncut(cast, claims.map_or(0, |claims| claims.plain_len))?,
        };
        let sealed = claims.filter(|_| walk.stop == Stop::End);
        self.proven = sealed.is_some_and(|claims| is_sealed(&walk, claims));
        self.matched = if self.proven { walk.chunks } else { 0 };
        let finding = match walk.stop {
            Stop::Empty => Some(Finding::Empty),
            Stop::Surplus => claims.map(|_| Finding::Unsealed),
            Stop::Cut(n) => Some(Finding::Cut { chunk: n, of: self.chunks }),
            Stop::Broken(n) | Stop::Entry(n) => Some(Finding::Chunk { chunk: n, span: None }),
            Stop::End | Stop::Totals => sealed.and_then(|claims| match claims.plain_len {
                sealed if walk.plain < sealed => Some(Finding::Shorter { have: walk.plain, sealed }),
                _ => (self.form == Form::Stored && !self.proven).then_some(Finding::Unsealed),
            }),
        };
        self.findings.extend(finding);
        Ok(())
    }
}

fn split<T>(result: Result<T, Finding>) -> (Option<T>, Option<Finding>) {
    match result {
        Ok(it) => (Some(it), None),
        Err(finding) => (None, Some(finding)),
    }
}

fn open_seal(file: Option<&[u8]>, keys: &dyn SealKeys) -> Result<Seal, Finding> {
    let file = file.map(<[u8]>::trim_ascii).filter(|file| !file.is_empty()).ok_or(Finding::NoSeal)?;
    let refused = |reason: String| Finding::Seal { reason };
    if file.len() as u64 > SEAL_MAX {
        return Err(refused(format!("it is longer than {SEAL_MAX} bytes")));
    }
    let text = std::str::from_utf8(file).map_err(|_| refused("it is no text".into()))?;
    let Opened { kid, claims } = keys.open(text).map_err(|fault| match fault {
        SealFault::UnknownKey(kid) => Finding::UnknownKey { kid },
        SealFault::Refused(reason) => refused(reason),
    })?;
    let claims: Claims = serde_json::from_value(claims).map_err(|e| refused(format!("its claims: {e}")))?;
    if claims.sub != claims.facts.session {
        return Err(refused("it names two sessions".into()));
    }
    Ok(Seal { kid, claims })
}

fn read_index(file: Option<&[u8]>) -> Result<Index, Finding> {
    let file = file.filter(|file| !file.is_empty()).ok_or(Finding::NoIndex)?;
    let unreadable = |reason: String| Finding::Index { reason };
    if file.len() as u64 > INDEX_MAX {
        return Err(unreadable(format!("it is longer than {INDEX_MAX} bytes")));
    }
    let index: Index = serde_json::from_slice(file).map_err(|e| unreadable(e.to_string()))?;
    if index.version != 1 {
        return Err(unreadable(format!("it has version {}, this program reads version 1", index.version)));
    }
    if index.session != index.facts.session {
        return Err(unreadable("it names two sessions".into()));
    }
    Ok(index)
}

/// What index and seal both say, and not the same.
fn disagreements(index: &Index, claims: &Claims) -> Vec<&'static str> {
    let head = index.chunks.last().map(|chunk| chunk.chain.as_str());
    let fields = [
        ("facts", index.facts == claims.facts),
        ("chunks", index.chunks.len() as u64 == claims.chunks),
        ("plain_len", index.plain_len == claims.plain_len),
        ("head", head == Some(claims.head.as_str())),
        ("output_bytes", index.output_bytes == claims.output_bytes),
        ("output_sha256", index.output_sha256 == claims.output_sha256),
        ("lost_bytes", index.lost_bytes == claims.lost_bytes),
    ];
    fields.into_iter().filter(|(_, same)| !same).map(|(name, _)| name).collect()
}

/// The first entry of the index that does not continue the index's own chain from `root`.
fn broken_link(index: &Index, root: &Facts) -> Option<u64> {
    let mut chain = Chain::new(root).ok()?;
    let broken = index.chunks.iter().position(|chunk| {
        let Some(sha256) = digest(&chunk.sha256) else { return true };
        chain.push(sha256);
        chain.head() != chunk.chain
    });
    broken.map(|n| n as u64)
}

fn is_sealed(walk: &Walk, claims: &Claims) -> bool {
    let chain = walk.chain.as_ref().map(Chain::head);
    chain.as_ref() == Some(&claims.head) && walk.chunks == claims.chunks && walk.plain == claims.plain_len
}
