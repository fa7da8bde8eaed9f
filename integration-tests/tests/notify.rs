//! Who is told what became of jobs.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use integration_tests::peers::Refusing;
use integration_tests::receiver::{Answer, Receiver, Request};
use integration_tests::wait::{self, Stopwatch};
use integration_tests::{Finished, Sandbox, ports};
use serde_json::Value;

/// A job that fails as long as there is the file `broken`.
const JOBS: &str = "jobs: [{id: j, type: local, actions: [{action: command, id: c, command: 'echo careful >&2; ! test -e @/broken'}]}]\n";

fn told(requests: &[Request]) -> Vec<String> {
    let event = |request: &Request| serde_json::from_str::<Value>(&request.body).expect("JSON")["event"].clone();
    requests.iter().map(|request| event(request).as_str().expect("a word").to_owned()).collect()
}

#[test]
fn a_failure_of_a_single_run_is_told_and_a_recovery_by_the_next() {
    let (sandbox, receiver) = (Sandbox::new(), Receiver::new());
    sandbox.define("url", receiver.url());
    let config = sandbox.config(&format!("notify: [{{http: {{url: '<url>/x'}}}}]\n{JOBS}"));
    sandbox.once(&config).expect_code(0);
    assert_eq!(receiver.requests(), []);
    sandbox.write("broken", "");
    sandbox.once(&config).expect_code(1);
    sandbox.once(&config).expect_code(1);
    sandbox.remove("broken");
    sandbox.once(&config).expect_code(0);
    sandbox.once(&config).expect_code(0);
    let requests = receiver.requests();
    assert_eq!(told(&requests), ["failure", "failure", "recovery"]);
    let failure: Value = serde_json::from_str(&requests[0].body).expect("JSON");
    assert_eq!(requests[0].line, "POST /x");
    for (key, expected) in [
        ("job", "j"),
        ("instance", "main"),
        ("outcome", "failed"),
        ("reason", "action"),
        ("trigger", "once"),
        ("stderr", "careful\n"),
        ("detail", "action c: exit code 1: careful"),
    ] {
        assert_eq!(failure[key], expected, "{key}: {failure}");
    }
    assert!(failure["run"].is_u64() && failure["duration_seconds"].is_f64(), "{failure}");
}

#[test]
fn a_recovery_is_told_by_a_daemon_that_was_started_anew() {
    let (sandbox, receiver) = (Sandbox::new(), Receiver::new());
    sandbox.define("url", receiver.url());
    let config = sandbox.config(&format!("notify: [{{http: {{url: '<url>'}}}}]\n{JOBS}"));
    sandbox.write("broken", "");
    let mut director = sandbox.start(&config);
    director.run_now(1);
    receiver.wait_for(1);
    director.stop();
    sandbox.remove("broken");
    let director = sandbox.start(&config);
    director.run_now(1);
    assert_eq!(told(&receiver.wait_for(2)), ["failure", "recovery"]);
    director.wait_for_metric("rsyncdirector_notifications_total result=sent target=http", 1.0);
}

#[test]
fn a_receiver_of_pings_hears_the_start_and_the_end_of_each_run() {
    let (sandbox, receiver) = (Sandbox::new(), Receiver::new());
    sandbox.write("url", format!("{}/ping/uuid\n", receiver.url()));
    sandbox.write("token", "Bearer hunter2\n");
    let config = sandbox.config(&format!(
        "notify: [{{http: {{url_file: @/url, style: healthchecks, headers: {{X-A: b}}, header_files: {{Authorization: @/token}}}}}}]\n{JOBS}"
    ));
    sandbox.once(&config).expect_code(0);
    sandbox.write("broken", "");
    sandbox.once(&config).expect_code(1);
    let requests = receiver.requests();
    let lines: Vec<_> = requests.iter().map(|request| request.line.as_str()).collect();
    let (start, success, fail) = ("POST /ping/uuid/start", "POST /ping/uuid", "POST /ping/uuid/fail");
    assert_eq!(lines, [start, success, start, fail]);
    assert!(requests[3].body.ends_with("careful\n"), "{}", requests[3].body);
    assert!(requests[0].head.contains("x-a: b") && requests[0].head.contains("authorization: bearer hunter2"));
}

#[test]
fn a_template_is_filled_and_a_job_s_own_targets_replace_the_instance_s() {
    let (sandbox, receiver) = (Sandbox::new(), Receiver::new());
    sandbox.define("url", receiver.url());
    sandbox.write("broken", "");
    let own =
        "{id: j, notify: [{http: {url: '<url>/own', body: '{\"text\": \"{job}: {event} {run}\", \"n\": {run}}'}}],";
    let config = sandbox.config(&format!("notify: [{{http: {{url: '<url>/all'}}}}]\n{}", JOBS.replace("{id: j,", own)));
    sandbox.once(&config).expect_code(1);
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].line, "POST /own");
    let body: Value = serde_json::from_str(&requests[0].body).expect("JSON");
    assert_eq!(body["text"], format!("j: failure {}", body["n"]));
}

#[test]
fn what_fails_for_a_moment_is_tried_again_and_what_is_refused_is_not() {
    let sandbox = Sandbox::new();
    let shaky = Receiver::answering(&[Answer::Status(503), Answer::Close, Answer::Status(204)]);
    let refusing = Receiver::answering(&[Answer::Status(404)]);
    sandbox.define("shaky", shaky.url());
    sandbox.define("refusing", refusing.url());
    sandbox.write("broken", "");
    let config = sandbox.config(&format!(
        "notify: [{{http: {{url: '<shaky>/secret'}}, retry_wait: 0.05}}, {{http: {{url: '<refusing>/secret'}}}}]\n{JOBS}"
    ));
    let director = sandbox.start(&config);
    director.run_now(1);
    director.wait_for_metric("rsyncdirector_notifications_total result=sent target=http", 1.0);
    director.wait_for_metric("rsyncdirector_notifications_total result=failed target=http", 1.0);
    assert_eq!((shaky.requests().len(), refusing.requests().len()), (3, 1));
    director.wait_for_log("answered 404");
    assert!(!director.log().contains("secret"), "{}", director.log());
}

#[test]
fn one_that_hangs_delays_neither_runs_nor_others_nor_the_end() {
    let (sandbox, hanging, good) = (Sandbox::new(), Receiver::answering(&[Answer::Hang]), Receiver::new());
    sandbox.define("hanging", hanging.url());
    sandbox.define("good", good.url());
    sandbox.write("broken", "");
    let config = sandbox.config(&format!(
        "notify: [{{http: {{url: '<hanging>'}}, timeout: 1h}}, {{command: 'touch @/begun; sleep 1000', timeout: 1h}}, {{http: {{url: '<good>'}}}}]\n{JOBS}"
    ));
    let mut director = sandbox.start(&config);
    let watch = Stopwatch::start();
    (1..=5).for_each(|nth| director.run_now(nth));
    assert!(watch.elapsed() < Duration::from_secs(10), "{:?}", watch.elapsed());
    good.wait_for(5);
    hanging.wait_for(1);
    wait::until("the program hangs", || sandbox.exists("begun"));
    let watch = Stopwatch::start();
    let log = director.stop().stderr;
    assert!(watch.elapsed() < Duration::from_secs(15), "{:?}", watch.elapsed());
    assert!(log.contains("nobody is told of failure") && log.contains("the director ends"), "{log}");
    assert!(integration_tests::procs::running(sandbox.dir(), "sleep").is_empty());
}

#[test]
fn nobody_there_is_said_and_stops_nothing() {
    let sandbox = Sandbox::new();
    let refusing = Refusing::open();
    sandbox.define("gone", format!("http://{}/secret", refusing.addr()));
    sandbox.write("broken", "");
    let config = sandbox.config(&format!("notify: [{{http: {{url: '<gone>'}}, retries: 0}}]\n{JOBS}"));
    let finished = sandbox.once(&config);
    finished.expect_code(1).expect_said("could not tell of failure").expect_said("could not connect");
    assert!(!finished.stderr.contains("secret"));
}

#[test]
fn a_program_is_told_by_variables_and_mail_goes_through_sendmail() {
    let sandbox = Sandbox::new();
    sandbox.write("broken", "");
    let sendmail = sandbox.script("sendmail", "echo \"$@\" > @/args\ncat > @/mail");
    sandbox.define("sendmail", sendmail.display().to_string());
    sandbox.script("tell", "env | grep ^RSYNCDIRECTOR_ | sort > @/env");
    let config = sandbox.config(&format!(
        "notify: [{{command: [@/tell]}}, {{mail: {{to: [root, ann@example.org], from: rd@example.org, sendmail: <sendmail>}}}}]\n{JOBS}"
    ));
    sandbox.once(&config).expect_code(1);
    let variables = sandbox.lines("env");
    for expected in ["RSYNCDIRECTOR_EVENT=failure", "RSYNCDIRECTOR_JOB=j", "RSYNCDIRECTOR_STDERR=careful"] {
        assert!(variables.iter().any(|line| line == expected), "{expected}: {variables:?}");
    }
    assert_eq!(sandbox.lines("args"), ["-t -i"]);
    let mail = sandbox.lines("mail");
    assert_eq!(mail[..3], ["From: rd@example.org", "To: root,", " ann@example.org"]);
    assert!(mail[3].starts_with("Subject: j failed on "), "{mail:?}");
    assert!(mail.iter().any(|line| line == "action c: exit code 1: careful"), "{mail:?}");
}

#[test]
fn a_job_whose_last_success_is_too_old_is_late_once_across_restarts() {
    let (sandbox, receiver) = (Sandbox::new(), Receiver::new());
    sandbox.define("url", receiver.url());
    let config = sandbox
        .config(&format!("notify: [{{http: {{url: '<url>'}}}}]\n{}", JOBS.replace("{id: j,", "{id: j, max_age: 1,")));
    let mut director = sandbox.start(&config);
    assert_eq!(director.metric("rsyncdirector_job_max_age_seconds job_id=j"), 1.0);
    let requests = receiver.wait_for(1);
    assert_eq!(told(&requests), ["late"]);
    assert!(requests[0].body.contains("it did not succeed within 1 s"), "{}", requests[0].body);
    director.wait_for_log("late: it did not succeed");
    director.stop();
    let director = sandbox.start(&config);
    director.run_now(1);
    let requests = receiver.wait_for(2);
    assert_eq!(told(&requests), ["late", "late"], "the second is that after the success");
    assert!(requests[1].body.contains("it last succeeded at"), "{}", requests[1].body);
}

#[test]
fn a_skip_is_told_to_who_asks_and_a_dry_run_to_nobody() {
    let (sandbox, receiver) = (Sandbox::new(), Receiver::new());
    sandbox.define("url", receiver.url());
    sandbox.write("block", "");
    let config = sandbox.config(
        "notify: [{http: {url: '<url>'}, on: [skip, start]}]
jobs: [{id: j, type: local, blocks_on: [{type: local, path: @/block, timeout: 0}], actions: []}]\n",
    );
    sandbox.once_with(&config, &["--dry-run"]);
    assert_eq!(receiver.requests(), []);
    sandbox.once(&config).expect_code(1);
    let requests = receiver.requests();
    assert_eq!(told(&requests), ["start", "skip"]);
    assert!(requests[1].body.contains("block_timeout") && requests[1].body.contains("gave up waiting"), "{requests:?}");
}

fn test_them(sandbox: &Sandbox, config: &Path, arguments: &[&str]) -> Finished {
    let mut command = sandbox.command();
    command.arg("notify-test").args(arguments).arg("--config").arg(config);
    Finished::of(command)
}

#[test]
fn notify_test_says_of_each_target_whether_it_can_be_told() {
    let (sandbox, good, bad) = (Sandbox::new(), Receiver::new(), Receiver::answering(&[Answer::Status(500)]));
    sandbox.define("good", good.url());
    sandbox.define("bad", bad.url());
    let config = sandbox.config(
        "notify: [{http: {url: '<good>/secret'}}]
jobs:
- {id: a, type: local, actions: []}
- {id: b, type: local, actions: []}
- {id: c, type: local, actions: [], notify: [{http: {url: '<bad>'}}, {command: 'echo broken >&2; exit 3'}]}
- {id: d, type: local, actions: [], notify: []}\n",
    );
    let tested = test_them(&sandbox, &config, &[]);
    tested.expect_code(1).expect_printed("answered 500").expect_printed("FAILED: exit code 3: broken");
    assert_eq!(tested.stdout.lines().count(), 3, "{}", tested.stdout);
    assert!(!tested.stdout.contains("secret"), "{}", tested.stdout);
    test_them(&sandbox, &config, &["--job", "b", "--event", "late"]).expect_code(0).expect_printed(": told");
    let requests = good.requests();
    assert_eq!(told(&requests), ["failure", "late"]);
    assert!(requests[0].body.contains("\"test\":true") && requests[0].body.contains("TEST: a failed"), "{requests:?}");
    test_them(&sandbox, &config, &["--job", "d"]).expect_code(1).expect_said("nobody to tell");
    test_them(&sandbox, &config, &["--job", "x"]).expect_code(2).expect_said("there is no job");
    test_them(&sandbox, &config, &["--event", "x"]).expect_code(2);
}

/// A TLS server with a certificate of a private authority, which takes one request. Dropping it ends it.
struct Secure {
    server: Child,
    url: String,
}

impl Secure {
    fn start(sandbox: &Sandbox) -> Self {
        let script = "cd @/\nexport OPENSSL_CONF=/dev/null\nnew='-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes'
echo '[req]\ndistinguished_name=dn\n[dn]' > req.cnf
openssl req -config req.cnf -x509 $new -keyout ca.key -out ca.pem -subj /CN=ca -days 2 -addext basicConstraints=critical,CA:TRUE
openssl req -config req.cnf $new -keyout tls.key -out tls.csr -subj /CN=tls
echo subjectAltName=IP:127.0.0.1 > ext
openssl x509 -req -in tls.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile ext -out tls.pem";
        let made = Command::new(sandbox.script("make-certificates", script)).output().expect("openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let launch = |addr: SocketAddr, log: File| {
            let mut server = Command::new("openssl");
            server.args(["s_server", "-quiet", "-accept", &addr.to_string(), "-cert", "tls.pem", "-key", "tls.key"]);
            server.current_dir(sandbox.dir()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
            server.spawn().expect("openssl")
        };
        let log = sandbox.path("s_server.log");
        let (server, addr) = ports::start("openssl s_server", Ipv4Addr::LOCALHOST.into(), &log, launch);
        Self { server, url: format!("https://{addr}/secret") }
    }

    /// Answers the request that comes, and gives its first line.
    fn answer(&mut self) -> String {
        let mut lines = BufReader::new(self.server.stdout.as_mut().expect("piped")).lines();
        let first = lines.next().expect("a line").expect("text");
        while lines.next().is_some_and(|line| !line.expect("text").is_empty()) {}
        let stdin = self.server.stdin.as_mut().expect("piped");
        stdin.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").expect("written");
        first
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn tls_needs_an_authority_that_is_trusted() {
    let sandbox = Sandbox::new();
    let mut secure = Secure::start(&sandbox);
    sandbox.define("url", secure.url.clone());
    let jobs = "jobs: [{id: j, type: local, actions: []}]\n";
    let config = sandbox.config(&format!("notify: [{{http: {{url: '<url>'}}}}]\n{jobs}"));
    let tested = test_them(&sandbox, &config, &[]);
    tested.expect_code(1).expect_printed("no TLS with 127.0.0.1").expect_printed("UnknownIssuer");
    let config = sandbox.config(&format!("notify: [{{http: {{url: '<url>', ca_file: @/ca.pem}}}}]\n{jobs}"));
    let mut command = sandbox.command();
    command.args(["notify-test", "--config"]).arg(&config).stdout(Stdio::piped());
    let told = command.spawn().expect("the program");
    assert_eq!(secure.answer(), "POST /secret HTTP/1.1");
    let told = told.wait_with_output().expect("it ends");
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stdout));
}

#[test]
fn a_run_that_the_end_of_the_daemon_cuts_short_is_told_before_it_is_gone() {
    let (sandbox, receiver) = (Sandbox::new(), Receiver::new());
    sandbox.define("url", receiver.url());
    let config = sandbox.config(
        "notify: [{http: {url: '<url>'}}]
jobs:
- {id: j, type: local, actions: [{action: command, id: c, command: 'touch @/begun; sleep 1000'}]}
- {id: k, type: local, actions: []}\n",
    );
    let mut director = sandbox.start(&config);
    director.hup();
    wait::until("it runs", || sandbox.exists("begun"));
    director.stop();
    let requests = receiver.requests();
    assert_eq!(told(&requests), ["failure"], "of the job that did not run nothing is told");
    assert!(requests[0].body.contains("\"reason\":\"cancelled\""), "{requests:?}");
}
