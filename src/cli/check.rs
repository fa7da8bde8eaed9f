//! `check`: everything that is wrong with a configuration.

use std::path::PathBuf;

use crate::http::{Access, AccessError, AuthError};
use crate::human::count;

use super::{Exit, complain, config_path, load, print};

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
    match Access::load(&config.metrics) {
        // Credentials are there in the service only.
        Ok(_) | Err(AccessError::Auth(AuthError::NoCredentials(_))) => {}
        Err(error) => {
            complain(&error);
            return Exit::Configuration;
        }
    }
    let actions: usize = config.jobs.iter().map(|job| job.actions.len()).sum();
    let jobs = count(config.jobs.len() as u64, "job", "jobs");
    let actions = count(actions as u64, "action", "actions");
    let warnings = match loaded.warnings.len() as u64 {
        0 => String::new(),
        n => format!(", {}", count(n, "warning", "warnings")),
    };
    print(&format!("{}: instance {}, {jobs}, {actions}{warnings}: ok", config.path.display(), config.rsync_id))
}
