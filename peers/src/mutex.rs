//! One map behind one mutex: what everybody writes first.

use std::collections::HashMap;
use std::sync::Mutex;

use ahash::RandomState;
use freehold_workloads::{Trial, Workload};

use crate::peer::{Fault, IN_MEMORY, Peer, Settled};
use crate::threads::{Session, Store};

/// How it appears in tables.
pub const PEER: Peer = Peer {
    name: "mutex",
    version: "std",
    about: "one std Mutex around one HashMap (ahash); a thread for each client, pinned, with one transaction in flight",
    durabilities: IN_MEMORY,
    is_of_single_rows: false,
};

type Map<W> = HashMap<<W as Workload>::Id, <W as Workload>::Row, RandomState>;

/// The engine.
pub struct Locked<W: Workload>(Mutex<Map<W>>);

impl<W: Workload> Store<W> for Locked<W> {
    type Session<'a> = &'a Locked<W>;

    fn open(workload: &W, _: &Trial) -> Result<Self, Fault> {
        let mut map = Map::<W>::default();
        workload.load(&mut |id, row| drop(map.insert(id, row)));
        Ok(Locked(Mutex::new(map)))
    }

    fn session(&self) -> &Locked<W> {
        self
    }

    fn show(&self, see: &mut dyn FnMut(&W::Id, &W::Row)) -> Result<(), Fault> {
        self.0.lock().map_err(|_| "a client panicked")?.iter().for_each(|(id, row)| see(id, row));
        Ok(())
    }
}

impl<W: Workload> Session<W> for &Locked<W> {
    #[inline]
    fn run(&mut self, transaction: &W::Transaction) -> Result<Settled<W>, Fault> {
        // It is held for the whole transaction, and for nothing else.
        let mut map = self.0.lock().map_err(|_| "a client panicked")?;
        Ok(W::run(transaction, &mut *map))
    }
}
