//! Heartbeats and the sessions that wait for an agent.

use openapi::{
    frames::{Control, Frame},
    keys::Secret,
    ticket::{KeyList, verify_relay},
};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Actor, Answer, Bastion, now},
    signing::{Applicant, Hand},
    terminals::{Socket, Terminal, dial_framed},
};

/// A host made by hand that is online, for alice.
pub async fn world() -> (Bastion, Actor, Applicant, Secret) {
    let bastion = Bastion::start().await;
    let alice = bastion.user("alice", "user").await;
    let host = Applicant::new(&bastion);
    let secret = host.enrol(&bastion.root(), &[&alice]).await;
    host.heartbeat(&secret).await.expect(200);
    (bastion, alice, host, secret)
}

pub async fn pending(host: &Applicant, secret: &Secret, wait: u32) -> Value {
    let path = format!("/agent/tty/pending-sessions?agent_id={}&wait={wait}", host.client_id);
    host.send(&host.hmac(secret), Method::GET, &path, None).await.expect(200)
}

/// Dials back for a task, as an agent does.
pub async fn relay(
    bastion: &Bastion,
    host: &Applicant,
    secret: &Secret,
    task: &Value,
) -> Result<Socket, (u16, Value)> {
    let path = format!("/agent/tty/relay?session_id={}", task["session_id"].as_str().unwrap());
    let mut headers = host.headers(&host.hmac(secret), "GET", &path, None);
    headers.push(("authorization", format!("Bearer {}", task["token"].as_str().unwrap())));
    headers.push(("sec-websocket-protocol", "castellan.tty.v1".to_owned()));
    Socket::dial(bastion, &path, &headers).await
}

/// A session of alice's whose browser has said hello, and the task it makes.
pub async fn opened(alice: &Actor, host: &Applicant, secret: &Secret) -> (Socket, Value) {
    let mut browser = dial_framed(alice, &alice.ticket(&host.client_id).await).await.unwrap();
    browser.frame(Frame::Control(Control::Hello { have: 0 })).await;
    let tasks = pending(host, secret, 20).await;
    assert_eq!(tasks.as_array().unwrap().len(), 1);
    (browser, tasks[0].clone())
}

#[tokio::test]
async fn a_heartbeat_makes_a_host_online_and_shows_how_it_does() {
    let bastion = Bastion::start().await;
    let root = bastion.root();
    let host = Applicant::new(&bastion);
    let secret = host.enrol(&root, &[]).await;
    let path = format!("/assets/{}", host.client_id);
    assert_eq!(root.get(&path).await.expect(200)["status"], "offline");
    let answer = host.heartbeat(&secret).await.expect(200);
    assert_eq!((&answer["status"], &answer["interval"]), (&json!("ok"), &json!(30)));
    assert_eq!(answer["terminate"], json!([]));
    assert!(answer["server_time"].is_string());
    let asset = root.get(&path).await.expect(200);
    assert_eq!((&asset["status"], &asset["dynamic_info"]), (&json!("online"), &json!({"cpu": 1})));
    root.patch(&path, json!({"status": "maintenance"})).await.expect(200);
    host.heartbeat(&secret).await.expect(200);
    assert_eq!(root.get(&path).await.expect(200)["status"], "maintenance");
}

#[tokio::test]
async fn only_the_agents_own_fresh_signature_is_a_heartbeat() {
    let (_bastion, _, host, secret) = world().await;
    let beat = async |hand: Hand, body: Value| host.send(&hand, Method::POST, "/heartbeat", Some(body)).await;
    let hand = host.hmac(&secret);
    beat(Hand { skew: -121, ..hand.clone() }, host.beat()).await.refused(401, "clock_skew");
    beat(Hand { skew: 125, ..hand.clone() }, host.beat()).await.refused(401, "clock_skew");
    beat(host.hmac(&Secret::new([1; 32])), host.beat()).await.refused(401, "bad_signature");
    beat(host.rsa(), host.beat()).await.refused(401, "bad_signature");
    beat(Hand { keyid: "nobody".to_owned(), ..hand.clone() }, host.beat())
        .await
        .refused(401, "bad_signature");
    // A wrong signature with an old clock is a wrong signature: one is looked at first.
    let wrong = Hand { skew: -500, ..host.hmac(&Secret::new([1; 32])) };
    beat(wrong, host.beat()).await.refused(401, "bad_signature");
    let once = Hand { nonce: Some([9; 16]), ..hand.clone() };
    beat(once.clone(), host.beat()).await.expect(200);
    beat(once, host.beat()).await.refused(401, "replayed");
    let mut other = host.beat();
    other["id"] = json!(uuid::Uuid::new_v4());
    beat(hand, other).await.refused(403, "not_yours");
}

#[tokio::test]
async fn of_a_nonce_used_in_parallel_one_request_passes() {
    let (_bastion, _, host, secret) = world().await;
    let hand = Hand { nonce: Some([7; 16]), ..host.hmac(&secret) };
    let tries = (0..20).map(|_| Box::pin(host.send(&hand, Method::POST, "/heartbeat", Some(host.beat()))));
    let answers: Vec<Answer> = futures_util::future::join_all(tries).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 200).count(), 1);
    for answer in answers.iter().filter(|answer| answer.status != 200) {
        answer.refused(401, "replayed");
    }
}

#[tokio::test]
async fn sessions_that_only_the_agent_holds_come_back_to_be_ended() {
    let (_bastion, _, host, secret) = world().await;
    let stray = uuid::Uuid::now_v7().to_string();
    let mut beat = host.beat();
    beat["tty_status"] = json!({"active_sessions": 1, "sessions": [stray]});
    let answer = host.send(&host.hmac(&secret), Method::POST, "/heartbeat", Some(beat)).await.expect(200);
    assert_eq!(answer["terminate"], json!([stray]));
}

#[tokio::test]
async fn a_task_comes_at_once_to_the_agent_it_is_for_and_says_what_to_run() {
    let (bastion, alice, host, secret) = world().await;
    assert_eq!(pending(&host, &secret, 0).await, json!([]));
    let waits = pending(&host, &secret, 20);
    let opens = async {
        let ticket =
            alice.authorize_with(&host.client_id, "cols=90&rows=30&command=uptime").await.expect(200);
        dial_framed(&alice, ticket["token"].as_str().unwrap()).await.unwrap()
    };
    let begun = tokio::time::Instant::now();
    let (tasks, _browser) = tokio::join!(waits, opens);
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
    let task = &tasks[0];
    let session = task["session_id"].as_str().unwrap();
    assert_eq!(
        task["relay_url"],
        format!("{}/api/v1/agent/tty/relay?session_id={session}", bastion.config().ws_base())
    );
    assert_eq!((&task["cols"], &task["rows"]), (&json!(90), &json!(30)));
    assert_eq!((&task["user"], &task["command"]), (&json!("alice"), &json!("uptime")));
    assert_eq!(task["run_as"], json!(null));
    // Handed to one request.
    assert_eq!(pending(&host, &secret, 0).await, json!([]));

    let keys = Answer::of(bastion.http().get(format!("{}/.well-known/jwks.json", bastion.url()))).await;
    let keys: KeyList = serde_json::from_value(keys.expect(200)).unwrap();
    let claims = verify_relay(task["token"].as_str().unwrap(), &keys.keys, &host.client_id, now()).unwrap();
    assert_eq!((claims.sid.as_str(), claims.command.as_deref()), (session, Some("uptime")));
    assert_eq!((claims.cols, claims.rows, claims.user.as_str()), (90, 30, "alice"));
}

#[tokio::test]
async fn an_agent_asks_for_its_own_sessions_only() {
    let (bastion, _, host, secret) = world().await;
    let other = Applicant::new(&bastion);
    let path = format!("/agent/tty/pending-sessions?agent_id={}", other.client_id);
    host.send(&host.hmac(&secret), Method::GET, &path, None).await.refused(403, "not_yours");
    let missing = host.send(&host.hmac(&secret), Method::GET, "/agent/tty/pending-sessions", None).await;
    assert_eq!(missing.faults(), ["agent_id"]);
    let long = format!("/agent/tty/pending-sessions?agent_id={}&wait=31", host.client_id);
    assert_eq!(host.send(&host.hmac(&secret), Method::GET, &long, None).await.faults(), ["wait"]);
}

#[tokio::test]
async fn a_relay_made_by_hand_carries_a_terminal() {
    let (bastion, alice, host, secret) = world().await;
    let (browser, task) = opened(&alice, &host, &secret).await;
    let mut relay = relay(&bastion, &host, &secret, &task).await.unwrap();
    relay.frame(Frame::Control(Control::Hello { have: 0 })).await;
    let mut terminal = Terminal::of_greeted(browser).await.unwrap();
    relay.frame(Frame::Data { offset: 0, bytes: "hello, browser".into() }).await;
    terminal.until("hello, browser").await;
    terminal.type_in("hi").await;
    loop {
        match relay.next_frame().await.unwrap() {
            Frame::Data { offset, bytes } => {
                assert_eq!((offset, bytes.as_ref()), (0, &b"hi"[..]));
                break;
            }
            Frame::Control(_) | Frame::Ack(_) => {}
            other => panic!("{other:?}"),
        }
    }
    relay.frame(Frame::Ack(2)).await;
    relay.frame(Frame::Control(Control::Exiting)).await;
    relay.frame(Frame::Control(Control::Exit { code: Some(5), signal: None })).await;
    let ended = terminal.ended().await;
    assert_eq!((ended.closed.code, ended.exit), (1000, Some((Some(5), None))));
    assert_eq!(terminal.input_acked, 2);
    assert_eq!(relay.closed().await.code, 1000);
}

#[tokio::test]
async fn a_relay_needs_its_signature_its_token_and_no_origin() {
    let (bastion, alice, host, secret) = world().await;
    let (browser, task) = opened(&alice, &host, &secret).await;
    let path = format!("/agent/tty/relay?session_id={}", task["session_id"].as_str().unwrap());
    let signed = || host.headers(&host.hmac(&secret), "GET", &path, None);
    let token = ("authorization", format!("Bearer {}", task["token"].as_str().unwrap()));
    let protocol = ("sec-websocket-protocol", "castellan.tty.v1".to_owned());
    let dial = async |mut headers: Vec<(&'static str, String)>, more: Vec<(&'static str, String)>| {
        headers.extend(more);
        let (status, problem) = Socket::dial(&bastion, &path, &headers).await.err().unwrap();
        (status, problem["code"].as_str().unwrap_or_default().to_owned())
    };
    let refused = |status: u16, code: &str| (status, code.to_owned());
    let both = || vec![token.clone(), protocol.clone()];
    assert_eq!(dial(vec![], both()).await, refused(401, "bad_signature"));
    assert_eq!(
        dial(host.headers(&host.hmac(&Secret::new([0; 32])), "GET", &path, None), both()).await,
        refused(401, "bad_signature")
    );
    let origin = ("origin", bastion.url());
    assert_eq!(dial(signed(), [both(), vec![origin]].concat()).await, refused(403, "foreign_origin"));
    assert_eq!(dial(signed(), vec![protocol.clone()]).await, refused(400, "invalid_request"));
    assert_eq!(dial(signed(), vec![token.clone()]).await, refused(400, "invalid_request"));
    let gone = json!({"session_id": uuid::Uuid::now_v7(), "token": task["token"]});
    assert_eq!(relay(&bastion, &host, &secret, &gone).await.unwrap().closed().await.code, 4401);
    // Another agent does not learn that there is such a session.
    let other = Applicant::new(&bastion);
    let others = other.enrol(&bastion.root(), &[]).await;
    assert_eq!(relay(&bastion, &other, &others, &task).await.unwrap().closed().await.code, 4401);

    let bad =
        json!({"session_id": task["session_id"], "token": format!("{}x", task["token"].as_str().unwrap())});
    assert_eq!(relay(&bastion, &host, &secret, &bad).await.unwrap().closed().await.code, 4401);
    let mut good = relay(&bastion, &host, &secret, &task).await.unwrap();
    good.frame(Frame::Control(Control::Hello { have: 0 })).await;
    let _terminal = Terminal::of_greeted(browser).await.unwrap();
    assert_eq!(relay(&bastion, &host, &secret, &task).await.unwrap().closed().await.code, 4401);
}

#[tokio::test]
async fn an_agent_that_breaks_the_protocol_ends_its_session_as_a_fault() {
    let data = |offset, length: usize| Frame::Data { offset, bytes: vec![b'x'; length].into() };
    let beyond: Vec<_> = (0..9).map(|nth| data(nth * 32_768, 32_768)).collect();
    for (what, frames) in [
        ("a gap", vec![data(1, 1)]),
        ("more than the window", beyond),
        ("a frame of the browser's", vec![Frame::Resize { cols: 1, rows: 1 }]),
        ("an acknowledgement of what never was", vec![Frame::Ack(1)]),
        ("a second hello", vec![Frame::Control(Control::Hello { have: 0 })]),
        ("a size elsewhere", vec![Frame::Resized { offset: 3, cols: 80, rows: 24 }]),
    ] {
        let (bastion, alice, host, secret) = world().await;
        let (browser, task) = opened(&alice, &host, &secret).await;
        let mut relay = relay(&bastion, &host, &secret, &task).await.unwrap();
        relay.frame(Frame::Control(Control::Hello { have: 0 })).await;
        let mut terminal = Terminal::of_greeted(browser).await.unwrap();
        for frame in frames {
            relay.frame(frame).await;
        }
        // Acknowledging nothing, so that the window stays spent.
        let closed = loop {
            if let Err(closed) = terminal.take().await {
                break closed;
            }
        };
        assert_eq!(closed.code, 4500, "{what}: {closed:?}");
        assert_eq!(relay.closed().await.code, 4400, "{what}");
        assert_eq!(alice.ended_session(&terminal.session).await["end_reason"], "error", "{what}");
    }
}

#[tokio::test]
async fn a_task_nobody_came_for_is_handed_out_again_and_voids_the_first_token() {
    let (bastion, alice, host, secret) = world().await;
    let (browser, first) = opened(&alice, &host, &secret).await;
    let begun = tokio::time::Instant::now();
    let again = pending(&host, &secret, 20).await[0].clone();
    assert!((8..15).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(again["session_id"], first["session_id"]);
    assert_ne!(again["token"], first["token"]);
    assert_eq!(relay(&bastion, &host, &secret, &first).await.unwrap().closed().await.code, 4401);
    let mut second = relay(&bastion, &host, &secret, &again).await.unwrap();
    second.frame(Frame::Control(Control::Hello { have: 0 })).await;
    Terminal::of_greeted(browser).await.unwrap();
}

#[tokio::test]
async fn a_session_that_its_agent_has_not_named_for_long_is_ended_and_no_younger_one() {
    let (bastion, alice, host, secret) = world().await;
    let (browser, task) = opened(&alice, &host, &secret).await;
    let mut relay = relay(&bastion, &host, &secret, &task).await.unwrap();
    relay.frame(Frame::Control(Control::Hello { have: 0 })).await;
    let terminal = Terminal::of_greeted(browser).await.unwrap();
    let begun = tokio::time::Instant::now();
    let ended = crate::harness::eventually("the forgotten session is ended", async || {
        // A heart that beats fast, and says that the agent holds nothing.
        assert_eq!(host.heartbeat(&secret).await.expect(200)["terminate"], json!([]));
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        Some(alice.session(&terminal.session).await).filter(|session| !session["ended_at"].is_null())
    })
    .await;
    assert_eq!(ended["end_reason"], "error");
    assert!(begun.elapsed().as_secs() >= 9, "it has 10 s to be named: {:?}", begun.elapsed());
}
