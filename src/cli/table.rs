//! Tables for people: columns that fit a terminal, long names shortened, colour on request.

/// Columns of a line.
pub(super) const WIDTH: usize = 80;

/// Below this a name says nothing, so a narrower terminal gets wider lines.
const NARROWEST_NAME: usize = 8;

/// The paint of the header and of totals.
pub(super) const BOLD: &str = "\x1b[1m";
/// The paint of what is neither good nor bad.
pub(super) const YELLOW: &str = "\x1b[33m";
/// The paint of what went wrong.
pub(super) const RED: &str = "\x1b[31m";

/// What stands in a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Flush left, and shortened where the line would be too long.
    Name,
    /// Flush left.
    Text,
    /// Flush right.
    Number,
}

/// A table of columns with titles.
pub(super) struct Table {
    columns: Vec<Kind>,
    lines: Vec<(Vec<String>, &'static str)>,
}

impl Table {
    /// One with its header.
    pub(super) fn new(columns: &[(&str, Kind)]) -> Self {
        let titles = columns.iter().map(|(title, _)| (*title).to_owned()).collect();
        Self { columns: columns.iter().map(|(_, kind)| *kind).collect(), lines: vec![(titles, BOLD)] }
    }

    /// A line with as many cells as there are columns; `paint` is a terminal's sequence, or nothing.
    pub(super) fn line(&mut self, cells: impl IntoIterator<Item = String>, paint: &'static str) {
        self.lines.push((cells.into_iter().collect(), paint));
    }

    /// The lines, each with its end, no longer than `width` where names give way enough.
    pub(super) fn render(&self, width: usize, color: bool) -> String {
        let widths = self.widths(width);
        let render = |(cells, paint): &(Vec<String>, &str)| {
            let line = self.render_line(cells, &widths);
            if paint.is_empty() || !color { format!("{line}\n") } else { format!("{paint}{line}\x1b[0m\n") }
        };
        self.lines.iter().map(render).collect()
    }

    /// The widest cell of each column; the widest name gives way first where the line would be longer than `width`.
    fn widths(&self, width: usize) -> Vec<usize> {
        let mut widths = vec![0; self.columns.len()];
        for (line, _) in &self.lines {
            for (widest, cell) in widths.iter_mut().zip(line) {
                *widest = (*widest).max(cell.chars().count());
            }
        }
        let gaps = 2 * (self.columns.len() - 1);
        while widths.iter().sum::<usize>() + gaps > width {
            let names = (0..widths.len()).rev().filter(|&column| self.columns[column] == Kind::Name);
            match names.max_by_key(|&column| widths[column]).filter(|&column| widths[column] > NARROWEST_NAME) {
                Some(widest) => widths[widest] -= 1,
                None => break,
            }
        }
        widths
    }

    fn render_line(&self, cells: &[String], widths: &[usize]) -> String {
        let cell = |((cell, kind), &width): ((&String, &Kind), &usize)| match kind {
            Kind::Name => format!("{:<width$}", shorten(cell, width)),
            Kind::Text => format!("{cell:<width$}"),
            Kind::Number => format!("{cell:>width$}"),
        };
        let cells: Vec<String> = cells.iter().zip(&self.columns).zip(widths).map(cell).collect();
        cells.join("  ").trim_end().to_owned()
    }
}

fn shorten(name: &str, width: usize) -> String {
    if name.chars().count() <= width {
        return name.to_owned();
    }
    name.chars().take(width - 1).chain(['…']).collect()
}

/// Breaks at spaces, indents what follows; a longer word stays whole so that a path can be copied.
pub(super) fn wrap(text: &str, width: usize) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            out += "\n ";
            column = 1;
        }
        if column > 0 {
            out.push(' ');
            column += 1;
        }
        out += word;
        column += length;
    }
    out.push('\n');
    out
}
