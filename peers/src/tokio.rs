//! A tokio task for each row, with a bounded mailbox; a request brings the channel its answer goes
//! back by.
//!
//! This is the actor of "Actors with Tokio" (<https://ryhl.io/blog/actors-with-tokio/>).

use std::collections::HashMap;
use std::sync::Arc;

use ::tokio::runtime::Handle;
use ::tokio::sync::{mpsc, oneshot};
use ahash::RandomState;
use freehold_workloads::{Answer, Trial, Workload};

use crate::course::draw_all;
use crate::peer::{Fault, IN_MEMORY, Peer, Settled};
use crate::single::{Directory, named, run};
use crate::tasks::{Actors, measure as drive, runtime};

/// How it appears in tables.
pub const PEER: Peer = Peer {
    name: "tokio",
    version: env!("VERSION_TOKIO"),
    about: "a task for each row with a bounded mpsc mailbox (64), answers by oneshot; a multi-thread runtime with a pinned worker for each shard; clients are tasks, one for each transaction in flight",
    durabilities: IN_MEMORY,
    is_of_single_rows: true,
};

/// Letters a mailbox holds; kameo's default, too.
const MAILBOX: usize = 64;

enum Letter<W: Workload> {
    Run(W::Transaction, oneshot::Sender<Settled<W>>),
    Show(oneshot::Sender<Option<W::Row>>),
}

type Address<W> = mpsc::Sender<Letter<W>>;

/// All actors.
struct Tasks<W: Workload> {
    directory: Directory<W::Id, Address<W>>,
    runtime: Handle,
}

/// An actor: lives until nobody can write to it any more.
async fn live<W: Workload>(id: W::Id, mut row: Option<W::Row>, mut mailbox: mpsc::Receiver<Letter<W>>) {
    while let Some(letter) = mailbox.recv().await {
        // Who does not wait any more needs no answer.
        match letter {
            Letter::Run(transaction, answer) => drop(answer.send(run::<W>(id, &mut row, &transaction))),
            Letter::Show(answer) => drop(answer.send(row.clone())),
        }
    }
}

fn start<W: Workload>(runtime: &Handle, id: W::Id, row: Option<W::Row>) -> Address<W> {
    let (address, mailbox) = mpsc::channel(MAILBOX);
    runtime.spawn(live::<W>(id, row, mailbox));
    address
}

/// Measures it.
///
/// # Errors
/// Where threads cannot be had, or an actor has panicked.
pub fn measure<W: Workload>(workload: &W, trial: &Trial) -> Result<Answer, Fault> {
    let streams = draw_all(workload, trial)?;
    let runtime = runtime(trial.cell.shards)?;
    let handle = runtime.handle();
    let mut first = HashMap::with_hasher(RandomState::new());
    workload.load(&mut |id, row| drop(first.insert(id, start(handle, id, Some(row)))));
    let tasks = Tasks::<W> { directory: Directory::new(first), runtime: handle.clone() };
    drive(workload, trial, streams, Arc::new(tasks), |_, task| drop(runtime.spawn(task)))
}

impl<W: Workload> Actors<W> for Tasks<W> {
    async fn ask(&self, transaction: W::Transaction) -> Result<Settled<W>, Fault> {
        let id = named::<W>(&transaction).ok_or("a transaction names several rows")?;
        let (answer, answered) = oneshot::channel();
        let address = self.directory.find(id, || start(&self.runtime, id, None));
        let sent = address.send(Letter::Run(transaction, answer)).await;
        sent.map_err(|_| "an actor has panicked")?;
        Ok(answered.await?)
    }

    async fn audit(&self, workload: W) -> Result<W::Audit, Fault> {
        let mut audit = W::Audit::default();
        for (id, address) in self.directory.all() {
            let (answer, answered) = oneshot::channel();
            address.send(Letter::Show(answer)).await.map_err(|_| "an actor has panicked")?;
            if let Some(row) = answered.await? {
                workload.audit(&mut audit, &id, &row);
            }
        }
        Ok(audit)
    }
}
