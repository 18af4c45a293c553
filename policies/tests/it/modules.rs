//! What each module says, through the chain.

use policies::concurrency::limit_reached;
use policies::{
    AssetFacts, AssetStatus, Capabilities, Chain, Effect, Facts, Finding, Level, LiveSessions, Need, Purpose,
    Refusal, Request, Ruling, Scope, Subject, builtin,
};
use proptest::prelude::*;
use serde_json::{Value, json};

/// 2026-11-23T12:00:00Z.
pub(crate) const NOW: i64 = 1_795_435_200_000;

/// Alice, in the group `ops`, on the list of an asset that is up, asks to type.
pub(crate) fn alice() -> Request {
    let subject = Subject { id: "alice".into(), groups: vec!["ops".into()], ..Subject::default() };
    let asset = AssetFacts {
        id: "web-1".into(),
        allowed_users: vec!["alice".into()],
        online: true,
        ..AssetFacts::default()
    };
    let facts = Facts { subject, asset: Some(asset), ..Facts::default() };
    Request { facts, now: NOW, level: Level::User, capabilities: Capabilities::all() }
}

fn with_asset(change: impl FnOnce(&mut AssetFacts)) -> Request {
    let mut request = alice();
    change(request.facts.asset.as_mut().unwrap());
    request
}

pub(crate) async fn rule(document: &Value, request: &Request, purpose: Purpose) -> Ruling {
    let chain = Chain::from_value(document.clone(), &builtin());
    chain.unwrap_or_else(|faults| panic!("{faults:?}")).decide(request, purpose).await
}

/// One policy that lets in by the given configuration of `allowed_users`, at the given level.
fn listed(level: &str, config: &Value) -> Value {
    json!({"policies": [{"id": "p", "applies_to": {"all": true}, "level": level,
        "grants": {"any_of": [{"id": "a", "kind": "allowed_users", "config": config}]}}]})
}

fn guarded(level: &str, kind: &str, config: &Value) -> Value {
    let mut document = listed(level, &json!({}));
    document["guardrails"] = json!([{"id": "g", "kind": kind, "config": config}]);
    document
}

fn code(ruling: &Ruling) -> &str {
    match &ruling.effect {
        Effect::Allow(_) => "allowed",
        Effect::Deny(Refusal::NotAvailable) => "not_available",
        Effect::Deny(Refusal::Guard { code, .. }) => code,
        Effect::Challenge(_) => "challenge",
    }
}

#[tokio::test]
async fn allowed_users_goes_by_id_and_an_empty_list_is_nobody() {
    let others =
        json!({"entries": [{"user": "Alice"}, {"user": "alice2"}, {"group": "alice"}, {"user": "ops"}]});
    for (config, expected) in [
        (json!({}), "allowed"),
        (json!({"entries": []}), "not_available"),
        (others, "not_available"),
        (json!({"entries": [{"user": "alice"}]}), "allowed"),
        (json!({"entries": [{"group": "ops"}]}), "allowed"),
        (json!({"entries": [{"everyone": true}]}), "allowed"),
        (json!({"entries": [{"everyone": true}], "blocked": ["alice"]}), "not_available"),
        (json!({"blocked": ["alice"]}), "not_available"),
        (json!({"blocked": ["bob"]}), "allowed"),
    ] {
        let ruling = rule(&listed("user", &config), &alice(), Purpose::Issue).await;
        assert_eq!(code(&ruling), expected, "{config}");
    }
    let nobody = with_asset(|asset| asset.allowed_users.clear());
    assert_eq!(code(&rule(&listed("user", &json!({})), &nobody, Purpose::Issue).await), "not_available");
}

#[tokio::test]
async fn an_entry_counts_until_its_instant_and_not_at_it() {
    let document =
        listed("user", &json!({"entries": [{"user": "alice", "until": "2026-11-23T13:00:00+01:00"}]}));
    let before = rule(&document, &Request { now: NOW - 1, ..alice() }, Purpose::Issue).await;
    assert_eq!(before.grant().unwrap().valid_until, Some(NOW));
    let at = rule(&document, &Request { now: NOW, ..alice() }, Purpose::Issue).await;
    assert_eq!((code(&at), at.trail[0].verdict), ("not_available", Finding::Abstain));
}

#[tokio::test]
async fn the_highest_level_counts_but_never_more_than_the_policy_gives() {
    let entries = json!({"entries": [
        {"everyone": true, "level": "viewer"},
        {"group": "ops", "level": "user"},
        {"user": "alice", "level": "admin", "until": "2026-11-24T00:00:00Z"},
    ]});
    for (policy, expected) in [("admin", Level::Admin), ("user", Level::User), ("viewer", Level::Viewer)] {
        let request = Request { level: Level::Viewer, ..alice() };
        let ruling = rule(&listed(policy, &entries), &request, Purpose::Issue).await;
        assert_eq!(ruling.grant().unwrap().level, expected);
    }
    let watcher = rule(&listed("viewer", &entries), &alice(), Purpose::Issue).await;
    assert_eq!(code(&watcher), "level_too_low");
}

#[tokio::test]
async fn asset_state_refuses_who_may_otherwise_and_says_why() {
    let of = |online, status| with_asset(|asset| (asset.online, asset.status) = (online, status));
    let (maintenance, quarantined) = (Some(AssetStatus::Maintenance), Some(AssetStatus::Quarantined));
    for (level, online, status, purpose, expected) in [
        ("user", true, None, Purpose::Issue, "allowed"),
        ("admin", false, None, Purpose::Issue, "asset_offline"),
        ("admin", false, None, Purpose::Redeem, "asset_offline"),
        ("user", false, None, Purpose::Continue, "allowed"),
        ("user", true, maintenance, Purpose::Issue, "asset_maintenance"),
        ("admin", true, maintenance, Purpose::Issue, "allowed"),
        ("admin", false, maintenance, Purpose::Issue, "asset_offline"),
        ("admin", true, quarantined, Purpose::Issue, "asset_quarantined"),
        ("admin", false, quarantined, Purpose::Continue, "asset_quarantined"),
    ] {
        let ruling = rule(&guarded(level, "asset_state", &json!({})), &of(online, status), purpose).await;
        assert_eq!(code(&ruling), expected, "{level} {online} {status:?} {purpose:?}");
    }
}

#[tokio::test]
async fn an_offline_host_tells_when_it_was_last_seen() {
    let request = with_asset(|asset| (asset.online, asset.last_seen) = (false, Some(NOW)));
    let ruling = rule(&guarded("user", "asset_state", &json!({})), &request, Purpose::Issue).await;
    let Effect::Deny(Refusal::Guard { user, details, .. }) = ruling.effect else { panic!("{ruling:?}") };
    assert_eq!(
        (user.as_str(), &details["last_seen"]),
        ("This host is offline.", &json!("2026-11-23T12:00:00Z"))
    );
}

#[tokio::test]
async fn concurrency_peeks_and_states_its_needs() {
    let document =
        guarded("user", "concurrency", &json!({"per_user": 2, "per_asset": 3, "per_user_asset": 1}));
    let live = |user, asset, user_asset| {
        let mut request = alice();
        request.facts.live = LiveSessions { user, asset, user_asset, global: 99 };
        request
    };
    let free = rule(&document, &live(1, 2, 0), Purpose::Redeem).await;
    let slot = |scope, limit| Need::Slot { scope, limit };
    assert_eq!(
        free.grant().unwrap().needs,
        [slot(Scope::UserAsset, 1), slot(Scope::User, 2), slot(Scope::Asset, 3)]
    );
    for (request, scope, limit) in
        [(live(2, 2, 0), "user", 2), (live(0, 3, 0), "asset", 3), (live(2, 3, 1), "user_asset", 1)]
    {
        let Effect::Deny(Refusal::Guard { code, details, .. }) =
            rule(&document, &request, Purpose::Issue).await.effect
        else {
            panic!("{scope} was not full");
        };
        assert_eq!(code, "limit_reached");
        assert_eq!(Value::Object(details), json!({"scope": scope, "limit": limit}));
    }
    let going_on = rule(&document, &live(9, 9, 9), Purpose::Continue).await;
    assert!(going_on.grant().unwrap().needs.is_empty());
}

#[tokio::test]
async fn the_lowest_limit_of_a_scope_is_the_need() {
    let mut document = guarded("user", "concurrency", &json!({"per_user": 5, "global": 9}));
    document["policies"][0]["guards"] =
        json!([{"id": "c", "kind": "concurrency", "config": {"per_user": 3}}]);
    let ruling = rule(&document, &alice(), Purpose::Issue).await;
    let slot = |scope, limit| Need::Slot { scope, limit };
    assert_eq!(ruling.grant().unwrap().needs, [slot(Scope::User, 3), slot(Scope::Global, 9)]);
}

#[tokio::test]
async fn a_limit_of_zero_lets_nobody_in() {
    let ruling =
        rule(&guarded("user", "concurrency", &json!({"global": 0})), &alice(), Purpose::Redeem).await;
    assert_eq!(code(&ruling), limit_reached(Scope::Global, 0).code);
}

#[tokio::test]
async fn tickets_are_rationed_by_the_time_given_and_each_user_apart() {
    let document = guarded("user", "rate_limit", &json!({"per_user_per_minute": 6, "burst": 2}));
    let chain = Chain::from_value(document, &builtin()).unwrap();
    let at = |offset| Request { now: NOW + offset, ..alice() };
    let mut said = Vec::new();
    for offset in [0, 0, 0, 9_999, 10_000, 10_000] {
        said.push(code(&chain.decide(&at(offset), Purpose::Issue).await).to_owned());
    }
    assert_eq!(said, ["allowed", "allowed", "rate_limited", "rate_limited", "allowed", "rate_limited"]);
    let Effect::Deny(Refusal::Guard { details, .. }) = chain.decide(&at(10_001), Purpose::Issue).await.effect
    else {
        panic!("not limited");
    };
    assert_eq!(details["retry_after"], json!(10));
    let mut bob = at(10_001);
    bob.facts.subject.id = "bob".into();
    bob.facts.asset.as_mut().unwrap().allowed_users.push("bob".into());
    assert_eq!(code(&chain.decide(&bob, Purpose::Issue).await), "allowed");
}

#[tokio::test]
async fn only_asking_for_a_ticket_counts_and_a_clock_set_back_gives_nothing() {
    let document = guarded("user", "rate_limit", &json!({"per_user_per_minute": 1}));
    let chain = Chain::from_value(document, &builtin()).unwrap();
    for purpose in [Purpose::List, Purpose::Redeem, Purpose::Continue, Purpose::Simulate, Purpose::Redeem] {
        let far = Request { now: NOW + 3_600_000, ..alice() };
        assert_eq!(code(&chain.decide(&far, purpose).await), "allowed");
    }
    assert_eq!(code(&chain.decide(&alice(), Purpose::Issue).await), "allowed");
    let earlier = Request { now: NOW - 3_600_000, ..alice() };
    assert_eq!(code(&chain.decide(&earlier, Purpose::Issue).await), "rate_limited");
}

fn entry() -> impl Strategy<Value = Value> {
    let level = prop_oneof![Just("viewer"), Just("user"), Just("admin")];
    let who = prop_oneof![
        Just(("user", json!("alice"))),
        Just(("user", json!("bob"))),
        Just(("group", json!("ops"))),
        Just(("group", json!("dev"))),
        Just(("everyone", json!(true))),
    ];
    (who, level).prop_map(|((who, id), level)| json!({who: id, "level": level}))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn removing_an_entry_a_group_or_a_listed_user_never_opens(
        entries in proptest::option::of(proptest::collection::vec(entry(), 1..4)),
        listed in proptest::collection::vec(prop_oneof![Just("alice".to_owned()), Just("bob".to_owned())], 0..3),
        (blocked, per_user) in (any::<bool>(), 0_u32..3),
        gone in 0_usize..4,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let allows = |entries: &Option<Vec<Value>>, per_user: u32, request: &Request| {
            let blocked = if blocked { vec!["bob"] } else { vec!["alice"] };
            let mut document = listed_by(entries.as_ref(), &blocked);
            document["guardrails"] = json!([{"id": "c", "kind": "concurrency", "config": {"per_user": per_user}}]);
            runtime.block_on(rule(&document, request, Purpose::Issue)).grant().is_some()
        };
        let mut request = with_asset(|asset| asset.allowed_users = listed);
        request.facts.live.user = 1;
        let before = allows(&entries, per_user, &request);
        let fewer = entries.clone().map(|mut entries| { entries.remove(gone % entries.len()); entries });
        prop_assert!(before || !allows(&fewer, per_user, &request));
        prop_assert!(before || !allows(&entries, per_user.saturating_sub(1), &request));
        let mut alone = request.clone();
        alone.facts.subject.groups.clear();
        prop_assert!(before || !allows(&entries, per_user, &alone));
        let mut unlisted = request;
        unlisted.facts.asset.as_mut().unwrap().allowed_users.pop();
        prop_assert!(before || !allows(&entries, per_user, &unlisted));
    }
}

fn listed_by(entries: Option<&Vec<Value>>, blocked: &[&str]) -> Value {
    match entries {
        Some(entries) => listed("admin", &json!({"entries": entries, "blocked": blocked})),
        None => listed("admin", &json!({"blocked": blocked})),
    }
}
