//! The one engine: asks every module that applies, then weighs what they said.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::join_all;
use serde_json::Value;
use tokio::time::Instant;

use crate::weigh::weigh;
use crate::{
    AssetFacts, Class, Concern, Cost, EvalCtx, EventMask, Fault, Finding, Level, Obligations, Outcome,
    PolicyModule, Purpose, Registry, Request, Ruling, Selector, TrailEntry, Verdict, document,
};

/// How long a module may take before its silence is a no.
pub const PATIENCE: Duration = Duration::from_secs(2);

/// A set of policies, ready to rule; the default is empty and denies everything.
#[derive(Default)]
pub struct Chain {
    guardrails: Vec<Module>,
    policies: Vec<Policy>,
}

pub(crate) struct Module {
    pub(crate) id: String,
    pub(crate) kind: &'static str,
    pub(crate) class: Class,
    pub(crate) cost: Cost,
    pub(crate) concern: Concern,
    pub(crate) shadow: bool,
    pub(crate) code: Arc<dyn PolicyModule>,
}

pub(crate) struct Policy {
    pub(crate) id: String,
    pub(crate) applies_to: AppliesTo,
    pub(crate) level: Level,
    pub(crate) combine: Combine,
    pub(crate) grants: Vec<Module>,
    pub(crate) guards: Vec<Module>,
    pub(crate) obligations: Obligations,
}

pub(crate) enum AppliesTo {
    All,
    Selected(Selector),
}

#[derive(Clone, Copy)]
pub(crate) enum Combine {
    AnyOf,
    AllOf,
}

/// What came back from a module.
pub(crate) enum Answer {
    /// Not asked yet; weighed as if it would allow, to see whether asking can still matter.
    Pending,
    Skipped,
    Failed {
        code: &'static str,
        text: String,
    },
    Said(Box<Outcome>),
}

/// A module and its answer.
pub(crate) struct Heard<'c> {
    pub(crate) module: &'c Module,
    pub(crate) answer: Answer,
    pub(crate) micros: u64,
}

/// A policy that applies to the asset, and what its modules said.
pub(crate) struct Hearing<'c> {
    pub(crate) policy: &'c Policy,
    pub(crate) grants: Vec<Heard<'c>>,
    pub(crate) guards: Vec<Heard<'c>>,
}

/// Everything said in one decision.
pub(crate) struct Bench<'c> {
    pub(crate) guardrails: Vec<Heard<'c>>,
    pub(crate) hearings: Vec<Hearing<'c>>,
}

impl Chain {
    /// Reads a document.
    ///
    /// # Errors
    /// Every fault found, with its path; nothing is loaded in part.
    pub fn load(document: &str, registry: &Registry) -> Result<Self, Vec<Fault>> {
        let value = serde_json::from_str(document)
            .map_err(|error| vec![Fault { path: String::new(), detail: error.to_string() }])?;
        Self::from_value(value, registry)
    }

    /// Reads a document that is parsed already.
    ///
    /// # Errors
    /// As [`Chain::load`].
    pub fn from_value(document: Value, registry: &Registry) -> Result<Self, Vec<Fault>> {
        let (guardrails, policies) = document::read(document, registry)?;
        Ok(Self { guardrails, policies })
    }

    /// Rules on one request. Nothing outside `request` and the modules' own counters bears on the answer.
    pub async fn decide(&self, request: &Request, purpose: Purpose) -> Ruling {
        let nothing = AssetFacts::default();
        let facts = &request.facts;
        let asset = facts.asset.as_ref().unwrap_or(&nothing);
        let cx = EvalCtx { facts, asset, now: request.now, purpose };
        let mut bench = self.bench(asset);
        for cost in [Cost::Pure, Cost::Reads] {
            bench.hear(&cx, |module| module.cost == cost).await;
        }
        // A grant is asked even now: its veto would hide the asset, whatever a guard said before.
        bench.hear(&cx, |module| module.class == Class::Grant).await;
        let mut weighed = weigh(self.ids(), &bench, request);
        if weighed.allows() {
            bench.hear(&cx, |_| true).await;
            weighed = weigh(self.ids(), &bench, request);
        } else if purpose == Purpose::Simulate {
            // For the trail alone, so that a simulation answers as the real thing would.
            bench.hear(&cx, |_| true).await;
        } else {
            bench.skip();
        }
        let mut trail = bench.trail();
        trail.extend(weighed.notes);
        Ruling { effect: weighed.effect, trail, policies: weighed.policies }
    }

    /// The kinds of change after which live sessions must be ruled on again.
    #[must_use]
    pub fn watches(&self) -> EventMask {
        let own = self.policies.iter().flat_map(|policy| policy.grants.iter().chain(&policy.guards));
        let selected = self.policies.iter().any(|policy| matches!(policy.applies_to, AppliesTo::Selected(_)));
        let always = if selected { EventMask::USER | EventMask::LABELS } else { EventMask::USER };
        self.guardrails.iter().chain(own).fold(always, |mask, module| mask | module.code.watches())
    }

    fn ids(&self) -> impl Iterator<Item = &str> {
        self.policies.iter().map(|policy| policy.id.as_str())
    }

    fn bench(&self, asset: &AssetFacts) -> Bench<'_> {
        let hearings = self.policies.iter().filter(|policy| policy.applies_to.includes(asset));
        let hearings = hearings.map(|policy| Hearing {
            policy,
            grants: unheard(&policy.grants),
            guards: unheard(&policy.guards),
        });
        Bench { guardrails: unheard(&self.guardrails), hearings: hearings.collect() }
    }
}

impl AppliesTo {
    fn includes(&self, asset: &AssetFacts) -> bool {
        match self {
            Self::All => true,
            Self::Selected(selector) => selector.matches(&asset.labels),
        }
    }
}

fn unheard(modules: &[Module]) -> Vec<Heard<'_>> {
    modules.iter().map(|module| Heard { module, answer: Answer::Pending, micros: 0 }).collect()
}

impl<'c> Bench<'c> {
    /// In the document's order, each with the policy it stands in.
    fn all(&self) -> impl Iterator<Item = (Option<&'c Policy>, &Heard<'c>)> {
        let own = self.hearings.iter().flat_map(|hearing| {
            hearing.grants.iter().chain(&hearing.guards).map(|heard| (Some(hearing.policy), heard))
        });
        self.guardrails.iter().map(|heard| (None, heard)).chain(own)
    }

    fn pending(&mut self) -> impl Iterator<Item = &mut Heard<'c>> {
        let own =
            self.hearings.iter_mut().flat_map(|hearing| hearing.grants.iter_mut().chain(&mut hearing.guards));
        self.guardrails.iter_mut().chain(own).filter(|heard| matches!(heard.answer, Answer::Pending))
    }

    async fn hear(&mut self, cx: &EvalCtx<'_>, due: impl Fn(&Module) -> bool) {
        join_all(self.pending().filter(|heard| due(heard.module)).map(|heard| heard.ask(cx))).await;
    }

    fn skip(&mut self) {
        self.pending().for_each(|heard| heard.answer = Answer::Skipped);
    }

    fn trail(&self) -> Vec<TrailEntry> {
        self.all().map(|(policy, heard)| heard.entry(policy)).collect()
    }
}

impl Heard<'_> {
    async fn ask(&mut self, cx: &EvalCtx<'_>) {
        let started = Instant::now();
        let asked = AssertUnwindSafe(self.module.code.evaluate(cx)).catch_unwind();
        self.answer = match tokio::time::timeout(PATIENCE, asked).await {
            Ok(Ok(Ok(outcome))) => checked(outcome, cx.now),
            Ok(Ok(Err(error))) => Answer::Failed { code: "module_failed", text: error.to_string() },
            Ok(Err(_panic)) => Answer::Failed { code: "module_panicked", text: "it panicked".into() },
            Err(_elapsed) => {
                Answer::Failed { code: "module_timed_out", text: format!("no answer within {PATIENCE:?}") }
            }
        };
        self.micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    }

    fn entry(&self, policy: Option<&Policy>) -> TrailEntry {
        let (verdict, code, text) = match &self.answer {
            Answer::Pending | Answer::Skipped => (Finding::Skipped, None, None),
            Answer::Failed { code, text } => (Finding::Failed, Some((*code).to_owned()), Some(text.clone())),
            Answer::Said(outcome) => match &outcome.verdict {
                Verdict::Allow => (Finding::Allow, None, None),
                Verdict::Abstain => (Finding::Abstain, None, None),
                Verdict::Deny(reason) => {
                    (Finding::Deny, Some(reason.code.clone()), Some(reason.admin.clone()))
                }
                Verdict::Challenge(challenge) => (Finding::Challenge, None, Some(challenge.rule.clone())),
            },
        };
        let spares = match &self.answer {
            Answer::Said(outcome) => outcome.spares,
            Answer::Pending | Answer::Skipped | Answer::Failed { .. } => None,
        };
        TrailEntry {
            policy: policy.map(|policy| policy.id.clone()),
            module: self.module.id.clone(),
            kind: self.module.kind.to_owned(),
            verdict,
            code,
            text,
            spares,
            micros: self.micros,
            shadow: self.module.shadow,
        }
    }
}

/// An answer that is no longer true when it is given is no answer.
fn checked(outcome: Outcome, now: i64) -> Answer {
    match outcome.valid_until {
        Some(until) if until <= now => {
            Answer::Failed { code: "module_failed", text: "its answer had ended before now".into() }
        }
        _ => Answer::Said(Box::new(outcome)),
    }
}
