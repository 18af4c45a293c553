//! The engine's own promises: what is told, what is hidden, what is skipped, and what it does with modules that misbehave.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use policies::{
    Capabilities, Chain, Challenge, ChallengeKind, Class, Concern, ConfigError, Cost, Demand, Effect,
    EvalCtx, Facts, Finding, ModuleError, Obligations, Outcome, PolicyFactory, PolicyModule, Purpose, Reason,
    Refusal, Registry, Request, Ruling, Verdict, builtin, starting_document,
};
use serde_json::{Value, json};

use crate::modules::{NOW, alice, rule};

/// A kind whose modules all answer what one function answers.
#[derive(Clone)]
struct Stub {
    kind: &'static str,
    class: Class,
    cost: Cost,
    concern: Concern,
    asked: Arc<AtomicUsize>,
    answer: fn() -> Outcome,
    stalls: bool,
}

impl Stub {
    fn new(kind: &'static str, class: Class, cost: Cost, answer: fn() -> Outcome) -> Self {
        Self { kind, class, cost, concern: Concern::Other, asked: Arc::default(), answer, stalls: false }
    }
}

impl PolicyFactory for Stub {
    fn kind(&self) -> &'static str {
        self.kind
    }
    fn class(&self) -> Class {
        self.class
    }
    fn cost(&self) -> Cost {
        self.cost
    }
    fn concern(&self) -> Concern {
        self.concern
    }
    fn schema(&self) -> schemars::Schema {
        schemars::json_schema!(true)
    }
    fn build(&self, _: Value) -> Result<Arc<dyn PolicyModule>, ConfigError> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl PolicyModule for Stub {
    async fn evaluate(&self, _: &EvalCtx<'_>) -> Result<Outcome, ModuleError> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if self.stalls {
            tokio::time::sleep(Duration::from_secs(3600)).await;
        }
        Ok((self.answer)())
    }
}

fn deny() -> Outcome {
    Outcome::deny(Reason::new("stubbed", "the stub says no").told("Not now."))
}

/// A document with a policy `p` of the asset's own list, and guardrails and grants of the given kinds.
fn document(guardrails: &[&str], grants: &[&str]) -> Value {
    let listed = |kinds: &[&str]| {
        Vec::from_iter(
            kinds.iter().enumerate().map(|(nth, kind)| json!({"id": format!("{kind}{nth}"), "kind": kind})),
        )
    };
    json!({"guardrails": listed(guardrails), "policies": [
        {"id": "p", "applies_to": {"all": true}, "level": "user", "grants": {"any_of": listed(grants)}}]})
}

async fn ruled(registry: &Registry, document: Value, request: &Request) -> Ruling {
    Chain::from_value(document, registry).unwrap().decide(request, Purpose::Issue).await
}

fn code(ruling: &Ruling) -> &str {
    match &ruling.effect {
        Effect::Deny(Refusal::Guard { code, .. }) => code,
        _ => "",
    }
}

#[tokio::test]
async fn who_has_no_grant_is_told_the_same_whatever_the_reason() {
    let chain = Chain::load(starting_document(), &builtin()).unwrap();
    let mut stranger = alice();
    stranger.facts.subject.id = "mallory".into();
    let mut offline = stranger.clone();
    offline.facts.asset.as_mut().unwrap().online = false;
    let mut unknown = alice();
    unknown.facts.asset = None;
    let mut deleted = alice();
    deleted.facts.asset.as_mut().unwrap().deleted = true;
    let mut disabled = alice();
    disabled.facts.subject.disabled = true;
    for request in [stranger, offline, unknown, deleted, disabled] {
        let ruling = chain.decide(&request, Purpose::Issue).await;
        assert_eq!(ruling.effect, Effect::Deny(Refusal::NotAvailable), "{request:?}");
        assert_eq!(ruling.trail.iter().filter(|entry| entry.kind != "engine").count(), 3, "the same work");
    }
}

#[tokio::test]
async fn of_several_reasons_the_first_by_concern_is_told() {
    let concerns = [
        Concern::AssetState,
        Concern::Address,
        Concern::Window,
        Concern::Limits,
        Concern::Approval,
        Concern::Other,
    ];
    let kinds = ["state", "address", "window", "limits", "approval", "other"];
    let answers: [fn() -> Outcome; 6] = [
        || Outcome::deny(Reason::new("state", "")),
        || Outcome::deny(Reason::new("address", "")),
        || Outcome::deny(Reason::new("window", "")),
        || Outcome::deny(Reason::new("limits", "")),
        || Outcome::deny(Reason::new("approval", "")),
        || Outcome::deny(Reason::new("other", "")),
    ];
    let mut registry = builtin();
    for ((kind, concern), answer) in kinds.into_iter().zip(concerns).zip(answers) {
        registry = registry.register(Stub { concern, ..Stub::new(kind, Class::Guard, Cost::Pure, answer) });
    }
    for first in 0..kinds.len() {
        let mut rails = kinds[first..].to_vec();
        rails.reverse();
        let ruling = ruled(&registry, document(&rails, &["allowed_users"]), &alice()).await;
        assert_eq!(code(&ruling), kinds[first]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_module_that_does_not_answer_in_two_seconds_denies_and_hides() {
    let stub = Stub { stalls: true, ..Stub::new("slow", Class::Guard, Cost::Reads, Outcome::allow) };
    let ruling = ruled(&builtin().register(stub), document(&["slow"], &["allowed_users"]), &alice()).await;
    assert_eq!(ruling.effect, Effect::Deny(Refusal::NotAvailable));
    let entry = &ruling.trail[0];
    assert_eq!((entry.verdict, entry.code.as_deref()), (Finding::Failed, Some("module_timed_out")));
    assert_eq!(entry.micros / 1_000_000, 2);
}

#[tokio::test]
async fn a_broken_guardrail_hides_what_another_said() {
    fn stale() -> Outcome {
        Outcome { valid_until: Some(NOW), ..Outcome::allow() }
    }
    let registry = builtin()
        .register(Stub::new("broken", Class::Guard, Cost::Pure, stale))
        .register(Stub::new("no", Class::Guard, Cost::Pure, deny));
    let told = ruled(&registry, document(&["no"], &["allowed_users"]), &alice()).await;
    let hidden = ruled(&registry, document(&["no", "broken"], &["allowed_users"]), &alice()).await;
    assert!(told.visible() && !hidden.visible());
}

#[tokio::test]
async fn an_answer_that_has_already_ended_is_a_failure() {
    fn stale() -> Outcome {
        Outcome { valid_until: Some(NOW), ..Outcome::allow() }
    }
    let registry = builtin().register(Stub::new("stale", Class::Grant, Cost::Pure, stale));
    let ruling = ruled(&registry, document(&[], &["stale"]), &alice()).await;
    assert_eq!(ruling.effect, Effect::Deny(Refusal::NotAvailable));
}

#[tokio::test]
async fn a_remote_guard_is_skipped_once_the_answer_is_no_but_pure_ones_all_run() {
    let remote = Stub::new("remote", Class::Guard, Cost::Remote, deny);
    let pure = Stub::new("pure", Class::Guard, Cost::Pure, deny);
    let veto = Stub::new("veto", Class::Grant, Cost::Remote, deny);
    let (asked_remote, asked_pure) = (Arc::clone(&remote.asked), Arc::clone(&pure.asked));
    let registry = builtin().register(remote).register(pure).register(veto);
    let denied = ruled(&registry, document(&["remote", "pure", "pure"], &["allowed_users"]), &alice()).await;
    assert_eq!((asked_remote.load(Ordering::Relaxed), asked_pure.load(Ordering::Relaxed)), (0, 2));
    assert_eq!(denied.trail[0].verdict, Finding::Skipped);
    assert_eq!(code(&denied), "stubbed");
    let hidden = ruled(&registry, document(&["pure"], &["allowed_users", "veto"]), &alice()).await;
    assert!(!hidden.visible(), "a remote veto hides even what a guard had refused before");
    ruled(&registry, document(&["remote"], &["allowed_users"]), &alice()).await;
    assert_eq!(asked_remote.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_challenge_is_asked_only_when_nothing_easier_passes() {
    fn mfa() -> Outcome {
        Outcome::of(Verdict::Challenge(Challenge { kind: ChallengeKind::Mfa, rule: "mfa".into() }))
    }
    let registry = builtin().register(Stub::new("ask", Class::Grant, Cost::Pure, mfa)).register(Stub::new(
        "step_up",
        Class::Guard,
        Cost::Pure,
        mfa,
    ));
    let easier = ruled(&registry, document(&[], &["ask", "allowed_users"]), &alice()).await;
    assert!(easier.grant().is_some());
    let expected = Effect::Challenge(vec![Challenge { kind: ChallengeKind::Mfa, rule: "mfa".into() }]);
    assert_eq!(ruled(&registry, document(&[], &["ask"]), &alice()).await.effect, expected);
    assert_eq!(ruled(&registry, document(&["step_up"], &["allowed_users"]), &alice()).await.effect, expected);
}

fn obliged(first: &Value, second: &Value) -> Value {
    let policy = |id: &str, obligations: &Value| {
        json!({"id": id, "applies_to": {"all": true}, "level": "user", "obligations": obligations,
            "grants": {"any_of": [{"id": "a", "kind": "allowed_users"}]}})
    };
    json!({"policies": [policy("one", first), policy("two", second)]})
}

#[tokio::test]
async fn obligations_of_all_that_allowed_meet() {
    let document = obliged(
        &json!({"max_duration": "8h", "idle_timeout": "5m", "notify": ["a"]}),
        &json!({"max_duration": "4h", "record_input": true, "run_as": "deploy", "not_after": "2026-11-24T00:00:00Z"}),
    );
    let ruling = rule(&document, &alice(), Purpose::Issue).await;
    let grant = ruling.grant().unwrap();
    assert_eq!(grant.policies, ["one", "two"]);
    let expected = Obligations {
        max_duration: Some(4 * 3600),
        idle_timeout: Some(300),
        not_after: Some(NOW + 12 * 3_600_000),
        record_input: true,
        read_only: false,
        notify: ["a".to_owned()].into(),
        run_as: ["deploy".to_owned()].into(),
    };
    assert_eq!(grant.obligations, expected);
}

#[tokio::test]
async fn a_session_that_must_run_as_two_accounts_is_denied() {
    let document = obliged(&json!({"run_as": "deploy"}), &json!({"run_as": "backup"}));
    let ruling = rule(&document, &alice(), Purpose::Issue).await;
    assert_eq!(code(&ruling), "obligation_conflict");
    assert!(ruling.trail.iter().any(|entry| entry.code.as_deref() == Some("obligation_conflict")));
}

#[tokio::test]
async fn a_policy_whose_obligations_cannot_be_honoured_does_not_count() {
    let document = obliged(&json!({"read_only": true}), &json!({}));
    let cannot = Demand::ALL.into_iter().filter(|demand| *demand != Demand::ReadOnly);
    let request = Request { capabilities: Capabilities::of(cannot), ..alice() };
    assert_eq!(rule(&document, &request, Purpose::Issue).await.grant().unwrap().policies, ["two"]);
    let both = obliged(&json!({"read_only": true}), &json!({"read_only": true}));
    assert_eq!(code(&rule(&both, &request, Purpose::Issue).await), "obligation_unsupported");
}

#[tokio::test]
async fn what_had_to_end_before_now_does_not_begin() {
    let past = json!({"not_after": "2026-11-23T12:00:00Z"});
    assert_eq!(code(&rule(&obliged(&past, &past), &alice(), Purpose::Issue).await), "access_ended");
}

#[tokio::test]
async fn a_higher_level_is_ruled_on_again_when_it_ends() {
    let document = json!({"policies": [{"id": "p", "applies_to": {"all": true}, "level": "admin",
    "grants": {"any_of": [
        {"id": "for_now", "kind": "allowed_users", "config": {"entries": [{"user": "alice", "until": "2026-11-24T00:00:00Z"}]}},
        {"id": "for_good", "kind": "allowed_users", "config": {"entries": [{"user": "alice", "level": "user"}]}},
    ]}}]});
    let ruling = rule(&document, &alice(), Purpose::Issue).await;
    assert_eq!(ruling.grant().unwrap().valid_until, Some(NOW + 12 * 3_600_000));
}

#[tokio::test]
async fn a_decision_can_be_replayed_from_what_was_kept() {
    let chain = Chain::load(starting_document(), &builtin()).unwrap();
    let ruling = chain.decide(&alice(), Purpose::Issue).await;
    let kept: Facts = serde_json::from_value(serde_json::to_value(alice().facts).unwrap()).unwrap();
    let again = chain.decide(&Request { facts: kept, ..alice() }, Purpose::Issue).await;
    assert_eq!(again.effect, ruling.effect);
    let read: Ruling = serde_json::from_value(serde_json::to_value(&ruling).unwrap()).unwrap();
    assert_eq!(read, ruling);
}
