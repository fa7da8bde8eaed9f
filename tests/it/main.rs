//! It.

mod cron_differential;
mod cron_properties;
mod cron_vixie;
