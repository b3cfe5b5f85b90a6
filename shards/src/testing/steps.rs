//! How a bench goes on: one step of its shards, lanes, disks and actions after the other, in an
//! order that its seed decides.

use std::sync::Arc;

use super::Bench;
use crate::actor::Actor;
use crate::actor::addressees::Addressees;
use crate::actor::destination::Destination;
use crate::actor::outcome::{AskError, Outcome, ReturnAddress};
use crate::epoch::published::Mvcc;
use crate::placement::ShardIndex;
use crate::shard::Shard;
use crate::shard::actions::BegunAction;
use crate::transaction::effects::{Effects, Inbox};
use crate::transaction::message::Envelope;

/// Something that may happen next.
#[derive(Clone, Copy)]
enum Step {
    Turn(usize),
    Deliver(usize, usize),
    /// The disk of a shard has written what it was given, or is given something.
    Disk(usize),
    /// An action that has begun is performed.
    Action(usize),
}

impl<A: Actor> Bench<A> {
    /// Begins anew, with no objects.
    pub(super) fn begin(&mut self) {
        self.logs = self.logs.take().map(|logs| logs.emptied());
        self.open();
    }

    /// Makes the shards, with what the logs have, if there are logs.
    pub(super) fn open(&mut self) {
        let Bench { router, limits, seed, context, logs, performer, down, .. } = self;
        let shards = router.shards();
        let recovered = logs.as_mut().map(|logs| logs.begin(*router));
        let mvcc = match logs {
            Some(logs) => Arc::new(Mvcc::logged(shards, logs.durability.clone())),
            None => Arc::new(Mvcc::new(shards)),
        };
        let shard = |at: usize| {
            let shard = Shard::new(ShardIndex(at as u16), *router, *limits, *seed, mvcc.clone())
                .with_context(context.clone())
                .with_wall_clock(*down);
            if performer.is_some() { shard.with_performer() } else { shard }
        };
        let mut made: Vec<Shard<A>> = (0..shards).map(shard).collect();
        if let (Some(logs), Some((homes, owed))) = (logs, recovered) {
            let begin = |((at, shard), home): ((usize, Shard<A>), _)| {
                shard.with_log(logs.start(at)).with_objects(home)
            };
            made = made.into_iter().enumerate().zip(homes).map(begin).collect();
            for (send_id, (sender, due, bytes)) in owed {
                let message = logs.codec.decode(&bytes).expect("a bench reads what it wrote");
                made[(send_id.0 % shards as u64) as usize]
                    .restore_send(send_id, sender, due, message, &bytes);
            }
        }
        self.shards = made;
        self.inboxes = (0..shards).map(|_| Inbox::new()).collect();
        self.effects = (0..shards).map(|_| Effects::new(shards)).collect();
        self.actions.clear();
        (0..shards).for_each(|shard| self.begin_actions(shard));
    }

    /// Begins the actions of a shard that may begin.
    fn begin_actions(&mut self, at: usize) {
        let (shard, effects) = (&mut self.shards[at], &mut self.effects[at]);
        loop {
            while let Some(action) = shard.begin_action() {
                self.actions.push((at, action));
            }
            if self.logs.is_none() || shard.actions().0 == 0 || !shard.release(effects) {
                return self.hand_out(at);
            }
        }
    }

    /// Performs an action, and tells its outcome.
    fn perform(&mut self, at: usize) {
        let (shard, BegunAction { id, sender, message }) = self.actions.swap_remove(at);
        let performer = self.performer.as_mut().expect("without it no action begins");
        let outcome = performer(id, &message);
        self.shards[shard].end_action(id, sender, outcome, &mut self.effects[shard]);
    }

    /// Puts a message into its home's inbox. Returns the number of its ask.
    pub(super) fn send(&mut self, message: A::Message) -> u32 {
        let ask = self.asked;
        self.asked += 1;
        if self.overloads > 0 {
            self.overloads -= 1;
            self.answers.insert(ask, Err(AskError::Overloaded));
            return ask;
        }
        match self.router.destination::<A>(&message, &mut Addressees::new()) {
            Destination::One(shard) | Destination::Several(shard) => {
                let answer_to = ReturnAddress::Outside { slot: ask, generation: 0 };
                let envelope = Envelope::Message { message, sender: self.sender, answer_to };
                self.inboxes[shard.index()].envelopes.push(envelope);
            }
            Destination::Nowhere => drop(self.answers.insert(ask, Err(AskError::Unaddressed))),
        }
        ask
    }

    pub(super) fn take_answer(&mut self, ask: u32) -> Outcome<A> {
        self.answers.remove(&ask).expect("everyone-is-answered: nothing is left to do")
    }

    /// Steps in the seed's order, until nothing is left to do at this time.
    pub(super) fn run_until_idle(&mut self) {
        while self.step() {}
        debug_assert!(
            self.shards.iter().all(|shard| shard.transactions() == (0, 0)),
            "locked-until-applied: nothing is left to do, and a transaction is under way"
        );
    }

    /// A step of the seed's; says whether there is one.
    pub(super) fn step(&mut self) -> bool {
        let shards = self.shards.len();
        let turns = (0..shards).filter(|shard| self.wants_turn(*shard)).map(Step::Turn);
        let lanes = (0..shards * shards).map(|lane| (lane / shards, lane % shards));
        let lanes = lanes.filter(|(from, to)| !self.effects[*from].outboxes[*to].is_empty());
        let disks = (0..shards).filter(|shard| self.has_log_work(*shard)).map(Step::Disk);
        let lanes = lanes.map(|(from, to)| Step::Deliver(from, to));
        let actions = (0..self.actions.len()).map(Step::Action);
        let steps: Vec<Step> = turns.chain(lanes).chain(disks).chain(actions).collect();
        let Some(step) = steps.get(self.dice.below(steps.len().max(1))) else { return false };
        match *step {
            Step::Turn(shard) => self.turn(shard),
            Step::Deliver(from, to) => self.deliver(from, to),
            Step::Disk(shard) => {
                if let Some(logs) = &mut self.logs {
                    logs.complete(shard, &mut self.shards[shard]);
                }
                self.write(shard);
            }
            Step::Action(action) => self.perform(action),
        }
        true
    }

    fn has_log_work(&self, shard: usize) -> bool {
        self.logs.as_ref().is_some_and(|logs| logs.is_writing(shard) || self.shards[shard].has_log_work())
    }

    /// What comes behind a turn and behind a write, if there are logs.
    pub(super) fn write(&mut self, shard: usize) {
        let Some(logs) = &mut self.logs else { return };
        if let Some(write) = self.shards[shard].next_write(self.now) {
            logs.write(shard, write);
        }
        for at in 0..self.shards.len() {
            self.shards[at].release(&mut self.effects[at]);
            self.begin_actions(at);
        }
    }

    fn hand_out(&mut self, shard: usize) {
        for (to, outcome) in self.effects[shard].answers.drain(..) {
            if let ReturnAddress::Outside { slot, .. } = to {
                self.answers.insert(slot, outcome);
            }
        }
    }

    fn wants_turn(&self, shard: usize) -> bool {
        let (inbox, shard) = (&self.inboxes[shard], &self.shards[shard]);
        !inbox.envelopes.is_empty()
            || shard.own_messages() > 0
            || shard.next_timer().is_some_and(|due| due <= self.now)
    }

    /// Some of what has arrived at a shard runs.
    fn turn(&mut self, shard: usize) {
        let inbox = &mut self.inboxes[shard];
        let some = self.dice.below(inbox.envelopes.len() + 1).max(1).min(inbox.envelopes.len());
        let later = inbox.envelopes.split_off(some);
        if self.shards[shard].take_resumed(self.now) {
            self.shards[shard].run_resumed(&mut self.effects[shard]);
        }
        self.shards[shard].turn(self.now, inbox, &mut self.effects[shard]);
        inbox.envelopes = later;
        self.failures.append(&mut self.effects[shard].failures);
        self.begin_actions(shard);
        self.write(shard);
    }

    /// Some of what is in an outbox arrives.
    fn deliver(&mut self, from: usize, to: usize) {
        let outbox = &mut self.effects[from].outboxes[to];
        let some = 1 + self.dice.below(outbox.len());
        self.inboxes[to].envelopes.extend(outbox.drain(..some));
    }
}
