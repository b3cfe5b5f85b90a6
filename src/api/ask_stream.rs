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
    batches: VecDeque<StreamBatch<A>>,
    /// What is left of the outcomes of the batch that was in front.
    outcomes: vec::IntoIter<Outcome<A>>,
}

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
            outcomes: Vec::new().into_iter(),
        }
    }

    /// Takes the messages that are ready and may be under way, and sends them.
    fn take_messages(&mut self, cx: &mut Context<'_>) {
        // The last may wait for room: it is sent while it is polled. Here, and not only when no
        // outcome is left to give: its asker may take its time with each.
        if let Some(last) = self.batches.back_mut().filter(|last| !last.is_sent()) {
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
            self.under_way += taken.len();
            self.batches.push_back(StreamBatch::Asked(self.handle.ask_all(taken)));
        }
    }
}

// The stream of messages is pinned where it is, and nothing else is pinned.
impl<A: Actor, S> Unpin for AskStream<A, S> {}

impl<A: Actor, S: Stream<Item = A::Message>> Stream for AskStream<A, S> {
    type Item = Outcome<A>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Outcome<A>>> {
        let this = &mut *self;
        loop {
            this.take_messages(cx);
            if let Some(outcome) = this.outcomes.next() {
                this.under_way -= 1;
                return Poll::Ready(Some(outcome));
            }
            let Some(first) = this.batches.front_mut() else {
                return if this.messages.is_none() { Poll::Ready(None) } else { Poll::Pending };
            };
            if let Some(outcomes) = first.poll(cx) {
                this.outcomes = std::mem::take(outcomes).into_iter();
                this.batches.pop_front();
                continue;
            }
            return Poll::Pending;
        }
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
