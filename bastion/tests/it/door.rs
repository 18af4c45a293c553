//! The door: headers on every answer, hosts that are not ours, requests that are too large.

use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{Answer, Bastion, within};

async fn get(bastion: &Bastion, path: &str) -> Answer {
    Answer::of(bastion.http().get(format!("{}{path}", bastion.url())).header("accept", "text/html")).await
}

/// Sends bytes and returns all that comes back.
async fn raw(bastion: &Bastion, request: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(bastion.address()).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = within("an answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn every_answer_carries_the_security_headers() {
    let bastion = Bastion::start().await;
    let nothing = uuid::Uuid::nil();
    let mut answers = vec![bastion.root().get("/me").await, bastion.root().post("/users", json!({})).await];
    for path in [
        "/",
        "/docs",
        "/login",
        "/recordings/x",
        "/no/such/page",
        "/assets/nothing.js",
        "/healthz",
        "/readyz",
        "/openapi.json",
        "/.well-known/jwks.json",
        "/.well-known/jwks.jws",
        "/api/v1/me",
        "/api/v1/nothing",
        "/api/v1/tty/ws",
        "/api/v1/agent/tty/relay",
        &format!("/api/v1/recordings/{nothing}/cast"),
        "/api/v1/assets/%00",
    ] {
        answers.push(get(&bastion, path).await);
    }
    answers.push(Answer::of(bastion.http().request(Method::TRACE, bastion.url())).await);
    for answer in answers {
        let shown = format!("{} {:?}", answer.status, answer.headers);
        assert_ne!(answer.status, 500, "{shown}");
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("x-frame-options", "DENY"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), value, "{name}: {shown}");
        }
        let policy = answer.header("content-security-policy");
        assert!(
            policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
            "{shown}"
        );
        assert!(
            !policy.contains("script-src 'self' 'unsafe-inline'") && !policy.contains("'unsafe-eval'"),
            "{shown}"
        );
        assert!(answer.headers.contains_key("permissions-policy"), "{shown}");
        assert!(!answer.header("cache-control").is_empty(), "{shown}");
        assert!(!answer.headers.contains_key("server"), "{shown}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"), "{shown}");
    }
}

#[tokio::test]
async fn each_kind_of_page_may_load_what_it_needs_and_no_more() {
    let bastion = Bastion::start().await;
    let policy = async |path: &str| get(&bastion, path).await.header("content-security-policy").to_owned();
    assert!(policy("/").await.contains("script-src 'self';"));
    assert!(policy("/docs").await.contains("script-src 'self';"));
    assert!(policy("/recordings/x").await.contains("script-src 'self' 'wasm-unsafe-eval'"));
    for path in ["/api/v1/me", "/openapi.json", "/healthz"] {
        assert!(!policy(path).await.contains("script-src"), "{path}");
    }
}

#[tokio::test]
async fn a_host_that_is_not_ours_is_misdirected_but_for_the_probes() {
    let bastion = Bastion::start().await;
    let port = bastion.address().port();
    let ask = async |path: &str, host: &str| {
        let answer = raw(&bastion, &format!("GET {path} HTTP/1.1\r\n{host}connection: close\r\n\r\n")).await;
        answer.split(' ').nth(1).unwrap_or("none").to_owned()
    };
    for host in [
        "host: evil.example\r\n".to_owned(),
        format!("host: 127.0.0.1.evil.example:{port}\r\n"),
        format!("host: 127.0.0.1:{}\r\n", port ^ 1),
        format!("host: x@127.0.0.1:{port}\r\n"),
        format!("host: 127.0.0.1:{port}\r\nhost: 127.0.0.1:{port}\r\n"),
    ] {
        let status = ask("/api/v1/me", &host).await;
        assert!(["421", "400"].contains(&status.as_str()), "{host}: {status}");
        assert_ne!(ask("/", &host).await, "200", "{host}");
    }
    assert_eq!(ask("/healthz", "host: evil.example\r\n").await, "200");
    assert_eq!(ask("/healthz", &format!("host: 127.0.0.1:{port}\r\n")).await, "200");
    assert_eq!(ask("/api/v1/me", &format!("host: localhost:{port}\r\n")).await, "401");
}

#[tokio::test]
async fn health_needs_no_credentials_and_says_whether_it_can_work() {
    let bastion = Bastion::start().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(&bastion, path).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn headers_that_are_too_large_or_too_many_are_refused() {
    let bastion = Bastion::start().await;
    let host = bastion.address();
    let long = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    let many: String = (0..100).map(|nth| format!("x-{nth}: 1\r\n")).collect();
    let many = format!("GET /healthz HTTP/1.1\r\nhost: {host}\r\n{many}\r\n");
    for request in [long, many] {
        let answer = raw(&bastion, &request).await;
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(get(&bastion, "/healthz").await.status, 200);
}
