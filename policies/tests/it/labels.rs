//! `labels`: who is bound to which hosts, and which selectors may bind at all.

use policies::{AssetFacts, Chain, EventMask, Facts, Level, Purpose, Request, Selector, Subject, builtin};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::modules::{alice, rule};

fn bound(bindings: &Value) -> Value {
    json!({"policies": [{"id": "p", "applies_to": {"all": true}, "level": "admin",
        "grants": {"any_of": [{"id": "l", "kind": "labels", "config": {"bindings": bindings}}]}}]})
}

/// Alice, in the group `ops`, asks to watch a host with these labels, such as `env=prod,tier=web`.
fn labelled(labels: &str) -> Request {
    let pairs = labels.split(',').filter_map(|pair| pair.split_once('='));
    let labels = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    let asset = AssetFacts { id: "web-1".into(), labels, online: true, ..AssetFacts::default() };
    let subject = Subject { id: "alice".into(), groups: vec!["ops".into()], ..Subject::default() };
    let facts = Facts { subject, asset: Some(asset), ..Facts::default() };
    Request { facts, level: Level::Viewer, ..alice() }
}

async fn level(bindings: &Value, labels: &str) -> Option<Level> {
    rule(&bound(bindings), &labelled(labels), Purpose::Issue).await.grant().map(|grant| grant.level)
}

#[tokio::test]
async fn every_kind_of_term_means_what_it_means_in_kubernetes() {
    let table = [
        ("env=prod", "env=prod", true),
        ("env==prod", "env=prod", true),
        ("env=prod", "env=PROD", false),
        ("env=prod", "env=dev", false),
        ("env=prod", "", false),
        ("env in (prod,dev)", "env=dev", true),
        ("env in (prod,dev)", "env=test", false),
        ("env", "env=", true),
        ("env", "tier=env", false),
        ("env,env!=prod", "env=dev", true),
        ("env,env!=prod", "env=prod", false),
        ("env,env!=prod", "tier=web", false),
        ("env,env notin (prod,dev)", "env=test", true),
        ("env,env notin (prod,dev)", "env=dev", false),
        ("env,!quarantine", "env=prod", true),
        ("env,!quarantine", "env=prod,quarantine=", false),
        ("env=prod,tier in (web,db)", "env=prod,tier=db", true),
        ("env=prod,tier in (web,db)", "env=prod", false),
    ];
    for (selector, labels, expected) in table {
        let found = level(&json!([{"groups": ["ops"], "selector": selector}]), labels).await;
        assert_eq!(found.is_some(), expected, "`{selector}` for a host with `{labels}`");
    }
}

#[tokio::test]
async fn one_binding_is_enough_and_the_highest_level_counts() {
    let bindings = json!([
        {"users": ["alice"], "selector": "env=dev", "level": "viewer"},
        {"groups": ["ops"], "selector": "env in (dev,prod)", "level": "user"},
        {"groups": ["ops"], "users": ["bob"], "selector": "tier=web"},
        {"groups": ["leads"], "users": ["bob"], "selector": "env"},
    ]);
    assert_eq!(level(&bindings, "env=dev").await, Some(Level::User));
    assert_eq!(level(&bindings, "env=dev,tier=web").await, Some(Level::Admin));
    assert_eq!(level(&bindings, "env=test").await, None);
    assert_eq!(level(&json!([{"users": ["ops"], "selector": "env"}]), "env=dev").await, None);
    assert_eq!(level(&json!([{"groups": ["alice"], "selector": "env"}]), "env=dev").await, None);
}

#[tokio::test]
async fn who_is_not_bound_learns_nothing_and_an_unknown_host_is_nobody_s() {
    let document = bound(&json!([{"users": ["bob"], "selector": "env"}]));
    assert!(!rule(&document, &labelled("env=prod"), Purpose::Issue).await.visible());
    let mut request = labelled("");
    request.facts.asset = None;
    let document = bound(&json!([{"users": ["alice"], "selector": "env"}]));
    assert!(!rule(&document, &request, Purpose::Issue).await.visible());
}

#[test]
fn a_binding_that_binds_nobody_or_might_widen_is_refused_with_its_path() {
    let refused = [
        (json!([]), "bindings", "at least one binding"),
        (json!([{"selector": "env"}]), "bindings[0]", "name users or groups"),
        (json!([{"users": [""], "selector": "env"}]), "bindings[0]", "must not be empty"),
        (json!([{"users": ["a"]}]), "bindings[0]", "selector"),
        (json!([{"users": ["a"], "selector": ""}]), "bindings[0].selector", "empty"),
        (json!([{"users": ["a"], "selector": "env=prod,"}]), "bindings[0].selector", "the end"),
        (
            json!([{"users": ["a"], "selector": "env"}, {"users": ["a"], "selector": "env!=prod"}]),
            "bindings[1].selector",
            "needs a term that asks for a label",
        ),
        (json!([{"users": ["a"], "selector": "!env"}]), "bindings[0].selector", "asks for a label"),
        (json!([{"users": ["a"], "selector": "tier,env notin (prod)"}]), "bindings[0].selector", "add `env`"),
        (json!([{"users": ["a"], "selector": "env", "level": "root"}]), "bindings[0].level", "root"),
        (json!([{"user": ["a"], "selector": "env"}]), "bindings[0]", "user"),
    ];
    for (bindings, path, detail) in refused {
        let faults = Chain::from_value(bound(&bindings), &builtin()).err().expect("it is refused");
        let [fault] = &faults[..] else { panic!("{bindings}: {faults:?}") };
        let whole = format!("policies[0].grants.any_of[0].config.{path}");
        assert!(fault.path.starts_with(&whole), "{bindings}: {fault:?}");
        assert!(fault.detail.contains(detail), "{bindings}: {fault:?}");
    }
}

#[test]
fn live_sessions_are_ruled_on_again_after_a_change_of_groups_or_labels() {
    let document = bound(&json!([{"users": ["a"], "selector": "env"}]));
    let chain = Chain::from_value(document, &builtin()).unwrap_or_else(|faults| panic!("{faults:?}"));
    assert!(chain.watches().contains(EventMask::GROUPS | EventMask::LABELS));
}

/// Any term over few keys and values, so that they meet.
fn term() -> impl Strategy<Value = String> {
    (0..6_u8, 0..3_u8, 0..3_u8).prop_map(|(form, key, value)| match form {
        0 => format!("k{key}=v{value}"),
        1 => format!("k{key}!=v{value}"),
        2 => format!("k{key} in (v{value},v0)"),
        3 => format!("k{key} notin (v{value},v0)"),
        4 => format!("k{key}"),
        _ => format!("!k{key}"),
    })
}

fn labels() -> impl Strategy<Value = String> {
    proptest::collection::btree_map(0..3_u8, 0..3_u8, 0..4).prop_map(|labels| {
        Vec::from_iter(labels.iter().map(|(key, value)| format!("k{key}=v{value}"))).join(",")
    })
}

fn ruled(selector: &str, labels: &str) -> Option<bool> {
    let document = bound(&json!([{"users": ["alice"], "selector": selector}]));
    let chain = Chain::from_value(document, &builtin()).ok()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let ruling = runtime.block_on(chain.decide(&labelled(labels), Purpose::Issue));
    Some(ruling.grant().is_some())
}

proptest! {
    /// Rows 11 and 12 of what peers got wrong: a grant never comes of a label that is not there.
    #[test]
    fn what_is_accepted_never_lets_in_to_a_host_without_labels(
        terms in proptest::collection::vec(term(), 1..5),
    ) {
        prop_assert_ne!(ruled(&terms.join(","), ""), Some(true));
    }

    #[test]
    fn a_host_that_loses_a_label_with_excluded_values_is_not_gained(
        terms in proptest::collection::vec(term(), 1..5), labels in labels(), lost in 0..3_u8,
    ) {
        let selector = terms.join(",");
        let absent = format!("!k{lost}");
        prop_assume!(!terms.contains(&absent));
        let fewer = Vec::from_iter(labels.split(',').filter(|pair| !pair.starts_with(&format!("k{lost}=")))).join(",");
        if ruled(&selector, &fewer) == Some(true) {
            prop_assert_eq!(ruled(&selector, &labels), Some(true), "{} on {} but not on {}", selector, fewer, labels);
        }
    }

    #[test]
    fn one_more_term_only_narrows(
        terms in proptest::collection::vec(term(), 1..4), more in term(), labels in labels(),
    ) {
        let selector = terms.join(",");
        let narrower = format!("{selector},{more}");
        if ruled(&selector, &labels) == Some(false) {
            prop_assert_ne!(ruled(&narrower, &labels), Some(true));
        }
        prop_assert!(narrower.parse::<Selector>().is_ok());
    }
}
