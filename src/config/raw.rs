//! The YAML as written: a tree in which every key and value knows its place in the file.
//!
//! Reading into a tree rather than into structures is what lets one pass over it report *all* problems: serde ends at the
//! first value of a wrong type. Only what is no YAML at all, or would exhaust us (an alias bomb), ends the reading here.
//!
//! Aliases and merge keys are resolved by serde-saphyr; what came through one has the place of its definition, since that
//! is where it is to be corrected. Scalars keep the text that was written (`022`, `yes`), for the type that YAML guesses
//! is not necessarily the one that a key wants.

use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Location, Spanned};

/// Bound on what aliases may unfold to, in parser events: far above any configuration, far below what hurts.
const MAX_REPLAYED_EVENTS: usize = 20_000;

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Node {
    /// What it is.
    pub value: Value,
    /// Its bytes in the file; for a mapping or a list its first line is what matters.
    pub span: Range<usize>,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// Any other scalar, whatever type YAML would guess for it.
    Scalar(String),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file, duplicate keys included.
    Map(Vec<(Node, Node)>),
}

/// Why there is no tree.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SyntaxError {
    /// What serde-saphyr says.
    pub message: String,
    /// Where; empty if it concerns a point.
    pub span: Range<usize>,
    /// What to do, where that can be said.
    pub help: Option<String>,
}

/// Reads one YAML document.
pub(super) fn parse(text: &str) -> Result<Node, SyntaxError> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: MAX_REPLAYED_EVENTS },
        non_finite_float_policy: serde_saphyr::NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    let spanned: Spanned<Written> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| syntax_error(&error, text))?;
    Ok(node(spanned, text))
}

/// A value as serde presents it.
enum Written {
    Null,
    /// A plain scalar that YAML takes for a number or a truth value; its text is in the file.
    Guessed,
    Text(String),
    List(Vec<Spanned<Written>>),
    Map(Vec<(Spanned<Written>, Spanned<Written>)>),
}

fn node(spanned: Spanned<Written>, text: &str) -> Node {
    let span = span(spanned.defined, text);
    let value = match spanned.value {
        Written::Null => Value::Null,
        Written::Guessed => Value::Scalar(text[span.clone()].trim().to_owned()),
        Written::Text(text) => Value::Scalar(text),
        Written::List(items) => Value::List(items.into_iter().map(|item| node(item, text)).collect()),
        Written::Map(entries) => {
            Value::Map(entries.into_iter().map(|(key, value)| (node(key, text), node(value, text))).collect())
        }
    };
    Node { value, span }
}

/// A location as a range of bytes that is surely one of `text`. Errors of the scanner have a line and a column only.
fn span(location: Location, text: &str) -> Range<usize> {
    let place = location.span();
    let floor = |at: u64| text.floor_char_boundary(usize::try_from(at).unwrap_or(usize::MAX));
    match (place.byte_offset(), place.byte_len()) {
        (Some(start), Some(len)) => floor(start)..floor(start.saturating_add(len)),
        _ => {
            let at = offset(text, location.line(), location.column());
            at..at
        }
    }
}

/// The byte at a line and a column in characters, both from 1, or the nearest that there is.
fn offset(text: &str, line: u64, column: u64) -> usize {
    let lines_before = usize::try_from(line.saturating_sub(1)).unwrap_or(usize::MAX);
    let start = text.split_inclusive('\n').take(lines_before).map(str::len).sum();
    let line = text[start..].lines().next().unwrap_or_default();
    let chars_before = usize::try_from(column.saturating_sub(1)).unwrap_or(usize::MAX);
    start + line.chars().take(chars_before).map(char::len_utf8).sum::<usize>()
}

fn syntax_error(error: &Error, text: &str) -> SyntaxError {
    let span = error.location().map_or(0..0, |location| span(location, text));
    let error = match error.without_snippet() {
        Error::AliasError { error, .. } => error.as_ref(),
        other => other,
    };
    let (message, help) = match error {
        Error::AliasReplayLimitExceeded { .. } | Error::AliasReplayStackDepthExceeded { .. } | Error::Budget { .. } => {
            (
                "this YAML unfolds to more than any configuration needs".to_owned(),
                Some("aliases of aliases multiply: write the values out".to_owned()),
            )
        }
        Error::RecursiveReferencesRequireWeakTypes { .. } => {
            ("an alias stands within what it refers to".to_owned(), Some("write the value out".to_owned()))
        }
        Error::MultipleDocuments { .. } => (
            "a second YAML document begins here".to_owned(),
            Some("an instance has one file with one document: remove the `---`".to_owned()),
        ),
        Error::UnknownAnchor { .. } => (
            "an alias without an anchor of that name".to_owned(),
            Some("a value that begins with `*` must stand in quotes".to_owned()),
        ),
        other => {
            let message = strip_place(&other.to_string());
            if let Some(tab) = indenting_tab(text, span.start).filter(|_| message.contains("tab")) {
                let help = Some("indent with spaces".to_owned());
                let message = "not valid YAML: a line is indented with a tab".to_owned();
                return SyntaxError { message, span: tab..tab + 1, help };
            }
            (message, hint(text, span.start))
        }
    };
    SyntaxError { message: format!("not valid YAML: {message}"), span, help }
}

/// The message without the ` at line 3, column 5` that we say ourselves.
fn strip_place(message: &str) -> String {
    let end = message.rfind(" at line ").or_else(|| message.rfind(" at char ")).unwrap_or(message.len());
    message[..end].trim_end_matches([',', ' ', '.']).to_owned()
}

/// The first tab at or after the line of `at` that has only blanks before it on its line. The scanner blames the value
/// that it was reading, which may have begun on the line before.
fn indenting_tab(text: &str, at: usize) -> Option<usize> {
    let mut start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    for line in text[start..].split_inclusive('\n') {
        let blanks = line.len() - line.trim_start_matches(' ').len();
        if line[blanks..].starts_with('\t') {
            return Some(start + blanks);
        }
        start += line.len();
    }
    None
}

/// The usual reasons why a line is no YAML.
fn hint(text: &str, at: usize) -> Option<String> {
    let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or_default();
    let value = line.split_once(": ").map_or(line, |(_, value)| value).trim_start();
    let value = value.strip_prefix("- ").unwrap_or(value).trim_start();
    if value.starts_with(['*', '@', '%', '&', '!', '`']) {
        return Some("a value that begins with one of `* & ! % @` must stand in quotes".to_owned());
    }
    if value.contains(": ") {
        return Some("a value that contains a colon and a space must stand in quotes".to_owned());
    }
    Some("look at the quotes, brackets and indentation here and on the line before".to_owned())
}

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Anything;

        impl<'de> Visitor<'de> for Anything {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("any YAML value")
            }

            fn visit_unit<E>(self) -> Result<Written, E> {
                Ok(Written::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Written, E> {
                Ok(Written::Guessed)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Written, E> {
                Ok(Written::Guessed)
            }

            fn visit_u64<E>(self, _: u64) -> Result<Written, E> {
                Ok(Written::Guessed)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Written, E> {
                Ok(Written::Guessed)
            }

            fn visit_str<E>(self, text: &str) -> Result<Written, E> {
                Ok(Written::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Written, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(Written::List(list))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Written, A::Error> {
                let mut map = Vec::new();
                while let Some(entry) = entries.next_entry()? {
                    map.push(entry);
                }
                Ok(Written::Map(map))
            }
        }

        deserializer.deserialize_any(Anything)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every scalar with the source text of its span, in order.
    fn scalars(text: &str) -> Vec<(String, String)> {
        fn walk(node: &Node, text: &str, out: &mut Vec<(String, String)>) {
            match &node.value {
                Value::Null => out.push(("<null>".into(), text[node.span.clone()].into())),
                Value::Scalar(value) => out.push((value.clone(), text[node.span.clone()].into())),
                Value::List(items) => items.iter().for_each(|item| walk(item, text, out)),
                Value::Map(entries) => entries.iter().for_each(|(key, value)| {
                    walk(key, text, out);
                    walk(value, text, out);
                }),
            }
        }
        let mut out = Vec::new();
        walk(&parse(text).expect("YAML"), text, &mut out);
        out
    }

    fn check(text: &str, expected: &[(&str, &str)]) {
        let found = scalars(text);
        let found: Vec<_> = found.iter().map(|(value, source)| (value.as_str(), source.as_str())).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn every_scalar_keeps_its_text_and_its_place() {
        check("a: 022\n", &[("a", "a"), ("022", "022")]);
        check("a: yes # really\n", &[("a", "a"), ("yes", "yes")]);
        check("a: 1.50\n", &[("a", "a"), ("1.50", "1.50")]);
        check("a: .nan\n", &[("a", "a"), (".nan", ".nan")]);
        check("ä: \"ö\\n\"\n", &[("ä", "ä"), ("ö\n", "\"ö\\n\"")]);
        check("a: 'it''s'\n", &[("a", "a"), ("it's", "'it''s'")]);
        check("{a: [1, 'b']}", &[("a", "a"), ("1", "1"), ("b", "'b'")]);
        check("\u{feff}a: 1\n", &[("a", "a"), ("1", "1")]);
        check("a: \"022\"\r\nb: x\r\n", &[("a", "a"), ("022", "\"022\""), ("b", "b"), ("x", "x")]);
    }

    #[test]
    fn duplicate_keys_are_kept_for_the_reader_to_report() {
        check("a: 1\na: 2\n", &[("a", "a"), ("1", "1"), ("a", "a"), ("2", "2")]);
    }

    #[test]
    fn aliases_and_merges_stand_where_they_were_defined() {
        let text = "x: &x {h: one}\ny: *x\nz:\n  <<: *x\n  p: 2\n";
        let root = parse(text).expect("YAML");
        let Value::Map(entries) = root.value else { panic!("a mapping") };
        let Value::Map(alias) = &entries[1].1.value else { panic!("a mapping") };
        assert_eq!((&alias[0].1.value, alias[0].1.span.start), (&Value::Scalar("one".into()), 10));
        let Value::Map(merged) = &entries[2].1.value else { panic!("a mapping") };
        let names: Vec<_> = merged.iter().map(|(key, _)| &key.value).collect();
        assert_eq!(names, [&Value::Scalar("p".into()), &Value::Scalar("h".into())]);
        assert_eq!(merged[1].1.span.start, 10);
    }

    #[test]
    fn what_is_no_yaml_says_where() {
        for (text, line) in [
            ("a: b: c\n", 1),
            ("a: 1\nb: [1, 2\nc: 3\n", 3),
            ("a: 1\n\tb: 2\n", 2),
            ("a: *nowhere\n", 1),
            ("a: 1\n---\nb: 2\n", 3),
            ("a: \"open\nb: 1\n", 2),
        ] {
            let error = parse(text).expect_err(text);
            let found = text[..error.span.start].matches('\n').count() + 1;
            assert_eq!(found, line, "{text:?}: {error:?}");
        }
    }

    #[test]
    fn an_alias_bomb_is_refused_quickly() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let item = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![item; 10].join(", ")));
        }
        let error = parse(&text).expect_err("refused");
        assert!(error.message.contains("more than any configuration needs"), "{error:?}");
    }
}
