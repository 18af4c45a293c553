//! Recordings played: windows, ranges, segments, at any moment, and when the store is not what it was.

use std::{
    fs,
    path::{Path, PathBuf},
};

use agent::Shell;
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    harness::{Actor, Answer, Bastion, world},
    recordings::{lines_of, stored, stored_cast},
};

type Event = (f64, String, String);

/// Where an object of a recording lies.
pub fn kept(bastion: &Bastion, session: &str, end: &str) -> PathBuf {
    fn below(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
    }
    let store = PathBuf::from(bastion.config().store.url.strip_prefix("file://").unwrap());
    let name = format!("{session}.{end}");
    let found = below(&store).into_iter().find(|path| path.file_name().is_some_and(|it| it == &*name));
    found.unwrap_or_else(|| panic!("{name} is not in the store"))
}

/// Asks with headers.
pub async fn ask(actor: &Actor, path: &str, headers: &[(&str, &str)]) -> Answer {
    let request = actor.request(Method::GET, path);
    Answer::of(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))).await
}

/// What the log says was done with a session's recording: actions, and who did them.
pub async fn noted(root: &Actor, session: &str) -> Vec<(String, String)> {
    let audit = root.get("/audit?action=recording.&limit=200").await.expect(200);
    let rows = audit["items"].as_array().unwrap().iter().filter(|row| row.to_string().contains(session));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    rows.map(|row| (text(&row["action"]), row.to_string())).rev().collect()
}

/// A session of alice's that printed `first`, `second` and `third` at three times; and its cast.
async fn thrice(alice: &Actor) -> (String, String) {
    let mut terminal =
        alice.run("web-1", "stty -echo; echo first; read x; echo second; read y; echo third").await;
    terminal.until("first").await;
    terminal.type_in("\n").await;
    terminal.until("second").await;
    terminal.type_in("\n").await;
    terminal.ended().await;
    let cast = stored_cast(alice, &terminal.session).await;
    (terminal.session, cast)
}

/// When this was printed.
fn time_of(events: &[Event], text: &str) -> f64 {
    events.iter().find(|(_, _, data)| data.contains(text)).unwrap().0
}

/// That a window is the stretch of the whole that was asked for, after a screen that has `shown` on it.
fn is_window(window: &str, whole: &[Event], from: f64, to: f64, shown: &str) {
    let (_, events) = lines_of(window);
    let (at, code, screen) = &events[0];
    assert_eq!((*at, code.as_str()), (0.0, "o"), "the screen comes first");
    assert!(screen.contains(shown), "{screen:?}");
    let expected: Vec<_> = whole.iter().filter(|(at, ..)| *at >= from && *at < to).collect();
    assert_eq!(events.len() - 1, expected.len());
    for ((at, code, data), (was_at, was_code, was)) in events[1..].iter().zip(expected) {
        assert_eq!((code, data), (was_code, was));
        assert!((at - (was_at - from)).abs() < 2e-6, "{at} {was_at} {from}");
    }
}

#[tokio::test]
async fn a_window_is_a_cast_that_begins_with_the_screen() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let (session, cast) = thrice(&alice).await;
    let path = format!("/recordings/{session}/cast");
    let (_, whole) = lines_of(&cast);
    let [first, second, third] = ["first", "second", "third"].map(|text| time_of(&whole, text));
    let (from, to) = (f64::midpoint(first, second), f64::midpoint(second, third));

    let window = ask(&alice, &format!("{path}?from={from}&to={to}"), &[("range", "bytes=0-1")]).await;
    assert_eq!((window.status, window.header("content-type")), (200, "application/x-asciicast"));
    assert_eq!((window.header("etag"), window.header("accept-ranges")), ("", ""));
    is_window(&window.text(), &whole, from, to, "first");
    let window = alice.get(&format!("{path}?from={from}")).await;
    is_window(&window.text(), &whole, from, f64::MAX, "first");
    let window = alice.get(&format!("{path}?to={to}")).await;
    is_window(&window.text(), &whole, 0.0, to, "");
    let window = alice.get(&format!("{path}?from=1000000")).await;
    is_window(&window.text(), &whole, 1e6, f64::MAX, "third");

    for (query, fault) in [
        ("from=-1", "from"),
        ("from=x", "from"),
        ("to=nan", "to"),
        ("to=0", "to"),
        ("from=2&to=1", "to"),
        ("from=1e300", "from"),
    ] {
        assert_eq!(alice.get(&format!("{path}?{query}")).await.faults(), [fault], "{query}");
    }
    let part = alice.get(&format!("{path}?from=0&download")).await;
    let name = format!("attachment; filename=\"{session}.part.cast\"");
    assert_eq!(part.header("content-disposition"), name);
}

#[tokio::test]
async fn what_is_sent_once_is_not_sent_again_and_parts_belong_together() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.run("web-1", "seq 20000").await;
    terminal.ended().await;
    let cast = stored_cast(&alice, &terminal.session).await;
    let path = format!("/recordings/{}/cast", terminal.session);
    let whole = alice.get(&path).await;
    let etag = whole.header("etag").to_owned();
    assert_eq!(whole.header("content-length"), cast.len().to_string());
    assert_eq!(whole.header("cache-control"), "private, no-cache");
    assert_eq!(whole.header("vary"), "Accept-Encoding");

    let packed = ask(&alice, &path, &[("accept-encoding", "zstd")]).await;
    let packed_etag = packed.header("etag").to_owned();
    assert_ne!(packed_etag, etag, "other bytes, another tag");
    assert_eq!(packed.header("accept-ranges"), "", "ranges are of the plain cast");
    for (known, coding, status) in [
        (etag.clone(), "identity", 304),
        (format!("W/{etag}, \"x\""), "identity", 304),
        ("*".to_owned(), "identity", 304),
        (packed_etag.clone(), "zstd", 304),
        (packed_etag.clone(), "identity", 200),
        (etag.clone(), "zstd", 200),
    ] {
        let answer = ask(&alice, &path, &[("if-none-match", &known), ("accept-encoding", coding)]).await;
        assert_eq!(answer.status, status, "{known} {coding}");
        assert_eq!(answer.body.is_empty(), status == 304);
        assert_eq!(answer.header("vary"), "Accept-Encoding");
    }

    for (of, status) in [(etag.as_str(), 206), (packed_etag.as_str(), 200), (&format!("W/{etag}"), 200)] {
        let headers = [("range", "bytes=3-9"), ("if-range", of), ("accept-encoding", "zstd")];
        let answer = ask(&alice, &path, &headers).await;
        assert_eq!(answer.status, status, "{of}");
        if status == 206 {
            assert_eq!((answer.header("content-encoding"), answer.header("etag")), ("", etag.as_str()));
            assert!(answer.body == cast.as_bytes()[3..10]);
        }
    }
    let beyond = ask(&alice, &path, &[("range", &format!("bytes={}-", cast.len()))]).await;
    beyond.refused(416, "range_not_satisfiable");

    let head = Answer::of(alice.request(Method::HEAD, &path)).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), cast.len().to_string());
}

#[tokio::test]
async fn a_long_recording_plays_in_segments() {
    let (bastion, alice, root) = world(Shell::Login).await;
    let mut terminal = alice.run("web-1", "echo begin; seq 700000; echo end").await;
    terminal.ended().await;
    let session = terminal.session.clone();
    let recording = stored(&alice, &session).await;
    assert_eq!(recording["detail"]["segmented"], true, "{recording}");
    let cast = stored_cast(&alice, &session).await;
    let (header, whole) = lines_of(&cast);
    let path = format!("/recordings/{session}/segments");
    let before = noted(&root, &session).await.len();
    let answer = alice.get(&format!("{path}/index.json")).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let index = answer.json();
    assert_eq!((&index["version"], &index["term"]["cols"]), (&json!(1), &header["width"]));
    let duration = index["duration"].as_f64().unwrap();

    let segments = index["segments"].as_array().unwrap();
    assert!(segments.len() > 1, "{index}");
    let starts: Vec<_> = segments.iter().map(|segment| segment["start"].as_f64().unwrap()).collect();
    assert_eq!(starts[0], 0.0);
    assert!(starts.windows(2).all(|pair| pair[0] < pair[1]) && starts.iter().all(|at| *at < duration));
    let mut events: Vec<Event> = Vec::new();
    for (n, place) in segments.iter().enumerate() {
        let segment = alice.get(&format!("{path}/{}", place["url"].as_str().unwrap())).await.expect(200);
        assert!(segment["snapshot"]["init"].is_string() && segment["snapshot"]["cols"].as_u64() > Some(0));
        let own: Vec<Event> = serde_json::from_value(segment["events"].clone()).unwrap();
        assert!(n == 0 || own[0].0 == starts[n], "the first event is at the segment's start");
        let end = starts.get(n + 1).copied().unwrap_or(f64::INFINITY);
        assert!(own.iter().all(|(at, ..)| (starts[n]..end).contains(at)));
        events.extend(own);
    }
    assert_eq!(events.last().unwrap().0, duration);
    let output = |events: &[Event]| -> String {
        events.iter().filter(|(_, code, _)| code == "o").map(|(_, _, data)| data.as_str()).collect()
    };
    assert!(output(&events) == output(&whole), "the segments are the cast");
    let rows = noted(&root, &session).await;
    assert_eq!(rows.len(), before + 1, "one viewing, one row: {rows:?}");

    let packed = ask(&alice, &format!("{path}/1.json"), &[("accept-encoding", "gzip, zstd")]).await;
    assert_eq!((packed.header("content-encoding"), packed.header("vary")), ("zstd", "Accept-Encoding"));
    let plain = alice.get(&format!("{path}/1.json")).await;
    assert!(zstd::decode_all(packed.body.as_ref()).unwrap() == plain.body);
    let again = ask(&alice, &format!("{path}/1.json"), &[("if-none-match", plain.header("etag"))]).await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    for name in ["999.json", "01.json", "forms.json", "index.json.zst", "0"] {
        alice.get(&format!("{path}/{name}")).await.refused(404, "not_found");
    }
    let from = f64::midpoint(starts[1], duration);
    let window = alice.get(&format!("/recordings/{session}/cast?from={from}")).await;
    is_window(&window.text(), &whole, from, f64::MAX, "");

    // Whoever skips the beginning is written down all the same.
    let otto = bastion.user("otto", "auditor").await;
    otto.get(&format!("{path}/1.json")).await.expect(200);
    otto.get(&format!("{path}/0.json")).await.expect(200);
    let his = noted(&root, &session).await.into_iter().filter(|(_, row)| row.contains(&otto.id));
    assert_eq!(his.map(|(action, _)| action).collect::<Vec<_>>(), ["recording.view"]);
}

#[tokio::test]
async fn a_recording_is_readable_at_every_moment() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.run("web-1", "echo live; read x; echo gone").await;
    terminal.until("live").await;
    let path = format!("/recordings/{}", terminal.session);
    for tail in ["/segments/index.json", "/commands", "/index", "/seal", "/verify"] {
        alice.get(&format!("{path}{tail}")).await.refused(409, "not_stored");
    }
    assert_eq!(alice.get(&path).await.expect(200)["detail"], Value::Null);
    for tail in ["/cast", "/cast?from=0", "/transcript"] {
        let answer = alice.get(&format!("{path}{tail}")).await;
        assert_eq!((answer.status, answer.header("etag")), (200, ""), "{tail}");
        assert!(answer.text().contains("live"), "{tail}: {}", answer.text());
    }
    terminal.type_in("\n").await;
    terminal.ended().await;
    // Over the move from spool to store, however it falls.
    loop {
        let answer = alice.get(&format!("{path}/cast")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains("live"));
        if !answer.header("etag").is_empty() {
            break;
        }
    }
    let detail = &stored(&alice, &terminal.session).await["detail"];
    assert_eq!((&detail["end_reason"], &detail["exit_code"]), (&json!("exit"), &json!(0)), "{detail}");
    assert_eq!((&detail["segmented"], &detail["recovered"]), (&json!(false), &json!(false)), "{detail}");
    assert_eq!(detail["output_bytes"], terminal.output.len(), "{detail}");
    assert!(detail["chunks"].as_u64() > Some(0) && detail["records_input"] == false, "{detail}");
}

/// What to do to a file, what `cast` then answers with and says, and the verdict.
type Damage = (&'static str, fn(&mut Vec<u8>), u16, &'static str, &'static str);

#[tokio::test]
async fn a_broken_recording_says_what_is_broken_and_breaks_nothing_else() {
    let (bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.run("web-1", "seq 20000").await;
    terminal.ended().await;
    let session = terminal.session;
    stored(&alice, &session).await;
    let path = format!("/recordings/{session}");
    // What is derived from it stays what it was: the damage is to the recording itself.
    alice.get(&format!("{path}/transcript")).await;
    let damages: [Damage; 6] = [
        ("index.json", |file| *file = b"{\"version\":".to_vec(), 502, "index", "altered"),
        ("index.json", |file| *file = b"[]".to_vec(), 502, "index", "altered"),
        ("seal", |file| *file = b"garbage".to_vec(), 200, "", "altered"),
        ("cast.zst", |file| file.truncate(file.len() / 2), 502, "cast", "incomplete"),
        ("cast.zst", |file| file[40] ^= 1, 502, "", "altered"),
        ("cast.zst", |file| file.extend(b"more"), 502, "cast", "altered"),
    ];
    for (end, damage, status, said, verdict) in damages {
        let file = kept(&bastion, &session, end);
        let whole = fs::read(&file).unwrap();
        let mut bytes = whole.clone();
        damage(&mut bytes);
        fs::write(&file, &bytes).unwrap();
        breaks(&alice, &session, end, status, said).await;
        assert_eq!(alice.get(&format!("{path}/verify")).await.expect(200)["verdict"], verdict, "{end}");
        fs::write(&file, &whole).unwrap();
    }
    alice.get(&format!("{path}/verify")).await.expect(200);
    let verdict = alice.get(&format!("{path}/verify")).await.expect(200);
    assert_eq!(verdict["verdict"], "whole", "{verdict}");

    for end in ["cast.zst", "index.json", "seal"] {
        fs::remove_file(kept(&bastion, &session, end)).unwrap();
    }
    for tail in ["/cast", "/cast?from=1", "/index", "/seal"] {
        let problem = alice.get(&format!("{path}{tail}")).await.refused(502, "recording_damaged");
        assert!(problem["detail"].as_str().unwrap().contains("gone"), "{problem}");
    }
    let recording = alice.get(&path).await.expect(200);
    assert_eq!((&recording["state"], &recording["seal"]), (&json!("stored"), &Value::Null));
    assert_eq!(alice.get("/recordings").await.expect(200)["items"].as_array().unwrap().len(), 1);
    let verdict = alice.get(&format!("{path}/verify")).await.expect(200);
    assert_eq!((&verdict["verdict"], &verdict["seal"]), (&json!("incomplete"), &Value::Null), "{verdict}");
}

async fn breaks(alice: &Actor, session: &str, end: &str, status: u16, said: &str) {
    let path = format!("/recordings/{session}");
    for coding in ["identity", "zstd"] {
        let answer = ask(alice, &format!("{path}/cast"), &[("accept-encoding", coding)]).await;
        if status == 502 {
            let problem = answer.refused(502, "recording_damaged");
            let detail = problem["detail"].as_str().unwrap();
            assert!(detail.contains(said) && detail.contains("castellan verify"), "{end}: {detail}");
        } else {
            assert_eq!(answer.status, status, "{end}: {}", answer.text());
        }
    }
    // What lies there is there to be judged.
    assert_eq!(alice.get(&format!("{path}/index")).await.status, 200, "{end}");
    assert_eq!(alice.get(&path).await.expect(200)["state"], "stored");
    assert_eq!(alice.get("/recordings").await.expect(200)["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_recording_that_is_damaged_further_on_breaks_off_there() {
    let bastion =
        Bastion::start_with(|config| config.recordings.compression = bastion::config::Compression::None)
            .await;
    let alice = bastion.user("alice", "user").await;
    bastion.host("web-1", Shell::Login, &[&alice]).await;
    let mut terminal = alice.run("web-1", "seq 200000").await;
    terminal.ended().await;
    let session = terminal.session;
    let cast = stored_cast(&alice, &session).await;
    let file = kept(&bastion, &session, "cast");
    let mut bytes = fs::read(&file).unwrap();
    let last = bytes.len() - 20;
    bytes[last] ^= 1;
    fs::write(&file, bytes).unwrap();
    let path = format!("/recordings/{session}/cast");
    let answer = alice.request(Method::GET, &path).send().await.unwrap();
    assert_eq!(answer.status(), 200, "it begins well");
    answer.bytes().await.expect_err("and does not end as if nothing were");
    // What is not damaged can still be had.
    let part = ask(&alice, &path, &[("range", "bytes=0-99999")]).await;
    assert!(part.status == 206 && part.body == cast.as_bytes()[..100_000]);
    ask(&alice, &path, &[("range", "bytes=-50")]).await.refused(502, "recording_damaged");
}
