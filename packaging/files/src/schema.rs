//! `rsyncdirector.yaml(5)`: every key of the configuration file, from its JSON schema.
//!
//! The file's own keys come first, then those of each mapping in it, in the order in which they are met: a section for each, named
//! after the keys that have such a mapping. Of a mapping of several kinds (a job is local or remote) the keys stand in one
//! list, with a note at those that only one kind has.

use std::collections::{BTreeMap, VecDeque};

use clap_mangen::roff::{Inline, Roff, bold, italic, roman};
use serde_json::{Map, Value};

/// A mapping: its name among the schema's definitions, and the keys that have it.
type Sections = Vec<(String, Vec<String>)>;

/// The page.
pub fn page(day: &str) -> String {
    let schema = rsyncdirector::config::json_schema();
    let book = Book { definitions: schema["$defs"].as_object().cloned().unwrap_or_default() };
    let mut roff = Roff::new();
    let version = format!("rsyncdirector {}", rsyncdirector::VERSION);
    roff.control("TH", ["rsyncdirector.yaml", "5", day, &version, "RsyncDirector"]);
    introduction(&mut roff);
    roff.control("SH", ["KEYS OF THE FILE"]);
    book.keys(&mut roff, &[&schema]);
    for (name, parents) in book.sections(&schema) {
        roff.control("SH", [format!("KEYS OF {}", parents.join(", ")).as_str()]);
        if let Some(text) = book.definitions[&name]["description"].as_str() {
            roff.text([roman(text)]);
        }
        book.keys(&mut roff, &kinds(&book.definitions[&name]));
    }
    roff.control("SH", ["VALUES"]);
    book.values(&mut roff);
    closing(&mut roff);
    roff.to_roff()
}

fn introduction(roff: &mut Roff) {
    roff.control("SH", ["NAME"]);
    roff.text([roman("rsyncdirector.yaml - the configuration of an instance of rsyncdirector")]);
    roff.control("SH", ["DESCRIPTION"]);
    roff.text([
        roman("One YAML file is one instance. The service "),
        bold("rsyncdirector@"),
        italic("NAME"),
        roman(" reads "),
        italic("/etc/rsyncdirector/NAME.yaml"),
        roman(". Unknown keys are errors; "),
        bold("rsyncdirector check"),
        roman(" names everything that is wrong with a file, and "),
        bold("rsyncdirector schema"),
        roman(" prints a JSON schema with which editors complete it. "),
        italic("/usr/share/doc/rsyncdirector/examples/rsyncdirector.yaml"),
        roman(" is a file with every key that there is, explained."),
    ]);
    roff.control("PP", []);
    roff.text([
        roman("${"),
        italic("NAME"),
        roman("} in a path, an option or an argument is the environment variable; one that is not set is an error, and $${ is a literal ${. "),
        roman("A leading ~ is the home directory of the user who runs rsyncdirector, in every path of this host."),
    ]);
}

fn closing(roff: &mut Roff) {
    roff.control("SH", ["EXAMPLE"]);
    roff.control("nf", []);
    for line in include_str!("../../../resources/samples/minimal.yaml").lines() {
        roff.text([roman(line)]);
    }
    roff.control("fi", []);
    roff.control("SH", ["SEE ALSO"]);
    let seen = [bold("rsyncdirector"), roman("(8), "), bold("rsync"), roman("(1), "), bold("ssh_config"), roman("(5)")];
    roff.text(seen);
}

/// The schemas of a mapping's kinds: one, unless it says by a key of which kind it is.
fn kinds(mapping: &Value) -> Vec<&Value> {
    mapping["oneOf"].as_array().map_or_else(|| vec![mapping], |kinds| kinds.iter().collect())
}

/// The word by which a kind of mapping says what it is: the only value that one of its keys may have.
fn word(kind: &Value) -> Option<&str> {
    kind["properties"].as_object()?.values().find_map(|property| property["const"].as_str())
}

/// What is known of a key in one kind of its mapping.
#[derive(PartialEq)]
struct Known {
    value: String,
    required: bool,
    text: String,
    choices: Vec<(String, String)>,
}

struct Book {
    definitions: Map<String, Value>,
}

impl Book {
    /// The mappings below a schema, in the order in which they are met.
    fn sections(&self, schema: &Value) -> Sections {
        let mut sections: Sections = Vec::new();
        let mut open = VecDeque::from([schema]);
        while let Some(schema) = open.pop_front() {
            let properties = kinds(schema).into_iter().filter_map(|kind| kind["properties"].as_object()).flatten();
            for (key, property) in properties {
                let mut found = Vec::new();
                self.mappings(property, &mut found);
                for name in found {
                    match sections.iter_mut().find(|(known, _)| *known == name) {
                        Some((_, parents)) if parents.contains(key) => {}
                        Some((_, parents)) => parents.push(key.clone()),
                        None => {
                            open.push_back(&self.definitions[&name]);
                            sections.push((name, vec![key.clone()]));
                        }
                    }
                }
            }
        }
        sections
    }

    /// The definitions of mappings that a value may be, or have as elements.
    fn mappings(&self, value: &Value, found: &mut Vec<String>) {
        if let Some(name) = reference(value) {
            let definition = &self.definitions[name];
            if kinds(definition).iter().any(|kind| kind["properties"].is_object()) {
                found.push(name.to_owned());
            } else {
                self.mappings(definition, found);
            }
        }
        value["anyOf"]
            .as_array()
            .into_iter()
            .flatten()
            .chain(value.get("items"))
            .for_each(|part| self.mappings(part, found));
    }

    /// The keys of a mapping, those first by which it says of which kind it is.
    fn keys(&self, roff: &mut Roff, kinds: &[&Value]) {
        let mut known: BTreeMap<(bool, &str), Vec<(&Value, Known)>> = BTreeMap::new();
        for kind in kinds {
            for (key, property) in kind["properties"].as_object().into_iter().flatten() {
                let place = (property.get("const").is_none(), key.as_str());
                known.entry(place).or_default().push((kind, self.know(kind, key, property)));
            }
        }
        for ((is_plain, key), of_kinds) in known {
            if is_plain {
                tell_key(roff, key, &of_kinds, kinds.len());
            } else {
                tell_kind(roff, key, kinds);
            }
        }
    }

    fn know(&self, kind: &Value, key: &str, property: &Value) -> Known {
        let required = kind["required"].as_array().is_some_and(|required| required.iter().any(|name| name == key));
        let text = property["description"].as_str().unwrap_or_default().to_owned();
        Known { value: self.value(property), required, text, choices: self.choices(property) }
    }

    /// What may stand as a value, in some words.
    fn value(&self, value: &Value) -> String {
        if let Some(name) = reference(value) {
            let definition = &self.definitions[name];
            return match name {
                _ if kinds(definition).iter().any(|kind| kind["properties"].is_object()) => "mapping".to_owned(),
                _ if is_described(definition) => lower(name),
                _ => self.value(definition),
            };
        }
        if let Some(parts) = value["anyOf"].as_array() {
            return distinct(parts.iter().filter(|part| part["type"] != "null").map(|part| self.value(part)))
                .join(" or ");
        }
        if let Some(words) = value["oneOf"].as_array() {
            return words.iter().filter_map(|word| word["const"].as_str()).collect::<Vec<_>>().join(" | ");
        }
        let types = value["type"].as_array().map_or_else(|| vec![&value["type"]], |types| types.iter().collect());
        match types.first().and_then(|first| first.as_str()) {
            Some("array") => format!("list of {}", self.value(&value["items"])),
            Some("object") => "mapping".to_owned(),
            Some("boolean") => "true | false".to_owned(),
            Some("integer" | "number") => "number".to_owned(),
            _ => "text".to_owned(),
        }
    }

    /// The words that may stand as a value, with what each means.
    fn choices(&self, value: &Value) -> Vec<(String, String)> {
        if let Some(name) = reference(value) {
            return self.choices(&self.definitions[name]);
        }
        let told = |choice: &Value| {
            let text = choice["description"].as_str()?.to_owned();
            Some((choice["const"].as_str()?.to_owned(), text))
        };
        let words = value["oneOf"].as_array().into_iter().flatten().filter_map(told);
        let parts = value["anyOf"].as_array().into_iter().flatten().chain(value.get("items"));
        let mut all: Vec<_> = words.collect();
        for choice in parts.flat_map(|part| self.choices(part)) {
            if !all.contains(&choice) {
                all.push(choice);
            }
        }
        all
    }

    /// The kinds of values that have a name.
    fn values(&self, roff: &mut Roff) {
        for (name, definition) in self.definitions.iter().filter(|(_, definition)| is_described(definition)) {
            roff.control("TP", []);
            roff.text([bold(lower(name))]);
            let parts = definition["anyOf"].as_array().into_iter().flatten();
            let all = [&definition["description"]].into_iter().chain(parts.map(|part| &part["description"]));
            let texts: Vec<&str> = all.filter_map(Value::as_str).collect();
            roff.text([roman(texts.join(" "))]);
        }
    }
}

/// A value that is no mapping, and that has a name of its own for what it may be.
fn is_described(definition: &Value) -> bool {
    definition["anyOf"].is_array() && definition["description"].is_string()
}

fn reference(value: &Value) -> Option<&str> {
    value["$ref"].as_str()?.strip_prefix("#/$defs/")
}

fn lower(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars() {
        if letter.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(letter.to_lowercase());
    }
    words
}

fn distinct(words: impl Iterator<Item = String>) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    for word in words {
        if !all.contains(&word) {
            all.push(word);
        }
    }
    all
}

/// The key that says of which kind a mapping is.
fn tell_kind(roff: &mut Roff, key: &str, kinds: &[&Value]) {
    let words: Vec<&str> = kinds.iter().filter_map(|kind| word(kind)).collect();
    head(roff, key, &words.join(" | "), "required");
    for kind in kinds {
        let text = kind["description"].as_str().unwrap_or_default();
        choice(roff, word(kind).unwrap_or_default(), text);
    }
    roff.control("RE", []);
}

/// A key with what is known of it: once, where all kinds of its mapping that have it agree.
fn tell_key(roff: &mut Roff, key: &str, of_kinds: &[(&Value, Known)], all: usize) {
    let mut rest: Vec<_> = of_kinds.iter().collect();
    while let Some((_, known)) = rest.first() {
        let (same, other): (Vec<_>, Vec<_>) = rest.iter().copied().partition(|(_, it)| it == known);
        let words: Vec<&str> = same.iter().filter_map(|(kind, _)| word(kind)).collect();
        let only = if same.len() < all { format!("{} only", words.join(", ")) } else { String::new() };
        let notes = [only, if known.required { "required".to_owned() } else { String::new() }];
        let notes: Vec<String> = notes.into_iter().filter(|note| !note.is_empty()).collect();
        head(roff, key, &known.value, &notes.join(", "));
        roff.text([roman(&known.text)]);
        for (word, text) in &known.choices {
            choice(roff, word, text);
        }
        roff.control("RE", []);
        rest = other;
    }
}

/// Begins a key; what follows is indented until `RE`.
fn head(roff: &mut Roff, key: &str, value: &str, notes: &str) {
    let mut line: Vec<Inline> = vec![bold(key), roman(": "), italic(value)];
    if !notes.is_empty() {
        line.push(roman(format!(" ({notes})")));
    }
    roff.control("PP", []);
    roff.text(line);
    roff.control("RS", ["4"]);
}

fn choice(roff: &mut Roff, word: &str, text: &str) {
    roff.control("br", []);
    roff.text([bold(word), roman(": "), roman(text)]);
}
