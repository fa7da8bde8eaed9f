//! The Ansible role, on booted machines.

use std::process::Command;

use integration_tests::playbook::{Controller, project};
use integration_tests::{Lan, Machine};

/// The Debian package, built as quickly as it can be.
fn package() -> String {
    if std::env::var_os("PG").is_some() {
        return project().join("target/debian/rsyncdirector_2.0.0-1_amd64.deb").display().to_string();
    }
    let built = Command::new(project().join("packaging/build-deb")).arg("--dev").output().expect("build-deb starts");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    String::from_utf8_lossy(&built.stdout).lines().last().expect("the package's path").to_owned()
}

const LAPTOP: &str = r#"
rsyncdirector_install: deb
rsyncdirector_deb: <package>
rsyncdirector_instances:
  laptop:
    config:
      cron_schedule: "0 0 1 1 *"
      metrics: {addr: 127.0.0.1, port: 9190}
      jobs:
        - id: home
          type: remote
          user: rd-laptop
          host: <peer>
          private_ssh_key: /etc/rsyncdirector/credentials/laptop/backup
          lock_files:
            - {type: remote, user: rd-laptop, host: <peer>, path: /run/lock/rsyncdirector/laptop.lock,
               private_ssh_key: /etc/rsyncdirector/credentials/laptop/backup}
          actions:
            - {action: sync, id: files, source: /srv/data/, dest: /srv/backup/laptop, opts: [-a<more>]}
    ssh_keys:
      - name: backup
    peers:
      - host: peer
        user: rd-laptop
        key: backup
        access: restrict
        policy:
          locks: [/run/lock/rsyncdirector/laptop.lock]
          write: [/srv/backup/laptop]
        directories:
          - path: /srv/backup/laptop
  photos:
    config:
      cron_schedule: "0 0 1 1 *"
      metrics: {addr: 127.0.0.1, port: 9191}
      jobs:
        - id: photos
          type: local
          actions:
            - {action: sync, id: files, source: /srv/data/, dest: /srv/photos, opts: [-a]}
"#;

#[test]
fn a_fleet_is_set_up_and_a_second_run_changes_nothing() {
    let lan = Lan::enter();
    let (Some(sender), Some(peer)) = (Machine::boot_in(&lan, "sender"), Machine::boot_in(&lan, "peer")) else { return };
    let mut controller = Controller::new();
    controller.manage("sender", &sender);
    controller.manage("peer", &peer);
    controller.sandbox().define("package", package());
    controller.sandbox().define("peer", peer.address());
    let variables = |more: &str| LAPTOP.replace("<more>", more);
    controller.set("sender", &variables(""));
    controller.set("peer", "rsyncdirector_install: deb\nrsyncdirector_deb: <package>\n");
    let first = controller.play(&[]);
    println!("{}", first.output);
    assert!(first.changed("sender") > 0);
    let second = controller.play(&[]);
    println!("{}", second.output);
    assert_eq!((second.changes(), second.changed("sender"), second.changed("peer")), (vec![], 0, 0));
}

#[test]
fn zz_playground() {
    let lan = Lan::enter();
    let (Some(sender), Some(peer)) = (Machine::boot_in(&lan, "sender"), Machine::boot_in(&lan, "peer")) else { return };
    let mut controller = Controller::new();
    controller.manage("sender", &sender);
    controller.manage("peer", &peer);
    controller.sandbox().define("package", package());
    controller.sandbox().define("peer", peer.address());
    let variables = |more: &str| LAPTOP.replace("<more>", more);
    controller.set("sender", &variables(""));
    controller.set("peer", "rsyncdirector_install: deb\nrsyncdirector_deb: <package>\n");
    let p = controller.play(&["--check"]);
    println!("{}", p.output);
    std::fs::write(
        "/tmp/an-playground",
        format!("{} {} {}", std::process::id(), controller.sandbox().dir().display(), rustix_tid()),
    )
    .unwrap();
    while std::path::Path::new("/tmp/an-playground").exists() {
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}
fn rustix_tid() -> String {
    std::fs::read_link("/proc/thread-self").unwrap().display().to_string()
}
