//! Which pages there are, and their paths.

use crate::page::{Query, percent_decoded};
use crate::verify::order::Replica;

/// One of the pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum View {
    Overview,
    Job(String),
    Run(i64),
    /// A replica; with the query only as a whole page.
    Replica(Replica, Option<Query>),
}

impl View {
    /// The page at a path, as a URL has it.
    pub(super) fn at(path: &str) -> Option<Self> {
        if path == "/" {
            return Some(Self::Overview);
        }
        if let Some(job) = path.strip_prefix("/jobs/") {
            // Before a name of dots stands a blank (`page::html::Segment`).
            return decoded(job).map(|job| Self::Job(job.trim_start().to_owned()));
        }
        if let Some(replica) = path.strip_prefix("/replica/") {
            let (job, sync) = replica.split_once('/')?;
            let name = |segment| decoded(segment).map(|name| name.trim_start().to_owned());
            return Some(Self::Replica(Replica { job: name(job)?, sync: name(sync)? }, None));
        }
        path.strip_prefix("/runs/")?.parse().ok().map(Self::Run)
    }

    /// The whole page, of which the query of its URL may want a part.
    pub(super) fn asked(self, query: Option<&str>) -> Self {
        match self {
            Self::Replica(replica, _) => Self::Replica(replica, Some(Query::of(query.unwrap_or_default()))),
            other => other,
        }
    }
}

/// A text without its percent-encoding (RFC 3986); `None` if it is not UTF-8 then.
pub(super) fn decoded(text: &str) -> Option<String> {
    String::from_utf8(percent_decoded(text)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_leads_to_a_page() {
        for (path, expected) in [
            ("/", Some(View::Overview)),
            ("/jobs/photos", Some(View::Job("photos".into()))),
            ("/jobs/a%20b%2Fc%3f%C3%A4", Some(View::Job("a b/c?ä".into()))),
            ("/jobs/%20..", Some(View::Job("..".into()))),
            ("/jobs/100%", Some(View::Job("100%".into()))),
            ("/jobs/%ff", None),
            ("/runs/17", Some(View::Run(17))),
            ("/runs/x", None),
            ("/replica/a%2Fb/%20.", Some(View::Replica(Replica { job: "a/b".into(), sync: ".".into() }, None))),
            ("/replica/a", None),
            ("/metrics", None),
            ("", None),
        ] {
            assert_eq!(View::at(path), expected, "{path}");
        }
    }
}
