//! What a workload is: rows, transactions over them, and what must hold in the end.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::BuildHasher;
use std::ops::AddAssign;

use freehold_shard::{AccessError, Addressees, ObjectId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::stream::{Client, NoRow};

/// Why a transaction did not commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused<Id: Debug> {
    /// The workload's own rule: too little money, a number nobody has. It is counted, and no fault
    /// of the engine.
    #[error("aborted by the workload: {0}")]
    Aborted(&'static str),
    /// What cannot be, if the engine does its work. The cell it happens in has no figures.
    #[error("broken: {0}")]
    Broken(&'static str),
    /// Freehold's refusal of an access. The cell it happens in has no figures.
    #[error(transparent)]
    Access(#[from] AccessError<Id>),
}

/// The rows of one transaction, as an engine lends them. Every id was named by
/// [`Workload::addressees`].
pub trait Rows<W: Workload> {
    /// The row, if there is one.
    ///
    /// # Errors
    /// The engine's refusal; it is to be returned.
    fn get(&mut self, id: W::Id) -> Result<Option<&W::Row>, Refused<W::Id>>;
    /// The row, to be changed.
    ///
    /// # Errors
    /// As [`Rows::get`].
    fn get_mut(&mut self, id: W::Id) -> Result<Option<&mut W::Row>, Refused<W::Id>>;
    /// Puts a row in, in place of what was there.
    ///
    /// # Errors
    /// As [`Rows::get`].
    fn insert(&mut self, id: W::Id, row: W::Row) -> Result<(), Refused<W::Id>>;
    /// Takes a row out. Says whether there was one.
    ///
    /// # Errors
    /// As [`Rows::get`].
    fn remove(&mut self, id: W::Id) -> Result<bool, Refused<W::Id>>;
}

/// Rows in a map of one thread: what a workload costs without an engine.
impl<W: Workload, S: BuildHasher> Rows<W> for HashMap<W::Id, W::Row, S> {
    #[inline]
    fn get(&mut self, id: W::Id) -> Result<Option<&W::Row>, Refused<W::Id>> {
        Ok(HashMap::get(self, &id))
    }

    #[inline]
    fn get_mut(&mut self, id: W::Id) -> Result<Option<&mut W::Row>, Refused<W::Id>> {
        Ok(HashMap::get_mut(self, &id))
    }

    #[inline]
    fn insert(&mut self, id: W::Id, row: W::Row) -> Result<(), Refused<W::Id>> {
        HashMap::insert(self, id, row);
        Ok(())
    }

    #[inline]
    fn remove(&mut self, id: W::Id) -> Result<bool, Refused<W::Id>> {
        Ok(HashMap::remove(self, &id).is_some())
    }
}

/// A workload, with its sizes and its skew as fields.
///
/// A transaction decides before it writes: [`Workload::run`] refuses before its first change, so an
/// engine that cannot undo can run it as well as one that can.
pub trait Workload: Clone + PartialEq + Debug + Send + Sync + Serialize + DeserializeOwned + 'static {
    /// What identifies a row. Its placement says which rows share a shard.
    type Id: ObjectId;
    /// What one row holds.
    type Row: Clone + Send + Sync + Serialize + DeserializeOwned + 'static;
    /// One transaction with its arguments.
    type Transaction: Clone + Debug + Send + Sync + Serialize + DeserializeOwned + 'static;
    /// What a committed transaction answers.
    type Reply: Debug + Send + 'static;
    /// What one client knows of what was committed, from the answers.
    type Tally: Clone + Debug + Default + AddAssign + Send + 'static;
    /// What a part of the rows holds together, once all is done.
    type Audit: Debug + Default + AddAssign + Send + 'static;

    /// How many transactions a client draws before it begins with the first again.
    const STREAM: usize = 1 << 17;
    /// Whether a transaction has to be changed when its stream is gone through again.
    const RENEWS: bool = false;

    /// What it is called on the command line and in results: lower case.
    fn name(&self) -> &'static str;

    /// Whether every transaction touches one row only, so that an engine without transactions
    /// serves it as well.
    fn is_of_single_rows(&self) -> bool {
        false
    }

    /// Gives every row there is in the beginning, in any order.
    fn load(&self, put: &mut dyn FnMut(Self::Id, Self::Row));

    /// Draws the transactions of one client. The first row of each lives on the client's own shard;
    /// which others live there is for the client's [`Cross`](crate::Cross) to say.
    ///
    /// # Errors
    /// If no row lives where one has to.
    fn draw(&self, client: &mut Client) -> Result<Vec<Self::Transaction>, NoRow>;

    /// Makes a transaction of the stream's first lap (0) one of a later lap. Its rows must live
    /// where they did, and its answer must tally as before: engines tally the transaction of the
    /// first lap.
    fn renew(_transaction: &mut Self::Transaction, _lap: u64) {}

    /// Names the transaction's rows.
    fn addressees(transaction: &Self::Transaction, to: &mut Addressees<Self::Id>);

    /// Runs the transaction.
    ///
    /// # Errors [`Refused::Aborted`] by the workload's rules, before anything was changed. The
    /// others are errors.
    fn run(
        transaction: &Self::Transaction,
        rows: &mut impl Rows<Self>,
    ) -> Result<Self::Reply, Refused<Self::Id>>;

    /// Takes note of an answer.
    fn tally(tally: &mut Self::Tally, transaction: &Self::Transaction, reply: &Self::Reply);

    /// Takes note of a row that is there in the end.
    fn audit(&self, audit: &mut Self::Audit, id: &Self::Id, row: &Self::Row);

    /// Compares what was acknowledged with what is there.
    ///
    /// # Errors
    /// What does not hold, in words.
    fn verdict(&self, acknowledged: &Self::Tally, found: &Self::Audit) -> Result<(), String>;
}
