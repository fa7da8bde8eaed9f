//! The configurations in the documents: blocks of YAML that bear the name of a file.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use rsyncdirector::config;

use super::documents;
use super::markdown::Block;

/// What an instance finds in its environment.
fn env(name: &str) -> Option<OsString> {
    let value = match name {
        "HOME" => "/root",
        "LOGNAME" => "root",
        "CREDENTIALS_DIRECTORY" => "/run/credentials/rsyncdirector@web.service",
        "MEDIA" => "/srv/media",
        _ => return None,
    };
    Some(value.into())
}

/// The named blocks of YAML of all documents, with the document's path.
fn named() -> Vec<(String, Block)> {
    let of_document = |document: super::Document| {
        let path = document.path.display().to_string();
        document.blocks.into_iter().map(move |block| (path.clone(), block))
    };
    let is_named = |(_, block): &(String, Block)| block.language == "yaml" && block.name.is_some();
    documents().into_iter().flat_map(of_document).filter(is_named).collect()
}

#[test]
fn every_configuration_in_a_document_loads_without_a_word() {
    let mut count = 0;
    for (path, block) in named() {
        let name = block.name.as_deref().expect("it is named");
        if is_policy(name) {
            continue;
        }
        let shown = format!("{path}:{} {name}", block.line);
        match config::parse(Path::new(&shown), &block.text, &env) {
            Ok(loaded) => {
                assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
                assert!(!loaded.config.jobs.is_empty(), "{shown}");
            }
            Err(diagnostics) => panic!("{}", diagnostics.render(false)),
        }
        count += 1;
    }
    assert!(count >= 12, "only {count} configurations were found");
}

/// What a document calls a configuration has its name.
#[test]
fn a_configuration_is_named_after_its_instance() {
    for (path, block) in named() {
        let name = block.name.as_deref().expect("it is named");
        if let Some(instance) = name.strip_suffix(".yaml").filter(|_| !name.contains('/')) {
            let line = format!("rsync_id: {instance}\n");
            assert!(block.text.starts_with(&line), "{path}:{}: {name} does not begin with {line:?}", block.line);
        }
    }
}

/// Each in a directory in which there is what it names, as the program itself judges it.
#[test]
fn every_gate_policy_in_a_document_is_right() {
    let mut count = 0;
    for (path, block) in named().iter().filter(|(_, block)| block.name.as_deref().is_some_and(is_policy)) {
        let directory = tempfile::tempdir().expect("a directory");
        let here = directory.path().display();
        let text = block.text.replace("[/", &format!("[{here}/")).replace(", /", &format!(", {here}/"));
        for line in text.lines().filter(|line| line.starts_with("read: ") || line.starts_with("write: ")) {
            let directories = line.split(['[', ']', ',']).map(str::trim).filter(|word| word.starts_with('/'));
            directories.for_each(|directory| fs::create_dir_all(directory).expect("a directory"));
        }
        let file = directory.path().join("policy.yaml");
        fs::write(&file, text).expect("the policy");
        let mut check = Command::new(env!("CARGO_BIN_EXE_rsyncdirector"));
        let checked = check.args(["gate", "check", "--policy"]).arg(&file).output().expect("the program runs");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{path}:{}: {said}", block.line);
        count += 1;
    }
    assert!(count >= 9, "only {count} policies were found");
}

fn is_policy(name: &str) -> bool {
    name.starts_with("gate/")
}

#[test]
fn each_of_the_ten_recipes_has_a_configuration_and_says_what_to_watch() {
    let cookbook = super::document("docs/cookbook.md");
    let text = fs::read_to_string(super::root().join("docs/cookbook.md")).expect("the cookbook");
    for number in 1..=10 {
        let recipe =
            text.split("\n## ").find(|section| section.starts_with(&format!("{number}. "))).expect("ten recipes");
        let heading = recipe.lines().next().expect("a heading");
        let of_recipe = cookbook.blocks.iter().filter(|block| block.heading == heading);
        assert!(
            of_recipe.filter(|block| block.name.as_deref().is_some_and(|name| !is_policy(name))).count() > 0,
            "{heading}"
        );
        assert!(recipe.contains("\nWatch: "), "{heading}");
    }
}
