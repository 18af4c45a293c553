//! What the chain promises, from outside.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod documents;
mod engine;
mod labels;
mod laws;
mod modules;
mod obligations;
mod scripted;
mod selectors;
