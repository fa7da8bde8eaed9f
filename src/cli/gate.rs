//! `gate`: the forced command of a restricted key, and what helps to set one up.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::error_chain;
use crate::gate::agent::Within;
use crate::gate::journal::Journal;
use crate::gate::{Admitted, Policy, admit, confine, keyline, locks};

use super::{Exit, complain, complain_of, print};

/// What a refused command exits with, as sh(1) has it for one that may not be executed.
const REFUSED: u8 = 126;
/// Bound on what rsync sends as its arguments, bytes.
const SECLUDED_MAX: usize = 1024 * 1024;

/// Arguments of `gate`.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Args {
    /// What the key may do
    #[arg(long, value_name = "FILE", required = true)]
    policy: Option<PathBuf>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check a policy, as the account that is to use it
    Check {
        /// The policy
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
    },
    /// Print the line of authorized_keys that puts a key behind the gate
    Keyline {
        /// The policy
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
        /// From where the key is accepted: addresses, names, patterns; sshd(8), `from=`
        #[arg(long, value_name = "PATTERNS")]
        from: Option<String>,
        /// The program as the line names it
        #[arg(long, value_name = "PATH", default_value = "/usr/bin/rsyncdirector")]
        program: PathBuf,
        /// The public key, a file that ends in .pub
        #[arg(value_name = "KEY.pub")]
        key: PathBuf,
    },
}

pub(super) fn run(args: &Args) -> ExitCode {
    match (&args.command, &args.policy) {
        (Some(Command::Check { policy }), _) => check(policy).into(),
        (Some(Command::Keyline { policy, from, program, key }), _) => {
            line(policy, from.as_deref(), program, key).into()
        }
        (None, Some(policy)) => session(policy),
        (None, None) => Exit::Configuration.into(),
    }
}

fn check(file: &Path) -> Exit {
    match Policy::load(file) {
        Ok(policy) => print(&format!(
            "{}: {} lock files, {} directories to read, {} to write: ok",
            file.display(),
            policy.locks.len(),
            policy.read.len(),
            policy.write.len()
        )),
        Err(error) => {
            complain(&error);
            Exit::Configuration
        }
    }
}

fn line(policy: &Path, from: Option<&str>, program: &Path, key: &Path) -> Exit {
    let text = match std::fs::read_to_string(key) {
        Ok(text) => text,
        Err(error) => {
            complain_of(&format!("{}: {error}", key.display()));
            return Exit::Configuration;
        }
    };
    if !policy.is_absolute() {
        complain_of(&format!("{} must be absolute: sshd starts the gate in the account's home", policy.display()));
        return Exit::Configuration;
    }
    match keyline::keyline(&text, program, policy, from) {
        Ok(line) => print(&line),
        Err(error) => {
            complain_of(&format!("{}: {error}", key.display()));
            Exit::Configuration
        }
    }
}

/// What sshd starts instead of what the client asked for.
fn session(file: &Path) -> ExitCode {
    let variable = |name| std::env::var_os(name).unwrap_or_default();
    let client = variable("SSH_CONNECTION");
    let journal = Journal::open(file, &client.to_string_lossy());
    let refuse = |to_client: &str, to_journal: &str| {
        journal.refused(to_journal);
        complain_of(&format!("gate: refused: {to_client}"));
        ExitCode::from(REFUSED)
    };
    let policy = match Policy::load(file) {
        Ok(policy) => policy,
        Err(error) => return refuse("its policy cannot be used; the log of its host says why", &error_chain(&error)),
    };
    let command = variable("SSH_ORIGINAL_COMMAND");
    let shown = command.to_string_lossy();
    match admit(command.as_bytes(), &policy, &mut secluded) {
        Err(refusal) => refuse(&refusal.to_string(), &format!("{refusal}; the command was: {shown}")),
        Ok(Admitted::Locks) => {
            journal.admitted("lock operations");
            if let Err(error) = confine::shut_in_for_locks(&policy) {
                return refuse(&error_chain(&error), &error_chain(&error));
            }
            match locks::serve(&policy, &mut io::stdin().lock(), &mut io::stdout().lock(), &journal) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => refuse(&error_chain(&error), &error_chain(&error)),
            }
        }
        Ok(Admitted::Agent) => {
            journal.admitted("the agent");
            if let Err(error) = confine::shut_in_for_agent(&policy) {
                return refuse(&error_chain(&error), &error_chain(&error));
            }
            match super::agent::serve(Box::new(Within::new(policy, journal))) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    complain(&error);
                    Exit::NotUnderstood.into()
                }
            }
        }
        Ok(Admitted::Rsync(call)) => {
            journal.admitted(&shown);
            let error = error_chain(&confine::become_rsync(&policy, &call));
            refuse(&error, &error)
        }
    }
}

/// Arguments that rsync sends over its stream: each ends with a NUL, an empty one ends them. Not a byte more is read.
fn secluded() -> io::Result<Vec<Vec<u8>>> {
    let mut args = Vec::new();
    let mut arg = Vec::new();
    for _ in 0..SECLUDED_MAX {
        let mut byte = [0];
        // Not by the buffered handle: what follows is rsync's.
        if rustix::io::read(io::stdin(), &mut byte)? == 0 {
            break;
        }
        match byte[0] {
            0 if arg.is_empty() => return Ok(args),
            0 => args.push(std::mem::take(&mut arg)),
            byte => arg.push(byte),
        }
    }
    Err(io::Error::from(io::ErrorKind::UnexpectedEof))
}
