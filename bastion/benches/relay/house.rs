//! Who is measured: a bastion with its agent, and the floor with its own; each process apart.

use std::{net::SocketAddr, path::PathBuf, process::Command, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::{
    client::Line,
    harness::{Actor, Bastion, eventually},
    process::{Process, bytes_below},
};

/// The most that the policy lets be open.
const MOST_SESSIONS: u32 = 10_000;

/// How the bastion records.
#[derive(Clone, Copy)]
pub struct Settings {
    /// `recordings.durability`.
    pub durability: &'static str,
    /// `recordings.compression`.
    pub compression: &'static str,
}

impl Default for Settings {
    fn default() -> Self {
        Self { durability: "written", compression: "zstd" }
    }
}

/// Two processes and a way to open terminals through them.
pub trait Place {
    /// Opens a terminal that runs a command.
    async fn run(&self, command: &str) -> Line {
        self.run_by(self.address(), command).await
    }

    /// The same through a proxy at `address`.
    async fn run_by(&self, address: SocketAddr, command: &str) -> Line;

    /// Where its server listens.
    fn address(&self) -> SocketAddr;

    /// The one in the middle.
    fn server(&self) -> &Process;

    /// The one with the terminals.
    fn agent(&self) -> &Process;
}

/// A bastion, its agent, and somebody who may use it.
pub struct House {
    server: Process,
    agent: Process,
    asset: String,
    alice: Actor,
    bastion: Bastion,
}

impl House {
    /// Starts both and enrols the agent.
    pub async fn start(settings: Settings) -> Self {
        let bastion = Bastion::of_a_process().await;
        let file = write_settings(&bastion, settings);
        let castellan = PathBuf::from(env!("CARGO_BIN_EXE_castellan"));
        let server = Process::start(Command::new(&castellan).arg("serve").arg("--config").arg(file));
        bastion.until_ready().await;
        let root = bastion.first_admin().await;
        let alice = bastion.user("alice", "user").await;
        let state = bastion.home().join("agent");
        let mut command = Command::new(castellan.with_file_name("castellan-agent"));
        command.args(["run", "--hostname", "web-1", "--server", &bastion.url(), "--state-dir"]).arg(state);
        let agent = Process::start(command.env("RUST_LOG", "error"));
        let asset = enrolled(&root, &alice).await;
        make_room(&root).await;
        Self { server, agent, asset, alice, bastion }
    }

    /// Where its pages are.
    pub fn url(&self) -> String {
        self.bastion.url()
    }

    /// The session that was opened last.
    pub async fn newest_session(&self) -> String {
        let list = self.alice.get("/sessions?state=live&limit=1").await.expect(200);
        list["items"][0]["id"].as_str().unwrap().to_owned()
    }

    /// Back to a session, hello not yet said.
    pub async fn back(&self, session: &str) -> Line {
        let answer = self.alice.get(&format!("/sessions/{session}/reattach")).await.expect(200);
        Line::silent(self.address(), &self.alice, answer["token"].as_str().unwrap()).await
    }

    /// Ends a session.
    pub async fn end(&self, session: &str) {
        self.alice.delete(&format!("/sessions/{session}")).await.expect(204);
    }

    /// Waits until every finished recording is in the store.
    pub async fn all_stored(&self) {
        let spool = &self.bastion.config().spool.dir;
        eventually("the spool is empty", async || (bytes_below(spool) == 0).then_some(())).await;
    }
}

async fn enrolled(root: &Actor, alice: &Actor) -> String {
    let application = eventually("the agent applies", async || {
        let list = root.get("/registrations?status=pending").await.expect(200);
        list["items"].get(0).cloned()
    })
    .await;
    let approval = json!({
        "id": application["id"],
        "fingerprint": application["fingerprint"],
        "allowed_users": [alice.id],
    });
    root.post("/approve", approval).await.expect(200);
    let asset = application["client_id"].as_str().unwrap().to_owned();
    eventually("the agent is online", async || {
        let answer = root.get(&format!("/assets/{asset}")).await;
        (answer.status == 200 && answer.json()["status"] == "online").then_some(())
    })
    .await;
    asset
}

/// As many sessions at once as a section wants; they are counted all the same.
async fn make_room(root: &Actor) {
    let mut document = root.get("/policies/active").await.expect(200)["document"].clone();
    for guard in document["guardrails"].as_array_mut().unwrap() {
        if guard["kind"] == "concurrency" {
            guard["config"] = json!({"per_user": MOST_SESSIONS, "per_asset": MOST_SESSIONS});
        }
    }
    let made = root.post("/policies", json!({"document": document, "comment": "room"})).await.expect(201);
    root.post(&format!("/policies/{}/activate", made["version"]), Value::Null).await.expect(200);
}

fn write_settings(bastion: &Bastion, settings: Settings) -> PathBuf {
    let config = bastion.config();
    let text = format!(
        "[server]\nlisten = \"{}\"\npublic_url = \"{}\"\n[database]\nurl = \"{}\"\n[store]\nurl = \"{}\"\n\
         [spool]\ndir = {:?}\nmin_free = \"1MiB\"\n[keys]\nfile = {:?}\n[log]\nlevel = \"error\"\n\
         [recordings]\ndurability = \"{}\"\ncompression = \"{}\"\n\
         [rate_limits]\nanonymous_per_minute = 0\nlogins_per_minute = 0\nregistrations_per_minute = 0\n\
         tickets_per_minute = 0\ndenials_per_10_minutes = 0\n",
        config.server.listen,
        config.public_origin(),
        config.database.url.expose(),
        config.store.url,
        config.spool.dir,
        config.keys.file,
        settings.durability,
        settings.compression,
    );
    let file = bastion.home().join("castellan.toml");
    std::fs::write(&file, text).unwrap();
    file
}

impl Place for House {
    async fn run_by(&self, address: SocketAddr, command: &str) -> Line {
        let query = format!("command={}", url_encoded(command));
        let answer = self.alice.authorize_with(&self.asset, &query).await.expect(200);
        Line::framed(address, &self.alice, answer["token"].as_str().unwrap()).await
    }

    fn address(&self) -> SocketAddr {
        self.bastion.address()
    }

    fn server(&self) -> &Process {
        &self.server
    }

    fn agent(&self) -> &Process {
        &self.agent
    }
}

fn url_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// A bare relay and its agent.
pub struct Floor {
    server: Process,
    agent: Process,
    address: SocketAddr,
    _casts: TempDir,
}

impl Floor {
    /// Starts both.
    pub fn start(recording: bool) -> Self {
        let casts = TempDir::new().unwrap();
        let words = ["floor-relay", casts.path().to_str().unwrap()];
        let mut server = Process::again(if recording { &words } else { &words[..1] });
        let address = server.first_line();
        let agent = Process::again(&["floor-agent", &address]);
        Self { server, agent, address: address.parse().unwrap(), _casts: casts }
    }
}

impl Place for Floor {
    async fn run_by(&self, address: SocketAddr, command: &str) -> Line {
        Line::raw(address, command).await
    }

    fn address(&self) -> SocketAddr {
        self.address
    }

    fn server(&self) -> &Process {
        &self.server
    }

    fn agent(&self) -> &Process {
        &self.agent
    }
}

/// Waits until a process has been idle for a moment: the last session's end still costs it something.
pub async fn settled(process: &Process) {
    let (mut last, began) = (process.cpu(), Instant::now());
    while began.elapsed() < Duration::from_secs(10) {
        sleep(Duration::from_millis(200)).await;
        let now = process.cpu();
        if now - last < 0.005 {
            return;
        }
        last = now;
    }
}
