//! What a sync promises of its replica, by its options: only that can be verified.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};

use crate::rsync::options::{self, What};

/// How closely two trees are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Kind, size, time of files.
    Quick,
    /// And modes, owners, attributes, link targets, hard links.
    Meta,
    /// And every byte.
    Deep,
}

impl Depth {
    /// Its name in configurations, reports and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Meta => "meta",
            Self::Deep => "deep",
        }
    }
}

/// What is promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promise {
    /// Times of files.
    pub times: bool,
    /// Times of directories.
    pub directory_times: bool,
    /// How far times may differ and still be the same, seconds.
    pub window: u64,
    /// Permission bits.
    pub modes: bool,
    /// Owners, and groups.
    pub owners: bool,
    /// Groups.
    pub groups: bool,
    /// By number and not by name.
    pub numeric: bool,
    /// Symbolic links.
    pub links: bool,
    /// Names of one file.
    pub hard_links: bool,
    /// Devices.
    pub devices: bool,
    /// Pipes and sockets.
    pub specials: bool,
    /// Extended attributes or ACLs.
    pub attributes: bool,
    /// That nothing else is there.
    pub deletes: bool,
    /// What the source has newer versions of at the target stays (`--update`).
    pub keeps_newer: bool,
    /// What is on other file systems is left out.
    pub one_file_system: bool,
}

/// An option that makes a replica something else than a copy, so that its agreement cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a sync with {option} cannot be verified: {why}")]
pub struct NotVerifiable {
    /// As written.
    pub option: String,
    /// What it does.
    pub why: &'static str,
}

/// Options that change what arrives, beyond what a comparison of two trees can know.
const CHANGES: [(&str, &str); 20] = [
    ("append", "it looks at the length only"),
    ("append-verify", "files that are longer there stay as they are"),
    ("chmod", "it changes modes on the way"),
    ("chown", "it changes owners on the way"),
    ("copy-devices", "devices become files"),
    ("copy-dirlinks", "links become directories"),
    ("copy-links", "links become what they lead to"),
    ("copy-unsafe-links", "links become what they lead to"),
    ("existing", "what is missing there stays missing"),
    ("fake-super", "owners and modes are kept in attributes"),
    ("files-from", "only what is listed is copied"),
    ("groupmap", "it changes groups on the way"),
    ("iconv", "it changes names on the way"),
    ("ignore-existing", "what is there already stays as it is"),
    ("keep-dirlinks", "directories there may be links"),
    ("max-size", "large files are left out"),
    ("min-size", "small files are left out"),
    ("munge-links", "it changes links on the way"),
    ("relative", "parts of the source's path are made there"),
    ("usermap", "it changes owners on the way"),
];

impl Promise {
    /// What these options of an rsync promise.
    ///
    /// # Errors
    /// [`NotVerifiable`].
    pub fn of(opts: &[OsString]) -> Result<Self, NotVerifiable> {
        let mut promise = Self::nothing();
        let mut recursive = false;
        for opt in options::parse(opts) {
            let What::Known(entry) = opt.what else { continue };
            let on = !opt.negated;
            if let Some((_, why)) = CHANGES.iter().find(|(name, _)| on && *name == entry.name) {
                let words = opt.words().unwrap_or_default();
                let option = words.first().map(|word| String::from_utf8_lossy(word.as_bytes()).into_owned());
                return Err(NotVerifiable { option: option.unwrap_or_else(|| format!("--{}", entry.name)), why });
            }
            match entry.name {
                "archive" => {
                    promise.archive();
                    recursive = true;
                }
                "recursive" => recursive = on,
                "times" => (promise.times, promise.directory_times) = (on, on),
                "omit-dir-times" => promise.directory_times &= !on,
                "modify-window" => promise.window = number(opt.value).unwrap_or(0),
                "perms" => promise.modes = on,
                "owner" => promise.owners = on,
                "group" => promise.groups = on,
                "numeric-ids" => promise.numeric = on,
                "links" => promise.links = on,
                "hard-links" => promise.hard_links = on,
                "devices" => promise.devices = on,
                "specials" => promise.specials = on,
                "D" => (promise.devices, promise.specials) = (on, on),
                "acls" | "xattrs" => promise.attributes |= on,
                "update" => promise.keeps_newer = on,
                "one-file-system" => promise.one_file_system = on,
                "size-only" => promise.times &= !on,
                "delete" | "delete-before" | "delete-during" | "delete-delay" | "delete-after" | "delete-excluded" => {
                    promise.deletes |= on;
                }
                _ => {}
            }
        }
        let not_recursive =
            || NotVerifiable { option: "these options".into(), why: "without --recursive it copies no directory" };
        if recursive { Ok(promise) } else { Err(not_recursive()) }
    }

    /// Who is not root at the target cannot give files away, nor make devices.
    pub fn only_what_a_user_can(&mut self, user: u32) {
        let is_root = user == 0;
        self.owners &= is_root;
        self.groups &= is_root;
        self.devices &= is_root;
    }

    fn nothing() -> Self {
        Self {
            times: false,
            directory_times: false,
            window: 0,
            modes: false,
            owners: false,
            groups: false,
            numeric: false,
            links: false,
            hard_links: false,
            devices: false,
            specials: false,
            attributes: false,
            deletes: false,
            keeps_newer: false,
            one_file_system: false,
        }
    }

    /// `-a` is `-rlptgoD`.
    fn archive(&mut self) {
        (self.links, self.modes, self.times, self.directory_times) = (true, true, true, true);
        (self.groups, self.owners, self.devices, self.specials) = (true, true, true, true);
    }
}

fn number(value: Option<&std::ffi::OsStr>) -> Option<u64> {
    value.and_then(|value| value.to_str()).and_then(|text| text.parse::<i64>().ok()).map(|n| n.max(0).unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn promise(opts: &[&str]) -> Result<Promise, NotVerifiable> {
        Promise::of(&opts.iter().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_say_what_is_promised() {
        let archive = promise(&["-a"]).expect("verifiable");
        assert!(archive.times && archive.modes && archive.owners && archive.links && archive.devices);
        assert!(!archive.hard_links && !archive.attributes && !archive.deletes);
        let more = promise(&["-aHAX", "--delete", "--modify-window=2", "--no-perms", "-O"]).expect("verifiable");
        assert!(more.hard_links && more.attributes && more.deletes && !more.modes && !more.directory_times);
        assert_eq!(more.window, 2);
        let plain = promise(&["-r", "--size-only"]).expect("verifiable");
        assert!(!plain.times && !plain.links);
    }

    #[test]
    fn what_makes_something_else_of_a_copy_is_refused() {
        let refused = |opts: &[&str]| promise(opts).expect_err("refused").to_string();
        assert!(refused(&["-aL"]).contains("-L cannot be verified: links become"));
        assert!(refused(&["-a", "--iconv=utf8,latin1"]).contains("--iconv"));
        assert!(refused(&["-lt"]).contains("without --recursive"));
    }
}
