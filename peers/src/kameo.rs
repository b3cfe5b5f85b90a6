//! A kameo actor for each row, spawned and asked as its README does: `spawn`, a bounded mailbox,
//! `ask`.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use ::kameo::actor::{Actor, ActorRef, Spawn};
use ::kameo::error::SendError;
use ::kameo::message::{Context, Message};
use ::tokio::runtime::Handle;
use ahash::RandomState;
use freehold_workloads::{Answer, Trial, Workload};

use crate::course::draw_all;
use crate::peer::{Fault, IN_MEMORY, Peer, Settled};
use crate::single::{Directory, named, run};
use crate::tasks::{Actors, measure as drive, runtime};

/// How it appears in tables.
pub const PEER: Peer = Peer {
    name: "kameo",
    version: env!("VERSION_KAMEO"),
    about: "an actor for each row with its default mailbox (bounded, 64), asked with `ask`; without its feature `tracing`; on a multi-thread tokio runtime with a pinned worker for each shard; clients are tasks, one for each transaction in flight",
    durabilities: IN_MEMORY,
    is_of_single_rows: true,
};

/// The actor of a row.
struct Row<W: Workload> {
    id: W::Id,
    row: Option<W::Row>,
}

struct Run<W: Workload>(W::Transaction);

struct Show;

/// What a row shows. kameo wants a type of ours, or a result, for an answer.
type Shown<W> = Result<Option<<W as Workload>::Row>, Infallible>;

impl<W: Workload> Actor for Row<W> {
    type Args = Self;
    type Error = Infallible;

    async fn on_start(row: Self, _: ActorRef<Self>) -> Result<Self, Infallible> {
        Ok(row)
    }
}

impl<W: Workload> Message<Run<W>> for Row<W> {
    type Reply = Settled<W>;

    async fn handle(&mut self, Run(transaction): Run<W>, _: &mut Context<Self, Settled<W>>) -> Settled<W> {
        run::<W>(self.id, &mut self.row, &transaction)
    }
}

impl<W: Workload> Message<Show> for Row<W> {
    type Reply = Shown<W>;

    async fn handle(&mut self, _: Show, _: &mut Context<Self, Shown<W>>) -> Shown<W> {
        Ok(self.row.clone())
    }
}

/// All actors.
struct System<W: Workload> {
    directory: Directory<W::Id, ActorRef<Row<W>>>,
    runtime: Handle,
}

/// Measures it.
///
/// # Errors
/// Where threads cannot be had, or an actor has panicked.
pub fn measure<W: Workload>(workload: &W, trial: &Trial) -> Result<Answer, Fault> {
    let streams = draw_all(workload, trial)?;
    let runtime = runtime(trial.cell.shards)?;
    let mut first = HashMap::with_hasher(RandomState::new());
    let entered = runtime.enter();
    workload.load(&mut |id, row| drop(first.insert(id, Row::<W>::spawn(Row { id, row: Some(row) }))));
    drop(entered);
    let system = System::<W> { directory: Directory::new(first), runtime: runtime.handle().clone() };
    drive(workload, trial, streams, Arc::new(system), |_, task| drop(runtime.spawn(task)))
}

impl<W: Workload> Actors<W> for System<W> {
    async fn ask(&self, transaction: W::Transaction) -> Result<Settled<W>, Fault> {
        let id = named::<W>(&transaction).ok_or("a transaction names several rows")?;
        let row = self.directory.find(id, || {
            let _entered = self.runtime.enter();
            Row::spawn(Row { id, row: None })
        });
        match row.ask(Run(transaction)).await {
            Ok(reply) => Ok(Ok(reply)),
            Err(SendError::HandlerError(refused)) => Ok(Err(refused)),
            Err(_) => Err("an actor has panicked".into()),
        }
    }

    async fn audit(&self, workload: W) -> Result<W::Audit, Fault> {
        let mut audit = W::Audit::default();
        for (id, row) in self.directory.all() {
            if let Some(row) = row.ask(Show).await.map_err(|_| "an actor has panicked")? {
                workload.audit(&mut audit, &id, &row);
            }
        }
        Ok(audit)
    }
}
