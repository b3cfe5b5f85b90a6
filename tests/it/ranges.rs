//! Ranges are strictly serializable too: what a message has read of a collection nobody adds to
//! until it has ended. (No phantoms.)
//!
//! Threads and tasks on shards read whole collections, and append to entries that may not exist.
//! To the judge of [`histories`](crate::histories) an entry is a list and a range a read of all
//! lists that could be in it, so one that was missed was read as empty. An insert that a range
//! should have seen, and did not, then closes a cycle: two messages that each read a range and add
//! to the other's are in no order.
//!
//! Collections live on different shards. So most messages take along what they read, and those that
//! say nothing of it begin anew for it.

use std::fmt::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use adya::Valid;
use freehold::{
    AccessError, Actor, Addressees, AskError, CollectionOf, Config, Handle, Local, Needs, ObjectId, Objects,
    Outcome, Runtime,
};
use rand_pcg::Pcg32;
use rand_pcg::rand_core::Rng;
use serde::{Deserialize, Serialize};

use crate::histories::{complaints, judge};
use crate::support::{Watchdog, start};

const MESSAGES: u64 = 1_200;
/// So many collections are in use at a time,
const COLLECTIONS: u64 = 3;
/// and one of them gives way to a new one after so many messages, so that lists stay short.
const MESSAGES_PER_COLLECTION: u64 = 40;
/// Entries that a collection may have.
const KEYS: u64 = 5;

/// An entry; with the key 0, the header of its collection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
struct Place {
    collection: u64,
    key: u64,
}

impl ObjectId for Place {
    const COLLECTION: Option<CollectionOf<Place>> =
        Some(|place| (place.key > 0).then_some(Place { key: 0, ..*place }));
}

impl Place {
    /// What the judge calls it.
    fn list(self) -> u64 {
        self.collection * KEYS + self.key - 1
    }
}

#[derive(Clone, Copy)]
enum Step {
    /// Reads a whole collection; from its end, if that is said.
    Range { collection: u64, is_back: bool },
    /// Appends to an entry an element that no other step appends.
    Append(Place, u64),
}

#[derive(Clone)]
struct Message {
    steps: Vec<Step>,
    /// Whether it says which ranges and entries it needs.
    says_needs: bool,
    fails: bool,
}

#[derive(Debug)]
struct Refusal(#[allow(dead_code, reason = "to be printed")] Option<AccessError<Place>>);

impl From<AccessError<Place>> for Refusal {
    fn from(error: AccessError<Place>) -> Self {
        Refusal(Some(error))
    }
}

/// What a `Range` saw: which entries, and what is in them.
type Seen = Vec<(Place, Vec<u64>)>;

/// Collections of lists.
struct Lists;

impl Actor for Lists {
    type Id = Place;
    type State = Vec<u64>;
    type Message = Message;
    type Reply = Vec<Seen>;
    type Error = Refusal;

    fn addressees(message: &Message, to: &mut Addressees<Place>) {
        for step in &message.steps {
            match *step {
                Step::Range { collection, .. } => to.read(Place { collection, key: 0 }),
                Step::Append(place, _) => to.write(place),
            }
        }
    }

    fn needs(message: &Message, to: &mut Needs<Lists>) {
        for step in message.steps.iter().filter(|_| message.says_needs) {
            match *step {
                Step::Range { collection, is_back } => {
                    let header = Place { collection, key: 0 };
                    if is_back {
                        to.range_back(header, .., KEYS as usize + 1);
                    } else {
                        to.range(header, .., KEYS as usize + 1);
                    }
                }
                Step::Append(place, _) => to.entry(place),
            }
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<Vec<Seen>, Refusal> {
        let mut seen = Vec::new();
        for step in &message.steps {
            match *step {
                Step::Range { collection, is_back } => {
                    let entries = objects.collection(Place { collection, key: 0 })?;
                    let of = |(place, list): (Place, &Vec<u64>)| (place, list.clone());
                    seen.push(match is_back {
                        false => entries.range(..).map(of).collect(),
                        true => entries.range(..).rev().map(of).collect(),
                    });
                }
                Step::Append(place, element) => {
                    let mut entries = objects.collection(Place { key: 0, ..place })?;
                    match entries.get_mut(place)? {
                        Some(list) => list.push(element),
                        None => drop(entries.insert(place, vec![element])?),
                    }
                }
            }
        }
        if message.fails { Err(Refusal(None)) } else { Ok(seen) }
    }
}

fn below(random: &mut Pcg32, bound: u64) -> u64 {
    u64::from(random.next_u32()) % bound
}

/// Where clients take their messages from, and write what became of them.
#[derive(Default)]
struct Run {
    taken: AtomicU64,
    /// Lines of Jepsen's histories. Each message is a process of its own.
    log: Mutex<String>,
}

impl Run {
    /// Another message, written down as begun.
    fn begin(&self, random: &mut Pcg32) -> Option<(u64, Message)> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        if number >= MESSAGES {
            return None;
        }
        let steps = (0..2 + below(random, 2)).map(|step| {
            let collection = number / MESSAGES_PER_COLLECTION + below(random, COLLECTIONS);
            match below(random, 2) {
                0 => Step::Range { collection, is_back: below(random, 2) == 0 },
                _ => Step::Append(Place { collection, key: 1 + below(random, KEYS) }, number * 4 + step),
            }
        });
        let steps = steps.collect();
        let message = Message { steps, says_needs: below(random, 2) == 0, fails: below(random, 16) == 0 };
        self.write("invoke", number, &message, &[]);
        Some((number, message))
    }

    fn end(&self, number: u64, message: &Message, outcome: Outcome<Lists>) {
        match outcome {
            Ok(seen) if !message.fails => self.write("ok", number, message, &seen),
            Err(AskError::Aborted(Refusal(None))) if message.fails => {
                self.write("fail", number, message, &[])
            }
            // It kept finding collections of others in its way: nothing changed.
            Err(AskError::AddresseesUnstable) => self.write("fail", number, message, &[]),
            outcome => panic!("a message ended with {outcome:?}"),
        }
    }

    fn write(&self, kind: &str, process: u64, message: &Message, seen: &[Seen]) {
        let mut seen = seen.iter();
        let mut steps = Vec::new();
        for step in &message.steps {
            match *step {
                Step::Append(place, element) => {
                    steps.push(format!("[\"append\",{},{element}]", place.list()))
                }
                Step::Range { collection, .. } => {
                    let seen = seen.next();
                    steps.extend((1..=KEYS).map(|key| {
                        let place = Place { collection, key };
                        let list = |seen: &Seen| {
                            seen.iter().find(|(at, _)| *at == place).map(|(_, list)| list.clone())
                        };
                        match seen.map(list) {
                            None => format!("[\"r\",{},null]", place.list()),
                            Some(list) => format!("[\"r\",{},{:?}]", place.list(), list.unwrap_or_default()),
                        }
                    }));
                }
            }
        }
        let line = format!(r#"{{"type":"{kind}","process":{process},"value":[{}]}}"#, steps.join(","));
        writeln!(self.log.lock().expect("nobody panics while it writes"), "{line}")
            .expect("a string takes all");
    }
}

fn ask_from_thread(handle: &Handle<Lists>, run: &Run, mut random: Pcg32) {
    loop {
        let begun: Vec<_> = std::iter::from_fn(|| run.begin(&mut random)).take(4).collect();
        if begun.is_empty() {
            return;
        }
        let asked: Vec<_> = begun
            .into_iter()
            .map(|(number, message)| (number, handle.ask(message.clone()), message))
            .collect();
        asked.into_iter().for_each(|(number, asked, message)| run.end(number, &message, asked.wait()));
    }
}

async fn ask_on_shard(local: Local<Lists>, run: &Run, mut random: Pcg32) {
    while let Some((number, message)) = run.begin(&mut random) {
        let outcome = local.ask(message.clone()).await;
        run.end(number, &message, outcome);
    }
}

/// The history of one runtime, and how many messages spanned shards and began anew.
fn record(shards: usize, seed: u64) -> (String, [u64; 2]) {
    let runtime: Runtime<Lists> = start(shards, Config::default());
    let handle = runtime.handle();
    let run = std::sync::Arc::new(Run::default());
    let on_shards = runtime.on_each_shard({
        let run = run.clone();
        move |local| {
            let (run, random) = (run.clone(), Pcg32::new(seed, 100 + u64::from(local.shard().0)));
            async move { ask_on_shard(local, &run, random).await }
        }
    });
    thread::scope(|scope| {
        for thread in 0..2 {
            let (handle, run) = (&handle, &run);
            scope.spawn(move || ask_from_thread(handle, run, Pcg32::new(seed, thread)));
        }
    });
    assert!(on_shards.wait().iter().all(Result::is_ok), "a client on a shard goes on to the end");
    let counters = runtime.stats().shards.iter().fold([0; 2], |[consensus, reruns], shard| {
        [consensus + shard.counters.consensus, reruns + shard.counters.reruns]
    });
    (std::mem::take(&mut *run.log.lock().expect("nobody panics while it writes")), counters)
}

#[test]
fn ranges_have_no_phantoms() {
    let watchdog = Watchdog::new("ranges_have_no_phantoms");
    for (shards, seed) in [(1, 0), (2, 1), (3, 2)] {
        watchdog.feed();
        let (history, [consensus, reruns]) = record(shards, seed);
        let report = judge(&history);
        assert_eq!(report.valid, Valid::True, "{shards} shards: {}", complaints(&report));
        // A history in which nothing met would be valid, too.
        assert!(history.contains("\"type\":\"fail\""));
        println!("{shards} shards: {consensus} transactions, {reruns} reruns");
        assert!(shards == 1 || consensus > MESSAGES / 4 && reruns > 0, "{consensus} {reruns}");
    }
}

/// The judge can say no: two messages that each read a range without the other's insert, and one
/// that reads a range in which an insert is missing that was answered before.
#[test]
fn a_phantom_is_found_out() {
    let append = |collection, key, element| Step::Append(Place { collection, key }, element);
    let range = |collection| Step::Range { collection, is_back: false };
    let message = |steps| Message { steps, says_needs: true, fails: false };
    let one = message(vec![range(0), append(1, 1, 1)]);
    let other = message(vec![range(1), append(0, 1, 2)]);
    let end = message(vec![range(0), range(1)]);
    let all = |of: [&[u64]; 2]| {
        let seen = |(collection, list): (u64, &[u64])| vec![(Place { collection, key: 1 }, list.to_vec())];
        (0..).zip(of).map(seen).collect::<Vec<_>>()
    };
    for (seen_by_other, is_valid) in
        [(vec![], false), (vec![(Place { collection: 1, key: 1 }, vec![1])], true)]
    {
        let run = Run::default();
        run.write("invoke", 0, &one, &[]);
        run.write("invoke", 1, &other, &[]);
        run.write("ok", 0, &one, &[vec![]]);
        run.write("ok", 1, &other, &[seen_by_other]);
        run.write("invoke", 2, &end, &[]);
        run.write("ok", 2, &end, &all([&[2], &[1]]));
        let report = judge(&run.log.into_inner().expect("nobody panicked"));
        assert_eq!(report.valid == Valid::True, is_valid, "{}", complaints(&report));
    }
}
