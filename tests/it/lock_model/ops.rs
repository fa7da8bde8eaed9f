//! The operations on the host that stores the files, step by step: `lock::local` and `script.sh`.

use super::rules::Rules;
use super::state::{At, CLAIM_DEPTH, Claim, File, Kind, Op, State, Token};

/// What an operation tells its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Taken,
    Found(Option<File>),
    Refreshed,
    Removed,
    Lost,
}

/// What must never happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// These two act on the same data at the same time.
    Overlap(usize, usize),
    /// The lock of one whose action runs was removed or replaced.
    LockGone(usize),
    /// A file that no director wrote was removed or replaced.
    PersonsFile,
}

/// One step of `op`; with an answer at its end.
pub fn advance(rules: &Rules, state: &mut State, op: &mut Op, violation: &mut Option<Violation>) -> Option<Answer> {
    op.pause = 0;
    let answer = step(rules, state, op, violation);
    op.settle();
    answer
}

fn step(rules: &Rules, state: &mut State, op: &mut Op, violation: &mut Option<Violation>) -> Option<Answer> {
    let path = usize::from(op.path);
    match op.at {
        At::TakeLook => return take_look(rules, state, op),
        At::Link => {
            op.at = At::Final;
            if state.paths[path].is_none() {
                let token = if rules.hard_links { op.token } else { Token::UNWRITTEN };
                state.paths[path] = Some(File { token, age: op.born });
                op.at = if rules.hard_links { At::Final } else { At::Fill };
            }
        }
        At::Fill => {
            if let Some(file) = state.paths[path].as_mut().filter(|file| file.token == Token::UNWRITTEN) {
                *file = File { token: op.token, age: 0 };
            }
            op.at = At::Final;
        }
        At::Claim | At::ClaimLook => return claim(rules, state, op),
        At::Check => return check(rules, state, op),
        At::Rename => {
            gone(state, path, violation);
            state.paths[path] = Some(File { token: op.token, age: op.born });
            op.at = if rules.late_expires && op.claimed >= rules.half() { At::Late } else { At::Unclaim };
            if !rules.claim {
                op.at = At::Final;
            }
        }
        At::Late => {
            touch(state, path);
            op.late = true;
            op.at = At::Unclaim;
        }
        At::Unclaim => return unclaim(state, op),
        At::Final => {
            let file = state.paths[path];
            let ours = file.is_some_and(|file| file.token == op.token) && !op.late;
            return Some(if ours { Answer::Taken } else { Answer::Found(file) });
        }
        At::RemoveLook => return remove_look(rules, state, op),
        At::Unlink => {
            gone(state, path, violation);
            return Some(Answer::Removed);
        }
        At::UnlinkClaimed => {
            gone(state, path, violation);
            op.at = At::Unclaim;
        }
        At::RefreshLook => match state.holds(op.path, op.token) {
            Some(age) if rules.seen(age, op.token) < rules.lease || !rules.refresh_judges => op.at = At::Touch,
            _ => return Some(Answer::Lost),
        },
        At::Touch => {
            touch(state, path);
            if !rules.refresh_verifies {
                return Some(Answer::Refreshed);
            }
            op.at = At::Verify;
        }
        At::Verify => {
            let ours = state.holds(op.path, op.token).is_some();
            return Some(if ours { Answer::Refreshed } else { Answer::Lost });
        }
    }
    None
}

fn touch(state: &mut State, path: usize) {
    if let Some(file) = &mut state.paths[path] {
        file.age = 0;
    }
}

/// The file at `path` goes away, by an unlink or under a rename.
fn gone(state: &mut State, path: usize, violation: &mut Option<Violation>) {
    let Some(file) = state.paths[path].take() else { return };
    match file.token.owner() {
        None if file.token == Token::PERSON => *violation = Some(Violation::PersonsFile),
        None => {}
        Some(owner) => {
            let client = &state.clients[owner];
            if client.phase.acts() && client.token == Some(file.token) {
                *violation = Some(Violation::LockGone(owner));
            }
        }
    }
}

/// What is there decides what the take does; the temporary file is written in the same step, so that it is as old as it can be.
fn take_look(rules: &Rules, state: &State, op: &mut Op) -> Option<Answer> {
    let found = state.paths[usize::from(op.path)];
    op.born = 0;
    match found {
        None => op.at = At::Link,
        Some(file) if file.token == op.token => return Some(Answer::Taken),
        Some(file) if op.replaces == Some(file.token) => {
            op.number = 1;
            op.at = if rules.claim { At::Claim } else { At::Check };
        }
        Some(_) => return Some(Answer::Found(found)),
    }
    None
}

fn remove_look(rules: &Rules, state: &State, op: &mut Op) -> Option<Answer> {
    match state.holds(op.path, op.token) {
        _ if !rules.remove_looks => op.at = At::Unlink,
        None => return Some(Answer::Lost),
        Some(age) if rules.seen(age, op.token) < rules.half() && !rules.remove_claims => op.at = At::Unlink,
        Some(_) => {
            op.number = 1;
            op.at = At::Claim;
        }
    }
    None
}

fn claim(rules: &Rules, state: &mut State, op: &mut Op) -> Option<Answer> {
    let on = op.target().expect("who claims has something to claim");
    let there = state.claim(op.path, on, op.number).copied();
    match (op.at, there) {
        (At::Claim, Some(_)) => op.at = At::ClaimLook,
        (At::Claim, None) => {
            state.add_claim(Claim { path: op.path, on, number: op.number, age: 0 });
            op.at = At::Check;
        }
        (_, Some(other)) if rules.seen(other.age, op.token) >= rules.lease || !rules.step_over_stale_only => {
            op.number += 1;
            assert!(op.number <= CLAIM_DEPTH, "more claims on one lock than the model has numbers for");
            op.at = At::Claim;
        }
        _ => {
            if !rules.keep_others_claims {
                state.drop_claims(op.path, on, 1..=op.number - 1);
            }
            return leave_claims(op);
        }
    }
    None
}

/// With the claim: the last look before the lock goes.
fn check(rules: &Rules, state: &State, op: &mut Op) -> Option<Answer> {
    let young = !rules.young_claim || op.claimed < rules.half();
    let removes = op.kind == Kind::Remove;
    let age = op.target().and_then(|target| state.holds(op.path, target));
    let still = age.is_some_and(|age| removes || rules.seen(age, op.token) >= rules.lease);
    op.at = match (young && (still || !rules.check), age) {
        (true, _) if removes => At::UnlinkClaimed,
        (true, _) => At::Rename,
        (false, Some(_)) if rules.unclaim_gone => return leave_claims(op),
        _ if !rules.claim => At::Final,
        _ => At::Unclaim,
    };
    None
}

fn leave_claims(op: &mut Op) -> Option<Answer> {
    op.at = At::Final;
    (op.kind == Kind::Remove).then_some(Answer::Lost)
}

fn unclaim(state: &mut State, op: &mut Op) -> Option<Answer> {
    if let Some(on) = op.target() {
        state.drop_claims(op.path, on, 1..=op.number);
    }
    op.at = At::Final;
    (op.kind == Kind::Remove).then_some(Answer::Removed)
}
