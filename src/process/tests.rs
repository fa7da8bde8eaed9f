use std::fs;
use std::path::Path;
use std::sync::OnceLock;

use rustix::process::{Pid, Signal, kill_process};

use super::cookie::Carries;
use super::*;

fn spawner() -> &'static Spawner {
    static SPAWNER: OnceLock<Spawner> = OnceLock::new();
    SPAWNER.get_or_init(|| Spawner::start().unwrap())
}

#[derive(Default)]
struct Collected {
    leader: Option<u32>,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    largest: usize,
    /// Cancelled when this text has been seen.
    until: Option<(&'static str, CancellationToken)>,
}

impl OutputSink for Collected {
    fn started(&mut self, leader: u32) {
        self.leader = Some(leader);
    }

    fn output(&mut self, stream: Stream, lines: &[u8]) {
        self.largest = self.largest.max(lines.len());
        match stream {
            Stream::Stdout => self.stdout.extend_from_slice(lines),
            Stream::Stderr => self.stderr.extend_from_slice(lines),
        }
        if let Some((text, token)) = &self.until
            && String::from_utf8_lossy(&self.stdout).contains(text)
        {
            token.cancel();
        }
    }
}

fn sh(script: &str) -> Spec {
    Spec {
        program: "/bin/sh".into(),
        args: vec!["-c".into(), script.into()],
        env: Vec::new(),
        cwd: None,
        stdin: None,
        kill_grace: Duration::from_secs(10),
        timeout: None,
        stdout_every: None,
    }
}

async fn run(spec: &Spec) -> (Exit, Collected) {
    let mut output = Collected::default();
    let exit = spawner().run(spec, &Stop::default(), &mut output).await.unwrap();
    (exit, output)
}

/// Runs until the script says `up`, then stops it politely.
async fn run_and_stop(spec: &Spec) -> (Exit, Collected) {
    let stop = Stop::default();
    let mut output = Collected { until: Some(("up", stop.term.clone())), ..Collected::default() };
    let exit = spawner().run(spec, &stop, &mut output).await.unwrap();
    (exit, output)
}

/// Pids that a script printed one a line; all must be gone.
fn assert_gone(output: &Collected) {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let pids: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(!pids.is_empty(), "{text}");
    pids.into_iter().for_each(assert_ended);
}

fn assert_ended(pid: u32) {
    let process = Path::new("/proc").join(pid.to_string());
    assert!(!process.exists(), "{pid} lives: {:?}", fs::read_to_string(process.join("stat")));
}

fn code(code: i32) -> Exit {
    Exit { status: ExitStatus::Code(code), ended_by: EndedBy::Itself }
}

#[tokio::test]
async fn output_and_exit_code_arrive() {
    let (exit, output) = run(&sh("echo out; echo err >&2; printf rest; exit 7")).await;
    assert_eq!(exit, code(7));
    assert_eq!((output.stdout.as_slice(), output.stderr.as_slice()), (&b"out\nrest"[..], &b"err\n"[..]));
}

#[tokio::test]
async fn a_signal_of_its_own_is_told() {
    let (exit, _) = run(&sh("kill -SEGV $$")).await;
    assert_eq!(exit, Exit { status: ExitStatus::Signal(11), ended_by: EndedBy::Itself });
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let spec = Spec { program: "no-such-program".into(), ..sh("") };
    let error = spawner().run(&spec, &Stop::default(), &mut Collected::default()).await.unwrap_err();
    assert!(matches!(&error, SpawnError::NotFound { program, .. } if program == "no-such-program"), "{error}");
}

#[tokio::test]
async fn a_stop_reaches_the_whole_group_and_waits_for_it() {
    let script = "sh -c 'echo $$; trap \"sleep 0.2; exit\" TERM; sleep 100 & until grep -q sleep /proc/$!/comm; do :; done; echo up; wait' & echo $$; wait; wait";
    let (exit, output) = run_and_stop(&sh(script)).await;
    assert_eq!(exit.ended_by, EndedBy::Stop);
    assert_gone(&output);
}

#[tokio::test]
async fn a_tree_that_ignores_term_is_killed_after_the_grace() {
    let script =
        "trap '' TERM; sh -c 'echo $$; echo up; while :; do sleep 1; done' & echo $$; while :; do sleep 1; done";
    let spec = Spec { kill_grace: Duration::from_millis(200), ..sh(script) };
    let (exit, output) = run_and_stop(&spec).await;
    assert_eq!(exit, Exit { status: ExitStatus::Signal(9), ended_by: EndedBy::Stop });
    assert_gone(&output);
}

#[tokio::test]
async fn kill_does_not_wait_for_the_grace() {
    let stop = Stop::default();
    let mut output = Collected { until: Some(("up", stop.kill.clone())), ..Collected::default() };
    let spec = sh("trap '' TERM; echo $$; echo up; while :; do sleep 1; done");
    let exit = spawner().run(&spec, &stop, &mut output).await.unwrap();
    assert_eq!(exit, Exit { status: ExitStatus::Signal(9), ended_by: EndedBy::Stop });
    assert_gone(&output);
}

#[tokio::test]
async fn what_a_leader_leaves_behind_ends_with_it() {
    let (exit, output) = run(&sh("sleep 100 >/dev/null 2>&1 & echo $!; exit 3")).await;
    assert_eq!(exit, code(3));
    assert_gone(&output);
}

#[tokio::test]
async fn an_escape_by_setsid_is_found_and_ended() {
    let dir = tempfile::tempdir().unwrap();
    let script = "mkfifo up; setsid sh -c 'echo $$; sleep 100 & echo $!; echo >up; wait' & read line <up; exit 0";
    let (exit, output) = run(&Spec { cwd: Some(dir.path().into()), ..sh(script) }).await;
    assert_eq!(exit, code(0));
    assert_gone(&output);
}

/// The end of the last one in the group wakes nobody then: it is not of the group any more.
#[tokio::test]
async fn who_leaves_the_group_when_the_leader_has_ended_is_found_and_ended() {
    let late = r#"use POSIX; if (my $child = fork) { $| = 1; print "$child\n"; exit 3 }
        select undef, undef, undef, .05; POSIX::setsid(); sleep 100"#;
    let spec = Spec { program: "perl".into(), args: vec!["-e".into(), late.into()], ..sh("") };
    let (exit, output) = tokio::time::timeout(Duration::from_secs(60), run(&spec)).await.expect("it ends");
    assert_eq!(exit, code(3));
    assert_gone(&output);
}

#[tokio::test]
async fn an_escape_that_nobody_waits_for_is_found_and_ended() {
    let spec = sh("setsid sleep 100 & echo $!; exit 0");
    for _ in 0..100 {
        let (exit, output) = tokio::time::timeout(Duration::from_secs(60), run(&spec)).await.expect("it ends");
        assert_eq!(exit, code(0));
        assert_gone(&output);
    }
}

#[tokio::test]
async fn an_escape_that_ignores_term_is_killed() {
    let script = "setsid sh -c 'trap \"\" TERM; echo $$; echo up; while :; do sleep 1; done' & wait";
    let spec = Spec { kill_grace: Duration::from_millis(200), ..sh(script) };
    let (_, output) = run_and_stop(&spec).await;
    assert_gone(&output);
}

/// What started an escape is its parent until the last moment of its end, which takes some time if it has much memory.
#[tokio::test]
async fn what_an_escape_started_ends_with_it_though_it_takes_long_to_end() {
    let escape = r#"$SIG{TERM} = "IGNORE"; my $much = "x" x 2e8; $| = 1; print "$$\n";
        if (my $child = fork) { print "$child\nup\n"; sleep 100 } else { exec "sleep", "100" }"#;
    let script = "setsid perl -e \"$ESCAPE\" & wait";
    let env = vec![("ESCAPE".into(), escape.into())];
    let spec = Spec { kill_grace: Duration::from_millis(100), env, ..sh(script) };
    let (_, output) = run_and_stop(&spec).await;
    assert_gone(&output);
}

/// Each starts the next one and ends, so that at any look there is one that was not there at the look before.
#[tokio::test]
async fn escapes_that_pass_on_to_the_next_one_are_caught() {
    let relay = format!("relay-{}", std::process::id());
    // They end by themselves, too: nothing is left behind if none is caught.
    let pass = "N=$((N + 1)); test $N -gt 2000 || sh -c \"$PASS\" &";
    let env = [("RELAY", &*relay), ("PASS", pass), ("N", "0")].map(|(name, value)| (name.into(), value.into()));
    let spec = Spec { env: env.into(), ..sh("setsid sh -c \"$PASS\" & sleep 0.05") };
    let variable = format!("RELAY={relay}").into_bytes();
    for _ in 0..10 {
        assert_eq!(run(&spec).await.0, code(0));
        let processes = fs::read_dir("/proc").unwrap().flatten();
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok().and_then(Pid::from_raw));
        let alive = pids.filter(|&pid| cookie::carries(pid, |other| other == variable) == Carries::Yes);
        let killed = alive.map(|pid| kill_process(pid, Signal::KILL));
        assert_eq!(killed.count(), 0);
    }
}

#[tokio::test]
async fn a_timeout_ends_it_and_is_told() {
    let spec = Spec { timeout: Some(Duration::from_millis(100)), ..sh("exec sleep 100") };
    let (exit, output) = run(&spec).await;
    assert_eq!(exit, Exit { status: ExitStatus::Signal(15), ended_by: EndedBy::Timeout });
    assert_ended(output.leader.unwrap());
}

#[tokio::test]
async fn two_actions_at_once_do_not_touch_each_other() {
    let (one, two) = (sh("sleep 0.3; exit 4"), sh("exit 5"));
    let ((first, _), (second, _)) = tokio::join!(run(&one), run(&two));
    assert_eq!((first, second), (code(4), code(5)));
}

#[tokio::test]
async fn a_million_lines_pass_in_bounded_chunks() {
    let (exit, output) = run(&sh("seq 1000000")).await;
    assert_eq!(exit, code(0));
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 1_000_000);
    assert!(output.stdout.ends_with(b"999999\n1000000\n"));
    assert!(output.largest <= 64 * 1024, "{}", output.largest);
}

#[tokio::test]
async fn output_that_is_read_seldom_arrives_whole() {
    let spec = Spec { stdout_every: Some(Duration::from_millis(50)), ..sh("seq 100000; echo end >&2; seq 3") };
    let (exit, output) = run(&spec).await;
    assert_eq!((exit, output.stderr.as_slice()), (code(0), &b"end\n"[..]));
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 100_003);
}

/// Whoever takes this output has no room for it.
#[derive(Default)]
struct Full(Collected);

impl OutputSink for Full {
    fn output(&mut self, stream: Stream, lines: &[u8]) {
        self.0.output(stream, lines);
    }

    fn ready(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }
}

#[tokio::test]
async fn last_words_arrive_though_the_log_has_no_room() {
    let mut output = Full::default();
    let exit = spawner().run(&sh("seq 5000; echo end >&2; printf rest"), &Stop::default(), &mut output).await.unwrap();
    assert_eq!((exit, &*output.0.stderr), (code(0), &b"end\n"[..]));
    assert!(output.0.stdout.ends_with(b"4999\n5000\nrest"), "{} bytes", output.0.stdout.len());
}

#[tokio::test]
async fn a_line_without_end_arrives_though_somebody_else_holds_the_pipe() {
    let (exit, output) = run(&sh("printf half; env -i setsid sleep 3 & sleep 0.3")).await;
    assert_eq!((exit, &*output.stdout), (code(0), &b"half"[..]));
}

#[tokio::test]
async fn variables_and_directory_are_set() {
    let spec = Spec { env: vec![("A".into(), "b c".into())], cwd: Some("/".into()), ..sh("echo \"$A\"; pwd") };
    assert_eq!(run(&spec).await.1.stdout, b"b c\n/\n");
}

#[tokio::test]
async fn a_child_reads_the_file_that_it_is_given_from_where_it_stands() {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, b"skipped read").unwrap();
    std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(8)).unwrap();
    let spec = Spec { stdin: Some(std::sync::Arc::new(file)), ..sh("cat") };
    assert_eq!(run(&spec).await.1.stdout, b"read");
    assert_eq!(run(&sh("cat")).await.1.stdout, b"");
}

/// The `Sig…` line of that name in a status (proc(5)).
fn signals(status: &str, name: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    u64::from_str_radix(line.unwrap(), 16).unwrap()
}

/// Whatever this process catches or blocks; and what it was itself told to ignore stays ignored.
#[tokio::test]
async fn no_signal_is_blocked_or_caught_and_sigpipe_is_not_ignored() {
    const SIGPIPE: u64 = 1 << 12;
    let _caught = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).unwrap();
    let own = fs::read_to_string("/proc/self/status").unwrap();
    assert_ne!(signals(&own, "SigCgt"), 0);
    assert_ne!(signals(&own, "SigIgn") & SIGPIPE, 0);
    let spec = Spec { program: "cat".into(), args: vec!["/proc/self/status".into()], ..sh("") };
    let status = String::from_utf8(run(&spec).await.1.stdout).unwrap();
    assert_eq!((signals(&status, "SigBlk"), signals(&status, "SigCgt")), (0, 0));
    assert_eq!(signals(&status, "SigIgn"), signals(&own, "SigIgn") & !SIGPIPE);
}

#[tokio::test]
async fn no_descriptor_of_ours_is_inherited() {
    use std::os::fd::AsRawFd;
    let open = fs::File::open("/dev/null").unwrap();
    let (exit, _) = run(&sh(&format!("[ -e /proc/$$/fd/1 ] && ! [ -e /proc/$$/fd/{} ]", open.as_raw_fd()))).await;
    assert_eq!(exit, code(0));
}

#[tokio::test]
async fn what_keeps_a_program_from_being_executed_is_told() {
    let error = async |spec: &Spec| {
        let error = spawner().run(spec, &Stop::default(), &mut Collected::default()).await.unwrap_err();
        crate::error_chain(&error)
    };
    let denied = error(&Spec { program: "/dev/null".into(), ..sh("") }).await;
    assert_eq!(denied, "could not execute /dev/null: Permission denied (os error 13)");
    let nul = error(&Spec { args: vec!["a\0b".into()], ..sh("") }).await;
    assert_eq!(nul, "could not execute /bin/sh: a NUL byte in an argument or a variable");
    let long = error(&Spec { args: vec!["x".repeat(1 << 18).into()], ..sh("") }).await;
    assert_eq!(long, "could not execute /bin/sh: Argument list too long (os error 7)");
}

/// As execvp(3) has it, and every shell.
#[tokio::test]
async fn a_script_without_an_interpreter_is_one_for_the_shell() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let script = dir.path().join("script");
    fs::write(&script, "echo \"$1\"\n").unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let many = 20_000;
    let args = (0..many).map(|n| format!("argument {n}").into()).collect();
    let spec = Spec { program: script.into(), args, ..sh("") };
    assert_eq!(run(&spec).await.1.stdout, b"argument 0\n");
}

#[tokio::test]
async fn dropping_a_run_kills_its_group() {
    let dir = tempfile::tempdir().unwrap();
    let pid_file = dir.path().join("pid");
    let script = format!("echo $$ >{0}.new; mv {0}.new {0}; sleep 100", pid_file.display());
    let (spec, stop, mut output) = (sh(&script), Stop::default(), Collected::default());
    let written = async {
        while !pid_file.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        _ = spawner().run(&spec, &stop, &mut output) => panic!("it ended by itself"),
        () = written => {}
    }
    let pid = fs::read_to_string(&pid_file).unwrap();
    while Path::new("/proc").join(pid.trim()).exists() {
        tokio::task::yield_now().await;
    }
}

/// A script of which the execution hangs until this is dropped (or 45 s later, proc_sys_fs(5): `lease-break-time`), as on a file system that
/// does not answer: another process has a lease on the file (fcntl(2)).
struct Hanging {
    dir: tempfile::TempDir,
    leaseholder: std::process::Child,
}

impl Hanging {
    fn new() -> Self {
        use std::io::BufRead;
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        fs::write(&script, "#!/bin/sh\necho >\"${0%/*}/begun\"\n").unwrap();
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
        // F_SETLEASE, which tells of those who come by SIGIO.
        let lease = "use Fcntl; $SIG{IO} = 'IGNORE'; $| = 1; open my $file, '<', $ARGV[0] or die;
            fcntl($file, 1024, F_WRLCK) or die $!; print qq(up\n); <STDIN>";
        let mut holder = std::process::Command::new("perl");
        holder
            .args(["-e", lease])
            .arg(&script)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped());
        let mut leaseholder = holder.spawn().unwrap();
        let mut line = String::new();
        std::io::BufReader::new(leaseholder.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "up\n");
        Self { dir, leaseholder }
    }

    fn spec(&self) -> Spec {
        Spec { program: self.dir.path().join("script").into(), args: Vec::new(), ..sh("") }
    }

    /// Whether the script was executed, now that it no longer hangs.
    fn has_begun(&mut self) -> bool {
        drop(self.leaseholder.stdin.take());
        self.leaseholder.wait().unwrap();
        self.dir.path().join("begun").exists()
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        drop(self.leaseholder.stdin.take());
        let _ = self.leaseholder.wait();
    }
}

#[tokio::test]
async fn a_program_of_which_the_execution_hangs_does_not_keep_others_from_running() {
    let hanging = Hanging::new();
    let (spec, other) = (hanging.spec(), sh("exit 5"));
    let (stop, mut output) = (Stop::default(), Collected::default());
    tokio::select! {
        biased;
        ended = spawner().run(&spec, &stop, &mut output) => panic!("{ended:?}"),
        (exit, _) = run(&other) => assert_eq!(exit, code(5)),
    }
}

#[tokio::test]
async fn a_program_of_which_the_execution_hangs_is_stopped_and_runs_out_of_time() {
    let is_soon = Duration::from_millis(50);
    for (timeout, ended_by) in [(None, EndedBy::Stop), (Some(is_soon), EndedBy::Timeout)] {
        let mut hanging = Hanging::new();
        let (spec, stop, mut output) = (Spec { timeout, ..hanging.spec() }, Stop::default(), Collected::default());
        let stopping = async {
            crate::clock::sleep(is_soon).await;
            if timeout.is_none() {
                stop.term.cancel();
            }
        };
        let (exit, ()) = tokio::join!(spawner().run(&spec, &stop, &mut output), stopping);
        assert_eq!(exit.unwrap(), Exit { status: ExitStatus::Signal(9), ended_by });
        assert!(!hanging.has_begun());
    }
}
