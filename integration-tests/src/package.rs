//! The Debian package under test.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use tempfile::TempDir;

use crate::director;

/// A package, in a directory of its own that goes with this.
pub struct Package {
    file: PathBuf,
    _directory: TempDir,
}

impl Package {
    /// Builds it from the dev profile, with the version of the manifest or another one, as `packaging/build-deb` does.
    ///
    /// # Panics
    /// When that fails.
    pub fn build(version: Option<&str>) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { file: build(directory.path(), version), _directory: directory }
    }

    /// Its file.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// What `dpkg-deb OPTION PACKAGE WORDS…` prints.
    ///
    /// # Panics
    /// When it fails.
    pub fn ask(&self, option: &str, words: &[&str]) -> String {
        let output = Command::new("dpkg-deb").arg(option).arg(&self.file).args(words).output().expect("dpkg-deb");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Unpacks its files into a directory.
    ///
    /// # Panics
    /// When that fails.
    pub fn unpack(&self, directory: &Path) {
        self.ask("--extract", &[directory.to_str().expect("a plain path")]);
    }
}

/// The package of the program under test, for tests that only install it: built by the first of them, and when something of it is newer.
///
/// # Panics
/// When it cannot be built.
pub fn of_this_run() -> PathBuf {
    let directory = project().join("target/debian-for-tests");
    fs::create_dir_all(&directory).expect("a directory for it");
    let turn = File::create(directory.join("lock")).expect("a file to lock");
    turn.lock().expect("one at a time");
    let path = directory.join("path");
    let known = fs::read_to_string(&path).map(PathBuf::from).unwrap_or_default();
    let sources = ["packaging/deb", "packaging/files", "systemd"].map(|name| newest(&project().join(name)));
    let source = sources.into_iter().chain([changed(&director::binary())]).max().expect("there are some");
    if known.is_file() && changed(&known) > source {
        return known;
    }
    let built = build(&directory, None);
    fs::write(path, built.to_str().expect("a plain path")).expect("its path is remembered");
    built
}

fn build(directory: &Path, version: Option<&str>) -> PathBuf {
    let mut command = Command::new(project().join("packaging/build-deb"));
    command.arg("--dev").arg("--output").arg(directory);
    command.args(version.iter().flat_map(|version| ["--version", version]));
    let output = command.output().expect("build-deb starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    PathBuf::from(said.lines().last().expect("the path of the package"))
}

/// When something below a directory changed last.
fn newest(directory: &Path) -> SystemTime {
    let entries = fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path());
    entries.map(|path| if path.is_dir() { newest(&path) } else { changed(&path) }).max().expect("something is there")
}

fn changed(path: &Path) -> SystemTime {
    path.metadata().and_then(|metadata| metadata.modified()).expect("it exists")
}

/// The directory of the source tree.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}
