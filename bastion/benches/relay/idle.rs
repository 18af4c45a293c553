//! What a thousand idle sessions cost.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    house::{House, Place, Settings},
    process::{load, open_files},
    set,
    table::Table,
};

/// Sessions that are being opened at a time.
const AT_ONCE: usize = 16;
/// Files that one process has open for a session, at most.
const FILES: usize = 6;
/// As long as the bastion takes to ping every socket once.
const WHILE: Duration = Duration::from_secs(15);

/// Prints the section.
pub async fn measure() {
    let wanted = set("BENCH_SESSIONS", 1000);
    let count = wanted.min(open_files().saturating_sub(200) / FILES);
    let house = House::start(Settings::default()).await;
    // A process's first session costs it what no other does.
    let mut first = house.run("exec sleep 1000").await;
    let (tasks, over) = (TaskTracker::new(), CancellationToken::new());
    tasks.spawn(over.clone().run_until_cancelled_owned(async move { first.ended().await }));
    sleep(Duration::from_secs(1)).await;
    let before = (house.server().pss(), house.agent().pss());
    let began = Instant::now();
    let mut left = count;
    while left > 0 {
        let batch = (0..left.min(AT_ONCE)).map(|_| house.run("printf x; exec sleep 1000"));
        for mut line in futures_util::future::join_all(batch).await {
            line.next().await.unwrap();
            left -= 1;
            tasks.spawn(over.clone().run_until_cancelled_owned(async move { line.ended().await }));
        }
    }
    let opened = began.elapsed();
    sleep(Duration::from_secs(3)).await;
    let after = (house.server().pss(), house.agent().pss());
    let [server, agent] = load([house.server(), house.agent()], WHILE).await;
    over.cancel();
    tasks.close();
    tasks.wait().await;
    let mut table = Table::new(format!("{count} idle sessions, recorded, each with its client"));
    if count < wanted {
        table.note(format!(
            "not {wanted}: this machine lets a process open {} files (ulimit -n)",
            open_files()
        ));
    }
    table.figure("bastion PSS without them", format!("{:.1} MiB", before.0 / 1024.0));
    table.figure("agent PSS without them", format!("{:.1} MiB", before.1 / 1024.0));
    let each = |before: f64, after: f64| (after - before) / count as f64;
    let bastion_each = each(before.0, after.0);
    table.against("bastion, each", format!("{bastion_each:.1} KiB"), "<= 32 KiB", bastion_each <= 32.0);
    let agent_each = each(before.1, after.1);
    table.against("agent, each", format!("{agent_each:.1} KiB"), "<= 24 KiB", agent_each <= 24.0);
    let scale = 1000.0 / count as f64;
    table.against("bastion CPU", format!("{server:.2} %"), "<= 1 % for 1,000", server * scale <= 1.0);
    table.against("agent CPU", format!("{agent:.2} %"), "<= 1 % for 1,000", agent * scale <= 1.0);
    table.figure("opening them", format!("{:.1} s, {AT_ONCE} at a time", opened.as_secs_f64()));
    table.note("memory: Pss in /proc/<pid>/smaps_rollup of that process alone (the shells are not in it), with and without");
    table.note(format!(
        "CPU: /proc/<pid>/stat over {} s, in which every socket is pinged once",
        WHILE.as_secs()
    ));
    table.print();
}
