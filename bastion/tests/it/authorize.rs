//! Asking for a terminal: refusals and what they give away, limits, and what a ticket is good for.

use std::time::Duration;

use agent::Shell;
use openapi::frames::{Control, Frame};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Actor, Answer, Bastion, Credential, world},
    signing::Applicant,
    terminals::{Closed, Plain, Terminal, dial_framed, url_encoded},
};

/// Tries to open a terminal with a ticket.
async fn redeem(actor: &Actor, token: &str) -> Result<Terminal, Closed> {
    Terminal::greet(dial_framed(actor, token).await.unwrap()).await
}

/// The claims of a token, unverified.
fn claims(token: &str) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn a_ticket_says_what_it_opens_and_is_kept_nowhere() {
    let (bastion, alice, _) = world(Shell::Echo).await;
    let answer = alice.authorize_with("web-1", "cols=120&rows=40&command=ls&reason=why").await;
    assert_eq!(answer.header("cache-control"), "no-store");
    let ticket = answer.expect(200);
    assert_eq!(ticket["expires_in"], 300);
    assert_eq!(ticket["ws_url"], format!("{}/api/v1/tty/ws", bastion.config().ws_base()));
    assert_eq!(ticket["session"], json!({"command": "ls", "cols": 120, "rows": 40, "records_input": false}));
    let claims = claims(ticket["token"].as_str().unwrap());
    assert_eq!((&claims["aud"], &claims["sub"]), (&json!("castellan:browser"), &json!(alice.id)));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
    assert!(claims["dec"].is_string() && claims["jti"].is_string());

    let bytes = std::fs::read(bastion.home().join("castellan.db")).unwrap();
    let log = std::fs::read(bastion.home().join("castellan.db-wal")).unwrap_or_default();
    let jti = claims["jti"].as_str().unwrap().as_bytes();
    assert!(![bytes, log].iter().any(|file| crate::terminals::contains(file, jti)), "kept as a hash");
    // A ticket is no session.
    assert_eq!(alice.get("/sessions").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn what_is_not_there_and_what_is_not_yours_differ_in_nothing_but_the_decision() {
    let (bastion, _, root) = world(Shell::Echo).await;
    let bob = bastion.user("bob", "user").await;
    root.patch(&format!("/assets/{}", bastion.asset("web-1")), json!({"status": "quarantined"}))
        .await
        .expect(200);
    let mut answers = Vec::new();
    for host in ["web-1", "00000000-0000-4000-8000-000000000000", "no-such-host", &"x".repeat(300)] {
        let answer = bob.authorize(host).await;
        let mut problem = answer.refused(404, "not_available");
        let decision = problem["decision_id"].as_str().unwrap().to_owned();
        problem["decision_id"] = Value::Null;
        let headers: Vec<_> = answer.headers.iter().filter(|(name, _)| *name != "date").collect();
        answers.push((format!("{headers:?}"), answer.text().replace(&decision, ""), problem));
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:#?}");
}

#[tokio::test]
async fn an_administrator_needs_a_grant_like_anybody() {
    let (bastion, _, root) = world(Shell::Echo).await;
    root.authorize("web-1").await.refused(404, "not_available");
    root.get(&format!("/assets/{}", bastion.asset("web-1"))).await.expect(200);
}

#[tokio::test]
async fn whoever_has_the_grant_learns_what_the_guards_say() {
    let bastion = Bastion::start().await;
    let (alice, root) = (bastion.user("alice", "user").await, bastion.root());
    // Approved, but never heard of.
    let host = Applicant::new(&bastion);
    let secret = host.enrol(&root, &[&alice]).await;
    alice.authorize(&host.client_id).await.refused(409, "asset_offline");
    host.heartbeat(&secret).await.expect(200);
    alice.authorize(&host.client_id).await.expect(200);
    let path = format!("/assets/{}", host.client_id);
    root.patch(&path, json!({"status": "maintenance"})).await.expect(200);
    alice.authorize(&host.client_id).await.refused(409, "asset_maintenance");
    assert_eq!(alice.get(&path).await.expect(200)["access"]["code"], "asset_maintenance");
    root.patch(&path, json!({"status": null})).await.expect(200);
    alice.authorize(&host.client_id).await.expect(200);
    root.patch(&path, json!({"allowed_users": []})).await.expect(200);
    alice.authorize(&host.client_id).await.refused(404, "not_available");
    alice.get(&path).await.refused(404, "not_found");
    assert_eq!(alice.get("/assets").await.expect(200)["items"], json!([]));
}

#[tokio::test]
async fn malformed_questions_are_refused_by_name() {
    let (_bastion, alice, _) = world(Shell::Echo).await;
    let long = "x".repeat(4097);
    for (query, path) in [
        ("cols=0", "cols"),
        ("cols=1001", "cols"),
        ("rows=0", "rows"),
        ("rows=-1", "rows"),
        ("rows=many", "rows"),
        ("plain=2", "plain"),
        ("command=%00", "command"),
        ("command=%1b%5bm", "command"),
        (&format!("command={long}"), "command"),
        (&format!("reason={}", "x".repeat(501)), "reason"),
        ("reason=a%0ab", "reason"),
    ] {
        assert_eq!(alice.authorize_with("web-1", query).await.faults(), [path], "{query}");
    }
    alice.authorize_with("web-1", "unknown=1&cols=80").await.expect(200);
    alice
        .authorize_with("web-1", &format!("command={}", url_encoded("echo 一\n\techo 二")))
        .await
        .expect(200);
}

#[tokio::test]
async fn a_ticket_is_minted_for_pages_of_ours_alone() {
    let (bastion, alice, _) = world(Shell::Echo).await;
    let Credential::Login(cookie) = &alice.credential else { panic!("alice has a login") };
    let path = format!("/assets/{}/tty/authorize", bastion.asset("web-1"));
    let stranger = bastion.stranger();
    for header in [None, Some(("sec-fetch-site", "cross-site")), Some(("origin", "https://evil.example"))] {
        let request = stranger.request(Method::GET, &path).header("cookie", cookie);
        let request = header.into_iter().fold(request, |request, (name, value)| request.header(name, value));
        Answer::of(request).await.refused(403, "cross_site");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_opens_one_terminal_even_under_fifty_parallel_tries() {
    let (_bastion, alice, root) = world(Shell::Echo).await;
    let token = alice.ticket("web-1").await;
    let tries: Vec<_> = (0..50)
        .map(|_| {
            let (alice, token) = (alice.clone(), token.clone());
            Box::pin(async move { redeem(&alice, &token).await })
        })
        .collect();
    let (opened, refused): (Vec<_>, Vec<_>) =
        futures_util::future::join_all(tries).await.into_iter().partition(Result::is_ok);
    assert_eq!((opened.len(), refused.len()), (1, 49));
    assert!(refused.iter().all(|closed| closed.as_ref().err().unwrap().code == 4401));
    assert_eq!(root.get("/sessions").await.expect(200)["items"].as_array().unwrap().len(), 1);
    assert_eq!(redeem(&alice, &token).await.err().unwrap().code, 4401);
}

#[tokio::test]
async fn a_ticket_is_bound_to_the_very_login_or_token_that_asked() {
    let (bastion, alice, _) = world(Shell::Echo).await;
    let program = alice.by_token(None).await;
    let bob = bastion.user("bob", "user").await;
    let nobody = bastion.stranger();
    let other_login = alice.elsewhere().await;
    let other_program = alice.by_token(None).await;
    for (asks, shows) in [
        (&alice, &other_login),
        (&alice, &program),
        (&alice, &bob),
        (&alice, &nobody),
        (&program, &alice),
        (&program, &other_program),
        (&program, &nobody),
    ] {
        let token = asks.ticket("web-1").await;
        let closed = redeem(shows, &token).await.err().unwrap();
        assert_eq!(closed.code, 4401, "{closed:?}");
        assert!(!closed.reason.is_empty());
    }
    for actor in [&alice, &program] {
        let token = actor.ticket("web-1").await;
        redeem(actor, &token).await.unwrap();
    }
}

#[tokio::test]
async fn a_ticket_is_no_permission_the_chain_rules_again() {
    let (bastion, alice, root) = world(Shell::Echo).await;
    let path = format!("/assets/{}", bastion.asset("web-1"));
    let token = alice.ticket("web-1").await;
    root.patch(&path, json!({"allowed_users": []})).await.expect(200);
    assert_eq!(redeem(&alice, &token).await.err().unwrap().code, 4403);
    root.patch(&path, json!({"allowed_users": [alice.id]})).await.expect(200);
    let token = alice.ticket("web-1").await;
    root.patch(&path, json!({"status": "maintenance"})).await.expect(200);
    let closed = redeem(&alice, &token).await.err().unwrap();
    assert_eq!(closed.code, 4403);
    root.patch(&path, json!({"status": null})).await.expect(200);
    let plain =
        alice.authorize_with("web-1", "plain=1").await.expect(200)["token"].as_str().unwrap().to_owned();
    root.patch(&format!("/users/{}", alice.id), json!({"disabled": true})).await.expect(200);
    let closed = Plain::open(&bastion, &plain, "").await.err().unwrap();
    assert_eq!(closed.code, 4403, "a user who was disabled: {closed:?}");
}

#[tokio::test]
async fn forged_and_foreign_tickets_open_nothing() {
    let (bastion, alice, _) = world(Shell::Echo).await;
    let good = alice.ticket("web-1").await;
    let parts: Vec<_> = good.split('.').collect();
    let other = alice.ticket("web-1").await;
    let swapped = format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2]);
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"castellan-ticket+jwt"}"#);
    for token in
        [swapped, format!("{none}.{}.", parts[1]), format!("{}.{}.", parts[0], parts[1]), "x".to_owned()]
    {
        assert_eq!(redeem(&alice, &token).await.err().unwrap().code, 4401, "{token}");
    }
    let elsewhere = world(Shell::Echo).await;
    let foreign = elsewhere.1.ticket("web-1").await;
    assert_eq!(redeem(&alice, &foreign).await.err().unwrap().code, 4401);
    drop(bastion);
    redeem(&alice, &good).await.unwrap();
}

/// With a policy document that was changed.
pub async fn ruled(shell: Shell, change: impl FnOnce(&mut Value)) -> (Bastion, Actor, Actor) {
    let (bastion, alice, root) = world(shell).await;
    let mut document = root.get("/policies/active").await.expect(200)["document"].clone();
    change(&mut document);
    let made = root.post("/policies", json!({"document": document, "comment": "changed"})).await.expect(201);
    let version = made["version"].as_i64().unwrap();
    alice.authorize("web-1").await.expect(200);
    root.post(&format!("/policies/{version}/activate"), Value::Null).await.expect(200);
    (bastion, alice, root)
}

/// Opens with a limit of `per_user` sessions.
pub async fn limited(per_user: u64) -> (Bastion, Actor, Actor) {
    ruled(Shell::Echo, |document| {
        for guard in document["guardrails"].as_array_mut().unwrap() {
            if guard["kind"] == "concurrency" {
                guard["config"] = json!({"per_user": per_user});
            }
        }
    })
    .await
}

#[tokio::test]
async fn a_limit_is_kept_when_tickets_are_issued_and_exactly_when_they_are_redeemed() {
    let (_bastion, alice, _) = limited(2).await;
    let mut tickets = Vec::new();
    for _ in 0..6 {
        tickets.push(alice.ticket("web-1").await);
    }
    let tries = tickets.iter().map(|token| Box::pin(redeem(&alice, token)));
    let (mut opened, refused): (Vec<_>, Vec<_>) =
        futures_util::future::join_all(tries).await.into_iter().partition(Result::is_ok);
    assert_eq!((opened.len(), refused.len()), (2, 4));
    for closed in refused {
        assert_eq!(closed.err().unwrap().code, 4403);
    }
    let problem = alice.authorize("web-1").await.refused(409, "limit_reached");
    assert_eq!((&problem["limit"], &problem["scope"]), (&json!(2), &json!("user")));

    let mut one = opened.pop().unwrap().unwrap();
    one.type_in("\u{4}").await;
    one.ended().await;
    alice.ended_session(&one.session).await;
    redeem(&alice, &alice.ticket("web-1").await).await.unwrap();
}

#[tokio::test]
async fn too_many_tickets_and_too_many_denials_of_a_user_wait() {
    let bastion = Bastion::start_with(|config| {
        config.rate_limits.tickets_per_minute = 3;
        config.rate_limits.denials_per_10_minutes = 2;
    })
    .await;
    let (alice, bob) = (bastion.user("alice", "user").await, bastion.user("bob", "user").await);
    bastion.host("web-1", Shell::Echo, &[&alice]).await;
    for _ in 0..3 {
        alice.ticket("web-1").await;
    }
    let refused = alice.authorize("web-1").await;
    refused.refused(429, "rate_limited");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    for _ in 0..2 {
        bob.authorize("web-1").await.refused(404, "not_available");
    }
    bob.authorize("web-1").await.refused(429, "rate_limited");
    bob.get("/me").await.expect(200);
}

#[tokio::test]
async fn every_ruling_is_kept_and_simulating_says_the_same() {
    let (bastion, alice, root) = world(Shell::Echo).await;
    let bob = bastion.user("bob", "user").await;
    for (user, effect) in [(&alice, "allow"), (&bob, "deny")] {
        let question = json!({"user": user.id, "asset": bastion.asset("web-1")});
        let answer = root.post("/policies/simulate", question).await.expect(200);
        assert_eq!(answer["effect"], effect, "{answer}");
        assert!(answer["trail"].as_array().is_some_and(|trail| !trail.is_empty()), "{answer}");
    }
    alice.post("/policies/simulate", json!({"user": bob.id, "asset": "x"})).await.refused(403, "forbidden");
}

#[tokio::test]
async fn a_session_ends_when_no_key_is_typed_for_as_long_as_the_policy_says() {
    let (bastion, alice, root) = world(Shell::Login).await;
    let mut document = root.get("/policies/active").await.expect(200)["document"].clone();
    document["policies"][0]["obligations"] = json!({"idle_timeout": "2s"});
    let made = root.post("/policies", json!({"document": document, "comment": "short"})).await.expect(201);
    root.post(&format!("/policies/{}/activate", made["version"]), Value::Null).await.expect(200);
    let mut terminal = alice.run("web-1", "while true; do echo output; sleep 0.1; done").await;
    let mut warned = false;
    let closed = loop {
        match terminal.step().await {
            Ok(Frame::Control(Control::Closing { in_seconds, .. })) => warned = in_seconds <= 2,
            Ok(_) => {}
            Err(closed) => break closed,
        }
    };
    assert!(warned, "a warning comes before the end");
    assert_eq!(closed.code, 4408);
    assert_eq!(alice.ended_session(&terminal.session).await["end_reason"], "idle");
    tokio::time::timeout(Duration::from_secs(30), bastion.stop()).await.unwrap();
}

#[tokio::test]
async fn a_plain_ticket_suffices_alone_but_only_from_where_it_was_asked_for() {
    let (bastion, alice, _) = world(Shell::Echo).await;
    let Credential::Login(cookie) = &alice.credential else { panic!("alice has a login") };
    let elsewhere =
        reqwest::Client::builder().local_address(Some([127, 0, 0, 2].into())).no_proxy().build().unwrap();
    let url = format!("{}/api/v1/assets/{}/tty/authorize?plain=1", bastion.url(), bastion.asset("web-1"));
    let request = elsewhere.get(url).header("cookie", cookie).header("sec-fetch-site", "same-origin");
    let token = Answer::of(request).await.expect(200)["token"].as_str().unwrap().to_owned();
    assert_eq!(claims(&token)["plain"], true);
    assert_eq!(Plain::open(&bastion, &token, "").await.err().unwrap().code, 4401);

    let token =
        alice.authorize_with("web-1", "plain=1").await.expect(200)["token"].as_str().unwrap().to_owned();
    let mut plain = Plain::open(&bastion, &token, "").await.unwrap();
    plain.type_in("alone").await;
    plain.until("alone").await;
    assert_eq!(Plain::open(&bastion, &token, "").await.err().unwrap().code, 4401, "once");
}
