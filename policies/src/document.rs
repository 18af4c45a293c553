//! The policy document: JSON, read strictly, with the path of every fault.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::chain::{AppliesTo, Combine, Module, Policy};
use crate::{Class, ConfigError, Level, Obligations, PolicyFactory, Registry, Selector};

/// One thing wrong with a document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("{path}: {detail}")]
pub struct Fault {
    /// Where: `policies[0].grants.any_of[1].config.entries[2]`; empty for the whole.
    pub path: String,
    /// What is wrong.
    pub detail: String,
}

/// Reads a module's `config` into its own struct, which should `deny_unknown_fields`.
///
/// # Errors
/// The first fault, with its path inside `config`.
pub fn configured<T: DeserializeOwned>(config: Value) -> Result<T, ConfigError> {
    // serde would take a list of the fields' values too.
    if !config.is_object() {
        return Err(ConfigError::at("", "invalid type: expected an object"));
    }
    serde_path_to_error::deserialize(config).map_err(|error| {
        let path = error.path().to_string();
        let path = if path == "." { String::new() } else { path };
        ConfigError { path, detail: error.into_inner().to_string() }
    })
}

/// A length of time, written `90s`, `30m` or `8h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    seconds: u64,
}

impl Span {
    /// In seconds.
    #[must_use]
    pub fn seconds(self) -> u64 {
        self.seconds
    }

    /// As the standard library has it.
    #[must_use]
    pub fn duration(self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

impl std::str::FromStr for Span {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const SHAPE: &str = "a duration is a whole number above 0 and a unit: `90s`, `30m`, `8h`";
        let unit = match text.as_bytes().last() {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3600,
            _ => return Err(SHAPE),
        };
        let digits = &text[..text.len() - 1];
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(SHAPE);
        }
        // A year is longer than any session, and keeps every sum of an instant and a span in range.
        let longest = 366 * 24 * 3600;
        match digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)) {
            Some(0) => Err(SHAPE),
            Some(seconds) if seconds <= longest => Ok(Self { seconds }),
            _ => Err("a duration is at most 366 days"),
        }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.seconds {
            seconds if seconds % 3600 == 0 => write!(out, "{}h", seconds / 3600),
            seconds if seconds % 60 == 0 => write!(out, "{}m", seconds / 60),
            seconds => write!(out, "{seconds}s"),
        }
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Span".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9]+[smh]$", "examples": ["90s", "30m", "8h"]})
    }
}

/// An instant, written as RFC 3339 has it: `2026-12-31T00:00:00Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Instant {
    millis: i64,
}

impl Instant {
    /// In UTC milliseconds.
    #[must_use]
    pub fn millis(self) -> i64 {
        self.millis
    }
}

impl<'de> Deserialize<'de> for Instant {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let shape = |_| de::Error::custom("an instant is written as in RFC 3339: `2026-12-31T00:00:00Z`");
        let text = String::deserialize(deserializer)?;
        let instant = OffsetDateTime::parse(&text, &Rfc3339).map_err(shape)?;
        let millis = i64::try_from(instant.unix_timestamp_nanos() / 1_000_000).map_err(de::Error::custom)?;
        Ok(Self { millis })
    }
}

impl JsonSchema for Instant {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Instant".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "date-time"})
    }
}

/// UTC milliseconds as RFC 3339 writes them, for a reason's text; the number itself when it is no instant.
pub(crate) fn rfc3339(millis: i64) -> String {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)
        .ok()
        .and_then(|instant| instant.format(&Rfc3339).ok())
        .unwrap_or_else(|| millis.to_string())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DocumentSpec {
    #[serde(default)]
    guardrails: Vec<Value>,
    #[serde(default)]
    policies: Vec<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PolicySpec {
    id: String,
    applies_to: AppliesToSpec,
    level: Level,
    grants: GrantsSpec,
    #[serde(default)]
    guards: Vec<Value>,
    #[serde(default)]
    obligations: ObligationsSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AppliesToSpec {
    #[serde(default)]
    all: bool,
    selector: Option<Selector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GrantsSpec {
    any_of: Option<Vec<Value>>,
    all_of: Option<Vec<Value>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ObligationsSpec {
    max_duration: Option<Span>,
    idle_timeout: Option<Span>,
    not_after: Option<Instant>,
    record_input: bool,
    read_only: bool,
    notify: BTreeSet<String>,
    run_as: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ModuleSpec {
    id: String,
    kind: String,
    #[serde(default)]
    mode: Mode,
    #[serde(default)]
    config: Map<String, Value>,
}

#[derive(Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    Enforce,
    Shadow,
}

/// Reads a whole document; faults are collected, not just the first of them.
pub(crate) fn read(document: Value, registry: &Registry) -> Result<(Vec<Module>, Vec<Policy>), Vec<Fault>> {
    let mut reader = Reader { registry, faults: Vec::new() };
    let Some(spec) = reader.parse::<DocumentSpec>("", document) else { return Err(reader.faults) };
    let guardrails = reader.modules("guardrails", spec.guardrails, Class::Guard);
    reader.unique("guardrails", guardrails.iter().map(|module| module.id.as_str()));
    let mut policies = Vec::new();
    for (nth, policy) in spec.policies.into_iter().enumerate() {
        policies.extend(reader.policy(&format!("policies[{nth}]"), policy));
    }
    reader.unique("policies", policies.iter().map(|policy| policy.id.as_str()));
    if reader.faults.is_empty() { Ok((guardrails, policies)) } else { Err(reader.faults) }
}

struct Reader<'r> {
    registry: &'r Registry,
    faults: Vec<Fault>,
}

impl Reader<'_> {
    fn fault(&mut self, path: impl Into<String>, detail: impl Into<String>) {
        self.faults.push(Fault { path: path.into(), detail: detail.into() });
    }

    fn parse<T: DeserializeOwned>(&mut self, path: &str, value: Value) -> Option<T> {
        configured(value).map_err(|error| self.fault(joined(path, &error.path), error.detail)).ok()
    }

    fn policy(&mut self, path: &str, value: Value) -> Option<Policy> {
        let spec: PolicySpec = self.parse(path, value)?;
        self.identifier(path, &spec.id);
        let applies_to = self.applies_to(&format!("{path}.applies_to"), spec.applies_to);
        let (combine, listed, listed_at) = match (spec.grants.any_of, spec.grants.all_of) {
            (Some(listed), None) => (Combine::AnyOf, listed, format!("{path}.grants.any_of")),
            (None, Some(listed)) => (Combine::AllOf, listed, format!("{path}.grants.all_of")),
            _ => {
                self.fault(format!("{path}.grants"), "exactly one of `any_of` and `all_of` is needed");
                return None;
            }
        };
        if listed.is_empty() {
            self.fault(&listed_at, "a policy that grants nobody anything: at least one module is needed");
        }
        let grants = self.modules(&listed_at, listed, Class::Grant);
        let guards = self.modules(&format!("{path}.guards"), spec.guards, Class::Guard);
        self.unique(path, grants.iter().chain(&guards).map(|module| module.id.as_str()));
        let obligations = self.obligations(&format!("{path}.obligations"), spec.obligations);
        let applies_to = applies_to?;
        Some(Policy { id: spec.id, applies_to, level: spec.level, combine, grants, guards, obligations })
    }

    fn applies_to(&mut self, path: &str, spec: AppliesToSpec) -> Option<AppliesTo> {
        match (spec.all, spec.selector) {
            (true, None) => Some(AppliesTo::All),
            (false, Some(selector)) => Some(AppliesTo::Selected(selector)),
            _ => {
                self.fault(path, "either `\"all\": true` or a `selector` is needed");
                None
            }
        }
    }

    fn obligations(&mut self, path: &str, spec: ObligationsSpec) -> Obligations {
        for (name, empty) in [
            ("notify", spec.notify.contains("")),
            ("run_as", spec.run_as.as_deref().is_some_and(str::is_empty)),
        ] {
            if empty {
                self.fault(format!("{path}.{name}"), "must not be empty");
            }
        }
        Obligations {
            max_duration: spec.max_duration.map(Span::seconds),
            idle_timeout: spec.idle_timeout.map(Span::seconds),
            not_after: spec.not_after.map(Instant::millis),
            record_input: spec.record_input,
            read_only: spec.read_only,
            notify: spec.notify,
            run_as: spec.run_as.into_iter().collect(),
        }
    }

    fn modules(&mut self, path: &str, listed: Vec<Value>, class: Class) -> Vec<Module> {
        let mut modules = Vec::new();
        for (nth, value) in listed.into_iter().enumerate() {
            modules.extend(self.module(&format!("{path}[{nth}]"), value, class));
        }
        modules
    }

    fn module(&mut self, path: &str, value: Value, class: Class) -> Option<Module> {
        let spec: ModuleSpec = self.parse(path, value)?;
        self.identifier(path, &spec.id);
        let Some(factory) = self.registry.kind(&spec.kind) else {
            let known = Vec::from_iter(self.registry.kinds().map(PolicyFactory::kind)).join(", ");
            self.fault(
                format!("{path}.kind"),
                format!("no module is called `{}`; known: {known}", spec.kind),
            );
            return None;
        };
        if factory.class() != class {
            let detail = match class {
                Class::Grant => format!("`{}` guards and cannot grant", spec.kind),
                Class::Guard => format!("`{}` grants and cannot guard", spec.kind),
            };
            self.fault(format!("{path}.kind"), detail);
            return None;
        }
        let code = factory.build(Value::Object(spec.config));
        let code = code
            .map_err(|error| self.fault(joined(&format!("{path}.config"), &error.path), error.detail))
            .ok()?;
        Some(Module {
            id: spec.id,
            kind: factory.kind(),
            class,
            cost: factory.cost(),
            concern: factory.concern(),
            shadow: spec.mode == Mode::Shadow,
            code,
        })
    }

    fn identifier(&mut self, path: &str, id: &str) {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if !(1..=64).contains(&id.len()) || !id.bytes().all(plain) {
            self.fault(format!("{path}.id"), "1 to 64 letters, digits, `-`, `_` and `.`");
        }
    }

    fn unique<'i>(&mut self, path: &str, ids: impl Iterator<Item = &'i str>) {
        let mut seen = BTreeSet::new();
        for id in ids {
            if !seen.insert(id) {
                self.fault(path, format!("the id `{id}` is used twice"));
            }
        }
    }
}

fn joined(path: &str, inner: &str) -> String {
    match (path, inner) {
        ("", inner) => inner.to_owned(),
        (path, "") => path.to_owned(),
        (path, inner) if inner.starts_with('[') => format!("{path}{inner}"),
        (path, inner) => format!("{path}.{inner}"),
    }
}
