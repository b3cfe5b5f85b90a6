//! fjall with group commit: its single-writer transactions, many requests in each, one fsync for all of them.

use ::fjall::Readable;
use ::fjall::{
    KeyspaceCreateOptions, PersistMode, SingleWriterTxDatabase, SingleWriterTxKeyspace,
    SingleWriterWriteTx as WriteTransaction,
};
use freehold_workloads::{Durability, Trial, Workload};
use tempfile::TempDir;

use crate::bytes::{Bytes, Desk};
use crate::fjall::{CACHE, directory, load, mode, show_all};
use crate::groups::Grouped;
use crate::peer::{Fault, ON_DISK, Peer, Settled};

/// How it appears in tables.
pub const PEER: Peer = Peer {
    name: "fjall-grouped",
    version: env!("VERSION_FJALL"),
    about: "as fjall, with group commit by hand: a writer thread takes up to clients x in-flight waiting transactions into one single-writer transaction, commits it (one fsync if durable), then answers all; a pinned thread for each client asks without waiting",
    durabilities: ON_DISK,
    is_of_single_rows: false,
};

/// The engine.
pub struct Journalled {
    database: SingleWriterTxDatabase,
    rows: SingleWriterTxKeyspace,
    durability: Durability,
    /// Dropped last: the store writes its end into it.
    _directory: TempDir,
}

struct Writing<'a> {
    writing: WriteTransaction<'a>,
    rows: &'a SingleWriterTxKeyspace,
}

impl<W: Workload> Grouped<W> for Journalled {
    fn open(workload: &W, trial: &Trial) -> Result<Self, Fault> {
        let durability = trial.cell.durability;
        let directory = directory(&trial.directory)?;
        let database = SingleWriterTxDatabase::builder(directory.path())
            .manual_journal_persist(durability == Durability::None)
            .cache_size(CACHE)
            .open()?;
        let rows = database.keyspace("rows", KeyspaceCreateOptions::default)?;
        load(workload, rows.inner())?;
        database.persist(PersistMode::SyncAll)?;
        Ok(Journalled { database, rows, durability, _directory: directory })
    }

    fn commit<'a>(
        &self,
        group: impl Iterator<Item = &'a W::Transaction>,
        desk: &mut Desk<W>,
        answer: &mut Vec<Settled<W>>,
    ) -> Result<(), Fault> {
        let writing = self.database.write_tx().durability(mode(self.durability));
        let mut writing = Writing { writing, rows: &self.rows };
        for transaction in group {
            answer.push(desk.run(transaction, &mut writing)?);
        }
        Ok(writing.writing.commit()?)
    }

    fn show(&self, see: &mut dyn FnMut(&W::Id, &W::Row)) -> Result<(), Fault> {
        show_all::<W>(self.rows.inner(), see)
    }
}

impl Bytes for Writing<'_> {
    fn get<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Fault> {
        Ok(self.writing.get(self.rows, key)?.map(|value| read(&value)))
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.writing.insert(self.rows, key, value);
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), Fault> {
        self.writing.remove(self.rows, key);
        Ok(())
    }
}
