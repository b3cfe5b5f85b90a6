//! Actions go from a shard to the program, and their outcomes come back.

use std::panic::Location;
use std::rc::Rc;
use std::sync::Arc;

use freehold_shard::{ActionId, Actor, BegunAction, OwnerId, ShardIndex};

use super::command::Command;
use super::shared::Shared;
use super::{Found, LocalShard, Publish};
use crate::action::{Action, OwingShard, Performer, call};

/// A shard that owes actions.
struct ActionHome<A: Actor> {
    shared: Arc<Shared<A>>,
    shard: ShardIndex,
}

impl<A: Actor> ActionHome<A> {
    /// Calls this on the shard, or drops it if the shard has left. There are at most as many calls
    /// as actions under way.
    fn call(&self, call: impl FnOnce(&Rc<LocalShard<A>>) + Send + 'static) {
        if !self.shared.birth.is_elsewhere() {
            let mailbox = &self.shared.mailboxes[self.shard.index()];
            mailbox.command(Command::Call(Box::new(call)), &self.shared.replies);
        }
    }
}

impl<A: Actor> OwingShard<A> for ActionHome<A> {
    fn end(&self, id: ActionId, sender: OwnerId, outcome: A::Message) {
        self.call(move |here| {
            here.with_core(|shard, effects| shard.end_action(id, sender, outcome, effects));
        });
    }

    fn put_back(&self, begun: BegunAction<A>) {
        self.call(move |here| here.put_action_back(begun));
    }
}

impl<A: Actor> LocalShard<A> {
    /// A round; then watchers see what was written, and actions begin that may begin.
    #[inline]
    pub(crate) fn whole_round(self: &Rc<Self>, publish: Publish) -> Found {
        let found = self.round(publish);
        if found != Found::Nothing && self.has_watchers.get() {
            self.show_watched();
        }
        if found != Found::Nothing && self.shared.embedding.performer.is_some() {
            self.begin_actions();
        }
        found
    }

    /// Begins the actions that may begin.
    #[cold]
    pub(crate) fn begin_actions(self: &Rc<Self>) {
        let Some(performer) = &self.shared.embedding.performer else { return };
        while let Some(begun) = self.begin_action() {
            let action =
                Action::new(begun, Arc::new(ActionHome { shared: self.shared.clone(), shard: self.index }));
            match performer {
                Performer::With(perform) | Performer::OnThreads(_, perform) => call(|| perform(action)),
                Performer::OnShards(perform, place) => {
                    let perform = perform.clone();
                    self.expect_user_tasks();
                    self.spawn_watched(place, async move { perform(action).await }, |_| ());
                }
            }
        }
        self.want_actions();
    }

    fn begin_action(&self) -> Option<BegunAction<A>> {
        let mut core = self.core.borrow_mut();
        let has_room = core.shard.actions().1 < self.shared.config.actions_max;
        if has_room && !self.is_draining() { core.shard.begin_action() } else { None }
    }

    /// An action was dropped without an outcome: it waits for a while, unless the shard drains.
    fn put_action_back(self: &Rc<Self>, begun: BegunAction<A>) {
        tracing::warn!(
            shard = self.index.0,
            action = begun.id.number(),
            "an action was dropped without an outcome: it is performed once more"
        );
        let here = self.clone();
        self.spawn_watched(
            Location::caller(),
            async move {
                if !here.is_draining() {
                    glommio::timer::sleep(Action::<A>::AGAIN_AFTER).await;
                }
                here.with_core(|shard, _| shard.put_action_back(begun));
            },
            |_| (),
        );
    }
}
