//! What is known of rsync: its arguments, its exit codes, what it prints. Pure, but for [`expand`], which reads directories.

pub mod args;
pub mod bwlimit;
pub mod exit;
pub mod expand;
pub mod filter;
pub mod guard;
pub mod options;
pub mod progress;
pub mod repair;
pub mod shards;
pub mod stats;
pub mod survey;
