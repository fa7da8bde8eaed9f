//! Faults at random for directors that want the same locks, with real parts, and a judge who sees every write.
//!
//! An [`arena`] is a protected host (an sshd, a small file system for the locks, a protected directory under a [`recorder`])
//! and two to four [`contender`]s: real directors that reach it directly or over SSH, each through a proxy of its own. A
//! history is drawn from a seed as a [`plan`]: who is told when to run, which [`fault`]s happen when; its [`course`] is what comes
//! of it. When the last fault is over
//! every contender that was told to run must get its section within two leases; then no lock may be left. The [`checker`]
//! fails on any two sections that interleave. A [`suite`] runs many arenas at once and sums them up in a [`report`].
//!
//! Absent on purpose: any knowledge of how locks work. A director is judged by what it writes, what it leaves behind, and
//! what its log says of the ends of its runs.

pub mod arena;
pub mod checker;
pub mod config;
pub mod contender;
pub mod course;
pub mod fault;
pub mod host;
pub mod plan;
pub mod random;
pub mod recorder;
pub mod report;
pub mod suite;
