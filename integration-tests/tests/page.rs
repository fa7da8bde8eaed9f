//! The status page in a real browser.

use std::path::PathBuf;

use integration_tests::browser::{Browser, Scripts};
use integration_tests::{Director, Sandbox, checks, wait};

const EVIL: &str = "<script>alert(1)<script>'\"";

/// An instance with a slow sync, one that waits for a lock of the other instance, one that failed, and one that printed the name of an evil
/// file.
struct Scene {
    sandbox: Sandbox,
    main: Director,
    _other: Director,
}

const JOBS: &str = "jobs:
- id: photos
  type: local
  cron_schedule: '30 2 * * *'
  lock_files: [{type: local, path: @/photos.lock}]
  actions: [{action: sync, id: copy, source: @/src/, dest: @/dst, opts: ['-a', '--bwlimit=1500']}]
- id: mail
  type: local
  cron_schedule: '0 * * * *'
  lock_files: [{type: local, path: @/shared.lock, wait_time: 1}]
  blocks_on: [{type: local, path: @/photos.lock.block, wait_time: 1}]
  actions: [{action: command, id: say, command: 'echo mail is copied'}]
- id: evil names
  type: local
  cron_schedule: '15 4 * * sun'
  actions:
  - {action: sync, id: names, source: @/evil/, dest: @/evil-dst, opts: ['-av', '--ignore-times']}
  - {action: command, id: hook, command: 'echo done; echo be careful >&2'}
- id: databases
  type: local
  cron_schedule: '*/30 * * * *'
  actions: [{action: command, id: dump, command: 'echo dumping; sleep 0.1; echo disk full >&2; exit 7'}]
- id: films
  type: local
  cron_schedule: '0 3 1 * *'
  actions: [{action: sync, id: copy, source: @/src/, dest: @/films, opts: ['-a', '--bwlimit=2500', '--info=progress2']}]
";

impl Scene {
    /// Begins it, up to where all that ends has ended and the rest is under way.
    fn begin() -> Self {
        let sandbox = Sandbox::new();
        sandbox.define_hold();
        let other = sandbox.config_of(
            "other",
            "jobs:
- {id: holds, type: local, lock_files: [{type: local, path: @/shared.lock}], actions: [{action: command, id: c, command: <hold>}]}
",
        );
        let other = sandbox.start(&other);
        other.hup();
        wait::until("the other instance holds the lock", || sandbox.exists("started"));
        sandbox.write_big("src/film.mkv", 120);
        sandbox.write(format!("evil/{EVIL}"), "x");
        let config = sandbox.config(JOBS);
        // Some history.
        for _ in 0..3 {
            sandbox.once_with(&config, &["--job", "evil names", "--job", "databases"]).expect_code(1);
        }
        let main = sandbox.start(&config);
        main.hup();
        main.wait_for_log("disk full");
        main.until("the others are under way", |it| {
            let page = it.get("/").body;
            page.contains("waits for a lock") && page.contains("<progress")
        });
        Self { sandbox, main, _other: other }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.main.metrics_addr())
    }

    /// The path of a job's last run.
    fn run_of(&self, job: &str) -> String {
        let page = self.main.get(&format!("/jobs/{job}")).body;
        let runs = page.split("<table class=\"runs\">").nth(1).expect("runs");
        let number: String =
            runs.split("/runs/").nth(1).expect("a run").chars().take_while(char::is_ascii_digit).collect();
        format!("/runs/{number}")
    }
}

#[test]
fn the_overview_of_a_running_sync_moves_without_a_reload() {
    let scene = Scene::begin();
    let browser = Browser::start(Scripts::On);
    browser.open(&scene.url("/"));
    browser.eval("window.mark = 'still here'");
    browser.wait_for_text("#j0", "/s");
    let mut seen = vec![browser.text("#j0 .note")];
    wait::until("its progress has moved three times", || {
        let now = browser.text("#j0 .note");
        if seen.last() != Some(&now) {
            seen.push(now);
        }
        seen.len() >= 4
    });
    assert!(seen.iter().all(|note| note.contains("copy") && note.contains("MB")), "{seen:?}");
    // One whose rsync tells its share.
    browser.wait_for_text("#j4", "left");
    let share = || browser.eval("return document.querySelector('#j4 progress').value").as_u64();
    let before = share().expect("a share");
    wait::until("its share grows", || share().is_some_and(|now| now > before));
    assert_eq!(browser.eval("return window.mark"), "still here");
    assert_eq!(
        browser.eval("return performance.getEntriesByType('resource').filter(r => r.initiatorType == 'fetch').length"),
        0
    );
}

#[test]
fn a_blocked_job_shows_its_holder_and_goes_on_when_it_is_free() {
    let scene = Scene::begin();
    let browser = Browser::start(Scripts::On);
    browser.open(&scene.url("/"));
    browser.wait_for_text("#j1", "waits for a lock");
    browser.wait_for_text("#j1", "other");
    browser.open(&scene.url("/jobs/mail"));
    browser.wait_for_text("#files", "shared.lock");
    browser.wait_for_text("#files", "other");
    scene.sandbox.write("go", "");
    browser.wait_for_text("#word", "idle");
    browser.wait_for_text("#runs tbody", "succeeded");
}

#[test]
fn a_run_shows_its_log_while_it_runs_and_later() {
    let sandbox = Sandbox::new();
    sandbox.define_hold();
    let config = sandbox.config(
        "jobs:
- id: long
  type: local
  actions:
  - {action: command, id: first, command: 'echo it begins; <hold>; echo it ends'}
  - {action: command, id: second, command: 'echo the second'}
",
    );
    let director = sandbox.start(&config);
    director.hup();
    wait::until("it runs", || sandbox.exists("started"));
    let path = || {
        director
            .get("/")
            .body
            .split("\"/runs/")
            .nth(1)
            .map(|rest| rest.split('"').next().unwrap_or_default().to_owned())
    };
    let run = wait::eventually("the overview leads to the run", path);
    let browser = Browser::start(Scripts::On);
    browser.open(&format!("http://{}/runs/{run}", director.metrics_addr()));
    browser.wait_for_text(".log", "it begins");
    assert!(!browser.text(".log").contains("it ends"));
    sandbox.write("go", "");
    browser.wait_for_text("main", "the second");
    browser.wait_for_text(".log", "it ends");
    browser.wait_for_text("#s0", "succeeded");
    assert!(browser.text(".phases").contains("first"));
}

#[test]
fn a_page_with_a_password_is_live_for_who_has_it() {
    let sandbox = Sandbox::new();
    sandbox.define_hold();
    let hash = std::process::Command::new("openssl").args(["passwd", "-6", "open sesame"]).output().expect("openssl");
    sandbox.define("hash", String::from_utf8_lossy(&hash.stdout).trim());
    let config = sandbox.config(
        "metrics: {addr: 127.0.0.1, port: 0, auth: {page: {user: ann, password_hash: '<hash>'}}}
jobs:
- {id: j, type: local, actions: [{action: command, id: c, command: <hold>}]}
",
    );
    let director = sandbox.start(&config);
    for path in ["/", "/jobs/j", "/events?of=/"] {
        let answer = director.get(path);
        assert!(answer.status == 401 && answer.head.contains("www-authenticate: Basic"), "{path}: {}", answer.head);
    }
    assert_eq!((director.get("/metrics").status, director.get("/healthz").status), (200, 200));
    let browser = Browser::start(Scripts::On);
    browser.open(&format!("http://ann:open%20sesame@{}/", director.metrics_addr()));
    browser.wait_for_text("#j0", "idle");
    director.hup();
    browser.wait_for_text("#j0", "running");
    sandbox.write("go", "");
    browser.wait_for_text("#j0", "succeeded");
}

#[test]
fn names_and_messages_are_only_text() {
    let scene = Scene::begin();
    let browser = Browser::start(Scripts::On);
    for path in ["/", &scene.run_of("evil%20names"), "/jobs/evil%20names"] {
        browser.open(&scene.url(path));
        assert_eq!(
            browser.eval("return [...document.querySelectorAll('script')].map(s => s.getAttribute('src')).join()"),
            "/script.js"
        );
    }
    browser.open(&scene.url(&scene.run_of("evil%20names")));
    browser.wait_for_text(".log", EVIL);
    let answer = scene.main.get("/");
    assert!(answer.head.contains("content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'"));
    assert!(!answer.body.contains("style=") && !answer.body.contains("onclick"));
}

#[test]
fn all_is_shown_without_scripts() {
    let scene = Scene::begin();
    let browser = Browser::start(Scripts::Off);
    browser.open(&scene.url("/"));
    let page = browser.text("main");
    for expected in ["photos", "copy", "waits for a lock", "other", "failed", "exit code 7", "succeeded"] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    assert!(browser.eval("return document.querySelectorAll('#j0 progress').length") == 1);
    browser.open(&scene.url(&scene.run_of("databases")));
    assert!(browser.text("main").contains("dumping"), "{}", browser.text("main"));
    browser.open(&scene.url("/jobs/mail"));
    assert!(browser.text("#files").contains("shared.lock"));
}

#[test]
fn each_page_is_fit_for_keyboards_screen_readers_and_phones() {
    let scene = Scene::begin();
    let browser = Browser::start(Scripts::On);
    for (name, path) in [
        ("overview", "/".to_owned()),
        ("job", "/jobs/databases".into()),
        ("waiting-job", "/jobs/mail".into()),
        ("run", scene.run_of("evil%20names")),
    ] {
        browser.open(&scene.url(&path));
        checks::each_look(&browser, name);
        checks::structure(&browser, name);
    }
}

#[test]
fn the_listener_speaks_https_and_takes_a_renewed_certificate() {
    let sandbox = Sandbox::new();
    let certificate = |name: &str| {
        let [key, cert] = ["key.pem", "cert.pem"].map(|file| sandbox.path(file));
        let mut command = std::process::Command::new("openssl");
        command.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
        ]);
        command.arg(format!("/CN={name}")).arg("-keyout").arg(key).arg("-out").arg(cert);
        assert!(command.output().expect("openssl").status.success());
    };
    certificate("first.example");
    sandbox.write("token", "hunter2\n");
    sandbox.chmod("token", 0o600);
    let body = "metrics: {addr: 127.0.0.1, port: 0, tls: {cert: @/cert.pem, key: @/key.pem}, auth: {metrics: {bearer_file: @/token}}}
jobs:
- {id: j, type: local, actions: [{action: command, id: c, command: 'true'}]}
";
    let config: PathBuf = sandbox.config(body);
    let director = sandbox.spawn(&config);
    director.wait_for_log("metrics on https://");
    let log = director.log();
    let address = log.split("https://").nth(1).and_then(|rest| rest.split_once("/metrics")).expect("the address").0;
    let subject = || {
        let mut command = std::process::Command::new("openssl");
        command.args(["s_client", "-connect", address]).stdin(std::process::Stdio::null());
        String::from_utf8_lossy(&command.output().expect("openssl").stdout).into_owned()
    };
    assert!(subject().contains("CN = first.example"), "{}", subject());
    certificate("second.example");
    wait::until("the renewed certificate is served", || subject().contains("CN = second.example"));
    director.wait_for_log("was read again");

    sandbox.write("key.pem", "no key\n");
    let checked = sandbox.cli(&["check", config.to_str().expect("UTF-8")]);
    checked.expect_code(2).expect_said("there is no private key in ");
}
