//! An actor under test: shards in memory, without io_uring, threads or a clock.
//!
//! A [`Bench`] runs the shards of a runtime on the calling thread. They are the ones that a runtime
//! runs, so transactions, reruns, timers and bounds are the real ones. Which shard takes a turn
//! next, and how far each lane moves, comes from a seed. One seed, one history.

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::actor::Actor;
use crate::actor::limits::Limits;
use crate::actor::outcome::{AskError, Failure, Outcome};
use crate::actor::receive::MessageOf;
use crate::actor::told::ActionId;
use crate::counters::Counters;
use crate::object::OwnerId;
use crate::placement::{PlacementKey, Router};
use crate::shard::Shard;
use crate::shard::actions::BegunAction;
use crate::shard::codec::Codec;
use crate::time::Time;
use crate::transaction::effects::{Effects, Inbox};

mod dice;
mod logs;
mod looks;
mod steps;

use dice::Dice;
use logs::Logs;

/// The most shards of a bench that [`Bench::explore`] makes.
const EXPLORED_SHARDS_MAX: u64 = 4;

/// An actor under test, on shards in memory.
///
/// Every call runs until nothing is left to do but to wait. Time passes by [`Bench::pass`] only.
///
/// ```
/// use std::time::Duration;
///
/// use freehold_shard::testing::Bench;
/// use freehold_shard::{AccessError, Actor, Addressees, Objects};
///
/// struct Reminder;
///
/// impl Actor for Reminder {
///     type Id = u64;
///     type State = u32;
///     /// Counts, and counts again in an hour, so many times.
///     type Message = (u64, u32);
///     type Reply = u32;
///     type Error = AccessError<u64>;
///
///     fn addressees((id, _): &(u64, u32), to: &mut Addressees<u64>) {
///         to.write(*id);
///     }
///
///     fn receive(&(id, again): &(u64, u32), objects: &mut Objects<'_, Self>) -> Result<u32, AccessError<u64>> {
///         if again > 0 {
///             objects.tell_after(Duration::from_secs(3600), (id, again - 1))?;
///         }
///         let count = objects.get_or_insert_with(id, || 0)?;
///         *count += 1;
///         Ok(*count)
///     }
/// }
///
/// let mut bench = Bench::<Reminder>::shards(2);
/// assert_eq!(bench.ask((7, 2)), Ok(1));
/// bench.pass(Duration::from_secs(3600));
/// assert_eq!(bench.get(7), Some(&2));
/// bench.pass(Duration::from_secs(3600 * 24));
/// assert_eq!(bench.get(7), Some(&3));
/// ```
pub struct Bench<A: Actor> {
    router: Router,
    limits: Limits,
    context: Arc<dyn Any + Send + Sync>,
    sender: OwnerId,
    seed: u64,
    dice: Dice,
    now: Time,
    /// How long the process was down in all.
    down: Duration,
    pub(crate) shards: Vec<Shard<A>>,
    inboxes: Vec<Inbox<A>>,
    effects: Vec<Effects<A>>,
    /// By the number of the ask.
    answers: BTreeMap<u32, Outcome<A>>,
    asked: u32,
    overloads: usize,
    failures: Vec<Failure<A>>,
    logs: Option<Logs<A>>,
    performer: Option<BenchPerformer<A>>,
    /// Actions that have begun, with their shards.
    actions: Vec<(usize, BegunAction<A>)>,
}

/// What performs actions.
type BenchPerformer<A> = Box<dyn FnMut(ActionId, &<A as Actor>::Message) -> <A as Actor>::Message>;

impl<A: Actor> Bench<A> {
    /// A bench of so many shards, with no objects; seed 0.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # fn test<A: Actor>() {
    /// let bench = Bench::<A>::shards(2);
    /// assert!(bench.snapshot().is_empty());
    /// # }
    /// ```
    ///
    /// # Panics
    /// If there are to be none, or more than [`SHARDS_MAX`](crate::SHARDS_MAX).
    pub fn shards(count: usize) -> Self {
        let mut bench = Bench {
            router: Router::new(PlacementKey(0), count),
            limits: Limits::default(),
            context: Arc::new(()),
            sender: OwnerId(0),
            seed: 0,
            dice: Dice::new(0),
            now: Time(0),
            down: Duration::ZERO,
            shards: Vec::new(),
            inboxes: Vec::new(),
            effects: Vec::new(),
            answers: BTreeMap::new(),
            asked: 0,
            overloads: 0,
            failures: Vec::new(),
            logs: None,
            performer: None,
            actions: Vec::new(),
        };
        bench.begin();
        bench
    }

    /// The same with another seed, and with no objects: ids have other homes, and messages meet in
    /// another order.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # fn test<A: Actor>() {
    /// let bench = Bench::<A>::shards(3).with_seed(17);
    /// # }
    /// ```
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        (self.seed, self.dice) = (seed, Dice::new(seed));
        self.router = Router::new(PlacementKey(seed), self.router.shards());
        self.begin();
        self
    }

    /// The same with other limits, as a runtime has them, and with no objects.
    ///
    /// ```
    /// # use freehold_shard::{Actor, Limits, testing::Bench};
    /// # fn test<A: Actor>() {
    /// let full_early = Limits { timers_max: 10, ..Limits::default() };
    /// let bench = Bench::<A>::shards(2).with_limits(full_early);
    /// # }
    /// ```
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self.begin();
        self
    }

    /// The same with a value that [`Objects::context`](crate::Objects::context) gives, and with no
    /// objects.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # fn test<A: Actor>() {
    /// struct Fees { cents: u64 }
    ///
    /// let bench = Bench::<A>::shards(2).with_context(Fees { cents: 5 });
    /// # }
    /// ```
    #[must_use]
    pub fn with_context(mut self, context: impl Any + Send + Sync) -> Self {
        self.context = Arc::new(context);
        self.begin();
        self
    }

    /// The same with a log in memory, and with no objects: a message is answered when it is on
    /// disk, and [`Bench::crash`] leaves what was.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # use serde::{Serialize, de::DeserializeOwned};
    /// # fn test<A>()
    /// # where
    /// #     A: Actor<State: Serialize + DeserializeOwned, Message: Serialize + DeserializeOwned>,
    /// # {
    /// let bench = Bench::<A>::shards(2).with_log();
    /// # }
    /// ```
    #[must_use]
    pub fn with_log(mut self) -> Self
    where
        A::State: Serialize + DeserializeOwned,
        A::Message: Serialize + DeserializeOwned,
    {
        self.logs = Some(Logs::new(Codec::new()));
        self.begin();
        self
    }

    /// The same with somebody who performs actions, and with no objects. What it returns is the
    /// action's outcome.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # fn test<A: Actor>(shipped: impl Fn(&A::Message) -> A::Message + 'static) {
    /// let bench = Bench::<A>::shards(2).with_performer(move |id, action| {
    ///     println!("{id} is performed");
    ///     shipped(action)
    /// });
    /// # }
    /// ```
    #[must_use]
    pub fn with_performer(
        mut self,
        performer: impl FnMut(ActionId, &A::Message) -> A::Message + 'static,
    ) -> Self {
        self.performer = Some(Box::new(performer));
        self.begin();
        self
    }

    /// The process is killed, and started again: what was on the disks is there, and what was told
    /// goes on. Without a log nothing is left. Time does not pass.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # fn test<A: Actor<Id = u64, State = u64>>(bench: &mut Bench<A>) {
    /// let before = bench.snapshot();
    /// bench.crash();
    /// assert_eq!(bench.snapshot(), before, "whatever was answered outlives it");
    /// # }
    /// ```
    pub fn crash(&mut self) {
        if let Some(logs) = &mut self.logs {
            // What a disk was writing may have got there, and nobody has heard of it.
            for (at, shard) in self.shards.iter_mut().enumerate().filter(|_| self.dice.below(2) == 0) {
                logs.complete(at, shard);
            }
        }
        self.open();
        self.run_until_idle();
    }

    /// As [`Bench::crash`], and so much time passes by the wall clock before the process is started
    /// again. Only messages that were told for a time of the wall clock
    /// ([`Objects::tell_at`](crate::Objects::tell_at)) notice that. A bench begins in 1970.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # use std::time::Duration;
    /// # fn test<A: Actor>(bench: &mut Bench<A>) {
    /// bench.crash_for(Duration::from_secs(3600));
    /// assert_eq!(bench.now(), Duration::ZERO, "the database has not been running");
    /// # }
    /// ```
    pub fn crash_for(&mut self, down: Duration) {
        self.down += down;
        self.crash();
    }

    /// As [`Bench::ask_all`], and in the middle of it the process is killed and started again, as
    /// [`Bench::crash`] says. When, and what the disks have by then, is the seed's.
    ///
    /// ```
    /// # use freehold_shard::{Actor, AskError, testing::Bench};
    /// # fn test<A: Actor>(bench: &mut Bench<A>, messages: Vec<A::Message>) {
    /// for outcome in bench.crash_while(messages) {
    ///     match outcome {
    ///         Ok(_) => println!("it took effect, for good"),
    ///         Err(AskError::Unknown) => println!("it took effect as a whole, or not at all"),
    ///         Err(_) => println!("it did not take effect"),
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// Of each message as [`Bench::ask`]; [`AskError::Unknown`] if it was not answered before.
    pub fn crash_while(&mut self, messages: impl IntoIterator<Item = A::Message>) -> Vec<Outcome<A>> {
        let asks: Vec<u32> = messages.into_iter().map(|message| self.send(message)).collect();
        let steps = self.dice.below(8 * asks.len().max(1));
        let _ = (0..steps).all(|_| self.step());
        self.crash();
        asks.into_iter().map(|ask| self.answers.remove(&ask).unwrap_or(Err(AskError::Unknown))).collect()
    }

    /// From now on messages are sent as this owner; at first they are as [`OwnerId`] 0.
    ///
    /// ```
    /// # use freehold_shard::{Actor, OwnerId, testing::Bench};
    /// # fn test<A: Actor>(bench: &mut Bench<A>) {
    /// bench.send_as(OwnerId(7));
    /// # }
    /// ```
    pub fn send_as(&mut self, sender: OwnerId) {
        self.sender = sender;
    }

    /// The next so many messages find the runtime overloaded, and do not run.
    ///
    /// ```
    /// # use freehold_shard::{Actor, AskError, testing::Bench};
    /// # fn test<A: Actor>(bench: &mut Bench<A>, message: A::Message) {
    /// bench.overload(1);
    /// assert!(matches!(bench.ask(message), Err(AskError::Overloaded)));
    /// # }
    /// ```
    pub fn overload(&mut self, messages: usize) {
        self.overloads = messages;
    }

    /// Sends a message, and what came of it.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # fn test<A: Actor>(bench: &mut Bench<A>, message: A::Message) where A::Error: std::fmt::Debug, A::Reply: std::fmt::Debug {
    /// println!("{:?}", bench.ask(message));
    /// # }
    /// ```
    ///
    /// # Errors
    /// As `Handle::ask`: the state is as it was before.
    pub fn ask(&mut self, message: A::Message) -> Outcome<A> {
        let ask = self.send(message);
        self.run_until_idle();
        self.take_answer(ask)
    }

    /// Sends many messages that meet, and what came of each, in their order. In which order they
    /// run is the seed's; those to one object run in the order sent.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # fn test<A: Actor>(bench: &mut Bench<A>, messages: Vec<A::Message>) {
    /// let outcomes = bench.ask_all(messages);
    /// let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
    /// # }
    /// ```
    ///
    /// # Errors
    /// Of each message as [`Bench::ask`].
    pub fn ask_all(&mut self, messages: impl IntoIterator<Item = A::Message>) -> Vec<Outcome<A>> {
        let asks: Vec<u32> = messages.into_iter().map(|message| self.send(message)).collect();
        self.run_until_idle();
        asks.into_iter().map(|ask| self.take_answer(ask)).collect()
    }

    /// As [`Bench::ask`], for a message that has a reply of its own.
    ///
    /// ```
    /// # use freehold_shard::{Actor, MessageOf, testing::Bench};
    /// # fn test<A: Actor<Error: std::fmt::Debug>, Deposit: MessageOf<A, Reply = u64> + From<(u64, u64)>>(bench: &mut Bench<A>) {
    /// let balance: u64 = bench.call(Deposit::from((7, 100))).expect("it is taken");
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Bench::ask`].
    pub fn call<M: MessageOf<A>>(&mut self, message: M) -> Result<M::Reply, AskError<A::Error>> {
        self.ask(message.into_message()).map(own::<A, M>)
    }

    /// As [`Bench::ask_all`], for messages that have a reply of their own.
    ///
    /// ```
    /// # use freehold_shard::{Actor, MessageOf, testing::Bench};
    /// # fn test<A: Actor<Error: std::fmt::Debug>, Deposit: MessageOf<A, Reply = u64> + From<(u64, u64)>>(bench: &mut Bench<A>) {
    /// for balance in bench.call_all((0..10).map(|account| Deposit::from((account, 100)))) {
    ///     assert_eq!(balance.expect("it is taken"), 100);
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// Of each message as [`Bench::ask`].
    pub fn call_all<M: MessageOf<A>>(
        &mut self,
        messages: impl IntoIterator<Item = M>,
    ) -> Vec<Result<M::Reply, AskError<A::Error>>> {
        let outcomes = self.ask_all(messages.into_iter().map(M::into_message));
        outcomes.into_iter().map(|outcome| outcome.map(own::<A, M>)).collect()
    }

    /// Time passes: every message that comes due runs, at its time.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # use std::time::Duration;
    /// # fn test<A: Actor>(bench: &mut Bench<A>) {
    /// bench.pass(Duration::from_secs(3600));
    /// assert_eq!(bench.now(), Duration::from_secs(3600));
    /// # }
    /// ```
    pub fn pass(&mut self, time: Duration) {
        let end = self.now.after(time);
        while let Some(due) = self.shards.iter().filter_map(Shard::next_timer).min().filter(|due| *due <= end)
        {
            self.now = self.now.max(due);
            self.run_until_idle();
        }
        self.now = end;
    }

    /// How much time has passed.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # use std::time::Duration;
    /// # fn test<A: Actor>() {
    /// assert_eq!(Bench::<A>::shards(1).now(), Duration::ZERO);
    /// # }
    /// ```
    pub fn now(&self) -> Duration {
        Duration::from_nanos(self.now.0)
    }

    /// How many messages wait for their time.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # fn test<A: Actor>(bench: &Bench<A>) {
    /// assert_eq!(bench.timers(), 0, "all were cancelled");
    /// # }
    /// ```
    pub fn timers(&self) -> usize {
        self.shards.iter().map(Shard::timers).sum()
    }

    /// The messages that failed since this was last asked and that nobody waits for: those that
    /// were told, at once or for later.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # use std::time::Duration;
    /// # fn test<A: Actor<Error: std::fmt::Debug>>(bench: &mut Bench<A>) {
    /// bench.pass(Duration::from_secs(3600));
    /// let failures = bench.take_failures();
    /// assert!(failures.is_empty(), "{failures:?}");
    /// # }
    /// ```
    pub fn take_failures(&mut self) -> Vec<Failure<A>> {
        std::mem::take(&mut self.failures)
    }

    /// What the shards have counted together: how many messages ran, took the consensus path, began
    /// anew.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # fn test<A: Actor>(bench: &Bench<A>) {
    /// assert_eq!(bench.counters().reruns, 0, "every message names its objects");
    /// # }
    /// ```
    pub fn counters(&self) -> Counters {
        let mut sums = [0; Counters::COUNT];
        for shard in &self.shards {
            sums.iter_mut().zip(shard.counters().values()).for_each(|(sum, of_shard)| *sum += of_shard);
        }
        Counters::from_values(sums)
    }

    /// Runs a scenario once for each seed, on one to four shards. It sends what it likes, and
    /// asserts what must always hold. So it sees many of the orders in which messages can meet.
    ///
    /// ```
    /// use freehold_shard::testing::Bench;
    /// # use freehold_shard::Actor;
    /// # fn test<A: Actor<Id = u64, State = i64>>(payments: impl Fn(u64) -> Vec<A::Message>) {
    ///
    /// Bench::<A>::explore(0..100, |bench| {
    ///     bench.ask_all(payments(bench.seed()));
    ///     let sum: i64 = bench.objects().map(|(_, _, balance)| *balance).sum();
    ///     assert_eq!(sum, 0, "payments make no money");
    /// });
    /// # }
    /// ```
    ///
    /// # Panics
    /// With the scenario's own panic, once the seed and the number of shards have been printed:
    /// `Bench::shards(..).with_seed(..)` gives that bench again.
    pub fn explore(seeds: Range<u64>, mut scenario: impl FnMut(&mut Self)) {
        for seed in seeds {
            let shards = 1 + (seed % EXPLORED_SHARDS_MAX) as usize;
            let mut bench = Bench::shards(shards).with_seed(seed);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| scenario(&mut bench))) {
                eprintln!("this was `Bench::shards({shards}).with_seed({seed})`");
                resume_unwind(panic);
            }
        }
    }

    /// The bench's seed: a scenario draws from it what it sends.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # fn test<A: Actor>() {
    /// assert_eq!(Bench::<A>::shards(1).with_seed(3).seed(), 3);
    /// # }
    /// ```
    pub fn seed(&self) -> u64 {
        self.seed
    }
}

impl<A: Actor> fmt::Debug for Bench<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bench")
            .field("shards", &self.shards.len())
            .field("seed", &self.seed)
            .field("now", &self.now())
            .finish_non_exhaustive()
    }
}

fn own<A: Actor, M: MessageOf<A>>(reply: A::Reply) -> M::Reply {
    M::from_reply(reply).expect("`actor!` answers a message with its own reply")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::actor::AccessError;
    use crate::actor::addressees::Addressees;
    use crate::actor::objects::Objects;

    /// Lists of numbers.
    struct Lists;

    impl Actor for Lists {
        type Id = u64;
        type State = Vec<u64>;
        /// A number for two lists.
        type Message = ([u64; 2], u64);
        type Reply = ();
        type Error = AccessError<u64>;

        fn addressees((lists, _): &([u64; 2], u64), to: &mut Addressees<u64>) {
            lists.iter().for_each(|list| to.write(*list));
        }

        fn receive(
            (lists, number): &([u64; 2], u64),
            objects: &mut Objects<'_, Self>,
        ) -> Result<(), AccessError<u64>> {
            lists.iter().try_for_each(|list| {
                objects.get_or_insert_with(*list, Vec::new)?.push(*number);
                Ok(())
            })
        }
    }

    #[test]
    fn the_order_in_which_messages_meet_is_the_seeds() {
        let run = |seed| {
            let mut bench = Bench::<Lists>::shards(3).with_seed(seed);
            // The homes are the same for all seeds here.
            bench.router = Router::new(PlacementKey(0), 3);
            bench.begin();
            let messages = (0..60).map(|number| ([number % 4, 4 + number % 5], number));
            assert!(bench.ask_all(messages).iter().all(Result::is_ok));
            bench.snapshot()
        };
        assert_eq!(run(1), run(1));
        assert!((2..10).any(|seed| run(seed) != run(1)));
    }
}
