//! The notices and licences of the libraries that are linked into the program, which these ask to be handed on.
//!
//! From what `cargo metadata` says for one platform: the libraries that are reached from the program by normal dependencies,
//! without procedural macros and build scripts, of which nothing is in the program. Each text stands once, after the names
//! of all that have it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use serde_json::Value;

/// Beginnings of the names of files that are notices and licences, in capitals.
const NAMES: [&str; 7] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE", "AUTHORS"];

/// The notices, from the JSON that `cargo metadata` prints.
///
/// # Errors
/// Metadata without the program in it, or files that cannot be read.
pub fn notices(metadata: &Value) -> io::Result<String> {
    let packages: BTreeMap<&str, &Value> =
        list(&metadata["packages"]).filter_map(|package| Some((package["id"].as_str()?, package))).collect();
    let linked = linked(metadata, &packages)?;
    let mut texts: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut all = String::new();
    for package in &linked {
        let name = title(package);
        let licence = package["license"].as_str().unwrap_or("see its text");
        all.push_str(&format!("  {name}: {licence}\n"));
        for text in files(package)? {
            texts.entry(text).or_default().insert(name.clone());
        }
    }
    let mut page = format!("rsyncdirector contains the standard library of Rust (MIT OR Apache-2.0), and\n\n{all}");
    for (text, names) in in_order(texts) {
        let names: Vec<String> = names.into_iter().collect();
        page.push_str(&format!("\n{}\n{}\n\n{}\n", "-".repeat(78), names.join(", "), text.trim_end()));
    }
    Ok(page)
}

/// By the first name that has each text.
fn in_order(texts: BTreeMap<String, BTreeSet<String>>) -> Vec<(String, BTreeSet<String>)> {
    let mut texts: Vec<_> = texts.into_iter().collect();
    texts.sort_by(|(text, names), (other, of_other)| names.first().cmp(&of_other.first()).then(text.cmp(other)));
    texts
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn title(package: &Value) -> String {
    let word = |key: &str| package[key].as_str().unwrap_or_default();
    format!("{} {}", word("name"), word("version"))
}

/// The libraries that are linked, by name and version.
fn linked<'a>(metadata: &'a Value, packages: &BTreeMap<&'a str, &'a Value>) -> io::Result<Vec<&'a Value>> {
    let nodes: BTreeMap<&str, &Value> =
        list(&metadata["resolve"]["nodes"]).filter_map(|node| Some((node["id"].as_str()?, node))).collect();
    let program = packages.iter().find(|(_, package)| package["name"] == "rsyncdirector");
    let (program, _) = program.ok_or_else(|| io::Error::other("the metadata do not know rsyncdirector"))?;
    let (mut found, mut open) = (BTreeSet::new(), vec![*program]);
    while let Some(node) = open.pop().and_then(|id| nodes.get(id)) {
        let normal = |dependency: &&Value| list(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null());
        for id in list(&node["deps"]).filter(normal).filter_map(|dependency| dependency["pkg"].as_str()) {
            if packages.get(id).is_some_and(|package| !is_macro(package)) && found.insert(id) {
                open.push(id);
            }
        }
    }
    let mut linked: Vec<&Value> = found.into_iter().map(|id| packages[id]).collect();
    linked.sort_by_key(|package| title(package));
    Ok(linked)
}

fn is_macro(package: &Value) -> bool {
    list(&package["targets"]).any(|target| list(&target["kind"]).any(|kind| kind == "proc-macro"))
}

/// The texts of a package's notices and licences.
fn files(package: &Value) -> io::Result<Vec<String>> {
    let manifest = Path::new(package["manifest_path"].as_str().unwrap_or_default());
    let directory = manifest.parent().unwrap_or(Path::new("/"));
    let mut paths: Vec<_> = fs::read_dir(directory)?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    let is_notice = |path: &&std::path::PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_uppercase();
        path.is_file() && NAMES.iter().any(|beginning| name.starts_with(beginning))
    };
    paths.iter().filter(is_notice).map(|path| Ok(String::from_utf8_lossy(&fs::read(path)?).replace('\r', ""))).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_linked_is_named_and_equal_texts_stand_once() {
        let directory = std::env::temp_dir().join(format!("notices-{}", std::process::id()));
        let package = |name: &str, kind: &str| {
            let at = directory.join(name);
            fs::create_dir_all(&at).expect("a directory");
            fs::write(at.join("LICENSE-MIT"), "the text\n").expect("a file");
            json!({"id": name, "name": name, "version": "1.0.0", "license": "MIT", "targets": [{"kind": [kind]}],
                   "manifest_path": at.join("Cargo.toml")})
        };
        let needs = |kind: Value, name: &str| json!({"pkg": name, "dep_kinds": [{"kind": kind}]});
        let metadata = json!({
            "packages": [package("rsyncdirector", "bin"), package("a", "lib"), package("b", "lib"),
                         package("built", "lib"), package("derived", "proc-macro")],
            "resolve": {"nodes": [
                {"id": "rsyncdirector", "deps": [needs(Value::Null, "a"), needs("build".into(), "built")]},
                {"id": "a", "deps": [needs(Value::Null, "b"), needs(Value::Null, "derived")]}, {"id": "b", "deps": []},
            ]},
        });
        let page = notices(&metadata);
        fs::remove_dir_all(&directory).expect("removed");
        let page = page.expect("a page");
        assert!(page.contains("\n  a 1.0.0: MIT\n  b 1.0.0: MIT\n\n"), "{page}");
        assert!(page.contains("\na 1.0.0, b 1.0.0\n\nthe text\n"), "{page}");
        assert_eq!(page.matches("the text").count(), 1);
    }
}
