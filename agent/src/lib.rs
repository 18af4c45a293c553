//! The agent: runs on a host, dials out, serves shells.

pub mod platform;
pub mod processes;
pub mod shell;
pub mod stream;
