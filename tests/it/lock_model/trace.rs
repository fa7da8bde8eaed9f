//! A step in words.

use super::ops::Violation;
use super::state::{At, File, Kind, State, Token};
use super::steps::{Event, Step};

/// What happens, and what is there afterwards.
pub fn line(step: &Step) -> String {
    let violation = step.violation.map(|violation| format!("   !!! {}", wrong(violation))).unwrap_or_default();
    format!("{:<76} {}{violation}", happens(step.event), there(&step.state))
}

fn wrong(violation: Violation) -> String {
    match violation {
        Violation::Overlap(a, b) => format!("{} and {} act at the same time", name(a), name(b)),
        Violation::LockGone(who) => format!("the lock of {} goes away while its action runs", name(who)),
        Violation::PersonsFile => "a person's file goes away".into(),
    }
}

fn happens(event: Event) -> String {
    match event {
        Event::Tick => "a tick passes".into(),
        Event::Begins(who) => format!("{} begins an attempt with a look at its lock", name(who)),
        Event::Does(who, kind, at) => format!("{}: {}", name(who), does(kind, at)),
        Event::Orphan(token, kind, at) => format!("without a client, for {}: {}", label(token), does(kind, at)),
        Event::OrphanStops(token, kind, at) => {
            format!("without a client, for {}: stops before it {}", label(token), does(kind, at))
        }
        Event::LooksAtBlock(who) => format!("{} looks at its block with the lock taken", name(who)),
        Event::Starts(who) => format!("{} STARTS ITS ACTION", name(who)),
        Event::TooLateToStart(who) => format!("{} finds it too late to start", name(who)),
        Event::Refreshes(who) => format!("{} asks for a refresh", name(who)),
        Event::Finishes(who) => format!("{}'s action is done", name(who)),
        Event::Fences(who) => format!("{} counts its lock as lost and tells its action to end", name(who)),
        Event::Killed(who) => format!("{}'s action has ended", name(who)),
        Event::Crashes(who) => format!("{} CRASHES, and starts anew", name(who)),
        Event::LosesConnection { who, asks_again: true } => format!("{} LOSES ITS CONNECTION and asks again", name(who)),
        Event::LosesConnection { who, asks_again: false } => format!("{} LOSES ITS CONNECTION and gives up", name(who)),
        Event::PersonComes => "A PERSON puts a file in the lock's place".into(),
        Event::PersonGoes => "the person removes the file".into(),
    }
}

fn does(kind: Kind, at: At) -> &'static str {
    match (at, kind) {
        (At::TakeLook, _) => "looks at the lock to take",
        (At::Link, _) => "links its temporary to the lock's name",
        (At::Fill, _) => "writes the content of its lock",
        (At::Claim, _) => "links its temporary to the claim's name",
        (At::FillClaim, _) => "writes the content of its claim",
        (At::ClaimLook, _) => "looks at the claim in its way",
        (At::Check, Kind::Remove) => "with the claim, looks again whether the lock is its own",
        (At::Check, _) => "looks again whether the lock is stale",
        (At::Rename, _) => "renames its temporary over the lock",
        (At::Late, _) => "was late: touches the lock and leaves it to expire",
        (At::Unclaim, _) => "removes a claim",
        (At::Final, _) => "looks whose the lock is now",
        (At::RemoveLook, _) => "looks whether the lock to remove is its own",
        (At::Unlink | At::UnlinkClaimed, _) => "unlinks the lock",
        (At::RefreshLook, _) => "looks at the lock to refresh",
        (At::Touch, _) => "touches the lock",
        (At::Verify, _) => "looks whether the touched lock is its own",
    }
}

fn there(state: &State) -> String {
    let paths = ["L", "M"].into_iter().zip(state.paths);
    let mut files: Vec<String> =
        paths.filter_map(|(path, file)| file.map(|f| format!("{path}={}", written(f)))).collect();
    files.extend(state.claims.iter().flatten().map(|claim| {
        format!("claim-{}={}", label(claim.on), written(File { token: claim.by, age: claim.age }))
    }));
    files.join(" ")
}

fn written(file: File) -> String {
    format!("{}/{}", label(file.token), file.age)
}

fn label(token: Token) -> String {
    match token.owner() {
        Some(owner) if token.is_release() => format!("{}{}-release", name(owner), token.draw()),
        Some(owner) => format!("{}{}", name(owner), token.draw()),
        None if token == Token::PERSON => "a person".into(),
        None => "empty".into(),
    }
}

fn name(who: usize) -> &'static str {
    ["A", "B", "C"][who]
}
