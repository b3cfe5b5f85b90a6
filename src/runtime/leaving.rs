//! What a receiver of epochs needs of the runtime they leave: how far they are complete, who waits
//! for them, and whom to tell.

use std::sync::Arc;

use freehold_shard::log::Bounds;
use freehold_shard::{Ack, Actor, Epoch, ShardIndex, WrittenSchema};

use crate::core::shared::Shared;
use crate::error::{Death, DeathCause};
use crate::log::SharedLogs;
use crate::log::leaving::Leaves;
use crate::stats::Phase;

/// Shows the runtime to the receiver of its epochs, if they leave.
pub(super) fn attach<A: Actor>(shared: &Arc<Shared<A>>) {
    let Some(logs) = &shared.logs else { return };
    if let Some(sender) = &logs.config.leaving {
        let schema = {
            let manifest = logs.manifest();
            Arc::new(manifest.schema(manifest.runs.len().checked_sub(1)).clone())
        };
        sender.attach(Arc::new(Leaving { shared: shared.clone(), logs: logs.clone(), schema }));
    }
}

struct Leaving<A: Actor> {
    shared: Arc<Shared<A>>,
    logs: Arc<SharedLogs>,
    schema: Arc<WrittenSchema>,
}

impl<A: Actor> Leaves for Leaving<A> {
    fn handed(&self) -> Epoch {
        self.logs.durability.handed(self.shared.mvcc.epochs())
    }

    fn is_awaited(&self, after: Epoch, until: Epoch) -> bool {
        self.logs.durability.is_awaited(after, until)
    }

    fn acknowledge(&self, epoch: Epoch) {
        self.logs.durability.acknowledge(epoch);
        self.logs.durability.advance(self.shared.mvcc.epochs());
        self.shared.tell_durable(None);
    }

    fn end(&self, why: &str) {
        self.shared.die(Death { shard: ShardIndex(0), cause: DeathCause::Fenced(why.to_string()) });
    }

    fn has_room(&self) {
        self.shared.tell_epochs();
    }

    fn let_go(&self) {
        // It has ended, as a rule, before its receiver goes.
        if self.shared.phase() >= Phase::Stopping {
            return;
        }
        if self.logs.config.ack == Ack::Replicated {
            return self.end("nobody receives its epochs, so nothing it says would be replicated");
        }
        self.shared.tell_epochs();
        tracing::warn!(
            "nobody receives this runtime's epochs any more: it makes no checkpoint, and its log grows"
        );
    }

    fn began(&self) -> Epoch {
        self.logs.began_after
    }

    fn schema(&self) -> Arc<WrittenSchema> {
        self.schema.clone()
    }

    fn bounds(&self) -> Bounds {
        self.logs.bounds()
    }
}
