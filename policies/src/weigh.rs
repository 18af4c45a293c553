//! Weighs what the modules said: a pure function, the same whatever the order they stand in.
//!
//! Allowed is what no guardrail objects to, no grant module vetoes or fails on, and at least one policy passes whole,
//! with obligations that the session can honour. Everything else is a no; nothing short-circuits to a yes.

use std::collections::{BTreeMap, BTreeSet};

use crate::chain::{Answer, Bench, Combine, Heard, Hearing};
use crate::{
    Challenge, Concern, Demand, Effect, Facts, Finding, Grant, Level, Need, Obligations, Outcome,
    PolicyFinding, Reason, Refusal, Request, Scope, TrailEntry, Verdict,
};

/// The answer, and what the engine itself has to say about it.
pub(crate) struct Weighed {
    pub(crate) effect: Effect,
    pub(crate) policies: Vec<PolicyFinding>,
    pub(crate) notes: Vec<TrailEntry>,
}

impl Weighed {
    /// Whether the answer is not no.
    pub(crate) fn allows(&self) -> bool {
        !matches!(self.effect, Effect::Deny(_))
    }
}

/// Weighs; `ids` are those of all policies, also of those that do not apply to the asset.
pub(crate) fn weigh<'i>(ids: impl Iterator<Item = &'i str>, bench: &Bench<'_>, request: &Request) -> Weighed {
    let mut notes = Vec::from_iter(standing(&request.facts));
    let vetoed = !notes.is_empty() || bench.hearings.iter().any(Hearing::vetoes);
    let broken = enforced(&bench.guardrails).any(Heard::failed);
    let mut findings = BTreeMap::new();
    let mut passed = Vec::new();
    let mut refusals = Vec::new();
    for hearing in &bench.hearings {
        let granted = hearing.granted();
        let terms = granted.clone().map(|terms| hearing.guarded(terms, &bench.guardrails, request));
        findings.insert(hearing.policy.id.as_str(), (granted.is_some(), matches!(terms, Some(Ok(_)))));
        match terms {
            Some(Ok(terms)) => passed.push((hearing.policy.id.clone(), terms)),
            Some(Err(closed)) => {
                notes.extend(closed.iter().filter(|no| no.own).map(|no| no.note(&hearing.policy.id)));
                refusals.extend(closed);
            }
            None => {}
        }
    }
    let effect = if vetoed || broken {
        Effect::Deny(Refusal::NotAvailable)
    } else if passed.is_empty() {
        Effect::Deny(first(refusals))
    } else {
        settled(passed, request).unwrap_or_else(|no| {
            notes.push(note(None, &no.reason.code, &no.reason.admin));
            Effect::Deny(first(vec![no]))
        })
    };
    let policies = ids.map(|id| {
        let found = findings.get(id).copied();
        let (granted, passes) = found.unwrap_or_default();
        PolicyFinding { id: id.to_owned(), applies: found.is_some(), granted, passes }
    });
    Weighed { effect, policies: policies.collect(), notes }
}

/// What no policy can overrule: who asks, and for what.
fn standing(facts: &Facts) -> impl Iterator<Item = TrailEntry> {
    let disabled = facts.subject.disabled.then(|| note(None, "user_disabled", "the user is disabled"));
    let asset = match &facts.asset {
        None => Some(note(None, "asset_unknown", "there is no such asset")),
        Some(asset) if asset.deleted => Some(note(None, "asset_deleted", "the asset was removed")),
        Some(_) => None,
    };
    disabled.into_iter().chain(asset)
}

fn note(policy: Option<&str>, code: &str, text: &str) -> TrailEntry {
    TrailEntry {
        policy: policy.map(str::to_owned),
        module: "engine".into(),
        kind: "engine".into(),
        verdict: Finding::Deny,
        code: Some(code.to_owned()),
        text: Some(text.to_owned()),
        spares: None,
        micros: 0,
        shadow: false,
    }
}

/// A closed policy's reason.
struct No {
    concern: Concern,
    reason: Reason,
    /// The engine's own, so that no module's trail entry tells of it.
    own: bool,
}

impl No {
    fn engine(code: &str, admin: String) -> Self {
        Self { concern: Concern::Other, reason: Reason::new(code, admin), own: true }
    }

    fn note(&self, policy: &str) -> TrailEntry {
        note(Some(policy), &self.reason.code, &self.reason.admin)
    }

    /// The order in which reasons are told; the rest of it only makes the choice independent of the document's order.
    fn rank(&self) -> (Concern, String, String, String) {
        let details = serde_json::to_string(&self.reason.details).unwrap_or_default();
        (self.concern, self.reason.code.clone(), details, self.reason.user.clone().unwrap_or_default())
    }
}

fn first(refusals: Vec<No>) -> Refusal {
    const UNTOLD: &str = "A policy of this host does not allow it now.";
    match refusals.into_iter().min_by_key(No::rank) {
        None => Refusal::NotAvailable,
        Some(No { reason, .. }) => {
            let user = reason.user.unwrap_or_else(|| UNTOLD.to_owned());
            Refusal::Guard { code: reason.code, user, details: reason.details }
        }
    }
}

/// Under which terms something passes.
#[derive(Clone)]
struct Terms {
    level: Level,
    obligations: Obligations,
    needs: BTreeMap<Scope, u64>,
    /// `i64::MAX` when it never ends.
    until: i64,
    challenges: BTreeSet<Challenge>,
}

impl Terms {
    /// Those that ask nothing: the identity of `and`.
    fn free() -> Self {
        Self {
            level: Level::Admin,
            obligations: Obligations::default(),
            needs: BTreeMap::new(),
            until: i64::MAX,
            challenges: BTreeSet::new(),
        }
    }

    fn of(outcome: &Outcome) -> Self {
        let mut needs = BTreeMap::new();
        for Need::Slot { scope, limit } in &outcome.needs {
            lower(&mut needs, *scope, *limit);
        }
        let challenges = match &outcome.verdict {
            Verdict::Challenge(challenge) => BTreeSet::from([challenge.clone()]),
            Verdict::Allow | Verdict::Abstain | Verdict::Deny(_) => BTreeSet::new(),
        };
        Self {
            level: outcome.level.unwrap_or(Level::Admin),
            obligations: outcome.obligations.clone(),
            needs,
            until: outcome.valid_until.unwrap_or(i64::MAX),
            challenges,
        }
    }

    /// Both must hold.
    fn and(self, other: &Self) -> Self {
        let (level, until) = (self.level.min(other.level), self.until.min(other.until));
        Self { level, until, ..self.burdened(other) }
    }

    /// Either is enough, but what both demand is kept to.
    fn or(self, other: &Self) -> Self {
        // The end of the higher level is what must be ruled on again, however long the lower one lasts.
        let (level, until) = (self.level, self.until).max((other.level, other.until));
        Self { level, until, ..self.burdened(other) }
    }

    fn burdened(mut self, other: &Self) -> Self {
        for (scope, limit) in &other.needs {
            lower(&mut self.needs, *scope, *limit);
        }
        self.obligations = self.obligations.meet(&other.obligations);
        self.challenges.extend(other.challenges.iter().cloned());
        self
    }

    /// Why a session could not keep to them, if so.
    fn unbearable(&self, request: &Request) -> Option<No> {
        if self.obligations.run_as.len() > 1 {
            let accounts = Vec::from_iter(self.obligations.run_as.iter().cloned()).join(", ");
            let text = format!("the session would have to run as several accounts: {accounts}");
            return Some(No::engine("obligation_conflict", text));
        }
        if let Some(ended) = self.obligations.not_after.filter(|end| *end <= request.now) {
            let text = format!("sessions had to end by {}", crate::document::rfc3339(ended));
            return Some(No::engine("access_ended", text));
        }
        let honoured = &request.capabilities.0;
        let missing = Vec::from_iter(self.obligations.demands().filter(|demand| !honoured.contains(demand)));
        (!missing.is_empty()).then(|| {
            let text = format!("the session cannot honour {}", named(&missing));
            No::engine("obligation_unsupported", text)
        })
    }
}

fn named(demands: &[Demand]) -> String {
    Vec::from_iter(demands.iter().map(|demand| format!("{demand:?}"))).join(", ")
}

fn lower(needs: &mut BTreeMap<Scope, u64>, scope: Scope, limit: u64) {
    needs.entry(scope).and_modify(|lowest| *lowest = limit.min(*lowest)).or_insert(limit);
}

fn enforced<'a, 'c>(heard: &'a [Heard<'c>]) -> impl Iterator<Item = &'a Heard<'c>> {
    heard.iter().filter(|heard| !heard.module.shadow)
}

impl Heard<'_> {
    fn failed(&self) -> bool {
        matches!(self.answer, Answer::Failed { .. })
    }

    fn denied(&self) -> bool {
        matches!(&self.answer, Answer::Said(outcome) if matches!(outcome.verdict, Verdict::Deny(_)))
    }

    /// As a grant: its terms, if it grants.
    fn grants(&self) -> Option<Terms> {
        match &self.answer {
            Answer::Pending => Some(Terms::free()),
            Answer::Said(outcome) => match outcome.verdict {
                Verdict::Allow | Verdict::Challenge(_) => Some(Terms::of(outcome)),
                Verdict::Abstain | Verdict::Deny(_) => None,
            },
            Answer::Failed { .. } | Answer::Skipped => None,
        }
    }

    /// As a guard, towards a grant of `level`: its terms, or its reason, or nothing when it failed.
    fn guards(&self, level: Level) -> Result<Terms, Option<No>> {
        match &self.answer {
            Answer::Pending => Ok(Terms::free()),
            Answer::Failed { .. } | Answer::Skipped => Err(None),
            Answer::Said(outcome) => match &outcome.verdict {
                Verdict::Deny(reason) if outcome.spares.is_none_or(|spared| level < spared) => {
                    Err(Some(No { concern: self.module.concern, reason: reason.clone(), own: false }))
                }
                Verdict::Allow | Verdict::Challenge(_) => {
                    Ok(Terms { level: Level::Admin, ..Terms::of(outcome) })
                }
                Verdict::Abstain | Verdict::Deny(_) => Ok(Terms::free()),
            },
        }
    }
}

impl Hearing<'_> {
    fn vetoes(&self) -> bool {
        enforced(&self.grants).any(|heard| heard.failed() || heard.denied())
    }

    /// The terms of the grants together, if they grant. No module at all grants nothing.
    fn granted(&self) -> Option<Terms> {
        let granted = Vec::from_iter(enforced(&self.grants).map(Heard::grants));
        let together = match self.policy.combine {
            Combine::AllOf => {
                granted.into_iter().collect::<Option<Vec<_>>>()?.into_iter().reduce(|a, b| a.and(&b))
            }
            Combine::AnyOf => easiest(granted.into_iter().flatten().collect()),
        };
        together.map(|terms| Terms { level: terms.level.min(self.policy.level), ..terms })
    }

    /// What the grants' terms become under the guards, the guardrails and the policy's own obligations.
    fn guarded(&self, granted: Terms, guardrails: &[Heard<'_>], request: &Request) -> Result<Terms, Vec<No>> {
        let mut reasons = Vec::new();
        let mut closed = false;
        let level = granted.level;
        let mut terms = granted;
        for heard in enforced(guardrails).chain(enforced(&self.guards)) {
            match heard.guards(level) {
                Ok(more) => terms = terms.and(&more),
                Err(no) => {
                    closed = true;
                    reasons.extend(no);
                }
            }
        }
        terms.obligations = terms.obligations.meet(&self.policy.obligations);
        reasons.extend(terms.unbearable(request));
        if level < request.level {
            let text = format!("it gives {level:?}, and {:?} was asked for", request.level);
            reasons.push(No::engine("level_too_low", text));
        }
        if closed || !reasons.is_empty() { Err(reasons) } else { Ok(terms) }
    }
}

/// Of several terms each of which is enough, those with the fewest challenges, together.
fn easiest(mut offers: Vec<Terms>) -> Option<Terms> {
    let fewest = offers.iter().map(|terms| (terms.challenges.len(), terms.challenges.clone())).min()?;
    offers.retain(|terms| terms.challenges == fewest.1);
    offers.into_iter().reduce(|a, b| a.or(&b))
}

/// The answer of the policies that passed, unless what they demand together cannot be kept to.
fn settled(mut passed: Vec<(String, Terms)>, request: &Request) -> Result<Effect, No> {
    let Some(terms) = easiest(passed.iter().map(|(_, terms)| terms.clone()).collect()) else {
        return Ok(Effect::Deny(Refusal::NotAvailable));
    };
    passed.retain(|(_, own)| own.challenges == terms.challenges);
    if let Some(no) = terms.unbearable(request) {
        return Err(no);
    }
    if !terms.challenges.is_empty() {
        return Ok(Effect::Challenge(terms.challenges.into_iter().collect()));
    }
    Ok(Effect::Allow(Grant {
        level: terms.level,
        obligations: terms.obligations,
        needs: terms.needs.into_iter().map(|(scope, limit)| Need::Slot { scope, limit }).collect(),
        valid_until: (terms.until < i64::MAX).then_some(terms.until),
        policies: passed.into_iter().map(|(id, _)| id).collect(),
    }))
}
