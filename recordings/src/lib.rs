//! Sessions, kept: journal, asciicast, chunks, seal, store, upload, playback; knows neither users nor sockets.
//!
//! One truth, many forms: a [`Spool`] holds one append-only journal a session, written by a [`Recorder`]. The
//! cast, its chunks, hashes and seal derive from it when the session has ended; the [`Uploader`] moves them to
//! the store, and only when they have been read back does the journal go. A [`Library`] reads recordings back,
//! from the store or, while they are not there yet, from the journal; a [`Live`] reads one that is being written.
//! From a stored cast, in one pass, derive what makes it quick to play and to search: segments, transcript, commands.
//! They are no part of what is sealed, can be thrown away at any time, and are made anew when asked for.
//! [`verify::verify`] tells whether one is what was sealed.

pub mod alis;
pub mod asciicast;
pub mod chunks;
pub mod commands;
pub mod derived;
pub mod disk;
pub mod finding;
mod forms;
pub mod journal;
pub mod ledger;
pub mod live;
mod pass;
pub mod playback;
pub mod recorder;
mod render;
pub mod screen;
pub mod seal;
pub mod segments;
pub mod spool;
pub mod store;
pub mod transcript;
pub mod upload;
mod utf8;

pub mod verify;
mod window;
mod writer;

pub use asciicast::read::CastError;
pub use chunks::{Chunk, Compression, Index};
pub use commands::Command;
pub use derived::Derived;
pub use disk::{Disk, System};
pub use finding::Transcript;
pub use journal::{End, Event, Exit, Facts, Header, Kind};
pub use ledger::{Ledger, LedgerError, RecordingState, Stored};
pub use live::{Follow, Followed, LAG, Live, LiveError, REPLAY, Redraw};
pub use playback::{Cast, Library, PlaybackError};
pub use recorder::{Recorder, RecorderError};
pub use screen::Screen;
pub use seal::{SealError, Sealer};
pub use spool::{Aside, Durability, Recovered, Recovery, Spool, SpoolError, SpoolOptions};
pub use store::{Store, StoreError, open_store, open_store_with};
pub use transcript::{ScreenLine, search};
pub use upload::{UploadOptions, Uploader};
