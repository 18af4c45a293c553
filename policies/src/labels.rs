//! `labels`: bindings of users and groups to the hosts a label selector selects. Bindings are OR, the terms of one
//! selector AND; only labels that an admin set count.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    Class, ConfigError, Cost, EvalCtx, EventMask, Level, ModuleError, Outcome, PolicyFactory, PolicyModule,
    Selector, SelectorError, Subject, Verdict, configured,
};

/// The kind `labels`.
#[derive(Clone, Copy, Debug)]
pub struct Labels;

/// Who is let in to hosts with which labels.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// One binding that matches is enough; of several the highest level counts.
    bindings: Vec<BindingSpec>,
}

/// Users and groups, bound to the hosts that a selector selects.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct BindingSpec {
    /// Ids of users.
    #[serde(default)]
    users: BTreeSet<String>,
    /// Ids of groups.
    #[serde(default)]
    groups: BTreeSet<String>,
    /// A Kubernetes label selector, such as `env=prod,tier in (web,db)`. It needs a term that asks for a label, and one
    /// for each label that it excludes values of, so that a missing label never lets anybody in.
    selector: String,
    /// The level given, never more than the policy's, which is also the default.
    level: Option<Level>,
}

struct Binding {
    users: BTreeSet<String>,
    groups: BTreeSet<String>,
    selector: Selector,
    level: Level,
}

struct Module(Vec<Binding>);

impl PolicyFactory for Labels {
    fn kind(&self) -> &'static str {
        "labels"
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
        let Config { bindings } = configured(config)?;
        if bindings.is_empty() {
            return Err(ConfigError::at("bindings", "binds nobody: give at least one binding"));
        }
        let bindings = bindings.into_iter().enumerate().map(|(nth, spec)| binding(nth, spec));
        Ok(Arc::new(Module(bindings.collect::<Result<_, _>>()?)))
    }
}

fn binding(nth: usize, spec: BindingSpec) -> Result<Binding, ConfigError> {
    let BindingSpec { users, groups, selector, level } = spec;
    if users.is_empty() && groups.is_empty() {
        let detail = "binds nobody: name users or groups, by their ids";
        return Err(ConfigError::at(format!("bindings[{nth}]"), detail));
    }
    if users.contains("") || groups.contains("") {
        return Err(ConfigError::at(format!("bindings[{nth}]"), "an id must not be empty"));
    }
    let refused =
        |error: SelectorError| ConfigError::at(format!("bindings[{nth}].selector"), error.to_string());
    let selector: Selector = selector.parse().map_err(refused)?;
    selector.never_widens().map_err(refused)?;
    Ok(Binding { users, groups, selector, level: level.unwrap_or(Level::Admin) })
}

impl Binding {
    fn binds(&self, subject: &Subject) -> bool {
        self.users.contains(&subject.id) || subject.groups.iter().any(|group| self.groups.contains(group))
    }
}

#[async_trait]
impl PolicyModule for Module {
    async fn evaluate(&self, cx: &EvalCtx<'_>) -> Result<Outcome, ModuleError> {
        let Self(bindings) = self;
        let bound = bindings.iter().filter(|binding| binding.binds(&cx.facts.subject));
        let selected = bound.filter(|binding| binding.selector.matches(&cx.asset.labels));
        Ok(match selected.map(|binding| binding.level).max() {
            Some(level) => Outcome { level: Some(level), ..Outcome::of(Verdict::Allow) },
            None => Outcome::abstain(),
        })
    }

    fn watches(&self) -> EventMask {
        EventMask::GROUPS | EventMask::LABELS
    }
}
