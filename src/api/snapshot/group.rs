//! The answers of reads that go to a shard together.
//!
//! The shard hands over all answers of a group at once, and each caller takes its own. A channel
//! for each read cost an allocation, and a line of memory that crossed between the threads twice.

use std::mem::take;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use crate::error::panic_message;

/// The most reads of a group.
pub(super) const GROUP_MAX: usize = 256;

/// Places of a group, a bit each.
#[derive(Clone, Copy, Default)]
pub(super) struct Places([u64; GROUP_MAX / 64]);

impl Places {
    pub(super) fn contains(&self, place: usize) -> bool {
        self.0[place / 64] >> (place % 64) & 1 == 1
    }

    fn insert(&mut self, place: usize) {
        self.0[place / 64] |= 1 << (place % 64);
    }
}

/// Reads that are still with their callers' thread.
pub(super) trait UnsentGroup: Send {
    /// Sends them to their shard, if nobody has yet.
    fn send(self: Box<Self>);
}

enum State<T> {
    /// The shard has not answered yet.
    Waiting {
        /// Reads that their callers have dropped.
        dropped: Places,
        /// By place, at most one of each.
        wakers: Vec<(usize, Waker)>,
        /// `None` once a read was polled or dropped.
        unsent: Option<Box<dyn UnsentGroup>>,
    },
    /// By place; `None` once it was taken. Empty if the shard has left.
    Answered(Vec<Option<T>>),
}

fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The shard's end of a group. Dropped without answers, it tells all callers that there are none.
pub(super) struct Answers<T>(Arc<Mutex<State<T>>>);

impl<T> Answers<T> {
    /// Of a group whose reads are still to come, and are sent by `unsent`.
    pub(super) fn new(unsent: Box<dyn UnsentGroup>) -> Self {
        let (dropped, wakers) = (Places::default(), Vec::new());
        Answers(Arc::new(Mutex::new(State::Waiting { dropped, wakers, unsent: Some(unsent) })))
    }

    /// The caller's end of the read at this place, which is below [`GROUP_MAX`].
    pub(super) fn of(&self, place: usize) -> Answer<T> {
        Answer { group: self.0.clone(), place, is_taken: false }
    }

    /// The reads that nobody waits for.
    pub(super) fn dropped(&self) -> Places {
        match &*lock(&self.0) {
            State::Waiting { dropped, .. } => *dropped,
            State::Answered(_) => Places::default(),
        }
    }

    /// Hands the answers over, by place, and wakes their callers.
    pub(super) fn hand_over(self, answers: Vec<Option<T>>) {
        self.end(answers);
    }

    fn end(&self, answers: Vec<Option<T>>) {
        let (wakers, unsent) = match &mut *lock(&self.0) {
            State::Answered(_) => return,
            state => match std::mem::replace(state, State::Answered(answers)) {
                State::Waiting { wakers, unsent, .. } => (wakers, unsent),
                State::Answered(_) => unreachable!("that was looked at before"),
            },
        };
        // What is there now needs no sending. It may hold the last clone of its snapshot.
        drop(unsent);
        // They are anyone's code: they may look at the group, and one that panics must not cost the
        // others their call.
        for (_, waker) in wakers {
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                let panic = panic_message(payload);
                tracing::warn!(panic, "the waker of a task that reads a snapshot panicked");
            }
        }
    }
}

impl<T> Drop for Answers<T> {
    fn drop(&mut self) {
        self.end(Vec::new());
    }
}

/// A caller's end of a read.
pub(super) struct Answer<T> {
    group: Arc<Mutex<State<T>>>,
    place: usize,
    is_taken: bool,
}

impl<T> Answer<T> {
    /// The answer, if it is there already; `Some(None)` if the shard has left.
    pub(super) fn take_if_there(&mut self) -> Option<Option<T>> {
        match &mut *lock(&self.group) {
            State::Answered(answers) => {
                self.is_taken = true;
                Some(answers.get_mut(self.place).and_then(Option::take))
            }
            State::Waiting { .. } => None,
        }
    }

    /// The answer, if it is there; `Some(None)` if the shard has left. Otherwise `waker`, which is
    /// made only then, is woken when it is, and the group is sent if it was not yet.
    pub(super) fn poll(&mut self, waker: impl FnOnce() -> Waker) -> Poll<Option<T>> {
        let (replaced, unsent) = match &mut *lock(&self.group) {
            State::Answered(answers) => {
                self.is_taken = true;
                return Poll::Ready(answers.get_mut(self.place).and_then(Option::take));
            }
            State::Waiting { wakers, unsent, .. } => {
                let waker = waker();
                let replaced = match wakers.iter_mut().find(|(place, _)| *place == self.place) {
                    Some((_, before)) => Some(std::mem::replace(before, waker)),
                    None => {
                        wakers.push((self.place, waker));
                        None
                    }
                };
                (replaced, unsent.take())
            }
        };
        drop(replaced);
        if let Some(unsent) = unsent {
            unsent.send();
        }
        Poll::Pending
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        if self.is_taken {
            return;
        }
        let (mut waker, mut unsent_reads) = (None, None);
        let unwanted = match &mut *lock(&self.group) {
            State::Answered(answers) => answers.get_mut(self.place).and_then(Option::take),
            State::Waiting { dropped, wakers, unsent } => {
                dropped.insert(self.place);
                unsent_reads = unsent.take();
                let at = wakers.iter().position(|(place, _)| *place == self.place);
                waker = at.map(|at| wakers.swap_remove(at));
                None
            }
        };
        // Both are anyone's code.
        drop((unwanted, take(&mut waker)));
        // The queue has the group, and the group has what keeps the snapshot open. So somebody must
        // take it out, even if nobody wants it.
        if let Some(unsent) = unsent_reads {
            unsent.send();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    /// Counts how often a group is sent.
    #[derive(Default)]
    struct Sent(Arc<AtomicUsize>);

    impl UnsentGroup for Sent {
        fn send(self: Box<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn answers<T>() -> Answers<T> {
        Answers::new(Box::<Sent>::default())
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn unwanted() -> Waker {
        panic!("the answer is there, so no waker is wanted")
    }

    #[test]
    fn each_caller_takes_its_own() {
        let (answers, woken) = (answers(), Arc::new(Woken::default()));
        let mut reads: Vec<_> = (0..GROUP_MAX).map(|place| answers.of(place)).collect();
        for _ in 0..2 {
            assert_eq!(reads[0].poll(|| woken.clone().into()), Poll::Pending);
            assert_eq!(reads[255].poll(|| woken.clone().into()), Poll::Pending);
        }
        drop(reads.remove(7));
        assert!((0..GROUP_MAX).all(|place| answers.dropped().contains(place) == (place == 7)));
        answers.hand_over((0..GROUP_MAX).map(Some).collect());
        assert_eq!(woken.0.load(Ordering::Relaxed), 2);
        for (at, read) in reads.iter_mut().enumerate() {
            assert_eq!(read.poll(unwanted), Poll::Ready(Some(at + usize::from(at >= 7))));
        }
    }

    #[test]
    fn a_group_is_sent_once_when_a_read_of_it_is_polled_or_dropped() {
        let sent = Arc::<AtomicUsize>::default();
        let group = || Answers::new(Box::new(Sent(sent.clone())));
        let times = || sent.load(Ordering::Relaxed);
        let looked_at = group();
        let mut read = looked_at.of(0);
        assert_eq!((read.take_if_there(), times()), (None, 0), "to look sends nothing");
        looked_at.hand_over(vec![Some(7)]);
        assert_eq!(read.take_if_there(), Some(Some(7)));
        let polled = group();
        let (mut one, other) = (polled.of(0), polled.of(1));
        assert_eq!(times(), 0, "nobody wants them yet");
        assert_eq!(one.poll(|| Arc::<Woken>::default().into()), Poll::Pending);
        assert_eq!(one.poll(|| Arc::<Woken>::default().into()), Poll::Pending);
        drop(other);
        assert_eq!(times(), 1);
        let dropped = group();
        drop(dropped.of(0));
        assert_eq!(times(), 2, "or the queue would keep it, and its snapshot, for ever");
        let answered = group();
        let mut read = answered.of(0);
        answered.hand_over(vec![Some(7)]);
        assert_eq!((read.poll(unwanted), times()), (Poll::Ready(Some(7)), 2), "a job came for others");
    }

    #[test]
    fn a_group_without_answers_says_so() {
        let (answers, woken) = (answers::<u8>(), Arc::new(Woken::default()));
        let (mut one, mut other) = (answers.of(0), answers.of(1));
        assert_eq!(one.poll(|| woken.clone().into()), Poll::Pending);
        drop(answers);
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
        assert_eq!((one.poll(unwanted), other.poll(unwanted)), (Poll::Ready(None), Poll::Ready(None)));
    }

    #[test]
    fn what_nobody_takes_is_let_go_of() {
        let (answers, held) = (answers(), Arc::new(()));
        let (early, late) = (answers.of(0), answers.of(1));
        let woken = Arc::new(Woken::default());
        let mut polled = answers.of(2);
        assert_eq!(polled.poll(|| woken.clone().into()), Poll::Pending);
        drop((early, polled));
        assert_eq!(Arc::strong_count(&woken), 1, "a dropped read keeps no waker");
        assert!(answers.dropped().contains(0) && answers.dropped().contains(2));
        answers.hand_over(vec![None, Some(held.clone()), None]);
        drop(late);
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
