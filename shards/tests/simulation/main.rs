//! Whole runtimes of pure shards on one thread, driven from one seed, and judged.
//!
//! `world` has the shards, lanes that delay, and clients that send whatever they like in whatever way there is, open snapshots and read
//! them slowly; every decision comes from the seed. `checker` knows the order the protocol claims, and demands that it explains everything
//! anyone has seen and everything that is left. A failure prints the seed and the command that replays it; the seed then joins [`FAILED`].
//! And the other way round: with one rule of the protocol broken (`fault.rs`), some seed must fail.
//!
//! It is a unit test of the crate, so that it can break those rules. By hand:
//! `FREEHOLD_SEEDS=100000 cargo test --release -p freehold-shard --lib simulation -- --nocapture`.

mod checker;
mod world;

use std::time::Duration;

use freehold_shard::Limits;

use crate::fault::{self, Fault};
use world::{Shape, World};

/// Seeds that once failed, with what they found.
const FAILED: &[u64] = &[];

/// Seeds in which every fault must be found.
const SEEDS_PER_FAULT: u64 = if cfg!(debug_assertions) { 300 } else { 3_000 };

fn run(seed: u64, shape: Shape) -> u64 {
    let outcome = std::panic::catch_unwind(|| World::new(seed, shape).run());
    match outcome {
        Ok(Ok(steps)) => steps,
        Ok(Err(violation)) => panic!("seed {seed}: {violation}\n{}", replay(seed)),
        Err(payload) => {
            eprintln!("seed {seed}: panicked\n{}", replay(seed));
            std::panic::resume_unwind(payload)
        }
    }
}

fn replay(seed: u64) -> String {
    format!(
        "replay: FREEHOLD_SEED={seed} cargo test -p freehold-shard --lib simulation::replay_one -- --nocapture"
    )
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {value}")))
}

fn shape_of(seed: u64) -> Shape {
    let limits = Limits {
        reruns_max: 3,
        // In some worlds snapshots are revoked, for either reason.
        versions_max: if seed.is_multiple_of(5) { 4 } else { 1_000 },
        snapshot_age_max: Duration::from_nanos(if seed % 5 == 1 { 100 } else { u64::MAX }),
        ..Limits::default()
    };
    Shape {
        shards: [1, 2, 2, 3, 3, 5, 8][seed as usize % 7],
        objects: [2, 4, 8, 40][seed as usize / 7 % 4],
        messages: if cfg!(miri) { 30 } else { 400 },
        limits,
    }
}

/// Panics that a script asks for are not worth a line; those of a world that a fault broke neither.
fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let is_scripted =
            panic.payload().downcast_ref::<&str>().is_some_and(|text| text.starts_with("as the script says"));
        if !is_scripted && !fault::is_any_on() {
            eprintln!("{panic}");
        }
    }));
}

/// Fresh seeds each time.
fn first_seed() -> u64 {
    number("FREEHOLD_FIRST_SEED").unwrap_or_else(|| std::process::id().into()) * 1_000_003
}

#[test]
fn every_history_is_strictly_serializable() {
    quiet_panics();
    let seeds = number("FREEHOLD_SEEDS").unwrap_or(if cfg!(miri) {
        1
    } else if cfg!(debug_assertions) {
        300
    } else {
        3_000
    });
    let first = first_seed();
    let steps: u64 =
        FAILED.iter().copied().chain(first..first + seeds).map(|seed| run(seed, shape_of(seed))).sum();
    println!("{seeds} seeds from {first}, {steps} steps");
}

#[test]
#[cfg_attr(miri, ignore = "needs many seeds")]
fn every_fault_is_found() {
    quiet_panics();
    let first = first_seed();
    let mut unnoticed = Vec::new();
    for fault in Fault::ALL {
        let finds = |seed: &u64| {
            fault::switch(Some(fault));
            let outcome = std::panic::catch_unwind(|| World::new(*seed, shape_of(*seed)).run());
            fault::switch(None);
            !matches!(outcome, Ok(Ok(_)))
        };
        match (first..first + SEEDS_PER_FAULT).find(finds) {
            Some(seed) => println!("{fault:?} is found by seed {}", seed - first),
            None => unnoticed.push(fault),
        }
    }
    assert!(unnoticed.is_empty(), "not found in {SEEDS_PER_FAULT} seeds from {first}: {unnoticed:?}");
}

#[test]
fn replay_one() {
    if let Some(seed) = number("FREEHOLD_SEED") {
        println!("seed {seed}: {} steps", run(seed, shape_of(seed)));
    }
}

#[test]
fn a_seed_decides_everything() {
    quiet_panics();
    let steps = |_| World::new(12, shape_of(12)).run();
    assert_eq!(steps(0), steps(1));
}
