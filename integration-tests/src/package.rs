//! The Debian package under test.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

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
        let mut command = Command::new(project().join("packaging/build-deb"));
        command.arg("--dev").arg("--output").arg(directory.path());
        command.args(version.iter().flat_map(|version| ["--version", version]));
        let output = command.output().expect("build-deb starts");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        let file = PathBuf::from(said.lines().last().expect("the path of the package"));
        Self { file, _directory: directory }
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

/// The directory of the source tree.
pub fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}
