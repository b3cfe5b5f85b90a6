//! The life of a shard's thread: it builds the executor, runs the pump, and answers whoever still
//! waits when that ends, well or badly.
//!
//! A thread may fall asleep before its executor has taken the first step, for the reason that
//! `stall_timer` tells, and then nothing can wake it. So what a shard is made of is not given to a
//! thread but lies in a *slot*: the executor that gets to its first step takes it. If none has
//! after [`PATIENCE`], another thread is tried; one that wakes late finds the slot empty and goes.
//! (Needed twice in 1,000 starts beside four busy loops on two CPUs.)

use std::cell::RefCell;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use freehold_shard::{Actor, ShardIndex};
use glommio::io::PollableFd;
use glommio::timer::Timer;
use glommio::{LocalExecutor, LocalExecutorBuilder, Placement, PoolPlacement};

use crate::config::Config;
use crate::core::pump::pump;
use crate::core::setup::ShardSetup;
use crate::core::shard_waker::ShardWaker;
use crate::core::shared::Shared;
use crate::core::stall_timer::StallTimer;
use crate::core::{LocalShard, ShardExit, writer};
use crate::error::{Death, DeathCause, StartError, panic_message};
use crate::spawn::{LocalFuture, spawn_task};
use crate::stats::Phase;
use crate::topology::occupancy::leave_inherited_cpu;
use crate::transport::mailbox::unknown;
use crate::transport::waiting;

/// After this long another thread is tried. Building an executor takes some 3 ms.
const PATIENCE: Duration = Duration::from_millis(500);

/// After this long a start has failed.
const PATIENCE_MAX: Duration = Duration::from_secs(30);

/// Where a shard's setup lies for the threads that may come to life.
struct SetupSlot<A: Actor> {
    state: Mutex<(Option<ShardSetup<A>>, Option<usize>)>,
}

impl<A: Actor> SetupSlot<A> {
    /// Gives the setup to the thread that `attempt` was, unless another has it.
    fn take(&self, attempt: usize) -> Option<ShardSetup<A>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let setup = state.0.take()?;
        state.1 = Some(attempt);
        Some(setup)
    }

    /// Which attempt has taken the setup.
    fn taken_by(&self) -> Option<usize> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Takes the setup off, unless a thread has it: then returns which attempt that is.
    fn withdraw(&self) -> Option<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = None;
        state.1
    }
}

/// What a thread that took the setup says: the shard is ready, or why not.
type Ready = Result<(), StartError>;

/// The threads that run shards.
type Threads<A> = Vec<JoinHandle<ShardExit<A>>>;

/// A shard that is being brought up.
struct Starting<A: Actor> {
    shard: ShardIndex,
    shared: Arc<Shared<A>>,
    slot: Arc<SetupSlot<A>>,
    attempts: Threads<A>,
}

impl<A: Actor> Starting<A> {
    fn try_again(&mut self, ready: &mpsc::Sender<Ready>) -> Result<(), StartError> {
        let (shard, attempt) = (self.shard, self.attempts.len());
        let (shared, slot, ready) = (self.shared.clone(), self.slot.clone(), ready.clone());
        let thread = std::thread::Builder::new().name(format!("freehold-{}", shard.0));
        let thread = thread.spawn(move || {
            // Once the runtime has started, or has failed to, nobody listens.
            let say = |is_ready| drop(ready.send(is_ready));
            live(shard, &shared, || slot.take(attempt), say)
        });
        self.attempts.push(thread.map_err(StartError::System)?);
        Ok(())
    }

    /// The thread that runs the shard, if one does. The others find the slot empty when they wake.
    fn into_thread(mut self) -> Option<JoinHandle<ShardExit<A>>> {
        self.slot.withdraw().map(|attempt| self.attempts.swap_remove(attempt))
    }
}

/// Brings up a thread for each setup. Returns them when all are ready; or what went wrong first,
/// with those that run.
pub(crate) fn bring_up<A: Actor>(
    setups: Vec<ShardSetup<A>>,
) -> Result<Threads<A>, Box<(StartError, Threads<A>)>> {
    let mut shards: Vec<_> = setups
        .into_iter()
        .map(|setup| Starting {
            shard: setup.shard,
            shared: setup.shared.clone(),
            slot: Arc::new(SetupSlot { state: Mutex::new((Some(setup), None)) }),
            attempts: Vec::new(),
        })
        .collect();
    let ready = wait_until_ready(&mut shards);
    let threads = shards.into_iter().filter_map(Starting::into_thread).collect();
    match ready {
        Ok(()) => Ok(threads),
        Err(error) => Err(Box::new((error, threads))),
    }
}

fn wait_until_ready<A: Actor>(shards: &mut [Starting<A>]) -> Result<(), StartError> {
    let (ready, arriving) = mpsc::channel();
    shards.iter_mut().try_for_each(|shard| shard.try_again(&ready))?;
    let begin = Instant::now();
    let mut again = PATIENCE;
    let mut missing = shards.len();
    while missing > 0 {
        match arriving.recv_timeout(again.saturating_sub(begin.elapsed())) {
            Ok(is_ready) => {
                is_ready?;
                missing -= 1;
            }
            Err(RecvTimeoutError::Timeout) => {
                let mut asleep = shards.iter_mut().filter(|shard| shard.slot.taken_by().is_none()).peekable();
                if let Some(shard) = asleep.peek()
                    && begin.elapsed() >= PATIENCE_MAX
                {
                    return Err(StartError::NotReady { shard: shard.shard, after: begin.elapsed() });
                }
                for shard in asleep {
                    tracing::warn!(
                        shard = shard.shard.0,
                        "an executor did not take its first step; another is tried"
                    );
                    shard.try_again(&ready)?;
                }
                again += PATIENCE;
            }
            Err(RecvTimeoutError::Disconnected) => unreachable!("this end has a sender too"),
        }
    }
    Ok(())
}

/// The life of a thread of `shard`.
fn live<A: Actor>(
    shard: ShardIndex,
    shared: &Arc<Shared<A>>,
    take: impl Fn() -> Option<ShardSetup<A>>,
    say: impl Fn(Ready),
) -> ShardExit<A> {
    let mut executor = None;
    let here = RefCell::new(None);
    let run = catch_unwind(AssertUnwindSafe(|| -> Result<(), StartError> {
        let cpu = shared.cpus[shard.index()];
        let executor = &*executor.insert(build_executor(&shared.config, &shared.allowed, shard, cpu)?);
        let shard_waker = Arc::new(ShardWaker { shared: Arc::downgrade(shared), shard: shard.index() });
        let _shard_thread = waiting::become_shard_thread(Waker::from(shard_waker));
        run(
            executor,
            Box::pin(async {
                let stall_timer = StallTimer::new();
                let Some(setup) = take() else { return Ok(()) };
                let log = setup.restored.as_ref().map(|restored| restored.first.log);
                let local = Rc::new(LocalShard::new(setup));
                *here.borrow_mut() = Some(local.clone());
                let shard_itself = Rc::downgrade(&local);
                waiting::ask_whether_in_receive(move || {
                    shard_itself.upgrade().is_some_and(|local| local.is_in_receive())
                });
                if let (Some(log), Some(logs)) = (log, shared.logs.clone()) {
                    let first = writer::first(&logs, log).await?;
                    local.handoff.borrow_mut().man();
                    spawn_task(Box::pin(writer::write(local.clone(), logs, log, first)));
                }
                let doorbell = local.mailbox().doorbell().map_err(StartError::System)?;
                let doorbell = pollable(doorbell, shard)?;
                // The first timer of a process may take 30 to 80 ms; nobody's message is to be the
                // one that pays.
                Timer::new(Duration::from_micros(100)).await;
                tracing::debug!(shard = shard.0, cpu = shared.cpus[shard.index()], "a shard is ready");
                say(Ok(()));
                pump(local, doorbell, stall_timer).await;
                Ok(())
            }),
        )
    }));
    let here = here.into_inner();
    // One that failed before it took the setup takes it now, so that no other thread is tried in
    // vain.
    if here.is_none() && take().is_none() {
        return ShardExit::default();
    }
    match run {
        Ok(Ok(())) => {}
        Ok(Err(error)) => say(Err(error)),
        Err(payload) => {
            let death = Death { shard, cause: DeathCause::Panicked(panic_message(payload)) };
            shared.die(death.clone());
            say(Err(StartError::Died(death)));
            // Dropping what is left of a dead executor drops its tasks outside of it, where
            // glommio's types panic, and a panic in a drop of theirs aborts the process. So its
            // rings (seven descriptors) and the thread for its blocking calls stay until the
            // process ends. The shard's objects do not: see `let_objects_go`.
            std::mem::forget(executor.take());
        }
    }
    drop(executor);
    leave(shard, shared, here)
}

/// Runs what a shard does. As a `dyn`, so that the executor is compiled once and not once an actor.
fn run(executor: &LocalExecutor, life: LocalFuture<'_, Result<(), StartError>>) -> Result<(), StartError> {
    executor.run(life)
}

/// Answers everyone who waits for the shard, which runs no more.
fn leave<A: Actor>(shard: ShardIndex, shared: &Shared<A>, here: Option<Rc<LocalShard<A>>>) -> ShardExit<A> {
    // What a user's type does when dropped must not keep anyone waiting.
    let left = catch_unwind(AssertUnwindSafe(|| match &here {
        Some(here) => here.leave(),
        None => {
            shared.mailboxes[shard.index()].close(&shared.replies);
            ShardExit::default()
        }
    }));
    let is_last = shared.staying.fetch_sub(1, Ordering::AcqRel) == 1;
    if is_last || shared.phase() == Phase::Dead {
        let unanswered = shared.replies.answer_all(unknown::<A>);
        if unanswered > 0 {
            tracing::warn!(unanswered, "asks were answered `Unknown`");
        }
    }
    let let_go = || {
        if let Some(here) = here {
            here.let_objects_go();
        }
    };
    if let Err(payload) = catch_unwind(AssertUnwindSafe(let_go)) {
        tracing::warn!(panic = panic_message(payload), "an object panicked when it was dropped");
    }
    left.unwrap_or_default()
}

// What follows knows no actor: so glommio's errors and their texts are compiled once.

fn build_executor(
    config: &Config,
    allowed: &[usize],
    shard: ShardIndex,
    cpu: Option<usize>,
) -> Result<LocalExecutor, StartError> {
    // The executor's blocking thread inherits where this thread may run before it is bound.
    if let Err(error) = leave_inherited_cpu(allowed.iter().copied()) {
        tracing::debug!(shard = shard.0, %error, "this thread stays where the one that started it may run");
    }
    let placement = match cpu {
        Some(cpu) => Placement::Fixed(cpu),
        None => Placement::Unbound,
    };
    let executor = LocalExecutorBuilder::new(placement)
        .name(&format!("freehold-{}", shard.0))
        .io_memory(config.io_memory_bytes)
        .ring_depth(config.ring_depth)
        .preempt_timer(config.preempt_timer)
        // Blocking calls of tasks must not take the shard's own CPU, which is where glommio would
        // put them.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make();
    executor.map_err(|error| StartError::Executor { shard, source: error.into() })
}

fn pollable(doorbell: OwnedFd, shard: ShardIndex) -> Result<PollableFd<OwnedFd>, StartError> {
    PollableFd::new(doorbell).map_err(|error| StartError::Executor { shard, source: error.into() })
}
