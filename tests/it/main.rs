//! Tests of the package as a whole: its structure, its schedule against real rules, and what it ships.

mod agent;
mod agent_gate;
mod cron_differential;
mod cron_properties;
mod cron_vixie;
mod deletion_differential;
mod docs;
mod filter_differential;
mod layering;
mod lock_model;
mod man_page;
mod monitoring;
mod samples;
mod unit_file;
mod verify_memory;
mod verify_truth;
