use std::io;
use std::sync::Arc;

use super::*;
use crate::config::Reach;
use crate::ssh::Cause;

fn peer(host: &str, jumps: Vec<Peer>) -> Peer {
    let reach = Arc::new(Reach { jumps, ..Reach::default() });
    Peer { user: "u".into(), host: host.into(), port: 22, private_key: Some("/k".into()), reach }
}

fn because(text: &str) -> Cause {
    Arc::new(io::Error::other(text.to_owned()))
}

#[track_caller]
fn check(findings: &[Finding], expected: &[&str]) {
    let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.starts_with(expected), "{lines:#?} lacks {expected}");
    }
}

#[test]
fn what_went_well_is_told_of_each_host_on_the_way() {
    check(
        &arrived(&peer("far", vec![peer("near", Vec::new())]), &["key a".into(), "key b".into()]),
        &[
            "ok    u@near:22  resolve: near has an address",
            "ok    u@near:22  connect: it takes connections",
            "ok    u@near:22  host-key: it proves",
            "ok    u@near:22  login: it lets us in by key a",
            "ok    u@far:22  connect: it is reached by way of u@near:22",
            "ok    u@far:22  host-key: it proves",
            "ok    u@far:22  login: it lets us in by key b",
        ],
    );
}

#[test]
fn a_failure_ends_the_list_with_what_mends_it() {
    let h = peer("h", Vec::new());
    let of = |error| failed(&h, &error);
    check(
        &of(SshError::Resolve { host: "h".into(), source: because("no such name") }),
        &["fail  u@h:22  resolve: could not resolve host name h: no such name; mend `host`"],
    );
    check(
        &of(SshError::Connect { peer: "u@h:22".into(), tried: "10.0.0.1:22".into(), source: because("refused") }),
        &[
            "ok    u@h:22  resolve",
            "fail  u@h:22  connect: could not connect to u@h:22 (10.0.0.1:22): refused; is the host on",
        ],
    );
    let timeout = |doing| SshError::Timeout { peer: "u@h:22".into(), doing, limit: std::time::Duration::from_secs(9) };
    check(&of(timeout("connecting to")), &["ok ", "fail  u@h:22  connect: connecting to u@h:22 took longer than 9s"]);
    check(&of(timeout("login to")), &["ok ", "ok ", "ok    u@h:22  host-key", "fail  u@h:22  login: login to"]);
    check(
        &of(SshError::Auth { peer: "u@h:22".into(), tried: "keys that it did not accept: /k".into() }),
        &[
            "ok ",
            "ok ",
            "ok ",
            "fail  u@h:22  login: u@h:22 refused the login; keys that it did not accept: /k; add the public key",
        ],
    );
    // Nothing else was tried.
    check(
        &of(SshError::Key(KeyError::TooOpen { file: "/k".into(), mode: 0o644 })),
        &["fail  u@h:22  login: permissions 0644 of private key /k are too open; `chmod 600 /k`"],
    );
    let revoked = HostKeyError::Revoked {
        host: "h".into(),
        algorithm: "a".into(),
        fingerprint: "f".into(),
        file: "/kh".into(),
        line: 3,
    };
    check(
        &of(SshError::HostKey(Box::new(revoked))),
        &["ok ", "ok ", "fail  u@h:22  host-key: host key of h is revoked: /kh:3"],
    );
}

#[test]
fn what_fails_at_a_host_on_the_way_is_told_of_that_host() {
    let near = SshError::Auth { peer: "u@near:22".into(), tried: "no key".into() };
    let error = SshError::Jump {
        peer: "u@far:22".into(),
        hop: "u@near:22".into(),
        reason: near.reason(),
        source: Arc::new(near),
    };
    check(
        &failed(&peer("far", vec![peer("near", Vec::new())]), &error),
        &[
            "ok    u@near:22  resolve",
            "ok ",
            "ok ",
            "fail  u@near:22  login: u@near:22 refused",
            "fail  u@far:22  connect: it is not reached",
        ],
    );
}
