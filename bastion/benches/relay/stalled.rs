//! Browsers that stop reading while their shells print without end.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use crate::{
    client::Line,
    house::{House, Place, Settings},
    set,
    table::Table,
};

/// Stalled at once: one alone would drown in the allocators' noise.
const SESSIONS: usize = 10;
/// What is read of each afterwards, in bytes.
const AFTERWARDS: u64 = 8 << 20;
/// More than `yes`: it numbers its lines, so that what is missing shows.
const PRINTS: &str = "stty -onlcr; exec seq 1 2000000000";

/// Prints the section.
pub async fn measure() {
    let seconds = set("BENCH_STALL", 10);
    let house = House::start(Settings::default()).await;
    let mut first = house.run("echo x").await;
    first.ended().await;
    sleep(Duration::from_secs(1)).await;
    let sizes = || (house.server().pss(), house.agent().pss());
    let before = sizes();
    let mut lines = Vec::new();
    for _ in 0..SESSIONS {
        lines.push((house.run(PRINTS).await, Numbers::default()));
    }
    let (mut most, began) = (before, Instant::now());
    while began.elapsed().as_secs() < seconds as u64 {
        sleep(Duration::from_secs(1)).await;
        let now = sizes();
        most = (most.0.max(now.0), most.1.max(now.1));
        for (line, _) in &mut lines {
            // It reads nothing, and so answers no ping; this shows that it lives.
            line.acknowledge().await;
        }
    }
    let mut in_order = true;
    for (line, numbers) in &mut lines {
        in_order &= goes_on(line, numbers).await;
    }
    let mut table = Table::new(format!(
        "{SESSIONS} browsers that read nothing for {seconds} s, while their shells print"
    ));
    let each = |before: f64, most: f64| (most - before) / 1024.0 / SESSIONS as f64;
    let (bastion, agent) = (each(before.0, most.0), each(before.1, most.1));
    table.against("bastion, each", format!("{bastion:.2} MiB"), "<= 2.5 MiB", bastion <= 2.5);
    table.against("agent, each", format!("{agent:.2} MiB"), "<= 2.5 MiB", agent <= 2.5);
    let all = if in_order { "all there, in order" } else { "NOT all there" };
    table.against("the first 8 MiB of each, read afterwards", all, "all, in order", in_order);
    table.note("memory: the most of Pss in /proc/<pid>/smaps_rollup, a look a second, less what it was before the sessions");
    table.note(
        "in order: the shell numbers its lines and the client checks each; offsets are checked as well",
    );
    table.print();
}

async fn goes_on(line: &mut Line, numbers: &mut Numbers) -> bool {
    while line.received < AFTERWARDS {
        let Some(bytes) = line.next().await else { return false };
        if !numbers.follow(&bytes) {
            return false;
        }
    }
    true
}

/// Checks that lines count from 1.
#[derive(Default)]
struct Numbers {
    last: u64,
    begun: u64,
}

impl Numbers {
    fn follow(&mut self, bytes: &[u8]) -> bool {
        bytes.iter().all(|byte| match byte {
            b'\n' => {
                self.last += 1;
                std::mem::take(&mut self.begun) == self.last
            }
            digit => {
                self.begun = self.begun * 10 + u64::from(digit.wrapping_sub(b'0'));
                digit.is_ascii_digit()
            }
        })
    }
}
