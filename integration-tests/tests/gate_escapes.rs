//! What an attacker with a restricted key can try: a client that sends whatever arguments it likes, links that appear while rsync works,
//! devices, files that another program obeys. As root and as nobody.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use integration_tests::wait::Stopwatch;
use integration_tests::{Finished, Sandbox, director};

/// A gate without an sshd before it, and a client that lies.
struct Attack {
    sandbox: Sandbox,
    user: &'static str,
}

impl Attack {
    fn new(user: &'static str, policy: &str) -> Self {
        let sandbox = Sandbox::new();
        for directory in ["dst/sub", "src", "read/sub", "outside", "home"] {
            sandbox.mkdir(directory);
        }
        sandbox.write("src/x", "attack");
        sandbox.write("read/a", "public");
        sandbox.write("outside/victim", "precious");
        sandbox.write("outside/secret", "secret");
        fs::copy(director::binary(), sandbox.path("rsyncdirector")).expect("a copy that others can execute");
        let policy = sandbox.expand(&format!("read: [@/read]\nwrite: [@/dst]\n{policy}"));
        sandbox.write("policy.yaml", policy);
        sandbox.chmod("", 0o755);
        sandbox.chmod("outside/secret", 0o644);
        let owner = if user == "nobody" { 65534 } else { 0 };
        for path in ["dst", "dst/sub", "outside", "outside/victim", "outside/secret", "home"] {
            std::os::unix::fs::chown(sandbox.path(path), Some(owner), Some(owner)).expect("chown");
        }
        // What rsync sends for the other side, or what LINE says instead.
        sandbox.script(
            "client",
            "shift; : ${LINE=$*}
             case $AS in root) as=;; *) as='setpriv --reuid 65534 --regid 65534 --clear-groups --';; esac
             HOME=@/home SSH_ORIGINAL_COMMAND=$LINE exec $as @/rsyncdirector gate --policy @/policy.yaml",
        );
        Self { sandbox, user }
    }

    fn dir(&self) -> String {
        self.sandbox.dir().display().to_string()
    }

    /// rsync with these arguments (`@/` for the sandbox), and perhaps another line for the gate than it sends.
    fn rsync(&self, args: &[&str], line: Option<&str>) -> Finished {
        let mut command = Command::new("rsync");
        command.args(["-e", self.sandbox.path("client").to_str().expect("text"), "--timeout=20"]);
        command.args(args.iter().map(|arg| self.sandbox.expand(arg))).env("AS", self.user);
        if let Some(line) = line {
            command.env("LINE", self.sandbox.expand(line));
        }
        Finished::of(command)
    }

    /// Everything about what lies outside.
    fn outside(&self) -> Vec<(PathBuf, String, u32, u32, i64, i64)> {
        let mut found: Vec<_> = fs::read_dir(self.sandbox.path("outside"))
            .expect("there")
            .map(|entry| {
                let path = entry.expect("an entry").path();
                let about = fs::symlink_metadata(&path).expect("there");
                let content = fs::read_to_string(&path).unwrap_or_default();
                (path, content, about.mode(), about.uid(), about.mtime(), about.ctime_nsec())
            })
            .collect();
        let about = fs::metadata(self.sandbox.path("outside")).expect("there");
        found.push((PathBuf::new(), String::new(), about.mode(), about.uid(), about.mtime(), about.ctime_nsec()));
        found.sort();
        found
    }

    #[track_caller]
    fn leaves_outside_alone(&self, what: impl FnOnce()) {
        let before = self.outside();
        what();
        assert_eq!(self.outside(), before, "{}", self.user);
    }

    /// Whether the secret got to the attacker.
    fn has_secret(&self) -> bool {
        // A link that was copied as one is no secret.
        let is_file = |name: &PathBuf| {
            fs::symlink_metadata(self.sandbox.path("got").join(name)).is_ok_and(|found| found.is_file())
        };
        self.sandbox.tree("got").iter().any(|(name, content)| is_file(name) && content.starts_with(b"secret"))
    }
}

fn everybody(policy: &str, attack: impl Fn(&Attack)) {
    for user in ["root", "nobody"] {
        attack(&Attack::new(user, policy));
    }
}

#[test]
fn nothing_is_read_through_links() {
    everybody("", |attack| {
        let link =
            |to: &str, name: &str| symlink(attack.sandbox.expand(to), attack.sandbox.path(name)).expect("linked");
        link("@/outside/secret", "read/link");
        link("../outside", "read/directory");
        for args in [
            &["-aL", "h:@/read/", "@/got"][..],
            &["-a", "--copy-unsafe-links", "h:@/read/", "@/got"],
            &["-ak", "h:@/read/", "@/got"],
            &["-rL", "h:@/read/link", "@/got"],
            &["-r", "h:@/read/directory/", "@/got"],
            &["-aL", "h:@/read/directory/secret", "@/got"],
            &["-aR", "h:@/read/./directory/secret", "@/got"],
            &["-a", "h:@/read/sub/../../outside/", "@/got"],
        ] {
            attack.rsync(args, None);
            assert!(!attack.has_secret(), "{args:?} as {}", attack.user);
        }
        attack.sandbox.write("list", "../outside/secret\ndirectory/secret\nlink\na\n");
        attack.rsync(&["-aL", "--files-from=@/list", "h:@/read", "@/got"], None);
        assert!(!attack.has_secret() && attack.sandbox.read("got/a") == "public", "a list leads nowhere else");
        let sender = "rsync --server --sender -vlogDtprLe.iLsfxCIvu";
        for line in [
            " . @/outside/",
            " . @/read/directory/",
            " . @/read/../outside/",
            " --files-from @/outside/secret . @/read",
        ] {
            attack.rsync(&["-aL", "h:@/read/", "@/got"], Some(&format!("{sender}{line}")));
            assert!(!attack.has_secret(), "{line} as {}", attack.user);
        }
    });
}

#[test]
fn nothing_is_written_through_links() {
    everybody("", |attack| {
        symlink("../outside", attack.sandbox.path("dst/out")).expect("linked");
        symlink("../outside/victim", attack.sandbox.path("dst/file")).expect("linked");
        symlink("../outside/new", attack.sandbox.path("dst/dangling")).expect("linked");
        attack.sandbox.write("src/victim", "overwritten");
        attack.sandbox.write("src/file", "overwritten");
        attack.sandbox.write("src/dangling", "overwritten");
        attack.sandbox.write("src/out/victim", "overwritten");
        attack.sandbox.chmod("src/out/victim", 0o666);
        attack.leaves_outside_alone(|| {
            let receiver = "rsync --server -vlogDtpre.iLsfxCIvu";
            for (args, line) in [
                (&["-a", "@/src/", "h:@/dst/out/"][..], None),
                (&["-aK", "@/src/", "h:@/dst/"], None),
                (&["-a", "--inplace", "@/src/victim", "h:@/dst/file"], None),
                (&["-a", "--inplace", "@/src/victim", "h:@/dst/dangling"], None),
                (&["-a", "--inplace", "@/src/dangling", "h:@/dst/"], None),
                (&["-aR", "--no-implied-dirs", "@/src/./out/victim", "h:@/dst/"], None),
                (&["-a", "--backup", "--backup-dir=../outside", "@/src/", "h:@/dst/"], None),
                (&["-a", "--temp-dir=@/outside", "@/src/", "h:@/dst/"], None),
                (&["-a", "--partial-dir=@/outside", "@/src/", "h:@/dst/"], None),
                (&["-a", "-M--log-file=@/outside/log", "@/src/", "h:@/dst/"], None),
                (&["-a", "--delete", "@/src/", "h:@/dst/"], Some(" . @/dst/out/")),
                (&["-a", "@/src/", "h:@/dst/"], Some(" -K . @/dst/")),
                (&["-a", "@/src/", "h:@/dst/"], Some(" . @/dst/../outside/")),
                (&["-a", "@/src/", "h:@/dst/"], Some(" --log-file=@/outside/log . @/dst/")),
                (&["-a", "@/src/", "h:@/dst/"], Some(" --daemon . @/dst/")),
            ] {
                attack.rsync(args, line.map(|line| format!("{receiver}{line}")).as_deref());
            }
        });
        assert!(!attack.sandbox.exists("outside/new") && !attack.sandbox.exists("outside/log"));
        attack.rsync(&["-a", "@/src/x", "h:@/dst/sub/"], None).expect_code(0);
        assert_eq!(attack.sandbox.read("dst/sub/x"), "attack", "what is allowed works as {}", attack.user);
    });
}

#[test]
fn a_link_that_appears_while_rsync_works_leads_nowhere() {
    everybody("", |attack| {
        for number in 0..400 {
            attack.sandbox.write(format!("src/sub/{number}"), number.to_string());
            attack.sandbox.chmod(&format!("src/sub/{number}"), 0o666);
        }
        let done = AtomicBool::new(false);
        let (real, aside) = (attack.sandbox.path("dst/sub"), attack.sandbox.path("aside"));
        let flip = || {
            while !done.load(Ordering::Relaxed) {
                if fs::rename(&real, &aside).is_ok() {
                    let _ = symlink("../outside", &real);
                    std::thread::yield_now();
                    let _ = fs::remove_file(&real);
                }
                let _ = fs::remove_dir_all(&real);
                let _ = fs::rename(&aside, &real);
            }
        };
        attack.leaves_outside_alone(|| {
            std::thread::scope(|scope| {
                scope.spawn(flip);
                let since = Stopwatch::start();
                while since.elapsed() < Duration::from_secs(4) {
                    attack.rsync(&["-a", "--inplace", "--ignore-times", "@/src/", "h:@/dst/"], None);
                }
                done.store(true, Ordering::Relaxed);
            });
        });
    });
}

#[test]
fn devices_are_made_where_the_policy_says_so_and_are_never_opened() {
    let attack = Attack::new("root", "");
    let made = Command::new("mknod").arg(attack.sandbox.path("src/disk")).args(["b", "7", "199"]).status();
    assert!(made.expect("mknod").success());
    let refused = attack.rsync(&["-a", "@/src/", "h:@/dst/"], None);
    refused.expect_code(23).expect_said("Operation not permitted");
    assert!(!attack.sandbox.exists("dst/disk"));
    attack.rsync(&["-a", "--no-D", "@/src/", "h:@/dst/"], None).expect_code(0);

    attack.sandbox.write("policy.yaml", attack.sandbox.read("policy.yaml") + "devices: true\n");
    attack.rsync(&["-a", "@/src/", "h:@/dst/"], None).expect_code(0);
    assert!(attack.sandbox.exists("dst/disk"));
    let line = "rsync --server --sender -logDtpre.iLsfxCIvu --copy-devices . @/dst/disk";
    attack.rsync(&["-a", "--copy-devices", "h:@/dst/disk", "@/got"], Some(line)).expect_said("reads devices");
}

#[test]
fn files_and_variables_that_steer_programs_do_not_steer_this_one() {
    let attack = Attack::new("root", "confinement: paths\nrsync: @/fake\n");
    attack.sandbox.script("fake", "env > @/env; echo \"$@\" > @/args; cat > /dev/null");
    attack.sandbox.write("home/.popt", "rsync alias --timeout --daemon\n");
    let mut command = Command::new(attack.sandbox.path("client"));
    for (name, value) in [
        ("RSYNC_RSH", "id"),
        ("RSYNC_PARTIAL_DIR", "/x"),
        ("LD_PRELOAD", "/x.so"),
        ("LANG", "de_DE.UTF-8"),
        ("LC_ALL", "../../x"),
        ("BASH_ENV", "/x"),
    ] {
        command.env(name, value);
    }
    command
        .args(["h", "rsync", "--server", "-re.L", "--timeout=5", ".", &format!("{}/dst", attack.dir())])
        .env("AS", "root");
    command.env("LD_PRELOAD", "");
    Finished::of(command).expect_code(0);
    let env = attack.sandbox.lines("env");
    let names: Vec<_> = env.iter().filter_map(|line| line.split('=').next()).collect();
    assert!(!names.iter().any(|name| name.starts_with("RSYNC") || *name == "LC_ALL" || *name == "BASH_ENV"), "{env:?}");
    assert!(env.contains(&"HOME=/nonexistent".to_owned()) && env.contains(&"LANG=de_DE.UTF-8".to_owned()), "{env:?}");
    assert_eq!(attack.sandbox.read("args").trim(), format!("--server -re.L --timeout=5 . {}/dst", attack.dir()));
}

#[test]
fn without_the_kernel_what_leads_out_by_a_path_is_refused() {
    everybody("confinement: paths", |attack| {
        symlink("../outside", attack.sandbox.path("dst/out")).expect("linked");
        symlink("../outside/secret", attack.sandbox.path("read/link")).expect("linked");
        attack.leaves_outside_alone(|| {
            attack.rsync(&["-a", "@/src/", "h:@/dst/out/"], None).expect_said("symbolic link");
            attack.rsync(&["-aL", "h:@/read/", "@/got"], None).expect_said("follows symbolic links");
            attack.sandbox.write("list", "../outside/secret\n");
            attack
                .rsync(&["-a", "--files-from=@/list", "h:@/read", "@/got"], None)
                .expect_said("--files-from may name");
            attack.rsync(&["-a", "@/src/", "h:@/dst/sub"], None).expect_code(0);
        });
        assert!(!attack.has_secret());
    });
}
