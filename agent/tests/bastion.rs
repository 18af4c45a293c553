//! The agent as a whole against a bastion played by the test: real sockets, real signatures, port 0.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use agent::{AgentError, Options, Shell, enrol::EnrolError, trust::TrustError};
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use openapi::{
    agents::RegisterRequest,
    frames::{Control, Frame, SUBPROTOCOL},
    keys::{Secret, fingerprint, parse_public_key, seal_secret},
    signature::{Claim, Target, VerifyingKey},
    ticket::{
        APPROVAL_TYP, ApprovalClaims, Jwk, KEYS_TYP, KeyList, RELAY_TYP, RelayClaims, Signer, relay_audience,
    },
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_tungstenite::{
    WebSocketStream, accept_hdr_async,
    tungstenite::{
        Message,
        handshake::server::{Request, Response},
        protocol::CloseFrame,
    },
};
use tokio_util::sync::CancellationToken;

/// RFC 8037 appendix A.1, and the key of RFC 8032's second test.
const SEED: [&str; 2] = [
    "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
    "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
];
const PUBLIC: [&str; 2] = [
    "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
    "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
];

fn signer(which: usize, kid: &str) -> Signer {
    let der = hex::decode(format!("302e020100300506032b657004220420{}", SEED[which])).unwrap();
    Signer::from_pkcs8(kid, &der).unwrap()
}

fn jwk(which: usize, kid: &str) -> Jwk {
    Jwk::from_public(kid, &hex::decode(PUBLIC[which]).unwrap())
}

#[allow(clippy::disallowed_methods, reason = "the played bastion has the wall clock")]
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

/// What the played bastion answers, and what it saw.
#[derive(Default)]
struct Script {
    register: Option<RegisterRequest>,
    reject: Option<&'static str>,
    forge_proof: bool,
    clock_ahead: i64,
    tasks: Vec<Value>,
    terminate: Vec<String>,
    // Sessions that are over: no relay resumes them.
    over: bool,
    heartbeats: Vec<Value>,
    refused: usize,
    keys: Keys,
}

/// Which keys the played bastion has: its identity is handed on from the first test key to the second.
#[derive(Clone, Copy, Default)]
enum Keys {
    #[default]
    First,
    Introduced,
    Second,
}

impl Keys {
    fn list(self) -> String {
        let (by, keys) = match self {
            Self::First => (signer(0, "id-1"), vec![jwk(0, "id-1"), jwk(1, "tk-1")]),
            Self::Introduced => (signer(0, "id-1"), vec![jwk(0, "id-1"), jwk(1, "id-2"), jwk(1, "tk-1")]),
            Self::Second => (signer(1, "id-2"), vec![jwk(1, "id-2"), jwk(1, "tk-1")]),
        };
        by.sign(KEYS_TYP, &KeyList { keys, iat: Some(now()) }).unwrap()
    }
}

struct Bastion {
    address: String,
    scheme: (&'static str, &'static str),
    script: Arc<Mutex<Script>>,
    relays: mpsc::Receiver<WebSocketStream<TcpStream>>,
    server: JoinHandle<()>,
}

impl Drop for Bastion {
    fn drop(&mut self) {
        self.server.abort();
    }
}

const SECRET: [u8; 32] = [42; 32];

struct Asked {
    method: String,
    path: String,
    query: Option<String>,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
}

impl Bastion {
    async fn open(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        Self::listen(script, listener, address)
    }

    /// Behind TLS of the test's own authority, as `localhost`.
    async fn open_tls(script: Script) -> Self {
        use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
        let cert = CertificateDer::from_pem_slice(include_bytes!("data/localhost.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(include_bytes!("data/localhost.key")).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config =
            rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = config.unwrap().with_no_client_auth().with_single_cert(vec![cert], key).unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let front = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let back = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let behind = back.local_addr().unwrap();
        let address = format!("localhost:{}", front.local_addr().unwrap().port());
        tokio::spawn(async move {
            while let Ok((stream, _)) = front.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut near) = acceptor.accept(stream).await else { return };
                    let mut far = TcpStream::connect(behind).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        let mut bastion = Self::listen(script, back, address);
        bastion.scheme = ("https", "wss");
        bastion
    }

    fn listen(script: Script, listener: TcpListener, address: String) -> Self {
        let script = Arc::new(Mutex::new(script));
        // The test takes relays as it comes to them; the bastion waits.
        let (sender, relays) = mpsc::channel(4);
        let server = tokio::spawn({
            let (script, address) = (Arc::clone(&script), address.clone());
            async move {
                while let Ok((stream, _)) = listener.accept().await {
                    let (script, address, sender) = (Arc::clone(&script), address.clone(), sender.clone());
                    tokio::spawn(async move {
                        let mut start = [0; 25];
                        while stream.peek(&mut start).await.is_ok_and(|count| count > 0 && count < 25) {
                            tokio::task::yield_now().await;
                        }
                        if start.starts_with(b"GET /api/v1/agent/tty/rel") {
                            let over = script.lock().unwrap().over;
                            if let Some(relay) = accept_relay(stream, &address, over).await {
                                let _ = sender.send(relay).await;
                            }
                        } else {
                            serve(stream, &script, &address).await;
                        }
                    });
                }
            }
        });
        Self { address, scheme: ("http", "ws"), script, relays, server }
    }

    fn options(&self, home: &tempfile::TempDir) -> Options {
        let state: PathBuf = home.path().join("state");
        Options { shell: Shell::Echo, ..Options::new(format!("{}://{}", self.scheme.0, self.address), state) }
    }

    fn script<T>(&self, look: impl FnOnce(&mut Script) -> T) -> T {
        look(&mut self.script.lock().unwrap())
    }

    async fn until<T>(&self, mut look: impl FnMut(&mut Script) -> Option<T>) -> T {
        let found = async {
            loop {
                if let Some(found) = self.script(&mut look) {
                    return found;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), found).await.expect("in time")
    }

    async fn relay(&mut self) -> WebSocketStream<TcpStream> {
        tokio::time::timeout(Duration::from_secs(30), self.relays.recv()).await.expect("in time").unwrap()
    }

    fn task(&self, asset: &str, session: &str, change: impl FnOnce(&mut RelayClaims)) -> Value {
        let mut claims = RelayClaims {
            iss: "x".into(),
            aud: relay_audience(asset),
            sub: "u".into(),
            asset: asset.into(),
            jti: "j".into(),
            iat: now(),
            nbf: now(),
            exp: now() + 60,
            sid: session.into(),
            run_as: None,
            command: None,
            cols: 80,
            rows: 24,
            user: "alice".into(),
            records_input: false,
        };
        change(&mut claims);
        json!({"session_id": session, "token": signer(1, "tk-1").sign(RELAY_TYP, &claims).unwrap(), "cols": 80,
            "relay_url": format!("{}://{}/api/v1/agent/tty/relay?session_id={session}", self.scheme.1, self.address), "rows": 24,
            "user": "alice", "command": null, "run_as": null})
    }
}

async fn accept_relay(stream: TcpStream, address: &str, over: bool) -> Option<WebSocketStream<TcpStream>> {
    #[allow(clippy::result_large_err, reason = "tungstenite's own signature")]
    let check = |request: &Request, mut response: Response| {
        let header = |name: &str| request.headers().get(name).unwrap().to_str().unwrap().to_owned();
        assert_eq!(header("host"), address);
        let resumes = request.uri().query().unwrap().ends_with("&resume=1");
        if resumes {
            assert_eq!(request.headers().get("authorization"), None);
        } else {
            assert!(header("authorization").starts_with("Bearer ey"));
        }
        assert_eq!(header("sec-websocket-protocol"), SUBPROTOCOL);
        let claim = Claim::parse(&header("signature-input"), &header("signature"), None).unwrap();
        let (path, query) = (request.uri().path(), request.uri().query());
        let target = Target { method: "GET", authority: address, path, query, body: None };
        claim.verify(&VerifyingKey::Hmac(Secret::new(SECRET)), &target).unwrap();
        if over && resumes {
            return Err(Response::builder().status(410).body(Some("ended".to_owned())).unwrap());
        }
        response.headers_mut().insert("sec-websocket-protocol", SUBPROTOCOL.parse().unwrap());
        Ok(response)
    };
    let accepted = accept_hdr_async(stream, check).await;
    assert!(over || accepted.is_ok(), "{accepted:?}");
    accepted.ok()
}

async fn serve(mut stream: TcpStream, script: &Mutex<Script>, address: &str) {
    while let Some(asked) = read(&mut stream).await {
        if asked.path.ends_with("pending-sessions") {
            // As the contract has it: at once when there is a task, else only after a while.
            let began = tokio::time::Instant::now();
            while script.lock().unwrap().tasks.is_empty() && began.elapsed() < Duration::from_secs(2) {
                tokio::time::sleep(Duration::from_millis(5)).await;
                if matches!(stream.try_read(&mut [0]), Ok(0)) {
                    // Who asked is gone; the task is for the next.
                    return;
                }
            }
        }
        let (status, answer) = answer(&asked, &mut script.lock().unwrap(), address);
        let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n", answer.len());
        if stream.write_all(format!("{head}{answer}").as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn read(stream: &mut TcpStream) -> Option<Asked> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|part| part == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.split("\r\n");
    let mut start = lines.next()?.split(' ');
    let (method, target) = (start.next()?.to_owned(), start.next()?);
    let (path, query) =
        target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query.to_owned())));
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(n, v)| (n.to_lowercase(), v.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = bytes.split_off(head + 4);
    while body.len() < length {
        stream.read_buf(&mut body).await.ok()?;
    }
    Some(Asked { method, path: path.to_owned(), query, headers, body })
}

fn answer(asked: &Asked, script: &mut Script, address: &str) -> (u16, String) {
    if asked.path == "/.well-known/jwks.jws" {
        return (200, script.keys.list());
    }
    let header = |name: &str| asked.headers.get(name).map(String::as_str);
    let claim = Claim::parse(
        header("signature-input").unwrap(),
        header("signature").unwrap(),
        header("content-digest"),
    )
    .unwrap();
    if asked.path == "/api/v1/register" {
        script.register = serde_json::from_slice(&asked.body).unwrap();
    }
    let application = script.register.clone();
    let key = if asked.path.contains("register") {
        VerifyingKey::Rsa(Box::new(
            parse_public_key(&application.as_ref().unwrap().client_public_key).unwrap(),
        ))
    } else {
        VerifyingKey::Hmac(Secret::new(SECRET))
    };
    let target = Target {
        method: &asked.method,
        authority: address,
        path: &asked.path,
        query: asked.query.as_deref(),
        body: Some(&asked.body),
    };
    claim.verify(&key, &target).unwrap();
    if !claim.fresh(now() + script.clock_ahead) {
        script.refused += 1;
        // 2026-01-01 is only the shape; the offset is what counts.
        let time = time::OffsetDateTime::from_unix_timestamp(now() + script.clock_ahead).unwrap();
        let time = time.format(&time::format_description::well_known::Rfc3339).unwrap();
        return (401, json!({"code": "clock_skew", "status": 401, "server_time": time}).to_string());
    }
    (200, body(asked, script, application.as_ref()).to_string())
}

fn body(asked: &Asked, script: &mut Script, application: Option<&RegisterRequest>) -> Value {
    let print = |application: &RegisterRequest| {
        fingerprint(&parse_public_key(&application.client_public_key).unwrap()).unwrap()
    };
    match asked.path.as_str() {
        "/api/v1/register" => {
            json!({"status": "pending", "apply_id": "ap", "fingerprint": print(application.unwrap())})
        }
        "/api/v1/register/status" => {
            assert_eq!(asked.query.as_deref(), Some("apply_id=ap&wait=30"));
            if let Some(reason) = script.reject {
                return json!({"status": "rejected", "reason": reason});
            }
            let application = application.unwrap();
            let key = parse_public_key(&application.client_public_key).unwrap();
            let sealed = seal_secret(&key, &Secret::new(SECRET)).unwrap();
            let claims = ApprovalClaims {
                apply_id: "ap".into(),
                client_id: application.client_id.clone(),
                fingerprint: print(application),
                secret_sha256: hex::encode(Sha256::digest(&sealed)),
                iat: now(),
            };
            let by = signer(usize::from(script.forge_proof), "id-1");
            json!({"status": "approved", "encrypted_secret": sealed, "proof": by.sign(APPROVAL_TYP, &claims).unwrap()})
        }
        "/api/v1/heartbeat" => {
            script.heartbeats.push(serde_json::from_slice(&asked.body).unwrap());
            let time = time::OffsetDateTime::from_unix_timestamp(now() + script.clock_ahead).unwrap();
            let time = time.format(&time::format_description::well_known::Rfc3339).unwrap();
            json!({"status": "ok", "server_time": time, "interval": 1, "terminate": script.terminate})
        }
        "/api/v1/agent/tty/pending-sessions" => json!(std::mem::take(&mut script.tasks)),
        other => panic!("{other}"),
    }
}

struct Running {
    stop: CancellationToken,
    agent: JoinHandle<Result<(), AgentError>>,
}

fn start(options: Options) -> Running {
    let stop = CancellationToken::new();
    let agent = tokio::spawn(agent::run(options, stop.clone()));
    Running { stop, agent }
}

impl Running {
    async fn ended(self) -> Result<(), AgentError> {
        tokio::time::timeout(Duration::from_secs(30), self.agent).await.expect("in time").unwrap()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.ended().await.unwrap();
    }
}

async fn next_frame(relay: &mut WebSocketStream<TcpStream>) -> Option<Frame> {
    loop {
        let next = tokio::time::timeout(Duration::from_secs(30), relay.next()).await.expect("in time");
        match next? {
            Ok(Message::Binary(bytes)) => return Some(Frame::decode(bytes).unwrap()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

async fn send(relay: &mut WebSocketStream<TcpStream>, frame: Frame) {
    relay.send(Message::Binary(frame.encode())).await.unwrap();
}

#[tokio::test]
async fn an_agent_enrols_beats_and_serves_a_session() {
    let mut bastion = Bastion::open(Script::default()).await;
    let home = tempfile::tempdir().unwrap();
    let running = start(Options { labels: [("env".into(), "prod".into())].into(), ..bastion.options(&home) });
    let id = bastion.until(|script| script.heartbeats.first().map(|beat| beat["id"].clone())).await;
    let id = id.as_str().unwrap().to_owned();
    let first = bastion.script(|script| script.heartbeats[0].clone());
    assert!(first["static_info"]["os"].is_string() && first["metrics"]["uptime"].is_u64());
    assert_eq!(bastion.script(|script| script.register.clone().unwrap().labels["env"].clone()), "prod");

    let task = bastion.task(&id, "s1", |_| {});
    bastion.script(|script| script.tasks.push(task));
    let mut relay = bastion.relay().await;
    assert_eq!(next_frame(&mut relay).await, Some(Frame::Control(Control::Hello { have: 0 })));
    send(&mut relay, Frame::Data { offset: 0, bytes: Bytes::from_static(b"hi") }).await;
    let mut got = [next_frame(&mut relay).await.unwrap(), next_frame(&mut relay).await.unwrap()];
    got.sort_by_key(|frame| matches!(frame, Frame::Ack(_)));
    assert_eq!(got, [Frame::Data { offset: 0, bytes: Bytes::from_static(b"hi") }, Frame::Ack(2)]);
    bastion
        .until(|script| {
            script.heartbeats.iter().any(|beat| beat["tty_status"]["sessions"] == json!(["s1"])).then_some(())
        })
        .await;
    let again = bastion.script(|script| script.heartbeats.last().cloned().unwrap());
    assert_eq!(again.get("static_info"), None, "it did not change");

    bastion.script(|script| script.terminate = vec!["s1".into()]);
    assert_eq!(next_frame(&mut relay).await, Some(Frame::Control(Control::Exiting)));
    let exit = Frame::Control(Control::Exit { code: Some(0), signal: None });
    assert_eq!(next_frame(&mut relay).await, Some(exit));
    relay.close(Some(CloseFrame { code: 1000.into(), reason: "".into() })).await.unwrap();
    running.stop().await;

    // The same folder again: no application, the same id.
    bastion.script(|script| (script.register, script.heartbeats) = (None, Vec::new()));
    let running = start(bastion.options(&home));
    let same = bastion.until(|script| script.heartbeats.first().map(|beat| beat["id"].clone())).await;
    assert_eq!(same, json!(id));
    assert!(bastion.script(|script| script.register.is_none()));
    running.stop().await;
}

#[tokio::test]
async fn stopping_ends_live_sessions_and_joins_everything() {
    let mut bastion = Bastion::open(Script::default()).await;
    let home = tempfile::tempdir().unwrap();
    let running = start(Options { shell: Shell::Login, ..bastion.options(&home) });
    let id = bastion.until(|script| script.heartbeats.first().map(|beat| beat["id"].clone())).await;
    let task = bastion
        .task(id.as_str().unwrap(), "stop-1", |claims| claims.command = Some("echo up; sleep 1000".into()));
    bastion.script(|script| script.tasks.push(task));
    let mut relay = bastion.relay().await;
    next_frame(&mut relay).await;
    assert!(matches!(next_frame(&mut relay).await, Some(Frame::Data { .. })));
    running.stop.cancel();
    assert_eq!(next_frame(&mut relay).await, Some(Frame::Control(Control::Exiting)));
    let exit = Control::Exit { code: None, signal: Some("SIGHUP".into()) };
    assert_eq!(next_frame(&mut relay).await, Some(Frame::Control(exit)));
    relay.close(Some(CloseFrame { code: 1000.into(), reason: "".into() })).await.unwrap();
    running.ended().await.unwrap();
    assert_eq!(agent::processes::members(u32::MAX, "stop-1"), Vec::<u32>::new());
}

#[tokio::test]
async fn a_cut_session_is_named_resumes_with_a_signature_alone_and_ends_once_it_is_over() {
    let mut bastion = Bastion::open(Script::default()).await;
    let home = tempfile::tempdir().unwrap();
    let running = start(bastion.options(&home));
    let id = bastion.until(|script| script.heartbeats.first().map(|beat| beat["id"].clone())).await;
    let task = bastion.task(id.as_str().unwrap(), "s1", |_| {});
    bastion.script(|script| script.tasks.push(task));
    let mut relay = bastion.relay().await;
    assert_eq!(next_frame(&mut relay).await, Some(Frame::Control(Control::Hello { have: 0 })));
    send(&mut relay, Frame::Data { offset: 0, bytes: Bytes::from_static(b"hi") }).await;
    while next_frame(&mut relay).await.unwrap()
        != (Frame::Data { offset: 0, bytes: Bytes::from_static(b"hi") })
    {}
    drop(relay);

    let mut relay = bastion.relay().await;
    bastion.script(|script| script.heartbeats.clear());
    let named = json!(["s1"]);
    bastion
        .until(|script| {
            script.heartbeats.iter().any(|beat| beat["tty_status"]["sessions"] == named).then_some(())
        })
        .await;
    send(&mut relay, Frame::Control(Control::Resume { have: 1, input: 0 })).await;
    assert_eq!(next_frame(&mut relay).await, Some(Frame::Control(Control::Hello { have: 1 })));
    assert_eq!(next_frame(&mut relay).await, Some(Frame::Ack(2)));
    assert_eq!(
        next_frame(&mut relay).await,
        Some(Frame::Data { offset: 1, bytes: Bytes::from_static(b"i") })
    );

    bastion.script(|script| (script.over = true, script.heartbeats.clear()));
    drop(relay);
    bastion
        .until(|script| {
            script.heartbeats.iter().any(|beat| beat["tty_status"]["sessions"] == json!([])).then_some(())
        })
        .await;
    running.stop().await;
}

#[tokio::test]
async fn a_task_that_is_not_the_bastions_or_not_for_this_agent_is_not_served() {
    let mut bastion = Bastion::open(Script::default()).await;
    let home = tempfile::tempdir().unwrap();
    let running = start(bastion.options(&home));
    let id = bastion.until(|script| script.heartbeats.first().map(|beat| beat["id"].clone())).await;
    let id = id.as_str().unwrap();
    let expired = bastion.task(id, "expired", |claims| {
        (claims.iat, claims.nbf, claims.exp) = (now() - 90, now() - 90, now() - 1);
    });
    let foreign = bastion.task("another-asset", "foreign", |_| {});
    let crossed = bastion.task(id, "crossed", |claims| claims.sid = "another".into());
    let mut unsigned = bastion.task(id, "unsigned", |_| {});
    unsigned["token"] = json!(format!("{}x", unsigned["token"].as_str().unwrap()));
    let mut elsewhere = bastion.task(id, "elsewhere", |_| {});
    elsewhere["relay_url"] = json!("ws://192.0.2.1/api/v1/agent/tty/relay?session_id=elsewhere");
    let good = bastion.task(id, "good", |_| {});
    bastion.script(|script| script.tasks = vec![expired, foreign, crossed, unsigned, elsewhere, good]);
    let mut relay = bastion.relay().await;
    next_frame(&mut relay).await;
    bastion
        .until(|script| {
            script
                .heartbeats
                .iter()
                .any(|beat| beat["tty_status"]["sessions"] == json!(["good"]))
                .then_some(())
        })
        .await;
    assert!(bastion.relays.try_recv().is_err(), "only the good one was dialled");
    drop(relay);
    running.stop().await;
}

#[tokio::test]
async fn a_run_as_that_is_not_allowed_is_told_to_the_user() {
    let mut bastion = Bastion::open(Script::default()).await;
    let home = tempfile::tempdir().unwrap();
    let running = start(Options { shell: Shell::Login, ..bastion.options(&home) });
    let id = bastion.until(|script| script.heartbeats.first().map(|beat| beat["id"].clone())).await;
    let task = bastion.task(id.as_str().unwrap(), "s", |claims| claims.run_as = Some("daemon".into()));
    bastion.script(|script| script.tasks.push(task));
    let mut relay = bastion.relay().await;
    let mut seen = Vec::new();
    let exit = loop {
        match next_frame(&mut relay).await.unwrap() {
            Frame::Data { bytes, .. } => seen.extend_from_slice(&bytes),
            Frame::Control(Control::Exit { code, .. }) => break code,
            _ => {}
        }
    };
    assert_eq!(exit, Some(126));
    assert!(String::from_utf8(seen).unwrap().contains("does not allow sessions as \"daemon\""));
    relay.close(Some(CloseFrame { code: 1000.into(), reason: "".into() })).await.unwrap();
    running.stop().await;
}

#[tokio::test]
async fn a_rejection_a_forged_proof_and_a_wrong_pin_end_the_agent() {
    let home = tempfile::tempdir().unwrap();
    let bastion = Bastion::open(Script { reject: Some("not ours"), ..Script::default() }).await;
    let ended = start(bastion.options(&home)).ended().await;
    assert!(matches!(ended, Err(AgentError::Enrol(EnrolError::Rejected(reason))) if reason == "not ours"));

    let home = tempfile::tempdir().unwrap();
    let bastion = Bastion::open(Script { forge_proof: true, ..Script::default() }).await;
    let options = bastion.options(&home);
    let ended = start(options.clone()).ended().await;
    assert!(matches!(ended, Err(AgentError::Enrol(EnrolError::Proof(_)))));
    assert!(!options.state_dir.join("agent_secret_key").exists());

    let home = tempfile::tempdir().unwrap();
    let pinned = |pin: &str| Options { pin: Some(pin.into()), ..bastion.options(&home) };
    let ended = start(pinned("another")).ended().await;
    assert!(matches!(ended, Err(AgentError::Trust(TrustError::Pin { .. }))));
    bastion.script(|script| script.forge_proof = false);
    let running = start(pinned(&jwk(0, "id-1").thumbprint()));
    bastion.until(|script| script.heartbeats.first().map(|_| ())).await;
    running.stop().await;
}

#[tokio::test]
async fn a_clock_that_is_off_is_corrected_by_the_bastions() {
    let bastion = Bastion::open(Script { clock_ahead: 600, ..Script::default() }).await;
    let home = tempfile::tempdir().unwrap();
    let running = start(bastion.options(&home));
    bastion.until(|script| script.heartbeats.first().map(|_| ())).await;
    assert_eq!(bastion.script(|script| script.refused), 1, "one refusal is enough");
    running.stop().await;
}

#[tokio::test]
async fn over_tls_the_given_authority_is_trusted_and_no_other() {
    let mut bastion = Bastion::open_tls(Script::default()).await;
    let home = tempfile::tempdir().unwrap();
    let ca = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/ca.pem");
    let running = start(Options { ca: Some(ca.into()), ..bastion.options(&home) });
    let id = bastion.until(|script| script.heartbeats.first().map(|beat| beat["id"].clone())).await;
    let task = bastion.task(id.as_str().unwrap(), "s", |_| {});
    bastion.script(|script| script.tasks.push(task));
    let mut relay = bastion.relay().await;
    assert_eq!(next_frame(&mut relay).await, Some(Frame::Control(Control::Hello { have: 0 })));
    drop(relay);
    running.stop().await;

    let client = agent::client::Client::new(&format!("https://{}", bastion.address), None).unwrap();
    let error = client.fetch("/.well-known/jwks.jws").await.unwrap_err().to_string();
    assert!(error.contains("cannot be reached"), "{error}");
}

#[tokio::test]
async fn a_new_identity_is_believed_once_the_old_one_introduced_it() {
    let mut bastion = Bastion::open(Script::default()).await;
    let home = tempfile::tempdir().unwrap();
    let session = async |bastion: &mut Bastion, keys: Keys, name: &str| {
        bastion.script(|script| (script.keys, script.heartbeats) = (keys, Vec::new()));
        let running = start(bastion.options(&home));
        let id = bastion.until(|script| script.heartbeats.first().map(|beat| beat["id"].clone())).await;
        let task = bastion.task(id.as_str().unwrap(), name, |_| {});
        bastion.script(|script| script.tasks.push(task));
        let served = tokio::time::timeout(Duration::from_secs(2), bastion.relays.recv()).await.is_ok();
        running.stop().await;
        served
    };
    assert!(session(&mut bastion, Keys::First, "a").await);
    assert!(!session(&mut bastion, Keys::Second, "b").await, "nobody introduced it");
    assert!(session(&mut bastion, Keys::Introduced, "c").await);
    assert!(session(&mut bastion, Keys::Second, "d").await);
}
