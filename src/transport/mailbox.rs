//! Where a shard's messages from outside wait: the ingress, what else it is asked to look at, and
//! the doorbell that wakes it. What comes from other shards waits in [lanes](super::lanes).
//!
//! - The *ingress* is a bounded queue that any thread may put single messages and batches into.
//! - *Signals* are bits that ask a shard to look at something other than messages. It reads them
//!   with one load of a line of its own.
//! - The *doorbell* is an eventfd, rung by whoever finds the shard parked; `parking` says who that
//!   is.
//!
//! Whoever puts something anywhere in here calls [`Mailbox::notify`] afterwards, or [`publish`]
//! once and [`Mailbox::wake_if_parked`] for each mailbox.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;

use crossbeam_queue::ArrayQueue;
use crossbeam_utils::CachePadded;
use freehold_shard::{Actor, AskError, Batch, Envelope, Outcome, ReturnAddress};
use rustix::event::{EventfdFlags, eventfd};

use super::batch_reply::BatchReply;
use super::parking::{Duty, Parking, Room, publish};
use super::replies::{Claim, Replies};

/// What waits in front of a shard.
pub(crate) enum Ingress<A: Actor> {
    /// With what [`thread_number`](crate::transport::waiting::thread_number) says of the thread
    /// that told it; of no use for an ask, which has an address.
    One(Envelope<A>, u32),
    Batch(Batch<A>, BatchReply<A>),
}

/// A shard is asked to look at its commands.
pub(crate) const COMMANDS: u32 = 1;
/// A shard is asked to wake its tasks that wait for other threads.
pub(crate) const WAKE_TASKS: u32 = 2;
/// A shard is asked to look at the runtime's phase.
pub(crate) const PHASE: u32 = 4;

/// A shard is asked to look at the epochs: a snapshot was closed.
pub(crate) const EPOCHS: u32 = 8;
/// A shard is told that more of what was committed is durable, and somebody on it waits for that.
pub(crate) const DURABLE: u32 = 16;

/// What of a shard others can reach. What `C` asks of it is the shard's affair.
pub(crate) struct Mailbox<A: Actor, C> {
    parking: CachePadded<Parking>,
    signals: CachePadded<AtomicU32>,
    room: CachePadded<Room<Waker>>,
    ingress: ArrayQueue<Ingress<A>>,
    commands: Mutex<Vec<C>>,
    /// Permits that are held: of commands, and of jobs that the shard has not let go of.
    jobs: Arc<AtomicUsize>,
    /// Held while the ingress of a shard that has left is swept. In it are tells that were put in
    /// after that, found by a thread other than the one that told them, which comes for them.
    unclaimed_tells: Mutex<Vec<(u32, A::Message)>>,
    doorbell: OwnedFd,
    rings: AtomicU64,
    overloaded: AtomicU64,
}

impl<A: Actor, C> Mailbox<A, C> {
    /// An empty mailbox.
    ///
    /// # Errors
    /// The system's, if it has no room for another eventfd.
    pub(crate) fn new(ingress_entries_max: usize) -> io::Result<Self> {
        Ok(Mailbox {
            parking: CachePadded::new(Parking::new()),
            signals: CachePadded::new(AtomicU32::new(0)),
            room: CachePadded::new(Room::new()),
            ingress: ArrayQueue::new(ingress_entries_max),
            commands: Mutex::new(Vec::new()),
            jobs: Arc::default(),
            unclaimed_tells: Mutex::new(Vec::new()),
            doorbell: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            rings: AtomicU64::new(0),
            overloaded: AtomicU64::new(0),
        })
    }

    /// Puts an entry into the ingress, or gives it back if that is full.
    #[inline]
    pub(crate) fn put(&self, entry: Ingress<A>) -> Result<(), Ingress<A>> {
        self.ingress.push(entry)
    }

    /// Counts a message refused because the ingress was full.
    #[cold]
    pub(crate) fn count_overloaded(&self) {
        self.overloaded.fetch_add(1, Ordering::Relaxed);
    }

    /// Has `waker` woken when there is room in the ingress, in place of what waits by this number.
    /// The caller must try once more after this.
    pub(crate) fn wait_for_room(&self, number: u64, waker: &Waker) {
        self.room.wait(number, waker.clone());
    }

    /// How many wait for room.
    #[cfg(test)]
    pub(crate) fn waiting_for_room(&self) -> usize {
        self.room.len()
    }

    /// Whoever waits by this number does so no longer.
    pub(crate) fn leave_room(&self, number: u64) {
        self.room.leave(number);
    }

    /// How many permits are held.
    pub(crate) fn jobs(&self) -> &Arc<AtomicUsize> {
        &self.jobs
    }

    /// Puts a command in. A user's holds a permit.
    pub(crate) fn command(&self, command: C, replies: &Replies<A>) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.signal(COMMANDS, replies);
    }

    /// Asks the shard to look at something.
    pub(crate) fn signal(&self, signal: u32, replies: &Replies<A>) {
        self.signals.fetch_or(signal, Ordering::Release);
        self.notify(replies);
    }

    /// After something was put in: sees to it that the shard, or the caller in its place, looks at
    /// it.
    #[inline]
    pub(crate) fn notify(&self, replies: &Replies<A>) {
        publish();
        self.wake_if_parked(replies);
    }

    /// The second half of [`Mailbox::notify`], after [`publish`].
    #[inline]
    pub(crate) fn wake_if_parked(&self, replies: &Replies<A>) {
        match self.parking.duty() {
            Duty::Nothing => {}
            Duty::Ring => self.ring_doorbell(),
            Duty::Sweep => drop(self.sweep(0, replies)),
        }
    }

    /// [`Mailbox::notify`] after a tell by the thread of this number. Returns the message if the
    /// shard had left before it was put in.
    #[inline]
    pub(crate) fn notify_after_tell(&self, thread: u32, replies: &Replies<A>) -> Option<A::Message> {
        publish();
        match self.parking.duty() {
            Duty::Nothing => None,
            Duty::Ring => {
                self.ring_doorbell();
                None
            }
            Duty::Sweep => self.sweep(thread, replies),
        }
    }

    #[cold]
    fn ring_doorbell(&self) {
        self.rings.fetch_add(1, Ordering::Relaxed);
        loop {
            match rustix::io::write(&self.doorbell, &1u64.to_ne_bytes()) {
                // Full means rung 2^64 - 2 times: it is rung.
                Ok(_) | Err(rustix::io::Errno::AGAIN) => return,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("no-lost-wake: a shard's doorbell cannot be rung: {error}"),
            }
        }
    }

    /// The shard leaves. Answers what lies in the mailbox, and returns how many messages that was.
    pub(crate) fn close(&self, replies: &Replies<A>) -> usize {
        // Under this lock, so that a sender who finds the shard closed comes after it: what the
        // shard does not find now was put in by senders who all will find it closed.
        let unclaimed_tells = self.unclaimed_tells.lock().unwrap_or_else(PoisonError::into_inner);
        self.parking.close();
        let entries: Vec<_> = std::iter::from_fn(|| self.ingress.pop()).collect();
        drop(unclaimed_tells);
        let messages = |entry: &Ingress<A>| match entry {
            Ingress::One(..) => 1,
            Ingress::Batch(batch, _) => batch.entries.len(),
        };
        let unrun = entries.iter().map(messages).sum();
        entries.into_iter().for_each(|entry| refuse(entry, replies));
        self.cancel_commands();
        unrun
    }

    /// Answers what lies in the mailbox of a shard that has left. Any thread may; each entry is
    /// answered once. A tell of the thread of this number comes back.
    #[cold]
    fn sweep(&self, thread: u32, replies: &Replies<A>) -> Option<A::Message> {
        let mut unclaimed_tells = self.unclaimed_tells.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entries = Vec::new();
        while let Some(entry) = self.ingress.pop() {
            match entry {
                Ingress::One(Envelope::Message { message, answer_to: ReturnAddress::Nobody, .. }, teller) => {
                    unclaimed_tells.push((teller, message));
                }
                entry => entries.push(entry),
            }
        }
        let is_mine = |(teller, _): &(u32, _)| thread != 0 && *teller == thread;
        let mine = unclaimed_tells.iter().position(is_mine).map(|at| unclaimed_tells.swap_remove(at).1);
        drop(unclaimed_tells);
        // Whom that wakes may do anything, so it is done when nothing is locked.
        entries.into_iter().for_each(|entry| refuse(entry, replies));
        self.cancel_commands();
        mine
    }

    fn cancel_commands(&self) {
        // They are cancelled by being dropped.
        let commands = std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner));
        drop(commands);
        self.room.take().into_iter().for_each(Waker::wake);
    }

    /// How many entries wait in the ingress.
    pub(crate) fn ingress(&self) -> usize {
        self.ingress.len()
    }

    /// How often the doorbell was rung, and how many messages were refused because the ingress was
    /// full.
    pub(crate) fn rings_and_overloaded(&self) -> (u64, u64) {
        (self.rings.load(Ordering::Relaxed), self.overloaded.load(Ordering::Relaxed))
    }
}

/// The shard's own side.
impl<A: Actor, C> Mailbox<A, C> {
    pub(crate) fn parking(&self) -> &Parking {
        &self.parking
    }

    /// A second handle of the doorbell, to wait on.
    pub(crate) fn doorbell(&self) -> io::Result<OwnedFd> {
        self.doorbell.try_clone()
    }

    /// Takes the next entry of the ingress.
    #[inline]
    pub(crate) fn take(&self) -> Option<Ingress<A>> {
        self.ingress.pop()
    }

    /// After entries were taken: whom to wake because there is room now.
    #[inline]
    pub(crate) fn wake_for_room(&self, wakers: &mut Vec<Waker>) {
        publish();
        if self.room.is_wanted() {
            wakers.extend(self.room.take());
        }
    }

    #[inline]
    pub(crate) fn has_ingress(&self) -> bool {
        !self.ingress.is_empty()
    }

    #[inline]
    pub(crate) fn has_signals(&self) -> bool {
        self.signals.load(Ordering::Relaxed) != 0
    }

    pub(crate) fn take_signals(&self) -> u32 {
        self.signals.swap(0, Ordering::AcqRel)
    }

    pub(crate) fn take_commands(&self) -> Vec<C> {
        std::mem::take(&mut *self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Answers a message that did not run and will not.
pub(crate) fn refuse<A: Actor>(entry: Ingress<A>, replies: &Replies<A>) {
    let waker = match entry {
        Ingress::Batch(batch, reply) => {
            drop(batch);
            reply.refuse(|| Err(AskError::Stopped))
        }
        Ingress::One(
            Envelope::Message { answer_to: ReturnAddress::Outside { slot, generation }, message, .. },
            _,
        ) => {
            drop(message);
            replies.answer(Claim { slot, generation }, Err(AskError::Stopped)).waker
        }
        // A tell has nobody to be answered; a task of a shard is told by its own shard, which
        // leaves too.
        Ingress::One(..) => None,
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The outcome of what a dying runtime leaves behind.
pub(crate) fn unknown<A: Actor>() -> Outcome<A> {
    Err(AskError::Unknown)
}

#[cfg(test)]
mod tests {
    use freehold_shard::OwnerId;

    use super::*;
    use crate::stats::AnswerPath;
    use crate::stats::trace::Traces;
    use crate::test_actor::{Accounts, Message, tell};
    use crate::transport::waiting::Patience;

    #[test]
    fn a_closed_mailbox_answers_by_its_sender() {
        let mailbox = Mailbox::<Accounts, ()>::new(16).unwrap();
        let replies = Arc::new(Replies::new(4, Patience::Park, Traces::for_tests()));
        assert_eq!(mailbox.close(&replies), 0);
        let claim = replies.claim(AnswerPath::Fast).unwrap();
        let envelope = Envelope::Message {
            message: Message::Count { account: 1 },
            sender: OwnerId(0),
            answer_to: ReturnAddress::Outside { slot: claim.slot, generation: claim.generation },
        };
        assert!(mailbox.put(Ingress::One(envelope, 0)).is_ok());
        mailbox.notify(&replies);
        assert_eq!(
            crate::transport::replies::Ask::sent(replies.clone(), claim).wait(),
            Err(AskError::Stopped)
        );
    }

    #[test]
    fn a_tell_to_a_closed_mailbox_comes_back_to_its_thread_whoever_finds_it() {
        let mailbox = Mailbox::<Accounts, ()>::new(16).unwrap();
        let replies = Replies::new(4, Patience::Park, Traces::for_tests());
        assert!(mailbox.put(Ingress::One(tell(1), 1)).is_ok());
        assert_eq!(mailbox.close(&replies), 1, "accepted, and reported as not run");
        assert!(mailbox.put(Ingress::One(tell(2), 2)).is_ok());
        assert!(mailbox.put(Ingress::One(tell(3), 3)).is_ok());
        let coins = |thread| match mailbox.notify_after_tell(thread, &replies) {
            Some(Message::Add { coins, .. }) => Some(coins),
            _ => None,
        };
        assert_eq!([3, 2, 1].map(coins), [Some(3), Some(2), None]);
    }

    #[test]
    fn a_parked_shard_is_rung_for_once() {
        let mailbox = Mailbox::<Accounts, ()>::new(16).unwrap();
        let replies = Replies::new(4, Patience::Park, Traces::for_tests());
        assert!(mailbox.parking().park(|| !mailbox.has_ingress()));
        for at in 0..3 {
            assert!(mailbox.put(Ingress::One(tell(at), 0)).is_ok());
            mailbox.notify(&replies);
        }
        let mut rung = [0; 8];
        rustix::io::read(&mailbox.doorbell, &mut rung).unwrap();
        assert_eq!(u64::from_ne_bytes(rung), 1);
        assert_eq!(mailbox.rings_and_overloaded(), (1, 0));
    }
}
