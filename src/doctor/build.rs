//! What an rsync says of itself, and whether that is enough. Pure.
//!
//! `rsync -VV` prints JSON from 3.2.7 on, `--version` text in every version; both are read.

use std::ffi::OsString;
use std::fmt;

use serde_json::Value;

use super::finding::{Check, Finding};
use crate::rsync::options;

/// The version that fixes the issues of 2026 (its NEWS): symbolic-link races against a privileged rsync among them.
const FIXED: Version = Version(3, 5, 0);
/// What our own arguments need: `--outbuf` (rsync's NEWS).
const OLDEST: Version = Version(3, 1, 0);

/// Distributions that brought the fixes into their releases, by the mark in the version of the package, and the first such version; their
/// changelogs are the source.
const FIXED_PACKAGES: [(&str, &str); 1] = [("+deb12u", "3.5.0+ds1-0+deb12u1")];

/// A release of rsync.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(u16, u16, u16);

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// How an rsync was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Build {
    /// Its release.
    pub version: Version,
    /// What it can and cannot do, in lower case: `acls`, `xattrs`, `hardlinks`, …
    features: Vec<(String, bool)>,
    /// Its compressions; `None` before 3.2, which had zlib only.
    compress: Option<Vec<String>>,
    /// Its checksums; `None` before 3.2.
    checksums: Option<Vec<String>>,
}

impl Build {
    /// Reads the output of `rsync -VV` or `rsync --version`; `None` when it is neither.
    pub fn parse(output: &str) -> Option<Self> {
        let json = output.find('{').and_then(|at| serde_json::from_str::<Value>(&output[at..]).ok());
        match json.filter(|json| json["program"] == "rsync") {
            Some(json) => Self::of_json(&json),
            None => Self::of_text(output),
        }
    }

    fn of_json(json: &Value) -> Option<Self> {
        let list = |key: &str| {
            let names = json[key].as_array()?.iter();
            Some(names.filter_map(|name| Some(name.as_str()?.to_owned())).collect())
        };
        let feature = |(name, value): (&String, &Value)| {
            // `secluded_args` is "optional" or "default".
            let has = value.as_bool().unwrap_or(!value.is_null());
            (normal(name), has)
        };
        Some(Self {
            version: version(json["version"].as_str()?)?,
            features: json["capabilities"].as_object()?.iter().map(feature).collect(),
            compress: list("compress_list"),
            checksums: list("checksum_list"),
        })
    }

    fn of_text(text: &str) -> Option<Self> {
        let first = text.lines().find(|line| line.starts_with("rsync  version "))?;
        let section = |title: &str| {
            let mut lines = text.lines().skip_while(|line| *line != title);
            lines.next()?;
            let body: Vec<&str> = lines.take_while(|line| line.starts_with(' ')).map(str::trim).collect();
            Some(body.join(" "))
        };
        let feature = |word: &str| match word.trim().strip_prefix("no ") {
            Some(name) => (normal(name), false),
            None => (normal(word), true),
        };
        let words = |title| Some(section(title)?.split_whitespace().map(str::to_owned).collect());
        Some(Self {
            version: version(first.split_whitespace().nth(2)?)?,
            features: section("Capabilities:")?.split(',').map(feature).collect(),
            compress: words("Compress list:"),
            checksums: words("Checksum list:"),
        })
    }

    fn can(&self, feature: &str) -> bool {
        self.features.iter().any(|(name, has)| name == feature && *has)
    }

    /// What of an rsync's options it does not know: the option, and what is missing.
    pub fn lacks(&self, opts: &[OsString]) -> Vec<String> {
        let mut lacking = Vec::new();
        for opt in options::parse(opts).iter().filter(|opt| !opt.negated) {
            let Some(entry) = opt.entry() else { continue };
            let value = opt.value.map(|value| value.to_string_lossy().into_owned()).unwrap_or_default();
            lacking.extend(self.lacks_for(entry.name, &value));
        }
        lacking.sort();
        lacking.dedup();
        lacking
    }

    fn lacks_for(&self, option: &str, value: &str) -> Option<String> {
        let feature = |feature: &str, what: &str| {
            (!self.can(feature)).then(|| format!("--{option} (it was built without {what})"))
        };
        let since = |major, minor, patch| {
            let needed = Version(major, minor, patch);
            (self.version < needed).then(|| format!("--{option} (since {needed})"))
        };
        match option {
            "acls" => feature("acls", "ACLs"),
            "xattrs" => feature("xattrs", "extended attributes"),
            "hard-links" => feature("hardlinks", "hard links"),
            "crtimes" => feature("crtimes", "creation times"),
            "atimes" => feature("atimes", "access times"),
            "iconv" => feature("iconv", "iconv"),
            "preallocate" => feature("prealloc", "preallocation"),
            "mkpath" => since(3, 2, 3),
            "open-noatime" => since(3, 2, 0),
            "fsync" => since(3, 2, 4),
            "zc" | "compress-choice" => self.lacks_choice(option, value, self.compress.as_deref(), &["zlib"]),
            "cc" | "checksum-choice" => self.lacks_choice(option, value, self.checksums.as_deref(), &["md4", "md5"]),
            _ => None,
        }
    }

    fn lacks_choice(&self, option: &str, value: &str, known: Option<&[String]>, old: &[&str]) -> Option<String> {
        let has = |name: &str| match known {
            Some(known) => known.iter().any(|known| known == name),
            None => old.contains(&name),
        };
        // Two may be given: for the transfer and before it.
        let missing = value.split(',').find(|name| !matches!(*name, "auto" | "none" | "") && !has(name))?;
        Some(format!("--{option}={missing} (it was built without {missing})"))
    }
}

/// One spelling for what JSON calls `stop_at` and text `stop-at`.
fn normal(name: &str) -> String {
    name.trim().to_lowercase().replace('-', "_")
}

fn version(text: &str) -> Option<Version> {
    let mut parts = text.split('.').map(|part| {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        part[..digits].parse::<u16>().ok()
    });
    Some(Version(parts.next()??, parts.next()??, parts.next().flatten().unwrap_or(0)))
}

/// An rsync as a host has it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Installed {
    /// What the shell starts: a word, or a line of `--rsync-path`.
    pub program: String,
    /// Where it was found, where that is one file.
    pub path: String,
    /// What it printed.
    pub said: String,
    /// The version of the package, where it is from one.
    pub package: String,
    /// The system, as its `os-release` calls it.
    pub system: String,
}

/// Judges an rsync. `ends` are the options of the syncs that use it, with their names.
pub fn judge(place: &str, rsync: &Installed, ends: &[(&str, &[OsString])]) -> Vec<Finding> {
    let Some(build) = Build::parse(&rsync.said) else {
        return vec![missing(place, rsync)];
    };
    let version = build.version;
    let at = if rsync.path.is_empty() { &rsync.program } else { &rsync.path };
    let mut findings = vec![match version < OLDEST {
        true => Finding::fail(
            Check::Rsync,
            place,
            format!("{at} is rsync {version}, which is too old to be used"),
            format!("install {OLDEST} or newer"),
        ),
        false => Finding::ok(Check::Rsync, place, format!("{at} is rsync {version}")),
    }];
    findings.push(security(place, version, rsync));
    let lacking: Vec<String> = ends
        .iter()
        .flat_map(|(name, opts)| {
            build.lacks(opts).into_iter().map(move |lack| format!("{lack}, which {name} asks for"))
        })
        .collect();
    findings.push(match lacking.is_empty() {
        true => Finding::ok(Check::RsyncFeatures, place, "it knows all that the jobs' options ask for"),
        false => Finding::fail(
            Check::RsyncFeatures,
            place,
            format!("rsync {version} does not know {}", lacking.join("; ")),
            "install an rsync that does, or leave the options out",
        ),
    });
    findings
}

fn missing(place: &str, rsync: &Installed) -> Finding {
    let said = rsync.said.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or_default();
    if rsync.program == "rsync" && rsync.path.is_empty() {
        let fix = "install it, by `apt install rsync` or as the system there does";
        return Finding::fail(Check::Rsync, place, "there is no rsync in the PATH", fix);
    }
    let text = match said {
        "" => format!("`{}` does not say that it is an rsync", rsync.program),
        said => format!("`{}` does not say that it is an rsync, but \"{said}\"", rsync.program),
    };
    Finding::fail(Check::Rsync, place, text, "see what it is there, and what `--rsync-path` names")
}

fn security(place: &str, version: Version, rsync: &Installed) -> Finding {
    let issues = format!("{FIXED}, which fixes 33 security issues");
    let package = rsync.package.as_str();
    if version >= FIXED {
        return Finding::ok(Check::RsyncSecurity, place, format!("{version} has the fixes of {FIXED}"));
    }
    if package.is_empty() {
        let text = format!("{version} is older than {issues}, and it is not from a package that might have them");
        return Finding::warn(Check::RsyncSecurity, place, text, format!("install {FIXED} or newer"));
    }
    let system = if rsync.system.is_empty() { "its system" } else { &rsync.system };
    if let Some((_, fixed)) = FIXED_PACKAGES.iter().find(|(mark, _)| package.contains(mark)) {
        let text = format!("package {package} of {system} is older than the fix for it, {fixed} ({issues})");
        return Finding::warn(Check::RsyncSecurity, place, text, "upgrade it: `apt update && apt install rsync`");
    }
    let text = format!(
        "cannot tell: {version} is older than {issues}, but {system} may have brought the fixes into its package {package}"
    );
    Finding::warn(Check::RsyncSecurity, place, text, "see the distribution's security tracker, and install its updates")
}

#[cfg(test)]
#[path = "tests/build.rs"]
mod tests;
