//! The pages of replicas in a real browser, for whatever a verification can leave behind.

use std::collections::BTreeMap;
use std::time::Duration;

use integration_tests::browser::{Browser, Scripts};
use integration_tests::{Director, Sandbox, checks, procs};
use jiff::Timestamp;
use rsyncdirector::scan::{Entry, Kind, Mtime, order};
use rsyncdirector::verify::order::Replica;
use rsyncdirector::verify::report::{By, Count, Drill, Report, Verdict};
use rsyncdirector::verify::store::Store;
use rsyncdirector::verify::{Class, Depth, Difference};

/// Names that would do harm where they are more than text.
const HOSTILE: [&[u8]; 6] = [
    b"evil/<script>alert(1)</script>",
    b"evil/\"><img src=x onerror=alert(2)>",
    b"evil/two\nlines",
    b"evil/right \xe2\x80\xae to left",
    b"evil/caf\xe9 100% a+b & c",
    b"evil/caf\xe9 dir/'inner' #1?.txt",
];

const JOBS: &str = "jobs:
- id: photos
  type: local
  cron_schedule: '30 2 * * *'
  actions:
  - {action: sync, id: copy, source: @/src/, dest: /srv/backup/photos, opts: ['-a', '--delete']}
- id: mail
  type: remote
  user: backup
  host: vault.example.org
  private_ssh_key: @/id
  actions:
  - {action: sync, id: boxes, source: @/mail/, dest: /srv/mail, opts: ['-a']}
  - {action: sync, id: lists, source: @/lists/, dest: /srv/lists, opts: ['-a']}
- id: music & <films>
  type: local
  actions:
  - {action: sync, id: a/b, source: @/music/, dest: /srv/music, opts: ['-a']}
  - {action: sync, id: never, source: @/x/, dest: /srv/x, opts: ['-a']}
";

fn now() -> Timestamp {
    let since = std::time::UNIX_EPOCH.elapsed().expect("after 1970");
    Timestamp::from_second(i64::try_from(since.as_secs()).expect("soon")).expect("a time")
}

fn report(job: &str, sync: &str, verdict: Verdict, ago: u64) -> Report {
    let all = Count { entries: 48_213, bytes: 912_000_000_000 };
    let at = now() - Duration::from_secs(ago);
    Report {
        replica: Replica { job: job.into(), sync: sync.into() },
        at,
        seconds: 83.0,
        depth: Depth::Quick,
        by: By::Agent,
        verdict,
        why: String::new(),
        all,
        in_step: all,
        classes: BTreeMap::new(),
        lag: None,
        last_agreement: (verdict == Verdict::InStep).then_some(at),
        read: Count::default(),
        known: Count::default(),
        never_read: Count::default(),
        oldest_read: None,
        window_days: None,
        drill: None,
        notes: Vec::new(),
        directories: Vec::new(),
        listed: 0,
    }
}

/// `report`, of which these differ.
fn with(mut report: Report, differences: &[Difference]) -> Report {
    for found in differences {
        report.classes.entry(found.class).or_default().add(found.bytes());
        report.in_step.entries -= 1;
        report.in_step.bytes = report.in_step.bytes.saturating_sub(found.bytes());
    }
    report.listed = differences.len() as u64;
    report
}

fn difference(path: &[u8], class: Class, bytes: u64) -> Difference {
    let mtime = Mtime { seconds: now().as_second() - 5000, nanos: 0 };
    let entry = || Some(Entry { size: bytes, mtime, ..Entry::of(path.to_vec(), Kind::File) });
    let (source, target) = match class {
        Class::Missing => (entry(), None),
        Class::Extra => (None, entry()),
        _ => (entry(), entry()),
    };
    let detail = match class {
        Class::Meta => "mode 0600, not 0644, owner 1000, not 0",
        Class::Content => "the target changed since it agreed on 2026-10-02",
        Class::Size => "1200 bytes, not 4096",
        Class::Unreadable => "Permission denied (os error 13)",
        _ => "",
    };
    Difference { path: path.to_vec(), class, detail: detail.into(), source, target }
}

/// Some 640 differences of every class.
fn many() -> Vec<Difference> {
    let mut found: Vec<_> = HOSTILE.iter().map(|name| difference(name, Class::Missing, 1000)).collect();
    for year in 2018..2026 {
        for n in 0..80_u64 {
            let class = if year == 2019 { Class::ALL[n as usize % 10] } else { Class::Stale };
            let path = format!("{year}/holiday-{:02}/IMG_{n:04}.jpeg", n / 9);
            found.push(difference(path.as_bytes(), class, (n + 1) * (year - 2000) * 10_000));
        }
    }
    found.sort_by(|a, b| order(&a.path, &b.path));
    found
}

struct Scene {
    sandbox: Sandbox,
    main: Director,
}

impl Scene {
    fn begin(differences: &[Difference]) -> Self {
        let sandbox = Sandbox::new();
        sandbox.user_key();
        std::fs::copy(sandbox.path("id_user"), sandbox.path("id")).expect("a key");
        let mut store = Store::open(&sandbox.mkdir("state/main")).expect("a database");
        let mut put = |report: &Report, differences: &[Difference]| {
            let year = Duration::from_secs(400 * 86_400);
            store.record(report, differences.iter().cloned(), year).expect("recorded");
        };
        for day in (1..60_u64).rev() {
            let mut earlier = report("photos", "copy", Verdict::InStep, day * 86_400);
            if day % 9 == 2 {
                earlier.in_step.entries -= day * 40;
                earlier.lag = Some(day as f64 * 3600.0);
            }
            put(&earlier, &[]);
        }
        put(&Self::drift(differences), differences);
        put(&report("mail", "boxes", Verdict::InStep, 3600), &[]);
        let closed = [difference(b"private", Class::Unreadable, 0)];
        let mut unknown = with(report("mail", "lists", Verdict::Unknown, 90_000), &closed);
        unknown.why = "what could not be read may differ".into();
        put(&unknown, &closed);
        let few = [difference(b"a", Class::Stale, 10)];
        let mut tolerated = with(report("music & <films>", "a/b", Verdict::Tolerated, 500), &few);
        tolerated.lag = Some(4000.0);
        put(&tolerated, &few);
        let config = sandbox.config(JOBS);
        let main = sandbox.start(&config);
        Self { sandbox, main }
    }

    /// The report of a deep verification that found something of everything.
    fn drift(differences: &[Difference]) -> Report {
        let mut drift = with(report("photos", "copy", Verdict::Drift, 700), differences);
        drift.depth = Depth::Deep;
        drift.why = "more than 0.1% differ".into();
        drift.lag = Some(93_000.0);
        drift.last_agreement = Some(now() - Duration::from_secs(9 * 86_400));
        drift.read = Count { entries: 4000, bytes: 81_000_000_000 };
        drift.known = Count { entries: 44_000, bytes: 831_000_000_000 };
        drift.never_read = Count { entries: 12, bytes: 5_000_000 };
        drift.oldest_read = Some(now() - Duration::from_secs(18 * 86_400));
        drift.window_days = Some(20.0);
        let failed = vec![("evil/<script>alert(3)</script>".to_owned(), "it came back with other bytes".to_owned())];
        drift.drill = Some(Drill { files: 20, bytes: 99_000_000, failed, skipped: 1 });
        drift
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.main.metrics_addr())
    }
}

const PHOTOS: &str = "/replica/photos/copy";

#[test]
fn differences_are_found_by_directory_search_class_and_page_without_a_script() {
    let scene = Scene::begin(&many());
    let browser = Browser::start(Scripts::Off);
    browser.open(&scene.url("/"));
    click(&browser, "photos/copy");
    assert!(browser.text("#word").contains("out of step"), "{}", browser.text("#word"));
    assert!(
        browser.text("#state").contains("98.6") && browser.text("#state").contains("1 d 1 h"),
        "{}",
        browser.text("#state")
    );
    assert_eq!(rows(&browser), 100);
    assert!(browser.text(".pages").contains("page 1 of 7"), "{}", browser.text(".pages"));
    click(&browser, "last");
    assert_eq!((rows(&browser), browser.text(".pages").contains("page 7 of 7")), (46, true));
    click(&browser, "previous");
    assert!(browser.text(".pages").contains("page 6 of 7"));

    click(&browser, "2019");
    click(&browser, "holiday-03");
    assert_eq!(rows(&browser), 9);
    assert!(browser.text(".trail").contains("2019") && browser.text(".trail").contains("holiday-03"));
    select(&browser, "meta");
    submit(&browser);
    assert_eq!(rows(&browser), 1);
    assert!(browser.text(".differences").contains("mode 0600, not 0644"), "{}", browser.text("main"));
    assert!(browser.text("main").contains("1 of 9 differences"));
    click(&browser, "the whole replica");
    assert_eq!(rows(&browser), 8);
    click(&browser, "all");
    browser.eval("document.querySelector('[name=q]').focus()");
    browser.press("img_0012\u{e007}");
    browser.wait_for_text("main", "8 of 646 differences");
    assert_eq!(browser.eval("return document.querySelector('[name=q]').value"), "img_0012");
    browser.open(&scene.url(&format!("{PHOTOS}?q=100%25+a%2Bb")));
    assert_eq!(rows(&browser), 1);
    browser.open(&scene.url(&format!("{PHOTOS}?q=nothing+like+it")));
    assert!(browser.text("main").contains("None of 646 differences is like that."));
    browser.open(&scene.url(&format!("{PHOTOS}?page=99")));
    assert!(browser.text(".pages").contains("page 7 of 7"));
    browser.open(&scene.url(&format!("{PHOTOS}?dir=no/such/dir")));
    assert!(browser.text("main").contains("Nothing differs below it."));
}

#[test]
fn hostile_names_are_text_and_links_lead_into_them() {
    let scene = Scene::begin(&many());
    let browser = Browser::start(Scripts::On);
    browser.open(&scene.url(&format!("{PHOTOS}?dir=evil")));
    let page = browser.text(".differences");
    let shown = [
        "<script>alert(1)</script>",
        "onerror=alert(2)>",
        "two\\nlines",
        "right \\u{202e} to left",
        "caf\\xe9 100% a+b & c",
    ];
    for shown in shown {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    click(&browser, "caf\\xe9 dir");
    assert_eq!(rows(&browser), 1);
    browser.eval("document.querySelector('[name=q]').focus()");
    browser.press("inner\u{e007}");
    browser.wait_for_text(".differences", "'inner' #1?.txt");
    browser.wait_for_text("main", "1 of 1 difference");
    click(&browser, "'inner' #1?.txt");
    assert_eq!(rows(&browser), 1);
    assert_eq!(
        browser
            .eval("return document.querySelectorAll('script').length + document.querySelectorAll('main img').length"),
        1
    );
    // A job and a sync with names that mean something in a path.
    browser.open(&scene.url("/"));
    click(&browser, "music & <films>/a/b");
    assert!(browser.text("h1").contains("a/b") && browser.text("#word").contains("nearly in step"));
    assert!(browser.text(".command").contains("'music & <films>/a/b'"), "{}", browser.text("main"));
    assert_eq!(browser.complaints(), Vec::<String>::new());
    for path in ["/replica/photos/nothing", "/replica/nobody/copy", "/replica/photos", "/replica/"] {
        assert_eq!(scene.main.get(path).status, 404, "{path}");
    }
}

#[test]
fn a_page_that_is_looked_at_shows_the_next_verification() {
    let scene = Scene::begin(&many());
    let browser = Browser::start(Scripts::On);
    browser.open(&scene.url(PHOTOS));
    browser.wait_for_text("#word", "out of step");
    browser.eval("window.mark = 'still here'");
    let mut store = Store::open(&scene.sandbox.mkdir("state/main")).expect("a database");
    let better = report("photos", "copy", Verdict::InStep, 1);
    store.record(&better, std::iter::empty(), Duration::from_secs(400 * 86_400)).expect("recorded");
    // What wakes those who look is an event of the instance.
    scene.main.hup();
    browser.wait_for_text("#word", "in step");
    browser.wait_for_text("main", "Nothing differs.");
    assert_eq!(browser.eval("return window.mark"), "still here");
}

#[test]
fn each_state_is_fit_for_keyboards_screen_readers_and_phones() {
    let scene = Scene::begin(&many());
    let browser = Browser::start(Scripts::On);
    for (name, path) in [
        ("replicas", "/"),
        ("replicas-of-job", "/jobs/mail"),
        ("replica", PHOTOS),
        ("replica-directory", "/replica/photos/copy?dir=2019&class=meta&by=entries"),
        ("replica-hostile", "/replica/photos/copy?dir=evil"),
        ("replica-in-step", "/replica/mail/boxes"),
        ("replica-unknown", "/replica/mail/lists"),
        ("replica-never", "/replica/music%20%26%20%3Cfilms%3E/never"),
    ] {
        browser.open(&scene.url(path));
        checks::each_look(&browser, name);
        checks::structure(&browser, name);
        assert_eq!(browser.complaints(), Vec::<String>::new(), "{name}");
    }
    browser.open(&scene.url(PHOTOS));
    // From the skip link on, Tab comes to the form.
    let reached = (0..120).any(|_| {
        browser.press("\u{e004}");
        browser.eval("return document.activeElement.name ?? ''") == "q"
    });
    assert!(reached, "Tab does not lead to the search");
}

#[test]
fn a_million_differences_are_no_slower_than_few() {
    let name = |n: u64| format!("customer-{:03}/year-{:02}/IMG_{n:07}.jpeg", n / 10_000, n / 100 % 100);
    let mut found: Vec<_> =
        (0..1_000_000).map(|n| difference(name(n).as_bytes(), Class::ALL[n as usize % 4], n % 7919)).collect();
    found.sort_by(|a, b| order(&a.path, &b.path));
    let mut first = Scene::drift(&[]);
    first.all.entries = 10_000_000;
    first.in_step.entries = 10_000_000;
    let sandbox = Sandbox::new();
    let mut store = Store::open(&sandbox.mkdir("state/main")).expect("a database");
    store.record(&with(first, &found), found.into_iter(), Duration::from_secs(86_400)).expect("recorded");
    let body = "jobs:
- {id: photos, type: local, actions: [{action: sync, id: copy, source: @/src/, dest: /srv/photos, opts: ['-a']}]}
";
    let main = sandbox.start(&sandbox.config(body));
    for (query, expected) in [
        ("", "page 1 of 10000<"),
        ("?page=9000", "page 9000 of 10000<"),
        ("?by=entries", "customer-000"),
        ("?class=extra&page=2000", "page 2000 of 2500<"),
        ("?q=img_0012345", "1 of 1000000 differences"),
        ("?dir=customer-077&q=5.jpeg", "1000 of 10000 differences"),
        ("?dir=customer-077/year-05", "100 differences"),
    ] {
        let took = (0..3).map(|_| {
            let before = procs::processor_time(main.pid());
            let page = main.get(&format!("{PHOTOS}{query}")).body;
            assert!(page.contains(expected), "{query}: {page}");
            procs::processor_time(main.pid()) - before
        });
        let used = took.min().expect("some");
        println!("{query}: {} ms", used.as_millis());
        // Of a build without optimization, on whatever processor; 0.2 to 0.5 s where it was written.
        assert!(used < Duration::from_millis(1500), "{query}: {used:?}");
    }
    assert!(main.get("/").body.len() < 20_000);
}

fn rows(browser: &Browser) -> u64 {
    browser.eval("return document.querySelectorAll('.differences tbody tr').length").as_u64().expect("a number")
}

/// Follows the first link with exactly this text.
#[track_caller]
fn click(browser: &Browser, text: &str) {
    let wanted = serde_json::json!(text);
    let script = format!(
        "return [...document.querySelectorAll('main a')].find(a => a.textContent.trim() == {wanted})?.href ?? ''"
    );
    let href = browser.eval(&script);
    let href = href.as_str().filter(|href| !href.is_empty());
    browser.open(href.unwrap_or_else(|| panic!("no link {text:?}: {}", browser.text("main"))));
}

fn select(browser: &Browser, class: &str) {
    browser.eval(&format!("document.querySelector('[name=class]').value = '{class}'"));
}

/// Presses the form's button by the keyboard.
fn submit(browser: &Browser) {
    let before = browser.eval("return location.href");
    browser.eval("document.querySelector('form.search button').focus()");
    browser.press("\u{e007}");
    integration_tests::wait::until("the form is sent", || browser.eval("return location.href") != before);
}

#[test]
fn a_verification_is_seen_on_pages_in_metrics_and_in_the_status() {
    let sandbox = Sandbox::new();
    for name in ["a", "b/c", "b/d"] {
        sandbox.write(format!("src/{name}"), name);
    }
    sandbox.write_big("big/film.mkv", 40);
    let config = sandbox.config(
        "jobs:
- id: photos
  type: local
  cron_schedule: '30 2 * * *'
  actions:
  - {action: sync, id: copy, source: @/src/, dest: @/dst, opts: ['-a', '--delete']}
  - {action: verify, id: look, of: copy}
- id: cut
  type: local
  actions:
  - {action: sync, id: films, source: @/big/, dest: @/cut-dst, opts: ['-a']}
  - {action: verify, id: glance, of: films, level: deep, rate: 500k, timeout: 1}
- id: slow
  type: local
  actions:
  - {action: sync, id: films, source: @/big/, dest: @/big-dst, opts: ['-a']}
  - {action: verify, id: crawl, of: films, level: deep, rate: 500k}
",
    );
    let mut main = sandbox.start(&config);
    let of = |metric: &str| format!("rsyncdirector_replica_{metric} job_id=photos sync=copy");
    assert_eq!(main.samples().get(&of("in_step_ratio")), None);
    assert_eq!(main.metric(&format!("{} verdict=in_step", of("verifications_total"))), 0.0);
    let browser = Browser::start(Scripts::On);
    browser.open(&format!("http://{}/replica/slow/films", main.metrics_addr()));
    browser.wait_for_text("#word", "never verified");
    main.hup();
    browser.wait_for_text("#word", "a verification is under way");

    // One that was cut off says so, and has no verdict.
    assert_eq!(main.metric("rsyncdirector_replica_verification_errors_total job_id=cut sync=films"), 1.0);
    browser.open(&format!("http://{}/replica/cut/films", main.metrics_addr()));
    browser.wait_for_text("#state", "The last verification could not tell");
    assert!(browser.text("#word").contains("never verified"));

    main.wait_for_metric(&of("in_step_ratio"), 1.0);
    assert_eq!(main.metric(&of("lag_seconds")), 0.0);
    assert_eq!(main.metric(&format!("{} verdict=in_step", of("verifications_total"))), 1.0);
    assert_eq!(main.metric(&format!("{} class=content", of("entries"))), 0.0);
    browser.open(&format!("http://{}/replica/photos/copy", main.metrics_addr()));
    browser.wait_for_text("#word", "in step");
    for expected in ["100 %", "both sides are on this host", "by photos/look"] {
        assert!(browser.text("#state").contains(expected), "{expected}: {}", browser.text("#state"));
    }
    assert!(browser.text("main").contains("Nothing differs."));
    let config_path = config.to_str().expect("UTF-8");
    let status = || sandbox.cli(&["status", "--config", config_path]);
    status().expect_code(0).expect_printed("IN STEP").expect_printed("100 %");

    // Asked for by a person, while the instance does something else.
    sandbox.remove("dst/b/c");
    sandbox.write("dst/b/d", "rotten");
    sandbox.cli(&["verify", "--config", config_path, "photos/copy"]).expect_code(2);
    browser.open(&format!("http://{}/replica/photos/copy", main.metrics_addr()));
    browser.wait_for_text("#word", "out of step");
    assert!(browser.text(".differences").contains("b/c"), "{}", browser.text("main"));
    main.wait_for_metric(&format!("{} verdict=drift", of("verdict")), 1.0);
    status().expect_code(0).expect_printed("IN STEP");
    let share = main.metric(&of("in_step_ratio"));
    assert!(share < 1.0, "{share}");

    main.stop();
    let main = sandbox.start(&config);
    assert_eq!(main.metric(&of("in_step_ratio")), share);
    assert!(main.get("/").body.contains("out of step"));
}
