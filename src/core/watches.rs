//! The watchers of a shard's objects: who they are, and how they see what was written.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use freehold_shard::Actor;

use super::LocalShard;
use super::jobs::Permit;
use crate::error::panic_message;
use crate::transport::watching::{WatchSender, WatchToken};

/// What a watcher sees of an object: its state, if it exists.
pub(crate) type Sight<A> = Option<Arc<<A as Actor>::State>>;

/// The watchers of a shard's objects, by object.
pub(crate) type Watchers<A> = BTreeMap<<A as Actor>::Id, Vec<Watcher<A>>>;

/// Somebody who watches an object.
pub(crate) struct Watcher<A: Actor> {
    pub(crate) sender: WatchSender<Sight<A>>,
    /// Given back when it is let go of.
    pub(crate) _permit: Permit,
}

impl<A: Actor> LocalShard<A> {
    /// Somebody watches an object of this shard's from now on.
    pub(crate) fn watch(&self, id: A::Id, watcher: Watcher<A>) {
        if self.has_left() {
            return;
        }
        self.has_watchers.set(true);
        self.watchers.borrow_mut().entry(id).or_default().push(watcher);
        self.core.borrow_mut().looks_after = true;
        self.with_core(|shard, _| shard.watch(id));
    }

    /// Somebody does not watch an object any more.
    pub(crate) fn unwatch(&self, id: A::Id, token: &WatchToken<Sight<A>>) {
        let mut watchers = self.watchers.borrow_mut();
        let Some(of_object) = watchers.get_mut(&id) else { return };
        let Some(at) = of_object.iter().position(|watcher| watcher.sender.is_to(token)) else { return };
        let gone = of_object.swap_remove(at);
        if of_object.is_empty() {
            watchers.remove(&id);
        }
        let is_empty = watchers.is_empty();
        drop(watchers);
        drop(gone);
        self.with_core(|shard, _| shard.unwatch(&id));
        if is_empty {
            self.has_watchers.set(false);
            let mut core = self.core.borrow_mut();
            core.looks_after = core.is_logged;
        }
    }

    /// Shows watchers what was written.
    #[cold]
    pub(crate) fn show_watched(&self) {
        if !self.has_watchers.get() {
            return;
        }
        let mut befores = Vec::new();
        {
            let mut core = self.core.borrow_mut();
            let core = &mut *core;
            let watchers = self.watchers.borrow();
            core.shard.show_watched(|id, state| {
                let of_object = watchers.get(&id).map(Vec::as_slice).unwrap_or_default();
                for watcher in of_object {
                    let (waker, before) = watcher.sender.put(state.clone());
                    core.wakers.extend(waker);
                    befores.extend(before.flatten());
                }
            });
            drop(watchers);
            if core.is_logged {
                // What waits for the log is shown when that has got further.
                self.let_go(core);
            }
        }
        // A user's `Drop` may panic, and may use what was borrowed.
        for before in befores {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(before))) {
                let panic = panic_message(payload);
                tracing::warn!(
                    shard = self.index.0,
                    panic,
                    "a state that was watched panicked when it was dropped"
                );
            }
        }
    }

    /// Nothing is shown any more.
    pub(super) fn end_watches(&self) {
        let watchers = self.watchers.take();
        drop(watchers);
    }
}
