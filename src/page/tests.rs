//! Pages of made-up instances.

use std::time::Duration;

use super::*;
use crate::history::read::{ActionRun, JobRun};
use crate::status::{Ended, JobStatus, Progress, State, WaitsOn};

mod replicas;

/// The bar of the overview, bytes, at 200 jobs.
const OVERVIEW_MAX: usize = 60_000;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).expect("a time")
}

fn job(id: &str, state: State) -> JobStatus {
    let ended =
        Ended { run: Some(1_799_999_000_123), at: at(-5000), outcome: "succeeded".into(), detail: None, seconds: 61.5 };
    JobStatus {
        job: id.to_owned(),
        state,
        run: None,
        trigger: None,
        since: None,
        last: Some(ended),
        last_success: Some(at(-5000)),
        next_run: Some(at(7000)),
        paused: None,
        replicas: Vec::new(),
    }
}

fn acting(progress: Option<Progress>) -> State {
    State::Acting {
        action: "copy".into(),
        command: "rsync -a /srv/photos/ nas:/photos".into(),
        since: at(-90),
        progress,
    }
}

fn status(jobs: Vec<JobStatus>) -> Status {
    Status {
        instance: "laptop".into(),
        version: "2.0.0".into(),
        pid: 1,
        since: at(-9000),
        config: "/etc/rsyncdirector/laptop.yaml".into(),
        jobs,
    }
}

fn show<T>(jobs: Vec<JobStatus>, recent: &[(&str, Vec<Outcome>)], page: impl FnOnce(&Seen<'_>) -> T) -> T {
    show_with(jobs, recent, &[], page)
}

fn show_with<T>(
    jobs: Vec<JobStatus>,
    recent: &[(&str, Vec<Outcome>)],
    replicas: &[ReplicaRow],
    page: impl FnOnce(&Seen<'_>) -> T,
) -> T {
    let status = status(jobs);
    let recent = recent.iter().map(|(job, runs)| ((*job).to_owned(), runs.clone())).collect();
    let moved = HashMap::from([("photos".to_owned(), Moved { bytes: 5_000_000, rate: Some(2_000_000) })]);
    page(&Seen { status: &status, recent: &recent, moved: &moved, replicas, at: at(0), zone: &TimeZone::UTC })
}

fn outcome(word: &str, took: i64) -> Outcome {
    Outcome { run: Some(7), started: at(-9000), ended: Some(at(took - 9000)), outcome: word.into(), detail: None }
}

#[test]
fn an_overview_of_200_jobs_is_within_its_bar() {
    let states = |n: usize| match n % 10 {
        0 => acting(Some(Progress { bytes: 123_456_789, percent: 42, rate: 11_000_000 })),
        1 => acting(None),
        2 => State::Waiting {
            on: WaitsOn::Lock,
            file: "backup01.example.org:/run/lock/photos.lock".into(),
            obstacle: "held by desktop@desktop01 for job photos, 17 min, lease fresh".into(),
            since: at(-60),
        },
        _ => State::Idle,
    };
    let mut jobs: Vec<JobStatus> = (0..200).map(|n| job(&format!("customer-{n:03}-home"), states(n))).collect();
    for job in jobs.iter_mut().step_by(20) {
        let detail = "action copy: exit code 23 (some files could not be transferred): rsync: permission denied (13)";
        job.last = job.last.take().map(|last| Ended { outcome: "failed".into(), detail: Some(detail.into()), ..last });
    }
    let html = show(jobs, &[], overview);
    let page = whole("Jobs", "laptop", "2.0.0", &html);
    assert!(page.len() <= OVERVIEW_MAX, "{} bytes", page.len());
    assert!(page.contains("<b>copy</b>") && page.contains("waits for a lock") && !page.contains("Lately"));
}

#[test]
fn time_left_is_by_rate_where_rsync_tells_and_by_habit_where_it_does_not() {
    let told = acting(Some(Progress { bytes: 250_000_000, percent: 25, rate: 1_000_000 }));
    let page = show(vec![job("photos", told)], &[], overview).into_string();
    assert!(page.contains("25 % · 250 MB at 1.0 MB/s · for 90 s · 12 min left"), "{page}");

    let running = JobStatus { since: Some(at(-90)), ..job("photos", acting(None)) };
    let habit =
        vec![outcome("succeeded", 100), outcome("failed", 3), outcome("succeeded", 360), outcome("succeeded", 9999)];
    let page = show(vec![running.clone()], &[("photos", habit)], overview).into_string();
    assert!(page.contains("5.0 MB at 2.0 MB/s · for 90 s · about 4 min left, by its usual time"), "{page}");
    let page = show(vec![running], &[], overview).into_string();
    assert!(page.contains("5.0 MB at 2.0 MB/s · for 90 s</p>"), "{page}");
}

#[test]
fn an_rsync_that_tells_more_than_100_percent_has_no_time_left() {
    let told = acting(Some(Progress { bytes: 260_000_000, percent: 130, rate: 1_000_000 }));
    let page = show(vec![job("photos", told)], &[], overview).into_string();
    assert!(page.contains("value=\"100\"") && page.contains("100 % · 260 MB at 1.0 MB/s · for 90 s</p>"), "{page}");
}

#[test]
fn what_an_overview_says_of_the_last_run_is_this_process_s_or_the_history_s() {
    let new = JobStatus { last: None, ..job("photos", State::Idle) };
    let page = show(vec![new.clone()], &[("photos", vec![outcome("interrupted", 5)])], overview).into_string();
    assert!(page.contains("interrupted</b>") && page.contains("href=\"/runs/7\""), "{page}");
    assert!(show(vec![new], &[], overview).as_str().contains("none yet"));
    assert!(show(vec![job("photos", State::Idle)], &[], overview).as_str().contains("succeeded</b>"));
    assert!(show(Vec::new(), &[], overview).as_str().contains("has no jobs"));
}

fn job_run(outcome: &str) -> JobRun {
    JobRun {
        id: 3,
        run: Some(7),
        job: "<b>".into(),
        trigger: "cron".into(),
        started: at(-100),
        ended: None,
        outcome: outcome.into(),
        reason: None,
        detail: Some("a \"reason\" & more".into()),
        blocked_ms: Some(2500),
        locking_ms: None,
        transferred: 3,
        transferred_bytes: 4000,
    }
}

#[test]
fn a_run_shows_its_phases_the_present_wait_included_and_its_log_as_text() {
    let action = ActionRun {
        id: 9,
        action: "copy".into(),
        command: "rsync '<i>'".into(),
        started: at(-90),
        ended: Some(at(-60)),
        outcome: "failed".into(),
        reason: Some("exit".into()),
        exit_code: Some(23),
        signal: None,
        message: Some("exit code 23".into()),
        retries: 1,
        stats: None,
    };
    let lines = vec![Line { is_error: true, text: "</pre><script>".into() }];
    let actions = vec![ActionView { action, lines, more: true }];
    let view = RunView { run: 7, jobs: vec![RunJob { job: job_run("running"), actions }] };
    let waiting = State::Waiting { on: WaitsOn::Lock, file: "/l".into(), obstacle: "held by x".into(), since: at(-20) };
    let now = JobStatus { run: Some(7), ..job("<b>", waiting) };
    let page = show(vec![now], &[], |seen| run(&view, seen)).into_string();
    for expected in [
        "blocked <b>2.5 s</b>",
        "locking <b>20 s</b>",
        "copy <b>30 s</b>",
        "<em>&lt;/pre&gt;&lt;script&gt;</em>",
        "<a href=\"/logs/9\">",
        "1 retry",
        "a &quot;reason&quot; &amp; more",
        "<a href=\"/jobs/%3Cb%3E\">&lt;b&gt;</a>",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    assert!(!page.contains("<script"));
}

#[test]
fn a_job_shows_plots_of_more_than_one_run_and_who_has_its_files() {
    let ended = |outcome: &str| JobRun { ended: Some(at(-40)), ..job_run(outcome) };
    let file = FileRow {
        role: "lock",
        file: "nas:/l".into(),
        holder: "other@nas".into(),
        in_the_way: true,
        shared_with: vec!["mail & more".into()],
    };
    let status = job("photos", State::Idle);
    let page = |runs: &[JobRun]| {
        let view =
            JobView { job: &status, schedule: "@daily", actions: vec!["a", "b"], runs, files: vec![file.clone()] };
        show(vec![status.clone()], &[], |seen| super::job(&view, seen)).into_string()
    };
    let two = page(&[ended("failed"), ended("succeeded")]);
    for expected in
        ["a → b", "of the last 2 runs, at most 1 min", "other@nas", "href=\"/jobs/mail%20%26%20more\"", "class=\"bad\""]
    {
        assert!(two.contains(expected), "{expected}: {two}");
    }
    assert!(!page(&[ended("failed")]).contains("<figure>"));
}

#[test]
fn a_rate_is_that_between_two_looks() {
    let now = Moved { bytes: 3000, rate: None };
    assert_eq!(now.since(None).rate, None);
    assert_eq!(now.since(Some((Moved { bytes: 1000, rate: None }, 2.0))).rate, Some(1000));
    // Another attempt began anew.
    assert_eq!(now.since(Some((Moved { bytes: 9000, rate: None }, 2.0))).rate, None);
    assert_eq!(parts::rough(Duration::from_secs(7300)), "2 h");
}
