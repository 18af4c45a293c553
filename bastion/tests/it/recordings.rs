//! Recordings: stored in full, valid asciicast, served in ranges and compressed, and to whom.

use agent::Shell;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Actor, Answer, Bastion, eventually, world},
    terminals::Terminal,
};

/// Waits until a session's recording is stored; what is known of it.
pub async fn stored(actor: &Actor, session: &str) -> Value {
    eventually("the recording is stored", async || {
        let answer = actor.get(&format!("/recordings/{session}")).await;
        (answer.status == 200).then(|| answer.json()).filter(|recording| recording["state"] == "stored")
    })
    .await
}

/// The asciicast of a session whose recording is stored.
pub async fn stored_cast(actor: &Actor, session: &str) -> String {
    stored(actor, session).await;
    let answer = actor.get(&format!("/recordings/{session}/cast")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    String::from_utf8(answer.body.to_vec()).unwrap()
}

/// The header and the events; each line is checked to be what asciicast v2 says.
pub fn lines_of(cast: &str) -> (Value, Vec<(f64, String, String)>) {
    assert!(cast.ends_with('\n'));
    let mut lines = cast.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let header = lines.next().unwrap();
    assert_eq!(header["version"], 2);
    assert!(header["width"].as_u64().unwrap() > 0 && header["height"].as_u64().unwrap() > 0);
    let events: Vec<(f64, String, String)> =
        lines.map(|line| serde_json::from_value(line).unwrap()).collect();
    assert!(events.windows(2).all(|pair| pair[0].0 <= pair[1].0), "times never go back");
    assert!(events.iter().all(|(_, kind, _)| ["o", "i", "r", "m"].contains(&kind.as_str())));
    (header, events)
}

/// What was shown.
pub fn output_of(cast: &str) -> String {
    let (_, events) = lines_of(cast);
    events.into_iter().filter(|(_, kind, _)| kind == "o").map(|(_, _, text)| text).collect()
}

/// A finished session of alice's.
async fn session(alice: &Actor, command: &str) -> Terminal {
    let mut terminal = alice.run("web-1", command).await;
    terminal.ended().await;
    terminal
}

#[tokio::test]
async fn a_recording_is_stored_valid_and_equal_to_what_was_shown() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal =
        alice.run("web-1", "ls --color=always /; read x; stty size; printf '\\377é终'; exit 3").await;
    terminal.until("etc").await;
    terminal.resize(120, 40).await;
    while terminal.sizes.is_empty() {
        terminal.step().await.unwrap();
    }
    terminal.type_in("go\n").await;
    terminal.ended().await;
    let recording = stored(&alice, &terminal.session).await;
    assert_eq!(recording["user"]["username"], "alice");
    assert_eq!(recording["asset"]["hostname"], "web-1");
    assert!(recording["seal"].as_str().is_some_and(|seal| seal.split('.').count() == 3), "{recording}");
    let cast = stored_cast(&alice, &terminal.session).await;
    assert_eq!(recording["plain_size"], cast.len());
    let hash = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(cast.as_bytes()));
    assert_eq!(recording["sha256"], hash);

    let (header, events) = lines_of(&cast);
    assert_eq!((&header["width"], &header["height"]), (&json!(80), &json!(24)));
    assert!(events.iter().any(|(_, kind, text)| kind == "r" && text == "120x40"), "the size is there");
    assert_eq!(output_of(&cast), String::from_utf8_lossy(&terminal.output));
    assert!(cast.contains("\\u001b[") || cast.contains("\\x1b["), "colours are kept");
    let last = events.last().unwrap().0;
    assert!((recording["duration"].as_f64().unwrap() - last).abs() < 1.0, "{recording} {last}");
}

#[tokio::test]
async fn a_session_without_output_leaves_a_recording_that_is_not_empty() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let terminal = session(&alice, "true").await;
    let cast = stored_cast(&alice, &terminal.session).await;
    let (_, events) = lines_of(&cast);
    assert!(!events.is_empty(), "players refuse a file of a header alone");
    assert_eq!(output_of(&cast), "");
}

#[tokio::test]
async fn a_recording_is_served_in_ranges_once_and_compressed() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let terminal = session(&alice, "seq 20000").await;
    let cast = stored_cast(&alice, &terminal.session).await;
    let path = format!("/recordings/{}/cast", terminal.session);
    let ask = async |headers: &[(&str, &str)]| {
        let request = alice.request(Method::GET, &path);
        Answer::of(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
    };
    let whole = ask(&[]).await;
    assert_eq!(whole.header("content-type"), "application/x-asciicast");
    assert_eq!(whole.header("accept-ranges"), "bytes");
    let etag = whole.header("etag").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");

    let length = cast.len();
    for (range, from, to) in [
        ("bytes=0-0".to_owned(), 0, 1),
        ("bytes=100-199".to_owned(), 100, 200),
        (format!("bytes={}-", length - 5), length - 5, length),
        ("bytes=-7".to_owned(), length - 7, length),
        (format!("bytes=10-{}", length * 2), 10, length),
    ] {
        let part = ask(&[("range", &range)]).await;
        assert_eq!(part.status, 206, "{range}");
        assert_eq!(part.header("content-range"), format!("bytes {from}-{}/{length}", to - 1));
        assert!(part.body == cast.as_bytes()[from..to], "{range}");
    }
    let beyond = ask(&[("range", &format!("bytes={length}-"))]).await;
    assert_eq!((beyond.status, beyond.header("content-range")), (416, format!("bytes */{length}").as_str()));
    assert_eq!(ask(&[("range", "bytes=0-1"), ("if-range", "\"another\"")]).await.status, 200);
    assert_eq!(ask(&[("if-none-match", &etag)]).await.status, 304);

    let packed = ask(&[("accept-encoding", "gzip, zstd")]).await;
    assert_eq!(packed.header("content-encoding"), "zstd");
    assert!(packed.body.len() < length / 2);
    assert!(zstd::decode_all(packed.body.as_ref()).unwrap() == cast.as_bytes());
    assert_eq!(ask(&[("accept-encoding", "zstd;q=0")]).await.header("content-encoding"), "");

    let download = alice.get(&format!("{path}?download")).await;
    assert_eq!(download.status, 200, "{}", download.text());
    assert!(download.header("content-disposition").starts_with("attachment"));
}

#[tokio::test]
async fn a_foreign_recording_is_a_missing_one_and_looking_is_audited() {
    let (bastion, alice, root) = world(Shell::Login).await;
    let bob = bastion.user("bob", "user").await;
    let otto = bastion.user("otto", "auditor").await;
    let terminal = session(&alice, "echo secret").await;
    stored(&alice, &terminal.session).await;
    let missing = uuid::Uuid::now_v7();
    for tail in ["", "/cast"] {
        let foreign = bob.get(&format!("/recordings/{}{tail}", terminal.session)).await;
        foreign.refused(404, "not_found");
        let nowhere = bob.get(&format!("/recordings/{missing}{tail}")).await;
        assert_eq!(foreign.body, nowhere.body);
    }
    let list = |answer: Answer| answer.expect(200)["items"].as_array().unwrap().len();
    assert_eq!(list(bob.get("/recordings").await), 0);
    assert_eq!(list(bob.get(&format!("/recordings?user={}", alice.id)).await), 0);
    assert_eq!(list(alice.get("/recordings").await), 1);
    assert_eq!(list(otto.get("/recordings?q=web-1").await), 1);
    assert_eq!(list(otto.get("/recordings?q=nothing-like-it").await), 0);
    assert_eq!(otto.get(&format!("/recordings/{}/cast", terminal.session)).await.status, 200);
    let audit = root.get("/audit?limit=200").await.expect(200);
    let seen = audit["items"].as_array().unwrap().iter().any(|row| {
        row["action"] == "recording.view"
            && row.to_string().contains(&otto.id)
            && row.to_string().contains(&terminal.session)
    });
    assert!(seen, "{audit}");
}

#[tokio::test]
async fn the_journal_goes_when_the_recording_is_stored() {
    let (bastion, alice, _) = world(Shell::Login).await;
    let terminal = session(&alice, "echo kept").await;
    stored(&alice, &terminal.session).await;
    let dir = bastion.config().spool.dir.clone();
    eventually("the spool is empty", async || {
        let names = std::fs::read_dir(&dir).unwrap().filter_map(Result::ok);
        (!names.into_iter().any(|entry| entry.file_name().to_string_lossy().contains(&terminal.session)))
            .then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_compression_the_stored_object_is_the_cast() {
    let bastion =
        Bastion::start_with(|config| config.recordings.compression = bastion::config::Compression::None)
            .await;
    let alice = bastion.user("alice", "user").await;
    bastion.host("web-1", Shell::Login, &[&alice]).await;
    let terminal = session(&alice, "echo plain").await;
    let recording = stored(&alice, &terminal.session).await;
    assert_eq!(recording["size"], recording["plain_size"]);
    assert_eq!(output_of(&stored_cast(&alice, &terminal.session).await), "plain\r\n");
}

/// The player that others use must take what we record; the runner names this as skipped without it.
#[tokio::test]
async fn asciinema_plays_a_recording() {
    let Ok(asciinema) = std::env::var("CASTELLAN_TEST_ASCIINEMA") else { return };
    let (bastion, alice, _) = world(Shell::Login).await;
    let terminal = session(&alice, "ls --color=always /; echo 终端; printf '\\377'").await;
    let file = bastion.home().join("session.cast");
    std::fs::write(&file, stored_cast(&alice, &terminal.session).await).unwrap();
    let played = tokio::process::Command::new(asciinema)
        .arg("cat")
        .arg(&file)
        .env("LC_ALL", "C.UTF-8")
        .output()
        .await
        .unwrap();
    assert!(played.status.success(), "{}", String::from_utf8_lossy(&played.stderr));
    assert_eq!(String::from_utf8_lossy(&played.stdout), String::from_utf8_lossy(&terminal.output));
}
