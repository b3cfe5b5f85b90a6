//! An actor's one row, and how actors are found by their ids.

use std::borrow::Cow;
use std::collections::HashMap;

use ::dashmap::DashMap;
use ahash::RandomState;
use freehold_shard::Addressees;
use freehold_workloads::{Refused, Rows, Workload};

use crate::peer::Settled;

/// The row of one actor. Others are out of its reach, and that is broken.
struct Single<'a, W: Workload> {
    id: W::Id,
    row: &'a mut Option<W::Row>,
}

/// Runs a transaction over the one row it names.
#[inline]
pub fn run<W: Workload>(id: W::Id, row: &mut Option<W::Row>, transaction: &W::Transaction) -> Settled<W> {
    W::run(transaction, &mut Single::<W> { id, row })
}

/// The one row a transaction names, if it names one.
#[inline]
pub fn named<W: Workload>(transaction: &W::Transaction) -> Option<W::Id> {
    let mut to = Addressees::new();
    W::addressees(transaction, &mut to);
    let mut ids = to.iter();
    match (ids.next(), ids.next()) {
        (Some((id, _)), None) => Some(id),
        _ => None,
    }
}

impl<W: Workload> Single<'_, W> {
    #[inline]
    fn row(&mut self, id: W::Id) -> Result<&mut Option<W::Row>, Refused<W::Id>> {
        if id == self.id { Ok(self.row) } else { Err(Refused::Broken("a row was used that was not named")) }
    }
}

impl<W: Workload> Rows<W> for Single<'_, W> {
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

/// Where actors are found.
///
/// Those of the rows there are in the beginning are in a map that nobody changes any more, so
/// finding one takes no lock; those of rows named for the first time later are in a concurrent one.
/// An actor stays, also when its row is gone.
pub struct Directory<Id, Address> {
    first: HashMap<Id, Address, RandomState>,
    later: DashMap<Id, Address, RandomState>,
}

impl<Id: Copy + Eq + std::hash::Hash, Address: Clone> Directory<Id, Address> {
    /// Of the actors there are in the beginning.
    pub fn new(first: HashMap<Id, Address, RandomState>) -> Self {
        Directory { first, later: DashMap::default() }
    }

    /// The address of an actor, who is started if there is none.
    #[inline]
    pub fn find(&self, id: Id, start: impl FnOnce() -> Address) -> Cow<'_, Address> {
        match self.first.get(&id) {
            Some(address) => Cow::Borrowed(address),
            None => Cow::Owned(match self.later.get(&id) {
                Some(address) => address.clone(),
                None => self.later.entry(id).or_insert_with(start).clone(),
            }),
        }
    }

    /// All there are.
    pub fn all(&self) -> Vec<(Id, Address)> {
        let first = self.first.iter().map(|(id, address)| (*id, address.clone()));
        first.chain(self.later.iter().map(|entry| (*entry.key(), entry.value().clone()))).collect()
    }
}
