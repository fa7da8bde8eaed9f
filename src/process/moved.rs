//! What the children of this process have moved so far, as the kernel counts it: `wchar` of proc_pid_io(5).
//!
//! Costs nothing while nobody asks: rsync is not asked for its progress, which would make it print a line for each file. Of the
//! processes of an action the one that wrote most counts, since an rsync here passes the same bytes on to the next.

use std::collections::HashMap;
use std::fs;

/// The variable that names the job in the environment of its actions.
pub const JOB_VARIABLE: &str = "RSYNCDIRECTOR_JOB";

/// Bytes by the job's id, of the actions that run.
pub fn by_job() -> HashMap<String, u64> {
    let mut moved = HashMap::new();
    for leader in threads("self").iter().flat_map(|thread| children(&format!("self/task/{thread}/children"))) {
        if let Some(job) = job_of(leader) {
            *moved.entry(job).or_default() += most_written(leader);
        }
    }
    moved
}

fn threads(process: &str) -> Vec<String> {
    let entries = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

fn children(file: &str) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{file}")).unwrap_or_default();
    text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

fn job_of(process: u32) -> Option<String> {
    let environment = fs::read(format!("/proc/{process}/environ")).ok()?;
    let variables = environment.split(|&byte| byte == 0);
    let mut values =
        variables.filter_map(|variable| variable.strip_prefix(JOB_VARIABLE.as_bytes())?.strip_prefix(b"="));
    values.next().map(|value| String::from_utf8_lossy(value).into_owned())
}

/// What that process of a tree wrote which wrote most.
fn most_written(root: u32) -> u64 {
    let mut most = 0;
    let mut todo = vec![root];
    while let Some(process) = todo.pop() {
        most = most.max(written(process));
        let name = process.to_string();
        todo.extend(threads(&name).iter().flat_map(|thread| children(&format!("{name}/task/{thread}/children"))));
    }
    most
}

fn written(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix("wchar:"));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::process::{Command, Stdio};
    use std::time::Duration;

    use super::*;
    use crate::clock::Ticks;

    #[test]
    fn what_a_grandchild_writes_counts_for_the_job() {
        let line = "sh -c 'printf \"%01000d\\n\" 7; read line'; true";
        let mut child = Command::new("sh");
        child.args(["-c", line]).env(JOB_VARIABLE, "photos").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = child.spawn().expect("sh");
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut said).expect("it says so");
        // A pipe's reader may be faster than the writer's account.
        let since = Ticks::now();
        while by_job().get("photos") != Some(&1001) {
            assert!(since.elapsed() < Duration::from_secs(30), "{:?}", by_job());
        }
        child.stdin.take().expect("a pipe").write_all(b"\n").expect("it reads");
        assert!(child.wait().expect("ends").success());
    }
}
