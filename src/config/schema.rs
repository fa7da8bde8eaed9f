//! The JSON schema of the file, for editors. These types document; nothing is ever read into them, since the reader has to
//! report more than serde can. A test keeps them in step with the tables of `keys`.

use schemars::JsonSchema;

/// The JSON schema (draft 2020-12) of the configuration file, as `rsyncdirector schema` prints it.
///
/// It asks for the spelling that we recommend; the reader takes a little more: `type` and `action` in any case, numbers and
/// truth values in quotes.
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(documentation::File).to_value()
}

#[expect(dead_code, reason = "the fields exist to be described")]
mod documentation {
    use super::JsonSchema;

    /// The configuration of one instance of rsyncdirector.
    #[derive(JsonSchema)]
    #[schemars(title = "rsyncdirector", deny_unknown_fields)]
    pub(super) struct File {
        /// The name of the instance, unique on a host: in the pid file's name, in metrics and in logs.
        #[schemars(length(min = 1, max = 200), regex(pattern = "^[^/\\x00-\\x1f]+$"))]
        rsync_id: String,
        /// When the jobs run: five fields as in a crontab, or @hourly, @daily, @weekly, @monthly, @yearly, @reboot. Needed
        /// unless every job has one.
        cron_schedule: Option<String>,
        /// The zone in which the schedule is read, by its IANA name. Default: the system's.
        timezone: Option<String>,
        /// Each scheduled time is delayed by up to this long, always the same on one host. Default: 0.
        jitter: Option<Duration>,
        /// What becomes of a scheduled time that comes while the jobs still run. Default: skip.
        overlap: Option<Overlap>,
        /// Whether a run is made good, once, that was missed while the daemon was down or the host slept. Default: none.
        catch_up: Option<CatchUp>,
        /// A run that should have been longer ago than this is not made good. Default: no bound.
        catch_up_max_age: Option<Duration>,
        /// How many jobs of a run may go at once, in order. Default: 1.
        concurrency: Option<Number>,
        /// Directory of the pid file. Default: /run/rsyncdirector, for a user other than root
        /// $XDG_RUNTIME_DIR/rsyncdirector.
        pid_file_dir: Option<String>,
        /// Directory of what is kept: a directory for each instance. Default: /var/lib/rsyncdirector, for a user other than root
        /// $XDG_STATE_HOME/rsyncdirector.
        state_dir: Option<String>,
        /// Where metrics and health are served.
        metrics: Option<Metrics>,
        /// What is remembered of runs.
        history: Option<History>,
        /// Who is told what becomes of jobs.
        notify: Option<Vec<Target>>,
        /// A lock file of ours that was not refreshed for this long may be taken over; at least 3 s. Default: 60.
        lease: Option<Duration>,
        /// Time between TERM and KILL to an action that is to end. Default: 10.
        kill_grace: Option<Duration>,
        /// Bound on connecting to a peer, login included. Default: 10.
        connect_timeout: Option<Duration>,
        /// What happens with a host whose key is not known. Default: strict.
        host_key_policy: Option<HostKeyPolicy>,
        /// Files of known host keys; accept-new appends to the first. Default: the user's and the system's.
        known_hosts: Option<OneOrMore>,
        /// How rsync reaches the peers. Default: native.
        transport: Option<Transport>,
        /// How much a deleting sync may delete, for all syncs. Default: no bound.
        max_delete: Option<MaxDelete>,
        /// A sync that makes no progress for so long is killed, for all syncs. Default: no bound.
        stall_timeout: Option<Duration>,
        /// How fast rsyncs may go, for all syncs. Default: no limit.
        bwlimit: Option<Bwlimit>,
        /// The jobs, in the order in which a run performs them.
        jobs: Vec<Job>,
    }

    /// Number of seconds, or text with units.
    #[derive(JsonSchema)]
    #[schemars(untagged)]
    enum Duration {
        /// Seconds.
        Seconds(#[schemars(range(min = 0))] f64),
        /// "90s", "10m", "2h", "1d", "1h 30m".
        Text(#[schemars(regex(pattern = r"^\s*[0-9].*$"))] String),
    }

    /// A whole number, also in quotes.
    #[derive(JsonSchema)]
    #[schemars(untagged)]
    enum Number {
        Plain(u32),
        Quoted(#[schemars(regex(pattern = "^[0-9]+$"))] String),
    }

    /// A number of entries, or a share of those at the destination.
    #[derive(JsonSchema)]
    #[schemars(untagged)]
    enum MaxDelete {
        /// So many files, directories and other entries.
        Entries(u64),
        /// The same in quotes, or a percentage: "5%".
        Text(#[schemars(regex(pattern = r"^\s*[0-9]+(\.[0-9]+)?\s*%?\s*$"))] String),
    }

    /// A rate, or rates by the time of the week.
    #[derive(JsonSchema)]
    #[schemars(untagged)]
    enum Bwlimit {
        /// Always the same: "5M" is 5 MiB per second, in all rsyncs of the sync together.
        Rate(Rate),
        /// In windows that do not overlap; without limit outside of them.
        Timetable(Vec<Window>),
    }

    /// Bytes per second with a unit, "500K", "5M", "1G", in units of 1024; 0 is no limit.
    #[derive(JsonSchema)]
    #[schemars(untagged)]
    enum Rate {
        Text(#[schemars(regex(pattern = r"^\s*[0-9][0-9.]*\s*([KMGTkmgt]([iI]?[bB])?)?\s*$"))] String),
        Number(#[schemars(range(min = 0, max = 0))] f64),
    }

    /// From one time of the day to another, as rsyncs start.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    struct Window {
        /// The days on which it begins: "mon-fri", "sat,sun". Default: every day.
        days: Option<String>,
        /// Time of the day at which it begins, in the job's zone.
        #[schemars(regex(pattern = r"^[0-9]{1,2}:[0-9]{2}$"))]
        from: String,
        /// Time of the day at which it ends; on the next day if that is not after `from`.
        #[schemars(regex(pattern = r"^[0-9]{1,2}:[0-9]{2}$"))]
        to: String,
        /// How fast.
        rate: Rate,
    }

    /// A TCP port, also in quotes.
    #[derive(JsonSchema)]
    #[schemars(untagged)]
    enum Port {
        Plain(u16),
        Quoted(#[schemars(regex(pattern = "^[0-9]{1,5}$"))] String),
    }

    #[derive(JsonSchema)]
    #[schemars(untagged)]
    enum OneOrMore {
        One(String),
        More(#[schemars(length(min = 1))] Vec<String>),
    }

    #[derive(JsonSchema)]
    #[schemars(untagged)]
    enum Codes {
        One(#[schemars(range(min = 0, max = 255))] i32),
        More(#[schemars(inner(range(min = 0, max = 255)))] Vec<i32>),
    }

    /// A text; a number stands for its digits.
    #[derive(JsonSchema)]
    #[schemars(untagged)]
    enum Argument {
        Text(String),
        Number(f64),
    }

    #[derive(JsonSchema)]
    #[schemars(rename_all = "kebab-case")]
    enum HostKeyPolicy {
        /// Refuse it.
        Strict,
        /// Record it on first sight, refuse a change later.
        AcceptNew,
    }

    /// What is remembered of runs.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    struct History {
        /// Runs that ended longer ago are forgotten. Default: 180d.
        max_age: Option<Duration>,
        /// Bound on the database's size; the oldest runs are forgotten when it is reached. 0 keeps none. Default: 512M.
        max_size: Option<Size>,
        /// Bound on what is kept of one action's output: the first and the last of it. Default: 256K.
        output_max: Option<Size>,
    }

    /// Someone who is told: one of http, command and mail.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    struct Target {
        /// What of. Default: failure, recovery, late; with the style healthchecks start, success, failure.
        on: Option<OneOrMoreHappenings>,
        /// By a POST.
        http: Option<Http>,
        /// By a program with its arguments, or a line for /bin/sh; variables RSYNCDIRECTOR_... say what happened.
        command: Option<OneOrMore>,
        /// By the system's sendmail.
        mail: Option<Mail>,
        /// Of failures in a row tell only one in this time. Default: each.
        every: Option<Duration>,
        /// Bound on one attempt. Default: 10.
        timeout: Option<Duration>,
        /// Attempts after one that failed, at most 10. Default: 3.
        retries: Option<Number>,
        /// Pause before the first retry; doubles with each. Default: 10.
        retry_wait: Option<Duration>,
    }

    #[derive(JsonSchema)]
    #[schemars(untagged)]
    enum OneOrMoreHappenings {
        One(Happening),
        More(Vec<Happening>),
    }

    #[derive(JsonSchema)]
    #[schemars(rename_all = "lowercase")]
    enum Happening {
        /// A run of the job begins.
        Start,
        /// A run of the job succeeded.
        Success,
        /// A run of the job failed.
        Failure,
        /// A run of the job succeeded after one that failed.
        Recovery,
        /// The job was due and is not run, or gave up waiting.
        Skip,
        /// The job's last success is older than its max_age.
        Late,
    }

    /// A POST.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    struct Http {
        /// Where to, http or https.
        url: Option<String>,
        /// A file whose first line is the URL, or credential:NAME.
        url_file: Option<String>,
        /// What is sent. Default: json.
        style: Option<HttpStyle>,
        /// The JSON text to send, with places as {job}. Default: an object with all there is to tell.
        body: Option<String>,
        /// Headers.
        headers: Option<std::collections::BTreeMap<String, Argument>>,
        /// Headers whose values are the first lines of files, or credential:NAME.
        header_files: Option<std::collections::BTreeMap<String, String>>,
        /// Certificates of authorities that are trusted beside the system's.
        ca_file: Option<String>,
    }

    #[derive(JsonSchema)]
    #[schemars(rename_all = "lowercase")]
    enum HttpStyle {
        /// A JSON text.
        Json,
        /// Pings as of healthchecks.io: /start, the URL itself, /fail.
        Healthchecks,
    }

    /// A message.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    struct Mail {
        /// To whom.
        to: OneOrMore,
        /// From whom. Default: rsyncdirector at this host.
        from: Option<String>,
        /// The program that sends it. Default: /usr/sbin/sendmail.
        sendmail: Option<String>,
    }

    /// A command around a job's actions.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    struct Hook {
        /// With `args` a program, executed directly; without a line for /bin/sh.
        command: String,
        /// The program's arguments.
        args: Option<Vec<Argument>>,
        /// End it and count it as failed after this long. Default: no bound.
        timeout: Option<Duration>,
        /// Exit codes that count as success. Default: 0.
        success_exit_codes: Option<Codes>,
        /// Attempts after one that failed. Default: 0.
        retries: Option<Number>,
        /// Pause before the first retry; doubles with each. Default: 10.
        retry_wait: Option<Duration>,
    }

    /// Number of bytes, or text with a unit.
    #[derive(JsonSchema)]
    #[schemars(untagged)]
    enum Size {
        /// Bytes.
        Bytes(#[schemars(range(min = 0))] f64),
        /// "64K", "256M", "2G", in units of 1024.
        Text(#[schemars(regex(pattern = r"^\s*[0-9][0-9.]*\s*([KMGTkmgt]?([iI]?[bB])?)\s*$"))] String),
    }

    /// Where metrics and health are served.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    struct Metrics {
        /// IP address to listen on. Default: 0.0.0.0.
        addr: Option<String>,
        /// Port to listen on; 0 is any that is free. Default: 9090.
        port: Option<Port>,
        /// A port in use is tried again for at most this long. Default: 10.
        startup_timeout_seconds: Option<Duration>,
        /// Pause between two attempts. Default: 1.
        startup_retry_wait_seconds: Option<Duration>,
        /// Attempts after the first. Default: 3.
        startup_retry_limit: Option<Number>,
        /// Whether the metric names of RsyncDirector 1.x are served too. Default: true.
        legacy_names: Option<bool>,
        /// Who may read. Default: the metrics everyone, the pages whoever asks from this host.
        auth: Option<Auth>,
        /// Serve HTTPS instead of HTTP.
        tls: Option<Tls>,
    }

    /// Who may read what the listener serves. /healthz and /readyz answer everyone.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    struct Auth {
        /// Who may see the pages.
        page: Option<Credentials>,
        /// Who may see /metrics.
        metrics: Option<Credentials>,
    }

    /// What a client must send: a user and a password, or a token.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    struct Credentials {
        /// The user.
        user: Option<String>,
        /// File with the password in its first line.
        password_file: Option<String>,
        /// Credential of the service manager with the password in its first line.
        password_credential: Option<String>,
        /// The password as `openssl passwd -6` prints it.
        password_hash: Option<String>,
        /// File with the token in its first line.
        bearer_file: Option<String>,
        /// Credential of the service manager with the token in its first line.
        bearer_credential: Option<String>,
    }

    /// The listener's certificate, read again when its files change.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    struct Tls {
        /// PEM file of the certificate, followed by those that lead to a known authority.
        cert: String,
        /// PEM file of its key.
        key: String,
    }

    /// A job: what only one on a peer has, and what both types have.
    macro_rules! job {
        (remote { $($remote:tt)* } both { $($both:tt)* }) => {
            /// Waits for its blocks, takes its lock files, performs its actions, releases its lock files.
            #[derive(JsonSchema)]
            #[schemars(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
            enum Job {
                /// Its syncs copy from here to here.
                Local {
                    /// Unique in the file.
                    id: Argument,
                    $($both)*
                },
                /// Its syncs write to a peer, or read from it.
                Remote {
                    /// Unique in the file.
                    id: Argument,
                    $($remote)*
                    $($both)*
                },
            }
        };
    }

    job! {
        remote {
            /// Login name on the peer. Default: as ssh_config has it, else the user who runs rsyncdirector.
            user: Option<String>,
            /// The peer's name or address, or its `Host` in ssh_config.
            host: String,
            /// Port of the peer's sshd. Default: as ssh_config has it, else 22.
            port: Option<Port>,
            /// Private key. Default: as ssh_config has it, else the agent's and the user's own.
            private_key_path: Option<String>,
            /// The same under its other name.
            private_ssh_key: Option<String>,
            /// Hosts on the way to the peer, each as [user@]host[:port], or none. Default: as ssh_config has it.
            proxy_jump: Option<OneOrMore>,
            /// How the job's rsyncs reach the peer. Default: the instance's.
            transport: Option<Transport>,
        }
        both {
            /// A schedule of the job's own. Default: the instance's.
            cron_schedule: Option<String>,
            /// The zone of the job's schedule. Default: the instance's.
            timezone: Option<String>,
            /// The job's jitter. Default: the instance's.
            jitter: Option<Duration>,
            /// What becomes of a scheduled time that comes while the job, or its run, still runs. Default: the instance's.
            overlap: Option<Overlap>,
            /// Whether a missed run of the job is made good. Default: the instance's.
            catch_up: Option<CatchUp>,
            /// The job's bound on that. Default: the instance's.
            catch_up_max_age: Option<Duration>,
            /// What must hold, or else the job is skipped, which is no failure.
            when: Option<Conditions>,
            /// How often the job is run again, at the end of the run, if it failed. Default: 0.
            retries: Option<Number>,
            /// How much a deleting sync may delete, for the job's syncs. Default: the instance's.
            max_delete: Option<MaxDelete>,
            /// A sync that makes no progress for so long is killed. Default: the instance's.
            stall_timeout: Option<Duration>,
            /// How fast the job's rsyncs may go. Default: the instance's.
            bwlimit: Option<Bwlimit>,
            /// The job is late when its last success is older than this. Default: never.
            max_age: Option<Duration>,
            /// Who is told what becomes of the job. Default: as the instance.
            notify: Option<Vec<Target>>,
            /// Lock files to hold while the actions run.
            lock_files: Option<Vec<WaitedFor>>,
            /// Files whose existence makes the job wait.
            blocks_on: Option<Vec<WaitedFor>>,
            /// Commands that precede the actions; one that fails fails the job before them.
            before: Option<Vec<Hook>>,
            /// What the job does, in order.
            actions: Vec<Action>,
            /// Commands after a failure of the job.
            on_failure: Option<Vec<Hook>>,
            /// Commands (`command: …`) that end every job that got its locks, last of all; and ids of jobs before it that must have
            /// succeeded in the same run.
            after: Option<After>,
        }
    }

    #[derive(JsonSchema)]
    #[schemars(untagged)]
    enum After {
        One(String),
        More(Vec<AfterJobOrHook>),
    }

    #[derive(JsonSchema)]
    #[schemars(untagged)]
    enum AfterJobOrHook {
        /// A job.
        Job(String),
        /// A command.
        Hook(Hook),
    }

    #[derive(JsonSchema)]
    #[schemars(rename_all = "lowercase")]
    enum Overlap {
        /// It is skipped, and said so.
        Skip,
        /// One run is queued.
        Queue,
    }

    #[derive(JsonSchema)]
    #[schemars(rename_all = "lowercase")]
    enum CatchUp {
        /// It is counted, and said so.
        None,
        /// One run, however many were missed.
        One,
    }

    #[derive(JsonSchema)]
    #[schemars(untagged)]
    enum Conditions {
        One(Condition),
        More(Vec<Condition>),
    }

    /// Something that must hold for a job to run: one of these.
    #[derive(JsonSchema)]
    #[schemars(deny_unknown_fields)]
    struct Condition {
        /// A file system is mounted at this path.
        mounted: Option<String>,
        /// This peer lets us log in: [user@]host[:port].
        reachable: Option<String>,
        /// The host does not run on battery: true.
        on_ac_power: Option<bool>,
        /// A command that must end with 0: with `args` a program, without a line for /bin/sh.
        command: Option<String>,
        /// The program's arguments.
        args: Option<Vec<Argument>>,
    }

    /// A lock file or a block, and how to wait for it.
    #[derive(JsonSchema)]
    #[schemars(tag = "type", rename_all = "lowercase", deny_unknown_fields)]
    enum WaitedFor {
        /// A file on this host.
        Local {
            /// Absolute path.
            path: String,
            /// Time between two looks. Default: 30.
            wait_time: Option<Duration>,
            /// Skip the job after this long. Default: wait for ever.
            timeout: Option<Duration>,
        },
        /// A file on a peer.
        Remote {
            /// Login name on the peer. Default: as ssh_config has it, else the user who runs rsyncdirector.
            user: Option<String>,
            /// The peer's name or address, or its `Host` in ssh_config.
            host: String,
            /// Port of the peer's sshd. Default: as ssh_config has it, else 22.
            port: Option<Port>,
            /// Private key. Default: as ssh_config has it, else the agent's and the user's own.
            private_key_path: Option<String>,
            /// The same under its other name.
            private_ssh_key: Option<String>,
            /// Hosts on the way to the peer, each as [user@]host[:port], or none. Default: as ssh_config has it.
            proxy_jump: Option<OneOrMore>,
            /// How the file is reached. Default: by the peer's shell, or by SFTP if it gives us none.
            via: Option<Via>,
            /// Absolute path there.
            path: String,
            /// Time between two looks. Default: 30.
            wait_time: Option<Duration>,
            /// Skip the job after this long. Default: wait for ever.
            timeout: Option<Duration>,
        },
    }

    /// One step of a job.
    #[derive(JsonSchema)]
    #[schemars(tag = "action", rename_all = "lowercase", deny_unknown_fields)]
    enum Action {
        /// One rsync.
        Sync {
            /// Unique in the job.
            id: Argument,
            /// What is copied; `~` and wildcards of a path on this host are expanded.
            source: OneOrMore,
            /// Where to.
            dest: String,
            /// Options of rsync, each split into words as a shell would.
            opts: Option<Vec<String>>,
            /// `push` reads here and writes on the peer, `pull` turns it round; in a remote job only. Default: push.
            direction: Option<Direction>,
            /// How many rsyncs share the work, 1 to 32: for many small files over a long way. Default: 1.
            parallel: Option<Number>,
            /// How much it may delete: looked at by a dry run before anything is changed. Default: the job's.
            max_delete: Option<MaxDelete>,
            /// Whether an empty source may empty the destination. Default: false.
            allow_empty_source: Option<bool>,
            /// Kill it when it makes no progress for so long; 0 is never. Default: the job's.
            stall_timeout: Option<Duration>,
            /// How fast it may go. Default: the job's.
            bwlimit: Option<Bwlimit>,
            /// End it and count it as failed after this long. Default: no bound.
            timeout: Option<Duration>,
            /// Exit codes that count as success. Default: 0 and 24.
            success_exit_codes: Option<Codes>,
            /// Attempts after one that failed for a reason that may pass. Default: 0.
            retries: Option<Number>,
            /// Pause before the first retry; doubles with each. Default: 10.
            retry_wait: Option<Duration>,
        },
        /// A command on this host.
        Command {
            /// Unique in the job.
            id: Argument,
            /// With `args` a program, executed directly; without a line for /bin/sh.
            command: String,
            /// The program's arguments.
            args: Option<Vec<Argument>>,
            /// End it and count it as failed after this long. Default: no bound.
            timeout: Option<Duration>,
            /// Exit codes that count as success. Default: 0.
            success_exit_codes: Option<Codes>,
            /// Attempts after one that failed. Default: 0.
            retries: Option<Number>,
            /// Pause before the first retry; doubles with each. Default: 10.
            retry_wait: Option<Duration>,
        },
        /// A comparison of what a sync makes with its source. It changes nothing.
        Verify {
            /// Unique in the job.
            id: Argument,
            /// The sync, by its id in this job, or as JOB/SYNC.
            of: String,
            /// How closely to look: kind, size and time; modes, owners and attributes, too; or every byte, too. Default: quick.
            level: Option<Level>,
            /// In place of `level`: every byte, but each day only this part of all, as "5%/day".
            deep: Option<String>,
            /// How much may differ: a number of entries, or a share as "0.1%". Default: 0.
            max_drift: Option<MaxDelete>,
            /// How old a change may be that is not at the destination. Default: no bound.
            max_lag: Option<Duration>,
            /// How much is read on each side: "50M" is 50 MiB per second. Default: no limit.
            rate: Option<Rate>,
            /// Copy so many files back, drawn at random, and compare them. Default: 0.
            restore: Option<Number>,
            /// The program on the peer that answers for it; `none` does without. Default: rsyncdirector.
            agent: Option<String>,
            /// Kill it when it makes no progress for so long; 0 is never. Default: the job's.
            stall_timeout: Option<Duration>,
            /// End it and count it as failed after this long. Default: no bound.
            timeout: Option<Duration>,
            /// Attempts after one that could not tell. Default: 0.
            retries: Option<Number>,
            /// Pause before the first retry; doubles with each. Default: 10.
            retry_wait: Option<Duration>,
        },
    }

    #[derive(JsonSchema)]
    #[schemars(rename_all = "lowercase")]
    enum Level {
        /// Kind, size and time.
        Quick,
        /// Modes, owners, link targets, attributes and hard links, too.
        Meta,
        /// Every byte, too.
        Deep,
    }

    #[derive(JsonSchema)]
    #[schemars(rename_all = "lowercase")]
    enum Transport {
        /// Over the director's own connections.
        Native,
        /// By the system's ssh.
        OpenSsh,
    }

    #[derive(JsonSchema)]
    #[schemars(rename_all = "lowercase")]
    enum Via {
        /// By its shell only.
        Exec,
        /// By SFTP only.
        Sftp,
    }

    #[derive(JsonSchema)]
    #[schemars(rename_all = "lowercase")]
    enum Direction {
        /// From here to the peer.
        Push,
        /// From the peer to here.
        Pull,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::{Path, PathBuf};

    use serde_json::Value;

    use super::super::keys::{self, Kind};
    use super::json_schema;

    fn check_keys(pointer: &str, kind: &Kind) {
        let schema = json_schema();
        let object = schema.pointer(pointer).expect(pointer);
        let described: BTreeSet<_> =
            object["properties"].as_object().expect("properties").keys().map(String::as_str).collect();
        assert_eq!(described, kind.keys.iter().copied().collect(), "{}", kind.name);
        assert_eq!(object["additionalProperties"], false, "{}", kind.name);
    }

    #[test]
    fn the_schema_describes_exactly_the_keys_that_the_reader_accepts() {
        check_keys("", &keys::TOP);
        check_keys("/$defs/Metrics", &keys::METRICS);
        check_keys("/$defs/Target", &keys::TARGET);
        check_keys("/$defs/Http", &keys::HTTP);
        check_keys("/$defs/Mail", &keys::MAIL);
        check_keys("/$defs/Hook", &keys::HOOK);
        check_keys("/$defs/Auth", &keys::AUTH);
        check_keys("/$defs/Credentials", &keys::CREDENTIALS);
        check_keys("/$defs/Tls", &keys::TLS);
        check_keys("/$defs/Job/oneOf/0", &keys::LOCAL_JOB);
        check_keys("/$defs/Job/oneOf/1", &keys::REMOTE_JOB);
        check_keys("/$defs/WaitedFor/oneOf/0", &keys::LOCAL_FILE);
        check_keys("/$defs/WaitedFor/oneOf/1", &keys::REMOTE_FILE);
        check_keys("/$defs/Window", &keys::WINDOW);
        check_keys("/$defs/Action/oneOf/0", &keys::SYNC);
        check_keys("/$defs/Action/oneOf/1", &keys::COMMAND);
        check_keys("/$defs/Action/oneOf/2", &keys::VERIFY);
    }

    fn check_sample(path: &Path, expected: bool) {
        let text = std::fs::read_to_string(path).expect("the sample");
        let sample: Value = serde_saphyr::from_str(&text).expect("YAML");
        let schema = json_schema();
        assert_eq!(describes(&schema, &schema, &sample), expected, "{}", path.display());
    }

    #[test]
    fn the_schema_describes_every_sample() {
        let resources = Path::new(env!("CARGO_MANIFEST_DIR")).join("resources");
        check_sample(&resources.join("rsyncdirector.yaml"), true);
        let entries = std::fs::read_dir(resources.join("samples")).expect("samples");
        let samples: Vec<PathBuf> =
            entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()).collect();
        assert!(samples.len() >= 8, "{samples:?}");
        samples.iter().for_each(|path| check_sample(path, true));
        for name in
            ["unknown-key", "key-of-another-place", "missing-keys", "wrong-types", "unknown-words", "bad-notify"]
        {
            check_sample(&resources.join(format!("samples/invalid/{name}.yaml")), false);
        }
    }

    /// Whether a schema describes a value: the part of JSON Schema that ours uses, without patterns, lengths and ranges.
    /// Constants are compared without regard to case, as the reader does.
    fn describes(root: &Value, schema: &Value, value: &Value) -> bool {
        let by_reference = schema["$ref"].as_str().is_none_or(|reference| {
            describes(root, root.pointer(reference.trim_start_matches('#')).expect(reference), value)
        });
        let alternatives = |key: &str| {
            schema[key].as_array().is_none_or(|schemas| schemas.iter().any(|schema| describes(root, schema, value)))
        };
        let constant = schema["const"]
            .as_str()
            .is_none_or(|word| value.as_str().is_some_and(|text| text.eq_ignore_ascii_case(word)));
        let listed = schema["enum"].as_array().is_none_or(|words| words.contains(value));
        by_reference
            && alternatives("anyOf")
            && alternatives("oneOf")
            && constant
            && listed
            && has_type(&schema["type"], value)
            && items_fit(root, schema, value)
            && properties_fit(root, schema, value)
    }

    fn has_type(types: &Value, value: &Value) -> bool {
        let is = |name: &str| match name {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_u64() || value.is_i64(),
            "number" => value.is_number(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            other => panic!("a type {other}"),
        };
        match types {
            Value::String(name) => is(name),
            Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
            _ => true,
        }
    }

    fn items_fit(root: &Value, schema: &Value, value: &Value) -> bool {
        let (Some(items), true) = (value.as_array(), schema["items"].is_object()) else { return true };
        items.iter().all(|item| describes(root, &schema["items"], item))
    }

    fn properties_fit(root: &Value, schema: &Value, value: &Value) -> bool {
        let (Some(object), Some(properties)) = (value.as_object(), schema["properties"].as_object()) else {
            return true;
        };
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        required.into_iter().all(|key| object.contains_key(key))
            && object
                .iter()
                .all(|(key, value)| properties.get(key).is_some_and(|schema| describes(root, schema, value)))
    }
}
