//! What a module is, and the list of those a bastion knows: registered one by one, in plain sight.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::BitOr;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::Value;

use crate::{AssetFacts, Facts, Outcome, Purpose};

/// What a module does, fixed by its code and never by configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Says who may.
    Grant,
    /// May only take away.
    Guard,
}

/// What asking a module costs; cheaper ones are asked first, which never changes the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// Computes from the facts.
    Pure,
    /// Reads something nearby.
    Reads,
    /// Asks another machine; a guard of this cost is skipped once the answer is no.
    Remote,
}

/// What a guard's denial is about. When several deny, the person is told of the first in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Concern {
    /// The host.
    AssetState,
    /// Where the person is.
    Address,
    /// When.
    Window,
    /// How many, how often.
    Limits,
    /// Who else must agree.
    Approval,
    /// Anything else.
    Other,
}

/// Kinds of change that must make the chain rule again on live sessions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventMask(u8);

impl EventMask {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The user: disabled, role.
    pub const USER: Self = Self(1);
    /// The user's groups.
    pub const GROUPS: Self = Self(2);
    /// The asset's own list.
    pub const ALLOWED_USERS: Self = Self(4);
    /// The asset's labels.
    pub const LABELS: Self = Self(8);
    /// The asset's declared status.
    pub const ASSET_STATUS: Self = Self(16);
    /// Approvals given or revoked.
    pub const APPROVALS: Self = Self(32);

    /// Whether all of `other` is in it.
    #[must_use]
    pub fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for EventMask {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// What a module is shown: the facts of one decision, and nothing to look up more with.
#[derive(Clone, Copy, Debug)]
pub struct EvalCtx<'a> {
    /// All facts.
    pub facts: &'a Facts,
    /// The asset; an empty one when there is none, so that an unknown id costs the same work (and is denied).
    pub asset: &'a AssetFacts,
    /// The time of the decision, in UTC milliseconds.
    pub now: i64,
    /// Why the chain is asked.
    pub purpose: Purpose,
}

/// A module could not answer; the chain denies.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ModuleError(String);

impl ModuleError {
    /// With a text for admins.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// A module's configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {detail}")]
pub struct ConfigError {
    /// Where, inside the module's `config`: `entries[1].user`; empty for the whole.
    pub path: String,
    /// What is wrong.
    pub detail: String,
}

impl ConfigError {
    /// A fault at `path` inside the module's `config`.
    pub fn at(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { path: path.into(), detail: detail.into() }
    }
}

/// One configured rule.
#[async_trait]
pub trait PolicyModule: Send + Sync + 'static {
    /// Answers from what it is shown. An error, a panic or two seconds without an answer deny.
    async fn evaluate(&self, cx: &EvalCtx<'_>) -> Result<Outcome, ModuleError>;

    /// What must trigger a new ruling while a session lives.
    fn watches(&self) -> EventMask {
        EventMask::NONE
    }
}

/// A kind of rule: what it is called, and how one is made from its configuration.
pub trait PolicyFactory: Send + Sync + 'static {
    /// The name in the document.
    fn kind(&self) -> &'static str;
    /// Whether it grants or guards.
    fn class(&self) -> Class;
    /// What asking costs.
    fn cost(&self) -> Cost;
    /// What its denials are about.
    fn concern(&self) -> Concern {
        Concern::Other
    }
    /// The shape of its `config`: for the page's form, the documentation and editors.
    fn schema(&self) -> schemars::Schema;
    /// Makes a module.
    ///
    /// # Errors
    /// When the configuration is not one this kind takes.
    fn build(&self, config: Value) -> Result<Arc<dyn PolicyModule>, ConfigError>;
}

/// The kinds a document may name.
#[derive(Clone, Default)]
pub struct Registry(BTreeMap<&'static str, Arc<dyn PolicyFactory>>);

impl Registry {
    /// Adds a kind; one of the same name is replaced.
    #[must_use]
    pub fn register(mut self, factory: impl PolicyFactory) -> Self {
        self.0.insert(factory.kind(), Arc::new(factory));
        self
    }

    /// The kind of that name.
    #[must_use]
    pub fn kind(&self, name: &str) -> Option<&dyn PolicyFactory> {
        self.0.get(name).map(AsRef::as_ref)
    }

    /// Every kind, by name.
    pub fn kinds(&self) -> impl Iterator<Item = &dyn PolicyFactory> {
        self.0.values().map(AsRef::as_ref)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_set().entries(self.0.keys()).finish()
    }
}
