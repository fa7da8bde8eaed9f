//! The configuration file: as written (`raw`), as usable ([`Config`] and the rest of `model`).
//!
//! The way of a file: [`load`] reads it and judges who can write it; `raw` makes a tree in which everything knows its
//! place; `validate` walks the tree with `fields` and collects every problem as a [`Diagnostic`], so that all of them are
//! shown at once. `keys` lists the keys that exist; [`json_schema`] describes them for editors. What the file does not say of a peer,
//! [`ssh_config`] may: it is read here too, once, and holds until the daemon is started anew.
//!
//! Absent on purpose: wildcards and `~` of a sync's paths are left to the run, since what they match changes; so is the
//! question whether files and hosts exist.

mod context;
mod diagnostics;
mod expand;
mod fields;
mod keys;
mod load;
mod model;
mod notify;
mod peer;
mod raw;
mod schema;
pub mod ssh_config;
mod validate;
mod value;

use std::ffi::OsString;
use std::path::Path;

pub use diagnostics::{Diagnostic, Diagnostics, LoadError, Severity};
pub use load::{load, read_trusted};
pub use model::*;
pub use schema::json_schema;
pub use validate::notify::judge_url;
pub use validate::verify::level;

/// A configuration that can be used, and what is to be said about it all the same.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings only.
    pub warnings: Diagnostics,
}

/// Validates the text of a configuration; `path` is for messages and [`Config::path`]. Reads no file but the system's time
/// zone database, and asks `env` for environment variables. As if there were no ssh_config(5).
///
/// # Errors
/// Everything that is wrong, warnings included, in the order of the file.
pub fn parse(path: &Path, text: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Loaded, Diagnostics> {
    parse_with(path, text, env, &ssh_config::NoFiles)
}

/// The same with files of ssh_config(5): those of the user in `HOME` and of the system.
///
/// # Errors
/// As [`parse`]; what is wrong with ssh_config(5) is reported at the first peer that it is about.
pub fn parse_with(
    path: &Path,
    text: &str,
    env: &dyn Fn(&str) -> Option<OsString>,
    files: &dyn ssh_config::Files,
) -> Result<Loaded, Diagnostics> {
    validate::validate(path, text, env, files)
}
