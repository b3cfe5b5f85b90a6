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

/// 8 KiB that point to nothing.
type Page = [[u64; 32]; 32];

#[derive(Clone, Debug)]
enum Write {
    Page(u64, u64),
    /// Adds up the first words of so many first pages of two albums, and counts one up in each.
    Sum([u64; 2], usize),
}

/// Albums of pages.
struct Albums;

impl Actor for Albums {
    type Id = Id;
    type State = Page;
    type Message = Write;
    type Reply = u64;
    type Error = AccessError<Id>;

    fn addressees(message: &Write, to: &mut Addressees<Id>) {
        match *message {
            Write::Page(album, _) => to.write(Id::Shelf(album)),
            Write::Sum(albums, _) => albums.into_iter().for_each(|album| to.write(Id::Shelf(album))),
        }
    }

    fn needs(message: &Write, to: &mut Needs<Self>) {
        if let Write::Sum(albums, most) = *message {
            albums.into_iter().for_each(|album| to.range(Id::Shelf(album), .., most));
        }
    }

    fn receive(message: &Write, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<Id>> {
        match *message {
            Write::Page(album, number) => {
                objects.collection(Id::Shelf(album))?.insert(Id::Book(album, number), [[number; 32]; 32])?;
                Ok(0)
            }
            Write::Sum(albums, most) => {
                let mut sum = 0;
                for album in albums {
                    let mut pages = objects.collection(Id::Shelf(album))?;
                    let mut walk = pages.walk(..);
                    for _ in 0..most {
                        let Some(page) = walk.next() else { break };
                        let words = page.into_mut()?;
                        assert!(words.iter().flatten().all(|word| *word == words[0][0]), "a page is whole");
                        sum += words[0][0];
                        words.iter_mut().flatten().for_each(|word| *word += 1);
                    }
                }
                Ok(sum)
            }
        }
    }
}

/// States that are large in themselves count with their whole size: as many as there is room for
/// come along, whole, and one more is refused, with nothing changed.
#[test]
fn large_inline_states_come_along_as_many_as_fit() {
    let limits = Limits { carried_bytes_max: 64 << 10, ..Limits::default() };
    let fit = limits.carried_bytes_max / size_of::<(Id, Option<Page>)>();
    assert_eq!(fit, 7, "a page has 8 KiB, and an id beside it");
    let mut bench = Bench::<Albums>::shards(2).with_limits(limits);
    let pages = (0..8).flat_map(|album| (0..20).map(move |number| Write::Page(album, number)));
    assert!(bench.ask_all(pages).iter().all(Result::is_ok));
    let mut rounds = [0; 8];
    let too_much = AskError::Aborted(AccessError::TooMuchCarried { max: 64 << 10 });
    for album in 1..8 {
        let before = bench.counters().consensus;
        // Each page that was counted up is one more.
        let sum =
            |rounds: [u64; 2]| rounds.iter().map(|round| (0..fit as u64).sum::<u64>() + 7 * round).sum();
        let expected = sum([rounds[0], rounds[album as usize]]);
        assert_eq!(bench.ask(Write::Sum([0, album], fit)), Ok(expected), "album {album}");
        (rounds[0], rounds[album as usize]) = (rounds[0] + 1, 1);
        if bench.counters().consensus == before {
            continue;
        }
        let untouched = bench.snapshot();
        assert_eq!(bench.ask(Write::Sum([0, album], fit + 1)), Err(too_much.clone()));
        assert_eq!(bench.snapshot(), untouched);
        return;
    }
    panic!("some album lives on the other shard");
}
