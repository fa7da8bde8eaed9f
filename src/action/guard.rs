//! Looks before a sync that may delete: is there a source at all, and would it delete more than it may?
//!
//! A source is refused when it is a mount point of `/etc/fstab` (or below one) on which nothing is mounted, or when nothing of
//! it would be copied: what is at the destination would go. Here a look into the directory tells, unless options hide some of it;
//! else, and on a peer, rsync's own listing does. Then a dry run counts the deletions, if `max_delete` bounds them. What it allows also
//! bounds the rsync itself (`--max-delete`), should a source lose files in between.
//!
//! A source that is missing is left to rsync, which names it and deletes nothing, unless its options make it go on.

mod mounts;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::attempt::{Attempt, Ended};
use super::look::{goes_on, look};
use crate::config::Sync;
use crate::event::ActionFailure;
use crate::patient;
use crate::rsync::args::{self, Invocation, Remote};
use crate::rsync::guard::{self, MaxDelete, Preview};

/// What is looked at.
pub(super) struct Guard {
    sources: Vec<Source>,
    /// Whether what is missing counts as empty.
    missing_is_empty: bool,
    preview: Option<(MaxDelete, Vec<OsString>)>,
    /// Whether rsync itself is to be bounded.
    bounds: bool,
}

/// A source as configured, and what it stands for.
struct Source {
    name: OsString,
    look: Look,
}

enum Look {
    /// Into directories of this host; `listing` if options may hide what is there.
    Here { paths: Vec<OsString>, follow: bool, listing: Option<Listing> },
    /// By rsync's listing only.
    There(Listing),
}

struct Listing {
    args: Vec<OsString>,
    depth: usize,
}

/// Why a sync does not begin.
pub(super) enum Stopped {
    /// It is refused.
    Refused(ActionFailure, String),
    /// A rsync that was to look ended so that this one cannot do better.
    Ended(Box<Ended>),
}

/// What is to be looked at before this sync, if it may delete; `sources` are its own, each with what it stands for.
pub(super) fn plan(sync: &Sync, sources: &[(OsString, Vec<OsString>)], command: &Invocation<'_>) -> Option<Guard> {
    let opts = &sync.opts;
    if !guard::deletes(opts) || guard::only_looks(opts) {
        return None;
    }
    let preview = sync.max_delete.map(|max| {
        let opts = guard::preview_options(opts);
        (max, args::argv(&Invocation { opts: &opts, dry_run: true, progress: false, ..command.clone() }))
    });
    let judged = if sync.allow_empty_source { &[] } else { sources };
    Some(Guard {
        sources: judged.iter().map(|(name, paths)| source(name, paths, command, opts)).collect(),
        missing_is_empty: guard::deletes_despite_errors(opts),
        preview,
        bounds: !guard::has_max_delete(opts),
    })
}

fn source(name: &OsString, paths: &[OsString], command: &Invocation<'_>, opts: &[OsString]) -> Source {
    let is_there = matches!(command.remote, Some(Remote { pull: true, .. }));
    let elsewhere = is_there || paths.iter().any(|path| guard::is_elsewhere(path));
    let listing = || {
        let depth = guard::depth(opts, paths.first().unwrap_or(name));
        let opts = guard::listing_options(opts, depth);
        let listing =
            Invocation { opts: &opts, sources: paths.to_vec(), dry_run: false, progress: false, ..command.clone() };
        let remote = command.remote.clone().filter(|_| is_there);
        Listing { args: args::listing(&Invocation { remote, ..listing }), depth }
    };
    let look = match elsewhere {
        true => Look::There(listing()),
        false => Look::Here {
            paths: paths.to_vec(),
            follow: guard::follows_links(opts),
            listing: guard::has_filters(opts).then(listing),
        },
    };
    Source { name: name.clone(), look }
}

/// What a look at a source found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Found {
    Something,
    Nothing,
    /// It is not there, or cannot be read.
    Unknown,
}

impl Guard {
    /// Looks. How many deletions rsync may be allowed, if there is a bound.
    pub(super) async fn check(&self, attempt: &Attempt<'_>) -> Result<Option<u64>, Stopped> {
        for source in &self.sources {
            let found = match &source.look {
                Look::There(listing) => list(attempt, listing).await?,
                Look::Here { paths, follow, listing } => match (here(attempt, paths, *follow).await?, listing) {
                    (Found::Something, Some(listing)) => list(attempt, listing).await?,
                    (found, _) => found,
                },
            };
            let name = source.name.display();
            match found {
                Found::Nothing => return Err(refused(format!("the source {name} is empty"))),
                Found::Unknown if self.missing_is_empty => {
                    return Err(refused(format!("the source {name} is missing or cannot be read")));
                }
                Found::Something | Found::Unknown => {}
            }
        }
        match &self.preview {
            Some((max, args)) => self.preview(attempt, *max, args).await,
            None => Ok(None),
        }
    }

    async fn preview(&self, attempt: &Attempt<'_>, max: MaxDelete, args: &[OsString]) -> Result<Option<u64>, Stopped> {
        let mut preview = Preview::default();
        let ended = look(attempt, args, |line| preview.line(line)).await;
        let (true, Some(plan)) = (goes_on(&ended), preview.finish()) else {
            return Err(Stopped::Ended(Box::new(ended)));
        };
        match plan.objection(max) {
            Some(message) => Err(Stopped::Refused(ActionFailure::DeleteGuard, message)),
            None => Ok(Some(max.of(plan.entries)).filter(|_| self.bounds)),
        }
    }
}

fn refused(what: String) -> Stopped {
    let message = format!(
        "nothing was changed: {what}, and the sync would delete what is at the destination (if that is meant: \
         `allow_empty_source: true`)"
    );
    Stopped::Refused(ActionFailure::EmptySource, message)
}

/// rsync's listing of a source.
async fn list(attempt: &Attempt<'_>, listing: &Listing) -> Result<Found, Stopped> {
    let mut found = false;
    let line = |line: &[u8]| found = found || guard::shows_content(line, listing.depth);
    let ended = look(attempt, &listing.args, line).await;
    match ended.code() {
        _ if !goes_on(&ended) => Err(Stopped::Ended(Box::new(ended))),
        _ if found => Ok(Found::Something),
        Some(0) => Ok(Found::Nothing),
        _ => Ok(Found::Unknown),
    }
}

/// A look at paths of this host. A file system that does not answer may block it for ever: when the action is to end, rsync is let go on,
/// and ends in its turn.
async fn here(attempt: &Attempt<'_>, paths: &[OsString], follow: bool) -> Result<Found, Stopped> {
    let paths = paths.to_vec();
    let about = paths.iter().map(PathBuf::from).collect();
    let look = move || {
        let unmounted = mounts::unmounted(&paths);
        (unmounted, paths.iter().map(|path| look_at(Path::new(path), follow)).max_by_key(|found| rank(*found)))
    };
    let looked = tokio::select! {
        looked = patient::look(about, look) => looked.ok(),
        () = attempt.stop.term.cancelled() => None,
        () = attempt.out_of_patience() => None,
    };
    match looked {
        Some((Some(unmounted), _)) => Err(refused(unmounted)),
        Some((None, found)) => Ok(found.unwrap_or(Found::Nothing)),
        // rsync may tell more.
        None => Ok(Found::Unknown),
    }
}

/// Of several paths that one pattern stands for, the one with most in it counts.
fn rank(found: Found) -> u8 {
    match found {
        Found::Nothing => 0,
        Found::Unknown => 1,
        Found::Something => 2,
    }
}

fn look_at(path: &Path, follow: bool) -> Found {
    let is_dir = match path.as_os_str().as_bytes().ends_with(b"/") || follow {
        true => fs::metadata(path),
        // A link is copied as such.
        false => fs::symlink_metadata(path),
    };
    let first = |()| fs::read_dir(path)?.next().transpose().map(|entry| entry.is_some());
    match is_dir.map(|found| found.is_dir()) {
        Ok(true) => match first(()) {
            Ok(true) => Found::Something,
            Ok(false) => Found::Nothing,
            Err::<_, io::Error>(_) => Found::Unknown,
        },
        Ok(false) => Found::Something,
        Err(_) => Found::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_at_this_host_tells_something_nothing_and_unknown() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("empty")).expect("a directory");
        fs::create_dir(path("full")).expect("a directory");
        fs::write(path("full/x"), "").expect("a file");
        std::os::unix::fs::symlink("empty", path("link")).expect("a link");
        for (name, follow, expected) in [
            ("empty", false, Found::Nothing),
            ("empty/", false, Found::Nothing),
            ("full", false, Found::Something),
            ("full/x", false, Found::Something),
            ("link", false, Found::Something),
            ("link/", false, Found::Nothing),
            ("link", true, Found::Nothing),
            ("missing", false, Found::Unknown),
        ] {
            assert_eq!(look_at(&path(name), follow), expected, "{name}");
        }
    }
}
