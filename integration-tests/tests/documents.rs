//! What `docs/cookbook.md` has an administrator type, typed in a booted machine.

use std::path::Path;

use integration_tests::{Machine, director};

const COOKBOOK: &str = include_str!("../../docs/cookbook.md");

/// The first block below a heading that begins so, without its indentation.
fn block(heading: &str, fence: &str) -> String {
    let (_, section) = COOKBOOK.split_once(&format!("\n## {heading}")).expect("the heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut lines = section.lines().skip_while(|line| line.trim_start() != format!("```{fence}"));
    let first = lines.next().unwrap_or_else(|| panic!("no {fence} below {heading}"));
    let indent = first.len() - first.trim_start().len();
    let inside = lines.take_while(|line| line.trim_start() != "```");
    inside.map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect()
}

/// What a package would bring.
fn install(machine: &Machine) {
    // systemd-nspawn gives it the modes that it has here, which need not be those of a real host.
    machine.sh("chmod 666 /dev/null");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package's directory");
    machine.copy_in(&director::binary(), "/usr/bin/rsyncdirector", 0o755);
    for (from, to) in [
        ("systemd/rsyncdirector@.service", "/usr/lib/systemd/system/rsyncdirector@.service"),
        ("systemd/unprivileged.conf", "/usr/share/rsyncdirector/systemd/unprivileged.conf"),
        ("systemd/sysusers.d/rsyncdirector.conf", "/usr/lib/sysusers.d/rsyncdirector.conf"),
        ("systemd/tmpfiles.d/rsyncdirector.conf", "/usr/lib/tmpfiles.d/rsyncdirector.conf"),
    ] {
        machine.copy_in(&source.join(from), to, 0o644);
    }
    machine.sh("systemd-sysusers rsyncdirector.conf && systemd-tmpfiles --create rsyncdirector.conf && systemctl daemon-reload");
}

/// An sshd as Debian configures it, in the machine that is its own peer.
fn start_sshd(machine: &Machine, host: &str) {
    machine.sh(&format!("echo '127.0.0.1 {host}' >> /etc/hosts"));
    machine.write("/etc/ssh/sshd_config", "UsePAM yes\nKbdInteractiveAuthentication no\nPasswordAuthentication no\n");
    machine.sh("rm -f /etc/ssh/ssh_host_* /etc/ssh/ssh_known_hosts && ssh-keygen -A && mkdir -p /run/sshd");
    machine.sh("systemd-run --quiet --unit=peer /usr/sbin/sshd -D -e -f /etc/ssh/sshd_config");
    machine.until(&format!("ssh-keyscan -t ed25519 {host} | grep -q ."));
}

#[test]
fn recipe_10_sends_with_few_rights_to_an_account_that_may_do_one_thing() {
    let Some(machine) = Machine::boot("uploads") else { return };
    install(&machine);
    start_sshd(&machine, "backup01.example.org");
    let shared = "What all of them share";
    machine.sh(&block(shared, "sh").replace("laptop", "uploads"));
    machine.sh("ssh-keyscan -t ed25519 backup01.example.org >> /etc/ssh/ssh_known_hosts");
    for command in ["useradd -m -s /bin/sh -G rsyncdirector laptop", "install -d -o laptop /backup/laptop"] {
        assert!(COOKBOOK.contains(&format!("`{command}`")), "{command}");
        machine.sh(&command.replace("laptop", "uploads"));
    }
    let recipe = "10. As few rights as possible on both sides";
    machine.write("/etc/rsyncdirector/gate/uploads.yaml", block(recipe, "yaml gate/uploads.yaml"));
    machine.write("/etc/rsyncdirector/uploads.yaml", block(recipe, "yaml uploads.yaml"));
    machine.sh(
        "cp /etc/rsyncdirector/credentials/uploads/id_ed25519.pub uploads.pub
         install -d -m 700 -o uploads ~uploads/.ssh
         sudo -u uploads rsyncdirector gate check --policy /etc/rsyncdirector/gate/uploads.yaml &&
         rsyncdirector gate keyline --policy /etc/rsyncdirector/gate/uploads.yaml uploads.pub > ~uploads/.ssh/authorized_keys",
    );
    machine.sh("install -d -m 750 -o www-data /srv/app/uploads && echo mine > /srv/app/uploads/one && chmod 600 /srv/app/uploads/one");

    machine.sh(&block(recipe, "sh"));
    machine.sh("rsyncdirector now -i uploads");
    let log = "journalctl -u rsyncdirector@uploads --no-pager -o cat";
    machine.until(&format!("journalctl --sync; {log} | grep -q ' finished after '"));
    assert_eq!(machine.read("/backup/uploads/one"), "mine\n", "{}", machine.sh(log));
    assert_eq!(machine.sh("stat -c %U /backup/uploads/one"), "uploads\n");
    let of_service = "ps -o user:20= -p $(systemctl show -P MainPID rsyncdirector@uploads)";
    assert_eq!(machine.sh(of_service).trim(), "rsyncdirector");

    let ssh = "ssh -i /etc/rsyncdirector/credentials/uploads/id_ed25519";
    let refused = |command: &str, why: &str| {
        let ran = machine.run(command);
        assert!(!ran.status.success() && ran.stderr.contains(why), "{command}\n{}{}", ran.stdout, ran.stderr);
    };
    refused(&format!("{ssh} uploads@backup01.example.org id"), "gate: refused: id is not rsync");
    let delete = format!("mkdir -p /tmp/empty; rsync -a --delete -e '{ssh}' /tmp/empty/ uploads@backup01.example.org:");
    refused(&format!("{delete}/backup/uploads/"), "deletes, which the policy does not allow");
    refused(&format!("{}/home/uploads/", delete.replace(" --delete", "")), "is in no directory that the policy opens");
    assert_eq!(machine.read("/backup/uploads/one"), "mine\n", "it is still there");
    let told = machine.sh("journalctl --sync; journalctl -t rsyncdirector-gate -p warning --no-pager -o cat");
    assert_eq!(told.lines().filter(|line| line.starts_with("refused: ")).count(), 3, "{told}");
}
