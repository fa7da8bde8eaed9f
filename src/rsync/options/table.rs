//! rsync's options (rsync(1), 3.1 to 3.5), and what each means where one sync is several rsyncs.

/// An option.
#[derive(Debug)]
pub struct Entry {
    /// Its long name; the letter of one that has none.
    pub name: &'static str,
    /// Its letter.
    pub(super) short: Option<u8>,
    /// Whether it takes a value.
    pub has_value: bool,
    /// Who gets it of several rsyncs at once and the final pass behind them.
    pub fate: Fate,
}

/// Which rsyncs of a sync that is split get an option. The final pass gets every one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// All: it says what is copied, or how.
    All,
    /// Not the one that only looks what there is to do: it is about what is printed.
    Output,
    /// The final pass only: it needs the whole tree.
    Final,
    /// A sync with it cannot be split, for this reason.
    Refused(&'static str),
}

use Fate::{All, Final, Output, Refused};

const fn flag(short: u8, name: &'static str, fate: Fate) -> Entry {
    Entry { name, short: if short == 0 { None } else { Some(short) }, has_value: false, fate }
}

const fn with(short: u8, name: &'static str, fate: Fate) -> Entry {
    Entry { has_value: true, ..flag(short, name, fate) }
}

const ELSE: Fate = Refused("it makes rsync do something else than copying");
const AGAIN: Fate = Refused("the final pass would do it once more");

static TABLE: &[Entry] = &[
    // What is copied of a file.
    flag(b'a', "archive", All),
    flag(b'r', "recursive", All),
    flag(b'l', "links", All),
    flag(b'L', "copy-links", All),
    flag(0, "copy-unsafe-links", All),
    flag(0, "safe-links", All),
    flag(0, "insecure-links", All),
    flag(0, "munge-links", All),
    flag(b'k', "copy-dirlinks", All),
    flag(b'K', "keep-dirlinks", All),
    flag(b'H', "hard-links", All),
    flag(b'p', "perms", All),
    flag(b'E', "executability", All),
    with(0, "chmod", All),
    flag(b'A', "acls", All),
    flag(b'X', "xattrs", All),
    flag(b'o', "owner", All),
    flag(b'g', "group", All),
    flag(0, "devices", All),
    flag(0, "specials", All),
    flag(b'D', "D", All),
    flag(0, "drop-D", All),
    flag(b't', "times", All),
    flag(b'U', "atimes", Refused("reading a file for the first time changes what the final pass copies")),
    flag(0, "open-noatime", All),
    flag(b'N', "crtimes", All),
    flag(b'O', "omit-dir-times", All),
    flag(b'J', "omit-link-times", All),
    flag(0, "super", All),
    flag(0, "fake-super", All),
    flag(0, "numeric-ids", All),
    with(0, "usermap", All),
    with(0, "groupmap", All),
    with(0, "chown", All),
    flag(0, "copy-devices", AGAIN),
    flag(0, "write-devices", AGAIN),
    // Which files.
    flag(b'd', "dirs", All),
    flag(0, "old-dirs", All),
    flag(b'R', "relative", Refused("the names of its sources are split otherwise")),
    flag(0, "implied-dirs", Final),
    flag(b'm', "prune-empty-dirs", Final),
    flag(b'x', "one-file-system", All),
    flag(b'u', "update", All),
    flag(0, "existing", All),
    flag(0, "ignore-non-existing", All),
    flag(0, "ignore-existing", All),
    flag(0, "ignore-missing-args", All),
    with(0, "max-size", All),
    with(0, "min-size", All),
    flag(b'I', "ignore-times", AGAIN),
    flag(0, "size-only", All),
    with(b'@', "modify-window", All),
    flag(b'c', "checksum", Refused("each of the rsyncs would read every file on both sides")),
    flag(b'C', "cvs-exclude", All),
    with(b'f', "filter", All),
    flag(b'F', "F", All),
    with(0, "exclude", All),
    with(0, "exclude-from", All),
    with(0, "include", All),
    with(0, "include-from", All),
    with(0, "files-from", Refused("which files an rsync copies is what the splitting decides")),
    flag(b'0', "from0", All),
    with(0, "iconv", Refused("names would be converted twice")),
    // Deleting.
    flag(0, "delete", Final),
    flag(0, "delete-before", Final),
    flag(0, "delete-during", Final),
    flag(0, "delete-delay", Final),
    flag(0, "delete-after", Final),
    flag(0, "delete-excluded", Final),
    flag(0, "delete-missing-args", Final),
    flag(0, "ignore-errors", Final),
    with(0, "max-delete", Final),
    flag(0, "force", All),
    flag(0, "remove-source-files", Refused("the final pass would not find what was copied and delete it")),
    flag(0, "remove-sent-files", Refused("the final pass would not find what was copied and delete it")),
    // How files get there.
    flag(b'b', "backup", All),
    with(0, "backup-dir", All),
    with(0, "suffix", All),
    flag(0, "inplace", All),
    flag(0, "append", All),
    flag(0, "append-verify", All),
    flag(0, "mkpath", All),
    flag(b'S', "sparse", All),
    flag(0, "preallocate", All),
    flag(0, "fsync", All),
    flag(b'W', "whole-file", All),
    with(b'B', "block-size", All),
    flag(0, "partial", All),
    with(0, "partial-dir", All),
    flag(0, "delay-updates", Refused("the files would not come into their places together")),
    with(b'T', "temp-dir", All),
    flag(b'y', "fuzzy", All),
    with(0, "compare-dest", All),
    with(0, "copy-dest", All),
    with(0, "link-dest", All),
    flag(b'z', "compress", All),
    flag(0, "old-compress", All),
    flag(0, "new-compress", All),
    with(0, "compress-choice", All),
    with(0, "zc", All),
    with(0, "compress-level", All),
    with(0, "zl", All),
    with(0, "compress-threads", All),
    with(0, "zt", All),
    with(0, "skip-compress", All),
    with(0, "checksum-choice", All),
    with(0, "cc", All),
    with(0, "checksum-seed", All),
    flag(0, "inc-recursive", All),
    with(0, "max-alloc", All),
    with(0, "bwlimit", Refused("each of the rsyncs would take that much; the key `bwlimit` is divided")),
    with(0, "stop-after", Refused("each of the rsyncs would count anew")),
    with(0, "time-limit", Refused("each of the rsyncs would count anew")),
    with(0, "stop-at", Refused("each of the rsyncs would stop by itself")),
    // The other side.
    with(b'e', "rsh", All),
    with(0, "rsync-path", All),
    with(b'M', "remote-option", All),
    flag(0, "old-args", All),
    flag(b's', "secluded-args", All),
    flag(0, "protect-args", All),
    flag(0, "trust-sender", All),
    with(0, "confine-root", All),
    with(0, "copy-as", Refused("the list of files could not be read by that user")),
    with(0, "timeout", All),
    with(0, "contimeout", All),
    with(0, "address", All),
    with(0, "port", All),
    with(0, "sockopts", All),
    flag(0, "blocking-io", All),
    with(0, "password-file", All),
    with(0, "early-input", All),
    with(0, "protocol", All),
    flag(b'4', "ipv4", All),
    flag(b'6', "ipv6", All),
    flag(0, "motd", All),
    // What is printed.
    flag(b'v', "verbose", Output),
    flag(b'q', "quiet", Output),
    with(0, "info", Output),
    with(0, "debug", Output),
    with(0, "stderr", Output),
    flag(0, "msgs2stderr", Output),
    flag(b'i', "itemize-changes", Output),
    with(0, "out-format", Output),
    with(0, "log-file", Output),
    with(0, "log-file-format", Output),
    flag(0, "stats", Output),
    flag(b'8', "8-bit-output", Output),
    flag(b'h', "human-readable", Output),
    flag(0, "progress", Output),
    flag(b'P', "P", Output),
    with(0, "outbuf", Output),
    // Something else.
    flag(b'n', "dry-run", All),
    flag(0, "list-only", ELSE),
    with(0, "write-batch", ELSE),
    with(0, "only-write-batch", ELSE),
    with(0, "read-batch", ELSE),
    flag(0, "daemon", ELSE),
    flag(0, "server", ELSE),
    flag(0, "sender", ELSE),
    with(0, "config", ELSE),
    with(0, "dparam", ELSE),
    flag(0, "detach", ELSE),
    flag(b'V', "version", ELSE),
    flag(0, "help", ELSE),
];

/// Other spellings, and the name that the table has.
const ALIASES: &[(&str, &str)] = &[
    ("del", "delete-during"),
    ("i-d", "implied-dirs"),
    ("i-r", "inc-recursive"),
    ("log-format", "out-format"),
    ("old-d", "old-dirs"),
];

/// The option of a long name.
pub(super) fn long(name: &[u8]) -> Option<&'static Entry> {
    let name = ALIASES.iter().find(|(alias, _)| alias.as_bytes() == name).map_or(name, |(_, name)| name.as_bytes());
    TABLE.iter().find(|entry| entry.name.len() > 1 && entry.name.as_bytes() == name)
}

/// The option of a letter.
pub(super) fn short(letter: u8) -> Option<&'static Entry> {
    TABLE.iter().find(|entry| entry.short == Some(letter))
}

/// The option of a long name or, as behind `--no-`, of a letter.
pub(super) fn either(name: &[u8]) -> Option<&'static Entry> {
    match name {
        [letter] => short(*letter),
        name => long(name),
    }
}
