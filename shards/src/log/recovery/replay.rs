//! What a checkpoint's part or a log says, taken over record by record: changes of objects go to
//! their homes, and of pending sends it is found out which are owed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::over::Over;
use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::log::batch::LogBatch;
use crate::log::dated::DatedRecord;
use crate::log::record::{Record, SendId};
use crate::object::{Change, OwnerId, Stored};
use crate::placement::Router;
use crate::time::Time;

/// A message that is owed: who sent it, when it is due, and it in bytes.
pub type RecoveredSend = (OwnerId, Option<Time>, Box<[u8]>);

/// How many changes of a home are put into its table at once: so few that they stay in the cache.
const CHANGES_MAX: usize = 128;

/// What a checkpoint's part or a log says of pending sends, and, passing through, of objects.
pub struct Replay<A: Stored> {
    router: Router,
    /// By home, in the order they were read: what is not in its table yet.
    changes: Vec<Vec<Change<A>>>,
    share: Share,
    pub(super) owing: Owing,
}

/// Which part of a log one of its readers takes over: several read all of it, and each takes the
/// objects of other homes. The first takes the pending sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Which of the readers.
    pub reader: usize,
    /// How many there are.
    pub readers: usize,
}

impl Share {
    /// All of it.
    pub const WHOLE: Share = Share { reader: 0, readers: 1 };

    #[inline]
    fn has(self, home: usize) -> bool {
        self.readers == 1 || home % self.readers == self.reader
    }
}

/// A record that this actor cannot understand, and which of its batch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUnderstood {
    /// The record's place in its batch.
    pub record: usize,
    /// What it should have been.
    pub what: &'static str,
}

/// What is owed, without an actor: ids, states and messages are bytes.
#[derive(Debug, Default)]
pub struct Owing {
    pub(super) owed: BTreeMap<SendId, RecoveredSend>,
    /// Which messages are over, of all logs; or those that it has read of, if nobody has said.
    pub(super) over: Over,
    pub(super) known: Option<Arc<Over>>,
}

impl Owing {
    /// Nothing yet, where these messages are over, as the [surveys](super::Survey::take_over) of all
    /// logs have it.
    pub fn knowing(over: Arc<Over>) -> Self {
        Owing { known: Some(over), ..Owing::default() }
    }

    /// As [`Replay::apply`], of pending sends alone. Records of no version are left out.
    pub fn apply(&mut self, batch: &LogBatch<'_>, from: Epoch, cut: Epoch) {
        let dated = batch.dated().filter(|dated| counts(dated.epoch, from, cut));
        dated.filter_map(|dated| dated.record).for_each(|record| self.note(record));
    }

    /// Takes note of a record that counts, if it is of a pending send.
    pub(super) fn note(&mut self, record: Record<'_>) {
        match record {
            Record::Send { send_id, sender, due, message } => {
                if !self.is_known_over(send_id, due) {
                    self.owed.insert(send_id, (sender, due, message.into()));
                }
            }
            Record::Delivered { .. } | Record::Cancelled { .. } if self.known.is_some() => {}
            Record::Delivered { send_id } => self.over.note(send_id, None),
            Record::Cancelled { send_id, due } => self.over.note(send_id, Some(due)),
            Record::Epoch(_) | Record::Put { .. } | Record::Remove { .. } | Record::Cleared { .. } => {}
        }
    }

    /// Takes over what came later.
    pub(super) fn follow(&mut self, later: Owing) {
        self.owed.extend(later.owed);
        self.over.extend(later.over);
        self.known = self.known.take().or(later.known);
    }

    /// What is left of it.
    pub fn finish(mut self) -> BTreeMap<SendId, RecoveredSend> {
        let mut owed = std::mem::take(&mut self.owed);
        owed.retain(|send_id, (_, due, _)| !self.is_over(*send_id, *due));
        owed
    }

    /// Whether a message that is due then has run or is not to.
    pub(super) fn is_over(&self, send_id: SendId, due: Option<Time>) -> bool {
        self.over.has(send_id, due) || self.is_known_over(send_id, due)
    }

    pub(super) fn is_known_over(&self, send_id: SendId, due: Option<Time>) -> bool {
        self.known.as_ref().is_some_and(|over| over.has(send_id, due))
    }
}

/// Whether a record of this epoch counts: what is older than `from` is in the checkpoint, and what
/// is later than `cut` is nothing.
#[inline]
pub(super) fn counts(epoch: Epoch, from: Epoch, cut: Epoch) -> bool {
    is_new(epoch, from) && epoch <= cut
}

/// Whether a record of this epoch is not in the checkpoint.
#[inline]
pub(super) fn is_new(epoch: Epoch, from: Epoch) -> bool {
    epoch >= from || fault::is_on(Fault::ReplayOld)
}

impl<A: Stored<State: DeserializeOwned>> Replay<A> {
    /// Nothing yet, for the homes that `router` knows.
    pub fn new(router: Router) -> Self {
        Replay::of_share(router, Share::WHOLE)
    }

    /// Nothing yet of a share.
    pub fn of_share(router: Router, share: Share) -> Self {
        let changes = (0..router.shards()).map(|_| Vec::new()).collect();
        Replay { router, changes, share, owing: Owing::default() }
    }

    /// The same where these messages are over: nothing of them is kept.
    #[must_use]
    pub fn knowing(self, over: Arc<Over>) -> Self {
        Replay { owing: Owing::knowing(over), ..self }
    }

    /// Takes over what a batch says of the epochs from `from` on, up to `cut`. What is older is in
    /// the checkpoint, and must not be taken over again: of a message that was delivered long ago
    /// the logs may still have that it was told, and not that it was delivered.
    ///
    /// Changes of objects are given to `put` some at a time, with the number of their home, for it
    /// to drain into the [`Home`](crate::recovery::Home). The logs of one run have no object in
    /// common, so among them any order is right; those of a later run come when all of an earlier
    /// one were put.
    ///
    /// # Errors
    /// A record that this actor cannot understand.
    pub fn apply(
        &mut self,
        batch: &LogBatch<'_>,
        from: Epoch,
        cut: Epoch,
        mut put: impl FnMut(usize, &mut Vec<Change<A>>),
    ) -> Result<(), NotUnderstood> {
        for DatedRecord { at, epoch, record, .. } in batch.dated() {
            let not = |what| NotUnderstood { record: at, what };
            let record = record.ok_or(not("a record of this version"))?;
            if epoch > cut && fault::is_on(Fault::Truncate) {
                return Ok(());
            }
            if !counts(epoch, from, cut) {
                continue;
            }
            match record {
                Record::Epoch(_) => {}
                Record::Put { id, ownership, state } => {
                    let id = id.decode::<A::Id>().ok_or(not("an object's id"))?;
                    let home = self.router.home(&id).index();
                    if self.share.has(home) {
                        let state = state.decode::<A::State>().ok_or(not("an object's state"))?;
                        self.change(home, Change::Put(id, ownership, state), &mut put);
                    }
                }
                Record::Remove { id } => {
                    let id = id.decode::<A::Id>().ok_or(not("an object's id"))?;
                    let home = self.router.home(&id).index();
                    if self.share.has(home) {
                        self.change(home, Change::Remove(id), &mut put);
                    }
                }
                Record::Cleared { collection } => {
                    let id = collection.decode::<A::Id>().ok_or(not("a collection's id"))?;
                    // Its entries live with it.
                    let home = self.router.home(&id).index();
                    if self.share.has(home) {
                        self.change(home, Change::Clear(id), &mut put);
                    }
                }
                Record::Send { .. } | Record::Delivered { .. } | Record::Cancelled { .. } => {
                    if self.share.reader == 0 {
                        self.owing.note(record);
                    }
                }
            }
        }
        self.flush(&mut put);
        Ok(())
    }

    /// Gives all changes to `put` that it has not got.
    pub(super) fn flush(&mut self, put: &mut impl FnMut(usize, &mut Vec<Change<A>>)) {
        let changes = self.changes.iter_mut().enumerate().filter(|(_, changes)| !changes.is_empty());
        changes.for_each(|(home, changes)| put(home, changes));
    }

    #[inline]
    pub(super) fn change(
        &mut self,
        home: usize,
        change: Change<A>,
        put: &mut impl FnMut(usize, &mut Vec<Change<A>>),
    ) {
        let changes = &mut self.changes[home];
        changes.push(change);
        if changes.len() == CHANGES_MAX {
            put(home, changes);
        }
    }

    /// Takes over the pending sends that came later.
    pub fn follow(&mut self, later: Replay<A>) {
        self.owing.follow(later.owing);
    }

    /// The pending sends that are left.
    pub fn finish(self) -> BTreeMap<SendId, RecoveredSend> {
        self.owing.finish()
    }
}
