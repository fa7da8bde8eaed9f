//! What differs, as a list for other programs: a JSON object a line.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use base64ct::{Base64, Encoding};
use serde::Serialize;

use super::compare::Difference;
use crate::scan::Entry;

/// A line of it.
#[derive(Debug, Serialize)]
struct Line<'a> {
    class: &'static str,
    /// From the root of the transfer, as well as text can have it.
    path: &'a str,
    /// The path in base64, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_base64: Option<String>,
    detail: &'a str,
    bytes: u64,
    /// Seconds since the epoch; `null` where it is not there.
    source_mtime: Option<f64>,
    target_mtime: Option<f64>,
}

/// Writes all that differs.
///
/// # Errors
/// When the file cannot be written.
pub fn write(file: &Path, differences: impl Iterator<Item = Difference>) -> io::Result<()> {
    let mut list = BufWriter::new(File::create(file)?);
    for found in differences {
        let mtime = |entry: &Option<Entry>| entry.as_ref().map(|entry| entry.mtime.millis() as f64 / 1000.0);
        let line = Line {
            class: found.class.name(),
            path: &String::from_utf8_lossy(&found.path),
            path_base64: std::str::from_utf8(&found.path).is_err().then(|| Base64::encode_string(&found.path)),
            detail: &found.detail,
            bytes: found.bytes(),
            source_mtime: mtime(&found.source),
            target_mtime: mtime(&found.target),
        };
        serde_json::to_writer(&mut list, &line)?;
        list.write_all(b"\n")?;
    }
    list.flush()
}
