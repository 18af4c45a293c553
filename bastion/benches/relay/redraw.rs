//! The screen for a browser that comes back with nothing, after much output.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    house::{House, Place as _},
    set,
    table::{Sample, Table},
    throughput,
};

/// Bytes printed before.
const PRINTED: usize = 10_000_000;
/// Long enough for what is drawn ahead of need to catch up.
const PAUSE: Duration = Duration::from_secs(3);

/// Prints the section.
pub async fn measure(house: &House) {
    let tries = set("BENCH_REDRAWS", 5);
    let folder = tempfile::TempDir::new().unwrap();
    let file = folder.path().join("text");
    std::fs::write(&file, throughput::text(PRINTED, throughput::Ids::Random)).unwrap();
    let (mut at_once, mut later) = (Vec::new(), Vec::new());
    for _ in 0..tries {
        at_once.push(redraw(house, &file, Duration::ZERO).await);
        later.push(redraw(house, &file, PAUSE).await);
    }
    let (at_once, later) = (Sample::new(at_once), Sample::new(later));
    let mut table = Table::new(format!("SCREEN after 10 MB of output: {tries} tries each"));
    table.figure("at once after the last byte, p50 / p99", at_once.text());
    table.against(
        "3 s later, the longest",
        format!("{:.1} ms", later.at(100)),
        "<= 150 ms",
        later.at(100) <= 150.0,
    );
    table.note("from hello sent to the last part of SCREEN taken; the ticket is asked for before");
    table.note("at once: what was not drawn ahead of need (a tenth of a processor's time) is drawn then");
    table.print();
}

async fn redraw(house: &House, file: &std::path::Path, pause: Duration) -> Duration {
    let mut line = house.run(&format!("cat {}; echo printed; exec cat", file.display())).await;
    line.until("printed").await;
    sleep(pause).await;
    let session = house.newest_session().await;
    let mut back = house.back(&session).await;
    let asked = Instant::now();
    back.hello(1 << 40).await;
    back.screened().await;
    let took = asked.elapsed();
    house.end(&session).await;
    took
}
