//! When jobs run: `cron_schedule`, `timezone`, `jitter`, `overlap`, `catch_up`, at the top level and in a job.

use std::time::Duration;

use jiff::tz::TimeZone;

use crate::config::context::{Context, Report};
use crate::config::fields::{Fields, quoted};
use crate::config::keys;
use crate::config::model::{CatchUp, JobSchedule, Overlap};
use crate::config::raw::Node;
use crate::schedule::Schedule;

/// What holds for every job that does not say otherwise.
pub(super) struct Defaults {
    schedule: Expression,
    timezone: Option<TimeZone>,
    jitter: Duration,
    overlap: Overlap,
    catch_up: CatchUpKeys,
}

/// `catch_up` and `catch_up_max_age`, as far as they are said.
#[derive(Clone, Copy, Default)]
struct CatchUpKeys {
    one: Option<bool>,
    max_age: Option<Duration>,
}

/// A `cron_schedule` as it was found.
enum Expression {
    Absent,
    /// Reported already.
    Wrong,
    Right(String, Schedule),
}

impl Defaults {
    /// Reads the instance's schedule.
    pub fn read(fields: &Fields<'_>) -> Self {
        Self {
            schedule: expression(fields),
            timezone: timezone(fields).unwrap_or_else(|| system_timezone(fields)),
            jitter: fields.duration("jitter").unwrap_or_default(),
            overlap: overlap(fields).unwrap_or_default(),
            catch_up: CatchUpKeys::read(fields),
        }
    }

    /// Whether the instance has no schedule of its own.
    pub fn is_absent(&self) -> bool {
        matches!(self.schedule, Expression::Absent)
    }

    /// Reads a job's schedule. It is the job's own as soon as the job says anything about when it runs.
    pub fn of_job(&self, fields: &Fields<'_>) -> Option<JobSchedule> {
        let own = ["cron_schedule", "timezone", "jitter"].iter().any(|key| fields.get(key).is_some());
        let expression = expression(fields);
        let timezone = timezone(fields).unwrap_or_else(|| self.timezone.clone());
        let jitter = fields.duration("jitter").unwrap_or(self.jitter);
        let overlap = overlap(fields).unwrap_or(self.overlap);
        let catch_up = CatchUpKeys::read(fields).or(self.catch_up).judge(fields);
        let (expression, schedule) = match (&expression, &self.schedule) {
            (Expression::Right(text, schedule), _) => (text, schedule),
            (Expression::Absent, Expression::Right(text, schedule)) => (text, schedule),
            (Expression::Absent, Expression::Absent) => {
                let help = "set it at the top level for all jobs, or in each job".to_owned();
                fields.missing("cron_schedule", Some(help));
                return None;
            }
            (Expression::Wrong, _) | (_, Expression::Wrong) => return None,
        };
        Some(JobSchedule {
            expression: expression.clone(),
            schedule: schedule.clone(),
            timezone: timezone?,
            jitter,
            overlap,
            catch_up,
            own,
        })
    }
}

impl CatchUpKeys {
    fn read(fields: &Fields<'_>) -> Self {
        let word = |text: &str| match text {
            "none" => Some(false),
            "one" => Some(true),
            _ => None,
        };
        let one = fields.read("catch_up", "`none` or `one`", word);
        Self { one, max_age: fields.positive_duration("catch_up_max_age", "leave it out for no bound") }
    }

    fn or(self, default: Self) -> Self {
        Self { one: self.one.or(default.one), max_age: self.max_age.or(default.max_age) }
    }

    fn judge(self, fields: &Fields<'_>) -> Option<CatchUp> {
        if self.one != Some(true)
            && let Some(node) = fields.get("catch_up_max_age")
        {
            let report = Report::warning(format!("{} has no effect", fields.key("catch_up_max_age")));
            fields
                .ctx
                .report(node.span.clone(), report.help("a missed run is made good with `catch_up: one`".to_owned()));
        }
        (self.one == Some(true)).then_some(CatchUp { max_age: self.max_age })
    }
}

fn overlap(fields: &Fields<'_>) -> Option<Overlap> {
    fields.read("overlap", "`skip` or `queue`", |text| match text {
        "skip" => Some(Overlap::Skip),
        "queue" => Some(Overlap::Queue),
        _ => None,
    })
}

fn expression(fields: &Fields<'_>) -> Expression {
    if fields.get("cron_schedule").is_none() {
        return if fields.is_misspelt("cron_schedule") { Expression::Wrong } else { Expression::Absent };
    }
    let Some((node, text)) = fields.text("cron_schedule") else { return Expression::Wrong };
    match Schedule::parse(text) {
        Ok(schedule) => {
            warn(fields.ctx, node, &schedule);
            Expression::Right(text.to_owned(), schedule)
        }
        Err(error) => {
            let report = Report::error(format!("{}: {}", fields.key("cron_schedule"), error.message));
            fields.ctx.report(fields.ctx.part(node, error.span), report.help(error.help));
            Expression::Wrong
        }
    }
}

fn warn(ctx: &Context<'_>, node: &Node, schedule: &Schedule) {
    if schedule.never_fires() {
        let report = Report::warning("this schedule never fires: there is no such date");
        ctx.report(node.span.clone(), report.help("only HUP and `--once` would run it".to_owned()));
    }
    if let Some(difference) = schedule.meant_otherwise_in_v1() {
        ctx.report(node.span.clone(), Report::warning(difference).label("now read as cron reads it"));
    }
}

/// The zone that is named: `None` if none is, `Some(None)` if there is no such zone, which is reported.
fn timezone(fields: &Fields<'_>) -> Option<Option<TimeZone>> {
    fields.get("timezone")?;
    let Some((node, name)) = fields.text("timezone") else { return Some(None) };
    let zone = TimeZone::get(name).ok();
    if zone.is_none() {
        let names: Vec<String> = jiff::tz::db().available().map(|name| name.to_string()).collect();
        let help = match keys::nearest(name, names.iter().map(String::as_str)) {
            Some(nearest) => format!("did you mean \"{nearest}\"?"),
            None => "use a name of the tz database, as \"Europe/Berlin\" or \"UTC\"".to_owned(),
        };
        let report = Report::error(format!("there is no time zone {}", quoted(name)));
        fields.ctx.report(node.span.clone(), report.help(help));
    }
    Some(zone)
}

fn system_timezone(fields: &Fields<'_>) -> Option<TimeZone> {
    let zone = TimeZone::try_system().ok();
    if zone.is_none() {
        let help = "the system's time zone cannot be found out: name one, as `timezone: Europe/Berlin`".to_owned();
        fields.missing("timezone", Some(help));
    }
    zone
}
