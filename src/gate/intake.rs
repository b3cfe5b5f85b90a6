//! Where claims wait to be verified, and which senders are verified apart.
//!
//! A line's claims all wait for one worker, in the order they were asked, so that no two workers
//! can bring them past the gate in another order. Claims of a suspect wait apart, in order too. A
//! sender that is forgotten while claims of it wait apart stays a suspect until they are taken:
//! its next claim would overtake them.

use std::collections::{HashMap, HashSet, VecDeque};

use freehold_shard::Actor;

use super::Verifier;
use super::ticket::Ticket;

/// A claim in the gate.
pub(super) struct Claimed<A: Actor, V: Verifier<A>> {
    pub(super) claim: V::Claim,
    pub(super) ticket: Ticket<A, V::Refusal>,
    pub(super) line: u64,
    pub(super) sender: u64,
}

/// What waits for one worker.
struct Queue<A: Actor, V: Verifier<A>> {
    claims: VecDeque<Claimed<A, V>>,
    /// Of suspects.
    apart: VecDeque<Claimed<A, V>>,
    /// Why the worker has ended, if it could not go on.
    broken: Option<String>,
}

/// Senders that are verified apart.
struct Suspects {
    /// Of bad claims.
    known: HashSet<u64>,
    /// The same, the one that was remembered first in front.
    order: VecDeque<u64>,
    max: usize,
    /// Of too many strikes; bounded where strikes are counted.
    struck: HashSet<u64>,
}

impl Suspects {
    fn insert(&mut self, sender: u64) {
        if self.known.insert(sender) {
            self.order.push_back(sender);
        }
        if self.order.len() > self.max
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    fn contains(&self, sender: u64) -> bool {
        self.known.contains(&sender) || self.struck.contains(&sender)
    }
}

/// How many claims of one sender wait.
#[derive(Default)]
struct SenderClaims {
    together: usize,
    apart: usize,
}

/// All that waits to be verified.
pub(super) struct Intake<A: Actor, V: Verifier<A>> {
    queues: Box<[Queue<A, V>]>,
    suspects: Suspects,
    /// By sender, of those that have some.
    waiting: HashMap<u64, SenderClaims>,
    /// How many wait apart.
    apart: usize,
    apart_max: usize,
    /// How many of these may be of one sender, so that no suspect keeps the others out.
    apart_of_one_max: usize,
    batch_max: usize,
    is_closed: bool,
}

/// Why a claim is not taken.
#[derive(Debug, PartialEq)]
pub(super) enum NotTaken {
    Closed,
    Broken(String),
    /// Suspects have no more room, or this one has its share of it.
    Full,
}

/// What a worker takes at once.
pub(super) struct Round<A: Actor, V: Verifier<A>> {
    pub(super) batch: Vec<Claimed<A, V>>,
    /// One of a suspect, to be verified after the batch.
    pub(super) apart: Option<Claimed<A, V>>,
}

impl<A: Actor, V: Verifier<A>> Intake<A, V> {
    pub(super) fn new(workers: usize, claims_max: usize, batch_max: usize, suspects_max: usize) -> Self {
        let queue = |_| Queue { claims: VecDeque::new(), apart: VecDeque::new(), broken: None };
        let (known, order, struck) = (HashSet::new(), VecDeque::new(), HashSet::new());
        Intake {
            queues: (0..workers).map(queue).collect(),
            suspects: Suspects { known, order, max: suspects_max, struck },
            waiting: HashMap::new(),
            apart: 0,
            apart_max: claims_max / 4,
            apart_of_one_max: (claims_max / 16).max(1),
            batch_max,
            is_closed: false,
        }
    }

    /// Which worker a line's claims wait for.
    pub(super) fn worker(&self, line: u64) -> usize {
        // Lines are often numbered in steps; a multiplication spreads them.
        (line.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % self.queues.len()
    }

    /// Takes a claim, or says why not and gives it back.
    pub(super) fn put(
        &mut self,
        worker: usize,
        entry: Claimed<A, V>,
    ) -> Result<(), (NotTaken, Claimed<A, V>)> {
        let queue = &mut self.queues[worker];
        if self.is_closed {
            return Err((NotTaken::Closed, entry));
        }
        if let Some(reason) = &queue.broken {
            return Err((NotTaken::Broken(reason.clone()), entry));
        }
        let of_sender = self.waiting.get(&entry.sender);
        let is_apart = self.suspects.contains(entry.sender) || of_sender.is_some_and(|it| it.apart > 0);
        let of_suspect = of_sender.map_or(0, |it| it.apart);
        if is_apart && (self.apart >= self.apart_max || of_suspect >= self.apart_of_one_max) {
            return Err((NotTaken::Full, entry));
        }
        let of_sender = self.waiting.entry(entry.sender).or_default();
        if is_apart {
            (of_sender.apart, self.apart) = (of_sender.apart + 1, self.apart + 1);
            queue.apart.push_back(entry);
        } else {
            of_sender.together += 1;
            queue.claims.push_back(entry);
        }
        Ok(())
    }

    /// These were taken from among those that wait with all others, and that from those apart.
    fn count_taken(&mut self, together: &[Claimed<A, V>], apart: &[Claimed<A, V>]) {
        self.apart -= apart.len();
        for (entries, are_apart) in [(together, false), (apart, true)] {
            for Claimed { sender, .. } in entries {
                let Some(of_sender) = self.waiting.get_mut(sender) else { continue };
                *if are_apart { &mut of_sender.apart } else { &mut of_sender.together } -= 1;
                if of_sender.apart + of_sender.together == 0 {
                    self.waiting.remove(sender);
                }
            }
        }
    }

    /// What a worker verifies next; `None` if nothing waits.
    pub(super) fn take(&mut self, worker: usize) -> Option<Round<A, V>> {
        let queue = &mut self.queues[worker];
        let batch: Vec<_> = queue.claims.drain(..queue.claims.len().min(self.batch_max)).collect();
        let apart = queue.apart.pop_front();
        self.count_taken(&batch, apart.as_slice());
        (!batch.is_empty() || apart.is_some()).then_some(Round { batch, apart })
    }

    /// From now on a sender's claims are verified apart: those the worker has taken and not
    /// verified (`taken`), then those that wait, then those to come. It takes time as what waits,
    /// if the sender is among that.
    pub(super) fn suspect(&mut self, worker: usize, sender: u64, taken: Vec<Claimed<A, V>>) {
        self.suspects.insert(sender);
        self.move_apart(worker, sender, taken);
    }

    /// As [`Self::suspect`], of a sender with too many strikes, until it is released. What a worker
    /// has taken stays there.
    pub(super) fn strike_out(&mut self, sender: u64) {
        self.suspects.struck.insert(sender);
        self.move_apart(0, sender, Vec::new());
    }

    /// A sender that was struck out is verified with all others again, once nothing of it waits
    /// apart. If it has sent a bad claim it stays a suspect.
    pub(super) fn release(&mut self, sender: u64) {
        self.suspects.struck.remove(&sender);
    }

    /// Moves a sender's claims apart: those that `worker` has taken, and those that wait.
    fn move_apart(&mut self, worker: usize, sender: u64, taken: Vec<Claimed<A, V>>) {
        let waits_together = self.waiting.get(&sender).is_some_and(|it| it.together > 0);
        if taken.is_empty() && !waits_together {
            return;
        }
        let mut moved = taken.len();
        // Asked before all that wait.
        taken.into_iter().rev().for_each(|entry| self.queues[worker].apart.push_front(entry));
        if waits_together {
            for queue in &mut self.queues {
                let (of_sender, others): (VecDeque<_>, _) =
                    std::mem::take(&mut queue.claims).into_iter().partition(|entry| entry.sender == sender);
                queue.claims = others;
                moved += of_sender.len();
                queue.apart.extend(of_sender);
            }
        }
        self.apart += moved;
        let of_sender = self.waiting.entry(sender).or_default();
        (of_sender.together, of_sender.apart) = (0, of_sender.apart + moved);
    }

    /// Nothing is taken any more. Returns what waits, of all workers.
    pub(super) fn close(&mut self) -> Vec<Claimed<A, V>> {
        self.is_closed = true;
        (0..self.queues.len()).flat_map(|worker| self.sweep(worker)).collect()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// A worker has ended, for this reason. Returns what waits for it.
    pub(super) fn break_down(&mut self, worker: usize, reason: &str) -> Vec<Claimed<A, V>> {
        self.queues[worker].broken = Some(reason.to_string());
        self.sweep(worker)
    }

    /// Takes all that waits for a worker.
    pub(super) fn sweep(&mut self, worker: usize) -> Vec<Claimed<A, V>> {
        let queue = &mut self.queues[worker];
        let (together, apart) =
            (Vec::from(std::mem::take(&mut queue.claims)), Vec::from(std::mem::take(&mut queue.apart)));
        self.count_taken(&together, &apart);
        together.into_iter().chain(apart).collect()
    }
}
