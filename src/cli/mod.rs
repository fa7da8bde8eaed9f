//! Being built.
pub mod progress;
pub mod summary;
