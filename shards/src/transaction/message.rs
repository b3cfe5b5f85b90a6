//! What arrives at a shard and what it sends: envelopes and batches.

use crate::actor::Actor;
use crate::actor::addressees::Addressees;
use crate::actor::outcome::{Outcome, ReturnAddress};
use crate::actor::told::TimerId;
use crate::epoch::Epoch;
use crate::log::record::SendId;
use crate::object::OwnerId;
use crate::store::slot::SlotIndex;
use crate::transaction::Transaction;

/// What travels between shards, and from an outside thread to a shard.
pub enum Envelope<A: Actor> {
    /// A message for objects that live on the receiving shard.
    Message {
        /// The message.
        message: A::Message,
        /// Who sends it.
        sender: OwnerId,
        /// Where its outcome goes.
        answer_to: ReturnAddress,
    },
    /// The outcome of a message a task on the receiving shard sent.
    Answer {
        /// The key the receiving shard gave the call.
        call: u32,
        /// What came of it.
        outcome: Outcome<A>,
    },
    /// A transaction on its way up, to a shard that locks its part of the objects.
    Lock(Box<Transaction<A>>),
    /// A transaction on its way back, to a shard that applies its part and unlocks it.
    Apply(Box<Transaction<A>>),
    /// A pair that began at the receiving shard waits at its lower home, and for that it may hold
    /// no lock of a higher.
    Release {
        /// The slot that it had locked.
        slot: SlotIndex,
        /// The epoch that it was passed on in.
        passed_in: Epoch,
    },
    /// A transaction applied everywhere, to where it began, which is not among its participants.
    Finish(Box<Transaction<A>>),
    /// A transaction a shard tells itself to begin anew.
    Restart(Box<Transaction<A>>),
    /// A pending send of the receiving shard's has run.
    Delivered {
        /// Which.
        send_id: SendId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// A message has cancelled a timer that the receiving shard keeps.
    Cancel {
        /// Which.
        timer: TimerId,
        /// In which epoch.
        epoch: Epoch,
    },
    /// The sending shard has said of every send that was delivered there before this epoch that it
    /// is.
    Mark(Epoch),
}

impl<A: Actor> Envelope<A> {
    /// Names the objects that it is about to use, on whatever shard; none for what is on its way
    /// back.
    pub fn name_objects(&self, objects: &mut Addressees<A::Id>) {
        objects.clear();
        match self {
            Envelope::Message { message, .. } => A::addressees(message, objects),
            Envelope::Lock(transaction) => transaction.objects.iter().for_each(|it| objects.read(it.id)),
            _ => {}
        }
    }

    /// The message that it brings and that is still to run, in a transaction or not, and where its
    /// answer goes.
    pub fn asks(&self) -> Option<(&A::Message, ReturnAddress)> {
        match self {
            Envelope::Message { message, answer_to, .. } => Some((message, *answer_to)),
            Envelope::Lock(transaction) | Envelope::Restart(transaction) => {
                Some((transaction.message.as_ref()?, transaction.answer_to))
            }
            _ => None,
        }
    }
}

/// One message of a batch; its outcome takes the message's place.
pub enum BatchEntry<A: Actor> {
    /// Not handled yet.
    Waiting(A::Message),
    /// Under way as a transaction.
    Taken,
    /// Handled.
    Answered(Outcome<A>),
}

/// Messages from one sender to objects of one shard, answered together and in place: one allocation
/// for all of them.
pub struct Batch<A: Actor> {
    /// Who sends them.
    pub sender: OwnerId,
    /// The messages, in order; after the turn, their outcomes.
    pub entries: Vec<BatchEntry<A>>,
    /// What the runtime knows the batch by.
    pub tag: u32,
}
