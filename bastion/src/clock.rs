//! Time and chance: the only places that ask the machine for them.

use std::sync::Arc;

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Where the time comes from. A parameter of whatever decides by it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> i64 + Send + Sync>);

impl std::fmt::Debug for Clock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Clock({})", self.millis())
    }
}

impl Clock {
    /// The machine's clock.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
    pub fn system() -> Self {
        Self(Arc::new(|| {
            let now = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
            i64::try_from(now).unwrap_or(i64::MAX)
        }))
    }

    /// UTC milliseconds.
    pub fn millis(&self) -> i64 {
        (self.0)()
    }

    /// Unix seconds.
    pub fn seconds(&self) -> i64 {
        self.millis().div_euclid(1000)
    }
}

/// UTC milliseconds as RFC 3339 with milliseconds.
pub fn rfc3339(millis: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .ok()
        .and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}

/// RFC 3339 as UTC milliseconds.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

/// Bytes nobody can guess.
pub fn random<const N: usize>() -> [u8; N] {
    use rand::TryRng as _;
    let mut bytes = [0; N];
    // A system without randomness cannot make keys: nothing sensible is left to do.
    #[allow(clippy::expect_used, reason = "no key, nonce or ticket may be made without it")]
    rand::rngs::SysRng.try_fill_bytes(&mut bytes).expect("the operating system's random source answers");
    bytes
}

/// A secret for a cookie, a token or a ticket: 256 bits as base64url.
pub fn random_secret() -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(random::<32>())
}

/// Hex SHA-256: how secrets that are only compared are kept.
pub fn sha256_hex(text: &str) -> String {
    use sha2::Digest as _;
    hex::encode(sha2::Sha256::digest(text.as_bytes()))
}

/// A new id that sorts by time.
pub fn new_id() -> String {
    uuid::Uuid::now_v7().to_string()
}

/// A number in 0..1, to spread retries.
pub fn fraction() -> f64 {
    f64::from(u32::from_le_bytes(random())) / (f64::from(u32::MAX) + 1.0)
}
