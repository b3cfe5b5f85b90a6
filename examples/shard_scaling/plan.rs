//! Which cells a run has: every combination of what was asked for, but those that would be measured twice.

use freehold_workloads::{
    Cell, Cross, Durability, Growth, HStoreMicro, Load, Mix, Skew, SmallBank, Spec, Tatp, Tpcc, Ycsb,
    YcsbGrowing, YcsbTransactional,
};

use crate::arguments::{Arguments, Name};
use crate::engine;

/// In flight of each client, where answers do not wait for the disk, and where they do.
const IN_FLIGHT: usize = 256;
const IN_FLIGHT_DURABLE: usize = 16_384;

/// What was asked for does not go together.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error("a hotspot of {hot} rows needs more than the {rows} there are: lower it, or raise --rows")]
    Hotspot { hot: u64, rows: u64 },
}

/// Everything that was asked for or follows.
pub struct Plan {
    pub cells: Vec<Cell>,
    pub warm_up: f64,
    pub measure: f64,
}

/// One value of each where nothing is said, by how much time there is.
fn by_size<T>(arguments: &Arguments, quick: T, usual: T, full: T) -> T {
    match (arguments.quick, arguments.full) {
        (true, _) => quick,
        (_, true) => full,
        _ => usual,
    }
}

fn or<T: Clone>(given: &[T], default: Vec<T>) -> Vec<T> {
    if given.is_empty() { default } else { given.to_vec() }
}

impl Plan {
    /// For a machine with so many CPUs, and these peers.
    ///
    /// # Errors
    /// If what was asked for does not go together.
    pub fn new(arguments: &Arguments, cpus: usize, peers: &[String]) -> Result<Self, PlanError> {
        let shards = or(&arguments.shards, counts(cpus)).into_iter().map(usize::from).collect::<Vec<_>>();
        let percents = |some: &[f64]| some.iter().map(|&percent| Cross::Percent(percent)).collect::<Vec<_>>();
        let mut usual = percents(&[0.0, 10.0, 50.0, 100.0]);
        usual.push(Cross::Natural);
        let mut full = percents(&[0.0, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0]);
        full.push(Cross::Natural);
        let cross = or(&arguments.cross, by_size(arguments, percents(&[0.0, 100.0]), usual, full));
        let all = vec![Durability::None, Durability::Applied, Durability::Durable];
        let quick = vec![Durability::None, Durability::Durable];
        let durability = or(&arguments.durability, by_size(arguments, quick, all.clone(), all));
        let mut loads = vec![None];
        loads.extend(
            or(&arguments.open, by_size(arguments, vec![], vec![], vec![50.0, 80.0]))
                .into_iter()
                .map(|share| Some(Load::Open { share: share / 100.0 })),
        );
        loads.extend(arguments.rate.iter().map(|&per_second| Some(Load::Rate { per_second })));

        let mut cells = Vec::new();
        for Chosen { spec, has_choice } in chosen(arguments, &shards)? {
            for &shards in &shards {
                // One shard spans nothing, and some workloads have no choice.
                let cross = match (has_choice, shards) {
                    (false, _) => &[Cross::Natural][..],
                    (true, 1) => &[Cross::Percent(0.0)],
                    (true, _) => &cross,
                };
                for &cross in cross {
                    for &durability in &durability {
                        let in_flight = arguments.in_flight.map_or(
                            if durability == Durability::Durable { IN_FLIGHT_DURABLE } else { IN_FLIGHT },
                            |in_flight| in_flight as usize,
                        );
                        for load in &loads {
                            let load = load.unwrap_or(Load::Closed { in_flight });
                            let cell = Cell {
                                engine: String::new(),
                                spec: spec.clone(),
                                shards,
                                cross,
                                durability,
                                load,
                            };
                            if !cells.contains(&cell) {
                                cells.push(cell);
                            }
                        }
                    }
                }
            }
        }
        let engines = || std::iter::once(engine::NAME).chain(peers.iter().map(String::as_str));
        let each = |cell: &Cell| {
            engines().map(|engine| Cell { engine: engine.to_owned(), ..cell.clone() }).collect::<Vec<_>>()
        };
        Ok(Plan {
            cells: cells.iter().flat_map(each).collect(),
            warm_up: arguments.warm_up.unwrap_or(by_size(arguments, 0.02, 0.3, 0.5)),
            measure: arguments.measure.unwrap_or(by_size(arguments, 0.08, 1.0, 2.0)),
        })
    }
}

/// 1, 2, 4 and so on, and the number of CPUs.
fn counts(cpus: usize) -> Vec<u16> {
    let cpus = cpus.clamp(1, 256) as u16;
    let mut counts: Vec<_> =
        std::iter::successors(Some(1), |count| Some(count * 2)).take_while(|count| *count < cpus).collect();
    counts.push(cpus);
    counts
}

/// A workload with its sizes, and whether its transactions have a choice of spanning shards or not.
struct Chosen {
    spec: Spec,
    has_choice: bool,
}

impl Chosen {
    fn with_choice(spec: Spec) -> Self {
        Chosen { spec, has_choice: true }
    }

    fn without(spec: Spec) -> Self {
        Chosen { spec, has_choice: false }
    }
}

/// The workloads, with all their skews, or what else varies in them.
fn chosen(arguments: &Arguments, shards: &[usize]) -> Result<Vec<Chosen>, PlanError> {
    let usual = vec![Skew::Uniform];
    let both = vec![Skew::Uniform, Skew::Zipf(0.99)];
    let skews = or(&arguments.skew, by_size(arguments, usual.clone(), usual, both));
    let most = vec![
        Name::Smallbank,
        Name::Micro,
        Name::YcsbA,
        Name::YcsbB,
        Name::YcsbE,
        Name::YcsbT,
        Name::Tpcc,
        Name::Tatp,
    ];
    let usual = vec![Name::Smallbank];
    let names = or(&arguments.workload, by_size(arguments, usual.clone(), usual, most));
    let rows = |quick: u64, usual: u64| arguments.rows.unwrap_or(by_size(arguments, quick, usual, usual));
    let mut chosen = Vec::new();
    for name in names {
        match name {
            Name::Tpcc => {
                // Four for each shard, so that a hash leaves none without.
                let most = shards.iter().copied().max().unwrap_or(1) as u64;
                let warehouses = rows(4 * most, 4 * most).min(u64::from(u16::MAX)) as u16;
                let sized = if arguments.quick { Tpcc::small } else { Tpcc::new };
                let remote = or(
                    &arguments.remote_items,
                    by_size(arguments, vec![1.0], vec![1.0], vec![0.0, 1.0, 5.0, 10.0]),
                );
                for remote_items in remote {
                    chosen.push(Chosen::without(Spec::Tpcc(Tpcc { remote_items, ..sized(warehouses) })));
                }
                continue;
            }
            Name::Tatp => {
                let subscribers = rows(10_000, 100_000) as u32;
                chosen.push(Chosen::without(Spec::Tatp(Tatp { subscribers })));
                continue;
            }
            _ => {}
        }
        for &skew in &skews {
            let (records, million) = (rows(5_000, 100_000), rows(10_000, 1_000_000));
            let mix = |mix| Chosen::without(Spec::Ycsb(Ycsb { mix, records, skew }));
            let growth = |growth| Chosen::without(Spec::YcsbGrowing(YcsbGrowing { growth, records, skew }));
            let spread = usize::from(arguments.spread);
            let aborts = arguments.aborts / 100.0;
            let (one, size) = match name {
                Name::Smallbank => {
                    (Chosen::with_choice(Spec::SmallBank(SmallBank { customers: million, skew })), million)
                }
                Name::Micro => (
                    Chosen::with_choice(Spec::HStoreMicro(HStoreMicro { rows: million, skew, aborts })),
                    million,
                ),
                Name::YcsbA => (mix(Mix::A), records),
                Name::YcsbB => (mix(Mix::B), records),
                Name::YcsbC => (mix(Mix::C), records),
                Name::YcsbD => (growth(Growth::D), records),
                Name::YcsbE => (growth(Growth::E), records),
                Name::YcsbF => (mix(Mix::F), records),
                Name::YcsbT => {
                    let ycsb = YcsbTransactional { records, skew, writes: 0.5, spread };
                    (Chosen::with_choice(Spec::YcsbTransactional(ycsb)), records)
                }
                Name::Tpcc | Name::Tatp => unreachable!("they have no skew"),
            };
            if let Skew::Hotspot { rows, .. } = skew
                && rows >= size
            {
                return Err(PlanError::Hotspot { hot: rows, rows: size });
            }
            chosen.push(one);
        }
    }
    Ok(chosen)
}
