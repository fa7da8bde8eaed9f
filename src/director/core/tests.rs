use super::*;

/// A lane of one job.
fn plan(schedule: Option<&str>, timezone: &TimeZone) -> LanePlan {
    LanePlan {
        schedule: schedule.map(|expression| Schedule::parse(expression).unwrap()),
        timezone: timezone.clone(),
        delay: Duration::ZERO,
        jobs: vec![JobPlan::default()],
    }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn core(expressions: &[&str]) -> Core {
    let lanes = expressions.iter().map(|expression| plan(Some(expression), &TimeZone::UTC));
    begin(lanes.collect())
}

fn begin(lanes: Vec<LanePlan>) -> Core {
    let mut core = Core::new(lanes, at("2028-01-01T00:00:30Z"));
    core.handle(Event::Started, at("2028-01-01T00:00:30Z"));
    core
}

/// What a core does, without plans and run numbers.
fn acts(commands: Vec<Command>) -> Vec<String> {
    commands
        .into_iter()
        .filter_map(|command| match command {
            Command::Start { lane, trigger, jobs, .. } => Some(format!("start {lane}{} {trigger}", named(&jobs))),
            Command::Skip { lane, reason, jobs, .. } => {
                Some(format!("skip {lane}{} {}", named(&jobs), reason.as_str()))
            }
            Command::Missed { lane, count, jobs } => Some(format!("missed {lane}{} {count}", named(&jobs))),
            Command::Queued { lane, new } => Some(format!("queued {lane} {new}")),
            Command::Due { .. } => None,
            other => Some(format!("{other:?}").to_lowercase()),
        })
        .collect()
}

/// Nothing for the first job of a lane, which is the only one in most of these tests.
fn named(jobs: &Jobs) -> String {
    if *jobs == Jobs::from([0]) { String::new() } else { format!("{jobs:?}") }
}

#[track_caller]
fn check(core: &mut Core, event: Event, now: &str, expected: &[&str]) {
    let told = format!("{event:?} at {now}");
    assert_eq!(acts(core.handle(event, at(now))), expected, "{told}");
}

#[test]
fn a_tick_starts_a_run_and_a_tick_during_it_is_skipped() {
    let mut core = core(&["*/5 * * * *"]);
    assert_eq!(core.next_wakeup(), Some(at("2028-01-01T00:05:00Z")));
    check(&mut core, Event::Woke, "2028-01-01T00:04:59.999Z", &[]);
    check(&mut core, Event::Woke, "2028-01-01T00:05:00Z", &["start 0 cron"]);
    check(&mut core, Event::Woke, "2028-01-01T00:05:00.001Z", &[]);
    check(&mut core, Event::Woke, "2028-01-01T00:10:00Z", &["skip 0 overlap"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T00:11:00Z", &[]);
    check(&mut core, Event::Woke, "2028-01-01T00:15:00Z", &["start 0 cron"]);
}

#[test]
fn hup_runs_now_and_during_a_run_queues_exactly_one_more() {
    let mut core = core(&["0 3 * * *"]);
    check(&mut core, Event::Hup, "2028-01-01T00:01:00Z", &["start 0 hup"]);
    check(&mut core, Event::Hup, "2028-01-01T00:01:01Z", &["queued 0 true"]);
    check(&mut core, Event::Hup, "2028-01-01T00:01:01Z", &["queued 0 false"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T00:02:00Z", &["start 0 hup"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T00:03:00Z", &[]);
}

#[test]
fn lanes_do_not_wait_for_each_other() {
    let mut core = core(&["0 3 * * *", "30 3 * * *"]);
    check(&mut core, Event::Woke, "2028-01-01T03:00:00Z", &["start 0 cron"]);
    check(&mut core, Event::Woke, "2028-01-01T03:30:00Z", &["start 1 cron"]);
    check(&mut core, Event::Hup, "2028-01-01T03:31:00Z", &["queued 0 true", "queued 1 true"]);
}

#[test]
fn terminate_stops_then_kills_and_leaves_when_nothing_runs() {
    let mut core = core(&["0 3 * * *"]);
    check(&mut core, Event::Hup, "2028-01-01T00:01:00Z", &["start 0 hup"]);
    check(&mut core, Event::Hup, "2028-01-01T00:01:01Z", &["queued 0 true"]);
    check(&mut core, Event::Terminate, "2028-01-01T00:02:00Z", &["skip 0 shutdown", "stop"]);
    check(&mut core, Event::Hup, "2028-01-01T00:02:00Z", &[]);
    check(&mut core, Event::Terminate, "2028-01-01T00:02:01Z", &["kill"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T00:02:02Z", &["exit"]);
}

#[test]
fn an_idle_daemon_leaves_at_once() {
    check(&mut core(&["0 3 * * *"]), Event::Terminate, "2028-01-01T00:02:00Z", &["stop", "exit"]);
}

#[test]
fn who_is_to_be_renewed_leaves_at_once_when_nothing_runs() {
    let mut core = core(&["0 3 * * *"]);
    check(&mut core, Event::Renew, "2028-01-01T00:02:00Z", &["renew"]);
    assert_eq!(core.next_wakeup(), None);
    check(&mut core, Event::Hup, "2028-01-01T00:02:00Z", &["exit"]);
}

#[test]
fn who_is_to_be_renewed_ends_what_runs_and_what_waits_first() {
    let mut core = core(&["0 3 * * *", "30 1 * * *"]);
    check(&mut core, Event::Now(vec![(0, Jobs::from([0]))]), "2028-01-01T01:00:00Z", &["start 0 now"]);
    check(&mut core, Event::Renew, "2028-01-01T01:01:00Z", &[]);
    check(&mut core, Event::Now(vec![(0, Jobs::from([0]))]), "2028-01-01T01:02:00Z", &["queued 0 true"]);
    check(&mut core, Event::Woke, "2028-01-01T01:30:00Z", &["start 1 cron"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T01:31:00Z", &["start 0 now"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T01:32:00Z", &[]);
    check(&mut core, Event::RunFinished(1), "2028-01-01T01:33:00Z", &["renew"]);
}

#[test]
fn who_is_to_be_renewed_does_not_leave_just_before_a_tick() {
    let mut core = core(&["0 3 * * *"]);
    check(&mut core, Event::Renew, "2028-01-01T02:59:41Z", &[]);
    check(&mut core, Event::Woke, "2028-01-01T03:00:00Z", &["start 0 cron"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T03:00:01Z", &["renew"]);
}

#[test]
fn an_order_to_stop_wins_over_a_renewal() {
    let mut core = core(&["0 3 * * *"]);
    check(&mut core, Event::Hup, "2028-01-01T00:01:00Z", &["start 0 hup"]);
    check(&mut core, Event::Renew, "2028-01-01T00:01:01Z", &[]);
    check(&mut core, Event::Terminate, "2028-01-01T00:02:00Z", &["stop"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T00:02:02Z", &["exit"]);
}

#[test]
fn once_runs_everything_once_and_leaves() {
    let mut core = Core::new(vec![plan(None, &TimeZone::UTC)], at("2028-01-01T00:00:00Z"));
    check(&mut core, Event::Once, "2028-01-01T00:00:00Z", &["start 0 once"]);
    check(&mut core, Event::Hup, "2028-01-01T00:00:01Z", &[]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T00:00:02Z", &["exit"]);
}

#[test]
fn ticks_that_passed_in_a_suspend_are_counted_and_not_run() {
    let mut core = core(&["0 * * * *"]);
    check(&mut core, Event::Woke, "2028-01-01T05:30:00Z", &["missed 0 5"]);
    assert_eq!(core.next_wakeup(), Some(at("2028-01-01T06:00:00Z")));
    check(&mut core, Event::Woke, "2028-01-01T09:00:20Z", &["missed 0 3", "start 0 cron"]);
}

#[test]
fn a_clock_set_back_does_not_run_twice() {
    let mut core = core(&["0 3 * * *"]);
    check(&mut core, Event::Woke, "2028-01-01T03:00:00Z", &["start 0 cron"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T03:05:00Z", &[]);
    check(&mut core, Event::Woke, "2028-01-01T02:30:00Z", &[]);
    check(&mut core, Event::Woke, "2028-01-01T03:00:00Z", &[]);
    assert_eq!(core.next_wakeup(), Some(at("2028-01-02T03:00:00Z")));
}

#[test]
fn a_clock_set_back_by_a_day_is_planned_anew() {
    let mut core = core(&["0 3 * * *"]);
    check(&mut core, Event::Woke, "2028-01-05T03:00:00Z", &["missed 0 4", "start 0 cron"]);
    check(&mut core, Event::RunFinished(0), "2028-01-05T03:05:00Z", &[]);
    check(&mut core, Event::Woke, "2028-01-02T12:00:00Z", &[]);
    assert_eq!(core.next_wakeup(), Some(at("2028-01-03T03:00:00Z")));
}

#[test]
fn the_delay_moves_a_tick_and_does_not_miss_it() {
    let mut core = core(&["0 * * * *"]);
    core.lanes[0].plan.delay = Duration::from_secs(600);
    assert_eq!(core.next_wakeup(), Some(at("2028-01-01T01:10:00Z")));
    check(&mut core, Event::Woke, "2028-01-01T01:10:00Z", &["start 0 cron"]);
    assert_eq!(core.next_wakeup(), Some(at("2028-01-01T02:10:00Z")));
}

#[test]
fn reboot_runs_when_the_daemon_starts_and_never_again() {
    let mut core = Core::new(vec![plan(Some("@reboot"), &TimeZone::UTC)], at("2028-01-01T00:00:00Z"));
    check(&mut core, Event::Started, "2028-01-01T00:00:00Z", &["start 0 cron"]);
    assert_eq!(core.next_wakeup(), None);
}

#[test]
fn run_numbers_grow_even_when_the_clock_does_not() {
    let mut core = core(&["0 3 * * *", "0 3 * * *"]);
    let runs: Vec<u64> = core
        .handle(Event::Hup, at("2028-01-01T00:01:00Z"))
        .into_iter()
        .filter_map(|command| match command {
            Command::Start { run, .. } => Some(run.0),
            _ => None,
        })
        .collect();
    assert!(runs.len() == 2 && runs[0] < runs[1], "{runs:?}");
}

/// Walks a leap year in Berlin from wake-up to wake-up, with runs that last, and compares with what the calendar says.
#[test]
fn a_simulated_year_runs_every_tick_exactly_once() {
    let berlin = TimeZone::get("Europe/Berlin").unwrap();
    let mut now = at("2027-12-31T22:59:59Z");
    let end = at("2028-12-31T22:59:59Z");
    let plans =
        ["30 2 * * *", "0 */6 * * *", "0 4 1 * *", "15 3 * * sun"].map(|expression| plan(Some(expression), &berlin));
    let mut core = Core::new(plans.to_vec(), now);
    core.handle(Event::Started, now);
    let mut starts = [0; 4];
    let mut last_days: [Option<jiff::civil::Date>; 4] = [None; 4];
    while let Some(wakeup) = core.next_wakeup().filter(|wakeup| *wakeup <= end) {
        assert!(wakeup > now, "time does not stand still");
        now = wakeup;
        for command in core.handle(Event::Woke, now) {
            match command {
                Command::Start { lane, .. } => {
                    starts[lane] += 1;
                    let day = now.to_zoned(berlin.clone()).date();
                    assert!(lane != 0 || last_days[0] != Some(day), "twice on {day}");
                    last_days[lane] = Some(day);
                    let over = now + Duration::from_secs(1200);
                    assert_eq!(acts(core.handle(Event::RunFinished(lane), over.min(now))), [""; 0]);
                }
                Command::Due { .. } => {}
                other => panic!("{other:?} at {now}"),
            }
        }
    }
    assert_eq!(starts, [366, 4 * 366, 12, 53]);
}

/// A lane of three jobs, the first and the second of which queue what overlaps.
fn three() -> Core {
    let queue = || JobPlan { overlap: Overlap::Queue, ..JobPlan::default() };
    let jobs = vec![queue(), queue(), JobPlan::default()];
    begin(vec![LanePlan { jobs, ..plan(Some("0 * * * *"), &TimeZone::UTC) }])
}

fn of_lane(jobs: &[usize]) -> Vec<(LaneId, Jobs)> {
    vec![(0, jobs.iter().copied().collect())]
}

#[test]
fn a_tick_during_a_run_is_queued_for_the_jobs_that_want_that() {
    let mut core = three();
    check(&mut core, Event::Woke, "2028-01-01T01:00:00Z", &["start 0{0, 1, 2} cron"]);
    check(&mut core, Event::Woke, "2028-01-01T02:00:00Z", &["skip 0{2} overlap", "queued 0 true"]);
    check(&mut core, Event::Woke, "2028-01-01T03:00:00Z", &["skip 0{2} overlap", "queued 0 false"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T03:10:00Z", &["start 0{0, 1} cron"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T03:20:00Z", &[]);
}

#[test]
fn who_names_jobs_gets_these_at_once_or_behind_what_runs() {
    let mut core = three();
    check(&mut core, Event::Now(of_lane(&[1])), "2028-01-01T00:01:00Z", &["start 0{1} now"]);
    check(&mut core, Event::Now(of_lane(&[2])), "2028-01-01T00:01:01Z", &["queued 0 true"]);
    check(&mut core, Event::Now(of_lane(&[0, 2])), "2028-01-01T00:01:02Z", &["queued 0 true"]);
    assert_eq!(core.queued(0), Jobs::from([0, 2]));
    check(&mut core, Event::Unqueue(of_lane(&[1, 2])), "2028-01-01T00:01:03Z", &["skip 0{2} cancelled"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T00:02:00Z", &["start 0 now"]);
    check(&mut core, Event::Now(of_lane(&[1])), "2028-01-01T00:02:01Z", &["queued 0 true"]);
    check(&mut core, Event::Unqueue(of_lane(&[1])), "2028-01-01T00:02:02Z", &["skip 0{1} cancelled"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T00:03:00Z", &[]);
}

#[test]
fn a_paused_job_runs_only_for_who_names_it() {
    let mut core = three();
    check(&mut core, Event::Pause(of_lane(&[0, 2]), true), "2028-01-01T00:01:00Z", &[]);
    check(&mut core, Event::Woke, "2028-01-01T01:00:00Z", &["skip 0{0, 2} paused", "start 0{1} cron"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T01:01:00Z", &[]);
    check(&mut core, Event::Hup, "2028-01-01T01:02:00Z", &["skip 0{0, 2} paused", "start 0{1} hup"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T01:03:00Z", &[]);
    check(&mut core, Event::Now(of_lane(&[2])), "2028-01-01T01:04:00Z", &["start 0{2} now"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T01:05:00Z", &[]);
    check(&mut core, Event::Pause(of_lane(&[0, 2]), false), "2028-01-01T01:06:00Z", &[]);
    check(&mut core, Event::Woke, "2028-01-01T02:00:00Z", &["start 0{0, 1, 2} cron"]);
}

#[test]
fn all_paused_start_nothing() {
    let mut core = core(&["0 * * * *"]);
    check(&mut core, Event::Pause(of_lane(&[0]), true), "2028-01-01T00:01:00Z", &[]);
    check(&mut core, Event::Woke, "2028-01-01T01:00:00Z", &["skip 0 paused"]);
}

/// A job that is owed what it missed, if it is not older than two hours; up to when its ticks were dealt with.
fn owed(seen_until: &str) -> JobPlan {
    let catch_up = Some(CatchUp { max_age: Some(Duration::from_secs(7200)) });
    JobPlan { catch_up, seen_until: Some(at(seen_until)), ..JobPlan::default() }
}

#[test]
fn what_a_daemon_that_was_down_missed_is_made_good_once() {
    let start = |job: JobPlan, now: &str| {
        let mut core =
            Core::new(vec![LanePlan { jobs: vec![job], ..plan(Some("0 3 * * *"), &TimeZone::UTC) }], at(now));
        acts(core.handle(Event::Started, at(now)))
    };
    assert_eq!(start(owed("2028-01-01T04:00:00Z"), "2028-01-04T04:00:00Z"), ["missed 0 3", "start 0 catch_up"]);
    assert_eq!(start(owed("2028-01-01T04:00:00Z"), "2028-01-04T06:00:00Z"), ["missed 0 3"], "too old");
    assert_eq!(start(owed("2028-01-04T03:00:00Z"), "2028-01-04T04:00:00Z"), [""; 0], "nothing was missed");
    assert_eq!(start(owed("2028-01-05T03:00:00Z"), "2028-01-04T04:00:00Z"), [""; 0], "a clock set back");
    let never = JobPlan { catch_up: None, ..owed("2028-01-01T04:00:00Z") };
    assert_eq!(start(never, "2028-01-04T04:00:00Z"), ["missed 0 3"]);
    let paused = JobPlan { paused: true, ..owed("2028-01-01T04:00:00Z") };
    assert_eq!(start(paused, "2028-01-04T04:00:00Z"), ["missed 0 3", "skip 0 paused"]);
}

#[test]
fn what_a_host_that_slept_missed_is_made_good_once() {
    let jobs = vec![owed("2028-01-01T00:00:30Z"), JobPlan::default()];
    let mut core = begin(vec![LanePlan { jobs, ..plan(Some("0 * * * *"), &TimeZone::UTC) }]);
    check(&mut core, Event::Woke, "2028-01-01T05:30:00Z", &["missed 0{0, 1} 5", "start 0 catch_up"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T05:40:00Z", &[]);
    check(&mut core, Event::Woke, "2028-01-01T09:00:20Z", &["missed 0{0, 1} 3", "start 0{0, 1} cron"]);
}

#[test]
fn a_tick_whose_delay_is_not_over_at_a_restart_is_not_lost() {
    let jobs = vec![owed("2027-12-31T23:59:00Z")];
    let delayed = LanePlan { jobs, delay: Duration::from_secs(600), ..plan(Some("0 0 * * *"), &TimeZone::UTC) };
    let core = begin(vec![delayed]);
    assert_eq!(core.next_wakeup(), Some(at("2028-01-01T00:10:00Z")));
}

#[test]
fn another_configuration_changes_plans_and_leaves_runs_alone() {
    let mut core = three();
    let hourly =
        |jobs: usize| LanePlan { jobs: vec![JobPlan::default(); jobs], ..plan(Some("0 * * * *"), &TimeZone::UTC) };
    check(&mut core, Event::Pause(of_lane(&[1]), true), "2028-01-01T00:00:40Z", &[]);
    check(&mut core, Event::Now(of_lane(&[0])), "2028-01-01T00:01:00Z", &["start 0 now"]);
    check(&mut core, Event::Now(of_lane(&[0, 2])), "2028-01-01T00:01:01Z", &["queued 0 true"]);
    // The first is gone, the third is the first now, and a lane is new.
    let moved = vec![None, Some(1), Some(0)];
    let new = plan(Some("30 * * * *"), &TimeZone::UTC);
    let plans = vec![replan(0, hourly(2), moved), replan(1, new.clone(), Vec::new())];
    core.replan(plans, at("2028-01-01T00:02:00Z"));
    check(&mut core, Event::RunFinished(0), "2028-01-01T00:03:00Z", &["start 0 now"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T00:04:00Z", &[]);
    check(&mut core, Event::Woke, "2028-01-01T00:30:00Z", &["start 1 cron"]);
    check(&mut core, Event::Woke, "2028-01-01T01:00:00Z", &["skip 0{1} paused", "start 0 cron"]);
    // The first lane is gone; what it runs ends in peace.
    core.replan(vec![replan(1, new, vec![Some(0)])], at("2028-01-01T01:01:00Z"));
    check(&mut core, Event::RunFinished(0), "2028-01-01T01:02:00Z", &[]);
    assert_eq!(core.next_wakeup(), Some(at("2028-01-01T01:30:00Z")));
}

fn replan(lane: LaneId, plan: LanePlan, moved: Vec<Option<usize>>) -> Replan {
    Replan { lane, plan, moved, from: None }
}

/// A job's own lane, while the job is still part of the run of the first lane.
fn moved_away(overlap: Overlap) -> Replan {
    let jobs = vec![JobPlan { overlap, elsewhere: Some(0), ..JobPlan::default() }];
    Replan { from: Some(0), ..replan(1, LanePlan { jobs, ..plan(Some("30 * * * *"), &TimeZone::UTC) }, Vec::new()) }
}

#[test]
fn a_job_that_gets_a_lane_of_its_own_while_it_runs_waits_there_for_its_end() {
    let mut core = three();
    let rest = || {
        let jobs = vec![JobPlan::default(); 2];
        replan(0, LanePlan { jobs, ..plan(Some("0 * * * *"), &TimeZone::UTC) }, vec![Some(0), Some(1), None])
    };
    check(&mut core, Event::Woke, "2028-01-01T01:00:00Z", &["start 0{0, 1, 2} cron"]);
    core.replan(vec![rest(), moved_away(Overlap::Skip)], at("2028-01-01T01:01:00Z"));
    check(&mut core, Event::Woke, "2028-01-01T01:30:00Z", &["skip 1 overlap"]);
    check(&mut core, Event::Now(vec![(1, Jobs::from([0]))]), "2028-01-01T01:31:00Z", &["queued 1 true"]);
    check(&mut core, Event::Hup, "2028-01-01T01:32:00Z", &["queued 0 true", "queued 1 false"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T01:40:00Z", &["start 0{0, 1} hup", "start 1 now"]);
    // The next run of the first lane has nothing to do with it.
    check(&mut core, Event::RunFinished(1), "2028-01-01T01:41:00Z", &[]);
    check(&mut core, Event::Woke, "2028-01-01T02:00:00Z", &["skip 0{0, 1} overlap"]);
    check(&mut core, Event::Woke, "2028-01-01T02:30:00Z", &["start 1 cron"]);

    let mut core = three();
    check(&mut core, Event::Now(of_lane(&[2])), "2028-01-01T00:10:00Z", &["start 0{2} now"]);
    core.replan(vec![rest(), moved_away(Overlap::Queue)], at("2028-01-01T00:11:00Z"));
    check(&mut core, Event::Woke, "2028-01-01T00:30:00Z", &["queued 1 true"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T00:40:00Z", &["start 1 cron"]);
}

#[test]
fn a_job_that_comes_to_a_lane_while_it_runs_elsewhere_does_not_keep_the_others_there() {
    let mut core = core(&["0 3 * * *", "0 3 * * *"]);
    check(&mut core, Event::Now(vec![(1, Jobs::from([0]))]), "2028-01-01T01:00:00Z", &["start 1 now"]);
    let jobs = vec![JobPlan::default(), JobPlan { elsewhere: Some(1), ..JobPlan::default() }];
    let both = LanePlan { jobs, ..plan(Some("0 3 * * *"), &TimeZone::UTC) };
    core.replan(vec![replan(0, both, vec![Some(0)])], at("2028-01-01T01:01:00Z"));
    check(&mut core, Event::Hup, "2028-01-01T01:02:00Z", &["queued 0 true", "start 0 hup"]);
    check(&mut core, Event::RunFinished(1), "2028-01-01T01:03:00Z", &[]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T01:04:00Z", &["start 0{1} hup"]);
}

#[test]
fn what_is_queued_when_the_daemon_is_to_stop_is_told() {
    let mut core = three();
    check(&mut core, Event::Now(of_lane(&[0])), "2028-01-01T00:01:00Z", &["start 0 now"]);
    check(&mut core, Event::Now(of_lane(&[1, 2])), "2028-01-01T00:01:01Z", &["queued 0 true"]);
    check(&mut core, Event::Terminate, "2028-01-01T00:02:00Z", &["skip 0{1, 2} shutdown", "stop"]);
    check(&mut core, Event::RunFinished(0), "2028-01-01T00:02:02Z", &["exit"]);
}

#[test]
fn a_clock_set_back_by_hours_is_noticed_by_whatever_happens_first() {
    let mut core = core(&["0 * * * *"]);
    check(&mut core, Event::Woke, "2028-01-01T09:00:00Z", &["missed 0 8", "start 0 cron"]);
    check(&mut core, Event::Hup, "2028-01-01T05:30:00Z", &["queued 0 true"]);
    assert_eq!(core.next_wakeup(), Some(at("2028-01-01T06:00:00Z")));
}

/// A lane whose ticks come this much later than its schedule says.
fn delayed(schedule: &str, minutes: u64) -> LanePlan {
    LanePlan { delay: Duration::from_secs(60 * minutes), ..plan(Some(schedule), &TimeZone::UTC) }
}

#[test]
fn another_configuration_neither_loses_nor_repeats_a_tick_whose_delay_is_not_over() {
    let after = |reload: &str, replan: Replan| {
        let mut core = begin(vec![delayed("0 * * * *", 10)]);
        check(&mut core, Event::Woke, "2028-01-01T00:10:00Z", &["start 0 cron"]);
        check(&mut core, Event::RunFinished(0), "2028-01-01T00:11:00Z", &[]);
        check(&mut core, Event::Woke, reload, if reload >= "2028-01-01T01:10" { &["start 0 cron"] } else { &[] });
        core.replan(vec![replan], at(reload));
        core.next_wakeup().unwrap().to_string()
    };
    let kept = |schedule, minutes| replan(0, delayed(schedule, minutes), vec![Some(0)]);
    assert_eq!(after("2028-01-01T01:05:00Z", kept("0,30 * * * *", 10)), "2028-01-01T01:10:00Z");
    assert_eq!(after("2028-01-01T01:05:00Z", kept("0 * * * *", 20)), "2028-01-01T01:20:00Z");
    assert_eq!(after("2028-01-01T01:10:30Z", kept("0 * * * *", 20)), "2028-01-01T02:20:00Z");
    assert_eq!(after("2028-01-01T01:10:30Z", kept("0,30 * * * *", 20)), "2028-01-01T01:50:00Z");
    let own = |minutes| Replan { from: Some(0), ..replan(1, delayed("0 * * * *", minutes), Vec::new()) };
    assert_eq!(after("2028-01-01T01:05:00Z", own(20)), "2028-01-01T01:20:00Z");
    assert_eq!(after("2028-01-01T01:10:30Z", own(20)), "2028-01-01T02:20:00Z");
    let added = Replan { from: None, ..own(20) };
    assert_eq!(after("2028-01-01T01:05:00Z", added), "2028-01-01T01:20:00Z");
}

#[test]
fn a_clock_set_back_by_hours_does_not_lose_a_tick_whose_delay_is_not_over() {
    let mut core = begin(vec![delayed("0 * * * *", 10)]);
    check(&mut core, Event::Woke, "2028-01-01T09:10:00Z", &["missed 0 9", "start 0 cron"]);
    check(&mut core, Event::Woke, "2028-01-01T05:05:00Z", &[]);
    assert_eq!(core.next_wakeup(), Some(at("2028-01-01T05:10:00Z")));
}
