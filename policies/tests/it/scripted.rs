//! Modules that say what the test tells them to, and documents made of them.

use std::sync::Arc;

use async_trait::async_trait;
use policies::{
    AssetFacts, Capabilities, Chain, Class, ConfigError, Cost, Demand, EvalCtx, Facts, Level, ModuleError,
    Outcome, PolicyFactory, PolicyModule, Purpose, Reason, Registry, Request, Ruling, Subject, Verdict,
    configured,
};
use proptest::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Says {
    Allow(Level),
    Abstain,
    Deny,
    /// Denies, but not this level and above.
    Spare(Level),
    Error,
    Panic,
}

#[derive(Clone, Debug)]
pub(crate) struct Guard {
    pub(crate) says: Says,
    pub(crate) shadow: bool,
    pub(crate) remote: bool,
}

impl Guard {
    pub(crate) fn new(says: Says) -> Self {
        Self { says, shadow: false, remote: false }
    }

    pub(crate) fn failing(&self) -> bool {
        matches!(self.says, Says::Error | Says::Panic)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct PolicyDoc {
    pub(crate) level: Level,
    pub(crate) all: bool,
    pub(crate) read_only: bool,
    pub(crate) grants: Vec<Guard>,
    pub(crate) guards: Vec<Guard>,
}

impl PolicyDoc {
    /// The level its grants give, if they grant.
    pub(crate) fn granted_level(&self) -> Level {
        let levels = self.grants.iter().filter(|m| !m.shadow).filter_map(|m| match m.says {
            Says::Allow(level) => Some(level),
            _ => None,
        });
        let level = if self.all { levels.min() } else { levels.max() };
        level.unwrap_or(Level::Viewer).min(self.level)
    }
}

#[derive(Clone, Debug)]
pub(crate) struct Doc {
    pub(crate) guardrails: Vec<Guard>,
    pub(crate) policies: Vec<PolicyDoc>,
}

impl Doc {
    /// Every list a module can stand in.
    pub(crate) fn places(&mut self) -> Vec<&mut Vec<Guard>> {
        let own = self.policies.iter_mut().flat_map(|policy| [&mut policy.grants, &mut policy.guards]);
        std::iter::once(&mut self.guardrails).chain(own).collect()
    }

    fn json(&self) -> Value {
        let policies = self.policies.iter().enumerate().map(|(nth, policy)| {
            let grants = modules("grant", "grants", &policy.grants);
            let grants = if policy.all { json!({"all_of": grants}) } else { json!({"any_of": grants}) };
            json!({
                "id": format!("p{nth}"), "applies_to": {"all": true}, "level": policy.level, "grants": grants,
                "guards": modules("guard", "guards", &policy.guards),
                "obligations": {"read_only": policy.read_only},
            })
        });
        json!({"guardrails": modules("rail", "guards", &self.guardrails), "policies": Vec::from_iter(policies)})
    }
}

fn modules(id: &str, class: &str, listed: &[Guard]) -> Vec<Value> {
    let module = |(nth, guard): (usize, &Guard)| {
        let (mode, cost) =
            (if guard.shadow { "shadow" } else { "enforce" }, if guard.remote { "far" } else { "near" });
        json!({"id": format!("{id}{nth}"), "kind": format!("{cost}_{class}"), "mode": mode, "config": {"says": guard.says}})
    };
    listed.iter().enumerate().map(module).collect()
}

pub(crate) struct Scripted(&'static str, Class, Cost);

#[derive(Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    #[schemars(with = "String")]
    says: Says,
}

impl PolicyFactory for Scripted {
    fn kind(&self) -> &'static str {
        self.0
    }

    fn class(&self) -> Class {
        self.1
    }

    fn cost(&self) -> Cost {
        self.2
    }

    fn schema(&self) -> schemars::Schema {
        schemars::schema_for!(Config)
    }

    fn build(&self, config: Value) -> Result<Arc<dyn PolicyModule>, ConfigError> {
        let config: Config = configured(config)?;
        Ok(Arc::new(config))
    }
}

#[async_trait]
impl PolicyModule for Config {
    async fn evaluate(&self, _: &EvalCtx<'_>) -> Result<Outcome, ModuleError> {
        let no = Reason::new("scripted", "the script says no");
        Ok(match self.says {
            Says::Allow(level) => Outcome { level: Some(level), ..Outcome::of(Verdict::Allow) },
            Says::Abstain => Outcome::abstain(),
            Says::Deny => Outcome::deny(no),
            Says::Spare(level) => Outcome::deny(no).sparing(level),
            Says::Error => return Err(ModuleError::new("the script fails")),
            // Unlike `panic!` this prints nothing, a thousand times over.
            Says::Panic => std::panic::resume_unwind(Box::new("the script panics")),
        })
    }
}

pub(crate) fn registry() -> Registry {
    Registry::default()
        .register(Scripted("near_grants", Class::Grant, Cost::Pure))
        .register(Scripted("far_grants", Class::Grant, Cost::Remote))
        .register(Scripted("near_guards", Class::Guard, Cost::Pure))
        .register(Scripted("far_guards", Class::Guard, Cost::Remote))
}

pub(crate) fn decide(doc: &Doc, request: &Request, purpose: Purpose) -> Ruling {
    let chain = Chain::from_value(doc.json(), &registry()).expect("a scripted document loads");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(chain.decide(request, purpose))
}

pub(crate) fn level() -> impl Strategy<Value = Level> {
    prop_oneof![Just(Level::Viewer), Just(Level::User), Just(Level::Admin)]
}

/// A guard's word: mostly no objection, so that answers of both kinds are common.
pub(crate) fn says() -> impl Strategy<Value = Says> {
    prop_oneof![
        8 => Just(Says::Allow(Level::Admin)), 4 => Just(Says::Abstain), 1 => Just(Says::Deny),
        2 => level().prop_map(Says::Spare), 1 => Just(Says::Error), 1 => Just(Says::Panic),
    ]
}

fn grant_says() -> impl Strategy<Value = Says> {
    prop_oneof![
        20 => level().prop_map(Says::Allow), 10 => Just(Says::Abstain),
        1 => Just(Says::Deny), 1 => Just(Says::Error), 1 => Just(Says::Panic),
    ]
}

fn module(says: impl Strategy<Value = Says>) -> impl Strategy<Value = Guard> {
    (says, proptest::bool::weighted(0.15), proptest::bool::weighted(0.2))
        .prop_map(|(says, shadow, remote)| Guard { says, shadow, remote })
}

pub(crate) fn policy() -> impl Strategy<Value = PolicyDoc> {
    let grants = proptest::collection::vec(module(grant_says()), 1..4);
    let guards = proptest::collection::vec(module(says()), 0..3);
    (level(), any::<bool>(), proptest::bool::weighted(0.2), grants, guards).prop_map(
        |(level, all, read_only, grants, guards)| PolicyDoc { level, all, read_only, grants, guards },
    )
}

pub(crate) fn document() -> impl Strategy<Value = Doc> {
    let guardrails = proptest::collection::vec(module(says()), 0..3);
    (guardrails, proptest::collection::vec(policy(), 0..4))
        .prop_map(|(guardrails, policies)| Doc { guardrails, policies })
}

pub(crate) fn request() -> impl Strategy<Value = Request> {
    let subject = proptest::bool::weighted(0.05);
    let asset = proptest::bool::weighted(0.95);
    (subject, asset, level(), any::<bool>()).prop_map(|(disabled, known, level, honours)| {
        let subject = Subject { id: "u1".into(), disabled, ..Subject::default() };
        let asset = known.then(|| AssetFacts { id: "a1".into(), online: true, ..AssetFacts::default() });
        let demands = if honours { Vec::from(Demand::ALL) } else { Vec::new() };
        let facts = Facts { subject, asset, ..Facts::default() };
        Request { facts, now: 1_700_000_000_000, level, capabilities: Capabilities::of(demands) }
    })
}
