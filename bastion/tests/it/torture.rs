//! `kill -9` at any moment: every byte that a browser ever got is in the recording, which goes on or is sealed.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
    time::Duration,
};

use agent::Shell;
use futures_util::future::join_all;
use openapi::frames::Frame;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use sea_orm::{ConnectionTrait as _, Database};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tokio::{
    process::Child,
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    chaos::Chaos,
    crash::{castellan, settings},
    harness::{Actor, Bastion, eventually, now, within},
    recordings::output_of,
};

mod journals;
mod kept;
mod witness;

use journals::Journals;
use kept::{Kept, files_below, store_of};
use witness::Witness;

/// What a step may take that a dying bastion does not answer.
const SHORT: Duration = Duration::from_secs(5);
/// A killed bastion's sessions go on or are sealed, and stored, within this of the start.
const SEALED_WITHIN: Duration = Duration::from_secs(60);
/// Between two looks at something that nobody announces.
const LOOK: Duration = Duration::from_millis(5);

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

    /// How often an agent came back to a session, as the journals seen so far say.
    fn resumed(&self) -> u32 {
        self.journals.known.values().map(|journal| journal.resumed).sum()
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
    let enough = kills() / 4;
    let mut nth = 1;
    // On a slow machine more lives end before their agents are back; those prove little and are made up for.
    while nth < kills() || (torture.resumed() <= enough && nth < 3 * kills()) {
        let short = match torture.chance.random_range(0..6) {
            0 => Some(format!("echo short-{nth}; exit 3")),
            1 => Some(format!("seq 60000; sleep 0.{}", nth % 5)),
            2 => Some(format!("echo typed-{nth}; sleep 1; seq 2000; kill -9 $$")),
            _ => None,
        };
        torture.life(short.as_slice()).await;
        nth += 1;
    }
    torture.end(&stop).await;
    let (resumed, sessions) = (torture.resumed(), torture.journals.known.len());
    eprintln!("{durability}: killed {nth} times, {resumed} returns of an agent, {sessions} sessions");
    assert!(resumed > enough, "few sessions went on, so this proves little: {resumed}");
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
