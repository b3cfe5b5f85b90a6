//! How a test looks at the objects of a bench.

use std::collections::BTreeMap;

use super::Bench;
use crate::actor::Actor;
use crate::actor::kind::Kind;
use crate::object::Ownership;
use crate::shard::Shard;
use crate::store::slot::NO_SLOT;
use crate::tally::Tally;

impl<A: Actor> Bench<A> {
    /// The state of an object; `None` if it does not exist.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # fn test<A: Actor<Id = u64, State = u64>>(bench: &Bench<A>) {
    /// assert_eq!(bench.get(7), None);
    /// # }
    /// ```
    pub fn get(&self, id: A::Id) -> Option<&A::State> {
        let partition = &self.shards[self.router.home(&id).index()].engine.run.partition;
        let (slot, _) = partition.find(partition.hash(&id), &id);
        (slot != NO_SLOT).then(|| partition.slot(slot).state.as_ref()).flatten()
    }

    /// The object of the kind `K` with this key; `None` if it does not exist, or is of another
    /// kind.
    ///
    /// ```
    /// # use freehold_shard::{Actor, Kind, testing::Bench};
    /// # fn test<A: Actor, Account: Kind<A, Key = u64>>(bench: &Bench<A>) {
    /// assert!(bench.read::<Account>(7).is_none());
    /// # }
    /// ```
    pub fn read<K: Kind<A>>(&self, key: K::Key) -> Option<&K> {
        self.get(K::id(key)).and_then(K::of)
    }

    /// Every object with who may write it and its state, in no particular order. Nothing is under
    /// way, so they are of one instant.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # fn test<A: Actor<Id = u64, State = u64>>(bench: &Bench<A>) {
    /// let sum: u64 = bench.objects().map(|(_, _, balance)| *balance).sum();
    /// # }
    /// ```
    pub fn objects(&self) -> impl Iterator<Item = (A::Id, Ownership, &A::State)> {
        self.shards.iter().flat_map(Shard::objects)
    }

    /// A copy of all objects, as of one instant.
    ///
    /// ```
    /// # use freehold_shard::{Actor, testing::Bench};
    /// # fn test<A: Actor<Id = u64, State = u64>>(bench: &mut Bench<A>, refused: A::Message) {
    /// let before = bench.snapshot();
    /// assert!(bench.ask(refused).is_err());
    /// assert_eq!(bench.snapshot(), before, "a message that is refused changes nothing");
    /// # }
    /// ```
    pub fn snapshot(&self) -> BTreeMap<A::Id, A::State> {
        self.objects().map(|(id, _, state)| (id, state.clone())).collect()
    }

    /// Counts and sums over all objects, as of one instant: what a runtime's `Snapshot::tally` says
    /// with the same `each`.
    ///
    /// ```
    /// # use freehold_shard::{Actor, Tally, testing::Bench};
    /// # fn test<A: Actor<Id = u64, State = i64>>(bench: &Bench<A>) {
    /// let add = |tally: &mut Tally, _, balance: &i64| {
    ///     tally.add("money", *balance);
    /// };
    /// assert_eq!(bench.tally(add).get("money"), 0, "payments make no money");
    /// # }
    /// ```
    pub fn tally(&self, each: impl Fn(&mut Tally, A::Id, &A::State)) -> Tally {
        let mut tally = Tally::default();
        self.objects().for_each(|(id, _, state)| each(&mut tally, id, state));
        tally
    }
}
