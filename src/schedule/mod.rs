//! When things run.

/// A parsed `cron_schedule`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// `@reboot`: once when the daemon starts.
    Reboot,
}
