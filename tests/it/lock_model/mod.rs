//! The lock protocol, explored exhaustively.

mod explorer;
mod ops;
mod rules;
mod state;
mod steps;
mod trace;

use explorer::{Outcome, explore};
use rules::{Rules, Scenario};
use steps::Model;

const SAME_LOCK: Scenario =
    Scenario { wants: [Some(0), Some(0), Some(0)], blocks: [None; 3], crashes: 1, cuts: 1, visits: 0, stalls: 2 };

#[cfg_attr(test, test)]
pub fn probe() {
    let env = |name: &str| std::env::var(name).ok().and_then(|v| v.parse::<u8>().ok());
    let mut s = SAME_LOCK;
    s.crashes = env("CRASHES").unwrap_or(1);
    s.cuts = env("CUTS").unwrap_or(1);
    s.visits = env("VISITS").unwrap_or(0);
    s.stalls = env("STALLS").unwrap_or(2);
    if env("N") == Some(2) { s.wants[2] = None; }
    if env("BLOCKS").is_some() { s.wants[1] = Some(1); s.blocks = [Some(1), Some(0), None]; }
    let mut r = Rules::PROTOCOL;
    for off in std::env::var("OFF").unwrap_or_default().split(',') {
        match off {
            "" => {}
            "asis" => { r.young_claim = false; r.remove_claims = false; r.token_per_take = false; r.start_before_fence = false; r.keep_others_claims = false; r.unclaim_gone = false; }
            "prompt" => r.prompt = false, "claim" => r.claim = false, "check" => r.check = false,
            "young" => r.young_claim = false, "late" => r.late_expires = true, "chain" => r.step_over_stale_only = false,
            "keep" => r.keep_others_claims = false, "second" => r.second_look = false,
            "freshen" => r.fresh_before_fence = false, "start" => r.start_before_fence = false, "unyoung" => r.unclaim_gone = false, "looks" => r.remove_looks = false,
            "rclaims" => r.remove_claims = false, "ragain" => r.remove_again = false, "token" => r.token_per_take = false,
            "judges" => r.refresh_judges = false, "verifies" => r.refresh_verifies = false,
            "clock" => r.storing_clock = false, "links" => r.hard_links = false,
            "fence" => r.fence = r.lease, "rlate" => {}
            other => panic!("{other}"),
        }
    }
    if env("LEASE") == Some(3) { r.lease = 3; r.fence = 2; r.grace = 0; }
    let started = std::time::Instant::now();
    match explore(&Model::new(r, s), 5_000_000) {
        Outcome::Holds { states, steps } => println!("holds: {states} states, {steps} steps"),
        Outcome::Broken { trace, states } => println!("BROKEN after {states}:\n{trace}"),
        Outcome::Stuck { trace, states } => println!("STUCK in {states}:\n{trace}"),
        Outcome::TooMany => println!("too many"),
    }
    println!("{:?}", started.elapsed());
}
