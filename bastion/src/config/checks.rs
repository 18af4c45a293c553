//! What a configuration must be beyond its types: faults by key, each saying what to write instead.

use std::path::Path;

use super::{Config, Limits, PublicUrl, Server, Span};

/// A key and what is wrong with it.
type Found = Vec<(&'static str, String)>;

/// Every fault in `config`.
pub(super) fn faults(config: &Config) -> Found {
    let mut found = Found::new();
    server(&config.server, &mut found);
    database(config, &mut found);
    places(config, &mut found);
    times(config, &mut found);
    limits(&config.limits, &mut found);
    if let Err(error) = tracing_subscriber::EnvFilter::try_new(&config.log.level) {
        found.push(("log.level", format!("no level or list of directives: {error}")));
    }
    found
}

fn server(server: &Server, found: &mut Found) {
    let url = &server.public_url;
    let tls = server.tls.cert.is_some() || server.tls.key.is_some();
    if server.tls.cert.is_some() != server.tls.key.is_some() {
        found.push(("server.tls", "set both cert and key, or neither".into()));
    }
    if !url.is_secure() && tls {
        found.push(("server.public_url", "must begin with https:// when server.tls is set".into()));
    } else if !url.is_secure() && !url.is_loopback() {
        let message = "plain http is accepted on loopback only; use https:// (with server.tls, or behind a proxy that ends TLS)";
        found.push(("server.public_url", message.into()));
    } else if !url.is_secure() && !server.listen.ip().is_loopback() {
        let message =
            "listens beyond loopback without TLS; listen on 127.0.0.1, or make server.public_url https://";
        found.push(("server.listen", message.into()));
    }
    for origin in &server.allowed_origins {
        if let Err(error) = origin.parse::<PublicUrl>() {
            found.push(("server.allowed_origins", error.to_string()));
        }
    }
    if server.trusted_proxies.iter().any(|network| network.prefix_len() == 0) {
        found.push((
            "server.trusted_proxies",
            "a /0 would believe everyone; name your proxies' networks".into(),
        ));
    }
}

fn database(config: &Config, found: &mut Found) {
    // The URL itself is never in a message: it may hold a password.
    let url = &config.database.url;
    let key = if config.database.url_file.is_some() { "database.url_file" } else { "database.url" };
    match (url.scheme(), url.sqlite_path()) {
        (_, Some("" | ":memory:")) => {
            found.push((
                key,
                "name the database's file, as in sqlite:///var/lib/castellan/castellan.db".into(),
            ));
        }
        (_, Some(_)) => {}
        ("mysql" | "mariadb" | "postgres" | "postgresql", None) if url.expose().contains("://") => {}
        _ => found.push((key, "must begin with sqlite://, mysql:// or postgres://".into())),
    }
}

fn places(config: &Config, found: &mut Found) {
    match config.store.url.split_once("://") {
        Some(("file", path)) if Path::new(path).is_absolute() => {}
        Some(("file", _)) => {
            found.push(("store.url", "a folder's path must be absolute, as in file:///var/lib/…".into()));
        }
        Some(("s3" | "gs" | "az", rest)) if rest.contains('@') => {
            found.push(("store.url", "no credentials here; use the provider's environment variables".into()));
        }
        Some(("s3" | "gs" | "az", rest)) if !rest.is_empty() => {}
        _ => found
            .push(("store.url", "must be file:///folder, s3://bucket, gs://bucket or az://container".into())),
    }
    let prefix = &config.store.prefix;
    if prefix.starts_with('/') || prefix.split('/').any(|part| part == ".." || part == ".") {
        found.push(("store.prefix", "must neither begin with / nor contain . or ..".into()));
    }
    if config.spool.dir.as_os_str().is_empty() {
        found.push(("spool.dir", "name a folder".into()));
    }
    if config.keys.file.as_os_str().is_empty() {
        found.push(("keys.file", "name a file".into()));
    }
}

fn times(config: &Config, found: &mut Found) {
    let auth = &config.auth;
    if config.recordings.retention.is_some_and(|kept| kept < Span::seconds(3600)) {
        let message = "must be at least 1h; leave it out to keep recordings for ever";
        found.push(("recordings.retention", message.into()));
    }
    if auth.login_idle.duration().is_zero() {
        found.push(("auth.login_idle", "must be more than nothing".into()));
    }
    if auth.login_max < auth.login_idle {
        found.push(("auth.login_max", format!("must be at least auth.login_idle, {}", auth.login_idle)));
    }
}

fn limits(limits: &Limits, found: &mut Found) {
    let times = [
        ("limits.tls_handshake", limits.tls_handshake),
        ("limits.first_byte", limits.first_byte),
        ("limits.header", limits.header),
        ("limits.body", limits.body),
        ("limits.keep_alive", limits.keep_alive),
        ("limits.write_stall", limits.write_stall),
    ];
    for (key, _) in times.iter().filter(|(_, span)| span.duration().is_zero()) {
        found.push((*key, "must be more than nothing".into()));
    }
    if limits.connections == 0 {
        found.push(("limits.connections", "must be at least 1".into()));
    }
    if !(1 << 10..=1 << 20).contains(&limits.header_size.bytes()) {
        found.push(("limits.header_size", "must be between 1KiB and 1MiB".into()));
    }
    if !(16..=1024).contains(&limits.header_count) {
        found.push(("limits.header_count", "must be between 16 and 1024".into()));
    }
    if limits.body_size.bytes() < 64 << 10 {
        found.push(("limits.body_size", "must be at least 64KiB, an agent's largest body".into()));
    }
}
