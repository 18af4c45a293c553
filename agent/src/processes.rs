//! Which processes belong to a session, and their end; on hosts with `/proc`, those that tried to leave it too.

use std::time::Duration;

use crate::platform;

/// How long processes get between SIGHUP and SIGKILL.
pub const GRACE: Duration = Duration::from_secs(5);
/// Rounds of SIGKILL, since a process may fork while it is looked for.
const ROUNDS: usize = 20;

/// Tells the session's first process to go, as the loss of its terminal does; a shell passes it on to its jobs.
pub fn hang_up(leader: u32) {
    platform::signal(leader, libc::SIGHUP);
    // A stopped one hears it only when it goes on.
    platform::signal(leader, libc::SIGCONT);
}

/// Ends every process of the session: SIGHUP, then after `grace` SIGKILL, until none is left.
pub async fn end(leader: u32, session: &str, grace: Duration) {
    let patience = tokio::time::Instant::now() + grace;
    let mut left = look(leader, session).await;
    for &pid in &left {
        hang_up(pid);
    }
    let mut pause = Duration::from_millis(10);
    while !left.is_empty() && tokio::time::Instant::now() < patience {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(320));
        left = look(leader, session).await;
    }
    for _ in 0..ROUNDS {
        if left.is_empty() {
            return;
        }
        left.into_iter().for_each(|pid| platform::signal(pid, libc::SIGKILL));
        tokio::time::sleep(Duration::from_millis(20)).await;
        left = look(leader, session).await;
    }
    tracing::warn!(session, "processes are left after the session's end");
}

/// Looks for the session's processes off the async threads: `/proc` may be long.
async fn look(leader: u32, session: &str) -> Vec<u32> {
    let session = session.to_owned();
    tokio::task::spawn_blocking(move || members(leader, &session)).await.unwrap_or_default()
}

/// A line of `/proc/<pid>/stat`, as far as it matters.
struct Process {
    pid: u32,
    parent: u32,
    session: u32,
}

/// The living processes of a session: its leader's, those that carry its id in their environment (a daemon that
/// left the terminal), and all descendants of either.
#[must_use]
pub fn members(leader: u32, session: &str) -> Vec<u32> {
    let all = living();
    let marker = format!("CASTELLAN_SESSION_ID={session}");
    let own = std::process::id();
    let mut found: Vec<u32> = all
        .iter()
        .filter(|process| process.pid != own)
        .filter(|process| {
            process.session == leader || process.pid == leader || is_marked(process.pid, &marker)
        })
        .map(|process| process.pid)
        .collect();
    let mut at = 0;
    while at < found.len() {
        let parent = found[at];
        let children = all.iter().filter(|process| process.parent == parent).map(|process| process.pid);
        let new: Vec<u32> = children.filter(|pid| !found.contains(pid)).collect();
        found.extend(new);
        at += 1;
    }
    found
}

fn living() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(read_process).collect()
}

fn read_process(pid: u32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name is in parentheses and may hold anything, so what follows the last one counts.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let alive = !matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    alive.then_some(Process { pid, parent, session })
}

fn is_marked(pid: u32, marker: &str) -> bool {
    // The environment of another user's process cannot be read; it is found as a descendant or by its session.
    std::fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|entry| entry == marker.as_bytes()))
}
