//! All objects of one placement as they were, in slices between the turns of their shard.

use std::ops::ControlFlow;

use freehold_shard::Actor;

use super::{SLOTS, Snapshot, SnapshotRead, Whose};
use crate::core::jobs::JobStep;
use crate::core::slice::Slice;
use crate::error::SnapshotError;

impl<A: Actor> Snapshot<A> {
    /// All objects that are placed as the object `near` is, which need not exist: those of a
    /// tenant, or an account with its cards. As they were, in the order of their ids, of all kinds,
    /// entries of collections among them.
    ///
    /// Objects of a placement are in no order of their own, and have a lock each. So this goes
    /// through all objects of their shard, in slices between its turns, and only a snapshot has
    /// it: a message would meet phantoms. What is listed often or by messages is better a
    /// collection.
    ///
    /// Placements are compared by their hashes, which have 64 bits under a key that nobody knows.
    ///
    /// ```no_run
    /// # fn list<A: freehold::Actor<Id = (u64, u64)>>(snapshot: &freehold::Snapshot<A>) -> Result<(), freehold::SnapshotError> {
    /// for (id, state) in snapshot.of_placement((7, 0)).wait()? {
    /// #   let _ = (id, state);
    ///     // ..
    /// }
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn of_placement(&self, near: A::Id) -> SnapshotRead<Vec<(A::Id, A::State)>> {
        let router = self.open.shared.router;
        let (home, hash) = (router.home(&near), router.placement_hash(&near));
        let read = self.on_shards(std::iter::once(home), Whose::User, |_| {
            let (snapshot, mut found, mut from) = (self.clone(), Vec::new(), 0);
            move |shard: &mut freehold_shard::Shard<A, _>| {
                let mut slice = Slice::begin();
                let next = shard.walk_at(snapshot.open.epoch, from, SLOTS, |id, _, state| {
                    if router.placement_hash(&id) == hash {
                        found.push((id, state.clone()));
                    }
                    if slice.goes_on() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
                });
                match next {
                    Ok(Some(next)) => {
                        from = next;
                        JobStep::GoesOn
                    }
                    Ok(None) => JobStep::Done(Ok(std::mem::take(&mut found))),
                    Err(expired) => JobStep::Done(Err(expired)),
                }
            }
        });
        SnapshotRead::new(async move {
            let read = read.await.pop().expect("one shard was asked");
            let mut found = read.map_err(SnapshotError::of)??;
            found.sort_unstable_by_key(|(id, _)| *id);
            Ok(found)
        })
    }
}
