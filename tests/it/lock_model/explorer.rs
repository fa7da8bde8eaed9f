//! Breadth first over all states, so that the first counterexample is a shortest one; then backwards from the states in which
//! everyone has had a turn, to find one from which that cannot be reached.

use std::collections::HashMap;
use std::fmt::Write;
use std::hash::{BuildHasherDefault, Hasher};

use super::ops::Violation;
use super::state::{Phase, State};
use super::steps::{Model, Step};
use super::trace::Teller;

/// What came of exploring.
pub enum Outcome {
    /// Nothing that must not happen does, and everyone gets a turn.
    Holds { states: usize, steps: usize },
    /// Something that must never happen does; the trace leads there.
    Broken { violation: Violation, trace: String },
    /// From the trace's end no way without further faults leads to everyone's turn.
    Stuck { trace: String },
    /// More states than allowed.
    TooMany,
}

/// Explores all of `model`, up to `limit` states.
pub fn explore(model: &Model, limit: usize) -> Outcome {
    let (symmetric, checks) = (model.scenario.symmetric(), model.rules.check);
    let mut graph = Graph::default();
    graph.add(model.start().canonical(symmetric, checks).0, 0);
    let (mut steps, mut count, mut here) = (Vec::new(), 0, 0);
    while here < graph.states.len() {
        if graph.states.len() > limit {
            return Outcome::TooMany;
        }
        model.steps(&graph.states[here].clone(), &mut steps);
        count += steps.len();
        for step in &steps {
            if let Some(violation) = step.violation {
                return Outcome::Broken { violation, trace: graph.trace(model, here as u32, Some(step)) };
            }
            let next = graph.add(step.state.canonical(symmetric, checks).0, here as u32);
            if !step.event.is_fault() {
                graph.sound.push((here as u32, next));
            }
        }
        here += 1;
    }
    match graph.stuck() {
        Some(stuck) => Outcome::Stuck { trace: graph.trace(model, stuck, None) },
        None => Outcome::Holds { states: graph.states.len(), steps: count },
    }
}

#[derive(Default)]
struct Graph {
    states: Vec<State>,
    /// Of each state the one from which it was first reached.
    parents: Vec<u32>,
    index: HashMap<State, u32, BuildHasherDefault<Mixer>>,
    /// Steps that are no faults, from and to.
    sound: Vec<(u32, u32)>,
}

impl Graph {
    fn add(&mut self, state: State, parent: u32) -> u32 {
        *self.index.entry(state).or_insert_with(|| {
            self.states.push(state);
            self.parents.push(parent);
            (self.states.len() - 1) as u32
        })
    }

    /// The first state from which no way without faults leads to everyone's turn.
    fn stuck(&mut self) -> Option<u32> {
        self.sound.sort_unstable_by_key(|&(_, to)| to);
        let everyone = |state: &State| state.clients.iter().all(|client| client.phase == Phase::Served);
        let mut good: Vec<bool> = self.states.iter().map(everyone).collect();
        let mut todo: Vec<u32> = (0..good.len() as u32).filter(|&n| good[n as usize]).collect();
        while let Some(state) = todo.pop() {
            let start = self.sound.partition_point(|&(_, to)| to < state);
            for &(from, _) in self.sound[start..].iter().take_while(|&&(_, to)| to == state) {
                if !std::mem::replace(&mut good[from as usize], true) {
                    todo.push(from);
                }
            }
        }
        good.iter().position(|good| !good).map(|n| n as u32)
    }

    /// The way to a state, and the step after it that must not be, for a person to read.
    fn trace(&self, model: &Model, end: u32, wrong: Option<&Step>) -> String {
        let mut way = vec![end];
        while let Some(&last) = way.last().filter(|&&last| last != 0) {
            way.push(self.parents[last as usize]);
        }
        way.reverse();
        let (symmetric, checks) = (model.scenario.symmetric(), model.rules.check);
        let (mut teller, mut lines, mut steps) = (Teller::default(), Vec::new(), Vec::new());
        for pair in way.windows(2) {
            let (from, to) = (self.states[pair[0] as usize], self.states[pair[1] as usize]);
            model.steps(&from, &mut steps);
            let (step, names) = steps
                .iter()
                .map(|step| (step, step.state.canonical(symmetric, checks)))
                .find_map(|(step, (state, names))| (state == to).then_some((step, names)))
                .expect("what was reached can be reached again");
            lines.push(teller.line(step));
            teller.renamed(&names);
        }
        lines.extend(wrong.map(|step| teller.line(step)));
        let mut text = String::new();
        for (number, line) in lines.iter().enumerate() {
            let _ = writeln!(text, "{:3}. {line}", number + 1);
        }
        text
    }
}

/// A quick hash for small fields; not against anyone's malice.
#[derive(Default)]
struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u8(byte));
    }

    fn write_u8(&mut self, byte: u8) {
        self.0 = (self.0.rotate_left(5) ^ u64::from(byte)).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u8(number as u8);
    }
}
