//! Command lines, one by one.

use super::Ground;

const SEND: &str = "rsync --server --sender -vlogDtpre.iLsfxCIvu";
const RECEIVE: &str = "rsync --server -vlogDtpre.iLsfxCIvu";

#[track_caller]
fn check_with(policy: &str, line: &str, secluded: &[&str], expected: &str) {
    let ground = Ground::new();
    let line = line.replace("SEND", SEND).replace("RECEIVE", RECEIVE);
    let told = ground.told(&ground.policy(policy), &line, secluded);
    assert!(told.contains(expected), "{line}\n told {told}\n not {expected}");
}

#[track_caller]
fn check(line: &str, expected: &str) {
    check_with("", line, &[], expected);
}

#[track_caller]
fn check_refused(line: &str) {
    check(line, "refused: ");
}

#[test]
fn what_rsync_and_a_director_send_is_let_through() {
    check("exec /bin/sh", "locks");
    check("SEND . DIR/read/", "--server|--sender|-vlogDtpre.iLsfxCIvu|.|DIR/read/");
    check("RECEIVE . DIR/write/new", "--server|-vlogDtpre.iLsfxCIvu|.|DIR/write/new");
    check("/usr/local/bin/rsync --server --sender -e.L . DIR/write/sub", "--server|--sender|-e.L|.|DIR/write/sub");
    check("SEND . DIR/read/a DIR/read/sub/./deep", ".|DIR/read/a|DIR/read/sub/./deep");
    check(
        "RECEIVE --delete-during --partial-dir .p --link-dest ../sub . DIR/write/a\\ b",
        "--delete-during|--partial-dir=.p|--link-dest=DIR/write/sub|.|DIR/write/a b",
    );
    check(
        "RECEIVE --link-dest=DIR/read/sub --backup-dir DIR/write/old --temp-dir . . DIR/write/sub/",
        "--link-dest=DIR/read/sub|--backup-dir=DIR/write/old|--temp-dir=.|.|DIR/write/sub/",
    );
    check(
        "RECEIVE --log-format=%i --timeout=30 --bwlimit=1.5m -B1024 --info=FLIST2,PROGRESS --usermap=*:ann . DIR/write",
        "refused: ",
    );
    check(
        "RECEIVE --log-format=%i --timeout=30 --bwlimit=1500 -B1024 --info=FLIST2 --usermap=\\*:ann . DIR/write",
        "--usermap=*:ann|.|DIR/write",
    );
    check("rsync --version", "--version");
    check("rsync -VV", "-VV");
}

#[test]
fn the_agent_is_let_through_where_there_are_directories() {
    check("rsyncdirector agent", "agent");
    check(r"/opt/of\ rsync/rsyncdirector agent", "agent");
    check("~/bin/rsyncdirector agent", "agent");
    for line in [
        "rsyncdirector",
        "rsyncdirector agent --help",
        "rsyncdirector run agent",
        "rsyncdirector -- agent",
        "rsyncdirector gate --policy /tmp/x",
        "rsyncdirector a*",
        "rsyncdirector ~agent",
        "rsyncdirector-agent agent",
        "X=1 rsyncdirector agent",
        "exec rsyncdirector agent",
        "rsyncdirector agent; id",
        "rsyncdirector __verify",
    ] {
        check_refused(line);
    }
    let ground = Ground::new();
    let file = std::path::Path::new("/etc/x.yaml");
    let locks = super::Policy::parse(file, "locks: [/run/x.lock]", &ground.path("home"), None).expect("a policy");
    assert!(ground.told(&locks, "rsyncdirector agent", &[]).contains("the policy has no directories"));
}

#[test]
fn an_agent_begins_in_the_directories_of_the_policy() {
    use crate::agent::Bounds;
    let ground = Ground::new();
    std::fs::create_dir(ground.path("home/data")).expect("made");
    let dir = ground.path.to_str().expect("text");
    let bounds = |more: &str| {
        let journal = crate::gate::journal::Journal::open(&ground.path("policy"), "");
        crate::gate::agent::Within::new(ground.policy(more), journal)
    };
    let within = bounds("");
    let told = |root: &str| match within.root(root.replace("DIR", dir).as_bytes()) {
        Ok(root) => String::from_utf8(root).expect("text").replace(dir, "DIR"),
        Err(why) => why,
    };
    for root in ["DIR/read", "DIR/read/sub/", "DIR/write/a b", "DIR/read/fine", "DIR/write/not/there/yet"] {
        assert_eq!(told(root), root);
    }
    for root in [
        "/",
        "/etc",
        "DIR",
        "DIR/outside",
        "DIR/read/etc",
        "DIR/read/up",
        "DIR/read/..",
        "DIR/read/../outside",
        "DIR/readable",
        "DIR/write/dangling",
        "DIR/write/loop",
        "DIR/read\0",
        "~",
        "~/data",
        "~root",
        "data",
        "",
    ] {
        assert!(told(root).starts_with("gate: refused: "), "{root:?}: {}", told(root));
    }
}

#[test]
fn rules_in_files_of_the_tree_need_the_kernel() {
    use crate::agent::Bounds;
    use crate::rsync::filter::{Filters, Side as End};
    let ground = Ground::new();
    let rules = |more: &str, opt: &str| {
        let journal = crate::gate::journal::Journal::open(&ground.path("policy"), "");
        let none = &mut |_: &[u8]| Ok(None);
        let filters = Filters::of(&[opt.into()], none, None, b"").expect("rules");
        let (root, only, attributes) = Default::default();
        let scan = crate::verify::side::Scan {
            root,
            only,
            filters,
            end: End::Receiver,
            one_file_system: false,
            meta: false,
            attributes,
        };
        crate::gate::agent::Within::new(ground.policy(more), journal).rules(&scan)
    };
    assert_eq!(rules("", "-F"), Ok(()));
    assert_eq!(rules("confinement: paths", "--exclude=x"), Ok(()));
    assert!(rules("confinement: paths", "-F").expect_err("refused").contains("need `confinement: kernel`"));
}

#[test]
fn a_shells_work_on_paths_is_done_without_one() {
    check("SEND . DIR/read/*", ".|DIR/read/a|DIR/read/b.c|");
    check("SEND . DIR/read/[ab]*", ".|DIR/read/a|DIR/read/b.c");
    check(r"SEND . DIR/read/sub/\*", ".|DIR/read/sub/*");
    check("SEND . DIR/read/nothing*", ".|DIR/read/nothing*");
    check("SEND . DIR/outside/*", "refused: DIR/outside/ is in no directory");
    check("SEND . DIR/read/etc/*", "refused: DIR/read/etc/ leads out");
    check("SEND . DIR/read/e*/passwd", "leads out");
    check("SEND . DIR/read/*/passwd", "refused: a match of DIR/read/*/passwd cannot be looked at");
    check("SEND . DIR/*/secret", "refused: ");
    let inside = "read: [~/data]";
    let ground = Ground::new();
    std::fs::create_dir(ground.path("home/data")).expect("made");
    let file = std::path::Path::new("/etc/x.yaml");
    let policy = super::Policy::parse(file, inside, &ground.path("home"), None).expect("a policy");
    let told = |line: &str| ground.told(&policy, &line.replace("SEND", SEND), &[]);
    assert!(told("SEND . ~/data/x").ends_with(".|DIR/home/data/x"), "{}", told("SEND . ~/data/x"));
    assert!(told("SEND . data/x").ends_with(".|DIR/home/data/x"));
    assert!(told("SEND -R . data/x").ends_with(".|DIR/home/./data/x"));
    assert!(told("SEND . ~root/x").contains("another user"));
    assert!(told("SEND . ~/.ssh").contains("in no directory"));
    assert!(told("SEND . .").contains("in no directory"));
    assert!(told("SEND .").contains("0 paths"));
}

#[test]
fn what_rsync_sends_over_its_stream_is_judged_like_the_rest() {
    let check =
        |secluded: &[&str], expected: &str| check_with("", "rsync --server -svlogDtpre.iLsfxCIvu", secluded, expected);
    check(
        &["rsync", "--delete-during", ".", "DIR/write/a\nb;$(id)"],
        "-vlogDtpre.iLsfxCIvu|--delete-during|.|DIR/write/a\nb;$(id)",
    );
    check(&["rsync", ".", "/etc"], "refused: /etc");
    check(&["rsync", "--daemon", ".", "DIR/write"], "refused: --daemon");
    check(&["rsync", "-se.L", "."], "refused: 0 paths");
    check(&["rsync"], "refused: no `.`");
    check(&[], "refused: its arguments did not come");
    check_with(
        "",
        "rsync --server -s --iconv=utf8 ",
        &["rsync", ".", "DIR/write"],
        "refused: --secluded-args together",
    );
    check_with("", "rsync --server -s . DIR/write", &["rsync", ".", "DIR/write"], "refused: --secluded-args together");
    check_with(
        "",
        "rsync --server --sender -s",
        &["rsync", ".", "DIR/read/\\*", "DIR/read/[a]"],
        ".|DIR/read/*|DIR/read/a",
    );
}

#[test]
fn nothing_but_rsync_is_started() {
    for line in [
        "",
        "id",
        "sh",
        "/bin/sh -c id",
        "exec /bin/sh -c id",
        "exec /bin/bash",
        "/usr/lib/openssh/sftp-server",
        "internal-sftp",
        "scp -t /tmp",
        "sudo rsync --server . DIR/write",
        "rsync",
        "rsync --help",
        "rsync -a DIR/read DIR/write",
        "rsync --daemon",
        "rsync --server",
        "rsync --server --daemon .",
        "rsync --server .",
        "env rsync --server . DIR/write",
        "/bin/rsync-evil --server . DIR/write",
        "rsync --version --daemon",
        "RSYNC_RSH=id rsync --server . DIR/write",
        "-c id",
        "--policy /tmp/x",
    ] {
        check_refused(line);
    }
}

#[test]
fn options_that_reach_beyond_the_directories_are_refused() {
    for option in [
        "--daemon",
        "--config=/tmp/x",
        "--detach",
        "--no-detach",
        "--rsh=id",
        "--rsh",
        "-e",
        "-eid",
        "-e id",
        "-esh",
        "-ve/tmp/x",
        "-e.L/x",
        "--rsync-path=id",
        "--log-file=DIR/write/x",
        "--log-file",
        "--log-file-format=x",
        "--write-batch=DIR/write/x",
        "--only-write-batch=X",
        "--read-batch=x",
        "--password-file=/etc/shadow",
        "--copy-devices",
        "--write-devices",
        "-K",
        "--keep-dirlinks",
        "-M--daemon",
        "-M",
        "--remote-option=--daemon",
        "--no-munge-links",
        "-T/tmp",
        "-T",
        "-f",
        "-fmerge",
        "--filter=x",
        "--exclude-from=/etc/shadow",
        "--include-from=/etc/shadow",
        "--compare-dest=/etc",
        "--compare-dest ../../outside",
        "--copy-dest=/etc",
        "--copy-dest /etc",
        "--link-dest=/etc",
        "--link-dest ../up/outside",
        "--link-dest file",
        "--link-dest=DIR/write/etc",
        "--compare-dest up",
        "--backup-dir=/tmp",
        "--backup-dir ../../x",
        "--backup-dir up",
        "--temp-dir=/tmp",
        "--temp-dir ../../outside",
        "--partial-dir=/tmp/x",
        "--partial-dir ../x",
        "--partial-dir etc",
        "--suffix=/../x",
        "--suffix=a/b",
        "--files-from=/etc/shadow",
        "--files-from ../outside/secret",
        "--files-from=DIR/read/file/",
        "--usermap=a\\\nb",
        "--iconv=../x",
        "--info=a/b",
        "--log-format=%f",
        "--log-format",
        "--bwlimit",
        "--timeout=x",
        "--timeout=--daemon",
        "--delete=1",
        "--sender=1",
        "--server",
        "--iconv=utf8/../../x",
        "--out-format=%f",
        "--chmod=a+s",
        "--chown=root",
        "--sockopts=x",
        "--address=x",
        "--port=1",
        "--protocol=1",
        "--fake-super=x",
        "--",
        "-",
        "--=x",
        "--del",
        "--dele",
        "--temp",
        "-vv --daemon",
        "--server --daemon",
        "--stop-at=now",
        "--early-input=/etc/shadow",
        "--trust-sender",
    ] {
        check_refused(&format!("RECEIVE {option} . DIR/write/"));
        if !option.starts_with("--link-dest") {
            check_refused(&format!("SEND {option} . DIR/read/"));
        }
    }
    check_refused("SEND --link-dest=DIR/read . DIR/read/");
    check_refused("RECEIVE . --daemon");
    check_refused("RECEIVE . DIR/write --daemon");
    check_refused("RECEIVE . DIR/write DIR/write/sub");
    check_refused("SEND . --daemon");
    check_refused("SEND --files-from=- . DIR/read DIR/read/a");
}

#[test]
fn an_argument_that_looks_like_an_option_is_a_path() {
    check("SEND . DIR/read/ --rsh=id", "refused: DIR/home/--rsh=id is in no directory");
    check("SEND . -e", "refused: DIR/home/-e is in no directory");
}

#[test]
fn paths_that_lead_out_are_refused() {
    for path in [
        "/",
        "/etc",
        "/etc/passwd",
        "DIR",
        "DIR/",
        "DIR/outside",
        "DIR/outside/secret",
        "DIR/READ/../outside",
        "DIR/READ/..",
        "DIR/READ/../READ/a",
        "DIR/READ/sub/../../outside",
        "DIR/READ/etc/",
        "DIR/READ/etc/passwd",
        "DIR/READ/up/",
        "DIR/READ/up/outside/secret",
        "DIR/READ/file/",
        "DIR/READ/fine/../../outside",
        "DIR/READx",
        "DIR/READ-/a",
        "//etc",
        "/./etc",
        "DIR/READ/./../outside",
        "~",
        "~/",
        "~/.ssh/id",
        "~root",
        "..",
        "../outside",
        ".",
        "",
        "DIR/READ/up/READ/up/outside",
        "DIR/READ/etc/../../outside",
        "DIR/READ//..//outside",
        "/proc/self/root/etc",
        "DIR/READ/loop/x/..",
    ] {
        check_refused(&format!("SEND . {}", path.replace("READ", "read")));
        check_refused(&format!("RECEIVE . {}", path.replace("READ", "write")));
    }
    for path in ["DIR/read", "DIR/read/new", "DIR/write/etc", "DIR/write/dangling", "DIR/write/up", "DIR/write/file"] {
        check_refused(&format!("RECEIVE . {path}"));
    }
    // A link that is copied as a link leads nowhere.
    check("SEND . DIR/read/etc", ".|DIR/read/etc");
    check("SEND . DIR/read/fine/", ".|DIR/read/fine/");
    check("RECEIVE . DIR/write/fine/x", ".|DIR/write/fine/x");
}

#[test]
fn a_policy_decides_about_deletion_and_links() {
    for option in ["--delete", "--delete-excluded", "--delete-missing-args", "--force", "--remove-source-files"] {
        check_with("delete: false", &format!("RECEIVE {option} . DIR/write"), &[], "deletes, which the policy");
    }
    check(
        "SEND --remove-source-files . DIR/read/a",
        "refused: DIR/read/a is in no directory that the policy opens to be written",
    );
    check("SEND --remove-source-files . DIR/write/sub", "--remove-source-files|.|DIR/write/sub");
    for option in ["-L", "-k", "--copy-unsafe-links", "-rLt"] {
        check_with("confinement: paths", &format!("SEND {option} . DIR/read"), &[], "follows symbolic links");
        check(&format!("SEND {option} . DIR/read"), option);
    }
    check_with("confinement: paths", "SEND --files-from=- . DIR/read", &[], "refused: --files-from may name");
    check("SEND --files-from=- --from0 . DIR/read", "--from0|--files-from=-|.|DIR/read");
    check("SEND --files-from DIR/read/a . DIR/read", "--files-from=DIR/read/a|.|DIR/read");
}

#[test]
fn what_a_policy_has_not_is_refused_by_that_reason() {
    let ground = Ground::new();
    let told = |text: &str, line: &str| {
        let text = text.replace("DIR", ground.path.to_str().expect("text"));
        let policy = super::Policy::parse(std::path::Path::new("/etc/x"), &text, &ground.path("home"), None);
        ground.told(&policy.expect("a policy"), line, &[])
    };
    assert!(told("read: [DIR/read]", "exec /bin/sh").contains("no lock files"));
    assert!(told("locks: [/a]", "rsync --server . /a").contains("no directories"));
    assert!(told("read: [DIR/read]", "rsync --server . DIR/read").contains("to be written"));
}
