//! The bodies an agent sends and gets, and what both ends hold for a valid label, name or line of text.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};

/// The longest host name, in bytes.
pub const HOSTNAME_MAX: usize = 253;
/// The most labels an asset has.
pub const LABELS_MAX: usize = 64;
/// The longest command, in bytes.
pub const COMMAND_MAX: usize = 4096;
/// The longest reason or comment, in characters.
pub const REASON_MAX: usize = 500;
/// The longest user name, in characters.
pub const USER_MAX: usize = 64;
/// The longest prefix of a label's key, in bytes.
pub const LABEL_PREFIX_MAX: usize = 253;
/// The longest name of a label's key, and the longest value, in bytes.
pub const LABEL_NAME_MAX: usize = 63;
/// The longest version, in bytes.
pub const VERSION_MAX: usize = 64;
/// The longest body of an agent, in bytes.
pub const BODY_MAX: usize = 64 * 1024;
/// The longest time a long poll may wait, in seconds.
pub const WAIT_MAX: u64 = 30;

/// What a host is: a free-form object, shown to people and never acted upon.
pub type StaticInfo = BTreeMap<String, serde_json::Value>;
/// How a host is doing: a free-form object, shown to people and never acted upon.
pub type Metrics = BTreeMap<String, serde_json::Value>;

/// An agent asks to be let in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "poem", derive(poem_openapi::Object), oai(deny_unknown_fields))]
pub struct RegisterRequest {
    /// The agent's own id, a UUID it keeps.
    pub client_id: String,
    /// The host's name, at most 253 characters.
    pub hostname: String,
    /// The agent's RSA key: SPKI PEM, 2048 to 4096 bits.
    pub client_public_key: String,
    /// Labels the agent proposes; they count for nothing until an admin approves.
    pub labels: BTreeMap<String, String>,
    /// What the host is; free-form.
    pub static_info: StaticInfo,
    /// The agent's version.
    pub version: String,
}

/// Where an application stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "poem", derive(poem_openapi::Enum), oai(rename_all = "snake_case"))]
pub enum ApplicationStatus {
    /// Nobody has decided yet.
    Pending,
    /// An admin said no.
    Rejected,
    /// An admin said yes.
    Approved,
}

/// The application was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "poem", derive(poem_openapi::Object))]
pub struct RegisterResponse {
    /// Where it stands.
    pub status: ApplicationStatus,
    /// The application's id.
    pub apply_id: String,
    /// `SHA256:` and the base64 of the SHA-256 of the key's SPKI DER.
    pub fingerprint: String,
}

/// Where an application stands, and the secret once it is approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "poem", derive(poem_openapi::Object))]
pub struct RegistrationStatus {
    /// Where it stands.
    pub status: ApplicationStatus,
    /// Why it was rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "poem", oai(skip_serializing_if_is_none))]
    pub reason: Option<String>,
    /// Base64 of RSA-OAEP-SHA256 over the base64 text of the secret; given until its first use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "poem", oai(skip_serializing_if_is_none))]
    pub encrypted_secret: Option<String>,
    /// A JWS of the identity key over application, agent, fingerprint and sealed secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "poem", oai(skip_serializing_if_is_none))]
    pub proof: Option<String>,
}

/// An agent is alive.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "poem", derive(poem_openapi::Object), oai(deny_unknown_fields))]
pub struct HeartbeatRequest {
    /// The asset's id, which is the agent's `client_id`.
    pub id: String,
    /// How the host is doing; free-form.
    pub metrics: Metrics,
    /// What the host is, when it changed; free-form.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "poem", oai(skip_serializing_if_is_none))]
    pub static_info: Option<StaticInfo>,
    /// The agent's version.
    pub version: String,
    /// The sessions the agent holds.
    #[serde(deserialize_with = "object")]
    pub tty_status: TtyStatus,
}

/// serde reads a struct from an array too; the contract says an object.
fn object<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Object(PhantomData))
}

/// The sessions an agent holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "poem", derive(poem_openapi::Object), oai(deny_unknown_fields))]
pub struct TtyStatus {
    /// How many.
    pub active_sessions: u32,
    /// Their ids.
    pub sessions: Vec<String>,
}

/// The bastion heard the heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "poem", derive(poem_openapi::Object))]
pub struct HeartbeatResponse {
    /// `ok`.
    pub status: String,
    /// The bastion's clock, RFC 3339 in UTC.
    pub server_time: String,
    /// Seconds until the next heartbeat.
    pub interval: u32,
    /// Sessions that the agent must end.
    pub terminate: Vec<String>,
    /// Seconds that a session waits for its agent after their socket is lost; absent: 60.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "poem", oai(skip_serializing_if_is_none))]
    pub resume_grace: Option<u64>,
}

/// A session that waits for its agent. The token's claims decide; what stands beside it is a convenience.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "poem", derive(poem_openapi::Object))]
pub struct PendingSession {
    /// The session's id.
    pub session_id: String,
    /// The agent's ticket.
    pub token: String,
    /// Where to dial, absolute.
    pub relay_url: String,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// The user's name.
    pub user: String,
    /// The command; null: the login shell.
    pub command: Option<String>,
    /// The host's account; null: the agent's own.
    pub run_as: Option<String>,
}

/// Whether this is a label's key as in Kubernetes: an optional DNS prefix and `/`, then a name.
#[must_use]
pub fn valid_label_key(key: &str) -> bool {
    match key.split_once('/') {
        None => valid_name(key),
        Some((prefix, name)) => valid_prefix(prefix) && valid_name(name),
    }
}

/// Whether this is a label's value as in Kubernetes: empty, or a name.
#[must_use]
pub fn valid_label_value(value: &str) -> bool {
    value.is_empty() || valid_name(value)
}

fn valid_name(name: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= LABEL_NAME_MAX
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn valid_prefix(prefix: &str) -> bool {
    let lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        part.bytes().next().is_some_and(lower)
            && part.bytes().last().is_some_and(lower)
            && part.bytes().all(|byte| lower(byte) || byte == b'-')
    };
    prefix.len() <= LABEL_PREFIX_MAX && prefix.split('.').all(part)
}

/// What is left of hostile text: no control, format or bidi characters, no line breaks, at most `max` characters.
#[must_use]
pub fn clean(text: &str, max: usize) -> String {
    text.chars().filter(|c| !is_hidden(*c)).take(max).collect()
}

/// General category Cc, Cf, Zl or Zp: what changes how other characters look, and shows as nothing itself.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}'..='\u{891}' | '\u{8e2}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]

    use serde_json::json;

    use super::*;

    #[test]
    fn labels_follow_the_grammar_of_kubernetes() {
        for good in ["env", "a", "Team_1.x-y", "example.com/env", "a-b.c/D", &"k".repeat(63)] {
            assert!(valid_label_key(good), "{good}");
        }
        let long = "k".repeat(64);
        let prefix = format!("{}/x", "p".repeat(254));
        for bad in ["", "-a", "a-", "a b", "/env", "a/", "A.com/env", "a/b/c", "a..b/c", "é", &long, &prefix]
        {
            assert!(!valid_label_key(bad), "{bad}");
        }
        assert!(valid_label_value(""));
        assert!(valid_label_value("prod"));
        assert!(!valid_label_value("a/b"));
        assert!(!valid_label_value(&long));
    }

    #[test]
    fn hostile_text_loses_what_does_not_show() {
        assert_eq!(clean("we\u{1b}[31mb\u{202e}\u{200b}-1\n\u{2028}é", 99), "we[31mb-1é");
        assert_eq!(clean("abcdef", 3), "abc");
    }

    #[test]
    fn requests_refuse_unknown_fields_and_responses_do_not() {
        let beat = json!({"id": "a", "metrics": {"x": [1]}, "version": "1",
            "tty_status": {"active_sessions": 0, "sessions": []}});
        assert!(serde_json::from_value::<HeartbeatRequest>(beat.clone()).is_ok());
        let mut more = beat;
        more["extra"] = json!(1);
        assert!(serde_json::from_value::<HeartbeatRequest>(more).is_err());
        let answer = json!({"status": "approved", "new": true});
        assert_eq!(
            serde_json::from_value::<RegistrationStatus>(answer).unwrap(),
            RegistrationStatus {
                status: ApplicationStatus::Approved,
                reason: None,
                encrypted_secret: None,
                proof: None
            }
        );
    }

    #[test]
    fn a_pending_session_names_its_nulls_and_a_status_leaves_them_out() {
        let task = PendingSession {
            session_id: "s".into(),
            token: "t".into(),
            relay_url: "ws://x".into(),
            cols: 80,
            rows: 24,
            user: "alice".into(),
            command: None,
            run_as: None,
        };
        let task = serde_json::to_value(task).unwrap();
        assert_eq!((&task["command"], &task["run_as"]), (&json!(null), &json!(null)));
        let status = RegistrationStatus {
            status: ApplicationStatus::Pending,
            reason: None,
            encrypted_secret: None,
            proof: None,
        };
        assert_eq!(serde_json::to_value(status).unwrap(), json!({"status": "pending"}));
    }
}
