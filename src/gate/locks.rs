//! Lock operations for a client that has no shell here.

use std::io::{self, Read, Write};
use std::path::Path;

use super::journal::Journal;
use super::policy::Policy;
use crate::lock::served::{NotUnderstood, Requests};
use crate::lock::{Answer, Op, perform_here};

/// Why a session ended before its client did.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The client sent something else.
    #[error(transparent)]
    NotUnderstood(#[from] NotUnderstood),
    /// The connection failed.
    #[error("the client's connection failed")]
    Io(#[from] io::Error),
}

/// Performs what the client asks for, on the policy's lock files, until it goes.
///
/// # Errors
/// [`SessionError`]; nothing that came in after it is done.
pub fn serve(
    policy: &Policy,
    input: &mut impl Read,
    output: &mut impl Write,
    journal: &Journal,
) -> Result<(), SessionError> {
    let mut requests = Requests::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let length = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        requests.push(&buffer[..length]);
        while let Some(request) = requests.next(&policy.home)? {
            let answers = perform(policy, &request.ops, journal);
            output.write_all(&request.reply(&answers))?;
            output.flush()?;
        }
    }
    if requests.is_empty() { Ok(()) } else { Err(NotUnderstood::unfinished().into()) }
}

/// The answers, up to the first take that fails.
fn perform(policy: &Policy, ops: &[Op], journal: &Journal) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(ops.len());
    for op in ops {
        let path = path(op);
        let answer = if policy.allows_lock(path) {
            perform_here(std::slice::from_ref(op)).pop().unwrap_or_else(|| Answer::Failed("no answer".into()))
        } else {
            let why = format!("{} is no lock file of the policy", path.display());
            journal.refused(&why);
            Answer::Failed(format!("gate: refused: {why}"))
        };
        let ends = matches!(op, Op::Take { .. }) && answer != Answer::Taken;
        answers.push(answer);
        if ends {
            break;
        }
    }
    answers
}

fn path(op: &Op) -> &Path {
    match op {
        Op::Look { path }
        | Op::Take { path, .. }
        | Op::Refresh { path, .. }
        | Op::Remove { path, .. }
        | Op::Break { path, .. } => path,
    }
}
