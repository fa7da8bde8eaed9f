//! What jobs do when nothing is in their way: local, push, pull, several, mixed with commands.

use integration_tests::{Sandbox, Sshd};

/// One local job `copy` with one sync `files`.
pub const COPY: &str = "jobs:
- {id: copy, type: local, actions: [{action: sync, id: files, source: @/src/, dest: @/dst, opts: ['-a']}]}
";

/// Fails unless the two directories hold the same files.
#[track_caller]
pub fn assert_same(sandbox: &Sandbox, source: &str, dest: &str) {
    assert!(!sandbox.tree(source).is_empty(), "{source} is empty");
    assert_eq!(sandbox.tree(dest), sandbox.tree(source));
}

fn with_source() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.write("src/one", "1");
    sandbox.write("src/deep/er/two", "22");
    sandbox
}

#[test]
fn a_local_sync_copies_a_tree() {
    let sandbox = with_source();
    sandbox.once(&sandbox.config(COPY)).expect_code(0);
    assert_same(&sandbox, "src", "dst");
}

#[test]
fn a_remote_sync_without_blocks_copies_a_tree() {
    let sandbox = with_source();
    let _peer = Sshd::start(&sandbox, "peer");
    let config = sandbox.config(
        "jobs:
- {id: copy, type: remote, <peer>, actions: [
    {action: sync, id: files, source: @/src/, dest: @/dst, opts: ['-a']}]}
",
    );
    sandbox.once(&config).expect_code(0);
    assert_same(&sandbox, "src", "dst");
}

#[test]
fn a_file_written_for_the_old_program_works_unchanged() {
    let sandbox = with_source();
    let peer = Sshd::start(&sandbox, "peer");
    let user = integration_tests::sandbox::user();
    sandbox.write("home/.ssh/known_hosts", peer.known_hosts_line());
    let text = format!(
        r#"---
rsync_id: laptop
cron_schedule: "0 3 * * *"
pid_file_dir: @/run
metrics:
  addr: 127.0.0.1
  port: "0"
  startup_timeout_seconds: 5
  startup_retry_wait_seconds: 1
  startup_retry_limit: 3
jobs:
  - id: backup
    type: remote
    user: {user}
    host: 127.0.0.1
    port: "{port}"
    private_ssh_key: @/id_user
    lock_files:
      - type: local
        path: @/locks/here.lock
      - type: remote
        user: {user}
        host: 127.0.0.1
        port: {port}
        private_key_path: @/id_user
        path: @/locks/there.lock
    blocks_on:
      - type: local
        path: @/block
        wait_time: 1
        timeout: 10
    actions:
      - action: command
        id: before
        command: ls @/locks > @/seen
      - action: sync
        id: files
        source: @/src/
        dest: @/dst
        opts:
          - "-av"
          - "--delete"
          - "--exclude '.cache'"
"#,
        port = peer.addr().port()
    );
    sandbox.once(&sandbox.write("old.yaml", sandbox.expand(&text))).expect_code(0);

    assert_same(&sandbox, "src", "dst");
    assert_eq!(sandbox.lines("seen"), ["here.lock", "there.lock"]);
    assert!(sandbox.tree("locks").is_empty(), "the locks are given back");
}

#[test]
fn a_pull_reads_there_and_writes_here() {
    let sandbox = with_source();
    let _peer = Sshd::start(&sandbox, "peer");
    let config = sandbox.config(
        "jobs:
- {id: fetch, type: remote, <peer>, actions: [
    {action: sync, id: files, direction: pull, source: @/src/, dest: @/dst, opts: ['-a']}]}
",
    );
    let finished = sandbox.once(&config);
    finished.expect_code(0);
    assert_same(&sandbox, "src", "dst");
}

#[test]
fn several_sources_arrive_below_one_destination() {
    let sandbox = with_source();
    sandbox.write("more/three", "333");
    let config = sandbox.config(
        "jobs:
- {id: copy, type: local, actions: [
    {action: sync, id: files, source: [@/src, @/more], dest: @/dst, opts: ['-a']}]}
",
    );
    sandbox.once(&config).expect_code(0);
    assert_same(&sandbox, "src", "dst/src");
    assert_same(&sandbox, "more", "dst/more");
}

#[test]
fn several_jobs_run_in_the_order_of_the_file() {
    let sandbox = Sandbox::new();
    let config = sandbox.config(
        "jobs:
- {id: zebra, type: local, actions: [{action: command, id: c, command: 'sleep 0.2; echo zebra >> @/order'}]}
- {id: ant, type: local, actions: [{action: command, id: c, command: 'echo ant >> @/order'}]}
- {id: mole, type: local, actions: [{action: command, id: c, command: 'echo mole >> @/order'}]}
",
    );
    let director = sandbox.start(&config);
    director.run_now(1);
    director.run_now(2);
    assert_eq!(sandbox.lines("order"), ["zebra", "ant", "mole", "zebra", "ant", "mole"]);
}

#[test]
fn syncs_and_commands_interleave_in_the_order_of_the_file() {
    let sandbox = with_source();
    let _peer = Sshd::start(&sandbox, "peer");
    let config = sandbox.config(
        "jobs:
- {id: mixed, type: remote, <peer>, actions: [
    {action: command, id: before, command: 'ls @/dst > @/before 2>&1; echo early > @/src/early'},
    {action: sync, id: first, source: @/src/, dest: @/dst, opts: ['-a']},
    {action: command, id: between, command: /bin/cp, args: ['@/dst/early', '@/src/late file']},
    {action: sync, id: second, source: @/src/, dest: @/dst, opts: ['-a']},
    {action: command, id: after, command: 'ls @/dst > @/after'}]}
",
    );
    sandbox.once(&config).expect_code(0);
    assert!(sandbox.read("before").contains("No such file"), "nothing is copied before the first sync");
    assert_eq!(sandbox.lines("after"), ["deep", "early", "late file", "one"]);
}

#[test]
fn a_command_with_arguments_is_executed_without_a_shell() {
    let sandbox = Sandbox::new();
    sandbox.script("show", "printf '<%s>' \"$@\" > @/shown");
    let config = sandbox.config(
        "jobs:
- {id: c, type: local, actions: [
    {action: command, id: c, command: @/show, args: ['$HOME; ls', \"it's\", '', '*', -n]}]}
",
    );
    sandbox.once(&config).expect_code(0);
    assert_eq!(sandbox.read("shown"), "<$HOME; ls><it's><><*><-n>");
}

#[test]
fn deleting_options_reach_rsync() {
    let sandbox = with_source();
    sandbox.write("dst/obsolete", "x");
    let config = sandbox.config(&COPY.replace("['-a']", "['-a --delete']"));
    sandbox.once(&config).expect_code(0);
    assert_same(&sandbox, "src", "dst");
}
