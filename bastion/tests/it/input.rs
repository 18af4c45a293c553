//! Bad input: every field of every body, as the published spec lists them, is refused by name, and nothing changes.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    contract::{Operation, operations, resolved, spec},
    harness::{Actor, Answer, Bastion, PASSWORD},
    signing::{Applicant, Hand},
};

/// Fields whose text may hold anything: passwords, and documents with a grammar of their own.
const ANYTHING: [&str; 5] = ["password", "current_password", "new_password", "document", "client_public_key"];

/// A good body of each operation.
fn good(operation: &Operation, host: &Applicant, root: &Actor) -> Value {
    match (operation.method.as_str(), operation.template.as_str()) {
        ("POST", "/login") => json!({"username": "root", "password": PASSWORD}),
        ("POST", "/me/password") => json!({"current_password": PASSWORD, "new_password": "another good one"}),
        ("POST", "/users") => {
            json!({"username": "new", "password": PASSWORD, "role": "user", "groups": ["ops"], "disabled": false})
        }
        ("PATCH", "/users/{id}") => {
            json!({"username": "new", "password": PASSWORD, "role": "user", "groups": [], "disabled": false})
        }
        ("POST", "/tokens") => json!({"name": "ci", "role": "user", "expires_in_days": 3}),
        ("POST", "/register") => host.application(),
        ("POST", "/approve") => {
            json!({"id": "x", "fingerprint": "SHA256:x", "labels": {"env": "prod"}, "allowed_users": [root.id]})
        }
        ("POST", "/reject") => json!({"id": "x", "reason": "no"}),
        ("POST", "/heartbeat") => {
            let mut beat = host.beat();
            beat["static_info"] = json!({});
            beat
        }
        ("PATCH", "/assets/{id}") => {
            json!({"labels": {"env": "prod"}, "allowed_users": [root.id], "status": "maintenance", "run_as": "nobody"})
        }
        ("PATCH", "/recordings/{id}") => json!({"hold": true, "reason": "evidence"}),
        ("POST", "/policies") => json!({"document": {"guardrails": [], "policies": []}, "comment": "why"}),
        ("POST", "/policies/simulate") => json!({"user": root.id, "asset": "x", "ip": "127.0.0.1"}),
        (method, path) => panic!("{method} {path} has no example here: add one"),
    }
}

/// What is wrong, and what is to be found wrong with.
struct Bad {
    what: String,
    path: String,
    body: Value,
}

fn replaced(good: &Value, field: &str, value: Value) -> Value {
    let mut body = good.clone();
    body[field] = value;
    body
}

/// Every way in which one field can be wrong.
fn bad(operation: &Operation, good: &Value) -> Vec<Bad> {
    let spec = spec();
    let schema = operation.body.as_ref().unwrap();
    let required: Vec<_> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut all = vec![Bad {
        what: "unknown".into(),
        path: "surprise".into(),
        body: replaced(good, "surprise", json!(1)),
    }];
    for (field, property) in schema["properties"].as_object().unwrap() {
        let kind = resolved(&spec, property)["type"].as_str().unwrap_or("any").to_owned();
        let mut wrong = |what: &str, value: Value| {
            all.push(Bad {
                what: format!("{field} {what}"),
                path: field.clone(),
                body: replaced(good, field, value),
            });
        };
        if kind != "any" {
            wrong("is a list of lists", json!([[1]]));
            wrong("is a number", json!(1.5));
        }
        if kind != "string" && kind != "any" {
            wrong("is text", json!("many"));
        }
        if kind == "string" {
            wrong("is an object", json!({}));
            wrong("is too long", json!("x".repeat(5000)));
            if !ANYTHING.contains(&field.as_str()) {
                for hidden in ["a\u{0}b", "a\u{7}b", "a\nb", "\u{1b}[31m", "a\u{7f}", "a\u{85}"] {
                    wrong("has a control character", json!(hidden));
                }
            }
        }
        if kind == "integer" {
            wrong("is negative", json!(-1));
            wrong("is huge", json!(1e30));
        }
        if required.contains(&field.as_str()) {
            wrong("is null", Value::Null);
        }
        if field == "labels" {
            let many: serde_json::Map<_, _> = (0..65).map(|nth| (format!("k{nth}"), json!("v"))).collect();
            for labels in [
                json!({"a b": "x"}),
                json!({"": "x"}),
                json!({"a": "x y"}),
                json!({"a": 1}),
                json!({"a": "x\n"}),
            ] {
                wrong("holds a bad one", labels);
            }
            wrong("are too many", Value::Object(many));
            wrong("has a long value", json!({"a": "x".repeat(64)}));
        }
        if ["groups", "allowed_users"].contains(&field.as_str()) {
            wrong("holds a long one", json!(["x".repeat(65)]));
            wrong("holds a control character", json!(["a\u{7}"]));
            wrong("holds nothing", json!([""]));
        }
        if required.contains(&field.as_str()) {
            let mut body = good.clone();
            body.as_object_mut().unwrap().remove(field);
            all.push(Bad { what: format!("{field} is missing"), path: field.clone(), body });
        }
    }
    all
}

/// Sends a body as whoever may call the operation.
async fn send(operation: &Operation, host: &Applicant, hand: &Hand, root: &Actor, body: &Value) -> Answer {
    if operation.schemes == ["signature"] {
        return host.send(hand, Method::POST, &operation.path, Some(body.clone())).await;
    }
    Answer::of(root.request(operation.method.clone(), &operation.path).json(body)).await
}

/// All that an admin can see, but what changes by being looked at.
async fn everything(root: &Actor) -> Vec<String> {
    let mut seen = Vec::new();
    for path in ["/users", "/tokens", "/registrations", "/assets", "/policies/active", "/sessions", "/me"] {
        seen.push(root.get(path).await.text());
    }
    seen
}

#[tokio::test]
async fn every_bad_field_of_every_body_is_refused_by_name_and_changes_nothing() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    let approved = Applicant::new(&bastion);
    let secret = approved.enrol(&root, &[]).await;
    let stranger = Applicant::new(&bastion);
    let before = everything(&root).await;
    let mut tried = 0;
    for operation in operations().iter().filter(|it| it.body.is_some()) {
        let (host, hand) = match operation.template.as_str() {
            "/register" => (&stranger, stranger.rsa()),
            _ => (&approved, approved.hmac(&secret)),
        };
        for Bad { what, path, body } in bad(operation, &good(operation, host, &root)) {
            let answer = send(operation, host, &hand, &root, &body).await;
            let name = format!("{} {}: {what}", operation.method, operation.template);
            assert_eq!(answer.status, 400, "{name}: {}", answer.text());
            let paths = answer.faults();
            let names_it = |found: &String| {
                found == &path || found.strip_prefix(&path).is_some_and(|rest| rest.starts_with(['.', '[']))
            };
            assert!(paths.iter().any(names_it), "{name}: {paths:?}");
            tried += 1;
        }
    }
    assert!(tried > 200, "{tried}");
    assert_eq!(everything(&root).await, before);
}

#[tokio::test]
async fn nested_fields_are_named_by_their_path() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    let host = Applicant::new(&bastion);
    let secret = host.enrol(&root, &[]).await;
    for (status, path) in [
        (json!({"active_sessions": "x", "sessions": []}), "tty_status.active_sessions"),
        (json!({"active_sessions": -1, "sessions": []}), "tty_status.active_sessions"),
        (json!({"active_sessions": 0}), "tty_status.sessions"),
        (json!({"active_sessions": 0, "sessions": ["a\u{0}"]}), "tty_status.sessions[0]"),
        (json!({"active_sessions": 0, "sessions": [], "more": 1}), "tty_status.more"),
    ] {
        let body = replaced(&host.beat(), "tty_status", status);
        let answer = host.send(&host.hmac(&secret), Method::POST, "/heartbeat", Some(body)).await;
        assert_eq!(answer.faults(), [path]);
    }
    let document = json!({"guardrails": [{"id": "x", "kind": "no_such", "config": {}}], "policies": []});
    let answer = root.post("/policies", json!({"document": document, "comment": "c"})).await;
    assert!(
        answer.faults().iter().any(|path| path.starts_with("document.guardrails[0]")),
        "{}",
        answer.text()
    );
    let unknown = json!({"allowed_users": [root.id, "00000000-0000-4000-8000-000000000000"]});
    assert_eq!(
        root.patch(&format!("/assets/{}", host.client_id), unknown).await.faults(),
        ["allowed_users[1]"]
    );
}

#[tokio::test]
async fn what_is_no_json_by_its_word_or_its_bytes_is_refused() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    let good = json!({"name": "ci"}).to_string();
    for (kind, body, path) in [
        ("text/plain", good.as_str(), "Content-Type"),
        ("", good.as_str(), "Content-Type"),
        ("application/json", "", "body"),
        ("application/json", "{", "body"),
        ("application/json", "[]", "body"),
        ("application/json", "null", "body"),
        ("application/json", "{\"name\":\"ci\"} {}", "body"),
        ("application/json", "{\"name\":\"ci\",\"name\":\"other\"}", "name"),
        ("application/json", "{\"name\":\"\\ud800\"}", "name"),
    ] {
        let request = root.request(Method::POST, "/tokens").body(body.to_owned());
        let request = if kind.is_empty() { request } else { request.header("content-type", kind) };
        assert_eq!(Answer::of(request).await.faults(), [path], "{kind} {body}");
    }
    let deep = format!("{{\"document\":{}1{},\"comment\":\"c\"}}", "[".repeat(10_000), "]".repeat(10_000));
    let request =
        root.request(Method::POST, "/policies").header("content-type", "application/json").body(deep);
    assert_eq!(Answer::of(request).await.status, 400);
    assert_eq!(root.get("/tokens").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn a_body_over_its_limit_is_too_large_announced_or_not() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    let host = Applicant::new(&bastion);
    let secret = host.enrol(&root, &[]).await;
    let large = json!({"name": "x".repeat(70_000)});
    for operation in operations().iter().filter(|it| it.body.is_some()) {
        let hand = host.hmac(&secret);
        let answer = send(operation, &host, &hand, &root, &large).await;
        assert_eq!(answer.status, 413, "{}: {}", operation.template, answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    let chunks = futures_util::stream::iter((0..70).map(|_| Ok::<_, std::io::Error>(vec![b'x'; 1024])));
    let request = root.request(Method::POST, "/tokens").header("content-type", "application/json");
    assert_eq!(Answer::of(request.body(reqwest::Body::wrap_stream(chunks))).await.status, 413);
}

#[tokio::test]
async fn parameters_are_refused_by_name_and_unknown_ones_ignored() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    for list in ["/users", "/tokens", "/registrations", "/assets", "/sessions", "/recordings", "/audit"] {
        for (query, path) in [
            ("limit=0", "limit"),
            ("limit=201", "limit"),
            ("limit=x", "limit"),
            ("limit=-1", "limit"),
            (&format!("cursor={}", "x".repeat(65)), "cursor"),
            ("cursor=%00", "cursor"),
        ] {
            assert_eq!(root.get(&format!("{list}?{query}")).await.faults(), [path], "{list} {query}");
        }
        let page = root.get(&format!("{list}?limit=1&surprise=1&cursor=")).await.expect(200);
        assert!(page["items"].is_array() && page.get("next_cursor").is_some(), "{list}");
    }
    for (query, path) in [("from=yesterday", "from"), ("to=12", "to")] {
        for list in ["/sessions", "/recordings"] {
            assert_eq!(root.get(&format!("{list}?{query}")).await.faults(), [path]);
        }
    }
    assert_eq!(root.get("/registrations?status=odd").await.faults(), ["status"]);
    assert_eq!(root.post("/policies/x/activate", Value::Null).await.faults(), ["version"]);
    root.post("/policies/99/activate", Value::Null).await.refused(404, "not_found");
}

#[tokio::test]
async fn pages_of_a_list_follow_each_other_without_gap_or_overlap() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    for nth in 0..7 {
        root.post("/tokens", json!({"name": format!("t{nth}")})).await.expect(201);
    }
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = root.get(&format!("/tokens?limit=3{cursor}")).await.expect(200);
        names.extend(
            page["items"].as_array().unwrap().iter().map(|item| item["name"].as_str().unwrap().to_owned()),
        );
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(names, (0..7).rev().map(|nth| format!("t{nth}")).collect::<Vec<_>>());
}
