//! A concurrent map of mutexes, locked in the order of ids: the strongest thing one writes by hand.
//!
//! No guard of the map is held while a row is waited for, or while another row is looked up: the
//! map lends an `Arc` and lets go. A row that does not exist has an empty entry from the first time
//! it is named, so that it can be locked; entries are never taken out.

use std::sync::{Arc, Mutex, MutexGuard};

use ::dashmap::DashMap;
use ahash::RandomState;
use freehold_shard::Addressees;
use freehold_workloads::{Refused, Rows, Trial, Workload};
use smallvec::SmallVec;

use crate::peer::{Fault, IN_MEMORY, Peer, Settled};
use crate::threads::{Session, Store};

/// How it appears in tables.
pub const PEER: Peer = Peer {
    name: "dashmap",
    version: env!("VERSION_DASHMAP"),
    about: "DashMap (ahash) of Arc<Mutex<row>>, all rows of a transaction locked in the order of their ids; a thread for each client, pinned, with one transaction in flight",
    durabilities: IN_MEMORY,
    is_of_single_rows: false,
};

type Cell<W> = Arc<Mutex<Option<<W as Workload>::Row>>>;

/// The engine.
pub struct Mutexes<W: Workload>(DashMap<W::Id, Cell<W>, RandomState>);

/// One thread's way to it.
pub struct Locker<'a, W: Workload> {
    cells: &'a DashMap<W::Id, Cell<W>, RandomState>,
    to: Addressees<W::Id>,
    /// The ids and cells of a transaction, in the order of ids. Empty between transactions, and
    /// kept so that none allocates.
    ids: Vec<W::Id>,
    named: Vec<(W::Id, Cell<W>)>,
}

/// More rows than this, and a transaction allocates: guards cannot be kept between transactions.
/// Those of all workloads have fewer.
const ROWS: usize = 64;

/// A row that is locked, with its id.
type Held<'a, W> = (<W as Workload>::Id, MutexGuard<'a, Option<<W as Workload>::Row>>);

/// All rows of a transaction, locked, in the order of their ids.
struct Lent<'a, W: Workload>(SmallVec<[Held<'a, W>; ROWS]>);

impl<W: Workload> Store<W> for Mutexes<W> {
    type Session<'a> = Locker<'a, W>;

    fn open(workload: &W, _: &Trial) -> Result<Self, Fault> {
        let cells = DashMap::default();
        workload.load(&mut |id, row| drop(cells.insert(id, Arc::new(Mutex::new(Some(row))))));
        Ok(Mutexes(cells))
    }

    fn session(&self) -> Locker<'_, W> {
        Locker { cells: &self.0, to: Addressees::new(), ids: Vec::new(), named: Vec::new() }
    }

    fn show(&self, see: &mut dyn FnMut(&W::Id, &W::Row)) -> Result<(), Fault> {
        for entry in &self.0 {
            if let Some(row) = &*entry.value().lock().map_err(|_| "a client panicked")? {
                see(entry.key(), row);
            }
        }
        Ok(())
    }
}

#[inline]
fn cell<W: Workload>(cells: &DashMap<W::Id, Cell<W>, RandomState>, id: W::Id) -> Cell<W> {
    // Found by a shared lock of the map's part almost always; `entry` takes it exclusively.
    if let Some(cell) = cells.get(&id) {
        return Arc::clone(&cell);
    }
    Arc::clone(&cells.entry(id).or_default())
}

impl<W: Workload> Session<W> for Locker<'_, W> {
    #[inline]
    fn run(&mut self, transaction: &W::Transaction) -> Result<Settled<W>, Fault> {
        let Locker { cells, to, ids, named } = self;
        to.clear();
        W::addressees(transaction, to);
        ids.extend(to.iter().map(|(id, _)| id));
        ids.sort_unstable();
        named.extend(ids.drain(..).map(|id| (id, cell::<W>(cells, id))));
        let mut held = Lent::<W>(SmallVec::new());
        for (id, cell) in &*named {
            held.0.push((*id, cell.lock().map_err(|_| "a client panicked")?));
        }
        let settled = W::run(transaction, &mut held);
        drop(held);
        named.clear();
        Ok(settled)
    }
}

impl<W: Workload> Lent<'_, W> {
    #[inline]
    fn row(&mut self, id: W::Id) -> Result<&mut Option<W::Row>, Refused<W::Id>> {
        let place = self.0.binary_search_by(|(other, _)| other.cmp(&id));
        let place = place.map_err(|_| Refused::Broken("a row was used that was not named"))?;
        Ok(&mut self.0[place].1)
    }
}

impl<W: Workload> Rows<W> for Lent<'_, W> {
    #[inline]
    fn get(&mut self, id: W::Id) -> Result<Option<&W::Row>, Refused<W::Id>> {
        Ok(self.row(id)?.as_ref())
    }

    #[inline]
    fn get_mut(&mut self, id: W::Id) -> Result<Option<&mut W::Row>, Refused<W::Id>> {
        Ok(self.row(id)?.as_mut())
    }

    #[inline]
    fn insert(&mut self, id: W::Id, row: W::Row) -> Result<(), Refused<W::Id>> {
        *self.row(id)? = Some(row);
        Ok(())
    }

    #[inline]
    fn remove(&mut self, id: W::Id) -> Result<bool, Refused<W::Id>> {
        Ok(self.row(id)?.take().is_some())
    }
}
