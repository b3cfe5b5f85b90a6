//! Where the answers to single asks from outside are handed over: a fixed pool of slots, and the
//! future that waits on one.
//!
//! ```text
//! claim     Free ──────────────> Waiting          the caller, before it sends the message
//! answer                         Waiting ───────> Answered        the shard; it wakes the caller
//! pick up                                         Answered ─────> Free, next generation      the caller's future
//! drop      Waiting ──> Abandoned, and Answered ──> Free, next generation                    the caller, not waiting any longer
//! answer    Abandoned ──> Free, next generation   the shard; the outcome is dropped
//! ```
//!
//! Invariant *one-answer*: a slot is given back exactly once for each claim, by whichever side
//! comes last. An answer names the generation it is meant for, so that one that comes when the slot
//! was already answered (the runtime died) or claimed anew changes nothing. A slot's lock is taken
//! by the two sides of one ask only; neither runs an actor's code under it.
//!
//! A slot holds a reply, so a pool of all slots there may be would take their number times the
//! reply's size. The slot that came free last is claimed first, and slots are made in chunks when
//! there were never as many asks in flight before: nothing is allocated for an ask otherwise.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use freehold_shard::{Actor, AskError, Outcome};

use super::sync::AtomicU32;
use crate::fork::Birth;
use crate::stats::trace::{Looks, Traces};
use crate::stats::{AnswerPath, AskBegun, LATENCY_STRIDE};
use crate::transport::free_list::FreeList;
use crate::transport::waiting::{self, Patience};

/// The reply slots of a runtime.
pub(crate) struct Replies<A: Actor> {
    /// Chunk c holds [`CHUNK`] << c slots.
    chunks: Box<[Chunk<A>]>,
    free: FreeList,
    patience: Patience,
    /// Nobody answers in a child of this process, and a slot may be locked for ever there.
    birth: Birth,
    /// Asks whose time is looked into.
    pub(crate) traces: Traces,
}

/// Made when a slot in it is claimed for the first time.
type Chunk<A> = OnceLock<Box<[PooledSlot<A>]>>;

/// Slots of the first chunk. Each chunk is twice as large as the one before.
const CHUNK: u32 = 16;

/// Statistics look at so many slots at most.
const LOOKS_MAX: u32 = 4_096;

struct PooledSlot<A: Actor> {
    slot: Mutex<ReplySlot<A>>,
    /// The free list's.
    below: AtomicU32,
}

struct ReplySlot<A: Actor> {
    /// Which claim of the slot this is; in each state but `Free` the holder of the claim knows it.
    generation: u32,
    state: ReplyState<A>,
}

enum ReplyState<A: Actor> {
    Free,
    Waiting {
        waker: Option<Waker>,
        /// When the ask began, if its latency is sampled.
        begun: Option<AskBegun>,
    },
    Answered(Outcome<A>),
    Abandoned,
}

/// A slot that was claimed and is to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// What the shard has to do after it has answered.
pub(crate) struct Handover {
    /// To be woken.
    pub(crate) waker: Option<Waker>,
    /// When the ask began, if its latency is sampled.
    pub(crate) begun: Option<AskBegun>,
}

impl<A: Actor> Replies<A> {
    pub(crate) fn new(asks_in_flight_max: usize, patience: Patience, traces: Traces) -> Self {
        let slots = u32::try_from(asks_in_flight_max).expect("the configuration was checked");
        let (last, _) = chunk_of(slots - 1);
        let chunks = (0..=last).map(|_| OnceLock::new()).collect();
        Replies { chunks, free: FreeList::new(slots), patience, birth: Birth::now(), traces }
    }

    /// Where a slot is, which has been claimed at least once.
    #[inline]
    fn place(&self, slot: u32) -> &PooledSlot<A> {
        let (chunk, at) = chunk_of(slot);
        let places = self.chunks[chunk].get_or_init(|| {
            let place = || PooledSlot {
                slot: Mutex::new(ReplySlot { generation: 0, state: ReplyState::Free }),
                below: AtomicU32::new(0),
            };
            (0..CHUNK << chunk).map(|_| place()).collect()
        });
        &places[at]
    }

    /// Claims a slot for an ask that goes this way; `None` if as many asks as there may be are in
    /// flight.
    pub(crate) fn claim(&self, path: AnswerPath) -> Option<Claim> {
        let slot = self.free.take(|slot| &self.place(slot).below)?;
        let mut claimed = self.lock(slot);
        debug_assert!(
            matches!(claimed.state, ReplyState::Free),
            "one-answer: slot {slot} was free and is in use"
        );
        let generation = claimed.generation;
        // A fixed part of all claims without counting them: the multiplier is odd, so of 1,024
        // claims of a slot in a row one is sampled, and not the same of each slot.
        let is_sampled =
            u64::from(slot.wrapping_add(generation.wrapping_mul(613))).is_multiple_of(LATENCY_STRIDE);
        claimed.state = ReplyState::Waiting {
            waker: None,
            begun: is_sampled.then(|| self.sample(Claim { slot, generation }, path)),
        };
        Some(Claim { slot, generation })
    }

    /// An ask begins whose latency is taken.
    #[cold]
    fn sample(&self, Claim { slot, generation }: Claim, path: AnswerPath) -> AskBegun {
        let at = Instant::now();
        self.traces.sample(slot, generation, at);
        AskBegun { at, path }
    }

    /// Hands the outcome over, or drops it if nobody waits any longer.
    pub(crate) fn answer(&self, claim: Claim, outcome: Outcome<A>) -> Handover {
        let mut slot = self.lock(claim.slot);
        if slot.generation != claim.generation {
            return Handover { waker: None, begun: None };
        }
        match slot.state {
            ReplyState::Waiting { ref mut waker, begun } => {
                let waker = waker.take();
                slot.state = ReplyState::Answered(outcome);
                Handover { waker, begun }
            }
            ReplyState::Abandoned => {
                slot.free();
                drop(slot);
                self.give_back(claim.slot);
                Handover { waker: None, begun: None }
            }
            ReplyState::Answered(_) | ReplyState::Free => Handover { waker: None, begun: None },
        }
    }

    /// How many asks are in flight, or answered and not picked up. Of more slots than it looks at,
    /// an estimate.
    pub(crate) fn in_flight(&self) -> u64 {
        let used = self.free.ever_taken();
        let stride = used.div_ceil(LOOKS_MAX).max(1);
        let is_used = |slot: &u32| !matches!(self.lock(*slot).state, ReplyState::Free);
        (0..used).step_by(stride as usize).filter(is_used).count() as u64 * u64::from(stride)
    }

    /// Looks for asks that have waited for long. Of more slots than it looks at, it sees the first.
    pub(crate) fn look_for_slow(&self, looks: &mut Looks, now: Instant) {
        let slots = self.free.ever_taken().min(LOOKS_MAX);
        let waiting = |slot| {
            let slot = self.lock(slot);
            let waits = matches!(slot.state, ReplyState::Waiting { .. } | ReplyState::Abandoned);
            waits.then_some(slot.generation)
        };
        looks.look(&self.traces, slots, waiting, now);
    }

    /// Gives a claim back whose message could not be sent.
    pub(crate) fn unclaim(&self, claim: Claim) {
        if self.traces.is_following() {
            self.traces.forget(claim.slot, claim.generation);
        }
        let unused = self.lock(claim.slot).free();
        self.give_back(claim.slot);
        drop(unused);
    }

    /// Answers every ask that still waits: the runtime has died, or has stopped without answering
    /// it.
    pub(crate) fn answer_all(&self, outcome: impl Fn() -> Outcome<A>) -> usize {
        let mut answered = 0;
        for slot in 0..self.free.ever_taken() {
            let claim = {
                let locked = self.lock(slot);
                match locked.state {
                    ReplyState::Waiting { .. } | ReplyState::Abandoned => {
                        Claim { slot, generation: locked.generation }
                    }
                    ReplyState::Free | ReplyState::Answered(_) => continue,
                }
            };
            answered += 1;
            if let Some(waker) = self.answer(claim, outcome()).waker {
                waker.wake();
            }
        }
        answered
    }

    /// The caller's side: picks the outcome up, or leaves the waker.
    fn poll(&self, claim: Claim, waker: &Waker) -> Poll<Outcome<A>> {
        let mut slot = self.lock(claim.slot);
        debug_assert_eq!(slot.generation, claim.generation, "one-answer: the caller holds the claim");
        if let ReplyState::Waiting { waker: waiting, .. } = &mut slot.state {
            if !waiting.as_ref().is_some_and(|waiting| waiting.will_wake(waker)) {
                *waiting = Some(waker.clone());
            }
            return Poll::Pending;
        }
        let ReplyState::Answered(outcome) = slot.free() else {
            unreachable!("one-answer: a slot whose claim is held is neither free nor abandoned")
        };
        drop(slot);
        self.give_back(claim.slot);
        Poll::Ready(outcome)
    }

    /// The caller's side: it does not wait any longer.
    fn abandon(&self, claim: Claim) {
        let mut slot = self.lock(claim.slot);
        debug_assert_eq!(slot.generation, claim.generation, "one-answer: the caller holds the claim");
        if let ReplyState::Waiting { .. } = slot.state {
            let waiting = std::mem::replace(&mut slot.state, ReplyState::Abandoned);
            drop(slot);
            // Its waker is another executor's, and is dropped outside the lock.
            drop(waiting);
            return;
        }
        let unread = slot.free();
        drop(slot);
        self.give_back(claim.slot);
        // The reply's own `Drop` may do anything, so it comes last.
        drop(unread);
    }

    fn give_back(&self, slot: u32) {
        self.free.give_back(slot, &self.place(slot).below);
    }

    fn lock(&self, slot: u32) -> MutexGuard<'_, ReplySlot<A>> {
        self.place(slot).slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: Actor> ReplySlot<A> {
    /// Ends this claim.
    fn free(&mut self) -> ReplyState<A> {
        self.generation = self.generation.wrapping_add(1);
        std::mem::replace(&mut self.state, ReplyState::Free)
    }
}

/// The chunk that a slot is in, and its place there.
#[inline]
fn chunk_of(slot: u32) -> (usize, usize) {
    let number = slot / CHUNK + 1;
    let chunk = number.ilog2();
    (chunk as usize, (slot - CHUNK * ((1 << chunk) - 1)) as usize)
}

/// The answer to a message that [`Handle::ask`](crate::Handle::ask) has sent: a future, or a wait.
///
/// The message was sent when `ask` was called. Dropping this does not cancel it; its outcome is
/// then dropped.
#[must_use = "the message is sent, and its outcome comes by awaiting this or by `wait`; to send without an answer use `tell`"]
pub struct Ask<A: Actor> {
    state: AskState<A>,
}

enum AskState<A: Actor> {
    Sent {
        replies: Arc<Replies<A>>,
        claim: Claim,
    },
    /// Known when it was asked: it could not be sent.
    Known(Outcome<A>),
    Done,
}

impl<A: Actor> Ask<A> {
    pub(crate) fn sent(replies: Arc<Replies<A>>, claim: Claim) -> Self {
        Ask { state: AskState::Sent { replies, claim } }
    }

    pub(crate) fn known(outcome: Outcome<A>) -> Self {
        Ask { state: AskState::Known(outcome) }
    }

    /// How a thread that waits for it may wait.
    pub(crate) fn patience(&self) -> Patience {
        match &self.state {
            AskState::Sent { replies, .. } => replies.patience,
            AskState::Known(_) | AskState::Done => Patience::Park,
        }
    }

    /// Blocks the calling thread until the outcome is there.
    ///
    /// # Errors
    /// As the message's outcome. On a shard's thread [`AskError::WaitOnShard`] at once: waiting
    /// would block the core that may have to answer. The message was sent all the same.
    pub fn wait(self) -> Outcome<A> {
        let patience = match &self.state {
            AskState::Sent { replies, .. } if !waiting::on_shard_thread() => replies.patience,
            AskState::Sent { .. } => return Err(AskError::WaitOnShard),
            AskState::Known(_) | AskState::Done => Patience::Park,
        };
        let mut this = self;
        match std::mem::replace(&mut this.state, AskState::Done) {
            AskState::Known(outcome) => outcome,
            sent => {
                this.state = sent;
                waiting::block_on(this, patience)
            }
        }
    }
}

// The outcome is never pinned: it is moved out whole.
impl<A: Actor> Unpin for Ask<A> {}

impl<A: Actor> Future for Ask<A> {
    type Output = Outcome<A>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome<A>> {
        let outcome = match &self.state {
            AskState::Sent { replies, .. } if replies.birth.is_elsewhere() => {
                self.state = AskState::Done;
                return Poll::Ready(Err(AskError::Unknown));
            }
            AskState::Sent { .. } if waiting::in_receive() => {
                let sent = std::mem::replace(&mut self.state, AskState::Done);
                drop(Ask { state: sent });
                return Poll::Ready(Err(AskError::WaitOnShard));
            }
            AskState::Sent { replies, claim } if waiting::on_shard_thread() => {
                replies.poll(*claim, &waiting::keep_here(cx.waker()))
            }
            AskState::Sent { replies, claim } => replies.poll(*claim, cx.waker()),
            AskState::Known(_) => match std::mem::replace(&mut self.state, AskState::Done) {
                AskState::Known(outcome) => return Poll::Ready(outcome),
                _ => unreachable!("the state was looked at a line above"),
            },
            AskState::Done => panic!("an `Ask` was polled after it had given its outcome"),
        };
        if outcome.is_ready() {
            self.state = AskState::Done;
        }
        outcome
    }
}

impl<A: Actor> Drop for Ask<A> {
    fn drop(&mut self) {
        if let AskState::Sent { replies, claim } = &self.state
            && !replies.birth.is_elsewhere()
        {
            replies.abandon(*claim);
        }
    }
}

impl<A: Actor> fmt::Debug for Ask<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ask").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_actor::Accounts;

    fn replies(slots: usize) -> Arc<Replies<Accounts>> {
        Arc::new(Replies::new(slots, Patience::Park, Traces::for_tests()))
    }

    fn poll(ask: &mut Ask<Accounts>) -> Poll<Outcome<Accounts>> {
        Pin::new(ask).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn every_slot_has_a_place_of_its_own() {
        let mut expected = (0..6).flat_map(|chunk| (0..(CHUNK as usize) << chunk).map(move |at| (chunk, at)));
        for slot in 0..CHUNK * 63 {
            assert_eq!(Some(chunk_of(slot)), expected.next(), "{slot}");
        }
        assert_eq!(expected.next(), None);
        let (last, at) = chunk_of((1 << 24) - 1);
        assert!(last == 20 && at < (CHUNK as usize) << last, "{last} {at}");
    }

    /// Slots that came free first were claimed first, so all 65,536 were used in turn: with replies
    /// of 16 KiB they took 1 GiB.
    #[test]
    fn few_asks_in_flight_use_few_slots() {
        let replies = replies(1 << 16);
        for _ in 0..10_000 {
            let claims: Vec<_> =
                (0..20).map(|_| replies.claim(AnswerPath::Fast).expect("there is room")).collect();
            claims.into_iter().for_each(|claim| replies.unclaim(claim));
        }
        assert_eq!(replies.free.ever_taken(), 20);
        assert_eq!(replies.chunks.iter().filter(|chunk| chunk.get().is_some()).count(), 2);
    }

    #[test]
    fn as_many_are_sampled_as_is_said_however_few_slots_there_are() {
        let replies = replies(4);
        let mut sampled = 0;
        for _ in 0..4096 {
            let claims: Vec<_> =
                (0..4).map(|_| replies.claim(AnswerPath::Fast).expect("there is room")).collect();
            for claim in claims {
                let handover = replies.answer(claim, Ok(0));
                sampled += u64::from(handover.begun.is_some());
                replies.abandon(claim);
            }
        }
        assert_eq!(sampled, 4 * 4096 / LATENCY_STRIDE);
    }

    #[test]
    fn an_answer_is_picked_up_once_and_frees_the_slot() {
        let replies = replies(1);
        let claim = replies.claim(AnswerPath::Fast).unwrap();
        assert_eq!(replies.claim(AnswerPath::Fast), None, "as many as may be are in flight");
        let mut ask = Ask::sent(replies.clone(), claim);
        assert!(poll(&mut ask).is_pending());
        assert!(replies.answer(claim, Ok(7)).waker.is_some());
        assert_eq!(poll(&mut ask), Poll::Ready(Ok(7)));
        drop(ask);
        let next = replies.claim(AnswerPath::Fast).unwrap();
        assert_eq!((next.slot, next.generation), (claim.slot, claim.generation + 1));
    }

    #[test]
    fn an_answer_to_an_earlier_generation_changes_nothing() {
        let replies = replies(1);
        let first = replies.claim(AnswerPath::Fast).unwrap();
        replies.answer(first, Ok(1));
        drop(Ask::sent(replies.clone(), first));
        let second = replies.claim(AnswerPath::Fast).unwrap();
        let mut ask = Ask::sent(replies.clone(), second);
        assert!(replies.answer(first, Ok(1)).waker.is_none());
        assert!(poll(&mut ask).is_pending());
        replies.answer(second, Ok(2));
        replies.answer(second, Ok(3));
        assert_eq!(poll(&mut ask), Poll::Ready(Ok(2)), "the first answer stands");
    }

    #[test]
    fn a_slot_dropped_before_its_answer_is_freed_by_the_answer() {
        let replies = replies(1);
        let claim = replies.claim(AnswerPath::Fast).unwrap();
        drop(Ask::sent(replies.clone(), claim));
        assert_eq!(replies.claim(AnswerPath::Fast), None, "the message is still on its way");
        replies.answer(claim, Ok(7));
        assert!(replies.claim(AnswerPath::Fast).is_some());
    }

    #[test]
    fn a_message_that_could_not_be_sent_gives_its_slot_back() {
        let replies = replies(1);
        let claim = replies.claim(AnswerPath::Fast).unwrap();
        replies.unclaim(claim);
        assert!(replies.claim(AnswerPath::Fast).is_some());
    }

    #[test]
    fn at_the_end_everyone_is_answered() {
        let replies = replies(4);
        let [waits, answered, dropped] = std::array::from_fn(|_| replies.claim(AnswerPath::Fast).unwrap());
        let mut ask = Ask::sent(replies.clone(), waits);
        replies.answer(answered, Ok(7));
        drop(Ask::sent(replies.clone(), dropped));
        assert_eq!(replies.answer_all(|| Err(AskError::Unknown)), 2);
        assert_eq!(poll(&mut ask), Poll::Ready(Err(AskError::Unknown)));
        assert_eq!(Ask::sent(replies.clone(), answered).wait(), Ok(7));
        drop(ask);
        assert_eq!(std::iter::from_fn(|| replies.claim(AnswerPath::Fast)).count(), 4);
    }

    #[test]
    fn a_thread_waits_for_an_answer_of_another() {
        let replies = replies(8);
        for round in 0..1000 {
            let claim = replies.claim(AnswerPath::Fast).unwrap();
            let ask = Ask::sent(replies.clone(), claim);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    if let Some(waker) = replies.answer(claim, Ok(round)).waker {
                        waker.wake();
                    }
                });
                assert_eq!(ask.wait(), Ok(round));
            });
        }
    }

    #[test]
    fn one_claim_in_a_thousand_or_so_is_sampled() {
        let replies = replies(64);
        let sampled = (0..LATENCY_STRIDE * 64)
            .filter(|_| {
                let claim = replies.claim(AnswerPath::Fast).unwrap();
                let sampled = replies.answer(claim, Ok(0)).begun.is_some();
                drop(Ask::sent(replies.clone(), claim));
                sampled
            })
            .count();
        assert_eq!(sampled, 64);
    }
}
