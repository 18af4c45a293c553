//! A bad network between the bastion and its agents, and between it and its browsers.

use std::time::Duration;

use agent::Shell;
use openapi::frames::SUBPROTOCOL;
use serde_json::Value;

use crate::{
    chaos::{Chaos, Way},
    harness::{Actor, Bastion, Credential},
    recordings::{output_of, stored_cast},
    terminals::{Closed, Socket, Terminal},
};

/// A bastion, alice, and a host whose agent reaches the bastion through a bad network.
async fn world() -> (Bastion, Chaos, Actor) {
    let (bastion, chaos) = Bastion::start_behind_chaos().await;
    let alice = bastion.user("alice", "user").await;
    bastion.host("web-1", Shell::Login, &[&alice]).await;
    (bastion, chaos, alice)
}

/// Numbers one line each, ever so often a pause in which to be cut.
const COUNT: &str = "for i in $(seq 1 40); do seq $((i*1000)) $((i*1000+999)); sleep 0.02; done; \
                     echo all; read more; exit 9";

fn counted(output: &str) -> Vec<u32> {
    output.split("\r\n").filter_map(|line| line.parse().ok()).collect()
}

fn expected() -> Vec<u32> {
    (1000..41_000).collect()
}

#[tokio::test]
async fn an_agent_whose_network_breaks_again_and_again_loses_and_repeats_nothing() {
    let (_bastion, chaos, alice) = world().await;
    let mut terminal = alice.run("web-1", COUNT).await;
    let breaking = async {
        for round in 0..12 {
            tokio::time::sleep(Duration::from_millis(60)).await;
            if round % 2 == 0 { chaos.reset() } else { chaos.cut() }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = terminal.until("all") => {}
        () = breaking => unreachable!("it never ends"),
    }
    terminal.type_in("\n").await;
    let ended = terminal.ended().await;
    assert_eq!((ended.closed.code, ended.exit), (1000, Some((Some(9), None))));
    assert_eq!(counted(&terminal.shown()), expected());
    assert!(chaos.connections() > 5, "it was cut: {}", chaos.connections());
    assert_eq!(output_of(&stored_cast(&alice, &terminal.session).await), terminal.shown());
}

#[tokio::test]
async fn a_network_that_stands_still_for_a_while_is_no_loss() {
    let (_bastion, chaos, alice) = world().await;
    let mut terminal = alice.run("web-1", COUNT).await;
    terminal.until("2000").await;
    chaos.stall();
    terminal.type_in("x").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    chaos.go_on();
    terminal.until("all").await;
    assert_eq!(counted(&terminal.shown()), expected());
}

#[tokio::test]
async fn what_is_typed_into_a_broken_line_arrives_once() {
    let (_bastion, chaos, alice) = world().await;
    let mut terminal = alice.run("web-1", "stty -echo; echo ready; cat; exit 5").await;
    terminal.until("ready").await;
    let mut typed = String::new();
    for nth in 0..60 {
        let line = format!("line-{nth}\n");
        terminal.type_in(&line).await;
        typed += &line;
        if nth % 12 == 5 {
            chaos.reset();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    terminal.type_in("\u{4}").await;
    let ended = terminal.ended().await;
    assert_eq!(ended.exit, Some((Some(5), None)));
    let shown = terminal.shown().replace("\r\n", "\n");
    assert!(shown.ends_with(&typed), "{shown:?}");
    assert_eq!(shown.matches("line-7\n").count(), 1);
}

/// A browser whose way to the bastion is `chaos`.
async fn back_by(chaos: &Chaos, alice: &Actor, session: &str, have: u64) -> Result<Terminal, Closed> {
    let answer: Value = alice.get(&format!("/sessions/{session}/reattach")).await.expect(200);
    let ticket = answer["token"].as_str().unwrap();
    let Credential::Login(cookie) = &alice.credential else { panic!("a browser logs in") };
    let headers = [
        ("host", alice.bastion().local()),
        ("cookie", cookie.clone()),
        ("origin", alice.bastion().url()),
        ("sec-websocket-protocol", format!("{SUBPROTOCOL}, ticket.{ticket}")),
    ];
    let socket = Socket::dial_by(chaos.address(), "/tty/ws", &headers).await.unwrap();
    Terminal::greet_with(socket, have).await
}

#[tokio::test]
async fn a_browser_whose_network_breaks_again_and_again_misses_and_repeats_nothing() {
    let bastion = Bastion::start().await;
    let alice = bastion.user("alice", "user").await;
    bastion.host("web-1", Shell::Login, &[&alice]).await;
    let chaos = Chaos::before(bastion.address());
    let first = alice.run("web-1", COUNT).await;
    let session = first.session.clone();
    drop(first);
    let (mut output, mut have, mut comings) = (Vec::new(), 0, 0);
    let exit = loop {
        let Ok(mut terminal) = back_by(&chaos, &alice, &session, have).await else { continue };
        comings += 1;
        let until = tokio::time::Instant::now() + Duration::from_millis(70);
        let all = tokio::time::timeout_at(until, terminal.until("all")).await.is_ok();
        if all {
            terminal.type_in("\n").await;
            terminal.exit = terminal.ended().await.exit;
        }
        assert_eq!(terminal.screen, None, "it never lacks much");
        output.extend_from_slice(&terminal.output);
        have = terminal.received;
        if all {
            break terminal.exit;
        }
        chaos.reset();
    };
    assert_eq!(exit, Some((Some(9), None)));
    assert!(comings > 5, "{comings}");
    assert_eq!(counted(&String::from_utf8(output).unwrap()), expected());
}

#[tokio::test]
async fn ctrl_c_answers_at_once_under_yes_on_a_slow_line() {
    let bastion = Bastion::start().await;
    let alice = bastion.user("alice", "user").await;
    bastion.host("web-1", Shell::Login, &[&alice]).await;
    let chaos = Chaos::before(bastion.address());
    let first = alice.open("web-1").await;
    let mut terminal = back_by(&chaos, &alice, &first.session, 0).await.unwrap();
    chaos.set_both(Way { delay: Duration::from_millis(40), bytes_per_second: Some(2_000_000) });
    terminal.type_in("PS1='pro''mpt '; yes\n").await;
    terminal.until("y\r\ny\r\n").await;
    // A window is full, so what is under way is bounded by it and not by what was printed.
    for _ in 0..200 {
        terminal.step().await.unwrap();
    }
    let before = terminal.received;
    terminal.type_in("\u{3}").await;
    terminal.until("prompt ").await;
    assert!(terminal.received - before < 1 << 20, "{} bytes after the key", terminal.received - before);
}
