//! What the way through the house costs, beside a bare relay in the same run. Prints; judges nothing by its exit code.
//!
//! `cargo bench --bench relay -- [throughput] [echo] [opens] [idle] [stalled] [interrupt] [redraw] [recorder]
//! [steps] [playback]`: all of them, if none is named. Bastion, agent and both floors are processes of their own; the client is this one.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::large_futures, clippy::print_stdout)]

#[allow(dead_code)]
#[path = "../../tests/it/chaos.rs"]
mod chaos;
#[allow(dead_code)]
#[path = "../../tests/it/harness.rs"]
mod harness;

mod alone;
mod client;
mod echo;
mod floor;
mod house;
mod idle;
mod interrupt;
mod opens;
mod playback;
mod process;
mod recorder;
mod redraw;
mod stalled;
mod steps;
mod table;
mod throughput;

use house::{Floor, House, Settings};

const SECTIONS: [&str; 10] = [
    "throughput",
    "echo",
    "opens",
    "idle",
    "stalled",
    "interrupt",
    "redraw",
    "recorder",
    "steps",
    "playback",
];

fn main() {
    // Cargo says `--bench` too.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match words[..] {
        ["floor-relay"] => runtime.block_on(floor::relay(None)),
        ["floor-relay", folder] => runtime.block_on(floor::relay(Some(folder.into()))),
        ["floor-agent", relay] => runtime.block_on(floor::agent(relay.parse().unwrap())),
        ["drip", bytes, millis] => drip(bytes.parse().unwrap(), millis.parse().unwrap()),
        _ => runtime.block_on(measure(&words)),
    }
}

async fn measure(named: &[&str]) {
    if let Some(unknown) = named.iter().find(|name| !SECTIONS.contains(name)) {
        println!("there is no section {unknown:?}; there are {}", SECTIONS.join(", "));
        return;
    }
    let wanted = |name| named.is_empty() || named.contains(&name);
    process::facts();
    if ["throughput", "echo", "opens", "interrupt", "redraw", "recorder"].into_iter().any(wanted) {
        let house = House::start(Settings::default()).await;
        let floor = Floor::start(true);
        if wanted("throughput") {
            throughput::measure(&house, &floor).await;
        }
        if wanted("echo") {
            echo::measure(&house, &floor).await;
        }
        if wanted("opens") {
            opens::measure(&house, &floor).await;
        }
        if wanted("interrupt") {
            interrupt::measure(&house, &floor).await;
        }
        if wanted("redraw") {
            redraw::measure(&house).await;
        }
        if wanted("recorder") {
            recorder::measure(&house, &floor).await;
        }
    }
    if wanted("steps") {
        steps::measure().await;
    }
    if wanted("playback") {
        playback::measure().await;
    }
    if wanted("stalled") {
        stalled::measure().await;
    }
    if wanted("idle") {
        idle::measure().await;
    }
}

/// A setting of this bench: a number from the environment.
fn set(name: &str, otherwise: usize) -> usize {
    std::env::var(name)
        .map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// Prints a few bytes again and again: a session that is neither idle nor busy. Runs in the host's terminal.
fn drip(bytes: usize, millis: u64) {
    use std::io::Write as _;
    let line = [vec![b'.'; bytes.saturating_sub(2)], b"\r\n".to_vec()].concat();
    let mut terminal = std::io::stdout();
    while terminal.write_all(&line).and_then(|()| terminal.flush()).is_ok() {
        std::thread::sleep(std::time::Duration::from_millis(millis));
    }
}
