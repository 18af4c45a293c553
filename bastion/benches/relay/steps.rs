//! The steps of recording, each alone in this process: what they cost, and how many bytes are stored.

use std::time::Duration;

use bytes::Bytes;
use recordings::{Compression, Durability};

use crate::{
    alone::{Cost, Kept, Shelf, cost_of},
    set,
    table::{Table, median},
    throughput::{Ids, ROUNDS, text},
};

/// Bytes of one event, as the agent sends them when a shell prints fast.
const EVENT: usize = 32 * 1024;
/// Time between two of them, at 50 MB/s.
const APART: Duration = Duration::from_micros(650);

/// Prints the section.
pub async fn measure() {
    let megabytes = set("BENCH_MB", 34);
    costs(megabytes).await;
    kept(megabytes).await;
}

async fn costs(megabytes: usize) {
    let realistic = text(megabytes * 1_000_000, Ids::Random);
    let short = one_letter_lines(megabytes);
    let mut table = Table::new(format!(
        "recording, step by step in this process: CPU and wall for 10^9 bytes shown, medians of {ROUNDS} rounds"
    ));
    let texts = [
        ("text", crlf(&realistic), EVENT),
        ("one-letter lines", crlf(&short), EVENT),
        (
            "text in events of 64 bytes",
            crlf(&realistic[..realistic.floor_char_boundary(realistic.len() / 8)]),
            64,
        ),
    ];
    for (name, shown, event) in &texts {
        let mut rounds = Vec::new();
        for _ in 0..=ROUNDS {
            rounds.push(steps(shown, *event).await);
        }
        rounds.remove(0);
        let labels =
            ["journal, written", "journal, synced", "packing, zstd", "packing, uncompressed", "deriving"];
        for (step, label) in labels.into_iter().enumerate() {
            let a_gigabyte = |figure: fn(&Cost) -> f64| {
                median(rounds.iter().map(|round| figure(&round[step]) / shown.len() as f64 * 1e9))
            };
            let (cpu, wall) = (a_gigabyte(|cost| cost.cpu), a_gigabyte(|cost| cost.wall));
            table.figure(format!("{name}: {label}"), format!("{cpu:.1} s CPU, {wall:.1} s wall"));
        }
    }
    table.note("journal: recorded in batches of one event, each waited for; packing: hashes, encoding, putting in a folder with fsync, reading back");
    table.note(
        "deriving: one pass of a terminal over the stored cast makes segments, transcript and commands",
    );
    table.print();
}

async fn steps(shown: &Bytes, event: usize) -> [Cost; 5] {
    let (written, synced) = (Shelf::new(Durability::Written), Shelf::new(Durability::Synced));
    let ((), journal) = cost_of(written.record("a", events(shown, event))).await;
    let ((), journal_synced) = cost_of(synced.record("a", events(shown, event))).await;
    written.rested().await;
    let (stored, packing) = cost_of(written.pack(Compression::Zstd, 1)).await;
    let (_, packing_plain) = cost_of(synced.pack(Compression::None, 1)).await;
    written.rested().await;
    let (_, deriving) = cost_of(async { written.library().segments(&stored[0]).await.unwrap() }).await;
    [journal, journal_synced, packing, packing_plain, deriving]
}

fn events(shown: &Bytes, event: usize) -> impl Iterator<Item = (Duration, Bytes)> {
    (0..shown.len().div_ceil(event)).map(move |n| {
        let part = shown.slice(n * event..shown.len().min((n + 1) * event));
        (APART * n as u32 * event as u32 / EVENT as u32, part)
    })
}

/// Lines so short that most of what is shown is their ends.
pub fn one_letter_lines(megabytes: usize) -> String {
    "y\n".repeat(megabytes * 1_000_000 / 3)
}

/// As a terminal shows it.
fn crlf(text: &str) -> Bytes {
    text.replace('\n', "\r\n").into()
}

async fn kept(megabytes: usize) {
    let mut table = Table::new("recording: bytes stored for a byte shown");
    for (name, ids) in [("text with random ids", Ids::Random), ("text without", Ids::Counted)] {
        let shown = crlf(&text(megabytes * 1_000_000, ids));
        for compression in [Compression::Zstd, Compression::None] {
            let kept = kept_of(events(&shown, EVENT), shown.len(), compression).await;
            row(&mut table, name, compression, kept, compression == Compression::Zstd);
        }
    }
    let typed = typing();
    let shown = typed.iter().map(|(_, bytes)| bytes.len()).sum();
    let kept = kept_of(typed.into_iter(), shown, Compression::Zstd).await;
    row(&mut table, &format!("an hour of typing, {} kB", shown / 1000), Compression::Zstd, kept, false);
    table.note("cast, then with index and seal, then with what is derived: segments (from 4 MiB of cast on), transcript, commands");
    table.note("typing: a key each 160 ms, a command each 8 s that prints 0 to 40 lines; every key and every answer an event of its own");
    table.print();
}

fn row(
    table: &mut Table,
    name: &str,
    compression: Compression,
    [cast, proof, derived]: [f64; 3],
    judged: bool,
) {
    let how = if compression == Compression::Zstd { "zstd" } else { "uncompressed" };
    let sealed = cast + proof;
    let what = format!("{name}, {how}");
    let figure = format!("{cast:.3}, {sealed:.3}, {:.3}", sealed + derived);
    match judged {
        true => table.against(what, figure, "<= 0.150 with index and seal", sealed <= 0.15),
        false => table.figure(what, figure),
    }
}

async fn kept_of(
    events: impl Iterator<Item = (Duration, Bytes)>,
    shown: usize,
    compression: Compression,
) -> [f64; 3] {
    let shelf = Shelf::new(Durability::Written);
    shelf.record("a", events).await;
    let stored = shelf.pack(compression, 1).await;
    shelf.library().transcript("a", Some(&stored[0])).await.unwrap();
    let Kept { cast, proof, derived } = shelf.kept();
    [cast, proof, derived].map(|bytes| bytes as f64 / shown as f64)
}

/// An hour of somebody at a shell.
fn typing() -> Vec<(Duration, Bytes)> {
    let lines = text(8_000_000, Ids::Random);
    let mut lines = lines.lines();
    let (mut events, mut at) = (Vec::new(), Duration::ZERO);
    let commands = [
        "ls -l /srv/app/releases",
        "tail -n 40 /var/log/app.log",
        "systemctl status app",
        "cd ..",
        "git log -3",
    ];
    for (n, command) in commands.iter().cycle().enumerate() {
        if at > Duration::from_secs(3600) {
            break;
        }
        events.push((
            at,
            Bytes::from_static(b"\x1b[?2004h\x1b[01;32mdeploy@web-1\x1b[00m:\x1b[01;34m~/app\x1b[00m$ "),
        ));
        at += Duration::from_secs(3);
        for key in command.bytes() {
            at += Duration::from_millis(160);
            events.push((at, Bytes::copy_from_slice(&[key])));
        }
        let answer: String = lines.by_ref().take(n * 7 % 41).flat_map(|line| [line, "\r\n"]).collect();
        events.push((at + Duration::from_millis(20), format!("\r\n\x1b[?2004l\r{answer}").into()));
        at += Duration::from_millis(30);
    }
    events
}
