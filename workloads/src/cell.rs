//! A cell: one point of a sweep.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::hstore_micro::HStoreMicro;
use crate::smallbank::SmallBank;
use crate::stream::Cross;
use crate::tatp::Tatp;
use crate::tpcc::Tpcc;
use crate::workload::Workload;
use crate::ycsb::{Ycsb, YcsbGrowing, YcsbTransactional};

/// What is kept of what was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Nothing: there is no log.
    None,
    /// There is a log, and answers do not wait for it.
    Applied,
    /// An answer means that it is on disk.
    Durable,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Durability::None => "none",
            Durability::Applied => "applied",
            Durability::Durable => "durable",
        })
    }
}

/// How transactions arrive.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Load {
    /// Closed loop: each client keeps so many in flight. Who waits, asks less.
    Closed {
        /// Transactions of each client that are in flight at most.
        in_flight: usize,
    },
    /// Open loop: they arrive at random (Poisson), at this share of the rate the same cell reached
    /// in a closed loop, whether those before were answered or not. Latency counts from the
    /// arrival, so none is omitted.
    Open {
        /// Above 0, and below 1 if they are to be kept up with.
        share: f64,
    },
    /// Open loop at a fixed rate.
    Rate {
        /// Arrivals a second, of all clients together.
        per_second: f64,
    },
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Load::Closed { in_flight } => write!(f, "closed, {in_flight} in flight"),
            Load::Open { share } => write!(f, "open at {:.0} %", 100.0 * share),
            Load::Rate { per_second } => write!(f, "open at {per_second:.0}/s"),
        }
    }
}

/// Any of the workloads, with its sizes and skew.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spec {
    /// SmallBank.
    SmallBank(SmallBank),
    /// The microbenchmark of H-Store.
    #[serde(rename = "micro")]
    HStoreMicro(HStoreMicro),
    /// YCSB A, B, C and F.
    Ycsb(Ycsb),
    /// YCSB D and E.
    YcsbGrowing(YcsbGrowing),
    /// Transactional YCSB.
    YcsbTransactional(YcsbTransactional),
    /// TPC-C, NewOrder and Payment.
    Tpcc(Tpcc),
    /// TATP.
    Tatp(Tatp),
}

/// Something to do with a workload, whichever it is.
pub trait Visitor {
    /// What comes of it.
    type Result;
    /// Does it.
    fn visit<W: Workload>(self, workload: &W) -> Self::Result;
}

impl Spec {
    /// Does something with the workload.
    pub fn visit<V: Visitor>(&self, visitor: V) -> V::Result {
        match self {
            Spec::SmallBank(workload) => visitor.visit(workload),
            Spec::HStoreMicro(workload) => visitor.visit(workload),
            Spec::Ycsb(workload) => visitor.visit(workload),
            Spec::YcsbGrowing(workload) => visitor.visit(workload),
            Spec::YcsbTransactional(workload) => visitor.visit(workload),
            Spec::Tpcc(workload) => visitor.visit(workload),
            Spec::Tatp(workload) => visitor.visit(workload),
        }
    }

    /// The workload's name.
    pub fn name(&self) -> &'static str {
        struct Name;
        impl Visitor for Name {
            type Result = &'static str;
            fn visit<W: Workload>(self, workload: &W) -> &'static str {
                workload.name()
            }
        }
        self.visit(Name)
    }
}

/// One point of a sweep: who does what, how much of it, how safely. Two runs are compared cell by
/// cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// `freehold`, or a peer's name.
    pub engine: String,
    /// The workload.
    pub spec: Spec,
    /// Shards, which are also clients; of an engine without shards, threads.
    pub shards: usize,
    /// How often transactions span shards.
    pub cross: Cross,
    /// What is kept.
    pub durability: Durability,
    /// How transactions arrive.
    pub load: Load,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Cell { engine, spec, shards, cross, durability, load } = self;
        let name = spec.name();
        write!(f, "{engine}, {name}, {shards} shards, cross {cross}, {durability}, {load}")
    }
}
