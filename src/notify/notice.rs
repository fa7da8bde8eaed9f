//! What is told: one happening of one job, in the forms that the ways of telling need. Pure.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::config::Happening;
use crate::human;

/// A happening of a job, with all there is to tell of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Notice {
    /// What happened.
    pub event: Happening,
    /// Whether it only shows that telling works.
    pub test: bool,
    /// The instance.
    pub instance: String,
    /// This host's name.
    pub host: String,
    /// Which job.
    pub job: String,
    /// In which run; `None` outside of runs.
    pub run: Option<u64>,
    /// What caused the run, as metrics name it.
    pub trigger: Option<String>,
    /// `succeeded`, `failed` or `skipped`, once that is known.
    pub outcome: Option<&'static str>,
    /// The kind of its failure, or why it was skipped, as metrics name it.
    pub reason: Option<&'static str>,
    /// Why, for people, as in logs.
    pub detail: Option<String>,
    /// How long the run of the job took.
    pub duration: Option<Duration>,
    /// The last lines that its actions wrote to standard error, each with its `\n`.
    pub stderr: String,
    /// When it is due next.
    pub next_run: Option<Timestamp>,
    /// When it happened.
    pub at: Timestamp,
}

impl Notice {
    /// One line: `photos failed on nas (home)`.
    pub fn title(&self) -> String {
        let what = match self.event {
            Happening::Start => "started",
            Happening::Success => "succeeded",
            Happening::Failure => "failed",
            Happening::Recovery => "succeeded again",
            Happening::Skip => "was skipped",
            Happening::Late => "is late",
        };
        let test = if self.test { "TEST: " } else { "" };
        format!("{test}{} {what} on {} ({})", self.job, self.host, self.instance)
    }

    /// The same with everything else, in lines for people.
    pub fn text(&self) -> String {
        let mut text = self.title() + "\n\n";
        if self.test {
            text += "This is a test. Nothing happened.\n\n";
        }
        if let Some(detail) = &self.detail {
            let _ = writeln!(text, "{detail}\n");
        }
        let duration = self.duration.map(human::duration);
        let lines = [
            ("Job", Some(self.job.clone())),
            ("Instance", Some(self.instance.clone())),
            ("Host", Some(self.host.clone())),
            ("Run", self.run.map(|run| run.to_string())),
            ("Trigger", self.trigger.clone()),
            ("Outcome", self.outcome.map(str::to_owned)),
            ("Reason", self.reason.map(str::to_owned)),
            ("Duration", duration),
            ("At", Some(time(self.at))),
            ("Next run", self.next_run.map(time)),
        ];
        for (name, value) in lines {
            if let Some(value) = value {
                let _ = writeln!(text, "{:10}{value}", format!("{name}:"));
            }
        }
        if !self.stderr.is_empty() {
            let _ = write!(text, "\nLast lines of standard error:\n{}", self.stderr);
        }
        text
    }

    /// The value of a place of templates and of a variable, empty (for numbers 0) where there is none.
    pub fn value(&self, name: &str) -> String {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        match name {
            "title" => self.title(),
            "event" => self.event.to_string(),
            "instance" => self.instance.clone(),
            "host" => self.host.clone(),
            "job" => self.job.clone(),
            "run" => self.run.unwrap_or_default().to_string(),
            "trigger" => text(&self.trigger),
            "outcome" => self.outcome.unwrap_or_default().to_owned(),
            "reason" => self.reason.unwrap_or_default().to_owned(),
            "detail" => text(&self.detail),
            "duration_seconds" => format!("{:.3}", self.duration.unwrap_or_default().as_secs_f64()),
            "stderr" => self.stderr.clone(),
            "next_run" => self.next_run.map(|at| at.to_string()).unwrap_or_default(),
            "at" => self.at.to_string(),
            _ => String::new(),
        }
    }

    /// Everything as a JSON object.
    pub fn json(&self) -> Value {
        json!({
            "title": self.title(),
            "event": self.event.as_str(),
            "test": self.test,
            "instance": self.instance,
            "host": self.host,
            "job": self.job,
            "run": self.run,
            "trigger": self.trigger,
            "outcome": self.outcome,
            "reason": self.reason,
            "detail": self.detail,
            "duration_seconds": self.duration.map(|duration| duration.as_secs_f64()),
            "stderr": self.stderr,
            "next_run": self.next_run.map(|at| at.to_string()),
            "at": self.at.to_string(),
        })
    }
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::notify::template::NAMES;

    /// A failure of `photos` with everything that there may be.
    pub(in crate::notify) fn notice() -> Notice {
        let at = Timestamp::from_second(1_800_000_000).expect("a time");
        Notice {
            event: Happening::Failure,
            test: false,
            instance: "home".into(),
            host: "nas".into(),
            job: "photos".into(),
            run: Some(7),
            trigger: Some("cron".into()),
            outcome: Some("failed"),
            reason: Some("action"),
            detail: Some("action copy: exit code 23".into()),
            duration: Some(Duration::from_millis(65_500)),
            stderr: "rsync: no space\n".into(),
            next_run: Some(at + Duration::from_secs(3600)),
            at,
        }
    }

    #[test]
    fn people_read_what_happened_and_why() {
        insta::assert_snapshot!(notice().text(), @r"
        photos failed on nas (home)

        action copy: exit code 23

        Job:      photos
        Instance: home
        Host:     nas
        Run:      7
        Trigger:  cron
        Outcome:  failed
        Reason:   action
        Duration: 1 min 6 s
        At:       2027-01-15 08:00:00 UTC
        Next run: 2027-01-15 09:00:00 UTC

        Last lines of standard error:
        rsync: no space
        ");
    }

    #[test]
    fn a_test_says_that_it_is_one() {
        let test = Notice { test: true, ..notice() };
        assert!(test.title().starts_with("TEST: photos failed"), "{}", test.title());
        assert!(test.text().contains("Nothing happened"));
    }

    #[test]
    fn every_place_has_a_value_and_stands_in_the_json_object() {
        let notice = notice();
        for name in NAMES {
            assert!(!notice.value(name).is_empty(), "{name}");
            assert!(notice.json().get(name).is_some_and(|value| !value.is_null()), "{name}");
        }
        assert_eq!((notice.value("run"), notice.value("duration_seconds")), ("7".into(), "65.500".into()));
    }
}
