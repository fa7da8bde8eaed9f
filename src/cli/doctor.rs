//! `doctor`: everything that will fail, said before it does.

use std::io::IsTerminal;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::instance::{Which, runtime};
use super::table::{RED, YELLOW};
use super::{Exit, complain_of, print};
use crate::config::{Config, Peer};
use crate::doctor::{self, Doctor, Finding, Grade, needs::Needs};
use crate::event::Events;
use crate::process::Spawner;
use crate::ssh::Pool;
use crate::{daemon, error_chain};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Print JSON instead of text
    #[arg(long)]
    json: bool,
    /// Only these peers: HOST, USER@HOST or USER@HOST:PORT; without any, this host and all peers
    #[arg(value_name = "PEER")]
    peers: Vec<String>,
}

pub(super) fn run(args: &Args) -> Exit {
    if let Err(exit) = with_credentials(&args.which) {
        return exit;
    }
    let config = match args.which.config() {
        Ok(config) => config,
        // Without an instance there is nothing that could be right.
        Err(_) => return Exit::Configuration,
    };
    let only = match doctor::meant(&Needs::of(&config), &args.peers) {
        Ok(peers) => (!args.peers.is_empty()).then_some(peers),
        Err(problem) => {
            complain_of(&problem);
            return Exit::Configuration;
        }
    };
    let findings = match look(args, &config, only.as_deref()) {
        Ok(findings) => findings,
        Err(exit) => return exit,
    };
    if args.json {
        print(&format!("{:#}", Value::Array(findings.iter().map(Finding::to_json).collect())));
    } else {
        let color = std::io::stdout().is_terminal();
        let lines: Vec<String> = findings.iter().map(|finding| line(finding, color)).collect();
        print(&lines.join("\n"));
    }
    match findings.iter().any(|finding| finding.grade == Grade::Fail) {
        true => Exit::Unwell,
        false => Exit::Success,
    }
}

fn line(finding: &Finding, color: bool) -> String {
    match finding.grade {
        Grade::Warn if color => format!("{YELLOW}{finding}\x1b[0m"),
        Grade::Fail if color => format!("{RED}{finding}\x1b[0m"),
        _ => finding.to_string(),
    }
}

fn look(args: &Args, config: &Config, only: Option<&[Peer]>) -> Result<Vec<Finding>, Exit> {
    let spawner = Spawner::start().map_err(|error| {
        complain_of(&format!("could not start what starts commands: {}", error_chain(&error)));
        Exit::CannotStart
    })?;
    let runtime = runtime()?;
    let findings = runtime.block_on(async {
        let pool = Pool::new(config.ssh.clone(), Events::new(Vec::new()));
        let of_path = unit_instance(&config.path);
        let is_installed = of_path.is_some();
        let instance = of_path.or_else(|| args.which.named()).unwrap_or_else(|| config.rsync_id.to_string());
        let stores = daemon::stores(pool.clone());
        let doctor = Doctor { config, instance: &instance, is_installed, pool: pool.clone(), stores, spawner };
        let findings = doctor::examine(&doctor, only).await;
        pool.close(daemon::GOODBYE).await;
        findings
    });
    runtime.shutdown_background();
    Ok(findings)
}

/// The instance whose unit reads a configuration file, by the file's place.
fn unit_instance(path: &Path) -> Option<String> {
    let path = std::path::absolute(path).ok()?;
    let is_there = path.parent() == Some(Path::new(super::instance::UNIT_DIRECTORY)) && path.extension()? == "yaml";
    path.file_stem().filter(|_| is_there)?.to_str().map(str::to_owned)
}

/// A configuration may name files in `CREDENTIALS_DIRECTORY`, which only the service has. Whoever may read them looks at those of the running
/// service, else at those that it will be given.
fn with_credentials(which: &Which) -> Result<(), Exit> {
    const VARIABLE: &str = "CREDENTIALS_DIRECTORY";
    let named = which.named();
    let Some(name) = named.filter(|_| std::env::var_os(VARIABLE).is_none()) else { return Ok(()) };
    let running = PathBuf::from(format!("/run/credentials/rsyncdirector@{name}.service"));
    let stored = Path::new(super::instance::UNIT_DIRECTORY).join("credentials").join(name);
    let Some(directory) = [running, stored].into_iter().find(|directory| directory.read_dir().is_ok()) else {
        return Ok(());
    };
    // The environment of a process is set at its start.
    let program = std::env::current_exe().unwrap_or_else(|_| "rsyncdirector".into());
    let error = Command::new(program).args(std::env::args_os().skip(1)).env(VARIABLE, directory).exec();
    complain_of(&format!("could not start anew with {VARIABLE}: {error}"));
    Err(Exit::CannotStart)
}
