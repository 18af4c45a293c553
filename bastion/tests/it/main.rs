//! The whole of Castellan, in one binary: a real bastion, real agents, real sockets; one file a capability.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::large_futures)]

mod harness;
mod signing;
mod terminals;

mod audit;
mod authorize;
mod chaos;
mod contract;
mod crash;
mod databases;
mod disk;
mod door;
mod evidence;
mod finding;
mod flaky;
mod heartbeat;
mod input;
mod keeping;
mod people;
mod playback;
mod reattach;
mod recordings;
mod registrations;
mod resume;
mod sources;
mod terminal;
mod torture;
mod typed;
mod verify;
mod watching;
