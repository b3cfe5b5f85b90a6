//! Faults that only this crate's tests can switch on: each breaks one rule of the protocol, and the
//! simulator must notice. A fault that goes unnoticed means that the tests are too weak. In every
//! other build [`is_on`] is `false` and nothing is left of them.

#[cfg(test)]
use std::cell::Cell;

/// A broken rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A shard loads the state of the epochs at the end of a turn, so before the next dequeue.
    LoadBefore,
    /// A shard unlocks a transaction's objects when it passes the transaction on.
    EarlyRelease,
    /// Old states are not kept.
    NoKeep,
    /// Of several open snapshots only the oldest gets old states kept.
    KeepForOldest,
    /// A snapshot does not wait for transactions in doubt.
    CloseBlind,
    /// A participant applies in its own epoch.
    ApplyLocally,
    /// What is kept is dropped one snapshot too early.
    DropEarly,
    /// A removed object gives its slot back although a snapshot sees it.
    ForgetRemoved,
    /// A closed or revoked snapshot can be read all the same.
    ReadExpired,
    /// The fast path does not look at locks.
    IgnoreLocks,
    /// Who writes gets a lock that readers hold.
    LockTwice,
    /// A pair does not lock its object where it begins.
    PairUnlocked,
    /// A turn in stages does not ask whether objects are still as it saw them.
    TrustStage,
    /// A pair that comes back changes its object whoever needs what that was.
    ApplyBlind,
    /// A pair commits in the epoch that it was passed on in.
    CommitEarly,
    /// What a transaction is passed on in is in doubt under the epoch after that.
    DoubtLater,
    /// What a pair wrote of its guest is written back a second time, when the next pair comes back.
    #[cfg_attr(not(test), expect(dead_code, reason = "what writes late is there for tests alone"))]
    WriteBackTwice,
    /// A pair that began at its higher home waits at the lower and keeps its lock.
    WaitDownwards,
    /// What a transaction wrote of another shard's published objects is not published.
    PublishHomeOnly,
    /// Old versions of what is published are dropped although a snapshot sees them.
    TrimPublished,
    /// An object that is not shared any more, or removed, stays published.
    NeverUnpublish,
    /// A timer that is cancelled goes on waiting.
    KeepCancelled,
    /// A message that changes an entry of a collection keeps no before-image of it.
    ForgetEntry,
    /// What a message has not taken along of a collection counts as not there.
    MissNothing,
    /// The order of a collection does not follow an entry that comes or goes.
    DisagreeingOrder,
    /// An entry that comes has no place in the second order of its collection.
    LackPlace,
    /// An entry that goes leaves its place.
    LeavePlace,
    /// An entry that is changed stays at its place.
    UnmovedPlace,
    /// A place outlives the message that added it and failed.
    KeepPlace,
    /// A snapshot sees what was cleared before it.
    SeeCleared,
    /// What was cleared is freed although a snapshot or a checkpoint sees it.
    FreeEarly,
    /// Whoever watches an object does not hear that it was removed, or of what transactions do.
    MissChange,
    /// An answer does not wait until it is durable.
    AnswerEarly,
    /// A log closes an epoch although something of it is in doubt.
    CloseInDoubt,
    /// A log closes an epoch and names nobody it awaits.
    AwaitNobody,
    /// Recovery stops at the first record of a later epoch instead of skipping it.
    Truncate,
    /// Recovery takes what is not of a complete epoch as well.
    TakeAll,
    /// Recovery applies records that are older than the checkpoint.
    ReplayOld,
    /// A checkpoint does not wait until it knows of all pending sends that were delivered before.
    SkipMarks,
    /// A segment of a log is let go of too early.
    TrimEarly,
    /// A checkpoint is revoked with the snapshots that need too much.
    RevokeCheckpoint,
    /// A checkpoint's walk counts one slot more as passed than it has.
    PassEarly,
    /// What a snapshot needs no more is dropped although a checkpoint has yet to write it.
    DropUnpassed,
    /// A shard that was named is idle all the same.
    IdleNamed,
    /// What a transaction may have seen elsewhere is not waited for.
    ForgetSeen,
    /// Whose start wrote a batch is not looked at.
    IgnoreStarts,
    /// What a copied log says is complete counts, though another may have been copied before it was
    /// said.
    TrustCopies,
    /// A batch is not synced before it counts as written.
    #[cfg_attr(not(test), expect(dead_code, reason = "what syncs is the simulator's disk"))]
    NoSync,
    /// A log says nothing of a timer that was cancelled.
    CancelUnlogged,
    /// Whoever watches an object sees what is not on disk.
    ShowEarly,
    /// An action begins before the message that told it is on disk.
    ActionEarly,
    /// The outcome of an action runs, and the action is owed still.
    ActionUndelivered,
    /// An action that is owed does not outlive a crash.
    ForgetActions,
    /// A batch is not ended before a record would make it longer than readers take.
    LongBatch,
    /// A log says nothing of an entry that was removed from a collection.
    RemovalUnlogged,
    /// A log says nothing of a collection that was cleared.
    ClearUnlogged,
    /// Answers do not wait until a replicated log has acknowledged what they say.
    IgnoreStream,
    /// An answer that only read something does not wait for a later append.
    UnfencedReads,
    /// Who reads a chain does not look whether an entry continues it.
    TrustChain,
    /// A replicated log appends whatever its writer expects to be the last entry.
    #[cfg_attr(not(test), expect(dead_code, reason = "what appends is the simulator's log"))]
    AppendBlind,
    /// A takeover leaves room for entries that its former owner has on its way.
    NarrowTakeover,
    /// An owner that goes on after a crash leaves room for entries that it had on its way.
    NarrowResume,
    /// A replicated log is trimmed below a checkpoint before the entry that names it counts.
    TrimUnnamed,
    /// A damaged replicated log is founded anew from a log that lacks something.
    FoundBehind,
    /// Who founds a replicated log anew does so in the term that there was.
    FoundSameTerm,
    /// A log gets the epoch of a founding before the replicated log has acknowledged the founding.
    #[cfg_attr(not(test), expect(dead_code, reason = "what founds is the simulator's node"))]
    FoundEarly,
}

#[cfg(test)]
thread_local! {
    static ON: Cell<Option<Fault>> = const { Cell::new(None) };
    /// The fault is on only while the shard is on the pair's path.
    static IS_FOR_PAIRS: Cell<bool> = const { Cell::new(false) };
    static IS_ON_PAIRS_PATH: Cell<bool> = const { Cell::new(false) };
    static SKIPS_PIECES: Cell<bool> = const { Cell::new(false) };
}

/// Whether `fault` is switched on.
#[cfg(test)]
pub(crate) fn is_on(fault: Fault) -> bool {
    ON.get() == Some(fault) && (!IS_FOR_PAIRS.get() || IS_ON_PAIRS_PATH.get())
}

/// Whether `fault` is switched on: never.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn is_on(_: Fault) -> bool {
    false
}

/// Whether there is a fault in this thread.
#[cfg(test)]
pub(crate) fn is_any_on() -> bool {
    ON.get().is_some()
}

/// Switches a fault on, for this thread, or all off.
#[cfg(test)]
pub(crate) fn switch(fault: Option<Fault>) {
    ON.set(fault);
    IS_FOR_PAIRS.set(false);
}

/// Switches a fault on, for this thread, in what pairs alone do: see [`on_pairs_path`].
#[cfg(test)]
pub(crate) fn switch_for_pairs(fault: Fault) {
    ON.set(Some(fault));
    IS_FOR_PAIRS.set(true);
}

/// While this lives the shard is on the pair's path.
#[must_use]
pub(crate) struct PairsPath {
    #[cfg(test)]
    was_on: bool,
}

impl PairsPath {
    /// What follows is for all transactions.
    #[inline(always)]
    pub(crate) fn leave(self) {}
}

/// The shard does what only pairs do, until what this returns is dropped. So tests can break a rule
/// there alone, and show that it is found there.
#[cfg(test)]
pub(crate) fn on_pairs_path() -> PairsPath {
    PairsPath { was_on: IS_ON_PAIRS_PATH.replace(true) }
}

/// Nothing.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn on_pairs_path() -> PairsPath {
    PairsPath {}
}

#[cfg(test)]
impl Drop for PairsPath {
    fn drop(&mut self) {
        IS_ON_PAIRS_PATH.set(self.was_on);
    }
}

/// Whether pairs begin without what they may need of collections, as they do where an actor has
/// none. What they need is a hint, so a simulated world may go either way.
#[cfg(test)]
pub(crate) fn skips_pieces() -> bool {
    SKIPS_PIECES.get()
}

/// Whether pairs begin without what they may need of collections: never.
#[cfg(not(test))]
#[inline(always)]
pub(crate) const fn skips_pieces() -> bool {
    false
}

/// Has pairs of this thread begin without pieces, or with them.
#[cfg(test)]
pub(crate) fn skip_pieces(skips: bool) {
    SKIPS_PIECES.set(skips);
}

#[cfg(test)]
impl Fault {
    /// All of them.
    pub(crate) const ALL: [Fault; 66] = [
        Fault::LoadBefore,
        Fault::EarlyRelease,
        Fault::NoKeep,
        Fault::KeepForOldest,
        Fault::CloseBlind,
        Fault::ApplyLocally,
        Fault::DropEarly,
        Fault::ForgetRemoved,
        Fault::ReadExpired,
        Fault::IgnoreLocks,
        Fault::LockTwice,
        Fault::PairUnlocked,
        Fault::TrustStage,
        Fault::ApplyBlind,
        Fault::CommitEarly,
        Fault::DoubtLater,
        Fault::WriteBackTwice,
        Fault::WaitDownwards,
        Fault::PublishHomeOnly,
        Fault::TrimPublished,
        Fault::NeverUnpublish,
        Fault::KeepCancelled,
        Fault::ForgetEntry,
        Fault::MissNothing,
        Fault::DisagreeingOrder,
        Fault::LackPlace,
        Fault::LeavePlace,
        Fault::UnmovedPlace,
        Fault::KeepPlace,
        Fault::SeeCleared,
        Fault::FreeEarly,
        Fault::MissChange,
        Fault::AnswerEarly,
        Fault::CloseInDoubt,
        Fault::AwaitNobody,
        Fault::Truncate,
        Fault::TakeAll,
        Fault::ReplayOld,
        Fault::SkipMarks,
        Fault::TrimEarly,
        Fault::RevokeCheckpoint,
        Fault::PassEarly,
        Fault::DropUnpassed,
        Fault::IdleNamed,
        Fault::ForgetSeen,
        Fault::IgnoreStarts,
        Fault::TrustCopies,
        Fault::NoSync,
        Fault::CancelUnlogged,
        Fault::ShowEarly,
        Fault::ActionEarly,
        Fault::ActionUndelivered,
        Fault::ForgetActions,
        Fault::LongBatch,
        Fault::RemovalUnlogged,
        Fault::ClearUnlogged,
        Fault::IgnoreStream,
        Fault::UnfencedReads,
        Fault::TrustChain,
        Fault::AppendBlind,
        Fault::NarrowTakeover,
        Fault::NarrowResume,
        Fault::TrimUnnamed,
        Fault::FoundBehind,
        Fault::FoundSameTerm,
        Fault::FoundEarly,
    ];

    /// Those that are also to be found where pairs alone break them: see [`on_pairs_path`]. Of the
    /// others most are never broken there. `ApplyLocally` is, and does no harm: while no snapshot
    /// is open any stamp will do. A few take too many seeds to be looked for each time.
    pub(crate) const ON_PAIRS_PATH: [Fault; 21] = [
        Fault::EarlyRelease,
        Fault::NoKeep,
        Fault::KeepForOldest,
        Fault::DropEarly,
        Fault::ForgetRemoved,
        Fault::IgnoreLocks,
        Fault::LockTwice,
        Fault::PairUnlocked,
        Fault::ApplyBlind,
        Fault::CommitEarly,
        Fault::DoubtLater,
        Fault::WriteBackTwice,
        Fault::WaitDownwards,
        Fault::PublishHomeOnly,
        Fault::TrimPublished,
        Fault::NeverUnpublish,
        Fault::ForgetEntry,
        Fault::MissNothing,
        Fault::DisagreeingOrder,
        Fault::RemovalUnlogged,
        Fault::CancelUnlogged,
    ];

    /// Whether it matters only to those who have logs. These come last.
    pub(crate) fn is_of_logs(self) -> bool {
        self as u8 >= Fault::AnswerEarly as u8
    }

    /// Whether it matters only to those whose epochs leave for a replicated log. These come last of
    /// all.
    pub(crate) fn is_of_replicas(self) -> bool {
        self as u8 >= Fault::IgnoreStream as u8
    }
}
