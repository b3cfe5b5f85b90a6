//! Messages of one sender to one object are handled in the order they were sent, by whichever of a
//! door's calls.

use std::collections::VecDeque;

use crate::support::{Watchdog, ids, start, until};
use freehold::{
    AccessError, Actor, Addressees, Ask, AskAll, AskError, Config, Handle, Idle, Limits, Local, LocalAsk,
    Objects, Outcome, TellError, glommio,
};
use futures::FutureExt;
use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng, SeedableRng};
use serde::{Deserialize, Serialize};

/// Objects that know the last number each sender sent them.
struct Ledger;

const SENDERS: usize = 16;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    last: [u64; SENDERS],
    /// Messages that did not carry the number after the last one of their sender.
    out_of_order: u64,
}

#[derive(Clone, Copy, Debug)]
enum Message {
    /// The `number`th message of this sender to this object.
    Mark { to: u64, sender: usize, number: u64 },
    /// Has one object send a mark to another: then that object is the sender.
    Relay { via: u64, to: u64, sender: usize, number: u64 },
    /// What the object has seen.
    Read { of: u64 },
}

impl Actor for Ledger {
    type Id = u64;
    type State = Seen;
    type Message = Message;
    type Reply = Seen;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Mark { to: id, .. } | Message::Relay { via: id, .. } => to.write(id),
            Message::Read { of } => to.read(of),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<Seen, AccessError<u64>> {
        match *message {
            Message::Mark { to, sender, number } => {
                let seen = objects.get_or_insert_with(to, Seen::default)?;
                seen.out_of_order += u64::from(number != seen.last[sender] + 1);
                seen.last[sender] = number;
                Ok(*seen)
            }
            Message::Relay { to, sender, number, .. } => {
                objects.tell(Message::Mark { to, sender, number })?;
                Ok(Seen::default())
            }
            Message::Read { of } => Ok(objects.get(of)?.copied().unwrap_or_default()),
        }
    }
}

/// A sender's numbering of its messages to each object.
struct Sender {
    sender: usize,
    objects: Vec<u64>,
    sent: Vec<u64>,
    random: Pcg32,
}

impl Sender {
    fn new(sender: usize, objects: &[u64]) -> Self {
        let random = Pcg32::seed_from_u64(sender as u64);
        Sender { sender, objects: objects.to_vec(), sent: vec![0; objects.len()], random }
    }

    fn below(&mut self, bound: u32) -> u32 {
        self.random.next_u32() % bound
    }

    /// Its next message to one of the objects, and to which.
    fn next(&mut self) -> (usize, Message) {
        let at = self.below(self.objects.len() as u32) as usize;
        self.sent[at] += 1;
        (at, Message::Mark { to: self.objects[at], sender: self.sender, number: self.sent[at] })
    }

    /// It was not sent after all.
    fn take_back(&mut self, at: usize) {
        self.sent[at] -= 1;
    }
}

fn check(outcome: Outcome<Ledger>) {
    let seen = outcome.expect("there was room, and nothing else can go wrong");
    assert_eq!(seen.out_of_order, 0, "{seen:?}");
}

/// What a thread may have under way: all of them together no more than fits an ingress of 1,024
/// entries, because an `ask_all` that finds no room is overtaken, as it says.
const UNDER_WAY: usize = 200;
const BATCH: u32 = 40;

/// Sends `messages` messages by ways chosen at random. If there is a sender `relay`, some go by way
/// of an object.
fn send(handle: &Handle<Ledger>, sender: usize, relay: Option<usize>, objects: &[u64], messages: usize) {
    let mut direct = Sender::new(sender, objects);
    let mut relayed = Sender::new(relay.unwrap_or(SENDERS), objects);
    let via = objects[sender % objects.len()];
    let mut asks: Vec<Ask<Ledger>> = Vec::new();
    let mut batches: Vec<AskAll<Ledger>> = Vec::new();
    let (mut sent, mut under_way) = (0, 0);
    while sent < messages {
        let many = match direct.below(if relay.is_some() { 8 } else { 7 }) {
            0..=2 => {
                asks.push(handle.ask(direct.next().1));
                1
            }
            3..=4 => {
                handle.tell(direct.next().1).expect("there is room");
                1
            }
            5..=6 => {
                let many = 1 + direct.below(BATCH) as usize;
                batches.push(handle.ask_all((0..many).map(|_| direct.next().1)));
                many
            }
            _ => {
                let (_, Message::Mark { to, sender, number }) = relayed.next() else { unreachable!() };
                handle.tell(Message::Relay { via, to, sender, number }).expect("there is room");
                1
            }
        };
        (sent, under_way) = (sent + many, under_way + many);
        if under_way > UNDER_WAY || sent >= messages {
            asks.drain(..).for_each(|ask| check(ask.wait()));
            batches.drain(..).flat_map(AskAll::wait).for_each(check);
            // What was told has been handled when what was sent behind it has.
            objects.iter().for_each(|of| check(handle.ask(Message::Read { of: *of }).wait()));
            under_way = 0;
        }
    }
    let arrived = |sender: &Sender| {
        sender.objects.iter().zip(&sender.sent).all(|(of, sent)| {
            let seen = handle.ask(Message::Read { of: *of }).wait().unwrap();
            check(Ok(seen));
            seen.last[sender.sender] == *sent
        })
    };
    assert!(arrived(&direct), "all that was sent has been handled");
    if relay.is_some() {
        until(|| arrived(&relayed));
    }
}

/// Narrow everywhere: batches are split, turns are short, lanes and outboxes fill.
fn narrow() -> Config {
    let limits = Limits { outbox_messages_max: 1 << 10, ..Limits::default() };
    Config {
        batch_messages_max: 3,
        turn_messages_max: 5,
        lane_entries_max: 16,
        limits,
        idle: Idle::Spin(std::time::Duration::ZERO),
        ..Config::default()
    }
}

#[test]
fn from_threads_by_any_call() {
    const THREADS: usize = 4;
    const MESSAGES: usize = 15_000;
    let watchdog = Watchdog::new("order::from_threads_by_any_call");
    for (shards, config) in [(1, Config::default()), (2, narrow()), (4, Config::default()), (4, narrow())] {
        let runtime = start::<Ledger>(shards, config);
        let handle = runtime.handle();
        let objects: Vec<u64> = ids(&handle, 4 / shards).concat();
        std::thread::scope(|scope| {
            for thread in 0..THREADS {
                let (handle, objects) = (&handle, &objects);
                scope.spawn(move || send(handle, thread, Some(THREADS + thread), objects, MESSAGES));
            }
        });
        let report = runtime.shutdown();
        assert!(report.drained, "{report}");
        assert!(report.stats.handled() >= (THREADS * MESSAGES) as u64, "{report}");
        watchdog.feed();
    }
}

#[test]
fn from_tasks_to_other_shards() {
    const MESSAGES: usize = 10_000;
    let watchdog = Watchdog::new("order::from_tasks_to_other_shards");
    for (shards, outbox_messages_max) in [(2, 1 << 14), (2, 16), (4, 16)] {
        let limits = Limits { outbox_messages_max, ..Limits::default() };
        let runtime = start::<Ledger>(shards, Config { limits, ..narrow() });
        let handle = runtime.handle();
        let objects: Vec<u64> = ids(&handle, 8 / shards).concat();
        let to = objects.clone();
        let tasks = runtime.on_each_shard(move |local| send_from_task(local, to.clone(), MESSAGES));
        // A thread's messages between them; not by way of objects, which would have to be told that
        // there is no room.
        send(&handle, shards, None, &objects, MESSAGES);
        let sent: Vec<u64> = tasks.wait().into_iter().map(Result::unwrap).collect();
        let report = runtime.shutdown();
        assert!(report.drained, "{report}");
        assert!(report.stats.handled() >= sent.iter().sum::<u64>() + MESSAGES as u64, "{report}");
        watchdog.feed();
    }
}

/// Sends to all objects, on its own shard too, by [`Local::tell`] and [`Local::ask`]. Where it is
/// told `Overloaded`, it tries again.
async fn send_from_task(local: Local<Ledger>, objects: Vec<u64>, messages: usize) -> u64 {
    let mut sender = Sender::new(local.shard().index(), &objects);
    let mut asks: VecDeque<LocalAsk<Ledger>> = VecDeque::new();
    for _ in 0..messages {
        let (at, message) = sender.next();
        if sender.below(3) == 0 {
            match local.tell(message) {
                Ok(()) => {}
                Err(TellError::Overloaded(_)) => {
                    sender.take_back(at);
                    glommio::executor().yield_task_queue_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        } else {
            let mut ask = local.ask(message);
            match (&mut ask).now_or_never() {
                Some(Err(AskError::Overloaded)) => {
                    sender.take_back(at);
                    glommio::executor().yield_task_queue_now().await;
                }
                Some(outcome) => check(outcome),
                None => asks.push_back(ask),
            }
            if asks.len() > 8 {
                let all = asks.len() - sender.below(4) as usize;
                for ask in asks.drain(..all) {
                    check(ask.await);
                }
            }
        }
    }
    for ask in asks {
        check(ask.await);
    }
    for (of, sent) in objects.iter().zip(&sender.sent) {
        let seen = loop {
            match local.ask(Message::Read { of: *of }).await {
                Err(AskError::Overloaded) => glommio::executor().yield_task_queue_now().await,
                outcome => break outcome.unwrap(),
            }
        };
        assert_eq!((seen.out_of_order, seen.last[sender.sender]), (0, *sent), "sent behind all the others");
    }
    sender.sent.iter().sum()
}
