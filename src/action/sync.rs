//! The command line of a `sync` action.
//!
//! The seam for another transport is [`remote`]: what rsync starts to reach the peer.

use std::ffi::{OsStr, OsString};
use std::sync::Arc;

use super::shards::{Group, Split, in_memory};
use super::{Plan, Runner, guard};
use crate::config::{Carrier, Peer, Route, Sync};
use crate::rsync::args::{self, Invocation, Remote};
use crate::rsync::expand::{self, ExpandError};
use crate::rsync::shards;
use crate::ssh::Transport;

/// Expands the sources on this host and puts the arguments together.
pub(super) async fn plan(runner: &Runner, sync: &Sync) -> Result<Plan, String> {
    let (named, dest) = match &sync.route {
        Route::Local => (here(runner, sync).await?, home(runner, sync)?),
        Route::Push(..) => (here(runner, sync).await?, sync.dest.clone()),
        Route::Pull(..) => (as_they_are(&sync.sources), home(runner, sync)?),
    };
    let sources: Vec<OsString> = named.iter().flat_map(|(_, paths)| paths).cloned().collect();
    let (peer, carrier, pull) = match &sync.route {
        Route::Local => (None, None, false),
        Route::Push(peer, carrier) => (Some(peer), Some(carrier), false),
        Route::Pull(peer, carrier) => (Some(peer), Some(carrier), true),
    };
    // Who names a program to reach the peer gets that.
    let transport = runner.transport.as_ref().filter(|_| carrier == Some(&Carrier::Native));
    let native = transport.is_some() && !args::has_rsh(&sync.opts);
    let remote = peer.map(|peer| remote(runner, transport, peer, pull));
    let split = split(runner, sync, &sources, &dest, remote.as_ref());
    let mut opts = match split {
        Some(_) => shards::final_options(&sync.opts),
        None => sync.opts.clone(),
    };
    let stdin = sync.list.as_deref().map(in_memory).transpose();
    let stdin = stdin.map_err(|error| format!("the list of files could not be kept in memory: {error}"))?;
    if stdin.is_some() {
        opts.extend(["--from0".into(), "--files-from=-".into()]);
    }
    let invocation =
        Invocation { opts: &opts, sources, dest: &dest, remote, dry_run: runner.dry_run, progress: runner.progress };
    let guard = guard::plan(sync, &named, &Invocation { opts: &sync.opts, ..invocation.clone() });
    let is_silent = !invocation.progress && !args::is_talkative(&sync.opts);
    Ok(Plan {
        program: "rsync".into(),
        args: args::argv(&invocation),
        is_rsync: true,
        is_silent,
        peer: peer.cloned(),
        native,
        split,
        guard,
        stdin: stdin.map(Arc::new),
        verification: None,
    })
}

/// The command lines of the rsyncs that share the work, if it is to be shared and can be.
fn split(
    runner: &Runner,
    sync: &Sync,
    sources: &[OsString],
    dest: &OsStr,
    remote: Option<&Remote<'_>>,
) -> Option<Split> {
    if sync.parallel < 2 || runner.dry_run || shards::is_dry_run(&sync.opts) {
        return None;
    }
    let groups = shards::groups(sources, matches!(sync.route, Route::Pull(..)));
    let Some(groups) = groups.filter(|groups| groups.len() <= sync.parallel) else {
        tracing::info!("the work is not shared: the sources may hold the same names, or are in too many directories");
        return None;
    };
    let (surveying, sharing) = (shards::survey_options(&sync.opts), shards::shard_options(&sync.opts));
    let directory = shards::destination(dest);
    let argv = |opts: &[OsString], sources, dest: &OsStr, dry_run: bool| {
        let progress = runner.progress && !dry_run;
        args::argv(&Invocation { opts, sources, dest, remote: remote.cloned(), dry_run, progress })
    };
    let lines = |group: shards::Group| Group {
        survey: argv(&surveying, group.sources, dest, true),
        shard: argv(&sharing, vec![group.root], &directory, false),
    };
    Some(Split {
        at_once: sync.parallel,
        groups: groups.into_iter().map(lines).collect(),
        names: shards::names(&sync.opts),
    })
}

fn remote<'a>(runner: &Runner, transport: Option<&Transport>, peer: &'a Peer, pull: bool) -> Remote<'a> {
    let words = match transport {
        Some(transport) => transport.rsh(),
        None => runner.pool.openssh_command(peer),
    };
    Remote { peer, pull, rsh: args::rsh_command(&words) }
}

/// Each source, with the paths that it stands for.
pub(super) type Named = Vec<(OsString, Vec<OsString>)>;

fn as_they_are(sources: &[OsString]) -> Named {
    sources.iter().map(|source| (source.clone(), vec![source.clone()])).collect()
}

/// Each source on this host, expanded.
pub(super) async fn here(runner: &Runner, sync: &Sync) -> Result<Named, String> {
    let (sources, home) = (sync.sources.clone(), runner.home.clone());
    if sources.iter().all(|source| expand::is_literal(source)) {
        return Ok(as_they_are(&sources));
    }
    // Reading directories may block for long.
    let expand_one = move |source: OsString| {
        let paths = expand::expand_sources(std::slice::from_ref(&source), home.as_deref())?;
        Ok((source, paths))
    };
    tokio::task::spawn_blocking(move || sources.into_iter().map(expand_one).collect::<Result<_, ExpandError>>())
        .await
        .map_err(|error| format!("expanding the source broke off: {error}"))?
        .map_err(|error| crate::error_chain(&error))
}

/// A destination here may begin with `~`; wildcards mean nothing there.
pub(super) fn home(runner: &Runner, sync: &Sync) -> Result<OsString, String> {
    expand::expand_home(&sync.dest, runner.home.as_deref()).map_err(|error| crate::error_chain(&error))
}
