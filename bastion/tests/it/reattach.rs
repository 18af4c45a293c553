//! A browser goes and comes back; another takes over.

use std::time::Duration;

use agent::Shell;
use bastion::config::Span;
use openapi::frames::{Control, Frame};
use serde_json::json;

use crate::{
    harness::{Bastion, eventually, world},
    recordings::{output_of, stored_cast},
    terminals::{Plain, Socket, dial_framed},
};

#[tokio::test]
async fn a_browser_that_comes_back_gets_what_it_missed_and_types_on() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.open("web-1").await;
    terminal.type_in("read go; echo missed-$((40+2)); read more; exit $more\n").await;
    terminal.until("read more").await;
    terminal.type_in("now\n").await;
    let session = terminal.session.clone();
    terminal.socket.leave().await;
    alice.until_status(&session, "detached").await;
    let mut terminal = terminal.come_back(&alice).await;
    alice.until_status(&session, "active").await;
    terminal.until("missed-42").await;
    assert_eq!(terminal.screen, None, "so little is sent again as it was");
    terminal.type_in("5\n").await;
    let ended = terminal.ended().await;
    assert_eq!((ended.closed.code, ended.exit), (1000, Some((Some(5), None))));
    assert_eq!(output_of(&stored_cast(&alice, &session).await), terminal.shown());
}

#[tokio::test]
async fn a_new_page_gets_a_short_session_again_and_a_long_one_as_a_screen() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.open("web-1").await;
    terminal.type_in("PS1='$ '; echo short-$((40+2))\n").await;
    terminal.until("short-42").await;
    let session = terminal.session.clone();
    let mut again = alice.back(&session, "control", 0).await.unwrap();
    again.until("short-42").await;
    assert_eq!(again.screen, None);
    again.type_in("seq 300000; echo long-$((40+2))\n").await;
    again.until("long-42").await;
    let mut new = alice.back(&session, "control", 0).await.unwrap();
    while new.screen.is_none() {
        new.step().await.unwrap();
    }
    new.type_in("echo af''ter\n").await;
    new.until("after").await;
    let (offset, screen) = new.screen.clone().unwrap();
    assert!(offset > 1 << 20);
    let screen = String::from_utf8(screen).unwrap();
    assert!(
        screen.contains("300000") && screen.contains("long-42") && !screen.contains("short-42"),
        "{screen}"
    );
}

#[tokio::test]
async fn much_that_was_missed_comes_in_frames_and_no_faster_than_it_is_acknowledged() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.run("web-1", "read go; seq 100000; echo all; read end").await;
    terminal.type_in("go\n").await;
    let session = terminal.session.clone();
    terminal.socket.leave().await;
    alice.until_status(&session, "detached").await;
    let recorded = || async { output_of(&alice.get(&format!("/recordings/{session}/cast")).await.text()) };
    eventually("all of it is recorded", async || recorded().await.contains("all").then_some(())).await;
    let mut terminal = alice.back(&session, "control", 0).await.unwrap();
    // A window's worth comes unacknowledged, and then nothing but pings.
    while !matches!(terminal.take().await.unwrap(), Frame::Control(Control::Ping)) {}
    assert!((200_000..=262_144).contains(&terminal.received), "{}", terminal.received);
    terminal.acknowledge().await;
    terminal.until("all").await;
    assert_eq!((terminal.screen.is_none(), terminal.shown()), (true, recorded().await));
}

#[tokio::test]
async fn who_claims_more_than_there_is_gets_a_screen() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.open("web-1").await;
    terminal.type_in("echo seen-$((40+2))\n").await;
    terminal.until("seen-42").await;
    let mut liar = alice.back(&terminal.session, "control", u64::MAX).await.unwrap();
    while liar.screen.is_none() {
        liar.take().await.unwrap();
    }
    liar.type_in("echo th''en\n").await;
    liar.until("then").await;
}

#[tokio::test]
async fn a_second_browser_takes_over_and_the_first_is_told() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut first = alice.open("web-1").await;
    first.type_in("echo o''ne\n").await;
    first.until("one").await;
    let mut second = alice.elsewhere().await.back(&first.session, "control", 0).await.unwrap();
    let closed = first.ended().await.closed;
    assert_eq!(closed.code, 4409, "{closed:?}");
    second.type_in("echo t''wo\n").await;
    second.until("two").await;
    assert_eq!(alice.session(&second.session).await["status"], "active");
}

#[tokio::test]
async fn a_shell_without_a_browser_lives_as_long_as_its_grace() {
    let bastion =
        Bastion::start_with(|config| config.sessions.detach_grace = Span(Duration::from_secs(1))).await;
    let alice = bastion.user("alice", "user").await;
    bastion.host("web-1", Shell::Login, &[&alice]).await;
    let mut terminal = alice.open("web-1").await;
    terminal.type_in("echo la''st\n").await;
    terminal.until("last").await;
    let session = terminal.session.clone();
    drop(terminal);
    let ended = alice.ended_session(&session).await;
    assert_eq!((&ended["status"], &ended["end_reason"]), (&json!("closed"), &json!("detached")));
    let problem = alice.get(&format!("/sessions/{session}/reattach")).await.refused(409, "ended");
    assert_eq!(problem["end_reason"], "detached");
}

#[tokio::test]
async fn only_its_own_user_comes_back_to_a_session_and_the_chain_rules_again() {
    let (bastion, alice, root) = world(Shell::Login).await;
    let bob = bastion.user("bob", "auditor").await;
    let terminal = alice.open("web-1").await;
    let path = format!("/sessions/{}/reattach", terminal.session);
    bastion.stranger().get(&path).await.refused(401, "unauthenticated");
    for other in [&bob, &root] {
        other.get(&path).await.refused(404, "not_found");
    }
    alice.get(&format!("/sessions/{}/reattach", uuid::Uuid::now_v7())).await.refused(404, "not_found");
    assert_eq!(alice.get(&format!("{path}?mode=both")).await.faults(), ["mode"]);
    let answer = alice.get(&path).await.expect(200);
    assert_eq!((&answer["expires_in"], &answer["session"]["cols"]), (&json!(300), &json!(80)));

    // Off the list after the ticket was minted: the socket is refused, and the next ticket too.
    let asset = format!("/assets/{}", bastion.asset("web-1"));
    root.patch(&asset, json!({"allowed_users": []})).await.expect(200);
    let mut socket = dial_framed(&alice, answer["token"].as_str().unwrap()).await.unwrap();
    assert_eq!(socket.closed().await.code, 4403);
    alice.get(&path).await.refused(404, "not_available");
}

#[tokio::test]
async fn coming_back_is_not_counted_against_the_limit_it_fills() {
    let (_bastion, alice, _) = crate::authorize::limited(1).await;
    let mut terminal = alice.open("web-1").await;
    alice.authorize("web-1").await.refused(409, "limit_reached");
    terminal.socket.leave().await;
    terminal.come_back(&alice).await;
}

#[tokio::test]
async fn a_ticket_for_coming_back_opens_one_socket() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let terminal = alice.open("web-1").await;
    let answer = alice.get(&format!("/sessions/{}/reattach", terminal.session)).await.expect(200);
    let token = answer["token"].as_str().unwrap();
    let dial = || async { dial_framed(&alice, token).await.unwrap() };
    let mut first: Socket = dial().await;
    first.frame(Frame::Control(Control::Hello { have: 0 })).await;
    assert!(matches!(first.next_frame().await, Ok(Frame::Control(Control::Ready { .. }))));
    assert_eq!(dial().await.closed().await.code, 4401);
}

#[tokio::test]
async fn a_browser_is_warned_of_a_deadline_before_it_comes() {
    let demand = |document: &mut serde_json::Value| {
        document["policies"][0]["obligations"] = json!({"max_duration": "62s"});
    };
    let (_bastion, alice, _) = crate::authorize::ruled(Shell::Echo, demand).await;
    let mut terminal = alice.open("web-1").await;
    while terminal.warnings.is_empty() {
        terminal.take().await.unwrap();
    }
    let (reason, seconds) = &terminal.warnings[0];
    assert!(reason == "max_time" && (58..=60).contains(seconds), "{:?}", terminal.warnings);
}

#[tokio::test]
async fn a_newcomer_that_does_not_speak_takes_nothing_over() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.open("web-1").await;
    let dial = || async {
        let answer = alice.get(&format!("/sessions/{}/reattach", terminal.session)).await.expect(200);
        dial_framed(&alice, answer["token"].as_str().unwrap()).await.unwrap()
    };
    let mut mute = dial().await;
    let mut rude = dial().await;
    rude.frame(Frame::Ack(1)).await;
    assert_eq!((rude.closed().await.code, mute.closed().await.code), (4400, 4400));
    terminal.type_in("echo st''ill; exit 2\n").await;
    terminal.until("still").await;
    assert_eq!(terminal.ended().await.exit, Some((Some(2), None)));
}

#[tokio::test]
async fn a_plain_clients_session_is_not_taken_over() {
    let (bastion, alice, _) = world(Shell::Login).await;
    let ticket = alice.authorize_with("web-1", "plain=1").await.expect(200);
    let mut plain = Plain::open(&bastion, ticket["token"].as_str().unwrap(), "").await.unwrap();
    alice.get(&format!("/sessions/{}/reattach", plain.session)).await.refused(409, "plain");
    let mut watcher = alice.back(&plain.session, "watch", 0).await.unwrap();
    plain.type_in("echo pl''ain\n").await;
    plain.until("plain").await;
    watcher.until("plain").await;
}
