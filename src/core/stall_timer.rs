//! Against an executor that goes to sleep while it has tasks to run.
//!
//! glommio-ng 0.12 does that, rarely. Its loop sets the preemption timer, runs the task queues
//! until that timer has fired, and sleeps if none of them ran (`LocalExecutor::run`,
//! `run_task_queues`). If the thread loses its CPU for the length of the timer just between the
//! first two, none runs because the timer has fired already; the loop takes that for having nothing
//! to do, and the executor sleeps with its queues full until something comes by that it waits for.
//! With 1 ms, and two busy loops beside two shards on two CPUs, two runs of 100,000 round trips in
//! six never ended; with what is here, none in 752 shorter ones.
//!
//! Nobody outside can wake such an executor: it is not asleep as far as our own protocol knows. So
//! it must never sleep without a timer while tasks may be ready. The stall timer sets a ladder of
//! timers that wake nobody: that one is set is all they are for. One would not do, as the executor
//! may fall asleep again when it fires. With four times as many threads as two CPUs could run, of
//! 3.4 million ladders the first rung fired in 61,000, the second in 8,800 and the third in 155. So
//! there are eight.
//!
//! - While the pump is awake it keeps moving the ladder ahead ([`StallTimer::keep`]): a stall lasts
//!   some 2 ms.
//! - When the pump parks until a time, the ladder begins there. On a shard with tasks of users,
//!   which may become ready by a socket or a file and of which we do not hear, the pump parks for
//!   at most [`WATCH_EVERY`].
//! - When the pump parks without a time, because there are no such tasks and nothing is to be done,
//!   there is no ladder, and the executor sleeps as it should. Its doorbell then sets the ladder in
//!   the very moment it wakes the pump ([`DoorbellWaker`]).

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use glommio::timer::Timer;

/// The longest a pump parks on a shard that has tasks of users, and about the longest such a task
/// may lie ready unseen. An idle shard with such tasks takes some 0.4 % of a core because of it (a
/// park and a wake cost 70 us here).
pub(crate) const WATCH_EVERY: Duration = Duration::from_millis(20);

/// The same while the log is written, or the runtime does something else beside the pump that it is
/// known to: others wait for that.
pub(crate) const WATCH_WORK_EVERY: Duration = Duration::from_millis(2);

/// How long after the time it guards each rung of the ladder is.
const RUNGS: [Duration; 8] = [
    Duration::from_millis(2),
    Duration::from_millis(8),
    Duration::from_millis(32),
    Duration::from_millis(128),
    Duration::from_millis(512),
    Duration::from_secs(2),
    Duration::from_secs(8),
    Duration::from_secs(32),
];

/// How old the ladder of a pump that is awake becomes.
const KEEP_EVERY: Duration = Duration::from_millis(1);

thread_local! {
    /// Here and not with the pump, because the doorbell sets it from inside the reactor.
    static LADDER: RefCell<[Rung; RUNGS.len()]> = const { RefCell::new([const { Rung::NEW }; RUNGS.len()]) };
}

/// A timer of the ladder.
struct Rung {
    /// Made when it is first set.
    timer: Option<Timer>,
    /// When it fires, or has fired, if it is set.
    due: Option<Instant>,
}

impl Rung {
    const NEW: Rung = Rung { timer: None, due: None };

    /// Sets it to fire about `length` after `guarded`. One that is set to about that stays as it
    /// is: so a rung costs the less the longer it is.
    fn set(&mut self, now: Instant, guarded: Instant, length: Duration) {
        let Some(due) = next_due(self.due, guarded, length) else { return };
        self.due = Some(due);
        let timer = match &mut self.timer {
            Some(timer) => {
                timer.reset(due - now);
                timer
            }
            None => self.timer.insert(Timer::new(due - now)),
        };
        // It is set by being polled.
        let _ = Pin::new(timer).poll(&mut Context::from_waker(Waker::noop()));
    }

    /// It does not fire.
    fn unset(&mut self) {
        if self.due.take().is_some()
            && let Some(timer) = &mut self.timer
        {
            // A timer that was reset is not set before it is polled.
            timer.reset(Duration::ZERO);
        }
    }
}

/// When a rung of this length is to fire that guards what comes after `guarded`; nothing if it is
/// near enough when it is due: half of its length and twice that are.
fn next_due(due: Option<Instant>, guarded: Instant, length: Duration) -> Option<Instant> {
    let is_near = due.is_some_and(|due| (guarded + length / 2..=guarded + 2 * length).contains(&due));
    (!is_near).then(|| guarded + length)
}

/// Sets the ladder, to begin in `from_now`. On the thread of a running executor. Allocates the
/// first time only.
fn set(from_now: Duration) {
    let now = Instant::now();
    LADDER.with_borrow_mut(|ladder| {
        for (rung, length) in ladder.iter_mut().zip(RUNGS) {
            rung.set(now, now + from_now, length);
        }
    });
}

/// Takes the ladder away until it is set again.
fn unset() {
    LADDER.with_borrow_mut(|ladder| ladder.iter_mut().for_each(Rung::unset));
}

/// The pump's side of it.
pub(crate) struct StallTimer {
    set: Instant,
}

impl StallTimer {
    /// Keeps this thread's executor from stalling from now on, until it is dropped.
    pub(crate) fn new() -> Self {
        set(Duration::ZERO);
        StallTimer { set: Instant::now() }
    }

    /// The pump is awake, `now`. Says whether the ladder was moved ahead: at most once a
    /// millisecond.
    #[inline]
    pub(crate) fn keep(&mut self, now: Instant) -> bool {
        let is_due = now.saturating_duration_since(self.set) >= KEEP_EVERY;
        if is_due {
            self.set = now;
            set(Duration::ZERO);
        }
        is_due
    }

    /// The pump parks, until it is woken or for at most `timer`.
    pub(crate) fn park(&mut self, timer: Option<Duration>) {
        match timer {
            Some(timer) => set(timer),
            None => unset(),
        }
    }

    /// The pump has parked.
    pub(crate) fn unpark(&mut self) {
        self.set = Instant::now();
        set(Duration::ZERO);
    }
}

impl Drop for StallTimer {
    fn drop(&mut self) {
        LADDER.with_borrow_mut(|ladder| ladder.fill_with(|| Rung::NEW));
    }
}

/// What the doorbell wakes: it sets the ladder, then wakes the pump. Used on the pump's own thread
/// only, by its reactor.
#[derive(Default)]
pub(crate) struct DoorbellWaker {
    pump: Mutex<Option<Waker>>,
}

impl DoorbellWaker {
    /// The pump is woken by `pump` from now on; by nothing if that is `None`.
    pub(crate) fn wakes(&self, pump: Option<&Waker>) {
        let mut waker = self.pump.lock().unwrap_or_else(PoisonError::into_inner);
        match (&mut *waker, pump) {
            (Some(old), Some(new)) => old.clone_from(new),
            (waker, new) => *waker = new.cloned(),
        }
    }
}

impl Wake for DoorbellWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        set(Duration::ZERO);
        if let Some(waker) = &*self.pump.lock().unwrap_or_else(PoisonError::into_inner) {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        // However the pump keeps, parks and wakes: each rung fires after what it guards, and never
        // much later than its length says. One that has fired is not taken for one that is set.
        #[test]
        fn each_rung_is_ahead(steps in proptest::collection::vec((0_u64..5_000, 0_u64..100_000), 1..200)) {
            let (mut now, mut dues) = (Instant::now(), [None; RUNGS.len()]);
            let mut sets = 0;
            for (passed_us, from_now_us) in &steps {
                now += Duration::from_micros(*passed_us);
                let guarded = now + Duration::from_micros(*from_now_us);
                for (due, length) in dues.iter_mut().zip(RUNGS) {
                    let next = next_due(*due, guarded, length);
                    sets += usize::from(next.is_some());
                    *due = next.or(*due);
                    let due = due.expect("it is set now");
                    prop_assert!(due > guarded && due <= guarded + 2 * length, "{length:?}");
                }
            }
            // The longest are set once or twice.
            prop_assert!(sets <= 6 * steps.len() + 4, "{sets}");
        }
    }
}
