//! Tests of the package as a whole: its structure and what it ships.

mod layering;
mod samples;
mod unit_file;
