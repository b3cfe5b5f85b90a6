//! Pairs that wait for one object go to their common second home together.
//!
//! ```text
//! first home: locks its object, copies it ─── LOCK, with followers ──> second home: runs them all
//! first home: takes over the last state, unlocks <── APPLY, with followers ──
//! ```
//!
//! The first object of a pair is locked for a round trip. Pairs that wait for it meanwhile would
//! each take another. So one that gets the lock, the *leader*, takes the others along that wait for
//! nothing else and have the same two homes. At the second home they run one after the other, in
//! one turn, each with the state that the one before it left. A follower never waits there: if its
//! own object is not free, it goes back unrun, and waits at the first home again.
//!
//! So a group waits for what its leader waits for, and who waits behind a follower loses nothing
//! (*no-cycle*). A pair follows at most [`FOLLOWS_MAX`] times in vain; then it leads.
//!
//! One of the group carries the object's state, the one that wrote it last. All of them ran in one
//! epoch, so nobody needs the states in between: no snapshot, and no log.

use crate::actor::Actor;
use crate::fault::{self, Fault};
use crate::object::{Access, Ownership};
use crate::placement::ShardIndex;
use crate::shard::engine::Engine;
use crate::store::slot::NO_QUEUE;
use crate::transaction::effects::Effects;
use crate::transaction::{Transaction, TransactionEnd};

/// How many pairs follow one: they all run in one step of a turn.
const FOLLOWERS_MAX: usize = 256;
/// How often a pair follows another in vain.
const FOLLOWS_MAX: u8 = 3;

/// The two homes of a pair that is on its way up, and writes its first object.
fn homes_of<A: Actor>(transaction: &Transaction<A>) -> Option<[ShardIndex; 2]> {
    let [lower, higher] = transaction.objects.as_slice() else { return None };
    let is_plain = lower.home != higher.home
        && lower.access == Access::Write
        && !transaction.is_reverse
        && transaction.pieces.is_empty();
    is_plain.then_some([lower.home, higher.home])
}

impl<A: Actor> Engine<A> {
    /// A transaction that has got the lock it waited for here; if it is a pair, with those that
    /// waited behind it and may follow.
    #[inline]
    pub(super) fn with_followers(&mut self, mut leader: Box<Transaction<A>>) -> Box<Transaction<A>> {
        let Some(homes) = homes_of(&leader).filter(|homes| homes[0] == self.run.shard) else { return leader };
        let first = leader.objects[0].slot;
        let slot = self.run.partition.slot(first);
        if slot.queue == NO_QUEUE || !matches!(slot.ownership(), Ownership::Owned(_)) {
            return leader;
        }
        let may_follow =
            |waiting: &Transaction<A>| waiting.follows < FOLLOWS_MAX && homes_of(waiting) == Some(homes);
        let now = self.run.now;
        leader.followers =
            self.locks.take_waiting(&mut self.run.partition, first, now, FOLLOWERS_MAX, may_follow);
        leader.is_followed = !leader.followers.is_empty();
        for follower in &mut leader.followers {
            // A used transaction keeps what came of it.
            follower.end = None;
            leader.seen = leader.seen.max(follower.seen);
        }
        leader
    }

    /// Runs those that follow a transaction that has just run here, as far as their objects here
    /// are free.
    #[cold]
    pub(super) fn run_followers(&mut self, leader: &mut Transaction<A>, effects: &mut Effects<A>) {
        let epoch = leader.epoch;
        let mut carrier = &mut leader.objects[0];
        for follower in &mut leader.followers {
            let first = &mut follower.objects[0];
            first.state = carrier.state.take();
            first.ownership = carrier.ownership;
            let existed = first.state.is_some();
            let before = if fault::is_on(Fault::ForgetFollower) { first.state.clone() } else { None };
            follower.epoch = epoch;
            let has_run = self.run_pair(follower, effects).is_some();
            let is_committed = matches!(follower.end, Some(TransactionEnd::Committed(_)));
            let first = &mut follower.objects[0];
            if fault::is_on(Fault::ForgetFollower) {
                (first.state, first.is_written, carrier.state) = (None, false, before);
                continue;
            }
            // One that made an object and removed it has changed nothing, and has no record.
            let has_changed = first.is_written && (existed || first.state.is_some());
            if has_run && is_committed && has_changed {
                carrier.is_written = false;
                carrier = first;
            } else {
                first.is_written = false;
                carrier.state = first.state.take();
            }
        }
    }

    /// Takes over what those wrote that follow a transaction, while their object is still locked
    /// for it. Those that could not run wait for it again.
    #[cold]
    pub(super) fn apply_followers(&mut self, leader: &mut Transaction<A>, effects: &mut Effects<A>) {
        for mut follower in leader.take_followers() {
            if follower.end.is_none() {
                follower.follows += 1;
                self.lock(follower, effects);
                continue;
            }
            self.show_what_is_in(&follower);
            let is_committed = matches!(follower.end, Some(TransactionEnd::Committed(_)));
            self.take_over(&mut follower, 0, is_committed);
            self.pass_back(follower, &(0..1), effects);
        }
    }
}
