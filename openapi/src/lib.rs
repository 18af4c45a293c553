//! The contract: what goes over the wire, and nothing that acts on it.
//!
//! Both ends, bastion and agent, use these very types, so that they cannot drift apart.

pub mod agents;
pub mod frames;
pub mod keys;
pub mod signature;
pub mod ticket;
