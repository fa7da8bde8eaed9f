//! Metrics and alerts that the documents name are those that there are.

use std::collections::BTreeSet;

use super::{document, documents, root};

/// Counted where notifications are sent; the other documents need not name it.
const ELSEWHERE: [&str; 1] = ["rsyncdirector_notifications_total"];

#[test]
fn every_metric_and_alert_in_a_document_exists() {
    let metrics = document("docs/metrics.md");
    let known: BTreeSet<_> = metrics.spans.iter().map(|(_, span)| span.as_str()).chain(ELSEWHERE).collect();
    let rules = std::fs::read_to_string(root().join("resources/prometheus/rules.yml")).expect("the rules");
    let (mut problems, mut count) = (Vec::new(), 0);
    for document in documents().iter().filter(|document| !document.path.starts_with("packaging")) {
        for (line, span) in &document.spans {
            let words = span.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| is_metric(word));
            let missing = words.inspect(|_| count += 1).filter(|word| !known.contains(word));
            problems.extend(missing.map(|word| format!("{}:{line}: {word}", document.path.display())));
            let is_alert = span.starts_with("Rsyncdirector");
            if is_alert && !rules.lines().any(|rule| rule.trim() == format!("- alert: {span}")) {
                problems.push(format!("{}:{line}: {span}", document.path.display()));
            }
        }
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    assert!(count > 40, "only {count} metrics were found");
}

fn is_metric(word: &str) -> bool {
    word.starts_with("rsyncdirector_") && !word.ends_with('_')
}
