//! One object that was derived from a recording, open for reading: plain, or zstd as it lies.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use futures_util::stream::{self};
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use zstd::stream::raw::{Decoder, InBuffer, Operation, OutBuffer};

use crate::playback::{Bits, PlaybackError, blocking};
use crate::store::pieces;

/// Plain bytes unpacked at a time.
const STEP: usize = 256 << 10;

/// One object that was derived from a recording; JSON, kept as zstd.
#[derive(Clone)]
pub struct Derived {
    /// Bytes of the plain object.
    pub plain_len: u64,
    /// Bytes as it lies.
    pub stored_len: u64,
    /// A strong entity tag, quoted.
    pub etag: String,
    pub(crate) body: Body,
}

#[derive(Clone)]
pub(crate) enum Body {
    /// Read and compared.
    Whole(Bytes),
    /// Too large to be compared before it is used; should it turn out to be damaged, `forms` is struck, so that all is
    /// made anew.
    Object { objects: Arc<dyn ObjectStore>, key: Path, forms: Path },
}

impl Derived {
    /// As it lies: zstd.
    pub fn raw(&self) -> Bits {
        match &self.body {
            Body::Whole(bytes) => stream::iter([Ok(bytes.clone())]).boxed(),
            Body::Object { objects, key, .. } => {
                let (objects, key) = (Arc::clone(objects), key.clone());
                let whole = |piece: Option<Bytes>| {
                    piece.ok_or_else(|| PlaybackError::Derived(io::ErrorKind::UnexpectedEof.into()))
                };
                pieces(objects, key, self.stored_len)
                    .map(move |piece| piece.map_err(PlaybackError::from).and_then(whole))
                    .boxed()
            }
        }
    }

    /// Unpacked.
    pub fn plain(&self) -> Bits {
        let plain = unpacked(self.raw(), self.plain_len);
        let Body::Object { objects, forms, .. } = self.body.clone() else {
            return plain;
        };
        let struck = move |error| {
            let (objects, forms) = (Arc::clone(&objects), forms.clone());
            async move {
                if matches!(error, PlaybackError::Derived(_)) {
                    // If it cannot be struck either, the next reader will find out again.
                    let _ = objects.delete(&forms).await;
                }
                error
            }
        };
        plain
            .then(move |step| {
                let struck = struck.clone();
                async move {
                    match step {
                        Ok(bytes) => Ok(bytes),
                        Err(error) => Err(struck(error).await),
                    }
                }
            })
            .boxed()
    }

    /// Unpacked, all of it.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn bytes(&self) -> Result<Bytes, PlaybackError> {
        Ok(self.plain().try_collect::<Vec<_>>().await?.concat().into())
    }
}

struct Unpacking {
    packed: Bits,
    rest: Bytes,
    decoder: Option<Decoder<'static>>,
    /// Whether the decoder may hold more than fitted the last step.
    full: bool,
    left: u64,
}

/// The plain bytes of zstd frames, some at a time however small they were packed.
fn unpacked(packed: Bits, plain_len: u64) -> Bits {
    let begin = Unpacking { packed, rest: Bytes::new(), decoder: None, full: false, left: plain_len };
    stream::try_unfold(begin, |mut state| async move {
        loop {
            if state.rest.is_empty() && !state.full {
                match state.packed.try_next().await? {
                    Some(piece) => state.rest = piece,
                    None if state.left == 0 => return Ok(None),
                    None => return Err(PlaybackError::Derived(io::ErrorKind::UnexpectedEof.into())),
                }
            }
            let (plain, next) = blocking(move || step(state)).await?;
            state = next;
            if !plain.is_empty() {
                return Ok(Some((plain, state)));
            }
        }
    })
    .boxed()
}

fn step(mut state: Unpacking) -> Result<(Bytes, Unpacking), PlaybackError> {
    let mut decoder = match state.decoder.take() {
        Some(decoder) => decoder,
        None => Decoder::new().map_err(PlaybackError::Derived)?,
    };
    let mut plain = vec![0; STEP];
    let mut output = OutBuffer::around(&mut plain[..]);
    while output.pos() < STEP {
        let before = output.pos();
        let mut input = InBuffer::around(&state.rest);
        decoder.run(&mut input, &mut output).map_err(PlaybackError::Derived)?;
        let taken = input.pos();
        state.rest.advance(taken);
        if taken == 0 && output.pos() == before {
            break;
        }
    }
    let len = output.pos();
    state.full = len == STEP;
    plain.truncate(len);
    let left = state.left.checked_sub(len as u64);
    state.left = left.ok_or_else(|| PlaybackError::Derived(io::ErrorKind::InvalidData.into()))?;
    state.decoder = Some(decoder);
    Ok((plain.into(), state))
}
