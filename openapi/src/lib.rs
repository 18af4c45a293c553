//! The contract: what goes over the wire, and nothing that acts on it.
