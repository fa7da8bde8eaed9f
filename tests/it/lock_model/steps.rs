//! All that can happen next: a step of a contender, of an operation, a fault, a tick.

use super::ops::{Answer, Violation, advance};
use super::rules::{Means, Rules, Scenario, Verdicts};
use super::state::{At, CLAIMS, Client, File, Kind, Op, Phase, State, Token};

/// The protocol under test.
pub struct Model {
    pub rules: Rules,
    pub scenario: Scenario,
    verdicts: Verdicts,
}

/// What happened, for a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Tick,
    Begins(usize),
    Does(usize, Kind, At),
    Orphan(Token, Kind, At),
    OrphanStops(Token, Kind, At),
    LooksAtBlock(usize),
    Starts(usize),
    Refreshes(usize),
    Finishes(usize),
    Fences(usize),
    Killed(usize),
    Crashes(usize),
    LosesConnection { who: usize, asks_again: bool },
    PersonComes,
    PersonGoes,
}

/// One possible step.
pub struct Step {
    pub event: Event,
    pub state: State,
    pub violation: Option<Violation>,
}

impl Event {
    /// Whether it is something going wrong rather than the protocol at work.
    pub fn is_fault(self) -> bool {
        matches!(self, Self::OrphanStops(..) | Self::Crashes(_) | Self::LosesConnection { .. } | Self::PersonComes)
    }
}

impl Model {
    pub fn new(rules: Rules, scenario: Scenario) -> Self {
        Self { rules, scenario, verdicts: Verdicts::new(rules.lease) }
    }

    pub fn start(&self) -> State {
        let client = |wants: Option<u8>| match wants {
            Some(_) => Client::WAITING,
            None => Client { phase: Phase::Served, ..Client::WAITING },
        };
        let Scenario { wants, crashes, cuts, stalls, visits, .. } = self.scenario;
        State {
            paths: [None; 2],
            claims: [None; CLAIMS],
            clients: wants.map(client),
            orphans: [None; 2],
            crashes,
            cuts,
            stalls,
            visits,
        }
    }

    /// Everything that may happen next.
    pub fn steps(&self, state: &State, steps: &mut Vec<Step>) {
        steps.clear();
        for who in 0..state.clients.len() {
            self.contender(state, who, steps);
            self.faults(state, who, steps);
        }
        for n in 0..state.orphans.len() {
            self.orphan(state, n, steps);
        }
        self.person(state, steps);
        self.tick(state, steps);
        for step in steps {
            let counts =
                |violation: &Violation| self.scenario.locks_stay || !matches!(violation, Violation::LockGone(_));
            step.violation = step.violation.filter(counts).or_else(|| self.overlap(&step.state));
        }
    }

    fn overlap(&self, state: &State) -> Option<Violation> {
        let acts = |n: usize| state.clients[n].phase.acts();
        [(0, 1), (0, 2), (1, 2)]
            .into_iter()
            .find(|&(a, b)| acts(a) && acts(b) && self.scenario.exclude(a, b))
            .map(|(a, b)| Violation::Overlap(a, b))
    }

    fn contender(&self, state: &State, who: usize, steps: &mut Vec<Step>) {
        let client = state.clients[who];
        let mut to = |event, change: &dyn Fn(&mut State)| {
            let mut next = *state;
            change(&mut next);
            steps.push(Step { event, state: next, violation: None });
        };
        match client.phase {
            Phase::Waiting if !self.blocked(state, who) => {
                return self.begin(state, who, steps);
            }
            Phase::Waiting | Phase::Served => return,
            Phase::Looking => {
                let phase = if self.blocked(state, who) { None } else { Some(Phase::Ready) };
                to(Event::LooksAtBlock(who), &|next| match phase {
                    Some(phase) => (next.clients[who].phase, next.clients[who].slow) = (phase, false),
                    None => self.release(next, who, false),
                });
            }
            Phase::Ready if client.op.is_none() => {
                if client.fresh < self.rules.fence || !self.rules.start_before_fence {
                    to(Event::Starts(who), &|next| {
                        (next.clients[who].phase, next.clients[who].slow) = (Phase::Acting, false);
                    });
                }
                if client.fresh >= self.rules.refresh {
                    to(Event::Refreshes(who), &|next| self.refresh(&mut next.clients[who], who));
                }
            }
            Phase::Ready => {}
            Phase::Acting => {
                to(Event::Finishes(who), &|next| self.release(next, who, true));
                if client.fresh >= self.rules.fence {
                    to(Event::Fences(who), &|next| self.fence(next, who));
                } else if client.op.is_none() && client.fresh >= self.rules.refresh {
                    to(Event::Refreshes(who), &|next| self.refresh(&mut next.clients[who], who));
                }
            }
            Phase::Fencing(_) => to(Event::Killed(who), &|next| self.release(next, who, false)),
            Phase::Taking | Phase::Releasing { .. } => {}
        }
        if client.op.is_some() {
            self.advance(state, who, steps);
        }
    }

    fn refresh(&self, client: &mut Client, who: usize) {
        client.asked = 0;
        client.op = Some(self.op(client, who, Kind::Refresh));
    }

    fn op(&self, client: &Client, who: usize, kind: Kind) -> Op {
        let path = self.scenario.wants[who].expect("who takes part wants a lock");
        Op::new(kind, path, client.token.expect("who asks has a token"), None)
    }

    fn blocked(&self, state: &State, who: usize) -> bool {
        let first_look = state.clients[who].phase == Phase::Waiting;
        let block = self.scenario.blocks[who].filter(|_| first_look || self.rules.second_look);
        block.is_some_and(|block| self.judge(state.paths[usize::from(block)], state.clients[who].token, who).1)
    }

    fn judge(&self, file: Option<File>, own: Option<Token>, who: usize) -> (Means, bool) {
        let age = file.map_or(0, |file| self.rules.seen(file.age, Token::new(who, 0)));
        self.verdicts.of(file, own, age)
    }

    /// An attempt: from here on the lease counts. The first step of the take is part of it, for nothing comes of a later one.
    fn begin(&self, state: &State, who: usize, steps: &mut Vec<Step>) {
        let mut next = *state;
        let token = state.clients[who].token.unwrap_or_else(|| state.draw(who));
        next.clients[who] = Client { phase: Phase::Taking, token: Some(token), ..Client::WAITING };
        next.clients[who].op = Some(self.op(&next.clients[who], who, Kind::Take));
        self.advance(&next, who, steps);
        if let Some(step) = steps.last_mut() {
            step.event = Event::Begins(who);
        }
    }

    fn advance(&self, state: &State, who: usize, steps: &mut Vec<Step>) {
        let (mut next, mut violation) = (*state, None);
        let Some(mut op) = next.clients[who].op else { return };
        let event = Event::Does(who, op.kind, op.at);
        let answer = advance(&self.rules, &mut next, &mut op, &mut violation);
        next.clients[who].op = Some(op);
        if let Some(answer) = answer {
            next.clients[who].op = None;
            next.clients[who].slow = false;
            self.answered(&mut next, who, op, answer);
        }
        steps.push(Step { event, state: next, violation });
    }

    fn answered(&self, state: &mut State, who: usize, op: Op, answer: Answer) {
        let client = &mut state.clients[who];
        match (client.phase, answer) {
            (Phase::Taking, Answer::Taken) => {
                client.phase = if self.scenario.blocks[who].is_some() { Phase::Looking } else { Phase::Ready };
            }
            (Phase::Taking, Answer::Found(file)) => match self.judge(file, client.token, who).0 {
                Means::Stale if op.replaces.is_none() => {
                    if self.rules.token_per_take {
                        state.clients[who].token = None;
                        state.clients[who].token = Some(state.draw(who));
                    }
                    let client = &mut state.clients[who];
                    let mut op = self.op(client, who, Kind::Take);
                    op.replaces = file.map(|file| file.token);
                    client.op = Some(op);
                }
                Means::Free | Means::Held | Means::Ours | Means::Stale => self.again(client),
            },
            (Phase::Ready, Answer::Refreshed) if client.fresh >= self.rules.fence && self.rules.fresh_before_fence => {
                self.release(state, who, false);
            }
            (Phase::Acting | Phase::Ready, Answer::Refreshed) => {
                (client.fresh, client.asked) = (client.asked, 0);
            }
            (Phase::Acting, _) => self.fence(state, who),
            (Phase::Ready, _) => self.release(state, who, false),
            (Phase::Releasing { served: true }, _) => *client = Client { phase: Phase::Served, ..Client::WAITING },
            (Phase::Releasing { served: false }, _) => self.again(client),
            (phase, answer) => unreachable!("{answer:?} for one that is not asking, in phase {}", phase.acts()),
        }
    }

    /// Waits for another attempt.
    fn again(&self, client: &mut Client) {
        let token = client.token.filter(|_| !self.rules.token_per_take);
        *client = Client { token, ..Client::WAITING };
    }

    fn fence(&self, state: &mut State, who: usize) {
        self.abandon(state, who);
        let client = &mut state.clients[who];
        (client.phase, client.fresh, client.asked) = (Phase::Fencing(0), 0, 0);
    }

    /// No action runs any more. A refresh under way goes on without its client.
    fn release(&self, state: &mut State, who: usize, served: bool) {
        self.abandon(state, who);
        let op = self.op(&state.clients[who], who, Kind::Remove);
        let client = &mut state.clients[who];
        (client.phase, client.fresh, client.asked) = (Phase::Releasing { served }, 0, 0);
        client.op = Some(op);
    }

    /// An operation under way goes on without its client; as often as a connection may be lost.
    fn abandon(&self, state: &mut State, who: usize) {
        let op = state.clients[who].op.take();
        state.clients[who].slow = false;
        if op.is_some() && state.cuts > 0 {
            state.cuts -= 1;
            state.orphan(op);
        }
    }

    fn faults(&self, state: &State, who: usize, steps: &mut Vec<Step>) {
        let client = state.clients[who];
        let mut to = |event, change: &dyn Fn(&mut State)| {
            let mut next = *state;
            change(&mut next);
            steps.push(Step { event, state: next, violation: None });
        };
        if state.crashes > 0 && !matches!(client.phase, Phase::Waiting | Phase::Served) {
            to(Event::Crashes(who), &|next| {
                next.crashes -= 1;
                let op = next.clients[who].op.take();
                next.orphan(op);
                let served = client.phase == Phase::Releasing { served: true };
                next.clients[who].phase = if served { Phase::Served } else { Phase::Waiting };
                next.clients[who] = Client { phase: next.clients[who].phase, ..Client::WAITING };
            });
        }
        let Some(op) = client.op.filter(|_| state.cuts > 0) else { return };
        let cut = |next: &mut State| {
            next.cuts -= 1;
            (next.clients[who].op, next.clients[who].slow) = (None, false);
            next.orphan(Some(op));
        };
        let asks_again = match op.kind {
            Kind::Take => !self.rules.token_per_take,
            Kind::Refresh => true,
            Kind::Remove => self.rules.remove_again,
        };
        if asks_again {
            to(Event::LosesConnection { who, asks_again: true }, &|next| {
                cut(next);
                let again = Op::new(op.kind, op.path, op.token, op.replaces);
                next.clients[who].op = Some(again);
            });
        }
        to(Event::LosesConnection { who, asks_again: false }, &|next| {
            cut(next);
            match client.phase {
                Phase::Taking | Phase::Ready => self.release(next, who, false),
                Phase::Releasing { served } => {
                    self.answered(next, who, op, if served { Answer::Removed } else { Answer::Lost })
                }
                _ => next.clients[who].asked = 0,
            }
        });
    }

    fn orphan(&self, state: &State, n: usize, steps: &mut Vec<Step>) {
        let Some(mut op) = state.orphans[n] else { return };
        let (token, kind, at) = (op.token, op.kind, op.at);
        let mut stopped = *state;
        stopped.orphans[n] = None;
        let (mut next, mut violation) = (stopped, None);
        if advance(&self.rules, &mut next, &mut op, &mut violation).is_none() {
            next.orphan(Some(op));
        }
        steps.push(Step { event: Event::Orphan(token, kind, at), state: next, violation });
        steps.push(Step { event: Event::OrphanStops(token, kind, at), state: stopped, violation: None });
    }

    fn person(&self, state: &State, steps: &mut Vec<Step>) {
        let mut next = *state;
        let event = match state.paths[0] {
            None if state.visits > 0 => {
                next.visits -= 1;
                next.paths[0] = Some(File { token: Token::PERSON, age: 0 });
                Event::PersonComes
            }
            Some(File { token: Token::PERSON, .. }) => {
                next.paths[0] = None;
                Event::PersonGoes
            }
            _ => return,
        };
        steps.push(Step { event, state: next, violation: None });
    }

    /// Time passes, unless a living director has something to do before, or an operation its next step.
    fn tick(&self, state: &State, steps: &mut Vec<Step>) {
        let rules = &self.rules;
        let due = |client: &Client| match client.phase {
            Phase::Acting => client.fresh >= rules.fence,
            Phase::Fencing(grace) => grace >= rules.grace,
            _ => false,
        };
        let mut next = *state;
        let relies = |op: &mut Op| rules.prompt && op.relies_on_check() && op.pause + 1 >= rules.half();
        if state.clients.iter().any(due) || next.ops_mut().any(relies) {
            return;
        }
        if !next.stall() {
            return;
        }
        next.age(rules.lease, rules.fence);
        steps.push(Step { event: Event::Tick, state: next, violation: None });
    }
}
