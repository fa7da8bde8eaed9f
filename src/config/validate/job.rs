//! A job: its id, where it runs to, when, what it waits for and holds, and its actions.

use std::sync::Arc;

use jiff::tz::TimeZone;

use super::action::{Read, action};
use super::conditions;
use super::file::{blocks_on, lock_files};
use super::limits::Limits;
use super::notify::notify;
use super::peer::{self, peer};
use super::verify::Gathered;
use super::when;
use super::{Seen, carrier, hook, id};
use crate::config::context::{Context, Report};
use crate::config::fields::{self, Fields, quoted};
use crate::config::keys;
use crate::config::model::{Action, Carrier, Job, JobId, Peer, Target};
use crate::config::raw::Node;
use crate::config::value;

/// What holds for every job that does not say otherwise.
pub(super) type Defaults<'a> = (&'a when::Defaults, Carrier, &'a Limits, &'a [Arc<Target>]);

/// Reads one job. Its verifications and its syncs are gathered: the ones may be about the others of another job.
pub(super) fn job<'a>(
    ctx: &'a Context<'a>,
    node: &'a Node,
    (defaults, transport, limits, targets): Defaults<'_>,
    ids: &mut Seen,
    gathered: &mut Gathered<'a>,
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
    let when = conditions::when(&fields, peer.as_ref().and_then(Option::as_ref));
    let after_jobs = conditions::after(&fields);
    let retries = fields.read("retries", "a whole number, 0 or more", value::integer).unwrap_or(0);
    let limits = Limits::read(&fields, limits);
    let timezone = schedule.as_ref().map_or(TimeZone::UTC, |schedule| schedule.timezone.clone());
    let mut action_ids = Seen::new("action id");
    let peer_of_syncs = peer.clone().flatten().zip(carrier);
    let actions = actions(&fields, is_remote, peer_of_syncs.as_ref(), (&limits, timezone), &mut action_ids, gathered);
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
        when: when?,
        after_jobs: after_jobs?,
        retries,
        on_failure: on_failure?,
        after: after?,
        max_age,
        notify: notify?.unwrap_or_else(|| targets.to_vec()),
    })
}

fn actions<'a>(
    job: &Fields<'a>,
    is_remote: bool,
    peer: Option<&(Peer, Carrier)>,
    limits: (&Limits, TimeZone),
    ids: &mut Seen,
    gathered: &mut Gathered<'a>,
) -> Option<Vec<Action>> {
    job.require("actions")?;
    let nodes =
        job.list("actions", "a list of actions, each with `action: sync`, `action: command` or `action: verify`")?;
    if nodes.is_empty() {
        let report = Report::warning(format!("{} has no actions: it will do nothing", job.name));
        job.ctx.report(job.get("actions")?.span.clone(), report);
    }
    let mut complete = Some(Vec::new());
    for at in nodes.iter().enumerate() {
        match action(job, at, is_remote, peer, &limits, ids) {
            Some(Read::Verify(verify)) => gathered.verify(verify),
            Some(Read::Action(action)) => {
                gathered.note(&action);
                complete.as_mut().into_iter().for_each(|actions| actions.push(action.clone()));
            }
            None => complete = None,
        }
    }
    complete
}
