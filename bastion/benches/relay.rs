//! What the way through the house costs: click to prompt, a key's echo, and a flood of output. Prints, judges nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::large_futures, clippy::print_stdout, dead_code)]

#[path = "../tests/it/harness.rs"]
mod harness;
#[path = "../tests/it/terminals.rs"]
mod terminals;

use std::time::Duration;

use agent::Shell;
use harness::{Actor, world};
use tokio::time::Instant;

const OPENS: usize = 50;
const KEYS: usize = 500;
/// Bytes of realistic text to send through.
const FLOOD: usize = 64 << 20;

#[tokio::main]
async fn main() {
    let (bastion, alice, _) = world(Shell::Login).await;
    let file = bastion.home().join("flood.txt");
    std::fs::write(&file, text(FLOOD)).unwrap();
    println!("bastion, agent and client in one process; SQLite, folder store, durability \"written\", zstd");
    click_to_prompt(&alice).await;
    echo(&alice).await;
    flood(&alice, &file.display().to_string()).await;
    bastion.stop().await;
}

/// From asking for a ticket to the first byte of the shell; the agent waits already.
async fn click_to_prompt(alice: &Actor) {
    let mut took = Vec::with_capacity(OPENS);
    for _ in 0..OPENS {
        let clicked = Instant::now();
        let mut terminal = alice.open("web-1").await;
        while terminal.output.is_empty() {
            terminal.step().await.unwrap();
        }
        took.push(clicked.elapsed());
        terminal.type_in("exit\r").await;
        terminal.ended().await;
    }
    report(&format!("click to prompt, {OPENS} opens"), took);
    // What the host's own profile costs is in that figure; this is it alone.
    let bare = (0..10).map(|_| {
        let began = Instant::now();
        let mut shell = std::process::Command::new("bash");
        let quiet = std::process::Stdio::null;
        shell.args(["--login", "-i", "-c", "exit"]).stdin(quiet()).stdout(quiet()).stderr(quiet());
        shell.status().unwrap();
        began.elapsed()
    });
    report("  of which the host's login shell alone", bare.collect());
}

/// From a key sent to its echo, `cat` at the other end.
async fn echo(alice: &Actor) {
    let mut terminal = alice.run("web-1", "stty -echo; echo ready; exec cat").await;
    terminal.until("ready").await;
    let mut took = Vec::with_capacity(KEYS);
    for _ in 0..KEYS {
        let before = terminal.output.len();
        let pressed = Instant::now();
        terminal.type_in("x\r").await;
        while terminal.output.len() < before + 3 {
            terminal.step().await.unwrap();
        }
        took.push(pressed.elapsed());
    }
    terminal.type_in("\u{4}").await;
    terminal.ended().await;
    report(&format!("a line echoed by cat, {KEYS} lines"), took);
}

/// `cat` of a file, every byte taken.
async fn flood(alice: &Actor, file: &str) {
    let mut terminal = alice.run("web-1", &format!("stty raw; cat {file}")).await;
    let began = Instant::now();
    terminal.ended().await;
    let took = began.elapsed();
    let taken = terminal.output.len();
    assert_eq!(taken, FLOOD, "every byte arrives");
    #[allow(clippy::cast_precision_loss, reason = "megabytes")]
    let rate = taken as f64 / took.as_secs_f64() / 1e6;
    println!("flood: {taken} bytes in {:.2} s, {rate:.1} MB/s", took.as_secs_f64());
}

fn report(what: &str, mut took: Vec<Duration>) {
    took.sort();
    let at = |part: usize| took[(took.len() - 1) * part / 100].as_secs_f64() * 1e3;
    println!("{what}: p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms", at(50), at(99), at(100));
}

/// Lines of ASCII, colours and Chinese, always the same.
fn text(length: usize) -> Vec<u8> {
    let line = "\u{1b}[32m2026-11-23 09:00:00\u{1b}[0m INFO request served in 12 ms 请求完成 path=/api/v1/things\r\n";
    line.bytes().cycle().take(length).collect()
}
