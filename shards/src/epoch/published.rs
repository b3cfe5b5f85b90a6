//! What all shards share: the epochs, and the published versions of `Shared` and `Immutable`
//! objects, which any thread reads without a message.
//!
//! The partitions stay the truth; this is derived from them. A shard publishes at the lock point,
//! in four steps: it puts the new versions in as *pending*; it loads the state of the epochs and
//! commits in the epoch that is now; it makes them visible, all of them by one store; and it trims
//! what no snapshot needs. A reader of the latest version that meets a pending one waits for those
//! few steps. Invariant *pending-before-epoch*: so a reader that still sees the version before read
//! it before the epoch of the new one was taken. Without it, such a read could follow in time a
//! message of an epoch that is later than the one in which the new version, still to come, commits;
//! and a snapshot between the two would see the new version and not that message.
//!
//! A reader at a snapshot takes the newest version of an earlier epoch. When the snapshot is ready,
//! all of these are there, and none of them changes.

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use smallvec::SmallVec;

use crate::epoch::durability::Durability;
use crate::epoch::{Epoch, Epochs};
use crate::fault::{self, Fault};
use crate::object::Stored;
use crate::placement::ShardIndex;
use crate::sync::{AtomicU64, Ordering};

/// How often a reader looks whether a pending version has become visible before it lets others have
/// its CPU.
const LOOKS: u32 = 64;

/// Epochs and published versions, shared by all shards of a runtime and by its readers.
pub struct Mvcc<A: Stored> {
    epochs: Epochs,
    /// How far everything is durable, if there are logs.
    durability: Option<Arc<Durability>>,
    published: DashMap<A::Id, VersionChain<A>, ahash::RandomState>,
    /// By shard: its last publication that is visible.
    visible: Box<[Visible]>,
}

#[derive(Default)]
#[repr(align(128))]
struct Visible(AtomicU64);

/// A published object's versions, oldest first. Never empty.
struct VersionChain<A: Stored> {
    versions: SmallVec<[PublishedVersion<A>; 4]>,
    /// Some shard has noted to come back and trim it.
    is_noted: bool,
}

struct PublishedVersion<A: Stored> {
    epoch: Epoch,
    by: ShardIndex,
    /// The publisher's number of the publication it belongs to.
    publication: u64,
    /// `None`: from this epoch on the object is not published, because it does not exist or belongs
    /// to one owner.
    state: Option<Arc<A::State>>,
}

/// The shard that trims an object's versions.
#[derive(PartialEq, Eq)]
enum Trimmer {
    /// It has published one.
    Publisher,
    /// It had noted to come back.
    Noted,
}

impl<A: Stored> Mvcc<A> {
    /// Nothing published, in the first epoch, for a runtime of `shards` shards.
    pub fn new(shards: usize) -> Self {
        Mvcc::over(shards, Epochs::new(), None)
    }

    /// Nothing published, for a runtime of `shards` shards with logs, which have all up to an epoch
    /// on disk: it goes on in the next.
    pub fn logged(shards: usize, durability: Arc<Durability>) -> Self {
        Mvcc::over(shards, Epochs::starting_in(durability.durable().next()), Some(durability))
    }

    fn over(shards: usize, epochs: Epochs, durability: Option<Arc<Durability>>) -> Self {
        let visible = (0..shards).map(|_| Visible::default()).collect();
        Mvcc { epochs, durability, published: DashMap::default(), visible }
    }

    /// Whether a version that was overwritten in `until` is not needed for what is durable.
    pub(crate) fn is_past(&self, until: Epoch) -> bool {
        self.durability.as_ref().is_none_or(|durability| until <= durability.durable())
    }

    /// Publishes an object that a log has.
    pub(crate) fn restore(&self, id: A::Id, state: Arc<A::State>) {
        // By nobody, and visible: publications count from 1.
        self.put_pending(id, Epoch(0), (ShardIndex(0), 0), Some(state));
    }

    /// The latest state of the object `id` that is durable, if it was `Shared` or `Immutable` then;
    /// the latest of all without logs.
    pub fn latest_durable(&self, id: &A::Id) -> Option<Arc<A::State>> {
        let Some(durability) = &self.durability else { return self.latest(id) };
        let chain = self.published.get(id)?;
        // While the chain is locked nothing of it is trimmed.
        let durable = durability.durable();
        chain.versions.iter().rfind(|version| version.epoch <= durable)?.state.clone()
    }

    /// The epoch, and the snapshots that are open.
    #[inline]
    pub fn epochs(&self) -> &Epochs {
        &self.epochs
    }

    /// The latest state of the object `id`, if it is `Shared` or `Immutable`.
    pub fn latest(&self, id: &A::Id) -> Option<Arc<A::State>> {
        let mut looks = 0;
        loop {
            let chain = self.published.get(id)?;
            let newest = chain.versions.last().expect("a chain is never empty");
            if newest.publication <= self.visible[newest.by.index()].0.load(Ordering::Acquire) {
                return newest.state.clone();
            }
            drop(chain);
            looks += 1;
            if looks < LOOKS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
    }

    /// The state of the object `id` at the start of `snapshot`, which is ready, if it was `Shared`
    /// or `Immutable` then; `Err` if the snapshot may not be read any more.
    pub fn at(&self, id: &A::Id, snapshot: Epoch) -> Result<Option<Arc<A::State>>, Expired> {
        let state = self.published.get(id).and_then(|chain| {
            let version = chain.versions.iter().rfind(|version| version.epoch < snapshot);
            version.and_then(|version| version.state.clone())
        });
        // Afterwards, because what it needs may be trimmed meanwhile.
        if self.epochs.is_open(snapshot) { Ok(state) } else { Err(Expired) }
    }

    /// How many objects have published versions.
    pub fn len(&self) -> usize {
        self.published.len()
    }

    /// Whether nothing is published.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts a version in that nobody sees until [`Mvcc::show`]. The publisher holds the object.
    pub(crate) fn put_pending(
        &self,
        id: A::Id,
        epoch: Epoch,
        (by, publication): (ShardIndex, u64),
        state: Option<Arc<A::State>>,
    ) {
        let mut chain = self
            .published
            .entry(id)
            .or_insert_with(|| VersionChain { versions: SmallVec::new(), is_noted: false });
        chain.versions.push(PublishedVersion { epoch, by, publication, state });
    }

    /// Gives a pending version another epoch.
    pub(crate) fn move_pending(&self, id: &A::Id, epoch: Epoch) {
        if let Some(mut chain) = self.published.get_mut(id) {
            chain.versions.last_mut().expect("a chain is never empty").epoch = epoch;
        }
    }

    /// Makes a shard's publications up to this one visible.
    pub(crate) fn show(&self, (by, publication): (ShardIndex, u64)) {
        self.visible[by.index()].0.store(publication, Ordering::Release);
    }

    /// Drops the versions of `id` that no snapshot needs. If some are left that one needs, and
    /// nobody has noted to come back for them, returns the epoch that the watermark has to pass for
    /// them to go: the caller is to come back then, by [`Mvcc::trim_noted`].
    ///
    /// The state of the epochs is loaded here, when the chain is locked: so it is at least as new
    /// as every epoch in the chain, and says of every snapshot that may need one of them. (Trimmed
    /// with the state of the epochs of a turn that began earlier, a version of another shard's
    /// could be lost that a newer snapshot needs.)
    pub(crate) fn trim(&self, id: A::Id) -> Option<Epoch> {
        self.trim_for(id, Trimmer::Publisher)
    }

    /// The same for one who has come back.
    pub(crate) fn trim_noted(&self, id: A::Id) -> Option<Epoch> {
        self.trim_for(id, Trimmer::Noted)
    }

    fn trim_for(&self, id: A::Id, trimmer: Trimmer) -> Option<Epoch> {
        // Dropped when the chain is not locked any more: what a user's state does then is its own
        // affair.
        let mut dropped: SmallVec<[PublishedVersion<A>; 4]> = SmallVec::new();
        let Entry::Occupied(mut entry) = self.published.entry(id) else { return None };
        let epoch_state = self.epochs.state();
        let chain = entry.get_mut();
        chain.is_noted &= trimmer == Trimmer::Publisher;
        let newest = chain.versions.last().expect("a chain is never empty");
        let until = newest.epoch;
        if newest.publication > self.visible[newest.by.index()].0.load(Ordering::Acquire) {
            // Its epoch is not known yet. Who publishes it trims again when it is.
            return None;
        }
        let mut at = 0;
        while at + 1 < chain.versions.len() {
            let (from, until) = (chain.versions[at].epoch, chain.versions[at + 1].epoch);
            let is_needed = from < until
                && (from < epoch_state.newest_snapshot && until >= epoch_state.watermark
                    || !self.is_past(until));
            if is_needed && !fault::is_on(Fault::TrimPublished) {
                at += 1;
            } else {
                dropped.push(chain.versions.remove(at));
            }
        }
        if chain.versions.len() > 1 {
            let is_news = !std::mem::replace(&mut chain.is_noted, true);
            return is_news.then_some(until);
        }
        if chain.versions[0].state.is_none() {
            dropped.extend(entry.remove().versions);
        }
        None
    }
}

/// The snapshot is closed, or was revoked: it may not be read any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expired;
