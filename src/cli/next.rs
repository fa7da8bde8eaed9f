//! `next`: when jobs will run.

use jiff::Timestamp;

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
    let lines: Vec<String> = groups(&config, &args.job)
        .into_iter()
        .flat_map(|(schedule, lane, jobs)| {
            let head = format!("{} ({}): {}", schedule.expression, zone(schedule), jobs.join(", "));
            [head].into_iter().chain(times(&config, schedule, lane, from, args.count))
        })
        .collect();
    print(&lines.join("\n"))
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

fn times(config: &Config, schedule: &JobSchedule, lane: &str, from: Timestamp, count: usize) -> Vec<String> {
    if schedule.schedule == Schedule::Reboot {
        return vec!["  once when the daemon starts".into()];
    }
    let host = crate::daemon::host_name();
    let delay = jitter_delay(&host, &config.rsync_id, lane, schedule.jitter);
    let next = |after: &Timestamp| schedule.schedule.next_after(*after, &schedule.timezone);
    let start = from.saturating_sub(delay).expect("a delay is a plain duration");
    let times: Vec<String> = std::iter::successors(next(&start), next)
        .take(count)
        .map(|tick| tick.saturating_add(delay).expect("a delay is a plain duration"))
        .map(|time| time.to_zoned(schedule.timezone.clone()).strftime("  %a %Y-%m-%d %H:%M:%S %:z").to_string())
        .collect();
    if times.is_empty() { vec!["  never".into()] } else { times }
}
