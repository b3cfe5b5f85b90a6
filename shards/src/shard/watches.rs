//! Objects that somebody watches: after a turn they are shown as they are.
//!
//! A watched object has a bit in its lock word. So it is never simply free, and the fast path finds
//! that out by the comparison that it makes anyway; it goes on by `Engine::admit`. Each write of
//! such an object goes by `Engine::commit` or `Engine::apply`, which note it here.
//!
//! What is shown is the latest committed state when it is shown. Steps in between are left out, so
//! the work and the memory do not depend on how often an object is written. With a log whose
//! answers wait until they are durable, what is shown waits as an answer would. One state waits at
//! a time, and the next is taken when it has been shown: however busy the log, each comes through.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::actor::Actor;
use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::object::Ownership;
use crate::prefetch::Prefetch;
use crate::shard::Shard;
use crate::store::slot::{NO_SLOT, SlotIndex};

/// One object that is watched.
struct WatchedObject<A: Actor> {
    id: A::Id,
    watchers: usize,
    /// It was written since its state was last taken.
    has_changed: bool,
    /// It is in one of the two lists.
    is_listed: bool,
    /// A state that is to be shown when this epoch is durable.
    held: Option<(Epoch, Option<Arc<A::State>>)>,
}

/// The objects of a shard that somebody watches.
pub(crate) struct Watches<A: Actor> {
    objects: BTreeMap<SlotIndex, WatchedObject<A>>,
    /// Those to be shown after this turn.
    changed: Vec<SlotIndex>,
    /// Those whose state waits until it is durable.
    waiting: Vec<SlotIndex>,
}

impl<A: Actor> Default for Watches<A> {
    fn default() -> Self {
        Watches { objects: BTreeMap::new(), changed: Vec::new(), waiting: Vec::new() }
    }
}

impl<A: Actor> Watches<A> {
    /// The object in this slot, which is watched, was written.
    #[cold]
    pub(super) fn note(&mut self, slot: SlotIndex) {
        if fault::is_on(Fault::MissChange) {
            return;
        }
        self.list(slot);
    }

    /// Nobody watches the object in this slot any more. A slot that stayed in a list would be there
    /// to be shown for ever.
    fn forget(&mut self, slot: SlotIndex) {
        self.objects.remove(&slot);
        self.changed.retain(|of| *of != slot);
        self.waiting.retain(|of| *of != slot);
    }

    fn list(&mut self, slot: SlotIndex) {
        let Some(object) = self.objects.get_mut(&slot) else { return };
        object.has_changed = true;
        if !std::mem::replace(&mut object.is_listed, true) {
            self.changed.push(slot);
        }
    }
}

impl<A: Actor, P: Prefetch> Shard<A, P> {
    /// Somebody more watches the object `id`, which is at home here and need not exist. It is shown
    /// as it is now, and whenever it was written.
    pub fn watch(&mut self, id: A::Id) {
        let partition = &mut self.engine.run.partition;
        let hash = partition.hash(&id);
        let slot = match partition.find(hash, &id).0 {
            NO_SLOT => partition.insert(hash, id, Ownership::default()),
            slot => slot,
        };
        partition.slot_mut(slot).set_watched(true);
        let Watches { objects, .. } = &mut *self.engine.watches;
        let object = objects.entry(slot).or_insert(WatchedObject {
            id,
            watchers: 0,
            has_changed: false,
            is_listed: false,
            held: None,
        });
        object.watchers += 1;
        self.engine.watches.list(slot);
    }

    /// Somebody who watched the object `id` does not any more.
    pub fn unwatch(&mut self, id: &A::Id) {
        let partition = &mut self.engine.run.partition;
        let (slot, _) = partition.find(partition.hash(id), id);
        let Some(object) = self.engine.watches.objects.get_mut(&slot) else { return };
        object.watchers -= 1;
        if object.watchers == 0 {
            self.engine.watches.forget(slot);
            partition.slot_mut(slot).set_watched(false);
            if partition.slot(slot).is_left() {
                partition.release(slot);
            }
        }
    }

    /// How many objects somebody watches.
    pub fn watched(&self) -> usize {
        self.engine.watches.objects.len()
    }

    /// Whether some that somebody watches are to be shown now.
    #[inline]
    pub fn has_to_show(&self) -> bool {
        !self.engine.watches.changed.is_empty()
    }

    /// Shows the objects that somebody watches and that were written: `show` gets each as it is
    /// now, or, with a log, as it was and is durable; without a state, if it does not exist.
    ///
    /// To be called after turns. What waits for the log is shown by a later call; so
    /// [`Shard::release`] is to be called afterwards, and says when that has got further.
    pub fn show_watched(&mut self, mut show: impl FnMut(A::Id, Option<Arc<A::State>>)) {
        let need = self.undurable().filter(|_| !fault::is_on(Fault::ShowEarly));
        let mut slots = std::mem::take(&mut self.engine.watches.changed);
        slots.append(&mut self.engine.watches.waiting);
        for slot in slots.drain(..) {
            let held = self.engine.watches.objects.get(&slot).and_then(|object| object.held.as_ref());
            let is_durable = held.map(|(epoch, _)| *epoch).is_none_or(|epoch| self.want_durable(epoch));
            // It may have been let go of.
            let Some(object) = self.engine.watches.objects.get_mut(&slot) else { continue };
            if let Some((_, state)) = object.held.take_if(|_| is_durable) {
                show(object.id, state);
            }
            if object.held.is_none() && std::mem::take(&mut object.has_changed) {
                let state = &self.engine.run.partition.slot(slot).state;
                // A copy may panic. Then this state is one of those in between.
                match catch_unwind(AssertUnwindSafe(|| state.clone().map(Arc::new))) {
                    Ok(state) if need.is_none() => show(object.id, state),
                    Ok(state) => object.held = need.map(|epoch| (epoch, state)),
                    Err(_) => self.engine.run.counters.panicked += 1,
                }
            }
            let waits_for = object.held.as_ref().map(|(epoch, _)| *epoch);
            object.is_listed = waits_for.is_some();
            if let Some(epoch) = waits_for {
                self.engine.watches.waiting.push(slot);
                self.want_durable(epoch);
            }
        }
        self.engine.watches.changed = slots;
    }
}
