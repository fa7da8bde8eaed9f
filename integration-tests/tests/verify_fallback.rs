//! Verifications of replicas on peers that have no agent.

use std::fs;

use integration_tests::{Finished, Sandbox, Sshd};

/// A push and a pull, each with a verification behind it.
fn jobs(transport: &str, agent: &str) -> String {
    let job = |id: &str, of: &str, sync: &str| {
        let verify = format!("{{action: verify, id: v, of: {of}, level: deep, agent: {agent}}}");
        format!("- {{id: {id}, type: remote, <peer>, actions: [{{action: sync, id: {of}, {sync}}}, {verify}]}}\n")
    };
    let push = job("push", "out", "source: ['@/src/sub', '@/src/a'], dest: '@/dst', opts: ['-aHX --delete']");
    let pull = job("pull", "in", "direction: pull, source: '@/src/', dest: '@/back', opts: ['-a --delete']");
    format!("transport: {transport}\njobs:\n{push}{pull}")
}

fn with_source() -> (Sandbox, Sshd) {
    let sandbox = Sandbox::new();
    let peer = Sshd::start(&sandbox, "peer");
    for name in ["src/a", "src/sub/b", "src/sub/deep/with space and 'quote'"] {
        sandbox.write(name, name);
    }
    (sandbox, peer)
}

/// Both jobs, run once.
fn run(sandbox: &Sandbox, transport: &str) -> Finished {
    sandbox.once(&sandbox.config(&jobs(transport, "none")))
}

#[test]
fn replicas_are_in_step_over_either_transport() {
    for transport in ["native", "openssh"] {
        let (sandbox, _peer) = with_source();
        let finished = run(&sandbox, transport);
        finished.expect_code(0).expect_said("100 % of 5 entries in step").expect_said("100 % of 6 entries in step");
        assert!(!finished.stderr.contains("note: "), "{}", finished.stderr);
    }
}

#[test]
fn a_rate_that_rsync_does_not_keep_to_is_told() {
    let (sandbox, _peer) = with_source();
    let finished = sandbox.once(&sandbox.config(&jobs("native", "none, rate: 50M")));
    finished.expect_code(0).expect_said("note: `rate` did not hold");
}

#[test]
fn content_that_differs_is_named_over_either_transport() {
    for transport in ["native", "openssh"] {
        let (sandbox, _peer) = with_source();
        run(&sandbox, transport).expect_code(0);
        for replica in ["dst/sub/b", "back/sub/b"] {
            let path = sandbox.path(replica);
            let before = fs::metadata(&path).and_then(|about| about.modified()).expect("there");
            fs::write(&path, "SRC/sub/b").expect("written");
            let file = fs::File::options().write(true).open(&path).expect("opened");
            file.set_modified(before).expect("set");
        }
        // The syncs do not see it: length and time are the same.
        let finished = run(&sandbox, transport);
        finished.expect_code(1).expect_said("content: sub/b").expect_said("1 of other content");
    }
}

#[test]
fn an_agent_that_is_not_there_is_done_without() {
    for transport in ["native", "openssh"] {
        let (sandbox, _peer) = with_source();
        let finished = sandbox.once(&sandbox.config(&jobs(transport, "/nonexistent/agent")));
        finished.expect_code(0).expect_said("100 % of 5 entries in step").expect_said("100 % of 6 entries in step");
    }
}
