//! Mending a replica by exact lists: which rsyncs make good what differs, and touch nothing else. Pure.
//!
//! Each step is the sync's own rsync without all that looks for names by itself (recursion, filters, deletion), told its names by
//! `--files-from`. What is too much at the destination goes by `--delete-missing-args` (rsync(1)): only what is listed *and* is not
//! at the source any more is deleted, and no directory that still holds something. So the innermost names go first, one rsync for
//! each level of directories, then come the copies, then the files that rsync may take for equal.
//! What was added or deleted has changed the times of directories; the last step puts these right.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;

use super::options::{self, Opt, What};

/// What is to be done with a name, by how it differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// It is deleted at the destination, unless it is at the source again.
    Delete,
    /// It is copied.
    Copy,
    /// It is copied whatever its size and time are: rsync compares times by the second, and contents not at all.
    Overwrite,
}

/// One rsync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What it does, for people.
    pub what: &'static str,
    /// Its options, but for `--files-from`.
    pub opts: Vec<OsString>,
    /// The names, each with a NUL at its end; `None` for the root alone.
    pub list: Option<Vec<u8>>,
}

/// Why a sync's options do not go with a list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a sync with {0} is not repaired by a list of files")]
pub struct NotRepairable(String);

/// What looks for names by itself, or says what becomes of those that are not there: a list says that.
const LOOKING: [&str; 28] = [
    "cvs-exclude",
    "delete",
    "delete-after",
    "delete-before",
    "delete-delay",
    "delete-during",
    "delete-excluded",
    "delete-missing-args",
    "dirs",
    "exclude",
    "exclude-from",
    "existing",
    "F",
    "filter",
    "force",
    "from0",
    "ignore-errors",
    "ignore-missing-args",
    "ignore-non-existing",
    "implied-dirs",
    "include",
    "include-from",
    "inc-recursive",
    "max-delete",
    "old-dirs",
    "prune-empty-dirs",
    "recursive",
    "relative",
];

/// What makes something else of a sync, or would go on with other files than those of a list.
const REFUSED: [&str; 13] = [
    "daemon",
    "dry-run",
    "files-from",
    "ignore-existing",
    "iconv",
    "list-only",
    "only-write-batch",
    "read-batch",
    "remove-sent-files",
    "remove-source-files",
    "server",
    "stop-after",
    "write-batch",
];

/// What is not about times.
const NOT_TIMES: [&str; 5] = ["--no-perms", "--no-owner", "--no-group", "--no-devices", "--no-specials"];

/// The steps that do all of it. `names` are paths from the root of the transfer, in the order of a scan; `has_root` is whether the root itself
/// belongs to the sync; `keeps_times` whether the times of directories do.
///
/// # Errors
/// [`NotRepairable`], with the option.
pub fn steps(
    opts: &[OsString],
    names: &[(Vec<u8>, Deed)],
    has_root: bool,
    keeps_times: bool,
) -> Result<Vec<Step>, NotRepairable> {
    let base = base(opts)?;
    let with = |more: &[&str]| [base.clone(), more.iter().map(OsString::from).collect()].concat();
    let of = |deed| names.iter().filter(move |(path, is)| *is == deed && !path.is_empty()).map(|(path, _)| &path[..]);
    let mut steps: Vec<Step> = Vec::new();
    let mut add = |what, opts: Vec<OsString>, list: Vec<u8>| {
        steps.extend((!list.is_empty()).then_some(Step { what, opts, list: Some(list) }));
    };
    for level in levels(of(Deed::Delete)).into_values() {
        let opts = with(&["--no-recursive", "--no-implied-dirs", "--delete-missing-args"]);
        add("delete", opts, list(level));
    }
    let copying = ["--no-recursive", "--no-implied-dirs", "--ignore-missing-args"];
    add("copy", with(&copying), list(of(Deed::Copy)));
    let comparing = without(&base, &["size-only", "update"]);
    let again = [&copying[..], &["--ignore-times"]].concat().into_iter().map(OsString::from);
    add("overwrite", comparing.into_iter().chain(again).collect(), list(of(Deed::Overwrite)));
    let parents = parents(names);
    let times = || without(&base, &["acls", "xattrs"]).into_iter();
    if keeps_times {
        let inner = parents.iter().copied().filter(|path| !path.is_empty());
        let opts = times().chain(copying.iter().chain(&NOT_TIMES).map(OsString::from)).collect();
        add("directory times", opts, list(inner));
    }
    let root = ["--no-recursive", "--dirs", "--exclude=*"];
    let is_wanted = names.iter().any(|(path, deed)| path.is_empty() && *deed != Deed::Delete);
    if has_root && is_wanted {
        steps.push(Step { what: "root", opts: with(&root), list: None });
    } else if has_root && keeps_times && parents.contains(&b""[..]) {
        let opts = times().chain(root.iter().chain(&NOT_TIMES).map(OsString::from)).collect();
        steps.push(Step { what: "root", opts, list: None });
    }
    Ok(steps)
}

/// The options that say how, but not which.
fn base(opts: &[OsString]) -> Result<Vec<OsString>, NotRepairable> {
    let parsed = options::parse(opts);
    let refused = |opt: &&Opt<'_>| match opt.what {
        What::Known(entry) => !opt.negated && REFUSED.contains(&entry.name),
        What::Unknown | What::Operand => true,
    };
    match parsed.iter().find(refused) {
        Some(opt) => Err(NotRepairable(opts[opt.word].to_string_lossy().into_owned())),
        None => Ok(without(opts, &LOOKING)),
    }
}

fn without(opts: &[OsString], names: &[&str]) -> Vec<OsString> {
    options::keep(opts, |opt| !opt.is_of(names))
}

/// A name that begins with `#` would be a comment, and one that begins with a dash is no option.
fn list<'a>(names: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    names.flat_map(|name| [b"./", name, b"\0"].concat()).collect()
}

/// Names by how much of the list is below them, in levels of directories: those with nothing below them first.
fn levels<'a>(names: impl Iterator<Item = &'a [u8]>) -> BTreeMap<usize, std::vec::IntoIter<&'a [u8]>> {
    let mut heights: BTreeMap<&[u8], usize> = names.map(|name| (name, 0)).collect();
    let mut deepest: Vec<&[u8]> = heights.keys().copied().collect();
    deepest.sort_by_key(|name| std::cmp::Reverse(depth(name)));
    for name in deepest {
        let height = heights[name];
        if let Some(above) = parent(name).and_then(|parent| heights.get_mut(parent)) {
            *above = (*above).max(height + 1);
        }
    }
    let mut levels: BTreeMap<usize, Vec<&[u8]>> = BTreeMap::new();
    heights.into_iter().for_each(|(name, height)| levels.entry(height).or_default().push(name));
    levels.into_iter().map(|(height, names)| (height, names.into_iter())).collect()
}

fn depth(name: &[u8]) -> usize {
    name.iter().filter(|&&byte| byte == b'/').count()
}

/// The directory of a name; empty for the root, `None` of the root.
fn parent(name: &[u8]) -> Option<&[u8]> {
    (!name.is_empty()).then(|| name.iter().rposition(|&byte| byte == b'/').map_or(&b""[..], |slash| &name[..slash]))
}

/// The directories in which names come or go, as far as these stay.
fn parents(names: &[(Vec<u8>, Deed)]) -> BTreeSet<&[u8]> {
    let gone: BTreeSet<&[u8]> =
        names.iter().filter(|(_, deed)| *deed == Deed::Delete).map(|(name, _)| &name[..]).collect();
    names.iter().filter_map(|(name, _)| parent(name)).filter(|parent| !gone.contains(parent)).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;

    use super::*;

    fn check(opts: &[&str], names: &[(&str, Deed)], expected: &[&str]) {
        let opts: Vec<OsString> = opts.iter().map(OsString::from).collect();
        let names: Vec<_> = names.iter().map(|(name, deed)| (name.as_bytes().to_vec(), *deed)).collect();
        let told: Vec<String> = steps(&opts, &names, true, true)
            .expect("repairable")
            .iter()
            .map(|step| {
                let list = step.list.as_deref().unwrap_or_default();
                let list = String::from_utf8_lossy(list).replace('\0', " ");
                format!("{}: {}| {list}", step.what, step.opts.join(OsStr::new(" ")).to_string_lossy())
            })
            .collect();
        assert_eq!(told, expected);
    }

    #[test]
    fn each_deed_has_an_rsync_that_finds_no_other_names() {
        check(
            &["-avH", "--delete", "--exclude", "x", "-FF", "--no-i-r", "-m", "--backup", "-e", "ssh x"],
            &[("", Deed::Copy), ("a", Deed::Copy), ("a/b", Deed::Overwrite)],
            &[
                "copy: -a -v -H -b -e ssh x --no-recursive --no-implied-dirs --ignore-missing-args| ./a ",
                "overwrite: -a -v -H -b -e ssh x --no-recursive --no-implied-dirs --ignore-missing-args --ignore-times| ./a/b ",
                "directory times: -a -v -H -b -e ssh x --no-recursive --no-implied-dirs --ignore-missing-args \
                 --no-perms --no-owner --no-group --no-devices --no-specials| ./a ",
                "root: -a -v -H -b -e ssh x --no-recursive --dirs --exclude=*| ",
            ],
        );
    }

    #[test]
    fn what_is_inside_is_deleted_before_what_it_is_in() {
        let names = [("d", Deed::Delete), ("d/e", Deed::Delete), ("d/e/f", Deed::Delete), ("d/g", Deed::Delete)];
        let told: Vec<_> =
            steps(&["-a".into()], &names.map(|(name, deed)| (name.as_bytes().to_vec(), deed)), false, true)
                .expect("repairable")
                .into_iter()
                .map(|step| String::from_utf8(step.list.expect("a list")).expect("text").replace('\0', " "))
                .collect();
        assert_eq!(told, ["./d/e/f ./d/g ", "./d/e ", "./d "]);
    }

    #[test]
    fn what_goes_on_with_other_files_is_refused() {
        for opt in ["-n", "--remove-source-files", "--unheard-of", "operand", "--write-batch=x"] {
            assert!(steps(&["-a".into(), opt.into()], &[], false, false).is_err(), "{opt}");
        }
    }
}
