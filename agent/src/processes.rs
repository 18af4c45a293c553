//! Which processes belong to a session, and their end; on hosts with `/proc`, those that tried to leave it too, on
//! Windows the descendants of living ones.

use std::time::Duration;

use crate::platform;

/// How long processes get between SIGHUP and SIGKILL.
pub const GRACE: Duration = Duration::from_secs(5);
/// Rounds of SIGKILL, since a process may fork while it is looked for.
const ROUNDS: usize = 20;

/// Ends every process of the session: SIGHUP, then after `grace` SIGKILL, until none is left.
pub async fn end(leader: u32, session: &str, grace: Duration) {
    let patience = tokio::time::Instant::now() + grace;
    let mut left = look(leader, session).await;
    for &pid in &left {
        platform::hang_up(pid);
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
        left.into_iter().for_each(platform::kill);
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

/// The living processes of a session: its leader's, those that carry its id in their environment (a daemon that
/// left the terminal), and all descendants of either.
#[must_use]
pub fn members(leader: u32, session: &str) -> Vec<u32> {
    if leader == 0 {
        // No process; where there are no sessions, it is everybody's.
        return Vec::new();
    }
    let all = platform::living();
    let marker = format!("{}={session}", platform::MARKER);
    let own = std::process::id();
    let mut found: Vec<u32> = all
        .iter()
        .filter(|process| process.pid != own)
        .filter(|process| {
            [process.session, process.pid, process.parent].contains(&leader)
                || platform::is_marked(process.pid, &marker)
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
