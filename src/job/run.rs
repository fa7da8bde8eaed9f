//! The sequence of a job.

use std::sync::OnceLock;
use std::time::Duration;

use super::conditions;
use super::wait::{self, Patience};
use crate::action::{Assignment, Runner};
use crate::clock::{self, Ticks};
use crate::config::{Job, Location};
use crate::event::{ActionFailure, JobEvent, JobFailure, JobOutcome, Obstacle, RunEvent, RunId, SkipReason, Trigger};
use crate::lock::record::Record;
use crate::lock::{Attempt, Held, LockSet, Stores};
use crate::process::Stop;
use crate::warrant::Warrant;

/// Bound on giving locks back; what is not removed by then is ended by its lease.
const RELEASE_DEADLINE: Duration = Duration::from_secs(10);
/// The same while the daemon is shutting down.
const LAST_RELEASE_DEADLINE: Duration = Duration::from_secs(3);
/// How long a shutdown waits for a host that is just being asked for a lock, and then for its giving back.
const SHUTDOWN_PATIENCE: Duration = Duration::from_millis(300);
/// Upper bound of the random pause after two jobs that block on each other have both stepped back.
const STEP_BACK: Duration = Duration::from_millis(1500);

/// Who we are, for the lock files.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The instance.
    pub rsync_id: String,
    /// This host's name.
    pub host: String,
    /// The user that we run as.
    pub user: String,
    /// Our process.
    pub pid: u32,
    /// This boot of the host.
    pub boot_id: String,
}

/// Performs jobs; the same for all jobs of an instance.
#[derive(Clone)]
pub struct Performer {
    /// Executes actions.
    pub runner: Runner,
    /// Lock and block files.
    pub stores: Stores,
    /// Who we are.
    pub identity: Identity,
    /// How long a lock is valid after a refresh.
    pub lease: Duration,
}

/// One job of one run.
pub(super) struct Course<'a> {
    pub(super) performer: &'a Performer,
    pub(super) run: RunId,
    pub(super) trigger: Trigger,
    pub(super) job: &'a Job,
    pub(super) stop: &'a Stop,
    /// Ends `on_failure` and `after`, which the order to stop does not end at once.
    pub(super) no_more: Stop,
    /// When `on_failure` and `after` noticed the order to stop.
    pub(super) told_to_stop: OnceLock<Ticks>,
}

impl Performer {
    /// Performs one job. Cancelling `stop` ends any wait at once and any action by its rules; locks are released all the same. `daemon` is
    /// cancelled with it when that is because the daemon stops.
    pub async fn perform(&self, run: RunId, trigger: Trigger, job: &Job, stop: &Stop, daemon: &Stop) -> JobOutcome {
        let started = Ticks::now();
        let (no_more, told_to_stop) = Default::default();
        let course = Course { performer: self, run, trigger, job, stop, no_more, told_to_stop };
        course.send(JobEvent::Started { trigger });
        let mut outcome = course.run().await;
        if outcome == JobOutcome::Skipped(SkipReason::Shutdown) && !daemon.term.is_cancelled() {
            outcome = JobOutcome::Skipped(SkipReason::Cancelled);
        }
        course.send(JobEvent::Finished { outcome: outcome.clone(), duration: started.elapsed() });
        self.runner.events.settle().await;
        outcome
    }

    fn record(&self, job: &Job) -> Record {
        let identity = self.identity.clone();
        Record {
            instance: identity.rsync_id,
            host: identity.host,
            user: identity.user,
            pid: identity.pid,
            boot_id: identity.boot_id,
            token: String::new(),
            lease_seconds: self.lease.as_secs(),
            taken_at: clock::now(),
            job: job.id.to_string(),
        }
    }

    /// Time to kill an action in when a lock is lost.
    fn fence_grace(&self) -> Duration {
        self.runner.kill_grace.min(self.lease / 4)
    }

    /// Time after the last refresh at which a lock counts as lost: early enough to have killed the action before another may
    /// take the lock over.
    fn fence(&self) -> Duration {
        self.lease - self.fence_grace() - self.lease / 10
    }
}

impl Course<'_> {
    fn send(&self, event: JobEvent) {
        self.performer.runner.events.send(RunEvent::Job { run: Some(self.run), job: self.job.id.clone(), event });
    }

    async fn run(&self) -> JobOutcome {
        if let Some(condition) = conditions::unmet(&self.job.when, &self.performer.runner, self.stop).await {
            self.send(JobEvent::Unmet { condition });
            return JobOutcome::Skipped(SkipReason::Condition);
        }
        if self.stop.term.is_cancelled() {
            return JobOutcome::Skipped(SkipReason::Shutdown);
        }
        let mut held = match self.lock().await {
            Ok(held) => held,
            Err(JobOutcome::Failed(failure)) => return self.without_locks(failure).await,
            Err(outcome) => return outcome,
        };
        let warrant = held.as_ref().map_or_else(Warrant::without_locks, |held| held.warrant().clone());
        let result = self.act(&warrant).await;
        let was_lost = self.tell_loss(held.as_mut()).await;
        let result = self.clean_up(result).await;
        if !was_lost {
            self.tell_loss(held.as_mut()).await;
        }
        if let Some(held) = held {
            let deadline = if self.stop.term.is_cancelled() { LAST_RELEASE_DEADLINE } else { RELEASE_DEADLINE };
            let left_behind = held.release(deadline, &self.stop.kill).await;
            self.send(JobEvent::Released { left_behind });
        }
        result.map_or_else(JobOutcome::Failed, |()| JobOutcome::Succeeded)
    }

    /// Says which lock was lost, if one was.
    async fn tell_loss(&self, held: Option<&mut Held>) -> bool {
        let Some(held) = held else { return false };
        let Some(loss) = held.loss().await else { return false };
        self.send(JobEvent::LockLost { file: loss.location.to_string(), reason: loss.reason });
        true
    }

    /// Blocks and locks: comes back with all locks taken and no block standing. `None` for a job without lock files.
    async fn lock(&self) -> Result<Option<Held>, JobOutcome> {
        let Self { performer, job, .. } = self;
        let locations = job.lock_files.iter().map(|lock| lock.location.clone());
        let set = LockSet::new(performer.stores.clone(), performer.record(job), performer.fence(), locations);
        let blocks: Vec<Location> = job.blocks_on.iter().map(|block| block.location.clone()).collect();
        self.wait_for_blocks().await?;
        if job.lock_files.is_empty() {
            return Ok(None);
        }
        let mut asked = Ticks::now();
        let mut patience: Vec<Option<Patience>> = job.lock_files.iter().map(|_| None).collect();
        loop {
            match self.take(&set, &blocks).await? {
                Attempt::Taken { taken_over, since } => {
                    for (location, holder) in taken_over {
                        self.send(JobEvent::LockTakenOver { file: location.to_string(), holder });
                    }
                    let (local, remote) = set.count();
                    self.send(JobEvent::Locked { local, remote, waited: asked.elapsed() });
                    return Ok(Some(set.hold(since)));
                }
                Attempt::Held { lock, holder } => {
                    let patience = patience[lock].get_or_insert_with(|| Patience::begin(job.lock_files[lock].wait));
                    self.wait_for_lock(lock, Obstacle::Present(holder), patience.next_look()).await?;
                }
                Attempt::Blocked { block } => {
                    tracing::info!(job = %job.id, "{} appeared while locking: stepping back", blocks[block]);
                    wait::pause(random_part_of(STEP_BACK), &self.stop.term).await.map_err(JobOutcome::Skipped)?;
                    self.wait_for_blocks().await?;
                    asked = Ticks::now();
                }
                Attempt::Failed { lock, error } => {
                    let file = job.lock_files[lock].location.to_string();
                    self.send(JobEvent::LockWait { file, obstacle: Obstacle::Unknown(error), next_look: None });
                    return Err(JobOutcome::Failed(JobFailure::Lock));
                }
            }
            if self.stop.term.is_cancelled() {
                return Err(JobOutcome::Skipped(SkipReason::Shutdown));
            }
        }
    }

    /// One attempt. It is not dropped half way, since it gives back what it has taken, unless a host that does not answer would
    /// delay a shutdown.
    async fn take(&self, set: &LockSet, blocks: &[Location]) -> Result<Attempt, JobOutcome> {
        let attempt = set.take(blocks);
        tokio::pin!(attempt);
        let stopped = async {
            self.stop.term.cancelled().await;
            clock::sleep(SHUTDOWN_PATIENCE).await;
        };
        tokio::select! {
            biased;
            attempt = &mut attempt => Ok(attempt),
            () = stopped => {
                set.abandon(SHUTDOWN_PATIENCE).await;
                Err(JobOutcome::Skipped(SkipReason::Shutdown))
            }
        }
    }

    async fn wait_for_blocks(&self) -> Result<(), JobOutcome> {
        let blocks = &self.job.blocks_on;
        if blocks.is_empty() {
            return Ok(());
        }
        let started = Ticks::now();
        let send = |event| self.send(event);
        let result = wait::for_blocks(&self.performer.stores, blocks, &self.stop.term, &send).await;
        self.send(JobEvent::BlocksDone { waited: started.elapsed() });
        result.map_err(JobOutcome::Skipped)
    }

    async fn wait_for_lock(
        &self,
        lock: usize,
        obstacle: Obstacle,
        next_look: Option<Duration>,
    ) -> Result<(), JobOutcome> {
        let file = self.job.lock_files[lock].location.to_string();
        self.send(JobEvent::LockWait { file, obstacle, next_look });
        let pause = next_look.ok_or(JobOutcome::Skipped(SkipReason::LockTimeout))?;
        wait::pause(pause, &self.stop.term).await.map_err(JobOutcome::Skipped)
    }

    /// `before` and all actions in order, up to the first that fails. A lost lock kills the action that is under way.
    async fn act(&self, warrant: &Warrant) -> Result<(), JobFailure> {
        let stop = Stop { term: self.stop.term.child_token(), kill: self.stop.kill.child_token() };
        let own = &self.performer.runner;
        let before = self.hook_runner("before", None);
        let hooks = self.job.before.iter().map(|hook| (&before, hook));
        for (runner, action) in hooks.chain(self.job.actions.iter().map(|action| (own, action))) {
            if warrant.is_lost() {
                return Err(JobFailure::LockLost);
            }
            if stop.term.is_cancelled() {
                let failure = ActionFailure::Cancelled;
                return Err(JobFailure::Action { action: action.id.clone(), failure });
            }
            let report = {
                let assignment = Assignment { run: self.run, job: &self.job.id, action, stop: &stop, warrant };
                let run = runner.run(&assignment);
                tokio::pin!(run);
                tokio::select! {
                    biased;
                    report = &mut run => report,
                    () = self.fence_off(warrant, &stop) => run.await,
                }
            };
            let Some(failure) = report.failure else { continue };
            return Err(JobFailure::Action { action: action.id.clone(), failure });
        }
        if warrant.is_lost() { Err(JobFailure::LockLost) } else { Ok(()) }
    }

    /// Waits for the loss of a lock, then ends the action: TERM, and KILL before another may take the lock over; KILL at once if
    /// another may have it already.
    async fn fence_off(&self, warrant: &Warrant, stop: &Stop) {
        warrant.lost().await;
        let grace = self.performer.fence_grace().min(warrant.time_left());
        stop.term.cancel();
        tokio::select! {
            () = clock::sleep(grace) => stop.kill.cancel(),
            () = stop.kill.cancelled() => {}
        }
    }
}

fn random_part_of(longest: Duration) -> Duration {
    let mut byte = [0];
    // Without random numbers a fixed pause is still a pause.
    let _ = getrandom::fill(&mut byte);
    longest.mul_f64(f64::from(byte[0]) / 255.0)
}
