//! Values of ssh_config(5) that need more than one look.

use std::time::Duration;

use super::{Place, Placed, Way, jump};

/// Why a line cannot be used.
pub(super) type Wrong = String;

/// The first value holds.
pub(super) fn keep<T>(slot: &mut Option<T>, value: T) {
    slot.get_or_insert(value);
}

/// Files; `none` is none of them.
pub(super) fn files(arguments: &[String], at: &Place) -> Result<Placed<Vec<String>>, Wrong> {
    let is_none = |file: &String| file.eq_ignore_ascii_case("none");
    match arguments {
        [] => Err("no file".to_owned()),
        files if files.iter().any(String::is_empty) => Err("a file's name is empty".to_owned()),
        [_, _, ..] if arguments.iter().any(is_none) => Err("`none` must stand alone".to_owned()),
        [one] if is_none(one) => Ok(Placed { value: Vec::new(), at: at.clone() }),
        files => Ok(Placed { value: files.to_vec(), at: at.clone() }),
    }
}

/// The value of `ProxyJump`, which is the rest of the line up to a `#`.
pub(super) fn way(rest: &str) -> Option<Way> {
    let text = rest.split('#').next().unwrap_or_default().trim();
    if text.eq_ignore_ascii_case("none") { Some(Way::Direct) } else { jump::jumps(text).map(Way::Jumps) }
}

/// A time as ssh reads it (sshd_config(5), TIME FORMATS): seconds, or numbers with units. The inner `None` is no bound.
pub(super) fn timeout(text: &str) -> Option<Option<Duration>> {
    if text.eq_ignore_ascii_case("none") {
        return Some(None);
    }
    let (mut seconds, mut rest) = (0u64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let number: u64 = rest[..digits].parse().ok()?;
        let mut tail = rest[digits..].chars();
        let unit = match tail.next().map(|unit| unit.to_ascii_lowercase()) {
            None | Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3600,
            Some('d') => 86_400,
            Some('w') => 604_800,
            Some(_) => return None,
        };
        seconds = seconds.checked_add(number.checked_mul(unit)?)?;
        rest = tail.as_str();
    }
    let fits = !text.is_empty() && i32::try_from(seconds).is_ok();
    fits.then(|| Some(Duration::from_secs(seconds)).filter(|time| !time.is_zero()))
}
