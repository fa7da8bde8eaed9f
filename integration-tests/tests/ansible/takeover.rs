//! A host that runs the Python version: here a stand-in that is deployed as that is, and ends as that does.

use integration_tests::playbook::Controller;
use integration_tests::{Lan, Machine};

use super::with_binary;

/// Runs its "job", a slow rsync, when it gets HUP; notes at its end whether one ran.
const STAND_IN: &str = r#"#!/usr/bin/python3
import os, signal, subprocess, sys, time
config = os.environ["RSYNCMANANGER_CONFIG"]
name = next(line.split()[1] for line in open(config) if line.startswith("rsync_id"))
pid_file = f"/run/rsyncdirector/rsyncdirector-{name}.pid"
open(pid_file, "w").write(str(os.getpid()))
jobs = []
def job(*_):
    open("/srv/old/begun", "w")
    jobs.append(subprocess.Popen(["rsync", "-a", "--bwlimit=200", "/srv/old/data/", "/srv/old/copy/"]))
def end(*_):
    busy = any(job.poll() is None for job in jobs)
    open("/srv/old/ended", "w").write("busy" if busy else "idle")
    os.unlink(pid_file)
    sys.exit(0)
signal.signal(signal.SIGHUP, job)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
while True:
    time.sleep(3600)
"#;

const UNIT: &str = "
[Unit]
Description=RsyncDirector of old, %i
After=network.target
[Service]
Environment=PYTHONUNBUFFERED=true
EnvironmentFile=/etc/rsyncdirector/rsyncdirector-%i.env
User=rsyncdirector
Group=rsyncdirector
ExecStart=/etc/rsyncdirector/rsyncdirector.sh
Restart=on-failure
StandardOutput=append:/var/log/rsyncdirector/rsyncdirector-%i.log
StandardError=append:/var/log/rsyncdirector/rsyncdirector-%i.err
[Install]
WantedBy=multi-user.target
";

const CONFIG: &str = r#"
rsync_id: nas
cron_schedule: "0 0 1 1 *"
pid_file_dir: /run/rsyncdirector
metrics:
  addr: "127.0.0.1"
  port: "9390"
jobs:
  - id: mirror
    type: local
    lock_files:
      - {type: local, path: /srv/old/lock}
    actions:
      - {action: sync, id: data, source: /srv/old/data/, dest: /srv/old/copy, opts: ["-a"]}
"#;

/// Deploys and starts the stand-in as the instance `nas`.
fn deploy(host: &Machine) {
    host.sh("useradd --create-home rsyncdirector && mkdir -p /srv/old/data /srv/old/copy /var/log/rsyncdirector");
    host.write("/usr/local/rsyncdirector/bin/rsyncdirector", STAND_IN);
    host.write("/etc/rsyncdirector/rsyncdirector.sh", "#!/bin/bash\nexec /usr/local/rsyncdirector/bin/rsyncdirector\n");
    host.write("/etc/rsyncdirector/nas_config.yaml", CONFIG);
    let environment = "RSYNCMANANGER_CONFIG=/etc/rsyncdirector/nas_config.yaml\n";
    host.write("/etc/rsyncdirector/rsyncdirector-nas.env", environment);
    host.write("/etc/systemd/system/rsyncdirector@.service", UNIT);
    host.sh("chmod 755 /etc/rsyncdirector/rsyncdirector.sh /usr/local/rsyncdirector/bin/rsyncdirector");
    host.sh("dd if=/dev/urandom of=/srv/old/data/file bs=1k count=2k status=none; mkdir -p /run/rsyncdirector");
    host.sh("chown -R rsyncdirector: /etc/rsyncdirector /srv/old /var/log/rsyncdirector /run/rsyncdirector");
    host.sh("systemctl daemon-reload && systemctl enable --now rsyncdirector@nas");
    host.until("grep -q ready /var/log/rsyncdirector/rsyncdirector-nas.log");
}

fn started(host: &Machine) -> String {
    host.sh("systemctl show --value --property=ExecStart rsyncdirector@nas | grep -o 'path=[^ ]*'")
        .trim_end()
        .to_owned()
}

#[test]
fn a_host_of_the_python_version_is_taken_over_or_left_as_it_was() {
    const THEIRS: &str = "path=/etc/rsyncdirector/rsyncdirector.sh";
    let lan = Lan::enter();
    let Some(host) = Machine::boot_in(&lan, "host") else { return };
    let mut controller = Controller::new();
    controller.manage("host", &host);
    with_binary(&controller, "host", "rsyncdirector_job_wait: 60\n");
    deploy(&host);
    let theirs = super::pid(&host, "nas");

    // One that ours would not start with: the old one is not touched.
    host.sh("sed -i 's/opts:/optz:/' /etc/rsyncdirector/nas_config.yaml");
    let refused = controller.play(&[]);
    assert!(!refused.ok && refused.output.contains("optz"), "{}", refused.output);
    assert_eq!((started(&host), super::pid(&host, "nas")), (THEIRS.to_owned(), theirs));
    host.sh("sed -i 's/optz:/opts:/' /etc/rsyncdirector/nas_config.yaml");

    // One that ours does not start with, since something else listens there: the old one is started again.
    let listener = "import socket, time; s = socket.create_server((\"127.0.0.1\", 9390)); time.sleep(3600)";
    host.sh(&format!("systemd-run --quiet --unit=listener /usr/bin/python3 -c '{listener}'"));
    host.until("ss -ltn | grep -q 127.0.0.1:9390");
    let undone = controller.play(&[]);
    assert!(!undone.ok && undone.output.contains("9390"), "{}", undone.output);
    assert_eq!(started(&host), THEIRS);
    host.sh(
        "systemctl is-active rsyncdirector@nas && systemctl is-enabled rsyncdirector@nas && systemctl stop listener",
    );

    // Its job comes to its end first; then ours runs with the same configuration, as the same user.
    host.sh("rm -f /srv/old/ended /srv/old/copy/file; systemctl kill --kill-whom=main --signal=HUP rsyncdirector@nas");
    host.until("test -e /srv/old/begun");
    assert!(controller.play(&[]).changed("host") > 0);
    assert_eq!(host.read("/srv/old/ended"), "idle");
    host.sh("cmp /srv/old/data/file /srv/old/copy/file");
    assert_eq!(started(&host), "path=/usr/bin/rsyncdirector");
    host.sh("systemctl is-active rsyncdirector@nas && systemctl is-enabled rsyncdirector@nas");
    host.sh("systemctl show --property=User rsyncdirector@nas | grep -qx User=rsyncdirector");
    assert_eq!(host.read("/etc/rsyncdirector/nas_config.yaml"), CONFIG);
    assert_eq!(host.read("/var/backups/rsyncdirector-1.x/rsyncdirector@.service"), UNIT);
    host.sh("rm /srv/old/copy/file && systemctl reload rsyncdirector@nas");
    host.until("cmp /srv/old/data/file /srv/old/copy/file");
    assert_eq!(controller.play(&[]).changes(), Vec::<String>::new());
}
