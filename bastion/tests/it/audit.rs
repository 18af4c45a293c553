//! The audit log's chain: in order whoever writes, and whatever is changed, moved, put in or taken away is found.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use agent::Shell;
use bastion::config::DatabaseUrl;
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, Statement};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{
    crash::{castellan, settings},
    databases::{Own, rows},
    harness::{Actor, Answer, Bastion, eventually, within, world},
    recordings::stored,
};

/// What `castellan verify --audit` with further arguments exits with and prints.
pub async fn verify_audit<S: AsRef<std::ffi::OsStr>>(bastion: &Bastion, more: &[S]) -> (i32, Value) {
    let file = settings(bastion);
    let mut command = castellan();
    command.args(["verify", "--audit", "--json", "--config"]).arg(&file).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let done = within("the verdict", command.output()).await.unwrap();
    let verdict = serde_json::from_slice(&done.stdout)
        .unwrap_or_else(|_| json!(String::from_utf8_lossy(&done.stderr).into_owned()));
    (done.status.code().unwrap(), verdict)
}

/// Requires a whole log.
#[track_caller]
pub fn is_whole((code, verdict): &(i32, Value)) {
    assert_eq!((*code, &verdict["verdict"]), (0, &json!("whole")), "{verdict}");
    assert_eq!(verdict["findings"], json!([]), "{verdict}");
}

const NONE: [&str; 0] = [];

/// The database, past the bastion.
pub async fn table(bastion: &Bastion) -> DatabaseConnection {
    Database::connect(bastion.config().database.url.expose()).await.unwrap()
}

pub async fn run(db: &DatabaseConnection, sql: &str) {
    db.execute_raw(Statement::from_string(db.get_database_backend(), sql)).await.unwrap();
}

/// A row as the log keeps it, and its hash.
struct Row {
    seq: i64,
    hash: String,
    canonical: Value,
}

/// The chained rows in order of place.
async fn chained(db: &DatabaseConnection) -> Vec<Row> {
    const COLUMNS: [&str; 9] =
        ["action", "actor_id", "actor_kind", "address", "detail", "id", "target_id", "target_kind", "hash"];
    let sql = format!("SELECT seq, at, {} FROM audit_log WHERE seq > 0 ORDER BY seq", COLUMNS.join(", "));
    let statement = Statement::from_string(db.get_database_backend(), sql);
    let rows = db.query_all_raw(statement).await.unwrap();
    let row = |row: &sea_orm::QueryResult| {
        let text = |name| row.try_get::<Option<String>>("", name).unwrap();
        let seq: i64 = row.try_get("", "seq").unwrap();
        let mut canonical = json!({"seq": seq, "at": row.try_get::<i64>("", "at").unwrap()});
        for name in COLUMNS.iter().filter(|name| **name != "hash") {
            canonical[*name] = text(name).into();
        }
        Row { seq, hash: text("hash").unwrap(), canonical }
    };
    rows.iter().map(row).collect()
}

/// The hash, done from its description: SHA-256 of the one before and the row with its members sorted.
fn hash_of(before: &[u8], canonical: &Value) -> Vec<u8> {
    let sorted: std::collections::BTreeMap<String, Value> =
        serde_json::from_value(canonical.clone()).unwrap();
    Sha256::new().chain_update(before).chain_update(serde_json::to_vec(&sorted).unwrap()).finalize().to_vec()
}

fn is_a_chain(rows: &[Row]) {
    let mut before = vec![0; 32];
    for (row, place) in rows.iter().zip(1..) {
        assert_eq!(row.seq, place);
        before = hash_of(&before, &row.canonical);
        assert_eq!(row.hash, hex::encode(&before), "{}", row.canonical);
    }
}

async fn all_chained(db: &DatabaseConnection) {
    eventually("every row has its place", async || {
        let left = rows(db, "SELECT id FROM audit_log WHERE seq IS NULL").await;
        left.is_empty().then_some(())
    })
    .await;
}

/// Twenty who write through one bastion, and another one that chains on the same database.
async fn twenty_writers(url: Option<&str>) {
    let bastion = Bastion::start_with(|config| {
        if let Some(url) = url {
            config.database.url = DatabaseUrl::new(url);
        }
    })
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut second = bastion.config().clone();
    second.server.listen = listener.local_addr().unwrap();
    second.spool.dir = bastion.home().join("second");
    let stop = CancellationToken::new();
    let second = tokio::spawn(bastion::serve(second, listener, stop.clone()));
    let root = bastion.root();
    let writing = (0..20).map(|nth| {
        let root = root.clone();
        async move {
            for token in 0..10 {
                root.post("/tokens", json!({"name": format!("{nth}-{token}")})).await.expect(201);
            }
        }
    });
    futures_util::future::join_all(writing).await;
    let db = table(&bastion).await;
    all_chained(&db).await;
    let rows = chained(&db).await;
    assert!(rows.len() > 200, "{}", rows.len());
    is_a_chain(&rows);
    stop.cancel();
    within("the second stops", second).await.unwrap().unwrap();
    bastion.stop().await;
    let verdict = verify_audit(&bastion, &NONE).await;
    is_whole(&verdict);
    assert_eq!(verdict.1["rows"], chained(&db).await.len());
    assert_eq!(verdict.1["signed"], verdict.1["head"]["seq"], "an orderly stop signs the last row");
    db.close().await.unwrap();
}

#[tokio::test]
async fn twenty_writers_and_two_bastions_make_one_chain_on_sqlite() {
    twenty_writers(None).await;
}

#[tokio::test]
async fn twenty_writers_and_two_bastions_make_one_chain_on_postgres() {
    let Ok(server) = std::env::var("CASTELLAN_TEST_POSTGRES") else { return };
    let own = Own::on(&server).await;
    twenty_writers(Some(&own.url)).await;
    own.drop().await;
}

#[tokio::test]
async fn twenty_writers_and_two_bastions_make_one_chain_on_mariadb() {
    let Ok(server) = std::env::var("CASTELLAN_TEST_MARIADB") else { return };
    let own = Own::on(&server).await;
    twenty_writers(Some(&own.url)).await;
    own.drop().await;
}

#[tokio::test]
async fn an_event_shows_its_place_and_its_hash_and_is_found_by_its_target() {
    let (bastion, alice, root) = world(Shell::Login).await;
    let session = recorded(&alice, "echo one").await;
    assert_eq!(alice.get(&format!("/recordings/{session}/cast")).await.status, 200);
    alice.get("/audit").await.refused(403, "forbidden");
    let events = eventually("all are chained", async || {
        let list = root.get(&format!("/audit?target={session}&limit=200")).await.expect(200);
        let items = list["items"].as_array().unwrap().clone();
        items.iter().all(|event| event["seq"].is_i64()).then_some(items)
    })
    .await;
    assert!(events.iter().all(|event| event["target"]["id"] == session.as_str()));
    assert!(events.iter().all(|event| event["hash"].as_str().is_some_and(|hash| hash.len() == 64)));
    let of = |action: &str| events.iter().filter(|event| event["action"] == action).collect::<Vec<_>>();
    assert_eq!(of("recording.view").len(), 1);
    let [stored_event] = of("recording.stored")[..] else { panic!("{events:?}") };
    let recording = stored(&alice, &session).await;
    let said = &stored_event["detail"];
    assert_eq!((&said["plain_sha256"], &said["plain_len"]), (&recording["sha256"], &recording["plain_size"]));
    let seal = hex::encode(Sha256::digest(recording["seal"].as_str().unwrap()));
    assert_eq!(said["seal_sha256"], seal);
    assert_eq!(stored_event["actor"]["kind"], "system");
    drop(bastion);
}

/// A session that ran `command`, once its recording is stored.
pub async fn recorded(actor: &Actor, command: &str) -> String {
    let mut terminal = actor.run("web-1", command).await;
    terminal.ended().await;
    stored(actor, &terminal.session).await;
    terminal.session.clone()
}

/// A log of some rows under two heads, whose bastion has stopped; what was in the table is kept aside.
struct Kept {
    bastion: Bastion,
    db: DatabaseConnection,
    heads: PathBuf,
    last: i64,
}

impl Kept {
    async fn new() -> Self {
        let bastion = Bastion::start().await;
        let root = bastion.root();
        for nth in 0..12 {
            root.post("/tokens", json!({"name": nth.to_string()})).await.expect(201);
        }
        let db = table(&bastion).await;
        all_chained(&db).await;
        bastion.stop().await;
        run(&db, "CREATE TABLE kept AS SELECT * FROM audit_log").await;
        let last = chained(&db).await.len() as i64;
        let store = bastion.config().store.url.strip_prefix("file://").unwrap().to_owned();
        Self { heads: Path::new(&store).join("audit/heads"), bastion, db, last }
    }

    /// The verdict after `changes`, which are undone; the first finding's code and place.
    async fn after(&self, changes: &[String]) -> (i32, Value, Value) {
        for change in changes {
            run(&self.db, change).await;
        }
        let (code, verdict) = verify_audit(&self.bastion, &NONE).await;
        run(&self.db, "DELETE FROM audit_log").await;
        run(&self.db, "INSERT INTO audit_log SELECT * FROM kept").await;
        let first = &verdict["findings"][0];
        (code, first["code"].clone(), first["seq"].clone())
    }

    /// Statements that give every row from `from` on the hash it should have, were it true.
    async fn rechained(&self, from: i64, changes: &[String]) -> Vec<String> {
        for change in changes {
            run(&self.db, change).await;
        }
        let mut sql = Vec::new();
        let mut before = vec![0; 32];
        for row in chained(&self.db).await {
            before = hash_of(&before, &row.canonical);
            if row.seq >= from {
                sql.push(format!(
                    "UPDATE audit_log SET hash = '{}' WHERE seq = {}",
                    hex::encode(&before),
                    row.seq
                ));
            }
        }
        sql
    }
}

#[tokio::test]
async fn whatever_is_done_to_rows_is_found_and_the_first_is_named() {
    let kept = Kept::new().await;
    let last = kept.last;
    assert!(last > 10, "{last}");
    is_whole(&verify_audit(&kept.bastion, &NONE).await);
    let one = |sql: &str| vec![sql.to_owned()];
    let put_in = |seq: i64| {
        format!(
            "INSERT INTO audit_log (id, at, actor_kind, action, detail, seq, hash) \
             SELECT 'put-in', at, actor_kind, action, detail, {seq}, hash FROM kept WHERE seq = 3"
        )
    };
    let by_seq = |shift: &str, from: i64| format!("UPDATE audit_log SET seq = {shift} WHERE seq >= {from}");
    for (what, changes, code, seq) in [
        ("changed", one("UPDATE audit_log SET detail = '{}' WHERE seq = 5"), "row", 5),
        ("blamed on another", one("UPDATE audit_log SET actor_id = 'somebody' WHERE seq = 6"), "row", 6),
        ("antedated", one("UPDATE audit_log SET at = at - 1 WHERE seq = 1"), "row", 1),
        ("taken away", one("DELETE FROM audit_log WHERE seq = 5"), "missing", 5),
        ("the first taken away", one("DELETE FROM audit_log WHERE seq = 1"), "missing", 1),
        ("several taken away", one("DELETE FROM audit_log WHERE seq IN (7, 8)"), "missing", 7),
        (
            "two swapped",
            vec![
                "UPDATE audit_log SET seq = -5 WHERE seq = 5".to_owned(),
                "UPDATE audit_log SET seq = 5 WHERE seq = 6".to_owned(),
                "UPDATE audit_log SET seq = 6 WHERE seq = -5".to_owned(),
            ],
            "row",
            5,
        ),
        ("put in", vec![by_seq("seq + 1000", 6), by_seq("seq - 999", 1000), put_in(6)], "row", 6),
        (
            "taken away, the others moved up",
            vec![
                "DELETE FROM audit_log WHERE seq = 6".to_owned(),
                by_seq("seq + 1000", 6),
                by_seq("seq - 1001", 1000),
            ],
            "row",
            6,
        ),
        ("put at the end", vec![put_in(last + 1)], "row", last + 1),
        (
            "the end taken away",
            vec![format!("DELETE FROM audit_log WHERE seq > {}", last - 2)],
            "truncated",
            last - 1,
        ),
        ("all taken away", one("DELETE FROM audit_log"), "truncated", 1),
    ] {
        assert_eq!(kept.after(&changes).await, (1, json!(code), json!(seq)), "{what}");
    }
    is_whole(&verify_audit(&kept.bastion, &NONE).await);
}

#[tokio::test]
async fn a_history_that_is_written_anew_does_not_fit_the_heads() {
    let kept = Kept::new().await;
    let change = vec!["UPDATE audit_log SET detail = '{\"name\":\"another\"}' WHERE seq = 5".to_owned()];
    let anew = [change.clone(), kept.rechained(5, &change).await].concat();
    let (code, first, seq) = kept.after(&anew).await;
    assert_eq!((code, first), (1, json!("rewritten")));
    assert!(seq.as_i64().unwrap() <= 5, "{seq}: from after the last head that fits");

    // Without heads nothing in the store says so; one that somebody noted does.
    let (newest, hash) = {
        let (_, verdict) = verify_audit(&kept.bastion, &NONE).await;
        (verdict["head"]["seq"].as_i64().unwrap(), verdict["head"]["hash"].as_str().unwrap().to_owned())
    };
    let pin = format!("{newest}:{hash}");
    is_whole(&verify_audit(&kept.bastion, &["--head", &pin]).await);
    let aside = kept.heads.with_extension("aside");
    fs::rename(&kept.heads, &aside).unwrap();
    for change in &anew {
        run(&kept.db, change).await;
    }
    let (code, verdict) = verify_audit(&kept.bastion, &NONE).await;
    assert_eq!((code, &verdict["findings"][0]["code"]), (2, &json!("unsigned")), "{verdict}");
    let (code, verdict) = verify_audit(&kept.bastion, &["--head", &pin]).await;
    assert_eq!((code, &verdict["findings"][0]["code"]), (1, &json!("pinned")), "{verdict}");
    run(&kept.db, &format!("DELETE FROM audit_log WHERE seq >= {newest}")).await;
    let (code, verdict) = verify_audit(&kept.bastion, &["--head", &pin]).await;
    assert_eq!((code, &verdict["findings"][0]["seq"]), (1, &json!(newest)), "{verdict}");
    assert_eq!(verify_audit(&kept.bastion, &["--head", "7:short"]).await.0, 4);
}

#[tokio::test]
async fn heads_are_believed_by_their_signature_and_place_only() {
    let kept = Kept::new().await;
    let newest = kept.heads.join(format!("{:020}.jws", kept.last));
    let jws = fs::read_to_string(&newest).unwrap();
    let put = |seq: i64, text: &str| {
        let path = kept.heads.join(format!("{seq:020}.jws"));
        fs::write(&path, text).unwrap();
        path
    };
    // Another row's, one that nobody signed, one beyond the end that is not what it says.
    for (seq, text) in [(3, jws.as_str()), (3, "nonsense"), (3, ""), (kept.last + 9, jws.as_str())] {
        let path = put(seq, text);
        let (code, verdict) = verify_audit(&kept.bastion, &NONE).await;
        let first = &verdict["findings"][0];
        assert_eq!((code, &first["code"], &first["seq"]), (1, &json!("head"), &json!(seq)), "{verdict}");
        fs::remove_file(path).unwrap();
    }
    // Signed by a key that the database alone vouches for.
    let mut keys: Value = json!({"keys": []});
    run(&kept.db, "CREATE TABLE keys_kept AS SELECT * FROM signing_keys").await;
    run(&kept.db, "UPDATE signing_keys SET private_key_sealed = 'v1.none.none' WHERE purpose = 'recording'")
        .await;
    let (code, verdict) = verify_audit(&kept.bastion, &NONE).await;
    assert_eq!((code, &verdict["findings"][0]["code"]), (3, &json!("unknown_key")), "{verdict}");
    // The published keys are as good, and need no key file.
    for row in rows(&kept.db, "SELECT kid, public_key FROM signing_keys").await {
        keys["keys"].as_array_mut().unwrap().push(json!({
            "kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": row[0], "x": row[1],
        }));
    }
    let file = kept.bastion.home().join("jwks.json");
    fs::write(&file, keys.to_string()).unwrap();
    fs::rename(&kept.bastion.config().keys.file, kept.bastion.home().join("keys.aside")).unwrap();
    is_whole(&verify_audit(&kept.bastion, &[Path::new("--keys"), &file]).await);
    assert_eq!(verify_audit(&kept.bastion, &NONE).await.0, 4);
}

#[tokio::test]
async fn nothing_is_made_where_there_is_nothing_to_judge() {
    let kept = Kept::new().await;
    let store = kept.heads.parent().unwrap().parent().unwrap().to_owned();
    let aside = store.with_extension("aside");
    fs::rename(&store, &aside).unwrap();
    assert_eq!(verify_audit(&kept.bastion, &NONE).await.0, 4);
    assert!(!store.exists());
    fs::rename(&aside, &store).unwrap();
    let file = settings(&kept.bastion);
    let elsewhere = kept.bastion.home().join("elsewhere.db");
    let done = castellan()
        .args(["verify", "--audit", "--config"])
        .arg(&file)
        .env("CASTELLAN__DATABASE__URL", format!("sqlite://{}", elsewhere.display()))
        .status()
        .await
        .unwrap();
    assert_eq!(done.code(), Some(4));
    assert!(!elsewhere.exists());
}

#[tokio::test]
async fn a_recording_that_is_taken_away_or_replaced_by_another_is_found() {
    let (bastion, alice, _) = world(Shell::Login).await;
    let (one, other) = (recorded(&alice, "echo one").await, recorded(&alice, "seq 1000").await);
    // While it runs, too.
    let store = PathBuf::from(bastion.config().store.url.strip_prefix("file://").unwrap());
    eventually("a head", async || fs::read_dir(store.join("audit/heads")).is_ok().then_some(())).await;
    is_whole(&verify_audit(&bastion, &NONE).await);
    bastion.stop().await;
    let whole = verify_audit(&bastion, &["--deep"]).await;
    is_whole(&whole);
    assert_eq!(whole.1["recordings"], 2);
    let day = objects(&store, &one)[0].parent().unwrap().to_owned();
    let path = |session: &str, end: &str| day.join(format!("{session}.{end}"));
    let found = async |what: &str, more: &[&str], code: &str| {
        let (exit, verdict) = verify_audit(&bastion, more).await;
        let first = &verdict["findings"][0];
        assert_eq!((exit, &first["code"]), (1, &json!(code)), "{what}: {verdict}");
        assert_eq!(first["session"], one.as_str(), "{what}: {verdict}");
        assert!(first["key"].as_str().unwrap().contains(&one) && first["seq"].is_i64(), "{what}: {verdict}");
        fs::remove_dir_all(&store).unwrap();
        copied(&store.with_extension("kept"), &store);
    };
    copied(&store, &store.with_extension("kept"));
    for end in ["cast.zst", "seal"] {
        fs::remove_file(path(&one, end)).unwrap();
        found(end, &[], "gone").await;
    }
    for end in ["cast.zst", "index.json", "seal"] {
        fs::copy(path(&other, end), path(&one, end)).unwrap();
    }
    found("another, validly sealed", &[], "differs").await;
    // As long, and not the same.
    let mut cast = fs::read(path(&one, "cast.zst")).unwrap();
    let last = cast.len() - 1;
    cast[last] ^= 1;
    fs::write(path(&one, "cast.zst"), cast).unwrap();
    is_whole(&verify_audit(&bastion, &NONE).await);
    found("a byte", &["--deep"], "recording").await;
    fs::remove_file(path(&one, "index.json")).unwrap();
    found("the index", &["--deep"], "gone").await;
    is_whole(&verify_audit(&bastion, &["--deep"]).await);
}

/// Every object of a session.
pub fn objects(store: &Path, session: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let Ok(entries) = fs::read_dir(store) else { return found };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            found.extend(objects(&path, session));
        } else if path.to_string_lossy().contains(session) {
            found.push(path);
        }
    }
    found
}

fn copied(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for path in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
        let into = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copied(&path, &into);
        } else {
            fs::copy(&path, into).unwrap();
        }
    }
}

/// `answer` is what a missing one gets, byte for byte.
#[track_caller]
pub fn is_missing(answer: &Answer, missing: &Answer) {
    answer.refused(404, "not_found");
    assert_eq!(answer.body, missing.body);
}
