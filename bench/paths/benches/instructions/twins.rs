//! One object at once, where the program has more than one instantiation of what runs it: a second
//! place that calls, and a second actor. Neither is to cost more than one does.

use std::sync::Arc;

use freehold_shard::{Actor, Addressees, Effects, Mvcc, NoPrefetch, Objects, PlacementKey};
use freehold_shard::{Router, Shard};

use crate::paths::{FEW, NOW, SENDER, TOGETHER, WARM_UP, check_counters, open_counters, shard};
use crate::workload::{Counter, Draws, Message, Refused, SEED, State, count, id_of};

/// A second actor, which does as [`Counter`] does.
struct Twin;

impl Actor for Twin {
    type Id = u64;
    type State = State;
    type Message = Message;
    type Reply = u64;
    type Error = Refused;

    #[inline]
    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        Counter::addressees(message, to);
    }

    #[inline]
    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<u64, Refused> {
        count(message, objects)
    }
}

type One<A> = (Shard<A, NoPrefetch>, Effects<A>);

fn new<A: Actor<Id = u64>>() -> One<A> {
    let router = Router::new(PlacementKey(SEED), 1);
    (shard::<A>(0, router, &Arc::new(Mvcc::new(1))), Effects::new(1))
}

/// Adds one to this counter: a place that calls.
#[inline(never)]
fn add((shard, effects): &mut One<Counter>, id: u64) -> u64 {
    let reply = shard.ask_now(NOW, SENDER, &Message::Add { id, amount: 1 }, effects);
    reply.unwrap_or_else(|error| panic!("{error}"))
}

/// Adds two to it: another place.
#[inline(never)]
fn add_two((shard, effects): &mut One<Counter>, id: u64) -> u64 {
    let reply = shard.ask_now(NOW, SENDER, &Message::Add { id, amount: 2 }, effects);
    reply.unwrap_or_else(|error| panic!("{error}"))
}

/// The same of the other actor.
#[inline(never)]
fn add_to_twin((shard, effects): &mut One<Twin>, id: u64) -> u64 {
    let reply = shard.ask_now(NOW, SENDER, &Message::Add { id, amount: 1 }, effects);
    reply.unwrap_or_else(|error| panic!("{error}"))
}

pub fn two_sites(count: u64) {
    let (mut counters, mut draws) = (new::<Counter>(), Draws::new(FEW, 0));
    open_counters(&mut counters.0, &mut counters.1, FEW);
    let (mut replies, all) = (0, WARM_UP * TOGETHER + count);
    for _ in 0..all / 2 {
        replies += add(&mut counters, id_of(draws.next_object()));
        replies += add_two(&mut counters, id_of(draws.next_object()));
    }
    assert!(replies > all, "every reply is 1 at least, and some more");
    check_counters(&counters.0, all / 2 * 3);
}

pub fn two_actors(count: u64) {
    let (mut counters, mut twins, mut draws) = (new::<Counter>(), new::<Twin>(), Draws::new(FEW, 0));
    open_counters(&mut counters.0, &mut counters.1, FEW);
    for object in 0..FEW {
        let open = Message::Open { id: id_of(object) };
        let opened = twins.0.ask_now(NOW, SENDER, &open, &mut twins.1);
        opened.unwrap_or_else(|error| panic!("counter {object} is not opened: {error}"));
    }
    let (mut replies, all) = (0, WARM_UP * TOGETHER + count);
    for _ in 0..all / 2 {
        replies += add(&mut counters, id_of(draws.next_object()));
        replies += add_to_twin(&mut twins, id_of(draws.next_object()));
    }
    assert!(replies >= all, "every reply is 1 at least");
    check_counters(&counters.0, all / 2);
    let added: u64 = twins.0.objects().map(|(_, _, state)| state.total).sum();
    assert_eq!(added, all / 2, "each message is applied once");
}
