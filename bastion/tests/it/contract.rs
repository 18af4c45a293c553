//! The published contract: it is what the code says, and nobody gets in without a credential.

use agent::Shell;
use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Bastion, Credential, workspace, world};

/// What anybody may call, and how the contract refuses a stranger's empty call of it.
const PUBLIC: [(&str, &str, u16); 1] = [("POST", "/login", 400)];
/// What answers strangers with a 404 that says nothing.
const SILENT: [(&str, &str); 1] = [("GET", "/register/status")];

/// An operation of the spec.
pub struct Operation {
    /// Upper case.
    pub method: Method,
    /// As published, with `{…}`.
    pub template: String,
    /// With something for every parameter.
    pub path: String,
    /// Names of its security schemes.
    pub schemes: Vec<String>,
    /// The schema of its body.
    pub body: Option<Value>,
}

/// The published spec.
pub fn spec() -> Value {
    serde_json::from_str(&bastion::spec()).unwrap()
}

/// Every operation of the spec.
pub fn operations() -> Vec<Operation> {
    let spec = spec();
    let mut operations = Vec::new();
    for (template, methods) in spec["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let path = template.split('/').map(|part| match part {
                "{version}" => "1".to_owned(),
                _ if part.starts_with('{') => uuid::Uuid::nil().to_string(),
                _ => part.to_owned(),
            });
            let schemes = operation["security"].as_array().into_iter().flatten();
            let schemes = schemes.flat_map(|scheme| scheme.as_object().unwrap().keys().cloned()).collect();
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            operations.push(Operation {
                method: method.to_uppercase().parse().unwrap(),
                template: template.clone(),
                path: path.collect::<Vec<_>>().join("/"),
                schemes,
                body: (!body.is_null()).then(|| resolved(&spec, body)),
            });
        }
    }
    operations
}

/// A schema behind its reference.
pub fn resolved(spec: &Value, schema: &Value) -> Value {
    match schema["$ref"].as_str() {
        Some(reference) => spec.pointer(reference.trim_start_matches('#')).unwrap().clone(),
        None => schema.clone(),
    }
}

#[test]
fn the_published_spec_is_what_the_code_says() {
    let published = std::fs::read_to_string(workspace().join("openapi/openapi.json")).unwrap();
    assert!(
        published == bastion::spec(),
        "openapi/openapi.json is out of date: castellan openapi > openapi/openapi.json"
    );
}

#[test]
fn the_spec_names_its_server_and_every_operation_of_the_protocol() {
    assert_eq!(spec()["servers"][0]["url"], "/api/v1");
    let all: Vec<_> = operations().iter().map(|it| format!("{} {}", it.method, it.template)).collect();
    for operation in [
        "POST /login",
        "POST /logout",
        "GET /me",
        "POST /me/password",
        "POST /register",
        "GET /register/status",
        "GET /registrations",
        "POST /approve",
        "POST /reject",
        "POST /heartbeat",
        "GET /agent/tty/pending-sessions",
        "GET /assets/{id}/tty/authorize",
        "GET /sessions",
        "GET /sessions/{id}",
        "DELETE /sessions/{id}",
        "GET /recordings",
        "GET /recordings/{id}",
        "GET /recordings/{id}/cast",
        "GET /users",
        "POST /users",
        "PATCH /users/{id}",
        "GET /tokens",
        "POST /tokens",
        "DELETE /tokens/{id}",
        "GET /assets",
        "GET /assets/{id}",
        "PATCH /assets/{id}",
        "DELETE /assets/{id}",
        "GET /policies/active",
        "POST /policies",
        "POST /policies/{version}/activate",
        "POST /policies/simulate",
        "GET /audit",
    ] {
        assert!(all.iter().any(|it| it == operation), "{operation}");
    }
}

#[tokio::test]
async fn the_spec_is_served_to_anybody() {
    let bastion = Bastion::start().await;
    let answer = Answer::of(bastion.http().get(format!("{}/openapi.json", bastion.url()))).await;
    assert_eq!(answer.text(), bastion::spec());
}

#[tokio::test]
async fn every_operation_in_the_spec_refuses_a_stranger() {
    let bastion = Bastion::start().await;
    let stranger = bastion.stranger();
    let (mut public, mut silent) = (Vec::new(), Vec::new());
    for operation in operations() {
        let ask = async |credential: Credential| {
            let request = stranger.with(credential).request(operation.method.clone(), &operation.path);
            let request = if operation.body.is_some() { request.json(&json!({})) } else { request };
            Answer::of(request).await
        };
        let name = (operation.method.as_str(), operation.template.as_str());
        let answer = ask(Credential::None).await;
        if let Some((_, _, status)) = PUBLIC.iter().find(|it| (it.0, it.1) == name) {
            assert_eq!(answer.status, *status, "{name:?}");
            assert!(operation.schemes.is_empty(), "{name:?}");
            public.push(name.1.to_owned());
            continue;
        }
        assert!(!operation.schemes.is_empty(), "{name:?} declares no caller");
        if SILENT.contains(&name) {
            answer.refused(404, "not_found");
            silent.push(name.1.to_owned());
            continue;
        }
        let code = if operation.schemes == ["signature"] { "bad_signature" } else { "unauthenticated" };
        for credential in [
            Credential::None,
            Credential::Login("castellan_login=guessed".to_owned()),
            Credential::Token("cst_guessed".to_owned()),
        ] {
            let answer = ask(credential.clone()).await;
            assert_eq!(
                (answer.status, &answer.json()["code"]),
                (401, &json!(code)),
                "{name:?} {credential:?}"
            );
        }
    }
    assert_eq!((public.len(), silent.len()), (PUBLIC.len(), SILENT.len()));
}

#[tokio::test]
async fn every_unsafe_operation_with_a_cookie_refuses_a_foreign_origin() {
    let (bastion, alice, root) = world(Shell::Echo).await;
    let Credential::Login(cookie) = &root.credential else { panic!("root has a login") };
    let mut tried = 0;
    for operation in operations().iter().filter(|it| it.schemes.contains(&"login".to_owned())) {
        let mints = operation.template.ends_with("/authorize");
        if operation.method.is_safe() && !mints {
            continue;
        }
        let request = bastion.stranger().request(operation.method.clone(), &operation.path);
        let request = request.header("cookie", cookie).header("origin", "https://evil.example");
        let request = if operation.body.is_some() { request.json(&json!({})) } else { request };
        let answer = Answer::of(request).await;
        let name = format!("{} {}", operation.method, operation.template);
        assert_eq!((answer.status, &answer.json()["code"]), (403, &json!("cross_site")), "{name}");
        tried += 1;
    }
    assert!(tried >= 14, "{tried}");
    root.get("/me").await.expect(200);
    alice.get("/me").await.expect(200);
}

#[tokio::test]
async fn what_is_no_operation_is_not_found_in_the_contracts_words() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    for path in ["/nothing", "/", "/users/x/y", "/register/", "//me"] {
        let answer = root.get(path).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json", "{path}");
    }
    let answer = root.delete("/me").await;
    assert_eq!((answer.status, answer.header("content-type")), (405, "application/problem+json"));
}
