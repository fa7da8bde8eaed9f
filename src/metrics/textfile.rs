//! The page as a file, for the textfile collector of node_exporter, which reads `*.prom` in a directory whenever it is scraped.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Puts the page in the place of the file, at once and for everyone to read: whoever reads meanwhile has the old or the new one.
///
/// # Errors
/// When the directory cannot be written to. The file is then as it was.
pub(super) fn write(path: &Path, page: &str) -> io::Result<()> {
    let new = beside(path)?;
    let written = fill(&new, page).and_then(|()| fs::rename(&new, path));
    if written.is_err() {
        // It may not be there.
        let _ = fs::remove_file(&new);
    }
    written
}

fn fill(path: &Path, page: &str) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(page.as_bytes())?;
    // Else a power cut could leave an empty file under the right name.
    file.sync_all()
}

/// A name in the same directory that no collector reads.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{}", std::process::id()));
    Ok(path.with_file_name(hidden))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_takes_the_place_of_another_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("rsyncdirector.prom");
        for page in ["one\n", "two\n"] {
            write(&path, page).expect("written");
            assert_eq!(fs::read_to_string(&path).expect("the page"), page);
        }
        assert_eq!(fs::metadata(&path).expect("the file").permissions().mode() & 0o7777, 0o644);
        assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 1);
    }

    #[test]
    fn what_cannot_be_written_is_an_error_and_leaves_nothing() {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("x.prom")).expect("a directory");
        assert!(write(&dir.path().join("x.prom"), "page").is_err());
        assert!(write(&dir.path().join("missing/x.prom"), "page").is_err());
        assert!(write(Path::new("/"), "page").is_err());
        assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 1);
    }
}
