//! Locks that are ours: kept fresh, and given back.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::backend::{Answer, Unreachable};
use super::set::LockSet;
use crate::clock::{self, Ticks};
use crate::config::{Location, Place};
use crate::warrant::Warrant;

/// A lock that is not ours any more although we did not release it.
#[derive(Debug, Clone)]
pub struct Lost {
    /// Which.
    pub location: Location,
    /// How.
    pub reason: String,
}

impl LockSet {
    /// Keeps the locks fresh, from `since` on, until they are released.
    pub fn hold(self, since: Ticks) -> Held {
        let set = Arc::new(self);
        let mut refreshers = JoinSet::new();
        let mut places: Vec<Place> = set.locks.iter().map(|(_, location)| location.place.clone()).collect();
        places.sort();
        places.dedup();
        let warrant = Warrant::new(places.len(), since, set.fence, set.record.lease());
        for (index, place) in places.into_iter().enumerate() {
            let (set, warrant) = (Arc::clone(&set), warrant.clone());
            refreshers.spawn(async move { set.refresh(&place, index, since, &warrant).await });
        }
        Held { set, warrant, refreshers }
    }

    /// Refreshes the locks of one place four times a lease. Returns the first that is lost.
    async fn refresh(&self, place: &Place, index: usize, since: Ticks, warrant: &Warrant) -> Lost {
        let fence = self.fence;
        let every = self.record.lease() / 4;
        // Neighbours in canonical order.
        let start = self.locks.iter().position(|(_, location)| location.place == *place).unwrap_or_default();
        let locks = self.group(start);
        let mut fresh = since;
        let mut pause = every.saturating_sub(since.elapsed());
        loop {
            clock::sleep(pause.min(fence.saturating_sub(fresh.elapsed()))).await;
            let left = fence.saturating_sub(fresh.elapsed());
            let asked = Ticks::now();
            let answers = tokio::time::timeout(left.min(every), self.renew(locks.clone())).await;
            let problem = match answers {
                Ok(Ok(())) => {
                    fresh = asked;
                    warrant.refreshed(index, fresh);
                    pause = every;
                    continue;
                }
                Ok(Err(problem)) if problem.is_lost => {
                    warrant.taken();
                    return Lost { location: self.location(problem.lock).clone(), reason: problem.reason };
                }
                Ok(Err(problem)) => problem.reason,
                Err(_elapsed) => "no answer".to_owned(),
            };
            if fresh.elapsed() >= fence {
                warrant.expired();
                let reason = format!("it could not be refreshed for {} s: {problem}", fresh.elapsed().as_secs());
                return Lost { location: self.location(locks.start).clone(), reason };
            }
            tracing::warn!(place = %self.location(locks.start), "lock not refreshed, trying again: {problem}");
            pause = (every / 4).max(Duration::from_millis(100)).saturating_sub(asked.elapsed());
        }
    }
}

/// Locks that are ours and kept fresh.
pub struct Held {
    set: Arc<LockSet>,
    warrant: Warrant,
    refreshers: JoinSet<Lost>,
}

impl Held {
    /// What may be done while they are ours.
    pub fn warrant(&self) -> &Warrant {
        &self.warrant
    }

    /// What was lost, if anything was.
    pub async fn loss(&mut self) -> Option<Lost> {
        if !self.warrant.is_lost() {
            return None;
        }
        self.refreshers.join_next().await.and_then(Result::ok)
    }

    /// Gives all back, within `deadline` and not beyond `hurry`. Returns those that could not be removed, with the reason; their lease ends them.
    pub async fn release(mut self, deadline: Duration, hurry: &CancellationToken) -> Vec<String> {
        // No refresher holds anything that an abort could leave half done: each operation is atomic on the storing host.
        self.refreshers.shutdown().await;
        let in_time = tokio::time::timeout(deadline, self.set.remove(self.set.locks.len()));
        let answers = tokio::select! {
            biased;
            answers = in_time => answers.ok(),
            () = hurry.cancelled() => None,
        };
        let Some(answers) = answers else {
            return self.set.locks.iter().map(|(_, location)| format!("{location}: no answer")).collect();
        };
        answers
            .into_iter()
            .filter_map(|(location, answer)| match answer {
                Ok(Answer::Removed) => None,
                Ok(Answer::Lost(why) | Answer::Failed(why)) | Err(Unreachable { why, .. }) => {
                    Some(format!("{location}: {why}"))
                }
                Ok(other) => Some(format!("{location}: unexpected answer {other:?}")),
            })
            .collect()
    }
}
