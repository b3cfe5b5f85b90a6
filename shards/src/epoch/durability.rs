//! How far the logs of all shards have come: which epochs are durable, and which shards a close has
//! to name.
//!
//! An epoch is *durable* when everything that was committed in it and before is on disk, in
//! whichever log. A shard is *active* while it may commit something, or has committed something
//! that is not on disk: it has then *closed* the epochs up to one, in its log, on disk. A shard
//! that has nothing under way is *idle*, and has nothing to say. So an epoch is durable when it has
//! ended and every active shard has closed it.
//!
//! Invariant *active-before-epoch*: a shard that becomes active says so before it loads the epoch
//! it will run in. A shard that ends an epoch and then finds another idle knows therefore that the
//! other commits nothing in that epoch any more.
//!
//! After a crash nobody is idle or active, and the logs have to say for themselves which epochs are
//! complete. A batch that closes an epoch names the logs that its shard *awaits*: the active ones
//! that had not closed it. The epoch is complete when those have closed it too. Invariant
//! *named-before-idle*: a shard that was named closes what it was named for before it is idle. So
//! of the batches on disk that close an epoch which was ever durable, and in which something was
//! committed, or a later one, the one with the earliest is always complete: nobody was named in
//! vain. (An epoch in which everybody was idle is durable as well, and may be closed by nobody.)

use crate::epoch::{Epoch, Epochs};
use crate::fault::{self, Fault};
use crate::placement::{ShardIndex, ShardSet};
use crate::sync::{AtomicU64, Ordering, fence};

/// In a shard's word: it is active.
const ACTIVE: u64 = 1;
/// In a shard's word: it was named since it last closed an epoch.
const NAMED: u64 = 2;
const CLOSED: u32 = 2;

/// How far all logs of a runtime have come.
#[derive(Debug)]
pub struct Durability {
    words: Box<[ShardWords]>,
    durable: AtomicU64,
    /// Nothing later is durable, whatever the disks have: a replicated log has not acknowledged it.
    ceiling: AtomicU64,
}

/// Where no other log has to acknowledge anything.
const NO_CEILING: u64 = u64::MAX;

#[derive(Debug)]
#[repr(align(128))]
struct ShardWords {
    /// The epoch it has closed, on disk, [`NAMED`] and [`ACTIVE`].
    state: AtomicU64,
    /// The latest epoch it was named for.
    named_for: AtomicU64,
    /// The first epoch somebody on it waits for.
    wanted: AtomicU64,
    /// The epoch that it has closed in what it has handed over for a replicated log.
    handed: AtomicU64,
}

impl Durability {
    /// For `shards` shards, all of them idle, where everything up to `durable` is on disk.
    pub fn new(shards: usize, durable: Epoch) -> Self {
        let words = || ShardWords {
            state: AtomicU64::new(durable.0 << CLOSED),
            named_for: AtomicU64::new(0),
            wanted: AtomicU64::new(u64::MAX),
            handed: AtomicU64::new(durable.0),
        };
        Durability {
            words: (0..shards).map(|_| words()).collect(),
            durable: AtomicU64::new(durable.0),
            ceiling: AtomicU64::new(NO_CEILING),
        }
    }

    /// The same where nothing is durable before a replicated log has it, too: see
    /// [`Durability::acknowledge`].
    pub fn replicated(shards: usize, durable: Epoch) -> Self {
        Durability { ceiling: AtomicU64::new(durable.0), ..Durability::new(shards, durable) }
    }

    /// The shard may commit something from now on. It is to load the epoch afterwards.
    pub fn activate(&self, shard: ShardIndex) {
        self.words[shard.index()].state.fetch_or(ACTIVE, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The shard has closed this epoch, and what it has committed in it and before is on disk.
    pub fn close(&self, shard: ShardIndex, closed: Epoch) {
        let words = &self.words[shard.index()];
        // Who names it afterwards sees what it has closed; who had before has left word. (A swap
        // and not a store, so that this is seen.)
        words.state.swap(closed.0 << CLOSED | ACTIVE, Ordering::SeqCst);
        if words.named_for.load(Ordering::SeqCst) > closed.0 {
            words.state.fetch_or(NAMED, Ordering::SeqCst);
        }
    }

    /// The shard has nothing under way, and all it has committed is on disk. Says whether it is
    /// idle now; otherwise it was named, and is to close once more.
    pub fn go_idle(&self, shard: ShardIndex) -> bool {
        let state = &self.words[shard.index()].state;
        let was = state.load(Ordering::SeqCst);
        (was & NAMED == 0 || fault::is_on(Fault::IdleNamed))
            && state.compare_exchange(was, was & !ACTIVE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// The epoch the shard was named for, if it has not closed it.
    pub fn named_for(&self, shard: ShardIndex) -> Option<Epoch> {
        let words = &self.words[shard.index()];
        (words.state.load(Ordering::SeqCst) & NAMED != 0)
            .then(|| Epoch(words.named_for.load(Ordering::SeqCst)))
    }

    /// Names the shards that a close of `closed`, which has ended, has to await.
    pub fn name(&self, closing: ShardIndex, closed: Epoch) -> ShardSet {
        fence(Ordering::SeqCst);
        let mut awaits = ShardSet::default();
        for (place, words) in self.words.iter().enumerate().filter(|(place, _)| *place != closing.index()) {
            loop {
                let was = words.state.load(Ordering::SeqCst);
                if was & ACTIVE == 0 || was >> CLOSED >= closed.0 {
                    break;
                }
                words.named_for.fetch_max(closed.0, Ordering::SeqCst);
                let named = was | NAMED;
                if words.state.compare_exchange(was, named, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
                    awaits.insert(ShardIndex(place as u16));
                    break;
                }
            }
        }
        awaits
    }

    /// Whether all of these shards have closed `epoch`, on disk.
    pub(crate) fn have_closed(&self, shards: ShardSet, epoch: Epoch) -> bool {
        shards.iter().all(|shard| self.words[shard.index()].state.load(Ordering::SeqCst) >> CLOSED >= epoch.0)
    }

    /// Finds out how far everything is durable.
    pub fn advance(&self, epochs: &Epochs) -> Epoch {
        let mut durable = self.on_disk(epochs).0;
        if !fault::is_on(Fault::IgnoreStream) {
            durable = durable.min(self.ceiling.load(Ordering::SeqCst));
        }
        Epoch(self.durable.fetch_max(durable, Ordering::SeqCst).max(durable))
    }

    /// How far everything is on this runtime's own disks, whatever another log has acknowledged.
    pub fn on_disk(&self, epochs: &Epochs) -> Epoch {
        fence(Ordering::SeqCst);
        let ended = epochs.epoch().0 - 1;
        fence(Ordering::SeqCst);
        let closed = self.words.iter().map(|words| words.state.load(Ordering::SeqCst));
        let closed = closed.filter(|state| state & ACTIVE != 0).map(|state| state >> CLOSED);
        Epoch(closed.fold(ended, u64::min))
    }

    /// The shard has handed over all that it committed up to this epoch.
    pub fn hand(&self, shard: ShardIndex, closed: Epoch) {
        self.words[shard.index()].handed.store(closed.0, Ordering::SeqCst);
    }

    /// Up to which epoch the shard has handed over what it committed.
    pub fn handed_by(&self, shard: ShardIndex) -> Epoch {
        Epoch(self.words[shard.index()].handed.load(Ordering::SeqCst))
    }

    /// Finds out up to which epoch everything was handed over. What is handed over is to be looked
    /// at afterwards.
    ///
    /// It is as with [`Durability::on_disk`]: a shard that is idle has handed over all there is of
    /// what has ended, because it hands a batch over before it writes it.
    pub fn handed(&self, epochs: &Epochs) -> Epoch {
        fence(Ordering::SeqCst);
        let ended = epochs.epoch().0 - 1;
        fence(Ordering::SeqCst);
        let handed = self.words.iter().filter_map(|words| {
            let is_active = words.state.load(Ordering::SeqCst) & ACTIVE != 0;
            is_active.then(|| words.handed.load(Ordering::SeqCst))
        });
        Epoch(handed.fold(ended, u64::min))
    }

    /// A replicated log has acknowledged everything up to this epoch.
    pub fn acknowledge(&self, epoch: Epoch) {
        self.ceiling.fetch_max(epoch.0, Ordering::SeqCst);
    }

    /// How far everything was durable when somebody last found out.
    #[inline]
    pub fn durable(&self) -> Epoch {
        Epoch(self.durable.load(Ordering::Acquire))
    }

    /// Somebody on the shard waits for this epoch to be durable; nobody, if it is `None`. It is to
    /// call [`Durability::advance`] afterwards.
    pub fn want(&self, shard: ShardIndex, epoch: Option<Epoch>) {
        let wanted = epoch.map_or(u64::MAX, |epoch| epoch.0);
        self.words[shard.index()].wanted.store(wanted, Ordering::SeqCst);
    }

    /// Whether somebody waits for an epoch after `after`, up to `until`, and on the shard for none
    /// before.
    pub fn is_awaited(&self, after: Epoch, until: Epoch) -> bool {
        fence(Ordering::SeqCst);
        let awaited = after.next().0..=until.0;
        self.words.iter().any(|words| awaited.contains(&words.wanted.load(Ordering::SeqCst)))
    }

    /// The shards on which somebody waits for an epoch up to `durable`.
    pub fn waiting(&self, durable: Epoch) -> impl Iterator<Item = ShardIndex> {
        fence(Ordering::SeqCst);
        let words = self.words.iter().enumerate();
        let waits = move |(_, words): &(usize, &ShardWords)| words.wanted.load(Ordering::SeqCst) <= durable.0;
        words.filter(waits).map(|(place, _)| ShardIndex(place as u16))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::explore;

    const A: ShardIndex = ShardIndex(0);
    const B: ShardIndex = ShardIndex(1);

    #[test]
    fn an_epoch_is_durable_when_it_has_ended_and_every_active_shard_has_closed_it() {
        explore(|| {
            let (epochs, durability) = (Epochs::new(), Durability::new(2, Epoch(0)));
            assert_eq!(durability.advance(&epochs), Epoch(0));
            durability.activate(A);
            let first = epochs.epoch();
            epochs.advance(first);
            assert_eq!(durability.advance(&epochs), Epoch(0), "A has not closed it");
            durability.close(A, first);
            assert_eq!(durability.advance(&epochs), first, "B is idle");
            assert!(durability.go_idle(A));
        });
    }

    #[test]
    fn who_was_named_closes_before_it_is_idle() {
        explore(|| {
            let (epochs, durability) = (Epochs::new(), Durability::new(2, Epoch(0)));
            durability.activate(A);
            durability.activate(B);
            let first = epochs.epoch();
            epochs.advance(first);
            assert_eq!(durability.name(A, first).iter().collect::<Vec<_>>(), [B]);
            assert!(!durability.go_idle(B));
            assert_eq!(durability.named_for(B), Some(first));
            durability.close(B, first);
            assert_eq!(durability.named_for(B), None);
            assert!(durability.go_idle(B));
            assert_eq!(durability.name(A, first).iter().count(), 0, "one who is idle is not named");
        });
    }

    #[test]
    fn what_is_handed_over_may_leave_before_it_is_on_disk() {
        explore(|| {
            let (epochs, durability) = (Epochs::new(), Durability::replicated(2, Epoch(0)));
            durability.activate(A);
            let first = epochs.epoch();
            epochs.advance(first);
            assert_eq!(durability.handed(&epochs), Epoch(0), "A has committed in it, perhaps");
            durability.hand(A, first);
            assert_eq!(durability.handed(&epochs), first, "B is idle");
            assert_eq!((durability.handed_by(A), durability.handed_by(B)), (first, Epoch(0)));
            assert_eq!(durability.on_disk(&epochs), Epoch(0));
            durability.close(A, first);
            assert_eq!(durability.on_disk(&epochs), first);
            assert_eq!(durability.advance(&epochs), Epoch(0), "the other log has not got it");
            durability.acknowledge(first.next());
            assert_eq!(durability.advance(&epochs), first, "the disks have no more");
            durability.acknowledge(first);
            assert_eq!(durability.advance(&epochs), first, "what was acknowledged stays so");
        });
    }

    #[test]
    fn those_who_wait_are_found() {
        explore(|| {
            let durability = Durability::new(2, Epoch(0));
            durability.want(B, Some(Epoch(4)));
            assert_eq!(durability.waiting(Epoch(3)).count(), 0);
            assert_eq!(durability.waiting(Epoch(4)).collect::<Vec<_>>(), [B]);
            durability.want(B, None);
            assert_eq!(durability.waiting(Epoch(u64::MAX - 1)).count(), 0);
        });
    }
}
