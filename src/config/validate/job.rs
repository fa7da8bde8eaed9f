//! A job: its id, where it runs to, when, what it waits for and holds, and its actions.

use std::sync::Arc;

use super::action::action;
use super::file::{blocks_on, lock_files};
use super::notify::notify;
use super::peer::{self, peer};
use super::when::Defaults;
use super::{Seen, carrier, hook, id};
use crate::config::context::{Context, Report};
use crate::config::fields::{self, Fields, quoted};
use crate::config::keys;
use crate::config::model::{Action, Carrier, Job, JobId, Peer, Target};
use crate::config::raw::Node;

/// Reads one job.
pub(super) fn job(
    ctx: &Context<'_>,
    node: &Node,
    (defaults, transport, targets): (&Defaults, Carrier, &[Arc<Target>]),
    ids: &mut Seen,
) -> Option<Job> {
    let is_remote = peer::is_remote(node);
    let kind = if is_remote { &keys::REMOTE_JOB } else { &keys::LOCAL_JOB };
    let name = match fields::peek_text(node, "id") {
        Some(id) => format!("job {}", quoted(id)),
        None => "this job".to_owned(),
    };
    let fields = Fields::open(ctx, node, kind, name)?;
    let id = id(&fields, "id").map(|(node, id)| {
        ids.note(ctx, node, id);
        JobId::new(id)
    });
    fields.require("type");
    let kind = fields.read("type", "`local` or `remote`", peer::place);
    let carrier = if is_remote { carrier(&fields, transport) } else { Some(transport) };
    let peer = if is_remote { peer(&fields, carrier.unwrap_or_default()).map(Some) } else { Some(None) };
    let schedule = defaults.of_job(&fields);
    let lock_files = lock_files(&fields);
    let blocks_on = blocks_on(&fields);
    let mut action_ids = Seen::new("action id");
    let actions = actions(&fields, is_remote, peer.clone().flatten().zip(carrier).as_ref(), &mut action_ids);
    let [before, on_failure, after] = hook::HOOKS.map(|key| hook::hooks(&fields, key, &mut action_ids));
    let max_age = fields.positive_duration("max_age", "leave it out for no bound");
    let notify = notify(&fields);
    kind?;
    carrier?;
    Some(Job {
        id: id?,
        schedule: schedule?,
        peer: peer?,
        lock_files: lock_files?,
        blocks_on: blocks_on?,
        before: before?,
        actions: actions?,
        on_failure: on_failure?,
        after: after?,
        max_age,
        notify: notify?.unwrap_or_else(|| targets.to_vec()),
    })
}

fn actions(job: &Fields<'_>, is_remote: bool, peer: Option<&(Peer, Carrier)>, ids: &mut Seen) -> Option<Vec<Action>> {
    job.require("actions")?;
    let nodes = job.list("actions", "a list of actions, each with `action: sync` or `action: command`")?;
    if nodes.is_empty() {
        let report = Report::warning(format!("{} has no actions: it will do nothing", job.name));
        job.ctx.report(job.get("actions")?.span.clone(), report);
    }
    let actions: Vec<_> = nodes.iter().map(|node| action(job, node, is_remote, peer, ids)).collect();
    actions.into_iter().collect()
}
