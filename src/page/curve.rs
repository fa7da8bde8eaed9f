//! How a value of a replica went over time: a curve with its words, and a small one for a table.

use jiff::Timestamp;

use super::Seen;
use super::html::{Decimal, Html, put};
use super::parts::{self, between};

/// Width and height of a curve in the units of its view box; the style sheet stretches it.
const SIZE: (f64, f64) = (600.0, 72.0);
/// Those of a small one.
const SMALL: (f64, f64) = (96.0, 20.0);
/// So many points are drawn at most; of those that fall together the worst is.
const POINTS: usize = 150;

/// A value at a time.
pub(super) type At = (Timestamp, f64);

/// How a curve is drawn.
pub(super) struct Curve {
    /// What it shows.
    pub title: &'static str,
    /// Whether more is worse; else less is.
    pub more_is_worse: bool,
    /// The value at the upper edge, if it is not the greatest.
    pub top: Option<f64>,
}

/// A curve from the first point to now.
pub(super) fn curve(html: &mut Html, curve: &Curve, points: &[At], seen: &Seen<'_>, say: impl Fn(f64) -> String) {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return };
    let points = thinned(points, POINTS, curve.more_is_worse);
    let worst = worst(points.iter().map(|(_, value)| *value), curve.more_is_worse);
    let bound = if curve.more_is_worse { "at most" } else { "at least" };
    put!(html, "<figure><figcaption><b>{}</b> since ", curve.title);
    parts::time(html, first.0, seen);
    put!(html, ": {} {}, now {}</figcaption>", bound, say(worst), say(last.1));
    put!(
        html,
        "<svg class=\"plot curve\" viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" aria-hidden=\"true\">",
        Decimal(SIZE.0),
        Decimal(SIZE.1)
    );
    let places = places(&points, curve.top, seen.at, SIZE);
    if let (Some(first), Some(last)) = (places.first(), places.last()) {
        put!(html, "<polygon points=\"{},{} ", Decimal(first.0), Decimal(SIZE.1));
        put_places(html, &places);
        put!(html, "{},{}\"/>", Decimal(last.0), Decimal(SIZE.1));
    }
    put!(html, "<polyline points=\"");
    put_places(html, &places);
    put!(html, "\"/>");
    // What a pointer over it is told.
    for ((at, value), pair) in points.iter().zip(places.windows(2)) {
        let (x, end) = (pair[0].0, pair[1].0);
        put!(
            html,
            "<rect x=\"{}\" y=\"0\" width=\"{}\" height=\"{}\"><title>{}: {}</title></rect>",
            Decimal(x),
            Decimal((end - x).max(1.0)),
            Decimal(SIZE.1),
            parts::stamp(*at, seen),
            say(*value)
        );
    }
    put!(html, "</svg></figure>\n");
}

/// The part in step over time, small, without words of its own.
pub(super) fn sparkline(html: &mut Html, points: &[At], seen: &Seen<'_>) {
    put!(
        html,
        "<svg class=\"spark\" viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" aria-hidden=\"true\"><polyline points=\"",
        Decimal(SMALL.0),
        Decimal(SMALL.1)
    );
    put_places(html, &places(points, Some(1.0), seen.at, SMALL));
    put!(html, "\"/></svg>");
}

fn put_places(html: &mut Html, places: &[(f64, f64)]) {
    for (x, y) in places {
        put!(html, "{},{} ", Decimal(*x), Decimal(*y));
    }
}

/// Where points lie, and where the last one is now.
fn places(points: &[At], top: Option<f64>, now: Timestamp, (width, height): (f64, f64)) -> Vec<(f64, f64)> {
    let Some((first, _)) = points.first() else { return Vec::new() };
    let whole = between(*first, now).as_secs_f64().max(1.0);
    let values = || points.iter().map(|(_, value)| *value);
    let top = top.unwrap_or_else(|| values().fold(0.0, f64::max));
    // From 0 where the values reach far down, else so that a small change is seen.
    let least = values().fold(top, f64::min);
    let floor = if top - least > top / 4.0 { 0.0 } else { top - ((top - least) * 1.5).max(top / 1000.0) };
    let scale = if top > floor { (height - 4.0) / (top - floor) } else { 0.0 };
    let place = |at, value: f64| {
        let x = between(*first, at).as_secs_f64() / whole * width;
        (x.min(width), height - 2.0 - (value - floor) * scale)
    };
    let end = points.last().map(|(_, value)| place(now, *value));
    points.iter().map(|(at, value)| place(*at, *value)).chain(end).collect()
}

/// At most so many points: of those that come together, the worst.
fn thinned(points: &[At], most: usize, more_is_worse: bool) -> Vec<At> {
    let together = points.len().div_ceil(most).max(1);
    let pick = |chunk: &[At]| {
        let sign = if more_is_worse { -1.0 } else { 1.0 };
        chunk.iter().copied().min_by(|a, b| (sign * a.1).total_cmp(&(sign * b.1)))
    };
    points.chunks(together).filter_map(pick).collect()
}

fn worst(values: impl Iterator<Item = f64>, more_is_worse: bool) -> f64 {
    let pick = if more_is_worse { f64::max } else { f64::min };
    values.reduce(pick).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("a time")
    }

    #[test]
    fn thinning_keeps_the_worst() {
        let points: Vec<At> = (0..1000).map(|n| (at(n), if n == 501 { 0.5 } else { 1.0 })).collect();
        let thin = thinned(&points, 100, false);
        assert!(thin.len() <= 100 && thin.contains(&(at(501), 0.5)));
        assert!(!thinned(&points, 100, true).contains(&(at(501), 0.5)));
    }

    #[test]
    fn places_are_inside_and_a_small_change_is_seen() {
        for values in [&[1.0, 0.999, 1.0][..], &[1.0], &[0.0, 0.0], &[3.0, 0.0, 90_000.0]] {
            let points: Vec<At> = values.iter().enumerate().map(|(n, v)| (at(n as i64 * 60), *v)).collect();
            let found = places(&points, (values[0] == 1.0).then_some(1.0), at(600), SIZE);
            assert!(found.iter().all(|(x, y)| (0.0..=SIZE.0).contains(x) && (0.0..=SIZE.1).contains(y)), "{found:?}");
        }
        let found = places(&[(at(0), 1.0), (at(60), 0.9999)], Some(1.0), at(120), SIZE);
        assert!(found[1].1 - found[0].1 > 5.0, "{found:?}");
    }
}
