//! Transactions step by step on a few shards whose lanes a test moves by hand, and the founding system's defects as stories that must not
//! repeat themselves.

use freehold_shard::*;

/// Accounts that hold an amount.
struct Bank;

#[derive(Clone, Debug, PartialEq)]
enum Message {
    Add(u64, i64),
    Pay {
        from: u64,
        to: u64,
        amount: i64,
    },
    /// Takes from `from` if the two together stay above zero: whoever reads both must not miss another's write.
    Withdraw {
        from: u64,
        other: u64,
        amount: i64,
    },
    Read(Vec<u64>),
    Remove(u64, u64),
    Give(u64, OwnerId),
    /// Follows the number in an account to another account, and adds to that.
    Follow(u64),
    Panic(u64, u64),
    Nobody,
}

#[derive(Clone, Debug, PartialEq)]
enum Refusal {
    Funds,
    Access(AccessError<u64>),
}

impl From<AccessError<u64>> for Refusal {
    fn from(error: AccessError<u64>) -> Self {
        Refusal::Access(error)
    }
}

impl Actor for Bank {
    type Id = u64;
    type State = i64;
    type Message = Message;
    type Reply = Vec<i64>;
    type Error = Refusal;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match message {
            Message::Add(id, _) | Message::Give(id, _) => to.write(*id),
            Message::Pay { from, to: into, .. }
            | Message::Remove(from, into)
            | Message::Panic(from, into) => {
                to.write(*from);
                to.write(*into);
            }
            Message::Withdraw { from, other, .. } => {
                to.write(*from);
                to.read(*other);
            }
            Message::Read(ids) => ids.iter().for_each(|id| to.read(*id)),
            Message::Follow(id) => to.read(*id),
            Message::Nobody => {}
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<Vec<i64>, Refusal> {
        match *message {
            Message::Add(id, amount) => {
                let balance = objects.get_or_insert_with(id, || 0)?;
                *balance += amount;
                Ok(vec![*balance])
            }
            Message::Pay { from, to, amount } => {
                *objects.get_or_insert_with(to, || 0)? += amount;
                let from = objects.get_or_insert_with(from, || 0)?;
                *from -= amount;
                if *from < 0 { Err(Refusal::Funds) } else { Ok(vec![*from]) }
            }
            Message::Withdraw { from, other, amount } => {
                let together = objects.get(from)?.unwrap_or(&0) + objects.get(other)?.unwrap_or(&0);
                if together < amount {
                    return Err(Refusal::Funds);
                }
                *objects.get_or_insert_with(from, || 0)? -= amount;
                Ok(vec![])
            }
            Message::Read(ref ids) => ids.iter().map(|id| Ok(*objects.get(*id)?.unwrap_or(&-1))).collect(),
            Message::Remove(a, b) => {
                let removed = [objects.remove(a)?, objects.remove(b)?];
                Ok(removed.into_iter().flatten().collect())
            }
            Message::Give(id, owner) => {
                objects.transfer(id, owner)?;
                Ok(vec![])
            }
            Message::Follow(id) => {
                let next = *objects.get(id)?.unwrap_or(&0) as u64;
                *objects.get_or_insert_with(next, || 0)? += 1;
                Ok(vec![next as i64])
            }
            Message::Panic(a, b) => {
                *objects.get_or_insert_with(a, || 0)? += 1;
                *objects.get_or_insert_with(b, || 0)? += 1;
                panic!("in the middle of a transaction");
            }
            Message::Nobody => Ok(vec![]),
        }
    }
}

struct Rig {
    router: Router,
    shards: Vec<Shard<Bank>>,
    effects: Vec<Effects<Bank>>,
    inboxes: Vec<Inbox<Bank>>,
    answers: Vec<(u32, Outcome<Bank>)>,
    envelopes: usize,
}

impl Rig {
    fn new(shards: usize) -> Self {
        let router = Router::new(PlacementKey(5), shards);
        let mvcc = std::sync::Arc::new(Mvcc::new(router.shards()));
        let shard = |at| Shard::new(ShardIndex(at as u16), router, Limits::default(), 3, mvcc.clone());
        Rig {
            router,
            shards: (0..shards).map(shard).collect(),
            effects: (0..shards).map(|_| Effects::new(shards)).collect(),
            inboxes: (0..shards).map(|_| Inbox::new()).collect(),
            answers: Vec::new(),
            envelopes: 0,
        }
    }

    /// The `n`th account at home on `shard`.
    fn account(&self, shard: u16, n: usize) -> u64 {
        (0..).filter(|id| self.router.home(id) == ShardIndex(shard)).nth(n).expect("ids do not run out")
    }

    fn send_as(&mut self, sender: u64, slot: u32, message: Message) {
        let to = match self.router.destination::<Bank>(&message, &mut Addressees::new()) {
            Destination::One(shard) | Destination::Several(shard) => shard.index(),
            Destination::Nowhere => 0,
        };
        let answer_to = ReturnAddress::Outside { slot, generation: 0 };
        self.inboxes[to].envelopes.push(Envelope::Message { message, sender: OwnerId(sender), answer_to });
    }

    fn send(&mut self, slot: u32, message: Message) {
        self.send_as(0, slot, message);
    }

    /// One turn of a shard; what it sends stays in its outboxes.
    fn turn(&mut self, shard: usize) {
        self.shards[shard].turn(Time(0), &mut self.inboxes[shard], &mut self.effects[shard]);
        for (to, outcome) in self.effects[shard].answers.drain(..) {
            let ReturnAddress::Outside { slot, .. } = to else { panic!("an answer to {to:?}") };
            self.answers.push((slot, outcome));
        }
    }

    /// Moves what is in one outbox.
    fn deliver(&mut self, from: usize, to: usize) {
        let sent: Vec<_> = self.effects[from].outboxes[to].drain(..).collect();
        self.envelopes += sent.len();
        self.inboxes[to].envelopes.extend(sent);
    }

    /// Turns and deliveries until nothing moves.
    fn settle(&mut self) {
        loop {
            let before = (self.envelopes, self.answers.len());
            for shard in 0..self.shards.len() {
                self.turn(shard);
                (0..self.shards.len()).for_each(|to| self.deliver(shard, to));
            }
            let is_idle = self.inboxes.iter().all(|inbox| inbox.envelopes.is_empty())
                && self.shards.iter().all(|shard| shard.own_messages() == 0);
            if is_idle && before == (self.envelopes, self.answers.len()) {
                break;
            }
        }
        for shard in &self.shards {
            assert_eq!(shard.transactions(), (0, 0), "nothing is left under way");
        }
    }

    fn ask(&mut self, message: Message) -> Outcome<Bank> {
        self.send(u32::MAX, message);
        self.settle();
        let at =
            self.answers.iter().position(|(slot, _)| *slot == u32::MAX).expect("every message is answered");
        self.answers.remove(at).1
    }

    fn sum(&self) -> i64 {
        self.shards.iter().flat_map(Shard::objects).map(|(_, _, balance)| balance).sum()
    }
}

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
    rig.settle();
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
    rig.settle();
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
    assert_eq!(rig.ask(Message::Panic(a, c)), Err(AskError::Panicked));
    assert_eq!(rig.ask(Message::Read(vec![a, b, c])), Ok(vec![10, 10, -1]));
}

#[test]
fn what_it_touches_may_depend_on_what_it_reads() {
    let mut rig = Rig::new(4);
    let (start, far) = (rig.account(3, 0), rig.account(0, 5));
    rig.ask(Message::Add(start, far as i64)).expect("an account opens");
    assert_eq!(rig.ask(Message::Follow(start)), Ok(vec![far as i64]));
    assert_eq!(rig.ask(Message::Read(vec![far])), Ok(vec![1]));
    assert_eq!(rig.shards.iter().map(|shard| shard.counters().unsettled).sum::<u64>(), 0);
}

/// `ask_now` found a message spanning or blocked, counted it and left it to its caller, and the turn counted it again: 45,000 messages were
/// 94,000 blocked.
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
    rig.settle();
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
        // Two transactions and a fast message meet on the same objects, in every phase of each other.
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
    rig.settle();
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
    rig.settle();
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
    rig.settle();
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
    rig.settle();
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
        rig.settle();
        let refused = AccessError::NotOwner { id: a, owner: OwnerId(9), sender: OwnerId(0) };
        assert_eq!(rig.answers.pop(), Some((slot, Err(AskError::Aborted(Refusal::Access(refused))))));
    }
    rig.ask(Message::Give(b, OwnerId(9))).expect("its owner gives it away");
    rig.send_as(9, 3, Message::Pay { from: a, to: b, amount: 1 });
    rig.settle();
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
    rig.settle();
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
