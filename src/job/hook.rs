//! The commands around a job's actions: `before`, `on_failure`, `after`.
//!
//! `before` belongs to the actions: it is stopped as they are, and its failure is the job's. What comes after them cleans up, so it runs
//! after a failure, a timeout, a cancel, a lost lock and a shutdown too; in a shutdown all of it together has [`LAST_HOOKS`], then it is
//! killed, that the daemon be gone in time. The locks are held meanwhile (unless they are lost).

use std::ffi::OsString;
use std::time::Duration;

use super::run::Course;
use crate::action::{Assignment, Runner};
use crate::clock;
use crate::config::Action;
use crate::event::{ActionFailure, JobFailure, JobOutcome};
use crate::warrant::Warrant;

/// What `on_failure` and `after` have together, from the order to stop on.
pub const LAST_HOOKS: Duration = Duration::from_secs(5);

impl Course<'_> {
    /// What executes hooks: as for actions, with variables that tell how the job stands.
    pub(super) fn hook_runner(&self, hook: &str, result: Option<&Result<(), JobFailure>>) -> Runner {
        let runner = self.performer.runner.clone();
        let mut told = vec![
            ("HOOK", hook.to_owned()),
            ("INSTANCE", self.performer.identity.rsync_id.clone()),
            ("HOST", self.performer.identity.host.clone()),
            ("JOB", self.job.id.to_string()),
            ("RUN", self.run.to_string()),
            ("TRIGGER", self.trigger.to_string()),
        ];
        match result {
            None => {}
            Some(Ok(())) => told.push(("OUTCOME", "succeeded".to_owned())),
            Some(Err(failure)) => {
                told.extend([("OUTCOME", "failed".to_owned()), ("REASON", failure.as_str().to_owned())]);
                if let JobFailure::Action { action, .. } = failure {
                    told.push(("FAILED_ACTION", action.to_string()));
                }
            }
        }
        let variable = |(name, value): (&str, String)| (format!("RSYNCDIRECTOR_{name}").into(), OsString::from(value));
        Runner { env: told.into_iter().map(variable).collect(), ..runner }
    }

    /// What comes after the actions. A failure of `after` is one of a job that succeeded until then.
    pub(super) async fn clean_up(&self, mut result: Result<(), JobFailure>) -> Result<(), JobFailure> {
        if result.is_err() {
            // What failed first is what there is to tell.
            let _ = self.hooks("on_failure", &self.job.on_failure, &result).await;
        }
        let after = self.hooks("after", &self.job.after, &result).await;
        if result.is_ok() {
            result = after;
        }
        result
    }

    /// The end of a job that failed before it had its locks: there is nothing to clean up, but something to tell.
    pub(super) async fn without_locks(&self, failure: JobFailure) -> JobOutcome {
        let result = Err(failure);
        let _ = self.hooks("on_failure", &self.job.on_failure, &result).await;
        result.map_or_else(JobOutcome::Failed, |()| JobOutcome::Succeeded)
    }

    /// All of one kind, whether or not one of them fails.
    async fn hooks(&self, kind: &str, hooks: &[Action], result: &Result<(), JobFailure>) -> Result<(), JobFailure> {
        let mut outcome = Ok(());
        if hooks.is_empty() {
            return outcome;
        }
        let runner = self.hook_runner(kind, Some(result));
        let warrant = Warrant::without_locks();
        for hook in hooks {
            if self.no_more.term.is_cancelled() {
                tracing::warn!(job = %self.job.id, "no time is left for {}", hook.id);
                return Err(JobFailure::Action { action: hook.id.clone(), failure: ActionFailure::Cancelled });
            }
            let report = {
                let (run, job) = (self.run, &self.job.id);
                let assignment = Assignment { run, job, action: hook, stop: &self.no_more, warrant: &warrant };
                let run = runner.run(&assignment);
                tokio::pin!(run);
                tokio::select! {
                    biased;
                    report = &mut run => report,
                    () = self.end_of_hooks() => run.await,
                }
            };
            if let Some(failure) = report.failure
                && outcome.is_ok()
            {
                outcome = Err(JobFailure::Action { action: hook.id.clone(), failure });
            }
        }
        outcome
    }

    /// Waits for the order to stop and the time after it, then kills what runs and lets nothing more begin.
    async fn end_of_hooks(&self) {
        self.stop.term.cancelled().await;
        let since = *self.told_to_stop.get_or_init(clock::Ticks::now);
        tokio::select! {
            () = clock::sleep(LAST_HOOKS.saturating_sub(since.elapsed())) => {}
            () = self.stop.kill.cancelled() => {}
        }
        self.no_more.term.cancel();
        self.no_more.kill.cancel();
    }
}
