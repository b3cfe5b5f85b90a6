//! Pairs that wait for one object, and go to their second home together.

use crate::rig::{Message, Refusal, Rig};
use freehold_shard::*;

const OPENED: i64 = 1000;

/// Shards with accounts that hold [`OPENED`]: one of the first shard, and some of the second.
fn accounts(shards: usize, others: usize) -> (Rig, u64, Vec<u64>) {
    let mut rig = Rig::new(shards);
    let first = rig.account(0, 0);
    let others: Vec<u64> = (0..others).map(|nth| rig.account(1, nth)).collect();
    for account in others.iter().chain([&first]) {
        rig.ask(Message::Add(*account, OPENED)).expect("an account opens");
    }
    rig.envelopes = 0;
    (rig, first, others)
}

fn pay(from: u64, to: u64, amount: i64) -> Message {
    Message::Pay { from, to, amount }
}

/// A round trip between the first two shards.
fn there_and_back(rig: &mut Rig) {
    rig.turn(0);
    rig.deliver(0, 1);
    rig.turn(1);
    rig.deliver(1, 0);
}

/// The slots that were answered, in order.
fn answered(rig: &Rig) -> Vec<u32> {
    rig.answers.iter().map(|(slot, _)| *slot).collect()
}

#[test]
fn who_waits_behind_a_pair_goes_together() {
    let (mut rig, payer, payees) = accounts(2, 10);
    (0..10).for_each(|nth| rig.send(nth, pay(payer, payees[nth as usize], 1 + i64::from(nth))));
    there_and_back(&mut rig);
    assert_eq!(answered(&rig), [0], "the others wait for its lock");
    assert_eq!(rig.shards[0].transactions(), (10, 9));
    there_and_back(&mut rig);
    assert_eq!((answered(&rig), rig.envelopes), ((0..10).collect(), 4), "in order, and in two envelopes");
    assert!(
        rig.answers
            .iter()
            .map(|(_, outcome)| outcome.clone().expect("there is enough")[0])
            .is_sorted_by(|before, after| after < before)
    );
    let busy = rig.shards[0].ask_now(Time(0), OwnerId(0), &Message::Add(payer, 1), &mut rig.effects[0]);
    assert_eq!(busy, Err(AskError::Busy), "locked-until-applied");
    rig.run_until_idle();
    assert_eq!(rig.shards[0].transactions(), (0, 0));
    let all: Vec<u64> = [payer].into_iter().chain(payees).collect();
    let held: Vec<i64> = [OPENED - 55].into_iter().chain((1..=10).map(|paid| OPENED + paid)).collect();
    assert_eq!(rig.ask(Message::Read(all)), Ok(held));
}

// Some of the same payee: the leader has it, and is done when they run.
#[test]
fn a_group_may_meet_at_both_ends() {
    let (mut rig, payer, payees) = accounts(2, 1);
    (0..5).for_each(|slot| rig.send(slot, pay(payer, payees[0], 1)));
    (0..2).for_each(|_| there_and_back(&mut rig));
    assert_eq!(answered(&rig), [0, 1, 2, 3, 4]);
    rig.run_until_idle();
    assert_eq!(rig.ask(Message::Read(vec![payer, payees[0]])), Ok(vec![OPENED - 5, OPENED + 5]));
}

#[test]
fn a_follower_does_not_wait_at_the_second_home() {
    let (mut rig, payer, payees) = accounts(3, 4);
    let far = rig.account(2, 0);
    rig.ask(Message::Add(far, OPENED)).expect("an account opens");
    (0..4).for_each(|nth| rig.send(nth, pay(payer, payees[nth as usize], 1)));
    there_and_back(&mut rig);
    // Its object at the second home is locked for a third shard.
    rig.send(9, pay(payees[2], far, 1));
    rig.turn(1);
    there_and_back(&mut rig);
    assert_eq!(answered(&rig), [0, 1, 3], "the second of three followers is left out");
    rig.run_until_idle();
    assert_eq!(answered(&rig), [0, 1, 3, 9, 2], "and led when it was its turn");
    assert_eq!(rig.ask(Message::Read(vec![payer, payees[2], far])), Ok(vec![OPENED - 4, OPENED, OPENED + 1]));
}

#[test]
fn who_fails_in_a_group_changes_nothing() {
    std::panic::set_hook(Box::new(|_| {}));
    let (mut rig, payer, payees) = accounts(2, 6);
    let messages = [
        pay(payer, payees[0], 1),
        pay(payer, payees[1], 2 * OPENED),
        Message::Panic(payer, payees[2]),
        pay(payer, payees[3], 10),
        pay(payer, payees[4], OPENED),
        Message::Remove(payer, payees[3]),
        pay(payer, payees[5], 1),
    ];
    (0..).zip(messages).for_each(|(slot, message)| rig.send(slot, message));
    (0..2).for_each(|_| there_and_back(&mut rig));
    assert_eq!(answered(&rig), [0, 1, 2, 3, 4, 5, 6]);
    rig.run_until_idle();
    let outcomes: Vec<_> = rig.answers.drain(..).map(|(_, outcome)| outcome).collect();
    assert_eq!(outcomes[1], Err(AskError::Aborted(Refusal::Funds)));
    assert!(matches!(outcomes[2], Err(AskError::Panicked(_))));
    assert_eq!(outcomes[3], Ok(vec![OPENED - 11]));
    assert_eq!(outcomes[4], Err(AskError::Aborted(Refusal::Funds)), "the others have paid");
    assert_eq!(outcomes[5], Ok(vec![OPENED - 11, OPENED + 10]));
    assert!(outcomes[6].is_err(), "the payer is no more");
    assert_eq!(rig.shards[0].objects().count(), 0);
    assert_eq!(rig.sum(), OPENED * 5 + 1, "of the other payees");
}

// Those behind it lose nothing by it, and those of another shard go by themselves.
#[test]
fn who_has_other_homes_does_not_follow() {
    let (mut rig, payer, payees) = accounts(3, 3);
    let (near, far) = (rig.account(0, 1), rig.account(2, 0));
    for account in [near, far] {
        rig.ask(Message::Add(account, OPENED)).expect("an account opens");
    }
    rig.send(0, pay(payer, payees[0], 1));
    rig.send(1, pay(payer, payees[1], 1));
    rig.send(2, pay(payer, near, 1));
    rig.send(3, pay(payer, far, 1));
    rig.send(4, pay(payer, payees[2], 1));
    (0..2).for_each(|_| there_and_back(&mut rig));
    assert_eq!(answered(&rig), [0, 1, 4]);
    rig.turn(0);
    assert_eq!(answered(&rig), [0, 1, 4, 2]);
    rig.run_until_idle();
    assert_eq!(answered(&rig), [0, 1, 4, 2, 3]);
    assert_eq!(rig.ask(Message::Read(vec![payer, near, far])), Ok(vec![OPENED - 5, OPENED + 1, OPENED + 1]));
}
