//! Many messages asked at once: sent as one batch per shard, answered in place, and put together
//! again in the order given.
//!
//! Each shard gets its messages in one vector, and answers them in that same vector, so that a
//! message costs one move into it and its outcome one move out; what is allocated grows with the
//! shards (and with `batch_messages_max`), never with the messages. The order is kept as the home
//! of each message in turn, two bytes each, and not at all while there is but one home: the n-th
//! message for a shard is the n-th in that shard's vectors. A message that has no home (its error
//! is known at once) counts as living on [`NOWHERE`].
//!
//! A batch that finds its shard's ingress full waits in the future until there is room, and with it
//! what comes later for that shard.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::task::{Context, Poll, Waker};
use std::vec;

use freehold_shard::{
    Actor, Addressees, AskError, Batch, BatchEntry, Destination, Outcome, OwnerId, ShardIndex, ShardSet,
};

use crate::core::shared::Shared;
use crate::transport::batch_reply::{BatchReply, Outcomes};
use crate::transport::mailbox::Ingress;
use crate::transport::waiting::{self, Patience};

/// Where messages count as living whose outcome is known without sending them.
const NOWHERE: u16 = u16::MAX;

/// A batch that found no room yet.
struct Unsent<A: Actor> {
    to: ShardIndex,
    batch: Batch<A>,
    reply: BatchReply<A>,
}

/// One go at sending batches.
#[derive(Default)]
struct Sending {
    sent_to: ShardSet,
    full: ShardSet,
}

impl Sending {
    /// Sends a batch, or gives it back if there is no room; then `waiter`, by its number, will be
    /// woken when there is some.
    fn send<A: Actor>(
        &mut self,
        shared: &Shared<A>,
        unsent: Unsent<A>,
        waiter: Option<(u64, &Waker)>,
    ) -> Option<Unsent<A>> {
        let Unsent { to, batch, reply } = unsent;
        if !shared.is_open() {
            // The caller is the one to be woken, and it is here.
            let _ = reply.refuse(|| Err(AskError::Stopped));
            return None;
        }
        // What comes later for a shard that is full must not overtake what waits.
        if self.full.contains(to) {
            return Some(Unsent { to, batch, reply });
        }
        let mailbox = &shared.mailboxes[to.index()];
        let put = mailbox.put(Ingress::Batch(batch, reply));
        let put = put.or_else(|entry| match waiter {
            Some((number, waker)) => {
                mailbox.wait_for_room(number, waker);
                mailbox.put(entry)
            }
            None => Err(entry),
        });
        match put {
            Ok(()) => {
                self.sent_to.insert(to);
                None
            }
            Err(Ingress::Batch(batch, reply)) => {
                self.full.insert(to);
                Some(Unsent { to, batch, reply })
            }
            Err(Ingress::One(..)) => unreachable!("what comes back is what was put in"),
        }
    }

    /// Sees to it that what was sent is looked at.
    fn end<A: Actor>(self, shared: &Shared<A>) {
        shared.notify(self.sent_to.iter());
    }
}

/// The outcomes of the messages that [`Handle::ask_all`](crate::Handle::ask_all) has sent, in the
/// order of the messages: a future, or a wait.
///
/// What had room was sent when `ask_all` was called, and dropping this does not cancel it. If a
/// shard's ingress was full, what is for that shard is sent as room comes while this is awaited; if
/// it is dropped before, that part is not sent.
#[must_use = "the outcomes come by awaiting this or by `wait`, and a part may not be sent until then"]
pub struct AskAll<A: Actor> {
    shared: Arc<Shared<A>>,
    outcomes: Option<Arc<Outcomes<A>>>,
    order: Order<A>,
    unsent: VecDeque<Unsent<A>>,
    /// By what number it waits for room, once it does; no other has it.
    waits_as: Option<u64>,
}

/// How the outcomes of the parts make up the whole.
struct Order<A: Actor> {
    /// The home of each message in turn; empty if all have the same one.
    homes: Vec<u16>,
    /// The home of each part.
    part_homes: Vec<u16>,
    /// Outcomes known when the messages were asked, in order.
    known: Vec<Outcome<A>>,
    messages: usize,
}

impl<A: Actor> AskAll<A> {
    /// Sends what there is room for.
    pub(crate) fn send(
        shared: Arc<Shared<A>>,
        sender: OwnerId,
        messages: impl IntoIterator<Item = A::Message>,
    ) -> Self {
        let messages = messages.into_iter();
        if !shared.is_open() {
            let known: Vec<_> = messages.map(|_| Err(AskError::Stopped)).collect();
            let order = Order {
                homes: vec![NOWHERE; known.len()],
                part_homes: Vec::new(),
                messages: known.len(),
                known,
            };
            return AskAll { shared, outcomes: None, order, unsent: VecDeque::new(), waits_as: None };
        }
        let mut sorting = Sorting::new(&shared, messages.size_hint().0);
        if shared.router.shards() == 1 {
            // The one shard finds out by itself what nobody is addressed by.
            messages.for_each(|message| sorting.put(0, message));
        } else {
            let mut scratch = Addressees::new();
            for message in messages {
                match shared.router.destination::<A>(&message, &mut scratch) {
                    Destination::One(home) | Destination::Several(home) => {
                        sorting.home(home.0);
                        sorting.put(home.index(), message);
                    }
                    Destination::Nowhere => sorting.known(AskError::Unaddressed),
                }
            }
        }
        let (parts, order) = sorting.finish();
        let outcomes = Arc::new(Outcomes::new(parts.len()));
        let mut this = AskAll { shared, outcomes: None, order, unsent: VecDeque::new(), waits_as: None };
        let mut sending = Sending::default();
        for (part, (home, entries)) in parts.into_iter().enumerate() {
            let reply = BatchReply::new(outcomes.clone(), part as u32, entries.len() as u32);
            let unsent = Unsent { to: ShardIndex(home), batch: Batch { sender, entries, tag: 0 }, reply };
            this.unsent.extend(sending.send(&this.shared, unsent, None));
        }
        sending.end(&this.shared);
        this.outcomes = Some(outcomes);
        this
    }

    /// Whether all messages were sent.
    pub(crate) fn is_sent(&self) -> bool {
        self.unsent.is_empty()
    }

    /// How a thread that waits for it may wait.
    pub(crate) fn patience(&self) -> Patience {
        self.shared.patience
    }

    /// Sends what there is room for. Where there is none, `waker` will be woken when there is some.
    fn send_unsent(&mut self, waker: &Waker) {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = *self.waits_as.get_or_insert_with(|| NEXT.fetch_add(1, Ordering::Relaxed));
        let mut sending = Sending::default();
        for _ in 0..self.unsent.len() {
            let Some(unsent) = self.unsent.pop_front() else { break };
            self.unsent.extend(sending.send(&self.shared, unsent, Some((number, waker))));
        }
        sending.end(&self.shared);
    }

    /// Blocks the calling thread until all outcomes are there.
    ///
    /// # Errors
    /// Each outcome is the message's own. On a shard's thread each is [`AskError::WaitOnShard`] at
    /// once, for waiting would block the core that may have to answer; the messages were sent all
    /// the same, but for those whose outcome is [`AskError::Overloaded`].
    pub fn wait(self) -> Vec<Outcome<A>> {
        let mut this = self;
        if waiting::on_shard_thread() {
            return this.refuse_to_wait(|| AskError::WaitOnShard);
        }
        let patience = this.shared.patience;
        waiting::block_on(&mut this, patience)
    }

    /// Waits for room no longer. Its wakers would stay until the shards take something again, which
    /// may be never.
    fn leave_rooms(&self) {
        let Some(number) = self.waits_as else { return };
        self.unsent.iter().for_each(|unsent| self.shared.mailboxes[unsent.to.index()].leave_room(number));
    }

    /// Waits no longer: what was sent ends in `refusal`, and what was not, in `Overloaded`.
    fn refuse_to_wait(&mut self, refusal: impl Fn() -> AskError<A::Error>) -> Vec<Outcome<A>> {
        let Some(outcomes) = self.outcomes.take() else { return self.order.assemble(Vec::new()) };
        self.leave_rooms();
        let unsent: Vec<_> = self.unsent.drain(..).map(|unsent| unsent.reply.part()).collect();
        let sizes = self.order.part_sizes(self.shared.config.batch_messages_max);
        drop(outcomes);
        let parts = sizes.into_iter().enumerate().map(|(part, messages)| {
            let is_sent = !unsent.contains(&(part as u32));
            let refusal = || if is_sent { refusal() } else { AskError::Overloaded };
            (0..messages).map(|_| BatchEntry::Answered(Err(refusal()))).collect()
        });
        let parts = parts.collect();
        self.order.assemble(parts)
    }
}

impl<A: Actor> Order<A> {
    /// How many messages each part has.
    fn part_sizes(&self, batch_messages_max: usize) -> Vec<usize> {
        let mut left: Vec<(u16, usize)> = Vec::new();
        for &home in &self.part_homes {
            if !left.iter().any(|(shard, _)| *shard == home) {
                let messages = match self.homes.as_slice() {
                    [] => self.messages,
                    homes => homes.iter().filter(|&&each| each == home).count(),
                };
                left.push((home, messages));
            }
        }
        self.part_homes
            .iter()
            .map(|home| {
                let left = left.iter_mut().find(|(shard, _)| shard == home).expect("each home was counted");
                let messages = left.1.min(batch_messages_max);
                left.1 -= messages;
                messages
            })
            .collect()
    }

    /// Puts the outcomes of the parts in the order of the messages.
    fn assemble(&mut self, parts: Vec<Vec<BatchEntry<A>>>) -> Vec<Outcome<A>> {
        let known = std::mem::take(&mut self.known);
        if self.homes.is_empty() {
            let mut parts = parts.into_iter();
            // The outcomes of one batch stay where they are: this collects in place.
            let mut outcomes: Vec<_> = parts.next().unwrap_or_default().into_iter().map(outcome).collect();
            parts.for_each(|part| outcomes.extend(part.into_iter().map(outcome)));
            return outcomes;
        }
        let mut streams: Vec<Stream<A>> = Vec::new();
        for (part, home) in parts.into_iter().zip(&self.part_homes) {
            let home = usize::from(*home);
            if streams.len() <= home {
                streams.resize_with(home + 1, Stream::default);
            }
            streams[home].parts.push_back(part);
        }
        let mut known = known.into_iter();
        let next = |&home: &u16| match home {
            NOWHERE => known.next().expect("each message without a home has its outcome"),
            home => outcome(streams[usize::from(home)].next()),
        };
        self.homes.iter().map(next).collect()
    }
}

/// The outcomes of one shard, over its parts.
struct Stream<A: Actor> {
    current: vec::IntoIter<BatchEntry<A>>,
    parts: VecDeque<Vec<BatchEntry<A>>>,
}

impl<A: Actor> Default for Stream<A> {
    fn default() -> Self {
        Stream { current: Vec::new().into_iter(), parts: VecDeque::new() }
    }
}

impl<A: Actor> Stream<A> {
    #[inline]
    fn next(&mut self) -> BatchEntry<A> {
        loop {
            if let Some(entry) = self.current.next() {
                return entry;
            }
            self.current =
                self.parts.pop_front().expect("each shard answers as many messages as it got").into_iter();
        }
    }
}

#[inline]
fn outcome<A: Actor>(entry: BatchEntry<A>) -> Outcome<A> {
    match entry {
        BatchEntry::Answered(outcome) => outcome,
        // A shard answers all of a batch before it gives it back.
        _ => Err(AskError::Unknown),
    }
}

/// The messages of one batch, and their home.
type BatchPart<A> = (u16, Vec<BatchEntry<A>>);

/// Messages on their way into parts.
struct Sorting<A: Actor> {
    /// The part being filled for each shard.
    filling: Vec<Vec<BatchEntry<A>>>,
    /// Full parts, and at the end all, with their homes.
    parts: Vec<BatchPart<A>>,
    homes: Vec<u16>,
    first_home: Option<u16>,
    known: Vec<Outcome<A>>,
    messages: usize,
    batch_messages_max: usize,
    /// How many entries a fresh part has room for.
    capacity: usize,
}

impl<A: Actor> Sorting<A> {
    fn new(shared: &Shared<A>, messages_min: usize) -> Self {
        let shards = shared.router.shards();
        let batch_messages_max = shared.config.batch_messages_max;
        // A part of an even spread, and some more so that most need no second allocation.
        let share =
            if shards == 1 { messages_min } else { messages_min / shards + messages_min / (4 * shards) + 4 };
        Sorting {
            filling: (0..shards).map(|_| Vec::new()).collect(),
            parts: Vec::new(),
            homes: Vec::new(),
            first_home: None,
            known: Vec::new(),
            messages: 0,
            batch_messages_max,
            capacity: share.min(batch_messages_max),
        }
    }

    #[inline]
    fn put(&mut self, shard: usize, message: A::Message) {
        self.messages += 1;
        let part = &mut self.filling[shard];
        if part.is_empty() {
            part.reserve_exact(self.capacity);
        } else if part.len() >= self.batch_messages_max {
            let full = std::mem::replace(part, Vec::with_capacity(self.capacity));
            self.parts.push((shard as u16, full));
        }
        self.filling[shard].push(BatchEntry::Waiting(message));
    }

    /// The next message lives on `home`.
    #[inline]
    fn home(&mut self, home: u16) {
        match self.first_home {
            _ if !self.homes.is_empty() => self.homes.push(home),
            None => self.first_home = Some(home),
            Some(first) if first == home => {}
            Some(first) => {
                self.homes.reserve((self.capacity * self.filling.len()).max(self.messages + 1));
                self.homes.resize(self.messages, first);
                self.homes.push(home);
            }
        }
    }

    /// The outcome of the next message is known.
    #[cold]
    fn known(&mut self, error: AskError<A::Error>) {
        self.home(NOWHERE);
        self.messages += 1;
        self.known.push(Err(error));
    }

    fn finish(mut self) -> (Vec<BatchPart<A>>, Order<A>) {
        if self.first_home == Some(NOWHERE) && self.homes.is_empty() {
            self.homes = vec![NOWHERE; self.messages];
        }
        for (shard, part) in self.filling.into_iter().enumerate() {
            if !part.is_empty() {
                self.parts.push((shard as u16, part));
            }
        }
        let part_homes = self.parts.iter().map(|(home, _)| *home).collect();
        let order = Order { homes: self.homes, part_homes, known: self.known, messages: self.messages };
        (self.parts, order)
    }
}

// Nothing in it is ever pinned.
impl<A: Actor> Unpin for AskAll<A> {}

impl<A: Actor> Drop for AskAll<A> {
    fn drop(&mut self) {
        self.leave_rooms();
    }
}

impl<A: Actor> Future for AskAll<A> {
    type Output = Vec<Outcome<A>>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Vec<Outcome<A>>> {
        let this = &mut *self;
        let Some(outcomes) = this.outcomes.clone() else {
            return Poll::Ready(this.order.assemble(Vec::new()));
        };
        if this.shared.birth.is_elsewhere() {
            return Poll::Ready(this.refuse_to_wait(|| AskError::Unknown));
        }
        if waiting::in_receive() {
            return Poll::Ready(this.refuse_to_wait(|| AskError::WaitOnShard));
        }
        if !this.unsent.is_empty() {
            this.send_unsent(&waiting::keep_here(cx.waker()));
        }
        let mut state = outcomes.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.missing > 0 {
            if waiting::on_shard_thread() {
                state.waker = Some(waiting::keep_here(cx.waker()));
            } else if !state.waker.as_ref().is_some_and(|waiting| waiting.will_wake(cx.waker())) {
                state.waker = Some(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let parts = std::mem::take(&mut state.parts);
        drop(state);
        let parts = parts.into_iter().map(|part| part.expect("none is missing")).collect();
        this.outcomes = None;
        Poll::Ready(this.order.assemble(parts))
    }
}

impl<A: Actor> fmt::Debug for AskAll<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskAll").field("messages", &self.order.messages).finish_non_exhaustive()
    }
}
