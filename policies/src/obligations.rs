//! What a session must keep to once it is allowed; obligations of all that allowed meet, and meeting only ever tightens.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The kinds of demand an obligation can make.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Demand {
    /// End after so long.
    MaxDuration,
    /// End after so long without a key typed.
    IdleTimeout,
    /// End at an instant.
    NotAfter,
    /// Record what is typed.
    RecordInput,
    /// Drop what is typed.
    ReadOnly,
    /// Tell somebody.
    Notify,
    /// Run the shell as this account.
    RunAs,
}

impl Demand {
    /// Every demand.
    pub const ALL: [Self; 7] = [
        Self::MaxDuration,
        Self::IdleTimeout,
        Self::NotAfter,
        Self::RecordInput,
        Self::ReadOnly,
        Self::Notify,
        Self::RunAs,
    ];
}

/// A set of demands: a meet-semilattice whose top, the default, demands nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Obligations {
    /// Longest life of the session, in seconds.
    pub max_duration: Option<u64>,
    /// Longest time without a key typed, in seconds.
    pub idle_timeout: Option<u64>,
    /// The instant the session must have ended, in UTC milliseconds.
    pub not_after: Option<i64>,
    /// Whether input is recorded. What the host's terminal does not show is masked; a program that reads secrets in
    /// the line editor of the session's own shell cannot be told apart (`docs/decisions/0005-what-is-typed.md`).
    pub record_input: bool,
    /// Whether input is dropped.
    pub read_only: bool,
    /// Who is told.
    pub notify: BTreeSet<String>,
    /// The account of the shell; more than one is a conflict, and a conflict denies.
    pub run_as: BTreeSet<String>,
}

impl Obligations {
    /// Both sets of demands together: the least of each time, the union of the rest.
    #[must_use]
    pub fn meet(&self, other: &Self) -> Self {
        Self {
            max_duration: least(self.max_duration, other.max_duration),
            idle_timeout: least(self.idle_timeout, other.idle_timeout),
            not_after: least(self.not_after, other.not_after),
            record_input: self.record_input || other.record_input,
            read_only: self.read_only || other.read_only,
            notify: &self.notify | &other.notify,
            run_as: &self.run_as | &other.run_as,
        }
    }

    /// The demands made.
    pub fn demands(&self) -> impl Iterator<Item = Demand> {
        let made = [
            (Demand::MaxDuration, self.max_duration.is_some()),
            (Demand::IdleTimeout, self.idle_timeout.is_some()),
            (Demand::NotAfter, self.not_after.is_some()),
            (Demand::RecordInput, self.record_input),
            (Demand::ReadOnly, self.read_only),
            (Demand::Notify, !self.notify.is_empty()),
            (Demand::RunAs, !self.run_as.is_empty()),
        ];
        made.into_iter().filter(|(_, made)| *made).map(|(demand, _)| demand)
    }
}

fn least<T: Ord>(one: Option<T>, other: Option<T>) -> Option<T> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
