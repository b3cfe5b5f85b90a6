//! Which CPUs the runtimes of this process have bound shards to, and whether a shard has its CPU to
//! itself.
//!
//! Two shards that spin on one CPU take it from each other by the scheduler's time slice: a hop
//! took 4 ms instead of 0.8 us. Two runtimes of one process can get there, and so can one runtime
//! whose control group loses a CPU while it runs: the kernel then moves the threads that were bound
//! to it. So every runtime *occupies* its CPUs while it lives, every shard compares now and then
//! where it may run with where it was bound, and a shard spins only while it [has a CPU of its
//! own](Seats::is_alone).

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use rustix::thread::CpuSet;

use super::affinity::{AffinityOf, affinity, cpu_list};

/// A CPU with a larger number is not kept account of: two runtimes may share it without a word.
const COUNTED_MAX: usize = CpuSet::MAX_CPU;

/// How many shards of this process are bound to each CPU.
static SHARDS: [AtomicU16; COUNTED_MAX] = [const { AtomicU16::new(0) }; COUNTED_MAX];

/// How many shards of this process are bound to this CPU.
pub(crate) fn shards_on(cpu: usize) -> u16 {
    SHARDS.get(cpu).map_or(0, |shards| shards.load(Ordering::Relaxed))
}

/// The seats of a runtime's shards.
#[derive(Debug)]
pub(crate) struct Seats {
    seats: Box<[Seat]>,
    is_left: AtomicBool,
}

/// Where a shard runs.
#[derive(Debug)]
pub(crate) struct Seat {
    /// `None` if it is not bound.
    cpu: Option<usize>,
    /// The kernel has moved the shard's thread, as its CPU was taken from the process.
    is_moved: AtomicBool,
}

impl Seats {
    /// Occupies these CPUs, one for each shard; `None` for a shard that is not bound.
    pub(crate) fn occupy(cpus: &[Option<usize>]) -> Seats {
        let seat = |cpu: &Option<usize>| {
            cpu.and_then(|cpu| SHARDS.get(cpu)).inspect(|shards| {
                shards.fetch_add(1, Ordering::Relaxed);
            });
            Seat { cpu: *cpu, is_moved: AtomicBool::new(false) }
        };
        Seats { seats: cpus.iter().map(seat).collect(), is_left: AtomicBool::new(false) }
    }

    /// The runtime has stopped, and its CPUs are free again, though a handle of it may live on.
    pub(crate) fn leave(&self) {
        if !self.is_left.swap(true, Ordering::Relaxed) {
            let cpus = self.seats.iter().filter_map(|seat| SHARDS.get(seat.cpu?));
            cpus.for_each(|shards| {
                shards.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }

    /// The CPUs that another runtime of this process has bound a shard to as well, in order.
    pub(crate) fn shared(&self) -> BTreeSet<usize> {
        self.seats.iter().filter_map(|seat| seat.cpu).filter(|cpu| shards_on(*cpu) > 1).collect()
    }

    /// Whether a shard has a CPU to itself, as far as this process knows: then it may spin. Another
    /// shard that was moved may be anywhere, so then none has.
    #[inline]
    pub(crate) fn is_alone(&self, shard: usize) -> bool {
        self.seats[shard].cpu.is_some_and(|cpu| shards_on(cpu) <= 1) && !self.has_moved()
    }

    fn has_moved(&self) -> bool {
        self.seats.iter().any(|seat| seat.is_moved.load(Ordering::Relaxed))
    }

    /// Looks where the calling thread, which is `shard`'s, may run, and binds it again if it can
    /// be.
    pub(crate) fn look(&self, shard: usize) -> CpuChange {
        let Some(cpu) = self.seats[shard].cpu else { return CpuChange::InPlace };
        let Ok(allowed) = affinity(Path::new("/"), AffinityOf::Thread) else { return CpuChange::InPlace };
        if allowed == [cpu] {
            return self.note(shard, None);
        }
        let mut set = CpuSet::new();
        let is_back = cpu < CpuSet::MAX_CPU && {
            set.set(cpu);
            rustix::thread::sched_setaffinity(None, &set).is_ok()
        };
        self.note(shard, (!is_back).then_some(allowed))
    }

    /// Notes whether a shard was moved, and to which CPUs.
    fn note(&self, shard: usize, moved: Option<Vec<usize>>) -> CpuChange {
        match (self.seats[shard].is_moved.swap(moved.is_some(), Ordering::Relaxed), moved) {
            (false, Some(to)) => CpuChange::Moved { to: cpu_list(&to.into_iter().collect()) },
            (true, None) => CpuChange::Back,
            _ => CpuChange::InPlace,
        }
    }
}

impl Drop for Seats {
    fn drop(&mut self) {
        self.leave();
    }
}

/// What has changed about a shard's place since it last looked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CpuChange {
    /// Nothing.
    InPlace,
    /// The kernel has moved it to these CPUs, written as `0-3,8`, and it cannot be bound to its own
    /// again.
    Moved {
        /// Where it may run.
        to: String,
    },
    /// It is on its own CPU again.
    Back,
}

/// Lets the calling thread, and the threads it starts, run wherever the process may. A runtime may
/// be started by a thread that a task of a shard has started, and such a thread inherits the
/// shard's one CPU.
pub(crate) fn leave_inherited_cpu(cpus: impl IntoIterator<Item = usize>) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.into_iter().filter(|cpu| *cpu < CpuSet::MAX_CPU).for_each(|cpu| set.set(cpu));
    if set.count() == 0 {
        return Ok(());
    }
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    // No machine that this runs on has them.
    const FAR: usize = COUNTED_MAX - 2;

    #[test]
    fn a_cpu_is_shared_while_two_runtimes_have_it() {
        let first = Seats::occupy(&[Some(FAR), Some(FAR + 1)]);
        assert!(first.is_alone(0) && first.is_alone(1));
        let second = Seats::occupy(&[Some(FAR + 1), None]);
        assert_eq!((first.shared(), second.shared()), ([FAR + 1].into(), [FAR + 1].into()));
        assert!(first.is_alone(0) && !first.is_alone(1) && !second.is_alone(0));
        assert!(!second.is_alone(1), "one that is not bound never is");
        second.leave();
        drop(second);
        assert!(first.is_alone(1));
        drop(first);
        assert_eq!((shards_on(FAR), shards_on(FAR + 1)), (0, 0));
    }

    /// As when a control group loses a CPU: the kernel lets the threads that were bound to it run
    /// on all that are left.
    #[test]
    fn a_shard_that_was_moved_is_noticed_and_comes_back() {
        std::thread::spawn(|| {
            let here = affinity(Path::new("/"), AffinityOf::Thread).expect("it runs somewhere");
            // It is bound to a CPU that there is not.
            let seats = Seats::occupy(&[Some(FAR), Some(FAR + 1)]);
            let to = cpu_list(&here.iter().copied().collect());
            assert_eq!(seats.look(0), CpuChange::Moved { to });
            assert_eq!(seats.look(0), CpuChange::InPlace, "it is said once");
            assert!(!seats.is_alone(0) && !seats.is_alone(1), "it may be where the other is");
            // And to one that there is: it is bound to it again.
            let seats = Seats::occupy(&[Some(here[0])]);
            seats.seats[0].is_moved.store(true, Ordering::Relaxed);
            assert_eq!(seats.look(0), CpuChange::Back);
            assert_eq!(affinity(Path::new("/"), AffinityOf::Thread).expect("it runs somewhere"), [here[0]]);
            // What a thread of this one's would inherit.
            leave_inherited_cpu(here.iter().copied()).expect("it may run there");
            assert_eq!(affinity(Path::new("/"), AffinityOf::Thread).expect("it runs somewhere"), here);
        })
        .join()
        .expect("all of it holds");
    }
}
