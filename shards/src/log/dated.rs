//! The records of a batch, each with the epoch it was committed in.
//!
//! A record does not say its epoch. The last [`Record::Epoch`] before it in its batch does. A part
//! of a checkpoint has none: what it has is of epoch 0, before all others. Recovery, checks, copies
//! and what leaves for another log read batches by this rule.

use crate::epoch::Epoch;
use crate::log::batch::LogBatch;
use crate::log::record::Record;

/// A record of a batch.
#[derive(Clone, Copy, Debug)]
pub struct DatedRecord<'a> {
    /// Its place in its batch.
    pub at: usize,
    /// The epoch it was committed in. A [`Record::Epoch`] has the one that it names.
    pub epoch: Epoch,
    /// The record as it was written.
    pub bytes: &'a [u8],
    /// What it says; `None` if it is none that this version knows.
    pub record: Option<Record<'a>>,
}

impl<'a> LogBatch<'a> {
    /// Its [records](LogBatch::records) with their epochs, and those that name the epochs.
    #[inline]
    pub fn dated(&self) -> impl Iterator<Item = DatedRecord<'a>> + use<'a> {
        let mut epoch = Epoch(0);
        self.records().enumerate().map(move |(at, bytes)| {
            let record = Record::read(bytes);
            if let Some(Record::Epoch(of)) = record {
                epoch = of;
            }
            DatedRecord { at, epoch, bytes, record }
        })
    }
}
