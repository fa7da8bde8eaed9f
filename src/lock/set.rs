//! All of a job's locks: taken together or not at all.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::backend::{Answer, Op, Unreachable};
use super::record::{Record, Verdict, in_the_way, judge};
use super::stores::Stores;
use crate::clock::{self, Ticks};
use crate::config::{Location, Place};

/// How often a stale lock that someone else is just replacing is tried again before it counts as held.
const TAKE_OVER_ATTEMPTS: usize = 3;

/// The locks of one run of one job.
pub struct LockSet {
    pub(super) stores: Stores,
    pub(super) record: Record,
    /// In canonical order; the index is the one that the caller knows the lock by.
    pub(super) locks: Vec<(usize, Location)>,
    /// In the same order: what each of them was last asked for with; each attempt has a token of its own.
    asked: Mutex<Vec<Option<Record>>>,
    /// Time after the last refresh at which a lock counts as lost.
    pub(super) fence: Duration,
}

/// What came of trying to take all locks.
#[derive(Debug)]
pub enum Attempt {
    /// All are ours, and no block stands.
    Taken {
        /// Stale locks that were replaced: the file and whose it was.
        taken_over: Vec<(Location, String)>,
        /// The moment from which the lease counts.
        since: Ticks,
    },
    /// Another holds one; none is ours.
    Held {
        /// The lock's index.
        lock: usize,
        /// Whose it is.
        holder: String,
    },
    /// All were taken, then a block was seen, so none is ours any more.
    Blocked {
        /// The block's index.
        block: usize,
    },
    /// One cannot be taken, and waiting does not mend it; none is ours.
    Failed {
        /// The lock's index.
        lock: usize,
        /// Why.
        error: String,
    },
}

impl LockSet {
    /// The locks at these locations, none taken yet. `record` is what each file will say, but for the token and the time; `fence` is the
    /// time after the last successful refresh at which a lock counts as lost.
    pub fn new(stores: Stores, record: Record, fence: Duration, locations: impl IntoIterator<Item = Location>) -> Self {
        let mut locks: Vec<_> = locations.into_iter().enumerate().collect();
        locks.sort_by(|(_, a), (_, b)| stores.order(a).cmp(&stores.order(b)));
        let asked = Mutex::new(vec![None; locks.len()]);
        Self { stores, record, locks, asked, fence }
    }

    fn asked(&self) -> MutexGuard<'_, Vec<Option<Record>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new token for a lock that is about to be asked for: whoever judged or claimed it under an earlier one must not mean this.
    fn fresh_record(&self, lock: usize) -> Record {
        let record = Record { token: crate::random::word(), taken_at: clock::now(), ..self.record.clone() };
        self.asked()[lock] = Some(record.clone());
        record
    }

    /// Where a lock is, by its place in canonical order.
    pub(super) fn location(&self, lock: usize) -> &Location {
        &self.locks[lock].1
    }

    fn own_tokens(&self) -> Vec<String> {
        self.asked().iter().flatten().map(|record| record.token.clone()).collect()
    }

    /// Tries to take all locks, in canonical order, one round trip for the neighbours of one place; then looks at the blocks
    /// once more, in the same round trip where that place is the last. Whatever is not complete is given back.
    pub async fn take(&self, blocks: &[Location]) -> Attempt {
        let mut since = None;
        let mut taken_over = Vec::new();
        let mut seen: Vec<Option<Answer>> = vec![None; blocks.len()];
        let mut next = 0;
        let mut replaces: Option<Record> = None;
        let mut attempts = 0;
        let mut broke_off = false;
        while next < self.locks.len() {
            let group = self.group(next);
            let place = &self.locks[next].1.place;
            let backend = self.stores.at(place);
            let warm = self.stores.warm(place).await;
            // Nothing is ours that could grow old while the first connection is made.
            since.get_or_insert_with(Ticks::now);
            let is_last = group.end == self.locks.len();
            let here = || (0..blocks.len()).filter(|&b| is_last && blocks[b].place == *place);
            let takes = group.clone().map(|n| Op::Take {
                path: self.locks[n].1.path.clone(),
                record: self.fresh_record(n),
                replaces: replaces.clone().filter(|_| n == next),
            });
            let looks = here().map(|b| Op::Look { path: blocks[b].path.clone() });
            let answers = match warm {
                Ok(()) => backend.perform(takes.chain(looks).collect()).await,
                Err(error) => Err(error),
            };
            let answers = match answers {
                Ok(answers) => answers,
                Err(error) => {
                    // Where the answer was lost, all of them may be ours without our knowing it.
                    self.give_back(group.end).await;
                    if error.broke_off && !broke_off {
                        (broke_off, next, replaces, attempts) = (true, 0, None, 0);
                        continue;
                    }
                    return Attempt::Failed { lock: self.locks[next].0, error: error.why };
                }
            };
            let taken = answers.iter().take(group.len()).take_while(|answer| **answer == Answer::Taken).count();
            if taken > 0
                && let Some(stale) = replaces.take()
            {
                taken_over.push((self.locks[next].1.clone(), stale.holder()));
                attempts = 0;
            }
            next += taken;
            if taken == group.len() {
                here().zip(&answers[taken..]).for_each(|(block, answer)| seen[block] = Some(answer.clone()));
                continue;
            }
            match self.obstacle(answers.into_iter().nth(taken), attempts) {
                Ok(stale) => (replaces, attempts) = (stale, attempts + 1),
                Err(Obstacle::Held(holder)) => {
                    self.give_back(next).await;
                    return Attempt::Held { lock: self.locks[next].0, holder };
                }
                Err(Obstacle::Error(error)) => return self.fail(next, error).await,
            }
        }
        if let Some(block) = self.second_look(blocks, seen).await {
            self.give_back(self.locks.len()).await;
            return Attempt::Blocked { block };
        }
        match self.freshen(since.unwrap_or_else(Ticks::now)).await {
            Ok(since) => Attempt::Taken { taken_over, since },
            Err((lock, error)) => {
                self.give_back(self.locks.len()).await;
                Attempt::Failed { lock, error }
            }
        }
    }

    /// When taking them took long (several hosts, one of them slow), the first locks are old already: refreshes all. Returns the moment from
    /// which the lease counts.
    async fn freshen(&self, since: Ticks) -> Result<Ticks, (usize, String)> {
        if since.elapsed() < self.record.lease() / 4 {
            return Ok(since);
        }
        let asked = Ticks::now();
        let (lock, error) = match self.renew(0..self.locks.len()).await {
            // Later than that, somebody may have judged one stale before it was touched.
            Ok(()) if since.elapsed() < self.fence => return Ok(asked),
            Ok(()) => (0, "one of the hosts is too slow for the lease".to_owned()),
            Err(Problem { lock, reason, .. }) => (lock, reason),
        };
        Err((self.locks[lock].0, format!("taking all locks took {} s: {error}", since.elapsed().as_secs())))
    }

    /// The locks from `start` on that one batch can take: neighbours in canonical order on the same place.
    pub(super) fn group(&self, start: usize) -> Range<usize> {
        let place = &self.locks[start].1.place;
        let length = self.locks[start..].iter().take_while(|(_, location)| location.place == *place).count();
        start..start + length
    }

    /// What an answer other than "taken" means: the stale lock to replace in another attempt, or what is in the way.
    fn obstacle(&self, answer: Option<Answer>, attempts: usize) -> Result<Option<Record>, Obstacle> {
        match answer {
            Some(Answer::Found(found)) => match judge(&found, "") {
                Verdict::Stale { record, .. } if attempts < TAKE_OVER_ATTEMPTS => Ok(Some(record)),
                Verdict::Free | Verdict::Ours if attempts < TAKE_OVER_ATTEMPTS => Ok(None),
                Verdict::Stale { record, .. } => {
                    Err(Obstacle::Held(format!("{} (stale, being replaced by another)", record.holder())))
                }
                Verdict::Free | Verdict::Ours => Err(Obstacle::Held("another, who comes and goes".into())),
                Verdict::Held(holder) => Err(Obstacle::Held(holder.describe(clock::now()))),
                Verdict::Unusable(what) => Err(Obstacle::Error(format!("there is {what} in its place"))),
            },
            Some(Answer::Failed(error)) => Err(Obstacle::Error(error)),
            other => Err(Obstacle::Error(format!("unexpected answer {other:?}"))),
        }
    }

    /// The first block that stands, now that the locks are ours. One that cannot be looked at stands.
    async fn second_look(&self, blocks: &[Location], mut seen: Vec<Option<Answer>>) -> Option<usize> {
        let missing: Vec<usize> = (0..blocks.len()).filter(|&block| seen[block].is_none()).collect();
        let locations: Vec<Location> = missing.iter().map(|&block| blocks[block].clone()).collect();
        for (&block, answer) in missing.iter().zip(self.stores.look(&locations).await) {
            seen[block] = answer.ok();
        }
        let own = self.own_tokens();
        seen.iter().position(|answer| match answer {
            Some(Answer::Found(found)) => in_the_way(found, &own, clock::now()).is_some(),
            _ => true,
        })
    }

    async fn fail(&self, lock: usize, error: String) -> Attempt {
        self.give_back(lock + 1).await;
        Attempt::Failed { lock: self.locks[lock].0, error }
    }

    /// Gives back whatever an attempt that was dropped may have taken, as far as `deadline` allows; leases end the rest.
    pub async fn abandon(&self, deadline: Duration) {
        let _ = tokio::time::timeout(deadline, self.give_back(self.locks.len())).await;
    }

    async fn give_back(&self, count: usize) {
        self.remove(count).await;
    }

    /// Removes those of the first `count` that were asked for, which are told with the answers.
    pub(super) async fn remove(&self, count: usize) -> Vec<(Location, Result<Answer, Unreachable>)> {
        let asked = self.asked()[..count].to_vec();
        let wanted = asked.into_iter().enumerate().filter_map(|(n, record)| Some((self.location(n).clone(), record?)));
        let (locations, records): (Vec<_>, Vec<_>) = wanted.unzip();
        let op = |n: usize| Op::Remove { path: locations[n].path.clone(), record: records[n].clone() };
        let answers = self.stores.each(&locations, op).await;
        locations.into_iter().zip(answers).collect()
    }

    /// Number of locks on this host and on others.
    pub fn count(&self) -> (usize, usize) {
        let local = self.locks.iter().filter(|(_, location)| location.place == Place::Local).count();
        (local, self.locks.len() - local)
    }

    /// Refreshes these locks, all of which were taken.
    pub(super) async fn renew(&self, locks: Range<usize>) -> Result<(), Problem> {
        let records: Vec<Record> = self.asked()[locks.clone()].iter().flatten().cloned().collect();
        let locations: Vec<Location> = locks.clone().map(|lock| self.location(lock).clone()).collect();
        let op = |n: usize| Op::Refresh { path: locations[n].path.clone(), record: records[n].clone() };
        let answers = self.stores.each(&locations, op).await;
        let problems = answers.into_iter().zip(locks).filter_map(|(answer, lock)| match answer {
            Ok(Answer::Refreshed) => None,
            Ok(Answer::Lost(reason)) => Some(Problem { lock, is_lost: true, reason }),
            Ok(Answer::Failed(reason)) | Err(Unreachable { why: reason, .. }) => Some(Problem::passing(lock, reason)),
            Ok(other) => Some(Problem::passing(lock, format!("unexpected answer {other:?}"))),
        });
        // A loss counts more than what another attempt may mend.
        problems.max_by_key(|problem| problem.is_lost).map_or(Ok(()), Err)
    }
}

enum Obstacle {
    Held(String),
    Error(String),
}

/// Why a lock was not refreshed.
#[derive(Debug)]
pub(super) struct Problem {
    /// Its place in canonical order.
    pub(super) lock: usize,
    /// Whether it is not ours any more; else another attempt may succeed.
    pub(super) is_lost: bool,
    pub(super) reason: String,
}

impl Problem {
    /// One that another attempt may mend.
    pub(super) fn passing(lock: usize, reason: impl Into<String>) -> Self {
        Self { lock, is_lost: false, reason: reason.into() }
    }
}
