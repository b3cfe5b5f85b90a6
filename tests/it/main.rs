//! Whole runtimes, on real executors: the tests that need no process of their own.
//!
//! They are one program because each program is linked with everything, for seconds. An actor more
//! costs as much: a whole runtime is compiled for it, so tests share actors. A module is run by its
//! name: `cargo test --test it jobs::`. Its tests run as threads beside those of other modules, on
//! as many CPUs as there are.
//!
//! A file of its own in `tests/` is for tests that
//! - count what the whole process does or holds (`allocations`, `recovery_memory`, `overload`),
//! - change the process, or what it may do (`fork`, `no_io_uring`, `denied_calls`, `disk_faults`,
//!   `power_cuts`),
//! - keep the CPUs, or judge by time who has them (`executors`, `placement`, `stalls`, `bulk_load`,
//!   `lost_wakes`).

mod actions;
mod architecture;
mod backups;
mod bounds;
mod checkpoints;
mod collections;
mod commit_log;
mod directory;
mod durability;
mod embedding;
mod faults;
mod formats;
mod founding_defects;
mod guide;
mod histories;
mod jobs;
mod layers;
mod leaving;
mod let_go;
mod migrations;
mod mistakes;
mod operate;
mod order;
mod poison;
mod ranges;
mod readme;
mod restores;
mod round_trip;
mod schema;
mod shutdown;
mod snapshots;
mod tidy;
mod timers;
mod transactions;
mod watches;

#[path = "../support/logged.rs"]
mod logged;
#[path = "../support/payments.rs"]
mod payments;
#[path = "../support/mod.rs"]
mod support;
