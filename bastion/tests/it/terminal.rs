//! The terminal socket: real shells, credit, sizes, plain clients, and how each ends.

use std::time::Duration;

use agent::Shell;
use bytes::Bytes;
use openapi::frames::{Control, Frame, MAX_MESSAGE, OUTPUT_WINDOW};
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    harness::{Bastion, PATIENCE, eventually, world},
    terminals::{Plain, Socket, Terminal, contains, dial_framed},
};

/// Processes that carry this session's mark in their environment.
fn left_behind(session: &str) -> Vec<String> {
    let mark = format!("CASTELLAN_SESSION_ID={session}");
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let marked = processes.filter(|process| {
        let environment = std::fs::read(process.path().join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    });
    marked.map(|process| process.file_name().to_string_lossy().into_owned()).collect()
}

async fn nothing_is_left_of(session: &str) {
    eventually("no process of the session is left", async || left_behind(session).is_empty().then_some(()))
        .await;
}

#[tokio::test]
async fn a_login_shell_answers_and_its_exit_code_arrives() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.open("web-1").await;
    assert_eq!(terminal.size, (80, 24));
    terminal.type_in("echo $((6*7)) is what; tty; echo $TERM\n").await;
    terminal.until("42 is what").await;
    terminal.until("/dev/pts/").await;
    terminal.until("\nxterm-256color").await;
    assert!(terminal.input_acked <= terminal.input);
    terminal.type_in("exit 7\n").await;
    let ended = terminal.ended().await;
    assert_eq!(ended.exit, Some((Some(7), None)));
    assert_eq!(ended.closed.code, 1000);
    assert!(!ended.closed.reason.is_empty());
    assert_eq!(terminal.input_acked, terminal.input);
    let session = alice.ended_session(&terminal.session).await;
    assert_eq!(session["status"], "closed");
    assert_eq!(session["end_reason"], "exit");
    assert_eq!(session["exit_code"], 7);
    nothing_is_left_of(&terminal.session).await;
}

#[tokio::test]
async fn a_command_runs_instead_of_the_shell_and_its_signal_is_named() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.run("web-1", "echo once; kill -KILL $$").await;
    let ended = terminal.ended().await;
    assert_eq!(terminal.shown(), "once\r\n");
    assert_eq!(ended.exit, Some((None, Some("SIGKILL".to_owned()))));
    let session = alice.ended_session(&terminal.session).await;
    assert_eq!((&session["exit_code"], &session["exit_signal"]), (&json!(null), &json!("SIGKILL")));
    assert_eq!(session["command"], "echo once; kill -KILL $$");
}

#[tokio::test]
async fn three_hundred_thousand_lines_arrive_byte_exact_and_equal_the_recording() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.run("web-1", "seq 300000").await;
    let ended = terminal.ended().await;
    assert_eq!(ended.exit, Some((Some(0), None)));
    assert_eq!(terminal.skipped, 0);
    let expected: String = (1..=300_000).map(|line| format!("{line}\r\n")).collect();
    assert_eq!(terminal.output.len(), expected.len());
    assert!(terminal.output == expected.as_bytes(), "the bytes differ");
    let cast = crate::recordings::stored_cast(&alice, &terminal.session).await;
    assert!(crate::recordings::output_of(&cast) == expected, "the recording differs");
}

#[tokio::test]
async fn a_resize_is_seen_by_the_host_and_told_where_it_happened() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.open_with("web-1", "cols=97&rows=31").await;
    assert_eq!(terminal.size, (97, 31));
    terminal.type_in("stty size\n").await;
    terminal.until("31 97").await;
    terminal.resize(133, 37).await;
    while terminal.sizes.is_empty() {
        terminal.step().await.unwrap();
    }
    let (offset, cols, rows) = terminal.sizes[0];
    assert_eq!((cols, rows), (133, 37));
    assert!(offset <= terminal.output.len() as u64);
    terminal.type_in("stty size\n").await;
    terminal.until("37 133").await;
    terminal.type_in("exit\n").await;
    terminal.ended().await;
}

#[tokio::test]
async fn wide_characters_pass_unharmed_both_ways() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.run("web-1", "read line; echo \"<$line>\"; printf '终端' | od -An -tx1").await;
    terminal.type_in("你好，世界 🏯\n").await;
    terminal.until("<你好，世界 🏯>").await;
    terminal.until("e7 bb 88 e7 ab af").await;
    assert_eq!(terminal.ended().await.exit, Some((Some(0), None)));
}

#[tokio::test]
async fn a_stalled_reader_holds_the_agent_at_its_window_and_ctrl_c_still_ends_yes() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.run("web-1", "yes").await;
    // Nothing is acknowledged: exactly what the window allows comes, and not a byte more.
    while (terminal.output.len() as u64) < OUTPUT_WINDOW {
        terminal.take().await.unwrap();
    }
    let more = tokio::time::timeout(Duration::from_millis(300), terminal.take()).await;
    assert!(!matches!(more, Ok(Ok(Frame::Data { .. }))), "more than the window: {more:?}");
    assert_eq!(terminal.output.len() as u64, OUTPUT_WINDOW);

    terminal.type_in("\u{3}").await;
    let ended = terminal.ended().await;
    assert_eq!(ended.exit, Some((None, Some("SIGINT".to_owned()))));
    // What was under way then comes still, and no more than that.
    assert!((terminal.output.len() as u64) < 4 * OUTPUT_WINDOW);
    nothing_is_left_of(&terminal.session).await;
}

#[tokio::test]
async fn an_acknowledgement_lets_the_agent_go_on() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.run("web-1", "head -c 600000 /dev/zero | tr '\\0' x").await;
    while (terminal.output.len() as u64) < OUTPUT_WINDOW {
        terminal.take().await.unwrap();
    }
    terminal.acknowledge().await;
    while (terminal.output.len() as u64) < 2 * OUTPUT_WINDOW {
        terminal.take().await.unwrap();
    }
    terminal.acknowledge().await;
    terminal.ended().await;
    assert_eq!(terminal.output.len(), 600_000);
}

#[tokio::test]
async fn a_plain_client_is_told_its_session_types_and_ends_it_by_leaving() {
    let (bastion, alice, _) = world(Shell::Login).await;
    let answer = alice.authorize_with("web-1", "plain=1&cols=80&rows=24").await.expect(200);
    assert_eq!(answer["expires_in"], 60);
    let token = answer["token"].as_str().unwrap();
    let mut plain = Plain::open(&bastion, token, "&cols=101&rows=33").await.unwrap();
    plain.type_in("stty size; echo $((40+2))-plain\n").await;
    plain.until("33 101").await;
    plain.until("42-plain").await;
    let session = plain.session.clone();
    drop(plain);
    let session = alice.ended_session(&session).await;
    assert_eq!(session["end_reason"], "closed");
    assert_eq!((&session["cols"], &session["rows"]), (&json!(101), &json!(33)));
    nothing_is_left_of(session["id"].as_str().unwrap()).await;
}

#[tokio::test]
async fn a_plain_client_gets_all_output_and_then_the_shells_end() {
    let (bastion, alice, _) = world(Shell::Login).await;
    let answer = alice.authorize_with("web-1", "plain=1&command=seq%20100000").await.expect(200);
    let mut plain = Plain::open(&bastion, answer["token"].as_str().unwrap(), "").await.unwrap();
    let closed = plain.ended().await;
    assert_eq!(closed.code, 1000);
    let expected: String = (1..=100_000).map(|line| format!("{line}\r\n")).collect();
    assert!(plain.output == expected.as_bytes(), "{} of {} bytes", plain.output.len(), expected.len());
}

#[tokio::test]
async fn an_ordinary_ticket_opens_no_plain_socket_nor_a_plain_one_a_framed_socket() {
    let (bastion, alice, _) = world(Shell::Echo).await;
    let framed = alice.ticket("web-1").await;
    let refused = Plain::open(&bastion, &framed, "").await.err().unwrap();
    assert_eq!(refused.code, 4401);
    let plain = alice.authorize_with("web-1", "plain=1").await.expect(200);
    let socket = dial_framed(&alice, plain["token"].as_str().unwrap()).await.unwrap();
    assert_eq!(Terminal::greet(socket).await.err().unwrap().code, 4401);
}

fn frame(frame: &Frame) -> Message {
    Message::Binary(frame.encode())
}

#[tokio::test]
async fn every_breach_of_the_protocol_closes_with_its_code() {
    let data =
        |offset, bytes: &'static [u8]| frame(&Frame::Data { offset, bytes: Bytes::from_static(bytes) });
    let raw = |bytes: &'static [u8]| Message::Binary(Bytes::from_static(bytes));
    let breaches = [
        ("text", Message::Text("hello".into()), 4400),
        ("an unknown type", raw(&[0x7f, 1, 2]), 4400),
        ("nothing", raw(&[]), 4400),
        ("a gap", data(5, b"x"), 4400),
        ("a size of 0", raw(&[0x02, 0, 0, 0, 24]), 4400),
        ("a size above 1000", raw(&[0x02, 0x03, 0xe9, 0, 24]), 4400),
        ("a short frame", raw(&[0x01, 0, 0]), 4400),
        ("no JSON", raw(b"\x03[1]"), 4400),
        ("a second hello", frame(&Frame::Control(Control::Hello { have: 0 })), 4400),
        ("an acknowledgement of what never was", frame(&Frame::Ack(1)), 4400),
        ("a frame of the agent's", frame(&Frame::Resized { offset: 0, cols: 1, rows: 1 }), 4400),
        ("too much", Message::Binary(vec![0; MAX_MESSAGE + 1].into()), 1009),
    ];
    let (_bastion, alice, _) = world(Shell::Echo).await;
    for (what, message, code) in breaches {
        let mut terminal = alice.open("web-1").await;
        terminal.socket.send(message).await;
        let closed = terminal.ended().await.closed;
        assert_eq!(closed.code, code, "{what}: {closed:?}");
        assert!(!closed.reason.is_empty(), "{what}");
        let session = alice.ended_session(&terminal.session).await;
        assert_eq!(
            (&session["status"], &session["end_reason"]),
            (&json!("error"), &json!("error")),
            "{what}"
        );
    }
}

#[tokio::test]
async fn an_overlap_is_a_breach_too() {
    let (_bastion, alice, _) = world(Shell::Echo).await;
    let mut terminal = alice.open("web-1").await;
    terminal.type_in("abc").await;
    terminal.until("abc").await;
    terminal.socket.frame(Frame::Data { offset: 2, bytes: Bytes::from_static(b"c") }).await;
    assert_eq!(terminal.ended().await.closed.code, 4400);
    assert_eq!(terminal.shown(), "abc");
}

#[tokio::test]
async fn an_unknown_control_type_is_ignored_and_a_ping_is_answered() {
    let (_bastion, alice, _) = world(Shell::Echo).await;
    let mut terminal = alice.open("web-1").await;
    terminal
        .socket
        .send(Message::Binary(Bytes::from_static(b"\x03{\"type\":\"of tomorrow\",\"x\":[1]}")))
        .await;
    terminal.socket.frame(Frame::Control(Control::Ping)).await;
    while !matches!(terminal.step().await.unwrap(), Frame::Control(Control::Pong)) {}
    terminal.type_in("still here\u{4}").await;
    let ended = terminal.ended().await;
    assert_eq!(ended.closed.code, 1000);
    assert_eq!(terminal.shown(), "still here");
}

#[tokio::test]
async fn the_first_message_must_be_hello_and_must_come() {
    let (_bastion, alice, _) = world(Shell::Echo).await;
    let mut early = dial_framed(&alice, &alice.ticket("web-1").await).await.unwrap();
    early.frame(Frame::Resize { cols: 80, rows: 24 }).await;
    assert_eq!(early.closed().await.code, 4400);
    let mut silent = dial_framed(&alice, &alice.ticket("web-1").await).await.unwrap();
    let closed = silent.closed().await;
    assert_eq!(closed.code, 4400, "{closed:?}");
}

#[tokio::test]
async fn ending_a_session_leaves_nothing_of_its_shell() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.open("web-1").await;
    terminal.type_in("sleep 1000 & setsid sleep 1001 & echo started-$!\n").await;
    terminal.until("\nstarted-").await;
    assert!(!left_behind(&terminal.session).is_empty());
    let id = terminal.session.clone();
    alice.delete(&format!("/sessions/{id}")).await.expect(204);
    assert_eq!(terminal.ended().await.closed.code, 1000);
    assert_eq!(alice.ended_session(&id).await["end_reason"], "closed");
    nothing_is_left_of(&id).await;
}

#[tokio::test]
async fn when_the_agent_stops_the_browser_is_told_that_the_host_is_gone() {
    let bastion = Bastion::start().await;
    let alice = bastion.user("alice", "user").await;
    let host = bastion.host("web-1", Shell::Login, &[&alice]).await;
    let mut terminal = alice.open("web-1").await;
    host.stop().await.unwrap();
    let ended = terminal.ended().await;
    let session = alice.ended_session(&terminal.session).await;
    // A shell that could still say how it ended says so; the host is gone all the same.
    if ended.exit.is_none() {
        assert_eq!(ended.closed.code, 4411, "{ended:?}");
        assert_eq!(session["end_reason"], "host_gone");
    }
    nothing_is_left_of(&terminal.session).await;
}

#[tokio::test]
async fn an_admin_ends_a_session_within_a_second_and_its_user_is_told() {
    let (_bastion, alice, root) = world(Shell::Login).await;
    let mut terminal = alice.open("web-1").await;
    let path = format!("/sessions/{}", terminal.session);
    let asked = tokio::time::Instant::now();
    root.delete(&path).await.expect(204);
    let ended = terminal.ended().await;
    assert_eq!(ended.closed.code, 4410, "{ended:?}");
    let session = alice.ended_session(&terminal.session).await;
    assert_eq!(session["end_reason"], "ended_by_admin");
    assert!(asked.elapsed() < Duration::from_secs(1), "{:?}", asked.elapsed());
    let problem = root.delete(&path).await.refused(409, "ended");
    assert_eq!(problem["end_reason"], "ended_by_admin");
    nothing_is_left_of(&terminal.session).await;
}

#[tokio::test]
async fn one_ends_ones_own_session_and_nobody_elses() {
    let (bastion, alice, _) = world(Shell::Echo).await;
    let (bob, otto) = (bastion.user("bob", "user").await, bastion.user("otto", "auditor").await);
    let mut terminal = alice.open("web-1").await;
    let path = format!("/sessions/{}", terminal.session);
    bob.delete(&path).await.refused(404, "not_found");
    bob.get(&path).await.refused(404, "not_found");
    otto.get(&path).await.expect(200);
    otto.delete(&path).await.refused(403, "forbidden");
    assert_eq!(alice.session(&terminal.session).await["status"], "active");
    alice.delete(&path).await.expect(204);
    assert_eq!(terminal.ended().await.closed.code, 1000);
    assert_eq!(alice.ended_session(&terminal.session).await["end_reason"], "closed");
}

#[tokio::test]
async fn a_user_who_is_disabled_and_a_host_that_is_deleted_end_their_sessions() {
    let (bastion, alice, root) = world(Shell::Echo).await;
    let bob = bastion.user("bob", "user").await;
    bastion.host("web-2", Shell::Echo, &[&bob]).await;
    let (mut hers, mut his) = (alice.open("web-1").await, bob.open("web-2").await);
    root.patch(&format!("/users/{}", alice.id), json!({"disabled": true})).await.expect(200);
    assert_eq!(hers.ended().await.closed.code, 4403);
    root.delete(&format!("/assets/{}", bastion.asset("web-2"))).await.expect(204);
    assert_eq!(his.ended().await.closed.code, 4410);
    assert_eq!(root.ended_session(&hers.session).await["end_reason"], "policy");
    bob.authorize("web-2").await.refused(404, "not_available");
}

#[tokio::test]
async fn sockets_that_cannot_be_are_refused_before_the_upgrade() {
    let (bastion, alice, _) = world(Shell::Echo).await;
    let token = alice.ticket("web-1").await;
    let protocol = |text: String| ("sec-websocket-protocol", text);
    let framed = || protocol(format!("castellan.tty.v1, ticket.{token}"));
    let cookie = match &alice.credential {
        crate::harness::Credential::Login(cookie) => ("cookie", cookie.clone()),
        other => panic!("{other:?}"),
    };
    let evil = ("origin", "https://evil.example".to_owned());
    for (headers, path, status, code) in [
        (vec![framed(), cookie.clone(), evil.clone()], "/tty/ws".to_owned(), 403, "foreign_origin"),
        (vec![framed(), cookie.clone()], "/tty/ws".to_owned(), 403, "foreign_origin"),
        (vec![evil], format!("/tty/ws?token={token}"), 403, "foreign_origin"),
        (vec![protocol("castellan.tty.v1".to_owned())], "/tty/ws".to_owned(), 400, "invalid_request"),
        (vec![], "/tty/ws".to_owned(), 400, "invalid_request"),
        (vec![], format!("/tty/ws?token={token}&cols=0"), 400, "invalid_request"),
        (vec![], format!("/tty/ws?token={token}&rows=1001"), 400, "invalid_request"),
        (vec![], format!("/tty/ws?token={token}&rows=many"), 400, "invalid_request"),
    ] {
        let (found, problem) = Socket::dial(&bastion, &path, &headers).await.err().unwrap();
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{path} {headers:?}");
    }
    alice.get("/tty/ws").await.refused(400, "invalid_request");
    // None of them spent the ticket.
    let mut terminal = Terminal::greet(dial_framed(&alice, &token).await.unwrap()).await.unwrap();
    terminal.type_in("\u{4}").await;
    assert_eq!(terminal.ended().await.closed.code, 1000);
}

#[tokio::test]
async fn a_host_that_does_not_come_is_gone_after_twenty_seconds() {
    let bastion = Bastion::start().await;
    let alice = bastion.user("alice", "user").await;
    let host = crate::signing::Applicant::new(&bastion);
    let secret = host.enrol(&bastion.root(), &[&alice]).await;
    host.heartbeat(&secret).await.expect(200);
    let mut socket = dial_framed(&alice, &alice.ticket(&host.client_id).await).await.unwrap();
    let begun = tokio::time::Instant::now();
    socket.frame(Frame::Control(Control::Hello { have: 0 })).await;
    let closed = tokio::time::timeout(PATIENCE, socket.closed()).await.unwrap();
    assert_eq!(closed.code, 4411, "{closed:?}");
    assert!((18..25).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    let list = alice.get("/sessions").await.expect(200);
    let session = alice.ended_session(list["items"][0]["id"].as_str().unwrap()).await;
    assert_eq!((&session["end_reason"], &session["recording"]), (&json!("no_agent"), &json!(null)));
}

#[tokio::test]
async fn nothing_is_shown_that_is_not_recorded() {
    let (bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.open("web-1").await;
    terminal.type_in("echo before-$((1+1))\n").await;
    terminal.until("before-2").await;
    assert!(contains(&terminal.output, b"before-2"));
    let spooled = std::fs::read_dir(&bastion.config().spool.dir).unwrap().filter_map(Result::ok);
    let journals: Vec<_> =
        spooled.filter(|entry| entry.file_name().to_string_lossy().contains(&terminal.session)).collect();
    assert!(!journals.is_empty(), "the journal of a live session is in the spool");
    let recorded = alice.get(&format!("/recordings/{}/cast", terminal.session)).await;
    assert!(crate::recordings::output_of(&recorded.text()).contains("before-2"));
}
