//! The command line: one file a subcommand. Errors become one clear line and an exit code here.

mod agent;
mod check;
mod doctor;
mod environment;
mod follow;
mod gate;
mod history;
mod instance;
mod locks;
mod next;
mod notify_test;
mod orders;
pub mod progress;
mod run;
mod status;
pub mod summary;
mod table;
mod verify;
mod why;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::process::guard;
use crate::ssh::transport;
use crate::verify::worker;

const EXIT_CODES: &str = "\
Exit codes:
  0  all went well
  1  --once: a job failed or was skipped; locks: one could not be looked at or broken;
     show: there is no such run; history: it cannot be read;
     status, now, cancel, pause, resume, reload, renew, why: the instance does not run, or refuses;
     notify-test: somebody could not be told; doctor: something will fail;
     agent: its client was not understood; verify: it could not tell
  2  the command line or the configuration is wrong
     verify: more differs than may
  3  another director runs this instance; verify: something differs, no more than may
  4  it could not start (port, directories, permissions)
  75 renew: nothing runs, and it is to be started anew
  126  gate: what the client asked for was refused

Environment:
  RSYNCDIRECTOR_CONFIG    the configuration file, as --config
  RSYNCDIRECTOR_RUNONCE   1: as --once
  RSYNCDIRECTOR_DRYRUN    1: as --dry-run
  RSYNCDIRECTOR_LOGLEVEL  error, warn, info, debug or trace, as --log-level
The spelling RSYNCMANANGER_... of each, which RsyncDirector 1.x used, is understood too.

Signals:
  HUP        run all jobs now; during a run, once more after it
  TERM, INT  stop: end what runs, release locks; a second one kills at once
  USR2       as renew";

/// The director for rsync: runs rsync jobs by schedule, one at a time where they share data.
#[derive(Debug, Parser)]
#[command(name = "rsyncdirector", version, about, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run an instance: by schedule until told to stop, or once. This is what no command at all means, too
    #[command(after_help = EXIT_CODES)]
    Run(run::Args),
    /// Check a configuration and say everything that is wrong with it
    Check(check::Args),
    /// Say what will fail before it does: here, at each peer, and by the unit of systemd
    Doctor(doctor::Args),
    /// Show when jobs will run
    Next(next::Args),
    /// Show every lock and block file: who holds it, for how long, how its lease stands
    Locks(locks::Args),
    /// Show how a running instance and its jobs stand
    Status(status::Args),
    /// Run jobs of a running instance now, or once more behind what runs
    Now(orders::JobArgs),
    /// End jobs of a running instance, and take them out of its queue
    Cancel(orders::JobArgs),
    /// Suspend the schedule of jobs, also over a restart, until `resume`
    Pause(orders::JobArgs),
    /// End what `pause` began
    Resume(orders::JobArgs),
    /// Show why a job does not run now, and why it did not the last time
    Why(why::Args),
    /// Have a running instance read its configuration again; a wrong one changes nothing
    Reload(orders::Common),
    /// Have a running instance leave with 75 as soon as nothing runs, for systemd to start the program that is installed now
    Renew(orders::Common),
    /// Compare replicas with their sources now, and mend them if asked to
    #[command(after_help = verify::EXIT_CODES)]
    Verify(verify::Args),
    /// Show what ran, and how it ended
    History(history::Args),
    /// Show one run: its jobs, actions and what they printed
    Show(history::ShowArgs),
    /// Send a test message to everyone who is told what becomes of jobs
    NotifyTest(notify_test::Args),
    /// Stand in front of a restricted account: the forced command of an SSH key
    Gate(gate::Args),
    /// Look at this host's trees for a verification on another, which starts it by ssh
    Agent,
    /// Print the JSON schema of the configuration file, for editors
    Schema,
    /// Print the version
    Version,
    /// Print a completion script
    Completions {
        /// For which shell
        shell: clap_complete::Shell,
    },
}

/// How the program ends. The numbers are part of the interface: `--help` and the man page list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// All well.
    Success,
    /// `--once`: a job failed or was skipped.
    JobFailed,
    /// `history`, `show`, `status`: there is nothing to show, or it cannot be read.
    NotFound,
    /// `notify-test`: somebody could not be told.
    NotTold,
    /// `locks`: a file could not be looked at, or was not broken.
    LockFailed,
    /// `doctor`: something will fail.
    Unwell,
    /// `agent`: its client could not be understood, or told.
    NotUnderstood,
    /// The command line or the configuration is wrong.
    Configuration,
    /// Another instance holds the pid file.
    AlreadyRunning,
    /// It could not start.
    CannotStart,
    /// It was told to leave, to be started anew: EX_TEMPFAIL of sysexits.h.
    Renewal,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Success => 0,
            Exit::JobFailed
            | Exit::LockFailed
            | Exit::NotFound
            | Exit::NotTold
            | Exit::Unwell
            | Exit::NotUnderstood => 1,
            Exit::Configuration => 2,
            Exit::AlreadyRunning => 3,
            Exit::CannotStart => 4,
            Exit::Renewal => 75,
        })
    }
}

/// What the program is when it starts itself to help: the guard of a director's children, a verification, or the way of an rsync to its peer.
fn helper() -> Option<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next()?;
    if first == guard::GUARD {
        guard::run(&arguments.next().unwrap_or_default());
        return Some(ExitCode::SUCCESS);
    }
    if first == worker::VERIFY {
        return Some(worker::run());
    }
    (first == transport::SHIM).then(|| {
        let status = transport::shim::run(arguments);
        ExitCode::from(u8::try_from(status).unwrap_or(u8::MAX))
    })
}

/// The command line as data, for what is made of it: man pages, completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// The whole program.
pub fn main() -> ExitCode {
    if let Some(exit) = helper() {
        return exit;
    }
    let cli = Cli::parse();
    match cli.command.unwrap_or_else(|| Command::Run(run::Args::default())) {
        Command::Run(args) => run::run(args),
        Command::Check(args) => check::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Next(args) => next::run(&args),
        Command::Locks(args) => locks::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Now(args) => orders::order(&args, "now"),
        Command::Cancel(args) => orders::order(&args, "cancel"),
        Command::Pause(args) => orders::order(&args, "pause"),
        Command::Resume(args) => orders::order(&args, "resume"),
        Command::Why(args) => why::run(&args),
        Command::Reload(args) => orders::reload(&args),
        Command::Renew(args) => orders::renew(&args),
        Command::Verify(args) => return verify::run(&args),
        Command::History(args) => history::run(&args),
        Command::Show(args) => history::show(&args),
        Command::NotifyTest(args) => notify_test::run(&args),
        Command::Gate(args) => return gate::run(&args),
        Command::Agent => return agent::run(),
        Command::Schema => print(&rsyncdirector_schema()),
        Command::Version => print(&format!("rsyncdirector {}", crate::VERSION)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "rsyncdirector", &mut script);
            print(String::from_utf8_lossy(&script).trim_end())
        }
    }
    .into()
}

fn rsyncdirector_schema() -> String {
    format!("{:#}", crate::config::json_schema())
}

/// Prints a result. A reader that has gone away (`| head`) is no error.
fn print(text: &str) -> Exit {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "{text}").and_then(|()| stdout.flush());
    Exit::Success
}

/// One line on standard error, for a failure before there is a log.
fn complain(error: &dyn std::error::Error) {
    complain_of(&crate::error_chain(error));
}

fn complain_of(message: &str) {
    let _ = writeln!(std::io::stderr(), "rsyncdirector: {message}");
}

/// Reads a configuration, showing what is wrong with it on standard error.
fn load(path: &std::path::Path) -> Result<crate::config::Loaded, Exit> {
    use crate::config::LoadError;
    match crate::config::load(path, &|name| std::env::var_os(name)) {
        Ok(loaded) => {
            show(&loaded.warnings);
            Ok(loaded)
        }
        Err(LoadError::Invalid(diagnostics)) => {
            show(&diagnostics);
            Err(Exit::Configuration)
        }
        Err(error) => {
            complain(&error);
            Err(Exit::Configuration)
        }
    }
}

fn show(diagnostics: &crate::config::Diagnostics) {
    if !diagnostics.is_empty() {
        let color = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let _ = writeln!(std::io::stderr(), "{}", diagnostics.render(color).trim_end());
    }
}

/// The configuration named on the command line, else in the environment.
fn config_path(argument: Option<&PathBuf>) -> Result<PathBuf, Exit> {
    argument.cloned().or_else(|| environment::get("CONFIG").map(PathBuf::from)).ok_or_else(|| {
        complain_of("which configuration? Name it with --config FILE or in RSYNCDIRECTOR_CONFIG");
        Exit::Configuration
    })
}
