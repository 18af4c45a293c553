//! People: logins, roles, passwords, tokens, users, and what the audit log keeps of them.

use reqwest::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Bastion, Credential, PASSWORD};

#[tokio::test]
async fn a_login_sets_a_strict_cookie_that_only_pages_of_ours_can_use() {
    let bastion = Bastion::start().await;
    let answer = bastion.stranger().post("/login", json!({"username": "root", "password": PASSWORD})).await;
    assert_eq!(answer.expect(200)["role"], "admin");
    let cookie = answer.header("set-cookie");
    for part in ["HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.split("; ").any(|it| it == part), "{cookie}");
    }
    assert!(cookie.starts_with("castellan_login="), "plain HTTP on loopback: no __Host- prefix: {cookie}");

    let me = bastion.root().get("/me").await.expect(200);
    assert_eq!((&me["username"], &me["role"]), (&json!("root"), &json!("admin")));
    assert!(me["login"]["expires_at"].is_string());
}

#[tokio::test]
async fn an_unknown_name_a_wrong_password_and_a_disabled_user_get_the_same_bytes() {
    let bastion = Bastion::start().await;
    let alice = bastion.user("alice", "user").await;
    bastion.root().patch(&format!("/users/{}", alice.id), json!({"disabled": true})).await.expect(200);
    let mut answers = Vec::new();
    for (name, password) in [("nobody", PASSWORD), ("root", "wrong"), ("alice", PASSWORD), ("ROOT", PASSWORD)]
    {
        let refused = bastion.login(name, password).await.unwrap_err();
        refused.refused(401, "bad_credentials");
        answers.push(refused.body);
    }
    assert!(answers.windows(2).all(|pair| pair[0] == pair[1]));
}

#[tokio::test]
async fn a_logout_ends_this_login_and_no_other() {
    let bastion = Bastion::start().await;
    let here = bastion.user("alice", "user").await;
    let there = here.elsewhere().await;
    let answer = here.post("/logout", Value::Null).await;
    answer.expect(204);
    assert!(answer.header("set-cookie").contains("Max-Age=0"));
    here.get("/me").await.refused(401, "unauthenticated");
    there.get("/me").await.expect(200);
}

#[tokio::test]
async fn a_new_password_ends_the_other_logins_but_no_token() {
    let bastion = Bastion::start().await;
    let here = bastion.user("alice", "user").await;
    let there = here.elsewhere().await;
    let program = here.by_token(None).await;
    let change = |now: &str| json!({"current_password": now, "new_password": "another good one"});
    assert_eq!(here.post("/me/password", change("wrong")).await.faults(), ["current_password"]);
    there.get("/me").await.expect(200);

    here.post("/me/password", change(PASSWORD)).await.expect(204);
    here.get("/me").await.expect(200);
    there.get("/me").await.refused(401, "unauthenticated");
    program.get("/me").await.expect(200);
    bastion.login("alice", PASSWORD).await.unwrap_err().refused(401, "bad_credentials");
    bastion.login("alice", "another good one").await.unwrap();
}

#[tokio::test]
async fn disabling_a_user_ends_logins_and_tokens_at_once() {
    let bastion = Bastion::start().await;
    let alice = bastion.user("alice", "user").await;
    let program = alice.by_token(None).await;
    let path = format!("/users/{}", alice.id);
    bastion.root().patch(&path, json!({"disabled": true})).await.expect(200);
    alice.get("/me").await.refused(401, "unauthenticated");
    program.get("/me").await.refused(401, "unauthenticated");
    bastion.root().patch(&path, json!({"disabled": false})).await.expect(200);
    alice.get("/me").await.refused(401, "unauthenticated");
    bastion.login("alice", PASSWORD).await.unwrap();
}

#[tokio::test]
async fn a_token_is_shown_once_has_at_most_its_makers_role_and_can_be_revoked() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    let made =
        root.post("/tokens", json!({"name": "ci", "role": "user", "expires_in_days": 1})).await.expect(201);
    let secret = made["token"].as_str().unwrap().to_owned();
    let listed = root.get("/tokens").await;
    assert!(!listed.text().contains(&secret));
    assert_eq!(listed.expect(200)["items"][0]["name"], "ci");

    let program = root.with(Credential::Token(secret));
    assert_eq!(program.get("/me").await.expect(200)["role"], "user");
    program.get("/users").await.refused(403, "forbidden");
    program.post("/tokens", json!({"name": "up", "role": "admin"})).await.refused(403, "forbidden");

    let path = format!("/tokens/{}", made["id"].as_str().unwrap());
    bastion.user("alice", "user").await.delete(&path).await.refused(404, "not_found");
    root.delete(&path).await.expect(204);
    program.get("/me").await.refused(401, "unauthenticated");
    root.delete(&path).await.refused(404, "not_found");
}

#[tokio::test]
async fn every_role_reaches_what_is_its_own_and_nothing_above() {
    let bastion = Bastion::start().await;
    let user = bastion.user("alice", "user").await;
    let auditor = bastion.user("otto", "auditor").await;
    let root = bastion.root();
    for (path, least) in [
        ("/me", 0),
        ("/sessions", 0),
        ("/recordings", 0),
        ("/assets", 0),
        ("/audit", 1),
        ("/users", 2),
        ("/registrations", 2),
    ] {
        for (rank, actor) in [&user, &auditor, &root].into_iter().enumerate() {
            let answer = actor.get(path).await;
            if rank >= least {
                answer.expect(200)
            } else {
                answer.refused(403, "forbidden")
            };
        }
    }
}

#[tokio::test]
async fn a_cookie_from_another_site_may_read_but_change_nothing() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    let Credential::Login(cookie) = &root.credential else { panic!("root logs in with a password") };
    let own = bastion.url();
    let send = async |headers: &[(&str, &str)]| {
        let url = format!("{}/api/v1/tokens", bastion.url());
        let request =
            bastion.http().request(Method::POST, url).header("cookie", cookie).json(&json!({"name": "x"}));
        Answer::of(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    };
    for refused in [
        vec![],
        vec![("origin", "https://evil.example")],
        vec![("origin", "null")],
        vec![("sec-fetch-site", "cross-site")],
        vec![("sec-fetch-site", "same-site")],
        vec![("sec-fetch-site", "none")],
        vec![("sec-fetch-site", "cross-site"), ("origin", own.as_str())],
    ] {
        send(&refused).await.refused(403, "cross_site");
    }
    send(&[("sec-fetch-site", "same-origin")]).await.expect(201);
    send(&[("origin", own.as_str())]).await.expect(201);
    assert_eq!(root.get("/tokens").await.expect(200)["items"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn names_are_unique_and_the_last_admin_stays() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    let user = json!({"username": "bob", "password": PASSWORD, "role": "user", "groups": ["ops", "dev"]});
    let bob = root.post("/users", user.clone()).await.expect(201);
    assert_eq!(bob["groups"], json!(["dev", "ops"]));
    assert!(bob.get("password").is_none() && bob.get("password_hash").is_none());
    root.post("/users", user).await.refused(409, "username_taken");
    let path = format!("/users/{}", root.id);
    for change in [json!({"role": "user"}), json!({"disabled": true})] {
        root.patch(&path, change).await.refused(409, "last_admin");
    }
    root.patch("/users/nobody", json!({"role": "user"})).await.refused(404, "not_found");
}

#[tokio::test]
async fn what_changes_something_is_in_the_audit_log_without_its_secrets() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    let alice = bastion.user("alice", "user").await;
    let token = alice.post("/tokens", json!({"name": "ci"})).await.expect(201);
    root.patch(&format!("/users/{}", alice.id), json!({"password": "another good one"})).await.expect(200);
    let _ = bastion.login("alice", "not this one").await;
    let audit = root.get("/audit?limit=200").await;
    let actions: Vec<_> = audit.expect(200)["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["action"].as_str().unwrap().to_owned())
        .collect();
    for action in ["user.create", "login.create", "token.create", "user.change", "login.fail"] {
        assert!(actions.iter().any(|it| it == action), "{action}: {actions:?}");
    }
    for secret in [PASSWORD, "another good one", "not this one", token["token"].as_str().unwrap()] {
        assert!(!audit.text().contains(secret));
    }
}

#[tokio::test]
async fn too_many_logins_from_an_address_wait_and_the_answer_says_how_long() {
    let bastion = Bastion::start_with(|config| config.rate_limits.logins_per_minute = 3).await;
    // The first was root's, when the bastion was made.
    for _ in 0..2 {
        bastion.login("root", "wrong").await.unwrap_err().refused(401, "bad_credentials");
    }
    let refused = bastion.login("root", PASSWORD).await.unwrap_err();
    refused.refused(429, "rate_limited");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    bastion.root().get("/me").await.expect(200);
}

#[tokio::test]
async fn an_operators_new_password_ends_every_login() {
    let bastion = Bastion::start().await;
    let alice = bastion.user("alice", "user").await;
    bastion.operator().set_password("alice", "set by operator".to_owned()).await.unwrap();
    alice.get("/me").await.refused(401, "unauthenticated");
    bastion.login("alice", "set by operator").await.unwrap();
}
