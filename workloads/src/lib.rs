//! The workloads Freehold is measured with, as they were published, and the form of what is
//! measured.
//!
//! A [`Workload`] says what is in the database, which transactions there are, what each does to its
//! [`Rows`], and what must hold in the end. It knows no engine: [`Served`] makes it an actor of
//! Freehold, the package `peers` runs the same code over maps, actors and stores of others, and
//! tests run it over a plain map. A [`Cell`] is one point of a sweep, a [`Run`] all that one sweep
//! found.
//!
//! Every client's transactions are drawn before the clock starts ([`Stream`]), from a seed, so all
//! engines get the same ones in the same order and no cell measures a generator.

mod actor;
mod arrivals;
mod cell;
mod disturbance;
mod draw;
mod hstore_micro;
mod part;
mod run;
mod smallbank;
mod stream;
mod tatp;
mod tpcc;
mod workload;
mod ycsb;

pub use actor::{Order, Served};
pub use arrivals::Arrivals;
pub use cell::{Cell, Durability, Load, Spec, Visitor};
pub use disturbance::{Disturbance, Watch};
pub use draw::{Popularity, Skew};
pub use hstore_micro::HStoreMicro;
pub use part::{LATENCY_STRIDE, Pace, Part, Phase, latencies};
pub use run::{
    Answer, Cache, Engine, Latency, Machine, Measured, Outcome, RUN_FORMAT, Repetition, Run, Spread,
    SyncTime, Trial,
};
pub use smallbank::SmallBank;
pub use stream::{Client, Cross, Drawn, NoRow, SEED, Stream, Way};
pub use tatp::Tatp;
pub use tpcc::Tpcc;
pub use workload::{Refused, Rows, Workload};
pub use ycsb::{Growth, Mix, Ycsb, YcsbGrowing, YcsbTransactional};
