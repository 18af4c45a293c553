//! How long to wait before the next try: full jitter, so that a thousand agents do not come back at once.

use std::time::Duration;

use rand::{Rng, RngExt as _};

const BASE: Duration = Duration::from_millis(500);

/// Where the program's own waits take their chance from.
#[allow(clippy::disallowed_methods, reason = "the one place that reads the thread's generator")]
pub(crate) fn dice() -> rand::rngs::ThreadRng {
    rand::rng()
}

/// Counts failures in a row.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure: anything up to twice the bound before, at most `cap`.
    pub(crate) fn next(&mut self, cap: Duration, rng: &mut impl Rng) -> Duration {
        self.failures = self.failures.saturating_add(1);
        let bound = BASE.saturating_mul(2u32.saturating_pow(self.failures)).min(cap);
        rng.random_range(Duration::ZERO..=bound)
    }

    /// It worked: start over.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;

    #[test]
    fn waits_grow_to_the_cap_spread_out_and_start_over() {
        let mut rng = StdRng::seed_from_u64(1);
        let cap = Duration::from_secs(60);
        let mut backoff = Backoff::default();
        assert!(backoff.next(cap, &mut rng) <= Duration::from_secs(1));
        let waits: Vec<Duration> = (0..1000).map(|_| backoff.next(cap, &mut rng)).collect();
        assert!(waits.iter().all(|wait| *wait <= cap));
        let late = waits.iter().filter(|wait| **wait > cap / 2).count();
        assert!((400..600).contains(&late), "spread over all of it: {late}");
        backoff.reset();
        assert!(backoff.next(cap, &mut rng) <= Duration::from_secs(1));
    }
}
