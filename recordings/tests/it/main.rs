//! Recordings from the outside: spool, upload and playback over real files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod finding;
mod live;
mod playback;
mod spool;
mod upload;
mod verify;
mod world;
