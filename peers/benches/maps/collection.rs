//! A collection of a pure shard, which has no log. Each change and each range is a message.

use std::sync::Arc;
use std::time::Duration;

use freehold::{AccessError, Limits, Objects, PlacementKey, Receive, ShardIndex, To};
use freehold_shard::{Effects, Inbox, Mvcc, NoPrefetch, OwnerId, Router, Shard, Time};
use serde::{Deserialize, Serialize};

use crate::{Ordered, Place, RANGE, Swap, cpu, value};

freehold::actor! {
    actor Market {
        id: Id, state: State, message: Message, reply: Reply, error: AccessError<Id>,
        kinds {
            Book(symbol: u64),
            Order(symbol: u64, price: u64, number: u64) in Book(symbol),
        }
        messages { Fill -> (), Exchange -> u64, Sum -> u64, Clear -> () }
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Book;

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Order {
    user: u64,
    quantity: u64,
}

#[derive(Clone, Serialize, Deserialize)]
struct Fill(Vec<Place>);

#[derive(Clone, Serialize, Deserialize)]
struct Exchange(Vec<Swap>);

#[derive(Clone, Serialize, Deserialize)]
struct Sum(Vec<Place>);

#[derive(Clone, Serialize, Deserialize)]
struct Clear;

fn order(place: Place) -> Order {
    let (user, quantity) = value(place);
    Order { user, quantity }
}

macro_rules! to_the_book {
    ($($Message:ty => |$self:ident, $objects:ident| -> $Reply:ty $receive:block)+) => {$(
        impl Receive<Market> for $Message {
            fn addressees(&self, to: &mut To<'_, Market>) {
                to.write::<Book>(7);
            }

            fn receive(&self, $objects: &mut Objects<'_, Market>) -> Result<$Reply, AccessError<Id>> {
                let $self = self;
                $receive
            }
        }
    )+};
}

to_the_book! {
    Fill => |fill, objects| -> () {
        objects.write_or_insert_with(7, || Book)?;
        let mut orders = objects.entries::<Order>(7)?;
        fill.0.iter().try_for_each(|place| orders.put(*place, order(*place)).map(drop))
    }
    Exchange => |swaps, objects| -> u64 {
        let (mut orders, mut sum) = (objects.entries::<Order>(7)?, 0);
        for (old, new) in &swaps.0 {
            sum += orders.take(*old)?.map_or(0, |order| order.quantity);
            orders.put(*new, order(*new))?;
        }
        Ok(sum)
    }
    Sum => |sum, objects| -> u64 {
        let orders = objects.entries::<Order>(7)?;
        Ok(sum.0.iter().flat_map(|from| orders.range(*from..).take(RANGE)).map(|(_, order)| order.quantity).sum())
    }
    Clear => |_clear, objects| -> () {
        objects.entries::<Order>(7)?.clear()
    }
}

pub struct OneShard {
    shard: Shard<Market, NoPrefetch>,
    effects: Effects<Market>,
    /// Pairs of a message.
    together: usize,
}

impl OneShard {
    pub fn new(together: usize) -> Self {
        let (router, mvcc) = (Router::new(PlacementKey(1), 1), Arc::new(Mvcc::new(1)));
        let shard = Shard::new(ShardIndex(0), router, Limits::default(), 7, mvcc);
        OneShard { shard, effects: Effects::new(1), together }
    }

    fn ask(&mut self, message: impl Into<Message>) -> u64 {
        match self.shard.ask_now(Time(0), OwnerId(0), &message.into(), &mut self.effects) {
            Ok(Reply::Exchange(sum) | Reply::Sum(sum)) => sum,
            Ok(Reply::Fill(()) | Reply::Clear(())) => 0,
            Err(error) => panic!("{error}"),
        }
    }
}

impl Ordered for OneShard {
    fn fill(&mut self, places: &[Place]) {
        for some in places.chunks(1000) {
            self.ask(Fill(some.to_vec()));
        }
    }

    fn swap(&mut self, swaps: &[Swap]) -> u64 {
        let messages: Vec<_> = swaps.chunks(self.together).map(|some| Exchange(some.to_vec())).collect();
        messages.into_iter().map(|message| self.ask(message)).sum()
    }

    fn ranges(&mut self, from: &[Place]) -> u64 {
        from.chunks(self.together).map(|some| self.ask(Sum(some.to_vec()))).sum()
    }

    fn empty(mut self: Box<Self>) -> Vec<Duration> {
        let begin = cpu();
        self.ask(Clear);
        let mut turns = vec![cpu() - begin];
        // As turns come that have nothing to do beside.
        while self.shard.has_garbage() {
            let turn = cpu();
            self.shard.turn(Time(0), &mut Inbox::new(), &mut self.effects);
            turns.push(cpu() - turn);
        }
        assert_eq!(self.shard.counters().objects, 1, "the book is left");
        turns
    }
}
