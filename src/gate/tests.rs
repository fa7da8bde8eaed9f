//! What is let through, what is not, and that nothing that is let through leads out.

mod fuzz;
mod policies;
mod sessions;

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::policy::Policy;
use super::{Admitted, Refusal, admit};

/// Directories of a policy, full of traps, and what lies outside of them.
struct Ground {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

impl Ground {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = fs::canonicalize(directory.path()).expect("real");
        for name in ["home/.ssh", "read/sub/deep", "write/sub", "write/a b", "outside", "locks"] {
            fs::create_dir_all(path.join(name)).expect("made");
        }
        for name in ["read/a", "read/b.c", "read/sub/*", "write/sub/x", "outside/secret", "home/list"] {
            fs::write(path.join(name), name).expect("written");
        }
        for root in ["read", "write"] {
            let link = |to: &str, name: &str| symlink(to, path.join(root).join(name)).expect("linked");
            link("/etc", "etc");
            link("..", "up");
            link("../outside/secret", "file");
            link("../outside/new", "dangling");
            link("sub", "fine");
            link("loop", "loop");
        }
        Self { _directory: directory, path }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    fn text(&self, more: &str) -> String {
        let dir = self.path.display();
        format!("locks: [{dir}/locks/x.lock]\nread: [{dir}/read]\nwrite: [{dir}/write]\n{more}")
    }

    fn policy(&self, more: &str) -> Policy {
        let file = Path::new("/etc/rsyncdirector/gate/x.yaml");
        Policy::parse(file, &self.text(more), &self.path("home"), None).expect("a policy")
    }

    /// A judgement, with DIR for this ground in the line and in what comes of it.
    fn judge(&self, policy: &Policy, line: &str, secluded: &[&str]) -> Result<Admitted, Refusal> {
        let dir = self.path.to_str().expect("text");
        let line = line.replace("DIR", dir);
        let args: Vec<Vec<u8>> = secluded.iter().map(|arg| arg.replace("DIR", dir).into_bytes()).collect();
        admit(line.as_bytes(), policy, &mut || match args.is_empty() {
            true => Err(io::ErrorKind::UnexpectedEof.into()),
            false => Ok(args.clone()),
        })
    }

    fn told(&self, policy: &Policy, line: &str, secluded: &[&str]) -> String {
        let dir = self.path.to_str().expect("text");
        match self.judge(policy, line, secluded) {
            Ok(Admitted::Locks) => "locks".to_owned(),
            Ok(Admitted::Agent) => "agent".to_owned(),
            Ok(Admitted::Rsync(call)) => {
                let args: Vec<_> = call.args.iter().map(|arg| String::from_utf8_lossy(arg.as_bytes())).collect();
                args.join("|").replace(dir, "DIR")
            }
            Err(refusal) => format!("refused: {}", refusal.to_string().replace(dir, "DIR")),
        }
    }
}
