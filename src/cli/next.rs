//! `next`: when jobs will run.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::json;

use super::instance::Which;
use super::{Exit, complain_of, print};
use crate::clock;
use crate::config::{Config, JobSchedule};
use crate::schedule::{Schedule, jitter_delay};

/// Arguments of `next`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// How many times to show for each schedule
    #[arg(long, short = 'n', default_value_t = 5, value_name = "COUNT")]
    count: usize,
    /// Only this job; may be given several times
    #[arg(long, value_name = "ID")]
    job: Vec<String>,
    /// Start from this time instead of now (RFC 3339: 2028-03-26T00:00:00+01:00)
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Exit {
    let config = match args.which.config() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    if let Some(unknown) = args.job.iter().find(|id| !config.jobs.iter().any(|job| job.id.as_str() == id.as_str())) {
        complain_of(&super::run::unknown_job(unknown, &config));
        return Exit::Configuration;
    }
    let from = args.from.unwrap_or_else(clock::now);
    let plans: Vec<Plan> =
        groups(&config, &args.job).into_iter().map(|group| plan(&config, group, from, args.count)).collect();
    print(&if args.json {
        format!("{:#}", json!(plans))
    } else {
        plans.iter().map(describe).collect::<Vec<_>>().join("\n")
    })
}

/// When the jobs of one schedule run.
#[derive(Serialize)]
struct Plan {
    schedule: String,
    timezone: String,
    jobs: Vec<String>,
    /// Whether they run when the instance starts.
    at_start: bool,
    times: Vec<Timestamp>,
    #[serde(skip)]
    zone: TimeZone,
}

fn describe(plan: &Plan) -> String {
    let head = format!("{} ({}): {}", plan.schedule, plan.timezone, plan.jobs.join(", "));
    let time = |time: &Timestamp| time.to_zoned(plan.zone.clone()).strftime("  %a %Y-%m-%d %H:%M:%S %:z").to_string();
    let times: Vec<String> = match (plan.at_start, plan.times.is_empty()) {
        (true, _) => vec!["  once when the daemon starts".into()],
        (false, true) => vec!["  never".into()],
        (false, false) => plan.times.iter().map(time).collect(),
    };
    [head].into_iter().chain(times).collect::<Vec<_>>().join("\n")
}

/// Jobs that share a schedule, as the director's lanes do.
fn groups<'a>(config: &'a Config, only: &[String]) -> Vec<(&'a JobSchedule, &'a str, Vec<&'a str>)> {
    let mut groups: Vec<(&JobSchedule, &str, Vec<&str>)> = Vec::new();
    for job in config.jobs.iter().filter(|job| only.is_empty() || only.iter().any(|id| id == job.id.as_str())) {
        let shared = groups.iter_mut().find(|(schedule, ..)| !schedule.own && !job.schedule.own);
        match shared {
            Some((.., jobs)) => jobs.push(job.id.as_str()),
            None => {
                let lane = if job.schedule.own { job.id.as_str() } else { "" };
                groups.push((&job.schedule, lane, vec![job.id.as_str()]));
            }
        }
    }
    groups
}

fn zone(schedule: &JobSchedule) -> String {
    schedule.timezone.iana_name().unwrap_or("system time zone").to_owned()
}

fn plan(
    config: &Config,
    (schedule, lane, jobs): (&JobSchedule, &str, Vec<&str>),
    from: Timestamp,
    count: usize,
) -> Plan {
    let host = crate::daemon::host_name();
    let delay = jitter_delay(&host, &config.rsync_id, lane, schedule.jitter);
    let next = |after: &Timestamp| schedule.schedule.next_after(*after, &schedule.timezone);
    let start = from.saturating_sub(delay).expect("a delay is a plain duration");
    let ticks = std::iter::successors(next(&start), next).take(count);
    Plan {
        schedule: schedule.expression.clone(),
        timezone: zone(schedule),
        jobs: jobs.into_iter().map(str::to_owned).collect(),
        at_start: schedule.schedule == Schedule::Reboot,
        times: ticks.map(|tick| tick.saturating_add(delay).expect("a delay is a plain duration")).collect(),
        zone: schedule.timezone.clone(),
    }
}
