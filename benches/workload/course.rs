//! Transfers driven from tasks on the shards of a runtime, and the same transfers by any other
//! means on the same threads, one lap after another.
//!
//! In a lap every shard makes its transfers of a [`Script`]; all begin together. Transfers between
//! accounts of the shard itself run at once ([`Near`]), and if a transaction holds one of
//! the accounts they are asked (`Local::ask`) as those between two shards are, of which a bounded
//! number is in flight. The replies of those are read in the order asked. The task gives way to its
//! shard, which also serves the transactions of others, after every [`GIVE_WAY`] transfers.

use std::collections::VecDeque;
use std::fmt::Display;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use freehold::{
    AskError, Config, Handle, Local, LocalAsk, Outcome, OwnerId, Ownership, PlacementKey, Runtime,
    ShardIndex, ShardStats, Shards, Snapshot, SnapshotError, StartError, Stats, TaskError, glommio,
};
use hdrhistogram::Histogram;

use super::SEED;
use super::laps::{Moment, Span, StartingLine, Took};
use super::renewal::{self, Renewed};
use super::report::{millions_per_second, times};
use super::transfers::{
    Account, Audit, Bank, Deal, Expected, Known, OPENING, Order, Receipt, Refused, Script,
};

/// Transfers after which a task gives way, when transactions of others may wait. It is what such a
/// transaction waits at most, some microseconds, and costs some nanoseconds a transfer.
const GIVE_WAY: usize = 64;
/// The same when there are no transactions.
const GIVE_WAY_ALONE: usize = 4096;
/// How long the counters may take to say what was done, which they do at the end of a turn.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("a benchmark's task did not finish: {0}")]
    Task(#[from] TaskError),
    #[error("{replies} of {asked} transfers were made; the first refusal: {first}")]
    Refused { asked: u64, replies: u64, first: String },
    #[error(
        "{handled} messages were handled in a lap of {asked}, {sent} envelopes sent and {received} received"
    )]
    Unsettled { asked: u64, handled: u64, sent: u64, received: u64 },
    #[error("a snapshot was not to be had: {0}")]
    Snapshot(#[from] SnapshotError),
    #[error("{versions} old states are kept {when}")]
    Kept { versions: u64, when: &'static str },
    #[error("{0}")]
    Books(String),
    #[error("the runtime did not drain: {0}")]
    Undrained(String),
}

/// How a transfer is asked whose accounts are both of the shard that asks.
#[derive(Clone, Copy, PartialEq)]
pub enum Near {
    /// By `Local::ask_now`.
    Now,
    /// By `Local::ask`, whose answer is awaited before the next.
    Awaited,
}

/// How transfers are asked.
#[derive(Clone)]
pub struct Asking {
    /// Transfers of each shard that makes any.
    pub transfers: u64,
    /// Those between accounts of one shard.
    pub near: Near,
    /// Transactions that a shard has in flight at most.
    pub in_flight: usize,
    /// Of so many transactions one is timed; of so many fast transfers, if there are no others.
    pub timed: u64,
    /// The one shard that asks, if not all do.
    pub only: Option<ShardIndex>,
    /// Who looks for stale reads, if anyone does.
    pub audit: Option<Arc<Audit>>,
}

/// What one shard did in a lap.
struct Part {
    span: Span,
    replies: u64,
    cross: u64,
    /// Fast transfers that found an account locked.
    busy: u64,
    first_refusal: Option<String>,
    times: Histogram<u64>,
}

impl Part {
    fn begin() -> Self {
        let now = Moment::now();
        let span = Span { begun: now, ended: now };
        Part { span, replies: 0, cross: 0, busy: 0, first_refusal: None, times: times() }
    }

    fn end(mut self) -> Self {
        self.span.ended = Moment::now();
        self
    }

    #[inline]
    fn count<E: Display>(&mut self, outcome: Result<Receipt, E>) {
        match outcome {
            Ok(Receipt::Moved { .. }) => self.replies += 1,
            Ok(other) => self.refuse(&format!("{other:?}")),
            Err(error) => self.refuse(&error.to_string()),
        }
    }

    #[cold]
    fn refuse(&mut self, why: &str) {
        self.first_refusal.get_or_insert_with(|| why.to_string());
    }

    fn time(&mut self, asked: Instant) {
        self.times.saturating_record(asked.elapsed().as_nanos() as u64);
    }
}

/// What all shards did in a lap.
pub struct Lap {
    pub took: Took,
    /// Transfers made between accounts of one shard, and of two.
    pub fast: u64,
    pub cross: u64,
    /// Fast transfers that found an account locked by a transaction.
    pub busy: u64,
    /// How long those transactions took that were timed, from the ask to its reader.
    pub times: Histogram<u64>,
    before: Stats,
    after: Stats,
}

impl Lap {
    /// All transfers.
    pub fn transfers(&self) -> u64 {
        self.fast + self.cross
    }

    /// Millions of all transfers a second.
    pub fn rate(&self) -> f64 {
        millions_per_second(self.transfers(), self.took.wall)
    }

    /// CPU time of all cores, over all transfers.
    pub fn cpu_ns(&self) -> f64 {
        self.took.cpu.as_nanos() as f64 / self.transfers() as f64
    }

    /// What a counter of all shards together counted in the lap.
    pub fn counted(&self, counter: impl Fn(&ShardStats) -> u64) -> u64 {
        counted(&self.before, &self.after, counter)
    }

    /// Envelopes put into lanes, over all transfers.
    pub fn envelopes(&self) -> f64 {
        self.counted(|shard| shard.activity.lane_sent) as f64 / self.transfers() as f64
    }
}

fn counted(before: &Stats, after: &Stats, counter: impl Fn(&ShardStats) -> u64) -> u64 {
    let sum = |stats: &Stats| stats.shards.iter().map(&counter).sum::<u64>();
    sum(after) - sum(before)
}

/// A runtime with accounts, and what they must hold.
pub struct Course {
    runtime: Runtime<Bank>,
    ids: Arc<[u64]>,
    expected: Expected,
    ownership: Ownership,
    pub shards: usize,
    pub accounts_of_shard: u32,
}

impl Course {
    /// Starts a runtime and opens accounts that have an owner, who makes all transfers.
    pub fn start(shards: usize, accounts_of_shard: u32, config: Config) -> Result<Self, Failure> {
        Course::start_as(Ownership::Owned(OwnerId::default()), shards, accounts_of_shard, config)
    }

    /// Starts a runtime and opens accounts that are all owned like this. If they are shared, every
    /// transfer takes the consensus path and publishes both.
    pub fn start_as(
        ownership: Ownership,
        shards: usize,
        accounts_of_shard: u32,
        config: Config,
    ) -> Result<Self, Failure> {
        // So that each run has the same accounts in the same places.
        let placement_key = Some(PlacementKey(SEED));
        let runtime =
            Runtime::<Bank>::start(Config { shards: Shards::Count(shards), placement_key, ..config })?;
        let before = runtime.stats();
        let open = move |local: Local<Bank>| async move {
            let is_here = |id: &u64| local.home(id) == local.shard();
            let ids = (0..).map(super::id_of).filter(is_here).take(accounts_of_shard as usize);
            let mut opened = Vec::with_capacity(accounts_of_shard as usize);
            for id in ids {
                local.ask_now(&Order::Open { id, ownership }).expect("an account opens");
                opened.push(id);
                glommio::yield_if_needed().await;
            }
            opened
        };
        let opened = runtime.on_each_shard(open).wait().into_iter().collect::<Result<Vec<_>, _>>()?;
        let ids: Arc<[u64]> = opened.concat().into();
        let expected = Expected::new(ids.len());
        let course = Course { runtime, expected, ids, ownership, shards, accounts_of_shard };
        // So that no lap counts an opening.
        course.settled(&before, course.accounts() as u64)?;
        Ok(course)
    }

    /// The CPU of each shard, if it has one of its own.
    pub fn cpus(&self) -> Vec<Option<usize>> {
        self.runtime.stats().shards.iter().map(|shard| shard.cpu).collect()
    }

    /// The way to the accounts from outside.
    pub fn handle(&self) -> Handle<Bank> {
        self.runtime.handle()
    }

    /// The ids of all accounts, in order.
    pub fn ids(&self) -> Arc<[u64]> {
        self.ids.clone()
    }

    /// How many accounts there are.
    pub fn accounts(&self) -> usize {
        self.ids.len()
    }

    /// Makes transfers through the runtime.
    pub fn lap(&mut self, script: &Arc<Script>, asking: Asking) -> Result<Lap, Failure> {
        let before = self.runtime.stats();
        let (line, ids, shards) = (Arc::new(StartingLine::default()), self.ids.clone(), self.shards);
        let task = {
            let script = script.clone();
            let asking = asking.clone();
            move |local| ask_all(local, script.clone(), ids.clone(), asking.clone(), line.clone(), shards)
        };
        let parts = self.runtime.on_each_shard(task).wait().into_iter().collect::<Result<Vec<_>, _>>()?;
        let askers = (0..self.shards).filter(|shard| asking.only.is_none_or(|only| only.index() == *shard));
        let mut asked = 0;
        for shard in askers {
            script.pieces(shard, asking.transfers, GIVE_WAY_ALONE).for_each(|deals| self.expected.add(deals));
            asked += asking.transfers;
        }
        let after = self.settled(&before, asked)?;
        lap_of(parts, asked, before, after)
    }

    /// Makes transfers as [`Course::lap`] does while a snapshot is open, which is renewed when it
    /// has been ready for `every`. Checks that old states were kept for it, that the last one,
    /// opened while transfers were made, has all the money, and that nothing is kept when it is
    /// closed.
    pub fn lap_with_snapshots(
        &mut self,
        script: &Arc<Script>,
        asking: Asking,
        every: Duration,
    ) -> Result<(Lap, Renewed), Failure> {
        let handle = self.handle();
        let (lap, (renewed, newest)) = renewal::beside(&handle, every, || self.lap(script, asking))?;
        let lap = lap?;
        self.kept(|now| now.max(renewed.versions_max) > 0, "for snapshots that were open")?;
        self.check_money(&newest)?;
        drop(newest);
        self.kept(|now| now == 0, "for snapshots that are closed")?;
        Ok((lap, renewed))
    }

    /// Waits until so many old states are kept as are wanted: the counter is of each shard's last
    /// turn.
    fn kept(&self, is_wanted: impl Fn(u64) -> bool, when: &'static str) -> Result<(), Failure> {
        let since = Instant::now();
        loop {
            let versions = renewal::versions(&self.runtime.handle());
            if is_wanted(versions) {
                return Ok(());
            }
            if since.elapsed() > SETTLE_MAX {
                return Err(Failure::Kept { versions, when });
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Whatever the snapshot was opened in the middle of: it has every account and all the money,
    /// and both sides of every transfer.
    fn check_money(&self, snapshot: &Snapshot<Bank>) -> Result<(), Failure> {
        let each = |(accounts, money, parts): &mut (u64, u64, u64), _, account: &Account| {
            *accounts += 1;
            *money = money.wrapping_add(account.balance);
            *parts += account.transfers;
        };
        let merge = |a: (u64, u64, u64), b: (u64, u64, u64)| (a.0 + b.0, a.1.wrapping_add(b.1), a.2 + b.2);
        let (accounts, money, parts) = snapshot.fold(|| (0, 0, 0), each, merge).wait()?;
        let opened = self.ids.len() as u64;
        if accounts == opened && money == OPENING.wrapping_mul(opened) && parts % 2 == 0 {
            return Ok(());
        }
        let found = format!(
            "{accounts} of {opened} accounts, which hold {money} and had a part in {parts} transfers"
        );
        Err(Failure::Books(format!("a snapshot has {found}")))
    }

    /// Makes transfers by other means, on the threads of the shards. `work` is given the shard it
    /// runs on.
    pub fn lap_of<W>(&self, script: &Arc<Script>, transfers: u64, work: W) -> Result<Lap, Failure>
    where
        W: Fn(usize, &Deal) -> Result<Receipt, Refused> + Clone + Send + 'static,
    {
        let before = self.runtime.stats();
        let (line, shards) = (Arc::new(StartingLine::default()), self.shards);
        let task = {
            let script = script.clone();
            move |local: Local<Bank>| {
                let (script, work, line) = (script.clone(), work.clone(), line.clone());
                async move {
                    let here = local.shard().index();
                    line.wait(1, shards).await;
                    let mut part = Part::begin();
                    for deals in script.pieces(here, transfers, GIVE_WAY_ALONE) {
                        for deal in deals {
                            part.cross += u64::from(deal.is_cross);
                            part.count(work(here, deal));
                        }
                        glommio::yield_if_needed().await;
                    }
                    part.end()
                }
            }
        };
        let parts = self.runtime.on_each_shard(task).wait().into_iter().collect::<Result<Vec<_>, _>>()?;
        lap_of(parts, transfers * shards as u64, before.clone(), before)
    }

    /// The runtime's statistics, once they have counted so many messages more and nothing is under
    /// way.
    fn settled(&self, before: &Stats, asked: u64) -> Result<Stats, Failure> {
        let since = Instant::now();
        loop {
            let after = self.runtime.stats();
            let handled = counted(before, &after, |shard| shard.counters.handled());
            let sent = counted(before, &after, |shard| shard.activity.lane_sent);
            let received = counted(before, &after, |shard| shard.activity.lane_received);
            if handled == asked && sent == received {
                return Ok(after);
            }
            if since.elapsed() > SETTLE_MAX {
                return Err(Failure::Unsettled { asked, handled, sent, received });
            }
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Reads every account and stops the runtime: each must hold what follows from the transfers,
    /// and the money must be what it was, as messages have it, and a snapshot, and what is
    /// published. Says how many accounts were checked.
    pub fn finish(self) -> Result<usize, Failure> {
        let handle = self.runtime.handle();
        let mut found = Vec::with_capacity(self.ids.len());
        for ids in self.ids.chunks(4096) {
            for outcome in handle.ask_all(ids.iter().map(|&id| Order::Read { id })).wait() {
                match outcome {
                    Ok(Receipt::Read { balance, transfers }) => found.push((balance, transfers)),
                    other => return Err(Failure::Books(format!("an account was read and said {other:?}"))),
                }
            }
        }
        self.expected.check(found).map_err(Failure::Books)?;
        let books = |state: Option<&Account>| state.map_or((0, 0), |it| (it.balance, it.transfers));
        let snapshot = handle.snapshot().wait()?;
        let states = snapshot.get_all(self.ids.iter().copied()).wait()?;
        self.expected.check(states.iter().map(|state| books(state.as_ref()))).map_err(Failure::Books)?;
        self.check_money(&snapshot)?;
        if self.ownership == Ownership::Shared {
            let published = self.ids.iter().map(|id| books(handle.published(id).as_deref()));
            self.expected.check(published).map_err(Failure::Books)?;
        }
        let report = self.runtime.shutdown();
        if report.drained { Ok(self.ids.len()) } else { Err(Failure::Undrained(report.to_string())) }
    }
}

/// Asks for all transfers of one shard.
async fn ask_all(
    local: Local<Bank>,
    script: Arc<Script>,
    ids: Arc<[u64]>,
    asking: Asking,
    line: Arc<StartingLine>,
    shards: usize,
) -> Part {
    let is_asked = asking.only.is_none_or(|only| only == local.shard());
    let transfers = if is_asked { asking.transfers } else { 0 };
    let give_way = if script.has_cross() { GIVE_WAY } else { GIVE_WAY_ALONE };
    let audit = asking.audit.as_deref();
    let asks = VecDeque::with_capacity(asking.in_flight);
    let mut ring = Ring { asks, in_flight: asking.in_flight, audit };
    line.wait(1, shards).await;
    let mut part = Part::begin();
    let mut until_timed = 0;
    for deals in script.pieces(local.shard().index(), transfers, give_way) {
        for deal in deals {
            let order = order(deal, &ids);
            let is_timed = deal.is_cross == script.has_cross() && {
                until_timed = if until_timed == 0 { asking.timed } else { until_timed } - 1;
                until_timed == 0
            };
            let asked = is_timed.then(Instant::now);
            let known = audit.map(|audit| audit.begin(deal));
            if !deal.is_cross {
                let outcome = match asking.near {
                    Near::Now => local.ask_now(&order),
                    Near::Awaited => local.ask(order).await,
                };
                match outcome {
                    Err(AskError::Busy) => part.busy += 1,
                    outcome => {
                        ring.note(deal, known, &outcome);
                        part.count(outcome);
                        asked.into_iter().for_each(|asked| part.time(asked));
                        continue;
                    }
                }
            }
            part.cross += u64::from(deal.is_cross);
            ring.make_room(&mut part).await;
            // What it waited for room is not the transaction's time, and not its past.
            let asked = asked.map(|_| Instant::now());
            let known = audit.map(|audit| audit.begin(deal));
            ring.asks.push_back(Asked { at: asked, deal: *deal, known, ask: local.ask(order) });
        }
        if script.has_cross() {
            glommio::executor().yield_task_queue_now().await;
            ring.read_answered(&mut part);
        } else {
            glommio::yield_if_needed().await;
        }
    }
    ring.in_flight = 0;
    ring.make_room(&mut part).await;
    part.end()
}

#[inline]
fn order(deal: &Deal, ids: &[u64]) -> Order {
    let [from, to] = [deal.from, deal.to].map(|account| ids[account as usize]);
    Order::Transfer { from, to, amount: u64::from(deal.amount) }
}

/// Transactions in flight, in the order asked.
struct Ring<'a> {
    asks: VecDeque<Asked>,
    in_flight: usize,
    audit: Option<&'a Audit>,
}

/// A transaction in flight.
struct Asked {
    /// When, if it is timed.
    at: Option<Instant>,
    deal: Deal,
    known: Option<Known>,
    ask: LocalAsk<Bank>,
}

impl Ring<'_> {
    /// Waits until fewer than may be are in flight; until none is, if none may be.
    async fn make_room(&mut self, part: &mut Part) {
        while self.asks.len() >= self.in_flight.max(1) {
            let Some(Asked { at, deal, known, ask }) = self.asks.pop_front() else { break };
            self.read(ask.await, at, &deal, known, part);
        }
    }

    /// Reads the first ones, as far as they are answered.
    fn read_answered(&mut self, part: &mut Part) {
        while let Some(Asked { at, deal, known, ask }) = self.asks.front_mut() {
            let (at, deal, known) = (*at, *deal, *known);
            let answer = Pin::new(ask).poll(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(outcome) = answer else { break };
            self.asks.pop_front();
            self.read(outcome, at, &deal, known, part);
        }
    }

    fn read(
        &self,
        outcome: Outcome<Bank>,
        asked: Option<Instant>,
        deal: &Deal,
        known: Option<Known>,
        part: &mut Part,
    ) {
        self.note(deal, known, &outcome);
        part.count(outcome);
        asked.into_iter().for_each(|asked| part.time(asked));
    }

    /// For the audit, if there is one.
    fn note(&self, deal: &Deal, known: Option<Known>, outcome: &Outcome<Bank>) {
        if let (Some(audit), Some(known), Ok(receipt)) = (self.audit, known, outcome) {
            audit.done(deal, known, *receipt);
        }
    }
}

fn lap_of(parts: Vec<Part>, asked: u64, before: Stats, after: Stats) -> Result<Lap, Failure> {
    let took = Took::together(parts.iter().map(|part| part.span));
    let (mut replies, mut cross, mut busy, mut first, mut all) = (0, 0, 0, None, times());
    for part in parts {
        replies += part.replies;
        cross += part.cross;
        busy += part.busy;
        all += &part.times;
        first = first.or(part.first_refusal);
    }
    if replies != asked {
        let first = first.unwrap_or_else(|| "none".into());
        return Err(Failure::Refused { asked, replies, first });
    }
    Ok(Lap { took, fast: asked - cross, cross, busy, times: all, before, after })
}
