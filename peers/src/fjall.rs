//! fjall: a log-structured store, with its single-writer transactions.
//!
//! Durability: `none` leaves the journal in the process (`manual_journal_persist`; it cannot be
//! turned off). `applied` does so too, and a thread beside the clients ([`Syncing`]) syncs it now
//! and then, as for redb; its default would be a `write` to the operating system at each commit,
//! which neither redb nor Freehold do. `durable` is an fdatasync at each commit
//! (`PersistMode::SyncData`, which its documentation names for ACID; redb's is one, too, and
//! Freehold's O_DSYNC does the same). A commit holds the store's lock while it syncs, so two
//! threads do not share a sync; `fjall-grouped` does that.
//!
//! Its optimistic transactions were tried and are slower here: with SmallBank over 100,000
//! customers, on one thread and with the journal in the process, a median of 16 us instead of 5.
//! They hold a lock while they commit as well.

use std::path::Path;

use ::fjall::{
    KeyspaceCreateOptions, PersistMode, Readable, SingleWriterTxDatabase, SingleWriterTxKeyspace,
    SingleWriterWriteTx as WriteTransaction, Snapshot,
};
use freehold_workloads::{Durability, Trial, Workload};
use tempfile::TempDir;

use crate::bytes::{Bytes, Desk, encode, not_writable, show};
use crate::peer::{Fault, ON_DISK, Peer, Settled, Syncing};
use crate::threads::{SLOW_STRIDE, Session, Store};

/// How it appears in tables.
pub const PEER: Peer = Peer {
    name: "fjall",
    version: env!("VERSION_FJALL"),
    about: "log-structured store, one writing transaction at a time (its optimistic ones are slower here), snapshots for those that only read; none: journal kept in the process, applied: commits do not wait and the journal is synced every 100 ms, durable: fdatasync at each commit; rows are bytes (postcard), not compressed; a thread for each client, pinned, with one transaction in flight",
    durabilities: ON_DISK,
    is_of_single_rows: false,
};

/// A block cache that holds all rows of any cell, as its README advises where that can be had; it
/// is filled as needed.
const CACHE: u64 = 1 << 30;

/// The store, and what makes it durable now and then.
pub struct Journalled {
    /// Dropped first: it uses the store until its thread has ended.
    syncing: Option<Syncing>,
    database: SingleWriterTxDatabase,
    rows: SingleWriterTxKeyspace,
    durability: Durability,
    /// Dropped last: the store writes its end into it.
    _directory: TempDir,
}

/// A transaction that writes, when all others have ended.
pub(crate) struct Writing<'a> {
    writing: WriteTransaction<'a>,
    rows: &'a SingleWriterTxKeyspace,
}

struct Reading<'a> {
    snapshot: Snapshot,
    rows: &'a SingleWriterTxKeyspace,
}

impl Journalled {
    /// Makes it, with all rows of a workload.
    pub(crate) fn open<W: Workload>(workload: &W, trial: &Trial) -> Result<Self, Fault> {
        let durability = trial.cell.durability;
        let within: &Path = &trial.directory;
        let directory = tempfile::Builder::new().prefix("freehold-peer-").tempdir_in(within)?;
        let database = SingleWriterTxDatabase::builder(directory.path())
            .manual_journal_persist(durability != Durability::Durable)
            .cache_size(CACHE)
            .open()?;
        let rows = database.keyspace("rows", KeyspaceCreateOptions::default)?;
        let mut store = Journalled { syncing: None, database, rows, durability, _directory: directory };
        store.load(workload)?;
        store.database.persist(PersistMode::SyncAll)?;
        if durability == Durability::Applied {
            let database = store.database.clone();
            store.syncing = Some(Syncing::start(move || Ok(database.persist(PersistMode::SyncData)?)));
        }
        Ok(store)
    }

    /// Puts all rows in, outside of transactions: nobody else is there yet.
    fn load<W: Workload>(&self, workload: &W) -> Result<(), Fault> {
        let (mut key, mut value, mut done) = (Vec::new(), Vec::new(), Ok(()));
        let mut put = |id: W::Id, row: W::Row| -> Result<(), Fault> {
            encode(&id, &mut key)?;
            encode(&row, &mut value)?;
            Ok(self.rows.inner().insert(key.as_slice(), value.as_slice())?)
        };
        workload.load(&mut |id, row| {
            if done.is_ok() {
                done = put(id, row);
            }
        });
        done
    }

    /// Runs a transaction that only reads, in a snapshot of what is committed.
    pub(crate) fn read<W: Workload>(
        &self,
        transaction: &W::Transaction,
        desk: &mut Desk<W>,
    ) -> Result<Settled<W>, Fault> {
        desk.run(transaction, &mut Reading { snapshot: self.database.read_tx(), rows: &self.rows })
    }

    /// Begins a transaction that writes.
    pub(crate) fn write(&self) -> Writing<'_> {
        let mode = match self.durability {
            Durability::None | Durability::Applied => None,
            Durability::Durable => Some(PersistMode::SyncData),
        };
        Writing { writing: self.database.write_tx().durability(mode), rows: &self.rows }
    }

    /// Shows all rows.
    pub(crate) fn show_all<W: Workload>(&self, see: &mut dyn FnMut(&W::Id, &W::Row)) -> Result<(), Fault> {
        for entry in self.rows.inner().iter() {
            let (key, value) = entry.into_inner()?;
            show::<W>(&key, &value, see)?;
        }
        self.syncing.as_ref().map_or(Ok(()), Syncing::check)
    }
}

impl Writing<'_> {
    /// Commits as safely as the cell wants it.
    pub(crate) fn commit(self) -> Result<(), Fault> {
        Ok(self.writing.commit()?)
    }
}

/// One thread's way to it.
pub struct Waiting<'a, W: Workload> {
    store: &'a Journalled,
    desk: Desk<W>,
}

impl<W: Workload> Store<W> for Journalled {
    const STRIDE: u64 = SLOW_STRIDE;
    type Session<'a> = Waiting<'a, W>;

    fn open(workload: &W, trial: &Trial) -> Result<Self, Fault> {
        Journalled::open(workload, trial)
    }

    fn session(&self) -> Waiting<'_, W> {
        Waiting { store: self, desk: Desk::default() }
    }

    fn show(&self, see: &mut dyn FnMut(&W::Id, &W::Row)) -> Result<(), Fault> {
        self.show_all::<W>(see)
    }
}

impl<W: Workload> Session<W> for Waiting<'_, W> {
    fn run(&mut self, transaction: &W::Transaction) -> Result<Settled<W>, Fault> {
        if self.desk.only_reads(transaction) {
            return self.store.read(transaction, &mut self.desk);
        }
        let mut writing = self.store.write();
        let settled = self.desk.run(transaction, &mut writing)?;
        if settled.is_ok() {
            writing.commit()?;
        } else {
            writing.writing.rollback();
        }
        Ok(settled)
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
