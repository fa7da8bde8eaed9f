//! What is under way, and its rows in the database.

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, ToSql, params};

use crate::config::{ActionId, JobId};
use crate::event::{JobEvent, RunEvent, RunId};

/// What is under way in this process. A job or an action is missing here when its beginning could not be recorded: it has no row.
#[derive(Debug, Default, Clone)]
pub(super) struct Rows {
    runs: HashSet<RunId>,
    pub(super) jobs: HashMap<(RunId, JobId), i64>,
    pub(super) actions: HashMap<(RunId, JobId, ActionId), i64>,
}

impl Rows {
    /// Takes note of what an event begins or ends, whether or not it was recorded. Rows are entered by who makes them.
    pub(super) fn observe(&mut self, event: &RunEvent) {
        match event {
            RunEvent::RunStarted { run, .. } => drop(self.runs.insert(*run)),
            RunEvent::RunFinished { run, .. } => {
                self.runs.remove(run);
                self.jobs.retain(|(of, _), _| of != run);
                self.actions.retain(|(of, ..), _| of != run);
            }
            RunEvent::Job { run: Some(run), job, event } => self.observe_job(*run, job, event),
            _ => {}
        }
    }

    fn observe_job(&mut self, run: RunId, job: &JobId, event: &JobEvent) {
        match event {
            JobEvent::ActionFinished { action, .. } => {
                self.actions.remove(&(run, job.clone(), action.clone()));
            }
            JobEvent::Finished { .. } => {
                self.jobs.remove(&(run, job.clone()));
                self.actions.retain(|(of, its, _), _| *of != run || its != job);
            }
            _ => {}
        }
    }

    /// Forgets the rows that a database has not: it is another than the one in which they were made.
    pub(super) fn confine_to(&mut self, database: &Connection) {
        // A question that fails is no answer; what comes next fails, too.
        let has = |query, row: &[&dyn ToSql]| {
            database.prepare_cached(query).and_then(|mut statement| statement.exists(row)).unwrap_or(true)
        };
        self.jobs.retain(|(run, job), row| {
            let query = "SELECT 1 FROM job_run WHERE id = ? AND run = ? AND job = ? AND outcome IS NULL";
            has(query, params![*row, id(*run), job.as_str()])
        });
        let jobs = &self.jobs;
        self.actions.retain(|(run, job, action), row| {
            let query = "SELECT 1 FROM action_run WHERE id = ? AND job_run = ? AND action = ? AND outcome IS NULL";
            jobs.get(&(*run, job.clone())).is_some_and(|job| has(query, params![*row, job, action.as_str()]))
        });
    }

    /// Marks what is under way in the database and not here: its end will not come. `why` is for people.
    pub(super) fn interrupt_others(&self, database: &mut Connection, why: &str) -> rusqlite::Result<()> {
        let transaction = database.transaction()?;
        let actions = list(self.actions.values().copied());
        let jobs = list(self.jobs.values().copied());
        let runs = list(self.runs.iter().map(|run| id(*run)));
        let interrupt = |table, ids| {
            format!("UPDATE {table} SET outcome = 'interrupted' WHERE outcome IS NULL AND id NOT IN ({ids})")
        };
        transaction.execute(&interrupt("action_run", actions), [])?;
        let update = "UPDATE job_run SET outcome = 'interrupted', detail = ? WHERE outcome IS NULL AND id NOT IN";
        transaction.execute(&format!("{update} ({jobs})"), params![why])?;
        transaction.execute(&interrupt("run", runs), [])?;
        transaction.commit()
    }
}

/// A run's number in the database.
pub(super) fn id(run: RunId) -> i64 {
    i64::try_from(run.0).unwrap_or(i64::MAX)
}

fn list(ids: impl Iterator<Item = i64>) -> String {
    ids.map(|id| id.to_string()).collect::<Vec<_>>().join(", ")
}
