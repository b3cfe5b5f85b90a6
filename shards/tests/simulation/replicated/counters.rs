//! What the owners of a replicated log count: counters 0 and 1 grow together, 2 and 3, and so on.

use freehold_shard::*;
use serde::{Deserialize, Serialize};

pub(super) struct Counters;

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) enum Message {
    /// Both counters of a pair.
    Grow(u64),
    /// One counter.
    Read(u64),
}

impl Actor for Counters {
    type Id = u64;
    type State = u64;
    type Message = Message;
    type Reply = u64;
    type Error = AccessError<u64>;

    fn addressees(message: &Message, to: &mut Addressees<u64>) {
        match *message {
            Message::Grow(pair) => {
                to.write(2 * pair);
                to.write(2 * pair + 1);
            }
            Message::Read(id) => to.read(id),
        }
    }

    fn receive(message: &Message, objects: &mut Objects<'_, Self>) -> Result<u64, AccessError<u64>> {
        match *message {
            Message::Grow(pair) => {
                *objects.get_or_insert_with(2 * pair, || 0)? += 1;
                let count = objects.get_or_insert_with(2 * pair + 1, || 0)?;
                *count += 1;
                Ok(*count)
            }
            Message::Read(id) => Ok(objects.get(id)?.copied().unwrap_or_default()),
        }
    }
}
