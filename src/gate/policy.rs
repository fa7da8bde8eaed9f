//! What a key may do: the policy file, read and judged.
//!
//! A policy that would let its key change what decides about the key is refused: a directory that rsync may write must not hold the
//! account's home (`~/.ssh/authorized_keys`, `~/.bashrc`), the policy, the programs that are started, or lock files.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::account;
use crate::config::{LoadError, read_trusted};

/// Where rsync is looked for, in this order.
const RSYNC: [&str; 2] = ["/usr/bin/rsync", "/usr/local/bin/rsync"];

/// How what the judgement lets through is kept in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Confinement {
    /// By the kernel: nothing else can be opened. Where the kernel cannot, nothing is let through.
    #[default]
    Kernel,
    /// By looking at paths alone. Options that follow symbolic links are refused then.
    Paths,
}

/// A policy as it stands in its file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Written {
    locks: Vec<PathBuf>,
    read: Vec<PathBuf>,
    write: Vec<PathBuf>,
    delete: Option<bool>,
    devices: bool,
    confinement: Confinement,
    rsync: Option<PathBuf>,
}

/// What a key may do.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The file.
    pub file: PathBuf,
    /// Lock and block files; wildcards `*` and `?` in the last component.
    pub locks: Vec<PathBuf>,
    /// Directories from which rsync may read, without symbolic links.
    pub read: Vec<Root>,
    /// Directories in which rsync may write, and from which it may read.
    pub write: Vec<Root>,
    /// Whether rsync may delete.
    pub delete: bool,
    /// Whether root's rsync may create devices.
    pub devices: bool,
    /// How this is enforced.
    pub confinement: Confinement,
    /// The program.
    pub rsync: PathBuf,
    /// The account's home, for `~` and relative paths.
    pub home: PathBuf,
}

/// A directory of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// As the policy names it.
    pub given: PathBuf,
    /// Where it is, without symbolic links.
    pub real: PathBuf,
}

/// Why there is no policy.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// The file cannot be read, or others can write it.
    #[error(transparent)]
    File(#[from] LoadError),
    /// It is not the YAML that it should be.
    #[error("{}: {what}", file.display())]
    Syntax {
        /// The policy.
        file: PathBuf,
        /// With the place.
        what: String,
    },
    /// It says something that must not be.
    #[error("{}: {}", file.display(), problems.join("; "))]
    Invalid {
        /// The policy.
        file: PathBuf,
        /// Each of them.
        problems: Vec<String>,
    },
}

impl Policy {
    /// Reads and judges the file, for the account that we run as.
    ///
    /// # Errors
    /// [`PolicyError`], with everything that is wrong.
    pub fn load(file: &Path) -> Result<Self, PolicyError> {
        let text = read_trusted(file)?;
        let program = std::env::current_exe().ok();
        Self::parse(file, &text, &account::home().unwrap_or_else(|| "/".into()), program.as_deref())
    }

    /// The policy that `text` describes, for an account with this home. `program` is ours.
    pub(super) fn parse(file: &Path, text: &str, home: &Path, program: Option<&Path>) -> Result<Self, PolicyError> {
        let written: Written = serde_saphyr::from_str(text)
            .map_err(|error| PolicyError::Syntax { file: file.to_owned(), what: error.to_string() })?;
        let mut problems = Vec::new();
        let home = fs::canonicalize(home).unwrap_or_else(|_| home.to_owned());
        let below_home = |path: &PathBuf| match path.strip_prefix("~") {
            Ok(below) => home.join(below),
            Err(_) => path.clone(),
        };
        let mut roots = |key: &str, paths: &[PathBuf]| -> Vec<Root> {
            paths.iter().map(below_home).filter_map(|path| root(key, &path, &mut problems)).collect()
        };
        let (read, write) = (roots("read", &written.read), roots("write", &written.write));
        let locks: Vec<PathBuf> = written.locks.iter().map(below_home).collect();
        problems.extend(locks.iter().filter_map(|lock| lock_problem(lock)));
        let rsync = written.rsync.clone().or_else(|| RSYNC.iter().map(PathBuf::from).find(|path| path.exists()));
        let rsync = rsync.unwrap_or_else(|| RSYNC[0].into());
        if !rsync.is_absolute() {
            problems.push(format!("`rsync`: {} is not absolute", rsync.display()));
        }
        if locks.is_empty() && read.is_empty() && write.is_empty() && problems.is_empty() {
            problems.push("it allows nothing: name `locks`, `read` or `write`".into());
        }
        let program = program.unwrap_or(Path::new("/usr/bin/rsyncdirector"));
        let precious =
            [(&*home, "the account's home"), (file, "this policy"), (&*rsync, "rsync"), (program, "rsyncdirector")];
        for root in &write {
            let holds = |path: &Path| real(path).starts_with(&root.real) || path.starts_with(&root.given);
            let mut refuse = |what: &str| {
                problems.push(format!("`write`: {} holds {what}, which must not be written", root.given.display()));
            };
            precious.iter().filter(|(path, _)| holds(path)).for_each(|(_, what)| refuse(what));
            if let Some(lock) = locks.iter().find(|lock| holds(lock)) {
                refuse(&format!("the lock file {}", lock.display()));
            }
            problems.extend(nested(root, &read, &write));
        }
        if !problems.is_empty() {
            return Err(PolicyError::Invalid { file: file.to_owned(), problems });
        }
        let Written { delete, devices, confinement, .. } = written;
        let delete = delete.unwrap_or(true);
        Ok(Self { file: file.to_owned(), locks, read, write, delete, devices, confinement, rsync, home })
    }

    /// Whether lock operations are allowed on a file. A wildcard stands for no slash, and not for a leading dot.
    pub fn allows_lock(&self, path: &Path) -> bool {
        is_plain(path) && self.locks.iter().any(|lock| lock.parent() == path.parent() && is_like(lock, path))
    }

    /// All directories that may be read.
    pub fn readable(&self) -> impl Iterator<Item = &Root> {
        self.read.iter().chain(&self.write)
    }
}

/// A directory, if it is one; else what is wrong with it.
fn root(key: &str, path: &Path, problems: &mut Vec<String>) -> Option<Root> {
    let shown = path.display();
    if !is_plain(path) {
        problems.push(format!("`{key}`: {shown} must be absolute, without `.` and `..`"));
        return None;
    }
    match fs::canonicalize(path).and_then(|real| fs::metadata(&real).map(|found| (real, found.is_dir()))) {
        Ok((real, true)) => Some(Root { given: path.components().collect(), real }),
        Ok((_, false)) => {
            problems.push(format!("`{key}`: {shown} is not a directory"));
            None
        }
        Err(error) => {
            problems.push(match error.kind() {
                io::ErrorKind::NotFound => format!("`{key}`: {shown} does not exist"),
                _ => format!("`{key}`: {shown}: {error}"),
            });
            None
        }
    }
}

fn lock_problem(lock: &Path) -> Option<String> {
    let has_wildcard = |bytes: &[u8]| bytes.iter().any(|byte| matches!(byte, b'*' | b'?'));
    if !is_plain(lock) || lock.file_name().is_none() {
        return Some(format!("`locks`: {} must be the absolute path of a file, without `.` and `..`", lock.display()));
    }
    let parent = lock.parent()?;
    has_wildcard(parent.as_os_str().as_bytes())
        .then(|| format!("`locks`: {}: a wildcard may stand in the last component only", lock.display()))
}

/// What of the others lies within a directory that may be written, so that it could be replaced there by a symbolic link.
fn nested(root: &Root, read: &[Root], write: &[Root]) -> Vec<String> {
    let others = read.iter().chain(write).filter(|other| *other != root && other.real.starts_with(&root.real));
    let tell = |other: &Root| {
        format!("{} lies in {}, which `write` allows already", other.given.display(), root.given.display())
    };
    others.map(tell).collect()
}

/// As much of a path as exists, without symbolic links.
fn real(path: &Path) -> PathBuf {
    match fs::canonicalize(path) {
        Ok(real) => real,
        Err(_) => match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => real(parent).join(name),
            _ => path.to_owned(),
        },
    }
}

/// Absolute, and nothing in it that goes up.
pub(super) fn is_plain(path: &Path) -> bool {
    let has_dots = |bytes: &[u8]| bytes.split(|&byte| byte == b'/').any(|part| part == b"." || part == b"..");
    path.is_absolute()
        && !has_dots(path.as_os_str().as_bytes())
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

fn is_like(pattern: &Path, path: &Path) -> bool {
    match (pattern.file_name().map(OsStr::as_bytes), path.file_name().map(OsStr::as_bytes)) {
        (Some(pattern), Some(name)) => (pattern[0] == b'.' || name[0] != b'.') && matches_name(pattern, name),
        _ => false,
    }
}

fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => (0..=name.len()).any(|skipped| matches_name(rest, &name[skipped..])),
        (Some((b'?', rest)), Some((_, name))) => matches_name(rest, name),
        (Some((wanted, rest)), Some((found, name))) if wanted == found => matches_name(rest, name),
        _ => false,
    }
}
