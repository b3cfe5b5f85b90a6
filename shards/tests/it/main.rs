//! What one core decides, tried from outside: one program, as no test here needs a process of its
//! own. (Each of these files was one, and each compiled and linked its shards anew.)

mod actions;
mod bounds;
mod clearing;
mod collections;
mod decode;
#[path = "../decoding/mod.rs"]
mod decoding;
mod pairs;
mod pieces;
mod receive;
mod resuming;
mod rig;
mod shelves;
mod snapshots;
mod times;
mod transactions;
mod trimming;
mod turn;
mod undo;
mod values;
mod walk;
