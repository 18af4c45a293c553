//! Recorded input: what is typed at a prompt is in the recording, what nobody is shown is in no byte on disk.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use agent::Shell;
use serde_json::{Value, json};

use crate::{
    crash::{castellan, settings, signal},
    harness::{Actor, Bastion, PATIENCE, within, world},
    recordings::{lines_of, stored, stored_cast},
    terminals::{Plain, Terminal, dial_framed},
};

/// Has every new session's input recorded, or not.
async fn record_input(root: &Actor, record: bool) {
    let mut document = root.get("/policies/active").await.expect(200)["document"].clone();
    document["policies"][0]["obligations"]["record_input"] = json!(record);
    let made = root.post("/policies", json!({"document": document, "comment": "input"})).await.expect(201);
    root.post(&format!("/policies/{}/activate", made["version"]), Value::Null).await.expect(200);
}

/// A secret like no other text.
fn secret() -> String {
    format!("canary{}", uuid::Uuid::new_v4().simple())
}

/// What was typed, as the recording has it.
fn typed_of(cast: &str) -> String {
    let (_, events) = lines_of(cast);
    events.into_iter().filter(|(_, kind, _)| kind == "i").map(|(_, _, text)| text).collect()
}

fn files_below(folder: &Path, all: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files_below(&path, all) } else { all.push(path) }
    }
}

/// Which of a bastion's files hold a text, as they lie or decompressed. What is being moved meanwhile is looked at
/// where it was or where it will be.
fn holding(bastion: &Bastion, text: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    files_below(bastion.home(), &mut files);
    assert!(files.len() > 3, "{files:?}");
    let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|window| window == text.as_bytes());
    files.retain(|path| {
        let Ok(bytes) = fs::read(path) else { return false };
        holds(&bytes) || zstd::decode_all(&bytes[..]).is_ok_and(|plain| holds(&plain))
    });
    files
}

/// `castellan serve` with its log in the bastion's folder.
async fn serve(bastion: &Bastion, file: &Path) -> tokio::process::Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(bastion.home().join("log")).unwrap();
    let mut command = castellan();
    command.env("RUST_LOG", "debug").stdout(log.try_clone().unwrap()).stderr(log);
    let child = command.arg("serve").arg("--config").arg(file).spawn().unwrap();
    bastion.until_ready().await;
    child
}

/// A program that asks for a secret, what it shows then, and whether it asks again if that was wrong.
struct Asks {
    command: String,
    prompt: &'static str,
    again: bool,
}

fn there_is(program: &str) -> bool {
    let look = format!("command -v {program}");
    Command::new("sh").args(["-c", &look]).stdout(Stdio::null()).status().unwrap().success()
}

/// What this machine has of programs that ask. Each has switched echo off when its prompt is seen.
fn programs() -> Vec<Asks> {
    let mut all = vec![
        ("stty -echo; echo say-$((40+2)); read x; stty echo".to_owned(), "say-42", false),
        ("sh -c 'stty -echo; echo tell-$((40+2)); read x; stty echo'".to_owned(), "tell-42", false),
        ("stty raw -echo; echo raw-$((40+2)); head -c 39 | wc -c; stty sane".to_owned(), "raw-42", false),
    ];
    if there_is("python3") {
        let ask = r#"python3 -c "import getpass; getpass.getpass('pass-%d ' % 42)""#;
        all.push((ask.to_owned(), "pass-42", false));
    }
    let root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    if root && there_is("runuser") {
        if there_is("sudo") {
            all.push(("runuser -u nobody -- sudo -k id".to_owned(), "password for nobody", true));
        }
        all.push(("runuser -u nobody -- su".to_owned(), "assword:", false));
    }
    let said = |command: String| format!("{command}; echo did-$((40+2))");
    all.into_iter().map(|(command, prompt, again)| Asks { command: said(command), prompt, again }).collect()
}

/// Types a line and waits for what it makes.
async fn line(terminal: &mut Terminal, line: &str, makes: &str) {
    terminal.output.clear();
    terminal.type_in(&format!("{line}\r")).await;
    terminal.until(makes).await;
}

/// At the shell's own prompt, by what it shows of a line.
async fn prompted(terminal: &mut Terminal) {
    line(terminal, "echo next-$((40+2))", "next-42\r\n").await;
}

#[tokio::test]
async fn a_secret_that_nobody_is_shown_is_in_no_byte_on_disk_whatever_is_killed() {
    let bastion = Bastion::of_a_process().await;
    let file = settings(&bastion);
    let mut process = serve(&bastion, &file).await;
    let root = bastion.first_admin().await;
    record_input(&root, true).await;
    let alice = bastion.user("alice", "user").await;
    bastion.host("web-1", Shell::Login, &[&alice]).await;
    let mut terminal = alice.open("web-1").await;
    let secret = secret();
    let asks = programs();
    for Asks { command, prompt, again } in &asks {
        prompted(&mut terminal).await;
        line(&mut terminal, command, prompt).await;
        if *again {
            line(&mut terminal, &secret, prompt).await;
            terminal.type_in("\u{4}").await;
        } else {
            terminal.type_in(&format!("{secret}\r")).await;
        }
        terminal.until("did-42").await;
    }
    prompted(&mut terminal).await;
    // The secret is typed to a host whose bastion was killed while it asked.
    line(&mut terminal, &asks[0].command, "say-42").await;
    process.start_kill().unwrap();
    within("it is dead", process.wait()).await.unwrap();
    while terminal.step().await.is_ok() {}
    let mut process = serve(&bastion, &file).await;
    let mut terminal = terminal.come_back(&alice).await;
    for key in secret.chars() {
        terminal.type_in(&key.to_string()).await;
    }
    terminal.type_in("\r").await;
    terminal.until("did-42").await;
    prompted(&mut terminal).await;
    assert_eq!(holding(&bastion, &secret), Vec::<PathBuf>::new(), "while the session lives");
    assert!(!holding(&bastion, "next-$((40+2))").is_empty(), "the search finds what is there");

    terminal.type_in("exit 3\r").await;
    assert_eq!(terminal.ended().await.exit, Some((Some(3), None)));
    let cast = stored_cast(&alice, &terminal.session).await;
    assert_eq!(holding(&bastion, &secret), Vec::<PathBuf>::new(), "once it is over");
    let typed = typed_of(&cast);
    assert!(!typed.contains(&secret), "{typed}");
    for Asks { command, .. } in &asks {
        assert!(typed.contains(&format!("echo next-$((40+2))\r{command}\r•")), "{command}: {typed}");
    }
    assert!(
        typed.ends_with(&format!("{}echo next-$((40+2))\rexit 3\r", "•".repeat(secret.len() + 1))),
        "{typed}"
    );
    signal(&process, "-TERM").await;
    assert_eq!(within("it stops", process.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_relay_that_is_cut_while_a_secret_is_typed_loses_no_key_and_tells_none() {
    let (bastion, chaos) = Bastion::start_behind_chaos().await;
    let alice = bastion.user("alice", "user").await;
    bastion.host("web-1", Shell::Login, &[&alice]).await;
    record_input(&bastion.root(), true).await;
    let mut terminal = alice.open("web-1").await;
    let (secret, mut expected) = (secret(), String::new());
    let (first, asks) =
        ("echo next-$((40+2))", "stty -echo; echo say-$((40+2)); read x; stty echo; echo done-$((40+2))");
    for round in 0..6 {
        prompted(&mut terminal).await;
        line(&mut terminal, asks, "say-42").await;
        if round % 2 == 0 {
            chaos.cut();
        }
        terminal.type_in(&format!("{secret}\r")).await;
        if round % 3 == 0 {
            chaos.cut();
        }
        terminal.until("done-42").await;
        expected.push_str(&format!("{first}\r{asks}\r•"));
    }
    terminal.type_in("exit\r").await;
    terminal.ended().await;
    let cast = stored_cast(&alice, &terminal.session).await;
    assert_eq!(typed_of(&cast), expected + "exit\r");
    assert_eq!(holding(&bastion, &secret), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn who_is_recorded_is_told_so_and_the_seal_says_it() {
    let (bastion, alice, root) = world(Shell::Login).await;
    let silent = alice.open("web-1").await;
    assert_eq!(alice.authorize("web-1").await.expect(200)["session"]["records_input"], false);
    record_input(&root, true).await;
    let told = alice.authorize("web-1").await.expect(200);
    assert_eq!(told["session"]["records_input"], true);

    // What began without a record of its input cannot honour the word now, and is only to be looked at.
    let back = |mode: &str| format!("/sessions/{}/reattach?mode={mode}", silent.session);
    alice.get(&back("control")).await.refused(403, "obligation_unsupported");
    assert_eq!(alice.get(&back("watch")).await.expect(200)["session"]["records_input"], false);

    let socket = dial_framed(&alice, told["token"].as_str().unwrap()).await.unwrap();
    let terminal = Terminal::greet(socket).await.unwrap();
    record_input(&root, false).await;
    let path = format!("/sessions/{}/reattach", terminal.session);
    assert_eq!(
        alice.get(&path).await.expect(200)["session"]["records_input"],
        true,
        "it goes on being recorded"
    );
    let mut terminal = terminal.come_back(&alice).await;
    terminal.type_in("exit\r").await;
    terminal.ended().await;
    let seal = stored(&alice, &terminal.session).await["seal"].as_str().unwrap().to_owned();
    assert_eq!(claims(&seal)["input"], true);

    record_input(&root, true).await;
    let ticket = alice.authorize_with("web-1", "plain=1&command=cat").await.expect(200);
    let mut plain = Plain::open(&bastion, ticket["token"].as_str().unwrap(), "").await.unwrap();
    plain.type_in("plainly\r").await;
    plain.until("plainly\r\nplainly").await;
    plain.type_in("\u{4}").await;
    plain.ended().await;
    assert_eq!(typed_of(&stored_cast(&alice, &plain.session).await), "plainly\r\u{4}");
    drop(silent);
    tokio::time::timeout(PATIENCE, bastion.stop()).await.unwrap();
}

/// What a token claims, unverified.
fn claims(token: &str) -> Value {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}
