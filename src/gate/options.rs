//! Every argument that an rsync sends to its other side, up to 3.5 (its options.c, `server_options`), and what is to be asked of it. What is
//! not in here is refused: it was put there by hand, as with `--remote-option`.

/// What stands behind a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Value {
    /// Nothing.
    None,
    /// A number.
    Number,
    /// Letters, digits and `.,:_+-`: a number with a unit, the names of algorithms and character sets, flags of `--info`.
    Word,
    /// The same with slashes and wildcards: `--skip-compress`.
    Suffixes,
    /// A part of file names: no slash.
    NamePart,
    /// Names and numbers of users or groups; anything printable.
    Map,
    /// One of the few forms in which `--log-format` is sent.
    LogFormat,
    /// A directory beside the destination that is compared with.
    Basis,
    /// A directory beside the destination that is written.
    Aside,
    /// The same, by name in each directory.
    Partial,
    /// `-`, or a list here.
    List,
}

/// What an option makes rsync do that not every policy allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing of the kind.
    Plain,
    /// It deletes at the destination.
    Deletes,
    /// It deletes at the source.
    Moves,
    /// It reads what symbolic links lead to.
    Follows,
}

use Effect::{Deletes, Follows, Moves, Plain};

const LONG: &[(&str, Value, Effect)] = &[
    ("append", Value::None, Plain),
    ("backup-dir", Value::Aside, Plain),
    ("block-size", Value::Number, Plain),
    ("bwlimit", Value::Word, Plain),
    ("checksum-choice", Value::Word, Plain),
    ("checksum-seed", Value::Number, Plain),
    ("compare-dest", Value::Basis, Plain),
    ("compress-choice", Value::Word, Plain),
    ("compress-level", Value::Number, Plain),
    ("compress-threads", Value::Number, Plain),
    ("copy-dest", Value::Basis, Plain),
    ("copy-unsafe-links", Value::None, Follows),
    ("debug", Value::Word, Plain),
    ("delay-updates", Value::None, Plain),
    ("delete", Value::None, Deletes),
    ("delete-after", Value::None, Deletes),
    ("delete-before", Value::None, Deletes),
    ("delete-delay", Value::None, Deletes),
    ("delete-during", Value::None, Deletes),
    ("delete-excluded", Value::None, Deletes),
    ("delete-missing-args", Value::None, Deletes),
    ("dirs", Value::None, Plain),
    ("drop-D", Value::None, Plain),
    ("existing", Value::None, Plain),
    ("fake-super", Value::None, Plain),
    ("files-from", Value::List, Plain),
    ("force", Value::None, Deletes),
    ("from0", Value::None, Plain),
    ("fsync", Value::None, Plain),
    ("fuzzy", Value::None, Plain),
    ("group", Value::None, Plain),
    ("groupmap", Value::Map, Plain),
    ("hard-links", Value::None, Plain),
    ("iconv", Value::Word, Plain),
    ("ignore-errors", Value::None, Plain),
    ("ignore-existing", Value::None, Plain),
    ("ignore-missing-args", Value::None, Plain),
    ("ignore-times", Value::None, Plain),
    ("info", Value::Word, Plain),
    ("inplace", Value::None, Plain),
    ("link-dest", Value::Basis, Plain),
    ("links", Value::None, Plain),
    ("list-only", Value::None, Plain),
    ("log-format", Value::LogFormat, Plain),
    ("max-alloc", Value::Word, Plain),
    ("max-delete", Value::Number, Plain),
    ("max-size", Value::Word, Plain),
    ("min-size", Value::Word, Plain),
    ("mkpath", Value::None, Plain),
    ("modify-window", Value::Number, Plain),
    ("msgs2stderr", Value::None, Plain),
    ("munge-links", Value::None, Plain),
    ("new-compress", Value::None, Plain),
    ("no-W", Value::None, Plain),
    ("no-implied-dirs", Value::None, Plain),
    ("no-msgs2stderr", Value::None, Plain),
    ("no-r", Value::None, Plain),
    ("no-relative", Value::None, Plain),
    ("no-specials", Value::None, Plain),
    ("numeric-ids", Value::None, Plain),
    ("old-compress", Value::None, Plain),
    ("one-file-system", Value::None, Plain),
    ("open-noatime", Value::None, Plain),
    ("owner", Value::None, Plain),
    ("partial", Value::None, Plain),
    ("partial-dir", Value::Partial, Plain),
    ("perms", Value::None, Plain),
    ("preallocate", Value::None, Plain),
    ("recursive", Value::None, Plain),
    ("remove-sent-files", Value::None, Moves),
    ("remove-source-files", Value::None, Moves),
    ("safe-links", Value::None, Plain),
    ("size-only", Value::None, Plain),
    ("skip-compress", Value::Suffixes, Plain),
    ("specials", Value::None, Plain),
    ("stats", Value::None, Plain),
    ("stderr", Value::Word, Plain),
    ("suffix", Value::NamePart, Plain),
    ("super", Value::None, Plain),
    ("temp-dir", Value::Aside, Plain),
    ("timeout", Value::Number, Plain),
    ("times", Value::None, Plain),
    ("use-qsort", Value::None, Plain),
    ("usermap", Value::Map, Plain),
];

/// Letters of the option that bundles them, without those that follow links.
const SHORT: &[u8] = b"ACDEHIJNORSUWXbcdglmnopqrtuvxyz";
/// Those that follow links when files are read.
const SHORT_FOLLOWS: &[u8] = b"Lk";

/// Options that are refused for what they do.
const REFUSED: &[(&str, &str)] = &[
    ("config", "starts a daemon"),
    ("copy-devices", "reads devices"),
    ("daemon", "starts a daemon"),
    ("detach", "starts a daemon"),
    ("keep-dirlinks", "writes through symbolic links"),
    ("log-file", "writes a file"),
    ("no-munge-links", "takes back what protects links"),
    ("only-write-batch", "writes a file"),
    ("password-file", "reads a file"),
    ("read-batch", "reads a file"),
    ("rsh", "starts a program"),
    ("rsync-path", "starts a program"),
    ("write-batch", "writes a file"),
    ("write-devices", "writes devices"),
];

/// What a long option takes and does; `Err` says why it is refused.
pub fn long(name: &[u8]) -> Result<(Value, Effect), String> {
    let found = LONG.iter().find(|(known, ..)| known.as_bytes() == name);
    found.map(|&(_, value, effect)| (value, effect)).ok_or_else(|| {
        let shown = super::paths::shown(name);
        match REFUSED.iter().find(|(known, _)| known.as_bytes() == name) {
            Some((_, why)) => format!("--{shown} {why}"),
            None => format!("--{shown} is no option that rsync sends to its other side"),
        }
    })
}

/// What a letter does; `Err` says why it is refused.
pub fn short(letter: u8) -> Result<Effect, String> {
    match letter {
        letter if SHORT.contains(&letter) => Ok(Plain),
        letter if SHORT_FOLLOWS.contains(&letter) => Ok(Follows),
        b'K' => Err("-K writes through symbolic links".into()),
        letter => Err(format!("-{} is no option that rsync sends to its other side", super::paths::shown(&[letter]))),
    }
}

/// Whether a value is one that the option may have; paths are judged elsewhere.
pub fn is_value(kind: Value, value: &[u8]) -> bool {
    let all = |extra: &[u8]| value.iter().all(|byte| byte.is_ascii_alphanumeric() || extra.contains(byte));
    match kind {
        Value::None => value.is_empty(),
        Value::Number => is_number(value),
        Value::Word => !value.is_empty() && value.len() <= 1024 && all(b".,:_+-"),
        Value::Suffixes => all(b".,:_+-/*?[]"),
        Value::NamePart => !value.iter().any(|byte| *byte == b'/' || byte.is_ascii_control()),
        Value::Map => !value.iter().any(u8::is_ascii_control),
        Value::LogFormat => matches!(value, b"%i%I" | b"%i" | b"%o" | b"X"),
        Value::Basis | Value::Aside | Value::Partial | Value::List => !value.is_empty(),
    }
}

/// Digits, with a sign perhaps.
pub fn is_number(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    (1..=18).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit)
}

/// What a bundle may end with: `e` and the abilities of the client, which never begin with a letter, so that no program's name can.
pub fn is_abilities(text: &[u8]) -> bool {
    let first = text.first().is_some_and(|byte| *byte == b'.' || byte.is_ascii_digit());
    first && text.len() <= 64 && text.iter().all(|byte| *byte == b'.' || byte.is_ascii_alphanumeric())
}
