//! One run: its jobs, one after the other or some at once, each as soon as it may.

use std::collections::{HashMap, HashSet, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::stream::{FuturesUnordered, StreamExt};

use crate::clock::Ticks;
use crate::config::{Job, JobId};
use crate::event::{JobEvent, JobFailure, JobOutcome, RunEvent, RunId, SkipReason, Trigger};
use crate::job::Performer;
use crate::process::Stop;

/// What is to be performed.
pub(super) struct Pass {
    pub(super) performer: Performer,
    pub(super) run: RunId,
    pub(super) trigger: Trigger,
    /// In order.
    pub(super) jobs: Vec<Arc<Job>>,
    /// How many jobs may go at once, at least 1.
    pub(super) concurrency: usize,
    /// Ends all of it.
    pub(super) stop: Stop,
    pub(super) open: Open,
}

/// The jobs of a run that are not done yet, and what ends each.
#[derive(Clone, Default)]
pub(super) struct Open(Arc<Mutex<HashMap<JobId, Stop>>>);

impl Open {
    /// All of these jobs, each of which ends with the whole, too.
    pub(super) fn new(jobs: &[Arc<Job>], whole: &Stop) -> Self {
        let stop = || Stop { term: whole.term.child_token(), kill: whole.kill.child_token() };
        Self(Arc::new(Mutex::new(jobs.iter().map(|job| (job.id.clone(), stop())).collect())))
    }

    /// Ends a job, or keeps it from beginning. `false` if it is done.
    pub(super) fn cancel(&self, job: &JobId) -> bool {
        self.lock().get(job).map(|stop| stop.term.cancel()).is_some()
    }

    /// Whether a job is part of the run and not done.
    pub(super) fn contains(&self, job: &JobId) -> bool {
        self.lock().contains_key(job)
    }

    /// Its jobs that are not done.
    pub(super) fn jobs(&self) -> Vec<JobId> {
        let mut jobs: Vec<JobId> = self.lock().keys().cloned().collect();
        jobs.sort();
        jobs
    }

    fn stop(&self, job: &JobId) -> Stop {
        self.lock().get(job).cloned().unwrap_or_default()
    }

    fn close(&self, job: &JobId) {
        self.lock().remove(job);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Stop>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A job that is to be performed.
struct Step {
    job: Arc<Job>,
    /// How often it is run again if it fails.
    retries: u32,
}

impl Pass {
    /// Performs all of it.
    pub(super) async fn perform(self) {
        let started = Ticks::now();
        self.performer.runner.events.send(RunEvent::RunStarted { run: self.run, trigger: self.trigger });
        self.jobs.iter().for_each(|job| self.send(job, JobEvent::Pending));
        let steps = self.jobs.iter().map(|job| Step { job: Arc::clone(job), retries: job.retries });
        let mut waiting: VecDeque<Step> = steps.collect();
        let mut open: HashSet<JobId> = self.jobs.iter().map(|job| job.id.clone()).collect();
        let mut unsuccessful: HashSet<JobId> = HashSet::new();
        let mut going = FuturesUnordered::new();
        loop {
            while going.len() < self.concurrency
                && let Some(at) =
                    waiting.iter().position(|step| !step.job.after_jobs.iter().any(|id| open.contains(id)))
                && let Some(step) = waiting.remove(at)
            {
                match self.obstacle(&step.job, &unsuccessful) {
                    None => going.push(self.one(step)),
                    Some(reason) => {
                        self.send(&step.job, JobEvent::NotRun { reason, trigger: self.trigger });
                        self.open.close(&step.job.id);
                        open.remove(&step.job.id);
                        unsuccessful.insert(step.job.id.clone());
                    }
                }
            }
            let Some((step, outcome)) = going.next().await else { break };
            if step.retries > 0 && self.is_worth_another(&step.job, &outcome) {
                let left = step.retries - 1;
                self.send(&step.job, JobEvent::Again { left });
                self.send(&step.job, JobEvent::Pending);
                waiting.push_back(Step { retries: left, ..step });
                continue;
            }
            self.open.close(&step.job.id);
            open.remove(&step.job.id);
            if outcome != JobOutcome::Succeeded {
                unsuccessful.insert(step.job.id.clone());
            }
        }
        self.performer.runner.events.send(RunEvent::RunFinished { run: self.run, duration: started.elapsed() });
    }

    fn send(&self, job: &Job, event: JobEvent) {
        self.performer.runner.events.send(RunEvent::Job { run: Some(self.run), job: job.id.clone(), event });
    }

    /// Why a job whose turn it is does not run.
    fn obstacle(&self, job: &Job, unsuccessful: &HashSet<JobId>) -> Option<SkipReason> {
        if self.stop.term.is_cancelled() {
            return Some(SkipReason::Shutdown);
        }
        if self.open.stop(&job.id).term.is_cancelled() {
            return Some(SkipReason::Cancelled);
        }
        job.after_jobs.iter().any(|id| unsuccessful.contains(id)).then_some(SkipReason::After)
    }

    fn is_worth_another(&self, job: &Job, outcome: &JobOutcome) -> bool {
        matches!(outcome, JobOutcome::Failed(_)) && !self.open.stop(&job.id).term.is_cancelled()
    }

    async fn one(&self, step: Step) -> (Step, JobOutcome) {
        let started = Ticks::now();
        let (job, stop) = (&step.job, self.open.stop(&step.job.id));
        // A defect of ours in one job must not stop the others, nor the daemon.
        let performed = AssertUnwindSafe(self.performer.perform(self.run, self.trigger, job, &stop, &self.stop));
        let outcome = match performed.catch_unwind().await {
            Ok(outcome) => outcome,
            Err(_panic) => {
                let outcome = JobOutcome::Failed(JobFailure::Internal);
                self.send(job, JobEvent::Finished { outcome: outcome.clone(), duration: started.elapsed() });
                outcome
            }
        };
        (step, outcome)
    }
}
