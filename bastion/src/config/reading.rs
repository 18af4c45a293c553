//! From text and environment to a checked [`Config`]; collects every fault, each with its key and its place.

use std::{collections::BTreeMap, fmt, fs, path::Path};

use serde_json::Value as Schema;
use toml::{
    Table, Value,
    de::{DeTable, DeValue},
};

use super::{Config, checks, values::DatabaseUrl};

/// What an environment variable that overrides a key begins with.
const PREFIX: &str = "CASTELLAN__";

/// Where a value was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the file `name`, on the line `line`, counted from 1.
    File {
        /// The file, as it was named to us.
        name: String,
        /// The line, counted from 1.
        line: usize,
    },
    /// In this environment variable.
    Environment(String),
    /// Nowhere: it is a default, or was set by the program.
    Unwritten,
}

/// One thing that is wrong, with its key and its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it was written.
    pub place: Place,
    /// The key, dotted: `server.listen`; empty where the file is no TOML.
    pub key: String,
    /// What is wrong, and what to write instead.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { name, line } => write!(f, "{name}:{line}: ")?,
            Place::Environment(variable) => write!(f, "{variable}: ")?,
            Place::Unwritten => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Why a configuration is refused: everything that was found, one fault a line.
#[derive(Debug, thiserror::Error)]
pub enum ConfigErrors {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file or the environment says something wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Faults(Vec<Fault>),
}

impl ConfigErrors {
    /// The faults, none when the file could not be read.
    pub fn faults(&self) -> &[Fault] {
        match self {
            Self::Unreadable { .. } => &[],
            Self::Faults(faults) => faults,
        }
    }
}

/// Faults of a configuration that was written nowhere.
pub(super) fn judge(found: Vec<(&'static str, String)>) -> Result<(), ConfigErrors> {
    if found.is_empty() {
        return Ok(());
    }
    let faults = found.into_iter().map(|(key, message)| Fault {
        place: Place::Unwritten,
        key: key.to_owned(),
        message,
    });
    Err(ConfigErrors::Faults(faults.collect()))
}

/// See [`Config::load`].
pub(super) fn load(path: &Path, env: impl Iterator<Item = (String, String)>) -> Result<Config, ConfigErrors> {
    let name = path.display().to_string();
    let text =
        fs::read_to_string(path).map_err(|source| ConfigErrors::Unreadable { path: name.clone(), source })?;
    parse(&name, &text, env)
}

/// See [`Config::parse`].
pub(super) fn parse(
    name: &str,
    text: &str,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigErrors> {
    let mut draft = Draft::of_file(name, text)?;
    draft.overlay(env);
    let config = draft.into_config();
    match config {
        (Some(config), faults) if faults.is_empty() => Ok(config),
        (_, faults) => Err(ConfigErrors::Faults(faults)),
    }
}

/// A configuration on its way: what was written, where, and what was wrong so far.
struct Draft {
    schema: Schema,
    written: Table,
    places: BTreeMap<String, Place>,
    faults: Vec<Fault>,
}

impl Draft {
    fn of_file(name: &str, text: &str) -> Result<Self, ConfigErrors> {
        let at = |offset: usize| Place::File { name: name.to_owned(), line: line_of(text, offset) };
        let (spanned, broken) = DeTable::parse_recoverable(text);
        let mut faults: Vec<Fault> = broken
            .iter()
            .map(|error| Fault {
                place: at(error.span().map_or(0, |span| span.start)),
                key: String::new(),
                message: error.message().to_owned(),
            })
            .collect();
        let written = match text.parse::<Table>() {
            Ok(written) if faults.is_empty() => written,
            Ok(_) => return Err(ConfigErrors::Faults(faults)),
            Err(error) => {
                if faults.is_empty() {
                    let place = at(error.span().map_or(0, |span| span.start));
                    faults.push(Fault { place, key: String::new(), message: error.message().to_owned() });
                }
                return Err(ConfigErrors::Faults(faults));
            }
        };
        let mut draft = Self { schema: Config::schema(), written, places: BTreeMap::new(), faults };
        let schema = draft.schema.clone();
        draft.walk(spanned.get_ref(), &schema, &mut Vec::new(), &at);
        Ok(draft)
    }

    /// Notes every key's place and takes unknown keys out, each with a fault.
    fn walk(
        &mut self,
        table: &DeTable<'_>,
        schema: &Schema,
        path: &mut Vec<String>,
        at: &dyn Fn(usize) -> Place,
    ) {
        for (key, value) in table {
            path.push(key.get_ref().to_string());
            let place = at(key.span().start);
            self.places.insert(path.join("."), place.clone());
            match &schema["properties"][key.get_ref().as_ref()] {
                Schema::Null => self.unknown(place, path),
                known => {
                    if let (DeValue::Table(inner), true) = (value.get_ref(), known["properties"].is_object())
                    {
                        self.walk(inner, known, path, at);
                    }
                }
            }
            path.pop();
        }
    }

    fn unknown(&mut self, place: Place, path: &[String]) {
        take_out(&mut self.written, path);
        let key = path.join(".");
        let message = match (nearest(&self.schema, &key), &place) {
            (Some(near), Place::Environment(_)) => {
                format!("unknown key; did you mean {}?", variable_of(&near))
            }
            (Some(near), _) => format!("unknown key; did you mean {near}?"),
            (None, _) => "unknown key; `castellan config schema` prints all known ones".to_owned(),
        };
        self.faults.push(Fault { place, key, message });
    }

    /// Lays the environment's variables over what the file says.
    fn overlay(&mut self, env: impl Iterator<Item = (String, String)>) {
        let ours = env.filter(|(variable, _)| variable.starts_with(PREFIX));
        // Sorted, so that faults come in the same order every time.
        for (variable, raw) in ours.collect::<BTreeMap<_, _>>() {
            let path: Vec<String> =
                variable[PREFIX.len()..].to_ascii_lowercase().split("__").map(str::to_owned).collect();
            let place = Place::Environment(variable);
            let known = known_at(&self.schema, &path);
            if known.is_null() || known["properties"].is_object() || known["additionalProperties"] == false {
                self.unknown(place, &path);
                continue;
            }
            let value = value_of(&raw, known);
            put_in(&mut self.written, &path, value);
            self.places.insert(path.join("."), place);
        }
    }

    /// Types what was written: a key that does not fit is noted and left out, until the rest fits.
    fn into_config(mut self) -> (Option<Config>, Vec<Fault>) {
        let mut config = loop {
            let written = Value::Table(self.written.clone());
            let error = match serde_path_to_error::deserialize::<_, Config>(written) {
                Ok(config) => break config,
                Err(error) => error,
            };
            let path = keys_of(error.path());
            let message = explained(error.inner().message(), known_at(&self.schema, &path), &path);
            self.fault(&path.join("."), message);
            if !take_out(&mut self.written, &path) {
                return (None, self.faults);
            }
        };
        self.read_url_file(&mut config);
        for (key, message) in checks::faults(&config) {
            self.fault(key, message);
        }
        (Some(config), self.faults)
    }

    fn read_url_file(&mut self, config: &mut Config) {
        let Some(file) = &config.database.url_file else { return };
        if self.places.contains_key("database.url") {
            self.fault("database.url_file", "database.url is set too; keep one of them".to_owned());
            return;
        }
        match fs::read_to_string(file) {
            Ok(url) => config.database.url = DatabaseUrl::new(url.trim()),
            Err(error) => self.fault("database.url_file", format!("{}: {error}", file.display())),
        }
    }

    fn fault(&mut self, key: &str, message: String) {
        let place = self.place_of(key);
        self.faults.push(Fault { place, key: key.to_owned(), message });
    }

    /// Where `key` was written, or else the section that holds it.
    fn place_of(&self, key: &str) -> Place {
        let mut key = key;
        loop {
            if let Some(place) = self.places.get(key) {
                return place.clone();
            }
            match key.rsplit_once('.') {
                Some((section, _)) => key = section,
                None => return Place::Unwritten,
            }
        }
    }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// What the schema says of the key at `path`; null where there is none.
fn known_at<'a>(schema: &'a Schema, path: &[String]) -> &'a Schema {
    path.iter().fold(schema, |schema, key| &schema["properties"][key])
}

/// What serde said, with what to write instead.
fn explained(said: &str, known: &Schema, path: &[String]) -> String {
    if known["properties"].is_object() {
        return format!("is a section; write its keys under [{}]", path.join("."));
    }
    match known["examples"].get(0) {
        // Values of our own say it themselves.
        Some(example) if !said.contains("as in") => format!("{said}; write it like {example}"),
        Some(_) | None => said.to_owned(),
    }
}

/// The path's table keys, up to the first list.
fn keys_of(path: &serde_path_to_error::Path) -> Vec<String> {
    path.iter()
        .map_while(|segment| match segment {
            serde_path_to_error::Segment::Map { key } => Some(key.clone()),
            serde_path_to_error::Segment::Seq { .. }
            | serde_path_to_error::Segment::Enum { .. }
            | serde_path_to_error::Segment::Unknown => None,
        })
        .collect()
}

fn take_out(table: &mut Table, path: &[String]) -> bool {
    match path {
        [] => false,
        [key] => table.remove(key).is_some(),
        [key, rest @ ..] => {
            table.get_mut(key).and_then(Value::as_table_mut).is_some_and(|inner| take_out(inner, rest))
        }
    }
}

fn put_in(table: &mut Table, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => {
            table.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            let inner = table.entry(key.clone()).or_insert_with(|| Value::Table(Table::new()));
            if !inner.is_table() {
                *inner = Value::Table(Table::new());
            }
            if let Value::Table(inner) = inner {
                put_in(inner, rest, value);
            }
        }
    }
}

/// A variable's text as TOML where that fits the key, else as plain text; a list may be written with commas.
fn value_of(raw: &str, schema: &Schema) -> Value {
    let as_toml = format!("it = {raw}").parse::<Table>().ok().and_then(|mut table| table.remove("it"));
    let wants_text = match &schema["type"] {
        Schema::Array(types) => types.iter().any(|it| it == "string"),
        kind => kind == "string" || kind.is_null(),
    };
    match as_toml {
        Some(value @ Value::String(_)) => value,
        Some(value @ Value::Array(_)) if schema["type"] == "array" => value,
        _ if schema["type"] == "array" => {
            let items = raw.split(',').map(str::trim).filter(|item| !item.is_empty());
            Value::Array(items.map(|item| Value::String(item.to_owned())).collect())
        }
        Some(value) if !wants_text => value,
        Some(_) | None => Value::String(raw.to_owned()),
    }
}

/// Every key there is, dotted, sections included.
fn all_keys(schema: &Schema, prefix: &str, into: &mut Vec<String>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    for (key, inner) in properties {
        let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        all_keys(inner, &name, into);
        into.push(name);
    }
}

/// The known key that `key` was most likely meant to be.
fn nearest(schema: &Schema, key: &str) -> Option<String> {
    let mut known = Vec::new();
    all_keys(schema, "", &mut known);
    let distance = |name: &str| strsim::damerau_levenshtein(name, key);
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let close = known.iter().min_by_key(|name| distance(name));
    close
        .filter(|name| distance(name) <= 1 + last(name).len() / 3)
        .or_else(|| known.iter().find(|name| last(name) == last(key)))
        .cloned()
}

fn variable_of(key: &str) -> String {
    format!("{PREFIX}{}", key.to_ascii_uppercase().replace('.', "__"))
}
