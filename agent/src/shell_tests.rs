//! Real shells on real terminals: what they get, what comes out, and that nothing of them is left.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use super::*;

fn request(command: &str) -> Request {
    Request {
        session_id: uuid::Uuid::new_v4().to_string(),
        run_as: None,
        command: Some(command.to_owned()),
        cols: 80,
        rows: 24,
    }
}

fn run(request: &Request) -> (Terminal, Process) {
    open(Shell::Login, &Allowed::default(), request).unwrap()
}

async fn read_all(terminal: &Terminal) -> String {
    let mut all = Vec::new();
    let mut room = vec![0; 32 * 1024];
    loop {
        let count = within(terminal.read(&mut room)).await.unwrap();
        if count == 0 {
            return String::from_utf8_lossy(&all).into_owned();
        }
        all.extend_from_slice(&room[..count]);
    }
}

async fn read_until(terminal: &Terminal, text: &str) -> String {
    let mut all = String::new();
    let mut room = [0; 1024];
    while !all.contains(text) {
        let count = within(terminal.read(&mut room)).await.unwrap();
        assert!(count > 0, "{text:?} is not in {all:?}");
        all.push_str(&String::from_utf8_lossy(&room[..count]));
    }
    all
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time")
}

#[tokio::test]
async fn the_environment_is_exactly_the_list() {
    let request = request("env -0 | tr '\\0' '\\n' | cut -d= -f1 | sort | tr '\\n' ' '");
    let (terminal, mut process) = run(&request);
    let names = read_all(&terminal).await;
    // What a shell sets for its own children is not ours to give.
    let given: Vec<&str> =
        names.split_whitespace().filter(|name| !["_", "PWD", "SHLVL", "OLDPWD"].contains(name)).collect();
    assert_eq!(given, ["CASTELLAN_SESSION_ID", "HOME", "LANG", "LOGNAME", "PATH", "SHELL", "TERM", "USER"]);
    assert_eq!(within(process.exit(&terminal)).await.unwrap().code, Some(0));
}

#[tokio::test]
async fn no_descriptor_beyond_the_three_is_inherited() {
    let (terminal, _process) = run(&request("ls /proc/$$/fd; true"));
    let open: Vec<u32> = read_all(&terminal).await.split_whitespace().map(|fd| fd.parse().unwrap()).collect();
    // A shell keeps descriptors of its own from 10 on.
    assert_eq!(open.into_iter().filter(|fd| *fd < 10).collect::<Vec<_>>(), [0, 1, 2]);
}

#[tokio::test]
async fn all_output_of_a_command_that_ends_at_once_is_read() {
    let (terminal, mut process) = run(&request("seq 1 20000"));
    assert_eq!(within(process.exit(&terminal).or_output(&terminal)).await, seq(20_000));
    assert_eq!(within(process.exit(&terminal)).await.unwrap().code, Some(0));
}

fn seq(last: u32) -> String {
    (1..=last).map(|number| format!("{number}\r\n")).collect()
}

/// Lets a test read while the process may end meanwhile.
trait OrOutput {
    async fn or_output(self, terminal: &Terminal) -> String;
}

impl<F: Future> OrOutput for F {
    async fn or_output(self, terminal: &Terminal) -> String {
        let (_, output) = tokio::join!(self, read_all(terminal));
        output
    }
}

#[tokio::test]
async fn an_exit_is_a_code_or_the_name_of_a_signal() {
    let (terminal, mut process) = run(&request("exit 7"));
    assert_eq!(within(process.exit(&terminal)).await.unwrap(), Exit { code: Some(7), signal: None });
    let (terminal, mut process) = run(&request("kill -TERM $$"));
    let exit = within(process.exit(&terminal)).await.unwrap();
    assert_eq!(exit, Exit { code: None, signal: Some("SIGTERM".to_owned()) });
}

#[tokio::test]
async fn nothing_of_a_session_is_left_however_it_hides() {
    let request = request(
        "trap '' HUP; nohup sleep 1000 >/dev/null 2>&1 & setsid sleep 1000 & (setsid sh -c 'trap \"\" HUP; sleep 1000 & \
         sleep 1000' &) ; sleep 0.3; echo ready; sleep 1000",
    );
    let (terminal, mut process) = run(&request);
    read_until(&terminal, "ready").await;
    let Process::Child { child, .. } = &process else { panic!("no child") };
    let leader = child.id();
    assert!(processes::members(leader, &request.session_id).len() >= 5);
    within(process.end(&terminal, Duration::from_millis(200))).await;
    assert_eq!(processes::members(leader, &request.session_id), Vec::<u32>::new());
}

#[tokio::test]
async fn a_terminal_has_its_size_and_changes_it() {
    let (terminal, _process) = run(&request("stty size; read line; stty size"));
    read_until(&terminal, "24 80").await;
    terminal.resize(132, 43).unwrap();
    terminal.write(b"\n").await.unwrap();
    read_until(&terminal, "43 132").await;
}

#[tokio::test]
async fn a_hidden_password_is_seen_to_be_hidden() {
    let (terminal, process) = run(&request("stty -echo; echo off; read line; stty echo; echo on; read line"));
    read_until(&terminal, "off").await;
    let wrote = terminal.write_watched(b"secret\nmore", process.id()).await.unwrap();
    assert_eq!(wrote, (11, Echoing::Hidden));
    let seen = read_until(&terminal, "on").await;
    assert!(!seen.contains("secret"));
    let wrote = terminal.write_watched(b"\n", process.id()).await.unwrap();
    assert_eq!(wrote, (1, Echoing::Shown));
}

/// Waits until the terminal is found so.
async fn until(terminal: &Terminal, process: &Process, wanted: Echoing) {
    let Terminal::Pty(pty) = terminal else { panic!("no terminal") };
    within(async {
        while pty.echoing(process.id()) != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// Whether a program is installed.
fn there_is(program: &str) -> bool {
    let found = std::process::Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    found.unwrap().status.success()
}

/// A shell without start files, with its prompt and its editor up.
async fn prompting(shell: &str) -> (Terminal, Process) {
    let (terminal, process) = run(&request(shell));
    until(&terminal, &process, Echoing::Edited).await;
    (terminal, process)
}

#[tokio::test]
async fn a_shells_own_prompt_shows_what_is_typed_and_its_hidden_reads_do_not() {
    for (shell, hidden) in [
        ("bash --norc -i", &["read -s x", "read -sn2 x", "stty -echo; read x; stty echo"][..]),
        ("zsh -f -i", &["read -s x", "read -k2 -s x"]),
    ] {
        if !there_is(shell.split(' ').next().unwrap()) {
            continue;
        }
        let (terminal, process) = prompting(&format!("exec {shell}")).await;
        for line in hidden {
            let typed = format!("{line}; stty sane; echo is-$((40+2))\rsecret");
            let wrote = terminal.write_watched(typed.as_bytes(), process.id()).await.unwrap();
            assert_eq!(wrote, (typed.len() - 6, Echoing::Edited), "a line, and not what comes after it");
            until(&terminal, &process, Echoing::Hidden).await;
            terminal.write(b"ab\n").await.unwrap();
            read_until(&terminal, "is-42").await;
            until(&terminal, &process, Echoing::Edited).await;
        }
    }
}

#[tokio::test]
async fn a_prompt_that_is_not_the_sessions_own_shell_is_hidden() {
    let (terminal, process) = prompting("exec bash --norc -i").await;
    // Another shell's prompt, and another program's line editor in the shell's place.
    for line in ["bash --norc -i", "exec python3 -c 'import readline; input(1); input(2)'"] {
        terminal.write(format!("{line}\r").as_bytes()).await.unwrap();
        until(&terminal, &process, Echoing::Hidden).await;
        terminal.write(b"exit\r").await.unwrap();
        if line.starts_with("bash") {
            until(&terminal, &process, Echoing::Edited).await;
        }
    }
}

#[tokio::test]
async fn a_login_shell_knows_that_it_is_one() {
    let request = Request { command: None, ..request("") };
    let (terminal, mut process) = run(&request);
    terminal.write(b"echo \"<$0>\"; exit 3\n").await.unwrap();
    let seen = read_until(&terminal, "<-").await;
    assert!(seen.contains("<-"), "{seen}");
    let (exit, _) = tokio::join!(within(process.exit(&terminal)), read_all(&terminal));
    assert_eq!(exit.unwrap().code, Some(3));
}

#[test]
fn an_account_that_is_not_allowed_gets_no_shell() {
    let as_user = |name: &str| Request { run_as: Some(name.to_owned()), ..request("true") };
    let own = platform::own_account();
    assert!(command(&Allowed::default(), &as_user(&own.name)).is_ok(), "its own is always allowed");
    let unknown = command(&Allowed::default(), &as_user("no-such-account"));
    assert!(matches!(unknown, Err(ShellError::NoAccount(_))));
    let other = if own.uid == 0 { "daemon" } else { "root" };
    let refused = command(&Allowed::default(), &as_user(other));
    assert!(matches!(refused, Err(ShellError::NotAllowed(_))));
    if own.uid == 0 {
        let allowed = Allowed { run_as: vec![other.to_owned()], root: false };
        assert!(command(&allowed, &as_user(other)).is_ok());
    } else {
        let allowed = Allowed { run_as: vec![other.to_owned()], root: false };
        assert!(command(&allowed, &as_user(other)).is_err(), "root needs a word of its own");
    }
}

#[tokio::test]
async fn the_test_double_echoes_and_ends_at_ctrl_d() {
    let (terminal, mut process) = open(Shell::Echo, &Allowed::default(), &request("")).unwrap();
    terminal.write(b"hello\x04").await.unwrap();
    assert_eq!(read_all(&terminal).await, "hello");
    assert_eq!(within(process.exit(&terminal)).await.unwrap().code, Some(0));
}

#[tokio::test]
async fn a_refusal_is_read_where_the_prompt_would_be() {
    let (terminal, mut process) = refusal("no");
    assert_eq!(read_all(&terminal).await, "castellan-agent: no\r\n");
    assert_eq!(within(process.exit(&terminal)).await.unwrap().code, Some(CANNOT_RUN));
}
