//! `show --follow`: a run as it goes on.

use std::collections::{HashMap, HashSet};
use std::io::Write;
use std::time::Duration;

use rusqlite::Connection;
use tokio::runtime::Runtime;

use super::history::{describe_end, describe_end_of, say};
use crate::control::{Client, ClientError, Line, Printed};
use crate::history::read::{self, ActionRun, JobRun};

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// What of a run was shown.
struct Follower<'a> {
    database: &'a Connection,
    client: Client,
    runtime: &'a Runtime,
    run: i64,
    begun: HashSet<i64>,
    over: HashSet<i64>,
    /// Lines of each action, whether printed or left out.
    lines: HashMap<i64, u64>,
    actions_over: HashSet<i64>,
}

/// Prints a run until it is over, as far as it is known of, and whatever is left of it then.
pub(super) fn follow(database: &Connection, client: Client, runtime: &Runtime, run: i64) -> rusqlite::Result<()> {
    let (begun, over, lines, actions_over) = Default::default();
    let mut follower = Follower { database, client, runtime, run, begun, over, lines, actions_over };
    loop {
        // What ends between this and the next look is shown by that.
        let is_over = read::is_over(database, run)?;
        let mut out = Vec::new();
        let is_alive = follower.look(&mut out)?;
        let mut stdout = std::io::stdout().lock();
        // A reader that has gone away wants no more.
        if stdout.write_all(&out).and_then(|()| stdout.flush()).is_err() || is_over || !is_alive {
            return Ok(());
        }
        drop(stdout);
        std::thread::sleep(LOOK_EVERY);
    }
}

impl Follower<'_> {
    /// Shows what is new. `false` when the instance does not run any more.
    fn look(&mut self, out: &mut Vec<u8>) -> rusqlite::Result<bool> {
        let asked = self.runtime.block_on(self.client.get::<Vec<Printed>>(&format!("/v1/output?run={}", self.run)));
        let is_alive = !matches!(asked, Err(ClientError::NotRunning(_)));
        let printed = asked.unwrap_or_default();
        for job in read::jobs_of(self.database, self.run)? {
            self.job(&job, &printed, out)?;
        }
        Ok(is_alive)
    }

    fn job(&mut self, job: &JobRun, printed: &[Printed], out: &mut Vec<u8>) -> rusqlite::Result<()> {
        if self.over.contains(&job.id) {
            return Ok(());
        }
        if self.begun.insert(job.id) {
            say(out, "", &format!("{}: started by {}", job.job, job.trigger));
        }
        for action in read::actions(self.database, job.id)? {
            self.action(job, &action, printed, out)?;
        }
        if job.outcome != "running" {
            self.over.insert(job.id);
            describe_end(job, out);
        }
        Ok(())
    }

    fn action(
        &mut self,
        job: &JobRun,
        action: &ActionRun,
        printed: &[Printed],
        out: &mut Vec<u8>,
    ) -> rusqlite::Result<()> {
        if self.actions_over.contains(&action.id) {
            return Ok(());
        }
        if !self.lines.contains_key(&action.id) {
            say(out, "  ", &format!("{}: $ {}", action.action, action.command));
        }
        let shown = self.lines.entry(action.id).or_default();
        if action.outcome == "running" {
            let of_it = printed.iter().find(|printed| printed.job == job.job && printed.action == action.action);
            of_it.iter().for_each(|printed| show_new(&printed.lines, shown, out));
            return Ok(());
        }
        let lines: Vec<Line> = read::output(self.database, action.id)?.into_iter().map(Line::from).collect();
        show_new(&lines, shown, out);
        self.actions_over.insert(action.id);
        describe_end_of(action, out);
        Ok(())
    }
}

/// Shows the lines after the first `shown`.
fn show_new(lines: &[Line], shown: &mut u64, out: &mut Vec<u8>) {
    let mut at = 0;
    for line in lines {
        let count = if let Line::LeftOut(count) = line { *count } else { 1 };
        let is_new = at + count > *shown;
        match line {
            _ if !is_new => {}
            Line::Out(text) => say(out, "    | ", text),
            Line::Error(text) => say(out, "    ! ", text),
            Line::LeftOut(_) => say(out, "    ", &format!("… {} lines were not kept …", at + count - *shown)),
        }
        at += count;
        *shown = at.max(*shown);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_shown_once_and_what_is_lost_in_between_is_told() {
        let mut shown = 0;
        let mut check = |lines: &[Line], expected: &str| {
            let mut out = Vec::new();
            show_new(lines, &mut shown, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        let out = |text: &str| Line::Out(text.to_owned());
        check(&[out("a")], "    | a\n");
        check(&[out("a"), Line::Error("b".into())], "    ! b\n");
        check(&[out("a"), Line::LeftOut(4), out("f")], "    … 3 lines were not kept …\n    | f\n");
        check(&[out("a"), Line::LeftOut(4), out("f")], "");
        check(&[out("a"), Line::LeftOut(5), out("g")], "    | g\n");
    }
}
