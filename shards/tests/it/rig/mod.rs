//! What the tests of pure shards share: accounts, and shards moved by hand.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::Arc;

use freehold_shard::*;

/// Accounts that hold an amount.
pub struct Bank;

#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub enum Message {
    Add(u64, i64),
    Pay {
        from: u64,
        to: u64,
        amount: i64,
    },
    /// Takes from `from` if the two together stay above zero: whoever reads both must not miss
    /// another's write.
    Withdraw {
        from: u64,
        other: u64,
        amount: i64,
    },
    Read(Vec<u64>),
    Remove(u64, u64),
    /// Adds 1 to both and lets anyone read and write them.
    ShareBoth(u64, u64),
    Give(u64, OwnerId),
    Share(u64),
    /// Follows the number in an account to another account, and adds to that.
    Follow(u64),
    /// The same for the sum of two accounts.
    FollowBoth(u64, u64),
    Panic(u64, u64),
    Nobody,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Refusal {
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
            Message::Add(id, _) | Message::Give(id, _) | Message::Share(id) => to.write(*id),
            Message::Pay { from, to: into, .. }
            | Message::Remove(from, into)
            | Message::ShareBoth(from, into)
            | Message::Panic(from, into) => {
                to.write(*from);
                to.write(*into);
            }
            Message::Withdraw { from, other, .. } => {
                to.write(*from);
                to.read(*other);
            }
            Message::Read(ids) => ids.iter().for_each(|id| to.read(*id)),
            Message::FollowBoth(a, b) => {
                to.read(*a);
                to.read(*b);
            }
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
            Message::ShareBoth(a, b) => {
                for id in [a, b] {
                    *objects.get_or_insert_with(id, || 0)? += 1;
                    objects.share(id)?;
                }
                Ok(vec![])
            }
            Message::Give(id, owner) => {
                objects.transfer(id, owner)?;
                Ok(vec![])
            }
            Message::Share(id) => {
                objects.share(id)?;
                Ok(vec![])
            }
            Message::Follow(id) => {
                let next = *objects.get(id)?.unwrap_or(&0) as u64;
                *objects.get_or_insert_with(next, || 0)? += 1;
                Ok(vec![next as i64])
            }
            Message::FollowBoth(a, b) => {
                let next = (*objects.get(a)?.unwrap_or(&0) + *objects.get(b)?.unwrap_or(&0)) as u64;
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

/// A few shards whose lanes a test moves by hand.
pub struct Rig {
    pub router: Router,
    pub mvcc: Arc<Mvcc<Bank>>,
    pub shards: Vec<Shard<Bank>>,
    pub effects: Vec<Effects<Bank>>,
    pub inboxes: Vec<Inbox<Bank>>,
    pub answers: Vec<(u32, Outcome<Bank>)>,
    pub envelopes: usize,
}

impl Rig {
    pub fn new(shards: usize) -> Self {
        Rig::with(shards, Limits::default())
    }

    pub fn with(shards: usize, limits: Limits) -> Self {
        let router = Router::new(PlacementKey(5), shards);
        let mvcc = Arc::new(Mvcc::new(router.shards()));
        let shard = |at| Shard::new(ShardIndex(at as u16), router, limits, 3, mvcc.clone());
        Rig {
            router,
            mvcc: mvcc.clone(),
            shards: (0..shards).map(shard).collect(),
            effects: (0..shards).map(|_| Effects::new(shards)).collect(),
            inboxes: (0..shards).map(|_| Inbox::new()).collect(),
            answers: Vec::new(),
            envelopes: 0,
        }
    }

    /// The `n`th account at home on `shard`.
    pub fn account(&self, shard: u16, n: usize) -> u64 {
        (0..).filter(|id| self.router.home(id) == ShardIndex(shard)).nth(n).expect("ids do not run out")
    }

    pub fn send_as(&mut self, sender: u64, slot: u32, message: Message) {
        let to = match self.router.destination::<Bank>(&message, &mut Addressees::new()) {
            Destination::One(shard) | Destination::Several(shard) => shard.index(),
            Destination::Nowhere => 0,
        };
        let answer_to = ReturnAddress::Outside { slot, generation: 0 };
        self.inboxes[to].envelopes.push(Envelope::Message { message, sender: OwnerId(sender), answer_to });
    }

    pub fn send(&mut self, slot: u32, message: Message) {
        self.send_as(0, slot, message);
    }

    /// One turn of a shard; what it sends stays in its outboxes.
    pub fn turn(&mut self, shard: usize) {
        self.shards[shard].turn(Time(0), &mut self.inboxes[shard], &mut self.effects[shard]);
        // As the runtime does behind each turn.
        let mut steps = 0..250;
        self.shards[shard].sweep(|| steps.next().is_some());
        for (to, outcome) in self.effects[shard].answers.drain(..) {
            let ReturnAddress::Outside { slot, .. } = to else { panic!("an answer to {to:?}") };
            self.answers.push((slot, outcome));
        }
    }

    /// Moves what is in one outbox.
    pub fn deliver(&mut self, from: usize, to: usize) {
        let sent: Vec<_> = self.effects[from].outboxes[to].drain(..).collect();
        self.envelopes += sent.len();
        self.inboxes[to].envelopes.extend(sent);
    }

    /// Turns and deliveries until nothing moves.
    pub fn run_until_idle(&mut self) {
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

    pub fn ask(&mut self, message: Message) -> Outcome<Bank> {
        self.send(u32::MAX, message);
        self.run_until_idle();
        let at =
            self.answers.iter().position(|(slot, _)| *slot == u32::MAX).expect("every message is answered");
        self.answers.remove(at).1
    }

    pub fn sum(&self) -> i64 {
        self.shards.iter().flat_map(Shard::objects).map(|(_, _, balance)| balance).sum()
    }
}
