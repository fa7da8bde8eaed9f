//! A sender and its peer, from nothing to a sync by a restricted key, and back.

use integration_tests::playbook::Controller;
use integration_tests::{Lan, Machine, package};

const PEER: &str = "
rsyncdirector_install: deb
rsyncdirector_deb: <package>
";

const SENDER: &str = "
rsyncdirector_install: deb
rsyncdirector_deb: <package>
rsyncdirector_instances:
  laptop:
    mode: <mode>
    config:
      cron_schedule: '0 0 1 1 *'
      metrics: {addr: 127.0.0.1, port: 9190}
      jobs:
        - id: home
          type: remote
          user: rd-laptop
          host: <peer>
          private_ssh_key: '<key>'
          lock_files:
            - {type: remote, user: rd-laptop, host: <peer>, path: /run/lock/rsyncdirector/laptop.lock, private_ssh_key: '<key>'}
          actions:
            - {action: sync, id: files, source: /srv/data/, dest: /srv/backup/laptop, opts: [-a, --delete]}
    ssh_keys:
      - name: backup
    peers:
      - host: peer
        user: rd-laptop
        key: backup
        policy:
          locks: [/run/lock/rsyncdirector/laptop.lock]
          write: [/srv/backup/laptop]
        directories:
          - path: /srv/backup/laptop
";

/// In the default mode the instance is root, which reads the key where it is.
const ROOT: [(&str, &str); 2] = [("<mode>", "default"), ("<key>", "/etc/rsyncdirector/credentials/laptop/backup")];
/// In the others systemd hands it over.
const READER: [(&str, &str); 2] = [("<mode>", "reader"), ("<key>", "${CREDENTIALS_DIRECTORY}/backup")];

fn sender(choice: [(&str, &str); 2]) -> String {
    choice.iter().fold(SENDER.to_owned(), |text, (name, value)| text.replace(name, value))
}

#[test]
fn a_fleet_is_set_up_syncs_by_a_restricted_key_and_is_removed_again() {
    let lan = Lan::enter();
    let (Some(laptop), Some(peer)) = (Machine::boot_in(&lan, "sender"), Machine::boot_in(&lan, "peer")) else { return };
    let mut controller = Controller::new();
    controller.manage("sender", &laptop);
    controller.manage("peer", &peer);
    controller.sandbox().define("package", package::of_this_run().display().to_string());
    controller.sandbox().define("peer", peer.address());
    controller.set("peer", PEER);
    controller.set("sender", &sender(ROOT));

    let checked = controller.play(&["--check", "--diff"]);
    assert!(checked.ok, "{}", checked.output);
    assert!(!laptop.path("/usr/bin/rsyncdirector").exists() && !peer.path("/usr/bin/rsyncdirector").exists());
    assert!(controller.play(&[]).changed("sender") > 0);
    let second = controller.play(&[]);
    assert_eq!((second.changes(), second.changed("sender"), second.changed("peer")), (vec![], 0, 0));

    laptop.write("/srv/data/one", "1");
    laptop.sh("rsyncdirector now -i laptop");
    peer.until("grep -q 1 /srv/backup/laptop/one");
    laptop.until("rsyncdirector history -i laptop | grep -q succeeded");
    nothing_else_is_let_in(&laptop, &peer);

    controller.set("sender", &sender(READER));
    assert!(controller.play(&[]).changed("sender") > 0);
    assert_eq!(laptop.sh("systemctl show --value --property=User rsyncdirector@laptop"), "rsyncdirector\n");
    laptop.sh("install -m 600 /dev/null /srv/data/two && rsyncdirector now -i laptop");
    peer.until("test -e /srv/backup/laptop/two");

    controller.set("sender", &(sender(READER) + "rsyncdirector_state: absent\nrsyncdirector_purge: true\n"));
    assert!(controller.play(&[]).changed("sender") > 0);
    laptop.sh("! test -e /usr/bin/rsyncdirector && ! test -e /etc/rsyncdirector && ! test -e /var/lib/rsyncdirector");
    laptop.sh("! pgrep -x rsyncdirector && ! systemctl --quiet is-enabled rsyncdirector@laptop");
    peer.sh("! grep . /home/rd-laptop/.ssh/authorized_keys && ! test -e /etc/rsyncdirector/gate/sender-laptop.yaml");
    assert_eq!(peer.read("/srv/backup/laptop/one"), "1", "data stays");
}

/// The key opens the gate only, and what the gate relies on is root's.
fn nothing_else_is_let_in(laptop: &Machine, peer: &Machine) {
    let ssh = "ssh -o BatchMode=yes -i /etc/rsyncdirector/credentials/laptop/backup";
    let refused = laptop.run(&format!("{ssh} rd-laptop@{} id", peer.address()));
    assert_eq!(refused.status.code(), Some(126), "{refused:?}");
    assert!(refused.stderr.contains("gate: refused"), "{}", refused.stderr);
    let owners = "stat -c '%U %a' /home/rd-laptop /home/rd-laptop/.ssh /home/rd-laptop/.ssh/authorized_keys";
    assert_eq!(peer.sh(owners), "root 755\nroot 755\nroot 644\n");
    assert_eq!(laptop.sh("stat -c '%U %a' /etc/rsyncdirector/credentials/laptop/backup"), "root 600\n");
}
