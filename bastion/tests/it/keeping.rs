//! How long recordings are kept: held, deleted for good with a tombstone, deleted when their time is up.

use std::path::PathBuf;

use agent::Shell;
use serde_json::json;

use crate::{
    audit::{is_missing, is_whole, objects, recorded, run, table, verify_audit},
    crash::{serve, settings, signal},
    databases::rows,
    harness::{Bastion, eventually, within, world},
};

const NONE: [&str; 0] = [];

fn store(bastion: &Bastion) -> PathBuf {
    bastion.config().store.url.strip_prefix("file://").unwrap().into()
}

/// Waits until nothing of a recording is in the store and its row says so.
async fn gone(bastion: &Bastion, session: &str) {
    let db = table(bastion).await;
    let sql = format!("SELECT state FROM recordings WHERE session_id = '{session}' AND deleted_at > 0");
    eventually("the recording is gone", async || {
        let state = rows(&db, &sql).await;
        (state == [["deleted"]] && objects(&store(bastion), session).is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_deleted_recording_is_gone_for_everybody_and_leaves_its_tombstone() {
    let (bastion, alice, root) = world(Shell::Login).await;
    let otto = bastion.user("otto", "auditor").await;
    let (session, other) = (recorded(&alice, "echo gone").await, recorded(&alice, "echo kept").await);
    let path = format!("/recordings/{session}");
    let before = root.get(&path).await.expect(200);
    for actor in [&alice, &otto] {
        actor.delete(&format!("{path}?reason=mine")).await.refused(403, "forbidden");
        actor.patch(&path, json!({"hold": true})).await.refused(403, "forbidden");
    }
    assert_eq!(root.delete(&path).await.faults(), ["reason"]);
    assert_eq!(root.delete(&format!("{path}?reason=")).await.faults(), ["reason"]);
    let long = "x".repeat(501);
    assert_eq!(root.delete(&format!("{path}?reason={long}")).await.faults(), ["reason"]);
    assert!(objects(&store(&bastion), &session).len() >= 3);

    assert_eq!(root.delete(&format!("{path}?reason=asked%20for")).await.status, 204);
    let missing = root.get(&format!("/recordings/{}", uuid::Uuid::now_v7())).await;
    for actor in [&alice, &otto, &root] {
        is_missing(&actor.get(&path).await, &missing);
        is_missing(&actor.get(&format!("{path}/cast")).await, &missing);
        let list = actor.get("/recordings").await.expect(200);
        let ids: Vec<_> = list["items"].as_array().unwrap().iter().map(|item| &item["session_id"]).collect();
        assert_eq!(ids, [other.as_str()]);
    }
    is_missing(&root.delete(&format!("{path}?reason=again")).await, &missing);
    is_missing(&root.patch(&path, json!({"hold": true})).await, &missing);
    gone(&bastion, &session).await;
    assert!(objects(&store(&bastion), &other).len() >= 3);

    let list = root.get(&format!("/audit?action=recording.delete&target={session}")).await.expect(200);
    let [tombstone] = &list["items"].as_array().unwrap()[..] else { panic!("{list}") };
    assert_eq!(tombstone["actor"]["name"], "root");
    let said = &tombstone["detail"];
    assert_eq!((&said["reason"], &said["plain_sha256"]), (&json!("asked for"), &before["sha256"]));
    for member in ["key", "sha256", "seal_sha256", "head"] {
        assert!(said[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {said}");
    }
    bastion.stop().await;
    let verdict = verify_audit(&bastion, &["--deep"]).await;
    is_whole(&verdict);
    assert_eq!(verdict.1["recordings"], 1);
}

#[tokio::test]
async fn a_held_recording_is_not_deleted_until_it_is_let_go() {
    let (bastion, alice, root) = world(Shell::Login).await;
    let session = recorded(&alice, "echo held").await;
    let path = format!("/recordings/{session}");
    assert_eq!(root.get(&path).await.expect(200)["hold"], false);
    let held = root.patch(&path, json!({"hold": true, "reason": "case 7"})).await.expect(200);
    assert_eq!((&held["hold"], &held["state"]), (&json!(true), &json!("stored")));
    assert_eq!(root.patch(&path, json!({"hold": true})).await.expect(200)["hold"], true);
    root.delete(&format!("{path}?reason=tidy")).await.refused(409, "held");
    assert_eq!(alice.get(&path).await.expect(200)["hold"], true);
    assert_eq!(root.patch(&path, json!({"hold": "yes"})).await.faults(), ["hold"]);
    assert_eq!(root.patch(&path, json!({"hold": false})).await.expect(200)["hold"], false);
    assert_eq!(root.delete(&format!("{path}?reason=tidy")).await.status, 204);
    gone(&bastion, &session).await;
    let list = root.get(&format!("/audit?action=recording.&target={session}")).await.expect(200);
    let actions = list["items"].as_array().unwrap().iter().map(|event| event["action"].as_str().unwrap());
    let mut actions: Vec<_> = actions.collect();
    actions.sort_unstable();
    // Holding what is held is no event.
    assert_eq!(actions, ["recording.delete", "recording.hold", "recording.release", "recording.stored"]);
}

#[tokio::test]
async fn what_is_not_stored_yet_is_not_deleted() {
    let (_bastion, alice, root) = world(Shell::Login).await;
    let mut terminal = alice.open("web-1").await;
    terminal.type_in("echo seen-$((40+2))\n").await;
    terminal.until("seen-42").await;
    let path = format!("/recordings/{}", terminal.session);
    root.delete(&format!("{path}?reason=tidy")).await.refused(409, "not_stored");
    // It may be held from the beginning on.
    assert_eq!(root.patch(&path, json!({"hold": true})).await.expect(200)["state"], "recording");
    terminal.type_in("exit\n").await;
    terminal.ended().await;
    crate::recordings::stored(&alice, &terminal.session).await;
    root.delete(&format!("{path}?reason=tidy")).await.refused(409, "held");
}

#[tokio::test]
async fn what_a_store_that_is_away_keeps_goes_when_it_is_back() {
    let (bastion, alice, root) = world(Shell::Login).await;
    let session = recorded(&alice, "echo gone").await;
    let (store, path) = (store(&bastion), format!("/recordings/{session}"));
    let away = store.with_extension("away");
    std::fs::rename(&store, &away).unwrap();
    assert_eq!(root.delete(&format!("{path}?reason=tidy")).await.status, 204);
    alice.get(&path).await.refused(404, "not_found");
    std::fs::rename(&away, &store).unwrap();
    gone(&bastion, &session).await;
    bastion.stop().await;
    is_whole(&verify_audit(&bastion, &NONE).await);
}

#[tokio::test]
async fn a_deletion_that_a_crash_cut_off_is_finished_at_the_next_start() {
    let bastion = Bastion::of_a_process().await;
    let file = settings(&bastion);
    let mut process = serve(&bastion, &file).await;
    bastion.first_admin().await;
    let alice = bastion.user("alice", "user").await;
    bastion.host("web-1", Shell::Login, &[&alice]).await;
    let session = recorded(&alice, "echo gone").await;
    let store = store(&bastion);
    // So that it is marked and no more.
    let away = store.with_extension("away");
    std::fs::rename(&store, &away).unwrap();
    let deleted = bastion.root().delete(&format!("/recordings/{session}?reason=tidy")).await;
    assert_eq!(deleted.status, 204);
    process.start_kill().unwrap();
    within("it is dead", process.wait()).await.unwrap();
    let _ = std::fs::remove_dir_all(&store);
    std::fs::rename(&away, &store).unwrap();
    assert!(objects(&store, &session).len() >= 3, "the crash came before");
    let mut process = serve(&bastion, &file).await;
    gone(&bastion, &session).await;
    alice.get(&format!("/recordings/{session}")).await.refused(404, "not_found");
    signal(&process, "-TERM").await;
    assert_eq!(within("it stops", process.wait()).await.unwrap().code(), Some(0));
    is_whole(&verify_audit(&bastion, &NONE).await);
}

#[tokio::test]
async fn what_has_been_kept_long_enough_is_deleted_unless_it_is_held() {
    let bastion = Bastion::of_a_process().await;
    let file = settings(&bastion);
    let mut process = serve(&bastion, &file).await;
    bastion.first_admin().await;
    let root = bastion.root();
    let alice = bastion.user("alice", "user").await;
    bastion.host("web-1", Shell::Login, &[&alice]).await;
    let (old, held, new) = (
        recorded(&alice, "echo old").await,
        recorded(&alice, "echo held").await,
        recorded(&alice, "echo new").await,
    );
    root.patch(&format!("/recordings/{held}"), json!({"hold": true})).await.expect(200);
    process.start_kill().unwrap();
    within("it is dead", process.wait()).await.unwrap();
    let db = table(&bastion).await;
    let day = 24 * 3600 * 1000;
    run(
        &db,
        &format!(
            "UPDATE tty_sessions SET created_at = created_at - {day}, ended_at = ended_at - {day} \
             WHERE id IN ('{old}', '{held}')"
        ),
    )
    .await;
    let text = std::fs::read_to_string(&file).unwrap() + "[recordings]\nretention = \"23h\"\n";
    std::fs::write(&file, text).unwrap();
    let mut process = serve(&bastion, &file).await;
    gone(&bastion, &old).await;
    for kept in [&held, &new] {
        assert_eq!(alice.get(&format!("/recordings/{kept}/cast")).await.status, 200);
    }
    let list = root.get("/audit?action=recording.delete").await.expect(200);
    let [tombstone] = &list["items"].as_array().unwrap()[..] else { panic!("{list}") };
    assert_eq!((&tombstone["actor"]["kind"], &tombstone["target"]["id"]), (&json!("system"), &json!(old)));
    assert!(tombstone["detail"]["reason"].as_str().unwrap().contains("23h"), "{tombstone}");
    signal(&process, "-TERM").await;
    assert_eq!(within("it stops", process.wait()).await.unwrap().code(), Some(0));
    is_whole(&verify_audit(&bastion, &NONE).await);
}
