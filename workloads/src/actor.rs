//! A workload as an actor of Freehold: its rows are the objects, its transactions the messages.

use std::marker::PhantomData;

use freehold_shard::{AccessError, Actor, Addressees, Objects};
use serde::{Deserialize, Serialize};

use crate::workload::{Refused, Rows, Workload};

/// The actor that serves the workload `W`.
pub struct Served<W>(PhantomData<W>);

/// What [`Served`] is sent.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(bound = "")]
pub enum Order<W: Workload> {
    /// Run this.
    Run(W::Transaction),
    /// Put this row in, before anything is measured.
    Load(W::Id, Box<W::Row>),
}

impl<W: Workload> Actor for Served<W> {
    type Id = W::Id;
    type State = W::Row;
    type Message = Order<W>;
    /// Nothing, for a row that was loaded.
    type Reply = Option<W::Reply>;
    type Error = Refused<W::Id>;

    #[inline]
    fn addressees(order: &Order<W>, to: &mut Addressees<W::Id>) {
        match order {
            Order::Run(transaction) => W::addressees(transaction, to),
            Order::Load(id, _) => to.write(*id),
        }
    }

    #[inline]
    fn receive(
        order: &Order<W>,
        objects: &mut Objects<'_, Self>,
    ) -> Result<Option<W::Reply>, Refused<W::Id>> {
        match order {
            Order::Run(transaction) => W::run(transaction, objects).map(Some),
            Order::Load(id, row) => {
                objects.insert(*id, row.as_ref().clone())?;
                Ok(None)
            }
        }
    }
}

type Accessed<T, W> = Result<T, Refused<<W as Workload>::Id>>;

impl<W: Workload> Rows<W> for Objects<'_, Served<W>> {
    #[inline]
    fn get(&mut self, id: W::Id) -> Accessed<Option<&W::Row>, W> {
        Objects::get(self, id).map_err(refused)
    }

    #[inline]
    fn get_mut(&mut self, id: W::Id) -> Accessed<Option<&mut W::Row>, W> {
        Objects::get_mut(self, id).map_err(refused)
    }

    #[inline]
    fn insert(&mut self, id: W::Id, row: W::Row) -> Accessed<(), W> {
        Objects::insert(self, id, row).map_err(refused)?;
        Ok(())
    }

    #[inline]
    fn remove(&mut self, id: W::Id) -> Accessed<bool, W> {
        Ok(Objects::remove(self, id).map_err(refused)?.is_some())
    }
}

fn refused<Id: std::fmt::Debug>(error: AccessError<Id>) -> Refused<Id> {
    Refused::Access(error)
}
