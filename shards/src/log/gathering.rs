//! What the shards of a runtime commit, gathered by epoch, so that it leaves as whole epochs.
//!
//! Each shard hands over its batches as it seals them. A batch has records of several epochs, and a
//! later one may have records of an earlier epoch. So records are kept by epoch until the epoch is
//! complete, which [`Durability::handed`](crate::Durability::handed) says. Complete epochs may
//! leave together, under the number of the last: of one object the last record counts, and an
//! object's epochs never go back.

use std::collections::BTreeMap;

use crate::epoch::Epoch;
use crate::log::batch::LogBatch;
use crate::log::dated::DatedRecord;
use crate::log::record::Record;
use crate::time::Time;

/// What a whole database committed up to an epoch, since what left before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gathered {
    /// The last epoch of it. It is complete.
    pub epoch: Epoch,
    /// The database's time when the last of it was sealed.
    pub time: Time,
    /// Records in the order of their epochs, and of one shard in the order they were written.
    pub records: Vec<Box<[u8]>>,
}

/// Records by epoch, of all shards, that have not left yet.
#[derive(Debug, Default)]
pub struct Gathering {
    epochs: BTreeMap<Epoch, OfEpoch>,
    /// How many bytes their records have.
    bytes: usize,
    /// What of `epochs` has left.
    left: Epoch,
    time: Time,
}

/// What is there of an epoch.
#[derive(Debug, Default)]
struct OfEpoch {
    records: Vec<Box<[u8]>>,
    bytes: usize,
}

impl Gathering {
    /// Nothing yet; all up to `left` has left before.
    pub fn new(left: Epoch) -> Self {
        Gathering { left, ..Gathering::default() }
    }

    /// The last epoch that has left.
    pub fn left(&self) -> Epoch {
        self.left
    }

    /// How many bytes the records have that have not left.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nothing is left of what was taken over.
    pub fn is_empty(&self) -> bool {
        self.epochs.is_empty()
    }

    /// Whether something was committed in an epoch up to `complete` that has not left.
    pub fn has(&self, complete: Epoch) -> bool {
        self.epochs.first_key_value().is_some_and(|(first, _)| *first <= complete)
    }

    /// Takes over a batch of a shard. The batches of one shard come in their order.
    ///
    /// # Panics
    /// If it has something of an epoch that has left (*whole-epochs-leave*).
    pub fn add(&mut self, batch: &LogBatch<'_>) {
        self.time = self.time.max(batch.marks.time);
        for DatedRecord { epoch, bytes, record, .. } in batch.dated() {
            if let Some(Record::Epoch(_)) = record {
                assert!(epoch > self.left, "whole-epochs-leave: {epoch} has left with {}", self.left);
                continue;
            }
            let of_epoch = self.epochs.entry(epoch).or_default();
            of_epoch.bytes += bytes.len();
            self.bytes += bytes.len();
            of_epoch.records.push(bytes.into());
        }
    }

    /// Takes what is complete: of the epochs up to `complete` as many as have at most `bytes_max`
    /// bytes together, and one at least. `None` if nothing was committed in them. What is taken
    /// counts as of the last of them.
    pub fn take(&mut self, complete: Epoch, bytes_max: usize) -> Option<Gathered> {
        let mut gathered: Option<Gathered> = None;
        let (mut bytes, mut is_all) = (0, true);
        while let Some(first) = self.epochs.first_entry().filter(|first| *first.key() <= complete) {
            bytes += first.get().bytes;
            if gathered.is_some() && bytes > bytes_max {
                is_all = false;
                break;
            }
            let (epoch, of_epoch) = first.remove_entry();
            self.bytes -= of_epoch.bytes;
            match &mut gathered {
                None => gathered = Some(Gathered { epoch, time: self.time, records: of_epoch.records }),
                Some(gathered) => {
                    gathered.epoch = epoch;
                    gathered.records.extend(of_epoch.records);
                }
            }
        }
        let mut gathered = gathered?;
        if is_all {
            // Nothing else was committed in these.
            gathered.epoch = complete;
        }
        self.left = gathered.epoch;
        Some(gathered)
    }

    /// Says that all up to `epoch` leaves, in which nothing else was committed.
    ///
    /// # Panics
    /// If something was.
    pub fn leave_empty(&mut self, epoch: Epoch) -> Gathered {
        let first = self.epochs.first_key_value().map(|(first, _)| *first);
        assert!(first.is_none_or(|first| first > epoch), "whole-epochs-leave: {first:?} has not left");
        self.left = epoch;
        Gathered { epoch, time: self.time, records: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::batch::{Marks, SegmentId, Tail, sealed};
    use crate::log::bounds::Bounds;
    use crate::log::writer::BatchWriter;

    const BOUNDS: Bounds = Bounds::of_segments(1 << 20);

    /// A batch with records of these epochs, each a delivery of this pending send.
    fn batch(records: &[(u64, u8)]) -> Vec<u8> {
        let mut writer = BatchWriter::new(BOUNDS);
        for (epoch, send_id) in records {
            assert!(writer.push(Epoch(*epoch), &delivered(*send_id)));
        }
        let id = SegmentId { database: 1, log: 2, segment: 3, start: 4 };
        let marks = Marks { time: Time(records.len() as u64), ..Marks::default() };
        writer.seal(id, &mut Tail::default(), &marks).to_vec()
    }

    fn delivered(send_id: u8) -> Vec<u8> {
        [&[9, send_id][..], &[0; 7]].concat()
    }

    fn gathering(batches: &[&[(u64, u8)]]) -> Gathering {
        let mut gathering = Gathering::new(Epoch(1));
        for records in batches {
            gathering.add(&sealed(&batch(records), BOUNDS).expect("it was just sealed"));
        }
        gathering
    }

    fn sends(gathered: &Gathered) -> Vec<u8> {
        gathered.records.iter().map(|record| record[1]).collect()
    }

    #[test]
    fn epochs_leave_when_they_are_complete_in_order() {
        let mut gathering = gathering(&[&[(2, 1), (4, 2)], &[(3, 3), (2, 4)], &[(4, 5)]]);
        assert_eq!(gathering.take(Epoch(1), 1 << 20), None);
        let first = gathering.take(Epoch(3), 1 << 20).expect("two are complete");
        assert_eq!((first.epoch, sends(&first)), (Epoch(3), vec![1, 4, 3]));
        assert_eq!((first.time, gathering.left()), (Time(2), Epoch(3)));
        let second = gathering.take(Epoch(9), 1 << 20).expect("another");
        assert_eq!((second.epoch, sends(&second)), (Epoch(9), vec![2, 5]));
        assert_eq!(gathering.leave_empty(Epoch(10)).epoch, Epoch(10));
        assert_eq!((gathering.take(Epoch(10), 1), gathering.left()), (None, Epoch(10)));
    }

    #[test]
    fn one_leaves_however_long_it_is_and_no_more_than_fit() {
        let mut gathering = gathering(&[&[(2, 1), (2, 2), (3, 3), (4, 4)]]);
        let first = gathering.take(Epoch(9), 10).expect("one at least");
        assert_eq!((first.epoch, sends(&first)), (Epoch(2), vec![1, 2]));
        let second = gathering.take(Epoch(9), 18).expect("two fit");
        assert_eq!((second.epoch, sends(&second)), (Epoch(9), vec![3, 4]));
    }

    #[test]
    #[should_panic = "whole-epochs-leave"]
    fn what_comes_late_is_not_passed_over() {
        let mut gathering = gathering(&[&[(2, 1)]]);
        gathering.take(Epoch(3), 1 << 20);
        gathering.add(&sealed(&batch(&[(2, 9)]), BOUNDS).expect("it was just sealed"));
    }

    #[test]
    #[should_panic = "whole-epochs-leave"]
    fn nothing_is_passed_over() {
        gathering(&[&[(2, 1)]]).leave_empty(Epoch(2));
    }
}
