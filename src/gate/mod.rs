//! A gate verifies claims on threads of its own, and lets the verified messages on to their
//! objects.
//!
//! A signature takes tens of microseconds to verify and a proof hundreds. In `receive` each would
//! hold up everything else on its core. A gate is the third route: what comes through it goes on by
//! the fast or the consensus path. It knows no cryptography: its user says what is verified.
//!
//! ```text
//! ask ──> queue ──> probe ──> verify, in batches ──> one of a line at a time ──> the shards
//! ```
//!
//! - The queue is bounded, and full is an answer.
//! - Nothing lingers: what piled up while the last batch was verified is the next.
//! - A claim whose objects refuse it anyway is not verified: the probe asks them first.
//! - A batch that fails is halved until the bad claims stand alone. Their senders are *suspects*:
//!   their claims are verified apart, one beside each batch, and hold up nobody.
//! - A sender whose claims pass and are refused by their objects, again and again, is a suspect
//!   too, until enough of its claims are applied.
//! - Claims of one *line* (a payer, say) reach their objects in the order they were asked, each
//!   after the one before was answered there.
//!
//! Every claim is answered once and truly, whatever becomes of verifier, gate, shards and runtime.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use freehold_shard::{Actor, AskError};
use thiserror::Error;

use self::config::GateConfig;
use self::intake::{Claimed, Intake, NotTaken};
use self::lines::Events;
use self::senders::Senders;
use self::ticket::{GateAsk, Ticket};
use crate::core::shared::Shared;
use crate::route::{GateCounts, GateStats, count};

pub(crate) mod config;
mod flaw;
mod intake;
mod lines;
mod senders;
pub(crate) mod start;
mod strikes;
#[cfg(test)]
mod tests;
pub(crate) mod ticket;
mod worker;

/// What a gate verifies, and what a verified claim becomes.
///
/// One is made on each of the gate's threads, so it may keep tables and buffers of its own.
///
/// ```
/// # use freehold_example::*;
/// use freehold::{GateConfig, Verifier};
///
/// /// A deposit, and how many zeros the hash of it must end in.
/// struct Checked(Deposit, u32);
/// struct Work;
///
/// impl Verifier<Bank> for Work {
///     type Claim = Checked;
///     type Refusal = &'static str;
///
///     fn line(claim: &Checked) -> u64 {
///         claim.0.account
///     }
///
///     fn verify(&mut self, claims: &[&Checked]) -> Result<Vec<Message>, &'static str> {
///         let check = |claim: &&Checked| {
///             let Checked(Deposit { account, cents }, zeros) = **claim;
///             let is_good = (account * cents).trailing_zeros() >= zeros;
///             is_good.then(|| Deposit { account, cents }.into()).ok_or("too little work")
///         };
///         claims.iter().map(check).collect()
///     }
/// }
///
/// let runtime = start();
/// let gate = runtime.gate(GateConfig::default(), || Work).unwrap();
/// let paid = gate.ask(Checked(Deposit { account: 8, cents: 4 }, 5)).wait();
/// assert!(matches!(paid, Ok(Reply::Deposit(4))));
/// let refused = gate.ask(Checked(Deposit { account: 8, cents: 4 }, 6)).wait();
/// assert_eq!(refused.err().unwrap().to_string(), "the claim was refused: too little work");
/// ```
pub trait Verifier<A: Actor>: 'static {
    /// What is verified.
    type Claim: Send + 'static;
    /// Why a claim is refused.
    type Refusal: Send + 'static;

    /// The claims of a line reach their objects one after the other, in the order they were asked.
    /// A line is whatever must not overtake itself: the payer's account, say. Two lines of one
    /// number only wait for each other.
    fn line(claim: &Self::Claim) -> u64;

    /// The sender, who is verified apart after a bad claim, or after many that objects refused. The
    /// default is the line. If anybody may name any line, say here where the claim came from, such
    /// as a number of the connection.
    fn sender(claim: &Self::Claim) -> u64 {
        Self::line(claim)
    }

    /// A cheap message that fails if the claim would fail at its objects anyway, as when it is
    /// about a version they do not have any more. `None`: there is none. A claim that was made from
    /// one that is still under way must pass.
    fn probe(_claim: &Self::Claim) -> Option<A::Message> {
        None
    }

    /// Verifies these claims, at least one, and gives a message for each, in order.
    ///
    /// # Errors
    /// At least one claim is bad. It need not be said which: the gate asks again with fewer. Of a
    /// single claim the refusal is its answer.
    fn verify(&mut self, claims: &[&Self::Claim]) -> Result<Vec<A::Message>, Self::Refusal>;
}

/// What came of a claim.
pub type GateOutcome<A, R> = Result<<A as Actor>::Reply, GateError<<A as Actor>::Error, R>>;

/// Why a claim has no reply. Each variant says what happened to its effect.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum GateError<E, R> {
    /// The verifier refused the claim. Nothing changed.
    #[error("the claim was refused: {0}")]
    Refused(R),
    /// The probe came to this, mostly [`AskError::Aborted`]: the claim is stale. It was not
    /// verified, and nothing changed. Make the claim anew.
    #[error("the claim was not verified, as its objects would refuse it: {0}")]
    Probe(AskError<E>),
    /// The claim passed, and this is what became of its message.
    #[error("the claim passed the gate: {0}")]
    Message(AskError<E>),
    /// `claims_max` claims are in the gate, or `sender_claims_max` of this sender. Or this claim is
    /// of a suspect, and suspects take a quarter of the room, or this one a sixteenth. The claim
    /// was not looked at; ask again later.
    #[error("the gate is full; the claim was not looked at: try again later")]
    Overloaded,
    /// The runtime is stopping or has stopped. The claim never passed, and nothing changed.
    #[error("the runtime has stopped; the claim did not pass")]
    Stopped,
    /// The verifier panicked at this claim, or `A::addressees` at its message or probe, and this is
    /// what it said. Nothing changed, and the gate lives on, with another verifier.
    #[error("the verifier panicked at the claim, which did not pass: {0}")]
    Panicked(String),
    /// The verifier panicked, and another could not be made. Nothing changed. Claims of this line
    /// are not verified any more: open another gate.
    #[error("the gate's verifier is gone, and the claim did not pass; open another gate: {0}")]
    Broken(String),
}

/// What the threads of a gate share.
pub(crate) struct GateState<A: Actor, V: Verifier<A>> {
    shared: Arc<Shared<A>>,
    config: GateConfig,
    intake: Mutex<Intake<A, V>>,
    /// By worker.
    has_some: Box<[Condvar]>,
    events: Arc<Events<A, V::Refusal>>,
    senders: Arc<Senders>,
    counts: Arc<GateCounts>,
}

impl<A: Actor, V: Verifier<A>> GateState<A, V> {
    fn intake(&self) -> MutexGuard<'_, Intake<A, V>> {
        self.intake.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A way to the objects that leads past a verifier, made by [`Runtime::gate`](crate::Runtime::gate).
/// Cheap to clone, for any thread and any executor. It is open until the runtime stops.
pub struct Gate<A: Actor, V: Verifier<A>> {
    state: Arc<GateState<A, V>>,
}

impl<A: Actor, V: Verifier<A>> Gate<A, V> {
    /// Takes a claim. It is in the gate when this returns; the outcome comes by awaiting what is
    /// returned, or by its [`wait`](GateAsk::wait). [`Verifier`] has an example.
    ///
    /// # Errors
    /// See [`GateError`].
    pub fn ask(&self, claim: V::Claim) -> GateAsk<A, V::Refusal> {
        let state = &*self.state;
        // In a child of the process a lock may be held for ever, so this comes first.
        if !state.shared.is_open() {
            return GateAsk::known(GateError::Stopped);
        }
        let (line, sender) = (V::line(&claim), V::sender(&claim));
        let share = state.senders.enter(sender);
        let entered = share.and_then(|share| Ticket::new(&state.counts, state.config.claims_max, share));
        let Some((ticket, ask)) = entered else {
            count(&state.counts.overloaded);
            return GateAsk::known(GateError::Overloaded);
        };
        let mut intake = state.intake();
        let worker = intake.worker(line);
        let put = intake.put(worker, Claimed { claim, ticket, line, sender });
        drop(intake);
        match put {
            Ok(()) => state.has_some[worker].notify_one(),
            Err((reason, entry)) => entry.ticket.answer(Err(match reason {
                NotTaken::Closed => GateError::Stopped,
                NotTaken::Broken(reason) => GateError::Broken(reason),
                NotTaken::Full => {
                    count(&state.counts.overloaded);
                    GateError::Overloaded
                }
            })),
        }
        ask
    }

    /// What this gate has done so far.
    pub fn stats(&self) -> GateStats {
        self.state.counts.stats()
    }
}

impl<A: Actor, V: Verifier<A>> Clone for Gate<A, V> {
    fn clone(&self) -> Self {
        Gate { state: self.state.clone() }
    }
}

impl<A: Actor, V: Verifier<A>> fmt::Debug for Gate<A, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("stats", &self.stats()).finish_non_exhaustive()
    }
}
