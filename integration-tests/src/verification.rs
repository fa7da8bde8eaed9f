//! The process that verifies, as the director starts it: an order on its standard input, a report in the last line of its output.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

use crate::Sandbox;
use crate::director::binary;

/// An order for two trees on this host.
pub struct Verification {
    /// As the process is told it.
    pub order: Value,
    list: PathBuf,
    /// What comes in front of the program: `setpriv` and its options.
    pub before: Vec<String>,
    /// The program.
    pub program: PathBuf,
}

/// What it found.
pub struct Found {
    /// The report.
    pub report: Value,
    /// The paths that differ, each with its class.
    pub listed: BTreeSet<(Vec<u8>, String)>,
    /// The same with what is said of them: path, class, detail.
    pub details: Vec<(Vec<u8>, String, String)>,
    /// The exit code.
    pub code: i32,
}

impl Verification {
    /// Of `source/` and `target` in a sandbox, by these options of a sync.
    pub fn new(sandbox: &Sandbox, level: &str, opts: &[&str]) -> Self {
        let word = |word: &OsStr| json!({ "Unix": word.as_bytes() });
        let mut source = sandbox.path("source").into_os_string();
        source.push("/");
        let list = sandbox.mkdir("lists").join("list");
        let order = json!({
            "replica": { "job": "job", "sync": "sync" },
            "sources": [word(&source)],
            "dest": word(sandbox.path("target").as_os_str()),
            "opts": opts.iter().map(|opt| word(OsStr::new(opt))).collect::<Vec<_>>(),
            "remote": null,
            "depth": level,
            "share": null,
            "fresh": false,
            "max_drift": { "Entries": 0 },
            "max_lag": null,
            "rate": null,
            "restore": 0,
            "agent": null,
            "state": sandbox.mkdir("state"),
            "keep": 86_400,
            "list": list,
        });
        Self { order, list, before: Vec::new(), program: binary() }
    }

    /// Starts it.
    ///
    /// # Panics
    /// When that cannot be done.
    pub fn start(&self) -> Child {
        let words: Vec<&OsStr> = self.before.iter().map(OsStr::new).chain([self.program.as_os_str()]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg("__verify").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("started");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(self.order.to_string().as_bytes()).expect("the order");
        child
    }

    /// Runs it to its end.
    pub fn run(&self) -> Found {
        self.found(&self.start().wait_with_output().expect("its output"))
    }

    /// What a process found that has ended.
    ///
    /// # Panics
    /// When there is no report.
    pub fn found(&self, output: &Output) -> Found {
        let said = String::from_utf8_lossy(&output.stdout);
        let report = said.lines().last().and_then(|line| line.strip_prefix("rsyncdirector-verify: "));
        let report = report.unwrap_or_else(|| panic!("{said}{}", String::from_utf8_lossy(&output.stderr)));
        let details = listed(&self.list);
        Found {
            report: serde_json::from_str(report).expect("JSON"),
            listed: details.iter().map(|(path, class, _)| (path.clone(), class.clone())).collect(),
            details,
            code: output.status.code().expect("it was not killed"),
        }
    }
}

fn listed(list: &Path) -> Vec<(Vec<u8>, String, String)> {
    let text = fs::read_to_string(list).expect("a list");
    let difference = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        let text = |key: &str| line[key].as_str().unwrap_or_default().to_owned();
        let path = match line["path_base64"].as_str() {
            Some(path) => Base64::decode_vec(path).expect("base64"),
            None => text("path").into_bytes(),
        };
        (path, text("class"), text("detail"))
    };
    text.lines().map(difference).collect()
}

impl Found {
    /// A number of the report, as `/read/entries`.
    ///
    /// # Panics
    /// When it is none.
    pub fn number(&self, pointer: &str) -> u64 {
        self.report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer} of {}", self.report))
    }
}
