//! The Debian package: what is in it, and what installing, upgrading, removing and purging it does to a host.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use integration_tests::{Finished, Machine, Package, Sandbox, package};

/// Mode and path of everything in the package but directories.
fn contents(package: &Package) -> Vec<(String, String)> {
    let listed = package.ask("--contents", &[]);
    let words = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let files = words.filter(|words| !words[0].starts_with('d'));
    files.map(|words| (words[0].to_owned(), words[5].trim_start_matches('.').to_owned())).collect()
}

fn names(directory: &Path) -> BTreeSet<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// The commands of the program, as its help lists them, those of commands too: `locks`, `locks-break`.
fn commands(sandbox: &Sandbox, of: &[&str]) -> Vec<String> {
    let help = sandbox.cli(&[of, &["--help"]].concat()).stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let named = listed.filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let mut all = Vec::new();
    for name in named.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help") {
        let path = [of, &[name]].concat();
        all.push(path.join("-"));
        all.extend(commands(sandbox, &path));
    }
    all
}

#[test]
fn it_has_what_it_promises_where_debian_wants_it() {
    let (sandbox, built) = (Sandbox::new(), Package::build(None));
    let contents = contents(&built);
    for (mode, path) in &contents {
        let expected = if path == "/usr/bin/rsyncdirector" { "-rwxr-xr-x" } else { "-rw-r--r--" };
        assert_eq!(mode, expected, "{path}");
    }
    let paths: BTreeSet<&str> = contents.iter().map(|(_, path)| path.as_str()).collect();
    for path in [
        "/usr/bin/rsyncdirector",
        "/usr/lib/systemd/system/rsyncdirector@.service",
        "/usr/lib/sysusers.d/rsyncdirector.conf",
        "/usr/lib/tmpfiles.d/rsyncdirector.conf",
        "/usr/share/bash-completion/completions/rsyncdirector",
        "/usr/share/zsh/vendor-completions/_rsyncdirector",
        "/usr/share/fish/vendor_completions.d/rsyncdirector.fish",
        "/usr/share/rsyncdirector/prometheus/rules.yml",
        "/usr/share/rsyncdirector/grafana/dashboard.json",
        "/usr/share/man/man8/rsyncdirector.8.gz",
        "/usr/share/man/man5/rsyncdirector.yaml.5.gz",
        "/usr/share/doc/rsyncdirector/README.Debian",
        "/usr/share/doc/rsyncdirector/copyright",
        "/usr/share/doc/rsyncdirector/THIRD-PARTY.gz",
        "/usr/share/doc/rsyncdirector/changelog.Debian.gz",
        "/usr/share/doc/rsyncdirector/examples/rsyncdirector.yaml",
        "/usr/share/doc/rsyncdirector/examples/minimal.yaml",
    ] {
        assert!(paths.contains(path), "{path} is missing in {paths:#?}");
    }
    for (from, to) in [("systemd", "rsyncdirector/systemd"), ("resources/samples", "doc/rsyncdirector/examples")] {
        let shipped = |name: &String| name.ends_with(".conf") || name.ends_with(".yaml");
        for name in names(&package::project().join(from)).into_iter().filter(shipped) {
            assert!(paths.contains(format!("/usr/share/{to}/{name}").as_str()), "{from}/{name} is missing");
        }
    }
    let commands = commands(&sandbox, &[]);
    assert!(commands.contains(&"locks-break".to_owned()), "{commands:?}");
    for command in commands {
        let page = format!("/usr/share/man/man8/rsyncdirector-{command}.8.gz");
        assert!(paths.contains(page.as_str()), "{page} is missing");
    }
    // Configuration is only what the package itself brings; nothing there starts an instance.
    let configuration: Vec<&str> = paths.iter().copied().filter(|path| path.starts_with("/etc/")).collect();
    assert_eq!(configuration, ["/etc/needrestart/conf.d/rsyncdirector.conf", "/etc/rsyncdirector/README"]);
    let mut conffiles: Vec<String> =
        built.ask("--info", &["conffiles"]).lines().map(str::to_owned).filter(|line| !line.is_empty()).collect();
    conffiles.sort();
    assert_eq!(conffiles, configuration);
    let depends = built.ask("--field", &["Depends"]);
    assert!(depends.contains("libc6") && depends.contains("rsync"), "{depends}");
}

#[test]
fn the_same_source_makes_the_same_package() {
    let (one, other) = (Package::build(None), Package::build(None));
    assert!(fs::read(one.file()).expect("it") == fs::read(other.file()).expect("it"), "they differ");
}

#[test]
fn a_version_is_what_it_is_told_to_be() {
    let package = Package::build(Some("7.8.9-3"));
    assert_eq!(package.ask("--field", &["Version"]).trim(), "7.8.9-3");
}

#[test]
fn lintian_has_nothing_against_it() {
    let package = Package::build(None);
    let mut lintian = Command::new("lintian");
    lintian.args(["--allow-root", "--fail-on", "error,warning"]).arg(package.file());
    Finished::of(lintian).expect_code(0);
}

#[test]
fn its_man_pages_are_well_formed_and_describe_every_key() {
    let (sandbox, package) = (Sandbox::new(), Package::build(None));
    package.unpack(&sandbox.path("root"));
    let pages = sandbox.path("root/usr/share/man");
    let mut all = Vec::new();
    for section in ["man5", "man8"] {
        all.extend(names(&pages.join(section)).into_iter().map(|name| pages.join(section).join(name)));
    }
    for page in &all {
        let mut lint = Command::new("mandoc");
        // Pages that are generated say the day in the international order, and quote what groff needs quoted.
        lint.args(["-Tlint", "-W", "error"]).arg(page);
        Finished::of(lint).expect_code(0);
    }
    let mut render = Command::new("mandoc");
    render.args(["-Tutf8", "-O", "width=200"]).arg(pages.join("man5/rsyncdirector.yaml.5.gz"));
    // Bold is each letter twice, with a backspace between.
    let text: Vec<char> = Finished::of(render).expect_code(0).stdout.chars().collect();
    let printed = |at: &usize| text[*at] != '\u{8}' && text.get(at + 1) != Some(&'\u{8}');
    let text: String = (0..text.len()).filter(printed).map(|at| text[at]).collect();
    let schema: serde_json::Value = serde_json::from_str(&sandbox.cli(&["schema"]).stdout).expect("JSON");
    let mut keys = BTreeSet::new();
    collect_keys(&schema, &mut keys);
    assert!(keys.len() > 80, "{keys:?}");
    for key in keys {
        assert!(
            text.lines().any(|line| line.trim_start().starts_with(&format!("{key}: "))),
            "{key} is missing:\n{text}"
        );
    }
}

/// Every key of every mapping in the schema.
fn collect_keys(schema: &serde_json::Value, keys: &mut BTreeSet<String>) {
    if let Some(properties) = schema["properties"].as_object() {
        keys.extend(properties.keys().cloned());
    }
    match schema {
        serde_json::Value::Object(fields) => fields.values().for_each(|field| collect_keys(field, keys)),
        serde_json::Value::Array(items) => items.iter().for_each(|item| collect_keys(item, keys)),
        _ => {}
    }
}

#[test]
fn its_completions_complete_in_bash_zsh_and_fish() {
    let (sandbox, package) = (Sandbox::new(), Package::build(None));
    package.unpack(&sandbox.path("root"));
    let share = sandbox.path("root/usr/share");
    let run = |shell: &str, script: &str| {
        let mut command = Command::new(shell);
        command.args(if shell == "zsh" { vec!["-f", "-c"] } else { vec!["-c"] });
        command.arg(script).env("HOME", sandbox.path("home")).env("SHARE", &share).env("TERM", "dumb");
        Finished::of(command)
    };
    let bash = "source $SHARE/bash-completion/completions/rsyncdirector
        COMP_WORDS=(rsyncdirector ren) COMP_CWORD=1
        words=($(complete -p rsyncdirector)); for ((i = 0; i < ${#words[@]}; i++)); do [ ${words[i]} = -F ] && function=${words[i + 1]}; done
        $function rsyncdirector ren rsyncdirector; echo ${COMPREPLY[@]}";
    assert_eq!(run("bash", bash).expect_code(0).stdout.trim(), "renew");
    let zsh = "fpath=($SHARE/zsh/vendor-completions $fpath); autoload -Uz compinit; compinit -D -u
        print -r -- $_comps[rsyncdirector]; autoload +X _rsyncdirector && print loaded";
    assert_eq!(run("zsh", zsh).expect_code(0).stdout, "_rsyncdirector\nloaded\n");
    let fish = "source $SHARE/fish/vendor_completions.d/rsyncdirector.fish; complete -C 'rsyncdirector ren'";
    assert!(run("fish", fish).expect_code(0).stdout.starts_with("renew\t"));
}

const FILE: &str = "/root/rsyncdirector.deb";

/// Everything in the directories that a package may write to, but for logs, caches and what dpkg itself remembers.
const EVERYTHING: &str = "find /etc /usr /opt /srv /var /run/rsyncdirector /run/lock -xdev \
    -not -path '/var/log/*' -not -path '/var/cache/*' -not -path '/var/lib/dpkg/*' -not -path '/var/lib/apt/*' \
    -not -path '/var/lib/systemd/*' -not -path '/var/tmp/*' -not -path '/var/lib/PackageKit/*' -not -path '/etc/*-' 2>/dev/null | sort";

#[test]
fn from_the_package_to_a_first_run_in_three_commands_and_back_to_nothing() {
    let package = Package::build(None);
    let Some(machine) = Machine::boot("fresh") else { return };
    machine.write("/srv/photos/one", "a photo");
    machine.sh("mkdir /backup");
    machine.copy_in(package.file(), FILE, 0o644);
    let before = machine.sh(EVERYTHING);

    machine.sh(&format!("apt-get install --yes --no-install-recommends {FILE}"));
    machine.sh("sed -e 's|source: .*|source: /srv/photos/|' -e 's|dest: .*|dest: /backup/photos/|' \
         /usr/share/doc/rsyncdirector/examples/minimal.yaml > /etc/rsyncdirector/minimal.yaml");
    machine.sh("rsyncdirector run --once --config /etc/rsyncdirector/minimal.yaml");
    assert_eq!(machine.read("/backup/photos/one"), "a photo");
    let changed =
        "diff /usr/share/doc/rsyncdirector/examples/minimal.yaml /etc/rsyncdirector/minimal.yaml | grep -c '^>'";
    assert_eq!(machine.sh(changed).trim(), "2", "lines of the sample were changed");

    assert_eq!(machine.sh("systemctl list-units --plain --no-legend 'rsyncdirector*'"), "", "nothing starts by itself");
    assert_eq!(machine.sh("getent passwd rsyncdirector | cut -d: -f6,7"), "/var/lib/rsyncdirector:/usr/sbin/nologin\n");
    let modes = "stat -c '%a %U %G %n' /run/rsyncdirector /run/lock/rsyncdirector /etc/rsyncdirector/credentials";
    let expected = "755 root root /run/rsyncdirector\n2775 root rsyncdirector /run/lock/rsyncdirector\n\
                    700 root root /etc/rsyncdirector/credentials\n";
    assert_eq!(machine.sh(modes), expected);
    machine.sh("systemctl enable --now rsyncdirector@minimal");
    assert_eq!(machine.sh("systemctl is-active rsyncdirector@minimal"), "active\n");

    machine.sh("apt-get remove --yes rsyncdirector");
    assert_eq!(machine.run("pgrep -x rsyncdirector").status.code(), Some(1), "a removal ends what runs");
    machine.sh("test -s /var/lib/rsyncdirector/minimal/history.db && test -e /etc/rsyncdirector/minimal.yaml");
    machine.sh("apt-get purge --yes rsyncdirector");
    let left: Vec<String> = machine.sh(EVERYTHING).lines().map(str::to_owned).collect();
    let before: BTreeSet<&str> = before.lines().collect();
    let new: Vec<&str> = left.iter().map(String::as_str).filter(|path| !before.contains(path)).collect();
    assert_eq!(new, ["/etc/rsyncdirector", "/etc/rsyncdirector/minimal.yaml"], "the administrator's own stays");
}

/// An instance with a job that holds on until `/srv/NAME.go` is there.
fn holding(name: &str) -> String {
    format!(
        "rsync_id: {name}\ncron_schedule: \"0 0 1 1 *\"\nmetrics: {{addr: 127.0.0.1, port: 0}}\njobs:\n- {{id: j, type: local, \
         actions: [{{action: command, id: c, command: 'echo began >> /srv/{name}; until [ -e /srv/{name}.go ]; \
         do sleep 0.1; done; echo ended >> /srv/{name}'}}]}}\n"
    )
}

/// The process of an instance, and whether its program's file is the one that is installed.
fn process(machine: &Machine, name: &str) -> (String, bool) {
    let pid = machine.sh(&format!("systemctl show --property=MainPID --value rsyncdirector@{name}")).trim().to_owned();
    let same = machine.run(&format!("test /proc/{pid}/exe -ef /usr/bin/rsyncdirector")).status.success();
    (pid, same)
}

#[test]
fn an_upgrade_renews_what_is_idle_at_once_and_what_is_busy_when_it_is_done() {
    let (old, new) = (Package::build(Some("2.0.0-1")), Package::build(Some("2.0.0-2")));
    let Some(machine) = Machine::boot("upgraded") else { return };
    machine.copy_in(old.file(), FILE, 0o644);
    machine.sh(&format!("dpkg --install {FILE}"));
    for name in ["idle", "busy"] {
        machine.write(&format!("/etc/rsyncdirector/{name}.yaml"), holding(name));
    }
    machine.sh("echo '# of the administrator' >> /etc/rsyncdirector/README");
    machine.sh("systemctl enable --now rsyncdirector@idle rsyncdirector@busy");
    machine.sh("rsyncdirector now -i busy");
    machine.until("grep -q began /srv/busy");
    let (idle, busy) = (process(&machine, "idle"), process(&machine, "busy"));
    assert!(idle.1 && busy.1);

    machine.copy_in(new.file(), FILE, 0o644);
    machine.sh(&format!("dpkg --force-confold --install {FILE}"));
    assert_eq!(machine.sh("dpkg-query -W rsyncdirector"), "rsyncdirector\t2.0.0-2\n");
    assert!(machine.read("/etc/rsyncdirector/README").contains("of the administrator"), "changes to conffiles stay");
    machine.until("systemctl show --property=NRestarts rsyncdirector@idle | grep -qx NRestarts=1");
    machine.until("systemctl is-active rsyncdirector@idle");
    let renewed = process(&machine, "idle");
    assert!(renewed.1 && renewed.0 != idle.0, "{renewed:?} after {idle:?}");
    machine.sh("rsyncdirector status -i idle");
    machine.sh("test $(systemctl show --property=Result --value rsyncdirector@idle) = success");

    // The other goes on with the old program, which still does all that it is asked for.
    assert_eq!(process(&machine, "busy"), (busy.0.clone(), false));
    machine.sh("rsyncdirector status -i busy");
    machine.write("/srv/busy.go", "");
    machine.until("systemctl show --property=NRestarts rsyncdirector@busy | grep -qx NRestarts=1");
    machine.until("systemctl is-active rsyncdirector@busy");
    assert_eq!(machine.read("/srv/busy"), "began\nended\n");
    let renewed = process(&machine, "busy");
    assert!(renewed.1 && renewed.0 != busy.0, "{renewed:?} after {busy:?}");
    let runs = machine.sh("rsyncdirector history -i busy --json");
    let runs: serde_json::Value = serde_json::from_str(&runs).expect("JSON");
    assert!(runs.to_string().contains("succeeded"), "{runs}");
    assert!(
        !machine
            .journal("rsyncdirector@*")
            .iter()
            .any(|entry| entry["MESSAGE"].as_str().is_some_and(|text| text.contains("Failed")))
    );
}
