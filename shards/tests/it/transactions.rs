//! Transactions step by step on a few shards whose lanes a test moves by hand, and the founding
//! system's defects as stories that must not repeat themselves.

use crate::rig::{Message, Refusal, Rig};
use freehold_shard::*;

#[test]
fn two_shards_take_two_envelopes() {
    let mut rig = Rig::new(2);
    let (a, b) = (rig.account(0, 0), rig.account(1, 0));
    rig.ask(Message::Add(a, 100)).expect("an account opens");
    rig.envelopes = 0;
    for round in 1..=5 {
        assert_eq!(rig.ask(Message::Pay { from: a, to: b, amount: 10 }), Ok(vec![100 - 10 * round]));
        assert_eq!(rig.envelopes, 2 * round as usize);
    }
    assert_eq!(rig.ask(Message::Read(vec![a, b])), Ok(vec![50, 50]));
    assert_eq!(
        rig.shards[1].counters().consensus,
        6,
        "five payments and the read ran at the last participant"
    );
}

#[test]
fn many_shards_are_visited_in_order_and_left_in_the_other() {
    let mut rig = Rig::new(8);
    let accounts: Vec<u64> = (0..8).rev().map(|shard| rig.account(shard, 0)).collect();
    assert_eq!(rig.ask(Message::Read(accounts)), Ok(vec![-1; 8]));
    assert_eq!(rig.envelopes, 14);
    assert_eq!(
        rig.shards.iter().map(|shard| shard.objects().count()).sum::<usize>(),
        0,
        "what was only locked is gone"
    );
}

// A locked object is not seen, not written, and keeps its queue in order; everything else goes on.
#[test]
fn what_meets_a_lock_waits_and_the_rest_does_not() {
    let mut rig = Rig::new(2);
    let (a, other, b) = (rig.account(0, 0), rig.account(0, 1), rig.account(1, 0));
    rig.ask(Message::Add(a, 100)).expect("an account opens");
    rig.send(1, Message::Pay { from: a, to: b, amount: 60 });
    rig.turn(0);
    // The transaction is in the lane. On shard 0:
    rig.send(2, Message::Add(a, 1));
    rig.send(3, Message::Add(other, 1));
    rig.send(4, Message::Read(vec![a]));
    rig.turn(0);
    assert_eq!(rig.answers, [(3, Ok(vec![1]))]);
    assert_eq!(
        rig.shards[0].ask_now(Time(0), OwnerId(0), &Message::Add(a, 1), &mut Effects::new(2)),
        Err(AskError::Busy)
    );
    rig.run_until_idle();
    assert_eq!(rig.answers[1..], [(1, Ok(vec![40])), (2, Ok(vec![41])), (4, Ok(vec![41]))]);
}

#[test]
fn readers_share_and_do_not_overtake_a_writer() {
    let mut rig = Rig::new(2);
    let (a, b) = (rig.account(0, 0), rig.account(1, 0));
    rig.ask(Message::Add(a, 7)).expect("an account opens");
    rig.send(1, Message::Read(vec![a, b]));
    rig.turn(0);
    rig.send(2, Message::Read(vec![a, b]));
    rig.send(3, Message::Read(vec![a]));
    rig.turn(0);
    assert_eq!(rig.answers, [(3, Ok(vec![7]))], "a reader passes where only readers hold");
    assert_eq!(rig.effects[0].outboxes[1].len(), 2, "and so does another transaction");
    rig.send(4, Message::Add(a, 1));
    rig.send(5, Message::Read(vec![a]));
    rig.turn(0);
    assert_eq!(
        rig.answers.len(),
        1,
        "the writer waits for both readers, and who comes then waits for the writer"
    );
    rig.run_until_idle();
    let of = |slot| rig.answers.iter().find(|(found, _)| *found == slot).map(|(_, outcome)| outcome.clone());
    assert_eq!((of(4), of(5)), (Some(Ok(vec![8])), Some(Ok(vec![8]))));
}

#[test]
fn an_error_or_a_panic_changes_nothing_anywhere() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut rig = Rig::new(3);
    let (a, b, c) = (rig.account(0, 0), rig.account(1, 0), rig.account(2, 0));
    for account in [a, b] {
        rig.ask(Message::Add(account, 10)).expect("an account opens");
    }
    assert_eq!(rig.ask(Message::Pay { from: a, to: b, amount: 11 }), Err(AskError::Aborted(Refusal::Funds)));
    let text = "in the middle of a transaction".to_string();
    let Err(AskError::Panicked(panic)) = rig.ask(Message::Panic(a, c)) else { panic!("it panics") };
    assert_eq!((panic.object(), panic.text()), (a.to_string(), text));
    assert_eq!(rig.ask(Message::Read(vec![a, b, c])), Ok(vec![10, 10, -1]));
}

#[test]
fn what_it_touches_may_depend_on_what_it_reads() {
    let mut rig = Rig::new(4);
    let (start, far) = (rig.account(3, 0), rig.account(0, 5));
    rig.ask(Message::Add(start, far as i64)).expect("an account opens");
    assert_eq!(rig.ask(Message::Follow(start)), Ok(vec![far as i64]));
    assert_eq!(rig.ask(Message::Read(vec![far])), Ok(vec![1]));
    assert_eq!(rig.shards.iter().map(|shard| shard.counters().unstable).sum::<u64>(), 0);
}

/// `ask_now` found a message spanning or blocked, counted it and left it to its caller, and the
/// turn counted it again: 45,000 messages were 94,000 blocked.
#[test]
fn why_a_message_is_a_transaction_is_counted_where_it_begins() {
    let mut rig = Rig::new(2);
    let [a, b] = [0, 1].map(|shard| rig.account(shard, 0));
    assert_eq!(rig.ask(Message::Add(a, 10)), Ok(vec![10]));
    let reasons = |rig: &Rig| {
        let counters = rig.shards[0].counters();
        (counters.spanning, counters.blocked, counters.undeclared)
    };
    let pay = Message::Pay { from: a, to: b, amount: 1 };
    for message in [&pay, &Message::Follow(a)] {
        let outcome = rig.shards[0].ask_now(Time(0), OwnerId(0), message, &mut rig.effects[0]);
        assert_eq!(outcome, Err(AskError::Busy));
        assert_eq!(reasons(&rig), (0, 0, 0), "{message:?} did not begin");
    }
    rig.send(0, pay);
    rig.turn(0);
    assert_eq!(reasons(&rig), (1, 0, 0));
    // Shard 0 has locked `a` and passed the transaction on.
    rig.send(1, Message::Add(a, 1));
    rig.turn(0);
    assert_eq!(reasons(&rig), (1, 1, 0));
    rig.run_until_idle();
    assert_eq!(rig.ask(Message::Follow(a)), Ok(vec![10]));
    assert_eq!(reasons(&rig), (1, 1, 1));
}

// The founding system lost updates under two threads: both read 41, both wrote 42.
#[test]
fn no_update_is_lost() {
    let mut rig = Rig::new(2);
    let (a, b) = (rig.account(0, 0), rig.account(1, 0));
    let rounds = if cfg!(miri) { 20 } else { 200 };
    for round in 0..rounds {
        // Two transactions and a fast message meet on the same objects, in every phase of each
        // other.
        rig.send(1, Message::Pay { from: a, to: b, amount: 0 });
        rig.send(2, Message::Add(a, 1));
        rig.turn(0);
        if round % 2 == 0 {
            rig.deliver(0, 1);
        }
        rig.send(3, Message::Add(b, 1));
        rig.turn(1);
        if round % 3 == 0 {
            rig.deliver(1, 0);
            rig.turn(0);
        }
    }
    rig.run_until_idle();
    assert_eq!(rig.ask(Message::Read(vec![a, b])), Ok(vec![rounds, rounds]));
    assert_eq!(rig.answers.len(), 3 * rounds as usize);
}

// The founding system created money: a payment's two halves were applied by different threads.
#[test]
fn no_money_is_made() {
    let mut rig = Rig::new(4);
    let accounts: Vec<u64> =
        (0..4).flat_map(|shard| [rig.account(shard, 0), rig.account(shard, 1)]).collect();
    for &account in &accounts {
        rig.ask(Message::Add(account, 100)).expect("an account opens");
    }
    let mut dice = 1_u64;
    for round in 0..if cfg!(miri) { 60 } else { 2_000 } {
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let (from, to) = (accounts[(dice >> 33) as usize % 8], accounts[(dice >> 43) as usize % 8]);
        if from != to {
            rig.send(round, Message::Pay { from, to, amount: (dice >> 53) as i64 % 50 });
        }
        let (one, other) = ((dice >> 37) as usize % 4, (dice >> 39) as usize % 4);
        rig.turn(one);
        rig.deliver(one, other);
        rig.turn(other);
    }
    rig.run_until_idle();
    assert_eq!(rig.sum(), 800);
}

// Write skew: two withdrawals, each allowed by what the other has not yet taken.
#[test]
fn no_write_skew() {
    let mut rig = Rig::new(2);
    let (a, b) = (rig.account(0, 0), rig.account(1, 0));
    for account in [a, b] {
        rig.ask(Message::Add(account, 50)).expect("an account opens");
    }
    rig.send(1, Message::Withdraw { from: a, other: b, amount: 100 });
    rig.send(2, Message::Withdraw { from: b, other: a, amount: 100 });
    rig.run_until_idle();
    let granted = rig.answers.iter().filter(|(_, outcome)| outcome.is_ok()).count();
    assert_eq!((granted, rig.sum()), (1, 0));
}

// In the founding system a delete and a write that met left the object there.
#[test]
fn a_removed_object_stays_removed() {
    let mut rig = Rig::new(2);
    let (a, b) = (rig.account(0, 0), rig.account(1, 0));
    for account in [a, b] {
        rig.ask(Message::Add(account, 5)).expect("an account opens");
    }
    rig.send(1, Message::Remove(a, b));
    rig.turn(0);
    rig.send(2, Message::Read(vec![a]));
    rig.run_until_idle();
    let mut answers = rig.answers.clone();
    answers.sort_by_key(|(slot, _)| *slot);
    assert_eq!(answers, [(1, Ok(vec![5, 5])), (2, Ok(vec![-1]))]);
    assert_eq!(rig.shards.iter().map(|shard| shard.objects().count()).sum::<usize>(), 0);
}

// In the founding system the consensus path did not ask who owns what.
#[test]
fn a_strangers_write_is_refused_on_either_path() {
    let mut rig = Rig::new(2);
    let (a, b, near) = (rig.account(0, 0), rig.account(1, 0), rig.account(0, 1));
    for account in [a, b, near] {
        rig.ask(Message::Add(account, 5)).expect("an account opens");
    }
    rig.ask(Message::Give(a, OwnerId(9))).expect("its owner gives it away");
    for (slot, to) in [(1, b), (2, near)] {
        rig.send(slot, Message::Pay { from: a, to, amount: 1 });
        rig.run_until_idle();
        let refused = AccessError::NotOwner { id: a, owner: OwnerId(9), sender: OwnerId(0) };
        assert_eq!(rig.answers.pop(), Some((slot, Err(AskError::Aborted(Refusal::Access(refused))))));
    }
    rig.ask(Message::Give(b, OwnerId(9))).expect("its owner gives it away");
    rig.send_as(9, 3, Message::Pay { from: a, to: b, amount: 1 });
    rig.run_until_idle();
    assert_eq!(rig.answers.pop(), Some((3, Ok(vec![4]))));
}

// In the founding system a refused item of a batch shifted the results of those behind it.
#[test]
fn a_batch_keeps_each_outcome_in_its_place() {
    let mut rig = Rig::new(2);
    let (a, b) = (rig.account(0, 0), rig.account(1, 0));
    rig.ask(Message::Add(a, 10)).expect("an account opens");
    let messages = [
        Message::Add(a, 1),
        Message::Pay { from: a, to: b, amount: 1_000 },
        Message::Nobody,
        Message::Pay { from: a, to: b, amount: 1 },
        Message::Add(a, 5),
        Message::Read(vec![b, a]),
    ];
    let entries = messages.into_iter().map(BatchEntry::Waiting).collect();
    rig.inboxes[0].batches.push(Batch { sender: OwnerId(0), entries, tag: 77 });
    rig.turn(0);
    assert!(rig.effects[0].batches.is_empty(), "a batch waits for its last transaction");
    rig.run_until_idle();
    let batch = rig.effects[0].batches.pop().expect("the batch comes back");
    let outcome =
        |entry| if let BatchEntry::Answered(outcome) = entry { outcome } else { panic!("unanswered") };
    let outcomes: Vec<_> = batch.entries.into_iter().map(outcome).collect();
    let expected = [
        Ok(vec![11]),
        Err(AskError::Aborted(Refusal::Funds)),
        Err(AskError::Unaddressed),
        Ok(vec![10]),
        Ok(vec![15]),
        Ok(vec![1, 15]),
    ];
    assert_eq!((batch.tag, outcomes.as_slice()), (77, expected.as_slice()));
}
