//! A bastion of its own process: killed, stopped and started again, it loses no session and no recording.

use std::{path::Path, process::Stdio, time::Duration};

use agent::Shell;
use serde_json::json;
use tokio::process::{Child, Command};

use crate::{
    harness::{Actor, Bastion, PASSWORD, within},
    recordings::{output_of, stored, stored_cast},
    terminals::Terminal,
};

/// `castellan`, as it is installed.
pub fn castellan() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_castellan"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

/// Writes the settings of `bastion` as a file.
pub fn settings(bastion: &Bastion) -> std::path::PathBuf {
    let config = bastion.config();
    let text = format!(
        "[server]\nlisten = \"{}\"\npublic_url = \"{}\"\n[database]\nurl = \"{}\"\n[store]\nurl = \"{}\"\n\
         [spool]\ndir = {:?}\nmin_free = \"1MiB\"\n[keys]\nfile = {:?}\n",
        config.server.listen,
        config.public_origin(),
        config.database.url.expose(),
        config.store.url,
        config.spool.dir,
        config.keys.file,
    );
    let file = bastion.home().join("castellan.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// Starts it and waits until it can work.
async fn serve(bastion: &Bastion, settings: &Path) -> Child {
    let child = castellan().arg("serve").arg("--config").arg(settings).spawn().unwrap();
    bastion.until_ready().await;
    child
}

pub async fn signal(child: &Child, name: &str) {
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args([name, &id]).status().await.unwrap().success());
}

/// A bastion in a process of its own, with alice's terminal on it.
async fn with_a_terminal() -> (Bastion, std::path::PathBuf, Child, Actor, Terminal) {
    let bastion = Bastion::of_a_process().await;
    let file = settings(&bastion);
    let process = serve(&bastion, &file).await;
    bastion.first_admin().await;
    let alice = bastion.user("alice", "user").await;
    bastion.host("web-1", Shell::Login, &[&alice]).await;
    let mut terminal = alice.open("web-1").await;
    terminal.type_in("echo seen-$((40+2))\n").await;
    terminal.until("seen-42").await;
    (bastion, file, process, alice, terminal)
}

/// The shell is the same one, nothing it printed meanwhile is missing, and its recording is whole.
async fn goes_on(alice: &Actor, terminal: Terminal) {
    let mut terminal = terminal.come_back(alice).await;
    terminal.until("later-42").await;
    terminal.type_in("echo again-$((40+2)); exit 7\n").await;
    terminal.until("again-42").await;
    let ended = terminal.ended().await;
    assert_eq!((ended.closed.code, ended.exit), (1000, Some((Some(7), None))));
    let cast = stored_cast(alice, &terminal.session).await;
    assert_eq!(output_of(&cast), terminal.shown());
    assert!(cast.contains("the host is back"), "the recording says what happened: {cast}");
}

#[tokio::test]
async fn a_session_outlives_a_bastion_that_is_killed() {
    let (bastion, file, mut process, alice, mut terminal) = with_a_terminal().await;
    terminal.type_in("sleep 1; echo later-$((40+2))\n").await;
    terminal.until("sleep 1").await;
    process.start_kill().unwrap();
    within("it is dead", process.wait()).await.unwrap();
    while terminal.step().await.is_ok() {}
    let mut process = serve(&bastion, &file).await;
    goes_on(&alice, terminal).await;
    signal(&process, "-TERM").await;
    assert_eq!(within("it stops", process.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_session_outlives_a_bastion_that_stops_in_order_and_exits_with_0() {
    let (bastion, file, mut process, alice, mut terminal) = with_a_terminal().await;
    terminal.type_in("sleep 1; echo later-$((40+2))\n").await;
    terminal.until("sleep 1").await;
    signal(&process, "-TERM").await;
    assert_eq!(terminal.ended().await.closed.code, 1012, "the browser may come back");
    let stopped = tokio::time::timeout(Duration::from_secs(25), process.wait()).await.unwrap().unwrap();
    assert_eq!(stopped.code(), Some(0));
    let mut process = serve(&bastion, &file).await;
    goes_on(&alice, terminal).await;
    signal(&process, "-INT").await;
    assert_eq!(within("it stops", process.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn what_a_power_cut_took_from_the_journal_is_declared_lost_and_the_session_goes_on() {
    let (bastion, file, mut process, alice, mut terminal) = with_a_terminal().await;
    // All is acknowledged, and the agent has heard so: it forgets what the journal is about to lose.
    terminal.type_in("sleep 2; echo later-$((40+2))\n").await;
    terminal.until("\x1b[?2004l\r").await;
    while !terminal.shown().ends_with("2004l\r") {
        terminal.step().await.unwrap();
    }
    terminal.acknowledge().await;
    terminal.resize(90, 30).await;
    while terminal.sizes.is_empty() {
        terminal.step().await.unwrap();
    }
    process.start_kill().unwrap();
    within("it is dead", process.wait()).await.unwrap();
    while terminal.step().await.is_ok() {}
    let journal = bastion.config().spool.dir.join(format!("{}.journal", terminal.session));
    // The record of the size, and a part of the output's before it.
    let length = std::fs::metadata(&journal).unwrap().len();
    std::fs::OpenOptions::new().write(true).open(&journal).unwrap().set_len(length - 40).unwrap();

    let mut process = serve(&bastion, &file).await;
    let mut terminal = terminal.come_back(&alice).await;
    terminal.type_in("exit 0\n").await;
    assert_eq!(terminal.ended().await.closed.code, 1000);
    assert!(terminal.screen.is_some(), "it has more than is recorded, so it gets a screen");
    stored(&alice, &terminal.session).await;
    let cast = stored_cast(&alice, &terminal.session).await;
    assert!(cast.contains("bytes of output lost"), "{cast}");
    signal(&process, "-TERM").await;
    assert_eq!(within("it stops", process.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_session_whose_agent_does_not_come_back_after_a_crash_is_sealed_as_it_stood() {
    let bastion = Bastion::of_a_process().await;
    let file = settings(&bastion);
    let text = std::fs::read_to_string(&file).unwrap() + "[sessions]\nresume_grace = \"1s\"\n";
    std::fs::write(&file, text).unwrap();
    let mut process = serve(&bastion, &file).await;
    bastion.first_admin().await;
    let alice = bastion.user("alice", "user").await;
    let host = bastion.host("web-1", Shell::Login, &[&alice]).await;
    let mut terminal = alice.open("web-1").await;
    terminal.type_in("echo seen-$((40+2))\n").await;
    terminal.until("seen-42").await;
    let shown = terminal.shown();
    process.start_kill().unwrap();
    within("it is dead", process.wait()).await.unwrap();
    host.stop().await.unwrap();
    let mut process = serve(&bastion, &file).await;
    let session = alice.ended_session(&terminal.session).await;
    assert_eq!((&session["status"], &session["end_reason"]), (&json!("error"), &json!("host_gone")));
    assert!(stored(&alice, &terminal.session).await["seal"].is_string());
    let cast = output_of(&stored_cast(&alice, &terminal.session).await);
    assert!(cast.starts_with(&shown), "{cast:?} does not begin with {shown:?}");
    signal(&process, "-TERM").await;
    assert_eq!(within("it stops", process.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn the_command_line_adds_users_before_the_first_start_and_refuses_a_taken_name() {
    let bastion = Bastion::of_a_process().await;
    let file = settings(&bastion);
    let add = async |name: &str, password: &str| {
        let mut child = castellan()
            .args(["user", "add", name, "--role", "admin", "--password-stdin", "--config"])
            .arg(&file)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut input, format!("{password}\n").as_bytes()).await.unwrap();
        drop(input);
        let output = within("the command ends", child.wait_with_output()).await.unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(add("carol", PASSWORD).await.0, Some(0));
    let (code, said) = add("carol", PASSWORD).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("carol already"), "{said}");
    assert_eq!(add("dave", "short").await.0, Some(1));
    let mut process = serve(&bastion, &file).await;
    bastion.login("carol", PASSWORD).await.unwrap();
    signal(&process, "-TERM").await;
    assert_eq!(within("it stops", process.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_faulty_configuration_is_refused_with_its_key_and_line() {
    let home = tempfile::TempDir::new().unwrap();
    let file = home.path().join("castellan.toml");
    std::fs::write(&file, "[server]\nlisten = \"127.0.0.1:0\"\n[spol]\ndir = \"x\"\n").unwrap();
    let output =
        castellan().arg("serve").arg("--config").arg(&file).stderr(Stdio::piped()).output().await.unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(":3: spol") && said.contains("spool"), "{said}");
}

#[tokio::test]
async fn the_published_spec_is_printed_without_a_database() {
    let output = castellan().arg("openapi").stdout(Stdio::piped()).output().await.unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), bastion::spec());
}
