//! fjall with group commit: many requests in each of its transactions, one fdatasync for all of
//! them.

use freehold_workloads::{Trial, Workload};

use crate::bytes::Desk;
use crate::fjall::Journalled;
use crate::groups::Grouped;
use crate::peer::{Fault, ON_DISK, Peer, Settled};

/// How it appears in tables.
pub const PEER: Peer = Peer {
    name: "fjall-grouped",
    version: env!("VERSION_FJALL"),
    about: "as fjall, with group commit by hand: a writer thread takes up to clients x in-flight waiting transactions (2,048 at most) into one transaction, commits it (one fdatasync if durable), then answers all; a pinned thread for each client asks without waiting, and runs what only reads itself, in a snapshot",
    durabilities: ON_DISK,
    is_of_single_rows: false,
};

/// The engine.
pub struct GroupedJournal(Journalled);

impl<W: Workload> Grouped<W> for GroupedJournal {
    fn open(workload: &W, trial: &Trial) -> Result<Self, Fault> {
        Ok(GroupedJournal(Journalled::open(workload, trial)?))
    }

    fn commit<'a>(
        &self,
        group: impl Iterator<Item = &'a W::Transaction>,
        desk: &mut Desk<W>,
        answers: &mut Vec<Settled<W>>,
    ) -> Result<(), Fault> {
        let mut writing = self.0.write();
        for transaction in group {
            answers.push(desk.run(transaction, &mut writing)?);
        }
        writing.commit()
    }

    fn read(&self, transaction: &W::Transaction, desk: &mut Desk<W>) -> Result<Settled<W>, Fault> {
        self.0.read(transaction, desk)
    }

    fn show(&self, see: &mut dyn FnMut(&W::Id, &W::Row)) -> Result<(), Fault> {
        self.0.show_all::<W>(see)
    }
}
