//! Where a message goes: to the home of its objects, or to the lowest of their homes.

use crate::actor::Actor;
use crate::actor::addressees::Addressees;
use crate::placement::{Router, ShardIndex};

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To the one shard all its objects live on.
    One(ShardIndex),
    /// Its objects live on several shards: as a transaction, which this one, the lowest of them,
    /// begins.
    Several(ShardIndex),
    /// It names no object.
    Nowhere,
}

impl Router {
    /// Where `message` goes. `scratch` is overwritten with its addressees.
    #[inline]
    pub fn destination<A: Actor>(
        &self,
        message: &A::Message,
        scratch: &mut Addressees<A::Id>,
    ) -> Destination {
        scratch.clear();
        A::addressees(message, scratch);
        let mut ids = scratch.targets().map(|target| target.id);
        let Some(id) = ids.next() else { return Destination::Nowhere };
        let first = self.home(&id);
        let (mut lowest, mut is_one) = (first, true);
        for id in ids {
            let home = self.home(&id);
            lowest = lowest.min(home);
            is_one &= home == first;
        }
        if is_one { Destination::One(first) } else { Destination::Several(lowest) }
    }
}
