use std::path::Path;
use std::process::Command;

use super::*;
use crate::rsync::args::{self, Invocation};

fn os(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn joined(words: &[OsString]) -> String {
    words.join(OsStr::new(" ")).into_string().expect("UTF-8")
}

#[test]
fn limits_are_read() {
    for (text, expected) in [
        ("0", Some(MaxDelete::Entries(0))),
        (" 100 ", Some(MaxDelete::Entries(100))),
        ("5%", Some(MaxDelete::Percent(5.0))),
        ("0.5 %", Some(MaxDelete::Percent(0.5))),
        ("100%", Some(MaxDelete::Percent(100.0))),
    ] {
        assert_eq!(MaxDelete::parse(text), expected, "{text}");
    }
    for wrong in ["", "%", "-1", "1.5", "101%", "5%%", "x%", "1e1%", "nan%", "+5"] {
        assert_eq!(MaxDelete::parse(wrong), None, "{wrong}");
    }
    assert!(MaxDelete::Percent(100.0).is_all() && !MaxDelete::Percent(99.9).is_all());
}

#[test]
fn every_spelling_of_deleting_is_known() {
    for opts in [
        &["-a", "--delete"][..],
        &["--del"],
        &["--delete-before"],
        &["--delete-during"],
        &["--delete-delay"],
        &["--delete-after"],
        &["--delete-excluded"],
    ] {
        assert!(deletes(&os(opts)), "{opts:?}");
    }
    for opts in [&["-a"][..], &["--exclude", "--delete"], &["--force", "--max-delete=3"]] {
        assert!(!deletes(&os(opts)), "{opts:?}");
    }
    assert!(only_looks(&os(&["-avn"])) && !only_looks(&os(&["-av"])));
}

#[test]
fn a_preview_keeps_what_says_which_names_there_are() {
    let opts =
        os(&["-avcP", "--delete", "--max-delete=3", "--exclude", "a b", "--existing", "--link-dest=/o", "--zzz"]);
    assert_eq!(joined(&preview_options(&opts)), "-a --delete --exclude=a b --zzz --outbuf=B --info=del1");
}

#[test]
fn a_listing_goes_one_level_deep() {
    let opts = os(&["-avm", "--delete", "--exclude=/x", "--files-from=/l"]);
    assert_eq!(joined(&listing_options(&opts, 1)), "--list-only --filter=- /*/*/* -a --exclude=/x --outbuf=B");
    for (relative, source, expected) in [
        ("-a", "/a/b", 1),
        ("-a", "/a/b/", 0),
        ("-a", "/a/b/.", 0),
        ("-a", ".", 0),
        ("-a", "~", 1),
        ("-a", "b", 1),
        ("-aR", "/a/b", 2),
        ("-aR", "/a/./b/c/", 2),
    ] {
        assert_eq!(depth(&os(&[relative]), OsStr::new(source)), expected, "{relative} {source}");
    }
}

fn rsync(opts: &[OsString], dir: &Path, source: &str, dest: Option<&str>) -> Vec<u8> {
    let invocation = Invocation {
        opts,
        sources: os(&[source]),
        dest: OsStr::new(dest.unwrap_or_default()),
        remote: None,
        dry_run: true,
        progress: false,
    };
    let argv = if dest.is_some() { args::argv(&invocation) } else { args::listing(&invocation) };
    Command::new("rsync").current_dir(dir).args(argv).output().expect("rsync is installed").stdout
}

fn touch(dir: &Path, names: &[&str]) {
    for name in names {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("directories");
        std::fs::write(path, name).expect("a file");
    }
}

/// What the rsync of this host would do from `s/` to `d`.
fn preview(dir: &Path, opts: &[&str]) -> Plan {
    let mut preview = Preview::default();
    let output = rsync(&preview_options(&os(opts)), dir, "s/", Some("d"));
    output.split(|&byte| byte == b'\n').for_each(|line| preview.line(line));
    preview.finish().expect("statistics")
}

#[test]
fn deletions_are_counted_against_what_is_at_the_destination() {
    let dir = tempfile::tempdir().expect("a directory");
    touch(
        dir.path(),
        &["s/a", "s/new", "s/sub/b", "d/a", "d/sub/b", "d/old/1", "d/old/2", "d/kept.log", "d/deleting x"],
    );
    let expected = |deletions, entries| (deletions, entries);
    // `.`, a, sub, sub/b and what is deleted: old, its two files, the odd name; kept.log is one of them unless it is hidden.
    for (opts, wanted) in [
        (&["-a", "--delete"][..], expected(5, 9)),
        (&["-av", "--delete", "--exclude=*.log"], expected(4, 8)),
        (&["-a", "--delete-excluded", "--exclude=*.log"], expected(5, 9)),
        (&["-a", "--delete-after", "--existing", "--max-delete=1", "--checksum", "-q"], expected(5, 9)),
        (&["-a"], expected(0, 4)),
    ] {
        let plan = preview(dir.path(), opts);
        assert_eq!((plan.deletions, plan.entries), wanted, "{opts:?}: {plan:?}");
    }
    assert_eq!(preview(dir.path(), &["-a", "--delete", "--max-size=1"]).entries, 9);
    assert!(preview(dir.path(), &["-a", "--delete"]).first.contains(&"deleting x".to_owned()));
}

#[test]
fn an_objection_tells_how_many_of_how_many_and_the_first() {
    let plan = |deletions, entries| Plan {
        deletions,
        entries,
        first: os(&["a", "b/c"]).iter().map(|n| n.display().to_string()).collect(),
    };
    assert_eq!(plan(5, 100).objection(MaxDelete::Percent(5.0)), None);
    assert_eq!(plan(5, 9).objection(MaxDelete::Entries(5)), None);
    assert_eq!(
        plan(6, 119).objection(MaxDelete::Percent(5.0)).as_deref(),
        Some(
            "nothing was changed: rsync would delete 6 of the 119 entries at the destination, and max_delete allows 5%, which is 5; \
             it would delete a, b/c and 4 more"
        )
    );
    let two = plan(2, 2).objection(MaxDelete::Entries(0)).expect("refused");
    assert!(two.ends_with("allows 0; it would delete a, b/c"), "{two}");
}

#[test]
fn a_listing_of_this_host_s_rsync_shows_whether_there_is_something() {
    let dir = tempfile::tempdir().expect("a directory");
    touch(dir.path(), &["full/a b", "hidden/.snap/x", "nested/sub/x", "file"]);
    std::fs::create_dir(dir.path().join("empty")).expect("a directory");
    let check = |source: &str, opts: &[&str], expected: bool| {
        let opts = os(opts);
        let depth = depth(&opts, OsStr::new(source));
        let output = rsync(&listing_options(&opts, depth), dir.path(), source, None);
        let found = output.split(|&byte| byte == b'\n').any(|line| shows_content(line, depth));
        assert_eq!(found, expected, "{source} {opts:?}: {}", String::from_utf8_lossy(&output));
    };
    for slash in ["", "/"] {
        check(&format!("full{slash}"), &["-a", "--delete"], true);
        check(&format!("nested{slash}"), &["-a", "-m", "--delete"], true);
        check(&format!("empty{slash}"), &["-a", "--delete"], false);
        check(&format!("hidden{slash}"), &["-a", "--delete"], true);
        check(&format!("hidden{slash}"), &["-a", "--delete", "--exclude=.snap"], false);
        check(&format!("./nested{slash}"), &["-aR", "--delete"], true);
        check(&format!("./empty{slash}"), &["-aR", "--delete"], false);
    }
    check("hidden/", &["-a", "--exclude=/.snap"], false);
    check("hidden", &["-a", "--exclude=/hidden/.snap"], false);
    check("file", &["-a", "--delete"], true);
    check("missing", &["-a", "--delete"], false);
}

/// The exit code of a sync by the rsync of this host, and how much it deleted by its own account.
fn sync(dir: &Path, opts: &[&str]) -> (Option<i32>, u64) {
    let mut command = Command::new("rsync");
    command.current_dir(dir).args(opts).args(["--stats", "--no-human-readable", "s/", "d"]);
    let output = command.output().expect("rsync is installed");
    let mut stats = StatsParser::default();
    output.stdout.split(|&byte| byte == b'\n').for_each(|line| {
        stats.line(line);
    });
    (output.status.code(), stats.finish().expect("statistics").deleted)
}

/// A source and a destination between which there is everything: names of one only, a directory for a file and the other way, backups,
/// links, directories that would be empty.
fn odd_trees() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("a directory");
    let source = ["s/a", "s/new", "s/sub/b", "s/file-here", "s/dir-here/x", "s/keep.log", "s/big", "s/pruned/only.log"];
    let dest = ["d/a", "d/sub/b", "d/sub/c", "d/file-here/x", "d/file-here/y/z", "d/dir-here", "d/old/1/2", "d/e.log"];
    touch(dir.path(), &source);
    touch(dir.path(), &dest);
    touch(dir.path(), &["d/big", "d/gone", "d/gone~", "d/pruned/only.log", "other/a"]);
    std::fs::write(dir.path().join("s/big"), vec![b'x'; 5000]).expect("a file");
    std::os::unix::fs::symlink("nowhere", dir.path().join("d/link")).expect("a link");
    dir
}

#[test]
fn a_preview_counts_what_the_sync_then_deletes_and_is_not_refused_by_its_own_limit() {
    for opts in [
        &["-a", "--delete"][..],
        &["-a", "--del"],
        &["-a", "--delete-before"],
        &["-a", "--delete-delay"],
        &["-a", "--delete-after", "-v", "-i"],
        &["-a", "--delete", "--exclude=*.log"],
        &["-a", "--delete-excluded", "--exclude=*.log"],
        &["-a", "--delete", "--filter=P old/"],
        &["-ab", "--delete"],
        &["-ab", "--delete", "--backup-dir=../backup"],
        &["-am", "--delete", "--exclude=*.log"],
        &["-a", "--delete", "--existing"],
        &["-a", "--delete", "--ignore-existing", "--existing"],
        &["-a", "--delete", "--max-size=1K", "--checksum"],
        &["-a", "--delete", "--link-dest=../other"],
        &["-aHx", "--delete", "--no-inc-recursive", "--delay-updates"],
        &["-rt", "--delete", "--force", "-K"],
    ] {
        let (dir, free) = (odd_trees(), odd_trees());
        let plan = preview(dir.path(), opts);
        let limit = format!("--max-delete={}", plan.deletions);
        let bounded = sync(dir.path(), &[&[limit.as_str()], opts].concat());
        assert_eq!(bounded, sync(free.path(), opts), "{opts:?}");
        // Backups beside the files keep their directories.
        let as_told = if opts.contains(&"-ab") && opts.len() == 2 { 7 } else { plan.deletions };
        assert_eq!(bounded.1, as_told, "{opts:?}");
        assert!(plan.deletions > 0, "{opts:?}: {plan:?}");
    }
}

#[test]
fn a_preview_s_entries_are_those_of_the_destination() {
    let dir = odd_trees();
    let there = Command::new("find").arg("d").current_dir(dir.path()).output().expect("find is installed").stdout;
    let there = there.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).count() as u64;
    // A directory that makes way for a file, and a file for a directory, are told as created.
    let replaced = 2;
    assert_eq!(preview(dir.path(), &["-a", "--delete"]).entries, there - replaced);
}
