//! The work that all benchmarks measure: counters of 64 bytes, addressed by 64-bit ids, and the
//! same counters in a plain hash map.
//!
//! A message finds its counter, adds to it and answers with the new total. So the sum of all totals
//! says how many messages were applied, and the sum of all replies, the checksum, that each was
//! applied to the right counter: two ways of doing the same work have the same one. The ids and
//! their order are a pure function of [`SEED`], so a run can be repeated exactly.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub mod course;
pub mod laps;
pub mod renewal;
pub mod report;
pub mod rings;
pub mod transfers;

use std::collections::{HashMap, VecDeque};
use std::sync::Mutex;
use std::time::Instant;

use freehold::{AccessError, Actor, Addressees, AskAll, AskError, Handle, Local, Objects, Runtime};
use serde::{Deserialize, Serialize};

/// What all draws of ids begin from.
pub const SEED: u64 = 0x0F2E_E401_D000_0001;

/// Messages that [`add_in_batches`] keeps under way, in 4 to 64 batches.
const MESSAGES_UNDER_WAY: u64 = 4096;

/// The actor: counters.
pub struct Counter;

/// What one counter holds. The size is what the project's aims are stated for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct State {
    /// The sum of all amounts added.
    pub total: u64,
    /// Stands for the other fields an object has.
    others: [u64; 7],
}

const _: () = assert!(size_of::<State>() == 64);

/// What counters are told.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Message {
    /// Creates the counter at zero.
    Open {
        /// Which.
        id: u64,
    },
    /// Adds, and answers with the new total.
    Add {
        /// Which.
        id: u64,
        /// How much.
        amount: u64,
    },
    /// Answers with the total.
    Total {
        /// Which.
        id: u64,
    },
}

/// Why a counter refuses.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// There is no such counter.
    #[error("counter {0} was never opened")]
    Absent(u64),
    /// The counter is out of reach.
    #[error(transparent)]
    Access(#[from] AccessError<u64>),
}

impl Actor for Counter {
    type Id = u64;
    type State = State;
    type Message = Message;
    type Reply = u64;
    type Error = Refused;

    #[inline]
    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Open { id } | Message::Add { id, .. } => to.write(id),
            Message::Total { id } => to.read(id),
        }
    }

    #[inline]
    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<u64, Refused> {
        count(message, objects)
    }
}

/// What [`Counter`] does with a message, and any actor with the same objects.
#[inline(always)]
pub fn count<A>(message: &Message, objects: &mut Objects<'_, A>) -> Result<u64, Refused>
where
    A: Actor<Id = u64, State = State>,
{
    match *message {
        Message::Add { id, amount } => {
            let state = objects.get_mut(id)?.ok_or(Refused::Absent(id))?;
            state.total += amount;
            Ok(state.total)
        }
        Message::Open { id } => {
            objects.insert(id, State::default())?;
            Ok(0)
        }
        Message::Total { id } => Ok(objects.get(id)?.ok_or(Refused::Absent(id))?.total),
    }
}

/// Numbers of objects in an order nobody can foresee, each object as likely as any other.
#[derive(Clone, Debug)]
pub struct Draws {
    state: u64,
    objects: u64,
}

impl Draws {
    /// The draws of `objects` objects that are known as `stream`; different streams draw
    /// differently.
    pub fn new(objects: u64, stream: u64) -> Self {
        assert!((1..=1 << 32).contains(&objects), "draws are of 1 to 2^32 objects, not {objects}");
        Draws { state: SEED ^ stream.wrapping_mul(0x9E37_79B9_7F4A_7C15), objects }
    }

    /// The next one, below the number of objects. A linear congruential step (Knuth's MMIX
    /// constants), whose high half is spread over the objects: a nanosecond that overlaps with the
    /// work drawn for.
    #[inline]
    pub fn next_object(&mut self) -> u64 {
        self.state =
            self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.state >> 32) * self.objects) >> 32
    }

    /// Does something with each of the next `count`.
    #[inline(always)]
    fn for_each<E>(&mut self, count: u64, mut work: impl FnMut(u64) -> Result<u64, E>) -> Tally {
        // What is worked on may be anywhere in memory; draws and tally are known to be here, and so
        // stay in registers.
        let (mut draws, mut tally) = (self.clone(), Tally::default());
        for _ in 0..count {
            tally.add(work(draws.next_object()));
        }
        *self = draws;
        tally
    }
}

/// The id of object number `object`: spread over all 64-bit numbers, and different for different
/// objects, since an odd factor has an inverse.
#[inline]
pub fn id_of(object: u64) -> u64 {
    object.wrapping_mul(0x9E37_79B9_7F4A_7C15)
}

/// What came of some work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// The sum of all replies.
    pub checksum: u64,
    /// Messages that were refused. The work is such that there are none.
    pub refused: u64,
}

impl Tally {
    /// Adds one outcome.
    #[inline]
    pub fn add<E>(&mut self, outcome: Result<u64, E>) {
        match outcome {
            Ok(reply) => self.checksum = self.checksum.wrapping_add(reply),
            Err(_) => self.refused += 1,
        }
    }

    /// Adds another tally.
    pub fn merge(&mut self, other: Tally) {
        self.checksum = self.checksum.wrapping_add(other.checksum);
        self.refused += other.refused;
    }
}

/// The limit: counters in a hash map of one thread.
pub type PlainMap = HashMap<u64, State, ahash::RandomState>;

/// Counters at zero in a plain map.
pub fn plain_map(ids: impl Iterator<Item = u64>) -> PlainMap {
    let mut map = PlainMap::with_hasher(ahash::RandomState::with_seed(SEED as usize));
    map.extend(ids.map(|id| (id, State::default())));
    map
}

/// Adds one to `count` drawn counters of a plain map. `id` turns the number of an object into its
/// id.
#[inline(never)]
pub fn add_in_plain_map(map: &mut PlainMap, draws: &mut Draws, count: u64, id: impl Fn(u64) -> u64) -> Tally {
    draws.for_each(count, |object| add_in_one(map, id(object)))
}

/// As [`add_in_plain_map`], in a map that other threads might use too: every step takes the lock.
#[inline(never)]
pub fn add_in_locked_map(
    map: &Mutex<PlainMap>,
    draws: &mut Draws,
    count: u64,
    id: impl Fn(u64) -> u64,
) -> Tally {
    draws.for_each(count, |object| {
        add_in_one(&mut map.lock().expect("nobody panics with the lock"), id(object))
    })
}

#[inline]
fn add_in_one(map: &mut PlainMap, id: u64) -> Result<u64, Refused> {
    let state = map.get_mut(&id).ok_or(Refused::Absent(id))?;
    state.total += 1;
    Ok(state.total)
}

/// Adds one to `count` drawn counters of the shard this runs on, as a task does: the id is routed
/// and the message run at once.
#[inline(never)]
pub fn add_on_shard(local: &Local<Counter>, draws: &mut Draws, count: u64, id: impl Fn(u64) -> u64) -> Tally {
    let here = local.shard();
    draws.for_each(count, |object| {
        let id = id(object);
        let home = local.home(&id);
        if home == here {
            local.ask_now(&Message::Add { id, amount: 1 })
        } else {
            Err(AskError::Elsewhere { home })
        }
    })
}

/// The same for a task that has 16 messages at hand and prefetches their objects.
#[inline(never)]
pub fn add_prefetched(local: &Local<Counter>, draws: &mut Draws, count: u64) -> Tally {
    let mut tally = Tally::default();
    let mut messages = Vec::with_capacity(16);
    for begun in (0..count).step_by(16) {
        messages.clear();
        messages.extend(additions(draws, (count - begun).min(16)));
        local.prefetch(&messages);
        messages.iter().for_each(|message| tally.add(local.ask_now(message)));
    }
    tally
}

/// Adds one to drawn counters from outside, in batches of which several are under way, and reads
/// every reply. `answered` hears when a batch was asked whose replies have been read.
pub fn add_in_batches(
    handle: &Handle<Counter>,
    draws: &mut Draws,
    batch: u64,
    batches: u64,
    mut answered: impl FnMut(Instant),
) -> Tally {
    let under_way_max = (MESSAGES_UNDER_WAY / batch).clamp(4, 64) as usize;
    let mut under_way: VecDeque<(Instant, AskAll<Counter>)> = VecDeque::with_capacity(under_way_max);
    let mut tally = Tally::default();
    let mut read = |(asked, outcomes): (Instant, AskAll<Counter>)| {
        outcomes.wait().into_iter().for_each(|outcome| tally.add(outcome));
        answered(asked);
    };
    for _ in 0..batches {
        if under_way.len() == under_way_max {
            under_way.pop_front().into_iter().for_each(&mut read);
        }
        under_way.push_back((Instant::now(), handle.ask_all(additions(draws, batch))));
    }
    under_way.into_iter().for_each(&mut read);
    tally
}

/// Messages that add one to the next `count` drawn counters.
pub fn additions(draws: &mut Draws, count: u64) -> impl ExactSizeIterator<Item = Message> {
    (0..count as usize).map(|_| Message::Add { id: id_of(draws.next_object()), amount: 1 })
}

/// What all counters together hold, read from outside.
pub fn totals(handle: &Handle<Counter>, objects: u64) -> Tally {
    let mut tally = Tally::default();
    for first in (0..objects).step_by(4096) {
        let some = first..objects.min(first + 4096);
        let outcomes = handle.ask_all(some.map(|object| Message::Total { id: id_of(object) })).wait();
        outcomes.into_iter().for_each(|outcome| tally.add(outcome));
    }
    tally
}

/// Whether this is a benchmark's run, or a test that it still works: `cargo bench` says `--bench`,
/// `cargo test` does not.
pub fn is_a_test() -> bool {
    let mut given = std::env::args();
    !given.any(|argument| argument == "--bench") || std::env::args().any(|argument| argument == "--test")
}

/// Which parts of a benchmark are asked for: those with the first word of the arguments in their
/// names, or all.
pub struct Asked {
    word: Option<String>,
}

impl Asked {
    /// `None` if only a list of tests is asked for. A benchmark has none.
    pub fn of_arguments() -> Option<Asked> {
        if std::env::args().any(|argument| argument == "--list") {
            return None;
        }
        Some(Asked { word: std::env::args().skip(1).find(|argument| !argument.starts_with('-')) })
    }

    /// Whether the part of this name is asked for.
    pub fn has(&self, part: &str) -> bool {
        self.word.as_ref().is_none_or(|word| part.contains(word.as_str()))
    }
}

/// What `work` makes on the first shard of a runtime. It runs on all of them.
pub fn on_shard<T, F>(
    runtime: &Runtime<Counter>,
    work: impl Fn(Local<Counter>) -> F + Clone + Send + 'static,
) -> T
where
    T: Send + 'static,
    F: Future<Output = T> + 'static,
{
    let results = runtime.on_each_shard(work).wait();
    results.into_iter().next().expect("there is a shard").expect("the task does not panic")
}
