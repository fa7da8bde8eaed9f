//! `${NAME}` in paths, options and arguments. Pure: the environment is an argument.
//!
//! `$${` is a literal `${`. Nothing else of a shell's language is understood: no `$NAME`, no defaults, no commands.

use std::ffi::{OsStr, OsString};

/// Why a `${…}` cannot be replaced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The reference as it is written, to find its place with.
    pub reference: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

/// Replaces each `${NAME}` by the variable's value, which may be any bytes.
pub(super) fn variables(text: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Result<OsString, Problem> {
    let mut out = OsString::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            out.push(&rest[..at]);
            out.push("{");
            rest = &rest[at + 2..];
            continue;
        }
        out.push(&rest[..at]);
        let (value, len) = reference(&rest[at..], env)?;
        out.push(value);
        rest = &rest[at + len..];
    }
    out.push(rest);
    Ok(out)
}

/// The value of the reference at the beginning of `text`, and how long the reference is.
fn reference(text: &str, env: &dyn Fn(&str) -> Option<OsString>) -> Result<(OsString, usize), Problem> {
    let Some(end) = text.find('}') else {
        return Err(Problem {
            reference: "${".to_owned(),
            message: "`${` without its `}`".to_owned(),
            help: Some("write `${NAME}` for an environment variable, `$${` for a literal `${`".to_owned()),
        });
    };
    let (name, reference) = (&text[2..end], &text[..=end]);
    if !is_name(name) {
        return Err(Problem {
            reference: reference.to_owned(),
            message: format!("`{}` is not the name of an environment variable", name.escape_debug()),
            help: Some("only `${NAME}` is understood; write `$${` for a literal `${`".to_owned()),
        });
    }
    match env(name) {
        Some(value) if !has_nul(&value) => Ok((value, reference.len())),
        _ => Err(Problem {
            reference: reference.to_owned(),
            message: format!("the environment variable {name} is not set"),
            help: Some("set it, for a service in its EnvironmentFile; `$${` is a literal `${`".to_owned()),
        }),
    }
}

fn has_nul(value: &OsStr) -> bool {
    value.as_encoded_bytes().contains(&0)
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The names that follow a `$` without braces.
pub(super) fn bare_variables(text: &str) -> impl Iterator<Item = &str> {
    text.split('$').skip(1).filter_map(|after| {
        let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
        Some(&after[..end]).filter(|name| is_name(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<OsString> {
        match name {
            "HOME" => Some("/home/ann".into()),
            "EMPTY" => Some("".into()),
            _ => None,
        }
    }

    fn check(text: &str, expected: Result<&str, &str>) {
        let found = variables(text, &env).map_err(|problem| problem.reference);
        assert_eq!(found, expected.map(OsString::from).map_err(str::to_owned), "{text}");
    }

    #[test]
    fn variables_in_braces_are_replaced_and_nothing_else() {
        check("${HOME}/a", Ok("/home/ann/a"));
        check("a${EMPTY}b${HOME}", Ok("ab/home/ann"));
        check("$HOME/a", Ok("$HOME/a"));
        check("$${HOME}", Ok("${HOME}"));
        check("a$${b${HOME}", Ok("a${b/home/ann"));
        check("100$", Ok("100$"));
        check("`id` $(id)", Ok("`id` $(id)"));
        check("${NOPE}", Err("${NOPE}"));
        check("${HOME:-/x}", Err("${HOME:-/x}"));
        check("${}", Err("${}"));
        check("${HOME", Err("${"));
    }

    #[test]
    fn bare_variables_are_seen() {
        let names = |text| bare_variables(text).collect::<Vec<_>>();
        assert_eq!(names("$HOME/$x-${y}$$z 5$"), ["HOME", "x", "z"]);
        assert_eq!(names("no dollars"), [""; 0]);
    }
}
