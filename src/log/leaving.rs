//! How the epochs of a runtime that runs leave for another log: what all shards committed in an
//! epoch comes out as one [`EpochBatch`], and answers wait until the other log has acknowledged it.
//!
//! ```text
//! shards ──sealed batches──> a bounded queue ──> EpochReceiver ──epochs, in order──> another log
//! answers wait for the ceiling <── acknowledge ─────┘
//! ```
//! A shard's writer puts a copy of each batch into the queue before it writes it, so the two go on
//! at once. When the queue is full the writer waits, and with it all that waits for the disk: so
//! memory is bounded, and messages from outside wait as if the disk were slow.
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
/// How often a checkpoint that waits for another log looks whether it is to end.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// The two ends of the way that a runtime's epochs leave by. At most `bytes_max` bytes, and a batch
/// more for each shard, wait in between. The receiver takes so much out at once, and more only when
/// what is complete of that has left. `wake` is called, from any thread, when the receiver may have
/// something new: it must not block.
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
        bytes_max,
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
    bytes: AtomicUsize,
    bytes_max: usize,
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
    pub(crate) fn put(&self, batch: &[u8]) -> Put {
        let way = &self.way;
        if way.is_cut.load(Ordering::SeqCst) {
            return Put::Cut;
        }
        if way.bytes.load(Ordering::SeqCst) >= way.bytes_max || way.queue.is_full() {
            return Put::Full;
        }
        way.bytes.fetch_add(batch.len(), Ordering::SeqCst);
        if way.queue.push(batch.to_vec()).is_err() {
            way.bytes.fetch_sub(batch.len(), Ordering::SeqCst);
            return Put::Full;
        }
        Put::Done
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

/// What became of a batch that was to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Put {
    Done,
    /// There is no room.
    Full,
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
        self.way.is_gathered.store(!self.gathering.is_empty(), Ordering::SeqCst);
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
        self.way.is_cut.store(true, Ordering::SeqCst);
        if let Some(source) = self.attached() {
            source.end(why);
        }
    }

    /// How many bytes wait to be taken: at most twice what the way was given, and what its shards
    /// have of epochs that are not complete.
    pub fn backlog(&self) -> usize {
        self.way.bytes.load(Ordering::SeqCst) + self.gathering.bytes()
    }

    /// Whether a batch did not leave, because the runtime stopped while there was no room: what
    /// was committed from there on is in its own log only.
    pub fn is_cut(&self) -> bool {
        self.way.is_cut.load(Ordering::SeqCst)
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
        while let Some(batch) = self.way.queue.pop() {
            self.way.bytes.fetch_sub(batch.len(), Ordering::SeqCst);
            let batch = sealed(&batch, bounds).expect("whole-epochs-leave: a shard sealed it");
            self.gathering.add(&batch);
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
    mut pause: impl FnMut() -> F,
    is_over: impl Fn() -> bool,
    handed: impl FnOnce(),
) {
    loop {
        match sender.put(batch) {
            Put::Done => return handed(),
            Put::Cut => return,
            Put::Full if is_over() => return sender.cut(),
            Put::Full => pause().await,
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
        assert_eq!(sender.put(&[0; 70]), Put::Done);
        assert_eq!(sender.put(&[0; 70]), Put::Done, "a batch more than fits, so that any fits");
        assert_eq!((sender.put(&[0; 1]), receiver.backlog()), (Put::Full, 140));
        sender.cut();
        assert!(sender.put(&[0; 1]) == Put::Cut && receiver.is_cut());
    }

    /// In place of what was handed over: the runtime has heard that nobody receives it.
    const LET_GO: u64 = u64::MAX;

    /// A runtime that has handed over so much as a test says.
    struct Handed(Arc<AtomicU64>);

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
        sender.attach(Arc::new(Handed(handed.clone())));
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

    #[test]
    fn what_is_out_of_the_queue_leaves_before_more_comes_out() {
        let (sender, mut receiver, handed, _) = attached();
        assert_eq!(sender.put(&batch(2..6)), Put::Done);
        handed.store(5, Ordering::SeqCst);
        for epoch in 2..6 {
            assert_eq!(receiver.try_next(1).map(|batch| batch.epoch), Some(Epoch(epoch)));
            if epoch == 2 {
                assert_eq!(sender.put(&batch(6..10)), Put::Done, "there is room again");
            }
            assert_eq!(sender.put(&batch(10..11)), Put::Full, "and no more than that");
            assert!(receiver.backlog() >= batch(6..10).len() + 100 * (5 - epoch as usize));
        }
        // An epoch that is not complete may need a batch for which there is no room yet.
        assert!(receiver.try_next(1).is_none());
        assert_eq!(sender.put(&batch(10..11)), Put::Done);
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
        assert_eq!(sender.put(&batch([3])), Put::Done);
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
        sender.attach(Arc::new(Handed(handed.clone())));
        assert_eq!(handed.load(Ordering::SeqCst), LET_GO);
    }
}
