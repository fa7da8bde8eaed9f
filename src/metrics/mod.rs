//! What Prometheus is told: an observer that turns events into series, and the page that `/metrics` answers with.
//!
//! [`Metrics::new`] registers every family and creates, at 0, every counter and histogram series that the configuration
//! makes possible, so that `rate` and `increase` see the first event too. [`Metrics::observe`](Observer::observe) moves
//! them; [`Metrics::encode`] writes the page. Two sets of names are served:
//!
//! - `legacy`: the names of RsyncDirector 1.x, which stand on people's dashboards; dropped by
//!   `metrics.legacy_names: false`;
//! - the prefix `rsyncdirector_`, in `job`, `action`, `peer` and `replica`, after the conventions of Prometheus.
//!
//! A gauge of what is not known yet (timestamps, `peer_up`, the size of a source) is absent until it is: a 0 would say
//! "in 1970", "down" or "empty", and wake people up.
//!
//! Deliberately absent: label values from anywhere but the configuration and fixed lists, so events about jobs, actions
//! and peers that the configuration does not name are ignored; the `*_created` gauges and the `process_*`, `python_*`
//! series that the Python client library added by itself.

use std::io;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use prometheus::Registry;

use crate::config::Config;
use crate::event::{Observer, RunEvent};
use crate::history::read::Last;
use crate::verify::report::Report;

mod action;
mod job;
mod legacy;
mod notify;
mod peer;
mod registrar;
mod replica;
#[cfg(test)]
pub(crate) mod tests;
mod text;
mod textfile;

pub use notify::{Notifications, Telling};
use registrar::Registrar;

/// The metrics of one instance.
pub struct Metrics {
    registry: Registry,
    legacy: Option<legacy::Families>,
    jobs: job::Families,
    actions: action::Families,
    peers: peer::Families,
    replicas: replica::Families,
    notifications: Notifications,
}

impl Metrics {
    /// The metrics of the instance that this configuration describes; `version` is the program's.
    pub fn new(config: &Config, version: &str) -> Arc<Self> {
        let registrar = Registrar::new();
        registrar
            .gauges("rsyncdirector_build_info", "The program's version, as a label; always 1.", &["version"])
            .with_label_values(&[version])
            .set(1.0);
        Arc::new(Self {
            legacy: config.metrics.legacy_names.then(|| legacy::Families::new(&registrar, config)),
            jobs: job::Families::new(&registrar, &config.jobs),
            actions: action::Families::new(&registrar, &config.jobs),
            peers: peer::Families::new(&registrar, &config.jobs),
            replicas: replica::Families::new(&registrar, &config.jobs),
            notifications: Notifications::new(&registrar, config),
            registry: registrar.into_registry(),
        })
    }

    /// Takes over what is known of jobs from before this process.
    pub fn restore(&self, last: &[(String, Last)]) {
        last.iter().for_each(|(job, last)| self.jobs.restore(job, last));
    }

    /// Takes over what verifications found before this process.
    pub fn restore_replicas(&self, reports: &[Report]) {
        reports.iter().for_each(|report| self.replicas.restore(report));
    }

    /// What counts notifications.
    pub fn notifications(&self) -> Notifications {
        self.notifications.clone()
    }

    /// The page, in the text format 0.0.4 of Prometheus. Families are in alphabetical order, as are the series of each.
    pub fn encode(&self) -> String {
        text::encode(&self.registry)
    }

    /// Writes the page to a file for node_exporter's textfile collector, which must be named `*.prom`: atomically, mode 0644.
    ///
    /// # Errors
    /// When the file cannot be written; it is then as it was.
    pub fn write_file(&self, path: &Path) -> io::Result<()> {
        textfile::write(path, &self.encode())
    }
}

impl Observer for Metrics {
    fn observe(&self, at: Timestamp, event: &RunEvent) {
        if let Some(legacy) = &self.legacy {
            legacy.observe(event);
        }
        match event {
            RunEvent::Job { job, event, .. } => {
                self.jobs.observe(at, job, event);
                self.actions.observe(job, event);
                self.replicas.observe(job, event);
            }
            RunEvent::PeerConnected { peer } => self.peers.connected(peer),
            RunEvent::PeerFailed { peer, reason } => self.peers.failed(peer, reason),
            RunEvent::RunStarted { .. } | RunEvent::RunFinished { .. } => {}
        }
    }

    fn configured(&self, config: &Config) {
        self.jobs.set_jobs(&config.jobs);
        self.actions.set_jobs(&config.jobs);
        self.peers.set_jobs(&config.jobs);
        self.replicas.set_jobs(&config.jobs);
        if let Some(legacy) = &self.legacy {
            legacy.set_jobs(&config.jobs);
        }
    }
}
