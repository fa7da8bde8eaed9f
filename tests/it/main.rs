//! It.

mod samples;
