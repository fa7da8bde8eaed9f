//! A test's own directory: sources, destinations, keys, pid files, configurations, a home.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::director::{self, Director, Finished};
use crate::{keys, procs};

/// The `PATH` that the program gets unless a test says otherwise.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The directory, and what stands for what in the configurations written into it. Dropping it kills whatever its
/// programs left behind and removes it.
pub struct Sandbox {
    dir: TempDir,
    names: RefCell<Vec<(String, String)>>,
}

impl Default for Sandbox {
    fn default() -> Self {
        Self::new()
    }
}

impl Sandbox {
    /// An empty one with `home`, `run` (of pid files) and an empty `known_hosts`.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("rd").tempdir_in("/tmp").expect("a directory in /tmp");
        let sandbox = Self { dir, names: RefCell::default() };
        sandbox.mkdir("home");
        sandbox.mkdir("run");
        sandbox.mkdir("state");
        sandbox.write("known_hosts", "");
        sandbox
    }

    /// The directory.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A path in it.
    pub fn path(&self, name: impl AsRef<OsStr>) -> PathBuf {
        self.dir().join(name.as_ref())
    }

    /// Whether something has that name.
    pub fn exists(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    /// Writes a file, its parents too.
    pub fn write(&self, name: impl AsRef<OsStr>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a file has a parent")).expect("the parents can be made");
        fs::write(&path, content).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        path
    }

    /// A file's text; empty when there is none.
    pub fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }

    /// The lines of a file that a job's command appends to; none when there is none.
    pub fn lines(&self, name: &str) -> Vec<String> {
        self.read(name).lines().map(str::to_owned).collect()
    }

    /// Makes a directory, its parents too.
    pub fn mkdir(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(&path).expect("the directory can be made");
        path
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).unwrap_or_else(|e| panic!("remove {name}: {e}"));
    }

    /// Sets permission bits.
    pub fn chmod(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).expect("chmod");
    }

    /// Writes an executable shell script.
    pub fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.write(name, format!("#!/bin/sh\n{}\n", self.expand(body)));
        self.chmod(name, 0o755);
        path
    }

    /// The regular files below a directory by their relative names, with their contents.
    pub fn tree(&self, name: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let root = self.path(name);
        let mut found = BTreeMap::new();
        let mut todo = vec![root.clone()];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => todo.push(entry.path()),
                    _ => {
                        let relative = entry.path().strip_prefix(&root).expect("below the root").to_owned();
                        found.insert(relative, fs::read(entry.path()).unwrap_or_default());
                    }
                }
            }
        }
        found
    }

    /// Whether a regular file below a directory has something in it.
    pub fn has_data(&self, name: &str) -> bool {
        let mut todo = vec![self.path(name)];
        while let Some(dir) = todo.pop() {
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                match entry.metadata() {
                    Ok(found) if found.is_dir() => todo.push(entry.path()),
                    Ok(found) if found.len() > 0 => return true,
                    _ => {}
                }
            }
        }
        false
    }

    /// A file that a throttled rsync needs a long time for.
    pub fn write_big(&self, name: &str, mib: usize) -> PathBuf {
        let path = self.write(name, "");
        let file = fs::File::options().write(true).open(&path).expect("the file");
        // Sparse: it takes no room.
        file.set_len((mib as u64) << 20).expect("its length");
        path
    }

    /// The key pair that every [`crate::Sshd`] of this sandbox accepts.
    pub fn user_key(&self) -> PathBuf {
        let key = self.path("id_user");
        if !key.exists() {
            keys::generate(&key, "");
        }
        key
    }

    /// Lets `<record>` stand for a shell line that notes in `ran` that it runs and in `clashes` when another one does so
    /// at the same time, which it makes likely by taking `seconds`.
    pub fn define_record(&self, seconds: &str) {
        let script = format!(
            "mkdir @/busy 2>/dev/null || echo $PPID >> @/clashes\n\
             echo $PPID >> @/ran\nsleep {seconds}\nrmdir @/busy 2>/dev/null\ntrue"
        );
        self.define("record", self.script("record", &script).display().to_string());
    }

    /// Lets `<hold>` stand for a shell line that makes the file `started` and lasts until the file `go` is there.
    pub fn define_hold(&self) {
        let script = "touch @/started\nuntil [ -e @/go ]; do sleep 0.05; done";
        self.define("hold", self.script("hold", script).display().to_string());
    }

    /// Lets `<name>` in configurations stand for `text`.
    pub fn define(&self, name: &str, text: impl Into<String>) {
        self.names.borrow_mut().push((format!("<{name}>"), text.into()));
    }

    /// Writes the configuration of the instance `main`; see [`Self::config_of`].
    pub fn config(&self, body: &str) -> PathBuf {
        self.config_of("main", body)
    }

    /// Writes a configuration. `@/` stands for the sandbox and `<name>` for what was defined. Top-level keys that the
    /// body does not set itself are added: a schedule that fires on New Year's Day only, directories in the sandbox, a
    /// metrics port that the kernel chooses, a lease of a minute, which no slow machine lets run out.
    pub fn config_of(&self, id: &str, body: &str) -> PathBuf {
        let has = |key: &str| body.lines().any(|line| line.starts_with(&format!("{key}:")));
        let defaults = [
            ("rsync_id", id),
            ("cron_schedule", "0 0 1 1 *"),
            ("pid_file_dir", "@/run"),
            ("metrics", "{addr: 127.0.0.1, port: 0}"),
            ("known_hosts", "@/known_hosts"),
            ("lease", "60"),
        ];
        let header = defaults.iter().filter(|(key, _)| !has(key)).map(|(key, value)| match value.starts_with('{') {
            true => format!("{key}: {value}\n"),
            false => format!("{key}: \"{value}\"\n"),
        });
        let text = header.collect::<String>() + body;
        self.write(format!("{id}.yaml"), self.expand(&text))
    }

    /// A text with `@/` and `<name>` replaced.
    pub fn expand(&self, text: &str) -> String {
        let dir = format!("{}/", self.dir().display());
        let names = self.names.borrow();
        names.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value)).replace("@/", &dir)
    }

    /// The program with a clean environment: `PATH`, `HOME` in the sandbox, UTC.
    pub fn command(&self) -> Command {
        self.command_of(&director::binary())
    }

    /// Another program in that environment.
    pub fn command_of(&self, program: &Path) -> Command {
        self.clean(Command::new(program))
    }

    /// The program started by way of another one that executes its last arguments, such as `unshare --mount`.
    pub fn command_via(&self, words: &[&str]) -> Command {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(director::binary());
        self.clean(command)
    }

    /// Runs the program to its end with these arguments.
    pub fn cli(&self, args: &[&str]) -> Finished {
        let mut command = self.command();
        command.args(args);
        Finished::of(command)
    }

    /// Runs all jobs of a configuration once, to the end.
    pub fn once(&self, config: &Path) -> Finished {
        self.once_with(config, &[])
    }

    /// The same with more options.
    pub fn once_with(&self, config: &Path, options: &[&str]) -> Finished {
        let mut command = self.command();
        command.args(["run", "--once", "--config"]).arg(config).args(options);
        Finished::of(command)
    }

    /// Starts the daemon and waits until it serves metrics.
    pub fn start(&self, config: &Path) -> Director {
        let director = self.spawn(config);
        director.wait_until_ready();
        director
    }

    /// Starts the daemon and does not wait for anything.
    pub fn spawn(&self, config: &Path) -> Director {
        let mut command = self.command();
        command.args(["run", "--log-format", "json", "--config"]).arg(config);
        Director::spawn(self, command)
    }

    /// The pid file of an instance.
    pub fn pid_file(&self, id: &str) -> PathBuf {
        self.path(format!("run/rsyncdirector-{id}.pid"))
    }

    fn clean(&self, mut command: Command) -> Command {
        command.env_clear().env("PATH", PATH).env("HOME", self.path("home")).env("TZ", "UTC").env("LANG", "C.UTF-8");
        command.env("STATE_DIRECTORY", self.path("state"));
        command.env("USER", user());
        command.current_dir(self.dir());
        command
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for left in procs::mentioning(self.dir()) {
            procs::signal(left.pid, Signal::KILL);
        }
    }
}

/// The login name of the user who runs the tests.
///
/// # Panics
/// When `/etc/passwd` does not know the user.
pub fn user() -> String {
    account(0)
}

/// The home directory of the user who runs the tests.
///
/// # Panics
/// When `/etc/passwd` does not know the user.
pub fn home() -> String {
    account(5)
}

fn account(field: usize) -> String {
    let uid = rustix::process::getuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").expect("/etc/passwd");
    let line = passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid)).expect("the user has an account");
    line.split(':').nth(field).expect("seven fields").to_owned()
}
