//! The loop around the core.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::core::{Command, Core, Event, LaneId, LanePlan};
use super::signal::{Request, Signals};
use crate::clock::{self, Ticks};
use crate::config::{Config, Job};
use crate::event::{JobEvent, JobFailure, JobOutcome, RunEvent, RunId, SkipReason, Trigger};
use crate::job::Performer;
use crate::process::Stop;
use crate::schedule::jitter_delay;

/// What a director is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Run by schedule until told to stop.
    Daemon,
    /// Run all jobs once, in order, and leave.
    Once,
}

/// Jobs that run one after the other, and when.
pub struct Lane {
    plan: LanePlan,
    jobs: Vec<Arc<Job>>,
}

/// The lanes of a configuration: one for all jobs without a schedule of their own, one for each with one. `host` is this host's
/// name, which the jitter depends on. In [`Mode::Once`] all jobs are one lane without a schedule.
pub fn lanes(config: &Config, host: &str, mode: Mode) -> Vec<Lane> {
    if mode == Mode::Once {
        let plan = LanePlan { schedule: None, timezone: jiff::tz::TimeZone::UTC, delay: Duration::ZERO };
        return vec![Lane { plan, jobs: config.jobs.clone() }];
    }
    let mut lanes: Vec<Lane> = Vec::new();
    let mut shared: Option<LaneId> = None;
    for job in &config.jobs {
        match shared.filter(|_| !job.schedule.own) {
            Some(lane) => lanes[lane].jobs.push(Arc::clone(job)),
            None => {
                if !job.schedule.own {
                    shared = Some(lanes.len());
                }
                let name = if job.schedule.own { job.id.as_str() } else { "" };
                let plan = LanePlan {
                    schedule: Some(job.schedule.schedule.clone()),
                    timezone: job.schedule.timezone.clone(),
                    delay: jitter_delay(host, &config.rsync_id, name, job.schedule.jitter),
                };
                lanes.push(Lane { plan, jobs: vec![Arc::clone(job)] });
            }
        }
    }
    lanes
}

/// Runs lanes of jobs.
pub struct Director {
    lanes: Vec<Arc<[Arc<Job>]>>,
    core: Core,
    performer: Performer,
    stop: Stop,
    runs: JoinSet<LaneId>,
}

impl Director {
    /// A director of these lanes, which does nothing before [`Director::run`].
    pub fn new(lanes: Vec<Lane>, performer: Performer) -> Self {
        let (plans, lanes): (Vec<_>, Vec<_>) = lanes.into_iter().map(|lane| (lane.plan, lane.jobs.into())).unzip();
        Self {
            lanes,
            core: Core::new(plans, clock::now()),
            performer,
            stop: Stop { term: CancellationToken::new(), kill: CancellationToken::new() },
            runs: JoinSet::new(),
        }
    }

    /// Directs until told to stop, or until the one run of [`Mode::Once`] is over; then nothing of it runs any more and no lock is
    /// held.
    pub async fn run(mut self, mode: Mode, signals: &mut Signals) {
        let mut event = match mode {
            Mode::Daemon => Event::Started,
            Mode::Once => Event::Once,
        };
        while self.handle(event) {
            event = tokio::select! {
                biased;
                received = signals.next() => match received.request {
                    Request::RunNow => {
                        tracing::info!("{received}: run now");
                        Event::Hup
                    }
                    Request::Terminate => {
                        tracing::info!("{received}: stopping");
                        Event::Terminate
                    }
                },
                Some(finished) = self.runs.join_next() => match finished {
                    Ok(lane) => Event::RunFinished(lane),
                    // A lane catches its jobs' panics and is never aborted.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                () = clock::sleep_until(self.core.next_wakeup()) => Event::Woke,
            };
        }
    }

    /// Lets the core decide and does it. `false` when it is time to leave.
    fn handle(&mut self, event: Event) -> bool {
        for command in self.core.handle(event, clock::now()) {
            match command {
                Command::Start { lane, run, trigger } => self.start(lane, run, trigger),
                Command::Skip { lane, trigger, reason } => self.tell(lane, &JobEvent::NotRun { reason, trigger }),
                Command::Missed { lane, count } => self.tell(lane, &JobEvent::Missed { count }),
                Command::Due { lane, at } => self.tell(lane, &JobEvent::NextRun(at)),
                Command::Queued { new: true, .. } => {
                    tracing::info!("a run is under way: one more is queued behind it");
                }
                Command::Queued { new: false, .. } => {
                    tracing::info!("a run is under way and one more is queued already");
                }
                Command::Stop => self.stop.term.cancel(),
                Command::Kill => self.stop.kill.cancel(),
                Command::Exit => return false,
            }
        }
        true
    }

    fn tell(&self, lane: LaneId, event: &JobEvent) {
        for job in self.lanes[lane].iter() {
            let event = event.clone();
            self.performer.runner.events.send(RunEvent::Job { run: None, job: job.id.clone(), event });
        }
    }

    fn start(&mut self, lane: LaneId, run: RunId, trigger: Trigger) {
        let (jobs, performer, stop) = (Arc::clone(&self.lanes[lane]), self.performer.clone(), self.stop.clone());
        self.runs.spawn(async move {
            perform_all(&jobs, &performer, run, trigger, &stop).await;
            lane
        });
    }
}

async fn perform_all(jobs: &[Arc<Job>], performer: &Performer, run: RunId, trigger: Trigger, stop: &Stop) {
    let events = &performer.runner.events;
    let started = Ticks::now();
    events.send(RunEvent::RunStarted { run, trigger });
    for job in jobs {
        let send = |event| events.send(RunEvent::Job { run: Some(run), job: job.id.clone(), event });
        if stop.term.is_cancelled() {
            send(JobEvent::NotRun { reason: SkipReason::Shutdown, trigger });
            continue;
        }
        // A defect of ours in one job must not stop the others, nor the daemon.
        if AssertUnwindSafe(performer.perform(run, trigger, job, stop)).catch_unwind().await.is_err() {
            let outcome = JobOutcome::Failed(JobFailure::Internal);
            send(JobEvent::Finished { outcome, duration: started.elapsed() });
        }
    }
    events.send(RunEvent::RunFinished { run, duration: started.elapsed() });
}
