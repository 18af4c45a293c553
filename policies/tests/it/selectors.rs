//! Selectors mean what they mean in Kubernetes, case by case and as laws.

use std::collections::BTreeMap;

use policies::{Selector, SelectorError};
use proptest::prelude::*;

fn labels(text: &str) -> BTreeMap<String, String> {
    text.split_whitespace()
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(key, value)| (key.into(), value.into()))
        .collect()
}

fn parsed(text: &str) -> Selector {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn each_operator_matches_as_in_kubernetes() {
    for (selector, asset, expected) in [
        ("env=prod", "env=prod", true),
        ("env=prod", "env=dev", false),
        ("env=prod", "", false),
        ("env==prod", "env=prod tier=web", true),
        ("env=", "env=", true),
        ("env=", "", false),
        ("env=,tier", "env= tier=web", true),
        ("env!=prod", "env=dev", true),
        ("env!=prod", "env=prod", false),
        ("env!=prod", "", true),
        ("env in (prod,dev)", "env=dev", true),
        ("env in (prod,dev)", "env=test", false),
        ("env in (prod,dev)", "", false),
        ("env notin (prod,dev)", "env=test", true),
        ("env notin (prod,dev)", "env=prod", false),
        ("env notin (prod,dev)", "", true),
        ("env in (prod,)", "env=", true),
        ("env in (,prod)", "env=", true),
        ("env in (,prod)", "env=prod", true),
        ("env in (prod,,dev)", "env=", true),
        ("env in (,)", "env=", true),
        ("env", "env=prod", true),
        ("env", "env=", true),
        ("env", "tier=web", false),
        ("!env", "tier=web", true),
        ("!env", "env=", false),
        ("env=prod,tier in (web,db),!quarantine", "env=prod tier=db", true),
        ("env=prod,tier in (web,db),!quarantine", "env=prod tier=db quarantine=yes", false),
        ("env=prod,env!=prod", "env=prod", false),
        ("in=in", "in=in", true),
        ("notin notin (notin)", "notin=in", true),
        ("in in (in)", "in=in", true),
        ("example.com/team=a", "example.com/team=a", true),
        (" \tenv\n=\r prod , ! x ", "env=prod", true),
        ("env=Prod", "env=prod", false),
    ] {
        assert_eq!(parsed(selector).matches(&labels(asset)), expected, "{selector} on {asset:?}");
    }
}

#[test]
fn what_kubernetes_refuses_is_refused() {
    for text in [
        "x=a||y=b",
        "x==a==b",
        "!x=a",
        "x<a",
        "x>1",
        "x in ()",
        "x notin ()",
        "x in",
        "x in a",
        "x in (a",
        "x in (a b)",
        "x in (a=b)",
        "x,",
        ",x",
        "x,,y",
        "=a",
        "!",
        "!!x",
        "x y",
        "x (a)",
        "x=a b",
        "x=(a)",
        "x=!a",
        "x = = a",
        "()",
        "-x=a",
        "x-=a",
        "x=-a",
        "x=a-",
        "x=a/b",
        "a/b/c=d",
        "/x=a",
        "a/=b",
        "UPPER.com/x=a",
        "a..b/x=a",
        "ü=a",
        "x=ü",
        "x:y=a",
    ] {
        assert!(text.parse::<Selector>().is_err(), "{text} was taken");
    }
    let long = "k".repeat(64);
    assert!(long.parse::<Selector>().is_err());
    assert!(format!("x={long}").parse::<Selector>().is_err());
    assert!(format!("{}/x=a", "a".repeat(254)).parse::<Selector>().is_err());
    assert!(format!("{}=a", "k".repeat(63)).parse::<Selector>().is_ok());
}

#[test]
fn an_empty_selector_is_refused_unlike_in_kubernetes() {
    for text in ["", "  \t"] {
        assert_eq!(text.parse::<Selector>(), Err(SelectorError::Empty));
    }
}

#[test]
fn a_selector_that_grants_must_ask_for_the_keys_it_excludes() {
    for (text, safe) in [
        ("env=prod", true),
        ("env", true),
        ("env,env notin (prod)", true),
        ("env=prod,!quarantine", true),
        ("env in (dev),env!=prod", true),
        ("!quarantine", false),
        ("env!=prod", false),
        ("tier=web,env notin (prod)", false),
    ] {
        assert_eq!(parsed(text).never_widens().is_ok(), safe, "{text}");
    }
}

fn term() -> impl Strategy<Value = String> {
    let key = prop_oneof![Just("env"), Just("tier"), Just("in"), Just("example.com/team")];
    let value = prop_oneof![Just(""), Just("a"), Just("b"), Just("notin")];
    let op =
        prop_oneof![Just("="), Just("=="), Just("!="), Just(" in "), Just(" notin "), Just("!"), Just("")];
    (key, op, proptest::collection::vec(value, 1..4)).prop_map(|(key, op, values)| match op {
        "!" => format!("!{key}"),
        "" => key.to_owned(),
        " in " | " notin " if values != [""] => format!("{key}{op}({})", values.join(",")),
        " in " | " notin " => format!("{key}{op}(,)"),
        op => format!("{key}{op}{}", values[0]),
    })
}

fn any_labels() -> impl Strategy<Value = BTreeMap<String, String>> {
    let key = prop_oneof![Just("env"), Just("tier"), Just("in"), Just("example.com/team")];
    let value = prop_oneof![Just(""), Just("a"), Just("b"), Just("notin")];
    proptest::collection::btree_map(key.prop_map(String::from), value.prop_map(String::from), 0..4)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_printed_parses_to_the_same(terms in proptest::collection::vec(term(), 1..5)) {
        let selector = parsed(&terms.join(" , "));
        prop_assert_eq!(&parsed(&selector.to_string()), &selector);
    }

    #[test]
    fn one_more_term_only_narrows(terms in proptest::collection::vec(term(), 1..4), more in term(), labels in any_labels()) {
        let (wide, narrow) = (parsed(&terms.join(",")), parsed(&format!("{},{more}", terms.join(","))));
        prop_assert!(wide.matches(&labels) || !narrow.matches(&labels));
    }

    #[test]
    fn what_passes_the_lint_never_matches_an_asset_without_labels(terms in proptest::collection::vec(term(), 1..4)) {
        let selector = parsed(&terms.join(","));
        prop_assert!(selector.never_widens().is_err() || !selector.matches(&BTreeMap::new()));
    }

    #[test]
    fn no_text_makes_it_panic(text in "[a-z!=(), <>\\PC]{0,24}") {
        let _ = text.parse::<Selector>();
    }
}
