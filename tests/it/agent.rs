//! The agent as a process of its own, and its client: what reaches the peer is a line of shell here.

use std::ffi::OsString;
use std::fs;
use std::io::{Read as _, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use rsyncdirector::agent::proto::message::{Failed, Request};
use rsyncdirector::agent::proto::pack::Packer;
use rsyncdirector::agent::proto::{self, Kind, Preface};
use rsyncdirector::agent::{Agent, ConnectError};
use rsyncdirector::rsync::filter::{Filters, Side as End};
use rsyncdirector::scan::{Attributes, Entry, Kind as What};
use rsyncdirector::verify::here::Here;
use rsyncdirector::verify::order::Elsewhere;
use rsyncdirector::verify::side::{Read, Scan, Side, SideError, State, Wanted};

const PROGRAM: &str = env!("CARGO_BIN_EXE_rsyncdirector");
/// Nothing here takes that long.
const DEADLINE: Duration = Duration::from_secs(30);

/// A peer that is reached by this line of shell; AGENT in it is the program as an agent.
fn peer(line: &str) -> Elsewhere {
    let line = line.replace("AGENT", &format!("'{PROGRAM}' agent"));
    let rsh = ["sh", "-c", &line, "sh"].map(OsString::from).to_vec();
    Elsewhere { host: "nas".into(), user: "ann".into(), is_source: false, rsh, tickets: Vec::new() }
}

fn agent() -> Agent {
    Agent::connect(&peer("exec AGENT"), "rsyncdirector").expect("an agent")
}

fn scan_of(root: &Path) -> Scan {
    Scan {
        root: root.as_os_str().as_bytes().to_owned(),
        only: Vec::new(),
        filters: Filters::default(),
        end: End::Receiver,
        one_file_system: false,
        meta: true,
        attributes: Attributes { acls: true, others: true, user_only: false },
    }
}

/// A tree with all that is odd, and `files` files that are not.
fn tree(files: usize) -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &[u8]| directory.path().join(OsString::from_vec(name.to_vec()));
    fs::create_dir_all(path(b"deep/er/still")).expect("made");
    for name in [&b"new\nline"[..], b"latin\xfc", "\u{1f980}".as_bytes(), b" ", b"deep/er/x"] {
        fs::write(path(name), name).expect("written");
    }
    fs::hard_link(path(b" "), path(b"deep/same")).expect("linked");
    symlink(OsString::from_vec(b"no\xffwhere".to_vec()), path(b"link")).expect("linked");
    for n in 0..files {
        fs::write(path(format!("deep/er/still/{n:05}").as_bytes()), vec![b'x'; n % 977]).expect("written");
    }
    directory
}

fn all(side: &mut dyn Side, scan: &Scan) -> Vec<Entry> {
    side.scan(scan).expect("a scan").collect::<Result<_, _>>().expect("no error")
}

fn wanted(entries: &[Entry]) -> Vec<Wanted> {
    let files = entries.iter().filter(|entry| entry.kind == What::File);
    files.map(|entry| Wanted { path: entry.path.clone(), state: State::of(entry) }).collect()
}

fn hashed(side: &mut dyn Side, scan: &Scan, wanted: &[Wanted]) -> Vec<(Vec<u8>, Read)> {
    let mut told = Vec::new();
    let mut tell = |wanted: Wanted, read| {
        told.push((wanted.path, read));
        Ok(())
    };
    side.hash(scan, &mut wanted.iter().cloned(), None, &mut tell).expect("read");
    told
}

#[test]
fn it_tells_a_tree_as_this_host_does() {
    let tree = tree(1000);
    let scan = scan_of(tree.path());
    let (mut here, mut there) = (Here::default(), agent());
    let entries = all(&mut here, &scan);
    assert!(entries.len() > 1000 && entries.iter().any(|entry| entry.path == b"latin\xfc"));
    assert_eq!(all(&mut there, &scan), entries);
    let only = Scan { only: vec![b"deep".to_vec(), b"link".to_vec()], meta: false, ..scan.clone() };
    assert_eq!(all(&mut there, &only), all(&mut here, &only), "one scan after the other");
    let mut paths: Vec<_> = entries.iter().map(|entry| entry.path.clone()).collect();
    paths.extend([b"none".to_vec(), b"link/x".to_vec(), b"deep/er/none/x".to_vec()]);
    let looked = there.look(&scan, &paths).expect("looked");
    assert_eq!(looked, here.look(&scan, &paths).expect("looked"));
    assert!(looked[..entries.len()].iter().all(Option::is_some) && looked[entries.len()..].iter().all(Option::is_none));
    let mut files = wanted(&entries);
    files[7].state.size += 1;
    let read = hashed(&mut there, &scan, &files);
    assert_eq!(read, hashed(&mut here, &scan, &files));
    assert!(read[7].1 == Read::Changed && matches!(read[8].1, Read::Digest(_)));
    assert!(there.look(&scan, &[]).expect("looked").is_empty() && hashed(&mut there, &scan, &[]).is_empty());
    let none = scan_of(&tree.path().join("none"));
    assert!(all(&mut there, &none).is_empty(), "a root that is not there has no entries");
}

#[test]
fn it_says_who_it_is_and_where() {
    let tree = tree(0);
    let mut agent = agent();
    let about = agent.about();
    assert_eq!((about.version.as_str(), about.user), (rsyncdirector::VERSION, rustix::process::geteuid().as_raw()));
    assert!(about.clock_offset.expect("known").abs() < 5.0 && about.users.contains(&("root".into(), 0)), "{about:?}");
    let volume = agent.volume(tree.path().as_os_str().as_bytes()).expect("looked at");
    assert!(volume.size >= volume.free && volume.granularity >= 1, "{volume:?}");
    assert_eq!(volume.is_case_sensitive, Some(true), "of the machines that tests run on");
    let told = agent.volume(b"/nowhere/at/all").expect_err("not there").to_string();
    assert!(told.starts_with("nas: could not look at /nowhere/at/all"), "{told}");
    assert_eq!(agent.volume(b"/").map(|_| ()).ok(), Some(()), "and goes on");
}

#[test]
fn more_files_than_may_be_under_way_are_read_in_their_order() {
    let tree = tree(200);
    let scan = scan_of(tree.path());
    let mut agent = agent();
    let files = wanted(&all(&mut agent, &scan));
    let many: Vec<Wanted> = files.iter().cycle().take(20_000).cloned().collect();
    let read = hashed(&mut agent, &scan, &many);
    assert!(read.iter().map(|(path, _)| path).eq(many.iter().map(|wanted| &wanted.path)));
    assert!(read.iter().all(|(_, read)| matches!(read, Read::Digest(_))));
}

#[test]
fn who_has_enough_of_a_scan_may_ask_for_something_else() {
    let tree = tree(3000);
    let scan = scan_of(tree.path());
    let mut agent = agent();
    let whole = all(&mut agent, &scan).len();
    for taken in [0, 1, 2500] {
        assert_eq!(agent.scan(&scan).expect("a scan").take(taken).count(), taken);
    }
    assert_eq!(all(&mut agent, &scan).len(), whole);
}

#[test]
fn who_wants_no_more_digests_gets_its_own_error() {
    let tree = tree(2000);
    let scan = scan_of(tree.path());
    let mut agent = agent();
    let files = wanted(&all(&mut agent, &scan));
    let enough = || SideError::Peer { who: "me".into(), what: "enough".into() };
    let mut left = 10;
    let mut tell = |_, _| {
        left -= 1;
        if left == 0 { Err(enough()) } else { Ok(()) }
    };
    let error = agent.hash(&scan, &mut files.into_iter(), None, &mut tell).expect_err("ours");
    assert_eq!(error.to_string(), "me: enough");
    assert_eq!(agent.scan(&scan).err().expect("no more").to_string(), "nas: what it was to read was given up");
}

#[test]
fn what_an_agent_cannot_do_is_an_error_and_not_its_end() {
    let tree = tree(10);
    let mut agent = agent();
    let file = scan_of(&tree.path().join(" "));
    let error = all_of(agent.scan(&file)).expect_err("no directory").to_string();
    assert!(error.starts_with("nas: could not read ") && error.contains("Not a directory"), "{error}");
    let scan = scan_of(tree.path());
    for path in ["../x", "/etc/passwd", "a/../../b", "a//b"] {
        let error = agent.look(&scan, &[path.into()]).expect_err("refused").to_string();
        assert!(error.contains("a path that leads out"), "{error}");
        let wanted = Wanted { path: path.into(), state: State::default() };
        let error =
            agent.hash(&scan, &mut [wanted].into_iter(), None, &mut |_, _| Ok(())).expect_err("refused").to_string();
        assert!(error.contains("a path that leads out"), "{error}");
    }
    let error = all_of(agent.scan(&Scan { only: vec![b"../x".to_vec()], ..scan.clone() })).expect_err("refused");
    assert!(error.to_string().contains("names that are none"), "{error}");
    assert_eq!(all(&mut agent, &scan).len(), all(&mut Here::default(), &scan).len());
}

fn all_of(entries: Result<rsyncdirector::verify::side::Entries<'_>, SideError>) -> Result<Vec<Entry>, SideError> {
    entries?.collect()
}

/// What comes of connecting to a peer that is reached by this line.
#[track_caller]
fn check(line: &str, expected: fn(&ConnectError) -> bool, words: &str) {
    let error = Agent::connect(&peer(line), "rsyncdirector").err().expect("no agent");
    let told = rsyncdirector::error_chain(&error);
    assert!(expected(&error) && told.contains(words), "{line}: {error:?}: {told}");
}

#[test]
fn who_is_not_an_agent_is_told_from_who_is_not_reached() {
    let no_agent = |error: &ConnectError| matches!(error, ConnectError::NoAgent { .. });
    let no_connection = |error: &ConnectError| matches!(error, ConnectError::NoConnection { .. });
    let noise = |error: &ConnectError| matches!(error, ConnectError::Stranger { .. });
    check(
        "echo 'bash: line 1: rsyncdirector: command not found' >&2; exit 127",
        no_agent,
        "nas has no agent: bash: line 1",
    );
    check("echo 'rsyncdirector: Command not found.' >&2; exit 1", no_agent, "Command not found.");
    check("echo 'rsyncdirector: gate: refused: no' >&2; exit 126", no_agent, "gate: refused: no");
    check("echo \"error: unrecognized subcommand 'agent'\" >&2; exit 2", no_agent, "unrecognized");
    check("exit 126", no_agent, "nas has no agent");
    check("true", no_agent, "nas has no agent");
    check(
        "echo 'ssh: connect to host nas port 22: Connection refused' >&2; exit 255",
        no_connection,
        "to nas: ssh: connect to",
    );
    check("echo 'Host key not found' >&2; exit 255", no_connection, "Host key");
    check(
        "echo 'rsyncdirector: could not connect to nas: refused' >&2",
        no_connection,
        "could not connect to nas: refused",
    );
    check(
        "echo Welcome to nas; exec AGENT",
        noise,
        "something else than the agent spoke first: \"Welcome to nas\"; a start file",
    );
    check("printf 'no line feed'", noise, "\"no line feed\"");
    check("echo; exec AGENT", noise, "spoke first: \"\"");
    check("yes", noise, "\"y\"");
    check("tr '\\0' x </dev/zero", noise, &"x".repeat(100));
    check(
        "echo 'rsyncdirector-agent 7 3.1.4'",
        noise,
        "its agent (rsyncdirector 3.1.4) speaks protocol 7, this rsyncdirector",
    );
    let speech = |error: &ConnectError| matches!(error, ConnectError::Speech { .. });
    check(
        "echo 'rsyncdirector-agent 1 3.1.4'; echo nonsense; cat >/dev/null",
        speech,
        "does not answer as it should: a message of",
    );
    check("echo 'rsyncdirector-agent 1 3.1.4'", speech, "the connection");
    let mut nowhere = peer("");
    nowhere.rsh = vec!["/nowhere/ssh".into()];
    let error = Agent::connect(&nowhere, "x").err().expect("no program");
    assert_eq!(
        rsyncdirector::error_chain(&error),
        "could not start /nowhere/ssh: No such file or directory (os error 2)"
    );
}

/// It ends with its input, which is closed when nobody waits any more.
#[test]
fn whoever_keeps_standard_error_open_is_not_waited_for_for_ever() {
    let no_agent = |error: &ConnectError| matches!(error, ConnectError::NoAgent { .. });
    check("exec 3<&0 >&-; echo none >&2; cat <&3 >&2 & exit 0", no_agent, "nas has no agent: none");
}

#[test]
fn a_flood_of_complaints_is_neither_kept_nor_in_the_way() {
    let tree = tree(10);
    let mut agent =
        Agent::connect(&peer("yes complaint | head -c 5000000 >&2; exec AGENT"), "rsyncdirector").expect("an agent");
    assert!(!all(&mut agent, &scan_of(tree.path())).is_empty());
    check(
        "yes complaint | head -c 5000000 >&2; exit 255",
        |error| matches!(error, ConnectError::NoConnection { said, .. } if (1000..3000).contains(&said.len())),
        "complaint",
    );
}

#[test]
fn the_program_is_a_word_for_the_peers_shell() {
    let tree = tree(3);
    let directory = tree.path().join("of 'programs'");
    fs::create_dir(&directory).expect("made");
    let program = directory.join("its program");
    symlink(PROGRAM, &program).expect("linked");
    // As ssh does: user and host go before, the words of the command are joined.
    let peer = peer("shift 3; exec sh -c \"$*\"");
    let mut agent = Agent::connect(&peer, program.to_str().expect("text")).expect("an agent");
    assert!(!all(&mut agent, &scan_of(tree.path())).is_empty());
}

#[test]
fn an_agent_that_is_killed_is_an_error_of_whoever_waits() {
    let tree = tree(2000);
    let scan = scan_of(tree.path());
    let pid = tree.path().join("pid");
    let line = format!("echo $$ >'{}'; echo 'the end is near' >&2; exec AGENT", pid.display());
    let mut agent = Agent::connect(&peer(&line), "rsyncdirector").expect("an agent");
    let files = wanted(&all(&mut agent, &scan));
    let pid: i32 = fs::read_to_string(&pid).expect("written").trim().parse().expect("a number");
    let mut kill = Some(rustix::process::Pid::from_raw(pid).expect("a pid"));
    let mut tell = |_, _| {
        if let Some(pid) = kill.take() {
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).expect("killed");
        }
        Ok(())
    };
    // Slow enough to be still at it.
    let error = agent.hash(&scan, &mut files.into_iter(), Some(100_000), &mut tell).expect_err("killed").to_string();
    assert_eq!(error, "nas: its agent has ended, or the connection to it; it said: the end is near");
    assert!(agent.scan(&scan).is_err());
}

/// An agent, and frames by hand.
struct Raw {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
}

impl Raw {
    fn start() -> Self {
        let mut child =
            Command::new(PROGRAM).arg("agent").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let (input, mut output) = (child.stdin.take(), child.stdout.take().expect("its output"));
        let mut line = vec![0; Preface::line().len()];
        output.read_exact(&mut line).expect("its first line");
        assert_eq!(line, Preface::line());
        Self { child, input, output: Some(output) }
    }

    fn say(&mut self, bytes: &[u8]) {
        self.input.as_mut().expect("open").write_all(bytes).expect("taken");
    }

    fn hears(&mut self) -> (Kind, Vec<u8>) {
        let mut payload = Vec::new();
        let kind = proto::read(self.output.as_mut().expect("open"), &mut payload).expect("a frame");
        (kind.expect("no end"), payload)
    }

    fn fails(&mut self) -> String {
        let (kind, payload) = self.hears();
        assert_eq!(kind, Kind::Failed);
        serde_json::from_slice::<Failed>(&payload).expect("a failure").what
    }

    /// How it ends, within a deadline.
    fn end(mut self) -> ExitStatus {
        let (tell, ended) = mpsc::channel();
        let pid = rustix::process::Pid::from_child(&self.child);
        let waiter = std::thread::spawn(move || tell.send(self.child.wait().expect("waited")));
        let status = ended.recv_timeout(DEADLINE);
        if status.is_err() {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
        let _ = waiter.join();
        status.expect("it ends in time")
    }
}

#[test]
fn what_a_later_client_asks_for_is_refused_and_passed_over() {
    let mut agent = Raw::start();
    let frame = |kind: u8, text: &str| {
        let length = u32::try_from(text.len()).expect("short").to_le_bytes();
        [&length[..], &[kind], text.as_bytes()].concat()
    };
    agent.say(&frame(16, r#"{"verb": "erase", "path": "x"}"#));
    agent.say(&[frame(18, "what belongs to it"), frame(19, "")].concat());
    assert_eq!(
        agent.fails(),
        format!("the agent (rsyncdirector {}) does not know the verb \"erase\"", rsyncdirector::VERSION)
    );
    agent.say(&frame(77, "of another kind"));
    assert!(agent.fails().starts_with("a message of kind 77 out of turn"));
    agent.say(&frame(16, "{}"));
    assert!(agent.fails().starts_with("a message that is not understood"));
    agent.say(&proto::json(Kind::Request, &Request::Statfs { root: b"/".to_vec() }).expect("a frame"));
    assert_eq!(agent.hears().0, Kind::Volume, "all the same");
    agent.input = None;
    assert_eq!(agent.end().code(), Some(0));
}

#[test]
fn what_is_no_frame_ends_it() {
    let mut agent = Raw::start();
    agent.say(&[0xff; 20]);
    assert_eq!(agent.end().code(), Some(1));
}

#[test]
fn an_agent_goes_with_its_client_in_the_midst_of_a_file() {
    let tree = tempfile::tempdir().expect("a directory");
    fs::write(tree.path().join("large"), vec![0; 4_000_000]).expect("written");
    let scan = Scan { meta: false, ..scan_of(tree.path()) };
    let files = wanted(&all(&mut Here::default(), &scan));
    let mut agent = Raw::start();
    let mut packer = Packer::new(Kind::Wanted);
    packer.wanted(&files[0]).expect("packed");
    // It would take an hour.
    let request = Request::Hash { scan, rate: Some(1000) };
    agent.say(&proto::json(Kind::Request, &request).expect("a frame"));
    agent.say(&packer.take().expect("a frame"));
    agent.input = None;
    assert_eq!(agent.end().code(), Some(0));
}

#[test]
fn an_agent_goes_with_its_client_in_the_midst_of_a_scan() {
    let tree = tree(2000);
    let scan = proto::json(Kind::Request, &Request::Scan { scan: scan_of(tree.path()) }).expect("a frame");
    // One that does not listen any more, and one that does not even take what it is told.
    for closes_input in [true, false] {
        let mut agent = Raw::start();
        (0..20).for_each(|_| agent.say(&scan));
        assert_eq!(agent.hears().0, Kind::Entries);
        if closes_input {
            agent.input = None;
        } else {
            agent.output = None;
        }
        assert_eq!(agent.end().code(), Some(if closes_input { 0 } else { 1 }), "{closes_input}");
    }
}

#[test]
fn a_terminal_is_told_what_it_is_for() {
    let mut script = Command::new("script");
    let told = script.args(["-qec", &format!("'{PROGRAM}' agent"), "/dev/null"]).stdin(Stdio::null()).output();
    let told = told.expect("script(1) runs");
    assert_eq!(told.status.code(), Some(2));
    let words = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(words.contains("the agent speaks with an rsyncdirector on another host"), "{words}");
}
