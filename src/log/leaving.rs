//! How the epochs of a runtime that runs leave for another log: what all shards committed in an
//! epoch comes out as one [`EpochBatch`], and answers wait until the other log has acknowledged it.
//!
//! ```text
//! shards ──sealed batches──> a bounded queue ──> EpochReceiver ──epochs, in order──> another log
//! answers wait for the ceiling <── acknowledge ─────┘
//! ```
//! A shard's writer puts a copy of each batch into the queue before it writes it, so the two go on
//! at once. What waits is bounded by bytes, in the queue and out of it: when there are so many the
//! writer waits, and with it all that waits for the disk, and messages from outside wait as if the
//! disk were slow.
//!
//! One writer does not wait. While a shard is in a long turn no epoch is complete, so nothing can
//! leave, and no room comes before the batch of that shard does. So when nothing that is complete
//! waits, a shard that has handed over no more than all have ([`Stand::is_last`]) has room always
//! (*the-last-has-room*). Such a shard may have more than one batch before an epoch is complete. So
//! with twice as many bytes as may wait, no shard takes messages from outside.
//!
//! The story: the bound was that of the queue alone, and a receiver emptied it into memory whenever
//! it looked, also while nothing was complete: 32 MiB each 250 ms of a long turn.
//!
//! [`Durability::handed`](freehold_shard::Durability::handed) says which epochs are complete in the
//! queue. An epoch in which nothing was committed leaves as well if an answer waits for it: an
//! answer that only read something ([`Ack::Replicated`](crate::Ack::Replicated)).

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use freehold_shard::log::{Bounds, Gathering, sealed};
use freehold_shard::{Epoch, WrittenSchema};

use super::commit::EpochBatch;
use crate::error::{CheckpointError, SnapshotError};

/// How many batches the queue holds. Each is at most 16 MiB; together they are bounded by bytes.
const BATCHES_MAX: usize = 4096;
/// A batch for which there is no room wakes the receiver each so many tries, if that is to look.
const TRIES_PER_WAKE: u64 = 64;
/// How often a checkpoint that waits for another log looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The two ends of the way that a runtime's epochs leave by. At most `bytes_max` bytes, and a batch
/// more for each shard, wait in between; and what completes an epoch, while none is complete.
/// `wake` is called, from any thread, when the receiver may have something new. It must not block.
///
/// What comes out is received by a thread of its own, before the runtime is opened: a start after a
/// crash may wait for what it acknowledges.
///
/// ```
/// use std::sync::mpsc;
///
/// use freehold::{Ack, LogConfig, epoch_channel};
///
/// let (tell, told) = mpsc::channel();
/// let wake = tell.clone();
/// let (sender, mut receiver) = epoch_channel(8 << 20, move || drop(wake.send(true)));
/// let receiving = std::thread::spawn(move || {
///     while told.recv() == Ok(true) {
///         while let Some(batch) = receiver.try_next(1 << 20) {
///             // Here it goes to the other log; when that has it:
///             receiver.acknowledge(batch.epoch);
///         }
///     }
/// });
/// let log = LogConfig { ack: Ack::Replicated, leaving: Some(sender), ..LogConfig::at("/var/lib/ledger") };
/// assert!(log.check().is_ok());
/// // Here `Runtime::open` comes, with `log`; and when the runtime is shut down:
/// tell.send(false)?;
/// # receiving.join().expect("nobody panics");
/// # Ok::<(), mpsc::SendError<bool>>(())
/// ```
pub fn epoch_channel(
    bytes_max: usize,
    wake: impl Fn() + Send + Sync + 'static,
) -> (EpochSender, EpochReceiver) {
    let way = Arc::new(Way {
        queue: ArrayQueue::new(BATCHES_MAX),
        bytes: AtomicUsize::new(0),
        gathered: AtomicUsize::new(0),
        bytes_max,
        looked_at: AtomicU64::new(0),
        has_complete: AtomicBool::new(false),
        holds: AtomicBool::new(false),
        wake: Box::new(wake),
        left: AtomicU64::new(0),
        is_cut: AtomicBool::new(false),
        is_dropped: AtomicBool::new(false),
        is_gathered: AtomicBool::new(false),
        wanted: AtomicU64::new(0),
        acknowledged: Mutex::new(Epoch(0)),
        moved: Condvar::new(),
        source: Mutex::new(None),
        is_taken: AtomicBool::new(false),
    });
    let (gathering, complete) = (Gathering::default(), Epoch(0));
    let receiver = EpochReceiver { way: way.clone(), source: None, gathering, complete };
    (EpochSender { way }, receiver)
}

/// What the receiver needs of the runtime: see `runtime::leaving`.
pub(crate) trait Leaves: Send + Sync {
    /// Up to which epoch everything was handed over.
    fn handed(&self) -> Epoch;
    /// Whether an answer waits for an epoch after `after`, up to `until`.
    fn is_awaited(&self, after: Epoch, until: Epoch) -> bool;
    /// The other log has everything up to this epoch.
    fn acknowledge(&self, epoch: Epoch);
    /// Nothing will be acknowledged any more, for this reason.
    fn end(&self, why: &str);
    /// Nobody receives its epochs any more.
    fn let_go(&self);
    /// There is room for more, and shards may wait for that.
    fn has_room(&self);
    /// Where the run began: all up to this epoch is of earlier runs.
    fn began(&self) -> Epoch;
    /// Of which types its records are.
    fn schema(&self) -> Arc<WrittenSchema>;
    /// How long batches may be.
    fn bounds(&self) -> Bounds;
}

struct Way {
    /// Sealed batches, those of one shard in their order.
    queue: ArrayQueue<Vec<u8>>,
    /// How many bytes they have.
    bytes: AtomicUsize,
    /// How many bytes are out of the queue, and have not left.
    gathered: AtomicUsize,
    bytes_max: usize,
    /// The receiver has looked when everything up to this epoch was complete..
    looked_at: AtomicU64,
    /// ..and something of that has not left.
    has_complete: AtomicBool,
    /// A shard takes no messages from outside before there is room.
    holds: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
    /// The last epoch that has come out.
    left: AtomicU64,
    /// Something did not leave, so nothing after it may.
    is_cut: AtomicBool,
    /// There is no receiver any more.
    is_dropped: AtomicBool,
    /// Of what was taken out of the queue something has not left.
    is_gathered: AtomicBool,
    /// A checkpoint waits for this epoch.
    wanted: AtomicU64,
    acknowledged: Mutex<Epoch>,
    moved: Condvar,
    /// Until the receiver has taken it.
    source: Mutex<Option<Arc<dyn Leaves>>>,
    is_taken: AtomicBool,
}

impl Way {
    fn acknowledged(&self) -> MutexGuard<'_, Epoch> {
        self.acknowledged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes wait.
    fn waiting(&self) -> usize {
        self.bytes.load(Ordering::SeqCst) + self.gathered.load(Ordering::SeqCst)
    }

    /// Whether no shard is to take messages from outside.
    fn is_overfull(&self) -> bool {
        self.waiting() / 2 >= self.bytes_max && !self.is_cut.load(Ordering::SeqCst)
    }

    /// The runtime, if nobody has it yet.
    fn take_source(&self) -> Option<Arc<dyn Leaves>> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The end that belongs into [`LogConfig::leaving`](crate::LogConfig::leaving). It is of one
/// runtime: another that is opened with it is refused.
#[derive(Clone)]
pub struct EpochSender {
    way: Arc<Way>,
}

impl EpochSender {
    /// A runtime is opened with it. Says whether it is the first.
    pub(crate) fn take(&self) -> bool {
        !self.way.is_taken.swap(true, Ordering::SeqCst)
    }

    /// The runtime is there.
    pub(crate) fn attach(&self, source: Arc<dyn Leaves>) {
        *self.way.acknowledged() = source.began();
        self.way.left.store(source.began().0, Ordering::SeqCst);
        *self.way.source.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
        // A receiver that goes says so first, and looks for the runtime then: one of both hears it.
        if self.way.is_dropped.load(Ordering::SeqCst)
            && let Some(source) = self.way.take_source()
        {
            source.let_go();
        }
        (self.way.wake)();
    }

    /// Puts a sealed batch on its way, if there is room for it. A batch after one that was
    /// [cut](EpochSender::cut) goes nowhere.
    pub(crate) fn put(&self, batch: &[u8], stand: impl FnOnce() -> Stand) -> Put {
        let way = &self.way;
        if way.is_cut.load(Ordering::SeqCst) {
            return Put::Cut;
        }
        if way.queue.is_full() {
            return Put::Unseen;
        }
        if way.waiting() >= way.bytes_max {
            let Stand { handed, is_last } = stand();
            if way.looked_at.load(Ordering::SeqCst) < handed.0 {
                return Put::Unseen;
            }
            if way.has_complete.load(Ordering::SeqCst) || !is_last {
                return Put::Full;
            }
        }
        way.bytes.fetch_add(batch.len(), Ordering::SeqCst);
        if way.queue.push(batch.to_vec()).is_err() {
            way.bytes.fetch_sub(batch.len(), Ordering::SeqCst);
            return Put::Full;
        }
        Put::Done
    }

    /// Whether no shard is to take messages from outside, until [`Leaves::has_room`].
    pub(crate) fn holds_back(&self) -> bool {
        // In this order, so that a receiver which makes room meanwhile says so.
        let is_overfull = || self.way.is_overfull();
        is_overfull() && {
            self.way.holds.store(true, Ordering::SeqCst);
            is_overfull()
        }
    }

    /// A batch does not leave: nothing more is handed over.
    pub(crate) fn cut(&self) {
        self.way.is_cut.store(true, Ordering::SeqCst);
    }

    /// More may be complete, or awaited.
    pub(crate) fn tell(&self, handed: Epoch, is_awaited: impl FnOnce(Epoch) -> bool) {
        let way = &self.way;
        let left = Epoch(way.left.load(Ordering::SeqCst));
        let has_some = || !way.queue.is_empty() || way.is_gathered.load(Ordering::SeqCst);
        let is_wanted = || way.wanted.load(Ordering::SeqCst) > left.0;
        if left < handed && (has_some() || is_wanted() || is_awaited(left)) {
            (way.wake)();
        }
    }

    /// Waits until the other log has everything up to `epoch`.
    ///
    /// # Errors
    /// It is over, as `goes_on` says; or nobody receives epochs any more, so it never has it.
    pub(crate) fn wait_for(&self, epoch: Epoch, goes_on: impl Fn() -> bool) -> Result<(), CheckpointError> {
        self.way.wanted.fetch_max(epoch.0, Ordering::SeqCst);
        (self.way.wake)();
        let mut acknowledged = self.way.acknowledged();
        while *acknowledged < epoch {
            if !goes_on() {
                return Err(SnapshotError::Stopped.into());
            }
            if self.way.is_dropped.load(Ordering::SeqCst) {
                return Err(CheckpointError::NotLeaving);
            }
            let waited = self.way.moved.wait_timeout(acknowledged, LOOK_EVERY);
            acknowledged = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }
}

/// Where a shard stands that has a batch to hand over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stand {
    /// Everything up to this epoch was handed over.
    pub(crate) handed: Epoch,
    /// The shard has handed over no more than that, so nothing else is complete without it.
    pub(crate) is_last: bool,
}

/// What became of a batch that was to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Done,
    /// There is no room.
    Full,
    /// There is no room, and the receiver has not seen all that may be complete.
    Unseen,
    /// One before it did not leave.
    Cut,
}

impl fmt::Debug for EpochSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochSender").finish_non_exhaustive()
    }
}

/// The end at which a runtime's epochs come out, in order, and where they are acknowledged.
///
/// When it is dropped nothing more is acknowledged. A runtime with
/// [`Ack::Replicated`](crate::Ack::Replicated) can answer nobody without it: it dies
/// ([`DeathCause::Fenced`](crate::DeathCause::Fenced)), and all that wait are answered `Unknown`.
/// Any other runtime goes on, with a warning, and makes no checkpoint
/// ([`CheckpointError::NotLeaving`]): its own log keeps all that the other log has not.
pub struct EpochReceiver {
    way: Arc<Way>,
    source: Option<Arc<dyn Leaves>>,
    gathering: Gathering,
    /// All up to this epoch has been handed over, and has been taken out of the queue.
    complete: Epoch,
}

impl EpochReceiver {
    /// The next epochs that are complete and have something in them, or that an answer waits for:
    /// as many as have at most `bytes_max` bytes, and one at least, as one batch. `None` if there
    /// are none yet; `wake` says when to look again.
    ///
    /// # Panics
    /// If a batch in the queue is not what the shard sealed (*whole-epochs-leave*).
    pub fn try_next(&mut self, bytes_max: usize) -> Option<EpochBatch> {
        let source = self.attached()?;
        // What is out of the queue leaves first. So what is out is bounded, as the queue is.
        if !self.gathering.has(self.complete) {
            self.look(&*source);
        }
        let (left, complete) = (self.gathering.left(), self.complete);
        let awaits = complete > left
            && (source.is_awaited(left, complete) || self.way.wanted.load(Ordering::SeqCst) > left.0);
        let gathered = self.gathering.take(complete, bytes_max);
        let gathered = gathered.or_else(|| awaits.then(|| self.gathering.leave_empty(complete)));
        self.show(&*source);
        let gathered = gathered?;
        self.way.left.store(gathered.epoch.0, Ordering::SeqCst);
        let (epoch, time, records) = (gathered.epoch, gathered.time, gathered.records);
        Some(EpochBatch { epoch, time, schema: source.schema(), records })
    }

    /// Has everything up to `epoch` come out of [`try_next`](EpochReceiver::try_next), as soon as
    /// it is complete, also if nothing was committed in it and no answer waits for it.
    pub fn want(&mut self, epoch: Epoch) {
        self.way.wanted.fetch_max(epoch.0, Ordering::SeqCst);
    }

    /// Another log has all epochs up to this one, for ever: answers that wait for nothing else
    /// leave.
    pub fn acknowledge(&mut self, epoch: Epoch) {
        let Some(source) = self.attached() else { return };
        {
            let mut acknowledged = self.way.acknowledged();
            *acknowledged = epoch.max(*acknowledged);
        }
        self.way.moved.notify_all();
        source.acknowledge(epoch);
    }

    /// Nothing will be acknowledged any more, because the database belongs to somebody else: the
    /// runtime dies of that ([`DeathCause::Fenced`](crate::DeathCause::Fenced)), and all that wait
    /// are answered `Unknown`.
    pub fn fence(&mut self, why: &str) {
        // The runtime goes down, and waits for room no more.
        self.way.is_cut.store(true, Ordering::SeqCst);
        if let Some(source) = self.attached() {
            source.end(why);
        }
    }

    /// How many bytes wait to be taken: at most as many as the way was given, a batch more for each
    /// shard, and what completes an epoch, while none is complete.
    pub fn backlog(&self) -> usize {
        self.way.waiting()
    }

    /// Whether a batch did not leave, because the runtime stopped while there was no room: what
    /// was committed from there on is in its own log only.
    pub fn is_cut(&self) -> bool {
        self.way.is_cut.load(Ordering::SeqCst)
    }

    /// Shows the shards what has not left. What there is of it is known before it is said that it
    /// was looked at.
    fn show(&mut self, source: &dyn Leaves) {
        let way = &self.way;
        way.is_gathered.store(!self.gathering.is_empty(), Ordering::SeqCst);
        way.gathered.store(self.gathering.bytes(), Ordering::SeqCst);
        way.has_complete.store(self.gathering.has(self.complete), Ordering::SeqCst);
        way.looked_at.store(self.complete.0, Ordering::SeqCst);
        if !way.is_overfull() && way.holds.swap(false, Ordering::SeqCst) {
            source.has_room();
        }
    }

    /// Finds out what is complete now, and takes it out of the queue.
    ///
    /// A shard whose batch was cut is idle once it has written it, and then seems to have handed
    /// all over. It said that the batch was cut before: so it is seen here, and nothing more is
    /// complete (*whole-epochs-leave*).
    fn look(&mut self, source: &dyn Leaves) {
        let handed = source.handed();
        if self.is_cut() {
            return;
        }
        self.drain(source.bounds());
        self.complete = handed;
    }

    fn drain(&mut self, bounds: Bounds) {
        // Before anything is out of the queue: a shard that sees the queue empty is to see this.
        self.way.is_gathered.store(true, Ordering::SeqCst);
        while let Some(bytes) = self.way.queue.pop() {
            let batch = sealed(&bytes, bounds).expect("whole-epochs-leave: a shard sealed it");
            self.gathering.add(&batch);
            // It counts in the one or the other always.
            self.way.gathered.store(self.gathering.bytes(), Ordering::SeqCst);
            self.way.bytes.fetch_sub(bytes.len(), Ordering::SeqCst);
        }
    }

    /// The runtime, if one was opened.
    fn attached(&mut self) -> Option<Arc<dyn Leaves>> {
        if self.source.is_none() {
            let source = self.way.take_source()?;
            (self.gathering, self.complete) = (Gathering::new(source.began()), source.began());
            self.source = Some(source);
        }
        self.source.clone()
    }
}

impl Drop for EpochReceiver {
    fn drop(&mut self) {
        // Nobody makes room any more, and the disk is not to wait for it.
        self.way.is_cut.store(true, Ordering::SeqCst);
        self.way.is_dropped.store(true, Ordering::SeqCst);
        self.way.moved.notify_all();
        if let Some(source) = self.source.take().or_else(|| self.way.take_source()) {
            source.let_go();
        }
    }
}

impl fmt::Debug for EpochReceiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EpochReceiver").field("left", &self.gathering.left()).finish_non_exhaustive()
    }
}

/// Puts a batch of a shard on its way, when there is room. `is_over` says that the runtime stops,
/// and room may never come.
pub(crate) async fn hand_over<F: Future<Output = ()>>(
    sender: &EpochSender,
    batch: &[u8],
    stand: impl Fn() -> Stand,
    mut pause: impl FnMut() -> F,
    is_over: impl Fn() -> bool,
    handed: impl FnOnce(),
) {
    for tries in 0_u64.. {
        match sender.put(batch, &stand) {
            Put::Done => return handed(),
            Put::Cut => return,
            Put::Full | Put::Unseen if is_over() => return sender.cut(),
            put => {
                if put == Put::Unseen && tries.is_multiple_of(TRIES_PER_WAKE) {
                    (sender.way.wake)();
                }
                pause().await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use freehold_shard::log::{BatchWriter, Marks, SegmentId, Tail};

    #[test]
    fn the_queue_is_bounded_by_bytes_and_after_a_cut_nothing_leaves() {
        let (sender, receiver) = epoch_channel(100, || {});
        assert_eq!(sender.put(&[0; 70], other), Put::Done);
        assert_eq!(sender.put(&[0; 70], other), Put::Done, "a batch more than fits, so that any fits");
        assert_eq!((sender.put(&[0; 1], other), receiver.backlog()), (Put::Unseen, 140));
        sender.cut();
        assert!(sender.put(&[0; 1], other) == Put::Cut && receiver.is_cut());
    }

    /// In place of what was handed over: the runtime has heard that nobody receives it.
    const LET_GO: u64 = u64::MAX;

    /// A runtime that has handed over so much as a test says, and whether it has heard of room.
    struct Handed(Arc<AtomicU64>, AtomicBool);

    impl Leaves for Handed {
        fn handed(&self) -> Epoch {
            Epoch(self.0.load(Ordering::SeqCst))
        }

        fn is_awaited(&self, _after: Epoch, _until: Epoch) -> bool {
            false
        }

        fn acknowledge(&self, _epoch: Epoch) {}

        fn end(&self, _why: &str) {}

        fn let_go(&self) {
            self.0.store(LET_GO, Ordering::SeqCst);
        }

        fn has_room(&self) {
            self.1.store(true, Ordering::SeqCst);
        }

        fn began(&self) -> Epoch {
            Epoch(1)
        }

        fn schema(&self) -> Arc<WrittenSchema> {
            Arc::new(WrittenSchema::UNSTATED)
        }

        fn bounds(&self) -> Bounds {
            BOUNDS
        }
    }

    const BOUNDS: Bounds = Bounds::of_segments(1 << 20);

    /// A batch with a record in each of these epochs.
    fn batch(epochs: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let mut writer = BatchWriter::new(BOUNDS);
        for epoch in epochs {
            assert!(writer.push(Epoch(epoch), &[9; 100]));
        }
        let id = SegmentId { database: 1, log: 0, segment: 1, start: 1 };
        writer.seal(id, &mut Tail::default(), &Marks::default()).to_vec()
    }

    /// A way, how far it is handed over, and how often the receiver was woken.
    fn attached() -> (EpochSender, EpochReceiver, Arc<AtomicU64>, Arc<AtomicU64>) {
        let (handed, woken) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicU64::new(0)));
        let counts = woken.clone();
        let (sender, receiver) = epoch_channel(100, move || {
            counts.fetch_add(1, Ordering::SeqCst);
        });
        sender.attach(Arc::new(Handed(handed.clone(), AtomicBool::new(false))));
        (sender, receiver, handed, woken)
    }

    #[test]
    fn an_empty_epoch_leaves_if_it_is_wanted() {
        let (_sender, mut receiver, handed, _) = attached();
        receiver.want(Epoch(3));
        assert_eq!(receiver.try_next(1), None, "it is not complete");
        handed.store(4, Ordering::SeqCst);
        let batch = receiver.try_next(1).expect("it is wanted");
        assert_eq!((batch.epoch, batch.records.len()), (Epoch(4), 0));
        handed.store(5, Ordering::SeqCst);
        assert_eq!(receiver.try_next(1), None, "nobody wants more");
    }

    /// Another shard has handed over less, in the first epochs of a test.
    fn other() -> Stand {
        Stand { handed: Epoch(1), is_last: false }
    }

    #[test]
    fn what_waits_is_bounded_in_the_queue_and_out_of_it() {
        let (sender, mut receiver, handed, _) = attached();
        assert_eq!(sender.put(&batch(2..6), other), Put::Done);
        handed.store(5, Ordering::SeqCst);
        for epoch in 2..6 {
            assert_ne!(sender.put(&batch([6]), other), Put::Done, "what is out of the queue waits, too");
            assert!(receiver.backlog() >= 100 * (6 - epoch as usize));
            assert_eq!(receiver.try_next(1).map(|batch| batch.epoch), Some(Epoch(epoch)));
        }
        assert_eq!((receiver.backlog(), sender.put(&batch([6]), other)), (0, Put::Done));
        assert!(receiver.try_next(1).is_none(), "it is not complete");
    }

    // Two shards: one is in a long turn, and the other goes on.
    #[test]
    fn while_nothing_is_complete_only_the_shard_that_all_wait_for_has_room() {
        let (sender, mut receiver, handed, _) = attached();
        let last = || Stand { handed: Epoch(1), is_last: true };
        assert_eq!(sender.put(&batch([2, 3]), other), Put::Done);
        for _ in 0..3 {
            assert_eq!(receiver.try_next(1), None);
            assert_eq!(sender.put(&batch([4]), other), Put::Full);
        }
        // The turn is over, and what the shard has done in it comes in two batches.
        for _ in 0..2 {
            assert_eq!(sender.put(&batch([2]), last), Put::Done, "the-last-has-room: all wait for it");
        }
        handed.store(3, Ordering::SeqCst);
        let stand = || Stand { handed: Epoch(3), is_last: true };
        assert_eq!(sender.put(&batch([4]), stand), Put::Unseen, "something may be complete");
        let left = receiver.try_next(1).expect("it is complete");
        assert_eq!((left.epoch, left.records.len()), (Epoch(2), 3));
        assert_eq!(sender.put(&batch([4]), stand), Put::Full, "something that is complete has not left");
        assert_eq!(receiver.try_next(1).map(|batch| batch.epoch), Some(Epoch(3)));
        assert_eq!(sender.put(&batch([4]), stand), Put::Done);
    }

    #[test]
    fn with_twice_as_much_no_messages_are_taken_until_there_is_room() {
        let (sender, receiver) = epoch_channel(100, || {});
        let (handed, mut receiver) = (Arc::new(AtomicU64::new(1)), receiver);
        let runtime = Arc::new(Handed(handed.clone(), AtomicBool::new(false)));
        sender.attach(runtime.clone());
        let heard = || runtime.1.swap(false, Ordering::SeqCst);
        let last = || Stand { handed: Epoch(1), is_last: true };
        assert_eq!(sender.put(&batch([2]), last), Put::Done);
        assert!(receiver.try_next(1).is_none() && !sender.holds_back());
        assert_eq!((sender.put(&batch([3]), last), sender.holds_back()), (Put::Done, true));
        assert!(receiver.try_next(1).is_none());
        // What is out of the queue is a little shorter.
        assert_eq!(sender.put(&batch([3]), last), Put::Done);
        assert!(sender.holds_back());
        handed.store(3, Ordering::SeqCst);
        assert!(receiver.try_next(1).is_some());
        assert_eq!((heard(), sender.holds_back()), (receiver.backlog() < 200, receiver.backlog() >= 200));
        assert!(receiver.try_next(1).is_some() && receiver.backlog() == 0 && !sender.holds_back());
        heard();
        assert!(receiver.try_next(1).is_none() && !heard(), "nobody waits for it");
        // Nobody waits for room in a way that leads nowhere.
        assert_eq!((sender.put(&batch([4; 3]), last), sender.holds_back()), (Put::Done, true));
        sender.cut();
        assert!(!sender.holds_back());
    }

    #[test]
    fn who_has_gathered_what_is_complete_now_is_woken() {
        let (sender, mut receiver, handed, woken) = attached();
        let tells = |epoch: u64| {
            let before = woken.load(Ordering::SeqCst);
            handed.store(epoch, Ordering::SeqCst);
            sender.tell(Epoch(epoch), |_| false);
            woken.load(Ordering::SeqCst) > before
        };
        assert!(!tells(2), "there is nothing");
        assert_eq!(sender.put(&batch([3]), other), Put::Done);
        assert!(receiver.try_next(1).is_none(), "it is not complete");
        assert!(tells(3));
        assert!(receiver.try_next(1).is_some() && !tells(4));
        assert!(sender.wait_for(Epoch(6), || false).is_err());
        assert!(tells(5), "a checkpoint waits");
    }

    #[test]
    fn one_runtime_takes_it() {
        let (sender, _receiver) = epoch_channel(100, || {});
        assert!(sender.take() && !sender.clone().take());
    }

    #[test]
    fn who_waits_for_the_other_log_can_be_called_off() {
        let (sender, _receiver) = epoch_channel(100, || {});
        assert!(sender.wait_for(Epoch(0), || true).is_ok());
        let over = sender.wait_for(Epoch(1), || false).expect_err("it is over");
        assert!(matches!(over, CheckpointError::Snapshot(SnapshotError::Stopped)), "{over}");
    }

    // Whether the runtime is there before its receiver goes, or after, and was received from or
    // not.
    #[test]
    fn a_runtime_hears_that_its_receiver_is_gone() {
        for received in [false, true] {
            let (sender, mut receiver, handed, _) = attached();
            if received {
                assert_eq!(receiver.try_next(1), None);
            }
            drop(receiver);
            assert_eq!(handed.load(Ordering::SeqCst), LET_GO);
            let never = sender.wait_for(Epoch(2), || true).expect_err("nobody acknowledges it");
            assert!(matches!(never, CheckpointError::NotLeaving), "{never}");
            assert!(sender.wait_for(Epoch(1), || true).is_ok(), "that was acknowledged before");
        }
        let (sender, receiver) = epoch_channel(100, || {});
        drop(receiver);
        let handed = Arc::new(AtomicU64::new(1));
        sender.attach(Arc::new(Handed(handed.clone(), AtomicBool::new(false))));
        assert_eq!(handed.load(Ordering::SeqCst), LET_GO);
    }
}
