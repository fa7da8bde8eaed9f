//! Which keywords of ssh_config(5) matter to a connection that does not follow them.

use super::Remedy;

/// What follows from a keyword that is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weight {
    /// It would change whether or how the host is reached.
    Matters(Remedy),
    /// It would not.
    Harmless,
    /// We have not heard of it.
    Unknown,
}

/// Keywords that only ssh itself can follow, with the values that ask for nothing.
const FOR_OPENSSH: &[(&str, &[&str])] = &[
    ("bindaddress", &[]),
    ("bindinterface", &[]),
    ("canonicalizehostname", &["no", "false"]),
    ("casignaturealgorithms", &[]),
    ("ciphers", &[]),
    ("hostkeyalgorithms", &[]),
    ("identityagent", &["SSH_AUTH_SOCK"]),
    ("kexalgorithms", &[]),
    ("knownhostscommand", &["none"]),
    ("macs", &[]),
    ("pkcs11provider", &["none"]),
    ("proxycommand", &["none"]),
    ("pubkeyacceptedalgorithms", &[]),
    ("pubkeyacceptedkeytypes", &[]),
    ("smartcarddevice", &["none"]),
];

/// Keywords that only ssh itself follows and that have a counterpart with the director, with the values that ask for nothing.
const ADVICE: &[(&str, &[&str], &str)] = &[
    (
        "certificatefile",
        &["none"],
        "a certificate is found beside its key, in the file with `-cert.pub`, or in the agent",
    ),
    ("nohostauthenticationforlocalhost", &["no", "false"], "list the host's key in known_hosts"),
    ("pubkeyauthentication", &["yes", "true"], "the director logs in by public key only"),
    ("revokedhostkeys", &["none"], "list the keys in known_hosts, marked `@revoked`"),
    ("verifyhostkeydns", &["no", "false"], "list the host's key in known_hosts"),
];

/// Keywords without a bearing on whether a host is reached, or on whom we take it for.
const HARMLESS: &[&str] = &[
    "addkeystoagent",
    "batchmode",
    "canonicaldomains",
    "canonicalizefallbacklocal",
    "canonicalizemaxdots",
    "canonicalizepermittedcnames",
    "challengeresponseauthentication",
    "channeltimeout",
    "checkhostip",
    "cipher",
    "clearallforwardings",
    "compression",
    "compressionlevel",
    "connectionattempts",
    "controlmaster",
    "controlpath",
    "controlpersist",
    "dynamicforward",
    "enableescapecommandline",
    "enablesshkeysign",
    "escapechar",
    "exitonforwardfailure",
    "fallbacktorsh",
    "fingerprinthash",
    "forkafterauthentication",
    "forwardagent",
    "forwardx11",
    "forwardx11timeout",
    "forwardx11trusted",
    "gatewayports",
    "gssapiauthentication",
    "gssapiclientidentity",
    "gssapidelegatecredentials",
    "gssapikexalgorithms",
    "gssapikeyexchange",
    "gssapirenewalforcesrekey",
    "gssapiserveridentity",
    "gssapitrustdns",
    "hashknownhosts",
    "hostbasedacceptedalgorithms",
    "hostbasedauthentication",
    "hostbasedkeytypes",
    "ipqos",
    "kbdinteractiveauthentication",
    "kbdinteractivedevices",
    "keepalive",
    "localcommand",
    "localforward",
    "loglevel",
    "logverbose",
    "numberofpasswordprompts",
    "obscurekeystroketiming",
    "passwordauthentication",
    "permitlocalcommand",
    "permitremoteopen",
    "protocol",
    "proxyusefdpass",
    "rekeylimit",
    "remotecommand",
    "remoteforward",
    "requesttty",
    "requiredrsasize",
    "rhostsrsaauthentication",
    "rsaauthentication",
    "securitykeyprovider",
    "sendenv",
    "serveralivecountmax",
    "serveraliveinterval",
    "sessiontype",
    "setenv",
    "skeyauthentication",
    "stdinnull",
    "streamlocalbindmask",
    "streamlocalbindunlink",
    "syslogfacility",
    "tag",
    "tcpkeepalive",
    "tisauthentication",
    "tunnel",
    "tunneldevice",
    "updatehostkeys",
    "useprivilegedport",
    "useroaming",
    "usersh",
    "userpasswd",
    "versionaddendum",
    "visualhostkey",
    "warnweakcrypto",
    "xauthlocation",
];

/// Keywords whose values are followed; the reader has them in its own match.
const FOLLOWED: &[&str] = &[
    "addressfamily",
    "connecttimeout",
    "globalknownhostsfile",
    "hostkeyalias",
    "hostname",
    "identitiesonly",
    "identityfile",
    "identityfile2",
    "include",
    "port",
    "proxyjump",
    "user",
    "userknownhostsfile",
];

/// Whether a keyword (in lower case) with these arguments matters although it is not followed.
pub(super) fn weight(keyword: &str, arguments: &[String]) -> Weight {
    let says_nothing = |nothing: &[&str]| {
        arguments.first().is_some_and(|first| nothing.iter().any(|word| first.eq_ignore_ascii_case(word)))
    };
    if keyword == "preferredauthentications" {
        let has_ours = arguments.first().is_some_and(|list| list.split(',').any(|method| method == "publickey"));
        return if has_ours { Weight::Harmless } else { Weight::Matters(Remedy::OpenSsh) };
    }
    if keyword == "stricthostkeychecking" {
        let is_ours = says_nothing(&["yes", "true", "ask"]);
        return if is_ours { Weight::Harmless } else { Weight::Matters(Remedy::HostKeyPolicy) };
    }
    if let Some((_, nothing)) = FOR_OPENSSH.iter().find(|(name, _)| *name == keyword) {
        return if says_nothing(nothing) { Weight::Harmless } else { Weight::Matters(Remedy::OpenSsh) };
    }
    if let Some((_, nothing, advice)) = ADVICE.iter().find(|(name, ..)| *name == keyword) {
        return if says_nothing(nothing) { Weight::Harmless } else { Weight::Matters(Remedy::Followed(advice)) };
    }
    if HARMLESS.contains(&keyword) { Weight::Harmless } else { Weight::Unknown }
}

/// Whether a line would matter in a block that cannot be judged.
pub(super) fn would_matter(keyword: &str, arguments: &[String]) -> bool {
    FOLLOWED.contains(&keyword) || matches!(weight(keyword, arguments), Weight::Matters(_))
}

/// A keyword as ssh_config(5) spells it, as far as that is known here.
pub(super) fn spelled(keyword: &str) -> &str {
    const SPELLED: &[&str] = &[
        "BindAddress",
        "BindInterface",
        "CanonicalizeHostname",
        "CASignatureAlgorithms",
        "CertificateFile",
        "Ciphers",
        "HostKeyAlgorithms",
        "IdentityAgent",
        "KexAlgorithms",
        "KnownHostsCommand",
        "MACs",
        "NoHostAuthenticationForLocalhost",
        "PKCS11Provider",
        "PreferredAuthentications",
        "PubkeyAcceptedAlgorithms",
        "PubkeyAcceptedKeyTypes",
        "PubkeyAuthentication",
        "RevokedHostKeys",
        "SmartcardDevice",
        "StrictHostKeyChecking",
        "VerifyHostKeyDNS",
    ];
    SPELLED.iter().find(|name| name.eq_ignore_ascii_case(keyword)).copied().unwrap_or(keyword)
}
