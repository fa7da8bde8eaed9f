//! One protected host and its contenders.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::contender::Contender;
use super::course::{Course, Outcome};
use super::host::Host;
use super::plan::{History, Setup};
use crate::sandbox::Sandbox;
use crate::wait;

/// One of them.
pub struct Arena {
    // In the order in which they go away.
    pub(super) contenders: Vec<Contender>,
    pub(super) host: Host,
    pub(super) sandbox: Sandbox,
    pub(super) setup: Setup,
}

impl Arena {
    /// Builds one and starts its directors.
    pub fn new(setup: &Setup) -> Self {
        let sandbox = Sandbox::new();
        let host = Host::start(&sandbox);
        let contenders =
            (0..setup.contenders.len()).map(|index| Contender::new(&sandbox, &host, setup, index)).collect();
        Self { contenders, host, sandbox, setup: setup.clone() }
    }

    /// Lets a history happen.
    pub fn run(&mut self, history: &History) -> Outcome {
        self.host.clear();
        let mut course = Course::of(self, history);
        while wait::within(Duration::from_secs(1), || course.tick().then_some(())).is_none() {}
        course.close()
    }

    /// Copies the logs into a directory.
    pub fn keep_logs(&self, dir: &Path) {
        for contender in &self.contenders {
            let name = contender.name();
            // A copy is for whoever looks into it later; the verdict stands without.
            let _ = fs::copy(contender.log(), dir.join(format!("{name}.log")));
            let _ = fs::copy(self.sandbox.path(format!("{name}.yaml")), dir.join(format!("{name}.yaml")));
        }
        let _ = fs::copy(self.sandbox.path("sshd-protected/log"), dir.join("sshd.log"));
    }
}
