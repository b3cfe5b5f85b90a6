//! A collection that is cleared: what that costs its message, who still sees what it had, and when
//! that is dropped.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use freehold_shard::log::{Bounds, LogBatch, SegmentId, Tail};
use freehold_shard::part::PartWriter;
use freehold_shard::record::Record;
use freehold_shard::recovery::{Home, LogReader, Replay};
use freehold_shard::*;
use serde::{Deserialize, Serialize};

use crate::shelves::Id;

thread_local! {
    /// How many books of each edition were dropped.
    static DROPS: RefCell<BTreeMap<u64, usize>> = const { RefCell::new(BTreeMap::new()) };
    static CLONES: RefCell<usize> = const { RefCell::new(0) };
}

/// A book, of an edition.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Book(u64);

impl Clone for Book {
    fn clone(&self) -> Self {
        CLONES.with_borrow_mut(|clones| *clones += 1);
        Book(self.0)
    }
}

impl Drop for Book {
    fn drop(&mut self) {
        DROPS.with_borrow_mut(|drops| *drops.entry(self.0).or_default() += 1);
    }
}

/// How many books were dropped since this was last asked, of an edition.
fn drops(edition: u64) -> usize {
    DROPS.with_borrow_mut(|drops| drops.remove(&edition).unwrap_or_default())
}

#[derive(Clone, Debug, Serialize, Deserialize)]
enum Message {
    /// So many books of an edition, from the first on.
    Fill(u64, u64),
    Clear,
    /// Both in one message.
    Renew(u64, u64),
    /// Clears, fills, clears again, and fills with one less.
    RenewTwice(u64, u64),
    /// Changes, removes, clears, inserts, clears again, inserts; and fails.
    Fail,
}

struct Library;

impl Actor for Library {
    type Id = Id;
    type State = Book;
    type Message = Message;
    type Reply = ();
    type Error = AccessError<Id>;

    fn addressees(_: &Message, to: &mut Addressees<Id>) {
        to.write(Id::Shelf(7));
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<(), AccessError<Id>> {
        let mut shelf = objects.collection(Id::Shelf(7))?;
        let id = |book| Id::Book(7, book);
        match *message {
            Message::Fill(books, edition) => fill(&mut shelf, books, edition)?,
            Message::Clear => shelf.clear()?,
            Message::Renew(books, edition) => {
                shelf.clear()?;
                assert_eq!((shelf.len(), shelf.first()), (0, None));
                fill(&mut shelf, books, edition)?;
            }
            Message::RenewTwice(books, edition) => {
                shelf.clear()?;
                fill(&mut shelf, books, 99)?;
                shelf.clear()?;
                assert_eq!((shelf.len(), shelf.first()), (0, None));
                fill(&mut shelf, books - 1, edition)?;
            }
            Message::Fail => {
                shelf.get_mut(id(3))?.expect("it is there").0 = 91;
                drop(shelf.remove(id(4))?);
                drop(shelf.insert(id(1000), Book(92))?);
                shelf.clear()?;
                for book in [3, 4, 5, 1000, 1001] {
                    assert_eq!(shelf.get(id(book))?, None);
                    assert_eq!(shelf.insert(id(book), Book(93))?, None);
                }
                assert_eq!(shelf.len(), 5);
                shelf.clear()?;
                assert_eq!(shelf.insert(id(5), Book(94))?, None);
                return Err(AccessError::Absent { id: id(0) });
            }
        }
        Ok(())
    }
}

fn fill(shelf: &mut Collection<'_, '_, Library>, books: u64, edition: u64) -> Result<(), AccessError<Id>> {
    for book in 0..books {
        shelf.insert(Id::Book(7, book), Book(edition))?;
    }
    Ok(())
}

/// Books and their editions.
type Shelf = BTreeMap<u64, u64>;

fn books(books: u64, edition: u64) -> Shelf {
    (0..books).map(|book| (book, edition)).collect()
}

fn add(to: &mut Shelf, id: Id, book: &Book) {
    let Id::Book(_, number) = id else { panic!("no shelf has a header") };
    assert_eq!(to.insert(number, book.0), None, "{id:?} comes once");
}

const LOG: SegmentId = SegmentId { database: 1, log: 0, segment: 0, start: 1 };
const PART: SegmentId = SegmentId { log: 1, ..LOG };
const BOUNDS: Bounds = Bounds::of_segments(1 << 20);

/// The only shard there is.
struct One {
    shard: Shard<Library>,
    mvcc: Arc<Mvcc<Library>>,
    inbox: Inbox<Library>,
    effects: Effects<Library>,
    /// What is on its disk.
    log: Vec<u8>,
}

impl One {
    fn new(limits: Limits) -> One {
        let durability = Arc::new(Durability::new(1, Epoch(0)));
        let mvcc = Arc::new(Mvcc::logged(1, durability.clone()));
        let start = LogStart {
            codec: Codec::new(),
            ack: Ack::Applied,
            first: LOG,
            segment_bytes: 1 << 20,
            first_send: 0,
            durability,
        };
        let router = Router::new(PlacementKey(1), 1);
        let shard = Shard::new(ShardIndex(0), router, limits, 7, mvcc.clone()).with_log(start);
        CLONES.set(0);
        DROPS.take();
        One { shard, mvcc, inbox: Inbox::new(), effects: Effects::new(1), log: Vec::new() }
    }

    fn turn(&mut self) {
        self.shard.turn(Time(0), &mut self.inbox, &mut self.effects);
    }

    /// One turn.
    fn ask(&mut self, message: Message) -> Outcome<Library> {
        let (sender, answer_to) = (OwnerId(0), ReturnAddress::Outside { slot: 0, generation: 0 });
        self.inbox.envelopes.push(Envelope::Message { message, sender, answer_to });
        self.turn();
        self.effects.answers.pop().expect("it is answered").1
    }

    fn shelf(&self) -> Shelf {
        let mut shelf = Shelf::new();
        self.shard.objects().for_each(|(id, _, book)| add(&mut shelf, id, book));
        assert_eq!(self.shard.counters().objects, shelf.len() as u64);
        shelf
    }

    /// What a snapshot sees, by each of the ways there are.
    fn seen(&self, snapshot: Epoch) -> Result<Shelf, Expired> {
        let (mut walked, mut from) = (Shelf::new(), Some(0));
        while let Some(at) = from {
            from = self.shard.walk_at(snapshot, at, 7, |id, _, book| {
                add(&mut walked, id, book);
                ControlFlow::Continue(())
            })?;
        }
        for most in 1..4 {
            let (mut ranged, mut from) = (Shelf::new(), Bound::Unbounded);
            while let Some(next) =
                self.shard.range_at(snapshot, &Id::Shelf(7), (from, Bound::Unbounded), most, |id, book| {
                    add(&mut ranged, id, book);
                    ControlFlow::Continue(())
                })?
            {
                from = Bound::Excluded(next);
            }
            assert_eq!(ranged, walked, "{most} at a time");
        }
        for book in 0..200 {
            let read = self.shard.read_at(snapshot, &Id::Book(7, book))?;
            assert_eq!(read.map(|(_, book)| book.0), walked.get(&book).copied(), "book {book}");
        }
        Ok(walked)
    }

    /// What the shard has for its disk, as records; it is on the disk then.
    fn written(&mut self) -> Vec<String> {
        let mut records = Vec::new();
        while let Some(write) = self.shard.next_write(Time(0)) {
            self.log.extend_from_slice(write.batch.sealed());
            self.shard.written(write.batch);
        }
        self.turn();
        self.each(|batch| {
            records.extend(batch.records().map(|record| match Record::read(record) {
                Some(Record::Cleared { collection }) => format!("clear {:?}", collection.decode::<Id>()),
                Some(Record::Put { id, .. }) => format!("put {:?}", id.decode::<Id>()),
                Some(Record::Remove { id }) => format!("remove {:?}", id.decode::<Id>()),
                _ => String::new(),
            }));
        });
        records.retain(|record| !record.is_empty());
        records
    }

    fn each(&self, each: impl FnMut(LogBatch<'_>)) {
        let mut bytes = self.log.clone();
        bytes.resize(1 << 20, 0);
        LogReader::new(LOG, BOUNDS, Tail::default()).read(&bytes, each).expect("it was just written");
    }
}

/// The entries of a collection that was cleared were gone through in its turn. They are dropped by
/// those that come after, some by each, and none is cloned.
#[test]
fn a_turn_drops_few_of_many_entries() {
    let mut one = One::new(Limits::default());
    one.ask(Message::Fill(10_000, 1)).expect("there is room");
    CLONES.take();
    drops(1);
    one.ask(Message::Clear).expect("it is had");
    assert_eq!((one.shelf(), CLONES.take()), (Shelf::new(), 0));
    let (mut dropped, mut turns) = (drops(1), 1);
    // Of 10,000, a turn frees 2 by their number, and 16 at least.
    assert!(dropped <= 18, "{dropped} in its turn");
    while one.shard.has_garbage() {
        assert_eq!(one.shard.counters().versions, 10_000 - dropped as u64);
        one.turn();
        let now = drops(1);
        assert!((1..=18).contains(&now), "{now} in one turn");
        (dropped, turns) = (dropped + now, turns + 1);
    }
    assert_eq!((dropped, one.shard.counters().versions), (10_000, 0));
    assert!(turns >= 10_000 / 18, "{turns} turns");
    // Whoever has a clock goes on as long as that says.
    one.ask(Message::Fill(1_000, 2)).expect("there is room");
    one.ask(Message::Clear).expect("it is had");
    drops(2);
    let mut left = 200;
    one.shard.sweep(|| {
        left -= 1;
        left > 0
    });
    assert_eq!(drops(2), 199);
    // Their slots are used again.
    one.ask(Message::Fill(500, 3)).expect("there is room");
    assert_eq!(one.shelf(), books(500, 3));
}

#[test]
fn a_message_that_fails_leaves_all_it_had_cleared() {
    let mut one = One::new(Limits::default());
    one.ask(Message::Fill(100, 1)).expect("there is room");
    drops(1);
    for _ in 0..3 {
        CLONES.set(0);
        assert!(one.ask(Message::Fail).is_err());
        assert_eq!(one.shelf(), books(100, 1));
        // In its order, too.
        let snapshot = one.mvcc.epochs().open(Time(0));
        one.turn();
        assert_eq!(one.seen(snapshot), Ok(books(100, 1)));
        one.mvcc.epochs().close(snapshot);
        // Of the two that it had written before it cleared, and took away.
        assert!(CLONES.take() <= 3, "no before-images of the others");
        assert!(drops(1) <= 3, "none of the others");
    }
    one.ask(Message::Renew(40, 2)).expect("it is had");
    assert_eq!(one.shelf(), books(40, 2));
}

/// Each of three generations is seen by the snapshots of its time, whole, however it is read, and
/// dropped when nobody sees it.
#[test]
fn who_sees_what_was_cleared_keeps_it() {
    let mut one = One::new(Limits::default());
    one.ask(Message::Fill(50, 1)).expect("there is room");
    let first = one.mvcc.epochs().open(Time(0));
    one.ask(Message::Renew(30, 2)).expect("it is had");
    let second = one.mvcc.epochs().open(Time(0));
    one.ask(Message::Clear).expect("it is had");
    one.ask(Message::Fill(60, 3)).expect("there is room");
    let third = one.mvcc.epochs().open(Time(0));
    // Of what is inserted a copy is read back, for the log.
    DROPS.take();
    let go_on = |one: &mut One| {
        (0..20).for_each(|_| one.turn());
        assert_eq!(one.shelf(), books(60, 3));
        one.shard.has_garbage()
    };
    assert!(!go_on(&mut one), "all of it is seen");
    let seen = [first, second, third].map(|snapshot| one.seen(snapshot));
    assert_eq!(seen, [Ok(books(50, 1)), Ok(books(30, 2)), Ok(books(60, 3))]);
    assert_eq!((drops(1), drops(2)), (0, 0));
    one.mvcc.epochs().close(first);
    assert!(!go_on(&mut one));
    assert_eq!((drops(1), drops(2)), (50, 0));
    assert_eq!([second, third].map(|snapshot| one.seen(snapshot)), [Ok(books(30, 2)), Ok(books(60, 3))]);
    one.mvcc.epochs().close(second);
    assert!(!go_on(&mut one));
    assert_eq!((drops(2), one.shard.counters().versions), (30, 0));
    assert_eq!(one.seen(third), Ok(books(60, 3)));
}

/// What is cleared and seen counts as kept: whoever needs too much is revoked.
#[test]
fn a_snapshot_that_needs_too_many_cleared_entries_is_revoked() {
    let mut one = One::new(Limits { versions_max: 99, ..Limits::default() });
    for (many, is_revoked) in [(99, false), (100, true)] {
        one.ask(Message::Fill(many, 1)).expect("there is room");
        let snapshot = one.mvcc.epochs().open(Time(0));
        one.ask(Message::Clear).expect("it is had");
        (0..20).for_each(|_| one.turn());
        let seen = if is_revoked { Err(Expired) } else { Ok(books(many, 1)) };
        assert_eq!(one.seen(snapshot), seen, "{many} entries");
        if !is_revoked {
            one.mvcc.epochs().close(snapshot);
        }
        (0..20).for_each(|_| one.turn());
        assert_eq!(one.shard.counters().versions, 0);
    }
}

/// Each entry of a collection that was cleared had a record of its own.
#[test]
fn a_clear_is_one_record_before_what_comes_after_it() {
    let mut one = One::new(Limits::default());
    one.ask(Message::Fill(2, 1)).expect("there is room");
    let put = |book| format!("put {:?}", Some(Id::Book(7, book)));
    let clear = format!("clear {:?}", Some(Id::Shelf(7)));
    let mut expected = vec![put(0), put(1)];
    assert_eq!(one.written(), expected);
    // Few, which are removed one by one, and many.
    for many in [2, 100] {
        one.ask(Message::Renew(3, 2)).expect("it is had");
        expected.extend([clear.clone(), put(0), put(1), put(2)]);
        assert_eq!(one.written(), expected, "of {many}");
        one.ask(Message::Clear).expect("it is had");
        one.ask(Message::Clear).expect("it is had");
        expected.push(clear.clone());
        assert_eq!(one.written(), expected, "nothing is cleared twice");
        one.ask(Message::Fill(many, 3)).expect("there is room");
        expected.extend((0..many).map(put));
        // Two in one message are one.
        one.ask(Message::RenewTwice(40, 2)).expect("it is had");
        assert_eq!(one.shelf(), books(39, 2));
        expected.extend([clear.clone()].into_iter().chain((0..39).map(put)));
        assert_eq!(one.written(), expected, "of {many}, cleared twice");
        one.ask(Message::Fill(100, 3)).expect("there is room");
        expected.extend((0..100).map(put));
    }
    assert!(one.ask(Message::Fail).is_err());
    assert_eq!(one.written(), expected, "a message that fails leaves nothing");
}

/// A part of a checkpoint that has entries which were cleared while it was written brings none of
/// them back.
#[test]
fn a_checkpoint_that_a_clear_tears_is_whole() {
    for passed in [0, 1, 40, 99] {
        let mut one = One::new(Limits::default());
        one.ask(Message::Fill(100, 1)).expect("there is room");
        let snapshot = one.mvcc.epochs().begin_checkpoint();
        let mut part = PartWriter::new(PART, BOUNDS, usize::MAX);
        let codec = Codec::new();
        let from = one.shard.checkpoint_objects(&codec, snapshot, 0, passed, &mut part, || true);
        let mut from = from.expect("it is under way");
        // Of what is written a copy is read back now and then.
        drops(1);
        one.ask(Message::Renew(60, 2)).expect("it is had");
        (0..20).for_each(|_| one.turn());
        assert_eq!((drops(1), one.shard.checkpoint_backlog()), (0, 0), "it is to be written");
        while let Some(at) = from {
            from =
                one.shard.checkpoint_objects(&codec, snapshot, at, 7, &mut part, || true).expect("as before");
        }
        drops(1);
        one.mvcc.epochs().end_checkpoint(snapshot);
        one.shard.enter();
        (0..20).for_each(|_| one.turn());
        assert_eq!(drops(1), 100, "it is written");
        one.written();

        let mut home = Home::<Library>::new(3);
        let mut replay = Replay::<Library>::new(Router::new(PlacementKey(1), 1));
        let read = |home: &Home<Library>| {
            let mut shelf = Shelf::new();
            home.objects().for_each(|(id, _, book)| add(&mut shelf, id, book));
            assert_eq!(home.len(), shelf.len());
            shelf
        };
        while let Some(bytes) = part.last_batch() {
            let each = |batch: LogBatch<'_>| {
                let put = |_, changes: &mut Vec<_>| home.apply(changes.drain(..));
                replay.apply(&batch, Epoch(0), Epoch(0), put).expect("it can be read");
            };
            LogReader::new(PART, BOUNDS, Tail::default()).read(bytes, each).expect("it was just written");
        }
        assert_eq!(read(&home), books(100, 1), "each entry as it was, behind {passed}");
        one.each(|batch| {
            let put = |_, changes: &mut Vec<_>| home.apply(changes.drain(..));
            replay.apply(&batch, snapshot, Epoch(u64::MAX), put).expect("it can be read");
        });
        assert_eq!(read(&home), books(60, 2), "after {passed}");
    }
}
