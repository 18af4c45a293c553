//! How often a client address, or a user, may try something; memory is bounded whatever keys come.

use std::{
    collections::HashMap,
    num::NonZeroU32,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock, Reference},
    middleware::StateInformationMiddleware,
    nanos::Nanos,
    state::keyed::DashMapStateStore,
};

/// Keys remembered at most; beyond, whoever comes shares one bucket until older ones are forgotten.
const KEYS: usize = 100_000;
/// How often keys that are at rest are forgotten.
const TRIM: Duration = Duration::from_secs(60);
/// The bucket that is shared.
const SHARED: &str = "";

/// Too often; how long to wait before the next try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many tries; wait {} s", .0.as_secs())]
pub struct RetryAfter(pub Duration);

impl RetryAfter {
    /// Whole seconds, rounded up, at least 1: the value of a `Retry-After` header.
    pub fn seconds(&self) -> u64 {
        let whole = self.0.as_secs() + u64::from(self.0.subsec_nanos() > 0);
        whole.max(1)
    }
}

type Buckets<C> = RateLimiter<String, DashMapStateStore<String>, C, StateInformationMiddleware>;

/// A limit by key, which is [`Peer::bucket`](super::Peer::bucket) or a user's id.
///
/// A limit on all tries asks [`check`](Self::check). A limit on failures asks [`blocked`](Self::blocked) before the
/// try and tells [`failed`](Self::failed) after it.
pub struct AddressLimiter<C: Clock = DefaultClock> {
    /// `None`: switched off.
    limit: Option<Limit<C>>,
}

struct Limit<C: Clock> {
    buckets: Buckets<C>,
    clock: C,
    replenish: Duration,
    keys: usize,
    memory: Mutex<Memory<C::Instant>>,
}

struct Memory<I> {
    /// Keys whose bucket a failure emptied, and until when.
    blocked: HashMap<String, I>,
    trimmed: I,
}

impl AddressLimiter {
    /// `tries` a minute for each key; 0 switches the limit off.
    pub fn per_minute(tries: u32) -> Self {
        Self::per(tries, Duration::from_secs(60))
    }

    /// `tries` in any `window` for each key; 0 switches the limit off.
    pub fn per(tries: u32, window: Duration) -> Self {
        Self::with_clock(tries, window, KEYS, DefaultClock::default())
    }
}

impl<C: Clock + Clone> AddressLimiter<C> {
    fn with_clock(tries: u32, window: Duration, keys: usize, clock: C) -> Self {
        let limit = NonZeroU32::new(tries).and_then(|tries| {
            let replenish = window / tries.get();
            let quota = Quota::with_period(replenish)?.allow_burst(tries);
            let memory = Memory { blocked: HashMap::new(), trimmed: clock.now() };
            let buckets = Buckets::new(quota, DashMapStateStore::default(), clock.clone());
            Some(Limit { buckets, clock, replenish, keys, memory: Mutex::new(memory) })
        });
        Self { limit }
    }

    /// Counts one try.
    ///
    /// # Errors
    /// When it is one too many, with the time to wait.
    pub fn check(&self, key: &str) -> Result<(), RetryAfter> {
        let Some(limit) = &self.limit else { return Ok(()) };
        let key = limit.bucket(key);
        match limit.buckets.check_key(&key) {
            Ok(_) => Ok(()),
            Err(refused) => Err(RetryAfter(refused.wait_time_from(limit.clock.now()))),
        }
    }

    /// How long `key` must wait, if it has failed too often. Counts nothing.
    pub fn blocked(&self, key: &str) -> Option<Duration> {
        let limit = self.limit.as_ref()?;
        let key = limit.bucket(key);
        let now = limit.clock.now();
        let until = *limit.memory().blocked.get(&key)?;
        Some(Duration::from(until.duration_since(now))).filter(|left| !left.is_zero())
    }

    /// Counts one failure.
    pub fn failed(&self, key: &str) {
        let Some(limit) = &self.limit else { return };
        let key = limit.bucket(key);
        let wait = match limit.buckets.check_key(&key) {
            Ok(state) if state.remaining_burst_capacity() > 0 => return,
            Ok(_) => limit.replenish,
            Err(refused) => refused.wait_time_from(limit.clock.now()),
        };
        let until = limit.clock.now() + Nanos::from(wait);
        limit.memory().blocked.insert(key, until);
    }
}

impl<C: Clock> Limit<C> {
    fn memory(&self) -> MutexGuard<'_, Memory<C::Instant>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bucket `key` falls into; forgets those at rest when it is time to.
    fn bucket(&self, key: &str) -> String {
        let now = self.clock.now();
        let mut memory = self.memory();
        if Duration::from(now.duration_since(memory.trimmed)) >= TRIM {
            memory.trimmed = now;
            memory.blocked.retain(|_, until| *until > now);
            memory.blocked.shrink_to_fit();
            self.buckets.retain_recent();
            self.buckets.shrink_to_fit();
        }
        // INVARIANT: the blocked are among the buckets, so the same bound holds for both.
        let full = self.buckets.len() >= self.keys && !memory.blocked.contains_key(key);
        if full { SHARED.to_owned() } else { key.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn limiter(tries: u32, keys: usize) -> (AddressLimiter<FakeRelativeClock>, FakeRelativeClock) {
        let clock = FakeRelativeClock::default();
        (AddressLimiter::with_clock(tries, MINUTE, keys, clock.clone()), clock)
    }

    #[test]
    fn tries_beyond_the_limit_wait_and_then_pass() {
        let (limiter, clock) = limiter(3, KEYS);
        for _ in 0..3 {
            assert_eq!(limiter.check("a"), Ok(()));
        }
        let Err(wait) = limiter.check("a") else { panic!("the fourth passed") };
        assert_eq!(wait.seconds(), 20);
        assert_eq!(limiter.check("b"), Ok(()), "another key has its own bucket");
        clock.advance(wait.0);
        assert_eq!(limiter.check("a"), Ok(()));
    }

    #[test]
    fn only_failures_block_and_only_for_a_while() {
        let (limiter, clock) = limiter(2, KEYS);
        for _ in 0..100 {
            assert_eq!(limiter.blocked("a"), None, "asking counts nothing");
        }
        limiter.failed("a");
        assert_eq!(limiter.blocked("a"), None);
        limiter.failed("a");
        let wait = limiter.blocked("a").unwrap_or_default();
        assert_eq!(wait, MINUTE / 2);
        assert_eq!(limiter.blocked("b"), None);
        clock.advance(wait);
        assert_eq!(limiter.blocked("a"), None);
        limiter.failed("a");
        assert!(limiter.blocked("a").is_some(), "one more failure, one more wait");
    }

    #[test]
    fn zero_switches_a_limit_off() {
        let limiter = AddressLimiter::per_minute(0);
        for _ in 0..1000 {
            assert_eq!(limiter.check("a"), Ok(()));
            limiter.failed("a");
        }
        assert_eq!(limiter.blocked("a"), None);
    }

    #[test]
    fn a_flood_of_keys_is_bounded_and_then_forgotten() {
        let (limiter, clock) = limiter(2, 50);
        for key in 0..1000 {
            limiter.failed(&key.to_string());
        }
        let Some(limit) = &limiter.limit else { panic!("switched off") };
        assert!(limit.buckets.len() <= 51, "{}", limit.buckets.len());
        assert!(limiter.blocked("new").is_some(), "the flood shares a bucket, and it is empty");
        clock.advance(MINUTE + MINUTE);
        assert_eq!(limiter.blocked("new"), None);
        assert_eq!(limit.buckets.len(), 0);
        assert_eq!(limit.memory().blocked.len(), 0);
    }
}
