//! fjall: a log-structured store, with its optimistic transactions.
//!
//! Durability: `none` leaves the journal in the process (`manual_journal_persist`; it cannot be turned off), `applied` is its default,
//! a `write` to the operating system at each commit (`PersistMode::Buffer`), `durable` an fsync at each (`PersistMode::SyncAll`).
//! A commit holds the store's lock while it syncs, so two threads do not share an fsync; `fjall-grouped` does that.

use std::path::Path;

use ::fjall::{
    Keyspace, KeyspaceCreateOptions, OptimisticTxDatabase, OptimisticTxKeyspace,
    OptimisticWriteTx as WriteTransaction, PersistMode, Readable, Snapshot,
};
use freehold_workloads::{Durability, LATENCY_STRIDE, Trial, Workload};
use tempfile::TempDir;

use crate::bytes::{Bytes, Desk, encode, not_writable, show};
use crate::peer::{Fault, ON_DISK, Peer, Settled};
use crate::threads::{Session, Store};

/// How it appears in tables.
pub const PEER: Peer = Peer {
    name: "fjall",
    version: env!("VERSION_FJALL"),
    about: "log-structured store with optimistic, serializable transactions, retried on conflict; none: journal kept in the process, applied: written at each commit, durable: fsync at each commit; rows are bytes (postcard), not compressed; a thread for each client, pinned, with one transaction in flight",
    durabilities: ON_DISK,
    is_of_single_rows: false,
};

/// What fjall calls a durability.
pub(crate) fn mode(durability: Durability) -> Option<PersistMode> {
    match durability {
        Durability::None => None,
        Durability::Applied => Some(PersistMode::Buffer),
        Durability::Durable => Some(PersistMode::SyncAll),
    }
}

/// A block cache that holds all rows of any cell, as its README advises where that can be had; it is filled as needed.
pub(crate) const CACHE: u64 = 1 << 30;

/// The engine.
pub struct Journalled {
    database: OptimisticTxDatabase,
    rows: OptimisticTxKeyspace,
    durability: Durability,
    /// Dropped last: the store writes its end into it.
    _directory: TempDir,
}

/// One thread's way to it.
pub struct Optimist<'a, W: Workload> {
    store: &'a Journalled,
    desk: Desk<W>,
    reruns: u64,
}

struct Writing<'a> {
    writing: WriteTransaction,
    rows: &'a OptimisticTxKeyspace,
}

struct Reading<'a> {
    snapshot: Snapshot,
    rows: &'a OptimisticTxKeyspace,
}

/// Where the store's files go.
pub(crate) fn directory(within: &Path) -> Result<TempDir, Fault> {
    Ok(tempfile::Builder::new().prefix("freehold-peer-").tempdir_in(within)?)
}

/// Puts all rows in, outside of transactions: nobody else is there yet.
pub(crate) fn load<W: Workload>(workload: &W, rows: &Keyspace) -> Result<(), Fault> {
    let (mut key, mut value, mut done) = (Vec::new(), Vec::new(), Ok(()));
    let mut put = |id: W::Id, row: W::Row| -> Result<(), Fault> {
        encode(&id, &mut key)?;
        encode(&row, &mut value)?;
        Ok(rows.insert(key.as_slice(), value.as_slice())?)
    };
    workload.load(&mut |id, row| {
        if done.is_ok() {
            done = put(id, row);
        }
    });
    done
}

/// Shows all rows.
pub(crate) fn show_all<W: Workload>(
    rows: &Keyspace,
    see: &mut dyn FnMut(&W::Id, &W::Row),
) -> Result<(), Fault> {
    for entry in rows.iter() {
        let (key, value) = entry.into_inner()?;
        show::<W>(&key, &value, see)?;
    }
    Ok(())
}

impl<W: Workload> Store<W> for Journalled {
    type Session<'a> = Optimist<'a, W>;

    fn open(workload: &W, trial: &Trial) -> Result<Self, Fault> {
        let durability = trial.cell.durability;
        let directory = directory(&trial.directory)?;
        let database = OptimisticTxDatabase::builder(directory.path())
            .manual_journal_persist(durability == Durability::None)
            .cache_size(CACHE)
            .open()?;
        let rows = database.keyspace("rows", KeyspaceCreateOptions::default)?;
        load(workload, rows.inner())?;
        database.persist(PersistMode::SyncAll)?;
        Ok(Journalled { database, rows, durability, _directory: directory })
    }

    fn session(&self) -> Optimist<'_, W> {
        Optimist { store: self, desk: Desk::default(), reruns: 0 }
    }

    fn show(&self, see: &mut dyn FnMut(&W::Id, &W::Row)) -> Result<(), Fault> {
        show_all::<W>(self.rows.inner(), see)
    }

    fn stride(&self) -> u64 {
        if self.durability == Durability::Durable { 4 } else { LATENCY_STRIDE }
    }
}

impl<W: Workload> Session<W> for Optimist<'_, W> {
    fn run(&mut self, transaction: &W::Transaction) -> Result<Settled<W>, Fault> {
        let Journalled { database, rows, durability, .. } = self.store;
        if self.desk.only_reads(transaction) {
            return self.desk.run(transaction, &mut Reading { snapshot: database.read_tx(), rows });
        }
        loop {
            let writing = database.write_tx()?.durability(mode(*durability));
            let mut writing = Writing { writing, rows };
            let settled = self.desk.run(transaction, &mut writing)?;
            if settled.is_err() {
                writing.writing.rollback();
                return Ok(settled);
            }
            match writing.writing.commit()? {
                Ok(()) => return Ok(settled),
                Err(_conflict) => self.reruns += 1,
            }
        }
    }

    fn reruns(&self) -> u64 {
        self.reruns
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

impl Bytes for Reading<'_> {
    fn get<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Fault> {
        Ok(self.snapshot.get(self.rows, key)?.map(|value| read(&value)))
    }

    fn set(&mut self, _: &[u8], _: &[u8]) -> Result<(), Fault> {
        Err(not_writable())
    }

    fn remove(&mut self, _: &[u8]) -> Result<(), Fault> {
        Err(not_writable())
    }
}
