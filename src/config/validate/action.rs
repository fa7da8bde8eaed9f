//! An action: a sync, a command or a verification.

use std::ffi::OsString;
use std::time::Duration;

use jiff::tz::TimeZone;

use super::limits::Limits;
use super::verify::{self, Unresolved};
use super::{Seen, id, opts};
use crate::config::context::Report;
use crate::config::fields::{self, Fields, quoted};
use crate::config::keys::{self, Kind};
use crate::config::model::{Action, ActionId, ActionKind, Bwlimit, Carrier, Command, Peer, Route, Sync};
use crate::config::raw::{Node, Value};
use crate::config::value;

const DEFAULT_RETRY_WAIT: Duration = Duration::from_secs(10);
/// rsync's code for files that vanished while it ran; it counts as success by default.
const VANISHED: i32 = 24;

/// What was read of an action.
pub(super) enum Read<'a> {
    /// All of it.
    Action(Action),
    /// All but the sync that it is about.
    Verify(Unresolved<'a>),
}

/// Whether an action is said to be of a kind.
pub(super) fn is_kind(node: &Node, kind: &str) -> bool {
    fields::peek_text(node, "action").is_some_and(|text| text.eq_ignore_ascii_case(kind))
}

/// The kind of an action: its name, and its keys. Which one it is will be asked for where it does not say so; its other keys are judged by what it looks like.
fn kind(node: &Node) -> (&'static str, &'static Kind) {
    const KINDS: [(&str, &Kind); 3] = [("sync", &keys::SYNC), ("command", &keys::COMMAND), ("verify", &keys::VERIFY)];
    let said = KINDS.iter().find(|(name, _)| is_kind(node, name));
    let seems = || match (fields::peek(node, "command"), fields::peek(node, "of")) {
        (Some(_), _) => &KINDS[1],
        (None, Some(_)) => &KINDS[2],
        (None, None) => &KINDS[0],
    };
    *said.unwrap_or_else(seems)
}

/// Reads one action of a job, which is the one at this place. `peer` is `None` in a local job, and in a remote one whose peer is wrong.
pub(super) fn action<'a>(
    job: &Fields<'a>,
    (at, node): (usize, &'a Node),
    is_remote: bool,
    peer: Option<&(Peer, Carrier)>,
    limits: &(&Limits, TimeZone),
    ids: &mut Seen,
) -> Option<Read<'a>> {
    let (what, keys) = kind(node);
    let name = match fields::peek_text(node, "id") {
        Some(id) if what == "verify" => format!("verification {} of {}", quoted(id), job.name),
        None if what == "verify" => format!("this verification of {}", job.name),
        Some(id) => format!("{what} {} of {}", quoted(id), job.name),
        None => format!("this {what} of {}", job.name),
    };
    let fields = Fields::open(job.ctx, node, keys, name)?;
    let id = id(&fields, "id").map(|(node, id)| {
        ids.note(job.ctx, node, id);
        ActionId::new(id)
    });
    fields.require("action");
    let word = fields.read("action", "`sync`, `command` or `verify`", |text| {
        ["sync", "command", "verify"].iter().any(|kind| text.eq_ignore_ascii_case(kind)).then_some(())
    });
    let bounds = Bounds::read(&fields, what != "sync");
    let kind = match what {
        "verify" => {
            let read = verify::read(fields, at, id, bounds, limits.0);
            return word.and(read).map(Read::Verify);
        }
        "command" => command(&fields).map(ActionKind::Command),
        _ => sync(&fields, is_remote, peer, limits).map(ActionKind::Sync),
    };
    word?;
    Some(Read::Action(bounds.of(id?, kind?)))
}

/// What every kind of action may say about its end.
pub(super) struct Bounds {
    timeout: Option<Duration>,
    success_exit_codes: Vec<i32>,
    retries: u32,
    retry_wait: Duration,
}

impl Bounds {
    /// Reads them. `ends_with_zero` is whether only that is success where nothing else is said.
    pub(super) fn read(fields: &Fields<'_>, ends_with_zero: bool) -> Self {
        Self {
            timeout: fields.positive_duration("timeout", "leave it out for no bound"),
            success_exit_codes: success_exit_codes(fields, ends_with_zero),
            retries: fields.read("retries", "a whole number, 0 or more", value::integer).unwrap_or(0),
            retry_wait: fields.duration("retry_wait").unwrap_or(DEFAULT_RETRY_WAIT),
        }
    }

    pub(super) fn of(self, id: ActionId, kind: ActionKind) -> Action {
        let Self { timeout, success_exit_codes, retries, retry_wait } = self;
        Action { id, kind, timeout, success_exit_codes, retries, retry_wait }
    }
}

fn success_exit_codes(fields: &Fields<'_>, ends_with_zero: bool) -> Vec<i32> {
    let said = fields.accepts("success_exit_codes").then(|| fields.one_or_list("success_exit_codes")).flatten();
    let Some(nodes) = said else {
        return if ends_with_zero { vec![0] } else { vec![0, VANISHED] };
    };
    let code = |text: &str| value::integer(text).filter(|code| (0..=255).contains(code));
    let mut codes: Vec<i32> = nodes
        .iter()
        .filter_map(|node| fields.read_node("success_exit_codes", node, "exit codes, 0 to 255", code))
        .collect();
    codes.sort_unstable();
    codes.dedup();
    codes
}

fn sync(
    fields: &Fields<'_>,
    is_remote: bool,
    peer: Option<&(Peer, Carrier)>,
    (outer, timezone): &(&Limits, TimeZone),
) -> Option<Sync> {
    let sources = sources(fields);
    let dest = fields.require_text("dest").and_then(|(node, text)| {
        warn_of_quotes(fields, node, text);
        fields.ctx.expand(node, text)
    });
    let opts = opts::read(fields, is_remote);
    let parallel = opts::parallel(fields, opts.as_deref());
    let route = route(fields, is_remote, peer);
    let limits = Limits::read(fields, outer);
    limits.refuse_own_bwlimit(fields, opts.as_deref().unwrap_or_default());
    let allow_empty_source = fields.read("allow_empty_source", "`true` or `false`", value::boolean).unwrap_or(false);
    let opts = opts?.into_iter().map(|word| word.text).collect();
    Some(Sync {
        sources: sources?,
        dest: dest?,
        opts,
        parallel: parallel?,
        max_delete: limits.max_delete,
        allow_empty_source,
        stall_timeout: limits.stall_timeout,
        bwlimit: limits.bwlimit.map(|timetable| Bwlimit { timetable, timezone: timezone.clone() }),
        route: route?,
        list: None,
    })
}

fn sources(fields: &Fields<'_>) -> Option<Vec<OsString>> {
    let node = fields.require("source")?;
    let nodes = fields.one_or_list("source")?;
    if nodes.is_empty() {
        fields.wrong("source", node, "a path or a list of paths");
        return None;
    }
    for node in nodes {
        if let Value::Scalar(text) = &node.value {
            warn_of_quotes(fields, node, text);
        }
    }
    expand_all(fields, "source", nodes, "a path or a list of paths")
}

/// Quotes around a path, and a backslash before a blank, were the shell's to remove in 1.x.
fn warn_of_quotes(fields: &Fields<'_>, node: &Node, text: &str) {
    let is_quoted = |quote| text.len() > 1 && text.starts_with(quote) && text.trim_end_matches('/').ends_with(quote);
    if is_quoted('\'') || is_quoted('"') || text.contains("\\ ") {
        let report = Report::warning("quotes and backslashes are part of this name: no shell removes them");
        fields.ctx.report(node.span.clone(), report.help("write the path as it is; blanks need nothing".to_owned()));
    }
}

fn route(fields: &Fields<'_>, is_remote: bool, peer: Option<&(Peer, Carrier)>) -> Option<Route> {
    let pull = fields.read("direction", "`push` or `pull`", |text| match text.to_ascii_lowercase().as_str() {
        "push" => Some(false),
        "pull" => Some(true),
        _ => None,
    });
    if let Some(node) = fields.get("direction").filter(|_| !is_remote && pull.is_some()) {
        let report = Report::error("a local job has no \"direction\"");
        fields.ctx.report(node.span.clone(), report.help("remove it, or set `type: remote` in the job".to_owned()));
    }
    if !is_remote {
        return Some(Route::Local);
    }
    let (peer, carrier) = peer?.clone();
    Some(if pull == Some(true) { Route::Pull(peer, carrier) } else { Route::Push(peer, carrier) })
}

/// A command with arguments is executed directly; without (also with an empty list) it is a line for the shell, whose
/// `$` are the shell's own.
pub(super) fn command(fields: &Fields<'_>) -> Option<Command> {
    let command = fields.require_text("command");
    let args = match fields.get("args") {
        Some(_) => fields.list("args", "a list of arguments")?,
        None => &[],
    };
    if args.is_empty() {
        return Some(Command::Shell(command?.1.into()));
    }
    let args = expand_all(fields, "args", args, "a list of arguments, each a text");
    let (node, text) = command?;
    Some(Command::Exec { program: fields.ctx.expand(node, text)?, args: args? })
}

/// Each element with its variables replaced. An argument may be empty, a path may not.
pub(super) fn expand_all(fields: &Fields<'_>, key: &str, nodes: &[Node], expected: &str) -> Option<Vec<OsString>> {
    let expand = |node: &Node| match &node.value {
        Value::Scalar(text) if !text.contains('\0') && (matches!(key, "args" | "command") || !text.is_empty()) => {
            fields.ctx.expand(node, text)
        }
        _ => {
            fields.wrong(key, node, expected);
            None
        }
    };
    let expanded: Vec<_> = nodes.iter().map(expand).collect();
    expanded.into_iter().collect()
}
