//! The bastion: composes everything; owns every URL and every table.

mod access;
mod api;
mod app;
mod clock;
pub mod config;
mod db;
mod door;
mod enrolment;
mod hub;
mod pages;
mod passwords;
mod session;
mod signing;
mod sockets;
mod tickets;
mod vault;
