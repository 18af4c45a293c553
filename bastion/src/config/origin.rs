//! A URL of scheme, host and port alone: the bastion's own, or another origin's.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use http::Uri;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Why a text is no URL of scheme, host and port alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicUrlError {
    /// No URL at all.
    #[error("{0:?} is no URL; write scheme and host, as in \"https://castellan.example\"")]
    Syntax(String),
    /// Another scheme than http and https.
    #[error("{0:?} must begin with https:// (or http:// on loopback)")]
    Scheme(String),
    /// A path, a query, a user or a password.
    #[error("{0:?} must be scheme, host and port only, without path, query or user")]
    Extra(String),
}

/// A URL of scheme, host and port alone: `https://castellan.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    secure: bool,
    /// Lower case; an IPv6 address in brackets.
    host: String,
    /// `None` where it is the scheme's own.
    port: Option<u16>,
}

impl PublicUrl {
    /// Plain HTTP on 127.0.0.1.
    pub fn loopback(port: u16) -> Self {
        Self::plain(SocketAddr::from(([127, 0, 0, 1], port)))
    }

    /// Plain HTTP on `address`.
    pub fn plain(address: SocketAddr) -> Self {
        let host = match address.ip() {
            IpAddr::V4(ip) => ip.to_string(),
            IpAddr::V6(ip) => format!("[{ip}]"),
        };
        Self { secure: false, host, port: Some(address.port()).filter(|port| *port != 80) }
    }

    /// Whether the scheme is https.
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Host and, unless it is the scheme's own, port; lower case.
    pub fn authority(&self) -> String {
        match self.port {
            Some(port) => format!("{}:{port}", self.host),
            None => self.host.clone(),
        }
    }

    /// The URL as browsers write an `Origin`.
    pub fn origin(&self) -> String {
        format!("{}://{}", if self.secure { "https" } else { "http" }, self.authority())
    }

    /// The same for WebSockets.
    pub fn ws_base(&self) -> String {
        format!("{}://{}", if self.secure { "wss" } else { "ws" }, self.authority())
    }

    /// Whether the host names this very machine.
    pub fn is_loopback(&self) -> bool {
        is_loopback_name(&self.host)
    }
}

/// Whether `host` (lower case, IPv6 in brackets) names this very machine.
pub(crate) fn is_loopback_name(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl FromStr for PublicUrl {
    type Err = PublicUrlError;

    fn from_str(written: &str) -> Result<Self, PublicUrlError> {
        let syntax = || PublicUrlError::Syntax(written.to_owned());
        let uri: Uri = written.parse().map_err(|_| syntax())?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            Some(_) => return Err(PublicUrlError::Scheme(written.to_owned())),
            None => return Err(syntax()),
        };
        let authority = uri.authority().ok_or_else(syntax)?;
        if authority.as_str().contains('@') || uri.path().len() > 1 || uri.query().is_some() {
            return Err(PublicUrlError::Extra(written.to_owned()));
        }
        let host = authority.host().to_ascii_lowercase();
        if host.is_empty() || authority.as_str().ends_with(':') {
            return Err(syntax());
        }
        let default_port = if secure { 443 } else { 80 };
        Ok(Self { secure, host, port: authority.port_u16().filter(|port| *port != default_port) })
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.origin())
    }
}

impl Serialize for PublicUrl {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PublicUrl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl JsonSchema for PublicUrl {
    fn schema_name() -> Cow<'static, str> {
        "PublicUrl".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "uri", "examples": ["https://castellan.example"] })
    }
}
