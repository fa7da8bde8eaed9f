//! What a sync promises of its replica, by its options: only that can be verified.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use serde::{Deserialize, Serialize};

use crate::rsync::options::{self, Opt, What};
use crate::scan::Attributes;

/// How closely two trees are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Depth {
    /// Kind, size, time of files.
    #[default]
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

    /// That of a name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Quick, Self::Meta, Self::Deep].into_iter().find(|depth| depth.name() == name)
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
    /// Extended attributes and ACLs.
    pub attributes: Attributes,
    /// That nothing else is there.
    pub deletes: bool,
    /// What the source has newer versions of at the target stays (`--update`).
    pub keeps_newer: bool,
    /// Directories without any file may be missing (`--prune-empty-dirs`).
    pub prunes: bool,
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
const CHANGES: [(&str, &str); 26] = [
    ("append", "it looks at the length only"),
    ("append-verify", "files that are longer there stay as they are"),
    ("chmod", "it changes modes on the way"),
    ("chown", "it changes owners on the way"),
    ("compare-dest", "what is in another directory stays missing"),
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
    ("ignore-non-existing", "what is missing there stays missing"),
    ("keep-dirlinks", "directories there may be links"),
    ("max-size", "large files are left out"),
    ("min-size", "small files are left out"),
    ("munge-links", "it changes links on the way"),
    ("relative", "parts of the source's path are made there"),
    ("remove-sent-files", "what was copied is not at the source any more"),
    ("remove-source-files", "what was copied is not at the source any more"),
    ("safe-links", "links that lead elsewhere are left out"),
    ("usermap", "it changes owners on the way"),
    ("write-devices", "devices are written like files"),
];

impl Promise {
    /// What these options of an rsync promise.
    ///
    /// # Errors
    /// [`NotVerifiable`].
    pub fn of(opts: &[OsString]) -> Result<Self, NotVerifiable> {
        let mut promise = Self::nothing();
        // These hold wherever they stand.
        let (mut recursive, mut size_only, mut omits) = (false, false, false);
        for opt in options::parse(opts) {
            let What::Known(entry) = opt.what else { continue };
            let on = !opt.negated;
            if let Some((_, why)) = CHANGES.iter().find(|(name, _)| on && *name == entry.name) {
                return Err(NotVerifiable { option: written(&opt, entry.name), why });
            }
            match entry.name {
                "archive" => {
                    promise.archive();
                    recursive = true;
                }
                "recursive" => recursive = on,
                "times" => (promise.times, promise.directory_times) = (on, on),
                "omit-dir-times" => omits = on,
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
                "acls" => {
                    promise.attributes.acls = on;
                    // rsync(1): it implies --perms.
                    promise.modes |= on;
                }
                "xattrs" => promise.attributes.others = on,
                "update" => promise.keeps_newer = on,
                "prune-empty-dirs" => promise.prunes = on,
                "one-file-system" => promise.one_file_system = on,
                "size-only" => size_only = on,
                "delete" | "delete-before" | "delete-during" | "delete-delay" | "delete-after" | "delete-excluded" => {
                    promise.deletes |= on;
                }
                _ => {}
            }
        }
        promise.times &= !size_only;
        // rsync(1), `--backup`: without a directory for the backups it implies --omit-dir-times.
        let backs_up_beside = options::has(opts, &["backup"]) && !options::has(opts, &["backup-dir"]);
        promise.directory_times &= !omits && !backs_up_beside;
        let not_recursive =
            || NotVerifiable { option: "these options".into(), why: "without --recursive it copies no directory" };
        if recursive { Ok(promise) } else { Err(not_recursive()) }
    }

    /// What is left of it where these users, 0 being root, read the source and write the target. rsync(1) of `--owner`, `--devices` and `--xattrs`:
    /// they need the superuser; of `--group`: others keep those groups alone that they belong to, which nobody knows here.
    pub fn between(self, source: u32, target: u32) -> Self {
        let is_root = target == 0;
        let user_only = self.attributes.user_only || source != 0 || target != 0;
        Self {
            owners: self.owners && is_root,
            groups: self.groups && is_root,
            devices: self.devices && is_root,
            attributes: Attributes { user_only, ..self.attributes },
            ..self
        }
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
            attributes: Attributes::default(),
            deletes: false,
            keeps_newer: false,
            prunes: false,
            one_file_system: false,
        }
    }

    /// `-a` is `-rlptgoD`.
    fn archive(&mut self) {
        (self.links, self.modes, self.times, self.directory_times) = (true, true, true, true);
        (self.groups, self.owners, self.devices, self.specials) = (true, true, true, true);
    }
}

/// An option as written, without its value.
fn written(opt: &Opt<'_>, name: &str) -> String {
    let words = opt.words().unwrap_or_default();
    words.first().map_or_else(|| format!("--{name}"), |word| String::from_utf8_lossy(word.as_bytes()).into_owned())
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
        assert!(!archive.hard_links && !archive.attributes.any() && !archive.deletes);
        let more = promise(&["-aHAX", "--delete", "--modify-window=2", "--no-perms", "-O"]).expect("verifiable");
        assert!(more.hard_links && more.attributes.any() && more.deletes && !more.modes && !more.directory_times);
        assert_eq!(more.window, 2);
        let plain = promise(&["-r", "--size-only"]).expect("verifiable");
        assert!(!plain.times && !plain.links);
    }

    #[test]
    fn some_options_hold_wherever_they_stand() {
        let archive = promise(&["-O", "--size-only", "-a"]).expect("verifiable");
        assert!(!archive.times && !archive.directory_times);
        let attributes = |opts: &[&str]| promise(opts).expect("verifiable").attributes;
        assert!(attributes(&["-rA"]).acls && !attributes(&["-rA"]).others && promise(&["-rA"]).expect("-A").modes);
        assert!(!attributes(&["-aX", "--no-xattrs"]).any());
    }

    #[test]
    fn a_target_that_is_not_roots_keeps_neither_owners_nor_devices() {
        let all = promise(&["-aX"]).expect("verifiable");
        assert_eq!(all.clone().between(0, 0), all);
        let kept = all.clone().between(0, 1000);
        assert!(!kept.owners && !kept.groups && !kept.devices && kept.specials && kept.modes);
        assert!(kept.attributes.user_only);
        let pulled = all.between(1000, 0);
        assert!(pulled.owners && pulled.attributes.user_only, "a user sends no attributes but those of users");
    }

    #[test]
    fn what_makes_something_else_of_a_copy_is_refused() {
        let refused = |opts: &[&str]| promise(opts).expect_err("refused").to_string();
        assert!(refused(&["-aL"]).contains("-L cannot be verified: links become"));
        assert!(refused(&["-a", "--iconv=utf8,latin1"]).contains("--iconv"));
        assert!(refused(&["-lt"]).contains("without --recursive"));
    }
}
