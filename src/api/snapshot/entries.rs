//! The entries of a collection as they were: ranges, in slices between the turns of its shard.

use std::ops::{Bound, ControlFlow, RangeBounds};

use freehold_shard::Actor;

use super::{SLOTS, Snapshot, SnapshotRead, Whose};
use crate::core::jobs::JobStep;
use crate::core::slice::Slice;
use crate::error::SnapshotError;

impl<A: Actor> Snapshot<A> {
    /// The entries of a collection in a range of ids as they were, in their order, and no more than
    /// the first `most`.
    ///
    /// ```no_run
    /// # fn cheapest<A: freehold::Actor<Id = (u64, u64)>>(snapshot: &freehold::Snapshot<A>) -> Result<(), freehold::SnapshotError> {
    /// let ten = snapshot.range((7, 0), (7, 100)..(7, 200), 10).wait()?;
    /// # let _ = ten;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// See [`SnapshotError`].
    pub fn range(
        &self,
        collection: A::Id,
        ids: impl RangeBounds<A::Id>,
        most: usize,
    ) -> SnapshotRead<Vec<(A::Id, A::State)>> {
        if most == 0 {
            return SnapshotRead::known(Ok(Vec::new()));
        }
        self.fold_range(collection, ids, Vec::new(), move |found, id, state: &A::State| {
            found.push((id, state.clone()));
            if found.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })
    }

    /// Folds the entries of a collection in a range of ids, as they were, into `value`: in their
    /// order, in slices between the turns of its shard, until `each` breaks it off.
    ///
    /// ```no_run
    /// use std::ops::ControlFlow;
    ///
    /// # fn sum<A: freehold::Actor<Id = (u64, u64), State = u64>>(snapshot: &freehold::Snapshot<A>) -> Result<u64, freehold::SnapshotError> {
    /// let add = |sum: &mut u64, _id, quantity: &u64| {
    ///     *sum += quantity;
    ///     if *sum < 1_000 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    /// };
    /// snapshot.fold_range((7, 0), .., 0, add).wait()
    /// # }
    /// ```
    ///
    /// # Errors
    /// See [`SnapshotError`]; what was folded until then is lost.
    pub fn fold_range<T, F>(
        &self,
        collection: A::Id,
        ids: impl RangeBounds<A::Id>,
        value: T,
        mut each: F,
    ) -> SnapshotRead<T>
    where
        T: Send + 'static,
        F: FnMut(&mut T, A::Id, &A::State) -> ControlFlow<()> + Send + 'static,
    {
        let (mut from, to) = (ids.start_bound().cloned(), ids.end_bound().cloned());
        let home = self.open.shared.router.home(&collection);
        let mut work = Some((value, self.clone()));
        let mut step = move |shard: &mut freehold_shard::Shard<A, _>| {
            let (mut folded, snapshot) = work.take().expect("a fold that is done takes no further step");
            let (mut slice, mut is_over) = (Slice::begin(), false);
            let next = shard.range_at(snapshot.open.epoch, &collection, (from, to), SLOTS, |id, state| {
                is_over = each(&mut folded, id, state).is_break();
                if slice.goes_on() && !is_over { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            match next {
                Ok(Some(next)) if !is_over => {
                    from = Bound::Excluded(next);
                    work = Some((folded, snapshot));
                    JobStep::GoesOn
                }
                Ok(_) => JobStep::Done(Ok(folded)),
                Err(expired) => JobStep::Done(Err(expired)),
            }
        };
        let mut once = Some(move |shard: &mut freehold_shard::Shard<A, _>| step(shard));
        let fold = self.on_shards(std::iter::once(home), Whose::User, |_| {
            once.take().expect("there is one shard that is asked")
        });
        SnapshotRead::new(async move {
            let mut folds = fold.await;
            let fold = folds.pop().expect("one shard was asked");
            Ok(fold.map_err(SnapshotError::of)??)
        })
    }
}
