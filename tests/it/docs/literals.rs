//! The texts in the program's sources.

use std::fs;
use std::path::Path;

use super::root;

/// A text in a source.
#[derive(Debug)]
pub struct Literal {
    /// The file, from the root of the package.
    pub file: String,
    /// With `…` in place of what is filled in.
    pub text: String,
    /// Whether it is the message of an error type.
    pub is_error: bool,
}

/// All literals of the program but for those of its tests.
pub fn literals() -> Vec<Literal> {
    let mut found = Vec::new();
    of_directory(&root().join("src"), &mut found);
    assert!(found.len() > 1000, "{}", found.len());
    found
}

fn of_directory(directory: &Path, found: &mut Vec<Literal>) {
    for entry in fs::read_dir(directory).expect("a directory of sources") {
        let path = entry.expect("an entry").path();
        let stem = path.file_stem().expect("a name").to_string_lossy();
        if stem == "tests" || stem == "tests_support" || stem == "snapshots" {
            continue;
        }
        if path.is_dir() {
            of_directory(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).expect("a source");
            let file = path.strip_prefix(root()).expect("below the root").display().to_string();
            let of_file = of_source(&source).into_iter();
            found.extend(of_file.map(|(text, is_error)| Literal { file: file.clone(), text, is_error }));
        }
    }
}

/// The literals of a source up to its test module, each with whether `#[error(` stands before it.
fn of_source(source: &str) -> Vec<(String, bool)> {
    let mut rest = source.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    let mut found = Vec::new();
    while let Some(at) = rest.find(['"', '\'', '/']) {
        let (before, here) = rest.split_at(at);
        rest = if here.starts_with("//") {
            here.split_once('\n').map_or("", |(_, rest)| rest)
        } else if here.starts_with('"') {
            let hashes = before.len() - before.trim_end_matches('#').len();
            let is_raw = before.trim_end_matches('#').ends_with('r');
            let end = if is_raw { raw_end(here, hashes) } else { end(here) };
            let text = if is_raw { here[1..end - 1].to_owned() } else { unescaped(&here[1..end - 1]) };
            found.push((filled(&text), before.trim_end().ends_with("#[error(")));
            &here[end..]
        } else {
            after_quote(here)
        };
    }
    found
}

/// Behind a character, the tick of a lifetime, or a slash.
fn after_quote(here: &str) -> &str {
    let character = here
        .strip_prefix("'\\")
        .map(|rest| rest.char_indices().skip(1).find(|(_, c)| *c == '\'').map(|(at, _)| at + 3));
    let plain = here.char_indices().nth(2).filter(|(_, c)| here.starts_with('\'') && *c == '\'').map(|(at, _)| at + 1);
    &here[character.flatten().or(plain).unwrap_or(1)..]
}

/// Behind the closing quote of a literal.
fn end(literal: &str) -> usize {
    let mut is_escaped = false;
    let close = literal.char_indices().skip(1).find(|(_, c)| {
        let closes = *c == '"' && !is_escaped;
        is_escaped = *c == '\\' && !is_escaped;
        closes
    });
    close.map_or(literal.len(), |(at, _)| at + 1)
}

fn raw_end(literal: &str, hashes: usize) -> usize {
    let close = format!("\"{}", "#".repeat(hashes));
    literal[1..].find(&close).map_or(literal.len(), |at| at + 2)
}

fn unescaped(literal: &str) -> String {
    let mut text = String::new();
    let mut rest = literal;
    while let Some((before, after)) = rest.split_once('\\') {
        text += before;
        let (escape, after) = after.split_at(after.chars().next().map_or(0, char::len_utf8));
        rest = after;
        match escape {
            "\n" => rest = after.trim_start(),
            "n" => text.push('\n'),
            other => text += other,
        }
    }
    text + rest
}

/// With `…` for every place of a format string.
fn filled(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        result += before;
        match after.split_once('}') {
            Some((_, after)) => {
                result.push('…');
                rest = after;
            }
            None => {
                result.push('{');
                rest = after;
            }
        }
    }
    result + rest
}

#[test]
fn literals_are_found_whatever_is_around_them() {
    let source = "fn f<'a>() { let q = '\"'; let s = '\\''; // \"no\"\n a(\"x {} \\\"y\\\" \\\n   z\", r#\"raw \"1\"\"#); }\n\
                  #[error(\"it broke: {why}\")]\nstruct E;\n#[cfg(test)]\nmod tests {\n \"never\" }";
    let texts = [("x … \"y\" z", false), ("raw \"1\"", false), ("it broke: …", true)];
    assert_eq!(of_source(source), texts.map(|(text, is_error)| (text.to_owned(), is_error)));
}
