//! Recordings from the outside: spool, upload and playback over real files.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bucket;
mod casts;
mod crash;
mod damage;
mod faults;
mod finding;
mod flaky;
mod forged;
mod kept;
mod live;
mod oddities;
mod playback;
mod s3;
mod spool;
mod upload;
mod verify;
mod world;
