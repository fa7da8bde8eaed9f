//! The status page's markup: pure functions from how an instance stands, and what its history says, to HTML.
//!
//! [`overview`], [`job`], [`run`] and [`replica`] make the content of a page, [`whole`] puts the frame around it. A page is complete without
//! a script. What may change while someone looks stands in elements with an `id` ([`Html::live`]); the server sends those
//! that did change, and the script (`script.js`) puts them in their places.
//!
//! A state is a word and a sign, never a colour alone. There are no inline styles and no inline scripts, which the pages'
//! Content-Security-Policy forbids; bars and plots are `progress` elements and SVG, whose sizes are attributes.
//!
//! Deliberately absent: anything that changes something, a template language, and data (`http::pages` collects it).

mod curve;
mod differences;
pub mod html;
mod job;
mod overview;
mod parts;
mod plot;
mod query;
mod replica;
mod replicas;
mod run;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use differences::{DIRECTORIES, Differences, PER_PAGE};
pub use html::Html;
pub use job::{FileRow, JobView, job};
pub use overview::{STRIPS_MAX, overview};
pub use query::{Query, percent_decoded};
pub use replica::{Details, ReplicaView, VerifiedBy, replica};
pub use replicas::{CURVES_MAX, ReplicaRow};
pub use run::{ActionView, Line, RunJob, RunView, run};

use crate::history::read::Outcome;
use crate::status::Status;
use html::put;

/// The style sheet.
pub const STYLE: &str = include_str!("style.css");
/// The script.
pub const SCRIPT: &str = include_str!("script.js");
/// The picture in a browser's tab.
pub const ICON: &str = include_str!("icon.svg");

/// How an instance stands, with what is needed to show it.
pub struct Seen<'a> {
    /// Its jobs.
    pub status: &'a Status,
    /// The last runs of a job, the newest first, by the job's id.
    pub recent: &'a HashMap<String, Vec<Outcome>>,
    /// What the processes of a job have moved so far, by the job's id.
    pub moved: &'a HashMap<String, Moved>,
    /// The replicas that the page tells of.
    pub replicas: &'a [ReplicaRow],
    /// Now.
    pub at: Timestamp,
    /// The zone in which times are shown.
    pub zone: &'a TimeZone,
}

/// What processes have moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Moved {
    /// Bytes since they began.
    pub bytes: u64,
    /// Bytes per second, lately; none before the second look.
    pub rate: Option<u64>,
}

impl Moved {
    /// What has been moved since an earlier look, `seconds` ago.
    pub fn since(self, earlier: Option<(Self, f64)>) -> Self {
        let rate = earlier
            .filter(|(before, seconds)| *seconds > 0.0 && before.bytes <= self.bytes)
            .map(|(before, seconds)| ((self.bytes - before.bytes) as f64 / seconds) as u64);
        Self { rate, ..self }
    }
}

/// A page around its content.
pub fn whole(title: &str, instance: &str, version: &str, content: &Html) -> String {
    let mut page = Html::default();
    put!(
        page,
        r##"<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<title>{} · {}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="/icon.svg">
<link rel="stylesheet" href="/style.css">
<script src="/script.js" defer></script>
<a class="skip" href="#main">Skip to the content</a>
<header><nav aria-label="Pages"><a class="brand" href="/"><img src="/icon.svg" alt="" width="28" height="28"> rsyncdirector</a></nav>
<p id="line" class="line" hidden></p></header>
<main id="main">
{}
</main>
<footer><p>Release {} · <a href="/metrics">metrics</a></p></footer>
"##,
        title,
        instance,
        *content,
        version
    );
    page.into_string()
}

/// A page that only says something.
pub fn notice(title: &str, text: &str) -> Html {
    let mut html = Html::default();
    put!(html, "<h1>{}</h1>\n<p>{}</p>\n<p><a href=\"/\">All jobs</a></p>\n", title, text);
    html
}
