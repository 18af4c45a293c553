//! Sessions, kept: journal, asciicast, chunks, seal, store, upload, playback; knows neither users nor sockets.
//!
//! One truth, many forms: a [`Spool`] holds one append-only journal a session, written by a [`Recorder`]. The
//! cast, its chunks, hashes and seal derive from it when the session has ended; the [`Uploader`] moves them to
//! the store, and only when they have been read back does the journal go. A [`Library`] reads recordings back,
//! from the store or, while they are not there yet, from the journal; a [`Live`] reads one that is being written.
//! [`verify::verify`] tells whether one is what was sealed.

pub mod alis;
pub mod asciicast;
pub mod chunks;
pub mod journal;
pub mod ledger;
pub mod live;
pub mod playback;
pub mod recorder;
mod render;
pub mod screen;
pub mod seal;
pub mod spool;
pub mod store;
pub mod upload;
mod utf8;
pub mod verify;
mod writer;

pub use chunks::{Chunk, Compression, Index};
pub use journal::{End, Event, Exit, Facts, Header, Kind};
pub use ledger::{Ledger, LedgerError, RecordingState, Stored};
pub use live::{Follow, Followed, LAG, Live, LiveError, REPLAY, Redraw};
pub use playback::{Cast, Library, PlaybackError};
pub use recorder::{Recorder, RecorderError};
pub use screen::Screen;
pub use seal::{SealError, Sealer};
pub use spool::{Aside, Durability, Recovered, Recovery, Spool, SpoolError, SpoolOptions};
pub use store::{Store, StoreError, open_store};
pub use upload::{UploadOptions, Uploader};
