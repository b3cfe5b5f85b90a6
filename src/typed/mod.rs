//! The typed layer: several kinds of objects with keys of their own, and a type for each message
//! with its own reply.
//!
//! It stands on the layer of [`Actor`](crate::Actor), which has one type of id, state, message and
//! reply. [`actor!`](crate::actor) writes those as enums, and an actor that goes from a variant to
//! what the message in it does ([`Receive`](crate::Receive)). A program's calls are generic over
//! kind and message, and become calls of the layer beneath: `call` is `ask`, `send` is `tell`,
//! `read` is `get`. So both may be mixed at will, and a log knows only one of them.
//!
//! Objects by kind ([`Objects::read`](crate::Objects::read) and its siblings) are the pure crate's.

mod actor;
pub(crate) mod call;
pub(crate) mod codec;
mod handle;
mod local;
pub(crate) mod pointed;
pub(crate) mod snapshot;
#[cfg(test)]
mod tests;
pub(crate) mod watch;
