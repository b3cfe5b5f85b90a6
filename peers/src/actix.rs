//! An actix actor for each row, on arbiters.
//!
//! An arbiter is a thread with actors that stay on it, so actix shards as Freehold does if it is
//! told to: here there is one for each shard, a row's actor lives where Freehold would keep the
//! row, and a client lives on the arbiter of its shard. That is the best it can have.

use std::collections::HashMap;
use std::sync::Arc;

use ::actix::Addr;
use ::actix::{Actor, Arbiter, ArbiterHandle, Context, Handler, Message, System};
use ahash::RandomState;
use freehold_shard::{PlacementKey, Router};
use freehold_workloads::{Answer, Trial, Workload};

use crate::course::draw_all;
use crate::peer::{Fault, IN_MEMORY, Peer, Settled};
use crate::pinned::{allowed, pin};
use crate::single::{Directory, named, run};
use crate::tasks::{Actors, measure as drive};

/// How it appears in tables.
pub const PEER: Peer = Peer {
    name: "actix",
    version: env!("VERSION_ACTIX"),
    about: "an actor for each row with its default mailbox (bounded, 16), asked with `send`; a pinned arbiter for each shard, rows placed on them as Freehold places them, clients on the arbiter of their shard, one task for each transaction in flight",
    durabilities: IN_MEMORY,
    is_of_single_rows: true,
};

/// The actor of a row.
struct Row<W: Workload> {
    id: W::Id,
    row: Option<W::Row>,
}

struct Run<W: Workload>(W::Transaction);

struct Show<W>(std::marker::PhantomData<fn(W)>);

impl<W: Workload> Message for Run<W> {
    type Result = Settled<W>;
}

impl<W: Workload> Message for Show<W> {
    type Result = Option<W::Row>;
}

/// Nothing of a row is pinned.
impl<W: Workload> Unpin for Row<W> {}

impl<W: Workload> Actor for Row<W> {
    type Context = Context<Self>;
}

impl<W: Workload> Handler<Run<W>> for Row<W> {
    type Result = Settled<W>;

    fn handle(&mut self, Run(transaction): Run<W>, _: &mut Context<Self>) -> Settled<W> {
        run::<W>(self.id, &mut self.row, &transaction)
    }
}

impl<W: Workload> Handler<Show<W>> for Row<W> {
    type Result = Option<W::Row>;

    fn handle(&mut self, _: Show<W>, _: &mut Context<Self>) -> Option<W::Row> {
        self.row.clone()
    }
}

/// All actors.
struct Arbiters<W: Workload> {
    directory: Directory<W::Id, Addr<Row<W>>>,
    router: Router,
    arbiters: Vec<ArbiterHandle>,
}

fn start<W: Workload>(
    arbiters: &[ArbiterHandle],
    router: &Router,
    id: W::Id,
    row: Option<W::Row>,
) -> Addr<Row<W>> {
    Row::start_in_arbiter(&arbiters[router.home(&id).index()], move |_| Row { id, row })
}

/// Measures it.
///
/// # Errors
/// Where threads cannot be had, or an actor has panicked.
pub fn measure<W: Workload>(workload: &W, trial: &Trial) -> Result<Answer, Fault> {
    let streams = draw_all(workload, trial)?;
    // The thread that has the system keeps it: this is one of its own, to be gone with it.
    std::thread::scope(|scope| {
        let measuring = scope.spawn(|| {
            let system = System::new();
            let (shards, cpus) = (trial.cell.shards, allowed());
            let own: Vec<_> = (0..shards)
                .map(|shard| {
                    let cpus = cpus.clone();
                    Arbiter::with_tokio_rt(move || {
                        pin(&cpus, shard);
                        let runtime = ::tokio::runtime::Builder::new_current_thread().enable_all().build();
                        runtime.expect("an arbiter's runtime")
                    })
                })
                .collect();
            let arbiters: Vec<_> = own.iter().map(Arbiter::handle).collect();
            let router = Router::new(PlacementKey(trial.seed), shards);
            let mut first = HashMap::with_hasher(RandomState::new());
            workload.load(&mut |id, row| {
                first.insert(id, start::<W>(&arbiters, &router, id, Some(row)));
            });
            let actors =
                Arbiters::<W> { directory: Directory::new(first), router, arbiters: arbiters.clone() };
            let answer = drive(workload, trial, streams, Arc::new(actors), |client, task| {
                arbiters[client].spawn(task);
            });
            for arbiter in own {
                arbiter.stop();
                arbiter.join().map_err(|_| "an arbiter has panicked")?;
            }
            drop(system);
            answer
        });
        measuring.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

impl<W: Workload> Actors<W> for Arbiters<W> {
    async fn ask(&self, transaction: W::Transaction) -> Result<Settled<W>, Fault> {
        let id = named::<W>(&transaction).ok_or("a transaction names several rows")?;
        let row = self.directory.find(id, || start::<W>(&self.arbiters, &self.router, id, None));
        Ok(row.send(Run(transaction)).await?)
    }

    async fn audit(&self, workload: W) -> Result<W::Audit, Fault> {
        let mut audit = W::Audit::default();
        for (id, row) in self.directory.all() {
            if let Some(row) = row.send(Show::<W>(std::marker::PhantomData)).await? {
                workload.audit(&mut audit, &id, &row);
            }
        }
        Ok(audit)
    }
}
