//! Whether lock files can be made and removed, in the way in which the director does so: a real lock of another, hidden name in the same
//! directory is taken and given back at once. Nobody waits for it, and nothing stays.
//!
//! A directory that lacks is not made, though a director would make it: the probe goes to the nearest one above.

use std::path::{Path, PathBuf};

use super::finding::{Check, Finding};
use super::needs::Wanted;
use crate::clock;
use crate::config::{Config, Location};
use crate::lock::record::{Found, Record};
use crate::lock::{Answer, LockBackend, Op, Stores, Unreachable};

/// What a gate's refusals begin with.
pub const GATE: &str = "gate: refused";

/// Looks at one lock file of the configuration.
pub async fn lock(config: &Config, stores: &Stores, place: &str, wanted: &Wanted) -> Finding {
    let Location { place: host, path } = &wanted.location;
    let (backend, of) = (stores.at(host), wanted.of());
    let shown = path.display();
    match look(&*backend, path).await {
        Ok(Found::Other(what)) => {
            let text = format!("{shown} is {what}, so {of} cannot lock it");
            return Finding::fail(Check::Lock, place, text, "move it away, or name another file");
        }
        Ok(_) => {}
        Err(why) => return refused(place, &format!("{shown} cannot be looked at, the lock of {of}"), &why),
    }
    let directory = match nearest(&*backend, path).await {
        Ok(directory) => directory,
        Err(why) if why.contains(GATE) => {
            return Finding::ok(Check::Lock, place, format!("the gate lets us look at {shown} (lock of {of})"));
        }
        Err(why) => {
            return refused(place, &format!("the directory of {shown}, the lock of {of}, cannot be looked at"), &why);
        }
    };
    let is_there = Some(directory.as_path()) == path.parent();
    match probe(config, &*backend, &directory, path).await {
        Ok(()) if is_there => {
            Finding::ok(Check::Lock, place, format!("{shown} can be made and removed (lock of {of})"))
        }
        Ok(()) => {
            let text = format!("{shown} can be made, with its directory in {} (lock of {of})", directory.display());
            Finding::ok(Check::Lock, place, text)
        }
        Err(why) => {
            let text = format!("{of} cannot make its lock {shown}: {why}");
            let fix = format!("give the user write access to {}", directory.display());
            Finding::fail(Check::Lock, place, text, fix)
        }
    }
}

/// Looks at one block file of the configuration.
pub async fn block(stores: &Stores, place: &str, wanted: &Wanted) -> Finding {
    let Location { place: host, path } = &wanted.location;
    let (of, shown) = (wanted.of(), path.display());
    match look(&*stores.at(host), path).await {
        Ok(Found::Other(what)) => {
            let text = format!("{shown} is {what}, so {of} waits for its end");
            Finding::warn(Check::Block, place, text, "name the file, if another is meant")
        }
        Ok(Found::Absent) => Finding::ok(Check::Block, place, format!("{shown} can be looked at (block of {of})")),
        Ok(Found::File { .. }) => Finding::ok(Check::Block, place, format!("{shown} is there: {of} waits now")),
        Err(why) => {
            let finding = refused(place, &format!("{shown} cannot be looked at, so {of} waits for ever"), &why);
            Finding { check: Check::Block, ..finding }
        }
    }
}

fn refused(place: &str, what: &str, why: &str) -> Finding {
    let fix = match why.contains(GATE) {
        true => "add the file to `locks` in the policy of the gate there",
        false => "give the user access to the directory",
    };
    Finding::fail(Check::Lock, place, format!("{what}: {why}"), fix)
}

async fn look(backend: &dyn LockBackend, path: &Path) -> Result<Found, String> {
    match one(backend, Op::Look { path: path.to_owned() }).await? {
        Answer::Found(found) => Ok(found),
        other => Err(said(other)),
    }
}

/// The nearest directory above a file that is there. A symbolic link counts as one: the way to a file is followed.
async fn nearest(backend: &dyn LockBackend, path: &Path) -> Result<PathBuf, String> {
    let above: Vec<&Path> =
        path.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty() && *path != Path::new("~")).collect();
    let looks = above.iter().map(|path| Op::Look { path: path.to_path_buf() }).collect();
    let answers = backend.perform(looks).await.map_err(|Unreachable { why, .. }| why)?;
    for (path, answer) in above.iter().zip(answers) {
        match answer {
            Answer::Found(Found::Absent) => {}
            Answer::Found(Found::Other("a directory" | "a symbolic link")) => return Ok(path.to_path_buf()),
            Answer::Found(_) => return Err(format!("{} is no directory", path.display())),
            other => return Err(said(other)),
        }
    }
    // The home directory.
    let highest = above.last().copied().unwrap_or(path);
    Ok(highest.parent().unwrap_or(highest).to_owned())
}

/// Takes a lock of a name that nobody has, and gives it back.
async fn probe(config: &Config, backend: &dyn LockBackend, directory: &Path, lock: &Path) -> Result<(), String> {
    let token = crate::random::word();
    let name = lock.file_name().unwrap_or_default().to_string_lossy();
    // Named like what the protocol makes beside the lock, so that what a lost connection leaves behind is cleaned up with that.
    let path = directory.join(format!(".{name}.doctor-{}", &token[..8]));
    let record = Record {
        instance: config.rsync_id.to_string(),
        host: crate::daemon::host_name(),
        user: crate::account::name().unwrap_or_default(),
        pid: std::process::id(),
        boot_id: String::new(),
        token,
        lease_seconds: config.lease.as_secs(),
        taken_at: clock::now(),
        job: "doctor".into(),
    };
    let take = Op::Take { path: path.clone(), record: record.clone(), replaces: None };
    let taken = one(backend, take).await.and_then(|answer| match answer {
        Answer::Taken => Ok(()),
        other => Err(said(other)),
    });
    // Also what was taken without our hearing of it.
    let removed = one(backend, Op::Remove { path: path.clone(), record }).await;
    taken?;
    match removed? {
        Answer::Removed => Ok(()),
        other => Err(format!("{} could be made and not be removed: {}", path.display(), said(other))),
    }
}

async fn one(backend: &dyn LockBackend, op: Op) -> Result<Answer, String> {
    let answers = backend.perform(vec![op]).await.map_err(|Unreachable { why, .. }| why)?;
    answers.into_iter().next().ok_or_else(|| "no answer".into())
}

fn said(answer: Answer) -> String {
    match answer {
        Answer::Failed(why) | Answer::Lost(why) => why,
        other => format!("unexpected answer {other:?}"),
    }
}
