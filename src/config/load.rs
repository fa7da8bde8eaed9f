//! Reading the file, and refusing one that the wrong people can write.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::diagnostics::LoadError;
use super::ssh_config::{self, Files};
use super::{Loaded, parse_with};
use crate::account;
use crate::rsync::expand::{ExpandError, expand_sources};

/// No configuration is larger: bounds what a wrong path (a device, a disk image) costs.
const LARGEST: u64 = 4 * 1024 * 1024;

/// Reads, judges and validates the file at `path`.
///
/// `env` is asked for environment variables; where it lacks HOME or LOGNAME, as in a service, `/etc/passwd` answers. For peers the files of
/// ssh_config(5) are read too.
///
/// # Errors
/// [`LoadError::Read`] if it cannot be read, is a directory, is larger than 4 MiB or no UTF-8;
/// [`LoadError::Permissions`] if the group or others can write it, or it belongs to a user other than root and ours;
/// [`LoadError::Invalid`] with everything that is wrong in it.
pub fn load(path: &Path, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Loaded, LoadError> {
    let text = read_trusted(path)?;
    let with_passwd = |name: &str| env(name).or_else(|| account::from_passwd(name));
    parse_with(path, &text, &with_passwd, &Disk).map_err(LoadError::Invalid)
}

/// The text of a file that decides what we do.
///
/// # Errors
/// As [`load`], but for what is in it.
pub fn read_trusted(path: &Path) -> Result<String, LoadError> {
    let failed = |source| LoadError::Read { path: path.to_owned(), source };
    let (text, metadata) = read(path).map_err(failed)?;
    judge(path, metadata.mode(), metadata.uid(), rustix::process::geteuid().as_raw())?;
    String::from_utf8(text).map_err(|error| failed(not_utf8(error.as_bytes(), error.utf8_error().valid_up_to())))
}

/// The files of this host.
struct Disk;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<ssh_config::File> {
        let (text, metadata) = read(path)?;
        let text = String::from_utf8_lossy(&text).into_owned();
        Ok(ssh_config::File { text, owner: metadata.uid(), mode: metadata.mode() & 0o7777 })
    }

    fn matching(&self, pattern: &str) -> io::Result<Vec<PathBuf>> {
        match expand_sources(&[pattern.into()], None) {
            Ok(found) => Ok(found.into_iter().map(PathBuf::from).collect()),
            Err(ExpandError::Read { source, .. }) if source.kind() != io::ErrorKind::NotFound => Err(source),
            Err(_) => Ok(Vec::new()),
        }
    }
}

/// The contents and what the system knows of the very file that was opened.
fn read(path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "it is a directory"));
    }
    let mut text = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 4 MiB"));
    }
    Ok((text, metadata))
}

fn not_utf8(text: &[u8], at: usize) -> io::Error {
    let line = text[..at].iter().filter(|byte| **byte == b'\n').count() + 1;
    io::Error::new(io::ErrorKind::InvalidData, format!("line {line} is not UTF-8: byte 0x{:02x}", text[at]))
}

/// Refuses a file through which another could decide what we execute.
fn judge(path: &Path, mode: u32, owner: u32, us: u32) -> Result<(), LoadError> {
    let shown = path.display();
    let refuse = |reason: String, remedy: String| Err(LoadError::Permissions { path: path.to_owned(), reason, remedy });
    if owner != 0 && owner != us {
        return refuse(format!("it belongs to another user (uid {owner})"), format!("chown {us} {shown}"));
    }
    match mode & 0o022 {
        0 => Ok(()),
        0o020 => refuse(format!("its group can write it (mode {:04o})", mode & 0o7777), format!("chmod go-w {shown}")),
        _ => refuse(format!("everyone can write it (mode {:04o})", mode & 0o7777), format!("chmod go-w {shown}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn no_env(_: &str) -> Option<OsString> {
        None
    }

    /// The whole chain of an error's messages.
    fn chain(error: &LoadError) -> String {
        let source = std::error::Error::source(error).map(|source| format!(": {source}")).unwrap_or_default();
        format!("{error}{source}")
    }

    fn check_refused(mode: u32, owner: u32, expected: Option<&str>) {
        let found = judge(Path::new("/etc/x.yaml"), mode, owner, 1000).err().map(|error| error.to_string());
        let expected = expected.map(|reason| format!("refusing the configuration /etc/x.yaml: {reason}"));
        assert_eq!(found, expected, "{mode:o} {owner}");
    }

    #[test]
    fn a_file_that_others_can_write_is_refused() {
        check_refused(0o100644, 0, None);
        check_refused(0o100600, 1000, None);
        check_refused(0o100664, 0, Some("its group can write it (mode 0664); chmod go-w /etc/x.yaml"));
        check_refused(0o100646, 1000, Some("everyone can write it (mode 0646); chmod go-w /etc/x.yaml"));
        check_refused(0o100600, 1001, Some("it belongs to another user (uid 1001); chown 1000 /etc/x.yaml"));
    }

    #[test]
    fn the_mode_of_the_file_itself_counts() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("x.yaml");
        std::fs::write(&path, "jobs: []").expect("written");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o666)).expect("chmod");
        assert!(matches!(load(&path, &no_env), Err(LoadError::Permissions { .. })));
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("chmod");
        assert!(matches!(load(&path, &no_env), Err(LoadError::Invalid(_))));
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let dir = tempfile::tempdir().expect("a directory");
        let missing = dir.path().join("missing.yaml");
        let error = load(&missing, &no_env).expect_err("no such file");
        assert!(chain(&error).ends_with("missing.yaml: No such file or directory (os error 2)"), "{}", chain(&error));
        let error = load(dir.path(), &no_env).expect_err("a directory");
        assert!(chain(&error).ends_with(": it is a directory"), "{}", chain(&error));
        let latin = dir.path().join("latin.yaml");
        std::fs::write(&latin, b"a: 1\nb: \xfc\n").expect("written");
        let error = load(&latin, &no_env).expect_err("not UTF-8");
        assert!(chain(&error).ends_with(": line 2 is not UTF-8: byte 0xfc"), "{}", chain(&error));
        let error = load(Path::new("/dev/zero"), &no_env).expect_err("endless");
        assert!(chain(&error).contains("4 MiB"), "{}", chain(&error));
    }
}
