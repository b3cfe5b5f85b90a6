//! Brings verified messages to their objects, one of a line at a time.
//!
//! A payer may have several payments under way, each made from the one before. If one of them goes
//! across shards and the next does not, the next arrives first and is refused. So a line's next
//! message is sent when the one before was answered. (A prototype without this made 1,431 of 2,048
//! such payments.)
//!
//! One thread sees to all lines of a gate, for the workers are busy for milliseconds at a time. As
//! it hears what the objects say of each claim, it also counts the senders' strikes (`strikes`).

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use freehold_shard::{Actor, AskError};

use super::strikes::Strikes;
use super::ticket::Ticket;
use super::{GateError, GateState, Verifier};
use crate::api::ask_waiting::AskWaiting;
use crate::api::handle::Handle;
use crate::error::panic_message;
use crate::route::count;

/// What the thread hears.
pub(super) enum Passing<A: Actor, R> {
    /// A message to bring on, of this line.
    Verified(u64, A::Message, Ticket<A, R>),
    /// Something has become of the message that is under way in this line.
    Woken(u64),
    /// A worker has ended, and brings nothing more.
    WorkerEnded,
}

/// Where the thread hears of it. Bounded by the claims there may be in the gate: each is verified
/// once, and is woken a few times, the next after the last was heard of.
pub(super) struct Events<A: Actor, R> {
    events: Mutex<VecDeque<Passing<A, R>>>,
    has_some: Condvar,
}

impl<A: Actor, R> Events<A, R> {
    pub(super) fn new() -> Self {
        Events { events: Mutex::new(VecDeque::new()), has_some: Condvar::new() }
    }

    pub(super) fn push(&self, event: Passing<A, R>) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push_back(event);
        self.has_some.notify_one();
    }

    fn take_all(&self) -> VecDeque<Passing<A, R>> {
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.has_some.wait_while(events, |events| events.is_empty());
        std::mem::take(&mut *waited.unwrap_or_else(PoisonError::into_inner))
    }
}

/// Wakes the thread for one line.
struct LineWaker<A: Actor, R> {
    line: u64,
    events: Arc<Events<A, R>>,
}

impl<A: Actor, R: Send + 'static> Wake for LineWaker<A, R> {
    fn wake(self: Arc<Self>) {
        self.events.push(Passing::Woken(self.line));
    }
}

/// One line that has messages.
struct Line<A: Actor, R> {
    under_way: AskWaiting<A>,
    ticket: Ticket<A, R>,
    waiting: VecDeque<(A::Message, Ticket<A, R>)>,
}

/// The life of the thread: it ends when `workers` workers have ended and every message that they
/// brought was answered. Only a test's gate `is_unordered` (`flaw`).
pub(super) fn bring_on<A: Actor, V: Verifier<A>>(
    gate: &GateState<A, V>,
    handle: &Handle<A>,
    mut workers: usize,
    is_unordered: bool,
) {
    let mut lines: HashMap<u64, Line<A, V::Refusal>> = HashMap::new();
    let mut strikes = Strikes::new(gate.config.strikes_max, gate.config.suspects_max);
    let mut apart = u64::MAX;
    while workers > 0 || !lines.is_empty() {
        for mut event in gate.events.take_all() {
            if is_unordered && let Passing::Verified(line, ..) = &mut event {
                // Each message in a line of its own.
                (*line, apart) = (apart, apart - 1);
            }
            let number = match event {
                Passing::WorkerEnded => {
                    workers -= 1;
                    continue;
                }
                Passing::Woken(line) => line,
                Passing::Verified(line, message, ticket) => match lines.get_mut(&line) {
                    Some(line) => {
                        line.waiting.push_back((message, ticket));
                        continue;
                    }
                    None => {
                        let Some((under_way, ticket)) = send(handle, message, ticket) else { continue };
                        lines.insert(line, Line { under_way, ticket, waiting: VecDeque::new() });
                        line
                    }
                },
            };
            if let Some(line) = lines.remove(&number)
                && let Some(line) = go_on(gate, handle, &mut strikes, number, line)
            {
                lines.insert(number, line);
            }
        }
    }
}

/// Sends a message to its objects. `None` if `A::addressees` panics at it: then its claim is
/// answered, and this thread goes on for the others.
fn send<A: Actor, R>(
    handle: &Handle<A>,
    message: A::Message,
    mut ticket: Ticket<A, R>,
) -> Option<(AskWaiting<A>, Ticket<A, R>)> {
    match catch_unwind(AssertUnwindSafe(|| handle.ask_waiting(message))) {
        Ok(under_way) => {
            ticket.pass();
            Some((under_way, ticket))
        }
        Err(payload) => {
            ticket.answer(Err(GateError::Panicked(panic_message(payload))));
            None
        }
    }
}

/// Answers what is answered, and sends what comes next; `None` if the line has nothing any more.
fn go_on<A: Actor, V: Verifier<A>>(
    gate: &GateState<A, V>,
    handle: &Handle<A>,
    strikes: &mut Strikes,
    number: u64,
    mut line: Line<A, V::Refusal>,
) -> Option<Line<A, V::Refusal>> {
    let waker = Waker::from(Arc::new(LineWaker { line: number, events: gate.events.clone() }));
    loop {
        let Poll::Ready(outcome) = Pin::new(&mut line.under_way).poll(&mut Context::from_waker(&waker))
        else {
            return Some(line);
        };
        // Before the answer: what the sender asks after it is already verified as it now must be.
        if let Some(sender) = line.ticket.sender() {
            judge(gate, strikes, sender, &outcome);
        }
        line.ticket.answer(outcome.map_err(|error| match error {
            // It was never sent: the runtime had closed.
            AskError::Stopped => GateError::Stopped,
            error => GateError::Message(error),
        }));
        (line.under_way, line.ticket) = loop {
            let (message, ticket) = line.waiting.pop_front()?;
            if let Some(sent) = send(handle, message, ticket) {
                break sent;
            }
        };
    }
}

/// Counts what the objects said of a sender's claim. Only their own word is one against it: an
/// overloaded or dying runtime says nothing of the claim.
fn judge<A: Actor, V: Verifier<A>>(
    gate: &GateState<A, V>,
    strikes: &mut Strikes,
    sender: u64,
    outcome: &Result<A::Reply, AskError<A::Error>>,
) {
    match outcome {
        Ok(_) => {
            if strikes.forgive(sender) {
                gate.intake().release(sender);
            }
        }
        Err(AskError::Aborted(_)) => {
            count(&gate.counts.struck);
            let struck = strikes.strike(sender);
            if struck.is_out || struck.forgotten.is_some() {
                let mut intake = gate.intake();
                struck.forgotten.into_iter().for_each(|forgotten| intake.release(forgotten));
                if struck.is_out {
                    intake.strike_out(sender);
                }
            }
        }
        Err(_) => {}
    }
}
