use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;

use super::super::record::tests::{note, record};
use super::super::remote::{parse, script};
use super::super::{Answer, Op, perform_here};
use super::*;

const HOME: &str = "/home/ann";

fn take(path: &str, token: &str, replaces: Option<&str>) -> Op {
    Op::Take { path: path.into(), record: record(token), replaces: replaces.map(record) }
}

fn every_op(directory: &str) -> Vec<Op> {
    let path = |name: &str| PathBuf::from(format!("{directory}/{name}"));
    vec![
        Op::Look { path: path("a b'c\n$(id)`;") },
        take(&format!("{directory}/x.lock"), "t1", None),
        take(&format!("{directory}/x.lock"), "t2", Some("t1")),
        Op::Refresh { path: path("x.lock"), record: record("t1") },
        Op::Remove { path: path("x.lock"), record: record("t1") },
        Op::Break { path: path("y"), seen: Some(record("t3")), age: Duration::from_secs(5), note: note(Some("it's")) },
        Op::Break { path: path("z"), seen: None, age: Duration::from_secs(7), note: note(None) },
    ]
}

fn read(bytes: &[u8]) -> Result<Option<Request>, NotUnderstood> {
    let mut requests = Requests::default();
    requests.push(bytes);
    requests.next(Path::new(HOME))
}

/// What follows the functions of a script.
fn tail(script: &[u8]) -> &[u8] {
    &script[memchr::memmem::find(script, VERSION.as_bytes()).expect("a version")..]
}

#[test]
fn what_a_director_writes_is_read_back_byte_for_byte() {
    let ops = every_op("/run/lock");
    let written = script(&ops, "n0nce");
    let request = read(written.as_bytes()).expect("understood").expect("complete");
    assert_eq!(request.ops.len(), ops.len());
    let again = script(&request.ops, "n0nce");
    assert_eq!(String::from_utf8_lossy(again.as_bytes()), String::from_utf8_lossy(written.as_bytes()));
}

#[test]
fn batches_come_in_any_pieces_one_after_the_other() {
    let (first, second) = (script(&every_op("/a"), "n1"), script(&[Op::Look { path: "/b".into() }], "n2"));
    let bytes = [first.as_bytes(), second.as_bytes()].concat();
    let mut requests = Requests::default();
    let mut nonces = Vec::new();
    for byte in bytes {
        requests.push(&[byte]);
        while let Some(request) = requests.next(Path::new(HOME)).expect("understood") {
            nonces.push((request.nonce.clone(), request.ops.len()));
        }
    }
    assert_eq!(nonces, [("n1".to_owned(), 7), ("n2".to_owned(), 1)]);
    assert!(requests.is_empty());
}

#[test]
fn the_home_of_the_account_is_meant_by_its_sign() {
    let request = read(script(&[Op::Look { path: "~/a".into() }], "n").as_bytes()).expect("understood").expect("all");
    assert!(matches!(&request.ops[0], Op::Look { path } if path == Path::new("/home/ann/a")), "{request:?}");
}

fn check_refused(from: &str, to: &str, expected: &str) {
    let written = script(&every_op("/run/lock"), "n0nce");
    let text = String::from_utf8(written.as_bytes().to_vec()).expect("text");
    let at = text.rfind(VERSION).expect("a version");
    let changed = format!("{}{}", &text[..at], text[at..].replacen(from, to, 1));
    assert_ne!(text, changed, "{from}");
    let error = read(changed.as_bytes()).expect_err(to).to_string();
    assert!(error.contains(expected), "{to}: {error}");
}

#[test]
fn whatever_else_a_shell_would_execute_is_not_understood() {
    check_refused("v=1", "v=2", "another version");
    check_refused("n=n0nce", "n=$(id)", "nonce");
    check_refused("look", "look; id", "something else");
    check_refused("|| look", "|| rm", "verb");
    check_refused("look '/", "look '~/", "a home in quotes");
    check_refused("take '", "take \"$(id)\"'", "something else");
    check_refused("'t1'", "'../../t1'", "a token");
    check_refused("'t1'", "'t9'", "contradicts");
    check_refused("cur=0\n", "id\ncur=0\n", "cur=0");
    check_refused("rm -f \"$@\"", "rm -rf /", "cur=7");
    check_refused("'60'", "'060'", "a number");
    check_refused("/.x.lock.t1", "/.x.lock.t2", "temporary");
    check_refused("'60'", "'6e9'", "a number");
}

#[test]
fn a_session_that_never_says_what_it_wants_is_ended() {
    assert!(read(&vec![b'\n'; LARGEST + 1]).is_err());
    assert!(read(b"id\ncat /etc/shadow\n").expect("not yet").is_none());
}

/// The answers of a real shell to a batch.
fn by_shell(ops: &[Op]) -> Vec<Answer> {
    let mut child = Command::new("/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("a shell");
    let mut stdin = child.stdin.take().expect("piped");
    std::io::Write::write_all(&mut stdin, script(ops, "n").as_bytes()).expect("written");
    drop(stdin);
    let output = child.wait_with_output().expect("ended");
    parse(ops, "n", &output.stdout).expect("answers")
}

fn by_server(ops: &[Op]) -> Vec<Answer> {
    let request = read(script(ops, "n").as_bytes()).expect("understood").expect("complete");
    parse(ops, "n", &request.reply(&perform_here(&request.ops))).expect("answers")
}

/// Without what depends on how fast the test is.
fn ageless(answer: Answer) -> Answer {
    match answer {
        Answer::Found(Found::File { content, .. }) => Answer::Found(Found::File { content, age: Duration::ZERO }),
        answer => answer,
    }
}

#[test]
fn the_answers_are_those_of_the_shell() {
    let story = |directory: &Path| {
        std::fs::write(directory.join("foreign"), "4711\n").expect("written");
        std::fs::create_dir(directory.join("directory")).expect("made");
        std::os::unix::fs::symlink("nowhere", directory.join("link")).expect("linked");
        let path = |name: &str| directory.join(name);
        let look = |name: &str| Op::Look { path: path(name) };
        let lock = path("deep/er/x.lock");
        let taken = |token: &str| Op::Take { path: lock.clone(), record: record(token), replaces: None };
        vec![
            vec![look("absent"), look("foreign"), look("directory"), look("link"), look("foreign/below")],
            vec![taken("t1"), look("foreign")],
            vec![taken("t2"), look("foreign")],
            vec![Op::Refresh { path: lock.clone(), record: record("t1") }],
            vec![Op::Refresh { path: lock.clone(), record: record("t2") }],
            vec![Op::Break {
                path: lock.clone(),
                seen: Some(record("t1")),
                age: Duration::ZERO,
                note: note(Some("t1")),
            }],
            vec![Op::Remove { path: lock.clone(), record: record("t1") }, look("deep/er/x.lock")],
            vec![Op::Break { path: path("foreign"), seen: None, age: Duration::ZERO, note: note(None) }],
            vec![look("foreign")],
        ]
    };
    let mut told = Vec::new();
    for perform in [by_shell, by_server] {
        let directory = tempfile::tempdir().expect("a directory");
        let batches = story(directory.path());
        let answers: Vec<Vec<_>> = batches.iter().map(|ops| perform(ops).into_iter().map(ageless).collect()).collect();
        let left = std::fs::read_dir(directory.path().join("deep/er")).expect("made").count();
        told.push(format!("{answers:#?} {left}").replace(&*directory.path().to_string_lossy(), "DIR"));
    }
    assert!(told[0].contains("Taken") && told[0].contains("broken by ann"), "{}", told[0]);
    assert_eq!(told[0], told[1]);
}

/// Records and notes may have more fields, by a later version.
fn without_json(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let cut = |line: &str| match (line.find("'{"), line.rfind("}'")) {
        (Some(from), Some(to)) => format!("{}{}", &line[..from], &line[to..]),
        _ => line.to_owned(),
    };
    text.split('\n').map(cut).collect::<Vec<_>>().join("\n")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    /// One way to say a thing: what is accepted is what a director would write for it, so nothing is smuggled along.
    #[test]
    fn only_what_a_director_writes_is_accepted(at in any::<prop::sample::Index>(), length in 0..12_usize, put in ".{0,6}") {
        let written = script(&every_op("/run/lock"), "n0nce");
        let mut bytes = tail(written.as_bytes()).to_vec();
        let at = at.index(bytes.len());
        let end = bytes.len().min(at + length);
        bytes.splice(at..end, put.bytes());
        let mut requests = Requests::default();
        requests.push(&bytes);
        if let Ok(Some(request)) = requests.next(Path::new(HOME)) {
            let used = bytes.len() - requests.bytes.len();
            let again = script(&request.ops, &request.nonce);
            let skipped = memchr::memmem::find(&bytes, VERSION.as_bytes()).expect("a version");
            prop_assert_eq!(without_json(tail(again.as_bytes())), without_json(&bytes[skipped..used]));
        }
    }
}
