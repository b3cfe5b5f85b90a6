//! A small exchange, written twice: on the layer of `actor!`, and by hand.

#![allow(dead_code, reason = "a bench uses a part of it")]

pub mod by_hand;
pub mod typed;

use freehold::{Actor, Local, Outcome};

/// How much was traded, and what the two users have.
pub type Traded = (u64, [u64; 2]);

/// One of the two ways to write it.
pub trait Way: Actor {
    /// Opens two accounts, by what asks.
    fn open(ask: impl FnMut(&Self::Message) -> Outcome<Self>);
    /// User 1 offers five, and user 2 buys them: two orders, by what asks.
    fn trade(ask: impl FnMut(&Self::Message) -> Outcome<Self>);
    /// The same by the call of a program.
    fn trade_now(local: &Local<Self>);
    /// What user 2 has.
    fn query_now(local: &Local<Self>) -> u64;
    /// What came of it, by what asks.
    fn traded(ask: impl FnMut(&Self::Message) -> Outcome<Self>) -> Traded;
}
