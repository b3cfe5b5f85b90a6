//! Those who read in a simulated world: some open a snapshot and read all of it, and some look at
//! what is published. What they saw goes into the history, which the checker judges.

use std::ops::{Bound, ControlFlow};

use freehold_shard::*;

use super::checker::{Audit, Peek};
use super::lives::Lives;
use super::script::{Name, Value};
use super::world::{Begin, World};

/// Somebody who opened a snapshot and reads all of it: object by object what is published, and then
/// shard by shard what there is.
pub(super) struct Auditor {
    pub(super) audit: Audit,
    is_ready: bool,
    /// The shards that have closed the epochs before.
    closed: Vec<bool>,
    /// The shard that is walked now, and from where.
    at: (usize, u32),
    patience: u32,
}

impl World {
    /// Opens a snapshot, goes on with one, or closes one.
    pub(super) fn audit(&mut self, begin: Begin) {
        if begin == Begin::More && (self.audits.is_empty() || self.dice.chance(20)) {
            let epoch = self.mvcc.epochs().open(self.now());
            let patience = [0, 0, 1, 3, 20][self.dice.below(5)];
            let is_durable = self.lives.is_some() && self.dice.chance(50);
            let audit = Audit { epoch, began: self.steps, is_durable, ..Audit::default() };
            let closed = vec![false; self.shape.shards];
            self.audits.push(Auditor { audit, is_ready: false, closed, at: (0, 0), patience });
            return;
        }
        if self.audits.is_empty() {
            return;
        }
        let one = self.dice.below(self.audits.len());
        let auditor = &mut self.audits[one];
        let epoch = auditor.audit.epoch;
        if !auditor.is_ready {
            // A command, which wakes the shard.
            let told = self.dice.below(self.shape.shards);
            self.shards[told].enter();
            for (closed, shard) in auditor.closed.iter_mut().zip(&self.shards) {
                *closed |= shard.has_closed(epoch);
            }
            auditor.is_ready = auditor.closed.iter().all(|closed| *closed);
            let is_durable = auditor.audit.is_durable;
            self.write_and_release(told);
            if self.audits[one].is_ready && is_durable {
                // What is looked at now could still be undone by a crash.
                self.audits[one].is_ready = self.is_durable(Epoch(epoch.0 - 1));
            }
            return;
        }
        auditor.audit.ended = self.steps;
        // Some keep their snapshot open for a while, and some read it slowly.
        if auditor.patience > 0 && self.dice.chance(50) {
            auditor.patience -= 1;
            let id = self.dice.next() % self.shape.objects;
            match self.mvcc.at(&Name(id), epoch) {
                Ok(state) => auditor.audit.published.push((id, state.map(|state| *state))),
                Err(Expired) => auditor.audit.is_expired = true,
            }
        } else if self.dice.chance(20) {
            let collection = self.dice.next() % self.shape.objects;
            match self.range_at(epoch, collection) {
                Ok(found) => self.audits[one].audit.ranges.push((collection, found)),
                Err(Expired) => self.audits[one].audit.is_expired = true,
            }
        } else if auditor.at.0 < self.shape.shards {
            let (shard, from) = auditor.at;
            let (most, mut found) = (1 + self.dice.below(6), Vec::new());
            let breaks_off = self.dice.below(6);
            let next = self.shards[shard].walk_at(epoch, from, most, |id, ownership, value| {
                found.push((id.0, (ownership, *value)));
                match found.len() > breaks_off {
                    true => ControlFlow::Break(()),
                    false => ControlFlow::Continue(()),
                }
            });
            match next {
                Ok(next) => {
                    for (id, object) in found {
                        let before = auditor.audit.objects.insert(id, object);
                        assert!(before.is_none(), "a walk came by object {id} twice");
                        let alone = self.shards[shard].read_at(epoch, &Name(id)).expect("it is open");
                        assert_eq!(alone, Some((object.0, &object.1)), "object {id} read alone");
                    }
                    auditor.at = next.map_or((shard + 1, 0), |next| (shard, next));
                }
                Err(Expired) => auditor.audit.is_expired = true,
            }
        } else {
            auditor.audit.is_whole = true;
        }
        self.close(one);
    }

    /// Closes a snapshot that was read to its end, or has expired.
    fn close(&mut self, one: usize) {
        let auditor = &self.audits[one];
        let epoch = auditor.audit.epoch;
        if auditor.audit.is_expired || auditor.audit.is_whole {
            self.mvcc.epochs().close(epoch);
            // While an older one is open it could be read; afterwards not.
            if !self.mvcc.epochs().is_open(epoch) {
                assert_eq!(self.mvcc.at(&Name(0), epoch), Err(Expired), "closed is closed");
                let shard = self.dice.below(self.shape.shards);
                self.shards[shard].enter();
                assert_eq!(self.shards[shard].read_at(epoch, &Name(0)), Err(Expired), "closed is closed");
                self.write_and_release(shard);
            }
            let done = self.audits.swap_remove(one);
            self.history.audits.push(done.audit);
        }
    }

    /// The entries of a collection at a snapshot, a few at a time.
    fn range_at(&mut self, epoch: Epoch, collection: u64) -> Result<Vec<(u64, Value)>, Expired> {
        let home = self.router.home(&Name(collection));
        let (most, mut found, mut from) = (1 + self.dice.below(3), Vec::new(), Bound::Unbounded);
        loop {
            let shard = &self.shards[home.index()];
            let ids = (from, Bound::Unbounded);
            let next = shard.range_at(epoch, &Name(collection), ids, most, |id, value| {
                found.push((id.0, *value));
                ControlFlow::Continue(())
            })?;
            let Some(next) = next else { return Ok(found) };
            // An order that disagrees with its slots could go round for ever.
            let goes_on = !matches!(from, Bound::Excluded(before) if next <= before);
            assert!(goes_on, "a range goes on behind {next:?}, and was there before");
            from = Bound::Excluded(next);
        }
    }

    /// Reads a published object at its latest, as any thread may.
    pub(super) fn peek(&mut self) {
        let id = self.dice.next() % self.shape.objects;
        let durable = self.lives.as_ref().map(Lives::durable).filter(|_| self.dice.chance(50));
        let (value, epoch) = match durable {
            Some(durable) => (self.mvcc.latest_durable(&Name(id)), durable),
            None => (self.mvcc.latest(&Name(id)), self.mvcc.epochs().epoch()),
        };
        let (at, value) = (self.history.runs.len(), value.map(|value| *value));
        let is_durable = durable.is_some();
        self.history.peeks.push(Peek { id, value, at, epoch, step: self.steps, is_durable });
    }
}
