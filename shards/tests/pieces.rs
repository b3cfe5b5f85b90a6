//! What transactions over several shards take along of collections: little things that were
//! refused, lost, or ended a shard.

use freehold_shard::testing::Bench;
use freehold_shard::*;
use serde::{Deserialize, Serialize};

/// Entries say nothing of their placement: they live with their shelf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
enum Id {
    Shelf(u64),
    Book(u64, u64),
}

impl ObjectId for Id {
    const COLLECTION: Option<CollectionOf<Id>> = Some(|id| match *id {
        Id::Shelf(_) => None,
        Id::Book(shelf, _) => Some(Id::Shelf(shelf)),
    });
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    Fill(u64, u64),
    /// Looks so often at the first book of each shelf, and says how many it has seen.
    Look([u64; 2], u64),
    /// Its needs panic.
    Careless([u64; 2]),
    Count(u64),
}

struct Library;

impl Actor for Library {
    type Id = Id;
    type State = u64;
    type Message = Message;
    type Reply = u64;
    type Error = AccessError<Id>;

    fn addressees(message: &Message, to: &mut Addressees<Id>) {
        match *message {
            Message::Fill(shelf, _) => to.write(Id::Shelf(shelf)),
            Message::Look(shelves, _) | Message::Careless(shelves) => {
                shelves.into_iter().for_each(|shelf| to.write(Id::Shelf(shelf)));
            }
            Message::Count(shelf) => to.read(Id::Shelf(shelf)),
        }
    }

    fn needs(message: &Message, to: &mut Needs<Self>) {
        let _ = to;
        assert!(!matches!(message, Message::Careless(_)), "needs that panic");
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<Id>> {
        match *message {
            Message::Fill(shelf, books) => {
                objects.insert(Id::Shelf(shelf), 0)?;
                let mut shelf_now = objects.collection(Id::Shelf(shelf))?;
                for book in 0..books {
                    shelf_now.insert(Id::Book(shelf, book), book)?;
                }
                Ok(books)
            }
            Message::Look(shelves, often) => {
                let mut seen = 0;
                for _ in 0..often {
                    for shelf in shelves {
                        seen += u64::from(objects.collection(Id::Shelf(shelf))?.first().is_some());
                    }
                }
                Ok(seen)
            }
            Message::Careless(shelves) => {
                let firsts = shelves.map(|shelf| {
                    Ok::<_, AccessError<Id>>(u64::from(
                        objects.collection(Id::Shelf(shelf))?.first().is_some(),
                    ))
                });
                firsts.into_iter().sum()
            }
            Message::Count(shelf) => Ok(objects.collection(Id::Shelf(shelf))?.len() as u64),
        }
    }
}

/// Two shelves of two shards, each with so many books.
fn shelves(bench: &mut Bench<Library>, books: u64) -> [u64; 2] {
    // Of eight some are elsewhere, whatever the key of the placement.
    for shelf in 0..8 {
        assert_eq!(bench.ask(Message::Fill(shelf, books)), Ok(books));
    }
    let spans = |bench: &mut Bench<Library>, other| {
        let before = bench.counters().consensus;
        assert_eq!(bench.ask(Message::Look([0, other], 1)), Ok(2));
        bench.counters().consensus > before
    };
    let other = (1..8).find(|other| spans(bench, *other)).expect("one is on the other shard");
    [0, other]
}

/// A message that looked twice at a range it had not taken along counted as two that had too
/// little: after a few looks more was wanted than there is room for, and it was refused for good.
#[test]
fn a_range_that_is_missed_often_is_wanted_once() {
    let limits = Limits { carried_bytes_max: 4 << 10, ..Limits::default() };
    for seed in 0..6 {
        let mut bench = Bench::<Library>::shards(2).with_seed(seed).with_limits(limits);
        let shelves = shelves(&mut bench, 1000);
        assert_eq!(bench.ask(Message::Look(shelves, 10)), Ok(20));
    }
}

/// A panic of `needs` ended the shard.
#[test]
fn needs_that_panic_say_nothing() {
    let mut bench = Bench::<Library>::shards(2);
    let shelves = shelves(&mut bench, 100);
    assert_eq!(bench.ask(Message::Careless(shelves)), Ok(2));
    assert_eq!(bench.ask(Message::Look(shelves, 1)), Ok(2));
}

/// An entry went to the shard of its own placement at a start, and nobody found it there.
#[test]
fn entries_stay_with_their_collection_over_a_crash() {
    let mut bench = Bench::<Library>::shards(3).with_log();
    (0..8).for_each(|shelf| assert_eq!(bench.ask(Message::Fill(shelf, 30)), Ok(30)));
    bench.crash();
    assert!((0..8).all(|shelf| bench.ask(Message::Count(shelf)) == Ok(30)));
}
