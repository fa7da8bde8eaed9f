//! What `docs/install.md` and `docs/cookbook.md` have an administrator type, typed in a booted machine.

use std::fs;
use std::path::Path;

use integration_tests::{Machine, director};

const INSTALL: &str = include_str!("../../docs/install.md");
const COOKBOOK: &str = include_str!("../../docs/cookbook.md");

/// The first block of a document below a heading that begins so, without its indentation.
fn block(document: &str, heading: &str, fence: &str) -> String {
    let (_, section) = document.split_once(&format!("\n## {heading}")).expect("the heading");
    let section = section.split("\n## ").next().unwrap_or_default();
    let mut lines = section.lines().skip_while(|line| line.trim_start() != format!("```{fence}"));
    let first = lines.next().unwrap_or_else(|| panic!("no {fence} below {heading}"));
    let indent = first.len() - first.trim_start().len();
    let inside = lines.take_while(|line| line.trim_start() != "```");
    inside.map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect()
}

/// Installs the bare binary, as the document says.
fn install(machine: &Machine) {
    // systemd-nspawn gives it the mode that it has here, which need not be that of a real host.
    machine.sh("chmod 666 /dev/null");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the package's directory");
    machine.copy_in(&director::binary(), "/root/unpacked/rsyncdirector", 0o755);
    copy_tree(machine, &source.join("systemd"), "/root/unpacked/systemd");
    machine.sh(&format!("set -e\ncd /root/unpacked\n{}", block(INSTALL, "A binary", "sh")));
}

/// The source tree may be in /tmp, which is the machine's own.
fn copy_tree(machine: &Machine, from: &Path, to: &str) {
    for entry in fs::read_dir(from).expect("a directory") {
        let path = entry.expect("an entry").path();
        let to = format!("{to}/{}", path.file_name().expect("a name").display());
        match path.is_dir() {
            true => copy_tree(machine, &path, &to),
            false => machine.copy_in(&path, &to, 0o644),
        }
    }
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
    machine.sh(&block(COOKBOOK, shared, "sh").replace("laptop", "uploads"));
    machine.sh("ssh-keyscan -t ed25519 backup01.example.org >> /etc/ssh/ssh_known_hosts");
    for command in ["useradd -m -s /bin/sh -G rsyncdirector laptop", "install -d -o laptop /backup/laptop"] {
        assert!(COOKBOOK.contains(&format!("`{command}`")), "{command}");
        machine.sh(&command.replace("laptop", "uploads"));
    }
    let recipe = "10. As few rights as possible on both sides";
    machine.write("/etc/rsyncdirector/gate/uploads.yaml", block(COOKBOOK, recipe, "yaml gate/uploads.yaml"));
    machine.write("/etc/rsyncdirector/uploads.yaml", block(COOKBOOK, recipe, "yaml uploads.yaml"));
    machine.sh(
        "cp /etc/rsyncdirector/credentials/uploads/id_ed25519.pub uploads.pub
         install -d -m 700 -o uploads ~uploads/.ssh
         runuser -u uploads -- rsyncdirector gate check --policy /etc/rsyncdirector/gate/uploads.yaml &&
         rsyncdirector gate keyline --policy /etc/rsyncdirector/gate/uploads.yaml uploads.pub > ~uploads/.ssh/authorized_keys",
    );
    machine.sh("install -d -m 750 -o www-data /srv/app/uploads && echo mine > /srv/app/uploads/one && chmod 600 /srv/app/uploads/one");

    machine.sh(&block(COOKBOOK, recipe, "sh"));
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

#[test]
fn the_first_copy_takes_the_commands_of_the_document() {
    let Some(machine) = Machine::boot("photos") else { return };
    install(&machine);
    let sample =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("its directory").join("resources/samples/minimal.yaml");
    machine.copy_in(&sample, "/usr/share/doc/rsyncdirector/examples/minimal.yaml", 0o644);
    machine.write("/srv/photos/one.jpg", "1");
    machine.sh("mkdir -p /mnt/usb");

    // The package itself is installed by its own tests.
    let commands = block(INSTALL, "Debian", "sh");
    let (apt, rest) = commands.split_once('\n').expect("several commands");
    assert!(apt.starts_with("apt install ./rsyncdirector_"), "{apt}");
    assert_eq!(rest.replace("\\\n", "").lines().count(), 2, "three commands with the first: {rest}");
    machine.sh(&format!("set -e\n{rest}"));
    assert_eq!(machine.read("/mnt/usb/photos/one.jpg"), "1");

    machine.write("/srv/photos/two.jpg", "2");
    machine.sh("systemctl enable --now rsyncdirector@photos && rsyncdirector now -i photos copy");
    machine.until("grep 2 /mnt/usb/photos/two.jpg");
}
