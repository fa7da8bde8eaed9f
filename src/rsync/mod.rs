//! What is known of rsync, all pure.
pub mod progress;
pub mod stats;
