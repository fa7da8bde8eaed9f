//! The program as a service of a real systemd: each test boots a machine and installs the package there.

mod lifecycle;
mod modes;

use integration_tests::{Lan, Machine, package, wait};
use serde_json::Value;

/// A booted machine on which the package is installed.
struct Host {
    machine: Machine,
}

impl Host {
    /// `None` where none can be booted.
    fn boot() -> Option<Self> {
        let host = Self { machine: Machine::boot("box")? };
        host.install();
        Some(host)
    }

    fn install(&self) {
        self.machine.copy_in(&package::of_this_run(), "/root/rsyncdirector.deb", 0o644);
        self.machine.sh("DEBIAN_FRONTEND=noninteractive dpkg --no-triggers --install /root/rsyncdirector.deb");
    }

    /// Writes the configuration of an instance: never due by itself, metrics on any port, and `body`.
    fn configure(&self, name: &str, body: &str) {
        let has_schedule = body.lines().any(|line| line.starts_with("cron_schedule:"));
        let schedule = if has_schedule { "" } else { "cron_schedule: '0 0 1 1 *'\n" };
        let head = format!("rsync_id: {name}\n{schedule}metrics: {{addr: 127.0.0.1, port: 0}}\n");
        self.machine.write(&format!("/etc/rsyncdirector/{name}.yaml"), head + body);
    }

    /// Adds to the unit of an instance, in a file of its own.
    fn drop_in(&self, name: &str, file: &str, text: &str) {
        self.machine.write(&format!("/etc/systemd/system/rsyncdirector@{name}.service.d/{file}.conf"), text);
        self.machine.sh("systemctl daemon-reload");
    }

    /// Uses one of the drop-ins that are shipped.
    fn mode(&self, name: &str, mode: &str) {
        let directory = format!("/etc/systemd/system/rsyncdirector@{name}.service.d");
        let shipped = format!("/usr/share/rsyncdirector/systemd/{mode}.conf");
        self.machine
            .sh(&format!("mkdir -p {directory} && ln -s {shipped} {directory}/mode.conf && systemctl daemon-reload"));
    }

    #[track_caller]
    fn start(&self, name: &str) {
        let unit = format!("rsyncdirector@{name}");
        let started = self.machine.run(&format!("systemctl start {unit}"));
        let log = || self.machine.sh(&format!("journalctl --no-pager -u {unit}"));
        assert!(started.status.success(), "{}{}", started.stderr, log());
    }

    /// A property of the unit.
    #[track_caller]
    fn property(&self, name: &str, property: &str) -> String {
        let line = format!("systemctl show -P {property} rsyncdirector@{name}");
        self.machine.sh(&line).trim().to_owned()
    }

    /// What `rsyncdirector COMMAND -i NAME --json` says.
    #[track_caller]
    fn ask(&self, name: &str, command: &str) -> Value {
        let text = self.machine.sh(&format!("rsyncdirector {command} -i {name} --json"));
        serde_json::from_str(&text).expect("JSON")
    }

    /// Runs the jobs of an instance and waits for their end: what became of each, `succeeded` or why not.
    #[track_caller]
    fn run(&self, name: &str) -> Vec<String> {
        let before = self.ended(name);
        self.machine.sh(&format!("systemctl reload rsyncdirector@{name}"));
        wait::until("its jobs end", || {
            let now = self.ended(name);
            now.iter().zip(&before).all(|(now, before)| now.0 != before.0)
        });
        self.ended(name).into_iter().map(|(_, outcome)| outcome).collect()
    }

    /// When and how each job ended last.
    #[track_caller]
    fn ended(&self, name: &str) -> Vec<(Value, String)> {
        let status = self.ask(name, "status");
        let jobs = status["jobs"].as_array().expect("jobs").iter();
        jobs.map(|job| {
            let last = &job["last"];
            let outcome = last["outcome"].as_str().unwrap_or("none").to_owned();
            (last["at"].clone(), last["detail"].as_str().map_or(outcome, str::to_owned))
        })
        .collect()
    }

    /// What an instance printed and logged.
    #[track_caller]
    fn log(&self, name: &str) -> String {
        let entries = self.machine.journal(&format!("rsyncdirector@{name}"));
        entries.iter().filter_map(|entry| entry["MESSAGE"].as_str()).collect::<Vec<_>>().join("\n")
    }
}

#[test]
fn a_machine_boots_and_keeps_its_files_over_a_reboot_and_a_power_cut() {
    let Some(machine) = Machine::boot("box") else { return };
    assert_eq!(machine.sh("systemctl --failed --no-legend"), "");
    machine.write("/srv/kept", "1");
    let boot = machine.sh("systemctl show -P UserspaceTimestampMonotonic");
    machine.reboot();
    assert_eq!(machine.read("/srv/kept"), "1");
    machine.cut_power();
    assert_eq!(machine.read("/srv/kept"), "1");
    assert_ne!(machine.sh("systemctl show -P UserspaceTimestampMonotonic"), boot);
    assert_eq!(machine.run("exit 7").status.code(), Some(7));
    assert_eq!(machine.sh("word=$(echo one); echo $word ${word} '${word}' $HOME"), "one one ${word} /root\n");
}

#[test]
fn machines_of_a_network_reach_each_other() {
    let lan = Lan::enter();
    let (Some(one), Some(two)) = (Machine::boot_in(&lan, "one"), Machine::boot_in(&lan, "two")) else { return };
    let line = format!("python3 -c 'import socket; socket.create_connection((\"{}\", 7000), 5)'", two.address());
    two.sh("systemd-run --quiet /usr/bin/python3 -m http.server 7000");
    one.until(&line);
}
