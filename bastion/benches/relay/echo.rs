//! From a key sent to the terminal's echo of it, alone and beside sessions that print.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    client::Line,
    house::{Floor, House, Place},
    set,
    table::{Sample, Table},
};

/// Between two keys.
const PAUSE: Duration = Duration::from_millis(5);
const NEIGHBOURS: usize = 50;
/// A neighbour's 20 kB/s: this many bytes, and so often.
const DRIP: (usize, usize) = (1000, 50);
/// The terminal itself echoes; nobody waits for a line.
const ECHOES: &str = "stty raw echo; echo ready; exec cat >/dev/null";

/// Prints the section.
pub async fn measure(house: &House, floor: &Floor) {
    let keys = set("BENCH_KEYS", 1500);
    let mut table = Table::new(format!(
        "keystroke echo, p50 / p99: {keys} keys each, floor + rec in turn with the house"
    ));
    let (mut ours, mut bare) = (ready(house).await, ready(floor).await);
    let (mut house_took, mut floor_took) = (Vec::new(), Vec::new());
    for _ in 0..keys {
        house_took.push(echo(&mut ours).await);
        floor_took.push(echo(&mut bare).await);
    }
    compare(&mut table, "idle", house_took, floor_took);
    let (mut house_took, mut floor_took) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        house_took.extend(beside(house, &mut ours, keys / 3).await);
        floor_took.extend(beside(floor, &mut bare, keys / 3).await);
    }
    compare(&mut table, "beside 50 x 20 kB/s", house_took, floor_took);
    table.note("a key every 5 ms or so, sent raw, echoed by the kernel's terminal; timed in the client from send to receipt");
    table.note("the neighbours run through the same house or floor, read by the same client process");
    table.print();
}

fn compare(table: &mut Table, when: &str, house: Vec<Duration>, floor: Vec<Duration>) {
    let (house, floor) = (Sample::new(house), Sample::new(floor));
    table.figure(format!("{when}: floor + rec"), floor.text());
    table.figure(format!("{when}: house"), house.text());
    let over = house.at(50) - floor.at(50);
    table.against("  p50 over the floor's", format!("{over:.2} ms"), "<= 0.10 ms", over <= 0.1);
    let ratio = house.at(99) / floor.at(99);
    table.against("  p99 to the floor's", format!("{ratio:.2} x"), "<= 1.50 x", ratio <= 1.5);
}

async fn ready(place: &impl Place) -> Line {
    let mut line = place.run(ECHOES).await;
    line.until("ready").await;
    line
}

async fn echo(line: &mut Line) -> Duration {
    sleep(PAUSE).await;
    // What is left to acknowledge would otherwise go out beside the key.
    let pressed = Instant::now();
    line.type_in("x").await;
    line.next().await.unwrap();
    pressed.elapsed()
}

/// Keys while neighbours print.
async fn beside(place: &impl Place, line: &mut Line, keys: usize) -> Vec<Duration> {
    let (tasks, over) = (TaskTracker::new(), CancellationToken::new());
    let bench = std::env::current_exe().unwrap();
    let command = format!("exec '{}' drip {} {}", bench.display(), DRIP.0, DRIP.1);
    for _ in 0..NEIGHBOURS {
        let mut neighbour = place.run(&command).await;
        neighbour.until(".").await;
        tasks.spawn(over.clone().run_until_cancelled_owned(async move { neighbour.ended().await }));
    }
    sleep(Duration::from_secs(1)).await;
    let mut took = Vec::with_capacity(keys);
    for _ in 0..keys {
        took.push(echo(line).await);
    }
    over.cancel();
    tasks.close();
    tasks.wait().await;
    sleep(Duration::from_secs(1)).await;
    took
}
