//! An agent loses its socket and comes back to its sessions.

use std::time::Duration;

use bastion::config::Span;
use openapi::{
    frames::{Control, Frame},
    keys::Secret,
};
use serde_json::{Value, json};

use crate::{
    harness::{Actor, Bastion, eventually},
    heartbeat::{opened, relay, world},
    recordings::{output_of, stored_cast},
    signing::Applicant,
    terminals::{Socket, Terminal},
};

/// Dials back to a session that lives, as an agent does.
async fn come_back(
    bastion: &Bastion,
    host: &Applicant,
    secret: &Secret,
    session: &str,
) -> Result<Socket, (u16, Value)> {
    let path = format!("/agent/tty/relay?session_id={session}&resume=1");
    let mut headers = host.headers(&host.hmac(secret), "GET", &path, None);
    headers.push(("sec-websocket-protocol", "castellan.tty.v1".to_owned()));
    Socket::dial(bastion, &path, &headers).await
}

/// A session whose agent is the test.
async fn relayed() -> (Bastion, Actor, Applicant, Secret, Socket, Terminal) {
    let (bastion, alice, host, secret) = world().await;
    let (browser, task) = opened(&alice, &host, &secret).await;
    let mut relay = relay(&bastion, &host, &secret, &task).await.unwrap();
    relay.frame(Frame::Control(Control::Hello { have: 0 })).await;
    let terminal = Terminal::of_greeted(browser).await.unwrap();
    (bastion, alice, host, secret, relay, terminal)
}

fn data(offset: u64, text: &str) -> Frame {
    Frame::Data { offset, bytes: text.to_owned().into() }
}

/// The next frame that is no acknowledgement and no ping.
async fn news(relay: &mut Socket) -> Frame {
    loop {
        match relay.next_frame().await.unwrap() {
            Frame::Ack(_) | Frame::Control(Control::Ping) => {}
            frame => return frame,
        }
    }
}

#[tokio::test]
async fn an_agent_comes_back_and_neither_side_misses_or_repeats_a_byte() {
    let (bastion, alice, host, secret, mut relay, mut terminal) = relayed().await;
    relay.frame(data(0, "before ")).await;
    terminal.until("before ").await;
    terminal.type_in("abc").await;
    assert_eq!(news(&mut relay).await, data(0, "abc"));
    relay.frame(Frame::Ack(2)).await;
    while terminal.input_acked < 2 {
        terminal.take().await.unwrap();
    }
    drop(relay);
    alice.until_status(&terminal.session, "resuming").await;
    terminal.type_in("def").await;

    let mut relay = come_back(&bastion, &host, &secret, &terminal.session).await.unwrap();
    assert_eq!(relay.next_frame().await.unwrap(), Frame::Control(Control::Resume { have: 7, input: 2 }));
    relay.frame(Frame::Control(Control::Hello { have: 7 })).await;
    relay.frame(Frame::Ack(2)).await;
    relay.frame(data(7, "after")).await;
    terminal.until("before after").await;
    assert_eq!(news(&mut relay).await, data(2, "cdef"), "what the agent has not taken comes again, once");
    relay.frame(Frame::Ack(6)).await;
    alice.until_status(&terminal.session, "active").await;
    relay.frame(Frame::Control(Control::Exiting)).await;
    relay.frame(Frame::Control(Control::Exit { code: Some(0), signal: None })).await;
    assert_eq!(terminal.ended().await.closed.code, 1000);
    assert_eq!(output_of(&stored_cast(&alice, &terminal.session).await), "before after");
}

#[tokio::test]
async fn a_browser_that_comes_back_while_the_agent_is_away_is_ready_when_it_is_there() {
    let (bastion, alice, host, secret, relay, terminal) = relayed().await;
    drop(relay);
    alice.until_status(&terminal.session, "resuming").await;
    let session = terminal.session.clone();
    let back = alice.back(&session, "control", 0);
    tokio::pin!(back);
    // Both at once: the browser waits for its ready, the agent comes.
    let agent = async {
        let mut relay = come_back(&bastion, &host, &secret, &session).await.unwrap();
        let _resume = relay.next_frame().await.unwrap();
        relay.frame(Frame::Control(Control::Hello { have: 0 })).await;
        relay.frame(Frame::Ack(0)).await;
        relay
    };
    let (back, _relay) = tokio::join!(&mut back, agent);
    assert_eq!(back.unwrap().session, session);
}

#[tokio::test]
async fn a_newer_relay_replaces_the_one_before() {
    let (bastion, _alice, host, secret, mut old, mut terminal) = relayed().await;
    let mut relay = come_back(&bastion, &host, &secret, &terminal.session).await.unwrap();
    assert_eq!(old.closed().await.code, 4409);
    let _resume = relay.next_frame().await.unwrap();
    relay.frame(Frame::Control(Control::Hello { have: 0 })).await;
    relay.frame(Frame::Ack(0)).await;
    relay.frame(data(0, "new")).await;
    terminal.until("new").await;
}

#[tokio::test]
async fn only_its_own_agent_comes_back_to_a_session_and_only_while_it_lives() {
    let (bastion, alice, host, secret, relay, terminal) = relayed().await;
    let other = Applicant::new(&bastion);
    let others = other.enrol(&bastion.root(), &[]).await;
    let gone = |refused: Result<Socket, (u16, Value)>| {
        refused.err().map(|(status, body)| (status, body["code"].clone()))
    };
    let ended = Some((410, json!("ended")));
    assert_eq!(gone(come_back(&bastion, &other, &others, &terminal.session).await), ended);
    alice.delete(&format!("/sessions/{}", terminal.session)).await.expect(204);
    drop(relay);
    alice.ended_session(&terminal.session).await;
    eventually("it is over for its agent too", async || {
        (gone(come_back(&bastion, &host, &secret, &terminal.session).await) == ended).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_resume_that_breaks_the_protocol_ends_the_session() {
    for (what, frames) in [
        ("nothing is said before hello", vec![data(0, "x")]),
        ("a hello before what is recorded", vec![Frame::Control(Control::Hello { have: 3 })]),
        ("more input than was typed", vec![Frame::Control(Control::Hello { have: 6 }), Frame::Ack(9)]),
        ("a gap after hello", vec![Frame::Control(Control::Hello { have: 6 }), Frame::Ack(0), data(7, "x")]),
    ] {
        let (bastion, alice, host, secret, mut relay, mut terminal) = relayed().await;
        relay.frame(data(0, "before")).await;
        terminal.until("before").await;
        let mut relay = come_back(&bastion, &host, &secret, &terminal.session).await.unwrap();
        for frame in frames {
            relay.frame(frame).await;
        }
        assert_eq!(relay.closed().await.code, 4400, "{what}");
        assert_eq!(terminal.ended().await.closed.code, 4500, "{what}");
        assert_eq!(alice.ended_session(&terminal.session).await["end_reason"], "error", "{what}");
    }
}

#[tokio::test]
async fn an_agent_that_does_not_come_back_is_a_host_that_is_gone() {
    let bastion =
        Bastion::start_with(|config| config.sessions.resume_grace = Span(Duration::from_secs(1))).await;
    let alice = bastion.user("alice", "user").await;
    let host = Applicant::new(&bastion);
    let secret = host.enrol(&bastion.root(), &[&alice]).await;
    assert_eq!(host.heartbeat(&secret).await.expect(200)["resume_grace"], 1);
    let (browser, task) = opened(&alice, &host, &secret).await;
    let mut relay = relay(&bastion, &host, &secret, &task).await.unwrap();
    relay.frame(Frame::Control(Control::Hello { have: 0 })).await;
    let mut terminal = Terminal::of_greeted(browser).await.unwrap();
    relay.frame(data(0, "last words")).await;
    terminal.until("last words").await;
    drop(relay);
    assert_eq!(terminal.ended().await.closed.code, 4411);
    let session = alice.ended_session(&terminal.session).await;
    assert_eq!((&session["status"], &session["end_reason"]), (&json!("error"), &json!("host_gone")));
    assert_eq!(output_of(&stored_cast(&alice, &terminal.session).await), "last words");
}

#[tokio::test]
async fn sockets_that_say_nothing_are_closed_and_cost_the_session_nothing() {
    let (bastion, alice, host, secret, mut relay, mut terminal) = relayed().await;
    relay.frame(data(0, "before ")).await;
    terminal.until("before ").await;
    let answer = alice.get(&format!("/sessions/{}/reattach", terminal.session)).await.expect(200);
    let mut mute = crate::terminals::dial_framed(&alice, answer["token"].as_str().unwrap()).await.unwrap();
    let mut mute_relay = come_back(&bastion, &host, &secret, &terminal.session).await.unwrap();
    assert_eq!(mute.closed().await.code, 4400);
    assert_eq!(mute_relay.closed().await.code, 4400);
    let mut relay = come_back(&bastion, &host, &secret, &terminal.session).await.unwrap();
    relay.frame(Frame::Control(Control::Hello { have: 7 })).await;
    relay.frame(Frame::Ack(0)).await;
    let mut terminal = terminal.come_back(&alice).await;
    relay.frame(data(7, "after")).await;
    terminal.until("before after").await;
}
