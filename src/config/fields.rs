//! Reading a mapping key by key. Every accessor that finds something wrong says so and returns `None`, so that the
//! reading goes on and finds the rest.

use std::time::Duration;

use super::context::{Context, Report};
use super::keys::{self, Kind};
use super::raw::{Node, Value};
use super::value;

/// A mapping of a known kind.
pub(super) struct Fields<'a> {
    pub ctx: &'a Context<'a>,
    /// What it is in messages: `job "photos"`.
    pub name: String,
    node: &'a Node,
    kind: &'static Kind,
    entries: &'a [(Node, Node)],
    /// Keys that an unknown key was taken for. That they are missing is said already.
    misspelt: Vec<&'static str>,
}

impl<'a> Fields<'a> {
    /// Takes a mapping and reports every key of it that is unknown, idle, twice there, or no word at all.
    pub fn open(ctx: &'a Context<'a>, node: &'a Node, kind: &'static Kind, name: String) -> Option<Self> {
        let Value::Map(entries) = &node.value else {
            let report = Report::error(format!("{name} must be a mapping of keys to values"));
            ctx.report(
                node.span.clone(),
                report.label(found(node)).help(format!("its keys: {}", kind.keys.join(", "))),
            );
            return None;
        };
        let mut fields = Self { ctx, name, node, kind, entries, misspelt: Vec::new() };
        for (at, (key, _)) in entries.iter().enumerate() {
            match &key.value {
                Value::Scalar(word) => fields.judge_key(at, key, word),
                _ => ctx.report(key.span.clone(), Report::error("a key must be a word").label(found(key))),
            }
        }
        Some(fields)
    }

    fn judge_key(&mut self, at: usize, key: &Node, word: &str) {
        if let Some((first, _)) = self.entries[..at].iter().find(|(earlier, _)| earlier.value == key.value) {
            let report = Report::error(format!("the key {} stands twice in {}", quoted(word), self.name));
            let help = format!("line {} has it already: remove one of them", self.ctx.line(first));
            self.ctx.report(key.span.clone(), report.label("again").help(help));
        } else if self.kind.idle.contains(&word) {
            let report = Report::warning(format!("{} has no effect in {}", quoted(word), self.kind.name));
            self.ctx.report(key.span.clone(), report.help("remove it, or set `type: remote`".to_owned()));
        } else if !self.kind.accepts(word) {
            let report = self.unknown(word);
            self.ctx.report(key.span.clone(), report);
        }
    }

    fn unknown(&mut self, word: &str) -> Report {
        let label = format!("not a key of {}", self.kind.name);
        let homes = keys::homes(word);
        if let (true, Some(nearest)) = (homes.is_empty(), self.kind.nearest(word)) {
            self.misspelt.push(nearest);
            return Report::error(format!("unknown key {}, did you mean \"{nearest}\"?", quoted(word))).label(label);
        }
        let help = match homes.as_slice() {
            [] => format!("keys of {}: {}", self.kind.name, self.kind.keys.join(", ")),
            homes => format!("\"{word}\" is a key of {}", homes.join(" and of ")),
        };
        Report::error(format!("unknown key {}", quoted(word))).label(label).help(help)
    }

    /// Whether mappings of this kind have such a key.
    pub fn accepts(&self, key: &str) -> bool {
        self.kind.accepts(key)
    }

    /// The value of a key; `None` if the key is absent or has no value, which mean the same.
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        debug_assert!(self.kind.accepts(key), "{key} is missing in the table of {}", self.kind.name);
        peek(self.node, key).filter(|node| node.value != Value::Null)
    }

    /// The value of a key that must be there.
    pub fn require(&self, key: &str) -> Option<&'a Node> {
        let value = self.get(key);
        if value.is_none() {
            match peek(self.node, key) {
                Some(empty) => self.ctx.report(empty.span.clone(), self.empty(key)),
                None => {
                    let help = keys::example(key).map(|example| format!("write for example `{example}`"));
                    self.missing(key, help);
                }
            }
        }
        value
    }

    /// Whether a misspelling of the key was reported.
    pub fn is_misspelt(&self, key: &str) -> bool {
        self.misspelt.contains(&key)
    }

    /// Reports a missing key at the mapping's first line.
    pub fn missing(&self, key: &str, help: Option<String>) {
        if self.is_misspelt(key) {
            return;
        }
        let report = Report::error(format!("{} has no \"{key}\"", self.name)).label("missing here").help(help);
        let first = self.entries.first().map_or(self.node, |(key, _)| key);
        self.ctx.report(first.span.clone(), report);
    }

    fn empty(&self, key: &str) -> Report {
        let report = Report::error(format!("{} has no value", self.key(key)));
        report.help(
            "`~`, `null` and nothing at all mean the same; a lone `~` for the home must stand in quotes".to_owned(),
        )
    }

    /// A scalar, read by `parse`; `expected` completes "must be".
    pub fn read<T>(&self, key: &str, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        self.read_node(key, self.get(key)?, expected, parse)
    }

    /// Like [`Self::read`], for one element of a list.
    pub fn read_node<T>(&self, key: &str, node: &Node, expected: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = match &node.value {
            Value::Scalar(text) => parse(text),
            _ => None,
        };
        if value.is_none() {
            self.wrong(key, node, expected);
        }
        value
    }

    /// A text with its node; it is not empty and free of NUL, which no path or argument can hold.
    pub fn text(&self, key: &str) -> Option<(&'a Node, &'a str)> {
        self.text_node(key, self.get(key)?)
    }

    /// Like [`Self::text`], for a key that must be there.
    pub fn require_text(&self, key: &str) -> Option<(&'a Node, &'a str)> {
        self.text_node(key, self.require(key)?)
    }

    /// Like [`Self::text`], for one element of a list.
    pub fn text_node(&self, key: &str, node: &'a Node) -> Option<(&'a Node, &'a str)> {
        match &node.value {
            Value::Scalar(text) if !text.is_empty() && !text.contains('\0') => Some((node, text)),
            _ => {
                self.wrong(key, node, "a text that is not empty");
                None
            }
        }
    }

    /// A duration.
    pub fn duration(&self, key: &str) -> Option<Duration> {
        self.read(key, value::A_DURATION, value::duration)
    }

    /// A duration above zero; `instead` says what zero might have meant and how that is written.
    pub fn positive_duration(&self, key: &str, instead: &str) -> Option<Duration> {
        let duration = self.duration(key)?;
        if duration.is_zero() {
            let report = Report::error(format!("{} must be more than 0", self.key(key)));
            self.ctx.report(self.get(key)?.span.clone(), report.help(instead.to_owned()));
            return None;
        }
        Some(duration)
    }

    /// The elements of a list. `None` if the key is absent; a scalar in place of a list is an error.
    pub fn list(&self, key: &str, expected: &str) -> Option<&'a [Node]> {
        let node = self.get(key)?;
        match &node.value {
            Value::List(items) => Some(items),
            _ => {
                self.wrong(key, node, expected);
                None
            }
        }
    }

    /// The elements of a list, or the one value that stands in its place.
    pub fn one_or_list(&self, key: &str) -> Option<&'a [Node]> {
        let node = self.get(key)?;
        match &node.value {
            Value::List(items) => Some(items),
            _ => Some(std::slice::from_ref(node)),
        }
    }

    /// A key in messages, with what it belongs to where there may be several.
    pub fn key(&self, key: &str) -> String {
        if *self.kind == keys::TOP { format!("\"{key}\"") } else { format!("\"{key}\" of {}", self.name) }
    }

    /// Reports a value of the wrong kind.
    pub fn wrong(&self, key: &str, node: &Node, expected: &str) {
        let report = Report::error(format!("{} must be {expected}", self.key(key)));
        self.ctx.report(node.span.clone(), report.label(found(node)));
    }
}

/// The value of a key in what may be a mapping. Of a key that stands twice the first counts.
pub(super) fn peek<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    let Value::Map(entries) = &node.value else { return None };
    entries.iter().find(|(word, _)| matches!(&word.value, Value::Scalar(word) if word == key)).map(|(_, value)| value)
}

/// The text of a key's value in what may be a mapping.
pub(super) fn peek_text<'a>(node: &'a Node, key: &str) -> Option<&'a str> {
    match &peek(node, key)?.value {
        Value::Scalar(text) => Some(text),
        _ => None,
    }
}

/// A text of the file in quotes, made harmless for a terminal, and short.
pub(super) fn quoted(text: &str) -> String {
    const LONGEST: usize = 60;
    let short: String = text.chars().take(LONGEST).collect();
    let more = if text.chars().nth(LONGEST).is_some() { "…" } else { "" };
    let harmless: String =
        short.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
    format!("\"{harmless}{more}\"")
}

fn found(node: &Node) -> String {
    match &node.value {
        Value::Null => "found nothing".to_owned(),
        Value::Scalar(text) => format!("found {}", quoted(text)),
        Value::List(_) => "found a list".to_owned(),
        Value::Map(_) => "found a mapping".to_owned(),
    }
}
