//! Two instances of one host: what a change touches, and what it leaves alone.

use integration_tests::playbook::Controller;
use integration_tests::{Lan, Machine};

use super::{pid, with_binary};

const LAPTOP: &str = "
rsyncdirector_instances:
  laptop:
    <laptop>
    config:
      cron_schedule: '0 0 1 1 *'
      metrics: {addr: 127.0.0.1, port: <port>}
      jobs:
        - {id: home, type: local, actions: [{action: <action>, id: one, command: '<command>'}]}
  photos:
    <photos>
    config:
      cron_schedule: '0 0 1 1 *'
      metrics: {addr: 127.0.0.1, port: 9191}
      jobs:
        - {id: all, type: local, actions: [{action: command, id: one, command: 'echo \"$COLOUR\"'}]}
";

/// The variables with these words in the places of theirs; the others as they are at first.
fn variables(words: &[(&str, &str)]) -> String {
    let first = [
        ("laptop", "enabled: true"),
        ("port", "9190"),
        ("action", "command"),
        ("command", "true"),
        ("photos", "env: {COLOUR: 'a \"$b\"'}"),
    ];
    let all = words.iter().chain(&first);
    all.fold(LAPTOP.to_owned(), |text, (name, value)| text.replace(&format!("<{name}>"), value))
}

#[test]
fn a_change_touches_the_changed_instance_only_and_a_wrong_one_none() {
    let lan = Lan::enter();
    let Some(host) = Machine::boot_in(&lan, "host") else { return };
    let mut controller = Controller::new();
    controller.manage("host", &host);
    with_binary(&controller, "host", &variables(&[]));
    assert!(controller.play(&[]).changed("host") > 0);
    let both = || [pid(&host, "laptop"), pid(&host, "photos")];
    let [laptop, photos] = both();
    let config = host.read("/etc/rsyncdirector/laptop.yaml");
    host.sh("rsyncdirector now -i photos");
    host.until("journalctl -u rsyncdirector@photos | grep -qF 'a \"$b\"'");

    // Wrong: it is said where, nothing is written, and the right one beside it is not either.
    with_binary(&controller, "host", &variables(&[("action", "sink"), ("photos", "env: {COLOUR: other}")]));
    let refused = controller.play(&[]);
    assert!(!refused.ok && refused.output.contains("sink"), "{}", refused.output);
    assert_eq!(
        (host.read("/etc/rsyncdirector/laptop.yaml"), both()),
        (config.clone(), [laptop.clone(), photos.clone()])
    );
    assert!(host.read("/etc/rsyncdirector/rsyncdirector-photos.env").contains(r#"COLOUR="a \"\$b\"""#));

    // A check tells what would change.
    with_binary(&controller, "host", &variables(&[("command", "false")]));
    let checked = controller.play(&["--check", "--diff"]);
    assert!(checked.ok && checked.output.contains("command: 'false'"), "{}", checked.output);
    assert_eq!(host.read("/etc/rsyncdirector/laptop.yaml"), config);

    // What a running instance can take over does not end it, nor its job.
    host.sh("rsyncdirector now -i laptop");
    let reloaded = controller.play(&[]);
    let expected = ["host: Write their configurations laptop", "host: Reload changed configurations laptop"];
    assert_eq!((reloaded.changes(), both()), (expected.map(String::from).to_vec(), [laptop.clone(), photos.clone()]));
    host.sh("rsyncdirector now -i laptop");
    host.until("rsyncdirector history -i laptop | grep -q failed");

    // What it cannot takes a restart; of the other one nobody notices anything.
    let port = [("command", "sleep 600"), ("port", "9290")];
    with_binary(&controller, "host", &variables(&port));
    let restarted = controller.play(&[]);
    assert_eq!(restarted.changed("host"), 3, "written, reloaded, restarted");
    assert!(!restarted.output.contains("RETRYING"), "nothing ran that had to be waited for:\n{}", restarted.output);
    assert!(pid(&host, "laptop") != laptop && pid(&host, "photos") == photos);
    host.sh("/usr/bin/python3 -c 'import urllib.request as u; u.urlopen(\"http://127.0.0.1:9290/healthz\")'");

    // A job has its time before a restart ends it; and an instance that is given up goes without a trace.
    let laptop = pid(&host, "laptop");
    host.sh("rsyncdirector now -i laptop");
    host.until("pgrep -x sleep");
    let unit = [("photos", "state: absent"), ("laptop", "drop_in: \"[Service]\\nNice=7\"")];
    let unit = variables(&[&unit[..], &port].concat()) + "rsyncdirector_job_wait: 4\n";
    with_binary(&controller, "host", &unit);
    let restarted = controller.play(&[]);
    assert!(restarted.changed("host") > 0 && restarted.output.contains("FAILED - RETRYING"), "{}", restarted.output);
    assert_ne!(pid(&host, "laptop"), laptop);
    assert_eq!(host.sh("pgrep -x sleep; ps -o ni= -C rsyncdirector").trim(), "7");
    host.sh("! systemctl --quiet is-enabled rsyncdirector@photos && ! test -e /etc/rsyncdirector/photos.yaml");
    assert_eq!(controller.play(&[]).changes(), Vec::<String>::new());
}
