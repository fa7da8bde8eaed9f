//! What Prometheus and Grafana are given: metrics by their documented names, rules that fire when they should, panels that show something.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use jiff::Timestamp;
use rsyncdirector::config::{self, Config, Job};
use rsyncdirector::event::{ActionReport, ExitStatus, JobEvent, JobOutcome, Observer, RunEvent, RunId, Trigger};
use rsyncdirector::metrics::Metrics;
use rsyncdirector::rsync::stats::Stats;
use rsyncdirector::verify::order::Replica;
use rsyncdirector::verify::report::Report;
use serde_json::Value;

/// A family as `/metrics` has it.
#[derive(Debug, PartialEq, Eq)]
struct Family {
    kind: String,
    help: String,
    labels: BTreeSet<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every family that an instance can have: those of one after a run in which everything happened that makes one appear.
fn families() -> BTreeMap<String, Family> {
    let path = root().join("resources/samples/laptop-to-backup.yaml");
    let home = |name: &str| (name == "HOME").then(|| "/root".into());
    let config =
        config::parse(&path, &read("resources/samples/laptop-to-backup.yaml"), &home).expect("a sample").config;
    let metrics = Metrics::new(&config, "1");
    for event in run(&config) {
        metrics.observe(Timestamp::UNIX_EPOCH, &event);
    }
    let mut families = parse(&metrics.encode());
    // Jobs that have a `max_age` have it; those of the sample have none.
    families.entry("rsyncdirector_job_max_age_seconds".to_owned()).or_insert_with(|| Family {
        kind: "gauge".to_owned(),
        help: "The job's max_age: it is late when its last success is older; absent if it has none.".to_owned(),
        labels: BTreeSet::from(["job_id".to_owned()]),
    });
    families
}

/// A run of all jobs that succeed.
fn run(config: &Config) -> Vec<RunEvent> {
    let of_job = |job: &std::sync::Arc<Job>| {
        let stats = Some(Stats::default());
        let report = ActionReport {
            failure: None,
            status: Some(ExitStatus::Code(0)),
            message: String::new(),
            stats,
            is_rsync: true,
            duration: Duration::ZERO,
        };
        let finished =
            |action: &config::Action| JobEvent::ActionFinished { action: action.id.clone(), report: report.clone() };
        let mut events =
            vec![JobEvent::Started { trigger: Trigger::Cron }, JobEvent::NextRun(Some(Timestamp::UNIX_EPOCH))];
        events.extend(job.actions.iter().map(finished));
        events.extend(job.actions.iter().map(|action| verified(job, action)));
        events.push(JobEvent::Finished { outcome: JobOutcome::Succeeded, duration: Duration::ZERO });
        let id = job.id.clone();
        let peer = job.peer.clone().map(|peer| RunEvent::PeerConnected { peer });
        let of_run = move |event| RunEvent::Job { run: Some(RunId(1)), job: id.clone(), event };
        events.into_iter().map(of_run).chain(peer).collect::<Vec<_>>()
    };
    config.jobs.iter().flat_map(of_job).collect()
}

/// Of a verification that found everything in step.
fn verified(job: &Job, action: &config::Action) -> JobEvent {
    let replica = Replica { job: job.id.to_string(), sync: action.id.to_string() };
    let now = "1970-01-01T00:00:00Z";
    let count = serde_json::json!({"entries": 1, "bytes": 1});
    let report = serde_json::json!({"replica": replica, "at": now, "seconds": 1.0, "depth": "deep", "by": "here", "verdict": "in_step", "why": "",
        "all": count, "in_step": count, "classes": {}, "lag": null, "last_agreement": now, "read": count, "known": count, "never_read": count,
        "oldest_read": null, "window_days": null, "drill": null, "directories": [], "listed": 0});
    let report: Report = serde_json::from_value(report).expect("a report");
    JobEvent::Verified { action: action.id.clone(), report: report.into() }
}

fn parse(page: &str) -> BTreeMap<String, Family> {
    let mut families = BTreeMap::new();
    for line in page.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            let family = Family { kind: String::new(), help: help.to_owned(), labels: BTreeSet::new() };
            families.insert(name.to_owned(), family);
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            families.get_mut(name).expect("help comes first").kind = kind.to_owned();
        } else if let Some((name, labels)) = line.split_once('{') {
            let family = ["", "_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end).filter(|name| families.contains_key(*name)));
            let names = labels.split("\",").filter_map(|pair| pair.split_once("=\"")).map(|(name, _)| name.to_owned());
            let known = families.get_mut(family.expect("a sample of a family")).expect("looked up");
            known.labels.extend(names.filter(|name| name != "le"));
        }
    }
    families
}

fn row(name: &str, family: &Family) -> String {
    let labels: Vec<_> = family.labels.iter().map(|label| format!("`{label}`")).collect();
    format!("| `{name}` | {} | {} | {} |", family.kind, labels.join(", "), family.help)
}

#[test]
fn the_page_of_metrics_names_every_metric_and_no_other() {
    let page = read("docs/metrics.md");
    let expected: Vec<_> = families().iter().map(|(name, family)| row(name, family)).collect();
    let mut documented: Vec<_> = page.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect();
    documented.sort_unstable();
    let missing: Vec<_> = expected.iter().filter(|row| !documented.contains(row)).collect();
    let stale: Vec<_> = documented.iter().filter(|row| !expected.contains(row)).collect();
    assert!(missing.is_empty() && stale.is_empty(), "docs/metrics.md lacks:\n{missing:#?}\nand has:\n{stale:#?}");
}

/// Metrics in an expression that are ours and that no instance has.
fn unknown_names(expression: &str) -> Vec<String> {
    let families = families();
    let is_known = |word: &str| {
        families.iter().any(|(name, family)| match family.kind.as_str() {
            "histogram" => ["_bucket", "_sum", "_count"].iter().any(|end| word.strip_suffix(end) == Some(name)),
            _ => word == name,
        })
    };
    let words = expression.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("rsyncdirector_") && !is_known(word)).map(str::to_owned).collect()
}

fn yaml(path: &str) -> Value {
    serde_saphyr::from_str(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn alerts() -> Vec<Value> {
    yaml("resources/prometheus/rules.yml")["groups"][0]["rules"].as_array().expect("rules").clone()
}

#[test]
fn every_alert_uses_metrics_that_exist_and_says_where_to_look() {
    let alerts = alerts();
    assert!(alerts.len() >= 12, "{}", alerts.len());
    for alert in alerts {
        let text = |pointer: &str| alert.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let name = text("/alert");
        assert_eq!(unknown_names(&text("/expr")), Vec::<String>::new(), "{name}");
        assert!(name.starts_with("Rsyncdirector"), "{name}");
        assert!(["critical", "warning", "info"].contains(&text("/labels/severity").as_str()), "{name}");
        let summary = text("/annotations/summary");
        assert!(summary.len() > 20 && summary.contains("{{ $labels."), "{name}: {summary}");
        assert!(text("/annotations/description").len() > 40, "{name}");
    }
}

#[test]
fn every_alert_has_a_test_and_promtool_agrees_with_all_of_them() {
    let tests = read("resources/prometheus/rules_test.yml");
    for alert in alerts() {
        let name = alert["alert"].as_str().expect("its name");
        assert!(tests.contains(&format!("alertname=\"{name}\"")), "{name} has no test");
    }
    let directory: PathBuf = root().join("resources/prometheus");
    for args in [["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]] {
        let output = Command::new("promtool").current_dir(&directory).args(args).output();
        let output = output.expect("promtool is installed: Debian's package prometheus");
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert!(output.status.success(), "promtool {}: {said}", args.join(" "));
    }
}

/// Every value of the key `expr`, and of the variables' queries.
fn expressions(value: &Value) -> Vec<String> {
    match value {
        Value::Object(entries) => entries
            .iter()
            .flat_map(|(key, value)| match value {
                Value::String(text) if ["expr", "query", "definition"].contains(&key.as_str()) => vec![text.clone()],
                value => expressions(value),
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(expressions).collect(),
        _ => Vec::new(),
    }
}

#[test]
fn every_panel_of_the_dashboard_has_a_purpose_a_place_and_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(&read("resources/grafana/dashboard.json")).expect("JSON");
    let found = expressions(&dashboard);
    assert!(found.len() > 40, "{}", found.len());
    for expression in &found {
        assert_eq!(unknown_names(expression), Vec::<String>::new(), "{expression}");
    }
    let panels = dashboard["panels"].as_array().expect("panels");
    let (mut ids, mut cells) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64()), "the id of {} is taken", panel["title"]);
        let place = |key: &str| panel["gridPos"][key].as_u64().expect("a place");
        assert!(place("x") + place("w") <= 24, "{} is too wide", panel["title"]);
        for (x, y) in (0..place("w")).flat_map(|x| (0..place("h")).map(move |y| (x, y))) {
            assert!(cells.insert((place("x") + x, place("y") + y)), "{} lies on another panel", panel["title"]);
        }
        if panel["type"] != "row" {
            assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{}", panel["title"]);
            assert!(panel["targets"].as_array().is_some_and(|targets| !targets.is_empty()), "{}", panel["title"]);
        }
    }
    // What is on no panel tells nobody anything.
    let shown: BTreeSet<_> =
        found.iter().flat_map(|text| text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')).collect();
    for (name, family) in families().iter().filter(|(name, _)| name.starts_with("rsyncdirector_")) {
        let is_shown = shown.iter().any(|word| match family.kind.as_str() {
            "histogram" => word.starts_with(name.as_str()),
            _ => word == name,
        });
        let is_detail = ["rsyncdirector_job_last_start_timestamp_seconds"].contains(&name.as_str());
        assert!(is_shown || is_detail, "{name} is on no panel");
    }
}

/// The queries of the dashboard, as a real Prometheus's own parser reads them.
#[test]
fn promtool_can_read_every_expression_of_the_dashboard() {
    let dashboard: Value = serde_json::from_str(&read("resources/grafana/dashboard.json")).expect("JSON");
    let queries = expressions(&dashboard["panels"]);
    let rules: Vec<Value> = queries
        .iter()
        .enumerate()
        .map(|(index, query)| {
            let expr = query.replace("$__rate_interval", "5m").replace("$instance", ".*").replace("$job_id", ".*");
            serde_json::json!({"record": format!("panel:{index}"), "expr": expr})
        })
        .collect();
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("panels.yml");
    let groups = serde_json::json!({"groups": [{"name": "panels", "rules": rules}]});
    std::fs::write(&path, groups.to_string()).expect("the rules");
    let output = Command::new("promtool").args(["check", "rules"]).arg(&path).output().expect("promtool is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
