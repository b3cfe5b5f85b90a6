//! One core's loop on glommio: rounds, spinning, parking.
//!
//! Each shard has one executor, and on it one task that lives as long as the shard, the *pump*, in
//! the default task queue. After each round it yields to the tasks of users. When it runs dry it
//! spins and then parks: it waits for its doorbell through the ring, for the next timer, or for a
//! task of this thread.
//!
//! Nobody else ever holds a waker of the pump, so a wake from another thread cannot be lost in an
//! executor, which glommio's can; `parking` proves that it is not lost before, and `stall_timer`
//! sees to it that the executor does not sleep on it.

mod pace;

use std::future::Future;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use freehold_shard::Actor;
use glommio::io::{PollState, PollableFd};
use glommio::timer::Timer;

use self::pace::{Around, Pace, PumpStep};
use super::stall_timer::{DoorbellWaker, StallTimer, WATCH_EVERY, WATCH_WORK_EVERY};
use super::{Found, LocalShard, Publish};
use crate::stats::Phase;

/// How often one registration of the doorbell is waited on anew before it is renewed: each wait
/// leaves a waker with it.
const WAITS_PER_REGISTRATION: u32 = 32;

/// How long a shard that leaves waits for its disk, and for those of the others.
const FLUSH_MAX: Duration = Duration::from_secs(10);

/// Where the pump sleeps.
struct ParkState {
    doorbell: PollableFd<OwnedFd>,
    doorbell_waker: Arc<DoorbellWaker>,
    /// `doorbell_waker`, as a waker.
    waker: Waker,
    registration: PollState,
    waits: u32,
    was_rung: bool,
}

impl ParkState {
    fn new(doorbell: PollableFd<OwnedFd>) -> Self {
        let doorbell_waker = Arc::new(DoorbellWaker::default());
        let waker = Waker::from(doorbell_waker.clone());
        let registration = PollState::new();
        ParkState { doorbell, doorbell_waker, waker, registration, waits: 0, was_rung: false }
    }
}

/// Runs the pump until the runtime stops or dies.
pub(crate) async fn pump<A: Actor>(
    here: Rc<LocalShard<A>>,
    doorbell: PollableFd<OwnedFd>,
    mut stall_timer: StallTimer,
) {
    let mut park_state = ParkState::new(doorbell);
    let is_pinned = here.shared.is_pinned();
    let mut pace = Pace::new();
    // Those of earlier runs.
    here.begin_actions();
    loop {
        here.beat();
        if here.mailbox().has_signals() && here.poll_signals().is_break() {
            break;
        }
        let found = here.whole_round(pace.publishes());
        let around = Around {
            woke: found != Found::Nothing && here.wake_answered(),
            has_tasks: here.tasks.live() > 0,
            // While the disk writes, the executor is to look at its ring, which it does when it has
            // nothing else to do.
            may_spin: found == Found::Nothing
                && !here.is_draining()
                && !here.is_writing()
                && here.shared.seats.is_alone(here.index.index()),
            spin: here.shared.spin,
        };
        let step = pace.next(found, around, || match found {
            Found::Work => here.last_clock(),
            _ => Instant::now(),
        });
        // Each arm but one awaits something: see `pace`.
        match step {
            PumpStep::Yield | PumpStep::YieldIfNeeded => {
                keep(&here, &mut stall_timer, here.last_clock());
                if step == PumpStep::Yield {
                    glommio::executor().yield_now().await;
                } else {
                    glommio::yield_if_needed().await;
                }
            }
            // A full lane rings no doorbell when it has room again. Its reader always makes some,
            // if it gets a CPU to run on.
            PumpStep::GiveWay => {
                if !is_pinned {
                    std::thread::yield_now();
                }
                keep(&here, &mut stall_timer, Instant::now());
                glommio::executor().yield_task_queue_now().await;
            }
            PumpStep::SpinOn => {
                keep(&here, &mut stall_timer, Instant::now());
                glommio::executor().yield_task_queue_now().await;
            }
            PumpStep::Look => std::hint::spin_loop(),
            PumpStep::Park => rest(&here, &mut pace, &mut park_state, &mut stall_timer).await,
        }
    }
    wind_down(&here, stall_timer, park_state).await;
}

/// What a pump that is awake does once a millisecond. A pump that only spins or tries full lanes
/// does so, too: else what the shard says of itself would be of the time before.
fn keep<A: Actor>(here: &LocalShard<A>, stall_timer: &mut StallTimer, now: Instant) {
    if stall_timer.keep(now) {
        here.look_where_it_runs(now);
        here.publish_gauges(now);
    }
}

/// Has the last round before a park, and parks if that found nothing.
async fn rest<A: Actor>(
    here: &Rc<LocalShard<A>>,
    pace: &mut Pace,
    park_state: &mut ParkState,
    stall_timer: &mut StallTimer,
) {
    let found = here.whole_round(Publish::Always);
    if found != Found::Nothing {
        here.wake_answered();
    }
    if pace.parks_after(found, || here.last_clock()) {
        let woken = park(here, park_state, stall_timer).await;
        pace.parked(woken.then(|| here.last_clock()));
    } else {
        keep(here, stall_timer, Instant::now());
        glommio::executor().yield_task_queue_now().await;
    }
}

/// What the pump does last: it ends the tasks, and waits until all that the shard committed is
/// durable.
async fn wind_down<A: Actor>(here: &LocalShard<A>, mut stall_timer: StallTimer, park_state: ParkState) {
    stall_timer.unpark();
    here.cancel_tasks().await;
    // What those did in their last steps.
    here.round(Publish::Always);
    here.wake_answered();
    flush(here).await;
    // glommio's wakers are let go of where its executor still runs.
    park_state.doorbell_waker.wakes(None);
    let waker = here.pump.waker.take();
    drop(waker);
}

/// Waits until all that the shard committed is durable and the log's writer has closed its files,
/// and no longer than a stuck disk deserves.
async fn flush<A: Actor>(here: &LocalShard<A>) {
    let begin = Instant::now();
    while here.has_unwritten() && here.shared.phase() != Phase::Dead && begin.elapsed() < FLUSH_MAX {
        here.beat();
        here.round(Publish::Always);
        here.wake_answered();
        Timer::new(Duration::from_micros(100)).await;
    }
    // The last states, which are on disk now.
    here.show_watched();
    here.wake_answered();
    here.handoff.borrow_mut().close();
    if here.shared.logs.is_none() {
        return;
    }
    loop {
        here.beat();
        // Once at least: what a checkpoint that was cancelled had open is closed when the executor
        // looks at its ring.
        Timer::new(Duration::from_micros(100)).await;
        if !here.handoff.borrow().is_manned() || begin.elapsed() >= FLUSH_MAX {
            return;
        }
    }
}

/// Waits for the doorbell, the next timer, or a task of this shard that sends something. Says
/// whether there may be work, and not only time has passed.
async fn park<A: Actor>(
    here: &LocalShard<A>,
    park_state: &mut ParkState,
    stall_timer: &mut StallTimer,
) -> bool {
    let due = here.until_timer();
    let watch = if here.has_work_of_its_own() {
        Some(WATCH_WORK_EVERY)
    } else {
        here.may_have_user_tasks().then_some(WATCH_EVERY)
    };
    let timer = due.into_iter().chain(watch).min();
    if !here.mailbox().parking().park(|| here.is_idle()) {
        // The next round finds what is there. Should it not, the executor has looked at its ring
        // all the same.
        glommio::executor().yield_task_queue_now().await;
        return true;
    }
    let since = here.last_clock();
    here.publish_gauges(since);
    stall_timer.park(timer);
    here.pump.is_parked.set(true);
    Sleep { here, park_state, timer: timer.map(Timer::new), has_begun: false }.await;
    let was_woken = !here.pump.is_parked.replace(false);
    here.mailbox().parking().awake();
    stall_timer.unpark();
    here.look_where_it_runs(Instant::now());
    let was_rung = std::mem::take(&mut park_state.was_rung);
    if was_rung {
        // Empty if it was rung and read before.
        let _ = rustix::io::read(park_state.doorbell.get_ref(), &mut [0; 8]);
    }
    here.count_park(since);
    was_woken || was_rung
}

/// Ready at the second poll, whoever caused it: the doorbell, the timer, or a task.
struct Sleep<'a, A: Actor> {
    here: &'a LocalShard<A>,
    park_state: &'a mut ParkState,
    timer: Option<Timer>,
    has_begun: bool,
}

impl<A: Actor> Future for Sleep<'_, A> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Sleep { here, park_state, timer, has_begun } = &mut *self;
        // The registration outlives a sleep that something else has ended, so that the timers and
        // tasks of an idle shard do not cost a cancellation each.
        if !*has_begun && park_state.waits >= WAITS_PER_REGISTRATION {
            park_state.registration = PollState::new();
            park_state.waits = 0;
        }
        park_state.doorbell_waker.wakes(Some(cx.waker()));
        park_state.waits += 1;
        let rung = park_state
            .doorbell
            .poll_readable(&mut Context::from_waker(&park_state.waker), &mut park_state.registration);
        if let Poll::Ready(rung) = rung {
            rung.expect("no-lost-wake: the doorbell of a shard can be waited for");
            park_state.waits = 0;
            park_state.was_rung = true;
            return Poll::Ready(());
        }
        if std::mem::replace(has_begun, true) {
            return Poll::Ready(());
        }
        if let Some(timer) = timer
            && Pin::new(timer).poll(cx).is_ready()
        {
            return Poll::Ready(());
        }
        let mut waker = here.pump.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}
