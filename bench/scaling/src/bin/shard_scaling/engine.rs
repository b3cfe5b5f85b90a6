//! Freehold, measured: one trial starts a runtime, loads the rows, lets a client on each shard
//! work, and balances the books.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use freehold::{
    Ack, AskError, Config, Handle, Local, LogConfig, PlacementKey, Runtime, Shards, Stats, glommio,
};
use freehold_workloads::{
    Answer, Client, Durability, Load, Order, Pace, Part, Phase, Repetition, Served, Stream, Trial, Visitor,
    Watch, Workload,
};

use crate::drive::{Driver, Orders, Pacing};

/// Its name in cells.
pub const NAME: &str = "freehold";
/// What it is, for the table of engines.
pub const ABOUT: &str = "this runtime: a client on each shard, rows of its own shard by `Local::ask_now`, others by `Local::ask`; strictly serializable";

/// How often whoever waits looks around.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// A shard that finds nothing to do publishes what its tasks did by themselves each 16 looks. A
/// task that gives way lets it look once.
const LOOKS_PER_PUBLISHING: usize = 64;
/// How long counters may take to say what was done, which they do at the end of a turn.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// What a trial is told and tells while it runs.
pub struct Watcher<'a> {
    /// Set when it is to be given up.
    pub interrupted: &'a AtomicBool,
    /// Hears how many transactions a second there are, several times a second.
    pub rate: &'a dyn Fn(f64),
}

/// Measures one trial; `None` if it was given up.
pub fn measure(trial: &Trial, watcher: &Watcher<'_>) -> Option<Answer> {
    trial.cell.spec.visit(Measure { trial, watcher })
}

struct Measure<'a> {
    trial: &'a Trial,
    watcher: &'a Watcher<'a>,
}

impl Visitor for Measure<'_> {
    type Result = Option<Answer>;

    fn visit<W: Workload>(self, workload: &W) -> Option<Answer> {
        match run(workload, self.trial, self.watcher) {
            Ok(repetition) => Some(Answer::Measured(Box::new(repetition))),
            Err(Stopped::Interrupted) => None,
            Err(Stopped::Failed(why)) => Some(Answer::Failed(why)),
        }
    }
}

/// Why there is no figure.
enum Stopped {
    Interrupted,
    Failed(String),
}

fn failed(error: impl std::fmt::Display) -> Stopped {
    Stopped::Failed(error.to_string())
}

fn run<W: Workload>(workload: &W, trial: &Trial, watcher: &Watcher<'_>) -> Result<Repetition, Stopped> {
    let cell = &trial.cell;
    let orders = streams(workload, trial)?;
    let has_guests = orders.iter().any(Orders::leave);
    let directory = tempfile::tempdir_in(&trial.directory).map_err(failed)?;
    let runtime = start::<W>(trial, directory.path())?;
    load(&runtime, workload)?;
    let before = settled(&runtime)?;

    let pacing = match (cell.load, trial.per_second) {
        (Load::Closed { in_flight }, _) => Pacing::Closed { in_flight },
        (_, Some(per_second)) => {
            Pacing::Open { per_second: per_second / cell.shards as f64, seed: trial.seed }
        }
        (_, None) => return Err(failed("an open loop needs a rate")),
    };
    let pace = Arc::new(Pace::default());
    let parts = {
        let (pace, durability) = (pace.clone(), cell.durability);
        // For each client to take its own.
        let orders: Vec<_> = orders.into_iter().map(Some).collect();
        let orders = Arc::new(Mutex::new(orders));
        runtime.on_each_shard(move |local: Local<Served<W>>| {
            let (orders, pace) = (orders.clone(), pace.clone());
            async move {
                let mine = orders.lock().expect("nobody panics with the lock")[local.shard().index()].take();
                let mine = mine.expect("one client a shard");
                Driver::new(local, mine, durability, has_guests).run(pacing, pace).await
            }
        })
    };
    let handle = runtime.handle();
    wait(&handle, trial.warm_up, watcher).inspect_err(|_| pace.begin(Phase::Stop))?;
    let watch = Watch::begin();
    pace.begin(Phase::Measure);
    let waited = wait(&handle, trial.measure, watcher);
    pace.begin(Phase::Stop);
    let (_, cpu, disturbance) = watch.end();
    waited?;
    let parts = parts.wait().into_iter().collect::<Result<Vec<Part<W>>, _>>().map_err(failed)?;
    let after = settled(&runtime)?;
    let (acknowledged, mut repetition) = Part::together(parts).map_err(Stopped::Failed)?;
    balance(workload, &handle, &acknowledged)?;
    let report = runtime.shutdown();
    if !report.drained {
        return Err(failed(format!("the runtime did not drain: {report}")));
    }
    count(&mut repetition, &before, &after);
    repetition.cpu_seconds = cpu.as_secs_f64();
    repetition.disturbance = disturbance;
    repetition.wanted_per_second = trial.per_second;
    Ok(repetition)
}

/// Each client's transactions.
fn streams<W: Workload>(workload: &W, trial: &Trial) -> Result<Vec<Orders<W>>, Stopped> {
    let shards = trial.cell.shards;
    let one = |shard| {
        let mut client = Client::new(trial.seed, shard, shards, trial.cell.cross);
        Ok(Orders::from(&Stream::draw(workload, &mut client).map_err(failed)?))
    };
    // Each on a thread of its own: drawing takes as long as some measure.
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..shards).map(|shard| scope.spawn(move || one(shard))).collect();
        threads.into_iter().map(|thread| thread.join().expect("drawing does not panic")).collect()
    })
}

fn start<W: Workload>(trial: &Trial, directory: &Path) -> Result<Runtime<Served<W>>, Stopped> {
    let config = Config {
        shards: Shards::Count(trial.cell.shards),
        placement_key: Some(PlacementKey(trial.seed)),
        ..Config::default()
    };
    let ack = match trial.cell.durability {
        Durability::None => return Runtime::start(config).map_err(failed),
        Durability::Applied => Ack::Applied,
        Durability::Durable => Ack::Durable,
    };
    Runtime::open(config, LogConfig { ack, ..LogConfig::at(directory) }).map_err(failed)
}

/// Puts the rows in: each shard those that live there.
fn load<W: Workload>(runtime: &Runtime<Served<W>>, workload: &W) -> Result<(), Stopped> {
    let workload = workload.clone();
    let task = move |local: Local<Served<W>>| {
        let workload = workload.clone();
        async move {
            let mut rows = Vec::new();
            workload.load(&mut |id, row| {
                if local.home(&id) == local.shard() {
                    rows.push(Order::Load(id, Box::new(row)));
                }
            });
            for order in rows {
                loop {
                    match local.ask_now(&order) {
                        Ok(_) => break,
                        // The log is behind.
                        Err(AskError::Overloaded) => glommio::timer::sleep(Duration::from_millis(1)).await,
                        Err(error) => return Err(error.to_string()),
                    }
                }
                glommio::yield_if_needed().await;
            }
            local.durable().await.map_err(|error| error.to_string())
        }
    };
    runtime.on_each_shard(task).wait().into_iter().try_for_each(|done| done.map_err(failed)?.map_err(failed))
}

/// Waits, and tells of the rate meanwhile.
fn wait<W: Workload>(handle: &Handle<Served<W>>, seconds: f64, watcher: &Watcher<'_>) -> Result<(), Stopped> {
    let (begun, lasts) = (Instant::now(), Duration::from_secs_f64(seconds));
    let (mut handled, mut at) = (handle.stats().handled(), begun);
    loop {
        let left = lasts.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(LOOK_EVERY));
        if watcher.interrupted.load(Ordering::Relaxed) {
            return Err(Stopped::Interrupted);
        }
        if at.elapsed() > 4 * LOOK_EVERY {
            let now = handle.stats().handled();
            (watcher.rate)((now - handled) as f64 / at.elapsed().as_secs_f64());
            (handled, at) = (now, Instant::now());
        }
    }
}

/// The statistics, when nothing is under way: they stay the same while each shard looks for work so
/// often that it publishes its own.
///
/// The story: they stayed the same for 2 ms. Beside eight busy loops a shard had no CPU for longer,
/// and what it had handled was missing.
fn settled<W: Workload>(runtime: &Runtime<Served<W>>) -> Result<Stats, Stopped> {
    let since = Instant::now();
    let moved = |stats: &Stats| {
        let sum =
            |of: fn(&freehold::Activity) -> u64| stats.shards.iter().map(|it| of(&it.activity)).sum::<u64>();
        (stats.handled(), sum(|it| it.lane_sent), sum(|it| it.lane_received))
    };
    let mut before = moved(&runtime.stats());
    loop {
        let looks = runtime.on_each_shard(|_| async {
            for _ in 0..LOOKS_PER_PUBLISHING {
                glommio::executor().yield_task_queue_now().await;
            }
        });
        looks.wait().into_iter().try_for_each(|had| had.map_err(failed))?;
        std::thread::sleep(Duration::from_millis(2));
        let stats = runtime.stats();
        let now = moved(&stats);
        if now == before && now.1 == now.2 {
            return Ok(stats);
        }
        if since.elapsed() > SETTLE_MAX {
            let (_, sent, received) = now;
            let what = format!("{sent} envelopes were sent between shards and {received} received");
            return Err(failed(format!(
                "the runtime did not come to rest within ten seconds of the last answer: {what}"
            )));
        }
        before = now;
    }
}

/// Reads every row and compares what is there with what was acknowledged.
fn balance<W: Workload>(
    workload: &W,
    handle: &Handle<Served<W>>,
    acknowledged: &W::Tally,
) -> Result<(), Stopped> {
    let snapshot = handle.snapshot().wait().map_err(failed)?;
    let reader = workload.clone();
    let each = move |audit: &mut W::Audit, id: W::Id, row: &W::Row| reader.audit(audit, &id, row);
    let merge = |mut all: W::Audit, more: W::Audit| {
        all += more;
        all
    };
    let found = snapshot.fold(W::Audit::default, each, merge).wait().map_err(failed)?;
    workload.verdict(acknowledged, &found).map_err(|why| failed(format!("the books do not balance: {why}")))
}

/// Adds what the runtime counted.
fn count(sum: &mut Repetition, before: &Stats, after: &Stats) {
    sum.traffic_transactions = after.handled() - before.handled();
    for (before, after) in before.shards.iter().zip(&after.shards) {
        let sent = after.sent_to.iter().zip(&before.sent_to).map(|(after, before)| after - before);
        sum.traffic.push(sent.collect());
        sum.blocked += after.counters.blocked - before.counters.blocked;
        sum.reruns += after.counters.reruns - before.counters.reruns;
        sum.log_bytes += after.activity.log_bytes - before.activity.log_bytes;
        sum.log_writes += after.activity.log_writes - before.activity.log_writes;
    }
}
