//! Replicas on pages.

use super::*;
use crate::verify::Class;
use crate::verify::order::Replica;
use crate::verify::report::{Count, Report, Verdict};
use crate::verify::store::{Kept, Point};

fn row(sync: &str, report: Option<Report>) -> ReplicaRow {
    let replica = Replica { job: "a/b <i>".into(), sync: sync.into() };
    let lately = (0..30).map(|n| Point { at: at(n * 600 - 18_000), ratio: 1.0, lag: None }).collect();
    ReplicaRow { replica, dest: "nas.example.org:/srv/backup/photos".into(), report, lately, verified_by: Vec::new() }
}

fn by(last: Option<Outcome>, under_way: Option<Timestamp>) -> Vec<VerifiedBy> {
    vec![VerifiedBy { job: "photos".into(), action: "look".into(), next: Some(at(3600)), under_way, last }]
}

#[test]
fn an_overview_has_a_row_for_each_replica_and_a_word_for_those_never_verified() {
    let found = |n: usize| Report::sample("a/b <i>", "s", Verdict::ALL[n % 4], &[(Class::Stale, (n % 4) as u64)]);
    let page = |rows: &[ReplicaRow]| show_with(vec![job("j", State::Idle)], &[], rows, overview).into_string();
    let few: Vec<_> = (0..4).map(|n| row(&format!("s{n}"), Some(found(n)))).chain([row("s4", None)]).collect();
    let html = page(&few);
    for expected in [
        "<a href=\"/replica/a%2Fb%20%3Ci%3E/s1\">a/b &lt;i&gt;/s1</a>",
        "in step</b>",
        "nearly in step</b>",
        "out of step</b>",
        "not known</b>",
        "<td data-of=\"in step\">75.00 %",
        "<polyline",
        "Never verified: <a href=\"/replica/a%2Fb%20%3Ci%3E/s4\">",
    ] {
        assert!(html.contains(expected), "{expected}: {html}");
    }
    let many: Vec<_> = (0..200).map(|n| row(&format!("s{n}"), Some(found(n)))).collect();
    let html = page(&many);
    assert!(html.len() <= OVERVIEW_MAX + 20_000 && !html.contains("<polyline"), "{} bytes", html.len());
    let never: Vec<_> = (0..200).map(|n| row(&format!("s{n}"), None)).collect();
    let html = page(&never);
    assert!(html.contains("and 160 others") && !html.contains("class=\"replicas\""), "{html}");
    assert!(!page(&[]).contains("Replicas"));
}

#[test]
fn an_overview_marks_what_is_being_verified_and_a_verification_that_failed_since() {
    let report = || Some(Report::sample("photos", "copy", Verdict::InStep, &[]));
    let failed = |started| Outcome { started: at(started), ..outcome("failed", 0) };
    let page = |report, verified_by| {
        let rows = [ReplicaRow { verified_by, ..row("copy", report) }];
        show_with(vec![job("j", State::Idle)], &[], &rows, overview).into_string()
    };
    let marked = |verified_by| page(report(), verified_by).contains("last one failed</b>");
    assert_eq!((marked(by(Some(failed(-10)), None)), marked(by(Some(failed(10)), None))), (false, true));
    assert!(!marked(by(Some(outcome("succeeded", 10)), None)));
    assert!(page(report(), by(None, Some(at(0)))).contains("verifying</b>"));
    assert!(page(None, by(Some(failed(0)), Some(at(5)))).contains("copy</a> (under way) (it failed)"));
}

/// The page of a replica with this report and these details.
fn replica_page(report: Option<&Report>, verified_by: Vec<VerifiedBy>, details: Option<Details<'_>>) -> String {
    let replica = Replica { job: "photos".into(), sync: "copy".into() };
    let (source, dest) = ("/srv/<b>".into(), "nas:/x".into());
    let view = ReplicaView { replica: &replica, source, dest, verified_by, report, details };
    show(vec![job("photos", State::Idle)], &[], |seen| super::replica(&view, seen)).into_string()
}

#[test]
fn a_replica_s_page_says_how_it_stands_and_what_became_of_a_later_verification() {
    let report = Report {
        lag: Some(7200.0),
        why: "it lags by more than 1 h".into(),
        ..Report::sample("photos", "copy", Verdict::Drift, &[(Class::Missing, 1)])
    };
    let page = replica_page(Some(&report), by(None, Some(at(-90))), None);
    for expected in [
        "out of step</b>",
        "75.00 %",
        "2 h <small>the oldest change",
        "it lags by more than 1 h",
        "a verification is under way</b> <small>for 90 s",
        "in 60 min</time>, by <a href=\"/jobs/photos\">photos</a>/look",
        "/srv/&lt;b&gt;",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    // Only what changes: what is asked for a whole page only is not there.
    assert!(!page.contains("What differs") && page.contains("id=\"r1800000000000\""));
    let failed = |started| Outcome { started: at(started), ..outcome("failed", 0) };
    let said = |last| replica_page(Some(&report), by(Some(last), None), None).contains("could not tell");
    assert_eq!((said(failed(-10)), said(failed(10)), said(outcome("succeeded", 5))), (false, true, false));
    let never = replica_page(None, Vec::new(), None);
    assert!(never.contains("never verified</b>") && never.contains("rsyncdirector verify photos/copy"), "{never}");
}

#[test]
fn what_differs_is_listed_with_advice_for_each_class_and_links_that_lead_on() {
    let classes: Vec<(Class, u64)> = Class::ALL.into_iter().map(|class| (class, 0)).collect();
    let report = Report { listed: 0, ..Report::sample("photos", "copy", Verdict::Drift, &classes) };
    let kept = |path: &[u8]| Kept {
        path: path.to_vec(),
        class: Class::Content,
        detail: "the <target> changed".into(),
        bytes: 1,
        source_mtime: None,
        target_mtime: Some(at(0)),
    };
    let query = Query { directory: b"a\xff".to_vec(), page: 1, search: "\"><x".into(), ..Query::default() };
    let directories = [(b"<s>".to_vec(), Count { entries: 3, bytes: 5 }), (b"\n".to_vec(), Count::default())];
    let list = [kept(b"a\xff/<script>"), kept(b"")];
    let differences = Differences { query: &query, directories: &directories, below: 900, list: &list, all: 250 };
    let points = [(0.5, Some(9.0)), (1.0, None)].map(|(ratio, lag)| Point { at: at(-60), ratio, lag });
    let page = replica_page(Some(&report), Vec::new(), Some(Details { points: &points, differences }));
    for expected in [
        "at least 50.00 %, now 100 %",
        "at most 9 s, now none",
        "a\\xff/&lt;script&gt;",
        "<code>.</code>",
        "the &lt;target&gt; changed",
        "250 of 900 differences",
        "value=\"&quot;&gt;&lt;x\"",
        "<a href=\"?dir=a%25FF%2F%3Cs%3E&amp;q=%22%3E%3Cx#where\">",
        "page 2 of 3</span> <a href=\"?dir=a%25FF&amp;q=%22%3E%3Cx&amp;page=3#list\" rel=\"next\">",
        "value=\"a%FF\"",
        "not there",
    ] {
        assert!(page.contains(expected), "{expected}: {page}");
    }
    assert_eq!(page.matches("<a href=\"?class=").count(), Class::ALL.len());
    assert!(!page.contains("<script>"));
}
