//! `before`, `on_failure` and `after` of a job: commands around its actions. What is no mapping in `after` is the name of a job, for
//! `conditions`.

use super::Seen;
use super::action::{Bounds, command};
use crate::config::fields::Fields;
use crate::config::keys;
use crate::config::model::{Action, ActionId, ActionKind};
use crate::config::raw::{Node, Value};

/// The keys, in the order in which they come in a job's life.
pub(super) const HOOKS: [&str; 3] = ["before", "on_failure", "after"];

/// Reads the commands of one of them. Each has an id of our own, `before-1`, which shares its name space with the job's actions.
pub(super) fn hooks(job: &Fields<'_>, key: &str, ids: &mut Seen) -> Option<Vec<Action>> {
    if job.get(key).is_none() {
        return Some(Vec::new());
    }
    let nodes = match key {
        // Texts there name jobs.
        "after" => match job.get(key) {
            Some(node) if matches!(node.value, Value::Map(_)) => {
                job.wrong(key, node, "a list of commands, each with `command`, and of jobs' names");
                return None;
            }
            _ => job.one_or_list(key)?,
        },
        _ => job.list(key, "a list of commands, each with `command`")?,
    };
    let commands = nodes.iter().filter(|node| key != "after" || !matches!(node.value, Value::Scalar(_)));
    let hooks: Vec<_> = commands.enumerate().map(|(index, node)| hook(job, key, index + 1, node, ids)).collect();
    hooks.into_iter().collect()
}

fn hook(job: &Fields<'_>, key: &str, number: usize, node: &Node, ids: &mut Seen) -> Option<Action> {
    let id = format!("{key}-{number}");
    let fields = Fields::open(job.ctx, node, &keys::HOOK, format!("{id} of {}", job.name))?;
    ids.note(job.ctx, node, &id);
    let bounds = Bounds::read(&fields, true);
    let kind = command(&fields).map(ActionKind::Command)?;
    Some(bounds.of(ActionId::new(id), kind))
}
