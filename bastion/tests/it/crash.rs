//! A bastion of its own process: killed, stopped and started again, it loses no session and no recording.

use std::{path::Path, process::Stdio, time::Duration};

use agent::Shell;
use serde_json::json;
use tokio::process::{Child, Command};

use crate::{
    harness::{Bastion, PASSWORD, within},
    recordings::{output_of, stored, stored_cast},
};

/// `castellan`, as it is installed.
fn castellan() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_castellan"));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    command
}

/// Writes the settings of `bastion` as a file.
fn settings(bastion: &Bastion) -> std::path::PathBuf {
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

async fn signal(child: &Child, name: &str) {
    let id = child.id().unwrap().to_string();
    assert!(Command::new("kill").args([name, &id]).status().await.unwrap().success());
}

#[tokio::test]
async fn a_bastion_killed_in_a_live_session_seals_and_stores_it_when_it_is_back() {
    let bastion = Bastion::of_a_process().await;
    let file = settings(&bastion);
    let mut process = serve(&bastion, &file).await;
    let root = bastion.first_admin().await;
    let alice = bastion.user("alice", "user").await;
    let host = bastion.host("web-1", Shell::Login, &[&alice]).await;
    let mut terminal = alice.open("web-1").await;
    terminal.type_in("echo seen-$((40+2))\n").await;
    terminal.until("seen-42").await;
    let shown = terminal.shown();
    process.start_kill().unwrap();
    within("it is dead", process.wait()).await.unwrap();
    assert_eq!(terminal.ended().await.closed.code, 1006);

    let mut process = serve(&bastion, &file).await;
    let session = root.session(&terminal.session).await;
    assert_eq!((&session["status"], &session["end_reason"]), (&json!("error"), &json!("error")));
    assert!(session["ended_at"].is_string());
    // The login is good still, and the recording holds at least what was shown.
    let recording = stored(&alice, &terminal.session).await;
    assert!(recording["seal"].is_string());
    let cast = output_of(&stored_cast(&alice, &terminal.session).await);
    assert!(cast.starts_with(&shown), "{cast:?} does not begin with {shown:?}");
    host.until(&root, "online").await;
    let mut again = alice.open("web-1").await;
    again.type_in("exit\n").await;
    assert_eq!(again.ended().await.closed.code, 1000);

    signal(&process, "-TERM").await;
    assert_eq!(within("it stops", process.wait()).await.unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_stop_in_order_ends_live_sessions_and_exits_with_0() {
    let bastion = Bastion::of_a_process().await;
    let file = settings(&bastion);
    let mut process = serve(&bastion, &file).await;
    let root = bastion.first_admin().await;
    let alice = bastion.user("alice", "user").await;
    bastion.host("web-1", Shell::Login, &[&alice]).await;
    let mut terminal = alice.open("web-1").await;
    terminal.type_in("echo seen-$((40+2))\n").await;
    terminal.until("seen-42").await;
    signal(&process, "-TERM").await;
    let closed = terminal.ended().await.closed;
    assert_ne!(closed.code, 1006, "the browser is told: {closed:?}");
    let stopped = tokio::time::timeout(Duration::from_secs(25), process.wait()).await.unwrap().unwrap();
    assert_eq!(stopped.code(), Some(0));

    let mut process = serve(&bastion, &file).await;
    let list = root.get("/sessions").await.expect(200);
    assert_eq!(list["items"][0]["id"], terminal.session);
    assert!(list["items"][0]["ended_at"].is_string());
    assert!(output_of(&stored_cast(&alice, &terminal.session).await).contains("seen-42"));
    signal(&process, "-INT").await;
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
