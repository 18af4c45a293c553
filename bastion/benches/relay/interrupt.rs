//! Ctrl-C under `yes`, far from the house: 80 ms there and back, 2 MB/s.

use std::time::Duration;

use tokio::time::{Instant, timeout};

use crate::{
    chaos::{Chaos, Direction, Way},
    client::Line,
    house::{Floor, House, Place},
    set,
    table::{Sample, Table},
};

const DELAY: Duration = Duration::from_millis(40);
const BYTES_PER_SECOND: u64 = 2_000_000;
/// How long `yes` fills what there is to fill.
const FILLING: Duration = Duration::from_secs(2);
const FLOOR_TRIES: usize = 2;
const PROMPT: &str = "prompt> ";
const SHELL: &str = "PS1='prompt> ' exec sh -i";

/// Prints the section.
pub async fn measure(house: &House, floor: &Floor) {
    let tries = set("BENCH_INTERRUPTS", 10);
    let ours = Sample::new(times(house, tries).await);
    let bare = Sample::new(times(floor, FLOOR_TRIES).await);
    let mut table = Table::new(format!("Ctrl-C under yes, 80 ms round trip, 2 MB/s: {tries} tries"));
    table.figure("house, p50", format!("{:.0} ms", ours.at(50)));
    table.against(
        "house, the longest",
        format!("{:.0} ms", ours.at(100)),
        "<= 300 ms",
        ours.at(100) <= 300.0,
    );
    table.figure(format!("floor, TCP alone, {FLOOR_TRIES} tries"), format!("{:.0} ms", bare.at(100)));
    table.note(
        "from ^C sent to the prompt's last byte taken by a client that acknowledges every message at once",
    );
    table.note("the way between client and server is a proxy in the client's process: 40 ms each way, 2 MB/s to the client");
    table.print();
}

async fn times(place: &impl Place, tries: usize) -> Vec<Duration> {
    let chaos = Chaos::before(place.address());
    chaos.set(Direction::There, Way { delay: DELAY, ..Way::default() });
    chaos.set(Direction::Back, Way { delay: DELAY, bytes_per_second: Some(BYTES_PER_SECOND) });
    let mut line = place.run_by(chaos.address(), SHELL).await;
    line.eager();
    line.until(PROMPT).await;
    let mut took = Vec::with_capacity(tries);
    for _ in 0..tries {
        line.type_in("yes\r").await;
        let _ = timeout(FILLING, read_on(&mut line)).await;
        let pressed = Instant::now();
        line.type_in("\u{3}").await;
        line.until(PROMPT).await;
        took.push(pressed.elapsed());
    }
    took
}

async fn read_on(line: &mut Line) {
    while line.next().await.is_some() {}
}
