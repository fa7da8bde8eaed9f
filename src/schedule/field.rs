//! One field of an expression: a list of `*`, numbers, names and ranges, with steps.

use std::ops::Range;

use super::ScheduleError;

/// A part of an expression that knows its place.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece<'a> {
    pub(super) text: &'a str,
    /// Offset in the expression, in bytes.
    pub(super) start: usize,
}

impl<'a> Piece<'a> {
    fn sub(self, range: Range<usize>) -> Self {
        Self { text: &self.text[range.clone()], start: self.start + range.start }
    }

    /// The parts before and after the first `at`.
    fn split_once(self, at: char) -> Option<(Self, Self)> {
        let before = self.text.find(at)?;
        Some((self.sub(0..before), self.sub(before + at.len_utf8()..self.text.len())))
    }

    /// The parts between commas.
    fn split_commas(self) -> impl Iterator<Item = Self> {
        let mut next = Some(self);
        std::iter::from_fn(move || {
            let rest = next?;
            let (item, tail) = rest.split_once(',').map_or((rest, None), |(item, tail)| (item, Some(tail)));
            next = tail;
            Some(item)
        })
    }

    /// The parts between white space.
    pub(super) fn split_space(self) -> impl Iterator<Item = Self> {
        let Self { text, start } = self;
        text.split_ascii_whitespace().map(move |word| {
            // A word is a slice of `text`, so that the distance of their addresses is its offset.
            Self { text: word, start: start + (word.as_ptr() as usize - text.as_ptr() as usize) }
        })
    }

    pub(super) fn span(self) -> Range<usize> {
        self.start..self.start + self.text.len()
    }

    pub(super) fn error(self, message: String, help: impl Into<Option<String>>) -> ScheduleError {
        ScheduleError { span: self.span(), message, help: help.into() }
    }
}

/// What may stand in a field.
pub(super) struct FieldKind {
    pub(super) name: &'static str,
    low: u32,
    high: u32,
    /// The names of `low`, `low + 1`, and so on.
    names: &'static [&'static str],
}

/// The five fields in order.
pub(super) static FIELDS: [FieldKind; 5] = [
    FieldKind { name: "minute", low: 0, high: 59, names: &[] },
    FieldKind { name: "hour", low: 0, high: 23, names: &[] },
    FieldKind { name: "day of month", low: 1, high: 31, names: &[] },
    FieldKind {
        name: "month",
        low: 1,
        high: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    FieldKind { name: "day of week", low: 0, high: 7, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

/// One element of a field's list.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item {
    /// `*` or `*/step`.
    Star { step: u32 },
    /// A value, which is a range of one, or `from-to` or `from-to/step`; `from` is not above `to`.
    Range { from: Value, to: Value, step: u32 },
}

/// A number, or a name that stands for one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Value {
    pub(super) number: u32,
    pub(super) named: bool,
}

impl Item {
    /// The numbers that it names in a field of this kind, as bits.
    pub(super) fn bits(self, kind: &FieldKind) -> u64 {
        let (from, to, step) = match self {
            Item::Star { step } => (kind.low, kind.high, step),
            Item::Range { from, to, step } => (from.number, to.number, step),
        };
        (from..=to).step_by(step as usize).fold(0, |bits, number| bits | 1 << number)
    }
}

impl FieldKind {
    /// Reads a field's list.
    pub(super) fn parse(&self, field: Piece) -> Result<Vec<Item>, ScheduleError> {
        field.split_commas().map(|item| self.parse_item(item, field)).collect()
    }

    fn parse_item(&self, item: Piece, field: Piece) -> Result<Item, ScheduleError> {
        if item.text.is_empty() {
            return Err(field.error(format!("the list `{}` has an empty element", field.text), None));
        }
        let Some((range, step)) = item.split_once('/') else {
            return self.parse_range(item, 1);
        };
        if range.text.is_empty() {
            let help = format!("a step needs a range: write `*{}`", item.text);
            return Err(item.error("the range before `/` is missing".to_owned(), help));
        }
        let step = self.parse_step(step, item)?;
        match self.parse_range(range, step)? {
            Item::Range { from, .. } if !range.text.contains('-') => Err(self.step_without_range(item, from, step)),
            range => Ok(range),
        }
    }

    fn parse_range(&self, range: Piece, step: u32) -> Result<Item, ScheduleError> {
        if range.text == "*" {
            return Ok(Item::Star { step });
        }
        let Some((from, to)) = range.split_once('-') else {
            let value = self.parse_value(range)?;
            return Ok(Item::Range { from: value, to: value, step });
        };
        if from.text.is_empty() || to.text.is_empty() {
            return Err(range.error(format!("the range `{}` lacks an end", range.text), None));
        }
        let (from, mut to) = (self.parse_value(from)?, self.parse_value(to)?);
        // The week's first day by name, at the end of a range, is the day after Saturday: `fri-sun` is 5-7.
        if self.high == 7 && to.named && to.number == 0 && from.number > 0 {
            to.number = 7;
        }
        if from.number > to.number {
            return Err(self.backwards(range, from, to));
        }
        Ok(Item::Range { from, to, step })
    }

    fn parse_step(&self, step: Piece, item: Piece) -> Result<u32, ScheduleError> {
        if step.text.is_empty() {
            return Err(item.error("the step after `/` is missing".to_owned(), None));
        }
        match number(step.text) {
            Some(0) => {
                let help = format!("for every {} write `*`", self.name);
                Err(step.error("a step of 0 never advances".to_owned(), help))
            }
            Some(step) => Ok(step),
            None => Err(step.error(format!("the step `{}` is not a number", step.text), None)),
        }
    }

    fn parse_value(&self, value: Piece) -> Result<Value, ScheduleError> {
        if let Some(number) = number(value.text) {
            if (self.low..=self.high).contains(&number) {
                return Ok(Value { number, named: false });
            }
            let help = format!("the {} goes from {} to {}", self.name, self.low, self.high);
            return Err(value.error(format!("{} {} is out of range", self.name, value.text), help));
        }
        match self.names.iter().position(|name| name.eq_ignore_ascii_case(value.text)) {
            Some(index) => Ok(Value { number: self.low + index as u32, named: true }),
            None => Err(self.not_a_value(value)),
        }
    }

    fn step_without_range(&self, item: Piece, from: Value, step: u32) -> ScheduleError {
        let from = from.number;
        let star = if from == self.low { format!(" or `*/{step}`") } else { String::new() };
        let help = format!("a step needs a range: write `{from}-{}/{step}`{star}", self.high);
        item.error(format!("`{}` has a step but no range", item.text), help)
    }

    fn backwards(&self, range: Piece, from: Value, to: Value) -> ScheduleError {
        let (low, high, from, to) = (self.low, self.high, from.number, to.number);
        let help = match (high, to) {
            (7, 0) => format!("Sunday at the end of a range is 7: write `{from}-7`"),
            // The range from Sunday as 7.
            (7, _) if from == 7 => format!("Sunday at the start of a range is 0: write `0-{to}`"),
            _ => format!("to go on from the start, write `{from}-{high},{low}-{to}`"),
        };
        range.error(format!("the range `{}` runs backwards", range.text), help)
    }

    fn not_a_value(&self, value: Piece) -> ScheduleError {
        let text = value.text;
        let word = !self.names.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphabetic());
        let help = if let Some(help) = foreign_syntax(text) {
            help.to_owned()
        } else if let Some(name) = similar(text, self.names) {
            format!("did you mean `{name}`?")
        } else if word {
            format!("the names are {}", self.names.join(", "))
        } else {
            format!("write a number from {} to {}, or `*`", self.low, self.high)
        };
        value.error(format!("unknown {} `{text}`", self.name), help)
    }
}

/// A number in decimal digits alone; one that is too large counts as the largest.
fn number(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u32::MAX))
}

/// What to do instead of what other schedulers offer.
fn foreign_syntax(text: &str) -> Option<&'static str> {
    let digits_or = |letter: char| text.chars().all(|c| c.is_ascii_digit() || c.eq_ignore_ascii_case(&letter));
    if text.contains('#') {
        Some("cron cannot name the nth weekday of a month: list the days of the month, or start a script that decides")
    } else if text.contains('?') {
        Some("write `*`")
    } else if text.contains('~') {
        Some("cron's random times change with each reading: write a fixed time, and spread hosts with `jitter`")
    } else if text.contains('*') {
        Some("`*` stands alone or before a step, as in `*/2`")
    } else if digits_or('L') {
        Some("cron cannot name the last day: write a fixed day, such as the first of the next month")
    } else if digits_or('W') {
        Some("cron cannot name the nearest weekday: write days of the week, such as `mon-fri`")
    } else {
        None
    }
}

/// The word that was probably meant: one that is written out (`monday` for `mon`) or differs by one slip.
pub(super) fn similar<'a>(text: &str, words: &[&'a str]) -> Option<&'a str> {
    let text = text.to_ascii_lowercase();
    let written_out = |word: &&&str| text.starts_with(**word);
    let slips = |word: &&str| strsim::damerau_levenshtein(word, &text);
    words
        .iter()
        .find(written_out)
        .or_else(|| words.iter().min_by_key(|word| slips(word)).filter(|word| slips(word) == 1))
        .copied()
}
