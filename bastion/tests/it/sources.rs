//! The architecture's invariants, kept by reading the sources.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::harness::workspace;

const CRATES: [&str; 6] = ["openapi", "bastion", "agent", "policies", "recordings", "migrations"];
/// What a flow is: it takes what it needs, never all of it.
const FLOWS: [&str; 7] = ["access", "enrolment", "hub", "session", "tickets", "keeping", "audit"];

/// A file, without comments and tests.
#[derive(Clone)]
struct Source {
    /// From the workspace's root.
    path: String,
    text: String,
}

/// What must hold, and which lines break it.
struct Rule {
    says: &'static str,
    breaks: fn(&str, &str) -> bool,
    /// A file and a line that must be found out.
    example: (&'static str, &'static str),
}

const RULES: [Rule; 16] = [
    Rule {
        says: "sea_orm only in bastion/src/db* and migrations",
        breaks: |path, line| {
            has(line, "sea_orm") && !path.starts_with("bastion/src/db") && !path.starts_with("migrations/")
        },
        example: ("bastion/src/api/users.rs", "use sea_orm::EntityTrait as _;"),
    },
    Rule {
        says: "poem only at the edges, and in openapi behind its feature",
        breaks: |path, line| {
            let feature = path.starts_with("openapi/") && line.contains("feature = \"poem\"");
            (has(line, "poem") || has(line, "poem_openapi")) && !is_edge(path) && !feature
        },
        example: ("bastion/src/hub.rs", "use poem::Request;"),
    },
    Rule {
        says: "policies, recordings and migrations name no other crate of ours",
        breaks: |path, line| {
            let leaf = ["policies", "recordings", "migrations"]
                .into_iter()
                .find(|leaf| path.starts_with(&format!("{leaf}/")));
            leaf.is_some_and(|leaf| CRATES.iter().any(|other| *other != leaf && names_crate(line, other)))
        },
        example: ("policies/src/chain.rs", "use openapi::frames::Frame;"),
    },
    Rule {
        says: "openapi names no other crate of ours",
        breaks: |path, line| {
            path.starts_with("openapi/")
                && CRATES.iter().any(|other| *other != "openapi" && names_crate(line, other))
        },
        example: ("openapi/src/agents.rs", "let rows: recordings::Rows = todo();"),
    },
    Rule {
        says: "the agent names no crate of ours but openapi",
        breaks: |path, line| {
            path.starts_with("agent/")
                && CRATES
                    .iter()
                    .any(|other| !["openapi", "agent"].contains(other) && names_crate(line, other))
        },
        example: ("agent/src/relay.rs", "use bastion::config::Config;"),
    },
    Rule {
        says: "a flow takes what it needs, never App",
        breaks: |path, line| is_flow(path) && has(line, "App"),
        example: ("bastion/src/session/machine.rs", "    app: Arc<App>,"),
    },
    Rule {
        says: "a flow knows no HTTP",
        breaks: |path, line| {
            is_flow(path) && (has(line, "http") || has(line, "hyper") || has(line, "StatusCode"))
        },
        example: ("bastion/src/enrolment.rs", "use http::StatusCode;"),
    },
    Rule {
        says: "the edges know nothing of each other: api names no socket's parts",
        breaks: |path, line| path.starts_with("bastion/src/api/") && line.contains("sockets::"),
        example: ("bastion/src/api/sessions.rs", "use crate::sockets::browser;"),
    },
    Rule {
        says: "every channel is bounded",
        breaks: |_, line| {
            line.contains("unbounded_channel")
                || has(line, "UnboundedSender")
                || line.contains("mpsc::unbounded")
        },
        example: ("agent/src/relay.rs", "let (a, b) = mpsc::unbounded_channel();"),
    },
    Rule {
        says: "every task is tracked: no bare spawn",
        breaks: |_, line| {
            line.contains("tokio::spawn")
                || line.contains("task::spawn(")
                || line.contains("task::spawn_local")
        },
        example: ("bastion/src/hub.rs", "    tokio::spawn(async move {});"),
    },
    Rule {
        says: "the client's address is our own finding",
        breaks: |_, line| has(line, "RealIp"),
        example: ("bastion/src/api/people.rs", "address: RealIp,"),
    },
    Rule {
        says: "the access log is our own, without queries",
        breaks: |_, line| line.contains("middleware::Tracing"),
        example: ("bastion/src/lib.rs", "    .with(poem::middleware::Tracing)"),
    },
    Rule {
        says: "no XML",
        breaks: |_, line| line.contains("payload::Xml") || has(line, "Xml"),
        example: ("bastion/src/api/users.rs", "use poem_openapi::payload::Xml;"),
    },
    Rule {
        says: "certificates and tokens are always verified",
        breaks: |_, line| {
            line.contains("danger_accept_invalid")
                || line.contains("insecure_decode")
                || line.contains("insecure_disable")
        },
        example: ("agent/src/client.rs", "    .danger_accept_invalid_certs(true)"),
    },
    Rule {
        says: "unsafe only in agent/src/platform/unix.rs",
        breaks: |path, line| {
            let code = [
                "unsafe {",
                "unsafe fn",
                "unsafe impl",
                "unsafe extern",
                "unsafe trait",
                "allow(unsafe_code",
            ];
            path != "agent/src/platform/unix.rs" && code.iter().any(|code| line.contains(code))
        },
        example: ("recordings/src/store.rs", "    unsafe { free(it) }"),
    },
    Rule {
        says: "nothing is left to be done",
        breaks: |_, line| {
            ["todo!(", "unimplemented!(", "dbg!(", "#[ignore"].iter().any(|it| line.contains(it))
        },
        example: ("bastion/src/hub.rs", "    todo!()"),
    },
];

fn is_edge(path: &str) -> bool {
    let edges = [
        "bastion/src/api",
        "bastion/src/sockets",
        "bastion/src/door",
        "bastion/src/routes.rs",
        "bastion/src/pages.rs",
    ];
    edges.iter().any(|edge| path.starts_with(edge))
}

fn is_flow(path: &str) -> bool {
    let flow = path.strip_prefix("bastion/src/");
    flow.is_some_and(|flow| {
        FLOWS.iter().any(|name| flow == format!("{name}.rs") || flow.starts_with(&format!("{name}/")))
    })
}

/// Whether a line holds a whole word.
fn has(line: &str, word: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        !line[..at].chars().next_back().is_some_and(part)
            && !line[at + word.len()..].chars().next().is_some_and(part)
    })
}

/// Whether a line goes by the name of a crate; `crate::name` and `self::name` are something else.
fn names_crate(line: &str, name: &str) -> bool {
    let path = format!("{name}::");
    line.match_indices(&path).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let inner = line[..at].ends_with("::")
            && !line[..at].ends_with(" ::")
            && !line[..at].is_empty()
            && line[..at] != *"::";
        !inner && !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// Every file under `folder` that ends in `.rs`.
fn rust_files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, into);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            into.push(path);
        }
    }
}

/// The crates' own code: no tests, no comments.
fn sources() -> Vec<Source> {
    let mut files = Vec::new();
    for name in CRATES {
        rust_files(&workspace().join(name).join("src"), &mut files);
    }
    let sources = files.into_iter().filter_map(|file| {
        let path = file.strip_prefix(workspace()).unwrap().to_str().unwrap().to_owned();
        let is_test = path.ends_with("tests.rs") || path.contains("/tests/");
        (!is_test).then(|| Source { text: code_of(&fs::read_to_string(&file).unwrap()), path })
    });
    sources.collect()
}

/// Without comments, and without the module of tests at the end.
fn code_of(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

fn broken(rule: &Rule, sources: &[Source]) -> Vec<String> {
    let lines = sources.iter().flat_map(|source| source.text.lines().map(move |line| (&source.path, line)));
    lines
        .filter(|(path, line)| (rule.breaks)(path, line))
        .map(|(path, line)| format!("{path}: {}", line.trim()))
        .collect()
}

#[test]
fn the_invariants_of_the_architecture_hold() {
    let sources = sources();
    assert!(sources.len() > 80, "the sources are found: {}", sources.len());
    for path in ["bastion/src/hub.rs", "agent/src/relay.rs", "policies/src/chain.rs", "migrations/src/lib.rs"]
    {
        assert!(sources.iter().any(|source| source.path == path), "{path}");
    }
    for flow in FLOWS {
        assert!(sources.iter().any(|source| source.path == format!("bastion/src/{flow}.rs")), "{flow}");
    }
    for rule in &RULES {
        let found = broken(rule, &sources);
        assert!(found.is_empty(), "{}:\n{}", rule.says, found.join("\n"));
    }
}

#[test]
fn every_invariant_is_found_out_when_it_is_broken() {
    for rule in &RULES {
        let (path, text) = rule.example;
        let found = broken(rule, &[Source { path: path.to_owned(), text: text.to_owned() }]);
        assert_eq!(found.len(), 1, "{}", rule.says);
    }
}

/// The dependencies that a manifest names, dev-dependencies apart.
fn dependencies(name: &str) -> Vec<String> {
    let text = fs::read_to_string(workspace().join(name).join("Cargo.toml")).unwrap();
    let manifest: toml::Table = text.parse().unwrap();
    let tables = ["dependencies", "build-dependencies"]
        .into_iter()
        .filter_map(|table| manifest.get(table)?.as_table());
    tables.flat_map(|table| table.keys().cloned()).collect()
}

#[test]
fn the_manifests_draw_a_star_not_a_web() {
    let ours = |name: &str| -> Vec<String> {
        dependencies(name)
            .into_iter()
            .filter(|it| it == "castellan" || it.starts_with("castellan-"))
            .collect()
    };
    for leaf in ["openapi", "policies", "recordings", "migrations"] {
        assert!(ours(leaf).is_empty(), "{leaf}: {:?}", ours(leaf));
    }
    assert_eq!(ours("agent"), ["castellan-openapi"]);
    assert!(!ours("bastion").contains(&"castellan-agent".to_owned()));
    let databases: Vec<_> = CRATES
        .into_iter()
        .filter(|name| dependencies(name).iter().any(|it| it.starts_with("sea-orm")))
        .collect();
    assert_eq!(databases, ["bastion", "migrations"]);
    let http: Vec<_> = CRATES
        .into_iter()
        .filter(|name| dependencies(name).iter().any(|it| it.starts_with("poem")))
        .collect();
    assert_eq!(http, ["openapi", "bastion"]);
}

#[test]
fn every_file_says_what_it_is() {
    let mut files = Vec::new();
    for name in CRATES {
        rust_files(&workspace().join(name), &mut files);
    }
    let silent: Vec<_> =
        files.iter().filter(|file| !fs::read_to_string(file).unwrap().starts_with("//! ")).collect();
    assert!(silent.is_empty(), "{silent:?}");
}
