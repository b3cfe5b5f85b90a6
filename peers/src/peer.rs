//! Who is measured, what an engine says when it cannot go on, and what stores share to keep what
//! was applied.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};
use freehold_workloads::{Durability, Engine, Refused, Workload};

/// The engine cannot go on, or did what it should not. The cell has no figures.
pub type Fault = Box<dyn std::error::Error + Send + Sync>;

/// How a transaction ended: with its answer, or refused.
pub type Settled<W> = Result<<W as Workload>::Reply, Refused<<W as Workload>::Id>>;

/// One engine, as the tables name it.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its name in a cell.
    pub name: &'static str,
    /// Its version, from Cargo.lock.
    pub version: &'static str,
    /// What it is and how it is used.
    pub about: &'static str,
    /// What it can keep.
    pub durabilities: &'static [Durability],
    /// Whether it has no transactions over several rows.
    pub is_of_single_rows: bool,
}

/// What engines in memory can keep.
pub const IN_MEMORY: &[Durability] = &[Durability::None];
/// What stores can keep.
pub const ON_DISK: &[Durability] = &[Durability::None, Durability::Applied, Durability::Durable];

impl Peer {
    /// Why the peer cannot do it, if it cannot.
    pub fn cannot<W: Workload>(&self, workload: &W, durability: Durability) -> Option<String> {
        if !self.durabilities.contains(&durability) {
            return Some(format!("{} is in memory: it has no log", self.name));
        }
        (self.is_of_single_rows && !workload.is_of_single_rows()).then(|| {
            format!("an actor for each object has no transaction over several: {} has some", workload.name())
        })
    }
}

impl From<&Peer> for Engine {
    fn from(peer: &Peer) -> Self {
        Engine { version: peer.version.to_owned(), about: peer.about.to_owned() }
    }
}

/// How often what was applied is made durable, where no commit waits for it.
pub const PERIOD: Duration = Duration::from_millis(100);

/// A thread that makes durable, every [`PERIOD`], what was applied. It ends when this is dropped.
pub struct Syncing {
    /// Dropped, it ends the thread.
    end: Option<Sender<()>>,
    /// There until this is dropped.
    thread: Option<JoinHandle<Result<(), Fault>>>,
}

impl Syncing {
    /// Starts it.
    pub fn start(sync: impl Fn() -> Result<(), Fault> + Send + 'static) -> Self {
        let (end, ends) = bounded::<()>(0);
        let thread = thread::spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = ends.recv_timeout(PERIOD) {
                sync()?;
            }
            Ok(())
        });
        Syncing { end: Some(end), thread: Some(thread) }
    }

    /// Whether it still syncs: one that failed is a fault of the store.
    ///
    /// # Errors
    /// If a sync failed.
    pub fn check(&self) -> Result<(), Fault> {
        match &self.thread {
            Some(thread) if thread.is_finished() => Err("the thread that syncs has failed".into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Syncing {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            // What it had to say was asked before.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Instant;

    use super::*;

    #[test]
    fn what_is_applied_is_synced_until_nobody_wants_it_and_a_failure_is_found() {
        let synced = Arc::new(AtomicU32::new(0));
        let syncs = Arc::clone(&synced);
        // The third one fails.
        let syncing = Syncing::start(move || match syncs.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Ok(()),
            _ => Err("the disk is gone".into()),
        });
        let begun = Instant::now();
        // Without it: the test never ends.
        while syncing.check().is_ok() {
            thread::sleep(PERIOD / 10);
        }
        assert!(begun.elapsed() >= 3 * PERIOD, "it syncs every period and not more often");
        drop(syncing);
        assert_eq!(synced.load(Ordering::Relaxed), 3);
        // One that is not wanted any more ends, and does not sync for ever.
        drop(Syncing::start(|| Ok(())));
    }
}
