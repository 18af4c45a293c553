//! Looking on: framed, and as asciinema-player does.

use std::time::Duration;

use agent::Shell;
use serde_json::json;
use tokio_tungstenite::tungstenite::Message;

use crate::{
    harness::{Actor, Credential, eventually, world},
    terminals::{Closed, Socket, contains},
};

/// A player on a live session.
struct Player {
    socket: Socket,
    /// Columns, rows and screen of the last init.
    init: (u64, u64, String),
    /// What was printed since.
    output: String,
    /// Codes of the events, in order.
    codes: String,
}

/// Reads LEB128 off the front.
fn varint(bytes: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let (first, rest) = bytes.split_first().unwrap();
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return value;
        }
    }
    unreachable!("a number ends")
}

fn text(bytes: &mut &[u8]) -> String {
    let length = usize::try_from(varint(bytes)).unwrap();
    let (text, rest) = bytes.split_at(length);
    *bytes = rest;
    String::from_utf8(text.to_vec()).unwrap()
}

impl Player {
    async fn of(actor: &Actor, session: &str) -> Result<Self, (u16, serde_json::Value)> {
        let mut headers = vec![("sec-websocket-protocol", "v1.alis, v2.asciicast, raw".to_owned())];
        match &actor.credential {
            Credential::Login(cookie) => {
                headers.push(("cookie", cookie.clone()));
                headers.push(("origin", actor.bastion().url()));
            }
            Credential::Token(token) => headers.push(("authorization", format!("Bearer {token}"))),
            Credential::None => {}
        }
        let mut socket =
            Socket::dial(actor.bastion(), &format!("/sessions/{session}/live"), &headers).await?;
        assert_eq!(socket.next().await.unwrap(), Message::Binary(b"ALiS\x01".as_slice().into()));
        Ok(Self { socket, init: (0, 0, String::new()), output: String::new(), codes: String::new() })
    }

    async fn step(&mut self) -> Result<(), Closed> {
        let Message::Binary(message) = self.socket.next().await? else { panic!("ALiS is binary") };
        let (code, mut rest) = message.split_first().unwrap();
        let _id = varint(&mut rest);
        let _time = varint(&mut rest);
        self.codes.push(char::from(*code));
        match code {
            1 => {
                let (cols, rows) = (varint(&mut rest), varint(&mut rest));
                assert_eq!(rest[0], 0, "no theme");
                rest = &rest[1..];
                self.init = (cols, rows, text(&mut rest));
                self.output.clear();
            }
            b'o' => self.output.push_str(&text(&mut rest)),
            _ => return Ok(()),
        }
        assert!(rest.is_empty(), "nothing follows");
        Ok(())
    }

    async fn until(&mut self, part: &str) {
        while !self.init.2.contains(part) && !self.output.contains(part) {
            self.step().await.unwrap();
        }
    }

    async fn ended(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.step().await {
                return closed;
            }
        }
    }
}

#[tokio::test]
async fn a_player_joins_in_the_middle_with_the_screen_and_hears_the_end() {
    let (_bastion, alice, root) = world(Shell::Login).await;
    let mut terminal = alice.open("web-1").await;
    terminal.type_in("PS1='$ '; echo earlier-$((40+2))\n").await;
    terminal.until("earlier-42").await;
    let mut player = Player::of(&root, &terminal.session).await.unwrap();
    player.until("earlier-42").await;
    assert!(
        player.init.2.contains("earlier-42") && (player.init.0, player.init.1) == (80, 24),
        "{:?}",
        player.init
    );
    eventually("the user is told that somebody looks on", async || {
        terminal.take().await.unwrap();
        (terminal.peers == 1).then_some(())
    })
    .await;
    terminal.resize(100, 30).await;
    terminal.type_in("echo later-中文-$((40+2))\n").await;
    player.until("later-中文-42").await;
    assert!(player.codes.contains('r'));
    terminal.type_in("exit 4\n").await;
    let closed = player.ended().await;
    assert_eq!((closed.code, closed.reason.as_str()), (1000, "The shell has ended."));
    assert!(player.codes.ends_with("x\u{4}"), "exit, then the end of the stream: {:?}", player.codes);
    let audit = root.get("/audit?limit=200").await.expect(200);
    let seen = |item: &&serde_json::Value| item["action"] == "session.watch";
    assert_eq!(audit["items"].as_array().unwrap().iter().filter(seen).count(), 1);
}

#[tokio::test]
async fn who_may_not_see_a_session_learns_nothing_of_it_and_nobody_follows_what_is_over() {
    let (bastion, alice, root) = world(Shell::Login).await;
    let bob = bastion.user("bob", "user").await;
    let carol = bastion.user("carol", "auditor").await;
    let mut terminal = alice.open("web-1").await;
    let status = |refused: Result<Player, (u16, serde_json::Value)>| refused.err().map(|(status, _)| status);
    assert_eq!(status(Player::of(&bastion.stranger(), &terminal.session).await), Some(401));
    assert_eq!(status(Player::of(&bob, &terminal.session).await), Some(404));
    let missing = uuid::Uuid::now_v7().to_string();
    assert_eq!(status(Player::of(&root, &missing).await), Some(404));
    for who in [&alice, &carol, &root.by_token(Some("auditor")).await] {
        Player::of(who, &terminal.session).await.unwrap().step().await.unwrap();
    }
    let headers = [
        (
            "cookie",
            match &alice.credential {
                Credential::Login(cookie) => cookie.clone(),
                _ => panic!(),
            },
        ),
        ("sec-websocket-protocol", "v1.alis".to_owned()),
        ("origin", "http://evil.example".to_owned()),
    ];
    let path = format!("/sessions/{}/live", terminal.session);
    assert_eq!(Socket::dial(&bastion, &path, &headers).await.err().map(|(status, _)| status), Some(403));
    terminal.type_in("exit\n").await;
    terminal.ended().await;
    alice.ended_session(&terminal.session).await;
    assert_eq!(status(Player::of(&alice, &terminal.session).await), Some(409));
}

#[tokio::test]
async fn a_watching_browser_sees_everything_and_types_nothing() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.open("web-1").await;
    terminal.type_in("PS1='$ '; echo earlier-$((40+2))\n").await;
    terminal.until("earlier-42").await;
    let mut watcher = alice.back(&terminal.session, "watch", 0).await.unwrap();
    watcher.type_in("echo intruder\n").await;
    watcher.resize(30, 10).await;
    terminal.type_in("echo l''ater; stty size\n").await;
    terminal.until("24 80").await;
    watcher.until("24 80").await;
    assert!(!contains(&terminal.output, b"intruder"));
    let (_, screen) = watcher.screen.clone().unwrap();
    assert!(contains(&screen, b"earlier-42"));
    terminal.type_in("exit 6\n").await;
    let ended = watcher.ended().await;
    assert_eq!((ended.closed.code, ended.exit), (1000, Some((Some(6), None))));
}

#[tokio::test]
async fn a_watcher_that_takes_nothing_costs_the_session_nothing_and_skips_ahead() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.open("web-1").await;
    let mut stalled = alice.back(&terminal.session, "watch", 0).await.unwrap();
    terminal.type_in("seq 1000000; echo d''one\n").await;
    terminal.until("done").await;
    // It reads again, acknowledging: what it missed is a screen, and then the stream goes on.
    while stalled.screen.as_ref().is_none_or(|(offset, _)| *offset < 4 << 20) {
        stalled.step().await.unwrap();
    }
    terminal.type_in("echo a''fter\n").await;
    stalled.until("after").await;
    terminal.type_in("exit\n").await;
    assert_eq!(stalled.ended().await.closed.code, 1000);
}

#[tokio::test]
async fn an_admin_ends_a_session_within_a_second_and_every_screen_says_why() {
    let (_bastion, alice, root) = world(Shell::Login).await;
    let mut terminal = alice.open("web-1").await;
    let mut watcher = alice.back(&terminal.session, "watch", 0).await.unwrap();
    let mut player = Player::of(&root, &terminal.session).await.unwrap();
    player.step().await.unwrap();
    let began = tokio::time::Instant::now();
    root.delete(&format!("/sessions/{}", terminal.session)).await.expect(204);
    let (typing, watching, playing) = tokio::join!(terminal.ended(), watcher.ended(), player.ended());
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let said = "An administrator ended this session.";
    assert_eq!((typing.closed.code, typing.closed.reason.as_str()), (4410, said));
    assert_eq!((watching.closed.code, watching.closed.reason.as_str()), (4410, said));
    assert_eq!((playing.code, playing.reason.as_str()), (1000, said));
    assert_eq!(alice.ended_session(&terminal.session).await["end_reason"], json!("ended_by_admin"));
}

#[tokio::test]
async fn a_watcher_that_breaks_the_protocol_is_closed_and_nobody_else_is() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.open("web-1").await;
    let mut watcher = alice.back(&terminal.session, "watch", 0).await.unwrap();
    watcher.socket.send(Message::Text("no frame".into())).await;
    assert_eq!(watcher.ended().await.closed.code, 4400);
    terminal.type_in("echo st''ill\n").await;
    terminal.until("still").await;
}

#[tokio::test]
async fn a_watcher_that_takes_nothing_hears_the_end_all_the_same() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.run("web-1", "read go; seq 200000; exit 3").await;
    let mut stalled = alice.back(&terminal.session, "watch", 0).await.unwrap();
    terminal.type_in("go\n").await;
    assert_eq!(terminal.ended().await.exit, Some((Some(3), None)));
    let closed = loop {
        // Reading, and acknowledging nothing.
        if let Err(closed) = stalled.take().await {
            break closed;
        }
    };
    assert_eq!((closed.code, stalled.exit), (1000, Some((Some(3), None))));
}

#[tokio::test]
async fn a_user_who_is_disabled_stops_watching() {
    let (bastion, alice, root) = world(Shell::Login).await;
    let carol = bastion.user("carol", "auditor").await;
    let mut terminal = alice.open("web-1").await;
    let mut player = Player::of(&carol, &terminal.session).await.unwrap();
    player.step().await.unwrap();
    root.patch(&format!("/users/{}", carol.id), json!({"disabled": true})).await.expect(200);
    let closed = player.ended().await;
    assert_eq!((closed.code, closed.reason.as_str()), (4403, "You may no longer use this host."));
    terminal.type_in("echo st''ill\n").await;
    terminal.until("still").await;
}

#[tokio::test]
async fn a_watcher_cannot_acknowledge_what_it_was_not_sent() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.open("web-1").await;
    let mut liar = alice.back(&terminal.session, "watch", 0).await.unwrap();
    liar.socket.frame(openapi::frames::Frame::Ack(u64::MAX)).await;
    assert_eq!(liar.ended().await.closed.code, 4400);
    terminal.type_in("echo st''ill\n").await;
    terminal.until("still").await;
}
