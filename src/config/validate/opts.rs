//! The options of a sync, and whether several rsyncs can share it.

use std::ffi::OsString;
use std::ops::Range;

use crate::config::context::{Context, Report};
use crate::config::fields::Fields;
use crate::config::model::MOST_PARALLEL;
use crate::config::raw::{Node, Value};
use crate::config::value;
use crate::rsync::{args, options, shards};

/// One argument of rsync, and where it stands.
pub(super) struct Word<'a> {
    pub(super) text: OsString,
    /// As it was written, without quotes.
    written: String,
    node: &'a Node,
}

impl Word<'_> {
    /// Where it stands in the file.
    pub(super) fn span(&self, ctx: &Context<'_>) -> Range<usize> {
        ctx.find(self.node, &self.written)
    }
}

/// The options, each split into words as a shell would, and only then with its variables replaced: a value with blanks
/// stays one argument.
pub(super) fn read<'a>(fields: &Fields<'a>, is_remote: bool) -> Option<Vec<Word<'a>>> {
    let Some(node) = fields.get("opts") else { return Some(Vec::new()) };
    if let Value::Scalar(text) = &node.value {
        let report = Report::error(format!("{} must be a list", fields.key("opts")));
        let words: Vec<_> = text.split_whitespace().map(|word| format!("{word:?}")).collect();
        fields.ctx.report(node.span.clone(), report.help(format!("write `opts: [{}]`", words.join(", "))));
        return None;
    }
    let mut opts = Some(Vec::new());
    for node in fields.list("opts", "a list of options")? {
        let words = words(fields, node);
        opts = opts.zip(words).map(|(mut opts, words)| {
            opts.extend(words);
            opts
        });
    }
    let opts = opts?;
    if is_remote {
        warn_of_remote_shell(fields, &opts);
    }
    Some(opts)
}

fn words<'a>(fields: &Fields<'a>, node: &'a Node) -> Option<Vec<Word<'a>>> {
    let Value::Scalar(text) = &node.value else {
        fields.wrong("opts", node, "a list of options, each a text");
        return None;
    };
    let Ok(words) = shell_words::split(text) else {
        let report = Report::error("a quote in this option is not closed");
        let help =
            "each element is split into words as a shell would; write `\\'` for a quote that is meant".to_owned();
        fields.ctx.report(node.span.clone(), report.help(help));
        return None;
    };
    let words: Vec<_> = words
        .into_iter()
        .map(|written| fields.ctx.expand(node, &written).map(|text| Word { text, written, node }))
        .collect();
    words.into_iter().collect()
}

fn warn_of_remote_shell(fields: &Fields<'_>, words: &[Word<'_>]) {
    let texts = texts(words);
    if !args::has_rsh(&texts) {
        return;
    }
    for opt in options::parse(&texts).iter().filter(|opt| opt.is("rsh")) {
        let report = Report::warning("this option replaces the connection that rsyncdirector makes");
        let help =
            "the job's user, port and key, the host key policy and connect_timeout do not hold for it".to_owned();
        fields.ctx.report(words[opt.word].node.span.clone(), report.help(help));
    }
}

/// How many rsyncs may share the work. `opts` is `None` where they are wrong, which is said already.
pub(super) fn parallel(fields: &Fields<'_>, opts: Option<&[Word<'_>]>) -> Option<usize> {
    let Some(node) = fields.get("parallel") else { return Some(1) };
    let count = |text: &str| value::integer(text).filter(|count| (1..=MOST_PARALLEL).contains(count));
    let count = fields.read("parallel", &format!("a whole number, 1 to {MOST_PARALLEL}"), count)?;
    if count == 1 {
        return Some(1);
    }
    let words = opts?;
    let objections = shards::objections(&texts(words));
    for objection in &objections {
        let (place, message) = match objection.word {
            Some(at) => {
                let Word { written, node, .. } = &words[at];
                (fields.ctx.find(node, written), format!("{} does not go with `{written}`", fields.key("parallel")))
            }
            None => (node.span.clone(), format!("{} does not go with these options", fields.key("parallel"))),
        };
        fields.ctx.report(place, Report::error(message).label("not with `parallel`").help(objection.reason.to_owned()));
    }
    objections.is_empty().then_some(count)
}

fn texts(words: &[Word<'_>]) -> Vec<OsString> {
    words.iter().map(|word| word.text.clone()).collect()
}
