//! One line on a terminal that says how far a verification is.

use std::io::{self, IsTerminal, Write};

use crate::human;
use crate::logging::escaped;
use crate::verify::engine::{Phase, Progress};

/// The line. It is gone when this is dropped.
pub(super) struct Line {
    name: String,
}

impl Line {
    /// One at standard error, if that is a terminal.
    pub(super) fn on_stderr(name: &str) -> Option<Self> {
        io::stderr().is_terminal().then(|| Self { name: escaped(name).into_owned() })
    }

    /// Shows how far it is.
    pub(super) fn show(&mut self, progress: Progress) {
        let mut out = io::stderr();
        // A terminal that is gone is no matter.
        let _ = write!(out, "\r\x1b[K{}: {}", self.name, text(progress)).and_then(|()| out.flush());
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let mut out = io::stderr();
        let _ = write!(out, "\r\x1b[K").and_then(|()| out.flush());
    }
}

fn text(Progress { phase, entries, bytes, bytes_in_all }: Progress) -> String {
    match phase {
        Phase::Scan => format!("{} compared", human::count(entries, "entry", "entries")),
        Phase::Read if bytes_in_all > 0 => {
            let percent = u128::from(bytes) * 100 / u128::from(bytes_in_all);
            format!("{} of {} read, {} %", human::bytes(bytes), human::bytes(bytes_in_all), percent.min(100))
        }
        Phase::Read => format!("{} read", human::bytes(bytes)),
        Phase::Again => format!("{} looked at again", human::count(entries, "difference", "differences")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_phase_tells_what_it_counts() {
        let progress = |phase| Progress { phase, entries: 1, bytes: 500_000, bytes_in_all: 1_000_000 };
        assert_eq!(text(progress(Phase::Scan)), "1 entry compared");
        assert_eq!(text(progress(Phase::Read)), "500 kB of 1.0 MB read, 50 %");
        assert_eq!(text(progress(Phase::Again)), "1 difference looked at again");
    }
}
