//! The rules of the protocol, each with a switch, and who contends for what.

use std::time::Duration;

use rsyncdirector::lock::record::{Content, Found, Record, Verdict, in_the_way, judge};

use super::state::{CONTENDERS, File, Token};

/// What the contenders keep to. [`Rules::PROTOCOL`] is the protocol; each test of a mutation breaks one.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Ticks after which a lock that is not refreshed is stale.
    pub lease: u8,
    /// Ticks after the last refresh at which a holder tells its action to end.
    pub fence: u8,
    /// Ticks that the action then takes to end, at most.
    pub grace: u8,
    /// A tick at which a refresh is asked for, since the last one.
    pub refresh: u8,
    /// Less than half a lease passes between a check and the step that relies on it.
    pub prompt: bool,
    /// A stale lock is replaced under a claim.
    pub claim: bool,
    /// With the claim, the lock is looked at again.
    pub check: bool,
    /// With the claim, an operation goes on only while its claim is younger than half a lease.
    pub young_claim: bool,
    /// A take-over that finds after its rename that half a lease has passed leaves the lock to expire.
    pub late_expires: bool,
    /// Only a stale claim is stepped over.
    pub step_over_stale_only: bool,
    /// Whoever does not get a claim leaves the claims that it stepped over alone.
    pub keep_others_claims: bool,
    /// The blocks are looked at again when all is taken.
    pub second_look: bool,
    /// An action is started only before the fence.
    pub start_before_fence: bool,
    /// A refresh before the action counts only if its answer comes before the fence.
    pub fresh_before_fence: bool,
    /// An own lock is looked at before it is removed.
    pub remove_looks: bool,
    /// An own lock is removed under the claim, however young it is.
    pub remove_claims: bool,
    /// A removal whose answer was lost is asked for again.
    pub remove_again: bool,
    /// Each take has a token of its own; otherwise all takes of a run share one.
    pub token_per_take: bool,
    /// A claim is removed only when what it is a claim on has gone.
    pub unclaim_gone: bool,
    /// An expired lock is not refreshed.
    pub refresh_judges: bool,
    /// After the touch a refresh looks whose the file is.
    pub refresh_verifies: bool,
    /// Ages are by the storing host's clock. Otherwise by the contender's, and the first one's is a day ahead.
    pub storing_clock: bool,
    /// A lock appears with its content in one step.
    pub hard_links: bool,
}

impl Rules {
    /// The protocol, with the shortest lease that keeps the order refresh < fence < end of the action < lease.
    pub const PROTOCOL: Self = Self {
        lease: 4,
        fence: 2,
        grace: 1,
        refresh: 1,
        prompt: true,
        claim: true,
        check: true,
        young_claim: true,
        late_expires: false,
        step_over_stale_only: true,
        keep_others_claims: true,
        second_look: true,
        start_before_fence: true,
        fresh_before_fence: true,
        remove_looks: true,
        remove_claims: true,
        remove_again: true,
        token_per_take: true,
        unclaim_gone: true,
        refresh_judges: true,
        refresh_verifies: true,
        storing_clock: true,
        hard_links: true,
    };

    pub fn half(&self) -> u8 {
        self.lease / 2
    }

    /// An age as whoever owns `token` reads it.
    pub fn seen(&self, age: u8, token: Token) -> u8 {
        if !self.storing_clock && token.owner() == Some(0) { self.lease } else { age }
    }
}

/// Who wants what, and what may go wrong.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// The lock that each contender takes; `None` for one that does not take part.
    pub wants: [Option<u8>; CONTENDERS],
    /// The lock file that makes it wait.
    pub blocks: [Option<u8>; CONTENDERS],
    /// Directors that crash, in all.
    pub crashes: u8,
    /// Connections that are lost in the middle of an operation, in all.
    pub cuts: u8,
    /// Whether a lock that goes away under its owner's action counts; two at the data at once always does.
    pub locks_stay: bool,
    /// Operations and contenders that take longer than a tick, however long, in all.
    pub stalls: u8,
    /// Files that a person puts in the place of the first lock, in all.
    pub visits: u8,
}

impl Scenario {
    /// Whether two must never act at the same time.
    pub fn exclude(&self, a: usize, b: usize) -> bool {
        let mutual = self.wants[a].is_some_and(|lock| self.blocks[b] == Some(lock))
            && self.wants[b].is_some_and(|lock| self.blocks[a] == Some(lock));
        self.wants[a] == self.wants[b] || mutual
    }

    /// Whether it makes no difference who is who.
    pub fn symmetric(&self) -> bool {
        self.wants.iter().flatten().all(|lock| Some(*lock) == self.wants[0]) && self.blocks == [None; CONTENDERS]
    }
}

/// What a look means, in the words of the program: its own `judge` and `in_the_way`, asked once for each case.
pub struct Verdicts {
    lease: u8,
    others: Vec<(Means, bool)>,
    persons: Vec<(Means, bool)>,
}

/// What a contender makes of a file in the way of its lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    Free,
    Ours,
    Held,
    Stale,
}

impl Verdicts {
    pub fn new(lease: u8) -> Self {
        let cases = |content: fn(u8) -> Content| -> Vec<(Means, bool)> {
            let found = |age: u8| Found::File { content: content(lease), age: Duration::from_secs(age.into()) };
            (0..=lease)
                .map(|age| {
                    (
                        means(&found(age)),
                        in_the_way(&found(age), &["own".into()], jiff::Timestamp::UNIX_EPOCH).is_some(),
                    )
                })
                .collect()
        };
        Self {
            lease,
            others: cases(|lease| Content::Director(record(lease))),
            persons: cases(|_| Content::Foreign(String::new())),
        }
    }

    /// For a contender that carries `own`.
    pub fn of(&self, file: Option<File>, own: Option<Token>, age: u8) -> (Means, bool) {
        match file {
            None => (means(&Found::Absent), false),
            Some(file) if Some(file.token) == own => (Means::Ours, false),
            Some(file) => {
                let table = if file.token.owner().is_some() { &self.others } else { &self.persons };
                table[usize::from(age.min(self.lease))]
            }
        }
    }
}

fn means(found: &Found) -> Means {
    match judge(found, "own") {
        Verdict::Free => Means::Free,
        Verdict::Ours => Means::Ours,
        Verdict::Stale { .. } => Means::Stale,
        Verdict::Held(_) | Verdict::Unusable(_) => Means::Held,
    }
}

fn record(lease: u8) -> Record {
    let text = format!(
        r#"{{"instance":"i","host":"h","user":"u","pid":1,"boot_id":"b","token":"other","lease_seconds":{lease},"taken_at":"1970-01-01T00:00:00Z","job":"j"}}"#
    );
    serde_json::from_str(&text).expect("a record reads back")
}
