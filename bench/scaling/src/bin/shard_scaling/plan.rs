//! Which cells a run has: every combination of what was asked for, but those that would be measured
//! twice.

use std::collections::BTreeSet;

use freehold::PlacementKey;
use freehold_shard::Router;
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
    #[error("{rows} warehouses are too many: at most 65535")]
    Warehouses { rows: u64 },
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
        for (spec, choice) in chosen(arguments, &shards)? {
            for &shards in &shards {
                // One shard spans nothing, and some workloads have no choice.
                let cross = match (choice, shards) {
                    (Choice::Never, _) => &[Cross::Natural][..],
                    (Choice::IfAsked, _) if arguments.cross.is_empty() => &[Cross::Natural],
                    (_, 1) => &[Cross::Percent(0.0)],
                    _ => &cross,
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

/// So many warehouses that every shard has one, whatever number of them there is: four for each, or
/// more if the hash wants it.
fn warehouses(seed: u64, shards: &[usize]) -> u16 {
    let covers = |warehouses: u16, shards: usize| {
        let router = Router::new(PlacementKey(seed), shards);
        let homes: BTreeSet<_> =
            (0..=warehouses).skip(1).map(|warehouse| router.home(&warehouse).index()).collect();
        homes.len() == shards
    };
    let least = 4 * shards.iter().copied().max().unwrap_or(1) as u16;
    (least..=u16::MAX).find(|&all| shards.iter().all(|&shards| covers(all, shards))).unwrap_or(u16::MAX)
}

/// Whether a workload's transactions have a choice of spanning shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Choice {
    /// It is what the workload is about.
    Always,
    /// They have, but were published with shares of their own.
    IfAsked,
    /// Each is about one row, or one group of rows that share a shard.
    Never,
}

/// The workloads, with all their skews, or what else varies in them.
fn chosen(arguments: &Arguments, shards: &[usize]) -> Result<Vec<(Spec, Choice)>, PlanError> {
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
                let warehouses = match arguments.rows {
                    Some(rows) => u16::try_from(rows).map_err(|_| PlanError::Warehouses { rows })?,
                    None => warehouses(arguments.seed, shards),
                };
                let new_orders = arguments.new_orders;
                let sized = if arguments.quick { Tpcc::small } else { Tpcc::new };
                let remote = or(
                    &arguments.remote_items,
                    by_size(arguments, vec![1.0], vec![1.0], vec![0.0, 1.0, 5.0, 10.0]),
                );
                for remote_items in remote {
                    let tpcc = Tpcc { remote_items, new_orders, ..sized(warehouses) };
                    chosen.push((Spec::Tpcc(tpcc), Choice::IfAsked));
                }
                continue;
            }
            Name::Tatp => {
                let subscribers = rows(10_000, 100_000) as u32;
                chosen.push((Spec::Tatp(Tatp { subscribers }), Choice::Never));
                continue;
            }
            _ => {}
        }
        for &skew in &skews {
            let (records, million) = (rows(5_000, 100_000), rows(10_000, 1_000_000));
            let mix = |mix| vec![Spec::Ycsb(Ycsb { mix, records, skew })];
            let growth = |growth| vec![Spec::YcsbGrowing(YcsbGrowing { growth, records, skew })];
            let (specs, size, choice) = match name {
                Name::Smallbank => {
                    let bank = SmallBank { customers: million, skew };
                    (vec![Spec::SmallBank(bank)], million, Choice::Always)
                }
                Name::Micro => {
                    let aborts =
                        or(&arguments.aborts, by_size(arguments, vec![0.0], vec![0.0], vec![0.0, 10.0]));
                    let micro = |aborts: f64| HStoreMicro { rows: million, skew, aborts: aborts / 100.0 };
                    let specs = aborts.into_iter().map(|aborts| Spec::HStoreMicro(micro(aborts)));
                    (specs.collect(), million, Choice::Always)
                }
                Name::YcsbA => (mix(Mix::A), records, Choice::Never),
                Name::YcsbB => (mix(Mix::B), records, Choice::Never),
                Name::YcsbC => (mix(Mix::C), records, Choice::Never),
                Name::YcsbD => (growth(Growth::D), records, Choice::Never),
                Name::YcsbE => (growth(Growth::E), records, Choice::IfAsked),
                Name::YcsbF => (mix(Mix::F), records, Choice::Never),
                Name::YcsbT => {
                    let most = shards.iter().copied().max().unwrap_or(1);
                    let all: Vec<_> =
                        [2, 4, 8, 16].into_iter().filter(|spread| *spread <= most.max(2)).collect();
                    let given: Vec<_> = arguments.spread.iter().copied().map(usize::from).collect();
                    let spreads = or(&given, by_size(arguments, vec![2], vec![2], all));
                    let writes = arguments.writes / 100.0;
                    let ycsb = |spread| YcsbTransactional { records, skew, writes, spread };
                    let specs = spreads.into_iter().map(|spread| Spec::YcsbTransactional(ycsb(spread)));
                    (specs.collect(), records, Choice::Always)
                }
                Name::Tpcc | Name::Tatp => unreachable!("they have no skew"),
            };
            if let Skew::Hotspot { rows, .. } = skew
                && rows >= size
            {
                return Err(PlanError::Hotspot { hot: rows, rows: size });
            }
            chosen.extend(specs.into_iter().map(|spec| (spec, choice)));
        }
    }
    Ok(chosen)
}
