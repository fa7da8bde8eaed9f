//! What was seen at the paths of syncs and locks, judged. Pure.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::finding::{Check, Finding};
use super::needs::End;
use super::probe::{Room, Seen};
use crate::human;

/// Less than this share of a file system free is worth a warning, per cent.
const LITTLE: u64 = 5;
/// Below this nothing works any more: a lock file with its temporary, a history page. Bytes.
const NOTHING: u64 = 64 * 1024;

/// A path without its wildcards: the directory that they are in. rsync's shell there expands them.
pub fn without_wildcards(path: &OsStr) -> OsString {
    let bytes = path.as_bytes();
    let Some(at) = bytes.iter().position(|byte| matches!(byte, b'*' | b'?' | b'[')) else { return path.to_owned() };
    let end = bytes[..at].iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash.max(1));
    OsString::from_vec(bytes[..end].to_vec())
}

/// What a sync reads.
pub fn source(place: &str, end: &End, path: &OsStr, seen: &Seen) -> Finding {
    let (name, shown) = (&end.name, path.display());
    if !seen.exists() && end.has(&["ignore-missing-args", "delete-missing-args"]) {
        return Finding::ok(Check::Source, place, format!("{shown} is not there, which {name} does not mind"));
    }
    if !seen.exists() && seen.is_closed_above() {
        let text = format!("{shown} cannot be reached, which {name} reads: {} is closed to the user", seen.above);
        return Finding::fail(Check::Source, place, text, "give the user access to it, or use another user");
    }
    if !seen.exists() {
        let text = format!("{shown} is not there, which {name} reads");
        return Finding::fail(Check::Source, place, text, "mount or make it, or mend `source`");
    }
    if !seen.is_readable() {
        let text = format!("{shown} cannot be read, which {name} reads");
        return Finding::fail(Check::Source, place, text, "give the user read access to it, or use another user");
    }
    if end.has(&["remove-source-files"]) && !seen.is_writable() && !end.is_dry_run() {
        let text = format!("{shown} cannot be changed, from which {name} removes files");
        return Finding::fail(Check::Source, place, text, "give the user write access to it");
    }
    Finding::ok(Check::Source, place, format!("{shown} can be read ({name})"))
}

/// What a sync writes: a directory, a file, or something that is to be made. rsync makes the last component only (rsync(1), `--mkpath`).
pub fn destination(place: &str, end: &End, path: &OsStr, seen: &Seen) -> Finding {
    let (name, shown) = (&end.name, path.display());
    if end.is_dry_run() {
        return Finding::ok(Check::Destination, place, format!("{shown} is not written ({name})"));
    }
    if seen.exists() {
        return match seen.is_writable() {
            true => Finding::ok(Check::Destination, place, format!("{shown} can be written ({name})")),
            false => {
                let text = format!("{shown} cannot be written, into which {name} copies");
                let fix = "give the user write access to it (also: is it mounted read-only?)";
                Finding::fail(Check::Destination, place, text, fix)
            }
        };
    }
    let makes = end.has(&["mkpath"]) || parent_of(path).as_bytes() == seen.above.as_bytes();
    if !makes && !is_below_home(path) {
        let text = format!(
            "{shown} is not there, into which {name} copies, and {} is the last directory that is; rsync makes one level only",
            seen.above
        );
        return Finding::fail(
            Check::Destination,
            place,
            text,
            format!("mount it, or make it: `mkdir -p {shown}`, or add `--mkpath`"),
        );
    }
    match seen.can_be_made() {
        true => Finding::ok(Check::Destination, place, format!("{shown} is not there yet and can be made ({name})")),
        false => {
            let text = format!("{shown} is not there and cannot be made in {}, into which {name} copies", seen.above);
            Finding::fail(Check::Destination, place, text, "make it, and give the user write access to it")
        }
    }
}

/// The directory that holds a path, without slashes at the end.
fn parent_of(path: &OsStr) -> OsString {
    let bytes = path.as_bytes();
    let end = bytes.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
    match bytes[..end].iter().rposition(|&byte| byte == b'/') {
        Some(0) | None => "/".into(),
        Some(slash) => OsString::from_vec(bytes[..slash].to_vec()),
    }
}

/// Whether the host itself knows only where the path leads.
fn is_below_home(path: &OsStr) -> bool {
    !path.as_bytes().starts_with(b"/")
}

/// The room at a path; nothing where it is not told.
pub fn space(place: &str, what: &str, seen: &Seen) -> Option<Finding> {
    let above = &seen.above;
    let share = |room: Room| (u128::from(room.free) * 100 / u128::from(room.total.max(1))) as u64;
    if let Some(room) = seen.inodes.filter(|room| room.free == 0) {
        let text = format!("no inode of {} is free at {above}, {what}: no file can be made", room.total);
        return Some(Finding::fail(
            Check::Space,
            place,
            text,
            "remove files there, or make the file system with more inodes",
        ));
    }
    let bytes = seen.bytes?;
    let (free, total) = (human::bytes(bytes.free), human::bytes(bytes.total));
    if bytes.free < NOTHING {
        let text = format!("{free} of {total} are free at {above}, {what}");
        return Some(Finding::fail(Check::Space, place, text, "make room there"));
    }
    if share(bytes) < LITTLE {
        let text = format!("only {free} of {total} are free at {above}, {what}");
        return Some(Finding::warn(Check::Space, place, text, "make room there"));
    }
    if let Some(room) = seen.inodes.filter(|room| share(*room) < LITTLE) {
        let text = format!("only {} of {} inodes are free at {above}, {what}", room.free, room.total);
        return Some(Finding::warn(Check::Space, place, text, "remove files there"));
    }
    Some(Finding::ok(Check::Space, place, format!("{free} of {total} are free at {above}, {what}")))
}

/// Whether a clock that showed `theirs`, in whole seconds, at some moment between `before` and `after` by ours, seconds since 1970, is right.
pub fn clock(place: &str, theirs: i64, before: f64, after: f64) -> Finding {
    /// More is worth a warning, seconds.
    const MUCH: f64 = 2.0;
    let (earliest, latest) = (theirs as f64 - after, theirs as f64 + 1.0 - before);
    let off = if earliest > 0.0 { earliest } else { latest.min(0.0) };
    if off.abs() <= MUCH {
        return Finding::ok(Check::Clock, place, "its clock agrees with ours to within 2 s");
    }
    let way = if off > 0.0 { "ahead of" } else { "behind" };
    let text = format!(
        "its clock is at least {} {way} ours: locks do not mind, since each host judges their age by its own, but logs, `--update` and schedules \
         of both hosts do not agree",
        human::duration(std::time::Duration::from_secs_f64(off.abs()))
    );
    Finding::warn(Check::Clock, place, text, "keep both by NTP: `timedatectl set-ntp true`")
}

#[cfg(test)]
#[path = "tests/places.rs"]
mod tests;
