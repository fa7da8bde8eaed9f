//! Every lock and block file of a configuration, and how it stands; and how a person removes one.

use std::time::Duration;

use super::backend::{Answer, Op, Unreachable};
use super::record::{BreakNote, Content, Found, Record};
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

/// How a lock or block file stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It is not there.
    Free,
    /// A director has it, and its lease runs.
    Held {
        /// What it wrote.
        record: Record,
        /// Time since it was last refreshed.
        age: Duration,
    },
    /// A director had it and did not refresh it for a whole lease: the next that wants it takes it over.
    Stale {
        /// What it wrote.
        record: Record,
        /// Time since it was last refreshed.
        age: Duration,
    },
    /// A person, or another program, made it.
    Foreign {
        /// Its first line.
        line: String,
        /// Time since it was last changed.
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
        Ok(Answer::Found(Found::Absent)) => State::Free,
        Ok(Answer::Found(Found::Other(what))) => State::Unusable(what),
        Ok(Answer::Found(Found::File { content: Content::Foreign(line), age })) => State::Foreign { line, age },
        Ok(Answer::Found(Found::File { content: Content::Director(record), age })) => {
            if age >= record.lease() {
                State::Stale { record, age }
            } else {
                State::Held { record, age }
            }
        }
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
        State::Held { record, age } | State::Stale { record, age } => (Some(record.clone()), *age),
        State::Foreign { age, .. } => (None, *age),
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
