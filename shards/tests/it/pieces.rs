//! What transactions over several shards take along of collections: little things that were
//! refused, lost, or ended a shard.

use std::sync::Arc;

use freehold_shard::testing::Bench;
use freehold_shard::*;
use serde::{Deserialize, Serialize};

use crate::shelves::Id;

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    Fill(u64, u64),
    /// Looks so often at the first book of each shelf, and says how many it has seen.
    Look([u64; 2], u64),
    /// Its needs panic.
    Careless([u64; 2]),
    Count(u64),
    /// Clears both shelves, after a change of each if it says so, fills each with so many books,
    /// and fails or not. Says how many there were, and are.
    Renew {
        shelves: [u64; 2],
        changes: bool,
        books: u64,
        fails: bool,
    },
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
            Message::Renew { shelves, .. } => {
                shelves.into_iter().for_each(|shelf| to.write(Id::Shelf(shelf)));
            }
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
            Message::Renew { shelves, changes, books, fails } => {
                let mut were = 0;
                for shelf in shelves {
                    were += renew(&mut objects.collection(Id::Shelf(shelf))?, shelf, changes, books)?;
                }
                if fails { Err(AccessError::Absent { id: Id::Shelf(9) }) } else { Ok(were) }
            }
        }
    }
}

fn renew(
    now: &mut Collection<'_, '_, Library>,
    shelf: u64,
    changes: bool,
    books: u64,
) -> Result<u64, AccessError<Id>> {
    let were = now.len() as u64;
    if changes {
        // Of those it takes along: one that it changes, one that it removes, and one that is new.
        if let Some(book) = now.get_mut(Id::Book(shelf, 1))? {
            *book += 1;
        }
        now.remove(Id::Book(shelf, 2))?;
        now.insert(Id::Book(shelf, 5000), 0)?;
    }
    now.clear()?;
    if !now.is_empty() || now.first().is_some() || now.get(Id::Book(shelf, 1))?.is_some() {
        // As it is where it has to run again; what is kept is wrong otherwise.
        return Ok(u64::MAX / 4);
    }
    for book in 0..books {
        now.insert(Id::Book(shelf, book), 7)?;
    }
    Ok(were)
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

/// A collection is cleared on the shard of another, whatever its size, and takes nothing along for
/// that. What the message changed before is gone, and what it inserts afterwards stays.
#[test]
fn a_large_collection_is_cleared_from_elsewhere() {
    let limits = Limits { carried_bytes_max: 4 << 10, ..Limits::default() };
    for (seed, changes) in [(1, false), (2, true), (3, false), (4, true)] {
        let mut bench = Bench::<Library>::shards(2).with_seed(seed).with_limits(limits).with_log();
        let shelves = shelves(&mut bench, 1000);
        let renew = |books, fails| Message::Renew { shelves, changes, books, fails };
        let all = bench.snapshot();
        assert!(bench.ask(renew(20, true)).is_err());
        assert_eq!(bench.snapshot(), all, "it failed");
        let mut expected = all;
        let mut were = 2000;
        for books in [20, 3, 0, 30] {
            assert_eq!(bench.ask(renew(books, false)), Ok(were), "before {books}");
            expected.retain(|id, _| id.collection().is_none_or(|of| !shelves.map(Id::Shelf).contains(&of)));
            expected
                .extend(shelves.iter().flat_map(|shelf| (0..books).map(|book| (Id::Book(*shelf, book), 7))));
            assert_eq!(bench.snapshot(), expected, "{books} each");
            bench.crash();
            assert_eq!(bench.snapshot(), expected, "{books} each, after a crash");
            were = 2 * books;
        }
    }
}

/// 8 KiB that point to nothing.
type Page = [[u64; 32]; 32];

#[derive(Clone, Debug)]
enum Write {
    Page(u64, u64),
    /// Adds up the first words of so many first pages of two albums, and counts one up in each.
    Sum([u64; 2], usize),
    /// The same, and then looks at an album that it has not declared.
    SumAndLook([u64; 2], usize, u64),
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
            Write::Sum(albums, _) | Write::SumAndLook(albums, ..) => {
                albums.into_iter().for_each(|album| to.write(Id::Shelf(album)));
            }
        }
    }

    fn needs(message: &Write, to: &mut Needs<Self>) {
        if let Write::Sum(albums, most) | Write::SumAndLook(albums, most, _) = *message {
            albums.into_iter().for_each(|album| to.range(Id::Shelf(album), .., most));
        }
    }

    fn receive(message: &Write, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<Id>> {
        match *message {
            Write::Page(album, number) => {
                // With it, two albums of two shards make a pair.
                objects.insert(Id::Shelf(album), [[0; 32]; 32])?;
                objects.collection(Id::Shelf(album))?.insert(Id::Book(album, number), [[number; 32]; 32])?;
                Ok(0)
            }
            Write::Sum(albums, most) => sum(objects, albums, most),
            Write::SumAndLook(albums, most, other) => {
                let sum = sum(objects, albums, most)?;
                objects.get(Id::Shelf(other))?;
                Ok(sum)
            }
        }
    }
}

fn sum(objects: &mut Objects<'_, Albums>, albums: [u64; 2], most: usize) -> Result<u64, AccessError<Id>> {
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

/// Two shards of albums, whose lanes a test moves by hand.
struct Two {
    shards: Vec<Shard<Albums>>,
    effects: Vec<Effects<Albums>>,
    inboxes: Vec<Inbox<Albums>>,
    answers: Vec<Outcome<Albums>>,
}

impl Two {
    /// With so many pages in an album of each shard; and these albums, lower first.
    fn with_pages(limits: Limits, pages: u64) -> (Two, [u64; 2]) {
        let (router, mvcc) = (Router::new(PlacementKey(5), 2), Arc::new(Mvcc::new(2)));
        let shard = |at| Shard::new(ShardIndex(at), router, limits, 3, mvcc.clone());
        let mut two = Two {
            shards: (0..2).map(shard).collect(),
            effects: (0..2).map(|_| Effects::new(2)).collect(),
            inboxes: (0..2).map(|_| Inbox::new()).collect(),
            answers: Vec::new(),
        };
        let home = |album| router.home(&Id::Shelf(album)).index();
        let albums = [0, 1].map(|shard| (0..).find(|album| home(*album) == shard).expect("some live there"));
        for (shard, album) in albums.into_iter().enumerate() {
            for number in 0..pages {
                let (sender, answer_to) = (OwnerId(0), ReturnAddress::Nobody);
                let message = Write::Page(album, number);
                two.inboxes[shard].envelopes.push(Envelope::Message { message, sender, answer_to });
            }
        }
        two.run_until_idle();
        (two, albums)
    }

    /// Begins a message on a shard, as a task there does.
    fn begin(&mut self, shard: usize, message: Write) {
        let to = ReturnAddress::Outside { slot: 0, generation: 0 };
        let effects = &mut self.effects[shard];
        let begun = self.shards[shard].begin_pair(Time(0), OwnerId(0), message, to, effects);
        begun.expect("it is a pair");
    }

    fn run_until_idle(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            quiet += 1;
            for shard in 0..2 {
                self.shards[shard].turn(Time(0), &mut self.inboxes[shard], &mut self.effects[shard]);
                self.answers.extend(self.effects[shard].answers.drain(..).map(|(_, outcome)| outcome));
                for to in 0..2 {
                    let sent: Vec<_> = self.effects[shard].outboxes[to].drain(..).collect();
                    quiet = if sent.is_empty() { quiet } else { 0 };
                    self.inboxes[to].envelopes.extend(sent);
                }
            }
        }
        assert!(self.shards.iter().all(|shard| shard.transactions() == (0, 0)));
    }
}

/// A pair that begins at its higher home and finds the header at the lower one locked lets go of
/// its own, and begins anew there. What it had taken along must not count then: with that it has
/// too much, though each way takes no more than it may.
#[test]
fn what_a_pair_took_along_in_vain_does_not_count() {
    let limits = Limits { carried_bytes_max: 64 << 10, ..Limits::default() };
    // Of seven that fit.
    for most in [3, 5, 7] {
        let (mut two, [a, b]) = Two::with_pages(limits, 9);
        for round in 0..5 {
            // Both have locked what the other comes for.
            two.begin(0, Write::Sum([a, b], most));
            two.begin(1, Write::Sum([a, b], most));
            assert_eq!(two.shards.iter().map(|shard| shard.transactions().0).sum::<usize>(), 2);
            two.run_until_idle();
            let mut sums: Vec<_> = two.answers.drain(..).map(|sum| sum.expect("that many fit")).collect();
            sums.sort_unstable();
            let sum = |round: u64| (0..most as u64).map(|page| 2 * (page + round)).sum::<u64>();
            assert_eq!(sums, [sum(2 * round), sum(2 * round + 1)], "each runs once");
        }
        let pairs: u64 = two.shards.iter().map(|shard| shard.counters().pairs).sum();
        assert_eq!(pairs, 5, "of each two one had to wait");
    }
}

/// The same of one that ran at its lower home, and has to run again with an object that it had not
/// declared: it begins at the lowest of its shards then.
#[test]
fn what_a_run_took_along_that_missed_something_does_not_count() {
    let limits = Limits { carried_bytes_max: 64 << 10, ..Limits::default() };
    for most in [3, 5, 7] {
        for shard in [0, 1] {
            let (mut two, [a, b]) = Two::with_pages(limits, 9);
            let others = (0..20).filter(|album| ![a, b].contains(album));
            for (round, other) in others.enumerate() {
                two.begin(shard, Write::SumAndLook([a, b], most, other));
                two.run_until_idle();
                let sum = (0..most as u64).map(|page| 2 * (page + round as u64)).sum();
                assert_eq!(two.answers.drain(..).collect::<Vec<_>>(), [Ok(sum)], "{most} from {shard}");
            }
        }
    }
}
