//! Durations and sizes as people read them.

use std::time::Duration;

/// `45 ms`, `3.2 s`, `42 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`: two units at most, the smaller one left out when it is 0.
pub fn duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis < 1000 {
        return format!("{millis} ms");
    }
    let tenths = (millis + 50) / 100;
    if tenths < 100 && !tenths.is_multiple_of(10) {
        return format!("{}.{} s", tenths / 10, tenths % 10);
    }
    let seconds = (millis + 500) / 1000;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86400, "d", seconds % 86400 / 3600, "h"),
    }
}

fn two(large: u128, large_unit: &str, small: u128, small_unit: &str) -> String {
    match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    }
}

/// `999 B`, `3.4 MB`, `120 GB`: decimal units, as rsync's `-h` has them.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["kB", "MB", "GB", "TB", "PB", "EB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    // Half of the last digit that is shown, so that 999,960 is 1.0 MB and not 1000 kB.
    let mut value = bytes as f64 / 1000.0;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let digits = usize::from(value < 99.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// `1 file`, `12 files`.
pub fn count(n: u64, one: &str, many: &str) -> String {
    format!("{n} {}", if n == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_two_units_at_most() {
        let table = [
            (0, "0 ms"),
            (45, "45 ms"),
            (999, "999 ms"),
            (1000, "1 s"),
            (3249, "3.2 s"),
            (9949, "9.9 s"),
            (9950, "10 s"),
            (30_000, "30 s"),
            (59_499, "59 s"),
            (59_500, "1 min"),
            (185_000, "3 min 5 s"),
            (3_599_600, "1 h"),
            (7_800_000, "2 h 10 min"),
            (273_600_000, "3 d 4 h"),
        ];
        for (millis, expected) in table {
            assert_eq!(duration(Duration::from_millis(millis)), expected, "{millis} ms");
        }
    }

    #[test]
    fn sizes_have_three_digits_or_so() {
        let table = [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (3_400_000, "3.4 MB"),
            (99_940, "99.9 kB"),
            (99_960, "100 kB"),
            (999_960, "1.0 MB"),
            (120_000_000_000, "120 GB"),
            (u64::MAX, "18.4 EB"),
        ];
        for (n, expected) in table {
            assert_eq!(bytes(n), expected, "{n}");
        }
    }
}
