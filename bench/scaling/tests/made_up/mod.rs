//! Runs that nobody measured: their rates follow a law that is known, so what is made of them can
//! be checked.
#![allow(dead_code, reason = "each test uses a part of it")]

use freehold_workloads::{
    Cache, Cell, Cross, Disturbance, Durability, Engine, Latency, Load, Machine, Measured, Outcome,
    RUN_FORMAT, Repetition, Run, SEED, Skew, SmallBank, Spec, SyncTime, latencies,
};
use rand_distr::{Distribution, LogNormal};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::SeedableRng;

/// What the made-up machine does alone, and what its shards cost each other when nothing spans.
pub const SINGLE: f64 = 2.4e6;
pub const CONTENTION: f64 = 0.02;
pub const COHERENCE: f64 = 0.0008;

/// What is to be made up.
pub struct Plan<'a> {
    pub shards: &'a [usize],
    pub cross: &'a [Cross],
    pub skews: &'a [Skew],
    pub durabilities: &'a [Durability],
    pub loads: &'a [Load],
    /// Beside Freehold.
    pub peers: &'a [&'a str],
    pub repetitions: u32,
}

pub const CLOSED: Load = Load::Closed { in_flight: 64 };

impl Plan<'_> {
    /// Few cells of one engine.
    pub const SMALL: Plan<'static> = Plan {
        shards: &[1, 2],
        cross: &[Cross::Percent(0.0), Cross::Percent(10.0)],
        skews: &[Skew::Uniform],
        durabilities: &[Durability::None],
        loads: &[CLOSED],
        peers: &[],
        repetitions: 5,
    };

    /// Everything a report can show.
    pub const LARGE: Plan<'static> = Plan {
        shards: &[1, 2, 4, 8, 16],
        cross: &[
            Cross::Percent(0.0),
            Cross::Percent(1.0),
            Cross::Percent(10.0),
            Cross::Percent(50.0),
            Cross::Percent(100.0),
        ],
        skews: &[Skew::Uniform, Skew::Hotspot { rows: 100, share: 0.9 }],
        durabilities: &[Durability::None, Durability::Durable],
        loads: &[CLOSED, Load::Open { share: 0.5 }, Load::Open { share: 0.9 }],
        peers: &[],
        repetitions: 5,
    };

    /// Freehold and others.
    pub const PEERS: Plan<'static> = Plan {
        shards: &[1, 4],
        cross: &[Cross::Natural],
        skews: &[Skew::Uniform],
        durabilities: &[Durability::None, Durability::Durable],
        loads: &[CLOSED],
        peers: &["dashmap", "mutex", "tokio-mpsc", "kameo", "surrealmx", "redb"],
        repetitions: 5,
    };

    /// A run of it, complete and undisturbed.
    pub fn run(&self) -> Run {
        let mut cells = Vec::new();
        for skew in self.skews {
            for durability in self.durabilities {
                for load in self.loads {
                    for shards in self.shards {
                        for cross in self.cross.iter().take(if *shards == 1 { 1 } else { self.cross.len() }) {
                            for engine in ["freehold"].iter().chain(self.peers) {
                                cells.push(Cell {
                                    engine: (*engine).to_owned(),
                                    spec: Spec::SmallBank(SmallBank { customers: 100_000, skew: *skew }),
                                    shards: *shards,
                                    cross: *cross,
                                    durability: *durability,
                                    load: *load,
                                });
                            }
                        }
                    }
                }
            }
        }
        let about = |name: &str| Engine {
            version: "6.1.0".into(),
            about: format!("What {name} is & how it is used."),
        };
        Run {
            format: RUN_FORMAT,
            command: [
                "shard_scaling",
                "--workload",
                "smallbank",
                "--cross",
                "0,1,10,50,100",
                "--name",
                "two words",
            ]
            .map(String::from)
            .to_vec(),
            began: 1_795_000_000,
            ended: 1_795_001_234,
            version: "0.1.0".into(),
            commit: "0123abcd4567+".into(),
            compiler: "rustc 1.92.0".into(),
            is_debug: false,
            data: "target/shard_scaling".into(),
            seed: SEED,
            warm_up: 0.5,
            measure: 2.0,
            repetitions: self.repetitions,
            machine: machine(),
            engines: ["freehold"]
                .iter()
                .chain(self.peers)
                .map(|name| ((*name).to_owned(), about(name)))
                .collect(),
            overhead_ns: [("smallbank".to_owned(), 9.4)].into(),
            cells: cells.into_iter().map(|cell| Measured { outcome: self.outcome(&cell), cell }).collect(),
        }
    }

    fn outcome(&self, cell: &Cell) -> Outcome {
        match (cell.engine.as_str(), cell.durability) {
            ("kameo", _) => {
                return Outcome::Cannot(
                    "An actor of kameo has no transactions: two accounts cannot change together.".into(),
                );
            }
            ("dashmap" | "mutex" | "tokio-mpsc" | "surrealmx", Durability::Durable) => {
                return Outcome::Cannot("It keeps nothing on disk.".into());
            }
            ("surrealmx", _) if cell.shards > 1 => {
                return Outcome::Failed("42 cents are missing: <lost update> & \"more\"".into());
            }
            _ => {}
        }
        Outcome::Measured((0..self.repetitions).map(|number| repetition(cell, number)).collect())
    }
}

/// The rate without noise.
pub fn rate(cell: &Cell) -> f64 {
    let n = cell.shards as f64;
    let spans = spans(cell);
    let slower = match (&cell.durability, cell.engine.as_str()) {
        (Durability::None, _) => 1.0,
        (_, "freehold") => 3.1,
        _ => 900.0,
    };
    let (single, contention) = match cell.engine.as_str() {
        "freehold" => (SINGLE / (1.0 + 2.5 * spans), CONTENTION + 0.2 * spans),
        "dashmap" => (1.7 * SINGLE, 0.05),
        "mutex" => (0.9 * SINGLE, 1.2),
        _ => (0.1 * SINGLE, 0.1),
    };
    single * n / (1.0 + contention * (n - 1.0) + COHERENCE * n * (n - 1.0)) / slower
}

/// How much of it spans shards.
pub fn spans(cell: &Cell) -> f64 {
    let n = cell.shards as f64;
    0.4 * match cell.cross {
        _ if cell.shards == 1 => 0.0,
        Cross::Natural => (n - 1.0) / n,
        Cross::Percent(percent) => percent / 100.0,
    }
}

fn repetition(cell: &Cell, number: u32) -> Repetition {
    // From -2 % to 2 %, the same for each cell; the median has none.
    let noise = 1.0 + [0.0, -0.01, 0.02, -0.02, 0.01][number as usize % 5];
    let (share, wanted) = match cell.load {
        Load::Closed { .. } => (1.0, None),
        Load::Open { share } => (share, Some(share * rate(cell))),
        Load::Rate { per_second } => (per_second / rate(cell), Some(per_second)),
    };
    let (per_second, seconds) = (share * rate(cell) * noise, 2.0);
    let committed = (per_second * seconds) as u64;
    let aborted = committed / 125;
    let all = committed + aborted;
    let spanning = (all as f64 * spans(cell)) as u64;
    let is_own = cell.engine == "freehold";
    let pairs = (cell.shards * cell.shards.saturating_sub(1)).max(1) as u64;
    let envelopes = |from: usize, to: usize| {
        // The first shard sends more.
        if from == to { 0 } else { spanning * 3 / pairs / 2 * if from == 0 { 3 } else { 2 } / 2 }
    };
    let traffic = |from| (0..cell.shards).map(|to| envelopes(from, to)).collect();
    let is_logged = cell.durability != Durability::None;
    Repetition {
        seconds,
        committed,
        aborted,
        spanning,
        per_second,
        cpu_seconds: seconds * cell.shards as f64,
        wanted_per_second: wanted,
        latency: latency(cell, number, share),
        traffic: if is_own { (0..cell.shards).map(traffic).collect() } else { Vec::new() },
        traffic_transactions: if is_own { all } else { 0 },
        blocked: all / 50,
        reruns: all / 900,
        log_bytes: if is_logged { all * 61 } else { 0 },
        log_writes: if is_logged { all / 400 } else { 0 },
        disturbance: Disturbance { others: 0.012, stolen: 0.0 },
    }
}

fn latency(cell: &Cell, number: u32, share: f64) -> Latency {
    let waits = match cell.load {
        Load::Closed { in_flight } => in_flight as f64 * cell.shards as f64 / rate(cell) * 1e9,
        _ => 4e3 / (1.05 - share) * if cell.durability == Durability::None { 1.0 } else { 60.0 },
    };
    let mut random = Pcg64::seed_from_u64(u64::from(number));
    let law = LogNormal::new(waits.ln(), 0.35).expect("the deviation is finite");
    let tail = LogNormal::new((8.0 * waits).ln(), 0.8).expect("the deviation is finite");
    let mut times = latencies();
    for sample in 0..20_000 {
        let time = if sample % 150 == 0 { tail.sample(&mut random) } else { law.sample(&mut random) };
        times.saturating_record((time as u64).max(1));
    }
    Latency::from(&times)
}

fn machine() -> Machine {
    Machine {
        cpu: Some("Example CPU @ 3.10GHz".into()),
        cpus: (0..16).collect(),
        cores: Some(16),
        sockets: Some(1),
        caches: vec![
            Cache { name: "L1d".into(), bytes: 48 << 10, shared_by: 1 },
            Cache { name: "L2".into(), bytes: 2 << 20, shared_by: 1 },
            Cache { name: "L3".into(), bytes: 36 << 20, shared_by: 16 },
        ],
        smt: Some(false),
        numa_nodes: Some(1),
        governor: None,
        virtualisation: Some("kvm".into()),
        memory: Some(64 << 30),
        kernel: Some("6.12.0".into()),
        system: Some("Debian GNU/Linux 13".into()),
        file_system: Some("ext4 on /srv/freehold".into()),
        sync: Some(SyncTime { p50: 85.0, p99: 1450.0 }),
        load_before: Some(0.12),
        load_after: Some(15.4),
    }
}

/// Marks a cell as measured on a busy machine.
pub fn disturb(measured: &mut Measured) {
    if let Outcome::Measured(repetitions) = &mut measured.outcome {
        repetitions[0].disturbance = Disturbance { others: 0.23, stolen: 0.04 };
    }
}

/// A run that was stopped: the last half of it is pending, and the cell before lacks repetitions.
pub fn stopped(mut run: Run) -> Run {
    let half = run.cells.len() / 2;
    run.cells[half..].iter_mut().for_each(|measured| measured.outcome = Outcome::Pending);
    if let Outcome::Measured(repetitions) = &mut run.cells[half - 1].outcome {
        repetitions.truncate(2);
    }
    run
}
