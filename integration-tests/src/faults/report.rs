//! The sum of many histories.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::course::Outcome;
use super::fault::Fault;
use super::plan::History;

/// Counts over all histories.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// That came to their end.
    pub histories: u64,
    /// By kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Those that began while someone was in its section.
    pub hits: u64,
    /// Runs that wrote something.
    pub sections: u64,
    /// Pairs of runs that interleaved.
    pub overlaps: u64,
    /// Contenders that never got through.
    pub stuck: u64,
    /// Contenders that took longer than two leases.
    pub late: u64,
    /// Persons' locks that were removed or replaced.
    pub foreign_lost: u64,
    /// Changes of temporary files of a killed run in the section of another.
    pub late_drafts: u64,
    /// Most files that crashed directors left beside the locks of one arena.
    pub leftovers: usize,
    /// Longest wait after the last fault, in leases.
    pub slowest: f64,
    /// Time in which a driver was kept from working, by a busy machine.
    pub starved: Duration,
    /// What failed, with the place of its logs.
    pub failures: Vec<String>,
}

impl Report {
    /// Adds one history.
    pub fn add(&mut self, history: &History, outcome: &Outcome) {
        self.histories += 1;
        for (_, fault) in &history.faults {
            *self.faults.entry(fault.kind()).or_default() += 1;
        }
        if history.foreign.is_some() {
            *self.faults.entry(Fault::KINDS[Fault::KINDS.len() - 1]).or_default() += 1;
        }
        self.hits += outcome.hits;
        self.sections += outcome.verdict.sections as u64;
        self.overlaps += outcome.verdict.overlaps.len() as u64;
        self.late_drafts += outcome.verdict.late_drafts as u64;
        self.stuck += outcome.stuck as u64;
        self.late += outcome.late as u64;
        self.foreign_lost += outcome.foreign_lost as u64;
        self.leftovers = self.leftovers.max(outcome.leftovers);
        self.starved += outcome.starved;
        self.slowest = self.slowest.max(outcome.slowest);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut row = |name: &str, value: String| writeln!(f, "{name:44} {value:>8}");
        row("histories", self.histories.to_string())?;
        for kind in Fault::KINDS {
            row(&format!("  {kind}"), self.faults.get(kind).copied().unwrap_or(0).to_string())?;
        }
        row("faults during a section", self.hits.to_string())?;
        row("critical sections", self.sections.to_string())?;
        row("overlaps", self.overlaps.to_string())?;
        row("stuck", self.stuck.to_string())?;
        row("later than 2 leases after the last fault", self.late.to_string())?;
        row("foreign locks removed", self.foreign_lost.to_string())?;
        row("slowest progress, leases", format!("{:.2}", self.slowest))?;
        row("late changes of temporary files", self.late_drafts.to_string())?;
        row("most files left beside the locks", self.leftovers.to_string())?;
        row("drivers kept from working, s", format!("{:.1}", self.starved.as_secs_f64()))?;
        row("failed histories", self.failures.len().to_string())
    }
}
