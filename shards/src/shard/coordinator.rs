//! Drives transactions: begin, lock and pass on, run at the lock point, apply on the way back.
//!
//! ```text
//! origin ── LOCK ──> second participant ── LOCK ──> ... last: runs, answers, unlocks
//! origin <─ APPLY ── second participant <─ APPLY ── ...
//! ```
//!
//! Two shards: two messages. No votes and no aborts but the actor's own. Invariant
//! *locked-until-applied*: from the moment a participant copies an object into the transaction
//! until the transaction comes back, nobody writes that object at home; nobody reads it either if
//! the transaction may write it.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use arrayvec::ArrayVec;

use crate::actor::addressees::{ADDRESSEES_MAX, Others, Target};
use crate::actor::outcome::{AskError, ReturnAddress};
use crate::actor::run::CommitWork;
use crate::actor::{AccessError, Actor};
use crate::epoch::Epoch;
use crate::fault::{self, Fault};
use crate::object::{Access, OwnerId, Ownership};
use crate::placement::ShardIndex;
use crate::shard::engine::{CallSite, Engine, Prepared, Reason, RunOutcome, Start};
use crate::store::slot::{NO_SLOT, SlotIndex};
use crate::transaction::carried::Carried;
use crate::transaction::effects::Effects;
use crate::transaction::message::Envelope;
use crate::transaction::pieces::Piece;
use crate::transaction::{Transaction, TransactionEnd};

/// How much memory for records an unused transaction keeps.
const RECORDS_KEPT: usize = 4096;

/// The epoch under which a transaction that is passed on in `epoch` is in doubt: the same.
#[inline(always)]
pub(super) fn doubted_in(epoch: Epoch) -> Epoch {
    if fault::is_on(Fault::DoubtLater) { epoch.next() } else { epoch }
}

impl<A: Actor> Engine<A> {
    /// Begins a transaction for a message that cannot take the fast path, for [`Engine::reason`].
    /// `extra` is an object it touched without declaring it.
    #[cold]
    pub(crate) fn begin(
        &mut self,
        message: A::Message,
        sender: OwnerId,
        answer_to: ReturnAddress,
        extra: Option<(A::Id, Access)>,
        effects: &mut Effects<A>,
    ) {
        // Counted here and not where it was found: `ask_now` finds it too, and leaves it to its
        // caller.
        match self.reason {
            Reason::Spans => self.run.counters.spanning += 1,
            Reason::Locked => self.run.counters.blocked += 1,
            Reason::Shared => self.run.counters.shared += 1,
            Reason::Undeclared => self.run.counters.undeclared += 1,
        }
        let Prepared { mut transaction, start } = match self.prepared.take() {
            Some(prepared) => prepared,
            None => self.prepare_anew(&message, extra),
        };
        if Self::HAS_PIECES {
            self.begin_pieces(&message, &mut transaction);
        }
        transaction.address(message, sender, answer_to, self.run.shard);
        transaction.reruns = u32::from(extra.is_some());
        if transaction.objects.len() > ADDRESSEES_MAX {
            self.refuse_so_many(transaction, effects);
            return;
        }
        self.in_flight += 1;
        match start {
            Start::Here => self.begin_pair(transaction, effects),
            Start::Elsewhere => self.detour(transaction, effects),
            Start::Lowest => self.send(transaction, effects),
        }
    }

    /// A transaction without objects.
    fn take_spare(&mut self) -> Box<Transaction<A>> {
        let mut transaction = self.spare.pop().unwrap_or_else(Transaction::new);
        transaction.objects.clear();
        transaction
    }

    /// A transaction for a message whose objects were just found, with their homes, in their order.
    pub(crate) fn prepare(
        &mut self,
        first: Option<Target<A::Id>>,
        others: &Others<A::Id>,
        homes: &ArrayVec<ShardIndex, ADDRESSEES_MAX>,
    ) {
        let mut transaction = self.take_spare();
        let carried =
            |target: &Target<A::Id>, home| Carried::new(target.id, home, target.access, target.slot);
        match (first, others.as_slice(), homes.as_slice()) {
            // Nearly all.
            (Some(one), [other], &[a, b]) => {
                let (one, other) = (carried(&one, a), carried(other, b));
                transaction.objects.extend(if a <= b { [one, other] } else { [other, one] });
            }
            _ => {
                let targets = first.iter().chain(others).zip(homes);
                transaction.objects.extend(targets.map(|(target, home)| carried(target, *home)));
                transaction.objects.sort_by_key(|object| object.home);
            }
        }
        transaction.is_reverse = false;
        self.prepared = Some(Prepared { transaction, start: Start::Lowest });
    }

    /// The same for one that ran and touched `extra` without having declared it.
    fn prepare_anew(&mut self, message: &A::Message, extra: Option<(A::Id, Access)>) -> Prepared<A> {
        let mut transaction = self.take_spare();
        let named = self.run.scratch.get_mut();
        named.clear();
        A::addressees(message, named);
        for (id, access) in named.iter().chain(extra) {
            transaction.add(id, self.run.router.home(&id), access);
        }
        transaction.also_missing.clear();
        transaction.also_missing.append(self.run.missing.others.get_mut());
        transaction.add_also_missing(&self.run.router);
        transaction.is_reverse = false;
        Prepared { transaction, start: Start::Lowest }
    }

    /// Lets go of a transaction that was prepared for a message that nobody wants to begin.
    #[cold]
    pub(crate) fn unprepare(&mut self) {
        self.run.missing.others.get_mut().clear();
        if let Some(Prepared { transaction, .. }) = self.prepared.take() {
            self.keep_spare(transaction);
        }
    }

    /// Keeps a transaction for its memory.
    pub(super) fn keep_spare(&mut self, mut transaction: Box<Transaction<A>>) {
        transaction.message = None;
        match transaction.objects.two_mut() {
            Some((one, other)) => (one.state, other.state) = (None, None),
            None => transaction.objects.clear(),
        }
        if Self::HAS_PIECES {
            transaction.pieces.clear();
        }
        if self.journal.is_some() {
            transaction.records.clear();
            transaction.records.shrink_to(RECORDS_KEPT);
        }
        self.put_away(transaction);
    }

    /// The same for a transaction that keeps nothing else: no message, state, piece or record.
    #[inline]
    pub(super) fn put_away(&mut self, transaction: Box<Transaction<A>>) {
        // As many as may be under way: fewer, and a shard with its hands full would make and drop
        // transactions all the time.
        if self.spare.len() < self.run.limits.transactions_max {
            self.spare.push(transaction);
        }
    }

    /// To its first participant.
    pub(crate) fn send(&mut self, mut transaction: Box<Transaction<A>>, effects: &mut Effects<A>) {
        let first = transaction.objects[0].home;
        if first == self.run.shard {
            self.lock(transaction, effects);
        } else {
            // Until it comes back here they may have other slots.
            transaction.objects.iter_mut().for_each(|object| object.slot = NO_SLOT);
            effects.send(first, || Envelope::Lock(transaction));
        }
    }

    /// This shard's part of the way up: locks what is at home here, now or when it can.
    pub(crate) fn lock(&mut self, transaction: Box<Transaction<A>>, effects: &mut Effects<A>) {
        self.take_epoch_of(&transaction);
        let Some(mut transaction) = self.run_if_free_pair(transaction, effects) else { return };
        let at_home = transaction.at_home(self.run.shard);
        debug_assert!(!at_home.is_empty(), "routed-to-its-home: a transaction visits only its participants");
        debug_assert!(
            transaction.objects[..at_home.start].iter().all(|object| object.home < self.run.shard)
                && transaction.objects[at_home.end..].iter().all(|object| object.home > self.run.shard),
            "no-cycle: a transaction that may wait holds locks on lower shards only"
        );
        if transaction.is_reverse && at_home.start == 0 {
            self.turn_ahead(&mut transaction, effects);
        }
        for object in &mut transaction.objects[at_home.clone()] {
            if object.slot != NO_SLOT {
                continue;
            }
            let hash = self.run.partition.hash(&object.id);
            object.slot = self.run.partition.find(hash, &object.id).0;
            if object.slot == NO_SLOT {
                // Something to lock, so that nobody else inserts it meanwhile.
                object.slot = self.run.partition.insert(hash, object.id, object.ownership);
            }
        }
        match self.locks.lock(&mut self.run.partition, transaction, at_home.clone()) {
            Some(transaction) => self.pass_on(transaction, at_home, effects),
            None => self.locks.waits_since(self.run.now),
        }
        self.run_ready(effects);
    }

    /// The largest epoch among its participants is the one a transaction commits in. (Who loads the
    /// epoch after the dequeue is there already. It stands here so that one who did not would still
    /// commit in one epoch on every shard.)
    fn take_epoch_of(&mut self, transaction: &Transaction<A>) {
        debug_assert!(
            self.run.epoch_state.epoch >= transaction.epoch || fault::is_on(Fault::LoadBefore),
            "load-after-dequeue: {} here, and the transaction comes from {}",
            self.run.epoch_state.epoch,
            transaction.epoch
        );
        self.run.epoch_state.epoch = self.run.epoch_state.epoch.max(transaction.epoch);
        self.show_what_is_in(transaction);
    }

    /// What a transaction has seen elsewhere may be seen here from now on.
    fn show_what_is_in(&mut self, transaction: &Transaction<A>) {
        if let Some(journal) = &mut self.journal
            && !fault::is_on(Fault::ForgetSeen)
        {
            journal.show(transaction.seen);
        }
    }

    /// Goes on with transactions that have got the locks they waited for, if there are any.
    #[inline(always)]
    pub(super) fn run_ready(&mut self, effects: &mut Effects<A>) {
        if self.locks.has_ready() {
            self.run_all_ready(effects);
        }
    }

    fn run_all_ready(&mut self, effects: &mut Effects<A>) {
        while let Some(transaction) = self.locks.next_ready(self.run.now) {
            let at_home = transaction.at_home(self.run.shard);
            if let Some(transaction) = self.detour_if_hot(transaction, effects) {
                self.pass_on(transaction, at_home, effects);
            }
        }
    }

    /// Everything at home here is locked: on to the next participant, or run.
    fn pass_on(&mut self, transaction: Box<Transaction<A>>, at_home: Range<usize>, effects: &mut Effects<A>) {
        match transaction.after(&at_home) {
            Some(next) => self.pass_on_to(next, transaction, at_home, effects),
            None => self.run_at_lock_point(transaction, at_home, effects),
        }
    }

    /// Copies what is at home here into the transaction, and sends it on.
    pub(super) fn pass_on_to(
        &mut self,
        next: ShardIndex,
        mut transaction: Box<Transaction<A>>,
        at_home: Range<usize>,
        effects: &mut Effects<A>,
    ) {
        let epoch = self.run.epoch_state.epoch;
        let copied = catch_unwind(AssertUnwindSafe(|| {
            for object in &mut transaction.objects[at_home.clone()] {
                let slot = self.run.partition.slot(object.slot);
                object.passed_in = doubted_in(epoch);
                object.ownership = slot.ownership();
                object.state = slot.state.clone();
            }
            if Self::HAS_PIECES { self.fill_pieces(&mut transaction) } else { Ok(()) }
        }));
        let refused = match copied {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(self.refused(error)),
            Err(payload) => Some(self.panicked(transaction.objects[at_home.start].id, payload)),
        };
        if let Some(error) = refused {
            return self.conclude(transaction, &at_home, RunOutcome::Done(Err(error)), effects);
        }
        if fault::is_on(Fault::EarlyRelease) {
            transaction.objects[at_home]
                .iter()
                .for_each(|object| self.locks.unlock(&mut self.run.partition, object.slot, None));
        }
        self.passes_on(next, transaction, effects);
    }

    /// What is at home here is in the transaction, which goes on. It is in doubt until it comes
    /// back.
    #[inline(always)]
    pub(super) fn passes_on(
        &mut self,
        next: ShardIndex,
        mut transaction: Box<Transaction<A>>,
        effects: &mut Effects<A>,
    ) {
        let epoch = self.run.epoch_state.epoch;
        transaction.epoch = epoch;
        if let Some(journal) = &self.journal {
            transaction.seen = transaction.seen.max(journal.shown());
        }
        self.in_doubt.passed_on(doubted_in(epoch));
        effects.send(next, || Envelope::Lock(transaction));
    }

    /// A message that may not have what it needs.
    #[cold]
    fn refused(&mut self, error: AccessError<A::Id>) -> AskError<A::Error> {
        self.run.counters.aborted += 1;
        AskError::Aborted(error.into())
    }

    /// The last participant: everything is locked, and everything is here.
    fn run_at_lock_point(
        &mut self,
        mut transaction: Box<Transaction<A>>,
        at_home: Range<usize>,
        effects: &mut Effects<A>,
    ) {
        if let Some(journal) = &mut self.journal {
            journal.lent.clear();
        }
        // What is at home elsewhere is lent a slot, so that the message sees no difference.
        let mut targets = self.targets.take().unwrap_or_default();
        targets.clear();
        for object in &mut transaction.objects[..at_home.start] {
            let slot = self.lend(object);
            targets.push_found(Target::found(object.id, slot, object.access));
        }
        for object in &transaction.objects[at_home.clone()] {
            let is_marked = self.run.partition.slot(object.slot).is_marked();
            self.run.commit_work.add_if(is_marked, CommitWork::CHANGES);
            targets.push_found(Target::found(object.id, object.slot, object.access));
        }
        if Self::HAS_PIECES {
            self.lend_pieces(&mut transaction.pieces);
        }
        let message = transaction.message.as_ref().expect("a transaction under way has its message");
        let first = targets.first;
        let sender = transaction.sender;
        let ran = self.receive::<{ CallSite::LockPoint as u8 }>(
            message,
            sender,
            first,
            &mut targets.others,
            effects,
        );
        for (object, target) in transaction.objects[..at_home.start].iter_mut().zip(targets.targets()) {
            object.is_written = target.saved || std::mem::take(&mut self.run.first_saved);
            self.take_back(object, target.slot);
        }
        if Self::HAS_PIECES {
            self.take_back_pieces(&mut transaction.pieces);
        }
        if let Some(journal) = &mut self.journal {
            std::mem::swap(&mut journal.lent.bytes, &mut transaction.records);
        }
        self.targets = Some(targets);
        self.conclude(transaction, &at_home, ran, effects);
    }

    /// Lends an object that is at home elsewhere a slot, so that the message sees no difference.
    fn lend(&mut self, object: &mut Carried<A>) -> SlotIndex {
        self.run.commit_work.add_if(object.ownership == Ownership::Shared, CommitWork::CHANGES);
        let epoch = self.run.epoch_state.epoch;
        self.run.partition.lend_slot(object.id, epoch, object.ownership, object.state.take())
    }

    /// Takes it back into the transaction, as the message left it.
    fn take_back(&mut self, object: &mut Carried<A>, lent: SlotIndex) {
        (object.ownership, object.state) = self.run.partition.take_back(lent);
        if let Some(journal) = &self.journal {
            object.record = journal.lent.of(lent);
        }
    }

    /// What came of it is known, and every lock is held from here down: who waits is answered, what
    /// is at home here is unlocked, and the transaction goes back.
    pub(super) fn conclude(
        &mut self,
        mut transaction: Box<Transaction<A>>,
        at_home: &Range<usize>,
        ran: RunOutcome<A>,
        effects: &mut Effects<A>,
    ) {
        let back = transaction.before(at_home);
        self.end(&mut transaction, ran, back, effects);
        for object in &transaction.objects[at_home.clone()] {
            self.locks.unlock(&mut self.run.partition, object.slot, transaction.message.as_ref());
        }
        self.pass_back(transaction, at_home, effects);
    }

    /// What came of it is known: who waits is answered, if that is not for the origin to do. `back`
    /// is where the transaction goes next.
    #[inline(always)]
    pub(super) fn end(
        &mut self,
        transaction: &mut Transaction<A>,
        ran: RunOutcome<A>,
        back: Option<ShardIndex>,
        effects: &mut Effects<A>,
    ) {
        transaction.epoch = self.run.epoch_state.epoch;
        if let Some(journal) = &mut self.journal {
            // What it wrote that is at home elsewhere is recorded there; whoever hears of it hears
            // it from here.
            if matches!(ran, RunOutcome::Done(Ok(_)))
                && (transaction.objects.iter().any(|object| object.is_written)
                    || Self::HAS_PIECES && transaction.pieces.iter().any(Piece::is_written))
            {
                journal.show(transaction.epoch);
            }
            transaction.seen = journal.shown();
        }
        let end = match ran {
            RunOutcome::Done(outcome) => {
                let is_committed = outcome.is_ok();
                // Whoever waits hears it now: it took effect. A batch is in the origin's hands; and
                // a task there is answered by the transaction, if that goes there at once.
                let is_for_origin = transaction.origin != self.run.shard
                    && match transaction.answer_to {
                        ReturnAddress::Batch { .. } => true,
                        ReturnAddress::Shard { shard, .. } => {
                            shard == transaction.origin && back == Some(shard) && !self.holds()
                        }
                        _ => false,
                    };
                let kept = if is_for_origin {
                    Some(outcome)
                } else {
                    self.answer_for(transaction, outcome, effects);
                    None
                };
                if is_committed { TransactionEnd::Committed(kept) } else { TransactionEnd::Aborted(kept) }
            }
            RunOutcome::Missing(id, access) => self.again(transaction, id, access),
        };
        transaction.end = Some(end);
    }

    /// It is to begin anew with all that it missed.
    #[cold]
    fn again(&mut self, transaction: &mut Transaction<A>, id: A::Id, access: Access) -> TransactionEnd<A> {
        transaction.also_missing.clear();
        transaction.also_missing.append(self.run.missing.others.get_mut());
        if Self::HAS_PIECES {
            self.add_missing_pieces(transaction);
        }
        TransactionEnd::Again(id, access)
    }

    /// This shard's part of the way back: takes over what was written, and unlocks.
    pub(crate) fn apply(&mut self, transaction: Box<Transaction<A>>, effects: &mut Effects<A>) {
        self.take_epoch_of(&transaction);
        let Some(mut transaction) = self.apply_pair(transaction, effects) else { return };
        let at_home = transaction.at_home(self.run.shard);
        let is_committed = matches!(transaction.end, Some(TransactionEnd::Committed(_)));
        self.in_doubt.came_back(transaction.objects[at_home.start].passed_in);
        if Self::HAS_PIECES && is_committed {
            let is_local = fault::is_on(Fault::ApplyLocally);
            let epoch = if is_local { self.run.epoch_state.epoch } else { transaction.epoch };
            self.apply_pieces(&mut transaction, epoch);
        }
        for object in &mut transaction.objects[at_home.clone()] {
            let slot = self.run.partition.slot_mut(object.slot);
            debug_assert!(
                slot.id == object.id && slot.is_held() || fault::is_on(Fault::EarlyRelease),
                "locked-until-applied: {:?}",
                object.id
            );
            if is_committed && object.is_written {
                let ownership = slot.ownership();
                slot.set_ownership(object.ownership);
                let state = std::mem::replace(&mut slot.state, object.state.take());
                let is_local = fault::is_on(Fault::ApplyLocally);
                let epoch = if is_local { self.run.epoch_state.epoch } else { transaction.epoch };
                if let Some(journal) = &mut self.journal
                    && (slot.state.is_some() || state.is_some())
                {
                    let record = object.record.start as usize..object.record.end as usize;
                    assert!(
                        !record.is_empty() || fault::is_on(Fault::EarlyRelease),
                        "recorded-at-the-lock-point: {:?} was written",
                        object.id
                    );
                    journal.record_applied(&transaction.records[record], epoch);
                }
                if slot.is_watched() {
                    self.watches.note(object.slot);
                }
                self.stamp(object.slot, epoch, ownership, state);
            }
            if !fault::is_on(Fault::EarlyRelease) {
                self.locks.unlock(&mut self.run.partition, object.slot, transaction.message.as_ref());
            }
        }
        if self.versions.len() > 0 {
            self.drop_versions(2 * transaction.objects.len());
        }
        self.pass_back(transaction, &at_home, effects);
        self.run_ready(effects);
    }

    /// To the participant before, or, from the first, to where it began.
    fn pass_back(
        &mut self,
        transaction: Box<Transaction<A>>,
        at_home: &Range<usize>,
        effects: &mut Effects<A>,
    ) {
        match transaction.before(at_home) {
            Some(before) => effects.send(before, || Envelope::Apply(transaction)),
            None if transaction.origin == self.run.shard => self.finish(transaction, effects),
            None => effects.send(transaction.origin, || Envelope::Finish(transaction)),
        }
    }

    /// Answers a message that needs more objects than one may have. Nothing is locked for it.
    #[cold]
    fn refuse_so_many(&mut self, transaction: Box<Transaction<A>>, effects: &mut Effects<A>) {
        self.run.counters.aborted += 1;
        let error = AccessError::TooManyObjects { max: ADDRESSEES_MAX };
        self.answer_for(&transaction, Err(AskError::Aborted(error.into())), effects);
        self.keep_spare(transaction);
    }

    /// Adds what a run missed. If those are too many with what earlier runs missed, only with what
    /// the message declares: objects may have changed in between, and it may need others now. Says
    /// whether that is no more than a message may have.
    #[cold]
    fn add_missing(&mut self, transaction: &mut Transaction<A>, id: A::Id, access: Access) -> bool {
        let router = self.run.router;
        transaction.add(id, router.home(&id), access);
        if !transaction.has_room() {
            transaction.objects.clear();
            let named = self.run.scratch.get_mut();
            named.clear();
            let message = transaction.message.as_ref().expect("a transaction under way has its message");
            A::addressees(message, named);
            for (id, access) in named.iter().chain([(id, access)]) {
                transaction.add(id, router.home(&id), access);
            }
        }
        let has_room = transaction.has_room();
        transaction.add_also_missing(&router);
        has_room
    }

    /// At the origin again, with nothing locked anywhere.
    pub(crate) fn finish(&mut self, mut transaction: Box<Transaction<A>>, effects: &mut Effects<A>) {
        self.show_what_is_in(&transaction);
        match transaction.end.take() {
            Some(TransactionEnd::Again(id, access)) if transaction.reruns < self.run.limits.reruns_max => {
                if self.add_missing(&mut transaction, id, access) {
                    transaction.reruns += 1;
                    transaction.is_reverse = false;
                    transaction.objects.iter_mut().for_each(|object| object.slot = NO_SLOT);
                    self.run.counters.reruns += 1;
                    // In a turn of its own, so that no stack grows with the reruns.
                    self.push_own(Envelope::Restart(transaction));
                    return;
                }
                self.in_flight -= 1;
                self.refuse_so_many(transaction, effects);
                return;
            }
            Some(TransactionEnd::Again(..)) => {
                self.run.counters.unstable += 1;
                self.answer_for(&transaction, Err(AskError::AddresseesUnstable), effects);
            }
            Some(TransactionEnd::Committed(kept) | TransactionEnd::Aborted(kept)) => {
                if let Some(outcome) = kept {
                    self.answer_for(&transaction, outcome, effects);
                }
            }
            None => {
                debug_assert!(false, "locked-until-applied: a transaction comes back only when it has run")
            }
        }
        self.in_flight -= 1;
        self.keep_spare(transaction);
    }
}
