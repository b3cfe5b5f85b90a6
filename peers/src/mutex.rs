//! One map behind one mutex: what everybody writes first.

use std::collections::HashMap;
use std::sync::Mutex;

use ahash::RandomState;
use freehold_workloads::{Refused, Rows, Trial, Workload};

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

/// The lock is held for the whole transaction, and for nothing else.
struct Lent<'a, W: Workload>(&'a mut Map<W>);

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
        let mut map = self.0.lock().map_err(|_| "a client panicked")?;
        Ok(W::run(transaction, &mut Lent::<W>(&mut map)))
    }
}

impl<W: Workload> Rows<W> for Lent<'_, W> {
    #[inline]
    fn get(&mut self, id: W::Id) -> Result<Option<&W::Row>, Refused<W::Id>> {
        Ok(self.0.get(&id))
    }

    #[inline]
    fn get_mut(&mut self, id: W::Id) -> Result<Option<&mut W::Row>, Refused<W::Id>> {
        Ok(self.0.get_mut(&id))
    }

    #[inline]
    fn insert(&mut self, id: W::Id, row: W::Row) -> Result<(), Refused<W::Id>> {
        self.0.insert(id, row);
        Ok(())
    }

    #[inline]
    fn remove(&mut self, id: W::Id) -> Result<bool, Refused<W::Id>> {
        Ok(self.0.remove(&id).is_some())
    }
}
