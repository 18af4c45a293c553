//! The agent: runs on a host, dials out, serves shells.
