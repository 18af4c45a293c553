//! From asking for a ticket to the first byte of the prompt; the agent waits already.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    house::{Floor, House, Place},
    set,
    table::{Sample, Table},
};

/// The host's own profile is kept out: a bare shell, with a prompt.
const SHELL: &str = "exec sh -i";

/// Prints the section.
pub async fn measure(house: &House, floor: &Floor) {
    let opens = set("BENCH_OPENS", 100);
    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..opens {
        ours.push(open(house).await);
        bare.push(open(floor).await);
    }
    let (ours, bare) = (Sample::new(ours), Sample::new(bare));
    let mut table =
        Table::new(format!("click to first prompt: {opens} opens, floor + rec in turn with the house"));
    table.figure("floor + rec, p50 / p99", bare.text());
    table.against("house, p50", format!("{:.2} ms", ours.at(50)), "<= 30 ms", ours.at(50) <= 30.0);
    table.against("house, p99", format!("{:.2} ms", ours.at(99)), "<= 100 ms", ours.at(99) <= 100.0);
    table.note(
        "house: from the authorize request to the first output byte; floor: from the dial (it asks nobody)",
    );
    table.note(format!("both run {SHELL:?} by the account's shell, so that no profile is in it"));
    table.print();
}

async fn open(place: &impl Place) -> Duration {
    let clicked = Instant::now();
    let mut line = place.run(SHELL).await;
    line.next().await.unwrap();
    let took = clicked.elapsed();
    line.type_in("exit\r").await;
    line.ended().await;
    took
}
