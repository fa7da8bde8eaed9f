//! Which jobs' schedules are suspended: a file of the instance's state.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::{fs, io};

use jiff::Timestamp;

use super::orders::Refusal;
use crate::config::JobId;

/// The jobs, with when each was paused, and where that is remembered.
#[derive(Debug, Default)]
pub struct Paused {
    /// `None` when there is no place for it.
    path: Option<PathBuf>,
    jobs: BTreeMap<JobId, Timestamp>,
}

impl Paused {
    /// What is remembered in a directory of state. What cannot be read is said, and nothing is paused.
    pub fn open(directory: Option<&Path>) -> Self {
        let path = directory.map(|directory| directory.join("paused.json"));
        let jobs = path.as_deref().map(read).transpose().unwrap_or_else(|error| {
            tracing::error!("it cannot be read which jobs are paused, so none is: {error}");
            None
        });
        Self { path, jobs: jobs.unwrap_or_default() }
    }

    /// The jobs, with when each was paused.
    pub fn jobs(&self) -> &BTreeMap<JobId, Timestamp> {
        &self.jobs
    }

    /// Whether it lasts longer than this process.
    pub(super) fn is_lasting(&self) -> bool {
        self.path.is_some()
    }

    /// Remembers others, or does not change at all.
    pub(super) fn set(&mut self, jobs: BTreeMap<JobId, Timestamp>) -> Result<(), Refusal> {
        if let Some(path) = &self.path {
            write(path, &jobs).map_err(|source| Refusal::Unwritten { path: path.display().to_string(), source })?;
        }
        self.jobs = jobs;
        Ok(())
    }
}

fn read(path: &Path) -> io::Result<BTreeMap<JobId, Timestamp>> {
    let text = match fs::read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        text => text?,
    };
    let jobs: BTreeMap<String, Timestamp> = serde_json::from_slice(&text)?;
    Ok(jobs.into_iter().map(|(id, since)| (JobId::new(id), since)).collect())
}

/// Whole or not at all, also if the power fails.
fn write(path: &Path, jobs: &BTreeMap<JobId, Timestamp>) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let jobs: BTreeMap<&str, &Timestamp> = jobs.iter().map(|(id, since)| (id.as_str(), since)).collect();
    let new = path.with_extension("json.new");
    let mut file = fs::File::create(&new)?;
    file.write_all(serde_json::to_string(&jobs)?.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_paused_is_so_after_a_restart_and_what_cannot_be_written_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("deep/state");
        let mut paused = Paused::open(Some(&state));
        let jobs = BTreeMap::from([(JobId::new("photos"), Timestamp::from_second(7).unwrap())]);
        paused.set(jobs.clone()).unwrap();
        assert_eq!(Paused::open(Some(&state)).jobs(), &jobs);
        fs::remove_dir_all(&state).unwrap();
        fs::write(&state, "in the way").unwrap();
        assert!(matches!(paused.set(BTreeMap::new()), Err(Refusal::Unwritten { .. })));
        assert_eq!(paused.jobs(), &jobs);
    }

    #[test]
    fn a_file_of_nonsense_pauses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("paused.json"), "{").unwrap();
        assert!(Paused::open(Some(directory.path())).jobs().is_empty());
    }
}
