//! `notify` and `max_age`: who is told what became of a job.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Uri};

use super::action::expand_all;
use super::own_path;
use crate::config::context::Report;
use crate::config::fields::{Fields, quoted};
use crate::config::keys;
use crate::config::model::Command;
use crate::config::notify::{Happening, Http, Mail, Secret, Style, Target, Way};
use crate::config::raw::{Node, Value};
use crate::config::value;
use crate::notify::template::{self, Template};

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
const DEFAULT_RETRIES: u32 = 3;
const DEFAULT_RETRY_WAIT: Duration = Duration::from_secs(10);
/// More attempts would keep a queue waiting for too long.
const MOST_RETRIES: u32 = 10;
const A_HAPPENING: &str = "among `failure`, `recovery`, `late`, `skip`, `success` and `start`";
/// What marks the name of a credential among paths.
const CREDENTIAL: &str = "credential:";

/// Those whom a mapping names under `notify`. The outer `None` is an error, the inner an absent key.
pub(super) fn notify(fields: &Fields<'_>) -> Option<Option<Vec<Arc<Target>>>> {
    if fields.get("notify").is_none() {
        return Some(None);
    }
    let nodes = fields.list("notify", "a list of targets, each with `http`, `command` or `mail`")?;
    let targets: Vec<_> = nodes.iter().map(|node| target(fields, node)).collect();
    targets.into_iter().map(|target| target.map(Arc::new)).collect::<Option<_>>().map(Some)
}

fn target(owner: &Fields<'_>, node: &Node) -> Option<Target> {
    let fields = Fields::open(owner.ctx, node, &keys::TARGET, "this target of `notify`".to_owned())?;
    let ways = ["http", "command", "mail"].map(|key| fields.get(key));
    let given = ways.iter().flatten().count();
    if given != 1 {
        let second = ways.iter().flatten().nth(1).copied().unwrap_or(node);
        let report = Report::error("a target of `notify` has one of `http`, `command` and `mail`");
        owner.ctx.report(second.span.clone(), report.label(if given == 0 { "none here" } else { "one too many" }));
    }
    let way = match ways {
        [Some(node), ..] => http(&fields, node).map(Way::Http),
        [_, Some(node), _] => command(&fields, node).map(Way::Command),
        [.., Some(node)] => mail(&fields, node).map(Way::Mail),
        [None, None, None] => None,
    };
    let pings = matches!(&way, Some(Way::Http(Http { style: Style::Healthchecks, .. })));
    let retries = fields.read("retries", "a whole number, 0 to 10", |text| {
        value::integer(text).filter(|retries| *retries <= MOST_RETRIES)
    });
    let target = Target {
        on: on(&fields, pings),
        every: fields.duration("every"),
        timeout: fields
            .positive_duration("timeout", "an answer takes some time: write for example `10`")
            .unwrap_or(DEFAULT_TIMEOUT),
        retries: retries.unwrap_or(DEFAULT_RETRIES),
        retry_wait: fields.duration("retry_wait").unwrap_or(DEFAULT_RETRY_WAIT),
        way: way?,
    };
    (given == 1).then_some(target)
}

/// What a target is told of. A receiver of pings wants to hear of each success, or it gives an alarm.
fn on(fields: &Fields<'_>, pings: bool) -> Vec<Happening> {
    let Some(nodes) = fields.one_or_list("on") else {
        return match pings {
            true => vec![Happening::Start, Happening::Success, Happening::Failure],
            false => vec![Happening::Failure, Happening::Recovery, Happening::Late],
        };
    };
    let word = |node| fields.read_node("on", node, A_HAPPENING, |text| Happening::from_word(&text.to_lowercase()));
    nodes.iter().filter_map(word).collect()
}

fn http(target: &Fields<'_>, node: &Node) -> Option<Http> {
    let fields = Fields::open(target.ctx, node, &keys::HTTP, "`http`".to_owned())?;
    let url = url(&fields);
    let is_ping = fields.read("style", "`json` or `healthchecks`", |text| match text.to_lowercase().as_str() {
        "json" => Some(false),
        "healthchecks" => Some(true),
        _ => None,
    });
    let body = body(&fields);
    if let Some(node) = fields.get("body").filter(|_| is_ping == Some(true)) {
        let report = Report::error("`style: healthchecks` has no \"body\"").label("not sent");
        fields.ctx.report(node.span.clone(), report.help("remove it, or the style".to_owned()));
    }
    let given = headers(&fields, "headers", &|fields, node, text| header_value(fields, node, text));
    let from_files = headers(&fields, "header_files", &|fields, node, text| file(fields, "header_files", node, text));
    let ca_file = match fields.get("ca_file") {
        Some(_) => fields.text("ca_file").and_then(|(node, text)| own_path(&fields, "ca_file", node, text)).map(Some),
        None => Some(None),
    };
    let style = if is_ping == Some(true) { Style::Healthchecks } else { Style::Json(body?) };
    Some(Http { url: url?, style, headers: [given?, from_files?].concat(), ca_file: ca_file? })
}

fn url(fields: &Fields<'_>) -> Option<Secret> {
    if fields.get("url_file").is_some() {
        if let Some(node) = fields.get("url") {
            let report = Report::error("`http` has one of \"url\" and \"url_file\"").label("one too many");
            fields.ctx.report(node.span.clone(), report);
        }
        let (node, text) = fields.text("url_file")?;
        return file(fields, "url_file", node, text);
    }
    let (node, text) = fields.require_text("url")?;
    let text = expanded(fields, "url", node, text)?;
    match judge_url(&text) {
        Ok(_) => Some(Secret::Text(text)),
        Err(why) => {
            let report = Report::error(format!("\"url\" of `http` must be one that can be asked: {why}"));
            fields.ctx.report(node.span.clone(), report);
            None
        }
    }
}

/// The URL of a POST.
///
/// # Errors
/// Why it is none, completing "it cannot be asked:".
pub fn judge_url(text: &str) -> Result<Uri, &'static str> {
    let uri: Uri = text.parse().map_err(|_| "it is no URL")?;
    if !matches!(uri.scheme_str(), Some("http" | "https")) {
        return Err("it must begin with `https://` or `http://`");
    }
    match uri.authority() {
        Some(authority) if authority.as_str().contains('@') => {
            Err("a name and password stand in a header: `header_files: {Authorization: FILE}`")
        }
        Some(authority) if !authority.host().is_empty() => Ok(uri),
        _ => Err("it names no host"),
    }
}

/// The template of the JSON text; the inner `None` when there is none.
fn body(fields: &Fields<'_>) -> Option<Option<Template>> {
    if fields.get("body").is_none() {
        return Some(None);
    }
    let (node, text) = fields.text("body")?;
    match Template::json(text) {
        Ok(template) => Some(Some(template)),
        Err(error) => {
            let nearest = error.unknown.as_deref().and_then(|name| keys::nearest(name, template::NAMES.into_iter()));
            let help = match (nearest, &error.unknown) {
                (Some(nearest), _) => format!("did you mean `{{{nearest}}}`?"),
                (None, Some(_)) => format!("there are: {}", template::NAMES.join(", ")),
                (None, None) => {
                    "a place as `{job}` stands within quotes, but for `{run}` and `{duration_seconds}`".into()
                }
            };
            let span = match error.unknown {
                Some(_) => fields.ctx.find(node, &text[error.span.clone()]),
                None => fields.ctx.part(node, error.span),
            };
            fields.ctx.report(span, Report::error(error.message).help(help));
            None
        }
    }
}

type ReadValue<'a> = dyn Fn(&Fields<'_>, &Node, &str) -> Option<Secret> + 'a;

/// A mapping of header names to what `read` makes of the values.
fn headers(fields: &Fields<'_>, key: &str, read: &ReadValue<'_>) -> Option<Vec<(String, Secret)>> {
    let Some(node) = fields.get(key) else { return Some(Vec::new()) };
    let Value::Map(entries) = &node.value else {
        fields.wrong(key, node, "a mapping of header names to values");
        return None;
    };
    let header = |(name, value): &(Node, Node)| {
        let is_name = |text: &str| HeaderName::try_from(text).is_ok().then(|| text.to_owned());
        let name = fields.read_node(key, name, "a mapping of header names to values", is_name);
        let value = match &value.value {
            Value::Scalar(text) => read(fields, value, text),
            _ => {
                fields.wrong(key, value, "a mapping of header names to values, each a text");
                None
            }
        };
        name.zip(value)
    };
    let headers: Vec<_> = entries.iter().map(header).collect();
    headers.into_iter().collect()
}

fn header_value(fields: &Fields<'_>, node: &Node, text: &str) -> Option<Secret> {
    let text = expanded(fields, "headers", node, text)?;
    if HeaderValue::try_from(text.as_str()).is_err() {
        fields.wrong("headers", node, "texts without line breaks and control characters");
        return None;
    }
    Some(Secret::Text(text))
}

/// A file that holds a secret, or the name of a credential.
fn file(fields: &Fields<'_>, key: &str, node: &Node, text: &str) -> Option<Secret> {
    match text.strip_prefix(CREDENTIAL) {
        Some(name) if !name.is_empty() && !name.contains('/') => Some(Secret::Credential(name.to_owned())),
        Some(_) => {
            fields.wrong(key, node, "a path, or `credential:` and a name without slashes");
            None
        }
        None => own_path(fields, key, node, text).map(Secret::File),
    }
}

/// A list is a program with its arguments, a text a line for the shell.
fn command(fields: &Fields<'_>, node: &Node) -> Option<Command> {
    let expected = "a program with its arguments, as a list, or a line for the shell";
    match &node.value {
        Value::List(words) => {
            let mut words = expand_all(fields, "command", words, expected)?.into_iter();
            let Some(program) = words.next().filter(|program| !program.is_empty()) else {
                fields.wrong("command", node, expected);
                return None;
            };
            Some(Command::Exec { program, args: words.collect() })
        }
        _ => fields.text_node("command", node).map(|(_, line)| Command::Shell(line.into())),
    }
}

fn mail(target: &Fields<'_>, node: &Node) -> Option<Mail> {
    let fields = Fields::open(target.ctx, node, &keys::MAIL, "`mail`".to_owned())?;
    fields.require("to");
    let address = |key: &'static str, node: &Node| {
        fields.read_node(key, node, "an address, as `ann@example.org` or `root`", |text| {
            is_address(text).then(|| text.trim().to_owned())
        })
    };
    let to = fields.one_or_list("to").map(|nodes| {
        if nodes.is_empty() {
            fields.wrong("to", fields.get("to").unwrap_or(node), "an address or a list of addresses");
        }
        nodes.iter().map(|node| address("to", node)).collect::<Vec<_>>()
    });
    let from = fields.get("from").map(|node| address("from", node));
    let sendmail = match fields.get("sendmail") {
        Some(_) => fields.text("sendmail").and_then(|(node, text)| own_path(&fields, "sendmail", node, text)),
        None => Some(PathBuf::from("/usr/sbin/sendmail")),
    };
    let from = match from {
        Some(from) => Some(from?),
        None => None,
    };
    Some(Mail { to: to?.into_iter().collect::<Option<_>>()?, from, sendmail: sendmail? })
}

/// One address of a header, with or without a name before it. What is not ASCII would need an encoding that depends on the part.
fn is_address(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty() && text.len() <= 320 && text.bytes().all(|byte| (0x20..0x7f).contains(&byte) && byte != b',')
}

fn expanded(fields: &Fields<'_>, key: &str, node: &Node, text: &str) -> Option<String> {
    let expanded = fields.ctx.expand(node, text)?.into_string();
    expanded
        .inspect_err(|odd| fields.wrong(key, node, &format!("UTF-8, unlike {}", quoted(&odd.to_string_lossy()))))
        .ok()
}
