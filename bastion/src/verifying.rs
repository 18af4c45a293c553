//! `castellan verify`: recordings judged offline, told to people and programs; what makes one authentic is not decided here.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Seek as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail, ensure};
use bastion::seals::RecordingKeys;
use openapi::ticket::KeyList;
use recordings::verify::{Beside, Finding, Form, INDEX_MAX, SEAL_MAX, Standing, Verdict, verify};
use serde_json::{Value, json};

/// The longest list of keys that is looked at, in bytes.
const KEYS_MAX: u64 = 1 << 20;
/// Usage or input and output: nothing was judged.
pub const NOT_JUDGED: u8 = 4;

const LONG: &str = "\
Tell whether recordings are what was sealed, without asking anybody.

FILE is a recording as it lies in the object store (.cast.zst) or plain (.cast, as downloaded). Its index \
(<session id>.index.json) and its seal (<session id>.seal) are looked for beside it. The keys are the bastion's, \
as it serves them at /.well-known/jwks.json: fetch them once over a connection you trust, and keep them; whoever can \
replace the keys can replace the recordings.

Checked: the seal's signature by a recording key (its kid begins with rec-); the hash of each chunk and the chain over \
them from the session's facts to the head that is sealed; the number of chunks and bytes; that index and seal say the \
same; that nothing follows the last chunk. All of it is over the plain cast, so that both forms prove the same: \
a stored file whose compressed bytes differ and unpack to what was sealed is whole.

Not checked: the SHA-256 over the host's raw output (a cast is decoded text: the raw bytes cannot be had back from it; \
index and seal must name the same one); the part of a chunk that is cut; that no recording was taken away whole.";

const AFTER: &str = "\
Examples:
  curl -fsS https://bastion.example/.well-known/jwks.json > jwks.json
  castellan verify 0199a7c2-….cast.zst --keys jwks.json
  castellan verify evidence.cast --index 0199a7c2-….index.json --seal 0199a7c2-….seal --keys jwks.json
  castellan verify --json --keys jwks.json 2026/11/23/*.cast.zst | jq -c 'select(.verdict != \"whole\")'

Exit codes, the worst of all files in this order: 1, 4, 3, 2, 0
  0  authentic and whole; one that was sealed after a crash says so
  1  altered: cast, index or seal is not what was written; the first bad chunk is named
  2  authentic as far as it goes, but incomplete: the end is cut off, or the index or the seal is missing
  3  the seal's key is not among the keys: nothing is proven
  4  wrong usage, or a file that cannot be read: nothing was judged

With --json, one object a line for each FILE:
  file             as given
  verdict          whole, altered, incomplete, unknown_key or unreadable
  exit             what this file alone would exit with
  form             stored or plain
  session          id of the session; unproven unless seal is there
  chunks           how many there should be; unproven unless seal is there
  matched          chunks, from the first, that are what index and seal say
  first_bad_chunk  the first chunk (from 0) that is altered, in the cast or in the index; null if none is known
  proven           whether all of the cast is as sealed, even if the index is missing or altered
  recovered        whether it was sealed after a crash, as it stood; null without a seal
  findings         what is wrong, the gravest first: code, message and, if it is about one, chunk
  kid              the key that signed the seal
  seal             the seal's claims; null unless its signature holds
  error            why the file is unreadable; only then, and then without all from form on";

/// What `castellan verify` takes.
#[derive(clap::Args)]
#[command(long_about = LONG, after_long_help = AFTER)]
pub struct Verify {
    /// Recordings, stored (.cast.zst) or plain (.cast).
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// The bastion's keys, as served at /.well-known/jwks.json.
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// The recording's index, if it is not beside it; for one FILE only.
    #[arg(long, value_name = "FILE")]
    index: Option<PathBuf>,
    /// The recording's seal, if it is not beside it; for one FILE only.
    #[arg(long, value_name = "FILE")]
    seal: Option<PathBuf>,
    /// Print JSON, one object a line for each FILE.
    #[arg(long)]
    json: bool,
}

impl Verify {
    /// Judges every file and tells of each; the code of the worst.
    pub fn run(&self) -> ExitCode {
        match self.judge_all() {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                eprintln!("castellan: {error:#}");
                ExitCode::from(NOT_JUDGED)
            }
        }
    }

    fn judge_all(&self) -> Result<u8> {
        if self.files.len() > 1 && (self.index.is_some() || self.seal.is_some()) {
            bail!("--index and --seal belong to one FILE: verify such files one at a time");
        }
        let keys = load(&self.keys)?;
        let mut worst = 0;
        for file in &self.files {
            let judged = self.judge(file, &keys);
            let code = judged.as_ref().map_or(NOT_JUDGED, |verdict| verdict.standing().exit());
            if self.json {
                writeln!(io::stdout(), "{}", as_json(file, &judged, code))?;
            } else {
                tell(file, &judged)?;
            }
            worst = std::cmp::max_by_key(worst, code, |code| rank(*code));
        }
        Ok(worst)
    }

    fn judge(&self, file: &Path, keys: &RecordingKeys) -> Result<Verdict> {
        let name = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
        let stem = stem(&name);
        let index = beside(file, self.index.as_deref(), &format!("{stem}.index.json"), INDEX_MAX)?;
        let seal = beside(file, self.seal.as_deref(), &format!("{stem}.seal"), SEAL_MAX)?;
        let (cast, form) = open(file, &name).context("cannot be read")?;
        // A file may be called anything; one that is called as a session must be that session's.
        let session = uuid::Uuid::try_parse(stem).is_ok().then_some(stem);
        let beside = Beside { index: index.as_deref(), seal: seal.as_deref(), session };
        verify(cast, form, &beside, keys).context("cannot be read")
    }
}

/// A file's name without what its form adds: the session's id, as the bastion names files.
fn stem(name: &str) -> &str {
    let plain = name.strip_suffix(".zst").unwrap_or(name);
    plain.strip_suffix(".cast").unwrap_or(plain)
}

fn open(path: &Path, name: &str) -> io::Result<(File, Form)> {
    let mut file = File::open(path)?;
    let mut first = Vec::new();
    (&file).take(4).read_to_end(&mut first)?;
    file.rewind()?;
    Ok((file, Form::of(name, &first)))
}

/// What was given, which must be there; else what lies beside the recording, which may be missing.
fn beside(file: &Path, given: Option<&Path>, name: &str, most: u64) -> Result<Option<Vec<u8>>> {
    let path = given.map_or_else(|| file.with_file_name(name), Path::to_owned);
    match read(&path, most) {
        Err(error) if error.kind() == ErrorKind::NotFound && given.is_none() => Ok(None),
        bytes => Ok(Some(bytes.with_context(|| format!("{} cannot be read", path.display()))?)),
    }
}

/// A small file; of one that is longer than `most` bytes no more than shows that it is.
fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The keys of a file as it is served at `/.well-known/jwks.json`.
fn load(path: &Path) -> Result<RecordingKeys> {
    let said = || format!("--keys {}", path.display());
    let bytes = read(path, KEYS_MAX).with_context(said)?;
    ensure!(bytes.len() as u64 <= KEYS_MAX, "{}: longer than {KEYS_MAX} bytes", said());
    let list: KeyList = serde_json::from_slice(&bytes).map_err(|error| {
        anyhow::anyhow!("{}: no list of keys as served at /.well-known/jwks.json: {error}", said())
    })?;
    RecordingKeys::of(&list.keys).with_context(said)
}

/// How bad a code is: proof of an alteration first, then by how much is left unknown.
fn rank(code: u8) -> u8 {
    match code {
        1 => 4,
        NOT_JUDGED => 3,
        3 => 2,
        2 => 1,
        _ => 0,
    }
}

fn as_json(file: &Path, judged: &Result<Verdict>, code: u8) -> Value {
    let file = file.to_string_lossy();
    let verdict = match judged {
        Ok(verdict) => verdict,
        Err(error) => {
            return json!({ "file": file, "verdict": "unreadable", "exit": code, "error": format!("{error:#}") });
        }
    };
    let mut told = serde_json::to_value(verdict.report()).unwrap_or_default();
    told["file"] = file.into();
    told
}

/// Verdicts go to the standard output, what could not be judged to the standard error.
fn tell(file: &Path, judged: &Result<Verdict>) -> io::Result<()> {
    let file = inert(&file.to_string_lossy());
    match judged {
        Ok(verdict) => io::stdout().write_all(told(&file, verdict).as_bytes()),
        Err(error) => writeln!(io::stderr(), "{file}: not judged: {}", inert(&format!("{error:#}"))),
    }
}

fn told(file: &str, verdict: &Verdict) -> String {
    let mut lines = vec![format!("{file}: {}", headline(verdict))];
    for finding in &verdict.findings {
        lines.push(inert(&finding.to_string()));
        lines.extend(advice(finding, verdict).map(str::to_owned));
    }
    if let Some(seal) = &verdict.seal {
        let claims = &seal.claims;
        let facts = &claims.facts;
        lines.push(inert(&format!(
            "session {} of user {} on asset {}, {} to {} ({})",
            facts.session, facts.user, facts.asset, facts.started, claims.ended, claims.reason
        )));
        lines.push(inert(&format!(
            "sealed by {} with key {}: {} chunks, {} bytes",
            claims.iss, seal.kid, claims.chunks, claims.plain_len
        )));
        if claims.recovered {
            lines.push("recovered: sealed after a crash, as it stood then".to_owned());
        }
        if claims.lost_bytes > 0 {
            lines.push(format!("{} bytes of output were lost and are marked so", claims.lost_bytes));
        }
    }
    lines.join("\n  ") + "\n"
}

fn headline(verdict: &Verdict) -> String {
    let chunks = verdict.chunks.map(|chunks| format!("{} of {chunks} chunks", verdict.matched));
    match verdict.standing() {
        Standing::Whole => "authentic and whole".to_owned(),
        Standing::Altered if verdict.proven => "ALTERED, but the cast itself is as sealed".to_owned(),
        Standing::Altered => match verdict.first_bad() {
            Some(chunk) => format!("ALTERED, from chunk {chunk} on"),
            None => "ALTERED".to_owned(),
        },
        Standing::UnknownKey => "not proven: its seal's key is not known".to_owned(),
        Standing::Incomplete if verdict.proven => "incomplete; the cast itself is as sealed".to_owned(),
        Standing::Incomplete if verdict.seal.is_none() => {
            let chunks =
                chunks.map(|chunks| format!("; {chunks} are what the index says")).unwrap_or_default();
            format!("not proven: incomplete{chunks}")
        }
        Standing::Incomplete if verdict.matched == 0 => {
            "incomplete; nothing of it could be proven".to_owned()
        }
        Standing::Incomplete => {
            format!("incomplete; authentic as far as it goes: {}", chunks.unwrap_or_default())
        }
    }
}

/// What one may do about a finding.
fn advice(finding: &Finding, verdict: &Verdict) -> Option<&'static str> {
    match finding {
        Finding::UnknownKey { .. } => {
            Some("fetch /.well-known/jwks.json from the bastion that made the recording")
        }
        Finding::NoIndex if verdict.proven => {
            Some("each frame is a chunk, and together they are what was sealed")
        }
        Finding::NoIndex => Some("put <session id>.index.json beside the file, or name it with --index"),
        Finding::NoSeal => Some("put <session id>.seal beside the file, or name it with --seal"),
        Finding::Chunk { .. } | Finding::Unsealed if verdict.form == Form::Stored => {
            Some("if it was compressed anew, unpack it (zstd -d) and verify the plain cast")
        }
        Finding::Cut { .. } | Finding::Shorter { .. } | Finding::Empty => {
            Some("if it was copied, copy it again; what is missing cannot be judged")
        }
        Finding::Chunk { .. }
        | Finding::Surplus { .. }
        | Finding::Unsealed
        | Finding::Index { .. }
        | Finding::IndexEntry { .. }
        | Finding::Disagree { .. }
        | Finding::OtherSession { .. }
        | Finding::Seal { .. } => None,
    }
}

/// Text of others on its way to a terminal.
fn inert(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}
