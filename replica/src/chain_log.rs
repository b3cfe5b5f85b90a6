//! A database's chain of entries as a [`CommitLog`]: epoch by epoch, while no node owns it.
//!
//! What is sent, and what of it counts, `freehold_shard`'s `appends` decides, as for a node. Here
//! one step is done after the other, and an append returns when it counts.

use std::sync::Arc;

use freehold::{CommitLog, CommitLogError, Epoch, EpochBatch, EpochBatches, WrittenSchema};
use freehold_shard::log::appends::{Appended, Appends};
use freehold_shard::log::chain::{
    CHAINED_RECORD_MAX, Chain, ChainError, ChainPlace, Followed, NamedCheckpoint, read_entry,
};

use crate::appender::not_ours;
use crate::error::ReplicaError;

/// Where the entries of a chain are kept: messages with numbers from 1 on. The servers of a stream
/// are [`StreamEntries`](crate::StreamEntries).
pub trait Entries {
    /// The first message and the last. If there is none, the first is one behind the last.
    ///
    /// # Errors
    /// Why nobody knows.
    fn ends(&self) -> Result<(u64, u64), ReplicaError>;

    /// The messages from `from` on, up to `until`, which are there: one at least.
    ///
    /// # Errors
    /// [`ReplicaError::Missing`], or why they do not come.
    fn read(&self, from: u64, until: u64) -> Result<Vec<Vec<u8>>, ReplicaError>;

    /// Appends entries, all of them or none, if message `behind` is the last then.
    fn append(&self, entries: &[&[u8]], behind: u64) -> Appended;

    /// The checkpoint that was named last, and the message from which its reader goes on.
    ///
    /// # Errors
    /// Why nobody knows.
    fn named(&self) -> Result<Option<(NamedCheckpoint, u64)>, ReplicaError>;

    /// Lets go of the messages before message `below`, which are in this checkpoint.
    ///
    /// # Errors
    /// The checkpoint is not whole, or why it cannot be done.
    fn trim(&self, below: u64, named: &NamedCheckpoint) -> Result<(), ReplicaError>;

    /// How long an entry may be.
    fn entry_bytes_max(&self) -> usize;

    /// Waits a little, because something has failed so often in a row. Says whether it is to be
    /// tried again.
    fn pause(&self, times: u32) -> bool;
}

/// A chain of entries as a [`CommitLog`], while no node owns the database: to copy a database out
/// of its stream or into one, or to look at it.
///
/// Anybody may read. Who appends has to [`own`](ChainLog::own) the database, as a node does. A
/// takeover counts as an epoch of its own in which nothing was committed, so the tail is then that
/// epoch. Records of other types need another takeover.
#[derive(Debug)]
pub struct ChainLog<E> {
    entries: E,
    node: String,
    /// From where it can be read, and the message there.
    begins: (ChainPlace, u64),
    appends: Appends,
    /// The last epoch that counts.
    tail: Epoch,
    has_failed: bool,
}

impl<E: Entries> ChainLog<E> {
    /// Reads all there is, as somebody of this name, and changes nothing. Where the chain was
    /// trimmed it begins behind the checkpoint.
    ///
    /// # Errors
    /// [`ReplicaError::Chain`], [`ReplicaError::Missing`] or [`ReplicaError::Trimmed`]: it is
    /// damaged, or nobody can begin with it; or why it cannot be read.
    pub fn open(entries: E, node: &str) -> Result<Self, ReplicaError> {
        let (first, last) = entries.ends()?;
        let begins = begin(&entries, first, last)?;
        let (mut chain, mut sequence) = (Chain::at(begins.0.clone()), begins.1);
        while sequence <= last {
            for entry in entries.read(sequence, last)? {
                chain.follow(&entry).map_err(|error| ReplicaError::Chain { sequence, error })?;
                sequence += 1;
            }
        }
        let (node, tail) = (node.to_string(), chain.place().epoch);
        let appends = Appends::new(chain, sequence - 1);
        Ok(ChainLog { entries, node, begins, appends, tail, has_failed: false })
    }

    /// Owns the database from now on: founds it, takes it over from nobody, or goes on if it was
    /// its own. Records are of these types.
    ///
    /// # Errors
    /// [`ReplicaError::Owned`]: nothing was changed; [`ReplicaError::Fenced`] and others if another
    /// was quicker; or why it cannot be written.
    pub fn own(&mut self, schema: &WrittenSchema) -> Result<(), ReplicaError> {
        let ChainPlace { owner, term, epoch, schema: before, .. } = self.appends.chain().place().clone();
        match owner {
            Some(owner) if owner != self.node => return Err(ReplicaError::Owned { owner, term }),
            Some(_) if before.as_ref() == Some(schema) => return Ok(()),
            _ => {}
        }
        self.appends.take_over(&self.node, schema.clone(), epoch);
        self.settle()
    }

    /// Gives the database up, so that a node may take it over. Returns where the entries are kept.
    ///
    /// # Errors
    /// [`ReplicaError::Fenced`] and others: it is not its own any more; or why it cannot be
    /// written.
    pub fn resign(mut self) -> Result<E, ReplicaError> {
        if self.appends.chain().place().owner.as_ref() == Some(&self.node) {
            self.end_parts();
            self.appends.resign();
            self.settle()?;
        }
        Ok(self.entries)
    }

    /// Lets go of a batch that was begun by who had this name before, and has no end.
    fn end_parts(&mut self) {
        if self.appends.chain().is_inside() {
            self.appends.still();
        }
    }

    /// Sends what was put down, until all of it counts.
    fn settle(&mut self) -> Result<(), ReplicaError> {
        let before = std::mem::replace(&mut self.has_failed, true);
        let mut times = 0;
        loop {
            if self.appends.must_look() {
                match self.look() {
                    Err(error) if may_pass(&error) && self.entries.pause(times) => {
                        times += 1;
                        continue;
                    }
                    looked => looked?,
                }
            }
            let Some((entries, behind)) = self.appends.next_to_send() else { break };
            let appended = self.entries.append(&entries, behind);
            self.appends.came(appended);
            if appended == Appended::Done {
                times = 0;
            } else if self.entries.pause(times) {
                times += 1;
            } else {
                let why = "it was not acknowledged in time";
                return Err(ReplicaError::servers("appending to the stream", why));
            }
        }
        self.has_failed = before;
        self.tail = self.appends.chain().place().epoch;
        Ok(())
    }

    /// Finds out what of it is there.
    fn look(&mut self) -> Result<(), ReplicaError> {
        let (first, last) = self.entries.ends()?;
        self.appends.look(last).map_err(not_ours)?;
        while let Some(sequence) = self.appends.unread() {
            // Only another owner has let go of what this one had not read.
            let sequence = sequence.max(first);
            let there = self.entries.read(sequence, sequence)?;
            let there = there.first().ok_or(ReplicaError::Missing { sequence })?;
            self.appends.read(there).map_err(not_ours)?;
        }
        Ok(())
    }

    /// Whether a batch may be appended.
    fn check(&self, expected: Epoch, batch: &EpochBatch) -> Result<(), CommitLogError> {
        let place = self.appends.chain().place();
        if self.has_failed {
            return Err(CommitLogError::Failed);
        }
        let types = place.schema.as_ref();
        batch.check_place(expected, self.tail(), types.map(|types| types.version))?;
        let (owner, term) = (place.owner.clone().unwrap_or_else(|| "nobody".to_string()), place.term);
        if owner != self.node {
            return Err(other(ReplicaError::Owned { owner, term }));
        }
        if types != Some(&*batch.schema) {
            return Err(other(ReplicaError::OtherTypes { epoch: batch.epoch }));
        }
        batch.check_records(CHAINED_RECORD_MAX)
    }
}

impl<E: Entries> CommitLog for ChainLog<E> {
    fn tail(&self) -> Epoch {
        self.tail
    }

    fn append(&mut self, expected_tail: Epoch, batch: &EpochBatch) -> Result<(), CommitLogError> {
        self.check(expected_tail, batch)?;
        self.end_parts();
        self.appends.append(batch.epoch, batch.time, &batch.records, self.entries.entry_bytes_max());
        self.settle().map_err(other)
    }

    fn read(&self, from: Epoch) -> Result<EpochBatches<'_>, CommitLogError> {
        let (place, sequence) = self.begins.clone();
        let first = place.epoch.next();
        if place.next > 0 && from < first {
            return Err(CommitLogError::LetGo { first });
        }
        let (chain, entries, until) = (Chain::at(place), &self.entries, self.appends.last());
        Ok(Box::new(Reading { entries, chain, sequence, until, from, came: Vec::new().into_iter() }))
    }

    fn trim(&mut self, below: Epoch) -> Result<(), CommitLogError> {
        let named = self.entries.named().map_err(other)?;
        let first = named.as_ref().map_or(Epoch(1), |(named, _)| named.epoch.next());
        if below > first {
            return Err(CommitLogError::NotInACheckpoint { first });
        }
        if self.has_failed {
            return Err(CommitLogError::Failed);
        }
        if let Some((named, sequence)) = named
            && named.place.epoch < below
        {
            // The message before stays: a node that was there compares it with what it knows.
            self.entries.trim(sequence - 1, &named).map_err(other)?;
            self.begins = (named.place, sequence);
        }
        Ok(())
    }
}

/// Epochs as they are read.
struct Reading<'a, E> {
    entries: &'a E,
    chain: Chain,
    /// The message that comes next, and the last one.
    sequence: u64,
    until: u64,
    from: Epoch,
    /// What was read of them.
    came: std::vec::IntoIter<Vec<u8>>,
}

impl<E: Entries> Reading<'_, E> {
    /// The next epoch, if there is one.
    fn read(&mut self) -> Result<Option<EpochBatch>, ReplicaError> {
        while self.sequence <= self.until {
            let Some(entry) = self.came.next() else {
                self.came = self.entries.read(self.sequence, self.until)?.into_iter();
                continue;
            };
            let sequence = self.sequence;
            let followed = self.chain.follow(&entry);
            self.sequence += 1;
            let followed = followed.map_err(|error| ReplicaError::Chain { sequence, error })?;
            if let Followed::Epochs(gathered) = followed
                && gathered.epoch >= self.from
                && !gathered.records.is_empty()
            {
                let schema = self.chain.place().schema.clone().unwrap_or(WrittenSchema::UNSTATED);
                let (epoch, time, records) = (gathered.epoch, gathered.time, gathered.records);
                return Ok(Some(EpochBatch { epoch, time, schema: Arc::new(schema), records }));
            }
        }
        Ok(None)
    }
}

impl<E: Entries> Iterator for Reading<'_, E> {
    type Item = Result<EpochBatch, CommitLogError>;

    fn next(&mut self) -> Option<Self::Item> {
        let read = self.read();
        if read.is_err() {
            self.sequence = self.until + 1;
        }
        read.map_err(other).transpose()
    }
}

/// Where a reader begins: with the first entry, or with the checkpoint.
fn begin<E: Entries>(entries: &E, first: u64, last: u64) -> Result<(ChainPlace, u64), ReplicaError> {
    let trimmed = ReplicaError::Trimmed { first, needed: 1 };
    if first > last {
        if last > 0 {
            return Err(trimmed);
        }
        let number = getrandom::u64().map_err(|error| ReplicaError::servers("drawing a number", error))?;
        return Ok((ChainPlace::first(number), 1));
    }
    let entry = entries.read(first, first)?;
    let entry = entry.first().ok_or(ReplicaError::Missing { sequence: first })?;
    let (head, _) = read_entry(entry).map_err(|error| {
        let error = ChainError::Damaged { number: 0, error };
        ReplicaError::Chain { sequence: first, error }
    })?;
    if head.number == 0 {
        return Ok((ChainPlace::first(head.database), first));
    }
    match entries.named()? {
        Some((named, sequence)) if sequence >= first => Ok((named.place, sequence)),
        _ => Err(trimmed),
    }
}

fn may_pass(error: &ReplicaError) -> bool {
    error.is_passing() || matches!(error, ReplicaError::Lost { .. })
}

fn other(error: ReplicaError) -> CommitLogError {
    CommitLogError::Other(Box::new(error))
}
