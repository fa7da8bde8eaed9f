//! What bounds a sync: `max_delete`, `stall_timeout` and `bwlimit`, of the file, of a job, of a sync; the nearest counts.

use std::time::Duration;

use super::opts::Word;
use crate::config::context::Report;
use crate::config::fields::Fields;
use crate::config::keys;
use crate::config::raw::{Node, Value};
use crate::config::value;
use crate::rsync::bwlimit::{self, Timetable, Window};
use crate::rsync::guard::MaxDelete;
use crate::rsync::options;

/// How rates are described in messages.
pub(super) const A_RATE: &str =
    "a rate with its unit, as \"500K\", \"5M\" or \"1G\" (bytes per second), or 0 for no limit";

/// What holds where nothing nearer says otherwise.
#[derive(Debug, Clone, Default)]
pub(super) struct Limits {
    pub max_delete: Option<MaxDelete>,
    /// Not zero.
    pub stall_timeout: Option<Duration>,
    pub bwlimit: Option<Timetable>,
}

impl Limits {
    /// Reads them; what is not said is as `outer` has it. What is wrong was reported, and stands for none.
    pub fn read(fields: &Fields<'_>, outer: &Self) -> Self {
        let said = |key| fields.get(key).is_some();
        let amount = "a number of entries, or a percentage as \"5%\"";
        let max_delete = match said("max_delete") {
            true => fields.read("max_delete", amount, MaxDelete::parse).filter(|max| !max.is_all()),
            false => outer.max_delete,
        };
        let stall_timeout = match said("stall_timeout") {
            true => fields.duration("stall_timeout").filter(|timeout| !timeout.is_zero()),
            false => outer.stall_timeout,
        };
        let bwlimit = match said("bwlimit") {
            true => timetable(fields).filter(|timetable| !timetable.is_idle()),
            false => outer.bwlimit.clone(),
        };
        Self { max_delete, stall_timeout, bwlimit }
    }

    /// Reports a sync with a limit of ours and one in its own options.
    pub fn refuse_own_bwlimit(&self, fields: &Fields<'_>, words: &[Word<'_>]) {
        if self.bwlimit.is_none() {
            return;
        }
        let texts: Vec<_> = words.iter().map(|word| word.text.clone()).collect();
        for opt in options::parse(&texts).iter().filter(|opt| opt.is("bwlimit")) {
            let report = Report::error("this option and `bwlimit` limit the same rsync").label("one of them too many");
            let help = "remove it, or write `bwlimit: 0` in this sync, which leaves the limit to the option";
            fields.ctx.report(words[opt.word].span(fields.ctx), report.help(help.to_owned()));
        }
    }
}

/// `bwlimit`: a rate, or a list of windows.
fn timetable(fields: &Fields<'_>) -> Option<Timetable> {
    let node = fields.get("bwlimit")?;
    let nodes = match &node.value {
        Value::Scalar(_) => {
            let rate = fields.read("bwlimit", &format!("{A_RATE}, or a list of windows"), rate)?;
            return Timetable::new(vec![Window::always(rate)]).ok();
        }
        Value::List(nodes) => nodes,
        _ => {
            fields.wrong("bwlimit", node, &format!("{A_RATE}, or a list of windows"));
            return None;
        }
    };
    // All are read before the first failure counts.
    let windows: Vec<_> = nodes.iter().map(|node| window(fields, node)).collect();
    let windows = windows.into_iter().collect::<Option<Vec<_>>>()?;
    match Timetable::new(windows) {
        Ok(timetable) => Some(timetable),
        Err((first, second)) => {
            let report = Report::error(format!("two windows of {} overlap", fields.key("bwlimit"))).label("this one");
            let help =
                format!("and the one in line {}: at no time may there be two rates", fields.ctx.line(&nodes[first]));
            fields.ctx.report(nodes[second].span.clone(), report.help(help));
            None
        }
    }
}

fn window(outer: &Fields<'_>, node: &Node) -> Option<Window> {
    let fields = Fields::open(outer.ctx, node, &keys::WINDOW, format!("a window of {}", outer.key("bwlimit")))?;
    for key in ["from", "to", "rate"] {
        fields.require(key);
    }
    let days = match fields.get("days") {
        Some(_) => fields.read("days", "days, as \"mon-fri\" or \"sat,sun\"", bwlimit::days),
        None => Some([true; 7]),
    };
    let time = |key, last| {
        let expected = "a time of the day in quotes, as \"08:00\"";
        fields.read(key, expected, |text| bwlimit::time_of_day(text).filter(|minute| *minute <= last))
    };
    let (from, to) = (time("from", 1439), time("to", 1440));
    let rate = fields.read("rate", A_RATE, rate);
    let (from, to) = (from?, to?);
    if from == to || to == 0 {
        let report = Report::error("this window has no clear end");
        let help = "write \"24:00\" for the end of a day, and \"00:00\" to \"24:00\" for a whole day";
        fields.ctx.report(fields.get("to")?.span.clone(), report.help(help.to_owned()));
        return None;
    }
    Some(Window { days: days?, from, to, rate: rate? })
}

/// KiB per second. A bare number would be KiB to who knows rsync's option, and bytes to who knows our sizes.
pub(super) fn rate(text: &str) -> Option<u64> {
    let bytes = value::size(text)?;
    let has_unit = text.trim_end().ends_with(|c: char| "KMGTkmgt".contains(c))
        || text.trim_end().trim_end_matches(['b', 'B', 'i', 'I']).ends_with(|c: char| "KMGTkmgt".contains(c));
    (bytes == 0 || has_unit).then_some(if bytes == 0 { 0 } else { (bytes / 1024).max(1) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_has_a_unit() {
        for (text, expected) in [
            ("5M", Some(5120)),
            ("500K", Some(500)),
            ("1.5m", Some(1536)),
            ("1 GiB", Some(1 << 20)),
            ("0.5K", Some(1)),
            ("0", Some(0)),
            ("5000", None),
            ("5000B", None),
            ("fast", None),
            ("-1M", None),
        ] {
            assert_eq!(rate(text), expected, "{text}");
        }
    }
}
