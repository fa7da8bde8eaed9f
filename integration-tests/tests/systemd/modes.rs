//! What a sync can do under the unit and under each of its drop-ins, with a tree that has everything: owners, ACLs,
//! attributes, capabilities of files, hard links, devices, setgid directories, files that nobody else may read.
//!
//! Whether two trees are the same is asked of an rsync outside, as an unconfined root: it has nothing to change.

use super::Host;

/// Makes `/srv/src`.
const TREE: &str = r#"set -e
mkdir -p /srv/src/dir /srv/src/shared && cd /srv/src
echo plain > plain && echo secret > secret && chmod 600 secret && echo foreign > foreign && chown 1234:2345 foreign secret
chmod 2775 shared && echo s > shared/file && cp /bin/true suid && chmod 4755 suid
echo acl > acl && setfacl -m u:1234:rw acl && setfacl -d -m g:2345:rx dir
echo xattr > xattr && setfattr -n user.colour -v blue xattr
cp /bin/true capable && setcap cap_net_raw+ep capable
echo linked > linked && ln linked dir/again && ln -s plain symlink && mkfifo fifo
mknod null c 1 3 && mknod loop b 7 9
"#;

/// Options that keep everything.
const ALL: &str = "['-aHAX', '--numeric-ids']";

/// What an unconfined rsync would still change in `dst` to make it `/srv/src`: nothing if they are the same.
#[track_caller]
fn differences(host: &Host, dst: &str) -> String {
    host.machine.sh(&format!("rsync -aHAXnic --numeric-ids --delete /srv/src/ {dst}/"))
}

/// A local sync.
fn local(source: &str, dest: &str, opts: &str) -> String {
    format!("{{id: j, type: local, actions: [{{action: sync, id: s, source: {source}, dest: {dest}, opts: {opts}}}]}}")
}

/// Configures one with such jobs and starts it.
#[track_caller]
fn start(host: &Host, name: &str, jobs: &[String]) {
    let jobs: String = jobs.iter().map(|job| format!("- {job}\n")).collect();
    host.configure(name, &format!("jobs:\n{jobs}"));
    host.start(name);
}

/// An sshd of the machine that accepts a key of the instance, which is its credential `id_backup`, as root. Gives the peer's
/// keys of a configuration.
fn peer(host: &Host, name: &str) -> String {
    host.machine.sh(&format!(
        "set -e; mkdir -p /run/sshd /root/.ssh /etc/rsyncdirector/credentials/{name}; chmod 700 /root/.ssh
         ssh-keygen -q -t ed25519 -N '' -f /etc/ssh/peer_key
         ssh-keygen -q -t ed25519 -N '' -f /etc/rsyncdirector/credentials/{name}/id_backup
         cp /etc/rsyncdirector/credentials/{name}/id_backup.pub /root/.ssh/authorized_keys
         echo \"[127.0.0.1]:2222 $(cat /etc/ssh/peer_key.pub)\" >> /etc/ssh/ssh_known_hosts
         systemd-run -q --unit=peer /usr/sbin/sshd -D -f /dev/null -h /etc/ssh/peer_key -p 2222 -o UsePAM=no"
    ));
    host.machine.until("python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", 2222), 1)'");
    host.drop_in(name, "key", "[Service]\nLoadCredential=id_backup:/etc/rsyncdirector/credentials/%i/id_backup\n");
    "type: remote, user: root, host: 127.0.0.1, port: 2222, private_ssh_key: '${CREDENTIALS_DIRECTORY}/id_backup'"
        .to_owned()
}

#[test]
fn the_unit_copies_everything_anywhere_with_all_attributes() {
    let Some(host) = Host::boot() else { return };
    host.machine.sh(TREE);
    start(&host, "root", &[local("/srv/src/", "/anywhere/dst", ALL)]);
    host.machine.sh("mkdir /anywhere");
    assert_eq!(host.run("root"), ["succeeded"], "{}", host.log("root"));
    assert_eq!(differences(&host, "/anywhere/dst"), "");
    host.machine.sh("rm -r /anywhere/dst/dir");
    assert_ne!(differences(&host, "/anywhere/dst"), "", "a difference would be seen");
}

#[test]
fn commands_under_the_unit_become_other_users_and_see_what_the_host_has() {
    let Some(host) = Host::boot() else { return };
    let command = |id: &str, line: &str| {
        format!("{{id: {id}, type: local, actions: [{{action: command, id: c, command: '{line}'}}]}}")
    };
    let jobs = [
        command("other", "runuser -u nobody -- id -un > /srv/who; su -s /bin/sh nobody -c \"id -un\" >> /srv/who"),
        command("nice", "nice -n -5 ionice -c 1 true"),
        command("lock", "test -e /tmp/lock"),
        command("mounted", "test -e /mnt/disk/file"),
        command("seen", "pgrep -x systemd-journal"),
        command("mount", "mount -t tmpfs x /mnt"),
        command("usr", "touch /usr/file"),
        command("etc", "touch /etc/file"),
        command("lookup", "getent hosts localhost && touch /home/file"),
    ];
    start(&host, "root", &jobs);
    host.machine.sh("touch /tmp/lock; mkdir -p /mnt/disk && mount -t tmpfs x /mnt/disk && touch /mnt/disk/file");
    let outcomes = host.run("root");
    let failed: Vec<_> = outcomes.iter().enumerate().filter(|(_, outcome)| *outcome != "succeeded").collect();
    let failed_ids: Vec<_> = failed.iter().map(|(at, _)| *at).collect();
    assert_eq!(failed_ids, [5, 6], "{failed:?}\n{}", host.log("root"));
    assert_eq!(host.machine.read("/srv/who"), "nobody\nnobody\n");

    host.mode("root", "host");
    host.machine.sh("systemctl restart rsyncdirector@root");
    assert_eq!(host.run("root"), vec!["succeeded"; jobs.len()], "{}", host.log("root"));
    assert_eq!(host.machine.run("mountpoint -q /mnt").status.code(), Some(0), "the host has what the job mounted");
}

#[test]
fn trusted_attributes_need_an_administrator_of_the_host() {
    let Some(host) = Host::boot() else { return };
    host.machine.sh("mkdir -p /srv/src && touch /srv/src/file && setfattr -n trusted.x -v 1 /srv/src/file");
    start(&host, "root", &[local("/srv/src/", "/srv/dst", ALL)]);
    let kept = |host: &Host| host.machine.run("getfattr -n trusted.x /srv/dst/file").status.success();
    assert_eq!(host.run("root"), ["succeeded"]);
    assert!(!kept(&host));
    host.drop_in("root", "trusted", "[Service]\nCapabilityBoundingSet=CAP_SYS_ADMIN\n");
    host.machine.sh("systemctl restart rsyncdirector@root");
    assert_eq!(host.run("root"), ["succeeded"]);
    assert!(kept(&host));
}

#[test]
fn a_reader_sends_everything_and_writes_nothing() {
    let Some(host) = Host::boot() else { return };
    host.machine.sh(TREE);
    let peer = peer(&host, "out");
    host.mode("out", "reader");
    let lock = "lock_files: [{type: local, path: /run/lock/rsyncdirector/out.lock}]";
    let push = format!(
        "{{id: push, {peer}, {lock}, actions: [{{action: sync, id: s, source: /srv/src/, dest: /srv/pushed, opts: {ALL}}}]}}"
    );
    start(&host, "out", &[push, local("/srv/src/plain", "/srv/copied", "['-a']")]);
    let outcomes = host.run("out");
    assert_eq!(outcomes[0], "succeeded", "{}", host.log("out"));
    assert_eq!(differences(&host, "/srv/pushed"), "");
    assert_ne!(outcomes[1], "succeeded");
    assert_eq!(host.machine.run("test -e /srv/copied").status.code(), Some(1));
    assert_eq!(host.machine.sh("stat -c %U /proc/$(systemctl show -P MainPID rsyncdirector@out)"), "rsyncdirector\n");
    assert!(host.log("out").contains("Read-only file system"), "{}", host.log("out"));
}

#[test]
fn an_unprivileged_one_copies_what_it_may() {
    let Some(host) = Host::boot() else { return };
    host.machine.sh(TREE);
    host.mode("own", "unprivileged");
    host.drop_in("own", "paths", "[Service]\nReadWritePaths=/srv/own\n");
    host.machine.sh(
        "set -e; mkdir -p /srv/own/src/dir && cd /srv/own/src && echo a > file && ln file dir/again && ln -s file link
         setfattr -n user.colour -v blue file && setfacl -m u:1234:rw file && chown -R rsyncdirector: /srv/own",
    );
    let jobs = [
        local("/srv/own/src/", "/srv/own/dst", ALL),
        local("/srv/src/foreign", "/srv/own/foreign", ALL),
        local("/srv/src/secret", "/srv/own/secret", ALL),
        local("/srv/src/shared", "/srv/own/shared", ALL),
        local("/srv/src/null", "/srv/own/null", ALL),
        local("/srv/src/capable", "/srv/own/capable", ALL),
    ];
    let numbered = jobs.iter().enumerate().map(|(at, job)| job.replace("id: j", &format!("id: j{at}")));
    start(&host, "own", &numbered.collect::<Vec<_>>());
    let outcomes = host.run("own");
    assert_eq!(outcomes[0], "succeeded", "{}", host.log("own"));
    assert_eq!(host.machine.sh("rsync -aHAXnic --delete /srv/own/src/ /srv/own/dst/"), "");
    assert_eq!(outcomes[1], "succeeded", "a foreign file becomes one of its own");
    assert_eq!(host.machine.sh("stat -c %U:%G /srv/own/foreign"), "rsyncdirector:rsyncdirector\n");
    for (at, what) in [(2, "an unreadable file"), (3, "a setgid directory")] {
        assert!(outcomes[at].contains("23"), "{what}: {}", outcomes[at]);
    }
    assert_eq!((&*outcomes[4], &*outcomes[5]), ("succeeded", "succeeded"), "rsync leaves out what needs root");
    assert_eq!(host.machine.run("test -e /srv/own/null").status.code(), Some(1));
    assert_eq!(host.machine.sh("getcap /srv/own/capable"), "");
}

#[test]
fn a_receiver_keeps_everything_where_it_may_write_and_writes_nowhere_else() {
    let Some(host) = Host::boot() else { return };
    host.machine.sh(TREE);
    host.machine.sh("mkdir -p /backup /elsewhere");
    let peer = peer(&host, "in");
    host.mode("in", "receiver");
    let pull = |id: &str, dest: &str| {
        let sync = format!("{{action: sync, id: s, direction: pull, source: /srv/src/, dest: {dest}, opts: {ALL}}}");
        format!("{{id: {id}, {peer}, actions: [{sync}]}}")
    };
    start(&host, "in", &[pull("good", "/backup/in"), pull("bad", "/elsewhere/in")]);
    let outcomes = host.run("in");
    assert_eq!(outcomes[0], "succeeded", "{}", host.log("in"));
    assert_eq!(differences(&host, "/backup/in"), "");
    assert_ne!(outcomes[1], "succeeded");
    assert_eq!(host.machine.sh("ls -A /elsewhere"), "");
}
