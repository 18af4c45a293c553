//! `kill -9` at any moment: every byte that a browser ever got is in the recording, which goes on or is sealed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use agent::Shell;
use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, future::join_all};
use openapi::frames::{Control, Frame, SUBPROTOCOL};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::Method;
use sea_orm::{ConnectionTrait as _, Database};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{
    process::Child,
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async,
    tungstenite::{Message, client::IntoClientRequest as _},
};
use tokio_util::sync::CancellationToken;

use crate::{
    chaos::Chaos,
    crash::{castellan, settings},
    harness::{Actor, Bastion, Credential, eventually, now, within},
    recordings::output_of,
    terminals::url_encoded,
};

/// What a step may take that a dying bastion does not answer.
const SHORT: Duration = Duration::from_secs(5);
/// A killed bastion's sessions go on or are sealed, and stored, within this of the start.
const SEALED_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at something that nobody announces.
const LOOK: Duration = Duration::from_millis(5);

type Stream = WebSocketStream<MaybeTlsStream<tokio::net::TcpStream>>;

/// A browser that remembers what it was shown and where that stood, and comes back as long as there is a session.
struct Witness {
    alice: Actor,
    session: String,
    /// Not yet compared with a journal.
    shown: Vec<(u64, Bytes)>,
    received: u64,
    acked: u64,
    over: bool,
    chance: StdRng,
    /// Told of output: the session goes on.
    moved: Arc<Notify>,
}

impl Witness {
    /// Opens a session; none if the bastion died before it said which.
    async fn open(
        alice: &Actor,
        command: &str,
        chance: StdRng,
        moved: Arc<Notify>,
    ) -> Option<(Self, Stream)> {
        let asset = alice.bastion().asset("web-1");
        let query = format!("/assets/{asset}/tty/authorize?command={}", url_encoded(command));
        let (status, ticket) = ask(alice, &query).await?;
        assert!(status == 200 || status >= 500, "{status} {ticket}");
        let mut socket = dial(alice, ticket["token"].as_str()?, 0).await?;
        let session = loop {
            match frame(&mut socket).await? {
                Frame::Control(Control::Ready { session_id, .. }) => break session_id,
                Frame::Control(_) => {}
                other => panic!("before ready: {other:?}"),
            }
        };
        let (alice, shown) = (alice.clone(), Vec::new());
        Some((Self { alice, session, shown, received: 0, acked: 0, over: false, chance, moved }, socket))
    }

    /// Looks on, and comes back again and again, until the bastion is dead or the session is over.
    async fn stay(&mut self, first: Option<Stream>, dead: &CancellationToken) {
        if let Some(socket) = first {
            self.listen(socket).await;
        }
        while !self.over && !dead.is_cancelled() {
            match self.come_back().await {
                Some(socket) => self.listen(socket).await,
                None => sleep(LOOK).await,
            }
        }
    }

    async fn come_back(&mut self) -> Option<Stream> {
        let query = format!("/sessions/{}/reattach?mode=control", self.session);
        let (status, answer) = ask(&self.alice, &query).await?;
        match status {
            200 => dial(&self.alice, answer["token"].as_str()?, self.received).await,
            409 => {
                assert_eq!(answer["code"], "ended", "{answer}");
                self.over = true;
                None
            }
            500.. => None,
            _ => panic!("{}: {status} {answer}", self.session),
        }
    }

    async fn listen(&mut self, mut socket: Stream) {
        while let Some(frame) = frame(&mut socket).await {
            match frame {
                Frame::Data { offset, bytes } => {
                    assert_eq!(offset, self.received, "a gap in the output");
                    self.received += bytes.len() as u64;
                    self.shown.push((offset, bytes));
                    self.moved.notify_one();
                }
                Frame::Screen { offset, .. } => (self.received, self.acked) = (offset, offset),
                // The end of the session, told by its last frame, is asked for again: it may not be recorded.
                _ => {}
            }
            let mut answers = Vec::new();
            if self.received - self.acked >= 32 * 1024 || self.chance.random_bool(0.05) {
                self.acked = self.received;
                answers.push(Frame::Ack(self.received));
            }
            if self.chance.random_bool(0.01) {
                let (cols, rows) = (self.chance.random_range(20..200), self.chance.random_range(5..80));
                answers.push(Frame::Resize { cols, rows });
            }
            for answer in answers {
                if socket.send(Message::Binary(answer.encode())).await.is_err() {
                    break;
                }
            }
        }
    }
}

/// The answer to a request; none if the bastion dies of it.
async fn ask(actor: &Actor, path: &str) -> Option<(u16, Value)> {
    let answer = timeout(SHORT, actor.request(Method::GET, path).send()).await.ok()?.ok()?;
    let status = answer.status().as_u16();
    Some((status, answer.json().await.ok()?))
}

/// A framed socket that has said hello; none if the bastion dies of it.
async fn dial(actor: &Actor, token: &str, have: u64) -> Option<Stream> {
    let mut request =
        format!("ws://{}/api/v1/tty/ws", actor.bastion().local()).into_client_request().unwrap();
    let Credential::Login(cookie) = &actor.credential else { panic!("a browser logs in") };
    for (name, value) in [
        ("sec-websocket-protocol", format!("{SUBPROTOCOL}, ticket.{token}")),
        ("cookie", cookie.clone()),
        ("origin", actor.bastion().url()),
    ] {
        request.headers_mut().insert(name, value.parse().unwrap());
    }
    let (mut socket, _) = timeout(SHORT, connect_async(request)).await.ok()?.ok()?;
    let hello = Frame::Control(Control::Hello { have });
    socket.send(Message::Binary(hello.encode())).await.ok()?;
    Some(socket)
}

async fn frame(socket: &mut Stream) -> Option<Frame> {
    loop {
        // Longer than the bastion's own pings.
        match timeout(SHORT * 7, socket.next()).await.ok()?? {
            Ok(Message::Binary(bytes)) => return Some(Frame::decode(bytes).unwrap()),
            Ok(Message::Close(_)) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// The journals in a spool, held open, so that they can be read when the bastion has removed them.
struct Journals {
    spool: PathBuf,
    known: BTreeMap<String, Journal>,
}

/// One of them, read as its format is published (recordings/src/journal.rs), by other code.
struct Journal {
    file: File,
    /// After the last whole record.
    at: u64,
    output: Vec<u8>,
    /// How often its host came back.
    resumed: u32,
    ended: bool,
}

impl Journals {
    fn look(&mut self) {
        for entry in fs::read_dir(&self.spool).unwrap().filter_map(Result::ok) {
            let name = entry.file_name().into_string().unwrap();
            assert!(!name.contains(".bad-"), "nothing is damaged: {name}");
            let Some(session) = name.strip_suffix(".journal") else { continue };
            if !self.known.contains_key(session)
                && let Ok(file) = File::open(entry.path())
            {
                let journal = Journal { file, at: 16, output: Vec::new(), resumed: 0, ended: false };
                self.known.insert(session.to_owned(), journal);
            }
        }
    }

    async fn look_until(&mut self, dead: &CancellationToken) {
        while !dead.is_cancelled() {
            self.look();
            sleep(LOOK).await;
        }
    }

    /// What is shown is recorded, byte for byte; what was compared need not be kept.
    fn hold(&mut self, witness: &mut Witness) {
        let Some(journal) = self.known.get_mut(&witness.session) else { return };
        journal.read_on();
        for (offset, bytes) in witness.shown.drain(..) {
            let from = usize::try_from(offset).unwrap();
            let recorded = journal.output.get(from..from + bytes.len());
            assert!(recorded == Some(&bytes), "{}: shown, but not recorded, at {offset}", witness.session);
        }
    }
}

impl Journal {
    fn read_on(&mut self) {
        let length = self.file.metadata().unwrap().len();
        let mut rest = vec![0; usize::try_from(length.saturating_sub(self.at)).unwrap()];
        let read = self.file.read_at(&mut rest, self.at).unwrap();
        let mut rest = &rest[..read];
        while let Some((head, tail)) = rest.split_at_checked(28) {
            let number = |from: usize, to: usize| {
                head[from..to].iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte))
            };
            let Some((payload, after)) = tail.split_at_checked(number(4, 8)) else { return };
            match head[0] {
                2 => {
                    self.output.extend_from_slice(payload);
                    assert_eq!(number(16, 24), self.output.len(), "output goes on where it stood");
                }
                5 if payload == b"the host is back" => self.resumed += 1,
                6 => panic!("a crash of the process loses nothing"),
                8 => self.ended = true,
                _ => {}
            }
            self.at += (28 + payload.len()) as u64;
            rest = after;
        }
    }
}

/// A bastion that is killed again and again, alice, and what she was shown.
struct Torture {
    bastion: Bastion,
    chaos: Chaos,
    alice: Actor,
    settings: PathBuf,
    journals: Journals,
    witnesses: Vec<Witness>,
    chance: StdRng,
    moved: Arc<Notify>,
}

impl Torture {
    /// The place of it, with alice and her host, and no bastion running.
    async fn new(durability: &str, seed: u64) -> Self {
        let (bastion, chaos) = Bastion::of_a_process_behind_chaos().await;
        let file = settings(&bastion);
        let more = format!(
            "[recordings]\ndurability = \"{durability}\"\n[rate_limits]\nlogins_per_minute = 0\n\
             tickets_per_minute = 0\nanonymous_per_minute = 0\nregistrations_per_minute = 0\n\
             denials_per_10_minutes = 0\n"
        );
        fs::write(&file, fs::read_to_string(&file).unwrap() + &more).unwrap();
        let mut process = spawn(&file);
        bastion.until_ready().await;
        bastion.first_admin().await;
        let alice = bastion.user("alice", "user").await;
        bastion.host("web-1", Shell::Login, &[&alice]).await;
        kill(&mut process).await;
        let journals = Journals { spool: bastion.config().spool.dir.clone(), known: BTreeMap::new() };
        let (witnesses, chance) = (Vec::new(), StdRng::seed_from_u64(seed));
        Self { bastion, chaos, alice, settings: file, journals, witnesses, chance, moved: Arc::default() }
    }

    /// One life of the bastion: sessions open in it, then it is killed, and what was shown is compared.
    async fn life(&mut self, commands: &[String]) {
        let delay = Duration::from_millis(self.chance.random_range(0..400));
        let early = commands.is_empty() && self.chance.random_bool(0.3);
        let (patient, cut) = (self.chance.random_bool(0.6), self.chance.random_bool(0.2));
        let mut process = spawn(&self.settings);
        if early {
            // It may not even be ready.
            sleep(delay / 2).await;
            return kill(&mut process).await;
        }
        self.bastion.until_ready().await;
        let dead = CancellationToken::new();
        let opening = commands.iter().map(|command| {
            let (chance, moved) = (StdRng::seed_from_u64(self.chance.random()), self.moved.clone());
            open_and_stay(&self.alice, command, chance, moved, &dead)
        });
        let opening = join_all(opening.collect::<Vec<_>>());
        let staying = join_all(self.witnesses.iter_mut().map(|witness| witness.stay(None, &dead)));
        let killing = async {
            if patient {
                // So that sessions do go on in most of these lives, whatever their agents' back-off.
                let _ = timeout(SHORT, self.moved.notified()).await;
            }
            sleep(delay / 2).await;
            if cut {
                self.chaos.reset();
            }
            sleep(delay / 2).await;
            kill(&mut process).await;
            dead.cancel();
        };
        let looking = self.journals.look_until(&dead);
        let (opened, _, (), ()) = tokio::join!(opening, staying, killing, looking);
        self.witnesses.extend(opened.into_iter().flatten());
        self.journals.look();
        self.witnesses.iter_mut().for_each(|witness| self.journals.hold(witness));
    }

    /// The last life: the sessions end, and everything is stored.
    async fn end(&mut self, stop: &Path) {
        fs::write(stop, b"").unwrap();
        let began = Instant::now();
        let mut process = spawn(&self.settings);
        self.bastion.until_ready().await;
        let never = CancellationToken::new();
        let staying = join_all(self.witnesses.iter_mut().map(|witness| witness.stay(None, &never)));
        timeout(SEALED_WITHIN, staying).await.expect("the sessions end");
        let recordings = within_a_minute(&self.bastion.root(), began).await;
        assert!(began.elapsed() < SEALED_WITHIN, "{:?}", began.elapsed());
        self.witnesses.iter_mut().for_each(|witness| self.journals.hold(witness));
        self.settle(&recordings).await;
        kill(&mut process).await;
    }

    /// Every session has ended, and has one recording: whole, and what was shown.
    async fn settle(&mut self, recordings: &[Value]) {
        let root = self.bastion.root();
        let sessions = root.get("/sessions?limit=200").await.expect(200);
        for session in sessions["items"].as_array().unwrap() {
            assert!(!session["ended_at"].is_null(), "a ghost: {session}");
            let recorded = recordings.iter().any(|it| it["session_id"] == session["id"]);
            let was_recorded = self.journals.known.contains_key(session["id"].as_str().unwrap());
            assert!(recorded || !was_recorded, "no recording: {session}");
        }
        let kept = Kept::of(&self.bastion).await;
        for recording in recordings {
            let session = recording["session_id"].as_str().unwrap();
            let cast = kept.whole(session);
            if let Some(journal) = self.journals.known.get_mut(session) {
                journal.read_on();
                let index = kept.index(session);
                assert!(journal.ended, "{session}: sealed, so its journal had its end");
                assert_eq!(index["output_bytes"], journal.output.len());
                assert_eq!(index["output_sha256"], hex::encode(Sha256::digest(&journal.output)));
                assert_eq!(index["lost_bytes"], 0);
                assert!(output_of(&cast) == String::from_utf8_lossy(&journal.output), "{session}");
            }
            let witness = self.witnesses.iter().find(|witness| witness.session == session);
            for (offset, bytes) in witness.iter().flat_map(|witness| &witness.shown) {
                // Its journal came and went unseen. It printed ASCII only, so that text is as long as bytes.
                let from = usize::try_from(*offset).unwrap();
                assert_eq!(output_of(&cast).as_bytes().get(from..from + bytes.len()), Some(&bytes[..]));
            }
        }
        eventually("the spool is empty", async || (left_in(&self.journals.spool) == 0).then_some(())).await;
    }
}

/// What the store has, and who can tell whether it is whole.
struct Kept {
    keys: PathBuf,
    files: Vec<PathBuf>,
}

impl Kept {
    async fn of(bastion: &Bastion) -> Self {
        let keys = bastion.home().join("jwks.json");
        let url = format!("http://{}/.well-known/jwks.json", bastion.local());
        let answer = bastion.http().get(url).send().await.unwrap().bytes().await.unwrap();
        fs::write(&keys, answer).unwrap();
        Self { keys, files: files_below(&store_of(bastion)) }
    }

    fn only(&self, session: &str, end: &str) -> &Path {
        let name = format!("{session}.{end}");
        let mut found = self.files.iter().filter(|file| file.ends_with(&name));
        let file = found.next().unwrap_or_else(|| panic!("{name} is not in the store"));
        assert!(found.next().is_none(), "{name} is there twice");
        file
    }

    fn index(&self, session: &str) -> Value {
        serde_json::from_slice(&fs::read(self.only(session, "index.json")).unwrap()).unwrap()
    }

    /// The plain cast of a recording that `castellan verify` finds whole.
    fn whole(&self, session: &str) -> String {
        let cast = self.only(session, "cast.zst");
        self.only(session, "seal");
        let mut verify = std::process::Command::new(env!("CARGO_BIN_EXE_castellan"));
        let told = verify.arg("verify").arg("--keys").arg(&self.keys).arg(cast).output().unwrap();
        assert_eq!(told.status.code(), Some(0), "{}", String::from_utf8_lossy(&told.stdout));
        String::from_utf8(zstd::decode_all(File::open(cast).unwrap()).unwrap()).unwrap()
    }
}

fn store_of(bastion: &Bastion) -> PathBuf {
    PathBuf::from(bastion.config().store.url.strip_prefix("file://").unwrap())
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let entries = entries.filter_map(Result::ok).map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

/// Files of a spool but its lock.
fn left_in(spool: &Path) -> usize {
    fs::read_dir(spool).unwrap().filter(|entry| entry.as_ref().unwrap().file_name() != ".lock").count()
}

/// All recordings, once all are stored.
async fn within_a_minute(root: &Actor, began: Instant) -> Vec<Value> {
    loop {
        let list = root.get("/recordings?limit=200").await.expect(200);
        let items = list["items"].as_array().unwrap();
        if items.iter().all(|recording| recording["state"] == "stored") {
            return items.clone();
        }
        assert!(began.elapsed() < SEALED_WITHIN, "not stored: {list}");
        sleep(LOOK).await;
    }
}

async fn open_and_stay(
    alice: &Actor,
    command: &str,
    chance: StdRng,
    moved: Arc<Notify>,
    dead: &CancellationToken,
) -> Option<Witness> {
    let (mut witness, socket) = Witness::open(alice, command, chance, moved).await?;
    witness.stay(Some(socket), dead).await;
    Some(witness)
}

/// Starts the bastion and does not wait for it. What it says of itself is worth reading when a test fails.
fn spawn(settings: &Path) -> Child {
    let said = File::options().create(true).append(true).open(settings.with_extension("log")).unwrap();
    castellan().arg("serve").arg("--config").arg(settings).stdout(Stdio::null()).stderr(said).spawn().unwrap()
}

async fn kill(process: &mut Child) {
    process.start_kill().unwrap();
    within("it is dead", process.wait()).await.unwrap();
}

/// `CASTELLAN_SEED`, or a new one; it is told, so that a failure can be tried again.
#[allow(clippy::print_stderr, reason = "shown with a test that failed")]
fn seed() -> u64 {
    let set = std::env::var("CASTELLAN_SEED").ok().map(|seed| seed.parse().unwrap());
    let seed = set.unwrap_or_else(|| u64::from(std::process::id()) << 32 | now().cast_unsigned());
    eprintln!("CASTELLAN_SEED={seed}");
    seed
}

/// How often each is killed: `CASTELLAN_KILLS`, or 60 times.
fn kills() -> u32 {
    std::env::var("CASTELLAN_KILLS").map_or(60, |kills| kills.parse().unwrap())
}

async fn nothing_shown_is_lost(durability: &str) {
    let mut torture = Torture::new(durability, seed()).await;
    let stop = torture.bastion.home().join("stop");
    let flood = format!(
        "i=0; while [ ! -e {0} ]; do seq $i $((i+40000)); i=$((i+40001)); sleep 0.3; done; exit 7",
        stop.display()
    );
    let drip = format!(
        r"i=0; while [ ! -e {0} ]; do i=$((i+1)); sleep 0.01; \
          printf '\033[3%dm终端-%d 城堡\033[0m \001\377\302 \033]0;t\007\r\n' $((i%8)) $i; done",
        stop.display()
    );
    torture.life(&[flood, drip]).await;
    for nth in 1..kills() {
        let short = match torture.chance.random_range(0..6) {
            0 => Some(format!("echo short-{nth}; exit 3")),
            1 => Some(format!("seq 60000; sleep 0.{}", nth % 5)),
            2 => Some(format!("echo typed-{nth}; sleep 1; seq 2000; kill -9 $$")),
            _ => None,
        };
        torture.life(short.as_slice()).await;
    }
    torture.end(&stop).await;
    let resumed: u32 = torture.journals.known.values().map(|journal| journal.resumed).sum();
    eprintln!(
        "{durability}: killed {} times, {resumed} returns of an agent, {} sessions",
        kills(),
        torture.journals.known.len()
    );
    assert!(resumed > kills() / 4, "few sessions went on, so this proves little: {resumed}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_browser_got_is_recorded_whenever_the_bastion_is_killed() {
    nothing_shown_is_lost("written").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_browser_got_is_recorded_whenever_a_syncing_bastion_is_killed() {
    nothing_shown_is_lost("synced").await;
}

/// What can be seen of a recording on its way, in this order.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// The journal has its end.
    Ended,
    /// Something of it is in the store, be it whole or not.
    Storing,
    Cast,
    Index,
    /// The seal is made, and kept in the spool until it is stored.
    Sealed,
    SealStored,
    /// The journal is gone.
    Discarded,
    /// Something is derived from it.
    Deriving,
    Derived,
}

impl Stage {
    const ALL: [Self; 9] = [
        Self::Ended,
        Self::Storing,
        Self::Cast,
        Self::Index,
        Self::Sealed,
        Self::SealStored,
        Self::Discarded,
        Self::Deriving,
        Self::Derived,
    ];

    fn is_seen(self, journals: &mut Journals, store: &Path, session: &str) -> bool {
        let in_spool = |end: &str| journals.spool.join(format!("{session}.{end}")).exists();
        let stored = |end: &str| {
            let name = format!("{session}{end}");
            files_below(store).iter().any(|file| file.to_string_lossy().ends_with(&name))
        };
        match self {
            Self::Ended => {
                let journal = journals.known.get_mut(session).unwrap();
                journal.read_on();
                journal.ended
            }
            Self::Storing => files_below(store).iter().any(|file| file.to_string_lossy().contains(session)),
            Self::Cast => stored(".cast.zst"),
            Self::Index => stored(".index.json"),
            Self::Sealed => in_spool("seal"),
            Self::SealStored => stored(".seal"),
            Self::Discarded => !in_spool("journal"),
            Self::Deriving => stored(".segments/0.json.zst"),
            Self::Derived => stored(".forms.json.zst"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recording_is_stored_once_and_whole_wherever_on_its_way_the_bastion_is_killed() {
    let mut torture = Torture::new("written", seed()).await;
    let (store, mut last) = (store_of(&torture.bastion), String::new());
    for stage in Stage::ALL {
        let mut process = spawn(&torture.settings);
        torture.bastion.until_ready().await;
        // More than 4 MiB of cast, so that there are segments.
        let mut terminal = torture.alice.run("web-1", "seq 300000; read line; seq 180000; exit 9").await;
        terminal.until("300000").await;
        torture.journals.look();
        terminal.type_in("\n").await;
        let session = terminal.session.clone();
        let seeing = async {
            while !stage.is_seen(&mut torture.journals, &store, &session) {
                tokio::task::yield_now().await;
            }
            kill(&mut process).await;
        };
        let reading = async {
            while let Ok(frame) = terminal.take().await {
                // Acknowledged as a browser does it, which does not mind that the bastion is dead.
                if let Frame::Data { .. } = frame {
                    let _ = terminal.socket.try_frame(Frame::Ack(terminal.received)).await;
                }
            }
        };
        let (seen, ()) = tokio::join!(timeout(SEALED_WITHIN, seeing), reading);
        assert!(seen.is_ok(), "{stage:?} was never seen");
        let mut process = spawn(&torture.settings);
        torture.bastion.until_ready().await;
        let recordings = within_a_minute(&torture.bastion.root(), Instant::now()).await;
        assert!(recordings.iter().any(|recording| recording["session_id"] == session), "{stage:?}");
        let ended = torture.alice.ended_session(&session).await;
        assert_eq!((&ended["end_reason"], &ended["exit_code"]), (&"exit".into(), &9.into()), "{stage:?}");
        kill(&mut process).await;
        let journal = torture.journals.known.get_mut(&session).unwrap();
        journal.read_on();
        assert!(journal.output.starts_with(&terminal.output), "{stage:?}");
        last = session;
    }
    // The last moment there is: all is stored, and only the row does not say yet that the session is over.
    let database = Database::connect(torture.bastion.config().database.url.expose()).await.unwrap();
    let sql = format!(
        "UPDATE tty_sessions SET ended_at = NULL, status = 'active', end_reason = NULL, exit_code = NULL \
         WHERE id = '{last}'"
    );
    assert_eq!(database.execute_unprepared(&sql).await.unwrap().rows_affected(), 1);
    database.close().await.unwrap();
    let mut process = spawn(&torture.settings);
    torture.bastion.until_ready().await;
    let recordings = within_a_minute(&torture.bastion.root(), Instant::now()).await;
    let ended = torture.alice.ended_session(&last).await;
    assert_eq!((&ended["end_reason"], &ended["exit_code"]), (&"exit".into(), &9.into()));
    torture.settle(&recordings).await;
    kill(&mut process).await;
}
