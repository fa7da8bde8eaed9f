//! The long form of the fault-injection suite; `bench/locks` builds and starts it.

use std::env;
use std::process::ExitCode;
use std::time::Duration;

use integration_tests::faults::suite::{self, Limit, Options};

const USAGE: &str =
    "usage: lock-faults [--minutes N] [--seed S] [--arenas K] [--only ARENA.SETUP] [--late-delivery yes]";

fn main() -> ExitCode {
    let Some(options) = options(env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    println!("seed {}, {} arenas", options.seed, options.arenas);
    let report = suite::run(&options);
    print!("{report}");
    if report.failures.is_empty() {
        return ExitCode::SUCCESS;
    }
    for failure in &report.failures {
        println!("FAILED {failure}");
    }
    ExitCode::FAILURE
}

fn options(mut words: impl Iterator<Item = String>) -> Option<Options> {
    let mut options = Options {
        seed: suite::any_seed(),
        arenas: 20,
        leases: &[3, 3, 5],
        limit: Limit::Time(Duration::from_secs(60)),
        only: None,
        late_delivery: false,
        keep: env::temp_dir().join("lock-faults"),
    };
    while let Some(word) = words.next() {
        let value = words.next()?;
        match word.as_str() {
            "--minutes" => {
                options.limit = Limit::Time(Duration::try_from_secs_f64(value.parse::<f64>().ok()? * 60.0).ok()?)
            }
            "--seed" => options.seed = value.parse().ok()?,
            "--arenas" => options.arenas = value.parse().ok()?,
            "--late-delivery" => options.late_delivery = value == "yes",
            "--only" => {
                let (arena, setup) = value.split_once('.')?;
                options.only = Some((arena.parse().ok()?, setup.parse().ok()?));
            }
            _ => return None,
        }
    }
    Some(options)
}
