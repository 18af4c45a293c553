//! `rate_limit`: how often a user may ask for a ticket. The limits at the door (failed log-ins, strangers) are elsewhere.
//!
//! Counts live in this module: each node counts for itself, and loading a new document starts afresh.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use governor::clock::{Clock, Reference};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};
use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    Class, Concern, ConfigError, Cost, EvalCtx, ModuleError, Outcome, PolicyFactory, PolicyModule, Purpose,
    Reason, configured,
};

/// The kind `rate_limit`.
#[derive(Clone, Copy, Debug)]
pub struct RateLimit;

/// How often a user may ask for a ticket.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Tickets a minute, in the long run.
    per_user_per_minute: NonZeroU32,
    /// Tickets at once after a pause; left out, as many as a minute's.
    burst: Option<NonZeroU32>,
}

/// Users counted apart; beyond them all share one count, so that memory is bounded and the door stays guarded.
const MOST_USERS: usize = 100_000;
/// How often the counts of users who have been quiet are dropped.
const TRIM_EVERY_MS: u64 = 60_000;

/// A user, or `None` for all those above [`MOST_USERS`].
type Key = Option<Box<str>>;

struct Module {
    clock: Told,
    limiter: RateLimiter<Key, DashMapStateStore<Key>, Told, NoOpMiddleware<UtcNanos>>,
    trimmed_at: AtomicU64,
    most: usize,
}

impl PolicyFactory for RateLimit {
    fn kind(&self) -> &'static str {
        "rate_limit"
    }

    fn class(&self) -> Class {
        Class::Guard
    }

    fn cost(&self) -> Cost {
        Cost::Pure
    }

    fn concern(&self) -> Concern {
        Concern::Limits
    }

    fn schema(&self) -> Schema {
        schema_for!(Config)
    }

    fn build(&self, config: Value) -> Result<Arc<dyn PolicyModule>, ConfigError> {
        let config: Config = configured(config)?;
        let quota = Quota::per_minute(config.per_user_per_minute);
        let quota = config.burst.map_or(quota, |burst| quota.allow_burst(burst));
        Ok(Arc::new(Module::new(quota, MOST_USERS)))
    }
}

impl Module {
    fn new(quota: Quota, most: usize) -> Self {
        let clock = Told::default();
        let limiter = RateLimiter::dashmap_with_clock(quota, clock.clone());
        Self { clock, limiter, trimmed_at: AtomicU64::new(0), most }
    }

    fn trim(&self, now: u64) {
        let last = self.trimmed_at.load(Ordering::Relaxed);
        let due = now >= last.saturating_add(TRIM_EVERY_MS);
        // One of those who see that it is due does it.
        let mine =
            || self.trimmed_at.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if due && mine() {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
    }

    fn key(&self, user: &str) -> Key {
        (self.limiter.len() < self.most).then(|| user.into())
    }
}

#[async_trait]
impl PolicyModule for Module {
    async fn evaluate(&self, cx: &EvalCtx<'_>) -> Result<Outcome, ModuleError> {
        if cx.purpose != Purpose::Issue {
            return Ok(Outcome::abstain());
        }
        let now = u64::try_from(cx.now).map_err(|_| ModuleError::new("the time is before 1970"))?;
        self.clock.tell(now);
        self.trim(now);
        Ok(match self.limiter.check_key(&self.key(&cx.facts.subject.id)) {
            Ok(()) => Outcome::allow(),
            Err(until) => {
                let wait = until.wait_time_from(self.clock.now());
                Outcome::deny(rate_limited(wait.as_millis().div_ceil(1000).max(1)))
            }
        })
    }
}

fn rate_limited(seconds: u128) -> Reason {
    let seconds = u64::try_from(seconds).unwrap_or(u64::MAX);
    Reason::new("rate_limited", "the user asks for tickets too often")
        .told(format!("Too many tries; try again in {seconds} s."))
        .with("retry_after", seconds)
}

/// A clock that knows the time because it is told, and never goes back.
#[derive(Clone, Debug, Default)]
struct Told(Arc<AtomicU64>);

impl Told {
    fn tell(&self, millis: u64) {
        self.0.fetch_max(millis, Ordering::Relaxed);
    }
}

impl Clock for Told {
    type Instant = UtcNanos;

    fn now(&self) -> UtcNanos {
        UtcNanos(self.0.load(Ordering::Relaxed).saturating_mul(1_000_000))
    }
}

/// Nanoseconds since 1970, the unit governor counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct UtcNanos(u64);

impl std::ops::Add<Nanos> for UtcNanos {
    type Output = Self;

    fn add(self, more: Nanos) -> Self {
        Self(self.0.saturating_add(more.as_u64()))
    }
}

impl Reference for UtcNanos {
    fn duration_since(&self, earlier: Self) -> Nanos {
        self.0.saturating_sub(earlier.0).into()
    }

    fn saturating_sub(&self, duration: Nanos) -> Self {
        Self(self.0.saturating_sub(duration.into()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use super::*;
    use crate::{AssetFacts, Facts, Subject, Verdict};

    async fn asks(module: &Module, user: &str, now: i64) -> bool {
        let facts = Facts { subject: Subject { id: user.into(), ..Subject::default() }, ..Facts::default() };
        let asset = AssetFacts::default();
        let cx = EvalCtx { facts: &facts, asset: &asset, now, purpose: Purpose::Issue };
        module.evaluate(&cx).await.unwrap().verdict == Verdict::Allow
    }

    fn module() -> Module {
        Module::new(Quota::per_minute(NonZeroU32::new(2).unwrap()), 3)
    }

    #[tokio::test]
    async fn beyond_the_cap_all_users_share_one_count_and_memory_stays_bounded() {
        let module = module();
        let mut allowed = 0;
        for nth in 0..1000 {
            allowed += usize::from(asks(&module, &format!("u{nth}"), 120_000).await);
        }
        assert_eq!(allowed, 3 + 2, "three users apart, and the two of the shared count");
        assert_eq!(module.limiter.len(), 4);
    }

    #[tokio::test]
    async fn the_counts_of_users_who_went_quiet_are_dropped() {
        let module = module();
        for user in ["a", "b", "c"] {
            assert!(asks(&module, user, 120_000).await);
        }
        assert!(asks(&module, "d", 240_000).await);
        assert_eq!(module.limiter.len(), 1);
    }
}
