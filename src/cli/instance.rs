//! Which instance a command is about.

use std::io;
use std::path::PathBuf;

use tokio::runtime::Runtime;

use super::{Exit, complain, complain_of, environment, load};
use crate::config::Config;
use crate::control::{self, Client};
use crate::status::Status;

/// Where the unit of systemd looks for the configuration of an instance.
pub(super) const UNIT_DIRECTORY: &str = "/etc/rsyncdirector";

/// The options that name an instance.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Which {
    /// The instance: its rsync_id; without it and --config the only one that runs
    #[arg(long, short, value_name = "NAME", conflicts_with = "config", global = true)]
    instance: Option<String>,
    /// Its configuration file
    #[arg(long, short, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl Which {
    /// A way to the running instance. Says on standard error why there is none.
    pub(super) fn client(&self) -> Result<Client, Exit> {
        if let Some(path) = self.config_path() {
            return Ok(Client::new(control::find(&load(&path)?.config)));
        }
        let running = running()?;
        let named = |path: &PathBuf| match &self.instance {
            Some(name) => path.file_stem().is_some_and(|stem| stem == name.as_str()),
            None => true,
        };
        let found: Vec<&PathBuf> = running.iter().filter(|path| named(path)).collect();
        match (&found[..], &self.instance) {
            ([path], _) => Ok(Client::new(path)),
            ([path, ..], Some(_)) => Ok(Client::new(path)),
            ([], Some(name)) => {
                complain_of(&format!("no instance {name:?} runs{}", there_are(&running)));
                Err(Exit::NotFound)
            }
            ([], None) => {
                complain_of("no instance runs; name one that has its own `pid_file_dir` with --config FILE");
                Err(Exit::NotFound)
            }
            (_, None) => {
                complain_of(&format!("which instance? Name it with -i NAME{}", there_are(&running)));
                Err(Exit::Configuration)
            }
        }
    }

    /// Its configuration: as named, as the running instance has it, or where the unit of systemd looks for it.
    pub(super) fn config(&self) -> Result<Config, Exit> {
        if let Some(path) = self.config_path() {
            return Ok(load(&path)?.config);
        }
        if let Some(name) = &self.instance {
            let path = PathBuf::from(UNIT_DIRECTORY).join(format!("{name}.yaml"));
            if path.exists() {
                return Ok(load(&path)?.config);
            }
        }
        if self.instance.is_none() && running()?.is_empty() {
            complain_of("which configuration? Name it with --config FILE or in RSYNCDIRECTOR_CONFIG; no instance runs");
            return Err(Exit::Configuration);
        }
        let status: Status = ask(self.client()?.get("/v1/status"))?;
        Ok(load(&status.config)?.config)
    }

    /// The instance's name for systemd, if the command line says which: `-i`, or a file where the unit looks for it.
    pub(super) fn named(&self) -> Option<String> {
        let path = self.config_path();
        let of_path = || {
            let path = path.filter(|path| path.parent() == Some(std::path::Path::new(UNIT_DIRECTORY)))?;
            Some(path.file_stem()?.to_str()?.to_owned())
        };
        self.instance.clone().or_else(of_path)
    }

    /// The file that is named on the command line; else in the environment, unless an instance is named.
    fn config_path(&self) -> Option<PathBuf> {
        let of_environment = || environment::get("CONFIG").map(PathBuf::from).filter(|_| self.instance.is_none());
        self.config.clone().or_else(of_environment)
    }
}

fn there_are(running: &[PathBuf]) -> String {
    let names: Vec<String> =
        running.iter().filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned())).collect();
    if names.is_empty() { String::new() } else { format!("; there are: {}", names.join(", ")) }
}

/// The sockets, in the usual directories, behind which somebody is.
fn running() -> Result<Vec<PathBuf>, Exit> {
    let mut found = Vec::new();
    for directory in control::usual_directories() {
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                complain_of(&format!("{}: {error}", directory.display()));
                return Err(Exit::NotFound);
            }
        };
        let paths = entries.flatten().map(|entry| entry.path());
        let sockets = paths.filter(|path| path.extension().is_some_and(|extension| extension == "sock"));
        found.extend(sockets.filter(|path| match std::os::unix::net::UnixStream::connect(path) {
            // One that is another user's runs.
            Err(error) => error.kind() == io::ErrorKind::PermissionDenied,
            Ok(_) => true,
        }));
    }
    found.sort();
    Ok(found)
}

/// Waits for an answer of an instance. Says on standard error why there is none.
pub(super) fn ask<T>(answer: impl Future<Output = Result<T, control::ClientError>>) -> Result<T, Exit> {
    runtime()?.block_on(answer).map_err(|error| {
        complain(&error);
        Exit::NotFound
    })
}

/// A runtime for a command that soon ends.
pub(super) fn runtime() -> Result<Runtime, Exit> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
        complain_of(&format!("could not start the runtime: {error}"));
        Exit::CannotStart
    })
}
