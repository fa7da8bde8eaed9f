//! `verify --repair`: what differs is made good, by exact lists and under the job's locks.
//!
//! The steps ([`crate::rsync::repair`]) are actions of the sync's job in place of its own: its conditions, blocks, locks and commands around
//! its actions hold for them as for the sync. Never touched is what is not in the list; left alone is what is newer at the target, unless
//! that is asked for, and what nothing is known of.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;
use std::{io, thread};

use super::{Chosen, Desk, Repair, confirmed, listed::Listed, read_list};
use jiff::Timestamp;

use crate::action::Runner;
use crate::cli::{complain_of, print};
use crate::config::{Action, ActionId, ActionKind, Job, Sync};
use crate::event::{Events, JobEvent, JobOutcome, Observer, RunEvent, RunId, Trigger};
use crate::job::Performer;
use crate::logging::escaped;
use crate::process::Stop;
use crate::rsync::repair::{self, Deed, Step};
use crate::rsync::shards;
use crate::verify::report::{Report, Verdict};
use crate::verify::{Class, Promise};
use crate::{clock, daemon, human};

/// Exit codes that do not end a repair: what could not be done is said by the verification after it.
const GOES_ON: [i32; 3] = [0, 23, 24];

/// Mends what differs, and verifies again: the new report. `None` when nothing was mended.
pub(super) async fn repair(
    desk: &Desk<'_>,
    chosen: &Chosen,
    report: &Report,
    list: &Path,
    which: Repair,
) -> Result<Option<Report>, String> {
    let found = read_list(list).map_err(|error| format!("could not read what differs: {error}"))?;
    let plan = Plan::new(&found, which);
    plan.say_what_is_left();
    if plan.names.is_empty() {
        complain_of("nothing of that can be repaired");
        return Ok(None);
    }
    let sync = &chosen.verify.sync;
    plan.guard(sync, report)?;
    if !desk.args.yes && !confirmed(&plan.question()) {
        complain_of("nothing was repaired");
        return Ok(None);
    }
    let actions = actions(desk, chosen, &plan).await?;
    perform(desk, chosen, actions).await?;
    let after = desk.verify(&chosen.verify, false, Some(list)).await?;
    desk.show(&after, desk.args.diff.then_some(list));
    if !desk.args.json {
        let left = match after.verdict {
            Verdict::InStep => "repaired: everything is in step".to_owned(),
            _ => format!("repaired, but {} left", human::count(after.differing(), "difference is", "differences are")),
        };
        print(&left);
    }
    Ok(Some(after))
}

/// What is to be done, and what not.
struct Plan {
    names: Vec<(Vec<u8>, Deed)>,
    deeds: BTreeMap<Deed, (u64, u64)>,
    left: BTreeMap<Class, u64>,
}

impl Plan {
    fn new(found: &[Listed], which: Repair) -> Self {
        let (mut names, mut deeds, mut left) = (Vec::new(), BTreeMap::<_, (u64, u64)>::new(), BTreeMap::new());
        for one in found {
            let Some(deed) = deed(one.class, which) else {
                *left.entry(one.class).or_default() += 1;
                continue;
            };
            let (entries, bytes) = deeds.entry(deed).or_default();
            (*entries, *bytes) = (*entries + 1, *bytes + one.bytes);
            names.push((one.path(), deed));
        }
        Self { names, deeds, left }
    }

    fn say_what_is_left(&self) {
        for (class, count) in &self.left {
            let why = match class {
                Class::TargetNewer => "left alone; --repair=all overwrites it",
                Class::InFlight => "left alone, since it is being changed",
                _ => "left alone, since nothing is known of it",
            };
            complain_of(&format!("{count} {}: {why}", class.words()));
        }
    }

    /// What guards the sync guards its repair.
    fn guard(&self, sync: &Sync, report: &Report) -> Result<(), String> {
        let (deletions, _) = self.deeds.get(&Deed::Delete).copied().unwrap_or_default();
        if deletions == 0 {
            return Ok(());
        }
        // The root of a tree counts as an entry of its own.
        let of_source = report.all.entries.saturating_sub(deletions);
        if of_source <= 1 && !sync.allow_empty_source {
            return Err("not repaired: the source is empty, so everything at the destination would be deleted \
                        (allowed by `allow_empty_source: true`)"
                .to_owned());
        }
        let at_target =
            report.all.entries.saturating_sub(report.classes.get(&Class::Missing).map_or(0, |count| count.entries));
        match sync.max_delete {
            Some(max) if deletions > max.of(at_target) => Err(format!(
                "not repaired: {} would be deleted, and max_delete is {max}",
                human::count(deletions, "entry", "entries")
            )),
            _ => Ok(()),
        }
    }

    fn question(&self) -> String {
        let words = |(deed, (entries, bytes)): (&Deed, &(u64, u64))| match deed {
            Deed::Delete => format!("delete {}", human::count(*entries, "entry", "entries")),
            Deed::Copy => format!("copy {} ({})", human::count(*entries, "entry", "entries"), human::bytes(*bytes)),
            Deed::Overwrite => {
                format!("overwrite {} ({})", human::count(*entries, "file", "files"), human::bytes(*bytes))
            }
        };
        let deeds: Vec<String> = self.deeds.iter().map(words).collect();
        let mut text = deeds.join(", ");
        if let Some(first) = text.get_mut(..1) {
            first.make_ascii_uppercase();
        }
        format!("{text}?")
    }
}

fn deed(class: Class, which: Repair) -> Option<Deed> {
    match class {
        Class::Extra => Some(Deed::Delete),
        Class::Missing | Class::Type | Class::Meta => Some(Deed::Copy),
        Class::Stale | Class::Size | Class::Content => Some(Deed::Overwrite),
        Class::TargetNewer => (which == Repair::All).then_some(Deed::Overwrite),
        Class::Unreadable | Class::InFlight => None,
    }
}

/// The actions that do it.
async fn actions(desk: &Desk<'_>, chosen: &Chosen, plan: &Plan) -> Result<Vec<Action>, String> {
    let sync = &chosen.verify.sync;
    let order = desk.order(&chosen.verify).await?;
    let groups = shards::groups(&order.sources, false).ok_or("the sources are not told apart by their names")?;
    let keeps_times = Promise::of(&sync.opts).is_ok_and(|promise| promise.directory_times);
    let mut actions = Vec::new();
    for group in groups {
        let names = names_of(&group.sources);
        let own: Vec<_> = plan.names.iter().filter(|(path, _)| belongs(path, names.as_deref())).cloned().collect();
        let steps = repair::steps(&sync.opts, &own, names.is_none(), keeps_times).map_err(|error| error.to_string())?;
        for step in steps {
            actions.push(action(sync, &group.root, step, actions.len() + 1));
        }
    }
    Ok(actions)
}

/// The names of sources in their directory; `None` where the directory itself is the source.
fn names_of(sources: &[OsString]) -> Option<Vec<&[u8]>> {
    let last =
        |source: &'_ OsString| source.as_bytes().iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    let names = sources.iter().map(|source| &source.as_bytes()[last(source)..]);
    names.map(|name| (!matches!(name, b"" | b"." | b"..")).then_some(name)).collect()
}

/// Whether a path begins with one of these names.
fn belongs(path: &[u8], names: Option<&[&[u8]]>) -> bool {
    let first = path.split(|&byte| byte == b'/').next().unwrap_or_default();
    names.is_none_or(|names| names.contains(&first))
}

fn action(sync: &Sync, root: &OsStr, step: Step, number: usize) -> Action {
    let mut root = root.to_owned();
    if !root.as_bytes().ends_with(b"/") {
        root.push("/");
    }
    let sync = Sync {
        sources: vec![root],
        dest: shards::destination(&sync.dest),
        opts: step.opts,
        parallel: 1,
        max_delete: None,
        allow_empty_source: true,
        list: step.list.map(Into::into),
        ..sync.clone()
    };
    Action {
        id: ActionId::new(format!("repair-{number}-{}", step.what.replace(' ', "-"))),
        kind: ActionKind::Sync(sync),
        timeout: None,
        success_exit_codes: GOES_ON.to_vec(),
        retries: 0,
        retry_wait: Duration::ZERO,
    }
}

/// Says what a repair waits for and what fails. What its rsyncs say otherwise, the verification after it says better: each deletion makes rsync
/// speak of files that vanished.
///
/// A thread of its own writes it: standard error may be a terminal that takes nothing, and the locks are to be kept fresh.
struct Teller(mpsc::Sender<String>);

/// How long the end of a repair waits until all is said.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Teller {
    /// With what tells, by an error, when all is said after it is gone.
    fn start() -> io::Result<(Self, mpsc::Receiver<Infallible>)> {
        let (tell, told) = mpsc::channel::<String>();
        let (over, is_over) = mpsc::channel();
        thread::Builder::new().name("tell".into()).spawn(move || {
            told.iter().for_each(|text| complain_of(&text));
            drop(over);
        })?;
        Ok((Self(tell), is_over))
    }
}

impl Observer for Teller {
    fn observe(&self, _at: Timestamp, event: &RunEvent) {
        let RunEvent::Job { event, .. } = event else { return };
        let text = match event {
            JobEvent::BlockWait { file, obstacle, .. } | JobEvent::LockWait { file, obstacle, .. } => {
                format!("waiting for {file}, {obstacle}")
            }
            JobEvent::LockTakenOver { file, holder } => format!("took over {file} from {holder}, whose lease was over"),
            JobEvent::LockLost { file, reason } => format!("lost {file}: {reason}"),
            JobEvent::Unmet { condition } => condition.clone(),
            JobEvent::Released { left_behind } if !left_behind.is_empty() => {
                format!("left behind until their lease is over: {}", left_behind.join(", "))
            }
            JobEvent::ActionFinished { action, report } if report.failure.is_some() => {
                format!("{action}: {}", report.message)
            }
            _ => return,
        };
        // Nobody listens: the thread is gone.
        let _ = self.0.send(escaped(&text).into_owned());
    }
}

/// The actions, as those of the sync's job.
async fn perform(desk: &Desk<'_>, chosen: &Chosen, actions: Vec<Action>) -> Result<(), String> {
    let of_sync = desk.config.jobs.iter().find(|job| job.id == chosen.verify.job).unwrap_or(&chosen.job);
    let job = Job { actions, ..(**of_sync).clone() };
    let (teller, is_over) = Teller::start().map_err(|error| format!("could not start a thread: {error}"))?;
    let performer = Performer {
        runner: Runner { events: Events::new(vec![Arc::new(teller)]), ..desk.runner.clone() },
        stores: daemon::stores(desk.runner.pool.clone()),
        identity: daemon::identity(desk.config),
        lease: desk.config.lease,
    };
    let run = RunId(u64::try_from(clock::now().as_millisecond()).unwrap_or_default());
    let outcome = performer.perform(run, Trigger::Now, &job, &desk.stop, &Stop::default()).await;
    drop(performer);
    let _ = is_over.recv_timeout(LAST_WORDS);
    match outcome {
        JobOutcome::Succeeded => Ok(()),
        JobOutcome::Failed(failure) => Err(format!("the repair failed: {}", failure.as_str())),
        JobOutcome::Skipped(reason) => Err(format!("the repair was not begun: {}", reason.as_str())),
    }
}
