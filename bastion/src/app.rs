//! What a handler may reach.

use std::{sync::Arc, time::Duration};

use recordings::{Library, Spool, Store};
use tokio_util::task::TaskTracker;

use crate::{
    access::Access,
    audit::Scribe,
    clock::Clock,
    config::{Config, RateLimits},
    db::{
        Db, DbError,
        audit::{Actor, Entry},
    },
    door::AddressLimiter,
    enrolment::Enrolment,
    hub::Hub,
    keeping::Keeper,
    passwords::Passwords,
    signing::Signing,
    vault::Vault,
};

/// How often strangers, users and agents may try.
pub struct Limits {
    /// Failed authentications, by address.
    pub anonymous: AddressLimiter,
    /// Logins, by address.
    pub logins: AddressLimiter,
    /// Registrations, by address.
    pub registrations: AddressLimiter,
    /// Tickets, by user.
    pub tickets: AddressLimiter,
    /// Refused tickets, by user.
    pub denials: AddressLimiter,
}

impl Limits {
    /// As configured.
    pub fn new(limits: &RateLimits) -> Self {
        Self {
            anonymous: AddressLimiter::per_minute(limits.anonymous_per_minute),
            logins: AddressLimiter::per_minute(limits.logins_per_minute),
            registrations: AddressLimiter::per_minute(limits.registrations_per_minute),
            tickets: AddressLimiter::per_minute(limits.tickets_per_minute),
            denials: AddressLimiter::per(limits.denials_per_10_minutes, Duration::from_secs(600)),
        }
    }
}

/// The parts of a running bastion.
pub struct App {
    /// As the operator set it.
    pub config: Config,
    /// Origins that may act with a login.
    pub origins: Vec<String>,
    /// Rows.
    pub db: Db,
    /// Secrets at rest.
    pub vault: Arc<Vault>,
    /// Keys.
    pub signing: Arc<Signing>,
    /// Agents.
    pub enrolment: Enrolment,
    /// Decisions.
    pub access: Access,
    /// Live sessions.
    pub hub: Hub,
    /// Recordings being made.
    pub spool: Spool,
    /// Recordings kept.
    pub library: Library,
    /// How long they are.
    pub keeper: Arc<Keeper>,
    /// The audit log's chain.
    pub scribe: Arc<Scribe>,
    /// Where they are kept.
    pub store: Store,
    /// Password hashing.
    pub passwords: Passwords,
    /// How often what may be tried.
    pub limits: Limits,
    /// The time.
    pub clock: Clock,
    /// Every task, the sockets' too.
    pub tasks: TaskTracker,
}

impl App {
    /// Writes down that somebody looks on.
    pub async fn note_watching(&self, session: &str, user: &str, address: &str) -> Result<(), DbError> {
        let entry = Entry::new(self.clock.millis(), Actor::User(user.to_owned()), "session.watch")
            .on("session", session)
            .at_address(address);
        self.db.note(entry).await
    }
}
