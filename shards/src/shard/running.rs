//! Which type of message a shard runs, for those who ask from other threads while it does.

use crate::actor::Actor;
use crate::sync::{AtomicU64, Ordering};

/// The type of the message that a shard runs, or ran last.
///
/// The shard writes it for each message, if its actor has [names](Actor::MESSAGE_NAMES): one store
/// into a line that nobody else writes. It is made a line of its own, for who asks whether a shard
/// is stuck does so seldom, and is to cost the others nothing.
///
/// ```
/// use std::sync::Arc;
///
/// use freehold_shard::RunningMessage;
/// # use freehold_shard::{AccessError, Actor, Addressees, Objects};
/// # struct Counters;
/// # impl Actor for Counters {
/// #     type Id = u64;
/// #     type State = u64;
/// #     type Message = u64;
/// #     type Reply = ();
/// #     type Error = AccessError<u64>;
/// #     fn addressees(id: &u64, to: &mut Addressees<u64>) { to.write(*id) }
/// #     fn receive(_: &u64, _: &mut Objects<'_, Self>) -> Result<(), AccessError<u64>> { Ok(()) }
/// # }
///
/// // Given to a shard by `Shard::with_running_message`, and kept to be asked.
/// let running = Arc::new(RunningMessage::default());
/// assert_eq!(running.name::<Counters>(), None);
/// ```
#[derive(Debug)]
#[repr(align(128))]
pub struct RunningMessage(AtomicU64);

/// In place of an index: none has run.
const NONE: u64 = u64::MAX;

impl Default for RunningMessage {
    fn default() -> Self {
        RunningMessage(AtomicU64::new(NONE))
    }
}

impl RunningMessage {
    /// A message of the type with this [index](Actor::message_index) begins to run.
    #[inline(always)]
    pub(crate) fn begins(&self, index: usize) {
        self.0.store(index as u64, Ordering::Relaxed);
    }

    /// The name of its type, as `A` has it in [`Actor::MESSAGE_NAMES`]; `None` if there are no
    /// names, or no message has run.
    pub fn name<A: Actor>(&self) -> Option<&'static str> {
        A::MESSAGE_NAMES.get(self.0.load(Ordering::Relaxed) as usize).copied()
    }
}
