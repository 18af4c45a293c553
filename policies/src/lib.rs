//! May this user open this terminal now, at which level, and for how long: a chain of modules, every one of which can deny.
//!
//! The crate is pure: it knows no HTTP, no SQL and no clock of its own. The caller looks up [`Facts`], says what time it
//! is, and gets a [`Ruling`] with its whole trail; [`Chain::decide`] is the one engine behind asking for a ticket,
//! redeeming it, listing, continuous checks and simulation. `README.md` walks through writing a module of one's own.

pub mod allowed_users;
pub mod asset_state;
pub mod chain;
pub mod concurrency;
pub mod document;
pub mod facts;
pub mod labels;
pub mod obligations;
pub mod rate_limit;
pub mod registry;
pub mod ruling;
pub mod selector;
mod weigh;

pub use allowed_users::AllowedUsers;
pub use asset_state::AssetState;
pub use chain::Chain;
pub use concurrency::Concurrency;
pub use document::{Fault, configured};
pub use facts::{
    AssetFacts, AssetStatus, Capabilities, Facts, Level, LiveSessions, Purpose, Request, Subject,
};
pub use labels::Labels;
pub use obligations::{Demand, Obligations};
pub use rate_limit::RateLimit;
pub use registry::{
    Class, Concern, ConfigError, Cost, EvalCtx, EventMask, ModuleError, PolicyFactory, PolicyModule, Registry,
};
pub use ruling::{
    Challenge, ChallengeKind, Effect, Finding, Grant, Need, Outcome, PolicyFinding, Reason, Refusal, Ruling,
    Scope, TrailEntry, Verdict,
};
pub use selector::{Selector, SelectorError};

/// A registry of the modules this crate brings; a module of one's own is one more `register`.
#[must_use]
pub fn builtin() -> Registry {
    Registry::default()
        .register(AssetState)
        .register(AllowedUsers)
        .register(Labels)
        .register(Concurrency)
        .register(RateLimit)
}

/// The document a new bastion starts with: the asset's own list says who, hosts must be up, sessions are counted.
#[must_use]
pub fn starting_document() -> &'static str {
    include_str!("starting.json")
}
