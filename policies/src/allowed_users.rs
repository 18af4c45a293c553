//! `allowed_users`: who may, by id. Without entries it reads the asset's own list; an empty list means nobody.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use serde_json::Value;

use crate::document::Instant;
use crate::{
    Class, ConfigError, Cost, EvalCtx, EventMask, Level, ModuleError, Outcome, PolicyFactory, PolicyModule,
    Reason, Subject, Verdict, configured,
};

/// The kind `allowed_users`.
#[derive(Clone, Copy, Debug)]
pub struct AllowedUsers;

/// Who may open a terminal.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Who is let in; left out, the asset's own list of user ids counts. An empty list lets nobody in.
    entries: Option<Vec<EntrySpec>>,
    /// Ids of users who are refused whatever else lets them in.
    #[serde(default)]
    blocked: BTreeSet<String>,
}

/// One who is let in: exactly one of `user`, `group` and `everyone`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EntrySpec {
    /// A user's id.
    user: Option<String>,
    /// A group's id.
    group: Option<String>,
    /// Every user; only `true` can be said.
    everyone: Option<bool>,
    /// The level given, never more than the policy's, which is also the default.
    level: Option<Level>,
    /// The entry counts before this instant.
    until: Option<Instant>,
}

enum Who {
    User(String),
    Group(String),
    Everyone,
}

struct Entry {
    who: Who,
    level: Level,
    /// In UTC milliseconds; `i64::MAX` when it does not end.
    until: i64,
}

struct Module {
    entries: Option<Vec<Entry>>,
    blocked: BTreeSet<String>,
}

impl PolicyFactory for AllowedUsers {
    fn kind(&self) -> &'static str {
        "allowed_users"
    }

    fn class(&self) -> Class {
        Class::Grant
    }

    fn cost(&self) -> Cost {
        Cost::Pure
    }

    fn schema(&self) -> Schema {
        schema_for!(Config)
    }

    fn build(&self, config: Value) -> Result<Arc<dyn PolicyModule>, ConfigError> {
        let Config { entries, blocked } = configured(config)?;
        if blocked.contains("") {
            return Err(ConfigError::at("blocked", "an id must not be empty"));
        }
        let numbered = entries.map(|entries| entries.into_iter().enumerate());
        let checked = numbered.map(|entries| entries.map(|(nth, spec)| entry(nth, spec)).collect());
        Ok(Arc::new(Module { entries: checked.transpose()?, blocked }))
    }
}

fn entry(nth: usize, spec: EntrySpec) -> Result<Entry, ConfigError> {
    let at = |detail| ConfigError::at(format!("entries[{nth}]"), detail);
    let who = match (spec.user, spec.group, spec.everyone) {
        (Some(user), None, None) if !user.is_empty() => Who::User(user),
        (None, Some(group), None) if !group.is_empty() => Who::Group(group),
        (None, None, Some(true)) => Who::Everyone,
        (Some(_), None, None) | (None, Some(_), None) => return Err(at("an id must not be empty")),
        _ => return Err(at("exactly one of `user`, `group` and `\"everyone\": true` is needed")),
    };
    let level = spec.level.unwrap_or(Level::Admin);
    Ok(Entry { who, level, until: spec.until.map_or(i64::MAX, Instant::millis) })
}

impl Who {
    fn is(&self, subject: &Subject) -> bool {
        match self {
            Self::User(id) => *id == subject.id,
            Self::Group(id) => subject.groups.contains(id),
            Self::Everyone => true,
        }
    }
}

#[async_trait]
impl PolicyModule for Module {
    async fn evaluate(&self, cx: &EvalCtx<'_>) -> Result<Outcome, ModuleError> {
        let subject = &cx.facts.subject;
        if self.blocked.contains(&subject.id) {
            return Ok(Outcome::deny(Reason::new("user_blocked", "the user is on the block list")));
        }
        Ok(match &self.entries {
            None if cx.asset.allowed_users.contains(&subject.id) => Outcome::allow(),
            None => Outcome::abstain(),
            Some(entries) => best(entries, subject, cx.now),
        })
    }

    fn watches(&self) -> EventMask {
        match self.entries {
            None => EventMask::ALLOWED_USERS,
            Some(_) => EventMask::GROUPS,
        }
    }
}

/// The highest level of the entries that count, and among its entries the one that lasts longest.
fn best(entries: &[Entry], subject: &Subject, now: i64) -> Outcome {
    let counting = entries.iter().filter(|entry| now < entry.until && entry.who.is(subject));
    match counting.map(|entry| (entry.level, entry.until)).max() {
        None => Outcome::abstain(),
        Some((level, until)) => Outcome {
            level: Some(level),
            valid_until: (until < i64::MAX).then_some(until),
            ..Outcome::of(Verdict::Allow)
        },
    }
}
