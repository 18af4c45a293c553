//! `castellan verify` on a session that was really recorded: offline, every exit code, text and JSON.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use agent::Shell;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    harness::world,
    recordings::{stored, stored_cast},
};

/// What somebody has who was handed a recording: a folder, and no bastion.
struct Evidence {
    folder: TempDir,
    session: String,
    plain: Vec<u8>,
}

/// Records a session, takes what the store keeps of it and what the bastion serves, and stops the bastion.
async fn evidence() -> Evidence {
    let (bastion, alice, _) = world(Shell::Login).await;
    let mut terminal = alice.run("web-1", "seq 90000").await;
    terminal.ended().await;
    let session = terminal.session.clone();
    stored(&alice, &session).await;
    let plain = stored_cast(&alice, &session).await.into_bytes();
    let keys = bastion.http().get(format!("{}/.well-known/jwks.json", bastion.url())).send().await.unwrap();
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("jwks.json"), keys.bytes().await.unwrap()).unwrap();
    let store = PathBuf::from(bastion.config().store.url.strip_prefix("file://").unwrap());
    for file in files_below(&store) {
        let name = file.file_name().unwrap().to_owned();
        if name.to_string_lossy().starts_with(&session) {
            fs::copy(&file, folder.path().join(name)).unwrap();
        }
    }
    bastion.stop().await;
    Evidence { folder, session, plain }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}

impl Evidence {
    fn path(&self, end: &str) -> PathBuf {
        self.folder.path().join(format!("{}.{end}", self.session))
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Exit code, standard output and standard error of `castellan verify` with the bastion's keys.
    fn verify<S: AsRef<OsStr>>(&self, arguments: &[S]) -> (i32, String, String) {
        let keys = self.folder.path().join("jwks.json");
        verify(&[OsStr::new("--keys"), keys.as_os_str()], arguments)
    }

    fn json<S: AsRef<OsStr>>(&self, arguments: &[S]) -> (i32, Vec<Value>) {
        let arguments = arguments.iter().map(AsRef::as_ref).chain([OsStr::new("--json")]).collect::<Vec<_>>();
        let (code, told, _) = self.verify(&arguments);
        (code, told.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }
}

fn verify<S: AsRef<OsStr>>(keys: &[&OsStr], arguments: &[S]) -> (i32, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_castellan"));
    let done = command.arg("verify").args(keys).args(arguments).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (done.status.code().unwrap(), text(done.stdout), text(done.stderr))
}

#[tokio::test]
async fn a_recorded_session_is_whole_until_somebody_touches_it() {
    let kept = evidence().await;
    let stored = kept.path("cast.zst");
    let plain = kept.write(&format!("{}.cast", kept.session), &kept.plain);
    let chunks = whole(&kept, &stored, &plain);
    altered(&kept, &stored, chunks - 1);
    incomplete(&kept, &stored, &plain);
    unknown(&kept, &stored);
    unusable(&kept, &stored, &plain);
}

/// How many chunks there are.
fn whole(kept: &Evidence, stored: &Path, plain: &Path) -> u64 {
    let (code, told, _) = kept.verify(&[stored]);
    assert_eq!(code, 0, "{told}");
    assert!(told.contains("authentic and whole") && told.contains(&kept.session), "{told}");
    let (code, verdicts) = kept.json(&[stored, plain]);
    assert_eq!((code, verdicts.len()), (0, 2));
    for (verdict, form) in verdicts.iter().zip(["stored", "plain"]) {
        assert_eq!((&verdict["verdict"], &verdict["exit"]), (&"whole".into(), &0.into()), "{verdict}");
        assert_eq!((&verdict["form"], &verdict["session"]), (&form.into(), &kept.session.as_str().into()));
        assert!(verdict["chunks"].as_u64().unwrap() > 1, "{verdict}");
        assert_eq!((&verdict["matched"], &verdict["proven"]), (&verdict["chunks"], &true.into()));
        assert_eq!((&verdict["recovered"], &verdict["first_bad_chunk"]), (&false.into(), &Value::Null));
        assert_eq!(verdict["seal"]["plain_len"], kept.plain.len());
        assert_eq!(verdict["seal"]["reason"], "exit");
        assert!(verdict["kid"].as_str().unwrap().starts_with("rec-"));
        assert!(verdict["findings"].as_array().unwrap().is_empty());
    }
    verdicts[0]["chunks"].as_u64().unwrap()
}

fn altered(kept: &Evidence, stored: &Path, last_chunk: u64) {
    let (index, seal) = (kept.path("index.json"), kept.path("seal"));
    let beside = [OsStr::new("--index"), index.as_os_str(), OsStr::new("--seal"), seal.as_os_str()];
    let mut cast = kept.plain.clone();
    let last = cast.len() - 10;
    cast[last] ^= 1;
    let evil = kept.write("evil.cast", &cast);
    let (code, told, _) = kept.verify(&[&[evil.as_os_str()], &beside[..]].concat());
    assert!(code == 1 && told.contains(&format!("ALTERED, from chunk {last_chunk} on")), "{told}");
    let (code, verdicts) = kept.json(&[&[evil.as_os_str()], &beside[..]].concat());
    assert_eq!(
        (code, &verdicts[0]["verdict"], &verdicts[0]["first_bad_chunk"]),
        (1, &"altered".into(), &last_chunk.into())
    );
    assert_eq!(verdicts[0]["findings"][0]["code"], "chunk");
    // The seal's claims cannot be changed without the key, nor signed by another of the bastion's.
    let text = fs::read_to_string(&seal).unwrap();
    let mut parts: Vec<_> = text.split('.').map(str::to_owned).collect();
    let other = if parts[1][20..].starts_with('A') { "B" } else { "A" };
    parts[1].replace_range(20..21, other);
    let forged = kept.write("forged.seal", parts.join(".").as_bytes());
    let (code, told, _) = kept.verify(&[stored.as_os_str(), OsStr::new("--seal"), forged.as_os_str()]);
    assert!(code == 1 && told.contains("the seal does not hold"), "{told}");
    // Another session's name over all three files.
    let name = "01990000-0000-7000-8000-000000000000";
    for end in ["cast.zst", "index.json", "seal"] {
        fs::copy(kept.path(end), kept.folder.path().join(format!("{name}.{end}"))).unwrap();
    }
    let (code, verdicts) = kept.json(&[kept.folder.path().join(format!("{name}.cast.zst"))]);
    assert_eq!((code, &verdicts[0]["findings"][0]["code"]), (1, &"other_session".into()));
}

fn incomplete(kept: &Evidence, stored: &Path, plain: &Path) {
    let object = fs::read(stored).unwrap();
    let alone = TempDir::new().unwrap();
    let cut = alone.path().join(stored.file_name().unwrap());
    fs::write(&cut, &object[..object.len() - 7]).unwrap();
    for end in ["index.json", "seal"] {
        fs::copy(kept.path(end), alone.path().join(format!("{}.{end}", kept.session))).unwrap();
    }
    let (code, told, _) = kept.verify(&[&cut]);
    assert!(
        code == 2 && told.contains("authentic as far as it goes") && told.contains("cut short"),
        "{told}"
    );
    fs::write(&cut, b"").unwrap();
    assert_eq!(kept.json(&[&cut]).1[0]["findings"][0]["code"], "empty");
    fs::copy(stored, &cut).unwrap();
    fs::remove_file(alone.path().join(format!("{}.index.json", kept.session))).unwrap();
    let (code, verdicts) = kept.json(&[&cut]);
    assert_eq!((code, &verdicts[0]["proven"]), (2, &true.into()), "a frame is a chunk");
    let bare = alone.path().join(plain.file_name().unwrap());
    fs::copy(plain, &bare).unwrap();
    let (code, told, _) = kept.verify(&[&bare]);
    assert!(code == 2 && told.contains("--index"), "{told}");
    fs::remove_file(alone.path().join(format!("{}.seal", kept.session))).unwrap();
    let (code, verdicts) = kept.json(&[&bare]);
    assert_eq!(
        (code, &verdicts[0]["verdict"], &verdicts[0]["seal"]),
        (2, &"incomplete".into(), &Value::Null)
    );
}

fn unknown(kept: &Evidence, stored: &Path) {
    let mut keys: Value =
        serde_json::from_slice(&fs::read(kept.folder.path().join("jwks.json")).unwrap()).unwrap();
    for key in keys["keys"].as_array_mut().unwrap() {
        let kid = key["kid"].as_str().unwrap().replace("rec-", "rec-another");
        key["kid"] = kid.into();
    }
    let others = kept.write("others.json", keys.to_string().as_bytes());
    let (code, told, _) = verify(&[OsStr::new("--keys"), others.as_os_str()], &[stored]);
    assert!(code == 3 && told.contains("not among the keys"), "{told}");
    // The same key under the same name, but another one's numbers: no signature holds.
    let text = keys.to_string().replace("rec-another", "rec-");
    let mut keys: Value = serde_json::from_str(&text).unwrap();
    let identity =
        keys["keys"].as_array().unwrap().iter().find(|key| key["kid"].as_str().unwrap().starts_with("id-"));
    let x = identity.unwrap()["x"].clone();
    for key in keys["keys"].as_array_mut().unwrap() {
        key["x"] = x.clone();
    }
    let false_keys = kept.write("false.json", keys.to_string().as_bytes());
    let (code, told, _) = verify(&[OsStr::new("--keys"), false_keys.as_os_str()], &[stored]);
    assert!(code == 1 && told.contains("signature"), "{told}");
}

fn unusable(kept: &Evidence, stored: &Path, plain: &Path) {
    let keys = kept.folder.path().join("jwks.json");
    let keys = [OsStr::new("--keys"), keys.as_os_str()];
    let nothing = kept.folder.path().join("nothing.cast");
    for (keys, arguments) in [
        (&keys[..], vec![]),
        (&[][..], vec![stored.as_os_str()]),
        (&[OsStr::new("--keys"), nothing.as_os_str()][..], vec![stored.as_os_str()]),
        (&[OsStr::new("--keys"), plain.as_os_str()][..], vec![stored.as_os_str()]),
        (&keys[..], vec![nothing.as_os_str()]),
        (&keys[..], vec![kept.folder.path().as_os_str()]),
        (&keys[..], vec![stored.as_os_str(), OsStr::new("--index"), nothing.as_os_str()]),
        (&keys[..], vec![stored.as_os_str(), plain.as_os_str(), OsStr::new("--seal"), stored.as_os_str()]),
        (&keys[..], vec![stored.as_os_str(), OsStr::new("--nonsense")]),
    ] {
        let (code, told, said) = verify(keys, &arguments);
        assert!(code == 4 && told.is_empty() && !said.is_empty(), "{arguments:?}: {code} {told} {said}");
    }
    let (code, told, _) = verify(&keys, &[OsStr::new("--help")]);
    assert!(code == 0 && told.contains("first_bad_chunk") && told.contains("Exit codes"), "{told}");
    // Of several the worst: altered before unreadable before incomplete.
    let empty = kept.write("empty.cast", b"");
    let (code, verdicts) = kept.json(&[stored, &nothing, &empty]);
    assert_eq!(code, 4);
    let told: Vec<_> = verdicts.iter().map(|verdict| verdict["verdict"].as_str().unwrap()).collect();
    assert_eq!(told, ["whole", "unreadable", "incomplete"]);
    fs::copy(plain, kept.folder.path().join("evil.cast")).unwrap();
    fs::copy(kept.path("seal"), kept.folder.path().join("evil.seal")).unwrap();
    let evil = kept.write("evil.index.json", b"{}").with_file_name("evil.cast");
    assert_eq!(kept.json(&[&nothing, stored, &evil]).0, 1);
}
