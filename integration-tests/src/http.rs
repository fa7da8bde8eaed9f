//! A GET and the exposition format, enough for `/metrics`, `/healthz` and Prometheus's own API.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};

use crate::wait::DEADLINE;

/// An answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The header lines as they came.
    pub head: String,
    /// The body.
    pub body: String,
}

/// Asks for `path` by HTTP/1.0, so that the answer is never chunked.
///
/// # Errors
/// When nobody listens or the answer is not HTTP.
pub fn get(addr: SocketAddr, path: &str) -> io::Result<Response> {
    let mut stream = TcpStream::connect_timeout(&addr, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {addr}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    parse(&answer).ok_or_else(|| io::Error::other(format!("not an HTTP answer: {answer:?}")))
}

fn parse(answer: &str) -> Option<Response> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(Response { status, head: head.to_owned(), body: body.to_owned() })
}

/// A page of `/metrics`: every sample by its name and labels.
#[derive(Debug, Clone, Default)]
pub struct Samples(BTreeMap<Series, f64>);

/// A name and its labels.
type Series = (String, BTreeMap<String, String>);

impl Samples {
    /// Reads the text format. Label values must not hold commas or quotes, as none of the tests' do.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        Self(lines.filter_map(sample).collect())
    }

    /// The sample of a series written as `name label=value label=value`.
    pub fn get(&self, series: &str) -> Option<f64> {
        let mut words = series.split(' ');
        let name = words.next()?.to_owned();
        let labels = words.filter_map(|word| word.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
        self.0.get(&(name, labels)).copied()
    }

    /// The sum over all series of a name.
    pub fn sum(&self, name: &str) -> f64 {
        self.0.iter().filter(|((it, _), _)| it == name).map(|(_, value)| value).sum()
    }

    /// The names of all samples, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.0.keys().map(|(name, _)| name.as_str()).collect();
        names.dedup();
        names
    }
}

fn sample(line: &str) -> Option<(Series, f64)> {
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = labels.trim_end_matches('}').split(',').filter_map(|pair| pair.split_once('='));
    let labels = labels.map(|(key, value)| (key.to_owned(), value.trim_matches('"').to_owned())).collect();
    Some(((name.to_owned(), labels), value.parse().ok()?))
}
