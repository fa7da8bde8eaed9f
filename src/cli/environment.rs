//! What the environment says, in both spellings.

use std::ffi::OsString;

/// The prefix of the variables, and the one that RsyncDirector 1.x used. The first that is set counts.
const PREFIXES: [&str; 2] = ["RSYNCDIRECTOR_", "RSYNCMANANGER_"];

/// A variable, by its name without prefix. An empty one is not set.
pub(super) fn get(name: &str) -> Option<OsString> {
    PREFIXES.iter().find_map(|prefix| std::env::var_os(format!("{prefix}{name}")).filter(|value| !value.is_empty()))
}

/// A variable that switches something on.
///
/// # Errors
/// A message, when it is neither a yes nor a no.
pub(super) fn is_on(name: &str) -> Result<bool, String> {
    let Some(value) = get(name) else { return Ok(false) };
    let value = value.to_string_lossy().to_lowercase();
    match value.as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err(format!("RSYNCDIRECTOR_{name} is {value:?}: expected 1 or 0")),
    }
}
