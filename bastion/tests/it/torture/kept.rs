//! What a store has of recordings, and whether that is whole.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use serde_json::Value;

use crate::harness::Bastion;

/// What the store has, and who can tell whether it is whole.
pub struct Kept {
    keys: PathBuf,
    files: Vec<PathBuf>,
}

impl Kept {
    pub async fn of(bastion: &Bastion) -> Self {
        let keys = bastion.home().join("jwks.json");
        let url = format!("http://{}/.well-known/jwks.json", bastion.local());
        let answer = bastion.http().get(url).send().await.unwrap().bytes().await.unwrap();
        fs::write(&keys, answer).unwrap();
        Self { keys, files: files_below(&store_of(bastion)) }
    }

    pub fn only(&self, session: &str, end: &str) -> &Path {
        let name = format!("{session}.{end}");
        let mut found = self.files.iter().filter(|file| file.ends_with(&name));
        let file = found.next().unwrap_or_else(|| panic!("{name} is not in the store"));
        assert!(found.next().is_none(), "{name} is there twice");
        file
    }

    pub fn index(&self, session: &str) -> Value {
        serde_json::from_slice(&fs::read(self.only(session, "index.json")).unwrap()).unwrap()
    }

    /// The plain cast of a recording that `castellan verify` finds whole.
    pub fn whole(&self, session: &str) -> String {
        let cast = self.only(session, "cast.zst");
        self.only(session, "seal");
        let mut verify = std::process::Command::new(env!("CARGO_BIN_EXE_castellan"));
        let told = verify.arg("verify").arg("--keys").arg(&self.keys).arg(cast).output().unwrap();
        assert_eq!(told.status.code(), Some(0), "{}", String::from_utf8_lossy(&told.stdout));
        String::from_utf8(zstd::decode_all(File::open(cast).unwrap()).unwrap()).unwrap()
    }
}

pub fn store_of(bastion: &Bastion) -> PathBuf {
    PathBuf::from(bastion.config().store.url.strip_prefix("file://").unwrap())
}

pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let entries = entries.filter_map(Result::ok).map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
