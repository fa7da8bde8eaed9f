use super::super::finding::Grade;
use super::*;

fn unit(properties: &str) -> Unit {
    Unit::parse("rsyncdirector@x.service", &format!("LoadState=loaded\n{properties}")).expect("loaded")
}

/// A job that copies `/srv/src` to `/backup/x` with these options.
fn wants(opts: &str) -> Wants {
    let who = || "job j, action a".to_owned();
    let end = End {
        name: who(),
        opts: opts.split_whitespace().map(Into::into).collect(),
        program: "rsync".into(),
        sources: vec!["/srv/src".into()],
        dest: Some("/backup/x".into()),
        crosses: false,
    };
    Wants {
        reads: vec![("/srv/src".into(), who())],
        writes: vec![("/backup/x".into(), who())],
        above: HashMap::new(),
        locks: vec![("/run/lock/j.lock".into(), "job j".into())],
        receives: vec![(end, None)],
        sends: Vec::new(),
        commands: Vec::new(),
        peers: 1,
        port: 9090,
    }
}

/// What is not well, in short: the grade and a part of the text of each.
#[track_caller]
fn check(properties: &str, wants: &Wants, expected: &[(Grade, &str)]) {
    let all = judge(&unit(properties), wants);
    let found: Vec<&Finding> = all.iter().filter(|finding| finding.grade != Grade::Ok).collect();
    assert_eq!(found.len(), expected.len(), "{properties}\n{found:#?}");
    for (found, (grade, part)) in found.iter().zip(expected) {
        assert!(found.grade == *grade && found.to_string().contains(part), "{properties}\n{found:#?}\nlacks {part}");
        assert!(found.fix.is_some(), "{found:#?}");
    }
}

use Grade::{Fail, Warn};

#[test]
fn root_without_bounds_can_do_everything_and_it_is_said() {
    let findings = judge(&unit(""), &wants("-aAXH"));
    let told: Vec<String> =
        findings.iter().map(|finding| format!("{} {}", finding.grade.word(), finding.check.name())).collect();
    assert_eq!(told, ["ok unit-paths", "ok unit-rights", "ok unit-network"]);
}

#[test]
fn what_a_unit_protects_cannot_be_written() {
    let all = wants("-r");
    check(
        "ProtectSystem=strict",
        &all,
        &[
            (
                Fail,
                "ProtectSystem=strict protects /backup/x, which job j, action a writes; `systemctl edit rsyncdirector@x.service`: ReadWritePaths=/backup/x",
            ),
            (
                Fail,
                "ProtectSystem=strict protects /run/lock/j.lock, the lock file of job j; `systemctl edit rsyncdirector@x.service`: ReadWritePaths=/run/lock",
            ),
        ],
    );
    let mut new = wants("-r");
    new.above = HashMap::from([("/backup/x".into(), "/backup".into())]);
    new.locks.clear();
    check(
        "ProtectSystem=strict",
        &new,
        &[(Fail, "which job j, action a writes; `systemctl edit rsyncdirector@x.service`: ReadWritePaths=/backup")],
    );
    check("ProtectSystem=strict\nReadWritePaths=/backup /run/lock", &all, &[]);
    check("ProtectSystem=full", &all, &[]);
    let mut home = wants("-r");
    home.reads = vec![("/home/ann".into(), "job j, action a".into())];
    check(
        "ProtectHome=yes",
        &home,
        &[(
            Fail,
            "ProtectHome=yes hides /home/ann, which job j, action a reads; `systemctl edit rsyncdirector@x.service`: ProtectHome=no",
        )],
    );
    check("ProtectHome=tmpfs", &home, &[(Fail, "BindPaths=/home/ann")]);
    check("ProtectHome=read-only", &home, &[]);
    let whole = Wants { reads: vec![("/".into(), "job j, action a".into())], ..wants("-r") };
    check(
        "PrivateTmp=yes",
        &whole,
        &[
            (Warn, "PrivateTmp=yes hides /tmp, so job j, action a, which reads /, leaves out what is there"),
            (Warn, "hides /var/tmp"),
        ],
    );
    home.locks = vec![("/tmp/j.lock".into(), "job j".into())];
    check(
        "PrivateTmp=yes",
        &home,
        &[(Fail, "PrivateTmp=yes gives the unit a /tmp/j.lock of its own: no other sees its lock file, of job j")],
    );
}

const ALL: &str = "cap_chown cap_dac_override cap_fowner cap_mknod cap_setfcap cap_sys_admin";

#[test]
fn a_superuser_without_a_capability_cannot_keep_what_needs_it() {
    let without = |missing: &str| format!("CapabilityBoundingSet={}", ALL.replace(missing, ""));
    check(&format!("CapabilityBoundingSet={ALL}"), &wants("-aAXH"), &[]);
    check(
        &without("cap_chown"),
        &wants("-a"),
        &[
            (Fail, "CAP_CHOWN is missing, so -o of job j, action a cannot keep owners: rsync would end with 23"),
            (Fail, "so -g of job j, action a cannot keep groups"),
        ],
    );
    check(&without("cap_chown"), &wants("-a --no-o --no-g"), &[]);
    check(&without("cap_chown"), &wants("-a --fake-super"), &[]);
    check(&without("cap_chown"), &wants("-an"), &[]);
    check(
        &without("cap_mknod"),
        &wants("-a"),
        &[(
            Warn,
            "CAP_MKNOD is missing, so -D of job j, action a ends with 23 as soon as the source has devices; `systemctl edit rsyncdirector@x.service`: CapabilityBoundingSet=CAP_MKNOD; or leave -D out",
        )],
    );
    check(&without("cap_mknod"), &wants("-a --no-D"), &[]);
    check("PrivateDevices=yes", &wants("-a"), &[(Warn, "PrivateDevices=yes is set, so -D")]);
    check("DevicePolicy=closed", &wants("-a"), &[(Warn, "DevicePolicy=closed is set, so -D")]);
    check("DevicePolicy=closed\nDeviceAllow=block-* rm\nDeviceAllow=char-* m", &wants("-a"), &[]);
    check(&without("cap_setfcap"), &wants("-rX"), &[(Warn, "CAP_SETFCAP is missing, so -X")]);
    check(&without("cap_setfcap"), &wants("-a"), &[]);
    check(&without("cap_fowner"), &wants("-rH"), &[(Warn, "CAP_FOWNER is missing, so -H")]);
    check(&without("cap_dac_override"), &wants("-r"), &[(Warn, "CAP_DAC_OVERRIDE is missing")]);
}

#[test]
fn a_filter_of_calls_is_as_good_as_a_missing_capability() {
    let calls = "SystemCallFilter=read write chown chmod link setxattr mknod";
    check(calls, &wants("-aAXH"), &[]);
    check(
        &calls.replace("mknod", ""),
        &wants("-a"),
        &[(Warn, "SystemCallFilter= lacks mknod mknodat, so -D of job j")],
    );
    check(
        "SystemCallFilter=~chown lchown fchown fchownat",
        &wants("-rg"),
        &[(Fail, "SystemCallFilter= lacks chown lchown fchownat, so -g")],
    );
}

#[test]
fn another_user_s_rsync_does_not_even_try() {
    let user = "User=rsyncdirector\nCapabilityBoundingSet=\nAmbientCapabilities=";
    check(
        user,
        &wants("-aX"),
        &[(
            Warn,
            "the unit runs as rsyncdirector: job j, action a does not keep owners, devices, extended attributes but those of users (`user.*`), groups that the user is not in, and does not say so",
        )],
    );
    check(user, &wants("-rlt"), &[]);
    check(user, &wants("-a --fake-super"), &[]);
    check(user, &wants("-a --super"), &[(Fail, "--super makes job j, action a try to keep")]);
    let mut reads = wants("-a");
    reads.receives.clear();
    check(user, &reads, &[]);
}

#[test]
fn setgid_directories_need_a_unit_that_may_make_them() {
    let mut found = wants("-a");
    found.receives[0].1 = Some("/srv/src/shared".into());
    check("", &found, &[]);
    check(
        "RestrictSUIDSGID=yes",
        &found,
        &[(
            Fail,
            "RestrictSUIDSGID=yes refuses the setgid directory /srv/src/shared of job j, action a: rsync would end with 23",
        )],
    );
    check("RestrictSUIDSGID=yes", &wants("-a"), &[(Warn, "as soon as its source has a setuid or setgid file")]);
    check("RestrictSUIDSGID=yes", &wants("-rlt"), &[]);
    check("RestrictSUIDSGID=no", &wants("-a"), &[]);
}

#[test]
fn commands_and_the_port_need_privileges_too() {
    let mut asks = wants("-r");
    asks.commands = vec![("job j, action c".into(), Command::Shell("cd /x; /usr/bin/sudo zfs snapshot x".into()))];
    check("", &asks, &[]);
    check("NoNewPrivileges=yes", &asks, &[]);
    check(
        "CapabilityBoundingSet=cap_dac_override cap_setgid cap_chown",
        &asks,
        &[(Fail, "CAP_SETUID is missing, so `sudo` of job j, action c")],
    );
    check("User=rd\nNoNewPrivileges=yes", &asks, &[(Fail, "NoNewPrivileges=yes keeps `sudo` of job j, action c")]);
    asks.commands =
        vec![("job j, action c".into(), Command::Exec { program: "mount".into(), args: vec!["/x".into()] })];
    check(
        "SystemCallFilter=~mount umount",
        &asks,
        &[(Fail, "`mount` of job j, action c (`mount`) needs CAP_SYS_ADMIN")],
    );
    asks.commands = vec![("job j, action c".into(), Command::Shell("echo sudoku amount".into()))];
    check("NoNewPrivileges=yes\nSystemCallFilter=~mount", &asks, &[]);
    asks.commands = vec![("job j, action c".into(), Command::Shell("sudo backup --password=hunter2".into()))];
    check("User=rd\nNoNewPrivileges=yes", &asks, &[(Fail, "`sudo backup --password=***`")]);
    asks.commands.clear();
    asks.port = 443;
    check(
        "User=rd",
        &asks,
        &[(Fail, "port 443 of `metrics` needs the capability CAP_NET_BIND_SERVICE; use a port from 1024 on")],
    );
}

#[test]
fn peers_are_behind_a_network() {
    check("RestrictAddressFamilies=AF_UNIX AF_INET6", &wants("-r"), &[]);
    check("RestrictAddressFamilies=AF_UNIX", &wants("-r"), &[(Fail, "has neither AF_INET nor AF_INET6")]);
    check("RestrictAddressFamilies=AF_INET", &wants("-r"), &[(Fail, "lacks AF_UNIX")]);
    check("RestrictAddressFamilies=~AF_PACKET", &wants("-r"), &[]);
    check("PrivateNetwork=yes", &wants("-r"), &[(Fail, "PrivateNetwork=yes leaves no network")]);
    check("IPAddressDeny=::/0 0.0.0.0/0", &wants("-r"), &[(Warn, "see that IPAddressAllow= has every peer")]);
    check("PrivateNetwork=yes", &Wants { peers: 0, ..wants("-r") }, &[]);
}

/// The unit and its drop-ins, as `systemctl show` of systemd 252 printed them.
fn shipped(mode: &str) -> Unit {
    let shown = match mode {
        "default" => include_str!("units/default.txt"),
        "reader" => include_str!("units/reader.txt"),
        "unprivileged" => include_str!("units/unprivileged.txt"),
        "receiver" => include_str!("units/receiver.txt"),
        mode => unreachable!("there is no mode {mode}"),
    };
    Unit::parse("rsyncdirector@x.service", shown).expect("loaded")
}

#[track_caller]
fn check_shipped(mode: &str, wants: &Wants, expected: &[(Grade, &str)]) {
    let all = judge(&shipped(mode), wants);
    let found: Vec<&Finding> = all.iter().filter(|finding| finding.grade != Grade::Ok).collect();
    assert_eq!(found.len(), expected.len(), "{mode}\n{found:#?}");
    for (found, (grade, part)) in found.iter().zip(expected) {
        assert!(found.grade == *grade && found.to_string().contains(part), "{mode}\n{found:#?}\nlacks {part}");
    }
}

#[test]
fn the_modes_that_are_shipped_are_judged_as_systemd_prints_them() {
    let mut copies = wants("-aAXH");
    copies.locks = vec![("/run/lock/rsyncdirector/j.lock".into(), "job j".into())];
    copies.receives[0].1 = Some("/srv/src/shared".into());
    copies.commands = vec![("job j, action c".into(), Command::Shell("sudo -u postgres pg_dump".into()))];
    let trusted = (Warn, "CAP_SYS_ADMIN is missing, so -X of job j, action a leaves attributes `trusted.*` out");
    check_shipped("default", &copies, &[trusted]);
    check_shipped("receiver", &copies, &[trusted, (Fail, "CAP_SETUID is missing, so `sudo` of job j, action c")]);
    let of_a_user = [
        (Fail, "ProtectSystem=strict protects /backup/x"),
        (Warn, "the unit runs as rsyncdirector: job j, action a does not keep owners, devices"),
        (Fail, "RestrictSUIDSGID=yes refuses the setgid directory /srv/src/shared"),
        (Fail, "NoNewPrivileges=yes keeps `sudo` of job j, action c"),
    ];
    check_shipped("reader", &copies, &of_a_user);
    check_shipped("unprivileged", &copies, &of_a_user);

    // What each of them is for.
    let sends = Wants { writes: Vec::new(), receives: Vec::new(), commands: Vec::new(), ..copies.clone() };
    check_shipped("reader", &sends, &[]);
    check_shipped("unprivileged", &sends, &[]);
    let pushes = Wants { sends: vec![copies.receives[0].0.clone()], ..sends.clone() };
    for mode in ["default", "reader"] {
        check_shipped(mode, &pushes, &[trusted]);
    }
    let home = Wants { reads: vec![("/home/ann".into(), "job j, action a".into())], ..sends.clone() };
    check_shipped("reader", &home, &[]);
    check_shipped("unprivileged", &home, &[(Fail, "ProtectHome=yes hides /home/ann")]);
    let mounts = Wants { commands: vec![("job j, action m".into(), Command::Shell("mount /mnt".into()))], ..sends };
    check_shipped("default", &mounts, &[(Fail, "`mount` of job j, action m")]);
    let elsewhere = Wants { writes: vec![("/data/x".into(), "job j, action a".into())], ..wants("-r") };
    check_shipped("receiver", &Wants { locks: Vec::new(), ..elsewhere }, &[(Fail, "protects /data/x")]);
}
