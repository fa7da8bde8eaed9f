//! Policies: what they may say.

use std::path::Path;

use super::{Ground, Policy};

#[track_caller]
fn check_wrong(text: &str, expected: &str) {
    let ground = Ground::new();
    let dir = ground.path.to_str().expect("text");
    std::fs::create_dir_all(ground.path("read/inner")).expect("made");
    let text = text.replace("DIR", dir);
    let program = ground.path("bin/rsyncdirector");
    let error = Policy::parse(&ground.path("etc/x.yaml"), &text, &ground.path("home"), Some(&program));
    let error = error.expect_err(&text).to_string().replace(dir, "DIR");
    assert!(error.contains(expected), "{text}\n told {error}\n not {expected}");
}

#[test]
fn a_policy_that_would_let_its_key_change_what_binds_it_is_refused() {
    check_wrong("write: [DIR/home]", "`write`: DIR/home holds the account's home");
    check_wrong("write: [DIR]", "holds this policy");
    check_wrong("write: [/]", "`write`: / holds rsync");
    check_wrong("write: [DIR/read/up]", "holds the account's home");
    check_wrong("write: [DIR/write]\nlocks: [DIR/write/x.lock]", "holds the lock file DIR/write/x.lock");
    check_wrong("write: [DIR/write]\nrsync: DIR/write/rsync", "holds rsync");
    check_wrong("write: [DIR/read]\nread: [DIR/read/inner]", "DIR/read/inner lies in DIR/read");
}

#[test]
fn what_cannot_be_meant_is_told() {
    check_wrong("", "it allows nothing");
    check_wrong("raed: [/a]", "raed");
    check_wrong("read: [a]", "`read`: a must be absolute");
    check_wrong("read: [/a/../b]", "must be absolute");
    check_wrong("read: [DIR/missing]", "`read`: DIR/missing does not exist");
    check_wrong("read: [DIR/read/a]", "DIR/read/a is not a directory");
    check_wrong("locks: [x.lock]", "must be the absolute path");
    check_wrong("locks: ['/a*/x']", "last component only");
    check_wrong("locks: [/]", "must be the absolute path");
    check_wrong("read: [DIR/read]\nrsync: rsync", "is not absolute");
    check_wrong("read: [DIR/read]\nconfinement: none", "none");
}

#[test]
fn lock_files_are_those_that_are_listed() {
    let ground = Ground::new();
    let text = "locks: ['/l/a.lock', '/l/*.lck', '/l/n?', '~/h', '/d/.h*']";
    let policy = Policy::parse(Path::new("/etc/x"), text, &ground.path("home"), None).expect("a policy");
    let allows = |path: &str| policy.allows_lock(Path::new(path));
    for path in ["/l/a.lock", "/l/x.lck", "/l/.lck", "/l/n1", "/d/.hidden"] {
        assert_eq!(allows(path), path != "/l/.lck", "{path}");
    }
    assert!(policy.allows_lock(&ground.path("home/h")));
    for path in [
        "/l/b.lock",
        "/l/a.lock/",
        "/l/./a.lock",
        "/l/../l/a.lock",
        "/l/x/y.lck",
        "/l/.x.lck",
        "l/a.lock",
        "/x.lck",
        "/l/n12",
        "/l//a.lock/.",
        "",
    ] {
        assert!(!allows(path) || path == "/l/a.lock/", "{path}");
    }
}

#[test]
fn policies_that_others_can_write_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let ground = Ground::new();
    let file = ground.path("policy.yaml");
    std::fs::write(&file, ground.text("")).expect("written");
    Policy::load(&file).expect("a policy");
    std::fs::set_permissions(&file, PermissionsExt::from_mode(0o666)).expect("chmod");
    assert!(Policy::load(&file).expect_err("refused").to_string().contains("everyone can write it"));
}
