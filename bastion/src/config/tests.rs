//! What the configuration accepts, refuses, and says about it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::time::Duration;

use super::*;

const LEAST: &str = r#"
[server]
listen = "127.0.0.1:8090"
public_url = "http://127.0.0.1:8090"      # plain HTTP is accepted on loopback only
[database]
url = "sqlite:///var/lib/castellan/castellan.db"
[store]
url = "file:///var/lib/castellan/recordings"
[spool]
dir = "/var/lib/castellan/spool"
min_free = "500MiB"
[keys]
file = "/var/lib/castellan/keys"          # made on first start, 0600
[recordings]
durability = "written"                    # or "synced"
compression = "zstd"                      # or "none"
[sessions]
detach_grace = "5m"
resume_grace = "60s"
[rate_limits]
anonymous_per_minute = 60
logins_per_minute = 20
registrations_per_minute = 30
tickets_per_minute = 60
denials_per_10_minutes = 20
"#;

fn read(text: &str, env: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse("castellan.toml", text, env)
}

fn complaints(text: &str, env: &[(&str, &str)]) -> Vec<String> {
    read(text, env).expect_err("refused").to_string().lines().map(str::to_owned).collect()
}

#[test]
fn the_documented_least_file_is_the_default() {
    assert_eq!(read(LEAST, &[]).unwrap(), Config::default());
    assert_eq!(read("", &[]).unwrap(), Config::default());
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_the_nearest_name() {
    let text = "\n[server]\n\n# where\n\n\nlisen = \"127.0.0.1:1\"\n";
    assert_eq!(
        complaints(text, &[]),
        ["castellan.toml:7: server.lisen: unknown key; did you mean server.listen?"]
    );
    assert_eq!(
        complaints("[sever]\nlisten = \"127.0.0.1:1\"", &[]),
        ["castellan.toml:1: sever: unknown key; did you mean server?"]
    );
    assert_eq!(
        complaints("listen = \"127.0.0.1:1\"", &[]),
        ["castellan.toml:1: listen: unknown key; did you mean server.listen?"]
    );
    assert!(complaints("[server]\nzzzzzz = 1", &[])[0].contains("castellan config schema"));
}

#[test]
fn every_fault_is_told_at_once_each_with_its_line() {
    let text = "[server]\nlisten = \"nowhere\"\nfoo = 1\n[spool]\nmin_free = \"many\"\n[sessions]\ndetach_grace = 5\n[auth]\nlogin_idle = \"13h\"\n";
    let told = complaints(text, &[]);
    assert_eq!(told.len(), 5, "{told:#?}");
    let has = |start: &str| assert!(told.iter().any(|line| line.starts_with(start)), "{start} in {told:#?}");
    has("castellan.toml:2: server.listen: ");
    has("castellan.toml:3: server.foo: unknown key");
    has("castellan.toml:5: spool.min_free: \"many\" is no size");
    has("castellan.toml:7: sessions.detach_grace: ");
    has("castellan.toml:8: auth.login_max: must be at least auth.login_idle, 13h");
}

#[test]
fn broken_toml_is_told_with_its_line_and_without_its_text() {
    let told = complaints("[database]\nurl = \"postgres://castellan:hunter2@db/x\n", &[]);
    assert!(told[0].starts_with("castellan.toml:2: "), "{told:?}");
    assert!(!told.join("\n").contains("hunter2"));
}

#[test]
fn the_environment_overrides_any_key() {
    let config = read(
        LEAST,
        &[
            ("CASTELLAN__SERVER__LISTEN", "127.0.0.1:9000"),
            ("CASTELLAN__SERVER__TLS__CERT", "/etc/cert.pem"),
            ("CASTELLAN__SERVER__TLS__KEY", "\"/etc/key.pem\""),
            ("CASTELLAN__SERVER__PUBLIC_URL", "https://Castellan.Example:443"),
            ("CASTELLAN__SERVER__TRUSTED_PROXIES", "10.0.0.0/8, fd00::/8"),
            ("CASTELLAN__RATE_LIMITS__LOGINS_PER_MINUTE", "0"),
            ("CASTELLAN__STORE__PREFIX", "2026"),
            ("CASTELLAN_UNRELATED", "x"),
            ("PATH", "/bin"),
        ],
    )
    .unwrap();
    assert_eq!(config.server.listen.port(), 9000);
    assert_eq!(config.server.tls.key.as_deref(), Some(Path::new("/etc/key.pem")));
    assert_eq!(config.server.trusted_proxies.len(), 2);
    assert_eq!(config.rate_limits.logins_per_minute, 0);
    assert_eq!(config.store.prefix, "2026");
    assert_eq!(config.authority(), "castellan.example");
    assert_eq!(config.public_origin(), "https://castellan.example");
    assert_eq!(config.ws_base(), "wss://castellan.example");
    assert!(config.is_secure());
}

#[test]
fn a_wrong_variable_is_named() {
    assert_eq!(
        complaints("", &[("CASTELLAN__SERVER__LISEN", "x")]),
        ["CASTELLAN__SERVER__LISEN: server.lisen: unknown key; did you mean CASTELLAN__SERVER__LISTEN?"]
    );
    assert!(
        complaints("", &[("CASTELLAN__SERVER", "x")])[0].starts_with("CASTELLAN__SERVER: server: unknown")
    );
    let told = complaints("[spool]\nmin_free = \"1GiB\"", &[("CASTELLAN__SPOOL__MIN_FREE", "7")]);
    assert!(told[0].starts_with("CASTELLAN__SPOOL__MIN_FREE: spool.min_free: \"7\" is no size"), "{told:?}");
}

#[test]
fn plain_http_is_accepted_on_loopback_only() {
    for url in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"] {
        read(&format!("[server]\npublic_url = \"{url}\""), &[]).unwrap();
    }
    let told = complaints("[server]\npublic_url = \"http://castellan.example\"", &[]);
    assert!(told[0].starts_with("castellan.toml:2: server.public_url: plain http"), "{told:?}");
    let told = complaints("[server]\nlisten = \"0.0.0.0:8090\"", &[]);
    assert!(told[0].starts_with("castellan.toml:2: server.listen: listens beyond loopback"), "{told:?}");
    read("[server]\nlisten = \"0.0.0.0:8090\"\npublic_url = \"https://castellan.example\"", &[]).unwrap();
}

#[test]
fn what_cannot_work_is_refused_by_key() {
    for (text, key) in [
        ("[server]\npublic_url = \"https://a.example/path\"", "server.public_url"),
        ("[server]\npublic_url = \"castellan\"", "server.public_url"),
        ("[server]\nallowed_origins = [\"*\"]", "server.allowed_origins"),
        ("[server]\ntrusted_proxies = [\"10.0.0.1/33\"]", "server.trusted_proxies"),
        ("[server]\ntrusted_proxies = [\"0.0.0.0/0\"]", "server.trusted_proxies"),
        ("[server]\npublic_url = \"https://a.example\"\n[server.tls]\ncert = \"x\"", "server.tls"),
        ("[database]\nurl = \"oracle://x\"", "database.url"),
        ("[database]\nurl = \"sqlite::memory:\"", "database.url"),
        ("[store]\nurl = \"ftp://x\"", "store.url"),
        ("[store]\nurl = \"file://relative\"", "store.url"),
        ("[store]\nurl = \"s3://key:secret@bucket\"", "store.url"),
        ("[recordings]\ndurability = \"maybe\"", "recordings.durability"),
        ("[log]\nlevel = \"bastion=loud\"", "log.level"),
        ("[limits]\nfirst_byte = \"0s\"", "limits.first_byte"),
        ("[metrics]\nlisten = \"127.0.0.1:1\"", "metrics"),
    ] {
        let error = read(text, &[]).expect_err(text);
        assert_eq!(error.faults()[0].key, key, "{error}");
        assert_eq!(error.faults().len(), 1, "{error}");
    }
}

#[test]
fn a_database_password_is_in_no_output_and_no_error() {
    let text = "[database]\nurl = \"postgres://castellan:hunter2@db.example/x?sslpassword=hunter2\"";
    let config = read(text, &[]).unwrap();
    assert!(config.database.url.expose().contains("hunter2"));
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!toml::to_string(&config).unwrap().contains("hunter2"));
    let told = complaints("[database]\nurl = \"postgre:castellan:hunter2@db\"", &[]).join("\n");
    assert!(told.contains("database.url") && !told.contains("hunter2"), "{told}");
}

#[test]
fn the_database_url_may_come_from_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("url");
    std::fs::write(&file, "mysql://castellan:hunter2@db/x\n").unwrap();
    let text = format!("[database]\nurl_file = {file:?}");
    assert_eq!(read(&text, &[]).unwrap().database.url.expose(), "mysql://castellan:hunter2@db/x");
    let both = format!("[database]\nurl = \"sqlite:///x\"\nurl_file = {file:?}");
    assert!(complaints(&both, &[])[0].starts_with("castellan.toml:3: database.url_file: "));
}

#[test]
fn spans_and_sizes_are_written_as_they_are_read() {
    for (written, seconds) in [("90s", 90), ("30m", 1800), ("8h", 28_800), ("5m", 300), ("1d", 86_400)] {
        let span: Span = written.parse().unwrap();
        assert_eq!((span.duration(), span.to_string()), (Duration::from_secs(seconds), written.to_owned()));
    }
    for (written, bytes) in [("500MiB", 500 << 20), ("1GiB", 1 << 30), ("4KiB", 4096), ("7B", 7)] {
        let size: ByteSize = written.parse().unwrap();
        assert_eq!((size.bytes(), size.to_string()), (bytes, written.to_owned()));
    }
    assert_eq!("60s".parse::<Span>().unwrap(), Span::seconds(60));
    for wrong in ["", "s", "5", "-1s", "1.5h", "5 minutes", "99999999999999999d"] {
        wrong.parse::<Span>().expect_err(wrong);
    }
    for wrong in ["", "MiB", "5", "5MB", "99999999999999TiB"] {
        wrong.parse::<ByteSize>().expect_err(wrong);
    }
}

#[test]
fn the_schema_describes_every_key() {
    fn walk(schema: &serde_json::Value, name: &str) {
        assert!(schema["description"].is_string(), "{name} has no description");
        for (key, inner) in schema["properties"].as_object().into_iter().flatten() {
            walk(inner, &format!("{name}.{key}"));
        }
    }
    let schema = Config::schema();
    walk(&schema, "");
    assert_eq!(schema["properties"]["server"]["properties"]["listen"]["default"], "127.0.0.1:8090");
}

#[test]
fn a_configuration_survives_being_written_and_read() {
    let config = Config::for_dev(Path::new("/tmp/castellan"), "127.0.0.1:8090".parse().unwrap());
    config.check().unwrap();
    assert_eq!(config.authority(), "127.0.0.1:8090");
    assert_eq!(read(&toml::to_string(&config).unwrap(), &[]).unwrap(), config);
}

#[test]
fn the_own_origin_is_always_allowed() {
    let config = read("[server]\nallowed_origins = [\"https://Ops.example:443\"]", &[]).unwrap();
    assert_eq!(config.allowed_origins(), ["http://127.0.0.1:8090", "https://ops.example"]);
}

#[test]
fn a_value_of_the_wrong_kind_is_answered_with_an_example() {
    for (text, told) in [
        (
            "[server]\nlisten = \"localhost\"",
            "castellan.toml:2: server.listen: invalid socket address syntax; write it like \"127.0.0.1:8090\"",
        ),
        (
            "[server]\ntrusted_proxies = [\"10.0.0.1\"]",
            "castellan.toml:2: server.trusted_proxies: invalid IP address syntax; write it like [\"10.0.0.0/8\"]",
        ),
        (
            "[sessions]\ndetach_grace = 5",
            "castellan.toml:2: sessions.detach_grace: invalid type: integer `5`, expected a string; write it like \"90s\"",
        ),
        (
            "[recordings]\ncompression = \"gz\"",
            "castellan.toml:2: recordings.compression: unknown variant `gz`, expected `zstd` or `none`",
        ),
        ("server = 5", "castellan.toml:1: server: is a section; write its keys under [server]"),
        ("[log]\nlevel = \"info\"\nlevel = \"warn\"", "castellan.toml:3: duplicate key"),
    ] {
        assert_eq!(complaints(text, &[]), [told]);
    }
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nowhere/castellan.toml"), std::iter::empty()).unwrap_err();
    assert!(error.to_string().starts_with("/nowhere/castellan.toml: No such file"), "{error}");
}
