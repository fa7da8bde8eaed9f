//! The configuration file: as written (`raw`), as usable ([`Config`] and the rest of `model`).
//!
//! The way of a file: [`load`] reads it and judges who can write it; `raw` makes a tree in which everything knows its
//! place; `validate` walks the tree with `fields` and collects every problem as a [`Diagnostic`], so that all of them are
//! shown at once. `keys` lists the keys that exist; [`json_schema`] describes them for editors.
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
mod raw;
mod schema;
mod validate;
mod value;

use std::ffi::OsString;
use std::path::Path;

pub use diagnostics::{Diagnostic, Diagnostics, LoadError, Severity};
pub use load::load;
pub use model::*;
pub use schema::json_schema;

/// A configuration that can be used, and what is to be said about it all the same.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// Warnings only.
    pub warnings: Diagnostics,
}

/// Validates the text of a configuration; `path` is for messages and [`Config::path`]. Reads no file but the system's time
/// zone database, and asks `env` for environment variables.
///
/// # Errors
/// Everything that is wrong, warnings included, in the order of the file.
pub fn parse(path: &Path, text: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Result<Loaded, Diagnostics> {
    validate::validate(path, text, env)
}
