//! Locks that are ours: kept fresh, and given back.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::backend::{Answer, Unreachable};
use super::set::{LockSet, Problem};
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
        let no_answer = || Problem::passing(locks.start, "no answer");
        let mut fresh = since;
        let mut pause = every.saturating_sub(since.elapsed());
        loop {
            clock::sleep(pause.min(fence.saturating_sub(fresh.elapsed()))).await;
            let left = fence.saturating_sub(fresh.elapsed());
            let began = Ticks::now();
            let answer = within(left, self.renew_at(place, locks.clone(), every)).await;
            let problem = match answer.unwrap_or_else(|| Err(no_answer())) {
                Ok(asked) if warrant.refreshed(index, asked) => {
                    (fresh, pause) = (asked, every);
                    continue;
                }
                Ok(_) => "the answer came too late".to_owned(),
                Err(problem) if problem.is_lost => {
                    warrant.taken();
                    return Lost { location: self.location(problem.lock).clone(), reason: problem.reason };
                }
                Err(problem) => problem.reason,
            };
            if fresh.elapsed() >= fence {
                warrant.expired();
                let reason = format!("it could not be refreshed for {} s: {problem}", fresh.elapsed().as_secs());
                return Lost { location: self.location(locks.start).clone(), reason };
            }
            tracing::warn!(place = %self.location(locks.start), "lock not refreshed, trying again: {problem}");
            pause = (every / 4).max(Duration::from_millis(100)).saturating_sub(began.elapsed());
        }
    }

    /// Refreshes the locks of one place, which is given `patience` to answer when we are connected. Returns when it was asked.
    async fn renew_at(&self, place: &Place, locks: Range<usize>, patience: Duration) -> Result<Ticks, Problem> {
        let start = locks.start;
        self.stores.warm(place).await.map_err(|error| Problem::passing(start, error.why))?;
        let asked = Ticks::now();
        let answers = within(patience, self.renew(locks)).await;
        answers.unwrap_or_else(|| Err(Problem::passing(start, "no answer"))).map(|()| asked)
    }
}

/// What comes of it by then; a suspend counts.
async fn within<T>(bound: Duration, answer: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        answer = answer => Some(answer),
        () = clock::sleep(bound) => None,
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

#[cfg(test)]
mod tests {
    use rustix::process::{Pid, Signal, kill_process};

    use super::super::backend::{Answers, LockBackend, Op};
    use super::super::record::tests::record;
    use super::super::set::Attempt;
    use super::super::stores::Stores;
    use super::*;
    use crate::config::Via;
    use crate::event::Events;
    use crate::metrics::tests::config;
    use crate::ssh::Pool;
    use crate::ssh::test_sshd::TestSshd;

    const SOON: Duration = Duration::from_secs(60);
    /// Longer than a login to an sshd here takes by itself.
    const LOGIN: Duration = Duration::from_secs(1);

    /// A host that does at once whatever it is asked for.
    struct Prompt;

    impl LockBackend for Prompt {
        fn perform(&self, batch: Vec<Op>) -> Answers {
            let answer = |op| match op {
                Op::Take { .. } => Answer::Taken,
                Op::Refresh { .. } => Answer::Refreshed,
                _ => Answer::Removed,
            };
            Box::pin(std::future::ready(Ok(batch.into_iter().map(answer).collect())))
        }
    }

    /// One lock at a place that this host stands for.
    fn set(place: Place, pool: Pool, host: impl LockBackend + 'static, fence: Duration) -> LockSet {
        let location = Location { place: place.clone(), path: "/lock".into() };
        let stores = Stores::new(pool, SOON, "here".into()).served_by(place, Arc::new(host));
        LockSet::new(stores, record(""), fence, [location])
    }

    fn set_here(host: impl LockBackend + 'static, fence: Duration) -> LockSet {
        set(Place::Local, Pool::new(config().ssh, Events::new(Vec::new())), host, fence)
    }

    /// It does at once whatever it is asked for by who has logged in.
    fn set_there(sshd: &TestSshd) -> (LockSet, Pool) {
        let pool = Pool::new(sshd.policy(), Events::new(Vec::new()));
        (set(Place::Remote(sshd.peer(), Via::Auto), pool.clone(), Prompt, SOON), pool)
    }

    /// Makes the next login take at least [`LOGIN`].
    fn delay(sshd: &TestSshd) {
        let pid = Pid::from_raw(sshd.pid().cast_signed()).expect("a pid");
        kill_process(pid, Signal::STOP).expect("stopped");
        std::thread::spawn(move || {
            std::thread::sleep(LOGIN);
            kill_process(pid, Signal::CONT)
        });
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_lease_counts_from_after_the_login() {
        let sshd = TestSshd::start();
        let (set, _) = set_there(&sshd);
        let began = Ticks::now();
        delay(&sshd);
        let Attempt::Taken { since, .. } = set.take(&[]).await else { panic!("it is free") };
        let held = since.elapsed();
        assert!(held + LOGIN <= began.elapsed(), "{held:?} of {:?}", began.elapsed());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_login_may_take_longer_than_an_answer() {
        let sshd = TestSshd::start();
        let (set, pool) = set_there(&sshd);
        assert!(matches!(set.take(&[]).await, Attempt::Taken { .. }));
        pool.close(SOON).await;
        delay(&sshd);
        let place = set.location(0).place.clone();
        let asked = set.renew_at(&place, 0..1, LOGIN / 10).await;
        assert!(asked.is_ok(), "{asked:?}");
    }

    /// A host that gives a lock and is not heard of again.
    struct Silent;

    impl LockBackend for Silent {
        fn perform(&self, batch: Vec<Op>) -> Answers {
            match batch.iter().any(|op| matches!(op, Op::Refresh { .. })) {
                true => Box::pin(std::future::pending()),
                false => Prompt.perform(batch),
            }
        }
    }

    /// As during a suspend the clock of the runtime stands still: what blocks keeps it from going on by itself.
    #[tokio::test(start_paused = true)]
    async fn a_loss_is_told_by_the_clock_that_counts_through_a_suspend_also_during_a_refresh() {
        let (resume, suspended) = std::sync::mpsc::channel::<()>();
        tokio::task::spawn_blocking(move || suspended.recv());
        let mut set = set_here(Silent, Duration::from_millis(400));
        assert!(matches!(set.take(&[]).await, Attempt::Taken { .. }), "it is free");
        // The refresh begins at a quarter of the lease, before the fence.
        set.record.lease_seconds = 1;
        let mut held = set.hold(Ticks::now());
        let warrant = held.warrant().clone();
        let told = async {
            warrant.lost().await;
            held.loss().await
        };
        let loss = tokio::select! {
            loss = told => loss.expect("it is lost"),
            () = clock::sleep(SOON) => panic!("nobody hears of it"),
        };
        assert_eq!(loss.location.place, Place::Local);
        drop(resume);
    }

    /// As on a host that goes on after a suspend: what is to be done asks first, and only then the refresher gets its turn.
    #[tokio::test]
    async fn who_found_a_lock_lost_is_told_of_the_loss_though_it_could_still_be_refreshed() {
        let set = set_here(Prompt, Duration::from_millis(20));
        let Attempt::Taken { since, .. } = set.take(&[]).await else { panic!("it is free") };
        let mut held = set.hold(since);
        while !held.warrant().is_lost() {}
        let loss = tokio::time::timeout(SOON, held.loss()).await.expect("it is told").expect("it is lost");
        assert_eq!(loss.location.place, Place::Local);
        assert!(held.release(SOON, &CancellationToken::new()).await.is_empty());
    }
}
