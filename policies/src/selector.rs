//! Kubernetes label selectors, with their exact grammar and meaning: `env=prod,tier in (web,db),!quarantine`.
//!
//! Commas are AND. `!=` and `notin` also match an asset that lacks the key, as in Kubernetes; a selector that grants
//! must therefore pass [`Selector::never_widens`]. Unlike in Kubernetes an empty selector is refused, because "all" is
//! better spelled out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a text is no selector, or not one that may grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Nothing is selected by nothing.
    #[error("an empty selector selects nothing here; say `all` where everything is meant")]
    Empty,
    /// A token stands where it cannot.
    #[error("found {found}, expected {expected}")]
    Unexpected {
        /// The token, in backticks, or `the end`.
        found: String,
        /// What could stand there.
        expected: &'static str,
    },
    /// Not a label key.
    #[error("`{0}` is no label key: [prefix/]name of at most 63 letters, digits, `-`, `_` and `.`")]
    Key(String),
    /// Not a label value.
    #[error("`{0}` is no label value: at most 63 letters, digits, `-`, `_` and `.`, or empty")]
    Value(String),
    /// A grant without a positive term.
    #[error("a selector that grants needs a term that asks for a label, such as `env=prod` or `env`")]
    NoPositiveTerm,
    /// A grant with a negative term on a key that may be missing.
    #[error("`{0}` also matches hosts that lack the label; add `{0}` itself as a term")]
    Widens(String),
}

/// What a term asks of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    Absent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    key: String,
    test: Test,
}

/// A parsed selector; its `Display` parses to the same selector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector(Vec<Term>);

impl Selector {
    /// Whether every term holds for these labels.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|term| term.matches(labels.get(&term.key)))
    }

    /// Whether a missing label can only make it match less: what a selector that grants must hold to.
    ///
    /// # Errors
    /// When no term asks for a label, or a `!=` or `notin` has a key that no other term asks for.
    pub fn never_widens(&self) -> Result<(), SelectorError> {
        let asked: BTreeSet<_> = self.0.iter().filter(|term| term.asks()).map(|term| &term.key).collect();
        if asked.is_empty() {
            return Err(SelectorError::NoPositiveTerm);
        }
        let loose = |term: &&Term| matches!(term.test, Test::NotIn(_)) && !asked.contains(&term.key);
        match self.0.iter().find(loose) {
            Some(term) => Err(SelectorError::Widens(term.key.clone())),
            None => Ok(()),
        }
    }
}

impl Term {
    fn matches(&self, value: Option<&String>) -> bool {
        match (&self.test, value) {
            (Test::In(values), Some(value)) => values.contains(value),
            (Test::NotIn(values), Some(value)) => !values.contains(value),
            (Test::Exists, value) => value.is_some(),
            (Test::Absent, value) => value.is_none(),
            (Test::In(_), None) => false,
            (Test::NotIn(_), None) => true,
        }
    }

    fn asks(&self) -> bool {
        matches!(self.test, Test::In(_) | Test::Exists)
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { tokens: tokens(text), at: 0 };
        if parser.tokens.is_empty() {
            return Err(SelectorError::Empty);
        }
        let mut terms = vec![parser.term()?];
        while let Some(token) = parser.take() {
            if token != "," {
                return Err(unexpected(Some(token), "`,` or the end"));
            }
            terms.push(parser.term()?);
        }
        Ok(Self(terms))
    }
}

impl TryFrom<String> for Selector {
    type Error = SelectorError;

    fn try_from(text: String) -> Result<Self, SelectorError> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> Self {
        selector.to_string()
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, term) in self.0.iter().enumerate() {
            if nth > 0 {
                out.write_str(",")?;
            }
            term.fmt(out)?;
        }
        Ok(())
    }
}

impl fmt::Display for Term {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (values, equal, within) = match &self.test {
            Test::Exists => return out.write_str(&self.key),
            Test::Absent => return write!(out, "!{}", self.key),
            Test::In(values) => (values, "=", "in"),
            Test::NotIn(values) => (values, "!=", "notin"),
        };
        let mut listed = values.iter().map(String::as_str);
        match (listed.next(), values.len()) {
            (Some(only), 1) => write!(out, "{}{equal}{only}", self.key),
            _ => {
                write!(out, "{} {within} ({})", self.key, Vec::from_iter(values.iter().cloned()).join(","))
            }
        }
    }
}

struct Parser<'t> {
    tokens: Vec<&'t str>,
    at: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<&'t str> {
        self.tokens.get(self.at).copied()
    }

    fn take(&mut self) -> Option<&'t str> {
        let token = self.peek();
        self.at += 1;
        token
    }

    fn take_if(&mut self, wanted: &str) -> bool {
        let found = self.peek() == Some(wanted);
        self.at += usize::from(found);
        found
    }

    fn term(&mut self) -> Result<Term, SelectorError> {
        if self.take_if("!") {
            return Ok(Term { key: self.key("a label key")?, test: Test::Absent });
        }
        let key = self.key("a label key or `!`")?;
        if matches!(self.peek(), None | Some(",")) {
            return Ok(Term { key, test: Test::Exists });
        }
        let test = match self.take() {
            Some("=" | "==") => Test::In(self.value()?),
            Some("!=") => Test::NotIn(self.value()?),
            Some("in") => Test::In(self.values()?),
            Some("notin") => Test::NotIn(self.values()?),
            other => return Err(unexpected(other, "`=`, `==`, `!=`, `in`, `notin`, `,` or the end")),
        };
        Ok(Term { key, test })
    }

    fn key(&mut self, expected: &'static str) -> Result<String, SelectorError> {
        match self.take() {
            Some(token) if !is_symbol(token) && is_key(token) => Ok(token.to_owned()),
            Some(token) if !is_symbol(token) => Err(SelectorError::Key(token.to_owned())),
            other => Err(unexpected(other, expected)),
        }
    }

    /// The value after `=`: nothing there is the empty value.
    fn value(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        let value = match self.peek() {
            None | Some(",") => String::new(),
            Some(token) if is_symbol(token) => return Err(unexpected(Some(token), "a label value")),
            Some(token) => {
                self.at += 1;
                checked_value(token)?
            }
        };
        Ok(BTreeSet::from([value]))
    }

    /// The values in parentheses: nothing beside a comma is the empty value, but `()` is a fault.
    fn values(&mut self) -> Result<BTreeSet<String>, SelectorError> {
        if !self.take_if("(") {
            return Err(unexpected(self.peek(), "`(`"));
        }
        if self.peek() == Some(")") {
            return Err(unexpected(Some(")"), "a label value"));
        }
        let mut values = BTreeSet::new();
        let mut pending = String::new();
        loop {
            match self.take() {
                Some(")") => {
                    values.insert(pending);
                    return Ok(values);
                }
                Some(",") => {
                    values.insert(std::mem::take(&mut pending));
                }
                Some(token) if !is_symbol(token) => {
                    pending = checked_value(token)?;
                    if !matches!(self.peek(), Some("," | ")")) {
                        return Err(unexpected(self.peek(), "`,` or `)`"));
                    }
                }
                other => return Err(unexpected(other, "`,`, `)` or a label value")),
            }
        }
    }
}

const SYMBOLS: [char; 7] = ['=', '!', '(', ')', ',', '<', '>'];

fn is_symbol(token: &str) -> bool {
    token.starts_with(SYMBOLS)
}

/// Splits into symbols, longest first, and words; white space only separates.
fn tokens(text: &str) -> Vec<&str> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let length = if rest.starts_with("==") || rest.starts_with("!=") {
            2
        } else if is_symbol(rest) {
            1
        } else {
            rest.find(|c: char| SYMBOLS.contains(&c) || is_space(c)).unwrap_or(rest.len())
        };
        let (token, after) = rest.split_at(length);
        tokens.push(token);
        rest = after.trim_start_matches(is_space);
    }
    tokens
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn unexpected(found: Option<&str>, expected: &'static str) -> SelectorError {
    let found = found.map_or_else(|| "the end".to_owned(), |token| format!("`{token}`"));
    SelectorError::Unexpected { found, expected }
}

fn checked_value(token: &str) -> Result<String, SelectorError> {
    if is_name(token) { Ok(token.to_owned()) } else { Err(SelectorError::Value(token.to_owned())) }
}

/// Whether Kubernetes takes it as a label's key.
#[must_use]
pub fn is_key(key: &str) -> bool {
    match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
        None => is_name(key),
    }
}

/// Whether Kubernetes takes it as a label's value.
#[must_use]
pub fn is_value(value: &str) -> bool {
    value.is_empty() || is_name(value)
}

fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_subdomain(text: &str) -> bool {
    let outer = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let part = |part: &str| {
        part.bytes().all(|byte| outer(byte) || byte == b'-')
            && part.bytes().next().is_some_and(outer)
            && part.bytes().next_back().is_some_and(outer)
    };
    text.len() <= 253 && text.split('.').all(part)
}
