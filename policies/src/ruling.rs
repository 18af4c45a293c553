//! What a module says (an outcome), what the chain says (a ruling), and the trail that explains how one came of the other.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Level, Obligations};

/// Why something was denied, for two audiences.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reason {
    /// A stable word for programs, such as `limit_reached`.
    pub code: String,
    /// For admins, in the trail only.
    pub admin: String,
    /// For the person who asked, who is shown it only if they hold a grant.
    pub user: Option<String>,
    /// Facts for the person's client: `scope`, `limit`, `opens_at`, `retry_after`, …
    pub details: Map<String, Value>,
}

impl Reason {
    /// A reason that tells only admins more than its code.
    pub fn new(code: impl Into<String>, admin: impl Into<String>) -> Self {
        Self { code: code.into(), admin: admin.into(), user: None, details: Map::new() }
    }

    /// Adds what the person who asked is told.
    #[must_use]
    pub fn told(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Adds a fact for the person's client.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}

/// What is still asked of the person.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChallengeKind {
    /// A second factor.
    Mfa,
    /// Somebody else's approval.
    Approval,
}

/// A condition that would turn the answer into yes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Challenge {
    /// What is asked.
    pub kind: ChallengeKind,
    /// The rule that asks, by which the caller finds its terms.
    pub rule: String,
}

/// One module's answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A grant: yes. A guard: no objection.
    Allow,
    /// Nothing to say: a grant does not grant, a guard does not object.
    Abstain,
    /// No. From a guard it closes its policy, from a guardrail or a grant everything.
    Deny(Reason),
    /// Yes, once this is met.
    Challenge(Challenge),
}

/// Whose sessions share a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The user's on this asset.
    UserAsset,
    /// The user's on any asset.
    User,
    /// Anybody's on this asset.
    Asset,
    /// Anybody's anywhere.
    Global,
}

/// What must be consumed for the ruling to hold, in the one transaction that opens the session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Need {
    /// A slot: fewer than `limit` sessions of `scope` may be live before this one.
    Slot {
        /// Whose sessions count.
        scope: Scope,
        /// How many may be live at once, this one included.
        limit: u64,
    },
}

/// A module's verdict and what comes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The answer.
    pub verdict: Verdict,
    /// With a denial by a guard: it does not hold for this level and higher ones.
    pub spares: Option<Level>,
    /// With a grant: the level given, never more than the policy's; `None` gives the policy's.
    pub level: Option<Level>,
    /// Demands on the session.
    pub obligations: Obligations,
    /// What must be consumed at redeem.
    pub needs: Vec<Need>,
    /// When the answer must be asked for again, in UTC milliseconds; the answer holds before that instant.
    pub valid_until: Option<i64>,
}

impl Outcome {
    /// A bare verdict.
    #[must_use]
    pub fn of(verdict: Verdict) -> Self {
        let obligations = Obligations::default();
        Self { verdict, spares: None, level: None, obligations, needs: Vec::new(), valid_until: None }
    }

    /// Yes, or no objection.
    #[must_use]
    pub fn allow() -> Self {
        Self::of(Verdict::Allow)
    }

    /// Nothing to say.
    #[must_use]
    pub fn abstain() -> Self {
        Self::of(Verdict::Abstain)
    }

    /// No.
    #[must_use]
    pub fn deny(reason: Reason) -> Self {
        Self::of(Verdict::Deny(reason))
    }

    /// Of a denial: it spares this level and higher ones.
    #[must_use]
    pub fn sparing(mut self, level: Level) -> Self {
        self.spares = Some(level);
        self
    }
}

/// What the chain allows, and under which terms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The highest level that passed.
    pub level: Level,
    /// All that the session must keep to; the caller stores it with the session.
    pub obligations: Obligations,
    /// What the caller must consume at redeem, at most one need a scope.
    pub needs: Vec<Need>,
    /// When the chain must be asked again, in UTC milliseconds; reaching it ends nothing by itself.
    pub valid_until: Option<i64>,
    /// Ids of the policies that allowed, in the document's order.
    pub policies: Vec<String>,
}

/// What a person is told of a no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "refusal", rename_all = "snake_case")]
pub enum Refusal {
    /// No such asset, no grant, a veto or a broken module: outside, all the same.
    NotAvailable,
    /// A guard's reason; only for who holds a grant.
    Guard {
        /// The reason's code.
        code: String,
        /// What the person is told.
        user: String,
        /// Facts for the person's client.
        details: Map<String, Value>,
    },
}

/// The chain's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Effect {
    /// Yes, under these terms.
    Allow(Grant),
    /// No.
    Deny(Refusal),
    /// Yes, once all of these are met and the chain has ruled again.
    Challenge(Vec<Challenge>),
}

/// How a module's answer stands in the trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// It allowed.
    Allow,
    /// It had nothing to say.
    Abstain,
    /// It denied.
    Deny,
    /// It asked for more.
    Challenge,
    /// It erred, panicked or took too long.
    Failed,
    /// It was not asked: the answer was already no.
    Skipped,
}

/// One module's part in a ruling; for admins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrailEntry {
    /// The policy it stands in; `None` for a guardrail and for what the engine itself found.
    pub policy: Option<String>,
    /// The module's id in the document.
    pub module: String,
    /// Its kind; `engine` for what the engine itself found.
    pub kind: String,
    /// What it said.
    pub verdict: Finding,
    /// The reason's code, or how it failed.
    pub code: Option<String>,
    /// The reason for admins, or the failure's text.
    pub text: Option<String>,
    /// The level the denial spares.
    pub spares: Option<Level>,
    /// How long it took, in microseconds.
    pub micros: u64,
    /// Whether it was only listened to.
    pub shadow: bool,
}

/// How one policy fared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFinding {
    /// The policy's id.
    pub id: String,
    /// Whether its selector matches the asset.
    pub applies: bool,
    /// Whether its grant modules grant, or would once a challenge is met.
    pub granted: bool,
    /// Whether it passed whole.
    pub passes: bool,
}

/// An answer and how it came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ruling {
    /// The answer.
    pub effect: Effect,
    /// Every module asked, in the document's order, then what the engine itself found.
    pub trail: Vec<TrailEntry>,
    /// Every policy, in the document's order.
    pub policies: Vec<PolicyFinding>,
}

impl Ruling {
    /// The terms, if the answer is yes.
    #[must_use]
    pub fn grant(&self) -> Option<&Grant> {
        match &self.effect {
            Effect::Allow(grant) => Some(grant),
            Effect::Deny(_) | Effect::Challenge(_) => None,
        }
    }

    /// Whether the person may learn that the asset exists.
    #[must_use]
    pub fn visible(&self) -> bool {
        !matches!(self.effect, Effect::Deny(Refusal::NotAvailable))
    }
}
