//! `action: verify` and `rsyncdirector verify`: what they tell of a replica, exit with, and mend.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use integration_tests::receiver::Receiver;
use integration_tests::{Director, Finished, Sandbox, Sshd, director::binary, procs, wait};
use rustix::process::Signal;
use serde_json::Value;

/// A job with a sync and its verification.
const LOCAL: &str = "jobs:
- {id: j, type: local, lock_files: [{type: local, path: @/lock}], actions: [
   {id: copy, action: sync, source: @/src/, dest: @/dst/, opts: [-aH, --delete, '--exclude=*.keep']},
   {id: proof, action: verify, of: copy, level: meta}]}
";

/// The same with a peer: `<agent>` answers there.
const REMOTE: &str = "jobs:
- {id: j, type: remote, <peer>, lock_files: [{type: remote, <peer>, path: @/lock}], actions: [
   {id: copy, action: sync, source: @/src/, dest: @/dst/, opts: [-aH, --delete, '--exclude=*.keep']},
   {id: proof, action: verify, of: copy, level: meta, agent: '<agent>'}]}
";

/// A tree and its replica.
fn replica(jobs: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    for name in ["a/b/one", "a/b/two", "a/three", "new\nline", "#no comment", "-dash", "e/x"] {
        sandbox.write(format!("src/{name}"), name);
    }
    sandbox.write(OsStr::from_bytes(b"src/\xff\xfe"), "not text");
    symlink("a/b/one", sandbox.path("src/link")).expect("a link");
    sandbox.define("agent", binary().display().to_string());
    if !jobs.contains("<peer>") {
        copy(&sandbox, jobs);
    }
    sandbox
}

fn copy(sandbox: &Sandbox, jobs: &str) {
    let finished = sandbox.once(&sandbox.config(jobs));
    finished.expect_code(0).expect_said("100 % of");
}

fn verify(sandbox: &Sandbox, args: &[&str]) -> Finished {
    let config = sandbox.path("main.yaml").display().to_string();
    sandbox.cli(&[&["verify", "--config", &config], args].concat())
}

/// Makes a difference of every class that a repair mends.
fn disturb(sandbox: &Sandbox) {
    let (src, dst) =
        (|name: &str| sandbox.path(format!("src/{name}")), |name: &str| sandbox.path(format!("dst/{name}")));
    // Missing, with a directory; extra, with directories, of which one holds something that the sync spares.
    sandbox.write("src/new/dir/file", "new");
    sandbox.write("src/a/b/weird\n\tname", "new");
    for name in ["gone/deep/x", "gone/y", "spared/z", "spared/z.keep", "a/b/extra\nline"] {
        sandbox.write(format!("dst/{name}"), "extra");
    }
    // Stale, of another size, of another kind, with other attributes, of other content.
    sandbox.write("src/a/b/one", "one, and one more thing");
    postdate(&src("a/b/one"));
    sandbox.write("dst/a/b/two", "of another size");
    same_time(&src("a/b/two"), &dst("a/b/two"));
    fs::remove_file(dst("e/x")).expect("removed");
    symlink("nowhere", dst("e/x")).expect("a link");
    fs::set_permissions(dst("new\nline"), fs::Permissions::from_mode(0o600)).expect("changed");
    rot(sandbox, "-dash");
}

/// Changes a file's content at the replica, but not its size and time.
fn rot(sandbox: &Sandbox, name: &str) {
    let (good, rotten) = (sandbox.path(format!("src/{name}")), sandbox.path(format!("dst/{name}")));
    let content = fs::read(&good).expect("read").iter().map(|byte| byte ^ 1).collect::<Vec<_>>();
    fs::write(&rotten, content).expect("written");
    same_time(&good, &rotten);
}

/// Makes a file as if it had been changed tomorrow.
fn postdate(path: &Path) {
    let at = fs::metadata(path).and_then(|about| about.modified()).expect("its time") + Duration::from_secs(86_400);
    fs::File::options().write(true).open(path).and_then(|file| file.set_modified(at)).expect("its time is set");
}

fn same_time(of: &Path, to: &Path) {
    let at = fs::metadata(of).and_then(|about| about.modified()).expect("its time");
    fs::File::options().write(true).open(to).and_then(|file| file.set_modified(at)).expect("its time is set");
}

#[test]
fn what_a_job_copied_is_in_step_and_each_difference_has_its_line() {
    let sandbox = replica(LOCAL);
    let whole = verify(&sandbox, &[]);
    whole.expect_code(0).expect_printed("j/copy: in step, 100 % of");
    disturb(&sandbox);
    let listed = verify(&sandbox, &["--diff", "--level", "deep", "j/proof"]);
    listed.expect_code(2).expect_printed("j/copy: drift, ");
    for line in [
        "stale         a/b/one",
        "size          a/b/two  15 bytes, not 7",
        r"extra         a/b/extra\nline",
        "missing       a/b/weird\\n\tname",
        "missing       new/dir/file",
        "extra         gone/deep/x",
        "type          e/x  a link, not a file",
        r"meta          new\nline  mode 0600, not 0644",
        "content       -dash",
    ] {
        assert!(listed.stdout.lines().any(|found| found.starts_with(line)), "{line:?} is missing in {}", listed.stdout);
    }
    assert!(!listed.stdout.contains("z.keep"), "{}", listed.stdout);
    // Less closely, less is seen.
    assert!(!verify(&sandbox, &["--diff", "--level", "quick"]).stdout.contains("\nmeta "));
}

#[test]
fn root_leaves_nothing_in_another_users_directory_of_state() {
    let sandbox = replica(LOCAL);
    let (all, own) = (sandbox.path("state"), sandbox.path("state/main"));
    let deep = || {
        let verified = verify(&sandbox, &["--level", "deep", "--restore", "2"]);
        verified.expect_code(0).expect_printed("j/copy: in step, 100 % of");
        verified
    };
    // Of the instance, and of all instances before this one has its own.
    for directory in [&own, &all] {
        fs::remove_dir_all(&all).expect("removed");
        fs::create_dir_all(directory).expect("made");
        chown(directory, Some(1), Some(1)).expect("it runs as root");
        deep().expect_said("what is found is not kept").expect_said("belongs to another user");
        let left: Vec<_> = fs::read_dir(directory).expect("read").collect();
        assert!(left.is_empty(), "{left:?}");
    }
    fs::remove_dir_all(&all).expect("removed");
    let kept = deep();
    assert!(!kept.stderr.contains("not kept"), "{}", kept.stderr);
    assert!(own.join("verify.sqlite").exists() && own.join("verify/j.copy").exists());
}

#[test]
fn the_worst_of_several_replicas_is_what_it_exits_with() {
    let sandbox = Sandbox::new();
    for tree in ["good", "few", "many"] {
        for number in 0..3 {
            sandbox.write(format!("src/{tree}/{number}"), "x");
        }
    }
    let sync =
        |tree: &str| format!("{{id: {tree}, action: sync, source: @/src/{tree}/, dest: @/dst/{tree}/, opts: [-a]}}");
    let proof = |tree: &str| format!("{{id: p-{tree}, action: verify, of: {tree}, max_drift: 1}}");
    let actions: Vec<_> = ["good", "few", "many"].iter().flat_map(|tree| [sync(tree), proof(tree)]).collect();
    sandbox.mkdir("dst");
    let config = sandbox.config(&format!("jobs:\n- {{id: j, type: local, actions: [{}]}}\n", actions.join(", ")));
    sandbox.once(&config).expect_code(0);
    fs::remove_file(sandbox.path("dst/few/0")).expect("removed");
    for number in 0..2 {
        fs::remove_file(sandbox.path(format!("dst/many/{number}"))).expect("removed");
    }
    verify(&sandbox, &["j/p-good"]).expect_code(0);
    verify(&sandbox, &["j/p-good", "j/p-few"]).expect_code(3).expect_printed("j/few: tolerated");
    verify(&sandbox, &[]).expect_code(2).expect_printed("j/many: drift");
    // Of a sync nothing is configured, so anything is too much.
    verify(&sandbox, &["j/few"]).expect_code(2);
    // What nobody knows is worse than what is known.
    fs::remove_dir_all(sandbox.path("src/good")).expect("removed");
    fs::rename(sandbox.path("src/many"), sandbox.path("src/else")).expect("moved");
    sandbox.write("src/many", "no directory");
    let unknown = verify(&sandbox, &[]);
    unknown.expect_code(1);
    verify(&sandbox, &["nothing"]).expect_code(4).expect_said("there are: j/good, j/few, j/many");
}

#[test]
fn a_report_is_json_and_so_is_each_difference() {
    let sandbox = replica(LOCAL);
    fs::remove_file(sandbox.path(OsStr::from_bytes(b"dst/\xff\xfe"))).expect("removed");
    let finished = verify(&sandbox, &["--json", "--diff"]);
    finished.expect_code(2);
    let lines: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(lines[0]["replica"]["sync"], "copy");
    assert_eq!(lines[0]["verdict"], "drift");
    assert_eq!(lines[0]["classes"]["missing"]["entries"], 1);
    // The directory in which it was may have another time.
    let missing = lines[1..].iter().find(|line| line["class"] == "missing").expect("it is listed");
    assert_eq!((&missing["path"], &missing["path_base64"]), (&"\u{fffd}\u{fffd}".into(), &"//4=".into()));
}

#[test]
fn everything_is_mended_and_nothing_else_touched() {
    let sandbox = replica(LOCAL);
    disturb(&sandbox);
    verify(&sandbox, &["--repair"]).expect_code(2).expect_said("not on a terminal: use --yes");
    let repaired = verify(&sandbox, &["--level", "deep", "--repair", "--yes"]);
    // The directory that is not empty stays: what the sync spares is in it, and so the sync would leave it.
    repaired.expect_code(0).expect_printed("repaired: everything is in step");
    assert!(sandbox.exists("dst/spared/z.keep"));
    assert!(!sandbox.exists("dst/gone") && !sandbox.exists("dst/spared/z"));
    assert!(!sandbox.exists("lock"), "the lock was given back");
    // The sync itself finds nothing to do, and keeps the same directory.
    let args = ["-aHi", "--delete", "--exclude=*.keep", "--checksum", "--dry-run"];
    let dry = Command::new("rsync").args(args).arg(sandbox.expand("@/src/")).arg(sandbox.expand("@/dst/")).output();
    let told = dry.expect("rsync runs").stdout;
    assert_eq!(String::from_utf8_lossy(&told), "cannot delete non-empty directory: spared\n");
}

#[test]
fn what_is_newer_at_the_target_is_left_unless_all_is_asked_for() {
    let sandbox = replica(LOCAL);
    sandbox.write("dst/a/three", "changed there");
    postdate(&sandbox.path("dst/a/three"));
    let left = verify(&sandbox, &["--repair", "--yes"]);
    left.expect_code(2).expect_said("1 newer at the target: left alone; --repair=all overwrites it");
    assert_eq!(sandbox.read("dst/a/three"), "changed there");
    verify(&sandbox, &["--repair=all", "--yes"]).expect_code(0);
    assert_eq!(sandbox.read("dst/a/three"), "a/three");
}

#[test]
fn what_guards_a_sync_guards_its_repair() {
    let jobs = LOCAL.replace("opts:", "max_delete: 1, opts:");
    let sandbox = replica(&jobs);
    sandbox.write("dst/extra/one", "");
    let refused = verify(&sandbox, &["--repair", "--yes"]);
    refused.expect_code(1).expect_said("2 entries would be deleted, and max_delete is 1");
    fs::rename(sandbox.path("src"), sandbox.path("away")).expect("moved");
    sandbox.mkdir("src");
    verify(&sandbox, &["--repair", "--yes"]).expect_code(1).expect_said("the source is empty");
    assert!(sandbox.exists("dst/extra/one") && sandbox.exists("dst/a/b/one"));
}

/// A sync that holds its lock until told to go.
fn holding(sandbox: &Sandbox) -> Director {
    let jobs = LOCAL.replace("actions: [", "actions: [{action: command, id: hold, command: '<hold>'}, ");
    sandbox.define_hold();
    let director = sandbox.start(&sandbox.config(&jobs));
    director.hup();
    wait::until("the action runs", || sandbox.exists("started"));
    director
}

#[test]
fn a_job_that_runs_is_told_of_and_a_repair_waits_for_it() {
    let sandbox = replica(LOCAL);
    let director = holding(&sandbox);
    verify(&sandbox, &[]).expect_code(0).expect_said("for job j").expect_said("what differs may be in flight");
    fs::remove_file(sandbox.path("dst/a/three")).expect("removed");
    let config = sandbox.path("main.yaml").display().to_string();
    let mut command = sandbox.command();
    command.args(["verify", "--config", &config, "--repair", "--yes"]);
    let mut repair = Director::spawn(&sandbox, command);
    repair.wait_for_log("waiting for ");
    assert!(!sandbox.exists("dst/a/three"));
    // Whoever waits can be told to stop.
    repair.term();
    repair.ended(wait::DEADLINE).expect_code(1).expect_said("the repair was not begun");
    drop(director);
}

#[test]
fn an_interrupt_ends_everything() {
    let sandbox = replica(LOCAL);
    sandbox.write_big("src/big", 64);
    let config = sandbox.path("main.yaml").display().to_string();
    copy(&sandbox, LOCAL);
    let slow = LOCAL.replace("level: meta", "level: deep, rate: 1M");
    sandbox.config(&slow);
    let mut command = sandbox.command();
    command.args(["verify", "--config", &config]);
    let mut looking = Director::spawn(&sandbox, command);
    let worker = || procs::descendants(looking.pid()).into_iter().find(|process| process.cmdline.contains("__verify"));
    wait::until("it works", || worker().is_some_and(|worker| procs::alive(worker.pid)));
    let worker = worker().expect("it works");
    procs::signal(looking.pid(), Signal::INT);
    looking.ended(wait::DEADLINE).expect_code(1).expect_said("stopped");
    assert!(!procs::alive(worker.pid));
}

#[test]
fn drift_fails_the_action_and_is_told() {
    let (sandbox, receiver) = (replica(LOCAL), Receiver::new());
    sandbox.define("url", receiver.url());
    let alone = "jobs:
- {id: copies, type: local, cron_schedule: '@yearly', actions: [
   {id: copy, action: sync, source: @/src/, dest: @/dst/, opts: [-aH, --delete, '--exclude=*.keep']}]}
- {id: j, type: local, actions: [{id: proof, action: verify, of: copies/copy, max_drift: 1}]}
";
    let config = sandbox.config(&format!("notify: [{{http: {{url: '<url>/x'}}}}]\n{alone}"));
    let once = || sandbox.once_with(&config, &["--job", "j"]);
    once().expect_code(0).expect_said("j/proof: done in").expect_said("100 % of");
    fs::remove_file(sandbox.path("dst/a/three")).expect("removed");
    once().expect_code(0).expect_said("1 missing");
    fs::remove_file(sandbox.path("dst/e/x")).expect("removed");
    once().expect_code(1).expect_said("j/proof: failed after").expect_said("2 missing");
    let requests = receiver.requests();
    let failure: Value = serde_json::from_str(&requests[0].body).expect("JSON");
    assert!(failure["detail"].as_str().is_some_and(|detail| detail.contains("2 missing")), "{failure}");
    let shown = sandbox.cli(&["show", "--config", &config.display().to_string()]);
    shown.expect_printed("2 missing").expect_printed("rsyncdirector verify copies/copy --level quick");
}

#[test]
fn a_dry_run_verifies() {
    let sandbox = replica(LOCAL);
    fs::remove_file(sandbox.path("dst/a/three")).expect("removed");
    let finished = sandbox.once_with(&sandbox.path("main.yaml"), &["--dry-run"]);
    finished.expect_code(1).expect_said("j/proof: failed after").expect_said("1 missing");
}

#[test]
fn files_come_back_and_one_that_rots_does_not_pass() {
    let sandbox = replica(LOCAL);
    let drilled = verify(&sandbox, &["--restore", "100"]);
    drilled.expect_code(0).expect_printed("brought back    8 files").expect_printed("all as they should be");
    rot(&sandbox, "new\nline");
    let drilled = verify(&sandbox, &["--restore", "100", "--level", "quick"]);
    drilled.expect_code(2).expect_printed("1 of 8 files did not come back as they should");
    drilled.expect_printed(r"new\nline: its content is not what it should be");
}

/// The same by a peer, over the director's own connections and the system's ssh, by its agent and without.
fn over_a_peer(transport: &str, agent: &str, by: &str) {
    let jobs = REMOTE.replace("<peer>, lock_files", &format!("<peer>, transport: {transport}, lock_files"));
    let jobs = jobs.replace("<agent>", agent);
    let sandbox = replica(&jobs);
    let _peer = Sshd::start(&sandbox, "peer");
    sandbox.mkdir("dst");
    copy(&sandbox, &jobs);
    verify(&sandbox, &[]).expect_code(0).expect_printed(by);
    disturb(&sandbox);
    let listed = verify(&sandbox, &["--diff", "--level", "deep"]);
    listed.expect_code(2).expect_printed("content       -dash").expect_printed("missing       new/dir/file");
    verify(&sandbox, &["--level", "deep", "--repair", "--yes"]).expect_code(0).expect_printed("everything is in step");
    assert!(!sandbox.exists("lock"), "the lock was given back");
    if agent != "none" {
        verify(&sandbox, &["--restore", "100"]).expect_code(0).expect_printed("all as they should be");
        rot(&sandbox, "-dash");
        verify(&sandbox, &["--restore", "100"]).expect_code(2).expect_printed("-dash: its content is not");
    }
}

#[test]
fn a_replica_on_a_peer_over_our_own_connections() {
    over_a_peer("native", "<agent>", "by the agent there");
}

#[test]
fn a_replica_on_a_peer_over_the_systems_ssh() {
    over_a_peer("openssh", "<agent>", "by the agent there");
}

#[test]
fn a_replica_on_a_peer_without_an_agent() {
    over_a_peer("native", "none", "by rsync alone");
}

#[test]
fn doctor_says_whether_an_agent_answers() {
    let sandbox = replica(REMOTE);
    let _peer = Sshd::start(&sandbox, "peer");
    let doctor = |jobs: &str| {
        let config = sandbox.config(jobs).display().to_string();
        sandbox.cli(&["doctor", "--config", &config])
    };
    assert!(doctor(REMOTE).stdout.contains("it answers verifications, version "), "{}", doctor(REMOTE).stdout);
    let lacking = doctor(&REMOTE.replace("<agent>", "no-such-agent")).stdout;
    assert!(lacking.contains("no agent answers (") && lacking.contains("by rsync alone"), "{lacking}");
}
