//! A file by `cat`, to a client that reads as fast as it can: MB/s, CPU a GB, and what is stored of it.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

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

const ROUNDS: usize = 3;

/// One session's figures.
struct Run {
    /// 10^6 bytes a second, as shown.
    rate: f64,
    /// CPU seconds for 10^9 bytes shown.
    server: f64,
    agent: f64,
    /// The server's, after the session ended.
    after: f64,
    /// Bytes stored for each one shown.
    stored: f64,
}

/// Prints the section.
pub async fn measure(house: &House, recording_floor: &Floor) {
    let folder = tempfile::TempDir::new().unwrap();
    let megabytes = set("BENCH_MB", 34);
    let file = text(folder.path(), megabytes * 1_000_000);
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
    processor(&mut table, [&floor, &floor_rec, &written, &plain, &synced]);
    stored(&mut table, &written, &plain);
    table.note("MB/s: shown bytes from the first to the last at the client; PTY alone: read in this process");
    table.note("CPU: utime + stime in /proc/<pid>/stat of that process alone, in 10 ms steps; shell and cat are not in it");
    table.note(
        "after the end: the bastion's CPU from the session's last byte until the store has it and it rests",
    );
    table
        .note("elsewhere (research/performance.md, not this run): Warpgate recording 18-23 MB/s, ttyd 35-44");
    table.print();
}

fn of(runs: &[Run], figure: fn(&Run) -> f64) -> f64 {
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

fn processor(table: &mut Table, [floor, floor_rec, written, plain, synced]: [&[Run]; 5]) {
    for (name, runs, target) in [
        ("floor", floor, None),
        ("floor + rec", floor_rec, None),
        ("house, written, uncompressed", plain, Some(5.0)),
        ("house, written, zstd", written, Some(8.0)),
        ("house, synced, zstd", synced, None),
    ] {
        let (live, after) = (of(runs, |run| run.server), of(runs, |run| run.after));
        let what = format!("server CPU, {name}");
        let Some(target) = target else {
            table.figure(what, format!("{live:.1} s/GB"));
            continue;
        };
        table.figure(format!("{what}: live"), format!("{live:.1} s/GB"));
        table.figure(format!("{what}: after the end"), format!("{after:.1} s/GB"));
        let all = of(runs, |run| run.server + run.after);
        table.against(
            format!("{what}: both"),
            format!("{all:.1} s/GB"),
            format!("<= {target:.0} s/GB"),
            all <= target,
        );
    }
    table.figure("agent CPU, floor + rec", format!("{:.1} s/GB", of(floor_rec, |run| run.agent)));
    let agent = of(written, |run| run.agent);
    table.against("agent CPU, house", format!("{agent:.1} s/GB"), "<= 6 s/GB", agent <= 6.0);
}

fn stored(table: &mut Table, written: &[Run], plain: &[Run]) {
    let share = of(written, |run| run.stored);
    table.against("stored for a shown byte, zstd", format!("{share:.3}"), "<= 0.150", share <= 0.15);
    table.figure("stored for a shown byte, uncompressed", format!("{:.3}", of(plain, |run| run.stored)));
}

async fn one(place: &impl Place, file: &Path, expected: u64, store: Option<&House>) -> Run {
    let before = match store {
        Some(house) => house.all_stored().await,
        None => 0,
    };
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
    let after = match store {
        Some(house) => house.all_stored().await,
        None => 0,
    };
    settled(place.server()).await;
    let a_gigabyte = |seconds: f64| seconds / shown * 1e9;
    Run {
        rate: shown / took.as_secs_f64() / 1e6,
        server: a_gigabyte(server_then - server),
        agent: a_gigabyte(agent_then - agent),
        after: a_gigabyte(place.server().cpu() - server_then),
        stored: (after - before) as f64 / shown,
    }
}

/// Bytes shown by a terminal that nobody is told of, and its MB/s.
async fn terminal_alone(file: &Path) -> (u64, f64) {
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

/// Lines of a log: ASCII, colours, Chinese; no two alike, the same in every run.
pub fn text(folder: &Path, length: usize) -> PathBuf {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(length + 256);
    let mut dice: u64 = 0x9E37_79B9_7F4A_7C15;
    while text.len() < length {
        // xorshift64
        dice ^= dice << 13;
        dice ^= dice >> 7;
        dice ^= dice << 17;
        let (number, millis) = (text.len(), dice % 900);
        let line = match dice >> 60 {
            0..=5 => writeln!(
                text,
                "\u{1b}[32mINFO\u{1b}[0m 2026-11-23 09:{:02}:{:02}.{millis:03} http: request {dice:016x} served in {millis} ms",
                number / 60 % 60,
                number % 60
            ),
            6..=9 => writeln!(
                text,
                "-rw-r--r--  1 deploy deploy {:>9} Nov 23 09:{:02} \u{1b}[01;34mrelease-{:08x}\u{1b}[0m/target/debug/deps",
                dice % 99_999_999,
                number % 60,
                dice as u32
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
    let file = folder.join("text");
    std::fs::write(&file, text).unwrap();
    file
}
