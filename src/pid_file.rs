//! The pid file: one director per instance.
//!
//! A director holds a kernel lock on its pid file for as long as it lives, so whether one of ours is alive needs no guess. A file
//! without that lock is the old program's, or a leftover: it counts as live while a process with its pid exists that is not
//! younger than the file.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::process::{Pid, test_kill_process};

/// A process that started this much later than the file was written, seconds, cannot have written it.
const START_TOLERANCE: u64 = 5;

/// A pid file of ours. Removed when dropped.
#[derive(Debug)]
pub struct PidFile {
    path: PathBuf,
    file: File,
}

/// Why there is no pid file of ours.
#[derive(Debug, thiserror::Error)]
pub enum PidFileError {
    /// Another instance lives.
    #[error("another director (pid {pid}) runs this instance: its pid file is {}", path.display())]
    Live {
        /// The file.
        path: PathBuf,
        /// What it says.
        pid: String,
    },
    /// There is something that is not a file.
    #[error("pid file {} is {what}: move it away", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// `a directory`, ...
        what: &'static str,
    },
    /// It could not be written.
    #[error("could not {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// With what.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl PidFile {
    /// Creates `<dir>/rsyncdirector-<rsync_id>.pid` with our pid, and `dir` (mode 0755) where it lacks. Takes over a file whose
    /// process is gone.
    ///
    /// # Errors
    /// [`PidFileError::Live`] beside another instance, whose file is left alone; [`PidFileError::NotAFile`] for a directory, link
    /// or device; [`PidFileError::Io`] for what the system refuses.
    pub fn create(dir: &Path, rsync_id: &str) -> Result<Self, PidFileError> {
        let path = dir.join(format!("rsyncdirector-{rsync_id}.pid"));
        let failed = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| PidFileError::Io { operation, path, source }
        };
        DirBuilder::new().recursive(true).mode(0o755).create(dir).map_err(failed("create directory", dir))?;
        loop {
            refuse_other_kinds(&path)?;
            let mut file = open(&path).map_err(failed("open pid file", &path))?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let pid = read(&mut file).unwrap_or_default();
                    return Err(PidFileError::Live { path, pid });
                }
                Err(error) => return Err(failed("lock pid file", &path)(error.into())),
            }
            if !is_at(&file, &path) {
                // Its owner removed it between our open and our lock.
                continue;
            }
            let pid = read(&mut file).map_err(failed("read pid file", &path))?;
            if is_alive(&pid, &file) {
                return Err(PidFileError::Live { path, pid });
            }
            write(&mut file).map_err(failed("write pid file", &path))?;
            return Ok(Self { path, file });
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if is_at(&self.file, &self.path) {
            // Nothing can be done about a failure at this point, and a leftover is taken over at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn refuse_other_kinds(path: &Path) -> Result<(), PidFileError> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let what = match metadata.file_type() {
        kind if kind.is_file() => return Ok(()),
        kind if kind.is_dir() => "a directory",
        kind if kind.is_symlink() => "a symbolic link",
        _ => "not a regular file",
    };
    Err(PidFileError::NotAFile { path: path.to_owned(), what })
}

fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o644)
        .custom_flags(i32::try_from(flags).expect("open flags are small"))
        .open(path)
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn read(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.take(64).read_to_string(&mut text)?;
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}

fn write(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", std::process::id())
}

/// Whether `pid`, read from a file that no director of ours holds, is a process that may have written it.
fn is_alive(pid: &str, file: &File) -> bool {
    let Some(process) = pid.parse().ok().and_then(Pid::from_raw) else { return false };
    if process.as_raw_nonzero().get().unsigned_abs() == std::process::id() {
        return false;
    }
    // EPERM means that it lives and belongs to someone else.
    if test_kill_process(process) == Err(rustix::io::Errno::SRCH) {
        return false;
    }
    let written = file.metadata().map_or(i64::MAX, |metadata| metadata.mtime());
    started_at(process).is_none_or(|started| started <= written.unsigned_abs().saturating_add(START_TOLERANCE))
}

/// When a process started, seconds since the epoch (proc(5): field 22 of `stat` in clock ticks since `btime`).
fn started_at(process: Pid) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{}/stat", process.as_raw_nonzero())).ok()?;
    let ticks: u64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let boot = fs::read_to_string("/proc/stat").ok()?;
    let boot: u64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks / rustix::param::clock_ticks_per_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn create(dir: &Path) -> Result<PidFile, PidFileError> {
        PidFile::create(dir, "x")
    }

    fn path(dir: &Path) -> PathBuf {
        dir.join("rsyncdirector-x.pid")
    }

    #[test]
    fn it_holds_our_pid_and_goes_with_us() {
        let dir = tempfile::tempdir().unwrap();
        let file = create(&dir.path().join("deep/er")).unwrap();
        assert_eq!(fs::read_to_string(file.path()).unwrap(), format!("{}\n", std::process::id()));
        let path = file.path().to_owned();
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn a_second_instance_is_refused_and_leaves_the_first_alone() {
        let dir = tempfile::tempdir().unwrap();
        let first = create(dir.path()).unwrap();
        assert!(
            matches!(create(dir.path()), Err(PidFileError::Live { pid, .. }) if pid == std::process::id().to_string())
        );
        assert!(first.path().exists());
    }

    #[test]
    fn a_live_process_of_the_old_program_is_respected() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(path(dir.path()), "1").unwrap();
        assert!(matches!(create(dir.path()), Err(PidFileError::Live { pid, .. }) if pid == "1"));
        assert_eq!(fs::read_to_string(path(dir.path())).unwrap(), "1");
    }

    #[test]
    fn a_leftover_is_taken_over() {
        for content in ["", "4194305\n", "no pid at all"] {
            let dir = tempfile::tempdir().unwrap();
            fs::write(path(dir.path()), content).unwrap();
            assert!(create(dir.path()).is_ok(), "{content:?}");
        }
    }

    #[test]
    fn a_pid_that_now_belongs_to_a_younger_process_is_a_leftover() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(path(dir.path()), "1").unwrap();
        let past = rustix::fs::Timespec { tv_sec: 1000, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: past, last_modification: past };
        rustix::fs::futimens(File::open(path(dir.path())).unwrap(), &times).unwrap();
        assert!(create(dir.path()).is_ok());
    }

    #[test]
    fn a_directory_and_a_link_are_refused_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(path(dir.path())).unwrap();
        assert!(matches!(create(dir.path()), Err(PidFileError::NotAFile { what: "a directory", .. })));
        assert!(path(dir.path()).is_dir());
        fs::remove_dir(path(dir.path())).unwrap();
        std::os::unix::fs::symlink("/dev/null", path(dir.path())).unwrap();
        assert!(matches!(create(dir.path()), Err(PidFileError::NotAFile { what: "a symbolic link", .. })));
    }
}
