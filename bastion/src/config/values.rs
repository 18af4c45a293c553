//! The values an operator writes that are neither plain numbers nor plain text: spans of time, sizes, secrets.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// What is wrong with a value as it was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// Not a whole number followed by one of the units of time.
    #[error("{0:?} is no span of time; write a whole number and ms, s, m, h or d, as in \"90s\"")]
    Span(String),
    /// Not a whole number followed by one of the units of size.
    #[error("{0:?} is no size; write a whole number and B, KiB, MiB, GiB or TiB, as in \"500MiB\"")]
    Size(String),
}

/// Splits `"90s"` into 90 and `"s"`.
fn number_and_unit(written: &str) -> Option<(u64, &str)> {
    let written = written.trim();
    let digits = written.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = written.split_at(digits);
    Some((number.parse().ok()?, unit.trim_start()))
}

/// The largest unit in `units` (ascending) that writes `amount` as a whole number.
fn shortest(amount: u64, units: &[(&'static str, u64)]) -> String {
    let fits = units.iter().rev().find(|(_, size)| amount >= *size && amount.is_multiple_of(*size));
    let (unit, size) = fits.or(units.first()).copied().unwrap_or(("", 1));
    format!("{}{unit}", amount / size)
}

/// Implements what every value written as text has in common.
macro_rules! written_as_text {
    ($type:ident, $pattern:literal, $examples:expr, $description:literal) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Cow::<'de, str>::deserialize(from)?.parse().map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $type {
            fn schema_name() -> Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({
                    "type": "string",
                    "pattern": $pattern,
                    "examples": $examples,
                    "description": $description,
                })
            }
        }
    };
}

/// A span of time, written as a whole number and a unit: `500ms`, `90s`, `5m`, `8h`, `30d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl Span {
    const UNITS: [(&'static str, u64); 5] =
        [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

    /// `seconds` seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The same span as the standard library has it.
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl FromStr for Span {
    type Err = ValueError;

    fn from_str(written: &str) -> Result<Self, ValueError> {
        number_and_unit(written)
            .and_then(|(number, unit)| {
                let (_, size) = Self::UNITS.into_iter().find(|(name, _)| *name == unit)?;
                Some(Self(Duration::from_millis(number.checked_mul(size)?)))
            })
            .ok_or_else(|| ValueError::Span(written.to_owned()))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        f.write_str(&shortest(millis, &Self::UNITS))
    }
}

written_as_text!(
    Span,
    "^[0-9]+ *(ms|s|m|h|d)$",
    ["90s", "5m", "8h"],
    "A span of time: a number and ms, s, m, h or d."
);

/// An amount of bytes, written as a whole number and a unit: `4KiB`, `500MiB`, `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

impl ByteSize {
    const UNITS: [(&'static str, u64); 5] =
        [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

    /// `kib` × 1,024 bytes.
    pub const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    /// `mib` × 1,048,576 bytes.
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// The number of bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// The number of bytes as a length in memory.
    pub fn length(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for ByteSize {
    type Err = ValueError;

    fn from_str(written: &str) -> Result<Self, ValueError> {
        number_and_unit(written)
            .and_then(|(number, unit)| {
                let (_, size) = Self::UNITS.into_iter().find(|(name, _)| *name == unit)?;
                Some(Self(number.checked_mul(size)?))
            })
            .ok_or_else(|| ValueError::Size(written.to_owned()))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shortest(self.0, &Self::UNITS))
    }
}

written_as_text!(
    ByteSize,
    "^[0-9]+ *(B|KiB|MiB|GiB|TiB)$",
    ["4KiB", "500MiB", "1GiB"],
    "A size: a number and B, KiB, MiB, GiB or TiB."
);

/// A database's URL: it may hold a password, so neither `Debug`, nor `Serialize`, nor any error shows it.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Wraps a URL; it is judged by [`Config::check`](super::Config::check), not here.
    pub fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }

    /// The whole URL, password included. Not for logs.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What comes before the first colon: `sqlite`, `mysql`, `postgres`.
    pub fn scheme(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }

    /// The path of a SQLite database's file, without the query; `None` for another kind of database.
    pub fn sqlite_path(&self) -> Option<&str> {
        let rest = self.0.strip_prefix("sqlite:")?;
        let path = rest.strip_prefix("//").unwrap_or(rest);
        Some(path.split('?').next().unwrap_or_default())
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.sqlite_path() {
            Some(path) => write!(f, "sqlite://{path}"),
            None => write!(f, "{}://***", self.scheme()),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl Serialize for DatabaseUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}
