use std::convert::Infallible;
use std::ffi::OsString;

use proptest::prelude::*;

use super::*;
use crate::scan::{Entry, Kind, Meta, Mtime, order};

fn promise(opts: &str) -> Promise {
    let opts: Vec<OsString> = opts.split_whitespace().map(OsString::from).collect();
    Promise::of(&opts).expect("verifiable")
}

fn entry(path: &str, kind: Kind) -> Entry {
    let meta = Some(Box::new(Meta { mode: 0o644, ..Meta::default() }));
    let mtime = Mtime { seconds: 1000, nanos: 5 };
    Entry { size: 10, mtime, meta, ..Entry::of(path.into(), kind) }
}

fn file(path: &str) -> Entry {
    entry(path, Kind::File)
}

fn judged(opts: &str, depth: Depth, source: Vec<Entry>, target: Vec<Entry>) -> Vec<String> {
    let promise = promise(opts);
    let mut judge = Judge::new(&promise, depth);
    let ok = |entries: Vec<Entry>| entries.into_iter().map(Ok::<_, Infallible>);
    join(ok(source), ok(target))
        .filter_map(|pair| {
            let pair = pair.expect("no error");
            let Judged::Differs(class, detail) = judge.judge(&pair) else { return None };
            let path = String::from_utf8_lossy(pair.path()).into_owned();
            Some(format!("{path}: {} {detail}", class.name()).trim_end().to_owned())
        })
        .collect()
}

#[track_caller]
fn check(opts: &str, depth: Depth, change: impl Fn(&mut Entry), expected: &[&str]) {
    let mut changed = file("f");
    change(&mut changed);
    assert_eq!(judged(opts, depth, vec![file("f")], vec![changed]), expected);
}

#[test]
fn names_of_one_side_are_missing_or_extra() {
    let names = |names: &[&str]| names.iter().map(|name| file(name)).collect::<Vec<_>>();
    let found = |opts: &str| judged(opts, Depth::Quick, names(&["a", "b", "d"]), names(&["b", "c", "d", "e"]));
    assert_eq!(found("-a --delete"), ["a: missing", "c: extra", "e: extra"]);
    assert_eq!(found("-a"), ["a: missing"], "without deletions nothing is too many");
}

#[test]
fn files_differ_by_time_first_and_then_by_length() {
    check("-a", Depth::Quick, |_| {}, &[]);
    check("-a", Depth::Quick, |file| file.size = 11, &["f: size 11 bytes, not 10"]);
    check("-a", Depth::Quick, |file| file.mtime.seconds = 999, &["f: stale"]);
    check("-a", Depth::Quick, |file| file.mtime.seconds = 1001, &["f: target_newer"]);
    check("-au", Depth::Quick, |file| file.mtime.seconds = 1001, &[]);
    check("-au", Depth::Quick, |file| file.mtime.seconds = 999, &["f: stale"]);
    check("-a --modify-window=1", Depth::Quick, |file| file.mtime.seconds = 999, &[]);
    check("-a --modify-window=1", Depth::Quick, |file| file.mtime.seconds = 998, &["f: stale"]);
    check("-a", Depth::Quick, |file| file.mtime.nanos = 6, &["f: target_newer"]);
    check("-a", Depth::Quick, |file| file.mtime.nanos = 0, &[]);
    check("-au --modify-window=1", Depth::Quick, |file| file.size = 11, &[]);
    check("-au", Depth::Quick, |file| file.size = 11, &["f: size 11 bytes, not 10"]);
    check("-r", Depth::Quick, |file| file.mtime.seconds = 0, &[]);
    check("-r", Depth::Quick, |file| (file.mtime.seconds, file.size) = (0, 9), &["f: size 9 bytes, not 10"]);
}

#[test]
fn kinds_are_compared_at_every_depth_and_metas_on_request() {
    check("-a", Depth::Quick, |file| file.kind = Kind::Directory, &["f: type a directory, not a file"]);
    let mode = |file: &mut Entry| file.meta = Some(Box::new(Meta { mode: 0o600, owner: 7, ..Meta::default() }));
    check("-a", Depth::Quick, mode, &[]);
    check("-a", Depth::Meta, mode, &["f: meta mode 0600, not 0644, owner 7, not 0"]);
    check("-rt", Depth::Meta, mode, &[]);
    let noted = |file: &mut Entry| file.meta.as_mut().expect("there").attributes = Some([1; 16]);
    check("-a", Depth::Meta, noted, &[]);
    check("-aX", Depth::Meta, noted, &["f: meta other attributes"]);
    let mut younger = entry("d", Kind::Directory);
    younger.mtime.nanos = 7;
    assert_eq!(judged("-a", Depth::Meta, vec![entry("d", Kind::Directory)], vec![younger]), [""; 0]);
}

#[test]
fn times_are_the_same_as_far_as_both_file_systems_keep_them() {
    let found = |ours: u32, theirs: u32| {
        let at = |nanos| Entry { mtime: Mtime { seconds: 1000, nanos }, ..file("f") };
        judged("-a", Depth::Quick, vec![at(ours)], vec![at(theirs)])
    };
    for coarser in [123_456_700, 123_456_000, 120_000_000, 100_000_000, 0] {
        assert_eq!((found(123_456_789, coarser), found(coarser, 123_456_789)), (vec![], vec![]), "{coarser}");
    }
    assert_eq!(found(123_456_789, 123_456_780), ["f: stale"], "nobody keeps tens of nanoseconds");
    assert_eq!(found(123_456_789, 123_457_000), ["f: target_newer"]);
    assert_eq!(found(200_000_000, 100_000_000), ["f: stale"]);
}

#[test]
fn what_a_sync_does_not_copy_is_none_of_its_business() {
    let odd = || vec![entry("l", Kind::Symlink), entry("p", Kind::Fifo), entry("q", Kind::Block(1))];
    assert_eq!(judged("-r", Depth::Meta, odd(), vec![]), [""; 0]);
    assert_eq!(judged("-a", Depth::Meta, odd(), vec![]), ["l: missing", "p: missing", "q: missing"]);
}

#[test]
fn names_of_one_file_belong_together_on_both_sides() {
    let linked = |path: &str, group: u64| {
        let mut entry = file(path);
        entry.meta.as_mut().expect("there").links = Some(group);
        entry
    };
    let of =
        |groups: [u64; 4]| ["a", "b", "c", "d"].iter().zip(groups).map(|(path, group)| linked(path, group)).collect();
    let found = |there| judged("-aH", Depth::Meta, of([0, 0, 1, 1]), of(there));
    assert_eq!(found([5, 5, 3, 3]), [""; 0]);
    assert_eq!(found([5, 5, 3, 5]), ["d: meta not one file with its other names"]);
    assert_eq!(found([5, 3, 3, 5]).len(), 2);
    assert_eq!(found([5, 5, 5, 5]), [""; 0], "rsync does not take apart what is one file there");
    assert_eq!(judged("-a", Depth::Meta, of([0, 0, 1, 1]), of([5, 3, 3, 5])), [""; 0]);
}

#[test]
fn names_outside_of_the_tree_do_not_count() {
    let linked = |path: &str, links| {
        let mut entry = file(path);
        entry.meta.as_mut().expect("there").links = links;
        entry
    };
    let found = |ours, theirs| judged("-aH", Depth::Meta, vec![linked("a", ours)], vec![linked("a", theirs)]);
    assert_eq!((found(Some(1), None), found(None, Some(1))), (vec![], vec![]));
    let both = |groups: [Option<u64>; 2]| vec![linked("a", groups[0]), linked("b", groups[1])];
    let found = judged("-aH", Depth::Meta, both([Some(1), Some(1)]), both([None, None]));
    assert_eq!(found, ["b: meta not one file with its other names"]);
    let missing = vec![linked("b", None)];
    assert_eq!(judged("-aH", Depth::Meta, both([Some(1), Some(1)]), missing), ["a: missing"]);
}

#[test]
fn what_a_sync_would_not_delete_is_none_of_its_business_even_unreadable() {
    let locked = Entry { problem: Some("Permission denied".into()), ..entry("d", Kind::Directory) };
    assert_eq!(judged("-a", Depth::Quick, vec![], vec![locked]), [""; 0]);
}

#[test]
fn directories_without_files_may_be_missing_where_they_are_pruned() {
    let ours = || vec![entry("d", Kind::Directory), file("d/f"), entry("e", Kind::Directory)];
    assert_eq!(judged("-am", Depth::Quick, ours(), vec![]), ["d/f: missing"]);
    assert_eq!(judged("-am --delete", Depth::Quick, vec![], ours()).len(), 3);
}

#[test]
fn what_cannot_be_read_is_said_once_and_never_in_step() {
    let mut locked = entry("d", Kind::Directory);
    locked.problem = Some("Permission denied".into());
    let there = vec![entry("d", Kind::Directory), file("d/a"), file("d/b/c"), file("d-e")];
    assert_eq!(
        judged("-a --delete", Depth::Quick, vec![locked.clone(), file("d-e")], there.clone()),
        ["d: unreadable Permission denied"]
    );
    assert_eq!(judged("-a", Depth::Quick, there, vec![locked]), ["d: unreadable Permission denied", "d-e: missing"]);
}

proptest! {
    /// Each name of either side comes once, and with its counterpart.
    #[test]
    fn a_join_tells_every_name_once(
        source in prop::collection::btree_set("[ab/]{1,5}", 0..20),
        target in prop::collection::btree_set("[ab/]{1,5}", 0..20),
    ) {
        let sorted = |names: &std::collections::BTreeSet<String>| {
            let mut entries: Vec<Entry> = names.iter().map(|name| file(name)).collect();
            entries.sort_by(|a, b| order(&a.path, &b.path));
            entries.into_iter().map(Ok::<_, Infallible>)
        };
        let mut told = Vec::new();
        for pair in join(sorted(&source), sorted(&target)) {
            let (path, ours, theirs) = match pair.expect("no error") {
                Pair::Both(ours, theirs) => {
                    prop_assert_eq!(&ours.path, &theirs.path);
                    (ours.path, true, true)
                }
                Pair::Source(ours) => (ours.path, true, false),
                Pair::Target(theirs) => (theirs.path, false, true),
            };
            let name = String::from_utf8(path).expect("text");
            prop_assert_eq!((source.contains(&name), target.contains(&name)), (ours, theirs));
            told.push(name);
        }
        let all: std::collections::BTreeSet<_> = source.union(&target).cloned().collect();
        prop_assert_eq!(told.len(), all.len());
        prop_assert_eq!(told.into_iter().collect::<std::collections::BTreeSet<_>>(), all);
    }
}
