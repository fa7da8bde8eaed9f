//! From the tree to [`Config`], collecting everything that is wrong on the way.
//!
//! Each function reads one kind of mapping and returns `None` (or a default) where that has failed; the caller then
//! throws the whole away, since something was reported.

mod access;
mod action;
mod conditions;
mod file;
mod hook;
mod job;
mod limits;
pub(super) mod notify;
mod opts;
mod peer;
mod reach;
#[cfg(test)]
mod tests;
pub(super) mod verify;
mod when;

use std::collections::HashMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::Loaded;
use super::context::{Context, Report};
use super::diagnostics::{Diagnostics, Severity};
use super::fields::{Fields, quoted};
use super::keys;
use super::model::{Carrier, Config, HistoryPolicy, HostKeyPolicy, Job, Metrics, SshPolicy, Unsaid};
use super::raw::{self, Node, Value};
use super::ssh_config::Files;
use super::value;

const DEFAULT_HISTORY_AGE: Duration = Duration::from_secs(180 * 86_400);
const DEFAULT_HISTORY_SIZE: u64 = 512 << 20;
const DEFAULT_OUTPUT_MAX: u64 = 256 << 10;
const DEFAULT_LEASE: Duration = Duration::from_secs(60);
/// A lease is refreshed each quarter of it; below this a slow connection alone would lose it.
const SHORTEST_LEASE: Duration = Duration::from_secs(3);
const DEFAULT_KILL_GRACE: Duration = Duration::from_secs(10);
const DEFAULT_CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The id is part of a file name, whose length is bounded by 255 bytes.
const LONGEST_ID: usize = 200;

/// Reads and judges a configuration.
pub(super) fn validate(
    path: &Path,
    text: &str,
    env: &dyn Fn(&str) -> Option<OsString>,
    files: &dyn Files,
) -> Result<Loaded, Diagnostics> {
    let ctx = Context::new(text, env, files);
    let config = match raw::parse(text) {
        Ok(root) => config(&ctx, &root, path),
        Err(error) => {
            ctx.report(error.span, Report::error(error.message).help(error.help));
            None
        }
    };
    let found = ctx.into_found();
    let is_wrong = found.iter().any(|diagnostic| diagnostic.severity == Severity::Error);
    let diagnostics = Diagnostics::new(path, text, found);
    match config {
        Some(config) if !is_wrong => Ok(Loaded { config, warnings: diagnostics }),
        _ => Err(diagnostics),
    }
}

fn config(ctx: &Context<'_>, root: &Node, path: &Path) -> Option<Config> {
    if root.value == Value::Null {
        let report = Report::error("the configuration is empty");
        ctx.report(0..0, report.help("it needs at least `rsync_id`, `cron_schedule` and `jobs`".to_owned()));
        return None;
    }
    let fields = Fields::open(ctx, root, &keys::TOP, "the configuration".to_owned())?;
    let rsync_id = rsync_id(&fields);
    let defaults = when::Defaults::read(&fields);
    let metrics = metrics(&fields);
    let history = history(&fields, rsync_id.as_deref().unwrap_or_default());
    let ssh = ssh_policy(&fields);
    let pid_file_dir = pid_file_dir(&fields);
    let lease = lease(&fields);
    let kill_grace = fields.duration("kill_grace").unwrap_or(DEFAULT_KILL_GRACE);
    let carrier = carrier(&fields, Carrier::default());
    let at_once =
        fields.read("concurrency", "a whole number, 1 or more", |text| value::integer(text).filter(|n| *n > 0));
    let limits = limits::Limits::read(&fields, &limits::Limits::default());
    let targets = notify::notify(&fields).map(Option::unwrap_or_default);
    let everywhere = targets.as_deref().unwrap_or_default();
    let jobs = jobs(&fields, (&defaults, carrier.unwrap_or_default(), &limits, everywhere));
    carrier?;
    targets?;
    Some(Config {
        path: path.to_owned(),
        rsync_id: rsync_id?,
        pid_file_dir: pid_file_dir?,
        metrics: metrics?,
        history: history?,
        ssh: ssh?,
        lease,
        kill_grace,
        concurrency: at_once.unwrap_or(1),
        jobs: jobs?,
    })
}

/// `transport`, of the file or of a job.
fn carrier(fields: &Fields<'_>, default: Carrier) -> Option<Carrier> {
    let word = |text: &str| match text {
        "native" => Some(Carrier::Native),
        "openssh" => Some(Carrier::OpenSsh),
        _ => None,
    };
    match fields.get("transport") {
        Some(_) => fields.read("transport", "`native` or `openssh`", word),
        None => Some(default),
    }
}

fn rsync_id(fields: &Fields<'_>) -> Option<Arc<str>> {
    let (node, id) = id(fields, "rsync_id")?;
    if id.contains('/') || id.len() > LONGEST_ID {
        let report =
            Report::error("\"rsync_id\" is part of the pid file's name: it cannot contain `/` or be that long");
        fields.ctx.report(node.span.clone(), report.label("not a file name"));
        return None;
    }
    Some(id.into())
}

/// A name that goes into logs and metrics: no control characters.
fn id<'a>(fields: &Fields<'a>, key: &str) -> Option<(&'a Node, &'a str)> {
    let (node, id) = fields.require_text(key)?;
    if id.chars().any(char::is_control) {
        let report = Report::error(format!("\"{key}\" contains a control character"));
        fields.ctx.report(node.span.clone(), report.label(format!("found {}", quoted(id))));
        return None;
    }
    if id.trim() != id {
        let report = Report::error(format!("\"{key}\" begins or ends with a blank"));
        fields.ctx.report(node.span.clone(), report.label(format!("found {}", quoted(id))));
        return None;
    }
    Some((node, id))
}

fn lease(fields: &Fields<'_>) -> Duration {
    let lease = fields.duration("lease").unwrap_or(DEFAULT_LEASE);
    if let Some(node) = fields.get("lease").filter(|_| lease < SHORTEST_LEASE) {
        let report = Report::error("\"lease\" must be at least 3 s");
        let help = "a lock is lost when it could not be refreshed for this long, and a busy host or a slow connection can \
                    need a second or two";
        fields.ctx.report(node.span.clone(), report.label("too short").help(help.to_owned()));
    }
    lease
}

/// A path of ours. A relative one works as it did in 1.x, from the directory that the daemon is started in.
fn own_path(fields: &Fields<'_>, key: &str, node: &Node, text: &str) -> Option<PathBuf> {
    let path = fields.ctx.expand_path(node, text)?;
    if path.is_relative() {
        let report =
            Report::warning(format!("\"{key}\" is relative to the directory that rsyncdirector is started in"));
        fields.ctx.report(node.span.clone(), report.help("write the path from the root on".to_owned()));
    }
    Some(path)
}

fn pid_file_dir(fields: &Fields<'_>) -> Option<PathBuf> {
    if fields.get("pid_file_dir").is_some() {
        let (node, text) = fields.text("pid_file_dir")?;
        return own_path(fields, "pid_file_dir", node, text);
    }
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/run/rsyncdirector"));
    }
    let runtime_dir = fields.ctx.env("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty());
    if runtime_dir.is_none() {
        let help = "the default is a directory in $XDG_RUNTIME_DIR, which is not set; write for example \
                    `pid_file_dir: ~/.rsyncdirector`";
        fields.missing("pid_file_dir", Some(help.to_owned()));
    }
    Some(PathBuf::from(runtime_dir?).join("rsyncdirector"))
}

fn metrics(top: &Fields<'_>) -> Option<Metrics> {
    let nothing = Node { value: Value::Map(Vec::new()), span: 0..0 };
    let node = top.get("metrics").unwrap_or(&nothing);
    let fields = Fields::open(top.ctx, node, &keys::METRICS, "`metrics`".to_owned())?;
    let address = "an IP address to listen on, as \"0.0.0.0\", \"127.0.0.1\" or \"::\"";
    let port = "a port, 1 to 65535, or 0 for any that is free";
    let count = "a whole number, 0 or more";
    let addr = fields.read("addr", address, value::address).unwrap_or_else(|| [0, 0, 0, 0].into());
    let access::Access { page_auth, metrics_auth, tls } = access::access(&fields, addr);
    Some(Metrics {
        addr,
        port: fields.read("port", port, value::integer).unwrap_or(9090),
        startup_timeout: fields.duration("startup_timeout_seconds").unwrap_or(Duration::from_secs(10)),
        startup_retry_wait: fields.duration("startup_retry_wait_seconds").unwrap_or(Duration::from_secs(1)),
        startup_retry_limit: fields.read("startup_retry_limit", count, value::integer).unwrap_or(3),
        legacy_names: fields.read("legacy_names", "`true` or `false`", value::boolean).unwrap_or(true),
        page_auth,
        metrics_auth,
        tls,
    })
}

/// `history` and `state_dir`.
fn history(top: &Fields<'_>, rsync_id: &str) -> Option<HistoryPolicy> {
    let nothing = Node { value: Value::Map(Vec::new()), span: 0..0 };
    let node = top.get("history").unwrap_or(&nothing);
    let fields = Fields::open(top.ctx, node, &keys::HISTORY, "`history`".to_owned())?;
    Some(HistoryPolicy {
        directory: state_dir(top)?.map(|directory| directory.join(rsync_id)),
        max_age: fields.duration("max_age").unwrap_or(DEFAULT_HISTORY_AGE),
        max_size: fields.read("max_size", value::A_SIZE, value::size).unwrap_or(DEFAULT_HISTORY_SIZE),
        output_max: fields.read("output_max", value::A_SIZE, value::size).unwrap_or(DEFAULT_OUTPUT_MAX),
    })
}

/// The directory of all instances' state. The outer `None` is an error.
fn state_dir(fields: &Fields<'_>) -> Option<Option<PathBuf>> {
    if fields.get("state_dir").is_some() {
        let (node, text) = fields.text("state_dir")?;
        return own_path(fields, "state_dir", node, text).map(Some);
    }
    let directory = |name| fields.ctx.env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    // systemd's, for a unit with StateDirectory=.
    if let Some(directory) = directory("STATE_DIRECTORY") {
        return Some(Some(directory));
    }
    if rustix::process::geteuid().is_root() {
        return Some(Some(PathBuf::from("/var/lib/rsyncdirector")));
    }
    let state = directory("XDG_STATE_HOME").or_else(|| Some(directory("HOME")?.join(".local/state")));
    Some(state.map(|state| state.join("rsyncdirector")))
}

fn ssh_policy(fields: &Fields<'_>) -> Option<SshPolicy> {
    let connect_timeout =
        fields.positive_duration("connect_timeout", "a connection takes some time: write for example `10`");
    let host_key_policy = fields.read("host_key_policy", "`strict` or `accept-new`", |text| match text {
        "strict" => Some(HostKeyPolicy::Strict),
        "accept-new" => Some(HostKeyPolicy::AcceptNew),
        _ => None,
    });
    fields.ctx.has_host_key_policy.set(host_key_policy.is_some());
    let unsaid =
        Unsaid { connect_timeout: connect_timeout.is_none(), known_hosts: fields.get("known_hosts").is_none() };
    Some(SshPolicy {
        connect_timeout: connect_timeout.unwrap_or(DEFAULT_CONNECT_TIMEOUT),
        host_key_policy: host_key_policy.unwrap_or_default(),
        known_hosts: known_hosts(fields)?,
        unsaid,
    })
}

fn known_hosts(fields: &Fields<'_>) -> Option<Vec<PathBuf>> {
    let Some(nodes) = fields.one_or_list("known_hosts") else {
        let system = reach::SYSTEM_KNOWN_HOSTS.map(PathBuf::from);
        return Some(reach::own_known_hosts(fields.ctx).into_iter().chain(system).collect());
    };
    if nodes.is_empty() {
        fields.wrong("known_hosts", fields.get("known_hosts")?, "a path or a list of paths");
    }
    nodes
        .iter()
        .map(|node| {
            let (node, text) = fields.text_node("known_hosts", node)?;
            own_path(fields, "known_hosts", node, text)
        })
        .collect()
}

fn jobs(fields: &Fields<'_>, defaults: job::Defaults<'_>) -> Option<Vec<Arc<Job>>> {
    fields.require("jobs")?;
    let nodes = fields.list("jobs", "a list of jobs")?;
    if nodes.is_empty() {
        let report = Report::warning("there are no jobs: this instance will do nothing");
        fields.ctx.report(fields.get("jobs")?.span.clone(), report);
    }
    if nodes.is_empty() && defaults.0.is_absent() {
        fields.require("cron_schedule");
    }
    let mut ids = Seen::new("job id");
    // All are read before the first failure counts, so that each says what is wrong with it.
    let mut gathered = verify::Gathered::default();
    let mut jobs: Vec<Option<Job>> = Vec::new();
    for node in nodes {
        jobs.push(job::job(fields.ctx, node, defaults, &mut ids, &mut gathered));
        gathered.next_job();
    }
    let resolved = gathered.resolve(&mut jobs, nodes);
    let jobs: Vec<Job> = jobs.into_iter().collect::<Option<_>>()?;
    resolved?;
    for (at, node) in nodes.iter().enumerate() {
        conditions::judge_after(fields, node, &jobs[at], &jobs[..at]);
    }
    Some(jobs.into_iter().map(Arc::new).collect())
}

/// Names that must be unique, with the line of each.
struct Seen {
    what: &'static str,
    lines: HashMap<String, usize>,
}

impl Seen {
    fn new(what: &'static str) -> Self {
        Self { what, lines: HashMap::new() }
    }

    /// Reports a name that was there before.
    fn note(&mut self, ctx: &Context<'_>, node: &Node, name: &str) {
        let Some(line) = self.lines.get(name) else {
            self.lines.insert(name.to_owned(), ctx.line(node));
            return;
        };
        let report = Report::error(format!("the {} {} is taken", self.what, quoted(name)));
        let help = format!("line {line} has it already: each needs a name of its own");
        ctx.report(node.span.clone(), report.label("again").help(help));
    }
}
