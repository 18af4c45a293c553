//! Finding: what was on the screen, read and searched, in one recording and across those that one may see.

use std::fs;

use agent::Shell;
use serde_json::{Value, json};

use crate::{
    harness::{Actor, Bastion, world},
    playback::{ask, kept, noted},
    recordings::stored,
    terminals::url_encoded,
};

/// A finished session, stored.
async fn session(actor: &Actor, command: &str) -> String {
    let mut terminal = actor.run("web-1", command).await;
    terminal.ended().await;
    stored(actor, &terminal.session).await;
    terminal.session
}

#[tokio::test]
async fn a_transcript_is_what_was_on_the_screen() {
    let (_bastion, alice, root) = world(Shell::Login).await;
    let id =
        session(&alice, "printf '\\033[31mRed\\033[0m leaves\\n'; echo 终端; seq 300; echo a Secret").await;
    let path = format!("/recordings/{id}/transcript");
    let text = alice.get(&path).await;
    assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(text.header("vary"), "Accept, Accept-Encoding");
    let numbers: String = (1..=300).map(|n| format!("{n}\n")).collect();
    assert_eq!(text.text(), format!("Red leaves\n终端\n{numbers}a Secret\n"));

    let accept = ("accept", "application/json");
    let answer = ask(&alice, &path, &[accept]).await;
    assert_eq!(answer.header("content-type"), "application/json");
    let lines = answer.json();
    let lines = lines.as_array().unwrap();
    let duration = stored(&alice, &id).await["duration"].as_f64().unwrap();
    assert_eq!((lines.len(), &lines[1]["line"]), (303, &json!("终端")));
    assert!(lines.iter().all(|line| (0.0..=duration + 0.001).contains(&line["t"].as_f64().unwrap())));
    let packed = ask(&alice, &path, &[accept, ("accept-encoding", "zstd")]).await;
    assert_eq!(packed.header("content-encoding"), "zstd");
    assert!(zstd::decode_all(packed.body.as_ref()).unwrap() == answer.body);
    assert_ne!(text.header("etag"), answer.header("etag"));
    for (kind, known) in [("text/plain", text.header("etag")), ("application/json", answer.header("etag"))] {
        assert_eq!(ask(&alice, &path, &[("accept", kind), ("if-none-match", known)]).await.status, 304);
    }

    let found = ask(&alice, &format!("{path}?q=SECRET"), &[accept]).await.expect(200);
    assert_eq!((found.as_array().unwrap().len(), &found[0]["line"]), (1, &json!("a Secret")), "{found}");
    let found = alice.get(&format!("{path}?q={}", url_encoded("leAves"))).await;
    assert_eq!((found.status, found.text().as_str()), (200, "Red leaves\n"));
    assert_eq!(alice.get(&format!("{path}?q=1&limit=2")).await.text(), "1\n10\n");
    assert_eq!(alice.get(&format!("{path}?q=nowhere")).await.text(), "");
    assert_eq!(ask(&alice, &format!("{path}?q=nowhere"), &[accept]).await.expect(200), json!([]));
    for (query, fault) in [
        ("q=", "q"),
        ("q=%20", "q"),
        (&format!("q={}", "x".repeat(201)), "q"),
        ("q=x&limit=0", "limit"),
        ("limit=1001", "limit"),
    ] {
        assert_eq!(alice.get(&format!("{path}?{query}")).await.faults(), [fault], "{query}");
    }
    let file = ask(&alice, &format!("{path}?download"), &[accept]).await;
    assert_eq!(file.header("content-disposition"), format!("attachment; filename=\"{id}.txt\""));
    assert_eq!(file.body, text.body);

    let rows = noted(&root, &id).await;
    for action in ["recording.view", "recording.search", "recording.download"] {
        assert!(rows.iter().any(|row| row.0 == action), "{action}: {rows:?}");
    }
    let told = format!("{rows:?}").to_lowercase();
    assert!(
        !told.contains("secret") && !told.contains("leaves"),
        "what was searched for is nobody's business"
    );
}

#[tokio::test]
async fn commands_are_those_that_the_shell_marked() {
    let (_bastion, alice, _) = world(Shell::Login).await;
    let marked =
        "printf '\\033]133;A\\007$ \\033]133;B\\007ls /x\\r\\n\\033]133;C\\007none\\r\\n\\033]133;D;3\\007'";
    let id = session(&alice, marked).await;
    let commands = alice.get(&format!("/recordings/{id}/commands")).await.expect(200);
    let items = commands["items"].as_array().unwrap();
    assert_eq!((items.len(), &items[0]["exit"]), (1, &json!(3)), "{commands}");
    assert!(items[0]["t"].is_number() && items[0].get("text").is_some(), "{commands}");
    let plain = session(&alice, "ls /").await;
    assert_eq!(alice.get(&format!("/recordings/{plain}/commands")).await.expect(200), json!({"items": []}));
}

/// The sessions that a search finds.
fn found(answer: &Value) -> Vec<&str> {
    let items = answer["items"].as_array().unwrap();
    items.iter().map(|item| item["recording"]["session_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_search_finds_what_one_may_see_the_newest_first() {
    let bastion = Bastion::start().await;
    let (alice, bob) = (bastion.user("alice", "user").await, bastion.user("bob", "user").await);
    let otto = bastion.user("otto", "auditor").await;
    bastion.host("web-1", Shell::Login, &[&alice, &bob]).await;
    let first =
        session(&alice, "echo the Needle 1; seq 1000; for n in 1 2 3 4 5 6; do echo needle; done").await;
    session(&alice, "echo hay").await;
    let third = session(&alice, "echo 'needle*'").await;
    let bobs = session(&bob, "echo a needle of bobs").await;
    let search = async |actor: &Actor, query: &str| {
        actor.get(&format!("/recordings/search?{query}")).await.expect(200)
    };

    let hers = search(&alice, "q=NEEDLE").await;
    assert_eq!(found(&hers), [&third, &first], "{hers}");
    assert_eq!((&hers["next_cursor"], &hers["unreadable"]), (&Value::Null, &json!(0)));
    let oldest = alice.get(&format!("/recordings/{first}")).await.expect(200);
    assert_eq!(hers["searched_to"], oldest["started_at"]);
    assert_eq!(hers["items"][0]["lines"][0]["line"], "needle*");
    assert_eq!((&hers["items"][0]["more"], &hers["items"][1]["more"]), (&json!(false), &json!(true)));
    assert_eq!(hers["items"][1]["lines"].as_array().unwrap().len(), 5);
    assert_eq!(hers["items"][1]["recording"]["user"]["username"], "alice");

    assert_eq!(found(&search(&bob, "q=needle").await), [&bobs]);
    assert_eq!(found(&search(&otto, "q=needle").await), [&bobs, &third, &first]);
    assert_eq!(found(&search(&otto, &format!("q=needle&user={}", alice.id)).await), [&third, &first]);
    let asset = bastion.asset("web-1");
    assert_eq!(found(&search(&otto, &format!("q=bobs&asset={asset}")).await), [&bobs]);
    let opened = alice.session(&first).await;
    let before = opened["created_at"].as_str().unwrap();
    assert_eq!(found(&search(&otto, &format!("q=needle&to={before}")).await), Vec::<&str>::new());
    assert_eq!(found(&search(&otto, &format!("q=needle&from={before}")).await).len(), 3);
    for query in ["q=hay*", "q=n.edle", "q=%25", "q=nobody-wrote-this"] {
        assert_eq!(found(&search(&otto, query).await), Vec::<&str>::new(), "{query}: no patterns");
    }

    let page = search(&otto, "q=needle&limit=2").await;
    assert_eq!(found(&page), [&bobs, &third]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let rest = search(&otto, &format!("q=needle&limit=2&cursor={cursor}")).await;
    assert_eq!((found(&rest), &rest["next_cursor"]), (vec![first.as_str()], &Value::Null));

    // A foreign user is nobody.
    let foreign = bob.get(&format!("/recordings/search?q=needle&user={}", alice.id)).await;
    let nobody = bob.get(&format!("/recordings/search?q=needle&user={}", uuid::Uuid::now_v7())).await;
    assert_eq!((foreign.status, &foreign.body), (200, &nobody.body));
    for tail in [
        "/transcript",
        "/transcript?q=needle",
        "/commands",
        "/segments/index.json",
        "/segments/x",
        "/index",
        "/seal",
    ] {
        let foreign = bob.get(&format!("/recordings/{first}{tail}")).await;
        foreign.refused(404, "not_found");
        let missing = bob.get(&format!("/recordings/{}{tail}", uuid::Uuid::now_v7())).await;
        assert_eq!(foreign.body, missing.body, "{tail}");
    }
    for (query, fault) in [("", "q"), ("q=", "q"), ("q=x&limit=51", "limit"), ("q=x&from=yesterday", "from")]
    {
        assert_eq!(alice.get(&format!("/recordings/search?{query}")).await.faults(), [fault], "{query}");
    }
    let audit = bastion.root().get("/audit?action=recording.search&limit=200").await.expect(200);
    let rows = audit["items"].as_array().unwrap();
    assert!(
        rows.iter().any(|row| row.to_string().contains(&otto.id)) && !audit.to_string().contains("needle")
    );
}

#[tokio::test]
async fn a_search_counts_what_it_cannot_read_and_goes_on() {
    let (bastion, alice, _) = world(Shell::Login).await;
    let whole = session(&alice, "echo needle").await;
    let broken = session(&alice, "echo needle").await;
    alice.get(&format!("/recordings/{broken}/transcript")).await;
    for end in ["transcript.json.zst", "cast.zst"] {
        fs::remove_file(kept(&bastion, &broken, end)).unwrap();
    }
    let answer = alice.get("/recordings/search?q=needle").await.expect(200);
    assert_eq!((found(&answer), &answer["unreadable"]), (vec![whole.as_str()], &json!(1)), "{answer}");
    let problem =
        alice.get(&format!("/recordings/{broken}/transcript")).await.refused(502, "recording_damaged");
    assert!(problem["detail"].as_str().unwrap().contains("gone"), "{problem}");
}

#[tokio::test]
async fn what_is_looked_for_in_the_list_is_no_pattern() {
    let (bastion, alice, root) = world(Shell::Login).await;
    let percy = bastion.user("per_cy!", "user").await;
    bastion.host("web-2", Shell::Login, &[&percy]).await;
    session(&alice, "true").await;
    let mut terminal = percy.run("web-2", "true").await;
    terminal.ended().await;
    stored(&percy, &terminal.session).await;
    for (q, count) in [
        ("web-", 2),
        ("alice", 1),
        ("r_c", 1),
        ("per_cy!", 1),
        ("%", 0),
        ("_", 1),
        ("a_ice", 0),
        ("\\", 0),
        ("!", 1),
    ] {
        let list = root.get(&format!("/recordings?q={}", url_encoded(q))).await.expect(200);
        assert_eq!(list["items"].as_array().unwrap().len(), count, "{q}");
    }
}
