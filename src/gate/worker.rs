//! A thread of a gate that verifies: what piled up while it verified the last batch is its next.
//!
//! - The *probe* comes first: a claim that its objects refuse anyway is not worth verifying.
//! - A batch that fails is halved, again and again, until the bad claims stand alone. The good ones
//!   pass as soon as their half is verified, in the order they were asked.
//! - A verifier that panics is made anew, and the batch counts as failed. If it cannot be made, the
//!   worker answers everyone and ends.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use freehold_shard::{Actor, AskError};

use super::intake::{Claimed, Round};
use super::lines::Passing;
use super::{GateError, GateState, Verifier};
use crate::api::handle::Handle;
use crate::error::panic_message;
use crate::route::count;

/// What came of a batch.
enum Judgement<M, R> {
    Good(Vec<M>),
    Bad(R),
    Panicked(String),
}

/// A worker, and what it works with.
pub(super) struct Worker<A: Actor, V: Verifier<A>, F> {
    gate: Arc<GateState<A, V>>,
    handle: Handle<A>,
    number: usize,
    make: Arc<F>,
    /// Or why it could not be made any more.
    verifier: Result<V, Broken>,
}

/// The verifier could not be made: what its panic said.
type Broken = String;

impl<A: Actor, V: Verifier<A>, F: Fn() -> V> Worker<A, V, F> {
    /// # Errors
    /// What the panic said, if the verifier could not be made.
    pub(super) fn new(
        gate: Arc<GateState<A, V>>,
        handle: Handle<A>,
        number: usize,
        make: Arc<F>,
    ) -> Result<Self, Broken> {
        let verifier = Ok(catch_unwind(AssertUnwindSafe(&*make)).map_err(panic_message)?);
        Ok(Worker { gate, handle, number, make, verifier })
    }

    /// Its life: until the gate closes. If it panics, which is the actor's doing, it answers
    /// everyone.
    pub(super) fn live(&mut self) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.work())) {
            let said = panic_message(payload);
            tracing::error!(worker = self.number, panic = said, "a gate's worker panicked");
            self.break_down(Vec::new(), Vec::new(), &said);
        }
    }

    fn work(&mut self) {
        while let Some(Round { batch, apart }) = self.gate.take(self.number) {
            self.verify(batch);
            if let Some(entry) = apart {
                count(&self.gate.counts.apart);
                self.verify(vec![entry]);
            }
            if self.verifier.is_err() {
                return;
            }
        }
    }

    fn verify(&mut self, entries: Vec<Claimed<A, V>>) {
        let entries = self.probe(entries);
        // The first half is on top.
        let mut open = vec![entries];
        while let Some(mut batch) = open.pop() {
            if batch.is_empty() {
                continue;
            }
            if !self.gate.shared.is_open() {
                batch.into_iter().for_each(|entry| entry.ticket.answer(Err(GateError::Stopped)));
                continue;
            }
            count(&self.gate.counts.batches);
            let verdict = self.judge(&batch);
            match verdict {
                Judgement::Good(messages) => self.pass(batch, messages),
                _ if batch.len() > 1 && self.verifier.is_ok() => {
                    count(&self.gate.counts.halved);
                    let second = batch.split_off(batch.len() / 2);
                    open.push(second);
                    open.push(batch);
                }
                Judgement::Bad(refusal) => {
                    // Only a batch of one comes here, as a broken verifier is a panic.
                    self.refuse(batch, GateError::Refused(refusal), &mut open);
                }
                Judgement::Panicked(said) if self.verifier.is_ok() => {
                    self.refuse(batch, GateError::Panicked(said), &mut open);
                }
                Judgement::Panicked(said) => return self.break_down(batch, open, &said),
            }
        }
    }

    /// Answers those that their objects would refuse, and returns the others.
    fn probe(&mut self, entries: Vec<Claimed<A, V>>) -> Vec<Claimed<A, V>> {
        let mut probes = Vec::new();
        let (mut probed, mut kept) = (Vec::new(), Vec::new());
        for entry in entries {
            let probe = catch_unwind(AssertUnwindSafe(|| V::probe(&entry.claim)));
            // A claim at which the probe panics is judged as one that has none.
            let probe = probe.unwrap_or_else(|payload| {
                tracing::warn!(panic = panic_message(payload), "a gate's probe panicked");
                None
            });
            // `ask_all` asks the same of each probe, and a panic there would be everybody's.
            let route = |probe| self.handle.destination(probe);
            match catch_unwind(AssertUnwindSafe(|| probe.as_ref().map(route))) {
                Ok(_) => {
                    probed.push((entry, probe.is_some()));
                    probes.extend(probe);
                }
                Err(payload) => entry.ticket.answer(Err(GateError::Panicked(panic_message(payload)))),
            }
        }
        let mut outcomes = self.handle.ask_all(probes).wait().into_iter();
        for (entry, is_probed) in probed {
            match is_probed.then(|| outcomes.next().expect("there is one for each probe")) {
                None | Some(Ok(_)) => kept.push(entry),
                // A probe is not the claim: of the claim it is known that it did not run.
                Some(Err(AskError::Stopped | AskError::Unknown)) => {
                    entry.ticket.answer(Err(GateError::Stopped))
                }
                Some(Err(error)) => entry.ticket.answer(Err(GateError::Probe(error))),
            }
        }
        kept
    }

    fn judge(&mut self, batch: &[Claimed<A, V>]) -> Judgement<A::Message, V::Refusal> {
        let verifier = match &mut self.verifier {
            Ok(verifier) => verifier,
            Err(said) => return Judgement::Panicked(said.clone()),
        };
        let claims: Vec<&V::Claim> = batch.iter().map(|entry| &entry.claim).collect();
        let said = match catch_unwind(AssertUnwindSafe(|| verifier.verify(&claims))) {
            Ok(Ok(messages)) if messages.len() == claims.len() => return Judgement::Good(messages),
            Ok(Err(refusal)) => return Judgement::Bad(refusal),
            Ok(Ok(messages)) => format!("it gave {} messages for {} claims", messages.len(), claims.len()),
            Err(payload) => panic_message(payload),
        };
        tracing::error!(worker = self.number, claims = claims.len(), panic = said, "a verifier panicked");
        // What it holds may be half of something.
        let old = std::mem::replace(&mut self.verifier, Err(said.clone()));
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(old))) {
            tracing::warn!(panic = panic_message(payload), "a verifier panicked when it was dropped");
        }
        self.verifier = catch_unwind(AssertUnwindSafe(&*self.make))
            .map_err(|payload| format!("{said}; then it could not be made: {}", panic_message(payload)));
        Judgement::Panicked(self.verifier.as_ref().err().cloned().unwrap_or(said))
    }

    fn pass(&self, batch: Vec<Claimed<A, V>>, messages: Vec<A::Message>) {
        tracing::trace!(
            worker = self.number,
            claims = batch.len(),
            route = "private",
            "a gate's batch passes"
        );
        for (entry, message) in batch.into_iter().zip(messages) {
            self.gate.events.push(Passing::Verified(entry.line, message, entry.ticket));
        }
    }

    /// Answers the one claim of `batch`. Its sender's other claims, of those taken and of those
    /// that wait, are to be verified apart.
    fn refuse(
        &self,
        mut batch: Vec<Claimed<A, V>>,
        error: GateError<A::Error, V::Refusal>,
        open: &mut [Vec<Claimed<A, V>>],
    ) {
        let Some(entry) = batch.pop() else { return };
        let is_of_sender = |other: &Claimed<A, V>| other.sender == entry.sender;
        let taken = open.iter_mut().rev().flat_map(|batch| {
            let (of_sender, others): (Vec<_>, Vec<_>) =
                std::mem::take(batch).into_iter().partition(is_of_sender);
            *batch = others;
            of_sender
        });
        let taken = taken.collect();
        self.gate.intake().suspect(self.number, entry.sender, taken);
        entry.ticket.answer(Err(error));
    }

    /// Answers everyone that this worker has taken or would take.
    fn break_down(&self, batch: Vec<Claimed<A, V>>, open: Vec<Vec<Claimed<A, V>>>, said: &str) {
        let waiting = self.gate.intake().break_down(self.number, said);
        for entry in batch.into_iter().chain(open.into_iter().rev().flatten()).chain(waiting) {
            entry.ticket.answer(Err(GateError::Broken(said.to_string())));
        }
    }
}

impl<A: Actor, V: Verifier<A>> GateState<A, V> {
    /// What a worker verifies next: it sleeps until there is something. `None` once the gate is
    /// closed.
    fn take(&self, worker: usize) -> Option<Round<A, V>> {
        let mut intake = self.intake();
        loop {
            if intake.is_closed() {
                // The claims of a sender who became a suspect after the gate was closed.
                let late = intake.sweep(worker);
                drop(intake);
                late.into_iter().for_each(|entry| entry.ticket.answer(Err(GateError::Stopped)));
                return None;
            }
            if let Some(round) = intake.take(worker) {
                return Some(round);
            }
            intake = self.has_some[worker].wait(intake).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Closes the gate: what waits is answered, and the workers end.
    pub(super) fn close(&self) {
        let waiting = self.intake().close();
        self.has_some.iter().for_each(|has_some| has_some.notify_all());
        waiting.into_iter().for_each(|entry| entry.ticket.answer(Err(GateError::Stopped)));
        let passed = self.counts.passed.load(Ordering::Relaxed);
        tracing::debug!(passed, "a gate is closed");
    }
}
