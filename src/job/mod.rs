//! One job of a run, from its blocks to the release of its locks.
//!
//! [`Performer::perform`] is the sequence: **conditions** (`when`), **blocks** (look, wait, look again), **locks** (all or none, then a second
//! look at the blocks), **`before`** and **actions** in order, **`on_failure`** and
//! **`after`**, **release**, always. Whatever happens ends the job and never more than the job.

mod conditions;
mod hook;
mod run;
mod wait;

pub use run::{Identity, Performer};
