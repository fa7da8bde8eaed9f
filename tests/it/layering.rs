//! The layers of `ARCHITECTURE.md`, held: a module may use its own line and those above it, never one below.
//!
//! Reads the sources as text: every `crate::` and `super::` path outside comments and test modules is an edge. A module
//! that the table does not name is a failure too, so a new one must be given its place.

use std::fs;
use std::path::{Path, PathBuf};

/// The lines of the table, the purest first. The longest name that is a prefix of a module's path decides, so
/// `director::core` is pure although `director` is not.
const LAYERS: [&[&str]; 7] = [
    &[
        "account",
        "config",
        "director::core",
        "event",
        "human",
        "lock::record",
        "notify::template",
        "redact",
        "rsync",
        "schedule",
        "ssh::host_keys",
        "verify::order",
        "verify::terms",
    ],
    &[
        "agent",
        "clock",
        "descriptor",
        "history",
        "logging",
        "metrics",
        "notify",
        "patient",
        "process",
        "random",
        "scan",
        "ssh",
        "status",
        "supervisor",
        "verify",
        "warrant",
        "why",
    ],
    &["action", "lock"],
    &["job"],
    &["director"],
    &["control", "gate", "http", "page"],
    &["cli", "daemon", "doctor", "main", "pid_file"],
];

/// Items of the crate root, which all may use.
const ROOT: [&str; 2] = ["VERSION", "error_chain"];

/// Edges that are upward and meant to be, with the reason.
const EXCEPTIONS: [(&str, &str); 3] = [
    ("event", "clock"),          // an event is stamped where it is emitted
    ("event", "verify::report"), // a report is data
    ("verify::terms", "scan"),   // so is what is known of an entry
];

#[test]
fn no_module_uses_one_of_a_lower_line() {
    let mut problems = Vec::new();
    let modules = modules();
    for (module, source) in &modules {
        problems.extend(upward_edges(module, source));
    }
    assert!(modules.iter().any(|(module, _)| module == "job"), "found the sources: {modules:?}");
    assert!(problems.is_empty(), "edges against the layers:\n{}", problems.join("\n"));
}

#[test]
fn made_up_edges_are_judged_as_the_table_says() {
    let upward = |module, source| upward_edges(module, source).len();
    assert_eq!(upward("lock::local", "use crate::job::Runner;"), 1);
    assert_eq!(upward("lock::local", "use crate::lock::record::Record;\nuse crate::clock;"), 0);
    assert_eq!(upward("config", "let x = crate::daemon::start();"), 1);
    assert_eq!(upward("rsync::args", "use crate::{\n    config::{Sync, Route},\n    http::{self, Bind as B},\n};"), 2);
    assert_eq!(upward("director::core", "use super::run::Loop;"), 1);
    assert_eq!(upward("director::run", "use super::core::Core;"), 0);
    assert_eq!(upward("event", "use crate::clock;"), 0);
    assert_eq!(upward("schedule", "use crate::clock;"), 1);
    assert_eq!(upward("job::run", "//! See [`crate::daemon`].\nlet a = 1; // crate::daemon"), 0);
    assert_eq!(
        upward("job::run", "pub(crate) fn f() {}\n#[cfg(test)]\npub(crate) mod tests {\n    use crate::daemon;\n}"),
        0
    );
    assert_eq!(upward("job::run", "#[cfg(test)]\nmod tests;\n\nuse crate::daemon;"), 1);
    assert_eq!(upward("unheard_of", ""), 1);
    assert_eq!(upward("cli", "use crate::unheard_of;"), 1);
}

/// What is wrong with a module, one line per edge.
fn upward_edges(module: &str, source: &str) -> Vec<String> {
    let Some(own) = layer(module) else {
        return vec![format!("{module}: not in the table of tests/it/layering.rs")];
    };
    let mut problems = Vec::new();
    for target in targets(module, source) {
        let allowed = EXCEPTIONS.iter().any(|&(from, to)| is_prefix(from, module) && is_prefix(to, &target));
        match layer(&target) {
            Some(line) if line <= own || allowed => {}
            Some(line) => problems.push(format!("{module} (line {}) uses {target} (line {})", own + 1, line + 1)),
            None => problems.push(format!("{module} uses {target}, which is not in the table")),
        }
    }
    problems
}

/// The number of the line that a module or item path stands in, from 0.
fn layer(path: &str) -> Option<usize> {
    let named = LAYERS.iter().enumerate().flat_map(|(line, names)| names.iter().map(move |name| (line, *name)));
    named.filter(|(_, name)| is_prefix(name, path)).max_by_key(|(_, name)| name.len()).map(|(line, _)| line)
}

/// Whether a module is `name` or inside of it.
fn is_prefix(name: &str, path: &str) -> bool {
    path.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The absolute paths (without `crate::`) that a module's code names. Macros and items of the crate root do not count.
fn targets(module: &str, source: &str) -> Vec<String> {
    let code = code_of(source);
    let mut found = Vec::new();
    for keyword in ["crate::", "super::"] {
        for (at, _) in code.match_indices(keyword) {
            let inside_a_path = code[..at].ends_with(|c: char| c == ':' || c == '$' || c == '_' || c.is_alphanumeric());
            if !inside_a_path {
                let base = if keyword == "crate::" { "" } else { parent(module) };
                expand(base, &code[at + keyword.len()..], &mut found);
            }
        }
    }
    found.retain(|path| !path.is_empty() && !ROOT.contains(&path.as_str()));
    found
}

/// A source without comments and without its test module, which stands last.
fn code_of(source: &str) -> String {
    let is_module =
        |&at: &usize| source[at..].lines().nth(1).is_some_and(|line| line.contains("mod ") && line.ends_with('{'));
    let end = source.match_indices("#[cfg(test)]\n").map(|(at, _)| at).find(is_module).unwrap_or(source.len());
    let lines = source[..end].lines().map(|line| line.split("//").next().unwrap_or_default());
    lines.collect::<Vec<_>>().join("\n")
}

/// The module that a module stands in; empty for those of the crate root.
fn parent(module: &str) -> &str {
    module.rsplit_once("::").map_or("", |(parent, _)| parent)
}

/// Appends the paths of a use tree that starts at `text` below `base`; returns what follows it.
fn expand<'a>(base: &str, text: &'a str, found: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = expand(base, rest, found).trim_start();
            rest = rest.trim_start_matches(|c| c != ',' && c != '}');
            match rest.strip_prefix(',') {
                Some(more) if !more.trim_start().starts_with('}') => rest = more,
                Some(more) => return more.trim_start().trim_start_matches('}'),
                None => return rest.trim_start_matches('}'),
            }
        }
    }
    let end = text.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(text.len());
    let (segment, rest) = text.split_at(end);
    let path = match segment {
        "self" => base.to_owned(),
        "super" => parent(base).to_owned(),
        _ if base.is_empty() => segment.to_owned(),
        _ => format!("{base}::{segment}"),
    };
    match rest.strip_prefix("::") {
        Some(deeper) => expand(&path, deeper, found),
        None => {
            found.push(path);
            rest
        }
    }
}

/// Every module of the library and the binary with its source: `("director::core", "…")`.
fn modules() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files.sort();
    let named = files.iter().map(|file| (module_name(file.strip_prefix(&root).expect("below the root")), file));
    named
        .filter(|(module, _)| module != "lib" && !module.split("::").any(|part| part == "tests"))
        .map(|(module, file)| (module, fs::read_to_string(file).expect("a source is readable")))
        .collect()
}

fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("src is readable") {
        let path = entry.expect("an entry of src").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// `director/core.rs` is `director::core`, `job/mod.rs` is `job`.
fn module_name(file: &Path) -> String {
    let path = file.with_extension("");
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).filter(|part| part != "mod").collect();
    parts.join("::")
}
