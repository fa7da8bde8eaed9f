//! A step in words.

use super::ops::Violation;
use super::state::{At, CONTENDERS, Kind, Names, State, Token};
use super::steps::{Event, Step};

/// Tells steps under names that stay, although the explorer renames contenders and tokens after each.
#[derive(Default)]
pub struct Teller {
    contenders: Option<[usize; CONTENDERS]>,
    tokens: Vec<(Token, String)>,
    drawn: [u8; CONTENDERS],
}

impl Teller {
    /// What happens, and what is there afterwards.
    pub fn line(&mut self, step: &Step) -> String {
        let happens = self.happens(step.event);
        let there = self.there(&step.state);
        let wrong = step.violation.map(|violation| format!("   !!! {}", self.wrong(violation))).unwrap_or_default();
        format!("{happens:<76} {there}{wrong}")
    }

    /// The state that was told last has got these names.
    pub fn renamed(&mut self, names: &Names) {
        let (old, mut new) = (self.contenders.unwrap_or([0, 1, 2]), [0; CONTENDERS]);
        names.place.iter().zip(old).for_each(|(&place, who)| new[usize::from(place)] = who);
        self.contenders = Some(new);
        self.tokens = self.tokens.drain(..).filter_map(|(t, label)| Some((names.token(t)?, label))).collect();
    }

    fn wrong(&self, violation: Violation) -> String {
        match violation {
            Violation::Overlap(a, b) => format!("{} and {} act at the same time", self.name(a), self.name(b)),
            Violation::LockGone(who) => format!("the lock of {} goes away while its action runs", self.name(who)),
            Violation::PersonsFile => "a person's file goes away".into(),
        }
    }

    fn happens(&mut self, event: Event) -> String {
        let (who, text) = match event {
            Event::Tick => return "a tick passes".into(),
            Event::PersonComes => return "A PERSON puts a file in the lock's place".into(),
            Event::PersonGoes => return "the person removes the file".into(),
            Event::Orphan(token, kind, at) => {
                return format!("without a client, for {}: {}", self.label(token), does(kind, at));
            }
            Event::OrphanStops(token, kind, at) => {
                return format!("without a client, for {}: stops before it {}", self.label(token), does(kind, at));
            }
            Event::Begins(who) => (who, "begins an attempt with a look at its lock"),
            Event::Does(who, kind, at) => (who, does(kind, at)),
            Event::LooksAtBlock(who) => (who, "looks at its block with the lock taken"),
            Event::Starts(who) => (who, "STARTS ITS ACTION"),
            Event::Refreshes(who) => (who, "asks for a refresh"),
            Event::Finishes(who) => (who, "is done with its action"),
            Event::Fences(who) => (who, "counts its lock as lost and tells its action to end"),
            Event::Killed(who) => (who, "has ended its action"),
            Event::Crashes(who) => (who, "CRASHES, and starts anew"),
            Event::LosesConnection { who, asks_again: true } => (who, "LOSES ITS CONNECTION and asks again"),
            Event::LosesConnection { who, asks_again: false } => (who, "LOSES ITS CONNECTION and gives up"),
        };
        format!("{} {text}", self.name(who))
    }

    fn there(&mut self, state: &State) -> String {
        let mut files = Vec::new();
        for (path, file) in ["L", "M"].into_iter().zip(state.paths) {
            files.extend(file.map(|file| format!("{path}={}/{}", self.label(file.token), file.age)));
        }
        for claim in state.claims.iter().flatten() {
            files.push(format!("claim-{}-{}/{}", self.label(claim.on), claim.number, claim.age));
        }
        files.join(" ")
    }

    /// `A2`: the second token that A was seen with.
    fn label(&mut self, token: Token) -> String {
        let Some(owner) = token.owner() else {
            return if token == Token::PERSON { "a person" } else { "empty" }.into();
        };
        let known = self.tokens.iter().find(|(known, _)| *known == token).map(|(_, label)| label.clone());
        known.unwrap_or_else(|| {
            let real = self.contenders.unwrap_or([0, 1, 2])[owner];
            self.drawn[real] += 1;
            let label = format!("{}{}", self.name(owner), self.drawn[real]);
            self.tokens.push((token, label.clone()));
            label
        })
    }

    fn name(&self, who: usize) -> &'static str {
        ["A", "B", "C"][self.contenders.unwrap_or([0, 1, 2])[who]]
    }
}

fn does(kind: Kind, at: At) -> &'static str {
    match (at, kind) {
        (At::TakeLook, _) => "looks at the lock to take",
        (At::Link, _) => "links its temporary to the lock's name",
        (At::Fill, _) => "writes the content of its lock",
        (At::Claim, _) => "creates its claim",
        (At::ClaimLook, _) => "looks at the claim in its way",
        (At::Check, Kind::Remove) => "with the claim, looks again whether the lock is its own",
        (At::Check, _) => "looks again whether the lock is stale",
        (At::Rename, _) => "renames its temporary over the lock",
        (At::Late, _) => "was late: touches the lock and leaves it to expire",
        (At::Unclaim, _) => "removes its claim",
        (At::Final, _) => "looks whose the lock is now",
        (At::RemoveLook, _) => "looks whether the lock to remove is its own",
        (At::Unlink | At::UnlinkClaimed, _) => "unlinks the lock",
        (At::RefreshLook, _) => "looks at the lock to refresh",
        (At::Touch, _) => "touches the lock",
        (At::Verify, _) => "looks whether the touched lock is its own",
    }
}
