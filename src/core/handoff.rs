//! Where a shard's pump and the writer of its log meet.

use std::task::{Context, Poll, Waker};

use freehold_shard::Write;

/// Where the pump leaves the next batch for the writer.
#[derive(Default)]
pub(crate) struct Handoff {
    write: Option<Write>,
    waker: Option<Waker>,
    /// The runtime stops, and all is written.
    is_closed: bool,
    /// There is a writer, and it has files open.
    is_manned: bool,
}

impl Handoff {
    /// From now on there is a writer.
    pub(crate) fn man(&mut self) {
        self.is_manned = true;
    }

    /// Whether the writer has not ended, and closed its files.
    pub(crate) fn is_manned(&self) -> bool {
        self.is_manned
    }

    /// There is something to be written.
    pub(crate) fn put(&mut self, write: Write) {
        debug_assert!(self.write.is_none(), "one batch is written at a time");
        self.write = Some(write);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Nothing more comes.
    pub(crate) fn close(&mut self) {
        self.is_closed = true;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The writer takes what there is to be written, if it does not end: then that is `None`.
    pub(crate) fn poll_take(&mut self, cx: &mut Context<'_>) -> Poll<Option<Write>> {
        if let Some(write) = self.write.take() {
            return Poll::Ready(Some(write));
        }
        if self.is_closed {
            return Poll::Ready(None);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The writer has ended.
    pub(crate) fn unman(&mut self) {
        self.is_manned = false;
    }
}
