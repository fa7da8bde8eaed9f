use super::*;

fn unit(properties: &str) -> Unit {
    Unit::parse("rsyncdirector@x.service", &format!("LoadState=loaded\n{properties}")).expect("loaded")
}

#[track_caller]
fn check(properties: &str, path: &str, expected: &str) {
    let access = match unit(properties).access(Path::new(path)) {
        Access::Free => String::new(),
        Access::ReadOnly(by) => format!("read only by {by}"),
        Access::Hidden(by) => format!("hidden by {by}"),
    };
    assert_eq!(access, expected, "{properties} {path}");
}

#[test]
fn paths_are_hidden_and_protected_as_systemd_exec_has_it() {
    check("", "/etc/x", "");
    check("ProtectSystem=no\nProtectHome=no\nPrivateTmp=no", "/home/x", "");
    check("ProtectSystem=yes", "/usr/local", "read only by ProtectSystem=yes");
    check("ProtectSystem=yes", "/etc/x", "");
    check("ProtectSystem=full", "/etc/x", "read only by ProtectSystem=full");
    check("ProtectSystem=full", "/srv", "");
    check("ProtectSystem=strict", "/srv/x", "read only by ProtectSystem=strict");
    check("ProtectSystem=strict", "/dev/shm/x", "");
    check("ProtectSystem=strict\nReadWritePaths=-/srv /backup", "/srv/x", "");
    check("ProtectSystem=strict\nReadWritePaths=-/srv /backup", "/backup", "");
    check("ProtectSystem=strict\nReadWritePaths=/srv", "/srvx", "read only by ProtectSystem=strict");
    check(
        "ProtectSystem=strict\nReadWritePaths=/srv\nReadOnlyPaths=/srv/keep",
        "/srv/keep/x",
        "read only by ReadOnlyPaths=/srv/keep",
    );
    check("ProtectSystem=strict\nStateDirectory=rsyncdirector", "/var/lib/rsyncdirector/photos", "");
    check("ProtectSystem=strict\nRuntimeDirectory=rsyncdirector:rd", "/run/rsyncdirector", "");
    check("ProtectSystem=strict\nReadWritePaths=/", "/srv", "");
    check("ProtectHome=yes", "/home/ann", "hidden by ProtectHome=yes");
    check("ProtectHome=yes\nReadWritePaths=/home/ann", "/home/ann", "hidden by ProtectHome=yes");
    check("ProtectHome=yes", "/homes", "");
    check("ProtectHome=read-only", "/root/x", "read only by ProtectHome=read-only");
    check("ProtectHome=read-only\nReadWritePaths=/root/x", "/root/x/y", "");
    check("ProtectHome=tmpfs", "/home/ann", "hidden by ProtectHome=tmpfs");
    check("ProtectHome=tmpfs\nBindPaths=/home/ann", "/home/ann/x", "");
    check(
        "ProtectHome=tmpfs\nBindReadOnlyPaths=/srv/ann:/home/ann",
        "/home/ann/x",
        "read only by BindReadOnlyPaths=/home/ann",
    );
    check("PrivateTmp=yes", "/tmp/x", "hidden by PrivateTmp=yes");
    check("PrivateTmp=yes", "/var/tmp/x", "hidden by PrivateTmp=yes");
    check("InaccessiblePaths=-/srv/secret", "/srv/secret/x", "hidden by InaccessiblePaths=/srv/secret");
    check("TemporaryFileSystem=/srv:ro", "/srv/x", "hidden by TemporaryFileSystem=/srv");
    check("PrivateDevices=yes", "/dev/sda", "hidden by PrivateDevices=yes");
    check("PrivateDevices=yes", "/dev/null", "");
    check("ProtectKernelModules=yes", "/usr/lib/modules/6.1", "hidden by ProtectKernelModules=yes");
}

#[test]
fn capabilities_are_those_of_root_within_the_bounds_and_else_the_ambient_ones() {
    assert!(unit("").has("cap_chown"));
    assert!(!unit("CapabilityBoundingSet=cap_fowner").has("cap_chown"));
    assert!(!unit("CapabilityBoundingSet=").has("cap_chown"));
    assert!(!unit("User=rd").has("cap_chown"));
    assert!(unit("User=rd\nAmbientCapabilities=cap_chown").has("cap_chown"));
    assert!(!unit("User=rd\nAmbientCapabilities=cap_chown\nCapabilityBoundingSet=").has("cap_chown"));
    assert!(!unit("DynamicUser=yes").is_root() && unit("User=0").is_root());
}

#[test]
fn calls_are_allowed_by_a_list_or_all_but_one() {
    assert!(unit("").may_call(&["mknod"]));
    assert!(unit("SystemCallFilter=read mknodat").may_call(&["mknod", "mknodat"]));
    assert!(!unit("SystemCallFilter=read write").may_call(&["mknod", "mknodat"]));
    assert!(!unit("SystemCallFilter=~mount umount").may_call(&["mount"]));
    assert!(unit("SystemCallFilter=~mount umount").may_call(&["mknod"]));
    assert!(unit("SystemCallFilter=mount:EPERM").may_call(&["mount"]));
}

#[test]
fn a_unit_that_is_not_loaded_is_none_and_a_template_is_in_use_when_enabled() {
    assert_eq!(Unit::parse("x", "LoadState=not-found\n"), None);
    assert_eq!(Unit::parse("x", ""), None);
    assert!(!unit("ActiveState=inactive\nUnitFileState=disabled").is_in_use());
    assert!(unit("ActiveState=inactive\nUnitFileState=enabled").is_in_use());
    assert!(unit("ActiveState=active\nUnitFileState=disabled").is_in_use());
}

#[test]
fn its_user_is_stood_in_for_with_its_capabilities() {
    let words = |properties: &str| {
        let words = unit(properties).disguise();
        words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(words("User=root"), "");
    assert_eq!(words("CapabilityBoundingSet=cap_chown cap_fowner"), "setpriv --bounding-set=-all,+chown,+fowner");
    assert_eq!(
        words("User=rd\nAmbientCapabilities=cap_dac_read_search\nCapabilityBoundingSet=cap_dac_read_search"),
        "setpriv --reuid=rd --regid=rd --init-groups --inh-caps=-all,+dac_read_search --ambient-caps=-all,+dac_read_search \
         --bounding-set=-all,+dac_read_search"
    );
    assert_eq!(
        words("User=rd\nGroup=backup\nCapabilityBoundingSet="),
        "setpriv --reuid=rd --regid=backup --init-groups --inh-caps=-all --ambient-caps=-all --bounding-set=-all"
    );
}

#[test]
fn what_systemctl_prints_of_lists_is_read() {
    // As systemd 252 prints a unit that sets none of them.
    let plain = unit("SystemCallFilter=~\nRestrictAddressFamilies=~\nLoadCredential=[unprintable]\nEnvironment=");
    assert!(plain.may_call(&["mount"]) && plain.may_make_devices());
    assert_eq!(plain.variable("XDG_RUNTIME_DIR"), None);
    let set = unit(
        "DevicePolicy=closed\nDeviceAllow=block-* rm\nDeviceAllow=char-* m\nEnvironment=A=1 XDG_RUNTIME_DIR=/run/x \"B=2 3\"",
    );
    assert!(set.may_make_devices());
    assert_eq!(set.variable("XDG_RUNTIME_DIR"), Some("/run/x"));
    assert!(!unit("DevicePolicy=closed").may_make_devices() && !unit("DeviceAllow=/dev/st0 rw").may_make_devices());
    assert!(!unit("DevicePolicy=closed\nDeviceAllow=block-* r").may_make_devices());
}

#[test]
fn what_is_hidden_of_a_whole_tree_is_listed() {
    let hidden = unit("ProtectHome=yes\nPrivateTmp=yes").hidden_below(Path::new("/"));
    let paths: Vec<&str> = hidden.iter().filter_map(|(path, _)| path.to_str()).collect();
    assert_eq!(paths, ["/home", "/root", "/run/user", "/tmp", "/var/tmp"]);
    assert!(unit("ProtectHome=yes").hidden_below(Path::new("/home")).is_empty(), "that is hidden itself");
}
