//! Every lock and block file of a configuration, and how it stands; and how a person removes one.

use std::time::Duration;

use super::backend::{Answer, Op, Unreachable};
use super::record::{BreakNote, Holder, Record, Verdict, judge};
use super::stores::Stores;
use crate::config::{Config, JobId, Location};

/// A file of the configuration and what it is to whom.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Where it is.
    pub location: Location,
    /// The jobs that lock it.
    pub lock_of: Vec<JobId>,
    /// The jobs that wait while it is there.
    pub block_of: Vec<JobId>,
    /// How it stands.
    pub state: State,
}

impl Listed {
    /// Where those who break it note that.
    pub fn notes(&self) -> Location {
        // One without a name cannot be broken.
        let path = super::local::notes(&self.location.path).unwrap_or_default();
        Location { path, ..self.location.clone() }
    }
}

/// How a lock or block file stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is not there.
    Free,
    /// A director has it, and its lease runs; or a person, or another program.
    Held(Holder),
    /// A director had it and did not refresh it for a whole lease: the next that wants it takes it over.
    Stale {
        /// What it wrote.
        record: Record,
        /// Time since it was last refreshed.
        age: Duration,
    },
    /// No file: what it is instead.
    Unusable(&'static str),
    /// It could not be looked at, for this reason.
    Unknown(String),
}

/// All of them, in the order of the configuration, each once.
pub async fn list(config: &Config, stores: &Stores) -> Vec<Listed> {
    let mut listed: Vec<Listed> = Vec::new();
    for job in &config.jobs {
        for lock in &job.lock_files {
            entry(&mut listed, &lock.location).lock_of.push(job.id.clone());
        }
        for block in &job.blocks_on {
            entry(&mut listed, &block.location).block_of.push(job.id.clone());
        }
    }
    let locations: Vec<Location> = listed.iter().map(|file| file.location.clone()).collect();
    for (file, answer) in listed.iter_mut().zip(stores.look(&locations).await) {
        file.state = state(answer);
    }
    listed
}

fn entry<'a>(listed: &'a mut Vec<Listed>, location: &Location) -> &'a mut Listed {
    let index = listed.iter().position(|file| file.location == *location).unwrap_or_else(|| {
        let state = State::Unknown("not looked at".into());
        listed.push(Listed { location: location.clone(), lock_of: Vec::new(), block_of: Vec::new(), state });
        listed.len() - 1
    });
    &mut listed[index]
}

fn state(answer: Result<Answer, Unreachable>) -> State {
    match answer {
        Ok(Answer::Found(found)) => match judge(&found, "") {
            Verdict::Free | Verdict::Ours => State::Free,
            Verdict::Held(holder) => State::Held(holder),
            Verdict::Stale { record, age } => State::Stale { record, age },
            Verdict::Unusable(what) => State::Unusable(what),
        },
        Ok(Answer::Failed(why)) | Err(Unreachable { why, .. }) => State::Unknown(why),
        Ok(other) => State::Unknown(format!("unexpected answer {other:?}")),
    }
}

/// Removes a file that was seen in a state, if it still is as it was seen, and notes beside it who did so. What stands there now
/// is told otherwise.
///
/// # Errors
/// When the file's host cannot be asked, or refuses; the text says why.
pub async fn break_open(stores: &Stores, seen: &Listed, note: BreakNote) -> Result<Result<(), State>, String> {
    let (record, age) = match &seen.state {
        State::Held(Holder::Director { record, age }) | State::Stale { record, age } => (Some(record.clone()), *age),
        State::Held(Holder::Other { age, .. }) => (None, *age),
        other => return Ok(Err(other.clone())),
    };
    let op = Op::Break { path: seen.location.path.clone(), seen: record, age, note };
    let answers = stores.at(&seen.location.place).perform(vec![op]).await.map_err(|error| error.why)?;
    match answers.into_iter().next() {
        Some(Answer::Removed) => Ok(Ok(())),
        Some(Answer::Failed(why)) => Err(why),
        Some(found @ Answer::Found(_)) => Ok(Err(state(Ok(found)))),
        other => Err(format!("unexpected answer {other:?}")),
    }
}
