//! Jobs that run one after the other: the lanes of a configuration.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::core::{JobPlan, LaneId, LanePlan, Replan};
use super::run::Mode;
use crate::config::{Config, Job, JobId};
use crate::schedule::jitter_delay;

/// Jobs that run one after the other, and when.
pub struct Lane {
    /// The job's id for one with a schedule of its own; empty for the lane of all others.
    pub(super) name: String,
    pub(super) plan: LanePlan,
    pub(super) jobs: Vec<Arc<Job>>,
}

/// What is known of the jobs from before.
#[derive(Debug, Default)]
pub struct Known {
    /// Since when a job's schedule is suspended.
    pub paused: BTreeMap<JobId, Timestamp>,
    /// Up to when a job's scheduled times were dealt with.
    pub seen_until: BTreeMap<JobId, Timestamp>,
}

/// The lanes of a configuration: one for all jobs without a schedule of their own, one for each with one. `host` is this host's
/// name, which the jitter depends on. In [`Mode::Once`] all jobs are one lane without a schedule.
pub fn lanes(config: &Config, host: &str, mode: Mode, known: &Known) -> Vec<Lane> {
    let mut lanes: Vec<Lane> = Vec::new();
    for job in &config.jobs {
        let own = job.schedule.own && mode == Mode::Daemon;
        let name = if own { job.id.as_str() } else { "" };
        let lane = match lanes.iter().position(|lane| !own && lane.name.is_empty()) {
            Some(lane) => &mut lanes[lane],
            None => {
                let plan = LanePlan {
                    schedule: (mode == Mode::Daemon).then(|| job.schedule.schedule.clone()),
                    timezone: job.schedule.timezone.clone(),
                    delay: match mode {
                        Mode::Daemon => jitter_delay(host, &config.rsync_id, name, job.schedule.jitter),
                        Mode::Once => Duration::ZERO,
                    },
                    jobs: Vec::new(),
                };
                lanes.push(Lane { name: name.to_owned(), plan, jobs: Vec::new() });
                lanes.last_mut().expect("there is one now")
            }
        };
        lane.plan.jobs.push(JobPlan {
            overlap: job.schedule.overlap,
            catch_up: job.schedule.catch_up,
            paused: known.paused.contains_key(&job.id),
            seen_until: known.seen_until.get(&job.id).copied(),
            elsewhere: None,
        });
        lane.jobs.push(Arc::clone(job));
    }
    lanes
}

/// What makes the lanes that there are those of another configuration. Names and jobs are replaced; the core is still to be told.
/// `under_way` are the lanes in whose run, which is under way, a job is.
pub(super) fn replan(
    lanes: &mut Vec<(String, Vec<Arc<Job>>)>,
    new: Vec<Lane>,
    under_way: impl Fn(&JobId) -> Vec<LaneId>,
) -> Vec<Replan> {
    let before: Vec<Vec<JobId>> =
        lanes.iter().map(|(_, jobs)| jobs.iter().map(|job| job.id.clone()).collect()).collect();
    let plans = new.into_iter().map(|Lane { name, mut plan, jobs }| {
        let from = before.iter().position(|ids| jobs.iter().any(|job| ids.contains(&job.id)));
        // One that has no jobs any more, too: it may still run.
        let before = lanes.iter().position(|(known, _)| *known == name);
        let lane = before.unwrap_or(lanes.len());
        for (job, plan) in jobs.iter().zip(&mut plan.jobs) {
            plan.elsewhere = under_way(&job.id).into_iter().find(|run| *run != lane);
        }
        if before.is_none() {
            lanes.push((name, Vec::new()));
        }
        let index = |id: &JobId| jobs.iter().position(|job| job.id == *id);
        let moved = lanes[lane].1.iter().map(|job| index(&job.id)).collect();
        lanes[lane].1 = jobs;
        Replan { lane, plan, moved, from }
    });
    let plans: Vec<Replan> = plans.collect();
    for (lane, (_, jobs)) in lanes.iter_mut().enumerate() {
        if !plans.iter().any(|plan| plan.lane == lane) {
            jobs.clear();
        }
    }
    plans
}
