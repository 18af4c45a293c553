//! What can be wrong with the audit log, its heads and the recordings it vouches for, and how grave each is.

/// How the audit log stands; the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Nothing is wrong.
    Whole,
    /// Nothing is wrong with what is there; something that would prove it is not.
    Incomplete,
    /// A key is not known: nothing is proven.
    UnknownKey,
    /// Something could not be read, and so not judged.
    NotJudged,
    /// Something was changed, added or taken away.
    Altered,
}

impl Standing {
    /// As it is told to programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Incomplete => "incomplete",
            Self::UnknownKey => "unknown_key",
            Self::NotJudged => "unreadable",
            Self::Altered => "altered",
        }
    }
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Finding {
    /// Places of the chain are empty.
    #[error("{}: taken away", span(*.first, *.last))]
    Missing {
        /// The first.
        first: i64,
        /// The last.
        last: i64,
    },
    /// A row is not what was hashed, or does not follow from the one before.
    #[error(
        "row {seq} ({id}) is not what was chained: it, or the row before it, was changed, moved or put in"
    )]
    Row {
        /// Its place.
        seq: i64,
        /// Its id.
        id: String,
    },
    /// A head is none, or its signature does not hold.
    #[error("the head {key} does not hold: {reason}")]
    Head {
        /// Whose place it claims.
        seq: i64,
        /// Where it lies.
        key: String,
        /// Why.
        reason: String,
    },
    /// A head is signed by a key that is not known.
    #[error("the head {key} is signed with {kid}, which is not among the keys")]
    UnknownKey {
        /// Its place.
        seq: i64,
        /// Where it lies.
        key: String,
        /// Which key.
        kid: String,
    },
    /// A signed head says otherwise than the chain.
    #[error("{}: rewritten; the head {key} was signed over others", span(*.after + 1, *.seq))]
    Rewritten {
        /// The head's place.
        seq: i64,
        /// Up to here an earlier head agrees.
        after: i64,
        /// Where the head lies.
        key: String,
    },
    /// The chain ends before a signed head.
    #[error("{}: taken away; the head {key} was signed over them", span(*.last + 1, *.seq))]
    Truncated {
        /// The head's place.
        seq: i64,
        /// The last row that is there.
        last: i64,
        /// Where the head lies.
        key: String,
    },
    /// A head known from elsewhere is not the chain's.
    #[error(
        "row {seq} has not the hash that was given for it: rows up to there were rewritten or taken away"
    )]
    Pinned {
        /// Its place.
        seq: i64,
    },
    /// There are rows and no head.
    #[error("no head is signed: the chain rests on the database alone")]
    Unsigned,
    /// A row that should say what was stored does not.
    #[error("row {seq} does not say what was stored of session {session}")]
    Unsaid {
        /// Its place.
        seq: i64,
        /// Whose recording.
        session: String,
    },
    /// A stored object is not there.
    #[error(
        "the recording of session {session} was taken away: {key} is not there, and row {seq} says it was stored"
    )]
    Gone {
        /// Of the row that says so.
        seq: i64,
        /// Whose recording.
        session: String,
        /// The object.
        key: String,
    },
    /// A stored object is another.
    #[error(
        "the recording of session {session} was replaced: {key} is not what row {seq} says was stored ({reason})"
    )]
    Differs {
        /// Of the row that says so.
        seq: i64,
        /// Whose recording.
        session: String,
        /// The object.
        key: String,
        /// In what.
        reason: String,
    },
    /// A recording does not verify.
    #[error("the recording of session {session} ({key}, row {seq}): {reason}")]
    Recording {
        /// Of the row that says that it was stored.
        seq: i64,
        /// Whose recording.
        session: String,
        /// The cast.
        key: String,
        /// What is wrong.
        reason: String,
        /// How grave it is.
        standing: Standing,
    },
    /// Something could not be read.
    #[error("{key} cannot be read: {reason}")]
    Unread {
        /// Of the row that names it.
        seq: i64,
        /// Whose recording, if it is one's.
        session: Option<String>,
        /// The object.
        key: String,
        /// Why.
        reason: String,
    },
}

fn span(first: i64, last: i64) -> String {
    if first == last { format!("row {first}") } else { format!("rows {first} to {last}") }
}

impl Finding {
    /// How grave it is.
    pub fn standing(&self) -> Standing {
        match self {
            Self::Missing { .. }
            | Self::Row { .. }
            | Self::Head { .. }
            | Self::Rewritten { .. }
            | Self::Truncated { .. }
            | Self::Pinned { .. }
            | Self::Unsaid { .. }
            | Self::Gone { .. }
            | Self::Differs { .. } => Standing::Altered,
            Self::Recording { standing, .. } => *standing,
            Self::UnknownKey { .. } => Standing::UnknownKey,
            Self::Unsigned => Standing::Incomplete,
            Self::Unread { .. } => Standing::NotJudged,
        }
    }

    /// Stable and machine-readable.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "missing",
            Self::Row { .. } => "row",
            Self::Head { .. } => "head",
            Self::UnknownKey { .. } => "unknown_key",
            Self::Rewritten { .. } => "rewritten",
            Self::Truncated { .. } => "truncated",
            Self::Pinned { .. } => "pinned",
            Self::Unsigned => "unsigned",
            Self::Unsaid { .. } => "unsaid",
            Self::Gone { .. } => "gone",
            Self::Differs { .. } => "differs",
            Self::Recording { .. } => "recording",
            Self::Unread { .. } => "unread",
        }
    }

    /// The first place of the chain that it is about.
    pub fn seq(&self) -> Option<i64> {
        match self {
            Self::Missing { first: seq, .. }
            | Self::Row { seq, .. }
            | Self::Head { seq, .. }
            | Self::UnknownKey { seq, .. }
            | Self::Pinned { seq }
            | Self::Unsaid { seq, .. }
            | Self::Gone { seq, .. }
            | Self::Differs { seq, .. }
            | Self::Recording { seq, .. }
            | Self::Unread { seq, .. } => Some(*seq),
            Self::Rewritten { after, .. } => Some(after + 1),
            Self::Truncated { last, .. } => Some(last + 1),
            Self::Unsigned => None,
        }
    }

    /// The session whose recording it is about.
    pub fn session(&self) -> Option<&str> {
        match self {
            Self::Unsaid { session, .. }
            | Self::Gone { session, .. }
            | Self::Differs { session, .. }
            | Self::Recording { session, .. } => Some(session),
            Self::Unread { session, .. } => session.as_deref(),
            _ => None,
        }
    }

    /// The object it is about.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Head { key, .. }
            | Self::UnknownKey { key, .. }
            | Self::Rewritten { key, .. }
            | Self::Truncated { key, .. }
            | Self::Gone { key, .. }
            | Self::Differs { key, .. }
            | Self::Recording { key, .. }
            | Self::Unread { key, .. } => Some(key),
            _ => None,
        }
    }
}

/// What is kept of the findings; the others are counted.
const KEPT: usize = 1000;

/// What was found out about an audit log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Rows in the chain.
    pub rows: u64,
    /// The place of the last one.
    pub last: i64,
    /// Its hash, hex.
    pub hash: String,
    /// Heads in the store.
    pub heads: u64,
    /// The place of the newest head that is as the chain says: rows after it rest on the database alone.
    pub signed: i64,
    /// Rows that are not chained yet.
    pub unchained: u64,
    /// Recordings that were stored, not deleted since, and looked at.
    pub recordings: u64,
    /// What is wrong, in order of place; the first 1000.
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub more: u64,
    pub(super) worst: Option<Standing>,
}

impl Verdict {
    /// The gravest finding's.
    pub fn standing(&self) -> Standing {
        self.worst.unwrap_or(Standing::Whole)
    }

    pub(super) fn find(&mut self, finding: Finding) {
        self.worst = self.worst.max(Some(finding.standing()));
        if self.findings.len() < KEPT {
            self.findings.push(finding);
        } else {
            self.more += 1;
        }
    }
}
