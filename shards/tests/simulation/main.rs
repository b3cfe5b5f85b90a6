//! Whole runtimes of pure shards on one thread, driven from one seed, and judged.
//!
//! `world` has the shards, lanes that delay, and clients that send whatever they like in whatever way there is; every decision comes from
//! the seed. `checker` knows in which order messages took effect, and demands that this order explains everything every message has
//! seen and everything that is left. A failure prints the seed and the command that replays it; the seed then joins [`FAILED`].
//!
//! By hand: `FREEHOLD_SEEDS=100000 cargo test --release -p freehold-shard --test simulation`.

mod checker;
mod world;

use world::{Shape, World};

/// Seeds that once failed, with what they found.
const FAILED: &[u64] = &[];

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
        "replay: FREEHOLD_SEED={seed} cargo test -p freehold-shard --test simulation replay -- --nocapture"
    )
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable)
        .ok()
        .map(|value| value.parse().unwrap_or_else(|_| panic!("{variable} is a number, not {value}")))
}

fn shape_of(seed: u64) -> Shape {
    Shape {
        shards: [1, 2, 2, 3, 3, 5, 8][seed as usize % 7],
        objects: [2, 4, 8, 40][seed as usize / 7 % 4],
        messages: if cfg!(miri) { 30 } else { 400 },
    }
}

#[test]
fn every_history_is_serializable() {
    std::panic::set_hook(Box::new(|panic| {
        if panic.payload().downcast_ref::<&str>().is_none_or(|text| !text.starts_with("as the script says")) {
            eprintln!("{panic}");
        }
    }));
    let seeds = number("FREEHOLD_SEEDS").unwrap_or(if cfg!(miri) {
        1
    } else if cfg!(debug_assertions) {
        300
    } else {
        3_000
    });
    // Fresh ones each time, beside those that failed.
    let first = number("FREEHOLD_FIRST_SEED").unwrap_or_else(|| std::process::id().into());
    let steps: u64 = FAILED
        .iter()
        .copied()
        .chain(first * 1_000_003..first * 1_000_003 + seeds)
        .map(|seed| run(seed, shape_of(seed)))
        .sum();
    println!("{seeds} seeds from {}, {steps} steps", first * 1_000_003);
}

#[test]
fn replay_one() {
    if let Some(seed) = number("FREEHOLD_SEED") {
        println!("seed {seed}: {} steps", run(seed, shape_of(seed)));
    }
}

#[test]
fn a_seed_decides_everything() {
    let steps = |_| World::new(12, shape_of(12)).run();
    assert_eq!(steps(0), steps(1));
}
