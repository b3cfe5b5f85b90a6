//! The founding system's defects, as stories that must not repeat themselves: each is a check of
//! any store of accounts. Freehold passes it, on two shards and on four, and a canary with the flaw
//! in question is found out by the same check, while the canary without it passes.

mod canary;
mod store;

use std::fmt::Debug;
use std::thread;

use canary::{Canary, Flaw};
use freehold::{AccessError, AskError, OwnerId, SnapshotError};
use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};
use store::{Answer, Freehold, Message, Refusal, Store, VERSIONS_MAX};

/// `Err` says what is wrong with a store.
type Verdict = Result<(), String>;

fn judge(story: &'static str, check: fn(&dyn Store) -> Verdict, flaws: &[Flaw]) {
    let watchdog = crate::support::Watchdog::new(story);
    for shards in [2, 4] {
        let store = Freehold::open(shards);
        check(&store).unwrap_or_else(|wrong| panic!("Freehold, {shards} shards: {wrong}"));
        store.close();
        watchdog.feed();
    }
    check(&Canary::open(Flaw::None)).expect("there is nothing wrong with this one");
    for flaw in flaws {
        let wrong = check(&Canary::open(*flaw));
        println!("{flaw:?}: {wrong:?}");
        wrong.expect_err("the flaw is found");
    }
}

fn same<T: PartialEq + Debug>(what: &str, found: T, expected: T) -> Verdict {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?} and not {expected:?}")) }
}

/// The `n`th account at home on `shard`.
fn account(store: &dyn Store, shard: usize, n: usize) -> u64 {
    (0..).filter(|id| store.home(*id) == shard).nth(n).expect("ids do not run out")
}

/// Opens the `n`th account on each of these shards.
fn open<const N: usize>(store: &dyn Store, at: [(usize, usize); N], balance: i64) -> [u64; N] {
    let accounts = at.map(|(shard, n)| account(store, shard, n));
    for account in accounts {
        store.ask(Message::Open(account, balance)).expect("an account opens");
    }
    accounts
}

fn sum(store: &dyn Store, accounts: &[u64]) -> i64 {
    let read = store.ask(Message::Read(accounts.to_vec())).expect("reading succeeds");
    read.into_iter().flatten().sum()
}

/// Two threads that send their first message, or read, at the same time.
fn race<T: Send>(store: &dyn Store, run: impl Fn(usize) -> T + Sync) -> [T; 2] {
    store.line_up();
    let run = &run;
    thread::scope(|scope| {
        let threads = [0, 1].map(|number| scope.spawn(move || run(number)));
        threads.map(|thread| thread.join().expect("it has no reason to panic"))
    })
}

// Two threads incremented a counter, and most of the increments were gone: a value was read under
// one lock, incremented, and written back under another.
#[test]
fn no_increment_is_lost() {
    fn check(store: &dyn Store) -> Verdict {
        const EACH: i64 = 100_000;
        const BATCH: i64 = 1_000;
        let [counter, far] = open(store, [(0, 0), (1, 0)], 2 * EACH);
        // One in a hundred comes from another shard.
        let increment = |number| match number % 100 {
            0 => Message::Pay { from: far, to: counter, amount: 1 },
            _ => Message::Add(counter, 1),
        };
        let made = race(store, |_| {
            let batches = (0..EACH / BATCH).map(|_| store.ask_all((0..BATCH).map(increment).collect()));
            batches.flatten().filter(Result::is_ok).count() as i64
        });
        same("increments", made, [EACH; 2])?;
        let counted = store.ask(Message::Read(vec![counter, far]));
        same("counted", counted, Ok(vec![Some(4 * EACH), Some(2 * EACH - 2 * EACH / 100)]))
    }
    judge("no_increment_is_lost", check, &[Flaw::WritesBackLate]);
}

// Two threads paid out of one account: both read what was in it before, so one of the two payments
// never left it and arrived all the same.
#[test]
fn no_money_is_made() {
    fn check(store: &dyn Store) -> Verdict {
        let at = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)];
        let accounts = open(store, at, 100);
        let pay = |from: usize, to: usize, amount| {
            store.ask(Message::Pay { from: accounts[from], to: accounts[to], amount })
        };
        let once = race(store, |thread| pay(0, 2 + thread, 50));
        same("both payments are made", once.each_ref().map(Result::is_ok), [true; 2])?;
        same("the money after two payments", sum(store, &accounts), 600)?;
        race(store, |thread| {
            let mut random = Pcg32::seed_from_u64(thread as u64);
            for _ in 0..2_000 {
                let mut below = |bound| (random.next_u32() % bound) as usize;
                let from = below(6);
                // Whether it is made or refused, it makes no money.
                let _ = pay(from, (from + 1 + below(5)) % 6, below(120) as i64);
            }
        });
        same("the money after many", sum(store, &accounts), 600)
    }
    judge("no_money_is_made", check, &[Flaw::WritesBackLate]);
}

// Two withdrawals at once were each allowed by what the other had not yet taken.
#[test]
fn no_write_skew() {
    fn check(store: &dyn Store) -> Verdict {
        for round in 0..100 {
            let pair = open(store, [(0, 2 * round), (round % 2, 2 * round + 1)], 50);
            let taken = race(store, |thread| {
                store.ask(Message::Withdraw { from: pair[thread], other: pair[1 - thread], amount: 100 })
            });
            same("withdrawals granted", taken.iter().filter(|answer| answer.is_ok()).count(), 1)?;
            same("the money left", sum(store, &pair), 0)?;
        }
        Ok(())
    }
    judge("no_write_skew", check, &[Flaw::WritesBackLate]);
}

// Two messages of one batch spent the same money, and both committed: the batch had been read
// before any of it was written.
#[test]
fn no_conflict_commits_in_one_batch() {
    fn check(store: &dyn Store) -> Verdict {
        for (round, homes) in [[0, 0], [0, 1], [1, 0], [1, 1]].into_iter().enumerate() {
            let [spent, one, other] =
                open(store, [(0, 3 * round), (homes[0], 3 * round + 1), (homes[1], 3 * round + 2)], 100);
            let pay = |to| Message::Pay { from: spent, to, amount: 100 };
            let answers = store.ask_all(vec![pay(one), pay(other)]);
            let refused = Err(AskError::Aborted(Refusal::Funds));
            same("answers", answers, vec![Ok(vec![Some(0), Some(200)]), refused])?;
            same("the money", sum(store, &[spent, one, other]), 300)?;
        }
        Ok(())
    }
    judge("no_conflict_commits_in_one_batch", check, &[Flaw::ReadsOncePerBatch]);
}

// A write that had begun before an object was removed brought it back.
#[test]
fn no_removed_object_comes_back() {
    fn check(store: &dyn Store) -> Verdict {
        for round in 0..100 {
            let pair = open(store, [(0, 2 * round), (round % 2, 2 * round + 1)], 100);
            let [removed, _] = race(store, |thread| match thread {
                0 => store.ask(Message::Remove(pair.to_vec())).map(drop),
                _ => {
                    // Each is made, or finds nothing.
                    let _ = store.ask(Message::Add(pair[0], 1));
                    let _ = store.ask(Message::Pay { from: pair[0], to: pair[1], amount: 1 });
                    Ok(())
                }
            });
            same("removed", removed, Ok(()))?;
            same("what is left", store.ask(Message::Read(pair.to_vec())), Ok(vec![None, None]))?;
        }
        Ok(())
    }
    judge("no_removed_object_comes_back", check, &[Flaw::WritesBackLate]);
}

// Only one of the two paths asked who owns an object, so whoever was refused on the one went by the
// other.
#[test]
fn no_strangers_write_is_accepted() {
    fn check(store: &dyn Store) -> Verdict {
        let accounts = open(store, [(0, 0), (0, 1), (1, 0)], 100);
        let [id, near, far] = accounts;
        let (owner, sender) = (OwnerId(9), OwnerId(0));
        store.ask(Message::Give(id, owner)).expect("its owner gives it away");
        let mut attempts = vec![
            Message::Open(id, 0),
            Message::Add(id, 1),
            Message::Give(id, sender),
            Message::Remove(vec![id]),
        ];
        for mine in [near, far] {
            attempts.push(Message::Pay { from: id, to: mine, amount: 1 });
            attempts.push(Message::Pay { from: mine, to: id, amount: 1 });
            attempts.push(Message::Withdraw { from: id, other: mine, amount: 1 });
            attempts.push(Message::Remove(vec![mine, id]));
        }
        let refused = || Err(AskError::Aborted(AccessError::NotOwner { id, owner, sender }.into()));
        for attempt in &attempts {
            let what = format!("{attempt:?}");
            same(&what, store.ask(attempt.clone()), refused())?;
            let read = store.ask(Message::Read(accounts.to_vec()));
            same(&format!("after {what}"), read, Ok(vec![Some(100); 3]))?;
        }
        let all = vec![refused(); attempts.len()];
        same("in a batch", store.ask_all(attempts), all)?;
        same("after the batch", sum(store, &accounts), 300)?;
        // Its owner may, and may read what is not its own.
        let taken = store.ask_as(owner, Message::Withdraw { from: id, other: far, amount: 150 });
        same("its owner's withdrawal", taken, Ok(vec![Some(-50)]))
    }
    judge("no_strangers_write_is_accepted", check, &[Flaw::TrustsOnOneShard, Flaw::TrustsAcrossShards]);
}

// A batch had answers for those messages only that were not refused, so whoever asked took
// another's answer for its own.
#[test]
fn no_refusal_shifts_the_answers_of_a_batch() {
    fn check(store: &dyn Store) -> Verdict {
        let [near, far] = open(store, [(0, 0), (1, 0)], 100);
        let unknown = account(store, 1, 7);
        let (messages, expected): (Vec<Message>, Vec<Answer>) = [
            (Message::Add(near, 1), Ok(vec![Some(101)])),
            (Message::Pay { from: near, to: far, amount: 999 }, Err(AskError::Aborted(Refusal::Funds))),
            (Message::Nobody, Err(AskError::Unaddressed)),
            (Message::Add(far, 2), Ok(vec![Some(102)])),
            (Message::Add(unknown, 3), Err(AskError::Aborted(Refusal::Absent))),
            (Message::Pay { from: near, to: far, amount: 1 }, Ok(vec![Some(100), Some(103)])),
            (Message::Read(vec![far, near]), Ok(vec![Some(103), Some(100)])),
        ]
        .into_iter()
        .unzip();
        same("the answers", store.ask_all(messages), expected)
    }
    judge("no_refusal_shifts_the_answers_of_a_batch", check, &[Flaw::SkipsTheRefused]);
}

// A message went by the fast path if all of its objects that were known were on one shard. Of no
// objects that was true as well: a message for nobody was run and answered,
#[test]
fn no_message_without_addressee_runs() {
    fn check(store: &dyn Store) -> Verdict {
        same("alone", store.ask(Message::Nobody), Err(AskError::Unaddressed))?;
        same("of no accounts", store.ask(Message::Read(vec![])), Err(AskError::Unaddressed))?;
        let in_a_batch = store.ask_all(vec![Message::Nobody, Message::Remove(vec![])]);
        same("in a batch", in_a_batch, vec![Err(AskError::Unaddressed); 2])
    }
    judge("no_message_without_addressee_runs", check, &[Flaw::TakesNowhereForHere]);
}

// and a message for objects that were unknown ran on a shard where they were not at home: what it
// inserted there, the other path never found.
#[test]
fn no_unknown_object_is_taken_to_be_here() {
    fn check(store: &dyn Store) -> Verdict {
        let [near, far] = [account(store, 0, 0), account(store, 1, 0)];
        let absent = || Err(AskError::Aborted(Refusal::Absent));
        for _ in 0..2 {
            same("neither", store.ask(Message::Read(vec![near, far])), Ok(vec![None; 2]))?;
            same("removed", store.ask(Message::Remove(vec![near, far])), Ok(vec![None; 2]))?;
            for one in [near, far] {
                same("alone", store.ask(Message::Read(vec![one])), Ok(vec![None]))?;
                same("added to", store.ask(Message::Add(one, 1)), absent())?;
            }
            same("paid", store.ask(Message::Pay { from: near, to: far, amount: 0 }), absent())?;
        }
        store.ask(Message::Open(far, 5)).expect("an account opens");
        same("alone", store.ask(Message::Read(vec![far])), Ok(vec![Some(5)]))?;
        same("with another", store.ask(Message::Read(vec![near, far])), Ok(vec![None, Some(5)]))?;
        same("half known", store.ask(Message::Pay { from: far, to: near, amount: 1 }), absent())?;
        store.ask(Message::Open(near, 7)).expect("an account opens");
        same("both", store.ask(Message::Read(vec![near, far])), Ok(vec![Some(7), Some(5)]))
    }
    judge("no_unknown_object_is_taken_to_be_here", check, &[Flaw::TakesNowhereForHere]);
}

// A reader saw a payment that had reached one of its two accounts: money that had left the one and
// was not yet on the other.
#[test]
fn no_snapshot_is_torn() {
    fn check(store: &dyn Store) -> Verdict {
        let [near, far] = open(store, [(0, 0), (1, 0)], 1_000);
        for round in 0..100 {
            let (from, to) = if round % 2 == 0 { (near, far) } else { (far, near) };
            let seen = race(store, |thread| match thread {
                0 => {
                    let payments = vec![Message::Pay { from, to, amount: 10 }; 20];
                    store.ask_all(payments).into_iter().for_each(|paid| drop(paid.expect("there is enough")));
                    Vec::new()
                }
                _ => {
                    let readers: Vec<_> = (0..3).map(|_| store.open_reader()).collect();
                    // Twice: what a snapshot is, it stays.
                    readers.iter().chain(&readers).map(|reader| reader.sum()).collect()
                }
            });
            for sum in seen.concat() {
                same("the money in a snapshot", sum, Ok(2_000))?;
            }
        }
        Ok(())
    }
    judge("no_snapshot_is_torn", check, &[Flaw::TearsSnapshots]);
}

// A reader that nobody closed stopped the collection of old versions, of all objects and for good:
// memory grew until the process died.
#[test]
fn no_forgotten_reader_keeps_everything() {
    fn check(store: &dyn Store) -> Verdict {
        let accounts: Vec<u64> =
            (0..30).flat_map(|n| open(store, [(0, 2 * n), (0, 2 * n + 1), (1, n)], 0)).collect();
        let all = accounts.len() as i64;
        let forgotten = store.open_reader();
        same("the money at first", forgotten.sum(), Ok(0))?;
        for round in 0..30 {
            let reader = store.open_reader();
            let added = store.ask_all(accounts.iter().map(|id| Message::Add(*id, 1)).collect());
            same("added", added.iter().filter(|answer| answer.is_ok()).count(), accounts.len())?;
            same("the money before that", reader.sum(), Ok(round * all))?;
            let kept = store.versions_kept();
            // The bound, and what one round may add to it.
            if kept > VERSIONS_MAX + accounts.len() {
                return Err(format!("after {round} rounds {kept} versions are kept"));
            }
        }
        same("the forgotten reader", forgotten.sum(), Err(SnapshotError::Expired))?;
        drop(forgotten);
        crate::support::until(|| store.versions_kept() == 0);
        Ok(())
    }
    judge("no_forgotten_reader_keeps_everything", check, &[Flaw::KeepsForEver]);
}
