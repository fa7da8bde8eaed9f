//! Telling people and programs what became of jobs.

pub mod template;
