//! `CHANGELOG.md`, in the format of keepachangelog.com, as a Debian changelog (deb-changelog(5)).

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;

/// The width of a line: deb-changelog(5) asks for less than 80.
const WIDTH: usize = 76;

/// A release: its version, its day, what changed.
struct Release<'a> {
    version: &'a str,
    day: Option<&'a str>,
    changes: Vec<String>,
}

/// The Debian changelog.
///
/// What is `[Unreleased]` there is the version that is being built, made at `made`; so is a first release of that version.
///
/// # Errors
/// A day that is none, or no release at all.
pub fn debian(text: &str, version: &str, maintainer: &str, made: Timestamp) -> Result<String, String> {
    let upstream = version.rsplit_once('-').map_or(version, |(upstream, _)| upstream);
    let mut entries = String::new();
    for release in releases(text).iter().filter(|release| !release.changes.is_empty()) {
        let is_built_now = release.day.is_none() || release.version == upstream;
        let version = if is_built_now { version.to_owned() } else { format!("{}-1", release.version) };
        let date = match release.day.filter(|_| !is_built_now) {
            Some(day) => noon(day)?,
            None => made,
        };
        entries.push_str(&entry(&version, &release.changes, maintainer, date));
    }
    if entries.is_empty() { Err("the changelog has no release".to_owned()) } else { Ok(entries) }
}

fn noon(day: &str) -> Result<Timestamp, String> {
    let date: Date = day.parse().map_err(|error| format!("the changelog has a day {day:?}: {error}"))?;
    date.at(12, 0, 0, 0).to_zoned(TimeZone::UTC).map(|time| time.timestamp()).map_err(|error| error.to_string())
}

fn releases(text: &str) -> Vec<Release<'_>> {
    let mut releases: Vec<Release<'_>> = Vec::new();
    for line in text.lines() {
        if let Some(title) = line.strip_prefix("## [") {
            let (version, rest) = title.split_once(']').unwrap_or((title, ""));
            releases.push(Release { version, day: rest.strip_prefix(" - "), changes: Vec::new() });
        } else if let Some(release) = releases.last_mut() {
            if let Some(change) = line.strip_prefix("- ") {
                release.changes.push(change.to_owned());
            } else if let (Some(more), Some(change)) = (line.strip_prefix("  "), release.changes.last_mut()) {
                change.push(' ');
                change.push_str(more.trim());
            }
        }
    }
    releases
}

fn entry(version: &str, changes: &[String], maintainer: &str, date: Timestamp) -> String {
    let changes: String = changes.iter().map(|change| wrapped(change)).collect();
    let date = date.strftime("%a, %d %b %Y %H:%M:%S +0000");
    format!("rsyncdirector ({version}) unstable; urgency=medium\n\n{changes}\n -- {maintainer}  {date}\n\n")
}

/// One change, as an item whose lines are not too long, unless a word is.
fn wrapped(change: &str) -> String {
    let mut text = String::new();
    let mut line = "  *".to_owned();
    for word in change.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            text.push_str(&line);
            text.push('\n');
            "   ".clone_into(&mut line);
        }
        line.push(' ');
        line.push_str(word);
    }
    text + &line + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# Changelog\n\nWords.\n\n## [Unreleased]\n\nMore words.\n\n### Added\n- One, which\n  goes on.\n- Two.\n\n\
                        ## [1.0.0] - 2026-01-02\n### Fixed\n- Three.\n";

    #[test]
    fn what_is_not_released_is_the_version_that_is_built() {
        let made = "2026-11-21T12:00:00Z".parse().expect("a time");
        let changelog = debian(TEXT, "2.0.0-1", "A <a@b>", made).expect("a changelog");
        let expected = "rsyncdirector (2.0.0-1) unstable; urgency=medium\n\n  * One, which goes on.\n  * Two.\n\n \
                        -- A <a@b>  Sat, 21 Nov 2026 12:00:00 +0000\n\n\
                        rsyncdirector (1.0.0-1) unstable; urgency=medium\n\n  * Three.\n\n \
                        -- A <a@b>  Fri, 02 Jan 2026 12:00:00 +0000\n\n";
        assert_eq!(changelog, expected);
    }

    #[test]
    fn a_long_change_is_wrapped() {
        let text = wrapped(&"word ".repeat(40));
        assert!(text.lines().all(|line| line.len() <= WIDTH), "{text}");
        assert!(text.lines().skip(1).all(|line| line.starts_with("    w")), "{text}");
        assert_eq!(text.split_whitespace().count(), 41);
    }

    #[test]
    fn a_changelog_without_a_release_is_refused() {
        assert!(debian("# Changelog\n", "1-1", "A <a@b>", Timestamp::UNIX_EPOCH).is_err());
    }
}
