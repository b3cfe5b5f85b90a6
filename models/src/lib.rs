//! Freehold's protocols between threads, run by loom through every interleaving and every value a
//! read may return.
//!
//! A package of its own, so that checking needs no `--cfg loom` and nothing of it reaches users: it
//! includes the source files themselves and gives them loom's atomics. Queues are
//! modelled by one atomic word that is published with release ordering and read with acquire
//! ordering, which is the least that the real queues promise.

#![allow(dead_code, reason = "a model uses a part of each file")]

#[path = "../../src/transport/blocked.rs"]
mod blocked;
#[path = "../../shards/src/epoch/durability.rs"]
mod durability;
#[path = "../../shards/src/epoch/epochs.rs"]
mod epochs;
#[path = "../../shards/src/fault.rs"]
mod fault;
#[path = "../../src/transport/free_list.rs"]
mod free_list;
// No protocol, and loom has no part in it: Miri runs its tests here, where few dependencies are.
#[path = "../../src/transport/in_bulk.rs"]
mod in_bulk;
#[path = "../../shards/src/object.rs"]
mod object;
#[path = "../../src/transport/parking.rs"]
mod parking;
#[path = "../../shards/src/placement.rs"]
mod placement;
#[path = "../../shards/src/time.rs"]
mod time;

// Under the name that the files know it by.
use atomics as sync;

/// As in the crate, where both are in one folder.
mod epoch {
    pub use crate::epochs::{Epoch, Epochs};
}

/// What they are built on, here of loom.
mod atomics {
    pub(crate) use loom::sync::Mutex;
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
    pub(crate) use loom::thread::{Thread, current, park};

    /// Runs a test in every interleaving; in the runtime itself this runs it once.
    #[cfg(test)]
    pub(crate) use loom::model as explore;
}

#[cfg(test)]
mod models {
    use std::sync::Arc as StdArc;
    use std::sync::atomic::{AtomicBool as StdBool, Ordering as StdOrdering};

    use loom::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    use crate::blocked::Blocked;
    use crate::durability::Durability;
    use crate::epoch::{Epoch, Epochs};
    use crate::free_list::FreeList;
    use crate::parking::{Duty, Parking, Room, publish};
    use crate::placement::ShardIndex;
    use crate::time::Time;

    /// Threads that take numbers and give them back: no number has two holders, what one holder
    /// wrote the next one sees, and none is lost.
    #[test]
    fn a_free_number_has_one_holder() {
        struct Pool {
            list: FreeList,
            below: [AtomicU32; 3],
            /// What the holder of a number writes, with no other order than the list gives.
            written: [loom::cell::UnsafeCell<u32>; 3],
        }
        impl Pool {
            fn take(&self) -> Option<u32> {
                self.list.take(|number| &self.below[number as usize])
            }

            fn hold(&self, number: u32) {
                // loom reports a second holder at once.
                self.written[number as usize].with_mut(|_| {});
                self.list.give_back(number, &self.below[number as usize]);
            }
        }
        let mut bounded = loom::model::Builder::new();
        bounded.preemption_bound = Some(3);
        bounded.check(|| {
            let pool = Arc::new(Pool {
                list: FreeList::new(3),
                below: std::array::from_fn(|_| AtomicU32::new(0)),
                written: std::array::from_fn(|_| loom::cell::UnsafeCell::new(0)),
            });
            // Two are free, in the order 1, 0.
            let first = [pool.take(), pool.take()].map(|number| number.expect("there are three"));
            first.into_iter().for_each(|number| pool.hold(number));
            let other = pool.clone();
            // Takes both and gives back the one that was on top: a head that looks as before, over
            // another list.
            let thread = thread::spawn(move || {
                let both = [other.take(), other.take()];
                both.into_iter().flatten().for_each(|number| other.hold(number));
                if let Some(number) = other.take() {
                    other.hold(number);
                }
            });
            let mine = pool.take().expect("the other holds at most two");
            pool.hold(mine);
            thread.join().unwrap();
            let mut all: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
            all.sort_unstable();
            assert_eq!(all, [0, 1, 2], "one-holder: each number is in the list once");
        });
    }

    /// A doorbell is an eventfd: it stays rung until it is read.
    struct World {
        parking: Parking,
        queue: AtomicUsize,
        doorbell: AtomicUsize,
    }

    impl World {
        fn new() -> Arc<Self> {
            Arc::new(World {
                parking: Parking::new(),
                queue: AtomicUsize::new(0),
                doorbell: AtomicUsize::new(0),
            })
        }

        fn send(&self) {
            self.queue.fetch_add(1, Ordering::Release);
            publish();
            match self.parking.duty() {
                Duty::Nothing => {}
                Duty::Ring => {
                    self.doorbell.fetch_add(1, Ordering::Release);
                }
                Duty::Sweep => unreachable!("this shard does not close"),
            }
        }

        /// Takes what is in the queue.
        fn take(&self) -> usize {
            self.queue.swap(0, Ordering::Acquire)
        }

        /// The shard, until it has taken `expected` entries. If it waits for a doorbell that nobody
        /// will ring, loom reports the loop.
        fn shard(&self, expected: usize) {
            let mut taken = 0;
            while taken < expected {
                taken += self.take();
                if taken < expected && self.parking.park(|| self.queue.load(Ordering::Acquire) == 0) {
                    while self.doorbell.swap(0, Ordering::Acquire) == 0 {
                        thread::yield_now();
                    }
                    self.parking.awake();
                }
            }
        }
    }

    #[test]
    fn no_wake_is_lost_with_one_sender() {
        loom::model(|| {
            let world = World::new();
            let sender = {
                let world = world.clone();
                thread::spawn(move || world.send())
            };
            world.shard(1);
            sender.join().unwrap();
        });
    }

    #[test]
    fn no_wake_is_lost_with_two_sends_of_one_sender() {
        loom::model(|| {
            let world = World::new();
            let sender = {
                let world = world.clone();
                thread::spawn(move || {
                    world.send();
                    world.send();
                })
            };
            world.shard(2);
            sender.join().unwrap();
        });
    }

    #[test]
    fn no_wake_is_lost_with_two_senders() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let world = World::new();
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let world = world.clone();
                    thread::spawn(move || world.send())
                })
                .collect();
            world.shard(2);
            for sender in senders {
                sender.join().unwrap();
            }
        });
    }

    #[test]
    fn only_one_of_two_senders_rings() {
        loom::model(|| {
            let world = World::new();
            assert!(world.parking.park(|| true));
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let world = world.clone();
                    thread::spawn(move || world.send())
                })
                .collect();
            for sender in senders {
                sender.join().unwrap();
            }
            assert_eq!(world.doorbell.load(Ordering::Relaxed), 1, "no-lost-wake: one of them rings");
        });
    }

    #[test]
    fn an_entry_that_races_with_the_close_is_answered_once() {
        loom::model(|| {
            let world = World::new();
            let answered = Arc::new(AtomicUsize::new(0));
            let sender = {
                let (world, answered) = (world.clone(), answered.clone());
                thread::spawn(move || {
                    world.queue.fetch_add(1, Ordering::Release);
                    publish();
                    if world.parking.duty() == Duty::Sweep {
                        answered.fetch_add(world.take(), Ordering::Relaxed);
                    }
                })
            };
            world.parking.close();
            answered.fetch_add(world.take(), Ordering::Relaxed);
            sender.join().unwrap();
            assert_eq!(answered.load(Ordering::Relaxed), 1, "nobody-is-left-behind: by one side");
        });
    }

    #[test]
    fn entries_of_two_senders_that_race_with_a_parked_shard_that_closes_are_answered_once() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let world = World::new();
            let answered = Arc::new(AtomicUsize::new(0));
            let may_wait = world.parking.park(|| true);
            assert!(may_wait);
            let senders: Vec<_> = (0..2)
                .map(|_| {
                    let (world, answered) = (world.clone(), answered.clone());
                    thread::spawn(move || {
                        world.queue.fetch_add(1, Ordering::Release);
                        publish();
                        if world.parking.duty() == Duty::Sweep {
                            answered.fetch_add(world.take(), Ordering::Relaxed);
                        }
                    })
                })
                .collect();
            world.parking.close();
            answered.fetch_add(world.take(), Ordering::Relaxed);
            for sender in senders {
                sender.join().unwrap();
            }
            assert_eq!(answered.load(Ordering::Relaxed), 2, "nobody-is-left-behind: each by one side");
        });
    }

    #[test]
    fn a_sender_that_waits_for_room_is_woken() {
        loom::model(|| {
            let room = Arc::new(Room::new());
            let full = Arc::new(AtomicUsize::new(1));
            // Outside loom's sight on purpose: it only says whether the model's end state is a good
            // one.
            let woken = StdArc::new(StdBool::new(false));
            let sender = {
                let (room, full) = (room.clone(), full.clone());
                thread::spawn(move || {
                    room.wait(1, ());
                    full.load(Ordering::Acquire) == 0
                })
            };
            full.store(0, Ordering::Release);
            publish();
            if room.is_wanted() {
                woken.store(!room.take().is_empty(), StdOrdering::SeqCst);
            }
            let found_room = sender.join().unwrap();
            assert!(
                found_room || woken.load(StdOrdering::SeqCst),
                "no-lost-room: the sender sleeps on an empty queue"
            );
        });
    }

    /// *nobody-sleeps-through*. Two answers, from two threads or one after the other from one. Each
    /// look after a sleep that a wake ended sees what was published before that wake. No sleep goes
    /// on for ever, which loom would report as a deadlock.
    fn a_thread_waits_for(answers: usize, threads: usize) {
        let mut model = loom::model::Builder::new();
        // With two threads beside it, all of them take minutes in a debug build.
        model.preemption_bound = (threads > 1).then_some(3);
        model.check(move || {
            let blocked = Arc::new(Blocked::this_thread());
            let given = Arc::new(AtomicUsize::new(0));
            for _ in 0..threads {
                let (blocked, given) = (blocked.clone(), given.clone());
                thread::spawn(move || {
                    for _ in 0..answers / threads {
                        // Relaxed: what makes it visible is the wake alone.
                        given.fetch_add(1, Ordering::Relaxed);
                        blocked.wake();
                    }
                });
            }
            let mut sleeps = 0;
            while given.load(Ordering::Relaxed) < answers {
                blocked.sleep();
                sleeps += 1;
            }
            assert!(sleeps <= answers, "nobody-sleeps-through: {sleeps} sleeps for {answers} wakes");
        });
    }

    // Whoever sees the epoch a snapshot began in keeps old states for it, or sees that nobody may
    // read it any more.
    #[test]
    fn an_epoch_state_never_forgets_a_snapshot_that_may_be_read() {
        loom::model(|| {
            let epochs = Arc::new(Epochs::new());
            let shard = {
                let epochs = epochs.clone();
                thread::spawn(move || {
                    let (state, snapshot) = (epochs.state(), Epoch(2));
                    assert!(
                        state.epoch < snapshot
                            || state.newest_snapshot >= snapshot
                            || state.watermark > snapshot,
                        "kept-while-open: {state:?}"
                    );
                })
            };
            let snapshot = epochs.open(Time(0));
            epochs.close(snapshot);
            shard.join().unwrap();
        });
    }

    // Whoever sees the epoch a checkpoint began in puts aside what it overwrites, unless the
    // checkpoint has ended; and one that has ended is not taken for the next.
    #[test]
    fn an_epoch_state_never_forgets_a_checkpoint_that_is_being_made() {
        loom::model(|| {
            let epochs = Arc::new(Epochs::new());
            let has_ended = Arc::new(AtomicUsize::new(0));
            let shard = {
                let (epochs, has_ended) = (epochs.clone(), has_ended.clone());
                thread::spawn(move || {
                    let state = epochs.state();
                    let has_ended = has_ended.load(Ordering::Acquire) == 1;
                    let sees = state.checkpoint == Epoch(2);
                    assert!(state.epoch < Epoch(2) || sees || has_ended, "kept-while-open: {state:?}");
                    assert!(!sees || state.epoch >= Epoch(2) && state.needs_old(), "{state:?}");
                    // No snapshot is open: nobody needs what it needs.
                    assert!(state.newest_snapshot == Epoch(1), "{state:?}");
                })
            };
            let checkpoint = epochs.begin_checkpoint();
            has_ended.store(1, Ordering::Release);
            epochs.end_checkpoint(checkpoint);
            shard.join().unwrap();
        });
    }

    // What is published, as `epoch/published` does it, with a lock for its map: a reader that
    // comes after a message of a later epoch and still sees the version before may not be followed
    // by a version of an earlier epoch, or a snapshot between the two would see the new version and
    // not that message.
    #[test]
    fn what_is_published_after_a_read_commits_in_its_epoch_or_later() {
        loom::model(|| {
            let epochs = Arc::new(Epochs::new());
            // The epoch of the newest version, once there is one.
            let chain = Arc::new(Mutex::new(None));
            let visible = Arc::new(AtomicUsize::new(0));
            let publisher = {
                let (epochs, chain, visible) = (epochs.clone(), chain.clone(), visible.clone());
                thread::spawn(move || {
                    let entered = epochs.epoch();
                    *chain.lock().unwrap() = Some(entered);
                    let now = epochs.epoch();
                    if now != entered {
                        *chain.lock().unwrap() = Some(now);
                    }
                    visible.store(1, Ordering::Release);
                })
            };
            let snapshot = epochs.open(Time(0));
            // A message of this epoch runs elsewhere and is answered; then comes the read.
            let sees_new = loop {
                let is_pending = match *chain.lock().unwrap() {
                    None => break false,
                    Some(_) => visible.load(Ordering::Acquire) == 0,
                };
                if !is_pending {
                    break true;
                }
                thread::yield_now();
            };
            publisher.join().unwrap();
            let committed = chain.lock().unwrap().unwrap();
            assert!(
                sees_new || committed >= snapshot,
                "pending-before-epoch: {committed} after a read in {snapshot}"
            );
        });
    }

    #[test]
    fn a_blocked_thread_hears_of_one_answer() {
        a_thread_waits_for(1, 1);
    }

    #[test]
    fn a_blocked_thread_hears_of_two_answers_of_one_thread() {
        a_thread_waits_for(2, 1);
    }

    #[test]
    fn a_blocked_thread_hears_of_two_answers_of_two_threads() {
        a_thread_waits_for(2, 2);
    }

    // A shard that commits in an epoch, and never closes it, keeps everybody from finding it
    // durable, from the first moment on.
    #[test]
    fn what_is_committed_and_not_closed_is_not_durable() {
        loom::model(|| {
            let epochs = Arc::new(Epochs::new());
            let durability = Arc::new(Durability::new(2, Epoch(0)));
            let committing = {
                let (epochs, durability) = (epochs.clone(), durability.clone());
                thread::spawn(move || {
                    durability.activate(ShardIndex(1));
                    epochs.state().epoch
                })
            };
            durability.activate(ShardIndex(0));
            let first = epochs.epoch();
            epochs.advance(first);
            durability.close(ShardIndex(0), first);
            durability.advance(&epochs);
            let committed_in = committing.join().expect("it does not panic");
            assert!(
                durability.durable() < committed_in,
                "active-before-epoch: what it commits is not durable yet"
            );
        });
    }

    // A shard is named and rests: not both, unless it closes in between.
    #[test]
    fn who_was_named_knows_it_before_it_rests() {
        loom::model(|| {
            let epochs = Arc::new(Epochs::new());
            let durability = Arc::new(Durability::new(2, Epoch(0)));
            durability.activate(ShardIndex(1));
            let first = epochs.epoch();
            let resting = {
                let durability = durability.clone();
                thread::spawn(move || {
                    // What it had under way was of an epoch before.
                    durability.close(ShardIndex(1), Epoch(0));
                    durability.go_idle(ShardIndex(1))
                })
            };
            durability.activate(ShardIndex(0));
            epochs.advance(first);
            let is_awaited = durability.name(ShardIndex(0), first).iter().any(|shard| shard == ShardIndex(1));
            let rests = resting.join().expect("it does not panic");
            assert!(!(is_awaited && rests), "named-before-idle: it is awaited");
            if is_awaited {
                assert_eq!(durability.named_for(ShardIndex(1)), Some(first));
            }
        });
    }

    // Who waits for an epoch is found by whoever makes it durable, or finds that it is.
    #[test]
    fn nobody_waits_for_what_is_durable_already() {
        loom::model(|| {
            let epochs = Arc::new(Epochs::new());
            let durability = Arc::new(Durability::new(2, Epoch(0)));
            let first = epochs.epoch();
            durability.activate(ShardIndex(0));
            epochs.advance(first);
            let waiting = {
                let (epochs, durability) = (epochs.clone(), durability.clone());
                thread::spawn(move || {
                    durability.want(ShardIndex(1), Some(first));
                    durability.advance(&epochs) >= first
                })
            };
            durability.close(ShardIndex(0), first);
            let durable = durability.advance(&epochs);
            let is_told = durability.waiting(durable).any(|shard| shard == ShardIndex(1));
            let knows = waiting.join().expect("it does not panic");
            assert!(is_told || knows, "somebody waits and is not told");
        });
    }
}
