//! Errands go from a shard to the program, and their outcomes come back.

use std::rc::Rc;
use std::sync::Arc;

use freehold_shard::{Actor, BegunErrand, ErrandId, OwnerId, ShardIndex};

use super::command::Command;
use super::shared::Shared;
use super::{Found, LocalShard, Publish};
use crate::errand::{Errand, OwingShard, Performer, call};

/// A shard that owes errands.
struct ErrandHome<A: Actor> {
    shared: Arc<Shared<A>>,
    shard: ShardIndex,
}

impl<A: Actor> ErrandHome<A> {
    /// Calls this on the shard, or drops it if the shard has left. There are at most as many calls
    /// as errands under way.
    fn call(&self, call: impl FnOnce(&Rc<LocalShard<A>>) + Send + 'static) {
        if !self.shared.birth.is_elsewhere() {
            let mailbox = &self.shared.mailboxes[self.shard.index()];
            mailbox.command(Command::Call(Box::new(call)), &self.shared.replies);
        }
    }
}

impl<A: Actor> OwingShard<A> for ErrandHome<A> {
    fn end(&self, id: ErrandId, sender: OwnerId, outcome: A::Message) {
        self.call(move |here| {
            here.with_core(|shard, effects| shard.end_errand(id, sender, outcome, effects));
        });
    }

    fn put_back(&self, begun: BegunErrand<A>) {
        self.call(move |here| here.put_errand_back(begun));
    }
}

impl<A: Actor> LocalShard<A> {
    /// A round; then watchers see what was written, and errands begin that may begin.
    #[inline]
    pub(crate) fn whole_round(self: &Rc<Self>, publish: Publish) -> Found {
        let found = self.round(publish);
        if found == Found::Work && self.has_watchers.get() {
            self.show_watched();
        }
        if found == Found::Work && self.shared.embedding.performer.is_some() {
            self.begin_errands();
        }
        found
    }

    /// Begins the errands that may begin.
    #[cold]
    pub(crate) fn begin_errands(self: &Rc<Self>) {
        let Some(performer) = &self.shared.embedding.performer else { return };
        while let Some(begun) = self.begin_errand() {
            let errand =
                Errand::new(begun, Arc::new(ErrandHome { shared: self.shared.clone(), shard: self.index }));
            match performer {
                Performer::With(perform) | Performer::OnThreads(_, perform) => call(|| perform(errand)),
                Performer::OnShards(perform) => {
                    let perform = perform.clone();
                    self.expect_user_tasks();
                    self.spawn_watched(async move { perform(errand).await }, |_| ());
                }
            }
        }
        self.want_errands();
    }

    fn begin_errand(&self) -> Option<BegunErrand<A>> {
        let mut core = self.core.borrow_mut();
        let has_room = core.shard.errands().1 < self.shared.config.errands_max;
        if has_room && !self.is_draining() { core.shard.begin_errand() } else { None }
    }

    /// An errand was dropped without an outcome: it waits for a while, unless the shard drains.
    fn put_errand_back(self: &Rc<Self>, begun: BegunErrand<A>) {
        tracing::warn!(
            shard = self.index.0,
            errand = begun.id.number(),
            "an errand was dropped without an outcome: it is performed once more"
        );
        let here = self.clone();
        self.spawn_watched(
            async move {
                if !here.is_draining() {
                    glommio::timer::sleep(Errand::<A>::AGAIN_AFTER).await;
                }
                here.with_core(|shard, _| shard.put_errand_back(begun));
            },
            |_| (),
        );
    }
}
