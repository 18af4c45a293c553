//! Recordings as they were stored, sealed by a notary whose hand can be told.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use recordings::seal::Chain;
use recordings::verify::{Beside, Form, Opened, SealFault, SealKeys, Verdict, verify};
use recordings::{Compression, Index, SealError, Sealer, Spool};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::world::{Book, World, header, ms, say, upload_until, uploader};

pub(crate) const FORMS: [Form; 2] = [Form::Plain, Form::Stored];

/// Signs, and knows who signed, by a hash instead of a key pair: nobody here forges one.
pub(crate) struct Notary(pub(crate) &'static str);

impl Notary {
    fn signature(message: &str, kid: &str) -> String {
        URL_SAFE_NO_PAD.encode(Sha256::digest(format!("the secret of {kid}: {message}")))
    }
}

impl Sealer for Notary {
    fn seal(&self, claims: &Value) -> Result<String, SealError> {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let header = json!({ "alg": "EdDSA", "kid": self.0, "typ": "castellan-seal+jwt" });
        let message = format!("{}.{}", part(&header), part(claims));
        let signature = Self::signature(&message, self.0);
        Ok(format!("{message}.{signature}"))
    }

    fn issuer(&self) -> &str {
        "https://bastion.example"
    }
}

impl SealKeys for Notary {
    fn open(&self, seal: &str) -> Result<Opened, SealFault> {
        let refused = |reason: &str| SealFault::Refused(reason.into());
        let part = |text: &str| -> Option<Value> {
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).ok()?).ok()
        };
        let (message, signature) = seal.rsplit_once('.').ok_or(refused("no dots"))?;
        let (header, claims) = message.split_once('.').ok_or(refused("one dot"))?;
        let header = part(header).ok_or(refused("no header"))?;
        let kid = header["kid"].as_str().ok_or(refused("no kid"))?.to_owned();
        if kid != self.0 {
            return Err(SealFault::UnknownKey(kid));
        }
        if signature != Self::signature(message, &kid) {
            return Err(refused("signature"));
        }
        Ok(Opened { kid, claims: part(claims).ok_or(refused("no claims"))? })
    }
}
/// A recording as it was stored.
#[derive(Clone)]
pub(crate) struct Kept {
    pub(crate) plain: Vec<u8>,
    pub(crate) stored: Vec<u8>,
    pub(crate) index: Vec<u8>,
    pub(crate) seal: Vec<u8>,
}

impl Kept {
    pub(crate) async fn of(world: &World, spool: &Spool, session: &str, compression: Compression) -> Self {
        let book = Arc::new(Book::default());
        let uploader = uploader(spool, world.store(), &book, compression);
        let key = upload_until(uploader, book.stored(session)).await.key;
        Self::read(world, &key, compression)
    }

    /// What lies in the world's store under the cast's key and beside it.
    pub(crate) fn read(world: &World, key: &str, compression: Compression) -> Self {
        let (stem, _) = key.split_once(".cast").unwrap();
        let stored = world.stored_file(key);
        let plain = match compression {
            Compression::Zstd => zstd::decode_all(&stored[..]).unwrap(),
            Compression::None => stored.clone(),
        };
        let file = |end: &str| world.stored_file(&format!("{stem}.{end}"));
        Self { plain, stored, index: file("index.json"), seal: file("seal") }
    }

    pub(crate) fn index(&self) -> Index {
        serde_json::from_slice(&self.index).unwrap()
    }

    pub(crate) fn cast(&self, form: Form) -> &[u8] {
        match form {
            Form::Plain => &self.plain,
            Form::Stored => &self.stored,
        }
    }

    /// The chunks' bytes in the cast of that form.
    pub(crate) fn pieces(&self, form: Form) -> Vec<Vec<u8>> {
        let place = |chunk: &recordings::Chunk| match form {
            Form::Plain => (chunk.plain_at, chunk.plain_len),
            Form::Stored => (chunk.at, chunk.len),
        };
        let piece = |(at, len): (u64, u64)| self.cast(form)[at as usize..][..len as usize].to_vec();
        self.index().chunks.iter().map(place).map(piece).collect()
    }

    /// The chunk that a byte of the cast lies in.
    pub(crate) fn chunk_at(&self, form: Form, at: usize) -> u64 {
        let pieces = self.pieces(form);
        let ends = pieces.iter().scan(0, |end, piece| {
            *end += piece.len();
            Some(*end)
        });
        ends.take_while(|end| *end <= at).count() as u64
    }

    pub(crate) fn verify(&self, form: Form, cast: &[u8]) -> Verdict {
        judge(form, cast, Some(&self.index), Some(&self.seal))
    }
}

pub(crate) fn judge(form: Form, cast: &[u8], index: Option<&[u8]>, seal: Option<&[u8]>) -> Verdict {
    verify(cast, form, &Beside { index, seal, session: None }, &Notary("rec-1")).unwrap()
}

/// A finished recording whose lines are its own.
pub(crate) async fn speak(spool: &Spool, session: &str, lines: u64) {
    let mut recorder = spool.start(header(session)).await.unwrap();
    for n in 0..lines {
        say(&mut recorder, ms(n * 20), format!("line {n} of {session}, 中文 {}\r\n", n * 7919).as_bytes())
            .await;
    }
    recorder.finish(ms(lines * 20), "exit", None).await.unwrap();
}

/// Two recordings of four chunks each.
pub(crate) fn kept() -> &'static [Kept; 2] {
    static KEPT: OnceLock<[Kept; 2]> = OnceLock::new();
    KEPT.get_or_init(|| {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let world = World::new();
            let spool = world.spool();
            speak(&spool, "s1", 1800).await;
            let first = Kept::of(&world, &spool, "s1", Compression::Zstd).await;
            speak(&spool, "s2", 1900).await;
            let second = Kept::of(&world, &spool, "s2", Compression::Zstd).await;
            assert!(first.index().chunks.len() == 4 && second.index().chunks.len() == 4);
            [first, second]
        })
    })
}

/// What somebody writes who has no key, but can count and hash.
pub(crate) fn remade(index: &Index, plain: &[Vec<u8>], stored: &[Vec<u8>]) -> Vec<u8> {
    let mut index = index.clone();
    let mut chain = Chain::new(&index.facts).unwrap();
    let like = index.chunks.clone();
    index.chunks.clear();
    (index.plain_len, index.stored_len) = (0, 0);
    for (n, (plain, stored)) in plain.iter().zip(stored).enumerate() {
        let sha256: [u8; 32] = Sha256::digest(plain).into();
        chain.push(sha256);
        let mut chunk = like[n.min(like.len() - 1)].clone();
        (chunk.n, chunk.at, chunk.plain_at) = (n as u64, index.stored_len, index.plain_len);
        (chunk.len, chunk.plain_len) = (stored.len() as u64, plain.len() as u64);
        (chunk.sha256, chunk.chain) = (hex::encode(sha256), chain.head());
        index.stored_len += chunk.len;
        index.plain_len += chunk.plain_len;
        index.chunks.push(chunk);
    }
    serde_json::to_vec(&index).unwrap()
}
