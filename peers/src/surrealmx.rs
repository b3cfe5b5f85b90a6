//! SurrealMX: multi-version concurrency control in memory.
//!
//! Its README: a writing transaction is strictly serializable, its reads and writes being checked
//! at commit against all that committed meanwhile; a read-only one sees a snapshot, the state after
//! some commit, so all of them together have one order. A conflict is an error to retry at once,
//! and counted in `reruns`.

use ::surrealmx::{Database, DatabaseOptions, Error, Transaction};
use freehold_workloads::{Trial, Workload};

use crate::bytes::{Bytes, Desk, encode, not_writable, show};
use crate::peer::{Fault, IN_MEMORY, Peer, Settled};
use crate::threads::{SLOW_STRIDE, Session, Store};

/// How it appears in tables.
pub const PEER: Peer = Peer {
    name: "surrealmx",
    version: env!("VERSION_SURREALMX"),
    about: "in-memory MVCC, optimistic: writing transactions are strictly serializable and retried on conflict, transactions that only read take a snapshot; rows are bytes (postcard); a thread for each client, pinned, with one transaction in flight",
    durabilities: IN_MEMORY,
    is_of_single_rows: false,
};

/// The engine.
pub struct Versions(Database);

/// One thread's way to it.
pub struct Optimist<'a, W: Workload> {
    database: &'a Database,
    desk: Desk<W>,
    reruns: u64,
}

struct Reading(Transaction);
struct Writing(Transaction);

/// Rows loaded by one transaction.
const BATCH: usize = 10_000;

impl<W: Workload> Store<W> for Versions {
    const STRIDE: u64 = SLOW_STRIDE;
    type Session<'a> = Optimist<'a, W>;

    fn open(workload: &W, _: &Trial) -> Result<Self, Fault> {
        let database = Database::new_with_options(DatabaseOptions::default().with_high_performance());
        let (mut loading, mut rows, mut done) = (database.transaction(true), 0, Ok(()));
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let mut put = |id: W::Id, row: W::Row| -> Result<(), Fault> {
            encode(&id, &mut key)?;
            encode(&row, &mut value)?;
            loading.set(&key, &value)?;
            rows += 1;
            if rows % BATCH == 0 {
                loading.commit()?;
                loading = database.transaction(true);
            }
            Ok(())
        };
        workload.load(&mut |id, row| {
            if done.is_ok() {
                done = put(id, row);
            }
        });
        done?;
        loading.commit()?;
        drop(loading);
        Ok(Versions(database))
    }

    fn session(&self) -> Optimist<'_, W> {
        Optimist { database: &self.0, desk: Desk::default(), reruns: 0 }
    }

    fn show(&self, see: &mut dyn FnMut(&W::Id, &W::Row)) -> Result<(), Fault> {
        let mut shown = Ok(());
        // The end is exclusive; no id begins with so many of the highest byte.
        self.0.scan_with([].as_slice()..[0xFF; 64].as_slice(), None, None, |key, value| {
            shown = show::<W>(key, value, see);
            shown.is_ok()
        })?;
        shown
    }
}

impl<W: Workload> Session<W> for Optimist<'_, W> {
    fn run(&mut self, transaction: &W::Transaction) -> Result<Settled<W>, Fault> {
        if self.desk.only_reads(transaction) {
            let mut reading = Reading(self.database.transaction(false));
            let settled = self.desk.run(transaction, &mut reading);
            reading.0.cancel()?;
            return settled;
        }
        loop {
            let mut writing = Writing(self.database.transaction(true));
            let settled = self.desk.run(transaction, &mut writing)?;
            if settled.is_err() {
                // What it read was one snapshot: the refusal is as good as a read-only
                // transaction's answer.
                writing.0.cancel()?;
                return Ok(settled);
            }
            match writing.0.commit() {
                Ok(()) => return Ok(settled),
                Err(Error::KeyReadConflict | Error::KeyWriteConflict) => self.reruns += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn reruns(&self) -> u64 {
        self.reruns
    }
}

impl Bytes for Reading {
    fn get<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Fault> {
        Ok(self.0.with_value(key, read)?)
    }

    fn set(&mut self, _: &[u8], _: &[u8]) -> Result<(), Fault> {
        Err(not_writable())
    }

    fn remove(&mut self, _: &[u8]) -> Result<(), Fault> {
        Err(not_writable())
    }
}

impl Bytes for Writing {
    fn get<R>(&self, key: &[u8], read: impl FnOnce(&[u8]) -> R) -> Result<Option<R>, Fault> {
        Ok(self.0.with_value(key, read)?)
    }

    fn set(&mut self, key: &[u8], value: &[u8]) -> Result<(), Fault> {
        Ok(self.0.set(key, value)?)
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), Fault> {
        Ok(self.0.del(key)?)
    }
}
