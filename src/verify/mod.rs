//! Whether a replica is the replica: two trees told in the same order, and what is to be said of their differences.
//!
//! [`Promise`] says what a sync's options promise at all; [`join`] merges two walks; [`Judge`] says of each pair whether it is in step, or in
//! which [`Class`] it differs.

pub mod compare;
pub mod drill;
pub mod engine;
pub mod fallback;
pub mod here;
pub mod latest;
pub mod list;
mod manifest;
pub mod order;
mod records;
pub mod report;
pub mod side;
pub mod store;
pub mod terms;
#[cfg(test)]
mod tests;
pub mod worker;

pub use compare::{Class, Difference, Judge, Judged, Pair, join};
pub use terms::{Depth, NotVerifiable, Promise};
