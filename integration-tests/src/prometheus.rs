//! A real Prometheus that scrapes a daemon each second.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::sandbox::Sandbox;
use crate::{http, ports, wait};

/// Debian's package `prometheus`.
const PROGRAM: &str = "/usr/bin/prometheus";

/// A running server with its data in the sandbox. Dropping it kills it.
pub struct Prometheus {
    child: Child,
    addr: SocketAddr,
}

impl Prometheus {
    /// Starts one that scrapes `target`, and waits until it is ready.
    ///
    /// # Panics
    /// When it is not installed or does not get ready.
    pub fn scraping(sandbox: &Sandbox, target: SocketAddr) -> Self {
        Self::watching(sandbox, &[target], "groups: []\n")
    }

    /// The same with several targets and these rules.
    ///
    /// # Panics
    /// When it is not installed or does not get ready.
    pub fn watching(sandbox: &Sandbox, targets: &[SocketAddr], rules: &str) -> Self {
        let targets: Vec<_> = targets.iter().map(|target| format!("'{target}'")).collect();
        sandbox.write("rules.yml", rules);
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_timeout: 1s}}\nrule_files: [rules.yml]\n\
             scrape_configs: [{{job_name: test, static_configs: [{{targets: [{}]}}]}}]\n",
            targets.join(", ")
        );
        let config = sandbox.write("prometheus.yml", config);
        let launch = |addr: SocketAddr, log: File| {
            Command::new(PROGRAM)
                .arg(format!("--config.file={}", config.display()))
                .arg(format!("--storage.tsdb.path={}", sandbox.path("prometheus").display()))
                .arg(format!("--web.listen-address={addr}"))
                .arg("--log.level=error")
                .current_dir(sandbox.dir())
                .stdin(Stdio::null())
                .stderr(log)
                .spawn()
                .unwrap_or_else(|e| panic!("{PROGRAM}: {e}"))
        };
        let log = sandbox.path("prometheus.log");
        let (child, addr) = ports::start("Prometheus", Ipv4Addr::LOCALHOST.into(), &log, launch);
        let server = Self { child, addr };
        wait::until("Prometheus is ready", || http::get(addr, "/-/ready").is_ok_and(|answer| answer.status == 200));
        server
    }

    /// The values of an instant query, each with its labels; empty when it knows no such series.
    ///
    /// # Panics
    /// When it answers with an error.
    pub fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        self.result(expression).iter().map(|series| (series["metric"].clone(), value_of(series))).collect()
    }

    /// The samples of each series of a range selector (`up[10m]`), each with its time in seconds since 1970.
    ///
    /// # Panics
    /// When it answers with an error.
    pub fn history(&self, selector: &str) -> Vec<Vec<(f64, f64)>> {
        let pair = |sample: &Value| (sample[0].as_f64().expect("a time"), number(&sample[1]));
        let samples = |series: &Value| series["values"].as_array().expect("samples").iter().map(pair).collect();
        self.result(selector).iter().map(samples).collect()
    }

    fn result(&self, expression: &str) -> Vec<Value> {
        let path = format!("/api/v1/query?query={}", percent_encode(expression));
        let answer = http::get(self.addr, &path).expect("Prometheus answers");
        let answer: Value = serde_json::from_str(&answer.body).expect("JSON");
        answer["data"]["result"].as_array().unwrap_or_else(|| panic!("{expression}: {answer}")).clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn value_of(series: &Value) -> f64 {
    number(&series["value"][1])
}

fn number(text: &Value) -> f64 {
    text.as_str().and_then(|text| text.parse().ok()).expect("a sample")
}

fn percent_encode(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}
