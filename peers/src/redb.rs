//! redb: a copy-on-write B-tree in a file, one writer at a time.
//!
//! Durability: `none` is its memory backend; `durable` its default, a commit that is synced. It has
//! no middle: a commit either waits for the disk or does not count until a later one does. So
//! `applied` commits without waiting, and a thread beside the clients ([`Syncing`]) makes what was
//! committed durable now and then; a client waits for it only as for any other writer.

use std::path::Path;
use std::sync::Arc;

use ::redb::backends::InMemoryBackend;
use ::redb::{
    Builder, Database, Durability as Sync, ReadOnlyTable, ReadableDatabase, ReadableTable, Table,
    TableDefinition, WriteTransaction,
};
use freehold_workloads::{Durability, Trial, Workload};
use tempfile::TempDir;

use crate::bytes::{Bytes, Desk, encode, not_writable, show};
use crate::peer::{Fault, ON_DISK, Peer, Settled, Syncing};
use crate::threads::{SLOW_STRIDE, Session, Store};

/// How it appears in tables.
pub const PEER: Peer = Peer {
    name: "redb",
    version: env!("VERSION_REDB"),
    about: "copy-on-write B-tree, one writing transaction at a time, snapshots for those that only read; none: memory backend, applied: commits do not wait and one every 100 ms is synced, durable: each commit is synced; rows are bytes (postcard); a thread for each client, pinned, with one transaction in flight",
    durabilities: ON_DISK,
    is_of_single_rows: false,
};

const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");

/// A table of rows that can be written.
pub(crate) type Writable<'a> = Table<'a, &'static [u8], &'static [u8]>;

/// The store, and what makes it durable now and then.
pub struct Tree {
    /// Dropped first: it uses the store until its thread has ended.
    syncing: Option<Syncing>,
    database: Arc<Database>,
    durability: Durability,
    /// Dropped last, after the file in it.
    _directory: Option<TempDir>,
}

/// Makes durable what was committed before.
fn sync(database: &Database) -> Result<(), Fault> {
    let mut writing = database.begin_write()?;
    writing.set_durability(Sync::Immediate)?;
    Ok(writing.commit()?)
}

impl Tree {
    /// Makes it, with all rows of a workload.
    pub(crate) fn open<W: Workload>(workload: &W, trial: &Trial) -> Result<Self, Fault> {
        let durability = trial.cell.durability;
        let (database, directory) = if durability == Durability::None {
            (Builder::new().create_with_backend(InMemoryBackend::new())?, None)
        } else {
            let within: &Path = &trial.directory;
            let directory = tempfile::Builder::new().prefix("freehold-peer-").tempdir_in(within)?;
            (Database::create(directory.path().join("rows.redb"))?, Some(directory))
        };
        let mut tree =
            Tree { syncing: None, database: Arc::new(database), durability, _directory: directory };
        tree.load(workload)?;
        if durability == Durability::Applied {
            let database = Arc::clone(&tree.database);
            tree.syncing = Some(Syncing::start(move || sync(&database)));
        }
        Ok(tree)
    }

    fn load<W: Workload>(&self, workload: &W) -> Result<(), Fault> {
        let (mut key, mut value, mut done) = (Vec::new(), Vec::new(), Ok(()));
        let writing = self.database.begin_write()?;
        {
            let mut rows = writing.open_table(ROWS)?;
            let mut put = |id: W::Id, row: W::Row| -> Result<(), Fault> {
                encode(&id, &mut key)?;
                encode(&row, &mut value)?;
                rows.insert(key.as_slice(), value.as_slice())?;
                Ok(())
            };
            workload.load(&mut |id, row| {
                if done.is_ok() {
                    done = put(id, row);
                }
            });
        }
        done?;
        Ok(writing.commit()?)
    }

    /// Runs a transaction that only reads, in a snapshot of what is committed.
    pub(crate) fn read<W: Workload>(
        &self,
        transaction: &W::Transaction,
        desk: &mut Desk<W>,
    ) -> Result<Settled<W>, Fault> {
        desk.run(transaction, &mut Reading(self.database.begin_read()?.open_table(ROWS)?))
    }

    /// Begins a transaction that writes, when all others have ended.
    pub(crate) fn write(&self) -> Result<WriteTransaction, Fault> {
        let mut writing = self.database.begin_write()?;
        writing.set_durability(match self.durability {
            Durability::Durable => Sync::Immediate,
            Durability::None | Durability::Applied => Sync::None,
        })?;
        Ok(writing)
    }

    /// Shows all rows, after the last sync.
    pub(crate) fn show_all<W: Workload>(&self, see: &mut dyn FnMut(&W::Id, &W::Row)) -> Result<(), Fault> {
        for entry in self.database.begin_read()?.open_table(ROWS)?.iter()? {
            let (key, value) = entry?;
            show::<W>(key.value(), value.value(), see)?;
        }
        self.syncing.as_ref().map_or(Ok(()), Syncing::check)
    }
}

/// The rows, within a transaction that writes.
pub(crate) fn rows(writing: &WriteTransaction) -> Result<Writable<'_>, Fault> {
    Ok(writing.open_table(ROWS)?)
}

/// One thread's way to it.
pub struct Waiting<'a, W: Workload> {
    tree: &'a Tree,
    desk: Desk<W>,
}

struct Reading(ReadOnlyTable<&'static [u8], &'static [u8]>);

impl<W: Workload> Store<W> for Tree {
    const STRIDE: u64 = SLOW_STRIDE;
    type Session<'a> = Waiting<'a, W>;

    fn open(workload: &W, trial: &Trial) -> Result<Self, Fault> {
        Tree::open(workload, trial)
    }

    fn session(&self) -> Waiting<'_, W> {
        Waiting { tree: self, desk: Desk::default() }
    }

    fn show(&self, see: &mut dyn FnMut(&W::Id, &W::Row)) -> Result<(), Fault> {
        self.show_all::<W>(see)
    }
}

impl<W: Workload> Session<W> for Waiting<'_, W> {
    fn run(&mut self, transaction: &W::Transaction) -> Result<Settled<W>, Fault> {
        if self.desk.only_reads(transaction) {
            return self.tree.read(transaction, &mut self.desk);
        }
        let writing = self.tree.write()?;
        let settled = self.desk.run(transaction, &mut rows(&writing)?)?;
        if settled.is_ok() {
            writing.commit()?;
        } else {
            writing.abort()?;
        }
        Ok(settled)
    }
}

impl Bytes for Writable<'_> {
    fn get<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Fault> {
        Ok(ReadableTable::get(self, key)?.map(|value| read(value.value())))
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        self.insert(key, value)?;
        Ok(())
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), Fault> {
        Table::remove(self, key)?;
        Ok(())
    }
}

impl Bytes for Reading {
    fn get<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Fault> {
        Ok(ReadableTable::get(&self.0, key)?.map(|value| read(value.value())))
    }

    fn set(&mut self, _: &[u8], _: &[u8]) -> Result<(), Fault> {
        Err(not_writable())
    }

    fn remove(&mut self, _: &[u8]) -> Result<(), Fault> {
        Err(not_writable())
    }
}
