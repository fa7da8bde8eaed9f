//! The page's text.
//!
//! Prometheus 2.x stores the value of `le` as it reads it, so that `le="1"` and `le="1.0"` are two series. The crate
//! writes `1`; the Python client, which the old program used, and Go's OpenMetrics, which Prometheus 3.x normalises to,
//! write `1.0`, and `1.2096e+06` from a million on. The page writes the latter.

use prometheus::{Registry, TextEncoder};

const LE: &str = "le=\"";

/// Every series of a registry in the text format 0.0.4.
pub(super) fn encode(registry: &Registry) -> String {
    let text = TextEncoder::new()
        .encode_to_string(&registry.gather())
        .expect("gathered families have names and series, and writing to a string does not fail");
    let mut page = String::with_capacity(text.len() + text.len() / 16);
    for line in text.lines() {
        match split_at_bound(line) {
            Some((before, bound, after)) => page.extend([before, &go_float(bound), after]),
            None => page.push_str(line),
        }
        page.push('\n');
    }
    page
}

/// Splits the line of a histogram's bucket around the value of `le`; `None` for every other line and for `+Inf`.
///
/// `le` is a bucket's last label, so the last `le="` of such a line is it, whatever the values of other labels contain.
fn split_at_bound(line: &str) -> Option<(&str, f64, &str)> {
    let (name, _) = line.split_once('{')?;
    if line.starts_with('#') || !name.ends_with("_bucket") {
        return None;
    }
    let start = line.rfind(LE)? + LE.len();
    let end = start + line[start..].find('"')?;
    let bound: f64 = line[start..end].parse().ok()?;
    bound.is_finite().then_some((&line[..start], bound, &line[end..]))
}

/// A positive number as Go and the Python client write it in `le`: always with a fraction or an exponent, the latter from
/// a million on.
fn go_float(value: f64) -> String {
    if value < 1e6 {
        return format!("{value:?}");
    }
    let scientific = format!("{value:e}");
    match scientific.split_once('e') {
        Some((mantissa, exponent)) => format!("{mantissa}e+{exponent:0>2}"),
        None => scientific,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::registrar::Registrar;

    #[test]
    fn bounds_are_written_as_the_python_client_wrote_them() {
        let cases = [
            (0.01, "0.01"),
            (0.5, "0.5"),
            (1.0, "1.0"),
            (60.0, "60.0"),
            (604_800.0, "604800.0"),
            (1_000_000.0, "1e+06"),
            (1_209_600.0, "1.2096e+06"),
        ];
        for (value, expected) in cases {
            assert_eq!(go_float(value), expected);
        }
    }

    #[test]
    fn only_the_bound_of_a_bucket_is_rewritten() {
        let registrar = Registrar::new();
        registrar.histograms("h", "Says le=\"1\".", &["file"]).with_label_values(&["le=\"1\",le="]).observe(0.7);
        registrar.counters("c_bucket_total", "C.", &["le"]).with_label_values(&["1"]).inc();
        let page = encode(&registrar.into_registry());
        let kept = [
            "# HELP h Says le=\"1\".",
            "h_bucket{file=\"le=\\\"1\\\",le=\",le=\"0.5\"} 0",
            "h_bucket{file=\"le=\\\"1\\\",le=\",le=\"1.0\"} 1",
            "h_bucket{file=\"le=\\\"1\\\",le=\",le=\"1.2096e+06\"} 1",
            "h_bucket{file=\"le=\\\"1\\\",le=\",le=\"+Inf\"} 1",
            "h_sum{file=\"le=\\\"1\\\",le=\"} 0.7",
            "c_bucket_total{le=\"1\"} 1",
        ];
        for line in kept {
            assert!(page.lines().any(|l| l == line), "no line {line} in\n{page}");
        }
    }
}
