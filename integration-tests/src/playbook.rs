//! Ansible as its users run it: a controller with an inventory, a key of its own, and hosts that it reaches by ssh.
//!
//! The controller is this machine in the test's network; the hosts are booted [`Machine`]s. [`Controller::play`] gives the
//! role variables and looks at what became of each host.

use std::process::Command;

use crate::package::project;
use crate::{Machine, Sandbox, keys};

/// Where playbooks are run from.
pub struct Controller {
    sandbox: Sandbox,
    hosts: Vec<String>,
}

/// What became of a playbook.
#[derive(Debug)]
pub struct Played {
    /// Whether every host came to the end.
    pub ok: bool,
    /// All that was printed.
    pub output: String,
}

impl Default for Controller {
    fn default() -> Self {
        Self::new()
    }
}

impl Controller {
    /// One that knows no host.
    pub fn new() -> Self {
        let sandbox = Sandbox::new();
        sandbox.mkdir("host_vars");
        sandbox.user_key();
        Self { sandbox, hosts: Vec::new() }
    }

    /// A directory of the controller for what playbooks name.
    pub fn sandbox(&self) -> &Sandbox {
        &self.sandbox
    }

    /// Makes a machine a host: gives it an sshd with host keys of its own, known here, that lets the controller in as root.
    ///
    /// # Panics
    /// When its sshd does not start.
    pub fn manage(&mut self, name: &str, machine: &Machine) {
        // A machine's devices have the modes that they have here, which need not be those of a host.
        machine.sh("chmod 666 /dev/null && rm -f /etc/ssh/ssh_host_* && ssh-keygen -q -A && mkdir -p /run/sshd");
        machine.write("/root/.ssh/authorized_keys", format!("{}\n", keys::public(&self.sandbox.user_key())));
        machine.sh("chown -R root:root /root/.ssh && chmod 700 /root/.ssh && systemctl enable --now ssh");
        let key = machine.read("/etc/ssh/ssh_host_ed25519_key.pub");
        let known = format!("{} {key}", machine.address());
        self.sandbox.write("known_hosts", self.sandbox.read("known_hosts") + &known);
        self.hosts.push(format!("{name} ansible_host={} ansible_user=root\n", machine.address()));
        self.sandbox.write("inventory", self.hosts.concat());
    }

    /// Sets the variables of a host, YAML in which `@/` is the controller's directory.
    pub fn set(&self, host: &str, variables: &str) {
        self.sandbox.write(format!("host_vars/{host}.yml"), self.sandbox.expand(variables));
    }

    /// Gives the role to all hosts, with these options of `ansible-playbook`.
    ///
    /// # Panics
    /// When Ansible does not start.
    pub fn play(&self, options: &[&str]) -> Played {
        let playbook = "- hosts: all\n  gather_subset: [min]\n  roles: [rsyncdirector]\n";
        let playbook = self.sandbox.write("site.yml", playbook);
        let mut command = Command::new("ansible-playbook");
        command.arg("-i").arg(self.sandbox.path("inventory")).arg(playbook).args(options);
        let output = self.furnish(&mut command).output().expect("ansible-playbook starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Played { ok: output.status.success(), output: text(&output.stdout) + &text(&output.stderr) }
    }

    fn furnish<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        let dir = self.sandbox.dir().display();
        // The control socket's path has the sandbox's name, so its process ends with the sandbox.
        let ssh = format!(
            "-o ControlMaster=auto -o ControlPersist=60s -o ControlPath={dir}/%C -o UserKnownHostsFile={dir}/known_hosts \
             -o GlobalKnownHostsFile=/dev/null -o StrictHostKeyChecking=yes -o IdentitiesOnly=yes -F none"
        );
        command
            .env_clear()
            .env("PATH", crate::sandbox::PATH)
            .env("LANG", "C.UTF-8")
            .env("HOME", self.sandbox.path("home"));
        command.env("ANSIBLE_ROLES_PATH", project().join("packaging/ansible/roles"));
        command.env("ANSIBLE_PRIVATE_KEY_FILE", self.sandbox.user_key()).env("ANSIBLE_SSH_ARGS", ssh);
        command.env("ANSIBLE_PIPELINING", "1").env("ANSIBLE_NOCOLOR", "1").env("ANSIBLE_RETRY_FILES_ENABLED", "0");
        command.env("ANSIBLE_LOCALHOST_WARNING", "0").env("ANSIBLE_PYTHON_INTERPRETER", "/usr/bin/python3");
        command
            .env("ANSIBLE_LOCAL_TEMP", self.sandbox.path("local"))
            .env("ANSIBLE_CONFIG", self.sandbox.write("ansible.cfg", "[defaults]\n"));
        command.current_dir(self.sandbox.dir())
    }
}

impl Played {
    /// How many tasks changed something on a host.
    ///
    /// # Panics
    /// When the playbook did not come to an end, or the host is none of its.
    #[track_caller]
    pub fn changed(&self, host: &str) -> usize {
        assert!(self.ok, "{}", self.output);
        let line = self.output.lines().rev().find(|line| line.starts_with(host) && line.contains("changed="));
        let line = line.unwrap_or_else(|| panic!("no host {host} in:\n{}", self.output));
        let count = line.split_whitespace().find_map(|word| word.strip_prefix("changed="));
        count.and_then(|count| count.parse().ok()).expect("a recap counts")
    }

    /// The tasks and handlers that changed something, each with the host: `HOST: TASK`.
    pub fn changes(&self) -> Vec<String> {
        let mut task = "";
        let mut found = Vec::new();
        for line in self.output.lines() {
            let heading = line.strip_prefix("TASK [").or_else(|| line.strip_prefix("RUNNING HANDLER ["));
            if let Some(rest) = heading {
                let name = rest.split(']').next().unwrap_or(rest);
                task = name.strip_prefix("rsyncdirector : ").unwrap_or(name);
            } else if let Some(rest) = line.strip_prefix("changed: [") {
                found.push(format!("{}: {task}{}", rest.split(']').next().unwrap_or(rest), item_of(rest)));
            }
        }
        found
    }
}

/// The element of a loop that a line is about.
fn item_of(line: &str) -> String {
    line.split_once("(item=").map(|(_, item)| format!(" {}", item.trim_end_matches(')'))).unwrap_or_default()
}
