//! Collections against a model: messages that do anything to the entries of two collections, and
//! fail or panic anywhere; with snapshots that are open for a while, and with crashes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use freehold_shard::testing::Bench;
use freehold_shard::*;
use proptest::prelude::*;
use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Id {
    Book(u8),
    Order(u8, u8),
}

impl ObjectId for Id {
    const COLLECTION: Option<CollectionOf<Id>> = Some(|id| match *id {
        Id::Book(_) => None,
        Id::Order(book, _) => Some(Id::Book(book)),
    });

    fn placement(&self) -> impl std::hash::Hash {
        match *self {
            Id::Book(book) | Id::Order(book, _) => book,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Step {
    Get(u8),
    Set(u8, u64),
    Insert(u8, u64),
    Remove(u8),
    Ends,
    Range(u8, u8),
    Backwards(u8, u8),
    Len,
    /// Keeps what is no multiple.
    Retain(u8, u8, u64),
    Clear,
    /// Inserts so many, from a key on.
    Fill(u8, u8),
    /// Adds to those that are even, and removes the others.
    Walk(u8, u8, bool),
    Header(u64),
    Share,
    /// The before-image of this one cannot be taken.
    ClonePanics(u8),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
enum End {
    Reply,
    Fail,
    Panic,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Script {
    book: u8,
    /// Names an entry and not the book, or reads the book only.
    names: u8,
    steps: Vec<Step>,
    end: End,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Value(u64);

thread_local! {
    static CLONE_PANICS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

impl Clone for Value {
    fn clone(&self) -> Self {
        assert!(!CLONE_PANICS.get(), "this clone panics");
        Value(self.0)
    }
}

#[derive(Debug, PartialEq, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Access(#[from] AccessError<Id>),
    #[error("as asked")]
    Asked,
}

/// What a step saw.
type Seen = Vec<(u8, u64)>;

struct Shop;

impl Actor for Shop {
    type Id = Id;
    type State = Value;
    type Message = Script;
    type Reply = Vec<Seen>;
    type Error = Refusal;

    fn addressees(script: &Script, to: &mut Addressees<Id>) {
        match script.names {
            0 => to.read(Id::Book(script.book)),
            1 => to.write(Id::Order(script.book, 3)),
            // Its book is not declared, and here.
            2 => to.read(Id::Book(script.book ^ 2)),
            _ => to.write(Id::Book(script.book)),
        }
    }

    fn receive(script: &Script, objects: &mut Objects<'_, Self>) -> Result<Vec<Seen>, Refusal> {
        CLONE_PANICS.set(false);
        let mut seen = Vec::new();
        for step in &script.steps {
            seen.push(run(script.book, step, objects)?);
        }
        match script.end {
            End::Reply => Ok(seen),
            End::Fail => Err(Refusal::Asked),
            End::Panic => panic!("as asked"),
        }
    }
}

fn key(id: Id) -> u8 {
    match id {
        Id::Order(_, key) => key,
        Id::Book(_) => panic!("a book is no entry"),
    }
}

fn run(book: u8, step: &Step, objects: &mut Objects<'_, Shop>) -> Result<Seen, AccessError<Id>> {
    match step {
        Step::Share if objects.contains(Id::Book(book))? => {
            objects.share(Id::Book(book))?;
            return Ok(Vec::new());
        }
        Step::Header(value) => {
            let before = objects.insert(Id::Book(book), Value(*value))?;
            return Ok(before.iter().map(|Value(value)| (0, *value)).collect());
        }
        _ => {}
    }
    let id = |key: u8| Id::Order(book, key);
    let mut orders = objects.collection(Id::Book(book))?;
    let of = |(id, value): (Id, &Value)| (key(id), value.0);
    Ok(match *step {
        Step::Get(key) => orders.get(id(key))?.map(|value| (key, value.0)).into_iter().collect(),
        Step::Set(key, to) => match orders.get_mut(id(key))? {
            Some(value) => vec![(key, std::mem::replace(&mut value.0, to))],
            None => vec![],
        },
        Step::Insert(key, value) => {
            orders.insert(id(key), Value(value))?.map(|value| (key, value.0)).into_iter().collect()
        }
        Step::Remove(key) => orders.remove(id(key))?.map(|value| (key, value.0)).into_iter().collect(),
        Step::Ends => orders.first().into_iter().chain(orders.last()).map(of).collect(),
        Step::Range(from, to) => orders.range(id(from)..id(to)).map(of).collect(),
        Step::Backwards(from, to) => orders.range(id(from)..=id(to)).rev().map(of).collect(),
        Step::Len => vec![(orders.is_empty().into(), orders.len() as u64)],
        Step::Retain(from, most, by) => {
            let next =
                orders.retain(id(from).., most.into(), |_, value| !value.0.is_multiple_of(by.max(1)))?;
            next.map(|next| (key(next), 0)).into_iter().collect()
        }
        Step::Clear => {
            orders.clear()?;
            vec![(orders.is_empty().into(), orders.len() as u64)]
        }
        Step::Fill(from, many) => {
            for key in from..from + many {
                orders.insert(id(key), Value(key.into()))?;
            }
            vec![]
        }
        Step::Walk(from, to, is_back) => {
            let mut walk = orders.walk(id(from)..id(to));
            let mut seen = Vec::new();
            while let Some(mut order) = if is_back { walk.next_back() } else { walk.next() } {
                seen.push((key(order.id()), order.state().0));
                if order.state().0.is_multiple_of(2) {
                    order.state_mut()?.0 += 3;
                } else {
                    order.remove()?;
                }
            }
            seen
        }
        Step::ClonePanics(key) => {
            CLONE_PANICS.set(true);
            orders.get_mut(id(key))?;
            CLONE_PANICS.set(false);
            vec![]
        }
        Step::Header(_) | Step::Share => vec![],
    })
}

/// What there is: headers and entries.
type World = (BTreeMap<u8, u64>, BTreeMap<(u8, u8), u64>);

/// What a script leaves and sees; `None` if it fails.
fn model(world: &World, script: &Script) -> Option<(World, Vec<Seen>)> {
    let (mut world, mut seen) = (world.clone(), Vec::new());
    let (mut written, book) = (BTreeSet::new(), script.book);
    for step in &script.steps {
        let orders = &mut world.1;
        seen.push(match *step {
            Step::ClonePanics(key) if orders.contains_key(&(book, key)) && !written.contains(&key) => {
                return None;
            }
            Step::Header(value) => world.0.insert(book, value).map(|value| (0, value)).into_iter().collect(),
            ref step => model_orders(book, step, orders, &mut written),
        });
    }
    (script.end == End::Reply).then_some((world, seen))
}

/// What a step does to the entries of a book, and sees.
fn model_orders(
    book: u8,
    step: &Step,
    orders: &mut BTreeMap<(u8, u8), u64>,
    written: &mut BTreeSet<u8>,
) -> Seen {
    let of = |(key, value): (&(u8, u8), &u64)| (key.1, *value);
    let all = (book, 0)..=(book, u8::MAX);
    match *step {
        Step::Get(key) => orders.get(&(book, key)).map(|value| (key, *value)).into_iter().collect(),
        Step::Set(key, to) => match orders.get_mut(&(book, key)) {
            Some(value) => {
                written.insert(key);
                vec![(key, std::mem::replace(value, to))]
            }
            None => vec![],
        },
        Step::Insert(key, value) => {
            written.insert(key);
            orders.insert((book, key), value).map(|value| (key, value)).into_iter().collect()
        }
        Step::Remove(key) => {
            written.insert(key);
            orders.remove(&(book, key)).map(|value| (key, value)).into_iter().collect()
        }
        Step::Ends => {
            let of_book = || orders.range(all.clone()).map(of);
            of_book().next().into_iter().chain(of_book().next_back()).collect()
        }
        Step::Range(from, to) if from < to => orders.range((book, from)..(book, to)).map(of).collect(),
        Step::Backwards(from, to) if from <= to => {
            orders.range((book, from)..=(book, to)).rev().map(of).collect()
        }
        Step::Range(..) | Step::Backwards(..) => vec![],
        Step::Len => {
            let len = orders.range(all).count();
            vec![((len == 0).into(), len as u64)]
        }
        _ => model_many(book, step, orders, written),
    }
}

/// The same of a step that changes several.
fn model_many(
    book: u8,
    step: &Step,
    orders: &mut BTreeMap<(u8, u8), u64>,
    written: &mut BTreeSet<u8>,
) -> Seen {
    let of = |(key, value): (&(u8, u8), &u64)| (key.1, *value);
    match *step {
        Step::Retain(from, most, by) => {
            let range: Vec<_> = orders.range((book, from)..=(book, u8::MAX)).map(of).collect();
            for (key, value) in range.iter().take(most.into()) {
                if value.is_multiple_of(by.max(1)) {
                    orders.remove(&(book, *key));
                    written.insert(*key);
                }
            }
            range.get(usize::from(most)).map(|(key, _)| (*key, 0)).into_iter().collect()
        }
        Step::Clear => {
            orders.retain(|(of, _), _| *of != book);
            vec![(1, 0)]
        }
        Step::Fill(from, many) => {
            for key in from..from + many {
                orders.insert((book, key), key.into());
                written.insert(key);
            }
            vec![]
        }
        Step::Walk(from, to, is_back) => {
            let mut range: Vec<_> = match from < to {
                true => orders.range((book, from)..(book, to)).map(of).collect(),
                false => vec![],
            };
            if is_back {
                range.reverse();
            }
            for (key, value) in &range {
                written.insert(*key);
                match value.is_multiple_of(2) {
                    true => orders.insert((book, *key), value + 3),
                    false => orders.remove(&(book, *key)),
                };
            }
            range
        }
        _ => vec![],
    }
}

fn script() -> impl Strategy<Value = Script> {
    let key = || 0..8_u8;
    let step = prop_oneof![
        1 => key().prop_map(Step::Get),
        1 => (key(), 0..100_u64).prop_map(|(key, value)| Step::Set(key, value)),
        4 => (key(), 0..100_u64).prop_map(|(key, value)| Step::Insert(key, value)),
        3 => key().prop_map(Step::Remove),
        1 => Just(Step::Ends),
        1 => (key(), key()).prop_map(|(from, to)| Step::Range(from, to)),
        1 => (key(), key()).prop_map(|(from, to)| Step::Backwards(from, to)),
        1 => Just(Step::Len),
        1 => (key(), 0..5_u8, 1..4_u64).prop_map(|(from, most, by)| Step::Retain(from, most, by)),
        2 => Just(Step::Clear),
        2 => (key(), 0..40_u8).prop_map(|(from, many)| Step::Fill(from, many)),
        1 => (key(), key(), any::<bool>()).prop_map(|(from, to, is_back)| Step::Walk(from, to, is_back)),
        1 => (0..100_u64).prop_map(Step::Header),
        1 => Just(Step::Share),
        1 => key().prop_map(Step::ClonePanics),
    ];
    let end = prop_oneof![4 => Just(End::Reply), 1 => Just(End::Fail), 1 => Just(End::Panic)];
    (0..2_u8, 0..6_u8, prop::collection::vec(step, 0..8), end).prop_map(|(book, names, steps, end)| Script {
        book,
        names,
        steps,
        end,
    })
}

fn quiet_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.payload().downcast_ref::<&str>().copied().unwrap_or_default();
        if text != "as asked" && text != "this clone panics" {
            eprintln!("{panic}");
        }
    }));
}

fn world<'a>(objects: impl Iterator<Item = (Id, Ownership, &'a Value)>) -> World {
    let mut world = World::default();
    for (id, _, value) in objects {
        match id {
            Id::Book(book) => drop(world.0.insert(book, value.0)),
            Id::Order(book, key) => drop(world.1.insert((book, key), value.0)),
        }
    }
    world
}

/// Two collections of one shard, and who looks at them.
struct Life {
    shard: Shard<Shop>,
    mvcc: Arc<Mvcc<Shop>>,
    inbox: Inbox<Shop>,
    effects: Effects<Shop>,
    expected: World,
    snapshots: Vec<(Epoch, World)>,
}

impl Life {
    fn new() -> Life {
        let (router, mvcc) = (Router::new(PlacementKey(1), 1), Arc::new(Mvcc::new(1)));
        let shard = Shard::new(ShardIndex(0), router, Limits::default(), 7, mvcc.clone());
        let (inbox, effects) = (Inbox::new(), Effects::new(1));
        Life { shard, mvcc, inbox, effects, expected: World::default(), snapshots: Vec::new() }
    }

    fn ask(&mut self, script: Script) -> Outcome<Shop> {
        self.inbox.envelopes.push(Envelope::Message {
            message: script,
            sender: OwnerId(0),
            answer_to: ReturnAddress::Outside { slot: 0, generation: 0 },
        });
        for _ in 0..9 {
            self.shard.turn(Time(0), &mut self.inbox, &mut self.effects);
        }
        self.effects.answers.pop().expect("it is answered").1
    }

    /// Each snapshot sees what there was, whole and in ranges, forwards in slices.
    fn check_snapshots(&self, most: usize) {
        for (epoch, then) in &self.snapshots {
            let mut seen = World::default();
            let mut add = |id: Id, value: &Value| match id {
                Id::Book(book) => drop(seen.0.insert(book, value.0)),
                Id::Order(book, key) => drop(seen.1.insert((book, key), value.0)),
            };
            let walked = self.shard.walk_at(*epoch, 0, usize::MAX, |id, _, value| {
                add(id, value);
                ControlFlow::Continue(())
            });
            walked.expect("it is open");
            assert_eq!(&seen, then, "all at {epoch}");
            for book in 0..2 {
                let mut found = Vec::new();
                let (mut from, to) =
                    (Bound::Included(Id::Order(book, 2)), Bound::Excluded(Id::Order(book, 7)));
                while let Some(next) = self
                    .shard
                    .range_at(*epoch, &Id::Book(book), (from, to), most, |id, value| {
                        found.push(((book, key(id)), value.0));
                        ControlFlow::Continue(())
                    })
                    .expect("it is open")
                {
                    from = Bound::Excluded(next);
                }
                let expected: Vec<_> =
                    then.1.range((book, 2)..(book, 7)).map(|(key, value)| (*key, *value)).collect();
                assert_eq!(found, expected, "the range of {book} at {epoch}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: if cfg!(miri) { 3 } else { 256 },
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_message_changes_its_entries_or_none(
        scripts in prop::collection::vec((script(), 0..6_u8), 1..40),
    ) {
        quiet_panics();
        let mut life = Life::new();
        for (at, (script, looks)) in scripts.into_iter().enumerate() {
            match looks {
                0 => life.snapshots.push((life.mvcc.epochs().open(Time(0)), life.expected.clone())),
                1 => if let Some((epoch, _)) = life.snapshots.pop() {
                    life.mvcc.epochs().close(epoch);
                },
                _ => {}
            }
            let outcome = life.ask(script.clone());
            CLONE_PANICS.set(false);
            match model(&life.expected, &script) {
                Some((after, seen)) => {
                    prop_assert_eq!(&outcome, &Ok(seen), "{:?}", script);
                    life.expected = after;
                }
                None => prop_assert!(outcome.is_err(), "{:?} for {:?}", outcome, script),
            }
            prop_assert_eq!(&world(life.shard.objects()), &life.expected, "after {:?}", script);
            prop_assert_eq!(life.shard.counters().objects, life.shard.objects().count() as u64);
            life.check_snapshots(1 + at % 4);
        }
        for (epoch, _) in life.snapshots.drain(..) {
            life.mvcc.epochs().close(epoch);
        }
        for _ in 0..100 {
            life.shard.turn(Time(0), &mut life.inbox, &mut life.effects);
        }
        prop_assert_eq!(life.shard.counters().versions, 0);
        prop_assert_eq!(&world(life.shard.objects()), &life.expected);
    }

    #[test]
    fn what_was_answered_outlives_a_crash(
        scripts in prop::collection::vec((script(), 0..5_u8), 1..30),
    ) {
        quiet_panics();
        let mut bench = Bench::<Shop>::shards(2).with_log();
        let mut expected = World::default();
        for (script, crashes) in scripts {
            // Its book may be at home elsewhere.
            let script = Script { names: script.names.max(3), ..script };
            let outcome = bench.ask(script.clone());
            CLONE_PANICS.set(false);
            match model(&expected, &script) {
                Some((after, seen)) => {
                    prop_assert_eq!(&outcome, &Ok(seen), "{:?}", script);
                    expected = after;
                }
                None => prop_assert!(outcome.is_err(), "{:?} for {:?}", outcome, script),
            }
            if crashes == 0 {
                bench.crash();
            }
            prop_assert_eq!(&world(bench.objects()), &expected, "after {:?}", script);
        }
    }
}
