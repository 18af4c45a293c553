//! What an operator may set: one documented struct a concern, read from one TOML file and the environment.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use schemars::{JsonSchema, generate::SchemaSettings};
use serde::{Deserialize, Serialize};

mod checks;
mod origin;
mod reading;
#[cfg(test)]
mod tests;
mod values;

pub use origin::PublicUrl;
pub(crate) use origin::is_loopback_name;
pub use reading::{ConfigErrors, Fault, Place};
pub use values::{ByteSize, DatabaseUrl, Span, ValueError};

/// Castellan's configuration. Every key may be overridden by an environment variable:
/// `server.listen` by `CASTELLAN__SERVER__LISTEN`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the bastion listens and how it is reached.
    pub server: Server,
    /// The database.
    pub database: Database,
    /// Where finished recordings are kept.
    pub store: Store,
    /// Where recordings are written while their sessions live.
    pub spool: Spool,
    /// The keys that seal what the database holds.
    pub keys: Keys,
    /// How sessions are recorded.
    pub recordings: Recordings,
    /// How long sessions wait for what they have lost.
    pub sessions: Sessions,
    /// The policies' room. The chain itself is kept in the database.
    pub policies: Policies,
    /// How people's logins live.
    pub auth: Auth,
    /// The agents' defaults.
    pub agent: Agent,
    /// How often something may be tried; 0 switches a limit off.
    pub rate_limits: RateLimits,
    /// What is logged, and how.
    pub log: Log,
    /// What one connection may cost.
    pub limits: Limits,
}

/// Where the bastion listens and how it is reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address and port to listen on, as in `"127.0.0.1:8090"` or `"[::]:443"`.
    #[schemars(example = "127.0.0.1:8090")]
    pub listen: SocketAddr,
    /// The URL that people and agents use, without a path. Plain `http` is accepted on loopback only.
    pub public_url: PublicUrl,
    /// TLS of the bastion's own; leave it out behind a proxy that ends TLS.
    pub tls: Tls,
    /// Networks whose `X-Forwarded-For` is believed, as in `["10.0.0.0/8"]`. Others' is ignored.
    #[schemars(with = "Vec<String>", example = ["10.0.0.0/8"])]
    pub trusted_proxies: Vec<IpNet>,
    /// Further origins whose pages may call the API with a login, as in `["https://ops.example"]`.
    /// The bastion's own origin always may.
    pub allowed_origins: Vec<String>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8090)),
            public_url: PublicUrl::loopback(8090),
            tls: Tls::default(),
            trusted_proxies: Vec::new(),
            allowed_origins: Vec::new(),
        }
    }
}

/// A certificate and its key; both or neither.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// File with the certificate chain, PEM, the bastion's own certificate first.
    pub cert: Option<PathBuf>,
    /// File with the private key, PEM.
    pub key: Option<PathBuf>,
}

/// The database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Database {
    /// `sqlite:///path/to/file`, `mysql://user:password@host/name` or `postgres://user:password@host/name`.
    pub url: DatabaseUrl,
    /// A file that holds the URL, so that its password need not be here. Not together with `url`.
    pub url_file: Option<PathBuf>,
}

impl Default for Database {
    fn default() -> Self {
        Self { url: DatabaseUrl::new("sqlite:///var/lib/castellan/castellan.db"), url_file: None }
    }
}

/// Where finished recordings are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// `file:///folder`, `s3://bucket`, `gs://bucket` or `az://container`; credentials come from the
    /// provider's own environment variables.
    pub url: String,
    /// What every object's name starts with, as in `"castellan/"`.
    pub prefix: String,
}

impl Default for Store {
    fn default() -> Self {
        Self { url: "file:///var/lib/castellan/recordings".into(), prefix: String::new() }
    }
}

/// Where recordings are written while their sessions live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Spool {
    /// A folder on a local disk.
    pub dir: PathBuf,
    /// With less free space than this no session starts.
    pub min_free: ByteSize,
}

impl Default for Spool {
    fn default() -> Self {
        Self { dir: "/var/lib/castellan/spool".into(), min_free: ByteSize::mib(500) }
    }
}

/// The keys that seal what the database holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Keys {
    /// The keys' file; made on first start, readable by its owner only. Losing it loses every sealed secret.
    pub file: PathBuf,
}

impl Default for Keys {
    fn default() -> Self {
        Self { file: "/var/lib/castellan/keys".into() }
    }
}

/// How sessions are recorded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Recordings {
    /// When a byte counts as recorded.
    pub durability: Durability,
    /// How finished recordings are compressed.
    pub compression: Compression,
    /// A stored recording that nobody holds is deleted when its session ended so long ago, as in `"90d"`; leave it out to
    /// keep recordings for ever. At least an hour. The audit log says what was deleted.
    ///
    /// A bucket's own default retention (S3 Object Lock, a retention policy, an immutability policy) is honoured; the
    /// bastion asks for none itself. In a versioned bucket a deletion leaves a delete marker, and the version below it stays
    /// until the lock ends: whether it goes then is for the bucket's lifecycle rules. Where the store refuses, the
    /// recording is gone for everybody all the same, the log says that the store keeps it, and it is asked again every day.
    pub retention: Option<Span>,
}

/// When a byte counts as recorded, and may therefore be shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Once the operating system has it: survives a crash of the bastion.
    #[default]
    Written,
    /// Once the disk has it: survives a power cut too, and is slower.
    Synced,
}

/// How finished recordings are compressed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// With Zstandard.
    #[default]
    Zstd,
    /// Not at all.
    None,
}

/// How long sessions wait for what they have lost.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// How long a shell lives on after its browser has gone.
    pub detach_grace: Span,
    /// How long a session waits for its agent to come back.
    pub resume_grace: Span,
}

impl Default for Sessions {
    fn default() -> Self {
        Self { detach_grace: Span::seconds(300), resume_grace: Span::seconds(60) }
    }
}

/// The policies' room; it has no keys yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Policies {}

/// How people's logins live.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// A login that is not used for this long ends.
    pub login_idle: Span,
    /// A login ends this long after it began, used or not.
    pub login_max: Span,
}

impl Default for Auth {
    fn default() -> Self {
        Self { login_idle: Span::seconds(30 * 60), login_max: Span::seconds(12 * 3600) }
    }
}

/// The agents' defaults; it has no keys yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Agent {}

/// How often something may be tried; 0 switches a limit off.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RateLimits {
    /// Failed authentications in a minute from one client address.
    pub anonymous_per_minute: u32,
    /// Logins tried in a minute from one client address.
    pub logins_per_minute: u32,
    /// Agents' registrations in a minute from one client address.
    pub registrations_per_minute: u32,
    /// Tickets in a minute for one user.
    pub tickets_per_minute: u32,
    /// Denials in ten minutes for one user.
    pub denials_per_10_minutes: u32,
}

impl Default for RateLimits {
    fn default() -> Self {
        Self {
            anonymous_per_minute: 60,
            logins_per_minute: 20,
            registrations_per_minute: 30,
            tickets_per_minute: 60,
            denials_per_10_minutes: 20,
        }
    }
}

/// What is logged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// The shape of a line.
    pub format: LogFormat,
    /// What is logged: `error`, `warn`, `info`, `debug`, `trace`, or directives as in `"info,bastion=debug"`.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// What one connection may cost before it is closed or refused. The defaults suit nearly everyone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Connections open at once, WebSockets included; the next waits to be accepted.
    pub connections: u32,
    /// TLS must be agreed on within this.
    pub tls_handshake: Span,
    /// A new connection's first byte must come within this.
    pub first_byte: Span,
    /// A request's line and headers must be complete this long after their first byte.
    pub header: Span,
    /// A request's body must be complete this long after its headers.
    pub body: Span,
    /// A connection without a request is kept this long for the next.
    pub keep_alive: Span,
    /// A client that takes nothing of an answer for this long is cut off.
    pub write_stall: Span,
    /// A request's line and headers together.
    pub header_size: ByteSize,
    /// Headers in a request.
    pub header_count: u32,
    /// A request's body, whatever its endpoint; most endpoints accept less.
    pub body_size: ByteSize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 8192,
            tls_handshake: Span::seconds(5),
            first_byte: Span::seconds(5),
            header: Span::seconds(10),
            body: Span::seconds(15),
            keep_alive: Span::seconds(75),
            write_stall: Span::seconds(30),
            header_size: ByteSize::kib(16),
            header_count: 64,
            body_size: ByteSize::kib(64),
        }
    }
}

impl Config {
    /// Reads `path`, lays `env`'s `CASTELLAN__…` variables over it and checks the outcome.
    ///
    /// # Errors
    /// Every fault found, each with its key and its line or variable.
    pub fn load(path: &Path, env: impl Iterator<Item = (String, String)>) -> Result<Self, ConfigErrors> {
        reading::load(path, env)
    }

    /// What [`Config::load`] does, for text that is no file; `name` stands for the file in errors.
    ///
    /// # Errors
    /// As for [`Config::load`].
    pub fn parse(
        name: &str,
        text: &str,
        env: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, ConfigErrors> {
        reading::parse(name, text, env)
    }

    /// Checks what types cannot say, for a configuration that was not loaded.
    ///
    /// # Errors
    /// Every fault found, each with its key.
    pub fn check(&self) -> Result<(), ConfigErrors> {
        reading::judge(checks::faults(self))
    }

    /// The configuration's JSON Schema, every key with its meaning and its default.
    pub fn schema() -> serde_json::Value {
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        settings.into_generator().into_root_schema_for::<Self>().to_value()
    }

    /// A configuration for trying Castellan out: everything under `data_dir`, plain HTTP on `listen`.
    pub fn for_dev(data_dir: &Path, listen: SocketAddr) -> Self {
        let inside = |name: &str| data_dir.join(name);
        Self {
            server: Server { listen, public_url: PublicUrl::plain(listen), ..Server::default() },
            database: Database {
                url: DatabaseUrl::new(format!("sqlite://{}", inside("castellan.db").display())),
                url_file: None,
            },
            store: Store { url: format!("file://{}", inside("recordings").display()), prefix: String::new() },
            spool: Spool { dir: inside("spool"), ..Spool::default() },
            keys: Keys { file: inside("keys") },
            ..Self::default()
        }
    }

    /// The bastion's own origin, as browsers write it: `https://castellan.example`.
    pub fn public_origin(&self) -> String {
        self.server.public_url.origin()
    }

    /// The public URL's `host[:port]`, lower case, without a default port.
    pub fn authority(&self) -> String {
        self.server.public_url.authority()
    }

    /// Whether people reach the bastion by HTTPS.
    pub fn is_secure(&self) -> bool {
        self.server.public_url.is_secure()
    }

    /// The public URL for WebSockets, without a trailing slash: `wss://castellan.example`.
    pub fn ws_base(&self) -> String {
        self.server.public_url.ws_base()
    }

    /// Every origin whose pages may call the API with a login, the bastion's own first.
    pub fn allowed_origins(&self) -> Vec<String> {
        let further = self.server.allowed_origins.iter().filter_map(|it| it.parse::<PublicUrl>().ok());
        std::iter::once(self.public_origin()).chain(further.map(|url| url.origin())).collect()
    }
}
