//! A bastion of one's own on a free port, its people and its hosts; all gone when dropped.

use std::{
    collections::HashMap,
    fs,
    future::Future,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::Path,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use agent::{Shell, identity::Identity};
use bastion::{
    config::{Config, PublicUrl, RateLimits},
    operator::Operator,
};
use bytes::Bytes;
use openapi::keys::RsaPrivate;
use reqwest::{Method, header::HeaderMap};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::chaos::Chaos;

/// Everybody's.
pub const PASSWORD: &str = "correct horse battery";
/// What must happen happens within this, even on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a condition that nobody announces.
const LOOK: Duration = Duration::from_millis(10);

/// Waits for something that must happen.
pub async fn within<T>(what: &str, happens: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, happens).await {
        Ok(it) => it,
        Err(_) => panic!("not within {PATIENCE:?}: {what}"),
    }
}

/// Waits until `look` sees what it looks for.
pub async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    within(what, async {
        loop {
            if let Some(it) = look().await {
                return it;
            }
            tokio::time::sleep(LOOK).await;
        }
    })
    .await
}

/// Unix seconds.
#[allow(clippy::disallowed_methods, reason = "tests sign requests at the real time")]
pub fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_secs()).unwrap()
}

/// The workspace's folder.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// An agent's RSA key.
pub struct Key {
    /// For signing.
    pub private: RsaPrivate,
    private_pem: String,
    /// SPKI.
    pub public_pem: String,
    /// As an admin compares it.
    pub fingerprint: String,
}

/// One of two keys; making them takes long, so all tests share them.
pub fn rsa_key(which: usize) -> &'static Key {
    static KEYS: [OnceLock<Key>; 2] = [OnceLock::new(), OnceLock::new()];
    KEYS[which].get_or_init(|| {
        let home = TempDir::new().unwrap();
        let folder = home.path().join("state");
        let identity = Identity::load_or_create(&folder).unwrap();
        Key {
            private: identity.key().clone(),
            private_pem: fs::read_to_string(folder.join("agent_rsa")).unwrap(),
            public_pem: identity.public_pem().to_owned(),
            fingerprint: identity.fingerprint().to_owned(),
        }
    })
}

/// A running bastion.
#[derive(Clone)]
pub struct Bastion(Arc<House>);

struct House {
    config: Config,
    operator: Operator,
    http: reqwest::Client,
    hosts: Mutex<HashMap<String, String>>,
    root: OnceLock<Actor>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    home: TempDir,
}

impl Drop for House {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

impl Bastion {
    /// With no rate limits, so that tests meet only those they are about.
    pub async fn start() -> Self {
        Self::start_with(|_| {}).await
    }

    /// With settings of one's own.
    pub async fn start_with(change: impl FnOnce(&mut Config)) -> Self {
        let (bastion, listener) = Self::prepare(change).await;
        let serve = bastion::serve(bastion.config().clone(), listener, bastion.0.shutdown.clone());
        bastion.0.tasks.spawn(async move { serve.await.unwrap() });
        bastion.first_admin().await;
        bastion
    }

    /// With a bad network between it and its agents; people reach it directly.
    pub async fn start_behind_chaos() -> (Self, Chaos) {
        let mut chaos = None;
        let bastion = Self::start_with(|config| {
            let between = Chaos::before(config.server.listen);
            config.server.public_url = PublicUrl::plain(between.address());
            chaos = Some(between);
        })
        .await;
        (bastion, chaos.unwrap())
    }

    /// Only the place of one: the test starts the process itself, on the port that is set.
    pub async fn of_a_process() -> Self {
        Self::prepare(|_| {}).await.0
    }

    /// The same, with a bad network between it and its agents.
    pub async fn of_a_process_behind_chaos() -> (Self, Chaos) {
        let mut chaos = None;
        let (bastion, _) = Self::prepare(|config| {
            let between = Chaos::before(config.server.listen);
            config.server.public_url = PublicUrl::plain(between.address());
            chaos = Some(between);
        })
        .await;
        (bastion, chaos.unwrap())
    }

    async fn prepare(change: impl FnOnce(&mut Config)) -> (Self, TcpListener) {
        let home = TempDir::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut config = Config::for_dev(home.path(), listener.local_addr().unwrap());
        config.rate_limits = RateLimits {
            anonymous_per_minute: 0,
            logins_per_minute: 0,
            registrations_per_minute: 0,
            tickets_per_minute: 0,
            denials_per_10_minutes: 0,
        };
        change(&mut config);
        let operator = Operator::open(&config).await.unwrap();
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let (hosts, root) = (Mutex::default(), OnceLock::new());
        (Self(Arc::new(House { config, operator, http, hosts, root, shutdown, tasks, home })), listener)
    }

    /// Makes and logs in the first admin.
    pub async fn first_admin(&self) -> Actor {
        let admin = self.user("root", "admin").await;
        assert!(self.0.root.set(admin.weak()).is_ok(), "the first admin is there already");
        admin
    }

    /// Waits until it says that it can work.
    pub async fn until_ready(&self) {
        eventually("the bastion is ready", async || {
            let asked = self.http().get(format!("http://{}/readyz", self.local())).send().await;
            asked.is_ok_and(|answer| answer.status().is_success()).then_some(())
        })
        .await;
    }

    /// Stops it and waits until everything has ended.
    pub async fn stop(&self) {
        self.0.shutdown.cancel();
        self.0.tasks.close();
        within("the bastion stops", self.0.tasks.wait()).await;
    }

    /// Where people reach it, whatever lies between it and its agents.
    pub fn local(&self) -> String {
        self.0.config.server.listen.to_string()
    }

    /// `http://127.0.0.1:port`, as it is published.
    pub fn url(&self) -> String {
        self.0.config.public_origin()
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.config.server.listen
    }

    /// The one HTTP client.
    pub fn http(&self) -> &reqwest::Client {
        &self.0.http
    }

    /// Its folder.
    pub fn home(&self) -> &Path {
        self.0.home.path()
    }

    /// What its host's operator may do.
    pub fn operator(&self) -> &Operator {
        &self.0.operator
    }

    /// Somebody without credentials.
    pub fn stranger(&self) -> Actor {
        let (id, name) = (String::new(), "stranger".to_owned());
        Actor { bastion: Place::Held(self.clone()), id, name, credential: Credential::None }
    }

    /// The first admin.
    pub fn root(&self) -> Actor {
        self.0.root.get().unwrap().held(self)
    }

    /// A new user, logged in.
    pub async fn user(&self, name: &str, role: &str) -> Actor {
        let id = self.0.operator.add_user(name, PASSWORD.to_owned(), role).await.unwrap();
        let credential = Credential::Login(self.login(name, PASSWORD).await.unwrap());
        Actor { bastion: Place::Held(self.clone()), id, name: name.to_owned(), credential }
    }

    /// Logs in; the cookie's `name=value`.
    pub async fn login(&self, name: &str, password: &str) -> Result<String, Answer> {
        let body = json!({"username": name, "password": password});
        let answer = self.stranger().post("/login", body).await;
        if answer.status != 200 {
            return Err(answer);
        }
        let cookie = answer.headers["set-cookie"].to_str().unwrap();
        Ok(cookie.split(';').next().unwrap().to_owned())
    }

    /// A host with a real agent, approved, online, with `users` on its list.
    pub async fn host(&self, hostname: &str, shell: Shell, users: &[&Actor]) -> Host {
        let host = self.unapproved_host(hostname, shell);
        let root = self.root();
        let application = host.application(&root).await;
        let users: Vec<_> = users.iter().map(|user| user.id.clone()).collect();
        let approval = json!({"id": application["id"], "fingerprint": application["fingerprint"], "allowed_users": users});
        root.post("/approve", approval).await.expect(200);
        self.0.hosts.lock().unwrap().insert(hostname.to_owned(), host.id.clone());
        host.until(&root, "online").await;
        host
    }

    /// A host whose agent has only just started.
    pub fn unapproved_host(&self, hostname: &str, shell: Shell) -> Host {
        let id = uuid::Uuid::new_v4().to_string();
        let state = self.home().join(format!("agent-{id}"));
        fs::DirBuilder::new().mode(0o700).create(&state).unwrap();
        let key = rsa_key(0);
        for (name, text) in [
            ("client_id", format!("{id}\n")),
            ("agent_rsa", key.private_pem.clone()),
            ("agent_rsa.pub", key.public_pem.clone()),
        ] {
            let mut file = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(state.join(name))
                .unwrap();
            std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
        }
        let options = agent::Options {
            shell,
            hostname: Some(hostname.to_owned()),
            ..agent::Options::new(self.url(), &state)
        };
        let stop = self.0.shutdown.child_token();
        let running = self.0.tasks.spawn(agent::run(options, stop.clone()));
        Host { id, stop, running: Mutex::new(Some(running)) }
    }

    /// The id of a host by its name.
    pub fn asset(&self, hostname: &str) -> String {
        self.0.hosts.lock().unwrap().get(hostname).cloned().unwrap_or_else(|| hostname.to_owned())
    }
}

/// A bastion, a user on the list of the host `web-1`, and the admin.
pub async fn world(shell: Shell) -> (Bastion, Actor, Actor) {
    let bastion = Bastion::start().await;
    let alice = bastion.user("alice", "user").await;
    bastion.host("web-1", shell, &[&alice]).await;
    let root = bastion.root();
    (bastion, alice, root)
}

/// A host and its agent.
pub struct Host {
    /// The asset's id.
    pub id: String,
    stop: CancellationToken,
    running: Mutex<Option<tokio::task::JoinHandle<Result<(), agent::AgentError>>>>,
}

impl Host {
    /// Its application, once it waits for a decision.
    pub async fn application(&self, root: &Actor) -> Value {
        eventually("the agent applies", async || {
            let list = root.get("/registrations?status=pending&limit=200").await.expect(200);
            list["items"].as_array().unwrap().iter().find(|item| item["client_id"] == self.id).cloned()
        })
        .await
    }

    /// Waits for a status of the asset.
    pub async fn until(&self, root: &Actor, status: &str) -> Value {
        eventually(status, async || {
            let answer = root.get(&format!("/assets/{}", self.id)).await;
            (answer.status == 200).then(|| answer.json()).filter(|asset| asset["status"] == status)
        })
        .await
    }

    /// Stops the agent and waits for its end.
    pub async fn stop(&self) -> Result<(), agent::AgentError> {
        self.stop.cancel();
        self.ended().await
    }

    /// Waits for the agent's own end.
    pub async fn ended(&self) -> Result<(), agent::AgentError> {
        let running = self.running.lock().unwrap().take().unwrap();
        within("the agent ends", running).await.unwrap()
    }
}

/// What an actor shows.
#[derive(Clone, Debug)]
pub enum Credential {
    /// Nothing.
    None,
    /// The cookie, `name=value`.
    Login(String),
    /// An API token.
    Token(String),
}

/// The admin lives in the bastion, and so must not keep it alive.
#[derive(Clone)]
enum Place {
    Held(Bastion),
    Nowhere,
}

/// Somebody who acts.
#[derive(Clone)]
pub struct Actor {
    bastion: Place,
    /// The user's id.
    pub id: String,
    /// The user's name.
    pub name: String,
    /// What is shown.
    pub credential: Credential,
}

impl Actor {
    fn weak(&self) -> Self {
        Self { bastion: Place::Nowhere, ..self.clone() }
    }

    fn held(&self, bastion: &Bastion) -> Self {
        Self { bastion: Place::Held(bastion.clone()), ..self.clone() }
    }

    /// Where the actor acts.
    pub fn bastion(&self) -> &Bastion {
        match &self.bastion {
            Place::Held(bastion) => bastion,
            Place::Nowhere => panic!("an actor without a bastion"),
        }
    }

    /// The same user, showing something else.
    pub fn with(&self, credential: Credential) -> Self {
        Self { credential, ..self.clone() }
    }

    /// The same user with another login, as from another browser.
    pub async fn elsewhere(&self) -> Self {
        self.with(Credential::Login(self.bastion().login(&self.name, PASSWORD).await.unwrap()))
    }

    /// The same user by a new API token; `role` is the token's, if it is to be lower.
    pub async fn by_token(&self, role: Option<&str>) -> Self {
        let made = self.post("/tokens", json!({"name": "test", "role": role})).await.expect(201);
        self.with(Credential::Token(made["token"].as_str().unwrap().to_owned()))
    }

    /// A request with the actor's credential, as the bastion's own page or a program would send it.
    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        let bastion = self.bastion();
        let request = bastion.http().request(method, format!("http://{}/api/v1{path}", bastion.local()));
        match &self.credential {
            Credential::None => request,
            Credential::Login(cookie) => {
                request.header("cookie", cookie).header("sec-fetch-site", "same-origin")
            }
            Credential::Token(token) => request.bearer_auth(token),
        }
    }

    /// GET.
    pub async fn get(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::GET, path)).await
    }

    /// POST.
    pub async fn post(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::POST, path).json(&body)).await
    }

    /// PATCH.
    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        Answer::of(self.request(Method::PATCH, path).json(&body)).await
    }

    /// DELETE.
    pub async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.request(Method::DELETE, path)).await
    }

    /// Asks for a terminal on a host, by its name.
    pub async fn authorize(&self, hostname: &str) -> Answer {
        self.authorize_with(hostname, "").await
    }

    /// Asks for a terminal; `query` as in `plain=1&cols=80`.
    pub async fn authorize_with(&self, hostname: &str, query: &str) -> Answer {
        let asset = self.bastion().asset(hostname);
        self.get(&format!("/assets/{asset}/tty/authorize?{query}")).await
    }

    /// A ticket.
    pub async fn ticket(&self, hostname: &str) -> String {
        self.authorize(hostname).await.expect(200)["token"].as_str().unwrap().to_owned()
    }

    /// A session of one's own, as it stands.
    pub async fn session(&self, id: &str) -> Value {
        self.get(&format!("/sessions/{id}")).await.expect(200)
    }

    /// Waits until a session has ended, and returns it.
    pub async fn ended_session(&self, id: &str) -> Value {
        eventually("the session's row says it ended", async || {
            Some(self.session(id).await).filter(|session| !session["ended_at"].is_null())
        })
        .await
    }
}

/// What the bastion answered.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// The raw body.
    pub body: Bytes,
}

impl Answer {
    /// Sends a request.
    pub async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = within("an answer", request.send()).await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, body: within("a body", response.bytes()).await.unwrap() }
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|_| panic!("no JSON ({}): {}", self.status, self.text()))
    }

    /// The JSON of an answer that must have this status; null for an empty one.
    #[track_caller]
    pub fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        if self.body.is_empty() { Value::Null } else { self.json() }
    }

    /// Requires a problem with this status and code; returns it.
    #[track_caller]
    pub fn refused(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        let kind = self.headers.get("content-type").unwrap();
        assert_eq!(kind, "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["code"], code, "{problem}");
        assert_eq!(problem["status"], status, "{problem}");
        for member in ["title", "detail"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {problem}");
        }
        problem
    }

    /// Requires 400 `invalid_request`; returns the paths of what is wrong.
    #[track_caller]
    pub fn faults(&self) -> Vec<String> {
        let problem = self.refused(400, "invalid_request");
        let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("no errors: {problem}"));
        assert!(
            errors.iter().all(|error| error["detail"].as_str().is_some_and(|it| !it.is_empty())),
            "{problem}"
        );
        errors.iter().map(|error| error["path"].as_str().unwrap().to_owned()).collect()
    }

    /// A header's value, empty if it is not there.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}
