//! What proves a recording, served: index and seal as they lie, and the verdict that `castellan verify` gives too.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use agent::Shell;
use serde_json::{Value, json};

use crate::{
    harness::{Actor, Answer, world},
    playback::{kept, noted},
    recordings::stored,
};

/// A finished session of some chunks.
async fn session(alice: &Actor) -> String {
    let mut terminal = alice.run("web-1", "seq 90000").await;
    terminal.ended().await;
    stored(alice, &terminal.session).await;
    terminal.session
}

/// What `castellan verify --json` says of a file, but for its name.
fn judged(file: &Path, keys: &Path) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_castellan"));
    let command = command.arg("verify").arg("--json").arg("--keys").arg(keys).arg(file);
    let done = command.stdin(Stdio::null()).output().unwrap();
    let mut told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(told["exit"], done.status.code().unwrap());
    assert!(told.as_object_mut().unwrap().remove("file").is_some());
    told
}

/// Saves an answer under the name it comes with.
fn save(folder: &Path, answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let name = answer.header("content-disposition").strip_prefix("attachment; filename=\"").unwrap();
    fs::write(folder.join(name.trim_end_matches('"')), &answer.body).unwrap();
}

#[tokio::test]
async fn what_is_downloaded_proves_itself_offline() {
    let (bastion, alice, root) = world(Shell::Login).await;
    let session = session(&alice).await;
    let path = format!("/recordings/{session}");
    let folder = tempfile::tempdir().unwrap();
    for tail in ["cast", "index", "seal"] {
        save(folder.path(), &alice.get(&format!("{path}/{tail}?download")).await);
    }
    let keys = bastion.http().get(format!("{}/.well-known/jwks.json", bastion.url()));
    let keys_file = folder.path().join("jwks.json");
    fs::write(&keys_file, Answer::of(keys).await.body).unwrap();
    let mut offline = judged(&folder.path().join(format!("{session}.cast")), &keys_file);
    let verdict = alice.get(&format!("{path}/verify")).await.expect(200);
    assert_eq!((&verdict["verdict"], &verdict["exit"]), (&json!("whole"), &json!(0)), "{verdict}");
    assert_eq!((&verdict["form"], &offline["form"]), (&json!("stored"), &json!("plain")));
    offline["form"] = json!("stored");
    assert_eq!(verdict, offline, "one verdict, whoever gives it");

    let index = alice.get(&format!("{path}/index")).await;
    assert_eq!(index.header("content-type"), "application/json");
    assert!(index.body == fs::read(kept(&bastion, &session, "index.json")).unwrap());
    let seal = alice.get(&format!("{path}/seal")).await;
    assert_eq!(seal.header("content-type"), "application/jose");
    assert!(seal.body == fs::read(kept(&bastion, &session, "seal")).unwrap());
    // Storing is the bastion's own deed, noted before anybody looks.
    let actions: Vec<_> = noted(&root, &session).await.into_iter().map(|(action, _)| action).collect();
    assert_eq!(
        actions,
        [
            "recording.stored",
            "recording.download",
            "recording.download",
            "recording.download",
            "recording.verify"
        ],
        "looking at the index and the seal shows nothing of what was on the screen"
    );
}

#[tokio::test]
async fn a_flipped_byte_in_the_store_is_found_where_it_is() {
    let (bastion, alice, _) = world(Shell::Login).await;
    let bob = bastion.user("bob", "user").await;
    let session = session(&alice).await;
    let path = format!("/recordings/{session}/verify");
    let file = kept(&bastion, &session, "cast.zst");
    let index: Value =
        serde_json::from_slice(&fs::read(kept(&bastion, &session, "index.json")).unwrap()).unwrap();
    let chunk = index["chunks"].as_array().unwrap().last().unwrap().clone();
    assert!(chunk["n"].as_u64() > Some(0), "more than one chunk");
    let mut bytes = fs::read(&file).unwrap();
    let middle = (chunk["at"].as_u64().unwrap() + chunk["len"].as_u64().unwrap() / 2) as usize;
    bytes[middle] ^= 0x10;
    fs::write(&file, bytes).unwrap();

    let verdict = alice.get(&path).await.expect(200);
    assert_eq!((&verdict["verdict"], &verdict["exit"]), (&json!("altered"), &json!(1)), "{verdict}");
    assert_eq!((&verdict["first_bad_chunk"], &verdict["proven"]), (&chunk["n"], &json!(false)));
    assert_eq!(verdict["findings"][0]["chunk"], chunk["n"]);
    let keys = bastion.http().get(format!("{}/.well-known/jwks.json", bastion.url()));
    let keys_file = bastion.home().join("jwks.json");
    fs::write(&keys_file, Answer::of(keys).await.body).unwrap();
    assert_eq!(verdict, judged(&file, &keys_file));

    let missing = bob.get(&format!("/recordings/{}/verify", uuid::Uuid::now_v7())).await;
    let foreign = bob.get(&path).await;
    foreign.refused(404, "not_found");
    assert_eq!(foreign.body, missing.body);
}
