//! Documents are read strictly, and every fault names its place.

use policies::document::Span;
use policies::{Chain, Effect, Purpose, Refusal, builtin, starting_document};
use serde_json::{Value, json};

use crate::modules::{alice, rule};

fn faults(document: &Value) -> Vec<(String, String)> {
    let faults = Chain::from_value(document.clone(), &builtin()).err().unwrap_or_default();
    faults.into_iter().map(|fault| (fault.path, fault.detail)).collect()
}

/// The starting document with one place changed.
fn changed(pointer: &str, value: &Value) -> Value {
    let mut document: Value = serde_json::from_str(starting_document()).unwrap();
    *document.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value.clone();
    document
}

#[test]
fn the_starting_document_loads() {
    assert!(Chain::load(starting_document(), &builtin()).is_ok());
}

#[test]
fn each_fault_names_its_path() {
    let grants = json!({"any_of": []});
    let entry = |entry: Value| json!({"entries": [{"user": "u1"}, entry]});
    let config = "policies[0].grants.any_of[0].config";
    for (pointer, value, path, detail) in [
        ("", json!([]), "", "invalid type"),
        ("/policies/0", json!(["p"]), "policies[0]", "invalid type"),
        ("", json!({"policys": []}), "policys", "unknown field `policys`"),
        ("/policies/0", json!({"id": "p"}), "policies[0]", "missing field `applies_to`"),
        ("/policies/0/id", json!(""), "policies[0].id", "1 to 64"),
        ("/policies/0/id", json!("a b"), "policies[0].id", "1 to 64"),
        ("/policies/0/level", json!("root"), "policies[0].level", "unknown variant `root`"),
        ("/policies/0/applies_to", json!({}), "policies[0].applies_to", "either"),
        ("/policies/0/applies_to", json!({"all": false}), "policies[0].applies_to", "either"),
        ("/policies/0/applies_to", json!({"all": true, "selector": "a"}), "policies[0].applies_to", "either"),
        (
            "/policies/0/applies_to",
            json!({"selector": ""}),
            "policies[0].applies_to.selector",
            "empty selector",
        ),
        (
            "/policies/0/applies_to",
            json!({"selector": "a="  , "x": 1}),
            "policies[0].applies_to.x",
            "unknown field",
        ),
        ("/policies/0/grants", json!({}), "policies[0].grants", "exactly one"),
        ("/policies/0/grants", grants, "policies[0].grants.any_of", "at least one module"),
        (
            "/policies/0/grants/any_of/0/kind",
            json!("nobody"),
            "policies[0].grants.any_of[0].kind",
            "known: allowed_users,",
        ),
        (
            "/policies/0/grants/any_of/0/kind",
            json!("asset_state"),
            "policies[0].grants.any_of[0].kind",
            "cannot grant",
        ),
        ("/guardrails/0/kind", json!("allowed_users"), "guardrails[0].kind", "cannot guard"),
        (
            "/guardrails/0",
            json!({"id": "a", "kind": "asset_state", "mod": "shadow"}),
            "guardrails[0].mod",
            "unknown field",
        ),
        (
            "/guardrails/0",
            json!({"id": "a", "kind": "asset_state", "mode": "off"}),
            "guardrails[0].mode",
            "unknown variant",
        ),
        ("/guardrails/0/id", json!("limits"), "guardrails", "`limits` is used twice"),
        ("/guardrails/0/config", json!({"x": 1}), "guardrails[0].config.x", "unknown field `x`"),
        ("/guardrails/1/config", json!({}), "guardrails[1].config", "at least one limit"),
        ("/guardrails/1/config", json!({"per_user": -1}), "guardrails[1].config.per_user", "invalid value"),
        ("/guardrails/1/config", json!({"per_user": "5"}), "guardrails[1].config.per_user", "invalid type"),
        (
            "/policies/0/guards",
            json!([{"id": "r", "kind": "rate_limit", "config": {"per_user_per_minute": 0}}]),
            "policies[0].guards[0].config.per_user_per_minute",
            "nonzero",
        ),
        (
            "/policies/0/obligations",
            json!({"idle_timeout": "30"}),
            "policies[0].obligations.idle_timeout",
            "a duration is",
        ),
        (
            "/policies/0/obligations",
            json!({"run_as": ""}),
            "policies[0].obligations.run_as",
            "must not be empty",
        ),
        (
            "/policies/0/obligations",
            json!({"not_after": "tomorrow"}),
            "policies[0].obligations.not_after",
            "RFC 3339",
        ),
        (
            "/policies/0/grants/any_of/0/config",
            entry(json!({})),
            &format!("{config}.entries[1]"),
            "exactly one of",
        ),
        (
            "/policies/0/grants/any_of/0/config",
            entry(json!({"everyone": false})),
            &format!("{config}.entries[1]"),
            "exactly one of",
        ),
        (
            "/policies/0/grants/any_of/0/config",
            entry(json!({"user": "a", "group": "b"})),
            &format!("{config}.entries[1]"),
            "exactly one of",
        ),
        (
            "/policies/0/grants/any_of/0/config",
            entry(json!({"user": ""})),
            &format!("{config}.entries[1]"),
            "must not be empty",
        ),
        (
            "/policies/0/grants/any_of/0/config",
            entry(json!({"user": "a", "until": "2026"})),
            &format!("{config}.entries[1].until"),
            "RFC 3339",
        ),
        (
            "/policies/0/grants/any_of/0/config",
            entry(json!({"usres": "a"})),
            &format!("{config}.entries[1].usres"),
            "unknown field `usres`",
        ),
    ] {
        let found = faults(&changed(pointer, &value));
        let named = found.iter().any(|(at, what)| at == path && what.contains(detail));
        assert!(named, "{pointer} = {value}: wanted {path}: …{detail}…, found {found:?}");
    }
}

#[test]
fn all_faults_are_reported_at_once() {
    let document = json!({
        "guardrails": [{"id": "s", "kind": "nothing"}],
        "policies": [{"id": "p", "applies_to": {}, "level": "user", "grants": {"any_of": []}}, {"id": "q"}],
    });
    let paths = Vec::from_iter(faults(&document).into_iter().map(|(path, _)| path));
    assert_eq!(
        paths,
        ["guardrails[0].kind", "policies[0].applies_to", "policies[0].grants.any_of", "policies[1]"]
    );
}

#[test]
fn a_document_that_is_no_json_says_where() {
    let faults = Chain::load("{\n  \"guardrails\": [,]}", &builtin()).err().unwrap();
    assert!(faults[0].detail.contains("line 2"), "{faults:?}");
}

#[test]
fn durations_have_one_unit_and_a_number_above_zero() {
    for (text, seconds) in [("90s", 90), ("30m", 1800), ("8h", 28_800), ("007m", 420)] {
        assert_eq!(text.parse::<Span>().unwrap().seconds(), seconds);
    }
    for text in [
        "",
        "s",
        "0s",
        "30",
        "-1s",
        "+1s",
        "1.5h",
        "1h30m",
        " 1h",
        "1 h",
        "1d",
        "1H",
        "99999999999999999999h",
        "9999h",
        "1ü",
    ] {
        assert!(text.parse::<Span>().is_err(), "{text} was taken");
    }
}

#[tokio::test]
async fn an_empty_document_denies() {
    for chain in [Chain::default(), Chain::load("{}", &builtin()).unwrap()] {
        let ruling = chain.decide(&alice(), Purpose::Issue).await;
        assert_eq!(ruling.effect, Effect::Deny(Refusal::NotAvailable));
    }
}

#[tokio::test]
async fn a_policy_binds_only_the_assets_it_selects() {
    let policy = |selector: &str| {
        json!({"policies": [{"id": "p", "applies_to": {"selector": selector}, "level": "user",
            "grants": {"any_of": [{"id": "a", "kind": "allowed_users"}]}}]})
    };
    let mut request = alice();
    request.facts.asset.as_mut().unwrap().labels = [("env".into(), "prod".into())].into();
    assert!(rule(&policy("env=prod"), &request, Purpose::Issue).await.grant().is_some());
    let other = rule(&policy("env=dev"), &request, Purpose::Issue).await;
    assert!(!other.visible() && !other.policies[0].applies && other.trail.is_empty());
}

#[test]
fn every_module_publishes_a_closed_schema() {
    for factory in builtin().kinds() {
        let schema = factory.schema();
        assert_eq!(schema.get("additionalProperties"), Some(&json!(false)), "{}", factory.kind());
    }
}
