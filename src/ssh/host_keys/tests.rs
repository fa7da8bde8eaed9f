//! Every rule of known_hosts, one line per case. Public keys, certificates and hashed names were made by ssh-keygen.

use std::path::PathBuf;

use super::*;

/// A moment in 2026, seconds since the Unix epoch.
const NOW: u64 = 1_790_000_000;

/// What `text` says of a key: `known`, `unknown`, `changed LINE`, `revoked LINE`. `$ED` and the like stand for public keys.
fn judged(text: &str, host: &str, port: u16, key: &str) -> String {
    shown(keys_of(text, host, port).judge(&PublicKey::from_openssh(key).unwrap()))
}

fn keys_of(text: &str, host: &str, port: u16) -> HostKeys {
    HostKeys::read(&[(PathBuf::from("known_hosts"), filled(text))], host, port)
}

fn filled(text: &str) -> String {
    let keys = [("$ED", ED), ("$RSA", RSA), ("$EC", EC), ("$OTHER", OTHER), ("$CA", CA)];
    let names = [("$CERT_HOST", CERT_HOST), ("$HASHED_NAME", HASHED_NAME), ("$HASHED_PORT", HASHED_PORT)];
    keys.iter().chain(&names).fold(text.to_owned(), |text, (name, value)| text.replace(name, value))
}

fn shown(verdict: Verdict) -> String {
    match verdict {
        Verdict::Known => "known".into(),
        Verdict::Unknown => "unknown".into(),
        Verdict::Changed(at) => format!("changed {}", at.line),
        Verdict::Revoked(at) => format!("revoked {}", at.line),
    }
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(judged(text, "host.example", 22, ED), expected, "port 22: {text}");
}

#[track_caller]
fn check_port(text: &str, expected: &str) {
    assert_eq!(judged(text, "host.example", 2222, ED), expected, "port 2222: {text}");
}

#[test]
fn plain_names() {
    check("host.example $ED", "known");
    check("host.example $ED some comment # with a hash", "known");
    check("other.example,host.example,10.0.0.1 $ED", "known");
    check("other.example $ED", "unknown");
    check("host.example.org $ED", "unknown");
    check("xhost.example $ED", "unknown");
    check("HOST.Example $ED", "known");
    check("\t host.example \t $ED", "known");
    check("host.example $ED\r", "known");
    check("", "unknown");
    check("# host.example $ED", "unknown");
    check("  # host.example $ED", "unknown");
    assert_eq!(judged("host.example $ED", "Host.EXAMPLE", 22, ED), "known");
}

#[test]
fn several_keys_of_a_host() {
    check("host.example $RSA\nhost.example $ED", "known");
    check("host.example $OTHER\nhost.example $ED", "known");
    check("host.example $OTHER", "changed 1");
    check("host.example $RSA", "changed 1");
    check("host.example $RSA\nhost.example $EC\nhost.example $OTHER", "changed 3");
    check("other.example $ED\n\nhost.example $EC", "changed 3");
}

#[test]
fn wildcards_and_negation() {
    check("*.example $ED", "known");
    check("h?st.example $ED", "known");
    check("h?ost.example $ED", "unknown");
    check("* $ED", "known");
    check("*a*m*l* $ED", "known");
    check("*a*z* $ED", "unknown");
    check("*.example,!host.example $ED", "unknown");
    check("!host.example,*.example $ED", "unknown");
    check("!other.example,*.example $ED", "known");
    check("!other.example $ED", "unknown");
    check("!*.example,host.example $ED", "unknown");
}

#[test]
fn ports() {
    check_port("[host.example]:2222 $ED", "known");
    check_port("[host.example]:2223 $ED", "unknown");
    check_port("[*.example]:2222 $ED", "known");
    check_port("[host.example]:* $ED", "known");
    check_port("host.example $ED", "known");
    check_port("host.example $OTHER", "unknown");
    check_port("[host.example]:2222 $OTHER\nhost.example $ED", "changed 1");
    check_port("@revoked host.example $ED", "revoked 1");
    check("[host.example]:2222 $ED", "unknown");
    check("[host.example]:22 $ED", "unknown");
    assert_eq!(judged("[::1]:2222 $ED", "::1", 2222, ED), "known");
    assert_eq!(judged("::1 $ED", "::1", 22, ED), "known");
    assert_eq!(judged("::1 $ED", "0:0::0:1", 22, ED), "known");
    assert_eq!(judged("0:0::0:1 $ED", "0:0::0:1", 22, ED), "unknown");
}

#[test]
fn hashed_names() {
    check("$HASHED_NAME $ED", "known");
    check("$HASHED_NAME $OTHER", "changed 1");
    check("$HASHED_PORT $ED", "unknown");
    check_port("$HASHED_PORT $ED", "known");
    check_port("$HASHED_NAME $ED", "known");
    assert_eq!(judged("$HASHED_NAME $ED", "other.example", 22, ED), "unknown");
    // The hash of `localhost` with a salt of 16 bytes.
    let short = "|1|c2l4dGVlbiBieXRlIHNsdA==|COI4x1aQ7m2c2zeJOhTy+Cpo0Sc= $ED";
    assert_eq!(judged(short, "localhost", 22, ED), "unknown");
}

#[test]
fn markers() {
    check("@revoked host.example $ED", "revoked 1");
    check("host.example $ED\n@revoked host.example $ED", "revoked 2");
    check("@revoked * $ED\nhost.example $ED", "revoked 1");
    check("@revoked host.example $OTHER\nhost.example $ED", "known");
    check("@revoked host.example $OTHER", "unknown");
    check("@revoked other.example $ED\nhost.example $ED", "known");
    check("@cert-authority host.example $ED", "unknown");
    check("@cert-authority *.example $CA\nhost.example $ED", "known");
    check("@cert-authority *.example $CA\nhost.example $OTHER", "changed 2");
    check("@revoked\thost.example\t$ED", "revoked 1");
    check("@revoked host.example $CERT_HOST\nhost.example $ED", "revoked 1");
    check("host.example $CERT_HOST", "changed 1");
}

#[test]
fn other_names_of_a_key_type_are_read() {
    let blob = |key: &'static str| key.split(' ').nth(1).unwrap();
    check(&format!("host.example ED25519 {}", blob(ED)), "unknown");
    check(&format!("host.example rsa-sha2-512 {}", blob(ED)), "unknown");
    check(&format!("host.example ssh-ed25519 {}", blob(CERT_HOST)), "unknown");
    for name in ["rsa-sha2-512", "rsa-sha2-256", "ssh-rsa"] {
        assert_eq!(judged(&format!("@revoked * {name} {}", blob(RSA)), "host.example", 22, RSA), "revoked 1", "{name}");
    }
}

#[test]
fn only_spaces_and_tabs_separate_fields_and_only_ascii_has_two_cases() {
    check("host.example\u{c}$ED", "unknown");
    check("other $ED\rhost.example $ED", "unknown");
    assert_eq!(judged("\u{212a} $ED", "k", 22, ED), "unknown");
    let long = "x".repeat(1023);
    check(&format!("{},host.example $ED", &long[1..]), "known");
    check(&format!("{long},host.example $ED"), "unknown");
    check(&format!("host.example,!{long} $ED"), "unknown");
}

#[test]
fn a_malformed_line_is_skipped_and_named() {
    let text = "host.example\n@gibberish host.example $ED\nhost.example ssh-ed25519 AAAA\n@revoked\n\
        |1|x|y $ED\n@cert-authority\thost.example $CA\nhost.example ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIDqm1ABezgCljIYzjKroUKmdmKVWxZNrrCIHP0kpe9hD\nhost.example $ED";
    check(text, "known");
    let problems: Vec<_> = keys_of(text, "host.example", 22).malformed.iter().map(|m| (m.at.line, m.problem)).collect();
    assert_eq!(
        problems,
        [
            (1, "fields are missing"),
            (2, "unknown marker"),
            (3, "not a public key"),
            (4, "no host after the marker"),
            (5, "hashed host name is damaged"),
            (6, "a tab after the marker"),
            (7, "not a public key"),
        ]
    );
}

#[test]
fn the_files_are_read_in_order() {
    let files = [("first", filled("host.example $OTHER")), ("second", filled("\nhost.example $OTHER"))];
    let files = files.map(|(name, text)| (PathBuf::from(name), text));
    let keys = HostKeys::read(&files, "host.example", 22);
    let first = Position { file: Path::new("first").into(), line: 1 };
    assert_eq!(keys.judge(&PublicKey::from_openssh(ED).unwrap()), Verdict::Changed(first));
    let keys = HostKeys::read(&files, "host.example", 22);
    assert_eq!(keys.judge(&PublicKey::from_openssh(OTHER).unwrap()), Verdict::Known);
}

#[test]
fn known_key_types_are_asked_for_first() {
    let rsa = Algorithm::Rsa { hash: Some(HashAlg::Sha512) };
    let all = [Algorithm::Ed25519, Algorithm::Ecdsa { curve: russh::keys::EcdsaCurve::NistP256 }, rsa];
    let order = |text: &str, port| {
        let ordered = keys_of(text, "host.example", port).ordered(&all);
        ordered.iter().map(|a| a.as_str().to_owned()).collect::<Vec<_>>().join(" ")
    };
    let default = "ssh-ed25519 ecdsa-sha2-nistp256 rsa-sha2-512";
    assert_eq!(order("", 22), default);
    assert_eq!(order("host.example $RSA", 22), "rsa-sha2-512 ssh-ed25519 ecdsa-sha2-nistp256");
    assert_eq!(order("host.example $RSA\nhost.example $EC", 22), "ecdsa-sha2-nistp256 rsa-sha2-512 ssh-ed25519");
    assert_eq!(order("other.example $RSA", 22), default);
    assert_eq!(order("@cert-authority host.example $RSA\n@revoked host.example $EC", 22), default);
    assert_eq!(order("[host.example]:2222 $RSA", 2222), "rsa-sha2-512 ssh-ed25519 ecdsa-sha2-nistp256");
    assert_eq!(order("host.example $RSA", 2222), default);
    let revoked = "host.example $ED\nhost.example $RSA\n@revoked * $ED";
    assert_eq!(order(revoked, 22), "rsa-sha2-512 ssh-ed25519 ecdsa-sha2-nistp256");
}

#[test]
fn host_certificates() {
    let check = |text: &str, port: u16, certificate: &str, expected: &str| {
        let certificate = Certificate::from_openssh(certificate).unwrap();
        let verdict = keys_of(text, "host.example", port).judge_certificate(&certificate, "host.example", NOW);
        assert_eq!(shown(verdict), expected, "{text}");
    };
    let authority = "@cert-authority *.example $CA";
    check(authority, 22, CERT_HOST, "known");
    check(authority, 2222, CERT_HOST, "known");
    check(authority, 22, CERT_WILD, "unknown");
    check(authority, 22, CERT_ANY, "known");
    check(authority, 22, CERT_ELSEWHERE, "unknown");
    check(authority, 22, CERT_EXPIRED, "unknown");
    check(authority, 22, CERT_USER, "unknown");
    check("@cert-authority *.org $CA", 22, CERT_HOST, "unknown");
    check("@cert-authority *.example $OTHER", 22, CERT_HOST, "unknown");
    check("host.example $CA", 22, CERT_HOST, "changed 1");
    check("host.example $ED", 22, CERT_HOST, "known");
    check("@cert-authority * $CA\n@revoked * $CA", 22, CERT_HOST, "revoked 2");
    check("@cert-authority * $CA\n@revoked * $ED", 22, CERT_HOST, "revoked 2");
    check("@revoked * $CA\nhost.example $ED", 22, CERT_HOST, "revoked 1");
    let wanted = |text: &str| keys_of(text, "host.example", 22).wants_certificates();
    assert!(wanted(authority));
    assert!(wanted("@revoked * $CA\nhost.example $ED"));
    assert!(!wanted("host.example $CA\n@cert-authority *.org $CA"));
}

const ED: &str = "\
    ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKb+gS+/Xt+nhe8ugT9yLO1UefZEl/Zo7cX22wGWoxU4";
const RSA: &str = "\
    ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDJiEF46H/kmqT0/nCJM0VV4TjfWp4e7nC+KQ16HhrCE8AbTs11mgHJ3P5N2Jr0Suxd\
    g5kxZlQqJkFs6IBIY7/GGeNdpze06L8CnIQSN2f4igbs+Rw2TBUl+YS5d/odvg2QX9+znN4FLEsAfYI01hkBGhpJDz6C0j+RwyLnpza4\
    DDM0s5PFBpGjmhn0VW568RkOIDBmKD2Rpl9XjIe4daxCeq6rX7xRFkdXW2SJwHzeKbynlqnEYHNrgHni9EINUwLrbF38qMjGWYa8OaNT\
    /6mYsMX4KW/pLNDQCJd+FH3I/bZhO7ZgVcRP9f6cEeWftAfLk1PvK0nwGPYCEVEF52KxSoty3yes2/l4wMAI/K/NicTzVEJr7VAcYP3k\
    cRfhntqZLgPeTvLdu9jC6ycWO4PDKUpRaufdqDZ0ldzEs7vNQVj1aE0bhGYC4RwwSdB0FiMICo70b7Y7WaACs7PXtVqRHjVUvddlIfBa\
    Sg3clrsa28V44695gtWj8OfdjzkXas0=";
const EC: &str = "\
    ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBJM0NBEK/Vb8mZzzuRxobrBhaJ64Unru\
    pBnBxqKNgzEnAzIfUDo0bPSYXz1Fp4383X0pPU8oCLMusMha2QdnMts=";
const OTHER: &str = "\
    ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDqm1ABezgCljIYzjKroUKmdmKVWxZNrrCIHP0kpe9hD";
const CA: &str = "\
    ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEWt3BgTLCmMDQvR35IbHWxVgVBxX9smWKP6c2Iqkuql";
/// `host.example`
const HASHED_NAME: &str = "|1|YyzAmgpHGz1LRlRQAvg5RixpF4s=|GcVlGAtv6icDiZxi1ELMG6d/Xg4=";
/// `[host.example]:2222`
const HASHED_PORT: &str = "|1|PAkYIq93IcnV9wqMV7bspUJUEZE=|xLzErbwtKZ5LEZOV33/pFMzfk94=";

// A host certificate is for the key `ED`, signed by `CA`, valid for ever unless it says otherwise.
/// `-h -n host.example`
const CERT_HOST: &str = "\
    ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAILxquSTrxl0aXCjKbL/\
    01pGkeLlsOmQPJiTyTG5JfVzCAAAAIKb+gS+/Xt+nhe8ugT9yLO1UefZEl/Zo7cX22wGWoxU4AAAAAAAAAAAAAAACAAAAAXQAAAAQAAA\
    ADGhvc3QuZXhhbXBsZQAAAAAAAAAA//////////8AAAAAAAAAAAAAAAAAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIEWt3BgTLCmMDQvR35I\
    bHWxVgVBxX9smWKP6c2IqkuqlAAAAUwAAAAtzc2gtZWQyNTUxOQAAAECbXFwcEUXdA0Uoc6NrVFjAMPgvmeWQkm8gvGLFSIY9cCrV18w\
    P9hnOsoOXI4fAZkqfrXJjvrjWKzT0UwfOjrwG";
/// `-h -n *.example`
const CERT_WILD: &str = "\
    ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIEBYIhBNs/g6mdIqLrj\
    XbeyMHalL4WJy+EoBwwyXXRjrAAAAIKb+gS+/Xt+nhe8ugT9yLO1UefZEl/Zo7cX22wGWoxU4AAAAAAAAAAAAAAACAAAAAXQAAAANAAA\
    ACSouZXhhbXBsZQAAAAAAAAAA//////////8AAAAAAAAAAAAAAAAAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIEWt3BgTLCmMDQvR35IbHWx\
    VgVBxX9smWKP6c2IqkuqlAAAAUwAAAAtzc2gtZWQyNTUxOQAAAEAE96LMNRxEGEPgK8Td6x0JMfev27AZsDmpFlkcCkq5cZJbDdvOxSY\
    OBgIyI3FrP5VEM9J8oaWnkSbUU/P+Zj0L";
/// `-h -n elsewhere.example`
const CERT_ELSEWHERE: &str = "\
    ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAICfgBUe9lAW1fnT/a7i\
    YclRrRAWTA+kz69hcspI1s47yAAAAIKb+gS+/Xt+nhe8ugT9yLO1UefZEl/Zo7cX22wGWoxU4AAAAAAAAAAAAAAACAAAAAXQAAAAVAAA\
    AEWVsc2V3aGVyZS5leGFtcGxlAAAAAAAAAAD//////////wAAAAAAAAAAAAAAAAAAADMAAAALc3NoLWVkMjU1MTkAAAAgRa3cGBMsKYw\
    NC9HfkhsdbFWBUHFf2yZYo/pzYiqS6qUAAABTAAAAC3NzaC1lZDI1NTE5AAAAQBefjljrZLLihoVteyO/wnCfyLYpBgG1Sfcaigy+zoz\
    XVYlo/I5kF06FiNafF7eH+Eu5giZrm2/flq4Xf+QXGwA=";
/// `-h`, for every host
const CERT_ANY: &str = "\
    ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIK5+qYfv3yfjAJzoc+C\
    WPRD2C+wLa8I/O3UDtqsjfeEWAAAAIKb+gS+/Xt+nhe8ugT9yLO1UefZEl/Zo7cX22wGWoxU4AAAAAAAAAAAAAAACAAAAAXQAAAAAAAA\
    AAAAAAAD//////////wAAAAAAAAAAAAAAAAAAADMAAAALc3NoLWVkMjU1MTkAAAAgRa3cGBMsKYwNC9HfkhsdbFWBUHFf2yZYo/pzYiq\
    S6qUAAABTAAAAC3NzaC1lZDI1NTE5AAAAQBitqxIe78cgmFPCZ7MeAJ6edQjviKiS8QtAQs5ol5OuhvFdOeY9EfnPj5tsS/9jgA4dvF6\
    DzPxSbSm/fmYvxQY=";
/// `-h -n host.example -V 20200101:20210101`
const CERT_EXPIRED: &str = "\
    ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAICZZyV2qEE87iXAnXLh\
    mAI5gRAVdiyQakUpbjp8Gpd0pAAAAIKb+gS+/Xt+nhe8ugT9yLO1UefZEl/Zo7cX22wGWoxU4AAAAAAAAAAAAAAACAAAAAXQAAAAQAAA\
    ADGhvc3QuZXhhbXBsZQAAAABeC+EAAAAAAF/uZgAAAAAAAAAAAAAAAAAAAAAzAAAAC3NzaC1lZDI1NTE5AAAAIEWt3BgTLCmMDQvR35I\
    bHWxVgVBxX9smWKP6c2IqkuqlAAAAUwAAAAtzc2gtZWQyNTUxOQAAAEC2V0+0TofT89J/UmWETaQ4pyWDCbq0tVf1g6XsVQiMHYkclZ/\
    cT1MGtjl9bm4cXX1cA//2Pfejnhh+n1lJR7kJ";
/// `-n host.example`, a user's
const CERT_USER: &str = "\
    ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29tAAAAIJ3CFJhrNMjSxWoT92/\
    0tU097C+/1XYXDYcklFc60Xn4AAAAIKb+gS+/Xt+nhe8ugT9yLO1UefZEl/Zo7cX22wGWoxU4AAAAAAAAAAAAAAABAAAAAXQAAAAQAAA\
    ADGhvc3QuZXhhbXBsZQAAAAAAAAAA//////////8AAAAAAAAAggAAABVwZXJtaXQtWDExLWZvcndhcmRpbmcAAAAAAAAAF3Blcm1pdC1\
    hZ2VudC1mb3J3YXJkaW5nAAAAAAAAABZwZXJtaXQtcG9ydC1mb3J3YXJkaW5nAAAAAAAAAApwZXJtaXQtcHR5AAAAAAAAAA5wZXJtaXQ\
    tdXNlci1yYwAAAAAAAAAAAAAAMwAAAAtzc2gtZWQyNTUxOQAAACBFrdwYEywpjA0L0d+SGx1sVYFQcV/bJlij+nNiKpLqpQAAAFMAAAA\
    Lc3NoLWVkMjU1MTkAAABAq7L3Abd2ZDIVRrSS/jgvD0FjbBDpnUdXPLhtpWPC50XgTXObmV+SmAWSiUMOJT06fuYNxs+GkwFmLRpOkN6\
    oDQ==";
