//! Enrolment, by an agent made by hand and by the real one.

use agent::{AgentError, Shell, enrol::EnrolError};
use openapi::{
    keys::open_secret,
    ticket::{APPROVAL_TYP, ApprovalClaims, KEYS_TYP, KeyList},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Answer, Bastion, rsa_key, within},
    signing::Applicant,
};

fn status_path(apply_id: &str) -> String {
    format!("/register/status?apply_id={apply_id}")
}

#[tokio::test]
async fn the_same_agent_and_key_find_the_same_application() {
    let bastion = Bastion::start().await;
    let host = Applicant::new(&bastion);
    let first = host.register().await.expect(202);
    assert_eq!(first["status"], "pending");
    assert_eq!(first["fingerprint"], host.key.fingerprint);
    assert_eq!(host.register().await.expect(202), first);
    let list = bastion.root().get("/registrations").await.expect(200);
    let items = list["items"].as_array().unwrap();
    assert_eq!(items.len(), 1);
    assert_eq!(items[0]["id"], first["apply_id"]);
    assert_eq!(items[0]["client_id"], host.client_id);
    assert_eq!(items[0]["fingerprint"], first["fingerprint"]);
    assert_eq!(items[0]["labels"], json!({"env": "test"}));
    assert_eq!((&items[0]["key_changed"], &items[0]["status"]), (&json!(false), &json!("pending")));
    assert_eq!(
        host.status(first["apply_id"].as_str().unwrap()).await.expect(200),
        json!({"status": "pending"})
    );
}

#[tokio::test]
async fn an_approval_gives_a_sealed_proven_secret_until_its_first_use_and_never_after() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    let host = Applicant::new(&bastion);
    let apply_id = host.applied().await;
    let approved =
        root.post("/approve", json!({"id": apply_id, "fingerprint": host.key.fingerprint})).await.expect(200);
    assert_eq!(approved["status"], "approved");
    assert_eq!(approved["asset"]["id"], host.client_id);
    assert_eq!(approved["asset"]["status"], "offline");

    let answer = host.status(&apply_id).await.expect(200);
    assert_eq!(answer["status"], "approved");
    let sealed = answer["encrypted_secret"].as_str().unwrap();
    let secret = open_secret(&host.key.private, sealed).unwrap();
    let keys = bastion.http().get(format!("{}/.well-known/jwks.json", bastion.url()));
    let keys: KeyList = serde_json::from_value(Answer::of(keys).await.expect(200)).unwrap();
    let proof: ApprovalClaims =
        openapi::ticket::verify(answer["proof"].as_str().unwrap(), APPROVAL_TYP, &keys.keys).unwrap();
    assert_eq!((proof.apply_id, proof.client_id), (apply_id.clone(), host.client_id.clone()));
    assert_eq!(proof.fingerprint, host.key.fingerprint);
    assert_eq!(proof.secret_sha256, hex::encode(<sha2::Sha256 as sha2::Digest>::digest(sealed.as_bytes())));

    // Lost on the way: asked for again, it is the same secret, sealed afresh.
    let again = host.status(&apply_id).await.expect(200);
    assert_ne!(again["encrypted_secret"], answer["encrypted_secret"]);
    let same = open_secret(&host.key.private, again["encrypted_secret"].as_str().unwrap()).unwrap();
    assert_eq!(same.expose(), secret.expose());
    assert_eq!(host.register().await.expect(202)["apply_id"], apply_id);

    host.heartbeat(&secret).await.expect(200);
    assert_eq!(host.status(&apply_id).await.expect(200), json!({"status": "approved"}));
    let after = host.register().await.expect(202);
    assert_ne!(after["apply_id"], apply_id, "a lost file makes a new application");
    assert_eq!(after["status"], "pending");
    host.heartbeat(&secret).await.expect(200);
}

#[tokio::test]
async fn the_list_of_keys_is_signed_by_the_identity_key() {
    let bastion = Bastion::start().await;
    let get = async |path: &str| Answer::of(bastion.http().get(format!("{}{path}", bastion.url()))).await;
    let plain: KeyList = serde_json::from_value(get("/.well-known/jwks.json").await.expect(200)).unwrap();
    let signed = get("/.well-known/jwks.jws").await;
    assert_eq!(signed.status, 200);
    let list: KeyList = openapi::ticket::verify(&signed.text(), KEYS_TYP, &plain.keys).unwrap();
    assert!(openapi::ticket::kid_of(&signed.text()).unwrap().starts_with("id-"));
    assert_eq!(list.keys.len(), plain.keys.len());
    assert!(list.iat.is_some());
    for start in ["id-", "tk-", "rec-"] {
        assert!(list.keys.iter().any(|key| key.kid.starts_with(start)), "{start}");
    }
}

#[tokio::test]
async fn a_rejection_says_why_and_the_next_try_is_a_new_application() {
    let bastion = Bastion::start().await;
    let host = Applicant::new(&bastion);
    let apply_id = host.applied().await;
    bastion.root().post("/reject", json!({"id": apply_id, "reason": "not ours"})).await.expect(200);
    assert_eq!(host.status(&apply_id).await.expect(200), json!({"status": "rejected", "reason": "not ours"}));
    assert_ne!(host.applied().await, apply_id);
    // It is kept, never deleted.
    let list = bastion.root().get("/registrations").await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    let rejected = bastion.root().get("/registrations?status=rejected").await.expect(200);
    assert_eq!(rejected["items"][0]["id"], apply_id);
    assert_eq!(rejected["items"][0]["decided_by"], bastion.root().id);
}

#[tokio::test]
async fn a_second_decision_and_another_fingerprint_are_conflicts() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    let host = Applicant::new(&bastion);
    let apply_id = host.applied().await;
    let other = rsa_key(1).fingerprint.clone();
    root.post("/approve", json!({"id": apply_id, "fingerprint": other}))
        .await
        .refused(409, "fingerprint_mismatch");
    assert_eq!(host.status(&apply_id).await.expect(200)["status"], "pending");
    root.post("/approve", json!({"id": apply_id})).await.expect(200);
    root.post("/approve", json!({"id": apply_id})).await.refused(409, "already_decided");
    root.post("/reject", json!({"id": apply_id})).await.refused(409, "already_decided");
    root.post("/approve", json!({"id": "nobody"})).await.refused(404, "not_found");
}

#[tokio::test]
async fn of_parallel_decisions_one_wins() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    let apply_id = Applicant::new(&bastion).applied().await;
    let tries = (0..10).map(|nth| {
        let (root, id) = (root.clone(), apply_id.clone());
        let path = if nth % 2 == 0 { "/approve" } else { "/reject" };
        Box::pin(async move { root.post(path, json!({"id": id})).await.status })
    });
    let mut statuses = futures_util::future::join_all(tries).await;
    statuses.sort_unstable();
    assert_eq!(statuses, [&[200][..], &[409; 9][..]].concat());
}

#[tokio::test]
async fn another_key_is_marked_and_the_old_one_is_good_until_an_admin_says_otherwise() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    let alice = bastion.user("alice", "user").await;
    let host = Applicant::new(&bastion);
    let old = host.enrol(&root, &[&alice]).await;
    host.heartbeat(&old).await.expect(200);

    let changed = host.with_other_key();
    let apply_id = changed.applied().await;
    let list = root.get("/registrations?status=pending").await.expect(200);
    assert_eq!(list["items"][0]["key_changed"], true);
    host.heartbeat(&old).await.expect(200);
    // The old key's owner does not see the new application.
    host.status(&apply_id).await.refused(404, "not_found");

    root.post("/approve", json!({"id": apply_id})).await.expect(200);
    host.heartbeat(&old).await.refused(401, "bad_signature");
    let answer = changed.status(&apply_id).await.expect(200);
    let new = open_secret(&changed.key.private, answer["encrypted_secret"].as_str().unwrap()).unwrap();
    changed.heartbeat(&new).await.expect(200);
    // What the admin decided about the asset before still holds.
    let asset = root.get(&format!("/assets/{}", host.client_id)).await.expect(200);
    assert_eq!(asset["allowed_users"], json!([alice.id]));
    assert_eq!(asset["fingerprint"], changed.key.fingerprint);
}

#[tokio::test]
async fn a_deleted_host_is_a_stranger_that_may_apply_again() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    let host = Applicant::new(&bastion);
    let secret = host.enrol(&root, &[]).await;
    host.heartbeat(&secret).await.expect(200);
    root.delete(&format!("/assets/{}", host.client_id)).await.expect(204);
    host.heartbeat(&secret).await.refused(401, "bad_signature");
    root.get(&format!("/assets/{}", host.client_id)).await.refused(404, "not_found");
    root.delete(&format!("/assets/{}", host.client_id)).await.refused(404, "not_found");
    let new = host.enrol(&root, &[]).await;
    assert_ne!(new.expose(), secret.expose());
    host.heartbeat(&new).await.expect(200);
}

#[tokio::test]
async fn clocks_that_differ_are_told_the_time_and_nonces_work_once() {
    let bastion = Bastion::start().await;
    let host = Applicant::new(&bastion);
    let register = async |skew: i64, nonce: Option<[u8; 16]>| {
        let hand = crate::signing::Hand { skew, nonce, ..host.rsa() };
        host.send(&hand, Method::POST, "/register", Some(host.application())).await
    };
    for skew in [-130, 130] {
        let problem = register(skew, Some([1; 16])).await.refused(401, "clock_skew");
        assert!(problem["server_time"].as_str().unwrap().ends_with('Z'));
    }
    // A request with a wrong clock burns no nonce.
    register(-110, Some([1; 16])).await.expect(202);
    register(110, Some([1; 16])).await.refused(401, "replayed");
    let apply_id = host.applied().await;
    let ask = async |skew: i64, nonce: [u8; 16]| {
        let hand = crate::signing::Hand { skew, nonce: Some(nonce), ..host.rsa() };
        host.send(&hand, Method::GET, &status_path(&apply_id), None).await
    };
    ask(500, [2; 16]).await.refused(401, "clock_skew");
    ask(0, [2; 16]).await.expect(200);
    ask(0, [2; 16]).await.refused(401, "replayed");
}

#[tokio::test]
async fn what_is_not_signed_as_the_contract_says_is_a_bad_signature() {
    let bastion = Bastion::start().await;
    let host = Applicant::new(&bastion);
    let body = host.application().to_string();
    let good = host.headers(&host.rsa(), "POST", "/register", Some(&body));
    let send = async |path: &str, headers: Vec<(&str, String)>, body: &str| {
        let request = bastion.http().post(format!("{}/api/v1{path}", bastion.url()));
        let request = request.header("content-type", "application/json").body(body.to_owned());
        Answer::of(headers.into_iter().fold(request, |request, (name, value)| request.header(name, value)))
            .await
    };
    let without = |gone: &str| good.iter().filter(|(name, _)| *name != gone).cloned().collect::<Vec<_>>();
    let with = |changed: &str, from: &str, to: &str| {
        let change = |(name, value): &(&'static str, String)| {
            (*name, if *name == changed { value.replace(from, to) } else { value.clone() })
        };
        good.iter().map(change).collect::<Vec<_>>()
    };
    let twice = good.iter().chain(good.iter().take(1)).cloned().collect::<Vec<_>>();
    for (what, path, headers, body) in [
        ("unsigned", "/register", vec![], body.clone()),
        ("no input", "/register", without("signature-input"), body.clone()),
        ("no signature", "/register", without("signature"), body.clone()),
        ("no digest", "/register", without("content-digest"), body.clone()),
        ("another body", "/register", good.clone(), body.replace("hand-made", "other")),
        ("another query", "/register?x=1", good.clone(), body.clone()),
        ("another label", "/register", with("signature-input", "agent=", "other="), body.clone()),
        (
            "another algorithm",
            "/register",
            with("signature-input", "rsa-pss-sha512", "hmac-sha256"),
            body.clone(),
        ),
        ("fewer components", "/register", with("signature-input", " \"@query\"", ""), body.clone()),
        ("another time", "/register", with("signature-input", "created=1", "created=01"), body.clone()),
        ("two inputs", "/register", twice, body.clone()),
    ] {
        let answer = send(path, headers, &body).await;
        assert_eq!((answer.status, &answer.json()["code"]), (401, &json!("bad_signature")), "{what}");
    }
    // Nothing of all that burned the nonce, nor left an application.
    assert_eq!(bastion.root().get("/registrations").await.expect(200)["items"], json!([]));
    send("/register", good.clone(), &body).await.expect(202);
}

#[tokio::test]
async fn one_may_not_apply_for_another() {
    let bastion = Bastion::start().await;
    let host = Applicant::new(&bastion);
    let hand = crate::signing::Hand { keyid: uuid::Uuid::new_v4().to_string(), ..host.rsa() };
    host.send(&hand, Method::POST, "/register", Some(host.application())).await.refused(403, "not_yours");
}

#[tokio::test]
async fn who_may_not_know_gets_one_and_the_same_404_byte_for_byte() {
    let bastion = Bastion::start().await;
    let host = Applicant::new(&bastion);
    let apply_id = host.applied().await;
    let other = Applicant::new(&bastion);
    other.applied().await;
    let unsigned = Answer::of(bastion.stranger().request(Method::GET, &status_path(&apply_id))).await;
    let nowhere = uuid::Uuid::now_v7().to_string();
    let unknown = host.status(&nowhere).await;
    let answers = [
        host.with_other_key().status(&apply_id).await,
        other.status(&apply_id).await,
        host.send(
            &crate::signing::Hand { skew: 500, ..host.rsa() },
            Method::GET,
            &status_path(&nowhere),
            None,
        )
        .await,
        host.status("").await,
        host.send(&host.rsa(), Method::GET, "/register/status", None).await,
        unknown,
    ];
    unsigned.refused(404, "not_found");
    let shown = |answer: &Answer| {
        let headers = answer.headers.iter().filter(|(name, _)| *name != "date");
        (answer.status, format!("{:?}", headers.collect::<Vec<_>>()), answer.body.clone())
    };
    for answer in &answers {
        assert_eq!(shown(answer), shown(&unsigned));
    }
}

#[tokio::test]
async fn a_waiting_status_answers_as_soon_as_there_is_a_decision() {
    let bastion = Bastion::start().await;
    let host = Applicant::new(&bastion);
    let apply_id = host.applied().await;
    let begun = tokio::time::Instant::now();
    let path = format!("{}&wait=20", status_path(&apply_id));
    let hand = host.rsa();
    let waiting = host.send(&hand, Method::GET, &path, None);
    tokio::pin!(waiting);
    // It waits for as long as nothing is decided.
    let early = tokio::time::timeout(std::time::Duration::from_millis(200), &mut waiting).await;
    assert!(early.is_err(), "{early:?}");
    bastion.root().post("/approve", json!({"id": apply_id})).await.expect(200);
    assert_eq!(waiting.await.expect(200)["status"], "approved");
    assert!(begun.elapsed().as_secs() < 5, "at once, not at the next look: {:?}", begun.elapsed());
    for wait in ["31", "-1", "x"] {
        let path = format!("{}&wait={wait}", status_path(&apply_id));
        assert_eq!(host.send(&host.rsa(), Method::GET, &path, None).await.faults(), ["wait"]);
    }
}

#[tokio::test]
async fn only_so_many_may_wait_from_one_address() {
    let bastion = Bastion::start().await;
    let mut hosts = Vec::new();
    for _ in 0..50 {
        let host = Applicant::new(&bastion);
        host.register().await.expect(202);
        hosts.push(host);
    }
    let refused = Applicant::new(&bastion).register().await;
    refused.refused(429, "too_many_pending");
    assert!(!refused.header("retry-after").is_empty());
    // Those that wait already are found as before.
    hosts[0].register().await.expect(202);
    let first =
        bastion.root().get("/registrations?status=pending&limit=1").await.expect(200)["items"][0]["id"]
            .clone();
    bastion.root().post("/reject", json!({"id": first})).await.expect(200);
    Applicant::new(&bastion).register().await.expect(202);
}

#[tokio::test]
async fn registrations_and_failed_signatures_are_limited_by_address() {
    let bastion = Bastion::start_with(|config| config.rate_limits.registrations_per_minute = 2).await;
    let host = Applicant::new(&bastion);
    host.register().await.expect(202);
    host.register().await.expect(202);
    host.register().await.refused(429, "rate_limited");

    let bastion = Bastion::start_with(|config| config.rate_limits.anonymous_per_minute = 2).await;
    for _ in 0..2 {
        bastion.stranger().post("/heartbeat", json!({})).await.refused(401, "bad_signature");
    }
    bastion.stranger().post("/heartbeat", json!({})).await.refused(429, "rate_limited");
}

#[tokio::test]
async fn what_an_agent_proposes_counts_for_nothing_until_approved() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    let host = Applicant::new(&bastion);
    let apply_id = host.applied().await;
    let approved =
        root.post("/approve", json!({"id": apply_id, "labels": {"env": "prod"}})).await.expect(200);
    assert_eq!(approved["asset"]["labels"], json!({"env": "prod"}));
    assert_eq!(approved["asset"]["proposed_labels"], json!({"env": "test"}));
    assert_eq!(approved["asset"]["allowed_users"], json!([]));
    let listed = |answer: Value| answer["items"].as_array().unwrap().len();
    assert_eq!(listed(root.get("/assets?selector=env%3Dprod").await.expect(200)), 1);
    assert_eq!(listed(root.get("/assets?selector=env%3Dtest").await.expect(200)), 0);
    assert_eq!(root.get("/assets?selector=%3D%3D").await.faults(), ["selector"]);
}

#[tokio::test]
async fn the_real_agent_enrols_keeps_its_secret_and_ends_when_rejected() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    let host = bastion.host("web-1", Shell::Echo, &[]).await;
    let asset = host.until(&root, "online").await;
    assert_eq!(asset["hostname"], "web-1");
    assert!(asset["static_info"].as_object().is_some_and(|info| !info.is_empty()), "{asset}");
    assert!(asset["dynamic_info"].as_object().is_some_and(|info| !info.is_empty()), "{asset}");
    let secret = bastion.home().join(format!("agent-{}", host.id)).join("agent_secret_key");
    assert_eq!(std::fs::read_to_string(secret).unwrap().len(), 45, "44 characters and a newline");

    let other = bastion.unapproved_host("web-2", Shell::Echo);
    let application = other.application(&root).await;
    root.post("/reject", json!({"id": application["id"], "reason": "no"})).await.expect(200);
    let ended = within("the agent gives up", other.ended()).await;
    assert!(matches!(ended, Err(AgentError::Enrol(EnrolError::Rejected(_)))), "{ended:?}");
}
