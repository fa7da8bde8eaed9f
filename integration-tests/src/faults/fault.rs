//! What can go wrong, and the steps of which it consists. Pure values.

use super::plan::{Moment, Setup, Way};
use super::random::Random;
use crate::peers::Direction;

/// A host that is suspended stops its processes in no particular order: its children may have filled what its director reads.
const FREEZE_GAP: u64 = 100;
/// Something that goes wrong. Durations are milliseconds; `who` is the index of a contender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL of the director, which is started again after a while.
    Kill {
        /// Whose.
        who: usize,
        /// Until it is started again.
        down: u64,
    },
    /// The contender's host is suspended: director and children stand still.
    Freeze {
        /// Whose.
        who: usize,
        /// For longer than the lease.
        time: u64,
    },
    /// SIGTERM of the director, which is started again when it has ended.
    Restart {
        /// Whose.
        who: usize,
    },
    /// The same, with a clock that is off by this many days from then on.
    Clock {
        /// Whose.
        who: usize,
        /// -1, 0 or 1.
        days: i8,
    },
    /// Every connection of the contender is cut.
    Cut {
        /// Whose.
        who: usize,
    },
    /// Nothing passes in a direction, or in both.
    Stall {
        /// Whose connections.
        who: usize,
        /// Which; `None` is both.
        direction: Option<Direction>,
        /// Shorter or longer than the lease.
        time: u64,
    },
    /// Everything passes later.
    Delay {
        /// Whose connections.
        who: usize,
        /// Each way.
        by: u64,
        /// For how long.
        time: u64,
    },
    /// The protected host's sshd and its sessions are killed; it is started again on the same port.
    Sshd {
        /// Until it is started again.
        down: u64,
    },
    /// No room in the directory of the locks.
    DiskFull {
        /// For how long.
        time: u64,
    },
}

impl Fault {
    /// All kinds, as the report names them.
    pub const KINDS: [&'static str; 12] = [
        "kill",
        "freeze > lease",
        "restart",
        "clock ± 1 day",
        "cut",
        "stall to host",
        "stall from host",
        "stall both ways",
        "delay",
        "sshd restart",
        "disk full",
        "foreign lock",
    ];

    /// Which of [`Self::KINDS`].
    pub fn kind(&self) -> &'static str {
        let index = match self {
            Self::Kill { .. } => 0,
            Self::Freeze { .. } => 1,
            Self::Restart { .. } => 2,
            Self::Clock { .. } => 3,
            Self::Cut { .. } => 4,
            Self::Stall { direction: Some(Direction::ToPeer), .. } => 5,
            Self::Stall { direction: Some(Direction::FromPeer), .. } => 6,
            Self::Stall { direction: None, .. } => 7,
            Self::Delay { .. } => 8,
            Self::Sshd { .. } => 9,
            Self::DiskFull { .. } => 10,
        };
        Self::KINDS[index]
    }
}

/// What the driver does at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// HUP to a director.
    Trigger(usize),
    /// KILL to a director, which stays down.
    Kill(usize),
    /// It may be up again.
    Start(usize),
    /// TERM to a director, which is started again when it has ended.
    Terminate(usize),
    /// The same, with a clock off by days.
    SetClock(usize, i8),
    /// STOP to a director.
    FreezeDirector(usize),
    /// STOP to its descendants.
    FreezeChildren(usize),
    /// CONT to the director.
    ThawDirector(usize),
    /// CONT to its descendants, as soon as the director has killed what acts for it.
    ThawChildren(usize),
    /// Cuts its connections.
    Cut(usize),
    /// Stalls them; `None` is both ways.
    Stall(usize, Option<Direction>),
    /// Lets them pass again.
    Resume(usize),
    /// Delays them by milliseconds; 0 ends it.
    Delay(usize, u64),
    /// Kills sshd and its sessions.
    StopSshd,
    /// Starts it again.
    StartSshd,
    /// Fills the disk of the locks.
    Fill,
    /// Makes room again.
    Free,
}

impl Fault {
    /// Draws one that happens at this moment to one of these contenders.
    pub(super) fn draw(setup: &Setup, taking_part: &[usize], moment: Moment, random: &mut Random) -> Self {
        let lease = setup.lease_ms();
        let who = match moment {
            Moment::Inside(who, _) | Moment::Writing(who, _) => who,
            Moment::At(_) => random.pick(taking_part),
        };
        let remote = setup.contenders[who].way != Way::Local;
        // Those of a connection only for who has one.
        match random.between(1, if remote { 14 } else { 6 }) {
            1 | 2 => Self::Kill { who, down: random.pick(&[100, 1000, lease * 6 / 5]) },
            3 | 4 => Self::Freeze { who, time: lease + random.between(300, 1500) },
            5 => Self::Restart { who },
            6 => Self::DiskFull { time: random.between(300, lease) },
            7 => Self::Clock { who, days: random.pick(&[-1, 1, 0]) },
            8 => Self::Cut { who },
            9 => Self::Sshd { down: random.between(50, 1500) },
            10 => Self::Delay { who, by: random.between(10, 200), time: random.between(500, lease) },
            _ => Self::Stall {
                who,
                direction: random.pick(&[Some(Direction::ToPeer), Some(Direction::FromPeer), None]),
                time: if random.chance(50) {
                    random.between(200, lease / 2)
                } else {
                    lease + random.between(300, 2000)
                },
            },
        }
    }

    /// What it takes, with the moments of the steps if the fault begins at `at`.
    pub fn steps(self, at: u64) -> Vec<(u64, Step)> {
        match self {
            Self::Kill { who, down } => vec![(at, Step::Kill(who)), (at + down, Step::Start(who))],
            Self::Freeze { who, time } => vec![
                (at, Step::FreezeDirector(who)),
                (at + FREEZE_GAP, Step::FreezeChildren(who)),
                (at + time, Step::ThawDirector(who)),
                (at + time + 1, Step::ThawChildren(who)),
            ],
            Self::Restart { who } => vec![(at, Step::Terminate(who))],
            Self::Clock { who, days } => vec![(at, Step::SetClock(who, days))],
            Self::Cut { who } => vec![(at, Step::Cut(who))],
            Self::Stall { who, direction, time } => {
                vec![(at, Step::Stall(who, direction)), (at + time, Step::Resume(who))]
            }
            Self::Delay { who, by, time } => vec![(at, Step::Delay(who, by)), (at + time, Step::Delay(who, 0))],
            Self::Sshd { down } => vec![(at, Step::StopSshd), (at + down, Step::StartSshd)],
            Self::DiskFull { time } => vec![(at, Step::Fill), (at + time, Step::Free)],
        }
    }
}

impl Step {
    /// Whether a fault begins with it.
    pub fn harms(self) -> bool {
        let ends = matches!(self, Self::Start(_) | Self::Resume(_) | Self::Delay(_, 0) | Self::StartSshd | Self::Free);
        !ends
            && !matches!(
                self,
                Self::Trigger(_) | Self::FreezeChildren(_) | Self::ThawDirector(_) | Self::ThawChildren(_)
            )
    }
}
