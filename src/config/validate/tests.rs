//! What configurations mean, and what is said about odd ones. The exact messages about wrong ones are snapshots of
//! `resources/samples/invalid`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::keys::{self, Kind};
use crate::config::{
    ActionKind, CatchUp, Command, Condition, Config, Diagnostics, HostKeyPolicy, Loaded, Overlap, Place, Route,
    Severity, Via, Wait, parse,
};
use crate::verify::order::MaxDrift;
use crate::verify::terms::Depth;

fn env(name: &str) -> Option<OsString> {
    let value = match name {
        "HOME" => "/home/ann",
        "LOGNAME" => "ann",
        "XDG_RUNTIME_DIR" => "/run/user/1000",
        "SPACED" => "a b",
        _ => return None,
    };
    Some(value.into())
}

fn read(text: &str) -> Result<Loaded, Diagnostics> {
    parse(Path::new("x.yaml"), text, &env)
}

fn load(text: &str) -> Config {
    read(text).unwrap_or_else(|diagnostics| panic!("{diagnostics}")).config
}

/// A file around the actions of a job.
fn with_action(job: &str, action: &str) -> String {
    format!("rsync_id: x\ncron_schedule: '@daily'\njobs:\n  - {{id: j, {job}, actions: [{{id: a, {action}}}]}}\n")
}

fn action(job: &str, action: &str) -> ActionKind {
    load(&with_action(job, action)).jobs[0].actions[0].kind.clone()
}

fn check_warnings(text: &str, expected: &[&str]) {
    let warnings = read(text).unwrap_or_else(|diagnostics| panic!("{diagnostics}")).warnings;
    let messages: Vec<_> = warnings.iter().map(|warning| format!("{}: {}", warning.line, warning.message)).collect();
    assert_eq!(messages, expected, "{text}");
    assert!(warnings.iter().all(|warning| warning.severity == Severity::Warning));
}

const SYNC: &str = "action: sync, source: /a, dest: /b";

#[test]
fn what_is_left_out_has_its_documented_default() {
    let config = load(&with_action("type: remote, host: h", SYNC));
    assert_eq!(&*config.rsync_id, "x");
    assert_eq!(config.lease, Duration::from_secs(60));
    assert_eq!(config.kill_grace, Duration::from_secs(10));
    assert_eq!(config.ssh.connect_timeout, Duration::from_secs(10));
    assert_eq!(config.ssh.host_key_policy, HostKeyPolicy::Strict);
    let known_hosts = ["/home/ann/.ssh/known_hosts", "/home/ann/.ssh/known_hosts2"];
    let system = ["/etc/ssh/ssh_known_hosts", "/etc/ssh/ssh_known_hosts2"];
    assert_eq!(config.ssh.known_hosts, [known_hosts, system].concat().iter().map(PathBuf::from).collect::<Vec<_>>());
    assert_eq!((config.metrics.addr.to_string(), config.metrics.port), ("0.0.0.0".to_owned(), 9090));
    assert!(config.metrics.legacy_names);
    let job = &config.jobs[0];
    assert_eq!(job.peer.as_ref().expect("a peer").to_string(), "ann@h:22");
    assert_eq!((job.schedule.jitter, job.schedule.own), (Duration::ZERO, false));
    let action = &job.actions[0];
    assert_eq!(action.success_exit_codes, [0, 24]);
    assert_eq!((action.timeout, action.retries, action.retry_wait), (None, 0, Duration::from_secs(10)));
    assert!(matches!(&action.kind, ActionKind::Sync(sync) if matches!(sync.route, Route::Push(..))));
}

#[test]
fn null_is_the_same_as_absent() {
    let text = "rsync_id: x\ncron_schedule: '@daily'\nmetrics: null\npid_file_dir: null\nknown_hosts:\njobs:\n  - \
                {id: j, type: local, lock_files: null, blocks_on: ~, actions: [{id: a, action: command, command: x, args: null}]}\n";
    let config = load(text);
    assert_eq!(config.metrics.port, 9090);
    assert_eq!(config.ssh.known_hosts.len(), 4);
    assert!(matches!(&config.jobs[0].actions[0].kind, ActionKind::Command(Command::Shell(line)) if line == "x"));
}

#[test]
fn options_are_split_as_by_a_shell_and_then_expanded() {
    let ActionKind::Sync(sync) = action(
        "type: local",
        r#"action: sync, source: "${SPACED}/*", dest: ~/b, opts: ["--exclude '.cache'", "--filter '- ${SPACED}'", "$${X}"]"#,
    ) else {
        panic!("a sync")
    };
    assert_eq!(sync.opts, ["--exclude", ".cache", "--filter", "- a b", "${X}"]);
    assert_eq!(sync.sources, ["a b/*"]);
    assert_eq!(sync.dest, "~/b", "left to the run");
}

#[test]
fn a_command_without_arguments_is_a_shell_line() {
    let command = |text: &str| action("type: local", &format!("action: command, {text}"));
    let shell = |text: &str, expected: &str| {
        assert!(matches!(command(text), ActionKind::Command(Command::Shell(line)) if line == expected), "{text}");
    };
    shell("command: 'echo ${NOWHERE} $HOME'", "echo ${NOWHERE} $HOME");
    shell("command: 'echo x', args: []", "echo x");
    let ActionKind::Command(Command::Exec { program, args }) = command("command: echo, args: ['${HOME}', 7, '']")
    else {
        panic!("executed directly")
    };
    assert_eq!((program, args), ("echo".into(), vec!["/home/ann".into(), "7".into(), "".into()]));
}

#[test]
fn a_job_has_its_own_schedule_as_soon_as_it_says_when_it_runs() {
    let own = |job: &str| load(&with_action(&format!("type: local, {job}"), SYNC)).jobs[0].schedule.own;
    assert!(own("cron_schedule: '@hourly'"));
    assert!(own("jitter: 5m"));
    assert!(own("timezone: UTC"));
    assert!(!own("timezone: null"));
}

#[test]
fn files_say_where_they_are_and_how_to_wait() {
    let files = "type: local, lock_files: [{type: local, path: '~/l'}], blocks_on: [{type: REMOTE, host: h, port: '2222', \
                 private_ssh_key: ~/.ssh/k, path: /b, wait_time: 1m, timeout: '5'}]";
    let config = load(&with_action(files, SYNC));
    let (lock, block) = (&config.jobs[0].lock_files[0], &config.jobs[0].blocks_on[0]);
    assert_eq!(lock.location.to_string(), "/home/ann/l");
    assert_eq!(lock.wait, Wait { every: Duration::from_secs(30), timeout: None });
    let Place::Remote(peer, via) = &block.location.place else { panic!("a remote block") };
    assert_eq!(*via, Via::Auto);
    assert_eq!(peer.to_string(), "ann@h:2222");
    assert_eq!(peer.private_key, Some("/home/ann/.ssh/k".into()));
    assert_eq!(block.wait, Wait { every: Duration::from_secs(60), timeout: Some(Duration::from_secs(5)) });
}

#[test]
fn a_file_on_a_peer_says_how_it_is_reached() {
    for (word, expected) in [("exec", Via::Exec), ("sftp", Via::Sftp)] {
        let files = format!("type: local, lock_files: [{{type: remote, host: h, path: /l, via: {word}}}]");
        let place = &load(&with_action(&files, SYNC)).jobs[0].lock_files[0].location.place;
        assert!(matches!(place, Place::Remote(_, via) if *via == expected), "{place:?}");
    }
}

#[test]
fn a_pull_reads_from_the_peer() {
    let kind = action("type: remote, host: h", &format!("{SYNC}, direction: Pull"));
    assert!(matches!(kind, ActionKind::Sync(sync) if matches!(sync.route, Route::Pull(..))));
}

#[test]
fn odd_configurations_load_with_a_warning() {
    check_warnings(
        "rsync_id: x\ncron_schedule: '@daily'\njobs: []\n",
        &["3: there are no jobs: this instance will do nothing"],
    );
    let never = "rsync_id: x\ncron_schedule: 0 0 31 2 *\njobs:\n  - {id: j, type: local, actions: []}\n";
    check_warnings(
        never,
        &["2: this schedule never fires: there is no such date", "4: job \"j\" has no actions: it will do nothing"],
    );
    check_warnings(&with_action("type: local, host: h", SYNC), &["4: \"host\" has no effect in a local job"]);
    check_warnings(
        &with_action("type: local, blocks_on: [{type: local, path: /b, wait_time: 0}]", SYNC),
        &["4: so short a \"wait_time\" is a busy loop: 1 s is taken"],
    );
    check_warnings(
        &with_action("type: remote, host: h", &format!("{SYNC}, opts: ['-ave \"ssh -p 22\"']")),
        &["4: this option replaces the connection that rsyncdirector makes"],
    );
    check_warnings(&with_action("type: local", &format!("{SYNC}, opts: ['-ave x']")), &[]);
    check_warnings(
        &with_action("type: remote, host: h, private_key_path: id", SYNC),
        &["4: \"private_key_path\" is relative to the directory that rsyncdirector is started in"],
    );
    check_warnings(
        &with_action("type: local", "action: sync, source: $HOME/a, dest: /$RECYCLE.BIN"),
        &["4: `$HOME` is taken as it stands, not replaced by the variable"],
    );
    let quotes = "4: quotes and backslashes are part of this name: no shell removes them";
    check_warnings(
        &with_action("type: local", r#"action: sync, source: "'/my photos'/", dest: '"/b c"'"#),
        &[quotes; 2],
    );
    check_warnings(&with_action("type: local", r"action: sync, source: ['/a\ b'], dest: /c"), &[quotes]);
    check_warnings(&with_action("type: local", r#"action: sync, source: /it's, dest: /5"/x"#), &[]);
}

#[test]
fn a_schedule_that_1_x_read_otherwise_is_warned_of() {
    let text = "rsync_id: x\ncron_schedule: 0 3 * * 1\njobs:\n  - {id: j, type: local, actions: []}\n";
    let warnings = read(text).expect("loads").warnings;
    let first = warnings.iter().next().expect("a warning");
    assert_eq!((first.line, first.column, first.severity), (2, 16, Severity::Warning));
    assert!(first.message.contains("1.x"), "{}", first.message);
}

#[test]
fn a_verification_knows_its_sync() {
    let config = load(
        "rsync_id: x\ncron_schedule: '@daily'\njobs:\n\
         - {id: night, type: local, actions: [{id: proof, action: verify, of: a/copy, deep: 5%/day, rate: 2M, agent: none}]}\n\
         - {id: a, type: local, stall_timeout: 1h, actions: [{id: before, action: verify, of: copy},\n\
             {id: copy, action: sync, source: /s/, dest: /d, opts: [-a]}, {id: after, action: verify, of: copy, max_drift: 2%}]}\n",
    );
    let verify = |job: usize, at: usize| match &config.jobs[job].actions[at].kind {
        ActionKind::Verify(verify) => verify.clone(),
        other => panic!("{other:?}"),
    };
    let proof = verify(0, 0);
    assert_eq!((proof.job.as_str(), proof.of.as_str()), ("a", "copy"));
    assert_eq!(proof.sync.dest, "/d");
    assert_eq!((proof.depth, proof.share, proof.rate, proof.agent), (Depth::Deep, Some(0.05), Some(2 << 20), None));
    let (before, after) = (verify(1, 0), verify(1, 2));
    assert_eq!((before.depth, before.agent.as_deref()), (Depth::Quick, Some("rsyncdirector")));
    assert_eq!(before.stall_timeout, Some(Duration::from_secs(3600)));
    assert_eq!(before.max_drift, MaxDrift::Entries(0));
    assert_eq!(after.max_drift, MaxDrift::Share(0.02));
}

#[test]
fn a_short_wait_is_made_a_reasonable_one() {
    let config = load(&with_action("type: local, blocks_on: [{type: local, path: /b, wait_time: 0}]", SYNC));
    assert_eq!(config.jobs[0].blocks_on[0].wait.every, Duration::from_secs(1));
}

/// Keys whose values are mappings.
const MAPPINGS: [&str; 10] =
    ["metrics", "history", "page", "auth", "tls", "when", "http", "mail", "headers", "header_files"];

/// A file with one mapping of each kind, in which `KEY: []` (a list is right for no single value) replaces the kind's own.
fn with_key(kind: &Kind, key: &str) -> String {
    let wrong = format!("{key}: {}", if MAPPINGS.contains(&key) { "7" } else { "{}" });
    let at = |other: &Kind| if kind == other { wrong.as_str() } else { "" };
    let remote_job = kind == &keys::REMOTE_JOB;
    let job_type = if remote_job { "type: remote, " } else { "type: local, " };
    let file_type = if kind == &keys::REMOTE_FILE { "type: remote, " } else { "type: local, " };
    let action = match kind {
        kind if kind == &keys::COMMAND => "action: command, ",
        kind if kind == &keys::VERIFY => "action: verify, ",
        _ => "action: sync, ",
    };
    let keep = |own: &str| if own.starts_with(&format!("{key}:")) { String::new() } else { own.to_owned() };
    let nested = |name: &str, kind| if key == name { String::new() } else { format!("{name}: {{{}}}\n", at(kind)) };
    let window = match kind == &keys::WINDOW {
        true => format!("bwlimit: [{{{wrong}}}]\n"),
        false => String::new(),
    };
    let way = match kind {
        kind if kind == &keys::HTTP => format!("http: {{{wrong}}}"),
        kind if kind == &keys::MAIL => format!("mail: {{{wrong}}}"),
        _ => at(&keys::TARGET).to_owned(),
    };
    let targets = if key == "notify" { String::new() } else { format!("notify: [{{{way}}}]\n") };
    let inner = |name: &str, kinds: &[&Kind]| {
        let text: Vec<&str> = kinds.iter().map(|kind| at(kind)).filter(|text| !text.is_empty()).collect();
        if text.is_empty() { String::new() } else { format!("{name}: {{{}}}", text.join(", ")) }
    };
    let page =
        if kind == &keys::CREDENTIALS { inner("page", &[&keys::CREDENTIALS]) } else { at(&keys::AUTH).to_owned() };
    let access = if page.is_empty() { inner("tls", &[&keys::TLS]) } else { format!("auth: {{{page}}}") };
    let metrics = || {
        if key == "metrics" && kind == &keys::TOP {
            String::new()
        } else {
            format!("metrics: {{{}{access}}}\n", at(&keys::METRICS))
        }
    };
    let own = metrics() + &nested("history", &keys::HISTORY) + &window + &targets;
    let file = format!("{{{}{}}}", keep(file_type), [at(&keys::LOCAL_FILE), at(&keys::REMOTE_FILE)].concat());
    let files = if key == "lock_files" { String::new() } else { format!("lock_files: [{file}], ") };
    let step = format!("{{{}{}}}", keep(action), [at(&keys::SYNC), at(&keys::COMMAND), at(&keys::VERIFY)].concat());
    let actions = if key == "actions" { String::new() } else { format!("actions: [{step}], ") };
    let command = if key == "args" { "command: x, " } else { "" };
    let when = match kind == &keys::CONDITION {
        true => format!("when: [{{{command}{wrong}}}], "),
        false => String::new(),
    };
    let actions = if key == "before" { actions } else { format!("{actions}before: [{{{}}}], ", at(&keys::HOOK)) };
    let job = format!(
        "{{{}{files}{actions}{when}{}}}",
        keep(job_type),
        [at(&keys::LOCAL_JOB), at(&keys::REMOTE_JOB)].concat()
    );
    let jobs = if key == "jobs" { String::new() } else { format!("jobs: [{job}]\n") };
    format!("{own}{jobs}{}\n", at(&keys::TOP))
}

#[test]
fn every_key_of_the_tables_is_read() {
    for kind in keys::ALL {
        for key in kind.keys {
            // Without its `type` or `action` a mapping is judged by what it looks like, which here is nothing.
            if matches!(*key, "type" | "action")
                && [&keys::REMOTE_JOB, &keys::REMOTE_FILE, &keys::COMMAND, &keys::VERIFY].contains(&kind)
            {
                continue;
            }
            let text = with_key(kind, key);
            let diagnostics = read(&text).err().unwrap_or_else(|| panic!("{key} of {} is not read: {text}", kind.name));
            let complains = diagnostics.iter().any(|diagnostic| {
                diagnostic.message.contains(&format!("{key}\" of ")) && diagnostic.message.contains("must be")
                    || diagnostic.message.starts_with(&format!("\"{key}\" must be"))
                    || diagnostic.message.starts_with(&format!("`{key}` must be"))
            });
            assert!(complains, "{key} of {} is not read:\n{text}\n{diagnostics}", kind.name);
        }
    }
}

#[test]
fn a_jobs_schedule_inherits_what_it_does_not_say() {
    let config = load(
        "rsync_id: x\ncron_schedule: '@daily'\noverlap: queue\ncatch_up: one\ncatch_up_max_age: 2d\nconcurrency: 3\njobs:\n\
         - {id: a, type: local, actions: []}\n- {id: b, type: local, overlap: skip, catch_up: none, actions: []}\n\
         - {id: c, type: local, catch_up_max_age: 1h, actions: []}\n",
    );
    assert_eq!(config.concurrency, 3);
    let of = |job: usize| (config.jobs[job].schedule.overlap, config.jobs[job].schedule.catch_up);
    let owed = |hours: u64| Some(CatchUp { max_age: Some(Duration::from_secs(hours * 3600)) });
    assert_eq!(of(0), (Overlap::Queue, owed(48)));
    assert_eq!(of(1), (Overlap::Skip, None));
    assert_eq!(of(2), (Overlap::Queue, owed(1)));
    assert!(config.jobs.iter().all(|job| !job.schedule.own), "none of this is a schedule of its own");
}

#[test]
fn conditions_are_read() {
    let when = |job: &str, when: &str| {
        let job = format!("{{id: j, {job}, when: {when}, actions: []}}");
        load(&format!("rsync_id: x\ncron_schedule: '@daily'\njobs: [{job}]\n")).jobs[0].when.clone()
    };
    let shell = Condition::Command(Command::Shell("test -e /x".into()));
    let both = when("type: local", "[{mounted: ~/usb}, {command: test -e /x}, {on_ac_power: true}]");
    assert_eq!(both, [Condition::Mounted("/home/ann/usb".into()), shell, Condition::OnAcPower]);
    let exec = Command::Exec { program: "test".into(), args: vec!["-e".into(), "/x".into()] };
    assert_eq!(when("type: local", "{command: test, args: [-e, /x]}"), [Condition::Command(exec)]);
    let reachable = |job: &str, name: &str| match &when(job, &format!("{{reachable: '{name}'}}"))[..] {
        [Condition::Reachable(peer)] => peer.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(reachable("type: remote, host: nas, port: 2222, user: bob", "nas"), "bob@nas:2222");
    assert_eq!(reachable("type: remote, host: nas, port: 2222", "zoe@other:23"), "zoe@other:23");
    assert_eq!(reachable("type: local", "nas"), "ann@nas:22");
}
