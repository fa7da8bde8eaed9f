//! As much of Markdown as the documents use: headings, links, code spans, fenced blocks, lists.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// A document, taken apart. Lines count from 1.
#[derive(Debug)]
pub struct Document {
    /// From the root of the package.
    pub path: PathBuf,
    /// What its headings are reached by.
    pub anchors: Vec<String>,
    /// Targets of links and images, with their lines.
    pub links: Vec<(usize, String)>,
    /// What stands between backticks in the text, with the lines.
    pub spans: Vec<(usize, String)>,
    /// Fenced blocks.
    pub blocks: Vec<Block>,
    /// List items that begin with a code span, as one line each, with the lines.
    pub items: Vec<(usize, String)>,
}

/// A fenced block.
#[derive(Debug)]
pub struct Block {
    /// The line of its first fence.
    pub line: usize,
    /// The heading above it.
    pub heading: String,
    /// The language.
    pub language: String,
    /// What stands behind the language: the name of a file.
    pub name: Option<String>,
    /// What is in it.
    pub text: String,
}

impl Document {
    /// Takes a text apart.
    pub fn parse(path: &Path, text: &str) -> Self {
        let mut document = Self {
            path: path.to_owned(),
            anchors: Vec::new(),
            links: Vec::new(),
            spans: Vec::new(),
            blocks: Vec::new(),
            items: Vec::new(),
        };
        let (mut heading, mut slugs) = (String::new(), BTreeMap::new());
        let mut paragraph: Option<(usize, String)> = None;
        let mut lines = text.lines().enumerate();
        while let Some((index, line)) = lines.next() {
            let content = line.trim_start();
            if let Some(info) = content.strip_prefix("```") {
                document.paragraph(paragraph.take());
                let indent = line.len() - content.len();
                let inside =
                    lines.by_ref().map(|(_, line)| line).take_while(|line| !line.trim_start().starts_with("```"));
                let text = inside.map(|line| format!("{}\n", line.get(indent..).unwrap_or_default())).collect();
                document.blocks.push(block(index + 1, info, &heading, text));
            } else if content.starts_with('#') {
                document.paragraph(paragraph.take());
                heading = content.trim_start_matches('#').trim().to_owned();
                document.anchors.push(anchor(&heading, &mut slugs));
                document.paragraph(Some((index + 1, heading.clone())));
            } else if content.is_empty() {
                document.paragraph(paragraph.take());
            } else if content.starts_with("- ") || content.starts_with('|') || paragraph.is_none() {
                document.paragraph(paragraph.replace((index + 1, content.to_owned())));
            } else if let Some((_, text)) = &mut paragraph {
                *text += " ";
                *text += content;
            }
        }
        document.paragraph(paragraph);
        document
    }

    fn paragraph(&mut self, paragraph: Option<(usize, String)>) {
        let Some((line, text)) = paragraph else { return };
        if text.starts_with("- `") {
            self.items.push((line, text[2..].to_owned()));
        }
        let mut prose = String::new();
        for (index, part) in text.split('`').enumerate() {
            match index % 2 {
                0 => prose += part,
                _ => self.spans.push((line, part.to_owned())),
            }
        }
        let targets = prose.match_indices("](").filter_map(|(at, _)| prose[at + 2..].split(')').next());
        self.links.extend(targets.map(|target| (line, target.to_owned())));
    }
}

fn block(line: usize, info: &str, heading: &str, text: String) -> Block {
    let mut words = info.split_whitespace().map(str::to_owned);
    let language = words.next().unwrap_or_default();
    Block { line, heading: heading.to_owned(), language, name: words.next(), text }
}

/// As forges make anchors of headings; a second one of the same name gets a number.
fn anchor(heading: &str, seen: &mut BTreeMap<String, usize>) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    let slug = kept.collect::<String>().to_lowercase().replace(' ', "-");
    let times = seen.entry(slug.clone()).or_default();
    *times += 1;
    match *times {
        1 => slug,
        times => format!("{slug}-{}", times - 1),
    }
}

#[test]
fn a_document_is_taken_apart() {
    let text = "# A `b`, c\n\nSee [x](y.md#z) and `[no](link)`\nor ![i](i.svg).\n\n- `m`, `n`: what\n  it is\n- other\n\n\
                # A b, c\n\n```yaml name.yaml\n# no heading\na: 1\n```\n";
    let found = Document::parse(Path::new("d.md"), text);
    assert_eq!(found.anchors, ["a-b-c", "a-b-c-1"]);
    assert_eq!(found.links, [(3, "y.md#z".to_owned()), (3, "i.svg".to_owned())]);
    assert_eq!(found.items, [(6, "`m`, `n`: what it is".to_owned())]);
    let spans: Vec<_> = found.spans.iter().map(|(line, span)| (*line, span.as_str())).collect();
    assert_eq!(spans, [(1, "b"), (3, "[no](link)"), (6, "m"), (6, "n")]);
    let block = &found.blocks[0];
    assert_eq!((block.line, block.heading.as_str(), block.language.as_str()), (12, "A b, c", "yaml"));
    assert_eq!((block.name.as_deref(), block.text.as_str()), (Some("name.yaml"), "# no heading\na: 1\n"));
}
