//! `concurrency`: how many sessions may be live at once. It compares with the counts as looked up and states its need;
//! the truth is the transaction in which the caller takes the slots at redeem.

use std::sync::Arc;

use async_trait::async_trait;
use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    Class, Concern, ConfigError, Cost, EvalCtx, LiveSessions, ModuleError, Need, Outcome, PolicyFactory,
    PolicyModule, Purpose, Reason, Scope, configured,
};

/// The kind `concurrency`.
#[derive(Clone, Copy, Debug)]
pub struct Concurrency;

/// How many sessions may be live at once; what is left out is not limited, and 0 allows none.
#[derive(Clone, Copy, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// A user's, on all hosts.
    per_user: Option<u32>,
    /// A host's, of all users.
    per_asset: Option<u32>,
    /// A user's on one host.
    per_user_asset: Option<u32>,
    /// All.
    global: Option<u32>,
}

impl PolicyFactory for Concurrency {
    fn kind(&self) -> &'static str {
        "concurrency"
    }

    fn class(&self) -> Class {
        Class::Guard
    }

    fn cost(&self) -> Cost {
        Cost::Pure
    }

    fn concern(&self) -> Concern {
        Concern::Limits
    }

    fn schema(&self) -> Schema {
        schema_for!(Config)
    }

    fn build(&self, config: Value) -> Result<Arc<dyn PolicyModule>, ConfigError> {
        let config: Config = configured(config)?;
        if config.slots().next().is_none() {
            return Err(ConfigError::at("", "limits nothing: give at least one limit"));
        }
        Ok(Arc::new(config))
    }
}

impl Config {
    fn slots(self) -> impl Iterator<Item = (Scope, u64)> {
        let limits = [
            (Scope::UserAsset, self.per_user_asset),
            (Scope::User, self.per_user),
            (Scope::Asset, self.per_asset),
            (Scope::Global, self.global),
        ];
        limits.into_iter().filter_map(|(scope, limit)| Some((scope, u64::from(limit?))))
    }
}

#[async_trait]
impl PolicyModule for Config {
    async fn evaluate(&self, cx: &EvalCtx<'_>) -> Result<Outcome, ModuleError> {
        // Who is in stays in: a lowered limit only bears on the next session.
        if cx.purpose == Purpose::Continue {
            return Ok(Outcome::abstain());
        }
        let full = self.slots().find(|(scope, limit)| live(&cx.facts.live, *scope) >= *limit);
        Ok(match full {
            Some((scope, limit)) => Outcome::deny(limit_reached(scope, limit)),
            None => {
                let needs = self.slots().map(|(scope, limit)| Need::Slot { scope, limit });
                Outcome { needs: needs.collect(), ..Outcome::allow() }
            }
        })
    }
}

fn live(live: &LiveSessions, scope: Scope) -> u64 {
    match scope {
        Scope::UserAsset => live.user_asset,
        Scope::User => live.user,
        Scope::Asset => live.asset,
        Scope::Global => live.global,
    }
}

/// The reason when no slot is left; also for the caller, whose transaction may find so after the chain allowed.
#[must_use]
pub fn limit_reached(scope: Scope, limit: u64) -> Reason {
    let (name, whose) = match scope {
        Scope::UserAsset => ("user_asset", "You have too many sessions on this host"),
        Scope::User => ("user", "You have too many sessions"),
        Scope::Asset => ("asset", "This host has too many sessions"),
        Scope::Global => ("global", "There are too many sessions"),
    };
    Reason::new("limit_reached", format!("{limit} sessions of scope {name} are live"))
        .told(format!("{whose}: {limit} may be open at once."))
        .with("scope", name)
        .with("limit", limit)
}
