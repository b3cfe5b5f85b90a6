//! The paths whose instructions are counted: pure shards on one thread, with objects, order and
//! table keys from one seed.
//!
//! A path sets its shards up, does some rounds to warm them up (tables grow, buffers find their
//! size), and then so many operations. It checks what came of them. Set-up and warm-up are the same
//! however many operations follow, so the difference of two runs is that of the operations alone.

use std::sync::Arc;

use freehold_shard::log::SegmentId;
use freehold_shard::{
    Ack, Actor, Batch, BatchEntry, Codec, Durability, Effects, Envelope, Epoch, Inbox, Limits, LogStart,
    Mvcc, NoPrefetch, OwnerId, Ownership, PlacementKey, ReturnAddress, Router, Shard, ShardIndex, Time,
};

use crate::books;
use crate::exchange::{Way, by_hand, typed};
use crate::lanes::{Lanes, lanes};
use crate::twins;
use crate::workload::transfers::{Bank, OPENING, Order};
use crate::workload::{Counter, Draws, Message, SEED, id_of};

/// Counters that stay in the cache, and so many that a turn stages its messages and prefetches.
pub const FEW: u64 = 10_000;
const MANY: u64 = 200_000;
/// Accounts of each shard, for transfers. More than are under way, so none waits for another.
const FEW_ACCOUNTS: usize = 1_000;
/// The same, so many that turns work in stages.
const MANY_ACCOUNTS: usize = 100_000;
/// Messages of a batch, and transactions under way together.
pub const TOGETHER: u64 = 64;
/// Room of a lane, and what is taken of one at a time: the runtime's defaults.
const LANE: usize = 1 << 10;
const TAKEN_MAX: usize = 2 << 10;
/// Batches before anything is counted.
pub const WARM_UP: u64 = 64;
/// The log's segments: a few are filled.
pub const SEGMENT_BYTES: usize = 1 << 20;

pub const NOW: Time = Time(0);
pub const SENDER: OwnerId = OwnerId(0);

/// A path, by its name in the table.
pub struct Path {
    pub name: &'static str,
    /// What is counted, in a few words.
    pub about: &'static str,
    /// Does so many operations, a multiple of [`TOGETHER`], and checks them.
    pub run: fn(u64),
}

/// All of them. What a record adds is the difference of two: see [`LOGGED`].
pub const PATHS: [Path; 25] = [
    Path { name: "ask_now", about: "a message to one object, at once", run: ask_now },
    Path {
        name: "ask_now_two_sites",
        about: "the same, called from two places in turns",
        run: twins::two_sites,
    },
    Path { name: "ask_now_two_actors", about: "the same, of two actors in turns", run: twins::two_actors },
    Path { name: "turn", about: "the same in batches of 64", run: |count| turn(FEW, count) },
    Path { name: "turn_staged", about: "the same with a table out of cache", run: |count| turn(MANY, count) },
    Path { name: "turn_logged", about: "batches of 64, each written and closed", run: turn_logged },
    Path {
        name: "chain_of_two",
        about: "a transaction over two shards, alone",
        run: |count| chain_of_two(Begin::Turn, FEW_ACCOUNTS, 1, count),
    },
    Path {
        name: "chain_of_two_64",
        about: "the same with 64 under way",
        run: |count| chain_of_two(Begin::Turn, FEW_ACCOUNTS, TOGETHER, count),
    },
    Path {
        name: "message_in_lanes_64",
        about: "a message to another shard, 64 in a lane",
        run: message_in_lanes,
    },
    Path {
        name: "chain_in_lanes",
        about: "a transaction alone, carried by the runtime's lanes",
        run: |count| chain_of_two(Begin::InLanes, FEW_ACCOUNTS, 1, count),
    },
    Path {
        name: "chain_in_lanes_64",
        about: "the same with 64 under way",
        run: |count| chain_of_two(Begin::InLanes, FEW_ACCOUNTS, TOGETHER, count),
    },
    Path {
        name: "chain_staged_64",
        about: "64 under way, with tables out of cache",
        run: |count| chain_of_two(Begin::Turn, MANY_ACCOUNTS, TOGETHER, count),
    },
    Path {
        name: "chain_by_task_64",
        about: "64 under way, begun by tasks of a shard",
        run: |count| chain_of_two(Begin::Task, FEW_ACCOUNTS, TOGETHER, count),
    },
    Path {
        name: "chain_logged",
        about: "a transaction over two shards with logs, alone",
        run: |count| chain_of_two(Begin::Logged, FEW_ACCOUNTS, 1, count),
    },
    Path {
        name: "chain_logged_64",
        about: "the same with 64 under way",
        run: |count| chain_of_two(Begin::Logged, FEW_ACCOUNTS, TOGETHER, count),
    },
    Path { name: "two_objects", about: "two objects on one shard, at once", run: two_objects },
    Path { name: "order_by_hand", about: "an order of an exchange", run: orders::<by_hand::Exchange> },
    Path { name: "order_typed", about: "the same on the layer of `actor!`", run: orders::<typed::Exchange> },
    Path { name: "map_pair", about: "a plain map: one is removed, one inserted", run: books::map_pair },
    Path { name: "entry_pair", about: "the same of a collection, a message each", run: books::entry_pair },
    Path { name: "entry_pair_64", about: "the same in messages of 64 pairs", run: books::entry_pair_64 },
    Path { name: "entry_write", about: "a message to one entry of 10,000", run: books::entry_write },
    Path { name: "entry_range", about: "an entry of a range of 64", run: books::entry_range },
    Path { name: "recover_entry", about: "an entry, from its log to its place", run: books::recover_entry },
    Path { name: "recover_object", about: "the same of a plain object", run: books::recover_object },
];

/// What a record costs, encoded, checksummed and closed: the first path less the second.
pub const LOGGED: (&str, &str, &str) = ("log_record", "turn_logged", "turn");

pub fn shard<A: Actor>(index: u16, router: Router, mvcc: &Arc<Mvcc<A>>) -> Shard<A, NoPrefetch> {
    Shard::new(ShardIndex(index), router, Limits::default(), SEED, mvcc.clone())
}

pub fn open_counters(shard: &mut Shard<Counter>, effects: &mut Effects<Counter>, objects: u64) {
    for object in 0..objects {
        let opened = shard.ask_now(NOW, SENDER, &Message::Open { id: id_of(object) }, effects);
        opened.unwrap_or_else(|error| panic!("counter {object} is not opened: {error}"));
    }
}

/// Every message was applied once.
pub fn check_counters(shard: &Shard<Counter>, applied: u64) {
    let found: u64 = shard.objects().map(|(_, _, state)| state.total).sum();
    assert_eq!(found, applied, "each message is applied once");
}

fn ask_now(count: u64) {
    let router = Router::new(PlacementKey(SEED), 1);
    let mut shard = shard::<Counter>(0, router, &Arc::new(Mvcc::new(1)));
    let mut effects = Effects::new(1);
    open_counters(&mut shard, &mut effects, FEW);
    let (mut draws, mut replies, all) = (Draws::new(FEW, 0), 0_u64, WARM_UP * TOGETHER + count);
    for _ in 0..all {
        let message = Message::Add { id: id_of(draws.next_object()), amount: 1 };
        let reply = shard.ask_now(NOW, SENDER, &message, &mut effects);
        replies += reply.unwrap_or_else(|error| panic!("{error}"));
    }
    assert!(replies >= all, "every reply is 1 at least");
    check_counters(&shard, all);
}

/// Two orders at a time, which trade with each other.
fn orders<W: Way>(count: u64) {
    let mut shard = shard::<W>(0, Router::new(PlacementKey(SEED), 1), &Arc::new(Mvcc::new(1)));
    let mut effects = Effects::new(1);
    let mut ask = |message: &W::Message| shard.ask_now(NOW, SENDER, message, &mut effects);
    W::open(&mut ask);
    let trades = (WARM_UP * TOGETHER + count) / 2;
    (0..trades).for_each(|_| W::trade(&mut ask));
    assert_eq!(W::traded(&mut ask).0, 5 * trades, "each trade is of five");
}

/// The same batch over and over: its memory is used again, as by a client that reads its replies in
/// place.
struct Batches {
    inbox: Inbox<Counter>,
    effects: Effects<Counter>,
    spare: Option<Batch<Counter>>,
    draws: Draws,
    asked: u64,
}

impl Batches {
    fn new(objects: u64) -> Self {
        let spare = Batch { sender: SENDER, entries: Vec::with_capacity(TOGETHER as usize), tag: 0 };
        Batches {
            inbox: Inbox::new(),
            effects: Effects::new(1),
            spare: Some(spare),
            draws: Draws::new(objects, 0),
            asked: 0,
        }
    }

    fn ask(&mut self) {
        let mut batch = self.spare.take().expect("the last batch was answered");
        let Batches { draws, inbox, .. } = self;
        let message = |_| Message::Add { id: id_of(draws.next_object()), amount: 1 };
        batch.entries.extend((0..TOGETHER).map(message).map(BatchEntry::Waiting));
        inbox.batches.push(batch);
        self.asked += TOGETHER;
    }

    fn read(&mut self) {
        let mut batch = self.effects.batches.pop().expect("a batch is answered when it was run, and closed");
        for entry in batch.entries.drain(..) {
            assert!(matches!(entry, BatchEntry::Answered(Ok(1..))), "every message is applied");
        }
        self.spare = Some(batch);
    }
}

fn turn(objects: u64, count: u64) {
    let router = Router::new(PlacementKey(SEED), 1);
    let mut shard = shard::<Counter>(0, router, &Arc::new(Mvcc::new(1)));
    let mut batches = Batches::new(objects);
    open_counters(&mut shard, &mut batches.effects, objects);
    for _ in 0..WARM_UP + count / TOGETHER {
        batches.ask();
        shard.turn(NOW, &mut batches.inbox, &mut batches.effects);
        batches.read();
    }
    check_counters(&shard, batches.asked);
}

/// What one shard sends another goes through the runtime's lanes, 64 messages at a time.
fn message_in_lanes(count: u64) {
    let router = Router::new(PlacementKey(SEED), 2);
    let mut shard = shard::<Counter>(1, router, &Arc::new(Mvcc::new(2)));
    let (mut inbox, mut sent, mut effects) = (Inbox::new(), Effects::new(2), Effects::new(2));
    let lives_there = |id: &u64| router.home(id) == ShardIndex(1);
    let ids: Vec<u64> = (0..).map(id_of).filter(lives_there).take(FEW as usize).collect();
    for &id in &ids {
        let opened = shard.ask_now(NOW, SENDER, &Message::Open { id }, &mut effects);
        opened.unwrap_or_else(|error| panic!("counter {id} is not opened: {error}"));
    }
    let (mut lanes, mut flushed) = (lanes(2, LANE), Vec::with_capacity(1));
    let (mut draws, all) = (Draws::new(FEW, 0), WARM_UP * TOGETHER + count);
    for _ in 0..all / TOGETHER {
        for _ in 0..TOGETHER {
            let message = Message::Add { id: ids[draws.next_object() as usize], amount: 1 };
            let answer_to = ReturnAddress::Nobody;
            sent.outboxes[1].push_back(Envelope::Message { message, sender: SENDER, answer_to });
        }
        assert_eq!(lanes[0].flush(&mut sent.outboxes, &mut flushed), 0, "a lane has room");
        flushed.clear();
        lanes[1].drain(&mut inbox.envelopes, TAKEN_MAX);
        shard.turn(NOW, &mut inbox, &mut effects);
    }
    check_counters(&shard, all);
}

/// The log of a shard, as it begins.
pub fn log<A: Actor>(index: u16, codec: Codec<A>, durability: &Arc<Durability>) -> LogStart<A> {
    LogStart {
        codec,
        ack: Ack::Durable,
        first: SegmentId { database: 1, log: index.into(), segment: 0, start: 2 },
        segment_bytes: SEGMENT_BYTES,
        first_send: 0,
        durability: durability.clone(),
    }
}

fn turn_logged(count: u64) {
    let router = Router::new(PlacementKey(SEED), 1);
    let durability = Arc::new(Durability::new(1, Epoch(0)));
    let mvcc = Arc::new(Mvcc::logged(1, durability.clone()));
    let mut shard = shard::<Counter>(0, router, &mvcc).with_log(log(0, Codec::new(), &durability));
    let mut batches = Batches::new(FEW);
    open_counters(&mut shard, &mut batches.effects, FEW);
    let mut written_bytes = 0;
    for _ in 0..WARM_UP + count / TOGETHER {
        batches.ask();
        shard.turn(NOW, &mut batches.inbox, &mut batches.effects);
        assert!(batches.effects.batches.is_empty(), "durable-before-answered");
        while let Some(write) = shard.next_write(NOW) {
            written_bytes += write.batch.padded();
            shard.written(write.batch);
        }
        shard.release(&mut batches.effects);
        batches.read();
    }
    assert!(written_bytes as u64 > batches.asked * size_of::<u64>() as u64, "every message left a record");
    check_counters(&shard, batches.asked);
}

/// Two shards and the accounts of each. What one sends the other is moved when its turn is over.
struct Pair {
    shards: [Shard<Bank>; 2],
    inboxes: [Inbox<Bank>; 2],
    effects: [Effects<Bank>; 2],
    accounts: [Vec<u64>; 2],
    /// Bytes in the logs, if there are any.
    written_bytes: Option<u64>,
}

impl Pair {
    fn open(begin: Begin, count: usize) -> Self {
        let router = Router::new(PlacementKey(SEED), 2);
        let (mut shards, written_bytes) = if begin == Begin::Logged {
            let durability = Arc::new(Durability::new(2, Epoch(0)));
            let mvcc = Arc::new(Mvcc::logged(2, durability.clone()));
            let logged = |at| shard::<Bank>(at, router, &mvcc).with_log(log(at, Codec::new(), &durability));
            ([logged(0), logged(1)], Some(0))
        } else {
            let mvcc = Arc::new(Mvcc::new(2));
            ([0, 1].map(|at| shard::<Bank>(at, router, &mvcc)), None)
        };
        let mut effects = [Effects::new(2), Effects::new(2)];
        let accounts = [0_u16, 1].map(|at| {
            let lives_there = |id: &u64| router.home(id) == ShardIndex(at);
            let ids: Vec<u64> = (0..).map(id_of).filter(lives_there).take(count).collect();
            for &id in &ids {
                let place = usize::from(at);
                let open = Order::Open { id, ownership: Ownership::default() };
                let opened = shards[place].ask_now(NOW, SENDER, &open, &mut effects[place]);
                opened.unwrap_or_else(|error| panic!("account {id} is not opened: {error}"));
            }
            ids
        });
        Pair { shards, inboxes: [Inbox::new(), Inbox::new()], effects, accounts, written_bytes }
    }

    /// Begins a transfer from a shard's account to the other's.
    fn send(&mut self, begin: Begin, number: u64) {
        let nth = number as usize % self.accounts[0].len();
        let message = Order::Transfer { from: self.accounts[0][nth], to: self.accounts[1][nth], amount: 1 };
        if begin != Begin::Task {
            let answer_to = ReturnAddress::Outside { slot: nth as u32, generation: 0 };
            self.inboxes[0].envelopes.push(Envelope::Message { message, sender: SENDER, answer_to });
        } else {
            let answer_to = ReturnAddress::Shard { shard: ShardIndex(0), call: nth as u32 };
            let begun = self.shards[0].begin_pair(NOW, SENDER, message, answer_to, &mut self.effects[0]);
            assert!(begun.is_ok(), "both accounts are free");
        }
    }

    /// Turns and deliveries until nothing moves, and all that was written is on disk. Says how many
    /// transfers were answered.
    fn settle(&mut self) -> u64 {
        let mut answered = 0;
        if !self.effects[0].outboxes[1].is_empty() {
            // What tasks began.
            self.inboxes[1].envelopes.extend(self.effects[0].outboxes[1].drain(..));
        }
        while self.inboxes.iter().any(|inbox| !inbox.envelopes.is_empty()) {
            for (at, other) in [(0, 1), (1, 0)] {
                let effects = &mut self.effects[at];
                self.shards[at].turn(NOW, &mut self.inboxes[at], effects);
                self.inboxes[other].envelopes.extend(effects.outboxes[other].drain(..));
                for (_, outcome) in effects.answers.drain(..) {
                    assert!(outcome.is_ok(), "every transfer is made");
                    answered += 1;
                }
            }
        }
        answered + self.written_bytes.map_or(0, |_| self.write())
    }

    /// The same, carried as the pumps of a runtime do it.
    #[inline(never)]
    fn settle_in_lanes(&mut self, lanes: &mut [Lanes<Envelope<Bank>>], flushed: &mut Vec<usize>) -> u64 {
        let mut answered = 0;
        while !self.inboxes[0].envelopes.is_empty() || lanes.iter().any(|lanes| !lanes.is_empty()) {
            for at in [0, 1] {
                let (inbox, effects) = (&mut self.inboxes[at], &mut self.effects[at]);
                lanes[at].drain(&mut inbox.envelopes, TAKEN_MAX);
                self.shards[at].turn(NOW, inbox, effects);
                assert_eq!(lanes[at].flush(&mut effects.outboxes, flushed), 0, "a lane has room");
                flushed.clear();
                answered += effects.answers.drain(..).filter(|(_, outcome)| outcome.is_ok()).count() as u64;
            }
        }
        answered
    }

    /// Writes the logs until there is nothing to be written. Says how many transfers were answered.
    fn write(&mut self) -> u64 {
        let (mut written_bytes, mut answered) = (0, 0);
        loop {
            let before = written_bytes;
            for shard in &mut self.shards {
                while let Some(write) = shard.next_write(NOW) {
                    written_bytes += write.batch.padded() as u64;
                    shard.written(write.batch);
                }
            }
            for (shard, effects) in self.shards.iter_mut().zip(&mut self.effects) {
                shard.release(effects);
                answered += effects.answers.drain(..).filter(|(_, outcome)| outcome.is_ok()).count() as u64;
            }
            if written_bytes == before {
                break;
            }
        }
        self.written_bytes = self.written_bytes.map(|before| before + written_bytes);
        answered
    }
}

/// Who begins a transfer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// A turn of its first account's shard: it was asked from outside.
    Turn,
    /// As a turn, and the runtime's lanes carry it.
    InLanes,
    /// A task of that shard.
    Task,
    /// As a turn, and the shards have logs. The logs are written when nothing else is to do.
    Logged,
}

/// Two accounts of one shard, by the call that a task makes.
fn two_objects(count: u64) {
    let mut shard = shard::<Bank>(0, Router::new(PlacementKey(SEED), 1), &Arc::new(Mvcc::new(1)));
    let mut effects = Effects::new(1);
    let mut ask = |order| shard.ask_now(NOW, SENDER, &order, &mut effects);
    for number in 0..FEW {
        let opened = ask(Order::Open { id: id_of(number), ownership: Ownership::default() });
        opened.unwrap_or_else(|error| panic!("account {number} is not opened: {error}"));
    }
    let (mut draws, all) = (Draws::new(FEW, 0), WARM_UP * TOGETHER + count);
    for _ in 0..all {
        let from = draws.next_object();
        let (from, to) = (id_of(from), id_of((from + 1) % FEW));
        ask(Order::Transfer { from, to, amount: 1 }).unwrap_or_else(|error| panic!("{error}"));
    }
    let parts: u64 = shard.objects().map(|(_, _, account)| account.transfers).sum();
    assert_eq!(parts, 2 * all, "each transfer is made once");
}

fn chain_of_two(begin: Begin, accounts: usize, together: u64, count: u64) {
    let mut pair = Pair::open(begin, accounts);
    let (mut lanes, mut flushed) = (lanes(2, LANE), Vec::with_capacity(1));
    let all = WARM_UP * TOGETHER + count;
    for first in (0..all).step_by(together as usize) {
        (first..first + together).for_each(|number| pair.send(begin, number));
        let answered = match begin {
            Begin::InLanes => pair.settle_in_lanes(&mut lanes, &mut flushed),
            _ => pair.settle(),
        };
        assert_eq!(answered, together, "every transfer is answered");
    }
    for (shard, expected) in pair.shards.iter().zip([-1, 1]) {
        assert_eq!(shard.transactions(), (0, 0), "nothing is left under way");
        let (mut moved, mut parts) = (0, 0);
        for (_, _, account) in shard.objects() {
            moved += account.balance as i64 - OPENING as i64;
            parts += account.transfers;
        }
        assert_eq!((moved, parts), (expected * all as i64, all), "each transfer is made once");
    }
    let least = all * size_of::<u64>() as u64;
    assert!(pair.written_bytes.is_none_or(|written| written > 2 * least), "every transfer left two records");
}
