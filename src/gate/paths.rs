//! Whether a path lies in a directory of the policy: by its name, and by where it really leads.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use super::policy::{Policy, Root, is_plain};
use super::{Access, Refusal};

/// Judges a path; the result is the same path made absolute, with what means something to rsync in it (`/./`, a slash at the end).
///
/// # Errors
/// [`Refusal`] for a path outside, one that goes up, and one that leads out by a symbolic link.
pub fn judge(policy: &Policy, path: &[u8], access: Access) -> Result<OsString, Refusal> {
    // A source that is a link itself is copied as a link, unless a slash says that its directory is meant.
    let follows = access == Access::Write || path.ends_with(b"/") || path.ends_with(b"/.");
    judge_to(policy, path, access, follows)
}

/// The same for what rsync opens itself, whatever it is.
///
/// # Errors
/// As [`judge`].
pub fn judge_opened(policy: &Policy, path: &[u8], access: Access) -> Result<OsString, Refusal> {
    judge_to(policy, path, access, true)
}

fn judge_to(policy: &Policy, path: &[u8], access: Access, follows: bool) -> Result<OsString, Refusal> {
    let absolute = absolute(policy, path);
    let bytes = absolute.as_bytes();
    if bytes.contains(&0) {
        return Err(Refusal::new("a path with a NUL"));
    }
    if goes_up(bytes) {
        return Err(Refusal::new(format!("{} goes up by `..`", shown(bytes))));
    }
    let plain = normal(Path::new(&absolute));
    let roots = || roots(policy, access);
    let outside = || {
        let whither = if access == Access::Write { "to be written" } else { "to be read" };
        Refusal::new(format!("{} is in no directory that the policy opens {whither}", shown(bytes)))
    };
    if !is_plain(&plain) || !roots().any(|root| plain.starts_with(&root.given) || plain.starts_with(&root.real)) {
        return Err(outside());
    }
    let real = if follows { real(&plain) } else { real_parent(&plain) };
    let is_inside = real.is_some_and(|real| roots().any(|root| real.starts_with(&root.real)));
    let leads_out = || Refusal::new(format!("{} leads out of its directory by a symbolic link", shown(bytes)));
    if is_inside { Ok(absolute) } else { Err(leads_out()) }
}

/// Judges the directory of an option, which is relative to the destination.
///
/// # Errors
/// As [`judge`].
pub fn judge_beside(policy: &Policy, dest: &OsStr, path: &[u8], access: Access) -> Result<OsString, Refusal> {
    if path.starts_with(b"/") {
        return judge_opened(policy, path, access);
    }
    let mut joined = dest.as_bytes().to_vec();
    joined.push(b'/');
    joined.extend_from_slice(path);
    // What goes up is said once and for all, so that rsync has no symbolic link to go up from.
    let resolved = normal(Path::new(OsStr::from_bytes(&joined)));
    let absolute = judge_opened(policy, resolved.as_os_str().as_bytes(), access)?;
    Ok(if goes_up(path) { absolute } else { OsString::from_vec(path.to_vec()) })
}

/// A path of the client, which starts in the account's home.
pub fn absolute(policy: &Policy, path: &[u8]) -> OsString {
    if path.starts_with(b"/") {
        return OsString::from_vec(path.to_vec());
    }
    let mut absolute = policy.home.as_os_str().as_bytes().to_vec();
    absolute.push(b'/');
    absolute.extend_from_slice(path);
    OsString::from_vec(absolute)
}

fn roots(policy: &Policy, access: Access) -> impl Iterator<Item = &Root> {
    let read: &[Root] = if access == Access::Write { &[] } else { &policy.read };
    read.iter().chain(&policy.write)
}

/// Without `.` and `..`, which is right as long as the path has no symbolic links.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(normal.pop()),
            Component::CurDir => {}
            part => normal.push(part),
        }
    }
    normal
}

/// Where a path leads: what of it exists, without symbolic links, and the rest. `None` when it leads nowhere, so that who creates it decides.
fn real(path: &Path) -> Option<PathBuf> {
    match fs::canonicalize(path) {
        Ok(real) => Some(real),
        Err(_) if fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink()) => None,
        Err(_) => real_parent(path),
    }
}

fn real_parent(path: &Path) -> Option<PathBuf> {
    match (path.parent(), path.file_name()) {
        (Some(parent), Some(name)) => real(parent).map(|parent| parent.join(name)),
        _ => Some(path.to_owned()),
    }
}

/// Whether a component of a path is `..`.
pub(super) fn goes_up(path: &[u8]) -> bool {
    path.split(|&byte| byte == b'/').any(|part| part == b"..")
}

/// A path for people, without control characters.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).replace(|c: char| c.is_control(), "\u{fffd}")
}
