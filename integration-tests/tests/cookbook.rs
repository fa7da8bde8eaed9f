//! Recipes of `docs/cookbook.md`, run as they stand there but for hosts, accounts, keys and directories. Each peer admits the key by its
//! gate, with the policy of the recipe.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use integration_tests::sandbox::user;
use integration_tests::{Director, Finished, Sandbox, Sshd, director, keys};

const COOKBOOK: &str = include_str!("../../docs/cookbook.md");

/// A recipe and what stands for what in it.
struct Recipe<'a> {
    /// Its text, heading included.
    text: &'static str,
    sandbox: &'a Sandbox,
    hosts: &'a [(&'a str, &'a Sshd)],
    /// Beginnings of paths, and other words.
    words: &'a [(&'a str, &'a str)],
}

impl<'a> Recipe<'a> {
    fn new(
        number: u32,
        sandbox: &'a Sandbox,
        hosts: &'a [(&'a str, &'a Sshd)],
        words: &'a [(&'a str, &'a str)],
    ) -> Self {
        let begins = COOKBOOK.find(&format!("\n## {number}. ")).expect("the recipe");
        let text = &COOKBOOK[begins + 1..];
        let ends = text.find("\n## ").unwrap_or(text.len());
        Self { text: &text[..ends], sandbox, hosts, words }
    }

    /// The block of this name, as it stands there.
    fn block(&self, name: &str) -> &'static str {
        let fence = format!("```yaml {name}\n");
        let (_, rest) = self.text.split_once(&fence).unwrap_or_else(|| panic!("no {name} in the recipe"));
        rest.split("\n```").next().expect("it ends")
    }

    /// A block with the words and paths of the sandbox.
    fn replaced(&self, name: &str) -> String {
        let mut text = format!("{}\n", self.block(name));
        for (from, to) in self.words {
            assert!(self.text.contains(from), "{from:?} is not in the recipe");
            text = match from.starts_with('/') {
                true => replace_path(&text, from, to),
                false => text.replace(from, to),
            };
        }
        text
    }

    /// The configuration of an instance, written into the sandbox.
    fn config(&self, id: &str) -> PathBuf {
        let key = self.sandbox.user_key().display().to_string();
        let text = self.replaced(&format!("{id}.yaml"));
        let lines = text.lines().map(|line| self.line(line, &key));
        self.sandbox.config_of(id, &lines.collect::<String>())
    }

    /// Lets the key do on a peer what a policy of the recipe allows, and nothing else.
    fn admit(&self, peer: &str, policy: &str) {
        let text = self.replaced(&format!("gate/{policy}.yaml"));
        let file = self.sandbox.write(format!("gate/{policy}.yaml"), self.sandbox.expand(&text));
        let (file, key) = (file.display().to_string(), self.sandbox.user_key().with_extension("pub"));
        self.sandbox.cli(&["gate", "check", "--policy", &file]).expect_code(0);
        let program = director::binary().display().to_string();
        let key = key.display().to_string();
        let line = self.sandbox.cli(&["gate", "keyline", "--policy", &file, "--program", &program, &key]);
        line.expect_printed("restrict,command=");
        self.sandbox.write(format!("sshd-{peer}/authorized_keys"), &line.stdout);
    }

    /// A line of a configuration with the peers of the sandbox.
    fn line(&self, line: &str, key: &str) -> String {
        let line = replace_value(&replace_value(line, "user", &user()), "private_ssh_key", key);
        let here = self.hosts.iter().find(|(host, _)| line.contains(&format!("host: {host}")));
        let Some((host, sshd)) = here else { return line + "\n" };
        let addr = sshd.addr();
        let indent = " ".repeat(line.len() - line.trim_start().len());
        let separator = if line.contains('{') { ", ".to_owned() } else { format!("\n{indent}") };
        let reached = format!("host: {}{separator}port: {}", addr.ip(), addr.port());
        line.replace(&format!("host: {host}"), &reached) + "\n"
    }
}

/// Replaces the beginnings of paths.
fn replace_path(text: &str, from: &str, to: &str) -> String {
    let begin = [' ', '=', '[', '"'];
    begin.iter().fold(text.to_owned(), |text, mark| text.replace(&format!("{mark}{from}"), &format!("{mark}{to}")))
}

/// Replaces the value of a key, up to the end of the line or of the element.
fn replace_value(line: &str, key: &str, value: &str) -> String {
    let Some((before, rest)) = line.split_once(&format!("{key}: ")) else { return line.to_owned() };
    let end = rest.find([',', '}']).unwrap_or(rest.len());
    format!("{before}{key}: {value}{}", &rest[end..])
}

const LOCKS: (&str, &str) = ("/run/lock/rsyncdirector/", "@/lock/");

/// Sends HUP and waits for a line of the log.
fn run_until(director: &Director, text: &str) {
    director.hup();
    director.wait_for_log(text);
}

#[test]
fn recipe_1_a_laptop_its_backup_host_and_a_second_site_exclude_each_other() {
    let sandbox = Sandbox::new();
    let (backup01, offsite) = (Sshd::start(&sandbox, "backup01"), Sshd::start(&sandbox, "offsite"));
    let hosts = [("backup01.example.org", &backup01), ("offsite.example.net", &offsite)];
    let words = [
        LOCKS,
        ("/home/", "@/laptop/home/"),
        ("/backup/", "@/backup/"),
        ("/vault/", "@/vault/"),
        ("wait_time: 1m", "wait_time: 1"),
        ("\"--partial-dir=.rsync-partial\"", "\"--bwlimit=4000\""),
    ];
    let recipe = Recipe::new(1, &sandbox, &hosts, &words);
    let (laptop, offsite) = (recipe.config("laptop"), recipe.config("offsite"));
    sandbox.write("laptop/home/ann/letter", "dear");
    sandbox.write("laptop/home/ann/.cache/junk", "x");
    sandbox.mkdir("backup/laptop");
    sandbox.mkdir("vault/backup01");
    recipe.admit("backup01", "laptop");
    recipe.admit("offsite", "backup01");

    sandbox.once(&laptop).expect_code(0);
    sandbox.once(&offsite).expect_code(0);
    assert_eq!(sandbox.read("vault/backup01/laptop/home/ann/letter"), "dear");
    assert!(!sandbox.exists("backup/laptop/home/ann/.cache"), "it is excluded");

    // A large file over a slow line: the weekly copy waits for the nightly one, and the other way round.
    fs::write(sandbox.path("laptop/home/ann/film"), vec![1; 60 << 20]).expect("a large file");
    let mut nightly = sandbox.start(&laptop);
    run_until(&nightly, "holds its lock files");
    let mut weekly = sandbox.start(&offsite);
    run_until(&weekly, "held by laptop@");
    nightly.stop();
    weekly.wait_for_log("\"message\":\"succeeded in");
    weekly.stop();

    sandbox.write("lock/offsite.lock", "somebody's\n");
    let mut nightly = sandbox.start(&laptop);
    run_until(&nightly, "offsite.lock, held by");
    nightly.stop();
    assert_eq!(fs::read_dir(sandbox.path("lock")).expect("the locks").count(), 1, "but for the person's, none is left");
}

#[test]
fn recipe_2_the_copy_to_the_other_site_waits_for_every_laptop() {
    let sandbox = Sandbox::new();
    let (backup01, offsite) = (Sshd::start(&sandbox, "backup01"), Sshd::start(&sandbox, "offsite"));
    let hosts = [("backup01.example.org", &backup01), ("offsite.example.net", &offsite)];
    let words = [
        LOCKS,
        ("/home/ann/", "@/home-of-ann/"),
        ("/backup/laptops/", "@/backup/"),
        ("/vault/laptops/", "@/vault/"),
        ("reachable: backup01.example.org", "reachable: 127.0.0.1"),
    ];
    let recipe = Recipe::new(2, &sandbox, &hosts, &words);
    let (ann, offsite) = (recipe.config("ann"), recipe.config("offsite"));
    sandbox.write("home-of-ann/letter", "dear");
    sandbox.chmod("home-of-ann/letter", 0o640);
    sandbox.write("home-of-ann/.cache/junk", "x");
    sandbox.mkdir("vault");
    sandbox.mkdir("backup/ann");
    recipe.admit("backup01", "ann");

    sandbox.once(&ann).expect_code(0);
    sandbox.once(&offsite).expect_code(0);
    assert_eq!(sandbox.read("vault/ann/letter"), "dear");
    assert!(!sandbox.exists("backup/ann/.cache"));

    // One that is at work holds up the copy to the other site, whichever it is.
    sandbox.write("lock/eve.lock", "somebody's\n");
    let mut copy = sandbox.start(&offsite);
    run_until(&copy, "eve.lock, held by");
    copy.stop();
}

#[test]
fn recipe_3_a_dump_that_breaks_off_is_not_copied() {
    let sandbox = Sandbox::new();
    let backup01 = Sshd::start(&sandbox, "backup01");
    let hosts = [("backup01.example.org", &backup01)];
    let words = [
        LOCKS,
        ("/var/backups/", "@/var/"),
        ("/backup/", "@/backup/"),
        ("runuser -u postgres -- pg_dump", "@/pg_dump"),
        (" -o postgres", ""),
        ("logger -p user.err", "echo >> @/told"),
    ];
    let recipe = Recipe::new(3, &sandbox, &hosts, &words);
    let config = recipe.config("database");
    let dump = "for word; do case $word in --file=*) to=${word#--file=};; esac; done\nmkdir \"$to\"";
    sandbox.mkdir("backup/database");
    recipe.admit("backup01", "database");

    sandbox.script("pg_dump", &format!("{dump}; echo good > \"$to/toc.dat\""));
    sandbox.once(&config).expect_code(0);
    assert_eq!(sandbox.read("backup/database/shop/toc.dat"), "good\n");

    sandbox.script("pg_dump", &format!("{dump}; echo half > \"$to/toc.dat\"; exit 1"));
    sandbox.once(&config).expect_code(1).expect_said("action dump: exit code 1");
    assert_eq!(sandbox.read("backup/database/shop/toc.dat"), "good\n");
    assert!(!sandbox.exists("var/database/new"), "what broke off is removed");
    assert_eq!(sandbox.read("told").trim(), "database dump failed in dump");
}

#[test]
fn recipe_4_without_the_disk_the_job_is_skipped() {
    let sandbox = Sandbox::new();
    let words = [LOCKS, ("/srv/photos/", "@/photos/"), ("/mnt/usb", "@/usb")];
    let config = Recipe::new(4, &sandbox, &[], &words).config("usb");
    sandbox.write("photos/one", "1");
    sandbox.mkdir("usb");
    sandbox.once(&config).expect_code(1).expect_said("nothing is mounted at");
    assert!(!sandbox.exists("usb/photos"));

    // With it, in a mount namespace of its own.
    sandbox.script("with-disk", "mount -t tmpfs tmpfs @/usb && \"$@\" && cp -r @/usb/photos @/seen");
    let script = sandbox.path("with-disk").display().to_string();
    let mut command = sandbox.command_via(&["unshare", "--mount", "--propagation", "private", &script]);
    command.args(["run", "--once", "--config"]).arg(&config);
    Finished::of(command).expect_code(0);
    assert_eq!(sandbox.read("seen/one"), "1");
}

#[test]
fn recipe_5_web_servers_are_fetched_but_not_while_they_are_deployed() {
    let sandbox = Sandbox::new();
    let (web1, web2) = (Sshd::start(&sandbox, "web1"), Sshd::start(&sandbox, "web2"));
    let hosts = [("web1.example.org", &web1), ("web2.example.org", &web2)];
    let words = [
        ("/run/lock/rsyncdirector/deploy.lock", "@/deploy.lock"),
        LOCKS,
        ("/srv/www", "@/web/www"),
        ("/var/backups/postgresql", "@/web/postgresql"),
        ("/backup/", "@/backup/"),
        ("timeout: 1h", "wait_time: 1, timeout: 2"),
    ];
    let recipe = Recipe::new(5, &sandbox, &hosts, &words);
    let config = recipe.config("web");
    sandbox.write("web/www/index.html", "hello");
    sandbox.write("web/postgresql/dump", "rows");
    sandbox.mkdir("backup");
    recipe.admit("web1", "web");
    recipe.admit("web2", "web");

    sandbox.write("deploy.lock", "");
    sandbox.once(&config).expect_code(1).expect_said("gave up waiting for");
    assert!(!sandbox.exists("backup/web1") && !sandbox.exists("backup/web.complete"));

    sandbox.remove("deploy.lock");
    sandbox.once(&config).expect_code(0);
    for host in ["web1", "web2"] {
        assert_eq!(sandbox.read(&format!("backup/{host}/www/index.html")), "hello");
        assert_eq!(sandbox.read(&format!("backup/{host}/postgresql/dump")), "rows");
    }
    assert!(sandbox.exists("backup/web.complete"));
}

#[test]
fn recipe_6_a_mirror_does_not_follow_a_mistake() {
    let sandbox = Sandbox::new();
    let master = Sshd::start(&sandbox, "master");
    let hosts = [("master.example.org", &master)];
    let words = [LOCKS, ("/srv/releases", "@/master"), ("/srv/mirror/", "@/mirror/")];
    let recipe = Recipe::new(6, &sandbox, &hosts, &words);
    let config = recipe.config("mirror");
    sandbox.mkdir("mirror");
    (0..40).for_each(|release| drop(sandbox.write(format!("master/{release}.tar"), "x")));
    recipe.admit("master", "mirror");
    sandbox.once(&config).expect_code(0);
    assert_eq!(sandbox.tree("mirror/releases").len(), 40);

    sandbox.remove("master/0.tar");
    sandbox.once(&config).expect_code(0);
    assert_eq!(sandbox.tree("mirror/releases").len(), 39, "one of forty is no mistake");

    (1..5).for_each(|release| sandbox.remove(&format!("master/{release}.tar")));
    sandbox.once(&config).expect_code(1).expect_said("nothing was changed");
    (5..40).for_each(|release| sandbox.remove(&format!("master/{release}.tar")));
    sandbox.once(&config).expect_code(1).expect_said("is empty");
    assert_eq!(sandbox.tree("mirror/releases").len(), 39);
}

#[test]
fn recipe_7_snapshots_share_what_did_not_change() {
    let sandbox = Sandbox::new();
    let nas = Sshd::start(&sandbox, "nas");
    let hosts = [("nas.example.org", &nas)];
    let words = [LOCKS, ("/srv/shares", "@/shares"), ("/snapshots/", "@/snapshots/")];
    let recipe = Recipe::new(7, &sandbox, &hosts, &words);
    let config = recipe.config("snapshots");
    sandbox.write("shares/same", "same");
    sandbox.write("shares/changing", "one");
    recipe.admit("nas", "snapshots");

    sandbox.once(&config).expect_code(0);
    let latest = fs::read_link(sandbox.path("snapshots/nas/latest")).expect("a link to the first");
    // As if it had been long ago, with a month of others.
    fs::rename(sandbox.path("snapshots/nas").join(latest), sandbox.path("snapshots/nas/2020-01-31T000000Z"))
        .expect("renamed");
    (1..31).for_each(|day| drop(sandbox.mkdir(&format!("snapshots/nas/2020-01-{day:02}T000000Z"))));
    fs::remove_file(sandbox.path("snapshots/nas/latest")).expect("the link");
    std::os::unix::fs::symlink("2020-01-31T000000Z", sandbox.path("snapshots/nas/latest")).expect("the link");
    sandbox.write("shares/changing", "two!");

    sandbox.once(&config).expect_code(0);
    let inode =
        |snapshot: &str| fs::metadata(sandbox.path(format!("snapshots/nas/{snapshot}/same"))).expect("a file").ino();
    assert_eq!(inode("latest"), inode("2020-01-31T000000Z"), "it is stored once");
    assert_eq!(sandbox.read("snapshots/nas/latest/changing"), "two!");
    assert_eq!(sandbox.read("snapshots/nas/2020-01-31T000000Z/changing"), "one");
    assert!(!sandbox.exists("snapshots/nas/2020-01-02T000000Z"), "the oldest are forgotten");
    assert!(sandbox.exists("snapshots/nas/2020-01-03T000000Z"), "thirty are kept");
}

#[test]
fn recipe_8_eight_rsyncs_go_by_way_of_the_jump_host() {
    let sandbox = Sandbox::new();
    let (bastion, archive) = (Sshd::start(&sandbox, "bastion"), Sshd::start(&sandbox, "archive"));
    let hosts = [("archive.internal.example.net", &archive)];
    let jump = format!("{}@{}", user(), bastion.addr());
    let words = [
        LOCKS,
        ("jump@bastion.example.net", jump.as_str()),
        ("/var/mail/vhosts/", "@/mail/"),
        ("/archive/", "@/archive/"),
    ];
    let recipe = Recipe::new(8, &sandbox, &hosts, &words);
    let config = recipe.config("mail");
    (0..3000).for_each(|mail| drop(sandbox.write(format!("mail/{}/{mail}", mail % 30), vec![b'x'; 4000])));
    sandbox.mkdir("archive/mail");
    recipe.admit("archive", "mail");
    let line = recipe.text.split("```text\n").nth(1).and_then(|rest| rest.lines().next()).expect("the bastion's line");
    let line = line.replace("archive.internal.example.net:22", &archive.addr().to_string());
    let key = keys::public(&sandbox.user_key());
    sandbox.write("sshd-bastion/authorized_keys", line.replace("ssh-ed25519 AAAA…", &key) + "\n");

    sandbox.once(&config).expect_code(0).expect_said("rsyncs at once");
    assert_eq!(sandbox.tree("archive/mail"), sandbox.tree("mail"));
    assert!(bastion.connections() > 2, "they went by way of it");
}

#[test]
fn recipe_9_the_archive_goes_at_the_rate_of_the_hour() {
    let sandbox = Sandbox::new();
    let offsite = Sshd::start(&sandbox, "offsite");
    let hosts = [("offsite.example.net", &offsite)];
    // Two windows less, and one that is always open: a test cannot wait for Monday.
    let windows = "- {days: mon-fri, from: \"12:30\", to: \"13:30\", rate: 2M}";
    let words = [
        LOCKS,
        ("/srv/projects/", "@/projects/"),
        ("/vault/projects", "@/vault/projects"),
        ("- {days: mon-fri, from: \"08:00\", to: \"12:30\", rate: 400K}", ""),
        ("- {days: mon-fri, from: \"13:30\", to: \"18:00\", rate: 400K}", ""),
        (windows, "- {from: \"00:00\", to: \"24:00\", rate: 2M}"),
    ];
    let recipe = Recipe::new(9, &sandbox, &hosts, &words);
    let config = recipe.config("archive");
    sandbox.write("projects/plan", "draw");
    sandbox.mkdir("vault/projects");
    recipe.admit("offsite", "archive");
    sandbox.once(&config).expect_code(0).expect_said("--bwlimit=2048");
    assert_eq!(sandbox.read("vault/projects/plan"), "draw");
}
