//! Waiting for what is in the way: the blocks of a job, and locks that others hold.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::clock::{self, Ticks};
use crate::config::{Block, Location, Wait};
use crate::event::{JobEvent, Obstacle, SkipReason};
use crate::lock::record::in_the_way;
use crate::lock::{Answer, Stores, Unreachable};

/// Pauses between looks, bounded by the timeout from the first look on.
pub(super) struct Patience {
    wait: Wait,
    since: Ticks,
}

impl Patience {
    /// The first look was now.
    pub(super) fn begin(wait: Wait) -> Self {
        Self { wait, since: Ticks::now() }
    }

    /// Time until the next look; `None` when the timeout has passed.
    pub(super) fn next_look(&self) -> Option<Duration> {
        match self.wait.timeout {
            None => Some(self.wait.every),
            Some(timeout) => {
                let left = timeout.saturating_sub(self.since.elapsed());
                (!left.is_zero()).then(|| left.min(self.wait.every))
            }
        }
    }
}

/// Sleeps, unless told to stop.
pub(super) async fn pause(duration: Duration, stop: &CancellationToken) -> Result<(), SkipReason> {
    tokio::select! {
        biased;
        () = stop.cancelled() => Err(SkipReason::Shutdown),
        () = clock::sleep(duration) => Ok(()),
    }
}

/// Waits until no block stands.
///
/// The first look takes one round trip a peer for all blocks. Then the first that stands is waited for, and those behind it
/// are looked at again when it is gone.
pub(super) async fn for_blocks(
    stores: &Stores,
    blocks: &[Block],
    stop: &CancellationToken,
    send: &impl Fn(JobEvent),
) -> Result<(), SkipReason> {
    let locations: Vec<Location> = blocks.iter().map(|block| block.location.clone()).collect();
    let mut index = 0;
    while index < blocks.len() {
        let Some((ahead, mut obstacle)) = first_obstacle(stores, &locations[index..], stop).await? else {
            return Ok(());
        };
        index += ahead;
        let patience = Patience::begin(blocks[index].wait);
        loop {
            let next_look = patience.next_look();
            send(JobEvent::BlockWait { file: locations[index].to_string(), obstacle, next_look });
            pause(next_look.ok_or(SkipReason::BlockTimeout)?, stop).await?;
            match first_obstacle(stores, &locations[index..=index], stop).await? {
                Some((_, still)) => obstacle = still,
                None => break,
            }
        }
        index += 1;
    }
    Ok(())
}

async fn first_obstacle(
    stores: &Stores,
    locations: &[Location],
    stop: &CancellationToken,
) -> Result<Option<(usize, Obstacle)>, SkipReason> {
    let answers = tokio::select! {
        biased;
        () = stop.cancelled() => return Err(SkipReason::Shutdown),
        answers = stores.look(locations) => answers,
    };
    Ok(answers.into_iter().enumerate().find_map(|(index, answer)| Some((index, obstacle(answer)?))))
}

/// What a look means for a job that holds no lock. Only what is known to be absent or stale is free.
fn obstacle(answer: Result<Answer, Unreachable>) -> Option<Obstacle> {
    match answer {
        Ok(Answer::Found(found)) => in_the_way(&found, &[], clock::now()).map(Obstacle::Present),
        Ok(Answer::Failed(error)) | Err(Unreachable { why: error, .. }) => Some(Obstacle::Unknown(error)),
        Ok(other) => Some(Obstacle::Unknown(format!("unexpected answer {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::record::Found;

    #[test]
    fn a_peer_that_cannot_be_asked_is_never_free() {
        assert!(matches!(obstacle(Err(Unreachable::because("refused"))), Some(Obstacle::Unknown(_))));
        assert!(matches!(obstacle(Ok(Answer::Failed("denied".into()))), Some(Obstacle::Unknown(_))));
        assert!(obstacle(Ok(Answer::Found(Found::Absent))).is_none());
        assert!(matches!(obstacle(Ok(Answer::Found(Found::Other("a directory")))), Some(Obstacle::Present(_))));
    }

    #[test]
    fn patience_ends_at_the_timeout_and_the_last_pause_is_cut_to_it() {
        let every = Duration::from_secs(30);
        assert_eq!(Patience::begin(Wait { every, timeout: None }).next_look(), Some(every));
        let bounded = Patience::begin(Wait { every, timeout: Some(Duration::from_secs(5)) });
        assert!(bounded.next_look().is_some_and(|pause| pause <= Duration::from_secs(5)));
        assert_eq!(Patience::begin(Wait { every, timeout: Some(Duration::ZERO) }).next_look(), None);
    }
}
