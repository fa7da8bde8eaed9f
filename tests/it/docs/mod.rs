//! The documents: their links lead somewhere, their commands are the program's, their configurations load, and what they quote is said.

mod blocks;
mod commands;
mod links;
mod literals;
mod markdown;
mod messages;
mod names;

use std::fs;
use std::path::{Path, PathBuf};

use markdown::Document;

/// The directory of the package.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every document of the package, by its path from the root.
fn documents() -> Vec<Document> {
    let mut paths = Vec::new();
    collect(root(), &mut paths);
    paths.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a document is readable");
        Document::parse(path.strip_prefix(root()).expect("below the root"), &text)
    };
    let documents: Vec<_> = paths.into_iter().map(read).collect();
    assert!(documents.len() > 10, "{documents:#?}");
    documents
}

/// One of them.
fn document(path: &str) -> Document {
    let text = fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    Document::parse(Path::new(path), &text)
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).expect("a directory of the package") {
        let entry = entry.expect("an entry");
        let (path, name) = (entry.path(), entry.file_name());
        let is_ours = !name.to_string_lossy().starts_with('.') && name != "target" && name != "fuzz";
        if entry.file_type().expect("its type").is_dir() {
            if is_ours {
                collect(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            found.push(path);
        }
    }
}
