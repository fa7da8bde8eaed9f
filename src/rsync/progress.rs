//! rsync's `--info=progress2`: one line for the whole transfer, rewritten in place.
//!
//! `  1,238,099 100%  146.38kB/s    0:00:08  (xfr#5, to-chk=169/396)`

/// How far a running rsync is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes moved so far.
    pub bytes: u64,
    /// Share of the whole, 0 to 100, as far as rsync knows the whole.
    pub percent: u8,
    /// Bytes per second.
    pub rate: u64,
    /// Files still to check and known so far, (left, total); `None` before rsync says so.
    pub to_check: Option<(u64, u64)>,
}

/// Reads a line, with or without its end; `None` if it is anything else.
pub fn parse(line: &[u8]) -> Option<Progress> {
    // A million other lines should cost nothing.
    if !line.starts_with(b" ") && !line.starts_with(b"\r") {
        return None;
    }
    let text = std::str::from_utf8(line).ok()?;
    let mut words = text.split_ascii_whitespace();
    let bytes = super::stats::number(words.next()?)?;
    let percent = words.next()?.strip_suffix('%')?.parse().ok()?;
    let rate = rate(words.next()?)?;
    let to_check = text.split_once("-chk=").and_then(|(_, rest)| {
        let (left, total) = rest.trim_end().trim_end_matches(')').split_once('/')?;
        Some((left.parse().ok()?, total.parse().ok()?))
    });
    Some(Progress { bytes, percent, rate, to_check })
}

/// `146.38kB/s`, in units of 1024 (rsync's progress.c).
fn rate(text: &str) -> Option<u64> {
    let text = text.strip_suffix("B/s")?;
    let (value, factor) = match text.chars().last()? {
        'k' => (&text[..text.len() - 1], 1024.0),
        'M' => (&text[..text.len() - 1], 1024.0 * 1024.0),
        'G' => (&text[..text.len() - 1], 1024.0 * 1024.0 * 1024.0),
        'T' => (&text[..text.len() - 1], 1024.0 * 1024.0 * 1024.0 * 1024.0),
        _ => (text, 1.0),
    };
    Some((value.parse::<f64>().ok()? * factor) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rsyncs_lines_are_read() {
        let check = |line: &str, bytes, percent, rate, to_check| {
            assert_eq!(parse(line.as_bytes()), Some(Progress { bytes, percent, rate, to_check }), "{line:?}");
        };
        check(
            "      1,238,099 100%  146.38kB/s    0:00:08 (xfr#5, to-chk=169/396)\r",
            1_238_099,
            100,
            149_893,
            Some((169, 396)),
        );
        check("        32,768   0%    0.00kB/s    0:00:00  ", 32_768, 0, 0, None);
        check(
            " 5.24M  50%    4.99MB/s    0:00:01 (xfr#1, ir-chk=1000/1201)",
            5_240_000,
            50,
            5_232_394,
            Some((1000, 1201)),
        );
    }

    #[test]
    fn other_lines_are_not_progress() {
        for line in ["sending incremental file list", "", " a 3% b", "  12 files", "/home/x 100% of it"] {
            assert_eq!(parse(line.as_bytes()), None, "{line:?}");
        }
    }
}
