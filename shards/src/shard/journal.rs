//! A shard's side of its log: what it committed and is not on disk yet, and the answers that wait
//! for that.
//!
//! Every message that succeeds leaves records of what its objects are now
//! ([`record`](crate::log::record)) in the batch that is being filled. While the disk writes one
//! batch the next one collects; it goes out when that write returns, so there is no timer, and one
//! write carries as much as came meanwhile. A shard that writes ends the epoch, if it has records
//! of it: then the batch can close it.
//!
//! Invariant *durable-before-answered*: an answer waits until all that its shard has ever shown is
//! durable, in the epochs it was committed in ([`Journal::shown`]). A message that only read waits
//! for nothing if nothing is under way.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use crate::actor::Actor;
use crate::actor::outcome::{Outcome, ReturnAddress};
use crate::actor::told::TimerId;
use crate::epoch::durability::Durability;
use crate::epoch::{Epoch, EpochState};
use crate::fault::{self, Fault};
use crate::log::batch::{Marks, SegmentId, Tail};
use crate::log::bounds::Bounds;
use crate::log::record::SendId;
use crate::log::refused::RecordError;
use crate::log::trust::Trust;
use crate::log::writer::{BatchWriter, Records};
use crate::placement::{ShardIndex, ShardSet};
use crate::shard::codec::Codec;
use crate::shard::resumed::Resumed;
use crate::shard::sends::PendingSends;
use crate::store::slot::SlotIndex;
use crate::time::Time;
use crate::transaction::effects::Effects;
use crate::transaction::message::{Batch, Envelope};

/// When a message is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ack {
    /// When it and everything it saw is on disk, in all logs: no crash takes it back.
    #[default]
    Durable,
    /// When that is so, and a replicated log has acknowledged it as well: then it outlives the
    /// machine. An answer that only read something leaves when that log has acknowledged an append
    /// made after the read. So an owner that was replaced without knowing it answers nobody. It is
    /// for runtimes whose epochs leave for such a log, and the default there.
    Replicated,
    /// When it has run. A crash takes back what was not on disk yet, of all objects the last part
    /// of one and the same history.
    Applied,
}

/// What a shard's log begins with.
pub struct LogStart<A: Actor> {
    /// How messages are written.
    pub codec: Codec<A>,
    /// When messages are answered.
    pub ack: Ack,
    /// The log's first segment.
    pub first: SegmentId,
    /// How large segments are.
    pub segment_bytes: usize,
    /// No pending send has a number from here on; the same for all shards. This run's come some way
    /// behind.
    pub first_send: u64,
    /// How far all logs have come, shared by all shards.
    pub durability: Arc<Durability>,
}

/// A batch to be written to a log, with one write, at its place.
pub struct Write {
    /// The log's segment.
    pub segment: u64,
    /// Where in it.
    pub offset: u64,
    /// The epoch that it closes.
    pub closed: Epoch,
    /// The batch, sealed.
    pub batch: BatchWriter,
}

/// An answer that waits until an epoch is durable.
pub(super) enum Held<A: Actor> {
    Answer(ReturnAddress, Outcome<A>),
    Batch(Batch<A>),
}

/// A segment that was begun, and the latest epoch that it says something of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Begun {
    /// Its number.
    pub segment: u64,
    /// Where the log went on in it.
    pub tail: Tail,
    /// The latest epoch something in it was committed in, or that it closes.
    pub through: Epoch,
}

/// How many bytes of records a message may lend: an object says in a `u32` where its record is.
pub(super) const LENT_MAX: usize = u32::MAX as usize;

/// Records of objects that are at home elsewhere, one behind the other.
#[derive(Debug, Default)]
pub(crate) struct Lent {
    pub(crate) bytes: Vec<u8>,
    /// Of which slot each is, and where it ends.
    ends: Vec<(SlotIndex, usize)>,
}

impl Lent {
    /// Adds the record of the object in this slot.
    ///
    /// # Errors
    /// All would have more than `max` bytes ([`LENT_MAX`], but in tests).
    pub(crate) fn push(&mut self, slot: SlotIndex, record: &[u8], max: usize) -> Result<(), RecordError> {
        let bytes = self.bytes.len() + record.len();
        if bytes > max {
            return Err(RecordError::TogetherTooLong { bytes, max });
        }
        self.bytes.extend_from_slice(record);
        self.ends.push((slot, bytes));
        Ok(())
    }

    /// Where in [`Lent::bytes`] the record of the object in this slot is; empty if there is none.
    pub(crate) fn of(&self, slot: SlotIndex) -> Range<u32> {
        let Some(at) = self.ends.iter().position(|(of, _)| *of == slot) else { return 0..0 };
        let begin = at.checked_sub(1).map_or(0, |before| self.ends[before].1);
        let narrow = |at| u32::try_from(at).expect("`push` has refused more");
        narrow(begin)..narrow(self.ends[at].1)
    }

    /// Where the record of each is, by slot: for many.
    pub(crate) fn by_slot(&self) -> Vec<(SlotIndex, Range<usize>)> {
        let mut begin = 0;
        let ranges = self.ends.iter().map(|(slot, end)| (*slot, std::mem::replace(&mut begin, *end)..*end));
        let mut ranges: Vec<_> = ranges.collect();
        ranges.sort_unstable_by_key(|(slot, _)| *slot);
        ranges
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// A shard's side of its log.
pub(crate) struct Journal<A: Actor> {
    pub(crate) codec: Codec<A>,
    pub(crate) ack: Ack,
    pub(super) shard: ShardIndex,
    pub(super) durability: Arc<Durability>,
    pub(super) id: SegmentId,
    offset: usize,
    segment_bytes: usize,
    /// How long a batch may be, and what it holds.
    pub(crate) bounds: Bounds,
    pub(super) tail: Tail,
    /// Oldest first; the last is being written.
    pub(crate) begun: VecDeque<Begun>,
    /// The records of the message that is about to succeed. Empty between messages.
    pub(crate) staged: Records,
    pub(crate) filling: BatchWriter,
    /// Which states can be read again.
    pub(crate) trust: Trust,
    /// What the running transaction leaves of objects that are at home elsewhere. Their homes
    /// record it as it is here: a state is serialized once.
    pub(crate) lent: Lent,
    /// Batches that are full and wait for the disk.
    pub(super) full: VecDeque<BatchWriter>,
    pub(super) spare: Option<BatchWriter>,
    /// While the disk writes a batch: what it closes.
    pub(super) in_flight: Option<Epoch>,
    /// What is closed on disk, or will be with what is in flight.
    pub(super) closed: Epoch,
    /// The latest epoch that this log closes, on disk, and that is closed in all logs that this
    /// close awaits: what recovery must find. (Later epochs may be durable without that, because
    /// everybody was idle in them; recovery knows nothing of those, and misses nothing.)
    pub(super) vouched: Epoch,
    /// The logs that this close awaits.
    pub(super) awaits: ShardSet,
    /// The latest epoch of a record of this log.
    pub(crate) recorded: Epoch,
    /// The latest epoch that something was committed in which this shard has shown, or may show.
    pub(crate) shown: Epoch,
    /// How far everything is durable, as far as this shard knows.
    pub(super) durable: Epoch,
    pub(super) is_active: bool,
    pub(super) held: VecDeque<(Epoch, Held<A>)>,
    /// Answers that came from other shards, where they were held.
    arrived: Vec<(ReturnAddress, Outcome<A>)>,
    /// Somebody else waits for this epoch to be durable.
    pub(super) wanted: Option<Epoch>,
    /// What [`Durability`] was last told of who waits here.
    pub(super) told_wanted: Option<Epoch>,
    pub(crate) sends: PendingSends,
    /// What is owed from earlier runs.
    pub(crate) resumed: Resumed<A>,
    pub(super) bytes: u64,
    pub(super) batches: u64,
}

impl<A: Actor> Journal<A> {
    pub(crate) fn new(shard: ShardIndex, shards: usize, start: LogStart<A>) -> Self {
        let LogStart { codec, ack, first, segment_bytes, first_send: _, durability } = start;
        let (durable, bounds) = (durability.durable(), Bounds::of_segments(segment_bytes));
        Journal {
            codec,
            ack,
            shard,
            id: first,
            offset: 0,
            segment_bytes,
            bounds,
            tail: Tail::default(),
            begun: VecDeque::from([Begun { segment: 0, tail: Tail::default(), through: Epoch(0) }]),
            staged: Records::new(bounds),
            filling: BatchWriter::new(bounds),
            trust: Trust::new(codec.layouts, bounds.value()),
            lent: Lent::default(),
            full: VecDeque::new(),
            spare: None,
            in_flight: None,
            closed: durable,
            vouched: durable,
            awaits: ShardSet::default(),
            recorded: durable,
            shown: durable,
            durable,
            is_active: false,
            held: VecDeque::new(),
            arrived: Vec::new(),
            wanted: None,
            told_wanted: None,
            sends: PendingSends::new(shards),
            resumed: Resumed::new(),
            durability,
            bytes: 0,
            batches: 0,
        }
    }

    /// Whether answers wait.
    #[inline]
    pub(crate) fn holds(&self) -> bool {
        self.ack != Ack::Applied && !fault::is_on(Fault::AnswerEarly)
    }

    /// The shard may commit something from now on. The state of the epochs is loaded afterwards.
    #[inline]
    pub(crate) fn activate(&mut self) {
        if !self.is_active {
            self.durability.activate(self.shard);
            self.is_active = true;
        }
    }

    /// Something that was committed in `epoch` may be seen here.
    pub(crate) fn show(&mut self, epoch: Epoch) {
        self.shown = self.shown.max(epoch);
    }

    pub(crate) fn shown(&self) -> Epoch {
        self.shown
    }

    /// Something was read in `epoch`, and may have been overwritten elsewhere without this runtime
    /// knowing. The other log acknowledges this epoch only when it has ended, and by then the read
    /// was over: so it was this runtime's database still.
    pub(crate) fn show_read(&mut self, epoch: Epoch) {
        if self.ack == Ack::Replicated && !fault::is_on(Fault::UnfencedReads) {
            self.show(epoch);
        }
    }

    /// Word has come that a pending send of this shard's was delivered in `epoch`.
    pub(crate) fn delivered(&mut self, send_id: SendId, epoch: Epoch, epoch_state: &EpochState) {
        self.sends.delivered(send_id, epoch, epoch_state);
        self.resumed.delivered(send_id, epoch);
    }

    /// A send of this shard's was cancelled in `epoch`; `due` is when it is due in this run.
    pub(crate) fn cancelled(&mut self, timer: TimerId, due: Time, epoch: Epoch, epoch_state: &EpochState) {
        self.sends.cancelled(timer.number(), timer.due(), epoch, epoch_state);
        self.resumed.cancel(due, timer.number());
    }

    /// Moves the records that are staged into the batch that is being filled: they were committed
    /// in `epoch`.
    #[inline]
    pub(crate) fn commit(&mut self, epoch: Epoch) {
        if self.staged.is_empty() {
            return;
        }
        self.filling.fill(Some(epoch), &mut self.staged);
        while !self.staged.is_empty() {
            self.turn_over();
            self.filling.fill(Some(epoch), &mut self.staged);
        }
        self.recorded = self.recorded.max(epoch);
        self.shown = self.shown.max(epoch);
    }

    /// The batch is full: another is to be filled. An empty one takes at least one record, so that
    /// who comes again for what is left comes to an end.
    #[cold]
    fn turn_over(&mut self) {
        let next = self.next_batch();
        self.full.push_back(std::mem::replace(&mut self.filling, next));
    }

    /// An empty batch.
    pub(super) fn next_batch(&mut self) -> BatchWriter {
        self.spare.take().unwrap_or_else(|| BatchWriter::new(self.bounds))
    }

    pub(crate) fn arrived(&mut self, to: ReturnAddress, outcome: Outcome<A>) {
        self.arrived.push((to, outcome));
    }

    /// Finds out whether the latest epoch that this log closes is closed in all logs that this
    /// close awaits. Returns the latest that is: once for each batch that is written, and only
    /// until it is known.
    pub(super) fn vouch(&mut self) -> Epoch {
        if self.vouched < self.closed && self.durability.have_closed(self.awaits, self.closed) {
            self.vouched = self.closed;
        }
        self.vouched
    }

    /// Whether the disk writes a batch.
    pub(crate) fn is_writing(&self) -> bool {
        self.in_flight.is_some()
    }

    /// Whether there is nothing to be written.
    pub(super) fn is_written(&self) -> bool {
        self.filling.is_empty() && self.full.is_empty() && self.in_flight.is_none()
    }

    /// At the end of a turn in `epoch`: what it answered waits, if it has to.
    pub(crate) fn hold(&mut self, epoch: Epoch, effects: &mut Effects<A>) {
        if self.ack == Ack::Replicated && !(effects.answers.is_empty() && effects.batches.is_empty()) {
            self.show_read(epoch);
        }
        if !self.holds() {
            // Answers for other shards are in their outboxes.
        } else if self.shown > self.durable {
            let need = self.shown;
            let answers = effects.answers.drain(..).map(|(to, outcome)| (need, Held::Answer(to, outcome)));
            self.held.extend(answers);
            self.held.extend(effects.batches.drain(..).map(|batch| (need, Held::Batch(batch))));
        } else {
            self.send_abroad(effects);
        }
        effects.answers.append(&mut self.arrived);
    }

    /// Where the answers go that are held, by their places, the latest first.
    pub(crate) fn held_answers(&self) -> impl Iterator<Item = (usize, ReturnAddress)> + '_ {
        self.held.iter().enumerate().rev().filter_map(|(at, (_, held))| match held {
            Held::Answer(to, _) => Some((at, *to)),
            Held::Batch(_) => None,
        })
    }

    /// Puts answers for other shards into their outboxes.
    fn send_abroad(&mut self, effects: &mut Effects<A>) {
        let Effects { answers, outboxes, .. } = effects;
        for (to, outcome) in answers.extract_if(.., |(to, _)| is_abroad(*to, self.shard)) {
            if let ReturnAddress::Shard { shard, call } = to {
                outboxes[shard.index()].push_back(Envelope::Answer { call, outcome });
            }
        }
    }

    /// Finds out how far everything is durable and lets go of the answers that waited for it. Says
    /// whether somebody else has what they waited for, or a message of an earlier run is delivered
    /// on disk.
    pub(super) fn release(&mut self, epochs: &crate::epoch::Epochs, effects: &mut Effects<A>) -> bool {
        let mut has_wanted = false;
        loop {
            self.durable = self.durability.advance(epochs);
            has_wanted |= self.resumed.end(self.durable);
            while let Some((need, _)) = self.held.front()
                && *need <= self.durable
            {
                debug_assert!(
                    *need <= self.shown && self.durable <= epochs.epoch(),
                    "durable-before-answered: an answer waits for what was shown, and {} has ended",
                    self.durable
                );
                match self.held.pop_front() {
                    Some((_, Held::Answer(ReturnAddress::Shard { shard, call }, outcome)))
                        if shard != self.shard =>
                    {
                        effects.outboxes[shard.index()].push_back(Envelope::Answer { call, outcome });
                    }
                    Some((_, Held::Answer(to, outcome))) => effects.answers.push((to, outcome)),
                    Some((_, Held::Batch(batch))) => effects.batches.push(batch),
                    None => {}
                }
            }
            if self.wanted.is_some_and(|wanted| wanted <= self.durable) {
                self.wanted = None;
                has_wanted = true;
            }
            let held = self.held.front().map(|(need, _)| *need);
            let wanted = held.into_iter().chain(self.wanted).chain(self.resumed.wanted()).min();
            if wanted == self.told_wanted {
                return has_wanted;
            }
            self.told_wanted = wanted;
            self.durability.want(self.shard, wanted);
            if wanted.is_none() {
                return has_wanted;
            }
            // It may have become durable before anybody could know of it.
        }
    }
}

fn is_abroad(to: ReturnAddress, shard: ShardIndex) -> bool {
    matches!(to, ReturnAddress::Shard { shard: at, .. } if at != shard)
}

impl<A: Actor> Journal<A> {
    /// Seals a batch for the next place in the log.
    pub(super) fn seal(&mut self, mut batch: BatchWriter, marks: Marks) -> Write {
        if self.offset + batch.padded() > self.segment_bytes {
            self.id.segment += 1;
            self.offset = 0;
            self.begun.push_back(Begun { segment: self.id.segment, tail: self.tail, through: Epoch(0) });
        }
        let offset = self.offset as u64;
        assert!(
            self.offset + batch.padded() <= self.segment_bytes || fault::is_on(Fault::LongBatch),
            "readable-when-sealed: a segment does not grow"
        );
        batch.seal(self.id, &mut self.tail, &marks);
        self.offset += batch.padded();
        self.closed = marks.closed;
        self.in_flight = Some(marks.closed);
        let begun = self.begun.back_mut().expect("there is always one");
        // At least: what is still to be filled may be counted too. What it closes counts as well:
        // others may await that, and the segment after it may be lost with the only batch in it.
        begun.through = self.recorded.max(marks.closed);
        self.bytes += batch.padded() as u64;
        self.batches += 1;
        Write { segment: self.id.segment, offset, closed: marks.closed, batch }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Positions beyond a `u32` were cut off once, and other bytes would have been recorded.
    #[test]
    fn no_more_is_lent_than_an_object_can_say() {
        let mut lent = Lent::default();
        lent.push(3, b"abc", 5).expect("there is room");
        let refused = lent.push(4, b"def", 5);
        assert_eq!(refused, Err(RecordError::TogetherTooLong { bytes: 6, max: 5 }));
        lent.push(5, b"de", 5).expect("there is room");
        assert_eq!((lent.of(3), lent.of(4), lent.of(5)), (0..3, 0..0, 3..5));
        assert_eq!(lent.bytes, b"abcde");
        assert!(u32::try_from(LENT_MAX).is_ok(), "all that may be lent can be said");
    }
}
