//! Lock files and blocks: a file on this host or on a peer, and how to wait for it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use super::peer::{self, peer};
use crate::config::context::{Context, Report};
use crate::config::fields::{self, Fields};
use crate::config::keys;
use crate::config::model::{Block, Carrier, Location, LockFile, Place, Via, Wait};
use crate::config::raw::Node;

const DEFAULT_WAIT: Duration = Duration::from_secs(30);
/// Below this, waiting is a busy loop.
const SHORTEST_WAIT: Duration = Duration::from_millis(100);
/// What a shorter wait is taken for. An old file may say 0.
const REASONABLE_WAIT: Duration = Duration::from_secs(1);

/// Reads a job's `lock_files`.
pub(super) fn lock_files(job: &Fields<'_>) -> Option<Vec<LockFile>> {
    let found = files(job, "lock_files", "lock file")?;
    report_twice(job.ctx, &found, |line| {
        Report::error("this lock file stands twice in the job's list").help(format!("remove it here or in line {line}"))
    });
    Some(found.into_iter().map(|(_, location, wait)| LockFile { location, wait }).collect())
}

/// Reads a job's `blocks_on`.
pub(super) fn blocks_on(job: &Fields<'_>) -> Option<Vec<Block>> {
    let found = files(job, "blocks_on", "block")?;
    report_twice(job.ctx, &found, |line| {
        Report::warning("this block stands twice in the job's list").help(format!("remove it here or in line {line}"))
    });
    Some(found.into_iter().map(|(_, location, wait)| Block { location, wait }).collect())
}

type Found<'a> = (&'a Node, Location, Wait);

fn files<'a>(job: &Fields<'a>, key: &str, what: &str) -> Option<Vec<Found<'a>>> {
    if job.get(key).is_none() {
        return Some(Vec::new());
    }
    let nodes = job.list(key, "a list of files, each with `type` and `path`")?;
    let name = format!("a {what} of {}", job.name);
    let files: Vec<_> = nodes.iter().map(|node| file(job.ctx, node, name.clone())).collect();
    files.into_iter().collect()
}

fn file<'a>(ctx: &'a Context<'a>, node: &'a Node, name: String) -> Option<Found<'a>> {
    let is_remote = peer::is_remote(node);
    let kind = if is_remote { &keys::REMOTE_FILE } else { &keys::LOCAL_FILE };
    let fields = Fields::open(ctx, node, kind, name)?;
    fields.require("type");
    let kind = fields.read("type", "`local` or `remote`", peer::place);
    let place = if is_remote { remote(&fields) } else { Some(Place::Local) };
    let path = path(&fields, is_remote);
    let wait = wait(&fields);
    kind?;
    Some((node, Location { place: place?, path: path? }, wait?))
}

fn remote(fields: &Fields<'_>) -> Option<Place> {
    let peer = peer(fields, Carrier::Native);
    let via = match fields.get("via") {
        Some(_) => fields.read("via", "`exec` or `sftp`", via),
        None => Some(Via::Auto),
    };
    Some(Place::Remote(peer?, via?))
}

fn via(text: &str) -> Option<Via> {
    match text {
        "exec" => Some(Via::Exec),
        "sftp" => Some(Via::Sftp),
        _ => None,
    }
}

fn path(fields: &Fields<'_>, is_remote: bool) -> Option<PathBuf> {
    let (node, text) = fields.require_text("path")?;
    let is_below_home = is_remote && text.starts_with("~/");
    if is_remote && text.starts_with('~') && !is_below_home {
        let report = Report::error("the home of another user on the peer is not known here");
        let help = "write the path from the root on, or below `~/`, the home of the user who logs in".to_owned();
        fields.ctx.report(fields.ctx.part(node, 0..1), report.help(help));
        return None;
    }
    let path = if is_below_home {
        PathBuf::from(fields.ctx.expand(node, text)?)
    } else {
        fields.ctx.expand_path(node, text)?
    };
    let ends_in_name = path.file_name().is_some() && !text.ends_with('/') && !text.ends_with("/.");
    if !(path.is_absolute() || is_below_home) || !ends_in_name {
        fields.wrong("path", node, "the absolute path of a file");
        return None;
    }
    Some(path)
}

fn wait(fields: &Fields<'_>) -> Option<Wait> {
    let mut every = fields.duration("wait_time").unwrap_or(DEFAULT_WAIT);
    if let Some(node) = fields.get("wait_time").filter(|_| every < SHORTEST_WAIT) {
        let report = Report::warning("so short a \"wait_time\" is a busy loop: 1 s is taken");
        fields.ctx.report(node.span.clone(), report.help("write the seconds between two looks".to_owned()));
        every = REASONABLE_WAIT;
    }
    Some(Wait { every, timeout: fields.duration("timeout") })
}

fn report_twice(ctx: &Context<'_>, found: &[Found<'_>], report: impl Fn(usize) -> Report) {
    let mut lines = HashMap::new();
    for (node, location, _) in found {
        let line = ctx.line(node);
        if let Some(first) = lines.get(location) {
            let at = fields::peek(node, "path").unwrap_or(node);
            ctx.report(at.span.clone(), report(*first).label("again"));
        } else {
            lines.insert(location, line);
        }
    }
}
