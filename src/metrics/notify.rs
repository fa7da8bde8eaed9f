//! `rsyncdirector_` series about who was told. Moved by whoever tells, since that is no event of a run.

use prometheus::IntCounterVec;

use super::registrar::Registrar;
use crate::config::Config;

/// What became of something to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Telling {
    /// It was taken.
    Sent,
    /// It was given up after its attempts.
    Failed,
    /// There was no room or no time for it.
    Dropped,
}

impl Telling {
    /// Every one, for series that start at 0.
    const ALL: [Self; 3] = [Self::Sent, Self::Failed, Self::Dropped];

    fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

/// Counts notifications. Clones count together.
#[derive(Clone)]
pub struct Notifications(IntCounterVec);

impl Notifications {
    pub(super) fn new(registrar: &Registrar, config: &Config) -> Self {
        let counter = registrar.counters(
            "rsyncdirector_notifications_total",
            "Notifications, by the kind of their target (http, command, mail) and by what became of them.",
            &["target", "result"],
        );
        for target in config.jobs.iter().flat_map(|job| &job.notify) {
            for result in Telling::ALL {
                counter.with_label_values(&[target.way.kind(), result.as_str()]);
            }
        }
        Self(counter)
    }

    /// One to a target of this kind.
    pub fn count(&self, kind: &'static str, result: Telling) {
        self.0.with_label_values(&[kind, result.as_str()]).inc();
    }
}
