//! Disks that lose power: of what was not synced, a crash keeps whatever it likes.
//!
//! A write is durable when the disk says that it has written it; until then a crash leaves any of
//! its sectors, or none, and beside them what was there before: zeros, or what an earlier use of
//! the segment left behind. The manifest is another matter: it is renamed, and is there as it was
//! or as it is.

use std::collections::{BTreeMap, BTreeSet};

use freehold_shard::Write;
use freehold_shard::log::{BLOCK, BatchWriter, identity};
use freehold_shard::manifest::Manifest;

use super::world::Dice;
use crate::fault::{self, Fault};

const SECTOR: usize = 512;

/// Files by log and segment.
pub(super) type Files = BTreeMap<(u64, u64), Vec<u8>>;

/// The disks of all logs of a database.
#[derive(Default)]
pub(super) struct Disks {
    /// What is durable: by log and segment.
    pub(super) files: Files,
    /// What is durable.
    pub(super) manifest: Vec<u8>,
    /// By shard.
    in_flight: BTreeMap<usize, (u64, Write)>,
    /// What counts as written and is not, by [`Fault::NoSync`].
    unsynced: Vec<Span>,
    /// Segments that are not needed any more, to be used again.
    recycled: Vec<Vec<u8>>,
}

/// Bytes for a place in a file.
struct Span {
    file: (u64, u64),
    offset: usize,
    bytes: Vec<u8>,
}

impl Disks {
    /// A shard has its disk write a batch to `log`.
    pub(super) fn begin(
        &mut self,
        dice: &mut Dice,
        shard: usize,
        log: u64,
        segment_bytes: usize,
        write: Write,
    ) {
        let recycled = &mut self.recycled;
        let file = self.files.entry((log, write.segment)).or_insert_with(|| {
            assert_eq!(write.offset, 0, "a segment is filled from its beginning");
            let recycled = recycled.pop().filter(|_| dice.chance(70));
            recycled.unwrap_or_else(|| vec![0; segment_bytes])
        });
        let (offset, bytes) = (write.offset as usize, write.batch.sealed());
        assert!(
            offset.is_multiple_of(BLOCK) && bytes.len().is_multiple_of(BLOCK),
            "whole blocks are written"
        );
        assert!(offset + bytes.len() <= file.len(), "a segment does not grow");
        let before = self.in_flight.insert(shard, (log, write));
        assert!(before.is_none(), "one write at a time");
    }

    /// The shards whose disks write something.
    pub(super) fn writing(&self) -> Vec<usize> {
        self.in_flight.keys().copied().collect()
    }

    /// The disk has written what the shard gave it.
    pub(super) fn complete(&mut self, shard: usize) -> BatchWriter {
        let (log, write) = self.in_flight.remove(&shard).expect("it writes something");
        let (file, offset) = ((log, write.segment), write.offset as usize);
        let span = Span { file, offset, bytes: write.batch.sealed().to_vec() };
        if fault::is_on(Fault::NoSync) {
            self.unsynced.push(span);
        } else {
            self.put(&span);
        }
        write.batch
    }

    /// Some of what should have been synced gets to the disk.
    pub(super) fn sync_some(&mut self, dice: &mut Dice) {
        if !self.unsynced.is_empty() {
            let span = self.unsynced.swap_remove(dice.below(self.unsynced.len()));
            self.put(&span);
        }
    }

    /// The power fails.
    pub(super) fn crash(&mut self, dice: &mut Dice) {
        let spans = std::mem::take(&mut self.in_flight).into_values().map(|(log, write)| Span {
            file: (log, write.segment),
            offset: write.offset as usize,
            bytes: write.batch.sealed().to_vec(),
        });
        let unsynced = std::mem::take(&mut self.unsynced);
        for span in spans.chain(unsynced).collect::<Vec<_>>() {
            let unit = if dice.chance(50) { SECTOR } else { BLOCK };
            let kept = [0, 50, 90, 100][dice.below(4)];
            for (at, bytes) in span.bytes.chunks(unit).enumerate().map(|(at, bytes)| (at * unit, bytes)) {
                if dice.chance(kept) {
                    self.put(&Span { offset: span.offset + at, bytes: bytes.to_vec(), ..span });
                }
            }
        }
    }

    fn put(&mut self, Span { file, offset, bytes }: &Span) {
        if let Some(file) = self.files.get_mut(file) {
            file[*offset..offset + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// A backup is copied over the files, and everything that is newer stays beside it. Returns
    /// which files are newer than its manifest.
    pub(super) fn copy_over(&mut self, files: &Files, manifest: &Manifest) -> Vec<(u64, u64)> {
        self.files.extend(files.iter().map(|(name, bytes)| (*name, bytes.clone())));
        self.manifest = manifest.to_bytes();
        let bounds = manifest.bounds();
        let is_newer =
            |bytes: &Vec<u8>| identity(bytes, bounds).is_some_and(|first| manifest.is_older_than(first));
        // As a start does with spares.
        self.recycled.retain(|bytes| !is_newer(bytes));
        // A backup of a log that went on has written down where it ends.
        let is_behind = |(log, segment): (u64, u64)| {
            manifest.runs.iter().any(|run| {
                let place = run.logs.iter().position(|begin| begin.log == log && begin.segment <= segment);
                place.is_some_and(|place| run.segments(place).is_none_or(|(_, last)| segment > last))
            })
        };
        let newer = self.files.iter().filter(|(name, bytes)| is_newer(bytes) || is_behind(**name));
        newer.map(|(name, _)| *name).collect()
    }

    /// Deletes the files that are not needed. Those of logs whose numbers will never be given again
    /// may be used again.
    pub(super) fn keep(&mut self, is_needed: impl Fn(u64, u64) -> bool, next_log: u64, segment_bytes: usize) {
        let gone: BTreeSet<_> =
            self.files.keys().copied().filter(|(log, segment)| !is_needed(*log, *segment)).collect();
        for (log, segment) in gone {
            let file = self.files.remove(&(log, segment)).expect("it was just there");
            if log < next_log && file.len() == segment_bytes {
                self.recycled.push(file);
            }
        }
        self.recycled.truncate(8);
    }
}
