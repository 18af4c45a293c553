//! What recording costs: the relay without it and with it, live and after the end.

use crate::{
    house::{Floor, House, Settings},
    set,
    steps::one_letter_lines,
    table::Table,
    throughput::{Ids, ROUNDS, Run, of, one, terminal_alone, text},
};

/// Prints the section.
pub async fn measure(house: &House, recording_floor: &Floor) {
    let megabytes = set("BENCH_MB", 34);
    let realistic = text(megabytes * 1_000_000, Ids::Random);
    let short = one_letter_lines(megabytes);
    let floor = Floor::start(false);
    let setting = |durability, compression| Settings { durability, compression };
    let plain = House::start(setting("written", "none")).await;
    let synced = House::start(setting("synced", "zstd")).await;
    let synced_plain = House::start(setting("synced", "none")).await;
    let houses = [house, &plain, &synced, &synced_plain];
    relayed("text", &realistic, ROUNDS, [&floor, recording_floor], houses).await;
    relayed("lines of one letter, the worst case", &short, 1, [&floor, recording_floor], houses).await;
}

const HOUSES: [(&str, Option<f64>); 4] = [
    ("written, zstd", Some(8.0)),
    ("written, uncompressed", Some(5.0)),
    ("synced, zstd", None),
    ("synced, uncompressed", None),
];

async fn relayed(what: &str, text: &str, rounds: usize, floors: [&Floor; 2], houses: [&House; 4]) {
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("text");
    std::fs::write(&file, text).unwrap();
    let (mut bare, mut recorded) = ([(); 2].map(|()| Vec::new()), [(); 4].map(|()| Vec::new()));
    let mut all = 0;
    // The first round is not counted: it meets cold caches and young heaps.
    for round in 0..=rounds {
        let (shown, _) = terminal_alone(&file).await;
        all = shown;
        for (runs, floor) in bare.iter_mut().zip(floors) {
            runs.push(one(floor, &file, shown, None).await);
        }
        for (runs, house) in recorded.iter_mut().zip(houses) {
            runs.push(one(house, &file, shown, Some(house)).await);
        }
        if round == 0 {
            bare.iter_mut().chain(&mut recorded).for_each(Vec::clear);
        }
    }
    let mut table = Table::new(format!(
        "recorder, in its bastion: {:.0} MB of {what}, rounds of all in turn: {rounds}, medians of CPU",
        all as f64 / 1e6
    ));
    let [without, with] = &bare;
    table.figure("floor, no recording", seconds(of(without, |run| run.live)));
    table.figure("floor + rec", seconds(of(with, |run| run.live)));
    for ((name, most), runs) in HOUSES.into_iter().zip(&recorded) {
        bastion(&mut table, name, most.filter(|_| what == "text"), runs);
    }
    table.note(
        "CPU-seconds of the server's process for 10^9 bytes shown, in 10 ms steps; a bastion always records",
    );
    table.note("packing: from the session's last byte until cast, index and seal are stored and read back; deriving: until it rests");
    table.print();
}

fn seconds(a_gigabyte: f64) -> String {
    format!("{a_gigabyte:.1} s/GB")
}

fn bastion(table: &mut Table, name: &str, most: Option<f64>, runs: &[Run]) {
    let parts = [of(runs, |run| run.live), of(runs, |run| run.packing), of(runs, |run| run.deriving)];
    let both = of(runs, |run| run.live + run.packing);
    let what = format!("{name}: live + packing");
    let figure = format!("{:.1} + {:.1} = {}", parts[0], parts[1], seconds(both));
    match most {
        Some(most) => table.against(what, figure, format!("<= {most:.0} s/GB"), both <= most),
        None => table.figure(what, figure),
    }
    table.figure(format!("{name}: deriving, when nobody waits"), seconds(parts[2]));
}
