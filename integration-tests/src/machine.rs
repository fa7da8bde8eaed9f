//! A host with a systemd of its own, booted by systemd-nspawn on top of this machine's files.
//!
//! [`Machine::boot`] lays a tmpfs over `/` (an overlay: what is installed here is there, what is changed there stays
//! there), takes away what this machine starts, and boots it. A [`Lan`] connects several of them and the test. Commands
//! run as units of that systemd, so they are where a service or an administrator's shell would be.
//!
//! A helper process (`machine.sh`) owns the mounts, in a mount namespace of its own, and the control group. It ends the
//! machine when its standard input does, so nothing is left behind however the test ends.
//!
//! Absent on purpose: packages from elsewhere. What a machine is to have, [`Machine::copy_in`] brings, or this one has it.

use std::fs::{self, File, Permissions};
use std::io::{BufRead, BufReader, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::network::Lan;
use crate::sandbox::PATH;
use crate::{procs, wait};

/// How long a machine may take to boot or to go down.
const BOOT: Duration = Duration::from_secs(60);

/// What the helper process does.
const HELPER: &str = include_str!("machine.sh");

/// What of this machine is none of the booted one's: its services and timers, its identity, its shells' start-up files,
/// the file that keeps packages from starting services, and an installation of the program under test.
const NOT_INHERITED: [&str; 21] = [
    "etc/systemd/system",
    "etc/rc2.d",
    "etc/rc3.d",
    "etc/rc4.d",
    "etc/rc5.d",
    "etc/rcS.d",
    "etc/fstab",
    "etc/machine-id",
    "var/lib/dbus/machine-id",
    "var/lib/systemd",
    "var/log/journal",
    "var/spool/cron",
    "root/.bashrc",
    "root/.profile",
    "root/.ssh",
    "usr/sbin/policy-rc.d",
    "etc/apt/apt.conf.d/20packagekit",
    "etc/rsyncdirector",
    "var/lib/rsyncdirector",
    "var/log/rsyncdirector",
    "run/rsyncdirector",
];

/// Numbers the machines of this process.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A booted host. Dropping it ends it.
pub struct Machine {
    name: String,
    dir: TempDir,
    helper: Child,
    orders: Option<ChildStdin>,
}

/// What a command in a machine did.
#[derive(Debug)]
pub struct Ran {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

impl Machine {
    /// Boots one that nothing is connected with. `None` where that is not possible, after the line
    /// `skipped: REASON`; with `CI` set this fails the test.
    ///
    /// # Panics
    /// See above.
    pub fn boot(name: &str) -> Option<Self> {
        Self::boot_with(name, Ok(None))
    }

    /// Boots one in a network; [`Self::address`] says where. `None` as for [`Self::boot`].
    ///
    /// # Panics
    /// As [`Self::boot`].
    pub fn boot_in(lan: &Lan, name: &str) -> Option<Self> {
        Self::boot_with(name, lan.next_address().map(Some))
    }

    fn boot_with(name: &str, address: Result<Option<Ipv4Addr>, String>) -> Option<Self> {
        let prepared = address.and_then(|address| Self::prepare(name, address));
        let booted = prepared.and_then(|machine| machine.start().map(|()| machine));
        match booted {
            Ok(machine) => Some(machine),
            Err(reason) => {
                assert!(std::env::var_os("CI").is_none(), "no machine can be booted here: {reason}");
                println!("skipped: {reason}");
                None
            }
        }
    }

    /// Everything but the boot.
    fn prepare(name: &str, address: Option<Ipv4Addr>) -> Result<Self, String> {
        if !rustix::process::getuid().is_root() {
            return Err("booting a machine needs root".to_owned());
        }
        let dir =
            tempfile::Builder::new().prefix("rdm").tempdir_in("/tmp").map_err(|e| format!("no directory: {e}"))?;
        let unique = format!("rd{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
        let log = File::create(dir.path().join("console")).map_err(|e| format!("no console: {e}"))?;
        let mut helper = Command::new("unshare");
        helper.args(["--mount", "--propagation", "private", "sh", "-c", HELPER, "machine"]);
        helper.arg(dir.path()).arg(&unique).args(nspawn(&unique, dir.path(), address.is_some()));
        // A group of its own: who ends the test's processes leaves it time to clean up.
        helper.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut helper = helper.spawn().map_err(|e| format!("no unshare: {e}"))?;
        let orders = helper.stdin.take();
        let mut ready = String::new();
        let mut output = BufReader::new(helper.stdout.take().expect("a piped output"));
        output.read_line(&mut ready).map_err(|e| format!("the helper process: {e}"))?;
        let machine = Self { name: name.to_owned(), dir, helper, orders };
        if ready != "ready\n" {
            return Err(format!("no file system for it: {}", machine.console().trim()));
        }
        machine.furnish(address).map_err(|e| format!("its files could not be changed: {e}"))?;
        Ok(machine)
    }

    /// Makes another host of the copy of this one.
    fn furnish(&self, address: Option<Ipv4Addr>) -> std::io::Result<()> {
        let root = PathBuf::from(format!("/proc/{}/root{}/root", self.helper.id(), self.dir.path().display()));
        for name in NOT_INHERITED {
            let path = root.join(name);
            match path.symlink_metadata() {
                Ok(found) if found.is_dir() => fs::remove_dir_all(path)?,
                Ok(_) => fs::remove_file(path)?,
                Err(_) => {}
            }
        }
        let wants = root.join("etc/systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants)?;
        fs::create_dir_all(root.join("var/log/journal"))?;
        fs::create_dir_all(root.join("var/lib/systemd"))?;
        fs::write(root.join("etc/machine-id"), "")?;
        fs::write(root.join("etc/hostname"), format!("{}\n", self.name))?;
        fs::write(root.join("etc/hosts"), format!("127.0.0.1 localhost {}\n", self.name))?;
        if let Some(address) = address {
            let unit = format!(
                "[Unit]\nDefaultDependencies=no\nBefore=network-online.target network.target\n[Service]\nType=oneshot\n\
                 RemainAfterExit=yes\nExecStart=/bin/ip addr add {address}/24 dev host0\nExecStart=/bin/ip link set host0 up\n"
            );
            fs::write(root.join("etc/systemd/system/lan.service"), unit)?;
            std::os::unix::fs::symlink("../lan.service", wants.join("lan.service"))?;
            fs::write(root.join("etc/lan-address"), address.to_string())?;
        }
        Ok(())
    }

    fn start(&self) -> Result<(), String> {
        self.orders.as_ref().expect("it has not ended").write_all(b"boot\n").map_err(|e| format!("no helper: {e}"))?;
        let up = wait::within(BOOT, || {
            let state = self.enter(&["systemctl", "is-system-running"]).map(|ran| ran.stdout);
            let ended = self.console().contains("helper: it has ended");
            (ended || matches!(state.as_deref(), Some("running\n" | "degraded\n"))).then_some(!ended)
        });
        match up {
            Some(true) => {
                // It has the modes of this machine's devices, which may not be the usual ones.
                self.enter(&["chmod", "0666", "/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"]);
                Ok(())
            }
            _ => Err(format!("systemd-nspawn boots no machine: {}", last_lines(&self.console()))),
        }
    }

    /// What it wrote to its console, and what the helper process says.
    pub fn console(&self) -> String {
        let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
        read(&self.dir.path().join("console"))
    }

    /// Its address in its [`Lan`].
    ///
    /// # Panics
    /// When it is in none.
    pub fn address(&self) -> String {
        self.read("/etc/lan-address")
    }

    /// The process, as seen from here, that is its process 1.
    fn leader(&self) -> Option<u32> {
        let below = procs::descendants(self.helper.id());
        let nspawn = below.iter().find(|process| process.comm == "systemd-nspawn")?;
        let child = |process: &&procs::Proc| process.parent == nspawn.pid && process.comm == "systemd";
        below.iter().find(child).map(|process| process.pid)
    }

    /// Executes a program in all its namespaces; `None` while there are none.
    fn enter(&self, argv: &[&str]) -> Option<Ran> {
        let leader = self.leader()?.to_string();
        let mut command = Command::new("nsenter");
        command.args(["--all", "--target", &leader]).args(argv).env_clear().env("PATH", PATH).stdin(Stdio::null());
        let output = command.output().ok()?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Some(Ran { status: output.status, stdout: text(&output.stdout), stderr: text(&output.stderr) })
    }

    /// Runs a shell line as root, as a unit of its own, and waits for it.
    ///
    /// # Panics
    /// When the machine does not run.
    #[track_caller]
    pub fn run(&self, line: &str) -> Ran {
        let home = "--setenv=HOME=/root";
        let path = format!("--setenv=PATH={PATH}");
        // Its manager replaces variables, as in a unit file; the shell is to do so.
        let line = line.replace('$', "$$");
        let unit = ["systemd-run", "--quiet", "--pipe", "--wait", "--collect", home, &path, "/bin/sh", "-c", &line];
        self.enter(&unit).expect("the machine runs")
    }

    /// The same for a line that succeeds; gives its standard output.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn sh(&self, line: &str) -> String {
        let ran = self.run(line);
        assert!(ran.status.success(), "{line}\n{}\n{}{}", ran.status, ran.stdout, ran.stderr);
        ran.stdout
    }

    /// Waits until a shell line succeeds.
    ///
    /// # Panics
    /// When it does not within the deadline.
    #[track_caller]
    pub fn until(&self, line: &str) {
        wait::until(&format!("in {}: {line}", self.name), || self.run(line).status.success());
    }

    /// Where one of its files is, seen from here, while it runs.
    ///
    /// # Panics
    /// When it does not run.
    #[track_caller]
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root/{path}", self.leader().expect("the machine runs")))
    }

    /// Writes a file there, its parents too.
    ///
    /// # Panics
    /// When it cannot.
    #[track_caller]
    pub fn write(&self, path: &str, content: impl AsRef<[u8]>) {
        let target = self.path(path);
        fs::create_dir_all(target.parent().expect("a file has a parent")).expect("the parents can be made");
        fs::write(&target, content).unwrap_or_else(|e| panic!("write {path}: {e}"));
    }

    /// A file's text; empty when there is none.
    #[track_caller]
    pub fn read(&self, path: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(path)).unwrap_or_default()).into_owned()
    }

    /// Copies a file of this machine there, with these permission bits.
    ///
    /// # Panics
    /// When it cannot.
    #[track_caller]
    pub fn copy_in(&self, from: &Path, to: &str, mode: u32) {
        let target = self.path(to);
        fs::create_dir_all(target.parent().expect("a file has a parent")).expect("the parents can be made");
        // A new file: one that is being executed cannot be written to.
        let _ = fs::remove_file(&target);
        fs::copy(from, &target).unwrap_or_else(|e| panic!("copy {} to {to}: {e}", from.display()));
        fs::set_permissions(&target, Permissions::from_mode(mode)).expect("chmod");
    }

    /// What the journal has of a unit, one entry a line of JSON, oldest first.
    #[track_caller]
    pub fn journal(&self, unit: &str) -> Vec<serde_json::Value> {
        let text = self.sh(&format!("journalctl --sync; journalctl --no-pager -o json -u '{unit}'"));
        text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
    }

    /// Reboots it in order, and waits until it is up again. Files stay, but for those in `/run` and `/tmp`.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn reboot(&self) {
        self.reboot_when(|| true);
    }

    /// The same, but it stays down until `ready`, which may take two minutes.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn reboot_when(&self, mut ready: impl FnMut() -> bool) {
        self.enter(&["systemctl", "reboot"]).expect("the machine runs");
        self.is_down();
        wait::within(2 * BOOT, || ready().then_some(())).expect("the time to boot again comes");
        self.boot_again();
    }

    /// Ends all its processes at once, as a power cut does, and boots it again.
    ///
    /// # Panics
    /// When it does not come up.
    #[track_caller]
    pub fn cut_power(&self) {
        procs::signal(self.leader().expect("the machine runs"), Signal::KILL);
        self.is_down();
        self.boot_again();
    }

    #[track_caller]
    fn is_down(&self) {
        let down = wait::within(BOOT, || self.console().contains("helper: it has ended").then_some(()));
        assert!(down.is_some(), "{} does not go down", self.name);
    }

    #[track_caller]
    fn boot_again(&self) {
        File::create(self.dir.path().join("console")).expect("the console is emptied");
        if let Err(reason) = self.start() {
            panic!("{}: {reason}", self.name);
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let journal =
                self.enter(&["journalctl", "--no-pager", "-n", "100"]).map(|ran| ran.stdout).unwrap_or_default();
            eprintln!("--- journal of {}:\n{journal}---", self.name);
        }
        drop(self.orders.take());
        let _ = self.helper.wait();
    }
}

/// The arguments of systemd-nspawn.
fn nspawn(unique: &str, dir: &Path, connected: bool) -> Vec<String> {
    let network = if connected { "--network-bridge=lan" } else { "--private-network" };
    let root = format!("--directory={}/root", dir.display());
    let name = format!("--machine={unique}");
    let own = ["--quiet", "--register=no", "--keep-unit", "--boot", "--console=passive", "--link-journal=no"];
    let here = ["--resolv-conf=off", "--timezone=off"];
    // What a host's programs may restrict themselves with, as the gate does.
    let landlock = "--system-call-filter=landlock_create_ruleset landlock_add_rule landlock_restrict_self";
    let kernel = ["systemd.unit=multi-user.target", "systemd.firstboot=off"];
    let all = own.iter().chain(&here).copied().chain([landlock, network, &*name, &*root]).chain(kernel);
    all.map(str::to_owned).collect()
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}
