//! The configuration as the program uses it: validated, every default filled in, nothing left to parse.

use std::ffi::OsString;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

pub use super::notify::{Happening, Http, Mail, Secret, Style, Target, Way};
pub use super::peer::{AddressFamily, LeftToSsh, Peer, Reach};
use crate::rsync::bwlimit::Timetable;
use crate::rsync::guard::MaxDelete;
use crate::schedule::Schedule;
use crate::verify::order::MaxDrift;
use crate::verify::order::Replica;
use crate::verify::terms::Depth;

/// One instance: everything that one configuration file says.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that this was read from.
    pub path: PathBuf,
    /// The instance's name, unique on a host: in the pid file's name, metrics and logs.
    pub rsync_id: Arc<str>,
    /// Directory of `rsyncdirector-<rsync_id>.pid`.
    pub pid_file_dir: PathBuf,
    /// The listener of metrics and health.
    pub metrics: Metrics,
    /// What is remembered of runs.
    pub history: HistoryPolicy,
    /// What holds for every peer.
    pub ssh: SshPolicy,
    /// How long a lock file is valid after its last refresh.
    pub lease: Duration,
    /// Time between SIGTERM and SIGKILL to an action's process group.
    pub kill_grace: Duration,
    /// How many jobs of a run may go at once, at least 1.
    pub concurrency: usize,
    /// The jobs in the order of the file, which is the order in which a run performs them.
    pub jobs: Vec<Arc<Job>>,
}

impl Config {
    /// Whether a sync goes over the director's own connections.
    pub fn uses_native_transport(&self) -> bool {
        let mut actions = self.jobs.iter().flat_map(|job| &job.actions);
        actions.any(|action| match &action.kind {
            ActionKind::Sync(sync) => sync.is_native(),
            ActionKind::Verify(verify) => verify.sync.is_native(),
            ActionKind::Command(_) => false,
        })
    }
}

/// What is remembered of runs, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryPolicy {
    /// The instance's directory of state, in which the database is; `None` when there is no place for one.
    pub directory: Option<PathBuf>,
    /// Runs that ended longer ago are forgotten.
    pub max_age: Duration,
    /// Bound on the database's size, bytes; the oldest runs are forgotten when it is reached. 0 keeps none.
    pub max_size: u64,
    /// Bound on what is kept of one action's output, bytes.
    pub output_max: u64,
}

/// Where `/metrics`, `/healthz` and `/readyz` are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Address to bind.
    pub addr: IpAddr,
    /// Port to bind; 0 lets the kernel choose.
    pub port: u16,
    /// Binding is retried until this much time has passed.
    pub startup_timeout: Duration,
    /// Pause between two attempts to bind.
    pub startup_retry_wait: Duration,
    /// Attempts after the first.
    pub startup_retry_limit: u32,
    /// Whether the metric names of RsyncDirector 1.x are served too.
    pub legacy_names: bool,
    /// Who may see the pages; `None` is whoever asks from this host.
    pub page_auth: Option<Credentials>,
    /// Who may see the metrics; `None` is everyone.
    pub metrics_auth: Option<Credentials>,
    /// What makes the listener one of HTTPS.
    pub tls: Option<Tls>,
}

/// What a client must send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// `Authorization: Bearer …` (RFC 6750).
    Bearer(SecretFile),
    /// A user and a password (RFC 7617), for which browsers ask.
    Basic {
        /// The user, without a colon.
        user: String,
        /// The password.
        password: Password,
    },
}

/// A password, or what it can be judged by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Password {
    /// Itself.
    Secret(SecretFile),
    /// As crypt(5) has it, `$5$` or `$6$`.
    Hash(String),
}

/// Where a secret is: the first line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretFile {
    /// This file.
    File(PathBuf),
    /// A credential that the service manager hands over: systemd.exec(5), LoadCredential=.
    Credential(String),
}

/// A server's certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// PEM file of the certificate, followed by those that lead to a known authority.
    pub cert: PathBuf,
    /// PEM file of its key.
    pub key: PathBuf,
}

/// How connections to peers are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SshPolicy {
    /// Bound on name resolution, TCP connect, key exchange and login together.
    pub connect_timeout: Duration,
    /// What happens with a host whose key is not known.
    pub host_key_policy: HostKeyPolicy,
    /// Files of known host keys, the first one being the one that `accept-new` appends to. Default:
    /// `~/.ssh/known_hosts`, `~/.ssh/known_hosts2`, `/etc/ssh/ssh_known_hosts`, `/etc/ssh/ssh_known_hosts2`.
    pub known_hosts: Vec<PathBuf>,
    /// Which of these are defaults.
    pub unsaid: Unsaid,
}

impl SshPolicy {
    /// The bound on a connection to a peer, from the resolution of the first name on the way to the login at the last host.
    pub fn connect_timeout_of(&self, peer: &Peer) -> Duration {
        let of_peer = peer.reach.connect_timeout.filter(|_| self.unsaid.connect_timeout);
        of_peer.unwrap_or(self.connect_timeout)
    }

    /// The files of known host keys that count for a peer.
    pub fn known_hosts_of<'a>(&'a self, peer: &'a Peer) -> &'a [PathBuf] {
        let of_peer = peer.reach.known_hosts.as_deref().filter(|_| self.unsaid.known_hosts);
        of_peer.unwrap_or(&self.known_hosts)
    }
}

/// What a configuration does not say itself, so that ssh_config(5) may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Unsaid {
    /// The bound on connecting.
    pub connect_timeout: bool,
    /// The files of known host keys.
    pub known_hosts: bool,
}

/// How rsync reaches a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Carrier {
    /// Over the director's own connections.
    #[default]
    Native,
    /// By the system's `ssh`.
    OpenSsh,
}

/// What happens with a host key that no known_hosts file lists. A changed or revoked key is always refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HostKeyPolicy {
    /// Refuse it.
    #[default]
    Strict,
    /// Record it on first sight, refuse a change of it later.
    AcceptNew,
}

/// A job: waits for its blocks, takes its locks, performs its actions, releases.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Unique in the instance.
    pub id: JobId,
    /// When it runs: its own schedule or the instance's.
    pub schedule: JobSchedule,
    /// The host that a remote job's syncs write to (or read from); `None` for a local job.
    pub peer: Option<Peer>,
    /// Lock files to hold while the actions run, in the order of the file.
    pub lock_files: Vec<LockFile>,
    /// Files whose existence makes the job wait, in the order of the file.
    pub blocks_on: Vec<Block>,
    /// Commands that precede the actions; one that fails fails the job before them.
    pub before: Vec<Action>,
    /// What the job does, in order.
    pub actions: Vec<Action>,
    /// What must hold, or else the job is skipped; looked at before anything else.
    pub when: Vec<Condition>,
    /// Jobs before it in the same lane that must have succeeded in the same run, as far as they are part of it.
    pub after_jobs: Vec<JobId>,
    /// How often it is run again, at the end of the run, if it failed.
    pub retries: u32,
    /// Commands after a failure of the job.
    pub on_failure: Vec<Action>,
    /// Commands that end every job that got its locks, last of all.
    pub after: Vec<Action>,
    /// The job is late when its last success is older; `None` is never.
    pub max_age: Option<Duration>,
    /// Who is told what becomes of it.
    pub notify: Vec<Arc<Target>>,
}

impl Job {
    /// Everything that it may execute, in order.
    pub fn steps(&self) -> impl Iterator<Item = &Action> {
        self.before.iter().chain(&self.actions).chain(&self.on_failure).chain(&self.after)
    }
}

/// Something that must hold for a job to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// A file system is mounted at this path.
    Mounted(PathBuf),
    /// A peer lets us log in.
    Reachable(Peer),
    /// The host does not run on battery.
    OnAcPower,
    /// A command ends with 0.
    Command(Command),
}

/// What becomes of a scheduled time that comes while the job's lane runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overlap {
    /// It is skipped, and said so.
    #[default]
    Skip,
    /// One run is queued.
    Queue,
}

/// A run that was missed is made good, once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CatchUp {
    /// Unless it should have been longer ago than this.
    pub max_age: Option<Duration>,
}

/// When a job runs.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSchedule {
    /// The expression as written, for messages and metrics.
    pub expression: String,
    /// Its parsed form.
    pub schedule: Schedule,
    /// The zone in which the expression is read.
    pub timezone: TimeZone,
    /// Upper bound of the stable delay that is added to each scheduled time.
    pub jitter: Duration,
    /// What becomes of a time at which the lane runs.
    pub overlap: Overlap,
    /// Whether a time that was missed is made good.
    pub catch_up: Option<CatchUp>,
    /// Whether the job has a schedule of its own, which makes it a lane of its own; jobs without one share the
    /// instance's lane and run one after the other.
    pub own: bool,
}

/// The host that stores a file.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// This host.
    Local,
    /// A remote host, and how its files are reached.
    Remote(Peer, Via),
}

/// How lock and block files on a peer are reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub enum Via {
    /// By its shell, or by SFTP if it gives us none.
    #[default]
    Auto,
    /// By its shell only.
    Exec,
    /// By SFTP only, for accounts that are confined to it.
    Sftp,
}

/// Where a file is: on which host, under which path. Displays as `path` or `host:path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Location {
    /// The host.
    pub place: Place,
    /// Absolute path on it; on a remote host also one below `~/`, the home of the peer's user.
    pub path: PathBuf,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Local => write!(f, "{}", self.path.display()),
            Place::Remote(peer, _) => write!(f, "{}:{}", peer.host, self.path.display()),
        }
    }
}

/// How a wait for a file that is in the way is paced and bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wait {
    /// Time between two looks.
    pub every: Duration,
    /// Bound from the first look on; `None` waits for ever.
    pub timeout: Option<Duration>,
}

/// A lock file that the job holds while it acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockFile {
    /// The file.
    pub location: Location,
    /// What to do while another holds it.
    pub wait: Wait,
}

/// A file whose existence makes the job wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The file.
    pub location: Location,
    /// How to wait.
    pub wait: Wait,
}

/// One step of a job.
#[derive(Debug, Clone, PartialEq)]
pub struct Action {
    /// Unique in the job.
    pub id: ActionId,
    /// What it executes.
    pub kind: ActionKind,
    /// The action is killed and fails after this long; `None` is no bound.
    pub timeout: Option<Duration>,
    /// Exit codes that count as success, ascending.
    pub success_exit_codes: Vec<i32>,
    /// Attempts after a first that failed with a code that a retry can mend.
    pub retries: u32,
    /// Pause before the first retry; doubles with each.
    pub retry_wait: Duration,
}

impl Action {
    /// How long it may make no progress; `None` is no bound.
    pub fn stall_timeout(&self) -> Option<Duration> {
        match &self.kind {
            ActionKind::Sync(sync) => sync.stall_timeout,
            ActionKind::Verify(verify) => verify.stall_timeout,
            ActionKind::Command(_) => None,
        }
    }

    /// The replica that it verifies, if that is what it does.
    pub fn verifies(&self) -> Option<Replica> {
        match &self.kind {
            ActionKind::Verify(verify) => {
                Some(Replica { job: verify.job.as_str().to_owned(), sync: verify.of.as_str().to_owned() })
            }
            ActionKind::Sync(_) | ActionKind::Command(_) => None,
        }
    }
}

/// What an action executes.
#[derive(Debug, Clone, PartialEq)]
pub enum ActionKind {
    /// One rsync.
    Sync(Sync),
    /// A command on this host.
    Command(Command),
    /// A comparison of a replica with its source.
    Verify(Verify),
}

/// A look whether a replica is what its sync makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Verify {
    /// The job of the sync: the action's own, or another one.
    pub job: JobId,
    /// The sync's id in it.
    pub of: ActionId,
    /// The sync.
    pub sync: Arc<Sync>,
    /// How closely to look.
    pub depth: Depth,
    /// The part of all bytes that is read each day, above 0 to 1, of a deep one; `None` reads whatever is not known.
    pub share: Option<f64>,
    /// Drift up to this is no failure.
    pub max_drift: MaxDrift,
    /// How old a change may be that is not at the destination; `None` is no bound.
    pub max_lag: Option<Duration>,
    /// Bound on reading on each side, bytes per second.
    pub rate: Option<u64>,
    /// So many files are copied back and compared.
    pub restore: usize,
    /// The program on the peer that answers for it; `None` does without one.
    pub agent: Option<String>,
    /// It is killed and fails when it makes no progress for so long; `None` is no bound.
    pub stall_timeout: Option<Duration>,
}

impl Verify {
    /// A quick look at what a sync makes, with all that a configuration would not have to say.
    pub fn quick(job: &JobId, of: &ActionId, sync: &Sync) -> Self {
        Self {
            job: job.clone(),
            of: of.clone(),
            sync: Arc::new(sync.clone()),
            depth: Depth::Quick,
            share: None,
            max_drift: MaxDrift::default(),
            max_lag: None,
            rate: None,
            restore: 0,
            agent: Some(AGENT.to_owned()),
            stall_timeout: None,
        }
    }
}

/// The program on a peer that answers a verification, where nothing else is said.
pub const AGENT: &str = "rsyncdirector";

/// The greatest [`Sync::parallel`].
pub const MOST_PARALLEL: usize = 32;

/// One rsync, or several that share its work.
#[derive(Debug, Clone, PartialEq)]
pub struct Sync {
    /// What is copied: local paths still with their `~` and wildcards for a push or a local job, paths on the peer for
    /// a pull. `${NAME}` is already replaced. At least one.
    pub sources: Vec<OsString>,
    /// Where to: a path here, or on the peer for a push.
    pub dest: OsString,
    /// Options, each one argument of rsync, already split as a POSIX shell would.
    pub opts: Vec<OsString>,
    /// How many rsyncs may share the work, 1 to [`MOST_PARALLEL`]. More than one only with options that allow it.
    pub parallel: usize,
    /// How much it may delete at the destination, looked at before anything is; `None` is no bound.
    pub max_delete: Option<MaxDelete>,
    /// Whether it may delete what is at the destination because a source is empty.
    pub allow_empty_source: bool,
    /// It is killed and fails when an rsync of it makes no progress for so long; `None` is no bound.
    pub stall_timeout: Option<Duration>,
    /// How fast it may go; `None` is no limit.
    pub bwlimit: Option<Bwlimit>,
    /// Which side is remote.
    pub route: Route,
    /// The names that it is told by `--files-from=-`, each with a NUL at its end; no configuration says so, but a repair does.
    pub list: Option<Arc<[u8]>>,
}

impl Sync {
    /// Whether it goes over the director's own connections.
    pub fn is_native(&self) -> bool {
        matches!(self.route, Route::Push(_, Carrier::Native) | Route::Pull(_, Carrier::Native))
    }

    /// The other host, if there is one.
    pub fn peer(&self) -> Option<&Peer> {
        match &self.route {
            Route::Push(peer, _) | Route::Pull(peer, _) => Some(peer),
            Route::Local => None,
        }
    }
}

/// How fast a sync may go, by the time of its job's zone.
#[derive(Debug, Clone, PartialEq)]
pub struct Bwlimit {
    /// The limits.
    pub timetable: Timetable,
    /// The zone in which their times are read.
    pub timezone: TimeZone,
}

impl Bwlimit {
    /// KiB per second for what starts now; `None` is no limit.
    pub fn rate(&self, now: Timestamp) -> Option<u64> {
        let now = now.to_zoned(self.timezone.clone());
        let weekday = now.weekday().to_monday_zero_offset().unsigned_abs();
        self.timetable
            .rate_at(weekday, u16::from(now.hour().unsigned_abs()) * 60 + u16::from(now.minute().unsigned_abs()))
    }
}

/// Between which hosts a sync copies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Here to here.
    Local,
    /// Here to the peer.
    Push(Peer, Carrier),
    /// The peer to here.
    Pull(Peer, Carrier),
}

/// A command on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A line for `/bin/sh -c`.
    Shell(OsString),
    /// A program and its arguments, executed directly.
    Exec {
        /// Path, or a name to be found in `PATH`.
        program: OsString,
        /// Its arguments, one element each.
        args: Vec<OsString>,
    },
}

impl Command {
    /// The program and its arguments: a shell line goes to `/bin/sh -c`, since the user wrote a shell line; anything else stands as it is.
    pub fn argv(&self) -> (OsString, Vec<OsString>) {
        match self {
            Self::Shell(line) => ("/bin/sh".into(), vec!["-c".into(), line.clone()]),
            Self::Exec { program, args } => (program.clone(), args.clone()),
        }
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps a name that the configuration's validation accepted.
            pub fn new(name: impl Into<Arc<str>>) -> Self {
                Self(name.into())
            }

            /// The name itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A job's `id`, unique in its instance.
    JobId
}
name! {
    /// An action's `id`, unique in its job.
    ActionId
}
