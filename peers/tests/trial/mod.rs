//! The trial that the tests vary.

use std::path::Path;

use freehold_workloads::{Cell, Cross, Durability, Load, SEED, Skew, SmallBank, Spec, Trial};

/// A tenth of a second of a small SmallBank, by two clients.
pub fn trial(engine: &str, durability: Durability, directory: &Path) -> Trial {
    Trial {
        cell: Cell {
            engine: engine.to_owned(),
            // Some hot ones: they meet.
            spec: Spec::SmallBank(SmallBank { customers: 100, skew: Skew::Hotspot { rows: 4, share: 0.5 } }),
            shards: 2,
            cross: Cross::Natural,
            durability,
            load: Load::Closed { in_flight: 8 },
        },
        seed: SEED,
        warm_up: 0.02,
        measure: 0.1,
        per_second: None,
        directory: directory.to_owned(),
    }
}
