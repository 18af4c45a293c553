//! The bastion: composes everything; owns every URL and every table.

pub mod config;
pub mod door;
pub mod pages;
