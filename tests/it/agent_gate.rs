//! An agent behind the gate, asked for what its policy does not open. As root and as nobody, shut in by the kernel and by judging paths.

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use rsyncdirector::agent::{Agent, ConnectError};
use rsyncdirector::rsync::filter::{Filters, Side as End};
use rsyncdirector::scan::{Entry, Kind};
use rsyncdirector::verify::order::Elsewhere;
use rsyncdirector::verify::side::{Read, Scan, Side, SideError, State, Wanted};

const NOBODY: u32 = 65534;

struct Gate {
    directory: tempfile::TempDir,
    user: &'static str,
}

impl Gate {
    fn new(user: &'static str, more: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        for name in ["read/sub", "read/locked", "write", "outside", "home"] {
            fs::create_dir_all(path(name)).expect("made");
        }
        for name in ["read/a", "read/sub/b", "write/c", "outside/secret"] {
            fs::write(path(name), name).expect("written");
        }
        for (to, name) in [("/etc", "read/etc"), ("../outside", "write/out"), ("../outside/secret", "read/file")] {
            symlink(to, path(name)).expect("linked");
        }
        let owner = if user == "nobody" { NOBODY } else { 0 };
        for name in ["write", "outside", "outside/secret", "home"] {
            chown(path(name), Some(owner), Some(owner)).expect("it runs as root");
        }
        // Another user's, which root may read and nobody may not.
        fs::write(path("read/locked/d"), "d").expect("written");
        fs::set_permissions(path("read/locked"), std::os::unix::fs::PermissionsExt::from_mode(0o700)).expect("locked");
        fs::copy(env!("CARGO_BIN_EXE_rsyncdirector"), path("rsyncdirector")).expect("a copy that others can execute");
        let dir = directory.path().display();
        fs::write(path("policy.yaml"), format!("read: [{dir}/read]\nwrite: [{dir}/write]\n{more}")).expect("written");
        for name in ["", "read", "read/sub", "outside"] {
            fs::set_permissions(path(name), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("open");
        }
        Self { directory, user }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn connect(&self, program: &str) -> Result<Agent, ConnectError> {
        let dir = self.directory.path().display();
        let run_as = match self.user {
            "nobody" => format!("setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups --"),
            _ => String::new(),
        };
        let line = format!(
            "shift 3; export HOME={dir}/home SSH_ORIGINAL_COMMAND=\"$*\"
             exec {run_as} {dir}/rsyncdirector gate --policy {dir}/policy.yaml"
        );
        let rsh = ["sh", "-c", &line, "sh"].map(OsString::from).to_vec();
        let (host, user, tickets) = ("nas".into(), "ann".into(), Vec::new());
        Agent::connect(&Elsewhere { host, user, is_source: false, rsh, tickets }, program)
    }

    fn scan(&self, root: &str) -> Scan {
        let root = if root.starts_with('/') { root.into() } else { self.path(root) };
        scan_of(&root)
    }
}

fn scan_of(root: &Path) -> Scan {
    let (only, filters, attributes) = Default::default();
    let root = root.as_os_str().as_bytes().to_owned();
    Scan { root, only, filters, end: End::Receiver, one_file_system: false, meta: true, attributes }
}

fn scanned(agent: &mut Agent, scan: &Scan) -> Result<Vec<Entry>, SideError> {
    agent.scan(scan)?.collect()
}

fn everybody(check: impl Fn(&Gate)) {
    for user in ["root", "nobody"] {
        for confinement in ["kernel", "paths"] {
            check(&Gate::new(user, &format!("confinement: {confinement}\n")));
        }
    }
}

fn read(agent: &mut Agent, scan: &Scan, path: &[u8], state: State) -> Result<Read, SideError> {
    let mut told = Vec::new();
    let wanted = Wanted { path: path.to_vec(), state };
    agent.hash(scan, &mut std::iter::once(wanted), None, &mut |_, read| {
        told.push(read);
        Ok(())
    })?;
    Ok(told.pop().expect("told"))
}

#[test]
fn what_the_policy_opens_is_told() {
    everybody(|gate| {
        let mut agent = gate.connect("rsyncdirector").expect("an agent");
        let scan = gate.scan("read");
        let entries = scanned(&mut agent, &scan).expect("a scan");
        let paths: Vec<_> = entries.iter().map(|entry| String::from_utf8_lossy(&entry.path).into_owned()).collect();
        let is_root = gate.user == "root";
        let mut expected = vec!["", "a", "etc", "file", "locked", "locked/d", "sub", "sub/b"];
        expected.retain(|path| is_root || *path != "locked/d");
        assert_eq!(paths, expected, "{}", gate.user);
        let locked = entries.iter().find(|entry| entry.path == b"locked").expect("there");
        assert_eq!(locked.problem.is_none(), is_root, "{locked:?}");
        let file = entries.iter().find(|entry| entry.path == b"sub/b").expect("there");
        let digest = read(&mut agent, &scan, b"sub/b", State::of(file)).expect("read");
        assert!(matches!(digest, Read::Digest(_)), "{digest:?}");
        assert_eq!(agent.look(&scan, &[b"a".to_vec()]).expect("looked")[0].as_ref().map(|found| found.size), Some(6));
        assert_eq!(scanned(&mut agent, &gate.scan("write/not/yet")).expect("a scan"), []);
        assert!(agent.volume(gate.path("write").as_os_str().as_bytes()).expect("looked at").size > 0);
        assert_eq!(agent.about().user, if is_root { 0 } else { NOBODY });
        assert!(agent.about().users.iter().any(|(name, _)| name == "root"), "names of users may be known");
    });
}

#[test]
fn what_it_does_not_open_is_not() {
    everybody(|gate| {
        let mut agent = gate.connect("rsyncdirector").expect("an agent");
        for root in
            ["/", "/etc", "outside", "", "home", "read/..", "read/../outside", "read/etc", "write/out", "read/file"]
        {
            let scan = gate.scan(root);
            let error = scanned(&mut agent, &scan).expect_err("refused").to_string();
            assert!(error.starts_with("nas: gate: refused: "), "{root}: {error}");
            let error = agent.look(&scan, &[b"secret".to_vec()]).expect_err("refused").to_string();
            assert!(error.starts_with("nas: gate: refused: "), "{root}: {error}");
            assert!(read(&mut agent, &scan, b"secret", State::default()).is_err(), "{root}");
            assert!(agent.volume(&scan.root).is_err(), "{root}");
        }
        let scan = gate.scan("write");
        for path in ["../outside/secret", "/etc/passwd", "./out/secret", ".."] {
            assert!(agent.look(&scan, &[path.into()]).is_err(), "{path}");
            assert!(read(&mut agent, &scan, path.as_bytes(), State::default()).is_err(), "{path}");
            assert!(scanned(&mut agent, &Scan { only: vec![path.into()], ..scan.clone() }).is_err(), "{path}");
        }
        // By a link: nothing is there, and if it is known exactly what would be.
        assert_eq!(agent.look(&scan, &[b"out/secret".to_vec()]).expect("looked"), [None]);
        let secret = scanned(&mut here(), &gate.scan("outside")).expect("a scan");
        let secret = secret.iter().find(|entry| entry.kind == Kind::File).expect("there");
        for path in [&b"out/secret"[..], b"file"] {
            let read = read(&mut agent, &scan, path, State::of(secret)).expect("told");
            assert!(!matches!(read, Read::Digest(_)), "{read:?}");
        }
        assert!(scanned(&mut agent, &scan).is_ok(), "and goes on");
    });
}

fn here() -> Agent {
    let line = format!("exec '{}' agent", env!("CARGO_BIN_EXE_rsyncdirector"));
    let rsh = ["sh", "-c", &line, "sh"].map(OsString::from).to_vec();
    let (host, user, tickets) = ("here".into(), "ann".into(), Vec::new());
    Agent::connect(&Elsewhere { host, user, is_source: false, rsh, tickets }, "rsyncdirector").expect("an agent")
}

#[test]
fn a_file_of_rules_that_leads_out_tells_nothing() {
    everybody(|gate| {
        fs::write(gate.path("outside/secret"), "a secret that is no rule\n").expect("written");
        symlink("../outside/secret", gate.path("write/.rules")).expect("linked");
        let opts = [OsString::from("--filter=: .rules")];
        let filters = Filters::of(&opts, &mut |_| Ok(None), None, b"").expect("rules");
        let mut agent = gate.connect("rsyncdirector").expect("an agent");
        let told = scanned(&mut agent, &Scan { filters, ..gate.scan("write") });
        let error = told.expect_err("refused").to_string();
        assert!(!error.contains("secret"), "{error}");
    });
}

#[test]
fn nothing_can_be_written_or_started_by_it() {
    // What the process may do is what the kernel says of it.
    let gate = Gate::new("root", "");
    let agent = gate.connect("rsyncdirector").expect("an agent");
    let own = agent_of(&gate.path("rsyncdirector"));
    let status = fs::read_to_string(format!("/proc/{own}/status")).expect("it lives");
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).expect("told");
    // CAP_DAC_READ_SEARCH is number 2.
    assert_eq!(effective, "0000000000000004");
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    let mounts = fs::read_to_string(format!("/proc/{own}/mounts")).expect("it lives");
    let is_frozen = |line: &str| line.split(' ').nth(3).is_some_and(|options| options.split(',').any(|o| o == "ro"));
    assert!(mounts.lines().all(is_frozen), "{mounts}");
    drop(agent);
}

/// The process that executes this very file.
fn agent_of(program: &Path) -> u32 {
    let pids = fs::read_dir("/proc").expect("there").filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.into_iter()
        .find(|pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program))
        .expect("it runs")
}

#[test]
fn a_policy_without_directories_has_no_agent() {
    let gate = Gate::new("root", "");
    fs::write(gate.path("policy.yaml"), "locks: [/run/x.lock]\n").expect("written");
    let error = gate.connect("rsyncdirector").err().expect("refused");
    assert!(matches!(&error, ConnectError::NoAgent { said, .. } if said.contains("no directories")), "{error}");
    let gate = Gate::new("root", "");
    assert!(gate.connect("/opt/any where/rsyncdirector").is_ok(), "by whatever path it is asked for");
    assert!(matches!(gate.connect("/bin/sh"), Err(ConnectError::NoAgent { .. })));
}
