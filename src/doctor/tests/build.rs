use super::*;

const JSON: &str = r#"{"program": "rsync", "version": "3.5.0", "protocol": "32.0", "capabilities":
    {"hardlinks": true, "ACLs": true, "xattrs": true, "secluded_args": "optional", "iconv": true, "prealloc": true,
     "stop_at": true, "crtimes": false, "atimes": true}, "checksum_list": ["xxh128", "md5", "none"],
    "compress_list": ["zstd", "zlib", "none"], "license": "GPLv3"}"#;

const OLD: &str = "rsync  version 3.1.3  protocol version 31
Copyright (C) 1996-2018 by Andrew Tridgell, Wayne Davison, and others.
Web site: http://rsync.samba.org/
Capabilities:
    64-bit files, 64-bit inums, 64-bit timestamps, 64-bit long ints,
    socketpairs, hardlinks, symlinks, IPv6, batchfiles, inplace,
    append, no ACLs, xattrs, iconv, symtimes, prealloc

rsync comes with ABSOLUTELY NO WARRANTY.
";

const TEXT_3_2: &str = "rsync  version v3.2.3  protocol version 31
Capabilities:
    64-bit files, socketpairs, hardlinks, hardlink-specials, ACLs, xattrs, optional protect-args, iconv, stop-at
Optimizations:
    SIMD, no asm
Checksum list:
    xxh64 (xxhash) md5 md4 none
Compress list:
    zstd lz4 zlibx zlib none
";

#[track_caller]
fn lacks(said: &str, opts: &[&str], expected: &[&str]) {
    let build = Build::parse(said).expect("an rsync");
    let opts: Vec<OsString> = opts.iter().map(OsString::from).collect();
    assert_eq!(build.lacks(&opts), expected, "{opts:?}");
}

#[test]
fn options_are_held_against_how_an_rsync_was_built() {
    lacks(JSON, &["-aAXHz", "--zc=zstd", "--cc", "xxh128", "--mkpath", "-U"], &[]);
    lacks(
        JSON,
        &["-N", "--zc=lz4"],
        &["--crtimes (it was built without creation times)", "--zc=lz4 (it was built without lz4)"],
    );
    lacks(OLD, &["-aXH", "-z", "--zc=zlib"], &[]);
    lacks(
        OLD,
        &["-aA", "--compress-choice", "zstd", "--mkpath", "--checksum-choice=xxh64"],
        &[
            "--acls (it was built without ACLs)",
            "--checksum-choice=xxh64 (it was built without xxh64)",
            "--compress-choice=zstd (it was built without zstd)",
            "--mkpath (since 3.2.3)",
        ],
    );
    lacks(OLD, &["--no-A", "-a"], &[]);
    lacks(&TEXT_3_2.replace("version v", "version "), &["-AX", "--zc=zstd", "--cc=xxh64,md5", "--mkpath"], &[]);
    lacks(
        &TEXT_3_2.replace("version v", "version "),
        &["--fsync", "--cc=xxh128"],
        &["--cc=xxh128 (it was built without xxh128)", "--fsync (since 3.2.4)"],
    );
}

#[test]
fn the_rsync_of_this_host_is_read_in_both_ways() {
    let said = |argument: &str| {
        let output = std::process::Command::new("rsync").arg(argument).output().expect("rsync is installed").stdout;
        Build::parse(&String::from_utf8(output).expect("UTF-8")).expect("an rsync")
    };
    let (text, json) = (said("--version"), said("-VV"));
    assert_eq!((text.version, &text.compress, text.can("acls")), (json.version, &json.compress, json.can("acls")));
    assert!(json.can("xattrs") && json.can("hardlinks"), "{json:?}");
}

#[track_caller]
fn security(said: &str, package: &str, grade: &str, expected: &str) {
    let rsync = Installed {
        program: "rsync".into(),
        path: "/usr/bin/rsync".into(),
        said: said.into(),
        package: package.into(),
        system: "Debian".into(),
    };
    let findings = judge("here", &rsync, &[]);
    let finding = findings.iter().find(|finding| finding.check == Check::RsyncSecurity).expect("judged").to_string();
    assert!(finding.starts_with(grade) && finding.contains(expected), "{finding}");
}

#[test]
fn what_is_not_known_of_a_distribution_s_package_is_said_so() {
    security(JSON, "3.5.0+ds1-0+deb12u1", "ok", "3.5.0 has the fixes");
    security(OLD, "", "warn", "not from a package that might have them; install 3.5.0");
    security(OLD, "3.1.3-19.el8", "warn", "cannot tell: 3.1.3 is older than 3.5.0");
    security(
        &OLD.replace("3.1.3", "3.2.7"),
        "3.2.7-1+deb12u6",
        "warn",
        "older than the fix for it, 3.5.0+ds1-0+deb12u1",
    );
}

#[test]
fn no_rsync_and_no_rsync_at_all_are_told_apart() {
    let judged = |program: &str, said: &str| {
        let rsync = Installed { program: program.into(), said: said.into(), ..Installed::default() };
        judge("u@h:22", &rsync, &[])[0].to_string()
    };
    assert_eq!(
        judged("rsync", "sh: 1: rsync: not found\n"),
        "fail  u@h:22  rsync: there is no rsync in the PATH; install it, by `apt install rsync` or as the system there does"
    );
    assert!(judged("sudo rsync", "sudo: a password is required\n").contains("but \"sudo: a password is required\""));
    assert!(
        judged("rsync", "rsync  version 3.0.9  protocol version 30\nCapabilities:\n    ACLs\n").contains("too old")
    );
}
