//! Many arenas at once: each mostly waits, so that a few processors serve a dozen.

use std::any::Any;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::Duration;

use super::arena::Arena;
use super::course::Outcome;
use super::plan::{History, Setup};
use super::random::Random;
use super::report::Report;
use crate::wait::Stopwatch;

/// How many histories happen in one arena before it is built anew.
const HISTORIES_OF_A_SETUP: u64 = 8;

/// When it is enough.
#[derive(Debug, Clone, Copy)]
pub enum Limit {
    /// So many histories were begun.
    Histories(u64),
    /// So much time has passed.
    Time(Duration),
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Options {
    /// Of all plans.
    pub seed: u64,
    /// At once.
    pub arenas: u64,
    /// To draw from, seconds. A tenth of one is what a director may be without a processor.
    pub leases: &'static [u64],
    /// When it is enough.
    pub limit: Limit,
    /// Only this arena and this setup of it.
    pub only: Option<(u64, u64)>,
    /// Whether stalled connections deliver what a killed end had sent.
    pub late_delivery: bool,
    /// Where the logs of failed histories are kept.
    pub keep: PathBuf,
}

/// A seed that is another each time.
pub fn any_seed() -> u64 {
    RandomState::new().hash_one(()) % 1_000_000
}

/// Which history: seed, arena, setup in the arena, history in the setup.
#[derive(Debug, Clone, Copy)]
struct Place {
    seed: u64,
    arena: u64,
    setup: u64,
    history: u64,
}

struct Shared {
    report: Mutex<Report>,
    begun: Mutex<u64>,
    watch: Stopwatch,
}

/// Runs histories until the limit and sums them up. Each failure is printed to standard error when it happens.
pub fn run(options: &Options) -> Report {
    let shared = Shared { report: Mutex::default(), begun: Mutex::default(), watch: Stopwatch::start() };
    thread::scope(|scope| {
        let arenas = options.only.map_or(0..options.arenas, |(arena, _)| arena..arena + 1);
        for arena in arenas {
            let shared = &shared;
            scope.spawn(move || shared.arena(options, arena));
        }
    });
    shared.report.into_inner().expect("no arena panics while it reports")
}

impl Shared {
    fn report(&self) -> MutexGuard<'_, Report> {
        self.report.lock().expect("no arena panics while it reports")
    }

    /// Whether another history may begin.
    fn begin(&self, limit: Limit) -> bool {
        let mut begun = self.begun.lock().expect("no arena panics while it counts");
        let may = match limit {
            Limit::Histories(most) => *begun < most,
            Limit::Time(most) => self.watch.elapsed() < most,
        };
        *begun += u64::from(may);
        may
    }

    fn arena(&self, options: &Options, arena: u64) {
        for setup in options.only.map_or(0, |(_, setup)| setup).. {
            let place = Place { seed: options.seed, arena, setup, history: 0 };
            // A harness that fails is a failure like any other, and does not end the other arenas.
            let goes_on = catch_unwind(AssertUnwindSafe(|| self.setup(options, place))).unwrap_or_else(|panic| {
                self.fail(format!("{place}: the harness failed: {}", text(&*panic)));
                true
            });
            if !goes_on || options.only.is_some() {
                return;
            }
        }
    }

    /// The histories of one setup; false when the limit is reached.
    fn setup(&self, options: &Options, place: Place) -> bool {
        let mut setup = Setup::draw(options.leases, &mut Random::of(&[place.seed, place.arena, place.setup]));
        setup.late_delivery = options.late_delivery;
        let mut arena = Arena::new(&setup);
        for history in 0..HISTORIES_OF_A_SETUP {
            if !self.begin(options.limit) {
                return false;
            }
            let place = Place { history, ..place };
            let plan = History::draw(&setup, &mut Random::of(&[place.seed, place.arena, place.setup, history]));
            let outcome = arena.run(&plan);
            self.report().add(&plan, &outcome);
            if !outcome.violations.is_empty() {
                self.fail(keep(options, place, &setup, &plan, &outcome, &arena));
                return true;
            }
        }
        true
    }

    fn fail(&self, what: String) {
        eprintln!("FAILED {what}");
        self.report().failures.push(what);
    }
}

/// Keeps what is known of a failed history, and says so.
fn keep(options: &Options, place: Place, setup: &Setup, plan: &History, outcome: &Outcome, arena: &Arena) -> String {
    let dir = options.keep.join(format!("{}-{}.{}.{}", place.seed, place.arena, place.setup, place.history));
    let violations = outcome.violations.join("; ");
    let text = format!("{place}\n{setup}{plan}{violations}\n\n{}", outcome.record);
    if fs::create_dir_all(&dir).and_then(|()| fs::write(dir.join("history"), text)).is_ok() {
        arena.keep_logs(&dir);
    }
    format!("{place}: {violations}\n{setup}{plan}logs in {}", dir.display())
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let said = panic.downcast_ref::<String>().map(String::as_str);
    said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it panicked")
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { seed, arena, setup, history } = self;
        write!(f, "seed {seed}, history {arena}.{setup}.{history}")
    }
}
