//! The configurations that we ship: each one loads, and each wrong one says exactly what its snapshot says.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rsyncdirector::config;

/// The environment of every sample.
fn env(name: &str) -> Option<OsString> {
    let value = match name {
        "HOME" => "/home/ann",
        "LOGNAME" => "ann",
        "XDG_RUNTIME_DIR" => "/run/user/1000",
        "MEDIA" => "/srv/media",
        "VOLUME_GROUP" => "vg0",
        _ => return None,
    };
    Some(value.into())
}

/// The YAML files of a directory of the package, by name; the paths are relative to the package.
fn samples(directory: &str) -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(root.join(directory))
        .expect(directory)
        .map(|entry| Path::new(directory).join(entry.expect("an entry").file_name()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    files.sort();
    files
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect("the sample")
}

/// Loads a sample that must be right, and gives what it means as text.
fn check_loads(path: &Path) -> String {
    match config::parse(path, &read(path), &env) {
        Ok(loaded) => {
            assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
            assert!(!loaded.config.jobs.is_empty(), "{}", path.display());
            format!("{:#?}", loaded.config.jobs)
        }
        Err(diagnostics) => panic!("{diagnostics}"),
    }
}

#[test]
fn every_sample_loads_without_a_word() {
    let samples = samples("resources/samples");
    assert!(samples.len() >= 8, "{samples:?}");
    samples.iter().for_each(|path| drop(check_loads(path)));
}

#[test]
fn the_annotated_sample_loads_and_so_it_does_with_every_comment_taken_in() {
    let path = Path::new("resources/rsyncdirector.yaml");
    check_loads(path);
    // A key that is commented out stands as `#key: value`, without a blank; prose has one.
    let text: String = read(path)
        .lines()
        .map(|line| line.replacen('#', if line.contains("# ") { "#" } else { "" }, 1) + "\n")
        .collect();
    let loaded = config::parse(path, &text, &env).unwrap_or_else(|diagnostics| panic!("{diagnostics}"));
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
}

#[test]
fn every_invalid_sample_says_what_its_snapshot_says() {
    let samples = samples("resources/samples/invalid");
    assert!(samples.len() >= 20, "{samples:?}");
    for path in samples {
        let diagnostics = config::parse(&path, &read(&path), &env).expect_err("an invalid sample");
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        insta::with_settings!({ prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(format!("invalid-{name}"), diagnostics.render(false));
        });
    }
}

#[test]
fn a_damaged_sample_is_judged_and_shown_whatever_the_damage() {
    let all = [samples("resources/samples"), samples("resources/samples/invalid")].concat();
    for path in all {
        let text = read(&path);
        for (at, _) in text.char_indices().step_by(41) {
            let (head, tail) = text.split_at(at);
            for damaged in
                [head.to_owned(), format!("{head}ü{tail}"), format!("{head}\t{tail}"), format!("{head}\"{tail}")]
            {
                let shown = match config::parse(&path, &damaged, &env) {
                    Ok(loaded) => loaded.warnings.render(false),
                    Err(diagnostics) => diagnostics.render(true),
                };
                assert!(shown.is_empty() || shown.contains(&path.display().to_string()), "{shown}");
            }
        }
    }
}
