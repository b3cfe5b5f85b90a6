//! The life of a shard's thread: it builds the executor, runs the pump, and answers whoever still waits when that ends,
//! well or badly.
//!
//! A thread may fall asleep before its executor has taken the first step, for the reason that `stall_timer` tells, and then
//! nothing can wake it. So what a shard is made of is not given to a thread but *offered*: the executor that gets to
//! its first step takes it. If none has after [`PATIENCE`], another thread is tried; one that wakes late finds nothing
//! on offer and goes. (Needed twice in 1,000 starts beside four busy loops on two CPUs.)

use std::cell::RefCell;
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

use crate::core::door::Door;
use crate::core::plan::Plan;
use crate::core::pump::pump;
use crate::core::shared::{Phase, Shared};
use crate::core::stall_timer::StallTimer;
use crate::core::{Left, LocalShard, writer};
use crate::error::{Death, DeathCause, StartError, panic_message};
use crate::topology::occupancy::leave_inherited_cpu;
use crate::transport::mailbox::unknown;
use crate::transport::waiting;

/// After this long another thread is tried. Building an executor takes some 3 ms.
const PATIENCE: Duration = Duration::from_millis(500);

/// After this long a start has failed.
const PATIENCE_MAX: Duration = Duration::from_secs(30);

/// A plan on offer to the threads that may come to life.
struct Offer<A: Actor> {
    state: Mutex<(Option<Plan<A>>, Option<usize>)>,
}

impl<A: Actor> Offer<A> {
    /// Gives the plan to the thread that `attempt` was, unless another has it.
    fn take(&self, attempt: usize) -> Option<Plan<A>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = state.0.take()?;
        state.1 = Some(attempt);
        Some(plan)
    }

    /// Which attempt has taken the plan.
    fn taken_by(&self) -> Option<usize> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    /// Takes the plan off, unless a thread has it: then returns which attempt that is.
    fn withdraw(&self) -> Option<usize> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = None;
        state.1
    }
}

/// What a thread that took the plan tells of itself.
type Sign = Result<(), StartError>;

/// The threads that run shards.
type Threads<A> = Vec<JoinHandle<Left<A>>>;

/// A shard that is being brought up.
struct Starting<A: Actor> {
    shard: ShardIndex,
    shared: Arc<Shared<A>>,
    offer: Arc<Offer<A>>,
    attempts: Threads<A>,
}

impl<A: Actor> Starting<A> {
    fn try_again(&mut self, signs: &mpsc::Sender<Sign>) -> Result<(), StartError> {
        let (shard, attempt) = (self.shard, self.attempts.len());
        let (shared, offer, signs) = (self.shared.clone(), self.offer.clone(), signs.clone());
        let thread = std::thread::Builder::new().name(format!("freehold-{}", shard.0));
        let thread = thread.spawn(move || {
            // Once the runtime has started, or has failed to, nobody listens.
            let sign = |sign| drop(signs.send(sign));
            live(shard, &shared, || offer.take(attempt), sign)
        });
        self.attempts.push(thread.map_err(StartError::System)?);
        Ok(())
    }

    /// The thread that runs the shard, if one does. The others find nothing on offer when they wake.
    fn into_thread(mut self) -> Option<JoinHandle<Left<A>>> {
        self.offer.withdraw().map(|attempt| self.attempts.swap_remove(attempt))
    }
}

/// Brings up a thread for each plan. Returns them when all are ready; or what went wrong first, with those that run.
pub(crate) fn bring_up<A: Actor>(plans: Vec<Plan<A>>) -> Result<Threads<A>, Box<(StartError, Threads<A>)>> {
    let mut shards: Vec<_> = plans
        .into_iter()
        .map(|plan| Starting {
            shard: plan.shard,
            shared: plan.shared.clone(),
            offer: Arc::new(Offer { state: Mutex::new((Some(plan), None)) }),
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
    let (signs, arriving) = mpsc::channel();
    shards.iter_mut().try_for_each(|shard| shard.try_again(&signs))?;
    let begin = Instant::now();
    let mut again = PATIENCE;
    let mut missing = shards.len();
    while missing > 0 {
        match arriving.recv_timeout(again.saturating_sub(begin.elapsed())) {
            Ok(sign) => {
                sign?;
                missing -= 1;
            }
            Err(RecvTimeoutError::Timeout) => {
                let mut asleep =
                    shards.iter_mut().filter(|shard| shard.offer.taken_by().is_none()).peekable();
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
                    shard.try_again(&signs)?;
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
    take: impl Fn() -> Option<Plan<A>>,
    sign: impl Fn(Sign),
) -> Left<A> {
    let mut executor = None;
    let here = RefCell::new(None);
    let run = catch_unwind(AssertUnwindSafe(|| -> Result<(), StartError> {
        let failed =
            |source: Box<dyn std::error::Error + Send + Sync>| StartError::Executor { shard, source };
        let executor =
            &*executor.insert(build_executor(shared, shard).map_err(|error| failed(error.into()))?);
        let door = Arc::new(Door { shared: Arc::downgrade(shared), shard: shard.index() });
        let _shard_thread = waiting::become_shard_thread(Waker::from(door));
        executor.run(async {
            let stall_timer = StallTimer::new();
            let Some(plan) = take() else { return Ok(()) };
            let log = plan.restored.as_ref().map(|restored| restored.first.log);
            let local = Rc::new(LocalShard::new(plan));
            *here.borrow_mut() = Some(local.clone());
            let shard_itself = Rc::downgrade(&local);
            waiting::ask_whether_in_receive(move || {
                shard_itself.upgrade().is_some_and(|local| local.is_in_receive())
            });
            if let (Some(log), Some(logs)) = (log, shared.logs.clone()) {
                let first = writer::first(&logs, log).await?;
                local.handoff.borrow_mut().man();
                glommio::spawn_local(writer::write(local.clone(), logs, log, first)).detach();
            }
            let bell = local.mailbox().bell().map_err(StartError::System)?;
            let bell = PollableFd::new(bell).map_err(|error| failed(error.into()))?;
            // The first timer of a process may take 30 to 80 ms; nobody's message is to be the one that pays.
            Timer::new(Duration::from_micros(100)).await;
            tracing::debug!(shard = shard.0, cpu = shared.cpus[shard.index()], "a shard is ready");
            sign(Ok(()));
            pump(local, bell, stall_timer).await;
            Ok(())
        })
    }));
    let here = here.into_inner();
    // One that failed before it took the plan takes it now, so that no other thread is tried in vain.
    if here.is_none() && take().is_none() {
        return Left::default();
    }
    match run {
        Ok(Ok(())) => {}
        Ok(Err(error)) => sign(Err(error)),
        Err(payload) => {
            let death = Death { shard, cause: DeathCause::Panicked(panic_message(payload)) };
            shared.die(death.clone());
            sign(Err(StartError::Died(death)));
            // Dropping what is left of a dead executor drops its tasks outside of it, where glommio's types panic, and
            // a panic in a drop of theirs aborts the process. So its rings (seven descriptors) and the thread for its
            // blocking calls stay until the process ends. The shard's objects do not: see `let_objects_go`.
            std::mem::forget(executor.take());
        }
    }
    drop(executor);
    leave(shard, shared, here)
}

/// Answers everyone who waits for the shard, which runs no more.
fn leave<A: Actor>(shard: ShardIndex, shared: &Shared<A>, here: Option<Rc<LocalShard<A>>>) -> Left<A> {
    // What a user's type does when dropped must not keep anyone waiting.
    let left = catch_unwind(AssertUnwindSafe(|| match &here {
        Some(here) => here.leave(),
        None => {
            shared.mailboxes[shard.index()].close(&shared.replies);
            Left::default()
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

fn build_executor<A: Actor>(shared: &Shared<A>, shard: ShardIndex) -> glommio::Result<LocalExecutor, ()> {
    let config = &shared.config;
    // The executor's blocking thread inherits where this thread may run before it is bound.
    if let Err(error) = leave_inherited_cpu(shared.allowed.iter().copied()) {
        tracing::debug!(shard = shard.0, %error, "this thread stays where the one that started it may run");
    }
    let placement = match shared.cpus[shard.index()] {
        Some(cpu) => Placement::Fixed(cpu),
        None => Placement::Unbound,
    };
    LocalExecutorBuilder::new(placement)
        .name(&format!("freehold-{}", shard.0))
        .io_memory(config.io_memory_bytes)
        .ring_depth(config.ring_depth)
        .preempt_timer(config.preempt_timer)
        // Blocking calls of tasks must not take the shard's own CPU, which is where glommio would put them.
        .blocking_thread_pool_placement(PoolPlacement::Unbound(1))
        .make()
}
