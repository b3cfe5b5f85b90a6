//! A stream of messages asked, with so many under way at most: their outcomes as a stream.
//!
//! Messages that are ready together travel together, as those of `ask_all` do. So that batches do
//! not shrink to one message each, no new messages are taken while more than half of what may be
//! under way is.
//!
//! A batch that waits for room holds the next ones back. So the messages of one stream keep their
//! order, as those of one thread do.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::vec;

use freehold_shard::{Actor, Outcome};
use futures_core::Stream;

use crate::api::ask_all::AskAll;
use crate::api::handle::Handle;

/// The outcomes of a stream's messages, in their order, made by
/// [`Handle::ask_stream`](crate::Handle::ask_stream).
///
/// It takes messages and sends them while it is polled. Dropped, it takes no more; messages that
/// it has sent run. The stream of messages is dropped with it.
#[must_use = "messages are taken and sent while the outcomes are awaited"]
pub struct AskStream<A: Actor, S> {
    handle: Handle<A>,
    /// `None` once it has ended.
    messages: Option<Pin<Box<S>>>,
    under_way_max: usize,
    /// Messages that were taken and whose outcome was not given.
    under_way: usize,
    /// With the number of the first message of each.
    batches: VecDeque<(u64, StreamBatch<A>)>,
    /// How many messages were taken.
    taken: u64,
    /// What is left of the outcomes of a batch, and the number of the first of them.
    outcomes: vec::IntoIter<Outcome<A>>,
    next: u64,
    gives: StreamOrder,
}

/// In which order outcomes are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StreamOrder {
    OfMessages,
    AsTheyCome,
}

/// The outcomes of a stream's messages as they come, each with the number of its message, from 0
/// on; made by [`AskStream::as_they_come`].
#[must_use = "messages are taken and sent while the outcomes are awaited"]
pub struct AskStreamAsTheyCome<A: Actor, S>(AskStream<A, S>);

/// Messages that were taken together.
enum StreamBatch<A: Actor> {
    Asked(AskAll<A>),
    Ended(Vec<Outcome<A>>),
}

impl<A: Actor> StreamBatch<A> {
    fn is_sent(&self) -> bool {
        match self {
            StreamBatch::Asked(asked) => asked.is_sent(),
            StreamBatch::Ended(_) => true,
        }
    }

    /// Sends what there is room for; the outcomes, once all are there.
    fn poll(&mut self, cx: &mut Context<'_>) -> Option<&mut Vec<Outcome<A>>> {
        if let StreamBatch::Asked(asked) = self
            && let Poll::Ready(outcomes) = Pin::new(asked).poll(cx)
        {
            *self = StreamBatch::Ended(outcomes);
        }
        match self {
            StreamBatch::Asked(_) => None,
            StreamBatch::Ended(outcomes) => Some(outcomes),
        }
    }
}

impl<A: Actor, S: Stream<Item = A::Message>> AskStream<A, S> {
    pub(crate) fn new(handle: Handle<A>, under_way_max: usize, messages: S) -> Self {
        AskStream {
            handle,
            messages: Some(Box::pin(messages)),
            under_way_max: under_way_max.max(1),
            under_way: 0,
            batches: VecDeque::new(),
            taken: 0,
            outcomes: Vec::new().into_iter(),
            next: 0,
            gives: StreamOrder::OfMessages,
        }
    }

    /// The same outcomes as they come, each with the number of its message, from 0 on: one that
    /// takes long holds none of the later batches up. Messages that travel together come together.
    ///
    /// ```
    /// # use freehold_example::*;
    /// use futures::StreamExt;
    ///
    /// let runtime = start();
    /// let bank = runtime.handle();
    /// let deposits = futures::stream::iter(0..100).map(|account| Deposit { account, cents: 5 }.into());
    /// let outcomes = bank.ask_stream(64, deposits).as_they_come();
    /// let numbers: Vec<u64> = futures::executor::block_on(outcomes.map(|(number, _)| number).collect());
    /// assert_eq!(numbers.len(), 100);
    /// ```
    pub fn as_they_come(mut self) -> AskStreamAsTheyCome<A, S> {
        self.gives = StreamOrder::AsTheyCome;
        AskStreamAsTheyCome(self)
    }

    fn poll_numbered(&mut self, cx: &mut Context<'_>) -> Poll<Option<(u64, Outcome<A>)>> {
        loop {
            self.take_messages(cx);
            if let Some(outcome) = self.outcomes.next() {
                self.under_way -= 1;
                let number = self.next;
                self.next += 1;
                return Poll::Ready(Some((number, outcome)));
            }
            if self.batches.is_empty() {
                return if self.messages.is_none() { Poll::Ready(None) } else { Poll::Pending };
            }
            let looked_at = match self.gives {
                StreamOrder::OfMessages => 1,
                StreamOrder::AsTheyCome => self.batches.len(),
            };
            let mut batches = self.batches.iter_mut().take(looked_at).enumerate();
            let ended = batches.find_map(|(at, (first, batch))| {
                batch.poll(cx).map(|outcomes| (at, *first, std::mem::take(outcomes)))
            });
            let Some((at, first, outcomes)) = ended else { return Poll::Pending };
            self.batches.remove(at);
            (self.outcomes, self.next) = (outcomes.into_iter(), first);
        }
    }

    /// Takes the messages that are ready and may be under way, and sends them.
    fn take_messages(&mut self, cx: &mut Context<'_>) {
        // The last may wait for room: it is sent while it is polled. Here, and not only when no
        // outcome is left to give: its asker may take its time with each.
        if let Some((_, last)) = self.batches.back_mut().filter(|(_, last)| !last.is_sent()) {
            last.poll(cx);
            if !last.is_sent() {
                return;
            }
        }
        if self.under_way > self.under_way_max / 2 {
            return;
        }
        let mut taken = Vec::new();
        while self.under_way + taken.len() < self.under_way_max
            && let Some(messages) = &mut self.messages
        {
            match messages.as_mut().poll_next(cx) {
                Poll::Ready(Some(message)) => taken.push(message),
                Poll::Ready(None) => self.messages = None,
                Poll::Pending => break,
            }
        }
        if !taken.is_empty() {
            let first = self.taken;
            self.under_way += taken.len();
            self.taken += taken.len() as u64;
            self.batches.push_back((first, StreamBatch::Asked(self.handle.ask_all(taken))));
        }
    }
}

// The stream of messages is pinned where it is, and nothing else is pinned.
impl<A: Actor, S> Unpin for AskStream<A, S> {}

impl<A: Actor, S: Stream<Item = A::Message>> Stream for AskStream<A, S> {
    type Item = Outcome<A>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Outcome<A>>> {
        self.poll_numbered(cx).map(|next| next.map(|(_, outcome)| outcome))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let (least, most) = self.messages.as_ref().map_or((0, Some(0)), |messages| messages.size_hint());
        (least.saturating_add(self.under_way), most.and_then(|most| most.checked_add(self.under_way)))
    }
}

impl<A: Actor, S> fmt::Debug for AskStream<A, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AskStream").field("under_way", &self.under_way).finish_non_exhaustive()
    }
}

// As the stream it is made of.
impl<A: Actor, S> Unpin for AskStreamAsTheyCome<A, S> {}

impl<A: Actor, S: Stream<Item = A::Message>> Stream for AskStreamAsTheyCome<A, S> {
    type Item = (u64, Outcome<A>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_numbered(cx)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.0.size_hint()
    }
}

impl<A: Actor, S> fmt::Debug for AskStreamAsTheyCome<A, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
