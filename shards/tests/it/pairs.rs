//! Transactions of two free objects on two shards, which begin at either.

use crate::rig::{Message, Refusal, Rig};
use freehold_shard::*;

/// Two shards with an account of each that holds 100, lower first.
fn two_accounts() -> (Rig, [u64; 2]) {
    let mut rig = Rig::new(2);
    let accounts = [0, 1].map(|shard| rig.account(shard, 0));
    for account in accounts {
        rig.ask(Message::Add(account, 100)).expect("an account opens");
    }
    rig.envelopes = 0;
    (rig, accounts)
}

fn outside(slot: u32) -> ReturnAddress {
    ReturnAddress::Outside { slot, generation: 0 }
}

/// Begins a message on `shard`, as a task there does.
fn begin(rig: &mut Rig, shard: usize, slot: u32, message: Message) -> Result<(), Message> {
    let effects = &mut rig.effects[shard];
    rig.shards[shard].begin_pair(Time(0), OwnerId(0), message, outside(slot), effects)
}

fn outcome(rig: &Rig, slot: u32) -> Outcome<crate::rig::Bank> {
    let found = rig.answers.iter().filter(|(of, _)| *of == slot).map(|(_, outcome)| outcome.clone());
    let [outcome] = found.collect::<Vec<_>>().try_into().expect("it is answered once");
    outcome
}

fn balances(rig: &mut Rig, accounts: [u64; 2]) -> Vec<i64> {
    rig.ask(Message::Read(accounts.to_vec())).expect("both can be read")
}

#[test]
fn either_end_takes_two_envelopes() {
    for shard in [0, 1] {
        let (mut rig, [a, b]) = two_accounts();
        begin(&mut rig, shard, 1, Message::Pay { from: a, to: b, amount: 30 }).expect("it is a pair");
        assert_eq!(rig.shards[shard].transactions(), (1, 0));
        rig.run_until_idle();
        assert_eq!((outcome(&rig, 1), rig.envelopes), (Ok(vec![70]), 2), "from shard {shard}");
        assert_eq!(rig.shards[1 - shard].counters().pairs, 1, "it ran at its second home");
        assert_eq!(balances(&mut rig, [a, b]), [70, 130]);
    }
}

#[test]
fn an_error_or_a_panic_changes_nothing_at_either_end() {
    std::panic::set_hook(Box::new(|_| {}));
    for shard in [0, 1] {
        let (mut rig, [a, b]) = two_accounts();
        begin(&mut rig, shard, 1, Message::Pay { from: a, to: b, amount: 101 }).expect("it is a pair");
        rig.run_until_idle();
        begin(&mut rig, shard, 2, Message::Panic(a, b)).expect("it is a pair");
        rig.run_until_idle();
        assert_eq!(outcome(&rig, 1), Err(AskError::Aborted(Refusal::Funds)));
        assert!(matches!(outcome(&rig, 2), Err(AskError::Panicked(_))));
        assert_eq!(balances(&mut rig, [a, b]), [100, 100], "from shard {shard}");
    }
}

#[test]
fn whatever_is_removed_is_gone_at_both_ends() {
    for shard in [0, 1] {
        let (mut rig, [a, b]) = two_accounts();
        begin(&mut rig, shard, 1, Message::Remove(a, b)).expect("it is a pair");
        rig.run_until_idle();
        assert_eq!(outcome(&rig, 1), Ok(vec![100, 100]));
        assert_eq!(rig.shards.iter().map(|shard| shard.objects().count()).sum::<usize>(), 0);
    }
}

// What is to be published is found by the before-images, of a guest as well.
#[test]
fn anyone_may_read_what_a_pair_has_shared() {
    for shard in [0, 1] {
        let (mut rig, [a, b]) = two_accounts();
        begin(&mut rig, shard, 1, Message::ShareBoth(a, b)).expect("it is a pair");
        rig.run_until_idle();
        let published = [a, b].map(|id| rig.mvcc.latest(&id).map(|balance| *balance));
        assert_eq!((outcome(&rig, 1), published), (Ok(vec![]), [Some(101); 2]), "from shard {shard}");
    }
}

// Two pairs lock one object each and meet at the other's. The one from the higher home lets go.
#[test]
fn two_that_meet_from_both_ends_both_end() {
    let (mut rig, [a, b]) = two_accounts();
    begin(&mut rig, 0, 1, Message::Pay { from: a, to: b, amount: 10 }).expect("it is a pair");
    begin(&mut rig, 1, 2, Message::Pay { from: b, to: a, amount: 25 }).expect("it is a pair");
    rig.deliver(0, 1);
    rig.deliver(1, 0);
    rig.turn(0);
    rig.turn(1);
    assert_eq!(rig.shards.each_waiting(), [1, 1], "each waits for what the other has locked");
    rig.run_until_idle();
    assert_eq!((outcome(&rig, 1), outcome(&rig, 2)), (Ok(vec![90]), Ok(vec![85])));
    let pairs: u64 = rig.shards.iter().map(|shard| shard.counters().pairs).sum();
    assert_eq!(pairs, 1, "the one that let go came back and found its last object free");
    assert_eq!(balances(&mut rig, [a, b]), [115, 85]);
}

/// How many transactions wait for locks on each shard.
trait EachWaiting {
    fn each_waiting(&self) -> Vec<usize>;
}

impl EachWaiting for Vec<Shard<crate::rig::Bank>> {
    fn each_waiting(&self) -> Vec<usize> {
        self.iter().map(|shard| shard.transactions().1).collect()
    }
}

// While it waits at its lower home it holds nothing at the higher, where it began.
#[test]
fn who_waits_at_the_lower_home_holds_nothing_at_the_higher() {
    let (mut rig, [a, b]) = two_accounts();
    let other = rig.account(1, 1);
    rig.ask(Message::Add(other, 100)).expect("an account opens");
    begin(&mut rig, 0, 1, Message::Pay { from: a, to: other, amount: 1 }).expect("it is a pair");
    begin(&mut rig, 1, 2, Message::Pay { from: a, to: b, amount: 2 }).expect("it is a pair");
    assert_eq!(
        rig.shards[1].ask_now(Time(0), OwnerId(0), &Message::Add(b, 5), &mut rig.effects[1]),
        Err(AskError::Busy),
        "it has locked the object where it began"
    );
    rig.deliver(1, 0);
    rig.turn(0);
    rig.deliver(0, 1);
    rig.turn(1);
    assert_eq!(
        rig.shards[1].ask_now(Time(0), OwnerId(0), &Message::Add(b, 5), &mut rig.effects[1]),
        Ok(vec![105]),
        "and let go of it"
    );
    rig.run_until_idle();
    assert_eq!(outcome(&rig, 2), Ok(vec![97]));
    assert_eq!(balances(&mut rig, [a, b]), [97, 107]);
}

// What one task sends to one object runs in the order sent, also behind a pair that had to wait;
// unless a crowd waits there: see `a_hot_object_is_visited_last`.
#[test]
fn nothing_overtakes_a_pair_at_its_lower_home() {
    let (mut rig, [a, b]) = two_accounts();
    begin(&mut rig, 0, 1, Message::Pay { from: a, to: b, amount: 100 }).expect("it is a pair");
    begin(&mut rig, 1, 2, Message::Pay { from: b, to: a, amount: 30 }).expect("it is a pair");
    let message = Message::Pay { from: a, to: rig.account(0, 1), amount: 30 };
    let behind = Envelope::Message { message, sender: OwnerId(0), answer_to: outside(3) };
    rig.effects[1].outboxes[0].push_back(behind);
    rig.run_until_idle();
    assert_eq!(outcome(&rig, 3), Ok(vec![0]), "it found what the pair had paid in");
}

#[test]
fn only_a_free_object_here_and_one_elsewhere_are_a_pair() {
    let (mut rig, [a, b]) = two_accounts();
    let (here, absent) = (rig.account(0, 1), rig.account(0, 2));
    rig.ask(Message::Add(here, 1)).expect("an account opens");
    let pay = |from, to| Message::Pay { from, to, amount: 1 };
    let shared = rig.account(0, 3);
    rig.ask(Message::Add(shared, 1)).expect("an account opens");
    rig.ask(Message::Share(shared)).expect("it is the sender's");
    let others =
        [pay(a, here), pay(absent, b), pay(shared, b), Message::Read(vec![a, here, b]), Message::Nobody];
    for message in others {
        assert_eq!(begin(&mut rig, 0, 1, message.clone()), Err(message));
    }
    assert_eq!(begin(&mut rig, 1, 1, pay(a, here)), Err(pay(a, here)), "neither is here");
    begin(&mut rig, 0, 1, pay(a, b)).expect("it is a pair");
    assert_eq!(begin(&mut rig, 0, 2, pay(a, b)), Err(pay(a, b)), "one is locked");
    assert_eq!(rig.shards[0].transactions(), (1, 0), "what is refused has not begun");
    rig.run_until_idle();
    assert_eq!(balances(&mut rig, [a, b]), [99, 101]);
}

// A pair that touches an object it had not declared begins anew with all three.
#[test]
fn a_pair_may_touch_more_than_it_declares() {
    for shard in [0, 1] {
        let mut rig = Rig::new(3);
        let accounts = [0, 1].map(|shard| rig.account(shard, 0));
        let far = rig.account(2, 0);
        rig.ask(Message::Add(accounts[0], far as i64)).expect("an account opens");
        rig.ask(Message::Add(accounts[1], 0)).expect("an account opens");
        let message = Message::FollowBoth(accounts[0], accounts[1]);
        begin(&mut rig, shard, 1, message).expect("it is a pair");
        rig.run_until_idle();
        assert_eq!(outcome(&rig, 1), Ok(vec![far as i64]));
        assert_eq!(rig.ask(Message::Read(vec![far])), Ok(vec![1]), "from shard {shard}");
    }
}

// While a crowd waits for it, an object at the lower home is visited last and locked for no time.
#[test]
fn a_hot_object_is_visited_last() {
    let (mut rig, [hot, b]) = two_accounts();
    for slot in 0..100 {
        begin(&mut rig, 0, 200, Message::Pay { from: hot, to: b, amount: 0 }).expect("it is a pair");
        rig.send(slot, Message::Pay { from: hot, to: b, amount: 0 });
        rig.turn(0);
        assert_eq!(rig.shards.each_waiting(), [1, 0], "it is locked, and somebody waits");
        rig.run_until_idle();
        rig.answers.clear();
        if rig.effects[0].outboxes[1].is_empty() && is_hot(&mut rig, hot, b) {
            begin(&mut rig, 0, 1, Message::Pay { from: hot, to: b, amount: 10 }).expect("it is a pair");
            let free = rig.shards[0].ask_now(Time(0), OwnerId(0), &Message::Add(hot, 1), &mut rig.effects[0]);
            assert_eq!(free, Ok(vec![101]), "it is not locked while the pair is elsewhere");
            rig.run_until_idle();
            assert_eq!(outcome(&rig, 1), Ok(vec![91]));
            assert_eq!(balances(&mut rig, [hot, b]), [91, 110]);
            return;
        }
    }
    panic!("a hundred waits made it hot");
}

/// Whether a pair of these two goes to its higher home first: then the lower is not locked.
fn is_hot(rig: &mut Rig, lower: u64, higher: u64) -> bool {
    begin(rig, 0, 201, Message::Pay { from: lower, to: higher, amount: 0 }).expect("it is a pair");
    let effects = &mut rig.effects[0];
    let is_free = rig.shards[0].ask_now(Time(0), OwnerId(0), &Message::Read(vec![lower]), effects).is_ok();
    rig.run_until_idle();
    rig.answers.clear();
    is_free
}

// An object that nobody waits for any more is soon locked where it is, which is the shorter way.
#[test]
fn a_hot_object_cools_down() {
    let (mut rig, [hot, b]) = two_accounts();
    for slot in 0..100 {
        begin(&mut rig, 0, 200, Message::Pay { from: hot, to: b, amount: 0 })
            .unwrap_or_else(|message| rig.send(200, message));
        rig.send(slot, Message::Pay { from: hot, to: b, amount: 0 });
        rig.turn(0);
        rig.run_until_idle();
    }
    let mut uses = 0;
    while is_hot(&mut rig, hot, b) {
        uses += 1;
        assert!(uses < 100_000, "it cools down");
    }
    assert!(uses > 1_000, "but not at once: {uses}");
}
