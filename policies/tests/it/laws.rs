//! The chain's laws as properties, held against an oracle that knows nothing of how the engine works.

use crate::scripted::{self, Doc, Guard, Says, decide, document, request};
use policies::{Capabilities, Demand, Effect, Finding, Level, Purpose, Refusal, Request, Ruling};
use proptest::prelude::*;

/// Twelve lines of boolean algebra: the whole rule.
fn oracle(doc: &Doc, request: &Request) -> bool {
    let live = |m: &&Guard| !m.shadow;
    let veto = |m: &Guard| matches!(m.says, Says::Deny | Says::Error | Says::Panic);
    let grants_veto = doc.policies.iter().any(|p| p.grants.iter().filter(live).any(veto));
    let rails_fail = doc.guardrails.iter().filter(live).any(Guard::failing);
    let passes = doc.policies.iter().any(|p| {
        let says = Vec::from_iter(p.grants.iter().filter(live).map(|m| matches!(m.says, Says::Allow(_))));
        let granted = if p.all { !says.is_empty() && says.iter().all(|s| *s) } else { says.contains(&true) };
        let level = p.granted_level();
        let objects = |m: &Guard| match m.says {
            Says::Spare(spared) => level < spared,
            _ => veto(m),
        };
        let guarded = !doc.guardrails.iter().chain(&p.guards).filter(live).any(objects);
        let honoured = !p.read_only || request.capabilities.0.contains(&Demand::ReadOnly);
        granted && guarded && honoured && level >= request.level
    });
    passes && !grants_veto && !rails_fail && !request.facts.subject.disabled && request.facts.asset.is_some()
}

fn allows(ruling: &Ruling) -> bool {
    matches!(ruling.effect, Effect::Allow(_))
}

fn hidden(ruling: &Ruling) -> bool {
    ruling.effect == Effect::Deny(Refusal::NotAvailable)
}

fn shuffled<T: Clone>(items: &[T], seed: usize) -> Vec<T> {
    let mut items = items.to_vec();
    items.reverse();
    let middle = if items.is_empty() { 0 } else { seed % items.len() };
    items.rotate_left(middle);
    items
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_engine_agrees_with_the_oracle(doc in document(), request in request()) {
        let ruling = decide(&doc, &request, Purpose::Issue);
        prop_assert_eq!(allows(&ruling), oracle(&doc, &request), "{:#?}", ruling);
    }

    #[test]
    fn order_never_changes_the_answer(doc in document(), request in request(), seed in 0_usize..24) {
        let mut other = doc.clone();
        other.guardrails = shuffled(&other.guardrails, seed);
        other.policies = shuffled(&other.policies, seed);
        for policy in &mut other.policies {
            policy.grants = shuffled(&policy.grants, seed);
            policy.guards = shuffled(&policy.guards, seed);
        }
        let sorted = |ruling: Ruling| match ruling.effect {
            Effect::Allow(mut grant) => {
                // Names follow the place here, so that only their number can be compared.
                grant.policies.iter_mut().for_each(String::clear);
                Effect::Allow(grant)
            }
            other => other,
        };
        let (one, two) = (decide(&doc, &request, Purpose::Issue), decide(&other, &request, Purpose::Issue));
        prop_assert_eq!(sorted(one), sorted(two));
    }

    #[test]
    fn a_guardrail_only_narrows(doc in document(), request in request(), says in scripted::says()) {
        let mut narrowed = doc.clone();
        narrowed.guardrails.push(Guard::new(says));
        let (before, after) = (decide(&doc, &request, Purpose::Issue), decide(&narrowed, &request, Purpose::Issue));
        prop_assert!(allows(&before) || !allows(&after));
    }

    #[test]
    fn a_policy_without_a_veto_only_adds(doc in document(), more in scripted::policy(), request in request()) {
        let vetoes = more.grants.iter().any(|m| !m.shadow && (m.failing() || m.says == Says::Deny));
        prop_assume!(!vetoes);
        let mut widened = doc.clone();
        widened.policies.push(more);
        let (before, after) = (decide(&doc, &request, Purpose::Issue), decide(&widened, &request, Purpose::Issue));
        prop_assert!(!allows(&before) || allows(&after));
    }

    #[test]
    fn a_veto_wins_and_hides(doc in document(), request in request(), at in 0_usize..8) {
        prop_assume!(!doc.policies.is_empty());
        let mut vetoed = doc.clone();
        let at = at % vetoed.policies.len();
        vetoed.policies[at].grants.push(Guard::new(Says::Deny));
        prop_assert!(hidden(&decide(&vetoed, &request, Purpose::Issue)));
    }

    #[test]
    fn a_failure_anywhere_denies(doc in document(), request in request(), at in 0_usize..64, panics: bool) {
        let mut broken = doc.clone();
        // With one policy every module is needed, so that none may fail unseen.
        broken.policies.truncate(1);
        let says = if panics { Says::Panic } else { Says::Error };
        let mut places = broken.places();
        let at = at % places.len();
        places.swap_remove(at).push(Guard::new(says));
        prop_assert!(!allows(&decide(&broken, &request, Purpose::Issue)));
    }

    #[test]
    fn a_failing_guard_closes_its_own_policy_and_no_other(doc in document(), request in request(), at in 0_usize..8) {
        prop_assume!(!doc.policies.is_empty());
        let mut broken = doc.clone();
        let at = at % broken.policies.len();
        broken.policies[at].guards.push(Guard::new(Says::Error));
        let ruling = decide(&broken, &request, Purpose::Issue);
        prop_assert!(!ruling.policies[at].passes);
        prop_assert_eq!(allows(&ruling), oracle(&broken, &request));
    }

    #[test]
    fn a_shadow_module_is_inert(doc in document(), request in request(), says in scripted::says(), at in 0_usize..64) {
        let mut shadowed = doc.clone();
        let mut places = shadowed.places();
        let at = at % places.len();
        places.swap_remove(at).push(Guard { shadow: true, ..Guard::new(says) });
        let (one, two) = (decide(&doc, &request, Purpose::Issue), decide(&shadowed, &request, Purpose::Issue));
        prop_assert_eq!(one.effect, two.effect);
    }

    #[test]
    fn simulating_answers_as_deciding_does(doc in document(), request in request()) {
        let real = decide(&doc, &request, Purpose::Issue);
        let simulated = decide(&doc, &request, Purpose::Simulate);
        prop_assert_eq!(real.effect, simulated.effect);
        prop_assert_eq!(real.policies, simulated.policies);
        prop_assert!(simulated.trail.iter().all(|entry| entry.verdict != Finding::Skipped));
    }

    #[test]
    fn removing_a_guardless_grant_never_opens(doc in document(), request in request(), at in 0_usize..8) {
        let mut less = doc.clone();
        for policy in &mut less.policies {
            // An explicit block is the one thing whose removal may open.
            let removable = |m: &Guard| !m.failing() && m.says != Says::Deny && !policy.all;
            if let Some(gone) = policy.grants.iter().position(removable).filter(|_| at % 2 == 0) {
                policy.grants.remove(gone);
            }
        }
        less.policies.retain(|policy| !policy.grants.is_empty());
        let blocked = |doc: &Doc| doc.policies.iter().flat_map(|p| &p.grants).filter(|m| m.failing() || m.says == Says::Deny).count();
        prop_assume!(blocked(&doc) == blocked(&less));
        let (before, after) = (decide(&doc, &request, Purpose::Issue), decide(&less, &request, Purpose::Issue));
        prop_assert!(allows(&before) || !allows(&after));
    }

    #[test]
    fn a_higher_level_is_never_easier_to_get(doc in document(), request in request()) {
        let lower = Request { level: Level::Viewer, ..request.clone() };
        let (high, low) = (decide(&doc, &request, Purpose::Issue), decide(&doc, &lower, Purpose::Issue));
        prop_assert!(!allows(&high) || allows(&low));
    }

    #[test]
    fn honouring_less_never_opens(doc in document(), request in request()) {
        let less = Request { capabilities: Capabilities::default(), ..request.clone() };
        let (before, after) = (decide(&doc, &request, Purpose::Issue), decide(&doc, &less, Purpose::Issue));
        prop_assert!(allows(&before) || !allows(&after));
    }
}
