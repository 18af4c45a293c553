//! Recordings from the outside: spool, upload and playback over real files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod faults;
mod finding;
mod flaky;
mod forged;
mod kept;
mod live;
mod playback;
mod spool;
mod upload;
mod verify;
mod world;
