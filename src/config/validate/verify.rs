//! `action: verify`. What it says of a sync is judged when all jobs are read, since the sync may be in another one.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::time::Duration;

use super::action::{Bounds, is_kind};
use super::limits::{self, Limits};
use crate::config::context::Report;
use crate::config::fields::{self, Fields, quoted};
use crate::config::keys;
use crate::config::model::{AGENT, Action, ActionId, ActionKind, Job, JobId, Route, Sync, Verify};
use crate::config::raw::{Node, Value};
use crate::config::value;
use crate::rsync::args;
use crate::rsync::guard::MaxDelete;
use crate::verify::order::MaxDrift;
use crate::verify::terms::{Depth, Promise};

/// A verification whose sync is not looked up yet.
pub(super) struct Unresolved<'a> {
    fields: Fields<'a>,
    /// Its place among the actions of its job.
    at: usize,
    id: ActionId,
    bounds: Bounds,
    of: (&'a Node, &'a str),
    terms: Terms,
}

struct Terms {
    depth: Depth,
    share: Option<f64>,
    max_drift: MaxDrift,
    max_lag: Option<Duration>,
    rate: Option<u64>,
    restore: usize,
    agent: Option<String>,
    stall_timeout: Option<Duration>,
}

/// Reads all but the sync.
pub(super) fn read<'a>(
    fields: Fields<'a>,
    at: usize,
    id: Option<ActionId>,
    bounds: Bounds,
    outer: &Limits,
) -> Option<Unresolved<'a>> {
    let of = fields.require_text("of");
    let terms = terms(&fields, outer);
    let (id, of, terms) = (id?, of?, terms?);
    Some(Unresolved { fields, at, id, bounds, of, terms })
}

fn terms(fields: &Fields<'_>, outer: &Limits) -> Option<Terms> {
    let level = fields.read("level", "`quick`, `meta` or `deep`", Depth::named);
    let share = fields.read("deep", "the part of all bytes that is read each day, as \"5%/day\"", share);
    let is_wrong = |key, is_none: bool| fields.get(key).is_some() && is_none;
    let wrong = is_wrong("level", level.is_none()) || is_wrong("deep", share.is_none());
    if let (Some(node), Some(_)) = (fields.get("deep"), fields.get("level")) {
        let report = Report::error(format!("\"level\" and \"deep\" do not stand together in {}", fields.name));
        let help = "`deep: 5%/day` is deep, and reads no more than that part each day; `level: deep` reads whatever is not known";
        fields.ctx.report(node.span.clone(), report.label("one of them too many").help(help.to_owned()));
    }
    let drift = "a number of entries, or a percentage as \"0.1%\"";
    let max_drift = fields.read("max_drift", drift, max_drift);
    let wrong = wrong || is_wrong("max_drift", max_drift.is_none());
    let max_lag = fields.positive_duration("max_lag", "leave it out for no bound");
    let rate = fields.read("rate", limits::A_RATE, limits::rate).filter(|rate| *rate > 0);
    let restore = fields.read("restore", "a number of files", value::integer).unwrap_or(0);
    let agent = match fields.get("agent") {
        None => Some(AGENT.to_owned()),
        Some(_) => agent(fields)?,
    };
    let said = fields.get("stall_timeout").is_some();
    let own = || fields.duration("stall_timeout").filter(|timeout| !timeout.is_zero());
    let stall_timeout = if said { own() } else { outer.stall_timeout };
    (!wrong).then_some(())?;
    let depth = if share.is_some() { Depth::Deep } else { level.unwrap_or(Depth::Quick) };
    let max_drift = max_drift.unwrap_or_default();
    Some(Terms { depth, share, max_drift, max_lag, rate: rate.map(|k| k * 1024), restore, agent, stall_timeout })
}

/// The outer `None` is an error.
fn agent(fields: &Fields<'_>) -> Option<Option<String>> {
    let (node, text) = fields.text("agent")?;
    if text == "none" {
        return Some(None);
    }
    if text.starts_with('-') || text.chars().any(char::is_control) {
        fields.wrong("agent", node, "a program on the peer, or `none`");
        return None;
    }
    Some(Some(text.to_owned()))
}

/// How closely to look, as one word: `quick`, `meta`, `deep`, or `deep:5%/day` with the part of all bytes that is read each day.
pub fn level(text: &str) -> Option<(Depth, Option<f64>)> {
    match text.split_once(':') {
        Some(("deep", part)) => Some((Depth::Deep, Some(share(part)?))),
        Some(_) => None,
        None => Some((Depth::named(text)?, None)),
    }
}

/// `5%/day` as 0.05.
fn share(text: &str) -> Option<f64> {
    let per_day = text.trim().strip_suffix("day")?.trim_end().strip_suffix('/')?;
    match MaxDelete::parse(per_day)? {
        MaxDelete::Percent(share) => (share > 0.0).then_some(share / 100.0),
        MaxDelete::Entries(_) => None,
    }
}

fn max_drift(text: &str) -> Option<MaxDrift> {
    Some(match MaxDelete::parse(text)? {
        MaxDelete::Percent(share) => MaxDrift::Share(share / 100.0),
        MaxDelete::Entries(entries) => MaxDrift::Entries(entries),
    })
}

/// The verifications of all jobs, and the syncs that they may be about.
#[derive(Default)]
pub(super) struct Gathered<'a> {
    /// The place of the job that is being read.
    job: usize,
    verifies: Vec<(usize, Unresolved<'a>)>,
    syncs: Vec<(usize, ActionId, Arc<Sync>)>,
}

impl<'a> Gathered<'a> {
    /// Goes on to the next job.
    pub(super) fn next_job(&mut self) {
        self.job += 1;
    }

    /// Takes a verification of this job.
    pub(super) fn verify(&mut self, verify: Unresolved<'a>) {
        self.verifies.push((self.job, verify));
    }

    /// Takes note of an action of this job that may be a sync.
    pub(super) fn note(&mut self, action: &Action) {
        if let ActionKind::Sync(sync) = &action.kind {
            self.syncs.push((self.job, action.id.clone(), Arc::new(sync.clone())));
        }
    }

    /// Gives each verification its sync, and its place in its job. `jobs` has those that could be read, `nodes` all of them.
    pub(super) fn resolve(self, jobs: &mut [Option<Job>], nodes: &[Node]) -> Option<()> {
        let mut complete = Some(());
        for (own, verify) in self.verifies {
            let found = verify.find(own, &self.syncs, nodes);
            match (found, jobs.get_mut(own).and_then(Option::as_mut)) {
                (Some(found), Some(job)) => {
                    let at = verify.at.min(job.actions.len());
                    job.actions.insert(at, verify.action(found));
                }
                _ => complete = None,
            }
        }
        complete
    }
}

/// A sync, by its names and as it is.
type Found = (JobId, ActionId, Arc<Sync>);

impl Unresolved<'_> {
    fn action(self, (job, of, sync): Found) -> Action {
        let Terms { depth, share, max_drift, max_lag, rate, restore, agent, stall_timeout } = self.terms;
        let verify = Verify { job, of, sync, depth, share, max_drift, max_lag, rate, restore, agent, stall_timeout };
        self.bounds.of(self.id, ActionKind::Verify(verify))
    }

    fn find(&self, own: usize, syncs: &[(usize, ActionId, Arc<Sync>)], nodes: &[Node]) -> Option<Found> {
        let (at, name) = self.named(own, nodes)?;
        // One that is wrong has said so itself.
        let (_, id, sync) = syncs.iter().find(|(job, id, _)| *job == at && id.as_str() == name)?;
        if let Some(objection) = objection(sync) {
            let report = Report::error(objection).label("what it makes cannot be compared with its source");
            self.fields.ctx.report(self.of.0.span.clone(), report);
            return None;
        }
        Some((JobId::new(fields::peek_text(&nodes[at], "id")?), id.clone(), Arc::clone(sync)))
    }

    /// Which sync is meant: one of the same job, or `JOB/SYNC`. Its job's place, and its name.
    fn named<'n>(&self, own: usize, nodes: &'n [Node]) -> Option<(usize, &'n str)> {
        let (node, text) = self.of;
        let syncs = syncs(own, nodes);
        if let Some((_, at, name)) = syncs.iter().find(|(spelling, ..)| spelling == text) {
            return Some((*at, name));
        }
        let is_other = actions(&nodes[own]).any(|action| fields::peek_text(action, "id") == Some(text));
        let spellings = || syncs.iter().map(|(spelling, ..)| spelling.as_str());
        let message = match (is_other, keys::nearest(text, spellings())) {
            (true, _) => format!("{} is no sync", quoted(text)),
            (false, Some(nearest)) => format!("there is no sync {}, did you mean {}?", quoted(text), quoted(nearest)),
            (false, None) => format!("there is no sync {}", quoted(text)),
        };
        let help = match spellings().map(quoted).collect::<Vec<_>>() {
            none if none.is_empty() => "what a sync makes is verified, and no job has one".to_owned(),
            names => format!("there are {}", names.join(", ")),
        };
        let report = Report::error(message).label("the id of a sync in this job, or JOB/SYNC");
        self.fields.ctx.report(node.span.clone(), report.help(help));
        None
    }
}

/// All syncs as `of` may name them, those of the own job first: how, in which job, their ids.
fn syncs(own: usize, nodes: &[Node]) -> Vec<(String, usize, &str)> {
    let mut found = Vec::new();
    for at in std::iter::once(own).chain((0..nodes.len()).filter(|at| *at != own)) {
        let ids = actions(&nodes[at]).filter(|action| is_kind(action, "sync"));
        for id in ids.filter_map(|action| fields::peek_text(action, "id")) {
            let job = fields::peek_text(&nodes[at], "id").unwrap_or_default();
            found.push((if at == own { id.to_owned() } else { format!("{job}/{id}") }, at, id));
        }
    }
    found
}

fn actions(job: &Node) -> impl Iterator<Item = &Node> {
    let nodes: &[Node] = match fields::peek(job, "actions").map(|node| &node.value) {
        Some(Value::List(nodes)) => nodes,
        _ => &[],
    };
    nodes.iter()
}

/// Why what a sync makes cannot be verified.
fn objection(sync: &Sync) -> Option<String> {
    if let Err(refusal) = Promise::of(&sync.opts) {
        return Some(refusal.to_string());
    }
    let is_elsewhere = |path: &OsString| args::looks_remote(path.as_bytes());
    let has_wildcards = |path: &OsString| path.as_bytes().iter().any(|byte| b"*?[".contains(byte));
    let there: &[OsString] = match sync.route {
        Route::Local => {
            let elsewhere = sync.sources.iter().chain([&sync.dest]).find(|path| is_elsewhere(path))?;
            let elsewhere = quoted(&elsewhere.to_string_lossy());
            return Some(format!(
                "a sync with {elsewhere} cannot be verified: that is not reached as the peer of a remote job"
            ));
        }
        Route::Push(..) => std::slice::from_ref(&sync.dest),
        Route::Pull(..) => &sync.sources,
    };
    if let (Route::Pull(..), Some(pattern)) = (&sync.route, there.iter().find(|path| has_wildcards(path))) {
        let pattern = quoted(&pattern.to_string_lossy());
        return Some(format!(
            "a sync that pulls {pattern} cannot be verified: which paths that means only the peer's shell knows"
        ));
    }
    let of_a_user = |path: &&OsString| {
        path.as_bytes().strip_prefix(b"~").is_some_and(|rest| !rest.is_empty() && !rest.starts_with(b"/"))
    };
    let path = quoted(&there.iter().find(of_a_user)?.to_string_lossy());
    Some(format!("a sync with {path} cannot be verified: whose home that is only the peer's shell knows"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_part_of_all_bytes_each_day() {
        for (text, expected) in [
            ("5%/day", Some(0.05)),
            (" 0.5 % / day ", Some(0.005)),
            ("100%/day", Some(1.0)),
            ("0%/day", None),
            ("101%/day", None),
            ("5/day", None),
            ("5%", None),
            ("5%/week", None),
        ] {
            assert_eq!(share(text), expected, "{text}");
        }
    }

    #[test]
    fn a_level_is_one_word() {
        assert_eq!(level("meta"), Some((Depth::Meta, None)));
        assert_eq!(level("deep:10%/day"), Some((Depth::Deep, Some(0.1))));
        for wrong in ["", "quick:5%/day", "deep:", "deep:5", "Deep"] {
            assert_eq!(level(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn drift_is_a_number_or_a_share() {
        assert_eq!(max_drift("10"), Some(MaxDrift::Entries(10)));
        assert_eq!(max_drift("0.5%"), Some(MaxDrift::Share(0.005)));
        assert_eq!(max_drift("-1"), None);
    }
}
