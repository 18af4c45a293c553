//! A spool's journals, held open and read as their format is published.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::PathBuf,
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{LOOK, witness::Witness};

/// The journals in a spool, held open, so that they can be read when the bastion has removed them.
pub struct Journals {
    pub spool: PathBuf,
    pub known: BTreeMap<String, Journal>,
}

/// One of them, read as its format is published (recordings/src/journal.rs), by other code.
pub struct Journal {
    file: File,
    /// After the last whole record.
    at: u64,
    pub output: Vec<u8>,
    /// How often its host came back.
    pub resumed: u32,
    pub ended: bool,
}

impl Journals {
    pub fn look(&mut self) {
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

    pub async fn look_until(&mut self, dead: &CancellationToken) {
        while !dead.is_cancelled() {
            self.look();
            sleep(LOOK).await;
        }
    }

    /// What is shown is recorded, byte for byte; what was compared need not be kept.
    pub fn hold(&mut self, witness: &mut Witness) {
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
    pub fn read_on(&mut self) {
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
