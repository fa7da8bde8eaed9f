//! The loop around the core.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::core::{Command, Core, Event, Jobs, LaneId};
use super::heartbeat::Heartbeat;
use super::lanes::{self, Known};
use super::orders::{self, Done, Inbox, Order, Refusal};
use super::pass::{Open, Pass};
use super::paused::Paused;
use super::signal::{Request, Signals};
use crate::clock;
use crate::config::{Config, Job, JobId};
use crate::event::{JobEvent, RunEvent, RunId, SkipReason, Trigger};
use crate::job::Performer;
use crate::process::Stop;

/// What becomes of who is to be renewed.
const RENEWS: &str = "it leaves, to be started anew, as soon as nothing runs or is due";

/// What a director is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Run by schedule until told to stop.
    Daemon,
    /// Run all jobs once, in order, and leave.
    Once,
}

/// Why a director left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It was told to stop, or the one run of [`Mode::Once`] is over.
    Over,
    /// It is to be started anew.
    Renewal,
}

/// What a director begins with.
pub struct Setup {
    /// The instance.
    pub config: Config,
    /// This host's name, which the jitter depends on.
    pub host: String,
    /// By schedule, or once.
    pub mode: Mode,
    /// Whose schedules are suspended.
    pub paused: Paused,
    /// Up to when each job's scheduled times were dealt with, as far as that is known.
    pub seen_until: BTreeMap<JobId, Timestamp>,
    /// By which orders come.
    pub inbox: Inbox,
    /// Who performs the jobs.
    pub performer: Performer,
    /// Who else is told of another configuration, beside the observers of events.
    pub on_reload: Box<dyn Fn(&Config) + Send>,
    /// Who waits for signs of life.
    pub heartbeat: Option<Heartbeat>,
}

/// Runs lanes of jobs.
pub struct Director {
    config: Config,
    host: String,
    mode: Mode,
    paused: Paused,
    inbox: Inbox,
    performer: Performer,
    on_reload: Box<dyn Fn(&Config) + Send>,
    heartbeat: Option<Heartbeat>,
    /// Name and jobs of each; one that a new configuration does not have any more has no jobs.
    lanes: Vec<(String, Vec<Arc<Job>>)>,
    core: Core,
    stop: Stop,
    runs: JoinSet<LaneId>,
    /// Of each lane that runs: which run, and what of it is not done.
    running: HashMap<LaneId, (RunId, Open)>,
    /// Why it leaves, when it is time to.
    ending: Option<Ending>,
}

impl Director {
    /// A director, which does nothing before [`Director::run`].
    pub fn new(setup: Setup) -> Self {
        let Setup { config, host, mode, paused, seen_until, inbox, performer, on_reload, heartbeat } = setup;
        let known = Known { paused: paused.jobs().clone(), seen_until };
        let lanes = lanes::lanes(&config, &host, mode, &known);
        let (plans, lanes) = lanes.into_iter().map(|lane| (lane.plan, (lane.name, lane.jobs))).unzip();
        Self {
            config,
            host,
            mode,
            paused,
            inbox,
            performer,
            on_reload,
            heartbeat,
            lanes,
            core: Core::new(plans, clock::now()),
            stop: Stop { term: CancellationToken::new(), kill: CancellationToken::new() },
            runs: JoinSet::new(),
            running: HashMap::new(),
            ending: None,
        }
    }

    /// Plans, and begins what is to begin at once. The jobs' next times and pauses have been told when this returns.
    pub fn begin(&mut self) {
        for (job, since) in self.paused.jobs() {
            self.tell_job(job, JobEvent::Paused { since: Some(*since) });
        }
        self.handle(match self.mode {
            Mode::Daemon => Event::Started,
            Mode::Once => Event::Once,
        });
    }

    fn handle(&mut self, event: Event) {
        let commands = self.core.handle(event, clock::now());
        self.obey(commands, &mut Done::default());
    }

    /// Directs what [`Director::begin`] began until told to stop, or until the one run of [`Mode::Once`] is over; then nothing of it runs
    /// any more and no lock is held.
    pub async fn run(mut self, signals: &mut Signals) -> Ending {
        loop {
            if let Some(ending) = self.ending {
                return ending;
            }
            let event = tokio::select! {
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
                    Request::Renew => {
                        tracing::info!("{received}: {RENEWS}");
                        Event::Renew
                    }
                },
                Some(finished) = self.runs.join_next() => match finished {
                    Ok(lane) => {
                        self.running.remove(&lane);
                        Event::RunFinished(lane)
                    }
                    // A lane catches its jobs' panics and is never aborted.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                },
                (order, reply) = self.inbox.next() => {
                    self.answer(order, reply);
                    Event::Woke
                }
                () = clock::sleep_until(self.core.next_wakeup()) => Event::Woke,
                () = due(self.heartbeat.as_ref()) => Event::Woke,
            };
            self.handle(event);
            self.heartbeat.iter_mut().for_each(Heartbeat::go_on);
        }
    }

    /// Does as the core says, noting what comes of it.
    fn obey(&mut self, commands: Vec<Command>, done: &mut Done) {
        for command in commands {
            match command {
                Command::Start { lane, jobs, run, trigger } => {
                    let jobs = self.jobs(lane, &jobs);
                    jobs.iter().for_each(|job| done.note(&job.id, "started", Some(run.0)));
                    self.start(lane, run, trigger, jobs);
                }
                Command::Skip { lane, jobs, trigger, reason } => {
                    for job in self.jobs(lane, &jobs) {
                        done.note(&job.id, reason.as_str(), None);
                        self.tell_job(&job.id, JobEvent::NotRun { reason, trigger });
                    }
                }
                Command::Missed { lane, jobs, count } => {
                    self.jobs(lane, &jobs).iter().for_each(|job| self.tell_job(&job.id, JobEvent::Missed { count }));
                }
                Command::Due { lane, at } => {
                    self.lanes[lane].1.iter().for_each(|job| self.tell_job(&job.id, JobEvent::NextRun(at)));
                }
                Command::Queued { lane, new: true } => {
                    let queued = self.jobs(lane, &self.core.queued(lane));
                    queued.iter().for_each(|job| self.tell_job(&job.id, JobEvent::Pending));
                    tracing::info!("a run is under way: one more is queued behind it");
                }
                Command::Queued { new: false, .. } => {
                    tracing::info!("a run is under way and one more is queued already");
                }
                Command::Stop => self.stop.term.cancel(),
                Command::Kill => self.stop.kill.cancel(),
                Command::Exit => {
                    self.ending.get_or_insert(Ending::Over);
                }
                Command::Renew => {
                    tracing::info!("nothing runs: leaving, to be started anew");
                    self.ending = Some(Ending::Renewal);
                }
            }
        }
    }

    fn jobs(&self, lane: LaneId, jobs: &Jobs) -> Vec<Arc<Job>> {
        jobs.iter().map(|&job| Arc::clone(&self.lanes[lane].1[job])).collect()
    }

    fn tell_job(&self, job: &JobId, event: JobEvent) {
        self.performer.runner.events.send(RunEvent::Job { run: None, job: job.clone(), event });
    }

    fn start(&mut self, lane: LaneId, run: RunId, trigger: Trigger, jobs: Vec<Arc<Job>>) {
        let open = Open::new(&jobs, &self.stop);
        self.running.insert(lane, (run, open.clone()));
        let concurrency = self.config.concurrency;
        let (performer, stop) = (self.performer.clone(), self.stop.clone());
        let pass = Pass { performer, run, trigger, jobs, concurrency, stop, open };
        self.runs.spawn(async move {
            pass.perform().await;
            lane
        });
    }

    fn answer(&mut self, order: Order, reply: oneshot::Sender<Result<Done, Refusal>>) {
        let result = match order {
            Order::Now(jobs) => self.select(&jobs).map(|jobs| self.now(jobs)),
            Order::Cancel(jobs) => self.cancel(&jobs),
            Order::Pause(jobs) => self.select(&jobs).and_then(|jobs| self.pause(jobs, true)),
            Order::Resume(jobs) => self.select(&jobs).and_then(|jobs| self.pause(jobs, false)),
            Order::Reload(config) => Ok(self.reload(*config)),
            Order::Renew => Ok(self.renew()),
        };
        // Who gave the order may be gone; it was carried out all the same.
        let _ = reply.send(result);
    }

    /// Where the named jobs are; all jobs if none is named.
    fn select(&self, ids: &[JobId]) -> Result<Vec<(LaneId, Jobs)>, Refusal> {
        let is_known = |id: &&JobId| self.config.jobs.iter().any(|job| job.id == **id);
        if let Some(unknown) = ids.iter().find(|id| !is_known(id)) {
            let known: Vec<&str> = self.config.jobs.iter().map(|job| job.id.as_str()).collect();
            return Err(Refusal::UnknownJob { job: unknown.to_string(), known: known.join(", ") });
        }
        let of_lane = |(lane, (_, jobs)): (LaneId, &(String, Vec<Arc<Job>>))| {
            let wanted = |job: &Arc<Job>| ids.is_empty() || ids.contains(&job.id);
            let jobs = jobs.iter().enumerate().filter(|(_, job)| wanted(job)).map(|(at, _)| at);
            (lane, jobs.collect::<Jobs>())
        };
        Ok(self.lanes.iter().enumerate().map(of_lane).filter(|(_, jobs)| !jobs.is_empty()).collect())
    }

    fn now(&mut self, wanted: Vec<(LaneId, Jobs)>) -> Done {
        let mut done = Done::default();
        for (lane, jobs) in wanted {
            let queued = self.core.queued(lane);
            let commands = self.core.handle(Event::Now(vec![(lane, jobs.clone())]), clock::now());
            for job in jobs.intersection(&self.core.queued(lane)) {
                let result = if queued.contains(job) { "already queued" } else { "queued" };
                done.note(&self.lanes[lane].1[*job].id, result, None);
            }
            self.obey(commands, &mut done);
        }
        if done.jobs.is_empty() {
            done.notes.push("the instance is stopping: nothing new begins".to_owned());
        }
        done
    }

    /// Cancels what runs of these jobs, wherever they were when it began, and what is queued.
    fn cancel(&mut self, ids: &[JobId]) -> Result<Done, Refusal> {
        let runs = self.runs_under_way();
        let is_gone = |id: &JobId| self.config.jobs.iter().all(|job| job.id != *id);
        // A job that is no longer in the configuration may still run.
        let (gone, known): (Vec<JobId>, Vec<JobId>) =
            ids.iter().cloned().partition(|id| is_gone(id) && runs.iter().any(|(_, _, open)| open.contains(id)));
        let unwanted = if known.is_empty() && !gone.is_empty() { Vec::new() } else { self.select(&known)? };
        let mut done = Done::default();
        let mut cancelled: Vec<(JobId, RunId)> = Vec::new();
        for (_, run, open) in &runs {
            let jobs = open.jobs().into_iter().filter(|job| ids.is_empty() || ids.contains(job));
            cancelled.extend(jobs.filter(|job| open.cancel(job)).map(|job| (job, *run)));
        }
        cancelled.sort_by_key(|(id, _)| self.config.jobs.iter().position(|job| job.id == *id).unwrap_or(usize::MAX));
        for (job, run) in cancelled {
            tracing::info!("{job}: cancelled");
            done.note(&job, "cancelled", Some(run.0));
        }
        let commands = self.core.handle(Event::Unqueue(unwanted), clock::now());
        self.obey(commands, &mut done);
        Ok(done)
    }

    /// What runs, in the order of the lanes.
    fn runs_under_way(&self) -> Vec<(LaneId, RunId, Open)> {
        let mut runs: Vec<_> = self.running.iter().map(|(lane, (run, open))| (*lane, *run, open.clone())).collect();
        runs.sort_by_key(|(lane, ..)| *lane);
        runs
    }

    fn pause(&mut self, jobs: Vec<(LaneId, Jobs)>, pause: bool) -> Result<Done, Refusal> {
        let (mut paused, now) = (self.paused.jobs().clone(), clock::now());
        let mut done = Done::default();
        for job in jobs.iter().flat_map(|(lane, jobs)| self.jobs(*lane, jobs)) {
            let was = paused.contains_key(&job.id);
            let result = match (pause, was) {
                (true, true) => "paused already",
                (true, false) => "paused",
                (false, true) => "resumed",
                (false, false) => "not paused",
            };
            done.note(&job.id, result, None);
            if pause {
                paused.entry(job.id.clone()).or_insert(now);
            } else {
                paused.remove(&job.id);
            }
        }
        self.paused.set(paused)?;
        let commands = self.core.handle(Event::Pause(jobs, pause), now);
        self.obey(commands, &mut Done::default());
        for job in done.jobs.iter().filter(|job| ["paused", "resumed"].contains(&&*job.result)) {
            let id = JobId::new(job.job.as_str());
            self.tell_job(&id, JobEvent::Paused { since: pause.then_some(now) });
        }
        if pause && !self.paused.is_lasting() {
            done.notes.push("there is no `state_dir`: it lasts until the instance is started anew".to_owned());
        }
        Ok(done)
    }

    fn renew(&mut self) -> Done {
        tracing::info!("ordered to be renewed: {RENEWS}");
        let mut done = Done::default();
        let commands = self.core.handle(Event::Renew, clock::now());
        self.obey(commands, &mut done);
        if self.ending.is_some() {
            done.notes.push("nothing runs: it leaves now".to_owned());
            return done;
        }
        for (_, run, open) in self.runs_under_way() {
            open.jobs().iter().for_each(|job| done.note(job, "waited for", Some(run.0)));
        }
        done.notes.push(RENEWS.to_owned());
        done
    }

    fn reload(&mut self, config: Config) -> Done {
        let mut done = orders::differences(&self.config, &config);
        self.performer.runner.kill_grace = config.kill_grace;
        self.performer.lease = config.lease;
        let known = Known { paused: self.paused.jobs().clone(), seen_until: BTreeMap::new() };
        let lanes = lanes::lanes(&config, &self.host, self.mode, &known);
        let is_gone = |(id, _): &(JobId, Trigger)| config.jobs.iter().all(|job| job.id != *id);
        let (gone, queued): (Vec<_>, Vec<_>) = self.queued().into_iter().partition(is_gone);
        for (id, trigger) in gone {
            self.tell_job(&id, JobEvent::NotRun { reason: SkipReason::Cancelled, trigger });
        }
        self.performer.runner.events.configured(&config);
        (self.on_reload)(&config);
        let runs = self.runs_under_way();
        let under_way =
            |id: &JobId| runs.iter().filter(|(_, _, open)| open.contains(id)).map(|(lane, ..)| *lane).collect();
        let plans = lanes::replan(&mut self.lanes, lanes, under_way);
        self.config = config;
        let commands = self.core.replan(plans, clock::now());
        self.obey(commands, &mut done);
        self.requeue(queued);
        for (job, since) in self.paused.jobs() {
            self.tell_job(job, JobEvent::Paused { since: Some(*since) });
        }
        tracing::info!("the configuration was read anew: {}", orders::summary(&done));
        done
    }

    /// The jobs that are queued, and why.
    fn queued(&self) -> Vec<(JobId, Trigger)> {
        let of_lane = |lane: LaneId| {
            let jobs = self.jobs(lane, &self.core.queued(lane));
            let trigger = self.core.queued_by(lane);
            jobs.into_iter().filter_map(move |job| Some((job.id.clone(), trigger?)))
        };
        (0..self.lanes.len()).flat_map(of_lane).collect()
    }

    /// Queues jobs where they are now that were queued before another configuration.
    fn requeue(&mut self, before: Vec<(JobId, Trigger)>) {
        let still = self.queued();
        for (id, trigger) in before.into_iter().filter(|(id, _)| still.iter().all(|(still, _)| still != id)) {
            for (lane, jobs) in self.select(&[id]).unwrap_or_default() {
                self.handle(Event::Requeue(lane, jobs, trigger));
            }
        }
    }
}

/// Waits until a sign of life is due; for ever where nobody waits for one.
async fn due(heartbeat: Option<&Heartbeat>) {
    match heartbeat {
        Some(heartbeat) => heartbeat.due().await,
        None => std::future::pending().await,
    }
}
