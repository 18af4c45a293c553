//! A disk without room, or a spool that is gone: no session, and it says so.

use agent::Shell;
use bastion::config::ByteSize;
use serde_json::json;

use crate::{
    harness::{Answer, Bastion, world},
    terminals::{Terminal, dial_framed},
};

async fn readiness(bastion: &Bastion) -> (u16, String) {
    let answer = Answer::of(bastion.http().get(format!("{}/readyz", bastion.url()))).await;
    (answer.status, answer.text())
}

#[tokio::test]
async fn without_room_for_a_recording_there_is_no_ticket_and_no_session() {
    let bastion = Bastion::start_with(|config| config.spool.min_free = ByteSize(1 << 60)).await;
    let alice = bastion.user("alice", "user").await;
    bastion.host("web-1", Shell::Echo, &[&alice]).await;
    alice.authorize("web-1").await.refused(503, "recording_unavailable");
    let list = bastion.root().get("/sessions").await.expect(200);
    assert_eq!(list["items"], json!([]));
    let (status, said) = readiness(&bastion).await;
    assert_eq!(status, 503);
    assert!(said.contains("spool"), "{said}");
    // Who has no grant does not learn of it.
    bastion.root().authorize("web-1").await.refused(404, "not_available");
}

#[tokio::test]
async fn a_spool_that_is_gone_when_the_ticket_is_shown_opens_no_session() {
    let (bastion, alice, root) = world(Shell::Echo).await;
    let token = alice.ticket("web-1").await;
    let spool = &bastion.config().spool.dir;
    std::fs::rename(spool, spool.with_extension("away")).unwrap();
    let socket = dial_framed(&alice, &token).await.unwrap();
    let closed = Terminal::greet(socket).await.err().unwrap();
    assert_eq!(closed.code, 4423, "{closed:?}");
    let list = root.get("/sessions").await.expect(200);
    assert!(list["items"].as_array().unwrap().iter().all(|session| session["status"] != "active"), "{list}");
    alice.authorize("web-1").await.refused(503, "recording_unavailable");
    assert_eq!(readiness(&bastion).await.0, 503);
    std::fs::rename(spool.with_extension("away"), spool).unwrap();
    let mut terminal = alice.open("web-1").await;
    terminal.type_in("\u{4}").await;
    assert_eq!(terminal.ended().await.closed.code, 1000);
}
