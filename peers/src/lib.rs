//! Other systems, on the workloads Freehold is measured with.
//!
//! Each is used as its documentation recommends and as favourably as is honest; [`Peer::about`]
//! says how. All run the code of `freehold-workloads` on the same transactions in the same order,
//! from as many clients, with the system's allocator, and none has a figure if its books do not
//! balance in the end. The benchmark runs them in a process of their own, the program
//! `freehold-peers`.
//!
//! [`threads`], [`groups`] and [`tasks`] drive the three kinds there are: engines that are called,
//! those with group commit, and actors.

mod actix;
pub mod books;
pub mod bytes;
pub mod course;
mod dashmap;
mod fjall;
mod fjall_grouped;
pub mod groups;
mod kameo;
mod mutex;
mod peer;
mod pinned;
mod redb;
mod redb_grouped;
mod single;
mod surrealmx;
pub mod tasks;
pub mod threads;
mod tokio;

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use freehold_workloads::{Answer, Engine, Trial, Visitor, Workload};

pub use peer::{Fault, Peer, Settled};

/// All there are, in the order of tables.
pub const PEERS: [Peer; 10] = [
    mutex::PEER,
    dashmap::PEER,
    tokio::PEER,
    kameo::PEER,
    actix::PEER,
    surrealmx::PEER,
    fjall::PEER,
    fjall_grouped::PEER,
    redb::PEER,
    redb_grouped::PEER,
];

/// All there are, by their names in cells.
pub fn engines() -> BTreeMap<String, Engine> {
    PEERS.iter().map(|peer| (peer.name.to_owned(), Engine::from(peer))).collect()
}

/// Measures a trial. Whatever goes wrong is an answer.
pub fn answer(trial: &Trial) -> Answer {
    struct Measure<'a>(&'a Trial);
    impl Visitor for Measure<'_> {
        type Result = Answer;
        fn visit<W: Workload>(self, workload: &W) -> Answer {
            measure(workload, self.0)
        }
    }
    trial.cell.spec.visit(Measure(trial))
}

/// Measures a trial over a workload of any kind; the one its cell names is not looked at.
pub fn measure<W: Workload>(workload: &W, trial: &Trial) -> Answer {
    let name = trial.cell.engine.as_str();
    let Some(peer) = PEERS.iter().find(|peer| peer.name == name) else {
        return Answer::Failed(format!("there is no engine {name}; freehold-peers --list names them"));
    };
    if trial.cell.shards == 0 {
        return Answer::Failed("no shard, no client".to_owned());
    }
    if let Some(why) = peer.cannot(workload, trial.cell.durability) {
        return Answer::Cannot(why);
    }
    guarded(|| match name {
        "mutex" => threads::measure::<W, mutex::Locked<W>>(workload, trial),
        "dashmap" => threads::measure::<W, dashmap::Mutexes<W>>(workload, trial),
        "tokio" => tokio::measure(workload, trial),
        "kameo" => kameo::measure(workload, trial),
        "actix" => actix::measure(workload, trial),
        "surrealmx" => threads::measure::<W, surrealmx::Versions>(workload, trial),
        "fjall" => threads::measure::<W, fjall::Journalled>(workload, trial),
        "fjall-grouped" => groups::measure::<W, fjall_grouped::GroupedJournal>(workload, trial),
        "redb" => threads::measure::<W, redb::Tree>(workload, trial),
        "redb-grouped" => groups::measure::<W, redb_grouped::GroupedTree>(workload, trial),
        _ => unreachable!("{name} is among the peers"),
    })
}

/// Makes a fault, and a panic, the answer it is.
pub fn guarded(measure: impl FnOnce() -> Result<Answer, Fault>) -> Answer {
    // What a panic leaves half done is dropped with the engine.
    match catch_unwind(AssertUnwindSafe(measure)) {
        Ok(Ok(answer)) => answer,
        Ok(Err(fault)) => Answer::Failed(fault.to_string()),
        Err(panic) => Answer::Failed(format!("panicked: {}", said(panic.as_ref()))),
    }
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("and did not say why")
}
