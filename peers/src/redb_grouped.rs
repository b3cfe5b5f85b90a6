//! redb with group commit: many requests in each of its transactions, one sync for all of them.

use freehold_workloads::{Trial, Workload};

use crate::bytes::Desk;
use crate::groups::Grouped;
use crate::peer::{Fault, ON_DISK, Peer, Settled};
use crate::redb::{Tree, rows};

/// How it appears in tables.
pub const PEER: Peer = Peer {
    name: "redb-grouped",
    version: env!("VERSION_REDB"),
    about: "as redb, with group commit by hand: a writer thread takes up to clients x in-flight waiting transactions (2,048 at most) into one transaction, commits it (one sync if durable), then answers all; a pinned thread for each client asks without waiting, and runs what only reads itself, in a snapshot",
    durabilities: ON_DISK,
    is_of_single_rows: false,
};

/// The engine.
pub struct GroupedTree(Tree);

impl<W: Workload> Grouped<W> for GroupedTree {
    fn open(workload: &W, trial: &Trial) -> Result<Self, Fault> {
        Ok(GroupedTree(Tree::open(workload, trial)?))
    }

    fn commit<'a>(
        &self,
        group: impl Iterator<Item = &'a W::Transaction>,
        desk: &mut Desk<W>,
        answers: &mut Vec<Settled<W>>,
    ) -> Result<(), Fault> {
        let writing = self.0.write()?;
        {
            let mut rows = rows(&writing)?;
            for transaction in group {
                answers.push(desk.run(transaction, &mut rows)?);
            }
        }
        Ok(writing.commit()?)
    }

    fn read(&self, transaction: &W::Transaction, desk: &mut Desk<W>) -> Result<Settled<W>, Fault> {
        self.0.read(transaction, desk)
    }

    fn show(&self, see: &mut dyn FnMut(&W::Id, &W::Row)) -> Result<(), Fault> {
        self.0.show_all::<W>(see)
    }
}
