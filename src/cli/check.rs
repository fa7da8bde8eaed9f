//! `check`: everything that is wrong with a configuration.

use std::path::PathBuf;

use super::{Exit, config_path, load, print};

/// Arguments of `check`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The configuration file
    file: Option<PathBuf>,
    /// The configuration file, as for `run`
    #[arg(long, short, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Exit {
    let loaded = match config_path(args.file.as_ref().or(args.config.as_ref())).and_then(|path| load(&path)) {
        Ok(loaded) => loaded,
        Err(exit) => return exit,
    };
    let config = &loaded.config;
    let actions: usize = config.jobs.iter().map(|job| job.actions.len()).sum();
    let warnings = match loaded.warnings.len() {
        0 => String::new(),
        1 => ", 1 warning".into(),
        n => format!(", {n} warnings"),
    };
    let (path, id, jobs) = (config.path.display(), &config.rsync_id, config.jobs.len());
    print(&format!("{path}: instance {id}, {jobs} jobs, {actions} actions{warnings}: ok"))
}
