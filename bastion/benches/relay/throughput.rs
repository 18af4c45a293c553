//! A file by `cat`, to a client that reads as fast as it can: MB/s, and the agent's CPU a GB.

use std::{path::Path, time::Duration};

use agent::{
    Shell,
    shell::{self, Allowed, Request},
};
use tokio::time::Instant;

use crate::{
    house::{Floor, House, Place, Settings, settled},
    set,
    table::{Table, median},
};

/// Rounds that count.
pub const ROUNDS: usize = 3;

/// One session's figures.
pub struct Run {
    /// 10^6 bytes a second, as shown.
    pub rate: f64,
    /// CPU seconds for 10^9 bytes shown: the server's while the session runs.
    pub live: f64,
    /// The server's from the last byte until the recording is in the store.
    pub packing: f64,
    /// The server's from then until it rests: segments and transcript.
    pub deriving: f64,
    /// The agent's.
    pub agent: f64,
}

/// Prints the section.
pub async fn measure(house: &House, recording_floor: &Floor) {
    let folder = tempfile::TempDir::new().unwrap();
    let megabytes = set("BENCH_MB", 34);
    let file = folder.path().join("text");
    std::fs::write(&file, text(megabytes * 1_000_000, Ids::Random)).unwrap();
    let floor = Floor::start(false);
    let plain = House::start(Settings { compression: "none", ..Settings::default() }).await;
    let synced = House::start(Settings { durability: "synced", ..Settings::default() }).await;
    let (mut alone, mut runs) = (Vec::new(), [(); 5].map(|()| Vec::new()));
    // The first round is not counted: it meets cold caches and young heaps.
    for round in 0..=ROUNDS {
        let (shown, terminal) = terminal_alone(&file).await;
        let in_turn = [
            one(&floor, &file, shown, None).await,
            one(recording_floor, &file, shown, None).await,
            one(house, &file, shown, Some(house)).await,
            one(&plain, &file, shown, Some(&plain)).await,
            one(&synced, &file, shown, Some(&synced)).await,
        ];
        if round > 0 {
            alone.push(terminal);
            runs.iter_mut().zip(in_turn).for_each(|(runs, run)| runs.push(run));
        }
    }
    let [floor, floor_rec, written, plain, synced] = runs;
    let mut table = Table::new(format!(
        "throughput: {megabytes} MB of text by cat, one session, {ROUNDS} rounds of all in turn, medians"
    ));
    rates(&mut table, &alone, [&floor, &floor_rec, &written, &plain, &synced]);
    table.figure("agent CPU, floor + rec", format!("{:.1} s/GB", of(&floor_rec, |run| run.agent)));
    let agent = of(&written, |run| run.agent);
    table.against("agent CPU, house", format!("{agent:.1} s/GB"), "<= 6 s/GB", agent <= 6.0);
    table.note("MB/s: shown bytes from the first to the last at the client; PTY alone: read in this process");
    table.note("CPU: utime + stime in /proc/<pid>/stat of that process alone, in 10 ms steps; shell and cat are not in it");
    table
        .note("elsewhere (research/performance.md, not this run): Warpgate recording 18-23 MB/s, ttyd 35-44");
    table.print();
}

/// The median of a figure.
pub fn of(runs: &[Run], figure: fn(&Run) -> f64) -> f64 {
    median(runs.iter().map(figure))
}

fn rates(table: &mut Table, alone: &[f64], [floor, floor_rec, written, plain, synced]: [&[Run]; 5]) {
    let (low, high) = alone.iter().fold((f64::MAX, 0f64), |(low, high), it| (low.min(*it), high.max(*it)));
    let alone = median(alone.iter().copied());
    table.figure("PTY alone", format!("{alone:.1} MB/s ({low:.1}-{high:.1})"));
    let rate = |runs: &[Run]| {
        let all = runs.iter().map(|run| run.rate);
        let (low, high) = all.fold((f64::MAX, 0f64), |(low, high), it| (low.min(it), high.max(it)));
        format!("{:.1} MB/s ({low:.1}-{high:.1})", of(runs, |run| run.rate))
    };
    table.figure("floor", rate(floor));
    table.figure("floor + rec", rate(floor_rec));
    table.figure("house, written, zstd", rate(written));
    let ratio = |one: &[Run], other: &[Run]| of(one, |run| run.rate) / of(other, |run| run.rate);
    let share = ratio(written, floor_rec);
    table.against("  to floor + rec", format!("{share:.2} x"), ">= 0.90 x", share >= 0.9);
    table.figure("house, written, uncompressed", rate(plain));
    table.figure("house, synced, zstd", rate(synced));
    let share = ratio(synced, written);
    table.against("  to written", format!("{share:.2} x"), ">= 0.70 x", share >= 0.7);
}

/// One file through one place; `expected` bytes of it are shown.
pub async fn one(place: &impl Place, file: &Path, expected: u64, store: Option<&House>) -> Run {
    let stored = async || {
        if let Some(house) = store {
            house.all_stored().await;
        }
    };
    stored().await;
    settled(place.server()).await;
    let cpu = || (place.server().cpu(), place.agent().cpu());
    let (server, agent) = cpu();
    let mut line = place.run(&format!("exec cat '{}'", file.display())).await;
    line.next().await.unwrap();
    let began = Instant::now();
    while line.received < expected {
        line.next().await.expect("all of the file");
    }
    let (took, (server_then, agent_then)) = (began.elapsed(), cpu());
    line.ended().await;
    assert_eq!(line.received, expected, "no more than the terminal shows by itself");
    let shown = line.received as f64;
    stored().await;
    let packed = place.server().cpu();
    settled(place.server()).await;
    let a_gigabyte = |seconds: f64| seconds / shown * 1e9;
    Run {
        rate: shown / took.as_secs_f64() / 1e6,
        live: a_gigabyte(server_then - server),
        packing: a_gigabyte(packed - server_then),
        deriving: a_gigabyte(place.server().cpu() - packed),
        agent: a_gigabyte(agent_then - agent),
    }
}

/// Bytes shown by a terminal that nobody is told of, and its MB/s.
pub async fn terminal_alone(file: &Path) -> (u64, f64) {
    let command = Some(format!("exec cat '{}'", file.display()));
    let request = Request { session_id: "alone".to_owned(), run_as: None, command, cols: 80, rows: 24 };
    let (terminal, mut process) = shell::open(Shell::Login, &Allowed::default(), &request).unwrap();
    let mut room = vec![0; 32 * 1024];
    let mut shown = terminal.read(&mut room).await.unwrap();
    let began = Instant::now();
    while let Ok(count @ 1..) = terminal.read(&mut room).await {
        shown += count;
    }
    let took = began.elapsed().max(Duration::from_micros(1));
    process.exit(&terminal).await.unwrap();
    (shown as u64, shown as f64 / took.as_secs_f64() / 1e6)
}

/// What stands in a log where programs put ids.
#[derive(Clone, Copy, PartialEq)]
pub enum Ids {
    /// Sixteen or eight random digits, which nothing makes shorter.
    Random,
    /// Numbers that count.
    Counted,
}

/// Lines of a log: ASCII, colours, Chinese; no two alike, the same in every run.
pub fn text(length: usize, ids: Ids) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(length + 256);
    let mut dice: u64 = 0x9E37_79B9_7F4A_7C15;
    while text.len() < length {
        // xorshift64
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let (number, millis) = (text.len(), dice % 900);
        let id = if ids == Ids::Random { dice } else { (number / 64) as u64 };
        let line = match dice >> 60 {
            0..=5 => writeln!(
                text,
                "\u{1b}[32mINFO\u{1b}[0m 2026-11-23 09:{:02}:{:02}.{millis:03} http: request {id:016x} served in {millis} ms",
                number / 60 % 60,
                number % 60
            ),
            6..=9 => writeln!(
                text,
                "-rw-r--r--  1 deploy deploy {:>9} Nov 23 09:{:02} \u{1b}[01;34mrelease-{:08x}\u{1b}[0m/target/debug/deps",
                dice % 99_999_999,
                number % 60,
                id as u32
            ),
            10..=12 => writeln!(
                text,
                "\u{1b}[1;33mWARN\u{1b}[0m 请求 {millis} 已完成，用时 {} 毫秒，缓存命中率 {}%",
                dice % 97,
                dice % 100
            ),
            13..=14 => writeln!(
                text,
                "   Compiling crate-{} v{}.{}.{} (/srv/build/workspace/crates/{})",
                dice % 500,
                dice % 9,
                dice % 31,
                dice % 7,
                dice % 500
            ),
            _ => writeln!(
                text,
                "\u{1b}[31mERROR\u{1b}[0m 连接 10.{}.{}.{} 失败: connection reset by peer (os error 104)",
                dice % 255,
                millis % 255,
                dice % 251
            ),
        };
        line.unwrap();
    }
    text
}
