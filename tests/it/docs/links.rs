//! Links and names of files in the documents.

use std::path::{Component, Path, PathBuf};

use super::markdown::Document;
use super::{document, documents, root};

/// Where documents may lead to outside of the package.
const HOSTS: [&str; 2] = ["keepachangelog.com", "semver.org"];

/// Beginnings of paths from the root of the package, as documents name files in code spans.
const DIRECTORIES: [&str; 9] =
    ["bench/", "demo", "docs/", "integration-tests/", "packaging/", "resources/", "src/", "systemd/", "tests/"];

#[test]
fn every_link_leads_somewhere() {
    let documents = documents();
    let problems: Vec<_> = documents.iter().flat_map(|document| broken_links(document, &documents)).collect();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

#[test]
fn a_broken_link_is_found() {
    let text =
        "# One\n[a](#one) [b](#two) [c](README.md) [d](NO.md) [e](https://semver.org/) [f](http://x) [g](/etc/x)";
    let made_up = Document::parse(Path::new("made-up.md"), text);
    let problems = broken_links(&made_up, &documents());
    let targets: Vec<_> = problems.iter().filter_map(|problem| problem.rsplit(' ').next()).collect();
    assert_eq!(targets, ["#two", "NO.md", "http://x", "/etc/x"]);
}

#[test]
fn every_file_that_a_document_names_exists() {
    let mut problems = Vec::new();
    for document in documents().iter().filter(|document| document.path != Path::new("CHANGELOG.md")) {
        let named = document.spans.iter().filter(|(_, span)| names_a_file(span));
        let missing = named.filter(|(_, span)| !root().join(span).exists());
        problems.extend(missing.map(|(line, span)| format!("{}:{line}: {span}", document.path.display())));
    }
    assert!(problems.is_empty(), "not in the package:\n{}", problems.join("\n"));
    assert!(names_a_file("docs/locks.md") && !names_a_file("bench/locks --minutes N") && !names_a_file("docs/*.md"));
}

#[test]
fn the_index_leads_to_every_document_and_the_readme_to_the_index() {
    let index = document("docs/README.md");
    for found in documents().iter().filter(|found| found.path.starts_with("docs")) {
        let name = found.path.file_name().expect("a name").to_string_lossy();
        let is_listed = index.links.iter().any(|(_, target)| *target == name);
        assert!(is_listed || name == "README.md", "docs/README.md has no link to {name}");
    }
    assert!(document("README.md").links.iter().any(|(_, target)| target == "docs/README.md"));
}

fn names_a_file(span: &str) -> bool {
    let is_path = span.chars().all(|c| c.is_alphanumeric() || "/._-@".contains(c));
    is_path && !span.contains("/.") && DIRECTORIES.iter().any(|directory| span.starts_with(directory))
}

/// What is wrong with the links of a document, a line each.
fn broken_links(document: &Document, all: &[Document]) -> Vec<String> {
    let broken = document.links.iter().filter(|(_, target)| !leads_somewhere(document, target, all));
    broken.map(|(line, target)| format!("{}:{line}: {target}", document.path.display())).collect()
}

fn leads_somewhere(document: &Document, target: &str, all: &[Document]) -> bool {
    if let Some((_, rest)) = target.split_once("://") {
        let host = rest.split('/').next().unwrap_or_default();
        return target.starts_with("https://") && HOSTS.contains(&host);
    }
    let (file, anchor) = target.split_once('#').map_or((target, None), |(file, anchor)| (file, Some(anchor)));
    let path = match file {
        "" => document.path.clone(),
        _ => document.path.parent().expect("a file has a parent").join(file),
    };
    let Some(path) = normal(&path) else { return false };
    match anchor {
        None => root().join(path).exists(),
        Some(anchor) => {
            let to = std::iter::once(document).chain(all).find(|to| to.path == path);
            to.is_some_and(|to| to.anchors.iter().any(|known| known == anchor))
        }
    }
}

/// A path without `..`; `None` if it leaves the package.
fn normal(path: &Path) -> Option<PathBuf> {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => normal.push(name),
            Component::CurDir => {}
            Component::ParentDir if normal.pop() => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(normal)
}
