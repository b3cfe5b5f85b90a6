//! What is done to one record, what it answers, and what the answers and the records must agree on.

use std::ops::AddAssign;

use freehold_shard::Addressees;
use serde::{Deserialize, Serialize};

use super::record::{Key, Record};
use crate::workload::{Refused, Rows, Workload};

/// What is done to a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Touch {
    /// All of it is read.
    Read,
    /// One field is given its next value.
    Update { field: u8 },
    /// All of it is read, and then one field is given its next value.
    Modify { field: u8 },
}

/// A record and what is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub(super) key: Key,
    pub(super) touch: Touch,
}

/// What a transaction answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Of what was read.
    pub(super) checksum: u64,
    pub(super) updates: u32,
    pub(super) inserts: u32,
}

impl AddAssign for Answer {
    #[inline]
    fn add_assign(&mut self, other: Self) {
        self.checksum = self.checksum.wrapping_add(other.checksum);
        self.updates += other.updates;
        self.inserts += other.inserts;
    }
}

pub(super) const NO_RECORD: Refused<Key> = Refused::Broken("there is no such record");

/// Reads a record.
#[inline]
pub(super) fn read<W: Workload<Id = Key, Row = Record>>(
    rows: &mut impl Rows<W>,
    key: Key,
) -> Result<Answer, Refused<Key>> {
    let checksum = rows.get(key)?.ok_or(NO_RECORD)?.checksum();
    Ok(Answer { checksum, ..Answer::default() })
}

impl Operation {
    /// Names its record.
    #[inline]
    pub(super) fn address(&self, to: &mut Addressees<Key>) {
        match self.touch {
            Touch::Read => to.read(self.key),
            Touch::Update { .. } | Touch::Modify { .. } => to.write(self.key),
        }
    }

    /// Does it.
    #[inline]
    pub(super) fn run<W: Workload<Id = Key, Row = Record>>(
        &self,
        rows: &mut impl Rows<W>,
    ) -> Result<Answer, Refused<Key>> {
        let (mut answer, field) = match self.touch {
            Touch::Read => return read(rows, self.key),
            Touch::Update { field } => (Answer::default(), field),
            Touch::Modify { field } => (read(rows, self.key)?, field),
        };
        rows.get_mut(self.key)?.ok_or(NO_RECORD)?.update(self.key, field);
        answer.updates = 1;
        Ok(answer)
    }
}

/// Records and updates.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    /// That are there; of a client, that it inserted.
    records: u64,
    /// That the records count; of a client, that were acknowledged.
    updates: u64,
    /// Records that hold what nobody wrote.
    torn: u64,
    /// Of all that was read, so that no engine's compiler leaves the reading out.
    checksum: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.updates += other.updates;
        self.torn += other.torn;
        self.checksum = self.checksum.wrapping_add(other.checksum);
    }
}

impl Counts {
    /// Takes note of an answer.
    #[inline]
    pub(super) fn note(&mut self, answer: &Answer) {
        self.records += u64::from(answer.inserts);
        self.updates += u64::from(answer.updates);
        self.checksum = self.checksum.wrapping_add(answer.checksum);
    }

    /// Takes note of a record that is there in the end.
    pub(super) fn find(&mut self, key: Key, record: &Record) {
        self.records += 1;
        self.updates += record.updates();
        self.torn += u64::from(!record.is_whole(key));
    }

    /// Compares what was acknowledged, after so many records were loaded, with what was found.
    pub(super) fn compare(&self, loaded: u64, found: &Counts) -> Result<(), String> {
        let (records, updates) = (loaded + self.records, self.updates);
        if (found.records, found.updates, found.torn) == (records, updates, 0) {
            return Ok(());
        }
        let Counts { records: there, updates: counted, torn, .. } = found;
        Err(format!(
            "{there} of {records} records count {counted} updates, and should {updates}; {torn} of them are torn"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_torn_or_too_much_is_said() {
        let key = Key::loaded(100);
        let (mut acknowledged, mut found) = (Counts::default(), Counts::default());
        acknowledged.note(&Answer { checksum: 5, updates: 1, inserts: 0 });
        let mut record = Record::new(key);
        record.update(key, 3);
        found.find(key, &record);
        assert_eq!(acknowledged.compare(1, &found), Ok(()));
        assert!(acknowledged.compare(2, &found).is_err(), "a record is missing");
        let mut stale = Counts::default();
        stale.find(key, &Record::new(key));
        assert!(acknowledged.compare(1, &stale).is_err(), "an update is missing");
        let mut torn = Counts::default();
        torn.find(Key::loaded(101), &record);
        assert!(acknowledged.compare(1, &torn).is_err(), "it is another record");
        found.find(key, &record);
        assert!(acknowledged.compare(1, &found).is_err(), "a record is there twice");
    }
}
