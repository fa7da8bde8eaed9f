//! One sync as several rsyncs at once: what may be split, and with which options and sources each of them runs.
//!
//! First a *survey* for each root, a dry run that tells which files' data is to be moved; then the *shards*, each an rsync of a list
//! of such files (`--files-from`); then the *final pass*, the sync as the user wrote it. The final pass makes the result
//! what one rsync makes, so everything before it may leave out whatever is hard to do apart: directories, links, deletions,
//! attributes.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::options::{self, Fate, Opt, What};
use super::survey::Names;

/// Why a sync cannot be split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Objection {
    /// The word that is to blame, by its index; `None` when something is missing.
    pub word: Option<usize>,
    /// The reason, to stand behind the option or alone.
    pub reason: &'static str,
}

/// Everything about the options that keeps a sync from being split.
pub fn objections(opts: &[OsString]) -> Vec<Objection> {
    let opts = options::parse(opts);
    let refused = opts.iter().filter_map(|opt| {
        let reason = match opt.what {
            What::Known(entry) if !opt.negated => match entry.fate {
                Fate::Refused(reason) => Some(reason),
                _ => value_objection(opt),
            },
            What::Known(_) => None,
            What::Unknown => Some("it is not known whether it is right with several rsyncs"),
            What::Operand => Some("it is no option: rsync would take it for a path"),
        };
        reason.map(|reason| Objection { word: Some(opt.word), reason })
    });
    let mut found: Vec<_> = refused.collect();
    let refuse = |name, reason| {
        let guilty = opts.iter().find(|opt| opt.is(name)).map(|opt| opt.word);
        Objection { word: guilty, reason }
    };
    let has = |name| opts.iter().any(|opt| opt.is(name));
    if has("backup") && has("delete-excluded") && !has("backup-dir") {
        found.push(refuse("delete-excluded", "the final pass would delete backups, which nothing protects from it"));
    }
    if is_on(&opts, &["hard-links"]) && has("ignore-existing") {
        found.push(refuse("ignore-existing", "with `-H` the final pass would not link what the others copied"));
    }
    if deletes(&opts) {
        let inside = opts.iter().filter(|opt| opt.is("backup-dir") && is_inside(opt.value.unwrap_or_default()));
        let reason = "inside of the destination, the final pass would delete it";
        found.extend(inside.map(|opt| Objection { word: Some(opt.word), reason }));
    }
    let missing = |reason| Objection { word: None, reason };
    if !is_on(&opts, &["recursive", "archive"]) {
        found.push(missing("only a recursive sync has something to split: `-a` or `-r` is missing"));
    }
    if !is_on(&opts, &["times", "archive"]) && !is_on(&opts, &["size-only"]) {
        found.push(missing("without `-t` (or `-a`) the final pass would transfer everything once more"));
    }
    found
}

/// Whether a directory that is named relative to the destination is in it.
fn is_inside(dir: &OsStr) -> bool {
    !dir.as_bytes().starts_with(b"/") && !dir.as_bytes().starts_with(b"../")
}

fn value_objection(opt: &Opt<'_>) -> Option<&'static str> {
    let value = opt.value.unwrap_or_default();
    if opt.is("exclude-from") || opt.is("include-from") {
        return (value == "-").then_some("standard input holds the list of files");
    }
    let is_merge = value.as_bytes().starts_with(b".") || value.as_bytes().starts_with(b"merge");
    if opt.is("filter") && is_merge && value.as_bytes().ends_with(b" -") {
        return Some("standard input holds the list of files");
    }
    if opt.is("remote-option") {
        // One that is for the final pass only would have to be told apart there, too.
        let fine = |opt: &Opt<'_>| opt.entry().is_some_and(|entry| matches!(entry.fate, Fate::All | Fate::Output));
        let words = [value.to_owned()];
        let all_fine = options::parse(&words).iter().all(fine);
        return (!all_fine).then_some("the other side would get it from each of the rsyncs");
    }
    None
}

/// Whether the last word on it turns an option on.
fn is_on(opts: &[Opt<'_>], names: &[&str]) -> bool {
    let word = |opt: &&Opt<'_>| opt.entry().is_some_and(|entry| names.contains(&entry.name));
    opts.iter().rev().find(word).is_some_and(|opt| !opt.negated)
}

/// Whether the options ask for a dry run, which is never split.
pub fn is_dry_run(opts: &[OsString]) -> bool {
    options::has(opts, &["dry-run"])
}

/// How a shard's list of files is to be written.
pub fn names(opts: &[OsString]) -> Names {
    let opts = options::parse(opts);
    Names {
        // As the user's own lists are, which the same option tells.
        zero_delimited: is_on(&opts, &["from0"]),
        // A survey names one of several links; the others are for the final pass.
        whole_directories: !is_on(&opts, &["hard-links"]),
    }
}

/// The options of a survey.
pub fn survey_options(opts: &[OsString]) -> Vec<OsString> {
    let mut words = kept(opts, |fate| fate == Fate::All);
    words.extend(["--no-inc-recursive", "-8", "--outbuf=B", SURVEY_FORMAT].map(OsString::from));
    words
}

/// What a survey prints of each change: what it is, how many bytes, the name.
const SURVEY_FORMAT: &str = "--out-format=%i %l %n";

/// The options of a shard.
pub fn shard_options(opts: &[OsString]) -> Vec<OsString> {
    let parsed = options::parse(opts);
    let mut words = kept(opts, |fate| matches!(fate, Fate::All | Fate::Output));
    words.extend(["--no-recursive", "--files-from=-", "--ignore-missing-args", "--omit-dir-times"].map(OsString::from));
    if is_on(&parsed, &["perms", "archive"]) {
        // A directory that its owner cannot write to keeps the other shards out. The final pass puts it right.
        words.push("--chmod=Du+w".into());
    }
    if deletes(&parsed) && !options::has(opts, &["max-delete"]) {
        // rsync makes way for a file where a directory was if it may delete, or by force.
        words.push("--force".into());
    }
    words
}

/// The options of the final pass: the user's, but for the pace in which the list of files is made. Asked for bit by bit, as by
/// default, it takes a round trip for each thousand of files.
pub fn final_options(opts: &[OsString]) -> Vec<OsString> {
    let mut words = opts.to_vec();
    // Which files a limited deletion leaves depends on that pace.
    let decided = |opt: &Opt<'_>| opt.entry().is_some_and(|entry| matches!(entry.name, "inc-recursive" | "max-delete"));
    if !options::parse(opts).iter().any(decided) {
        words.push("--no-inc-recursive".into());
    }
    words
}

/// Whether rsync may delete what the source does not have.
pub(super) fn deletes(opts: &[Opt<'_>]) -> bool {
    const MODES: [&str; 6] =
        ["delete", "delete-before", "delete-during", "delete-delay", "delete-after", "delete-excluded"];
    opts.iter().any(|opt| MODES.iter().any(|mode| opt.is(mode)))
}

/// The options with this fate, one by one.
fn kept(opts: &[OsString], keeps: impl Fn(Fate) -> bool) -> Vec<OsString> {
    options::keep(opts, |opt| opt.entry().is_some_and(|entry| keeps(entry.fate)))
}

/// Sources whose names all begin in one directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The directory, as rsync takes it.
    pub root: OsString,
    /// The sources in it, as the user has them.
    pub sources: Vec<OsString>,
}

/// The sources by the directory that their names begin in: what ends in a slash is that directory itself (rsync(1)). `None` where
/// that cannot be told from their text, as of wildcards that the other side expands, and where two of them may hold the same
/// name: which of the two is copied only one rsync of both knows.
pub fn groups(sources: &[OsString], expanded_there: bool) -> Option<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    let mut names = HashSet::new();
    for source in sources {
        let (root, name) = root(source.as_bytes());
        let is_pattern = |text: &[u8]| expanded_there && text.iter().any(|byte| b"*?[\\".contains(byte));
        if is_pattern(root) || root == b"~" {
            return None;
        }
        let is_clear = name.is_some_and(|name| !is_pattern(name) && names.insert(name));
        if !is_clear && sources.len() > 1 {
            return None;
        }
        match groups.iter_mut().find(|group| group.root.as_bytes() == root) {
            Some(group) => group.sources.push(source.clone()),
            None => groups.push(Group { root: OsStr::from_bytes(root).to_owned(), sources: vec![source.clone()] }),
        }
    }
    Some(groups)
}

/// The directory that names of a source begin in, and the name with which all of them begin, unless it is the source itself.
fn root(source: &[u8]) -> (&[u8], Option<&[u8]>) {
    let parent_end = source.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1);
    match source.split_at(parent_end) {
        (_, b"" | b"." | b"..") | (b"", b"~") => (source, None),
        (b"", name) => (b".", Some(name)),
        (parent, name) => (parent, Some(name)),
    }
}

/// The destination of a shard: a directory for sure, since the whole sync has several files.
pub fn destination(dest: &OsStr) -> OsString {
    let mut bytes = dest.as_bytes().to_vec();
    if !bytes.is_empty() && !bytes.ends_with(b"/") {
        bytes.push(b'/');
    }
    OsString::from_vec(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn os(words: &[&str]) -> Vec<OsString> {
        words.iter().map(OsString::from).collect()
    }

    #[track_caller]
    fn joined(words: &[OsString]) -> String {
        words.join(OsStr::new(" ")).into_string().expect("UTF-8")
    }

    #[test]
    fn options_that_cannot_be_split_are_refused() {
        let fine = [
            "-a",
            "-rt",
            "-r --size-only",
            "-aAXHS --delete --max-delete=7 --exclude .cache -f -_x --backup --suffix=.old",
            "-az --partial-dir=.p --link-dest=/x --timeout=9 -M--fake-super --log-file=/l -vi --stats",
            "-a --no-R --no-I --no-c --existing -u --chmod=D755 -e ssh",
        ];
        for opts in fine {
            let words = os(&opts.split(' ').collect::<Vec<_>>());
            assert_eq!(objections(&words), [], "{opts}");
        }
        let refused = [
            "--files-from=x",
            "--remove-source-files",
            "-I",
            "-c",
            "--delay-updates",
            "--bwlimit=1",
            "--write-batch=x",
            "--read-batch=x",
            "--list-only",
            "-R",
            "--iconv=.",
            "-U",
            "--copy-devices",
            "--stop-after=1",
            "-M--delete",
            "--exclude-from=-",
            "--filter=. -",
            "--daemon",
            "--unheard-of",
            "/path",
        ];
        for opt in refused {
            let found = objections(&os(&["-a", opt]));
            assert!(matches!(found[..], [Objection { word: Some(1), .. }]), "{opt}: {found:?}");
        }
    }

    #[test]
    fn options_that_do_not_go_together_are_refused() {
        let inside = ["-a", "--delete", "--backup-dir=.old"];
        assert_eq!(
            objections(&os(&["-ab", "--delete-excluded"])).first().and_then(|objection| objection.word),
            Some(1)
        );
        assert_eq!(
            objections(&os(&["-aH", "--ignore-existing"])).first().and_then(|objection| objection.word),
            Some(1)
        );
        assert_eq!(objections(&os(&inside)).first().and_then(|objection| objection.word), Some(2));
        for fine in
            [&inside[1..2], &["--backup-dir=.old"], &["--del", "--backup-dir=../old"], &["--del", "--backup-dir=/o"]]
        {
            assert_eq!(objections(&os(&[&["-a"], fine].concat())), [], "{fine:?}");
        }
    }

    #[test]
    fn what_is_missing_is_said() {
        assert_eq!(objections(&os(&[])).len(), 2);
        assert_eq!(objections(&os(&["-r"])).len(), 1);
        assert_eq!(objections(&os(&["-a", "--no-r"])).len(), 1);
        assert_eq!(objections(&os(&["-a", "--no-t"])).len(), 1);
        assert_eq!(objections(&os(&["--no-r", "-a"])).len(), 0);
    }

    #[test]
    fn each_rsync_gets_its_options() {
        let opts = os(&["-avHP", "--delete", "-e", "ssh x", "--no-i-d", "-m", "--exclude=a b", "--out-format=%n"]);
        assert_eq!(
            joined(&survey_options(&opts)),
            "-a -H -e ssh x --exclude=a b --no-inc-recursive -8 --outbuf=B --out-format=%i %l %n"
        );
        assert_eq!(
            joined(&shard_options(&opts)),
            "-a -v -H -P -e ssh x --exclude=a b --out-format=%n --no-recursive --files-from=- --ignore-missing-args \
             --omit-dir-times --chmod=Du+w --force"
        );
        assert!(joined(&final_options(&opts)).ends_with("--out-format=%n --no-inc-recursive"));
        assert_eq!(final_options(&os(&["-a", "--i-r"])), os(&["-a", "--i-r"]));
        let careful = joined(&shard_options(&os(&["-rt", "--delete", "--max-delete=1"])));
        assert!(!careful.contains("--force") && !careful.contains("--chmod"), "{careful}");
    }

    #[test]
    fn sources_belong_to_the_directory_that_their_names_begin_in() {
        let check = |sources: &[&str], expected: &[(&str, usize)]| {
            let groups = groups(&os(sources), false).expect("groups");
            let found: Vec<_> = groups.iter().map(|g| (g.root.to_str().expect("UTF-8"), g.sources.len())).collect();
            assert_eq!(found, expected, "{sources:?}");
        };
        check(&["/a/b", "/a/c", "/d"], &[("/a/", 2), ("/", 1)]);
        check(&["b", "./y:z"], &[(".", 1), ("./", 1)]);
        for tree in ["/a/b/", "/", ".", "x/.."] {
            check(&[tree], &[(tree, 1)]);
        }
        let count = |sources: &[&str]| groups(&os(sources), true).map(|groups| groups.len());
        assert_eq!(count(&["/a/*.log"]), Some(1));
        assert_eq!(count(&["/a/x", "~/y"]), Some(2));
        for unclear in [&["/a*/b"][..], &["~"], &["/a/*.log", "~/x"], &["/a/", "/b"], &["/a/x", "/b/x"]] {
            assert_eq!(count(unclear), None, "{unclear:?}");
        }
    }

    #[test]
    fn a_shard_s_destination_is_a_directory() {
        for (dest, expected) in [("/d", "/d/"), ("/d/", "/d/"), ("", ""), (".", "./")] {
            assert_eq!(destination(OsStr::new(dest)), expected);
        }
    }
}
