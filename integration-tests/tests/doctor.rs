//! `doctor`: each failure is made for real, and said with what mends it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use integration_tests::peers::{BlackHole, Mute, Refusing};
use integration_tests::sandbox::user;
use integration_tests::sshd::peer_at;
use integration_tests::wait::Stopwatch;
use integration_tests::{Finished, Sandbox, Sshd, keys};
use serde_json::Value;

/// A job that copies there and back with a lock and a block there and here.
const JOBS: &str = "jobs:
- {id: j, type: remote, <peer>,
   lock_files: [{type: remote, <peer>, path: @/locks/j.lock}, {type: local, path: @/here/j.lock}],
   blocks_on: [{type: remote, <peer>, path: @/locks/b.lock}], actions: [
    {action: sync, id: push, source: @/src/, dest: @/dst, opts: ['-aX']},
    {action: sync, id: pull, direction: pull, source: @/dst/, dest: @/back, opts: ['-a']}]}
";

/// Everything that the job needs, but the peer.
fn prepared() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("src/file", "content");
    ["dst", "locks", "here"].iter().for_each(|name| drop(sandbox.mkdir(name)));
    // Never this machine's own systemd.
    sandbox.script("bin/systemctl", "exit 1");
    sandbox
}

fn doctor_with(sandbox: &Sandbox, config: &Path, arguments: &[&str]) -> Finished {
    let mut command = sandbox.command();
    command.env("PATH", format!("{}:{}", sandbox.path("bin").display(), integration_tests::sandbox::PATH));
    command.args(["doctor", "--config"]).arg(config).args(arguments);
    Finished::of(command)
}

fn doctor(sandbox: &Sandbox, body: &str) -> Finished {
    doctor_with(sandbox, &sandbox.config(body), &[])
}

/// A line, taken apart: the grade, the host, the check, and the rest.
fn taken_apart(line: &str) -> (&str, &str, &str, &str) {
    let (grade, rest) = line.split_at(6);
    let (place, rest) = rest.split_once("  ").unwrap_or_else(|| panic!("{line}"));
    let (check, text) = rest.split_once(": ").unwrap_or_else(|| panic!("{line}"));
    (grade.trim_end(), place, check, text)
}

/// There is a line with this grade about this check that has all these parts.
#[track_caller]
fn expect(finished: &Finished, grade: &str, check: &str, parts: &[&str]) {
    let mut lines = finished.stdout.lines().filter(|line| (grade, check) == (taken_apart(line).0, taken_apart(line).2));
    let found = lines.any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(found, "no {grade} of {check} with {parts:?} in:\n{}\n{}", finished.stdout, finished.stderr);
}

/// These checks fail, in this order, and no others.
#[track_caller]
fn expect_failures(finished: &Finished, checks: &[&str]) {
    let failed = finished.stdout.lines().map(taken_apart).filter(|line| line.0 == "fail");
    assert_eq!(failed.map(|line| line.2).collect::<Vec<_>>(), checks, "{}\n{}", finished.stdout, finished.stderr);
    finished.expect_code(i32::from(!checks.is_empty()));
}

/// Does what a line proposes: the first command in it between backticks that begins so.
#[track_caller]
fn do_what_is_proposed(sandbox: &Sandbox, finished: &Finished, begin: &str) {
    let mut commands = finished.stdout.split('`').skip(1).step_by(2);
    let command = commands.find(|command| command.starts_with(begin));
    let command = command.unwrap_or_else(|| panic!("no `{begin}…` in\n{}", finished.stdout));
    let done = Command::new("sh").args(["-c", command]).env("HOME", sandbox.path("home")).output().expect("sh runs");
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn all_well_is_said_line_by_line_and_nothing_is_left_behind() {
    let sandbox = prepared();
    let peer = Sshd::start(&sandbox, "peer");
    let before = ["src", "dst", "locks", "here"].map(|name| sandbox.tree(name));
    let finished = doctor(&sandbox, JOBS);
    finished.expect_code(0);
    for line in finished.stdout.lines() {
        let is_about_room = line.contains("  space: ") || line.contains("  rsync-security: ");
        assert!(line.starts_with("ok    ") || is_about_room, "{}", finished.stdout);
    }
    let place = format!("{}@127.0.0.1:{}", user(), peer.addr().port());
    for (check, text) in [
        ("connect", "it takes connections"),
        ("host-key", "it proves to be the host that is known"),
        ("login", "id_user SHA256:"),
        ("shell", "it executes what we ask for"),
        ("clock", "agrees with ours"),
        ("rsync", "rsync is rsync 3."),
        ("rsync-features", "it knows all"),
        ("source", "/dst/ can be read (job j, action pull)"),
        ("destination", "/dst can be written (job j, action push)"),
        ("lock", "/locks/j.lock can be made and removed (lock of job j)"),
        ("block", "/locks/b.lock can be looked at"),
    ] {
        let line = finished.stdout.lines().find(|line| line.starts_with(&format!("ok    {place}  {check}: ")));
        assert!(line.is_some_and(|line| line.contains(text)), "{check} of {place} in\n{}", finished.stdout);
    }
    for check in
        ["unit", "time-zone", "control-socket", "metrics-port", "pid-file", "state", "key", "known-hosts", "lock"]
    {
        expect(&finished, "ok", check, &["    here  "]);
    }
    assert_eq!(["src", "dst", "locks", "here"].map(|name| sandbox.tree(name)), before);
    assert!(!sandbox.exists("back"), "what a sync makes is not made");
}

/// A job that pushes to a peer.
fn push_to(peer: &str) -> String {
    format!(
        "- {{id: j, type: remote, {peer}, actions: [{{action: sync, id: push, source: @/src/, dest: @/dst, opts: ['-a']}}]}}\n"
    )
}

/// A look at a peer that cannot be reached.
#[track_caller]
fn unreachable(peer: &str, more: &str) -> (Sandbox, Finished) {
    let sandbox = prepared();
    sandbox.user_key();
    let finished = doctor(&sandbox, &format!("{more}jobs:\n{}", push_to(peer)));
    (sandbox, finished)
}

#[test]
fn a_name_without_an_address() {
    let (_, finished) = unreachable("user: u, host: no-such-host.invalid, private_ssh_key: @/id_user", "");
    expect_failures(&finished, &["resolve"]);
    let parts = ["u@no-such-host.invalid:22", "could not resolve host name", "`getent hosts no-such-host.invalid`"];
    expect(&finished, "fail", "resolve", &parts);
}

#[test]
fn a_port_that_refuses() {
    let port = Refusing::open();
    let (_, finished) = unreachable(&peer_at(port.addr(), "@/id_user"), "");
    expect_failures(&finished, &["connect"]);
    let proposed = format!("`nc -vz 127.0.0.1 {}`", port.addr().port());
    expect(&finished, "fail", "connect", &["Connection refused", &proposed]);
}

#[test]
fn a_host_that_drops_packets_delays_no_other() {
    let sandbox = prepared();
    let (hole, mute, peer) = (BlackHole::open(), Mute::open(), Sshd::start(&sandbox, "peer"));
    let key = sandbox.user_key().display().to_string();
    let others = [push_to(&peer_at(hole.addr(), &key)), push_to(&peer_at(mute.addr(), &key)).replace("id: j", "id: k")];
    let jobs = format!("connect_timeout: 8\n{JOBS}{}", others.concat().replace("id: j", "id: i"));
    let watch = Stopwatch::start();
    let finished = doctor(&sandbox, &jobs);
    let took = watch.elapsed();
    expect_failures(&finished, &["connect", "connect"]);
    expect(
        &finished,
        "fail",
        "connect",
        &[&hole.addr().port().to_string(), "took longer than 8s", "does a firewall let us"],
    );
    expect(&finished, "fail", "connect", &[&mute.addr().port().to_string(), "key exchange with", "does not speak SSH"]);
    expect(&finished, "ok", "lock", &[&peer.addr().port().to_string(), "can be made and removed"]);
    assert!(took < Duration::from_secs(16), "not one after the other: {took:?}");
}

#[test]
fn an_unknown_host_key_is_pinned_by_the_command_that_is_proposed() {
    let sandbox = prepared();
    let _peer = Sshd::start_unknown(&sandbox, "peer");
    let finished = doctor(&sandbox, JOBS);
    expect_failures(&finished, &["host-key"]);
    expect(&finished, "fail", "host-key", &["its key is not known as that of [127.0.0.1]:", "ssh-ed25519 SHA256:"]);
    do_what_is_proposed(&sandbox, &finished, "ssh-keyscan");
    expect_failures(&doctor(&sandbox, JOBS), &[]);
}

#[test]
fn a_changed_host_key_is_refused_and_the_old_one_removed_by_the_command_that_is_proposed() {
    let sandbox = prepared();
    let peer = Sshd::start_unknown(&sandbox, "peer");
    let other = sandbox.path("other_key");
    keys::generate(&other, "");
    let addr = peer.addr();
    sandbox.write("known_hosts", format!("[{}]:{} {}\n", addr.ip(), addr.port(), keys::public(&other)));
    let finished = doctor(&sandbox, JOBS);
    expect_failures(&finished, &["host-key"]);
    expect(
        &finished,
        "fail",
        "host-key",
        &["its key is another than that of", "/known_hosts:1", "only if the host was given"],
    );
    do_what_is_proposed(&sandbox, &finished, "ssh-keygen -R");
    expect(&doctor(&sandbox, JOBS), "fail", "host-key", &["its key is not known"]);
}

#[test]
fn a_key_that_the_peer_does_not_take() {
    let sandbox = prepared();
    let peer = Sshd::start(&sandbox, "peer");
    keys::generate(&sandbox.path("id_other"), "");
    let finished = doctor(&sandbox, &format!("jobs:\n{}", push_to(&peer_at(peer.addr(), "@/id_other"))));
    expect_failures(&finished, &["login"]);
    let proposed = format!(
        "`ssh-copy-id -i {} -p {} {}@127.0.0.1`",
        sandbox.path("id_other").display(),
        peer.addr().port(),
        user()
    );
    expect(&finished, "fail", "login", &["keys that it did not accept: ", "/id_other SHA256:", &proposed]);
    expect(&finished, "ok", "host-key", &["it proves to be"]);
}

#[test]
fn a_private_key_that_others_can_read_is_mended_by_what_is_proposed() {
    let sandbox = prepared();
    let _peer = Sshd::start(&sandbox, "peer");
    sandbox.chmod("id_user", 0o644);
    let finished = doctor(&sandbox, JOBS);
    expect_failures(&finished, &["key", "login"]);
    expect(&finished, "fail", "key", &["permissions 0644 of private key", "are too open"]);
    do_what_is_proposed(&sandbox, &finished, "chmod 600");
    expect_failures(&doctor(&sandbox, JOBS), &[]);
}

#[test]
fn a_private_key_that_is_not_there() {
    let (_, finished) = unreachable(&peer_at(Refusing::open().addr(), "/no/such/key"), "");
    expect_failures(&finished, &["key", "login"]);
    expect(
        &finished,
        "fail",
        "key",
        &["could not read private key /no/such/key", "`ssh-keygen -t ed25519 -N '' -f /no/such/key`"],
    );
}

#[test]
fn a_jump_that_forwards_nothing() {
    let sandbox = prepared();
    let (gate, peer) = (Sshd::start_with(&sandbox, "gate", "AllowTcpForwarding no"), Sshd::start(&sandbox, "peer"));
    let way = format!("<peer>, proxy_jump: '{}@{}'", user(), gate.addr());
    let finished = doctor(&sandbox, &format!("jobs:\n{}", push_to(&way)));
    expect_failures(&finished, &["connect", "connect"]);
    let (gate, peer) = (gate.addr().port().to_string(), peer.addr().port().to_string());
    expect(
        &finished,
        "fail",
        "connect",
        &[&gate, "does not open a connection", "its sshd forbids that", "sshd_config"],
    );
    expect(&finished, "fail", "connect", &[&peer, "it is not reached", "see "]);
}

#[test]
fn a_jump_that_takes_us_further_is_told_of_too() {
    let sandbox = prepared();
    let (gate, peer) = (Sshd::start(&sandbox, "gate"), Sshd::start(&sandbox, "peer"));
    let way = format!("<peer>, proxy_jump: '{}@{}'", user(), gate.addr());
    let finished = doctor(&sandbox, &format!("jobs:\n{}", push_to(&way)));
    expect_failures(&finished, &[]);
    let (gate, peer) = (gate.addr().port().to_string(), peer.addr().port().to_string());
    expect(&finished, "ok", "login", &[&gate, "it lets us in by"]);
    expect(&finished, "ok", "connect", &[&peer, "it is reached by way of", &gate]);
}

/// A peer that executes every command by way of this script, in which `"$@"` is the command.
fn peer_by(sandbox: &Sandbox, script: &str) -> Sshd {
    let forced = sandbox.script("forced", &format!("set -- sh -c \"$SSH_ORIGINAL_COMMAND\"\n{script}"));
    Sshd::start_with(sandbox, "peer", &format!("ForceCommand {}", forced.display()))
}

#[test]
fn a_peer_without_rsync() {
    let sandbox = prepared();
    for program in ["sh", "date", "df", "tail", "stat", "touch", "rm", "ln", "mkdir", "dd", "mv", "cat"] {
        let found = ["/usr/bin", "/bin"].map(|directory| Path::new(directory).join(program));
        let found = found.iter().find(|path| path.exists()).expect("coreutils");
        std::os::unix::fs::symlink(found, sandbox.mkdir("few").join(program)).expect("linked");
    }
    let _peer = peer_by(&sandbox, "PATH=@/few exec \"$@\"");
    let finished = doctor(&sandbox, JOBS);
    expect_failures(&finished, &["rsync"]);
    expect(&finished, "fail", "rsync", &["there is no rsync in the PATH", "`apt install rsync`"]);
}

#[test]
fn a_peer_with_an_old_rsync() {
    let sandbox = prepared();
    let said = "rsync  version 3.1.3  protocol version 31\nCapabilities:\n    64-bit files, hardlinks, no ACLs, no xattrs, iconv\n";
    sandbox.write("old/said", said);
    sandbox.script("old/rsync", "[ \"$1\" = --version ] && exec cat @/old/said\nexit 1");
    let _peer = peer_by(&sandbox, "PATH=@/old:$PATH exec \"$@\"");
    let finished = doctor(&sandbox, JOBS);
    expect_failures(&finished, &["rsync-features"]);
    expect(&finished, "ok", "rsync", &["/old/rsync is rsync 3.1.3"]);
    expect(
        &finished,
        "warn",
        "rsync-security",
        &["3.1.3 is older than 3.5.0, which fixes 33", "install 3.5.0 or newer"],
    );
    let missing = "--xattrs (it was built without extended attributes), which job j, action push asks for";
    expect(&finished, "fail", "rsync-features", &[missing, "leave the options out"]);
}

/// As another user, whom the directories of root let only look.
const AS_NOBODY: &str = "exec setpriv --reuid=65534 --regid=65534 --clear-groups \"$@\"";

#[test]
fn directories_that_the_user_there_cannot_write() {
    let sandbox = prepared();
    fs::set_permissions(sandbox.dir(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    let _peer = peer_by(&sandbox, AS_NOBODY);
    let finished = doctor(&sandbox, JOBS);
    expect_failures(&finished, &["destination", "lock"]);
    expect(&finished, "fail", "destination", &["/dst cannot be written", "give the user write access"]);
    let proposed = format!("give the user write access to {}", sandbox.path("locks").display());
    expect(&finished, "fail", "lock", &["job j cannot make its lock", "ermission denied", &proposed]);
}

#[test]
fn a_lock_directory_that_lacks_is_not_made_and_one_that_cannot_be_made_is_told() {
    let sandbox = prepared();
    let _peer = Sshd::start(&sandbox, "peer");
    let finished = doctor(
        &sandbox,
        &JOBS.replace("@/locks/j.lock", "@/new/er/j.lock").replace("@/here/j.lock", "/proc/no/j.lock"),
    );
    expect_failures(&finished, &["lock"]);
    expect(&finished, "fail", "lock", &["  here  ", "/proc/no/j.lock", "give the user write access to /proc"]);
    expect(&finished, "ok", "lock", &["/new/er/j.lock can be made, with its directory in "]);
    assert!(!sandbox.exists("new"));
}

#[test]
fn a_lock_whose_place_is_taken() {
    let sandbox = prepared();
    let _peer = Sshd::start(&sandbox, "peer");
    sandbox.mkdir("locks/j.lock");
    let finished = doctor(&sandbox, JOBS);
    expect_failures(&finished, &["lock"]);
    expect(&finished, "fail", "lock", &["/locks/j.lock is a directory, so job j cannot lock it", "move it away"]);
}

#[test]
fn a_destination_that_is_not_there_is_made_by_the_command_that_is_proposed() {
    let sandbox = prepared();
    let _peer = Sshd::start(&sandbox, "peer");
    let jobs = JOBS.replace("dest: @/dst", "dest: @/far/away/dst");
    let finished = doctor(&sandbox, &jobs);
    expect_failures(&finished, &["destination"]);
    expect(
        &finished,
        "fail",
        "destination",
        &["/far/away/dst is not there, into which job j, action push copies", "--mkpath"],
    );
    do_what_is_proposed(&sandbox, &finished, "mkdir -p");
    expect_failures(&doctor(&sandbox, &jobs), &[]);
}

#[test]
fn a_source_that_is_not_there() {
    let sandbox = prepared();
    let _peer = Sshd::start(&sandbox, "peer");
    let jobs = JOBS.replace("source: @/src/", "source: @/none*").replace("source: @/dst/", "source: @/nowhere/");
    let finished = doctor(&sandbox, &jobs);
    expect_failures(&finished, &["source", "source"]);
    expect(&finished, "fail", "source", &["  here  ", "nothing matches", "/none*, which job j, action push reads"]);
    expect(
        &finished,
        "fail",
        "source",
        &["/nowhere/ is not there, which job j, action pull reads", "mount or make it"],
    );
}

#[test]
fn a_full_disk() {
    let sandbox = prepared();
    let fill = "exec unshare --mount sh -c 'mount -t tmpfs -o size=64k none @/dst && dd if=/dev/zero of=@/dst/x bs=4k 2>/dev/null; exec \"$@\"' - \"$@\"";
    let _peer = peer_by(&sandbox, fill);
    let finished = doctor(&sandbox, JOBS);
    expect_failures(&finished, &["space"]);
    expect(
        &finished,
        "fail",
        "space",
        &["0 B of 65.5 kB are free at", "/dst, for job j, action push", "make room there"],
    );
}

#[test]
fn a_disk_without_inodes() {
    let sandbox = prepared();
    let fill = "exec unshare --mount sh -c 'mount -t tmpfs -o nr_inodes=3 none @/dst && touch @/dst/x @/dst/y; exec \"$@\"' - \"$@\"";
    let _peer = peer_by(&sandbox, fill);
    let finished = doctor(&sandbox, JOBS);
    expect_failures(&finished, &["space"]);
    expect(&finished, "fail", "space", &["no inode of 3 is free at", "with more inodes"]);
}

#[test]
fn a_clock_that_is_wrong() {
    let sandbox = prepared();
    let _peer = peer_by(&sandbox, "exec faketime -f +1h \"$@\"");
    let finished = doctor(&sandbox, JOBS);
    expect_failures(&finished, &[]);
    expect(
        &finished,
        "warn",
        "clock",
        &["its clock is at least ", " ahead of ours", "locks do not mind", "`timedatectl set-ntp true`"],
    );
}

#[test]
fn an_account_that_is_confined_to_sftp() {
    let sandbox = prepared();
    let _peer = Sshd::start_with(&sandbox, "peer", "Subsystem sftp internal-sftp\nForceCommand internal-sftp");
    let before = sandbox.tree("locks");
    let finished = doctor(&sandbox, JOBS);
    expect_failures(&finished, &["shell"]);
    expect(
        &finished,
        "fail",
        "shell",
        &["confined to SFTP", "so no rsync can be started there", "`rsyncdirector gate`"],
    );
    expect(&finished, "ok", "lock", &["/locks/j.lock can be made and removed"]);
    let locks = "jobs:\n- {id: j, type: local, lock_files: [{type: remote, <peer>, path: @/locks/j.lock}], actions: [{action: command, id: c, command: 'true'}]}\n";
    let finished = doctor(&sandbox, locks);
    expect_failures(&finished, &[]);
    expect(&finished, "ok", "shell", &["its lock files are reached by SFTP"]);
    assert_eq!(sandbox.tree("locks"), before);
}

#[test]
fn an_account_behind_a_forced_command_that_is_not_ours() {
    let sandbox = prepared();
    let _peer = peer_by(&sandbox, "echo 'only backups are allowed here' >&2; exit 3");
    let finished = doctor(&sandbox, &format!("jobs:\n{}", push_to("<peer>")));
    expect_failures(&finished, &["destination"]);
    expect(&finished, "warn", "shell", &["cannot tell", "\"only backups are allowed here\"", "ForceCommand"]);
    expect(
        &finished,
        "fail",
        "destination",
        &["a dry run of job j, action push fails at", "only backups are allowed here"],
    );
}

/// A peer whose key is behind the real gate, with this policy.
fn gated(sandbox: &Sandbox, policy: &str) -> Sshd {
    let policy = sandbox.write("policy.yaml", sandbox.expand(policy));
    let gate = format!("{} gate --policy {}", integration_tests::director::binary().display(), policy.display());
    Sshd::start_with(sandbox, "peer", &format!("ForceCommand {gate}"))
}

#[test]
fn behind_a_gate_a_dry_run_shows_what_is_let_through() {
    let sandbox = prepared();
    let peer = gated(&sandbox, "locks: [@/locks/*.lock]\nread: [@/dst]\nwrite: [@/dst]\n");
    let finished = doctor(&sandbox, JOBS);
    expect_failures(&finished, &[]);
    expect(&finished, "ok", "shell", &["a gate there executes only what its policy allows"]);
    expect(&finished, "ok", "lock", &[&peer.addr().port().to_string(), "the gate lets us look at ", "/locks/j.lock"]);
    expect(&finished, "ok", "block", &["/locks/b.lock can be looked at"]);
    expect(&finished, "ok", "rsync", &["an rsync answers, which speaks protocol"]);
    expect(&finished, "warn", "rsync-security", &["cannot tell", "3.5.0"]);
    expect(
        &finished,
        "ok",
        "destination",
        &["a dry run of job j, action push is let through to ", "writing was not tried"],
    );
    expect(&finished, "ok", "source", &["a dry run of job j, action pull is let through to "]);
}

#[test]
fn what_a_gate_refuses_is_a_failure_with_what_mends_it() {
    let sandbox = prepared();
    sandbox.mkdir("elsewhere");
    let _peer = gated(&sandbox, "locks: [@/locks/other.lock]\nread: [@/dst]\nwrite: [@/elsewhere]\n");
    let finished = doctor(&sandbox, JOBS);
    expect_failures(&finished, &["destination", "lock", "block"]);
    expect(&finished, "fail", "destination", &["gate: refused", "/dst", "let the policy of the gate there allow it"]);
    expect(&finished, "fail", "lock", &["gate: refused", "add the file to `locks` in the policy of the gate there"]);
    expect(&finished, "fail", "block", &["gate: refused", "so job j waits for ever"]);
    expect(&finished, "ok", "source", &["a dry run of job j, action pull is let through to "]);
}

#[test]
fn the_system_s_ssh_is_tried_where_it_is_used() {
    let sandbox = prepared();
    let _peer = Sshd::start(&sandbox, "peer");
    let jobs = format!("transport: openssh\n{JOBS}");
    let finished = doctor(&sandbox, &jobs);
    expect_failures(&finished, &[]);
    expect(&finished, "ok", "ssh", &["the system's ssh gets there"]);
    sandbox.script("bin/ssh", "echo 'Bad configuration option: frobnicate' >&2; exit 255");
    let finished = doctor(&sandbox, &jobs);
    expect_failures(&finished, &["ssh"]);
    expect(
        &finished,
        "fail",
        "ssh",
        &["does not get there: Bad configuration option: frobnicate", "`transport: native`"],
    );
}

#[test]
fn peers_are_chosen_by_name_and_told_to_programs() {
    let sandbox = prepared();
    let (peer, other) = (Sshd::start(&sandbox, "peer"), Sshd::start(&sandbox, "other"));
    let config = sandbox.config(&format!("{JOBS}{}", push_to("<other>").replace("id: j", "id: k")));
    let chosen = format!("{}@{}", user(), other.addr());
    let finished = doctor_with(&sandbox, &config, &[&chosen, "--json"]);
    finished.expect_code(0);
    let findings: Value = serde_json::from_str(&finished.stdout).expect("JSON");
    let findings = findings.as_array().expect("an array");
    assert!(findings.len() > 5 && findings.iter().all(|finding| finding["where"] == chosen.as_str()), "{findings:#?}");
    let login = findings.iter().find(|finding| finding["check"] == "login").expect("a login");
    assert_eq!((&login["result"], &login["fix"]), (&"ok".into(), &Value::Null));
    assert!(login["text"].as_str().is_some_and(|text| text.starts_with("it lets us in by ")));
    assert_eq!(peer.connections(), 0, "others are left alone");

    let finished = doctor_with(&sandbox, &config, &["elsewhere"]);
    finished.expect_code(2).expect_said("the configuration has no peer elsewhere; it has ");
    let finished = doctor_with(&sandbox, &sandbox.config_of("wrong", "jobs: []\nfoo: 1\n"), &[]);
    finished.expect_code(2).expect_said("unknown key");
}

/// A systemd that says so of a unit.
fn unit(sandbox: &Sandbox, properties: &str) {
    sandbox.write("properties", format!("LoadState=loaded\nActiveState=active\n{}\n", sandbox.expand(properties)));
    sandbox.script("bin/systemctl", "[ \"$1\" = show ] || exit 1\nfor last; do :; done\n[ \"$last\" = rsyncdirector@main.service ] || exit 1\ncat @/properties");
}

const HERE: &str = "jobs:
- {id: j, type: local, lock_files: [{type: local, path: @/here/j.lock}], actions: [
    {action: sync, id: copy, source: @/src/, dest: @/back, opts: ['-aH']}, {action: command, id: c, command: 'sudo true'}]}
";

#[test]
fn a_unit_that_hides_what_the_jobs_need() {
    let sandbox = prepared();
    sandbox.mkdir("src/shared");
    sandbox.chmod("src/shared", 0o2755);
    let all = "CapabilityBoundingSet=cap_chown cap_dac_override cap_dac_read_search cap_fowner cap_setfcap\n";
    unit(
        &sandbox,
        &format!(
            "{all}ProtectSystem=strict\nPrivateTmp=yes\nReadWritePaths=@/state\nRestrictSUIDSGID=yes\nNoNewPrivileges=yes"
        ),
    );
    let finished = doctor(&sandbox, HERE);
    expect(&finished, "ok", "unit", &["rsyncdirector@main.service runs this configuration as root"]);
    expect(
        &finished,
        "fail",
        "unit-paths",
        &["PrivateTmp=yes hides", "/src/, which job j, action copy reads", "PrivateTmp=no"],
    );
    expect(&finished, "fail", "unit-paths", &["no other sees its lock file, of job j", "/run/lock"]);
    let refused = format!("RestrictSUIDSGID=yes refuses the setgid directory {}", sandbox.path("src/shared").display());
    expect(&finished, "fail", "unit-rights", &[&refused, "RestrictSUIDSGID=no"]);
    expect(&finished, "warn", "unit-rights", &["CAP_MKNOD is missing, so -D of job j, action copy ends with 23"]);
    expect(&finished, "fail", "unit-rights", &["CAP_SETUID is missing, so `sudo` of job j, action c"]);
    finished.expect_code(1);
}

#[test]
fn this_host_is_looked_at_with_the_eyes_of_the_unit_s_user() {
    let sandbox = prepared();
    fs::set_permissions(sandbox.dir(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    sandbox.chmod("src", 0o700);
    let peer = Sshd::start(&sandbox, "peer");
    let none = "User=nobody\nGroup=nogroup\nCapabilityBoundingSet=\nAmbientCapabilities=";
    unit(&sandbox, none);
    let finished = doctor(&sandbox, JOBS);
    expect(&finished, "ok", "unit", &["runs this configuration as nobody"]);
    expect(&finished, "fail", "source", &["  here  ", "/src/ cannot be read, which job j, action push reads"]);
    expect(&finished, "fail", "destination", &["  here  ", "/back is not there and cannot be made"]);
    expect(&finished, "fail", "key", &["/id_user cannot be read by the unit's user", "`LoadCredential=`"]);
    expect(&finished, "fail", "lock", &["  here  ", "/here/j.lock, the lock of job j"]);
    expect(
        &finished,
        "warn",
        "unit-rights",
        &["runs as nobody: job j, action pull does not keep owners, devices, groups"],
    );
    expect(&finished, "ok", "login", &[&peer.addr().port().to_string()]);

    let search = "cap_dac_read_search";
    unit(
        &sandbox,
        &format!("User=nobody\nGroup=nogroup\nCapabilityBoundingSet={search}\nAmbientCapabilities={search}"),
    );
    let finished = doctor(&sandbox, JOBS);
    expect(&finished, "ok", "source", &["  here  ", "/src/ can be read"]);
    expect(&finished, "fail", "destination", &["  here  ", "/back is not there and cannot be made"]);
}

#[test]
fn a_unit_that_allows_all_is_said_to() {
    let sandbox = prepared();
    unit(&sandbox, "ProtectSystem=full\nUser=root");
    // Who asks has programs that the unit has not.
    sandbox.script("bin/rsync", "echo 'no rsync at all'");
    let finished = doctor(&sandbox, &HERE.replace("sudo true", "true"));
    expect_failures(&finished, &[]);
    expect(&finished, "ok", "rsync", &["  here  ", "/bin/rsync is rsync 3."]);
    for check in ["unit-paths", "unit-rights", "unit-network"] {
        expect(&finished, "ok", check, &["  here  "]);
    }
}

#[test]
fn a_port_that_another_program_has_and_that_of_the_running_instance() {
    let sandbox = prepared();
    let taken = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let port = taken.local_addr().expect("its address").port();
    let body = format!("metrics: {{addr: 127.0.0.1, port: {port}}}\n{}", HERE.replace("sudo true", "true"));
    let finished = doctor(&sandbox, &body);
    expect_failures(&finished, &["metrics-port"]);
    expect(&finished, "fail", "metrics-port", &["another program listens on 127.0.0.1:", "`ss -ltnp 'sport = :"]);
    drop(taken);
    let _running = sandbox.start(&sandbox.config(&body));
    let finished = doctor(&sandbox, &body);
    expect_failures(&finished, &[]);
    expect(&finished, "ok", "control-socket", &["the instance runs and listens on"]);
    expect(&finished, "ok", "metrics-port", &["in use, while this instance runs"]);
}
