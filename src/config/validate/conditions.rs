//! What a job depends on: `when` and `after`.

use super::action;
use super::reach::{self, Said, Site};
use crate::config::context::Report;
use crate::config::fields::{self, Fields, quoted};
use crate::config::keys;
use crate::config::model::{Carrier, Condition, Job, JobId, Peer};
use crate::config::raw::{Node, Value};
use crate::config::ssh_config::jump;
use crate::config::value;

/// The conditions of a job, whose own peer is `peer`.
pub(super) fn when(job: &Fields<'_>, peer: Option<&Peer>) -> Option<Vec<Condition>> {
    let Some(nodes) = job.one_or_list("when") else { return Some(Vec::new()) };
    let conditions: Vec<_> = nodes.iter().map(|node| condition(job, node, peer)).collect();
    conditions.into_iter().collect()
}

fn condition(job: &Fields<'_>, node: &Node, peer: Option<&Peer>) -> Option<Condition> {
    let fields = Fields::open(job.ctx, node, &keys::CONDITION, format!("\"when\" of {}", job.name))?;
    let kinds = ["mounted", "reachable", "on_ac_power", "command"];
    let there: Vec<&str> = kinds.into_iter().filter(|key| fields.get(key).is_some()).collect();
    let &[kind] = &there[..] else {
        let report =
            Report::error(format!("{} must name one condition", fields.name)).label(format!("names {}", there.len()));
        let help = format!("one of {}; several are a list of several", kinds.join(", "));
        job.ctx.report(node.span.clone(), report.help(help));
        return None;
    };
    match kind {
        "mounted" => {
            let (node, text) = fields.text("mounted")?;
            let path = fields.ctx.expand_path(node, text)?;
            if path.is_relative() {
                fields.wrong("mounted", node, "an absolute path");
                return None;
            }
            Some(Condition::Mounted(path))
        }
        "reachable" => reachable(&fields, peer).map(Condition::Reachable),
        "on_ac_power" => {
            let only = |text: &str| value::boolean(text).filter(|on| *on);
            fields.read("on_ac_power", "`true`", only).map(|_| Condition::OnAcPower)
        }
        _ => action::command(&fields).map(Condition::Command),
    }
}

/// The job's own peer if it has that name, else one of which the rest is known from ssh_config and defaults.
fn reachable(fields: &Fields<'_>, own: Option<&Peer>) -> Option<Peer> {
    let (node, text) = fields.text("reachable")?;
    if let Some(own) = own.filter(|own| own.host == text) {
        return Some(own.clone());
    }
    let jumps = jump::jumps(text).unwrap_or_default();
    let [jump] = &jumps[..] else {
        fields.wrong("reachable", node, "a peer, as \"backup01\" or \"[user@]host[:port]\"");
        return None;
    };
    let (user, host, port) = (jump.user.clone(), jump.host.clone(), jump.port);
    let said = Said { user, host, port, private_key: None, way: None };
    Site { ctx: fields.ctx, node, by: Carrier::Native, local_user: reach::local_user(fields.ctx) }.peer(said)
}

/// The names in `after`; [`judge_after`] says whether they can be. Its mappings are commands.
pub(super) fn after(job: &Fields<'_>) -> Option<Vec<JobId>> {
    let Some(nodes) = job.one_or_list("after") else { return Some(Vec::new()) };
    let names = nodes.iter().filter(|node| matches!(node.value, Value::Scalar(_)));
    let ids: Vec<_> = names.map(|node| job.text_node("after", node).map(|(_, id)| JobId::new(id))).collect();
    ids.into_iter().collect()
}

/// Reports what a job comes after, and cannot: only a job before it that runs in the same runs.
pub(super) fn judge_after(top: &Fields<'_>, node: &Node, job: &Job, before: &[Job]) {
    let Some(after) = fields::peek(node, "after") else { return };
    for id in &job.after_jobs {
        let Some(named) = before.iter().find(|earlier| earlier.id == *id) else {
            let report = Report::error(format!(
                "there is no job {} before job {}",
                quoted(id.as_str()),
                quoted(job.id.as_str())
            ));
            let help = "`after` names jobs that stand before this one; a command there is `- command: …`".to_owned();
            top.ctx.report(after.span.clone(), report.help(help));
            continue;
        };
        if named.schedule.own || job.schedule.own {
            let (id, job) = (quoted(id.as_str()), quoted(job.id.as_str()));
            let report = Report::error(format!("job {job} is never in one run with job {id}"));
            let help = "a job with a schedule of its own runs by itself; `after` means jobs that share the instance's schedule";
            top.ctx.report(after.span.clone(), report.help(help.to_owned()));
        }
    }
}
