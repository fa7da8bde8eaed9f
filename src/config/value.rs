//! What a scalar's text means where a number, a duration or a word of ours is wanted. Pure.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// How durations are described in messages.
pub(super) const A_DURATION: &str = "a duration: a number of seconds, or text like \"90s\", \"10m\", \"2h\", \"1d\"";

/// Longer than anyone waits, and far from overflowing anything that is computed with it: 100 years.
const LONGEST: f64 = 100.0 * 366.0 * 86_400.0;

/// A duration of at least zero: a number of seconds (with a fraction, if need be), or numbers with units, as `1h 30m`.
/// A day is 24 hours.
pub(super) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let seconds = number(text).or_else(|| with_units(text))?;
    (seconds <= LONGEST).then(|| Duration::from_secs_f64(seconds))
}

fn with_units(text: &str) -> Option<f64> {
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (count, tail) = rest.split_at(digits);
        let tail = tail.trim_start();
        let (unit, tail) = tail.split_at(tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len()));
        sum += number(count)? * unit_seconds(unit)?;
        rest = tail.trim_start();
    }
    (!text.is_empty()).then_some(sum)
}

fn unit_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "ms" => 0.001,
        "s" | "sec" | "secs" | "second" | "seconds" => 1.0,
        "m" | "min" | "mins" | "minute" | "minutes" => 60.0,
        "h" | "hour" | "hours" => 3600.0,
        "d" | "day" | "days" => 86_400.0,
        "w" | "week" | "weeks" => 604_800.0,
        _ => return None,
    })
}

/// A decimal number without sign or exponent.
fn number(text: &str) -> Option<f64> {
    let is_plain = text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(|c| matches!(c, '0'..='9' | '.'));
    is_plain.then(|| text.parse().ok()).flatten()
}

/// A whole number.
pub(super) fn integer<T: std::str::FromStr>(text: &str) -> Option<T> {
    let text = text.trim();
    text.strip_prefix('-')
        .unwrap_or(text)
        .starts_with(|c: char| c.is_ascii_digit())
        .then(|| text.parse().ok())
        .flatten()
}

/// How sizes are described in messages.
pub(super) const A_SIZE: &str = "a size: a number of bytes, or text like \"64K\", \"256M\", \"2G\"";

/// A size in bytes: a number, alone or with `K`, `M`, `G` or `T` for units of 1024, as rsync reads it.
pub(super) fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let letters = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (count, unit) = text.split_at(letters);
    let power = match unit.to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 1,
        "M" | "MB" | "MIB" => 2,
        "G" | "GB" | "GIB" => 3,
        "T" | "TB" | "TIB" => 4,
        _ => return None,
    };
    let bytes = number(count.trim())? * 1024_f64.powi(power);
    (bytes <= 1e15).then_some(bytes as u64)
}

/// A TCP port that one can connect to.
pub(super) fn port(text: &str) -> Option<u16> {
    integer(text).filter(|port| *port > 0)
}

/// Whether a text can be a host's name or address: without brackets, and nothing that ssh would take for an option.
pub(super) fn is_host(text: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    !text.is_empty() && !text.starts_with('-') && text.chars().all(is_part)
}

/// Whether a text can be a login name.
pub(super) fn is_login_name(text: &str) -> bool {
    let is_odd = |c: char| c.is_control() || c.is_whitespace() || c == '/';
    !text.is_empty() && !text.starts_with('-') && !text.contains(is_odd)
}

/// A truth value as YAML 1.1 has them, which the old program's files were.
pub(super) fn boolean(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "yes" | "on" => Some(true),
        "false" | "no" | "off" => Some(false),
        _ => None,
    }
}

/// An address to listen on.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    match text.trim() {
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        text => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        let check =
            |text, millis: Option<u64>| assert_eq!(duration(text), millis.map(Duration::from_millis), "{text:?}");
        check("0", Some(0));
        check("30", Some(30_000));
        check(" 1.5 ", Some(1500));
        check("90s", Some(90_000));
        check("250ms", Some(250));
        check("10m", Some(600_000));
        check("2 hours", Some(7_200_000));
        check("1h30m", Some(5_400_000));
        check("1h 30m", Some(5_400_000));
        check("1d", Some(86_400_000));
        check("2 weeks", Some(1_209_600_000));
        for wrong in ["", "-1", "s", "10x", "1e3", "inf", "nan", ".5", "1..2", "5 10", "10M", "99999999999999"] {
            check(wrong, None);
        }
    }

    #[test]
    fn numbers_and_words() {
        assert_eq!(port("22"), Some(22));
        assert_eq!(port(" 22000 "), Some(22000));
        for wrong in ["0", "70000", "-1", "22.0", "", "ssh", "+22"] {
            assert_eq!(port(wrong), None, "{wrong}");
        }
        assert_eq!(integer::<i32>("-1"), Some(-1));
        assert_eq!(boolean("Yes"), Some(true));
        assert_eq!(boolean("off"), Some(false));
        assert_eq!(boolean("1"), None);
        assert_eq!(address("localhost"), Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!(address("::"), "::".parse().ok());
        assert_eq!(address("example.org"), None);
    }
}
