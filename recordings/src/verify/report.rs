//! A verdict as it is told to programs.

use serde::Serialize;

use super::{Standing, Verdict};
use crate::seal::Claims;

/// A verdict as it is told to programs; whoever asks, and whatever asked for it, it is this.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// `whole`, `altered`, `incomplete` or `unknown_key`.
    pub verdict: &'static str,
    /// What `castellan verify` exits with.
    pub exit: u8,
    /// `stored` or `plain`.
    pub form: &'static str,
    /// Id of the session; unproven unless `seal` is there.
    pub session: Option<String>,
    /// How many chunks there should be; unproven unless `seal` is there.
    pub chunks: Option<u64>,
    /// Chunks, from the first, that are what index and seal say.
    pub matched: u64,
    /// The first chunk (from 0) that is altered, in the cast or in the index.
    pub first_bad_chunk: Option<u64>,
    /// Whether all of the cast is as sealed, even if the index is missing or altered.
    pub proven: bool,
    /// Whether it was sealed after a crash, as it stood; none without a seal.
    pub recovered: Option<bool>,
    /// What is wrong, the gravest first.
    pub findings: Vec<Told>,
    /// The key that signed the seal.
    pub kid: Option<String>,
    /// The seal's claims; none unless its signature holds.
    pub seal: Option<Claims>,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Told {
    /// Its name.
    pub code: &'static str,
    /// The sentence that says it.
    pub message: String,
    /// The chunk (from 0) it is about, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chunk: Option<u64>,
}

impl Verdict {
    /// What programs are told.
    pub fn report(&self) -> Report {
        let findings = self.findings.iter().map(|finding| Told {
            code: finding.code(),
            message: finding.to_string(),
            chunk: finding.chunk(),
        });
        let seal = self.seal.as_ref();
        Report {
            verdict: self.standing().name(),
            exit: self.standing().exit(),
            form: self.form.name(),
            session: self.facts.as_ref().map(|facts| facts.session.clone()),
            chunks: self.chunks,
            matched: self.matched,
            first_bad_chunk: self.first_bad(),
            proven: self.proven,
            recovered: seal.map(|seal| seal.claims.recovered),
            findings: findings.collect(),
            kid: seal.map(|seal| seal.kid.clone()),
            seal: seal.map(|seal| seal.claims.clone()),
        }
    }
}

impl Standing {
    /// What `castellan verify` exits with.
    pub fn exit(self) -> u8 {
        match self {
            Self::Whole => 0,
            Self::Altered => 1,
            Self::Incomplete => 2,
            Self::UnknownKey => 3,
        }
    }
}
