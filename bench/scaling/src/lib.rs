//! What the programs `shard_scaling` and `bench_diff` share, and their tests read: the machine, and
//! the report of a run.
#![allow(missing_docs, reason = "the insides of two programs, public for them and their tests")]

pub mod machine;
pub mod report;
