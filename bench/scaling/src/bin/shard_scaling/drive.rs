//! One client of Freehold: a task on a shard that takes transactions from its stream, asks for
//! them, and reads what comes back.
//!
//! What lives on the client's own shard runs at once (`Local::ask_now`), unless a transaction holds
//! one of its rows; all else is asked (`Local::ask`). If answers are to be durable, what ran at
//! once waits in groups until the shard's log is on disk (`Local::durable`), a few groups at a
//! time. What is not answered or not on disk is in flight, and bounded. The client gives way to its
//! shard, which also serves the others, every few transactions. What is at hand and about to run at
//! once is prefetched, some at a time (`Local::prefetch`).
//!
//! In an open loop, transactions arrive when a Poisson process says. A client that is late works
//! off what has arrived meanwhile, some at a time, and the latency of each counts from its arrival,
//! so that none is omitted.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use freehold::glommio::timer::Timer;
use freehold::{AskError, Local, LocalAsk, Outcome, TaskError, glommio};
use freehold_workloads::{
    Arrivals, Durability, LATENCY_STRIDE, Order, Pace, Part, Refused, Served, Stream, Way, Workload,
};
use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

/// Transactions after which a client gives way to its shard.
const GIVE_WAY: usize = 64;
/// How many of a client's own transactions are prefetched together.
const PREFETCHED: usize = 16;
/// Groups of a client that wait for the disk, and how many transactions are worth another.
const GROUPS_MAX: usize = 8;
const GROUP_MIN: usize = 1_024;
/// In an open loop every so many-th is timed: there is time to look at the clock.
const OPEN_STRIDE: u64 = 4;
/// In an open loop, how many may be in flight before those that arrive wait in front of the client.
/// Their latency counts all the same.
const OPEN_IN_FLIGHT_MAX: usize = 32_768;
/// A pause that is worth sleeping through, if answers come from the disk: a task that spins keeps
/// its executor from looking at the ring.
const SLEEP_MIN: Duration = Duration::from_micros(20);
/// The longest sleep before the client looks whether it is to stop.
const SLEEP_MAX: Duration = Duration::from_millis(10);

/// How a client asks.
#[derive(Clone, Copy, Debug)]
pub enum Pacing {
    /// So many in flight.
    Closed { in_flight: usize },
    /// So many arrivals a second, of this client, drawn from a seed.
    Open { per_second: f64, seed: u64 },
}

/// A client's transactions, as messages.
pub struct Orders<W: Workload>(Vec<(Order<W>, Way)>);

impl<W: Workload> Orders<W> {
    /// Whether any of them needs another shard than the client's.
    pub fn leave(&self) -> bool {
        self.0.iter().any(|(_, way)| *way != Way::Here)
    }
}

impl<W: Workload> From<&Stream<W>> for Orders<W> {
    fn from(stream: &Stream<W>) -> Self {
        let drawn = stream.drawn().iter();
        Orders(drawn.map(|it| (Order::Run(it.transaction.clone()), it.way)).collect())
    }
}

/// One client.
pub struct Driver<W: Workload> {
    local: Local<Served<W>>,
    orders: Rc<Orders<W>>,
    part: Part<W>,
    /// Asked, in the order asked; not timed.
    asked: VecDeque<(Place, LocalAsk<Served<W>>)>,
    /// Asked and timed, few: all of them are looked at whenever time has passed, so that none waits
    /// behind another.
    timed: Vec<(Place, LocalAsk<Served<W>>)>,
    /// Run at once, whose answers are to be durable: the next group.
    run: Vec<(Place, Outcome<Served<W>>)>,
    /// The groups that wait for the disk, the oldest first; they are on it in this order.
    flushing: VecDeque<Group<W>>,
    /// Refused because a queue or the log was full: never run, and to be asked again.
    refused: Vec<Place>,
    is_durable: bool,
    /// Whether any client's transactions need another client's shard.
    has_guests: bool,
}

/// What ran before the disk was asked, and its answer.
struct Group<W: Workload> {
    of: Vec<(Place, Outcome<Served<W>>)>,
    flushed: LocalBoxFuture<'static, Result<(), TaskError>>,
}

/// A transaction of the stream.
#[derive(Clone, Copy)]
struct Place {
    number: u32,
    lap: u64,
    /// When it was asked or had arrived, if it is timed.
    at: Option<Instant>,
}

impl<W: Workload> Driver<W> {
    /// A client on this shard. `has_guests` says whether any client has transactions that need
    /// another one's shard.
    pub fn new(local: Local<Served<W>>, orders: Orders<W>, durability: Durability, has_guests: bool) -> Self {
        Driver {
            local,
            orders: Rc::new(orders),
            part: Part::default(),
            asked: VecDeque::new(),
            timed: Vec::new(),
            run: Vec::new(),
            flushing: VecDeque::new(),
            refused: Vec::new(),
            is_durable: durability == Durability::Durable,
            has_guests,
        }
    }

    /// Works until the pace says stop, reads what is still to come, and gives its part.
    pub async fn run(mut self, pacing: Pacing, pace: Arc<Pace>) -> Part<W> {
        match pacing {
            Pacing::Closed { in_flight } => self.closed(in_flight, &pace).await,
            Pacing::Open { per_second, seed } => self.open(per_second, seed, &pace).await,
        }
        while self.in_flight() > 0 || !self.refused.is_empty() {
            self.ask_again();
            self.make_room(1).await;
        }
        self.part
    }

    async fn closed(&mut self, in_flight: usize, pace: &Pace) {
        let orders = self.orders.clone();
        let mut until_timed = LATENCY_STRIDE;
        for lap in 0.. {
            for (chunk, some) in orders.0.chunks(GIVE_WAY).enumerate() {
                if !self.goes_on(pace) {
                    return;
                }
                for (at, (order, way)) in some.iter().enumerate() {
                    if at.is_multiple_of(PREFETCHED) {
                        self.prefetch(some[at..].iter().take(PREFETCHED));
                    }
                    let number = (chunk * GIVE_WAY + at) as u32;
                    // One of so many, whichever way it goes: what is timed is as what is not.
                    until_timed -= 1;
                    let is_timed = until_timed == 0;
                    if is_timed {
                        until_timed = LATENCY_STRIDE;
                    }
                    if self.is_durable {
                        self.make_room(in_flight).await;
                    }
                    let at = is_timed.then(Instant::now);
                    if !self.run_now(order, *way, Place { number, lap, at }) {
                        self.make_room(in_flight).await;
                        let at = is_timed.then(Instant::now);
                        self.ask(Place { number, lap, at });
                    }
                }
                self.give_way().await;
            }
        }
    }

    async fn open(&mut self, per_second: f64, seed: u64, pace: &Pace) {
        let orders = self.orders.clone();
        let mut arrivals = Arrivals::new(seed, self.local.shard().index(), per_second, Instant::now());
        let (mut arrived, mut number, mut lap) = (0_u64, 0, 0);
        let mut some = Vec::with_capacity(PREFETCHED);
        let mut until_way_given = GIVE_WAY;
        while self.goes_on(pace) {
            // What has arrived in the past is asked at once; what has not is waited for.
            let now = Instant::now();
            while some.len() < PREFETCHED && arrivals.due() <= now {
                arrived += 1;
                let arrival = arrivals.take();
                let at = arrived.is_multiple_of(OPEN_STRIDE).then_some(arrival);
                some.push(Place { number, lap, at });
                number += 1;
                if number as usize == orders.0.len() {
                    (number, lap) = (0, lap + 1);
                }
            }
            until_way_given = until_way_given.saturating_sub(some.len());
            if some.is_empty() {
                let pause = arrivals.due().saturating_duration_since(now);
                if self.is_durable && pause > SLEEP_MIN {
                    self.sleep(pause.min(SLEEP_MAX)).await;
                }
                until_way_given = 0;
            }
            self.prefetch(some.iter().map(|place| &orders.0[place.number as usize]));
            for place in some.drain(..) {
                let (order, way) = &orders.0[place.number as usize];
                if self.is_durable {
                    self.make_room(OPEN_IN_FLIGHT_MAX).await;
                }
                if !self.run_now(order, *way, place) {
                    self.make_room(OPEN_IN_FLIGHT_MAX).await;
                    self.ask(place);
                }
            }
            if until_way_given == 0 {
                self.give_way().await;
                until_way_given = GIVE_WAY;
            }
        }
        arrivals.leave_behind(OPEN_STRIDE, &mut self.part);
    }

    /// Prefetches what those of these that can run inline will read, as they were drawn: what is
    /// anew in a later lap is mostly inserted.
    fn prefetch<'m>(&self, orders: impl Iterator<Item = &'m (Order<W>, Way)>)
    where
        W: 'm,
    {
        self.local.prefetch(orders.filter(|(_, way)| *way == Way::Here).map(|(order, _)| order));
    }

    /// Sleeps, or until something is answered.
    async fn sleep(&mut self, pause: Duration) {
        let mut timer = Timer::new(pause);
        poll_fn(|cx| {
            if self.read(cx) || Pin::new(&mut timer).poll(cx).is_ready() {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    fn in_flight(&self) -> usize {
        let flushing = self.flushing.iter().map(|group| group.of.len()).sum::<usize>();
        self.asked.len() + self.timed.len() + self.run.len() + flushing
    }

    /// Whether there is more to do; looked at every few transactions.
    fn goes_on(&mut self, pace: &Pace) -> bool {
        self.part.turn_to(pace) && self.part.broken.is_none()
    }

    /// Runs a transaction inline, if that can be. Says whether it did.
    #[inline]
    fn run_now(&mut self, order: &Order<W>, way: Way, place: Place) -> bool {
        if way != Way::Here {
            return false;
        }
        let outcome = match W::RENEWS && place.lap > 0 {
            true => self.local.ask_now(&renewed(order, place.lap)),
            false => self.local.ask_now(order),
        };
        if let Err(AskError::Busy | AskError::Overloaded) = outcome {
            return false;
        }
        match self.is_durable {
            true => self.run.push((place, outcome)),
            false => self.note(place, outcome),
        }
        true
    }

    fn ask(&mut self, place: Place) {
        let (order, _) = &self.orders.0[place.number as usize];
        let ask = self.local.ask(renewed(order, place.lap));
        match place.at {
            Some(_) => self.timed.push((place, ask)),
            None => self.asked.push_back((place, ask)),
        }
    }

    /// Waits until fewer than `most` are in flight, and asks again for what was refused.
    async fn make_room(&mut self, most: usize) {
        while self.in_flight() >= most.max(1) {
            poll_fn(|cx| if self.read(cx) { Poll::Ready(()) } else { Poll::Pending }).await;
            if !self.refused.is_empty() {
                glommio::executor().yield_task_queue_now().await;
                self.ask_again();
            }
        }
    }

    /// Lets the shard serve others, and reads what was answered.
    async fn give_way(&mut self) {
        if !self.has_guests && self.in_flight() == 0 && self.refused.is_empty() {
            glommio::yield_if_needed().await;
            return;
        }
        glommio::executor().yield_task_queue_now().await;
        self.read(&mut Context::from_waker(Waker::noop()));
        self.ask_again();
    }

    fn ask_again(&mut self) {
        std::mem::take(&mut self.refused).into_iter().for_each(|place| self.ask(place));
    }

    /// Reads what is answered, in the order asked, and of what is timed all. Says whether there was
    /// any.
    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        let before = self.in_flight();
        while let Some((place, ask)) = self.asked.front_mut() {
            let Some(outcome) = poll(ask, cx) else { break };
            let place = *place;
            drop(self.asked.pop_front());
            self.note(place, outcome);
        }
        let mut next = 0;
        while let Some((place, ask)) = self.timed.get_mut(next) {
            let Some(outcome) = poll(ask, cx) else {
                next += 1;
                continue;
            };
            let place = *place;
            drop(self.timed.swap_remove(next));
            self.note(place, outcome);
        }
        self.read_flushed(cx);
        self.in_flight() < before
    }

    /// Notes the groups that are on disk, and asks the disk for the next.
    fn read_flushed(&mut self, cx: &mut Context<'_>) {
        loop {
            while let Some(group) = self.flushing.front_mut() {
                let Poll::Ready(flushed) = group.flushed.as_mut().poll(cx) else { break };
                let group = self.flushing.pop_front().expect("it is flushed");
                match flushed {
                    Ok(()) => group.of.into_iter().for_each(|(place, outcome)| self.note(place, outcome)),
                    Err(error) => {
                        self.part.broke(&format!("what was run is not known to be on disk: {error}"))
                    }
                }
            }
            let is_worth_it = match self.flushing.len() {
                0 => !self.run.is_empty(),
                under_way => under_way < GROUPS_MAX && self.run.len() >= GROUP_MIN,
            };
            if !is_worth_it {
                return;
            }
            let flushed = self.local.durable().boxed_local();
            self.flushing.push_back(Group { of: std::mem::take(&mut self.run), flushed });
        }
    }

    #[inline]
    fn note(&mut self, place: Place, outcome: Outcome<Served<W>>) {
        let (order, way) = &self.orders.0[place.number as usize];
        let Order::Run(transaction) = order else { unreachable!("a stream has transactions only") };
        let outcome = match outcome {
            Ok(reply) => Ok(reply.expect("a transaction answers")),
            Err(AskError::Aborted(refused)) => Err(refused),
            Err(AskError::Overloaded) => return self.refused.push(place),
            Err(error) => return self.part.broke(&sentence::<W>(&error)),
        };
        if let Some(at) = place.at {
            self.part.time(at);
        }
        self.part.note(transaction, *way == Way::Across, outcome);
    }
}

#[cold]
fn sentence<W: Workload>(error: &AskError<Refused<W::Id>>) -> String {
    format!("a transaction was not run: {error}")
}

/// A transaction as it is in a lap.
fn renewed<W: Workload>(order: &Order<W>, lap: u64) -> Order<W> {
    let mut order = order.clone();
    if W::RENEWS && lap > 0 {
        let Order::Run(transaction) = &mut order else { unreachable!("a stream has transactions only") };
        W::renew(transaction, lap);
    }
    order
}

fn poll<W: Workload>(ask: &mut LocalAsk<Served<W>>, cx: &mut Context<'_>) -> Option<Outcome<Served<W>>> {
    match Pin::new(ask).poll(cx) {
        Poll::Ready(outcome) => Some(outcome),
        Poll::Pending => None,
    }
}
