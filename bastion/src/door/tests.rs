//! The door under test.
