//! Who carries letters: each target has a queue of its own, in order, one letter under way at a time, so one that hangs holds up nobody
//! else.
//!
//! Everything is bounded: an attempt by the target's timeout, attempts by `retries`, a letter's way by [`WAY_MAX`], queues by
//! [`QUEUE_MAX`], the end by the time that [`Courier::run`] is given for it. What is given up is counted and said. Idle, there is no
//! thread, no timer and no connection.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::child::{self, ChildError};
use super::http::{self, HttpError};
use super::notice::Notice;
use super::watch::Letter;
use crate::clock::{self, Ticks};
use crate::config::{Target, Way};
use crate::metrics::{Notifications, Telling};
use crate::process::{Spawner, Stop};

/// Letters that wait for one target; the oldest is dropped for one more.
const QUEUE_MAX: usize = 64;
/// How long a letter is carried: after that it is old news.
const WAY_MAX: Duration = Duration::from_secs(3600);
/// A retry's pause doubles up to this.
const LONGEST_PAUSE: Duration = Duration::from_secs(600);

/// How long the end waits for programs that are killed: one that hangs in the kernel does not die.
const KILL_MAX: Duration = Duration::from_secs(1);

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// By HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// By a program.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// No answer.
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration),
    /// The director ends.
    #[error("the director ends")]
    Ended,
    /// An error of ours.
    #[error("an error in rsyncdirector itself")]
    Internal,
}

impl DeliveryError {
    fn may_pass(&self) -> bool {
        match self {
            Self::Http(error) => error.may_pass(),
            Self::Child(_) | Self::Timeout(_) => true,
            Self::Ended | Self::Internal => false,
        }
    }
}

/// Tells a target once, within its timeout.
///
/// # Errors
/// Why it was not told.
pub async fn deliver(spawner: &Spawner, target: &Target, notice: &Notice, stop: &Stop) -> Result<(), DeliveryError> {
    let timeout = target.timeout;
    match &target.way {
        Way::Http(http) => tokio::select! {
            told = tokio::time::timeout(timeout, http::post(http, notice)) => match told {
                Ok(told) => Ok(told?),
                Err(_elapsed) => Err(DeliveryError::Timeout(timeout)),
            },
            () = stop.kill.cancelled() => Err(DeliveryError::Ended),
        },
        Way::Command(command) => Ok(child::command(spawner, command, notice, timeout, stop).await?),
        Way::Mail(mail) => Ok(child::sendmail(spawner, mail, notice, timeout, stop).await?),
    }
}

/// Carries letters to their targets.
pub struct Courier {
    incoming: mpsc::Receiver<Letter>,
    carrier: Carrier,
    lanes: HashMap<usize, Lane>,
    under_way: JoinSet<usize>,
}

/// What waits for one target, oldest first, behind the one that is under way.
#[derive(Default)]
struct Lane(VecDeque<Letter>);

#[derive(Clone)]
struct Carrier {
    spawner: Spawner,
    counts: Notifications,
    /// Ends what is under way.
    stop: Stop,
    /// Cancelled when there is no more time for pauses.
    hurry: CancellationToken,
}

impl Courier {
    /// One that carries what comes in.
    pub(super) fn new(incoming: mpsc::Receiver<Letter>, spawner: Spawner, counts: Notifications) -> Self {
        let carrier = Carrier { spawner, counts, stop: Stop::default(), hurry: CancellationToken::new() };
        Self { incoming, carrier, lanes: HashMap::new(), under_way: JoinSet::new() }
    }

    /// Carries until `end` is cancelled, then for at most `flush` what is there by then, without pauses between attempts.
    pub async fn run(mut self, end: CancellationToken, flush: Duration) {
        loop {
            tokio::select! {
                biased;
                Some(lane) = self.under_way.join_next() => self.next(lane.ok()),
                () = end.cancelled() => break,
                letter = self.incoming.recv() => match letter {
                    Some(letter) => self.take(letter),
                    None => break,
                },
            }
        }
        self.carrier.hurry.cancel();
        while let Ok(letter) = self.incoming.try_recv() {
            self.take(letter);
        }
        let limit = clock::sleep(flush);
        tokio::pin!(limit);
        while !self.under_way.is_empty() {
            tokio::select! {
                biased;
                Some(lane) = self.under_way.join_next() => self.next(lane.ok()),
                () = &mut limit => return self.give_up().await,
            }
        }
    }

    async fn give_up(mut self) {
        for letter in self.lanes.drain().flat_map(|(_, lane)| lane.0) {
            self.carrier.drop_letter(&letter, "the director ends");
        }
        self.carrier.stop.kill.cancel();
        while self.under_way.join_next().await.is_some() {}
    }

    fn take(&mut self, letter: Letter) {
        let lane = Arc::as_ptr(&letter.0) as usize;
        match self.lanes.get_mut(&lane) {
            None => {
                self.lanes.insert(lane, Lane::default());
                self.send(lane, letter);
            }
            Some(waiting) => {
                if waiting.0.len() == QUEUE_MAX
                    && let Some(oldest) = waiting.0.pop_front()
                {
                    self.carrier.drop_letter(&oldest, "too many wait");
                }
                waiting.0.push_back(letter);
            }
        }
    }

    fn send(&mut self, lane: usize, letter: Letter) {
        let carrier = self.carrier.clone();
        self.under_way.spawn(async move {
            carrier.carry(&letter).await;
            lane
        });
    }

    /// What comes after a letter that has reached its end. `None` cannot be: a carrier catches its panics.
    fn next(&mut self, lane: Option<usize>) {
        let Some(lane) = lane else { return };
        match self.lanes.get_mut(&lane).and_then(|waiting| waiting.0.pop_front()) {
            Some(letter) => self.send(lane, letter),
            None => drop(self.lanes.remove(&lane)),
        }
    }
}

impl Carrier {
    async fn carry(&self, (target, notice): &Letter) {
        let (kind, way) = (target.way.kind(), &target.way);
        let attempts = AssertUnwindSafe(self.attempts(target, notice)).catch_unwind();
        match self.unless_killed(attempts.map(|told| told.unwrap_or(Err(DeliveryError::Internal)))).await {
            Ok(()) => {
                self.counts.count(kind, Telling::Sent);
                tracing::debug!(job = %notice.job, "told of {}: {way}", notice.event);
            }
            Err(error) => {
                self.counts.count(kind, Telling::Failed);
                let why = crate::error_chain(&error);
                tracing::error!(job = %notice.job, "could not tell of {}: {way}: {why}", notice.event);
            }
        }
    }

    /// What attempts come to; they are given up when they go on after they were told to end.
    async fn unless_killed(
        &self,
        attempts: impl Future<Output = Result<(), DeliveryError>>,
    ) -> Result<(), DeliveryError> {
        let killed = async {
            self.stop.kill.cancelled().await;
            clock::sleep(KILL_MAX).await;
        };
        tokio::select! {
            biased;
            told = attempts => told,
            () = killed => Err(DeliveryError::Ended),
        }
    }

    async fn attempts(&self, target: &Target, notice: &Notice) -> Result<(), DeliveryError> {
        let started = Ticks::now();
        let (mut left, mut pause) = (target.retries, target.retry_wait);
        loop {
            let Err(error) = deliver(&self.spawner, target, notice, &self.stop).await else { return Ok(()) };
            let is_over = self.stop.kill.is_cancelled() || started.elapsed() + pause > WAY_MAX;
            if left == 0 || is_over || !error.may_pass() {
                return Err(error);
            }
            left -= 1;
            let why = crate::error_chain(&error);
            tracing::warn!(job = %notice.job, "could not tell of {}, trying again: {}: {why}", notice.event, target.way);
            tokio::select! {
                () = clock::sleep(pause) => {}
                // One attempt more.
                () = self.hurry.cancelled() => left = 0,
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn drop_letter(&self, (target, notice): &Letter, why: &str) {
        self.counts.count(target.way.kind(), Telling::Dropped);
        tracing::error!(job = %notice.job, "nobody is told of {}: {}: {why}", notice.event, target.way);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::{Command, Http, Secret, Style};
    use crate::metrics::{Metrics, tests::config};
    use crate::notify::notice::tests::notice;

    const TIMEOUT: Duration = Duration::from_secs(60);

    fn target(way: Way, retries: u32) -> Arc<Target> {
        let (timeout, retry_wait) = (TIMEOUT, Duration::from_secs(600));
        Arc::new(Target { on: Vec::new(), way, every: None, timeout, retries, retry_wait })
    }

    fn command(line: String) -> Way {
        Way::Command(Command::Shell(line.into()))
    }

    /// Carries one letter to each of these, is told to end when this is counted, and ends; gives the counts that are not 0.
    async fn carry(letters: Vec<Arc<Target>>, until: &str, flush: Duration) -> Vec<String> {
        let metrics = Metrics::new(&config(), "2");
        let (queue, incoming) = mpsc::channel(1024);
        for (run, target) in letters.into_iter().enumerate() {
            let letter = (target, Arc::new(Notice { run: Some(run as u64), ..notice() }));
            queue.try_send(letter).expect("room");
        }
        let courier = Courier::new(incoming, Spawner::start().expect("a thread"), metrics.notifications());
        let end = CancellationToken::new();
        let (counted, since) = (|| metrics.encode().contains(until), Ticks::now());
        let tell = async {
            while !counted() {
                assert!(since.elapsed() < TIMEOUT / 2, "not counted: {until}");
                clock::sleep(Duration::from_millis(10)).await;
            }
            end.cancel();
        };
        tokio::join!(tell, courier.run(end.clone(), flush));
        let page = metrics.encode();
        let lines = page.lines().filter_map(|line| line.strip_prefix("rsyncdirector_notifications_total"));
        lines.map(str::to_owned).collect()
    }

    #[tokio::test]
    async fn a_target_hears_in_order_also_at_the_end() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("runs");
        let target = target(command(format!("echo $RSYNCDIRECTOR_RUN >> {}", file.display())), 0);
        let counts = carry(vec![target; 5], "", Duration::from_secs(30)).await;
        assert_eq!(counts, ["{result=\"sent\",target=\"command\"} 5"]);
        assert_eq!(std::fs::read_to_string(file).expect("told"), "0\n1\n2\n3\n4\n");
    }

    #[tokio::test]
    async fn one_that_does_not_answer_holds_up_nobody_and_its_queue_is_bounded() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let http = Http { url: Secret::Text(url), style: Style::Json(None), headers: Vec::new(), ca_file: None };
        let hanging = target(Way::Http(http), 0);
        let letters = [vec![hanging; 70], vec![target(command("true".into()), 0)]].concat();
        let told = "{result=\"sent\",target=\"command\"} 1";
        let counts = carry(letters, told, Duration::from_millis(100)).await;
        let expected = ["{result=\"dropped\",target=\"http\"} 69", "{result=\"failed\",target=\"http\"} 1", told];
        assert_eq!(counts, expected);
    }

    #[tokio::test]
    async fn at_the_end_there_is_one_attempt_more_without_a_pause() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("attempts");
        let target = target(command(format!("echo x >> {}; exit 1", file.display())), 9);
        let counts = carry(vec![target], "", Duration::from_secs(30)).await;
        assert_eq!(counts, ["{result=\"failed\",target=\"command\"} 1"]);
        assert_eq!(std::fs::read_to_string(file).expect("told"), "x\nx\n");
    }

    #[tokio::test]
    async fn the_end_does_not_wait_for_a_program_that_cannot_be_killed() {
        let metrics = Metrics::new(&config(), "2");
        let (_queue, incoming) = mpsc::channel(1);
        let courier = Courier::new(incoming, Spawner::start().expect("a thread"), metrics.notifications());
        courier.carrier.stop.kill.cancel();
        let told = courier.carrier.unless_killed(std::future::pending()).await;
        assert!(matches!(told, Err(DeliveryError::Ended)), "{told:?}");
    }
}
