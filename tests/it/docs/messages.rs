//! The messages that `docs/troubleshooting.md` explains are those of the program, and it leaves none out.

use std::collections::BTreeSet;

use super::document;
use super::literals::literals;

/// Messages of errors that need no explanation there, with the reason.
const UNEXPLAINED: [(&str, &str); 18] = [
    ("… … failed", "an SSH protocol error, which its cause tells"),
    ("could not …", "what the system refuses, which its cause tells"),
    ("could not … …", "a pid file that cannot be read or written, which its cause tells"),
    ("could not read …", "a file, which its cause tells"),
    ("the history …", "the beginning of what SQLite says"),
    ("could not keep the message in memory", "no memory"),
    ("the director ends", "a notification at the end of the process"),
    ("could not install the log", "cannot happen outside of tests"),
    ("could not start …", "the gate's rsync, which its cause tells"),
    ("could not give up a capability", "what the system refuses, which its cause tells"),
    ("the client's connection failed", "for the journal of the gate's host"),
    (
        "… cannot stand in a line of authorized_keys: it must be text, without line breaks and double quotes",
        "it says all",
    ),
    ("a file for what is found meanwhile", "no room, which its cause tells"),
    ("the list of what differs could not be written", "no room, which its cause tells"),
    ("the order could not be read", "between two processes of this program"),
    ("the order is not one", "between two processes of this program"),
    ("`metrics.auth`", "the beginning of another message"),
    ("`metrics.tls`", "the beginning of another message"),
];

/// What stands before the colon of a list item: the messages that it explains. `…` is whatever stands there.
fn explained() -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (line, item) in document("docs/troubleshooting.md").items {
        let mut rest = item.as_str();
        while let Some((message, after)) = rest.strip_prefix('`').and_then(|rest| rest.split_once('`')) {
            found.push((line, message.to_owned()));
            rest = after.strip_prefix(", ").or_else(|| after.strip_prefix(" or ")).unwrap_or_default();
        }
    }
    assert!(found.len() > 60, "only {} messages were found", found.len());
    found
}

#[test]
fn every_message_that_is_explained_is_one_of_the_program() {
    let literals = literals();
    let is_said = |message: &String| literals.iter().any(|literal| literal.text.contains(message.as_str()));
    let unsaid = explained().into_iter().filter(|(_, message)| !is_said(message));
    let problems: Vec<_> = unsaid.map(|(line, message)| format!("docs/troubleshooting.md:{line}: {message}")).collect();
    assert!(problems.is_empty(), "nothing in src says this:\n{}", problems.join("\n"));
}

#[test]
fn every_error_is_explained_or_needs_no_explanation() {
    let explained = explained();
    let mut errors: BTreeSet<_> = BTreeSet::new();
    for literal in literals().into_iter().filter(|literal| literal.is_error) {
        // One that has no words of its own.
        if literal.text.chars().filter(|c| c.is_alphabetic()).count() > 0 {
            errors.insert((literal.text, literal.file));
        }
    }
    assert!(errors.len() > 50, "{}", errors.len());
    let is_explained =
        |error: &str| explained.iter().any(|(_, message)| message.len() > 8 && error.contains(message.as_str()));
    let is_excepted = |error: &str| UNEXPLAINED.iter().any(|(text, _)| *text == error);
    for (text, _) in UNEXPLAINED {
        assert!(errors.iter().any(|(error, _)| error == text), "{text:?} is no message any more");
        assert!(!is_explained(text), "{text:?} is explained");
    }
    let silent = errors.iter().filter(|(error, _)| !is_explained(error) && !is_excepted(error));
    let problems: Vec<_> = silent.map(|(error, file)| format!("{file}: {error}")).collect();
    assert!(
        problems.is_empty(),
        "explain in docs/troubleshooting.md, or except in this file:\n{}",
        problems.join("\n")
    );
}
