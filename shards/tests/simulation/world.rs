//! The simulated runtime: shards, lanes, clients, and a seed that decides everything.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use freehold_shard::*;

use crate::fault;

use super::checker::{History, Model, Owed, SET};
use super::drawing::Tells;
use super::lives::Lives;
use super::ranked::check_index;
use super::readers::Auditor;
use super::script::{Name, RUNS, Script, Simulated, TIMERS, Value};

/// How large a world is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) shards: usize,
    pub(crate) objects: u64,
    pub(crate) messages: u32,
    pub(crate) limits: Limits,
}

/// The source of all decisions: xorshift64*, which is enough.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn of(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    pub(super) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}

/// Whether a step may begin what nothing waits for: a message, a snapshot, a checkpoint.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    More,
    NoMore,
}

pub(crate) struct World {
    pub(super) dice: Dice,
    pub(super) shape: Shape,
    pub(super) router: Router,
    pub(super) mvcc: Arc<Mvcc<Simulated>>,
    pub(super) shards: Vec<Shard<Simulated>>,
    inboxes: Vec<Inbox<Simulated>>,
    pub(super) effects: Vec<Effects<Simulated>>,
    /// From, to.
    pub(super) lanes: Vec<Vec<VecDeque<Envelope<Simulated>>>>,
    pub(super) ingress: Vec<VecDeque<Ingress>>,
    batches: BTreeMap<u32, Vec<u32>>,
    /// Actions that have begun and not ended, with their shards.
    actions: Vec<(usize, BegunAction<Simulated>)>,
    /// Objects that somebody watches, and what was seen of each in this life.
    pub(super) watched: BTreeMap<u64, Vec<Option<Value>>>,
    /// The messages of those that have begun in this life.
    pub(super) begun: BTreeSet<u32>,
    /// Of this life.
    pub(super) history: History,
    pub(super) audits: Vec<Auditor>,
    pub(super) sent: u32,
    pub(super) told: BTreeSet<u32>,
    pub(super) steps: u64,
    /// What a world with disks has beside.
    pub(super) lives: Option<Lives>,
}

pub(super) enum Ingress {
    One(Envelope<Simulated>),
    Batch(Batch<Simulated>),
}

impl Shard<Simulated> {
    /// order-agrees: each entry has its place in the order of its collection, and is found there;
    /// and nothing else has.
    fn check_orders(&self) -> Result<(), String> {
        let partition = &self.engine.run.partition;
        let mut entries: BTreeSet<u64> =
            self.objects().filter(|(id, ..)| id.collection().is_some()).map(|(id, ..)| id.0).collect();
        for (collection, index, place) in partition.orders.all() {
            let slot = partition.slot(index);
            let (id, found) = (slot.id, partition.find(partition.hash(&slot.id), &slot.id).0);
            let agrees = found == index && id.collection() == Some(collection) && slot.place() == place;
            if !agrees || slot.state.is_some() != entries.remove(&id.0) {
                return Err(format!("order-agrees: {id:?} of {collection:?} is {place:?}"));
            }
        }
        if !partition.has_all_slots() {
            return Err("only-the-absent-are-released: a slot is neither used nor free".to_owned());
        }
        if entries.is_empty() { Ok(()) } else { Err(format!("order-agrees: {entries:?} are in no order")) }
    }
}

impl World {
    /// A runtime without logs.
    pub(crate) fn new(seed: u64, shape: Shape) -> Self {
        let mvcc = Arc::new(Mvcc::new(shape.shards));
        World::over(seed, shape, Router::new(PlacementKey(seed), shape.shards), mvcc)
    }

    pub(super) fn over(seed: u64, shape: Shape, router: Router, mvcc: Arc<Mvcc<Simulated>>) -> Self {
        let mut world = World {
            dice: Dice::of(seed),
            shape,
            router,
            mvcc: mvcc.clone(),
            shards: Vec::new(),
            inboxes: Vec::new(),
            effects: Vec::new(),
            lanes: Vec::new(),
            ingress: Vec::new(),
            batches: BTreeMap::new(),
            watched: BTreeMap::new(),
            actions: Vec::new(),
            begun: BTreeSet::new(),
            history: History::default(),
            audits: Vec::new(),
            sent: 0,
            told: BTreeSet::new(),
            steps: 0,
            lives: None,
        };
        // By one bit of the seed's product: half of the worlds of each shape.
        fault::skip_pieces(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 63 == 1);
        TIMERS.with_borrow_mut(BTreeMap::clear);
        SET.with_borrow_mut(BTreeMap::clear);
        world.begin(router, mvcc);
        world
    }

    /// Begins a life, with shards that are empty. Nothing of the life before is left.
    pub(super) fn begin(&mut self, router: Router, mvcc: Arc<Mvcc<Simulated>>) {
        RUNS.with_borrow_mut(Vec::clear);
        let (shards, limits) = (router.shards(), self.shape.limits);
        let seed = self.dice.next();
        let shard = |shard| {
            let index = ShardIndex(shard as u16);
            Shard::new(index, router, limits, seed ^ shard as u64, mvcc.clone()).with_performer()
        };
        let lane = || (0..shards).map(|_| VecDeque::new()).collect();
        self.shards = (0..shards).map(shard).collect();
        self.inboxes = (0..shards).map(|_| Inbox::new()).collect();
        self.effects = (0..shards).map(|_| Effects::new(shards)).collect();
        self.lanes = (0..shards).map(|_| lane()).collect();
        self.ingress = (0..shards).map(|_| VecDeque::new()).collect();
        self.batches = BTreeMap::new();
        self.watched = BTreeMap::new();
        (self.actions, self.begun) = (Vec::new(), BTreeSet::new());
        self.history = History::default();
        self.audits = Vec::new();
        self.shape.shards = shards;
        (self.router, self.mvcc) = (router, mvcc);
    }

    /// The time, as the shards are told it.
    pub(super) fn now(&self) -> Time {
        self.lives.as_ref().map_or(Time(self.steps), |lives| lives.time(self.steps))
    }

    pub(crate) fn run(mut self) -> Result<u64, String> {
        while self.sent < self.shape.messages {
            self.step(Begin::More);
        }
        // No more is sent: everything must come to its end.
        let patience = self.steps + 200_000;
        while !self.is_quiet() || !self.audits.is_empty() {
            self.step(Begin::NoMore);
            // Each lane moves now and then, so that a wide world does not wait for its dice.
            let (from, to) = (
                self.steps as usize % self.shape.shards,
                self.steps as usize / self.shape.shards % self.shape.shards,
            );
            let outbox = &mut self.effects[from].outboxes[to];
            self.lanes[from][to].extend(outbox.drain(..));
            self.turn(to);
            if self.steps > patience {
                let waiting: Vec<_> = self.shards.iter().map(Shard::transactions).collect();
                return Err(format!("stuck, with transactions (begun, waiting) by shard: {waiting:?}"));
            }
        }
        // What inline messages did is counted at the next turn; and when no snapshot is open,
        // nothing is kept.
        for _ in 0..100 {
            (0..self.shape.shards).for_each(|shard| self.turn(shard));
        }
        self.judge()?;
        Ok(self.steps)
    }

    pub(super) fn step(&mut self, begin: Begin) {
        let sends = begin == Begin::More;
        self.steps += 1;
        if self.lives.is_some() && self.disk_step() {
            return;
        }
        if self.end_action() {
            return;
        }
        match self.dice.below(20) {
            0..=5 if sends && self.is_busy() => self.send(),
            6..=11 if self.is_fast() => self.deliver(),
            6..=11 => {}
            12 => self.audit(begin),
            13 if sends && self.dice.chance(20) => self.watch(),
            13 if sends => self.peek(),
            _ => {
                let shard = self.dice.below(self.shape.shards);
                self.turn(shard);
            }
        }
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.ingress.iter().all(VecDeque::is_empty)
            && self.lanes.iter().flatten().all(VecDeque::is_empty)
            && self.effects.iter().all(|effects| effects.outboxes.iter().all(VecDeque::is_empty))
            && self.shards.iter().all(|shard| {
                shard.own_messages() == 0 && shard.next_timer().is_none() && shard.actions() == (0, 0)
            })
    }

    fn destination(&self, script: &Script) -> usize {
        match self.router.destination::<Simulated>(script, &mut Addressees::new()) {
            Destination::One(shard) | Destination::Several(shard) => shard.index(),
            Destination::Nowhere => unreachable!("every script names an object"),
        }
    }

    fn send(&mut self) {
        match self.dice.below(10) {
            // A batch from outside, all for one shard.
            0 | 1 => {
                let scripts: Vec<Script> =
                    (0..1 + self.dice.below(12)).map(|_| self.script(Tells::Maybe)).collect();
                let sender = scripts[0].sender;
                let mut by_shard: BTreeMap<usize, Vec<Script>> = BTreeMap::new();
                for script in scripts {
                    by_shard.entry(self.destination(&script)).or_default().push(Script { sender, ..script });
                }
                for (shard, scripts) in by_shard {
                    let tag = self.batches.len() as u32;
                    self.batches.insert(tag, scripts.iter().map(|script| script.message).collect());
                    // What a batch tells is sent as the batch's sender.
                    let as_sender = |mut script: Script| {
                        if let Some(told) = &mut script.tells {
                            told.sender = sender;
                        }
                        BatchEntry::Waiting(script)
                    };
                    let entries = scripts.into_iter().map(as_sender).collect();
                    self.ingress[shard].push_back(Ingress::Batch(Batch { sender, entries, tag }));
                }
            }
            // A task on a shard, inline.
            2 => {
                let script = self.script(Tells::Maybe);
                let shard = self.destination(&script);
                self.release_late(shard);
                let now = self.now();
                let outcome =
                    self.shards[shard].ask_now(now, script.sender, &script, &mut self.effects[shard]);
                self.keep_runs(shard);
                self.history.applied.insert(script.message);
                self.answered(script.message, outcome);
                self.write_and_release(shard);
            }
            // A task on a shard, to another or its own.
            3 | 4 => {
                let script = self.script(Tells::Maybe);
                let (from, to) = (self.dice.below(self.shape.shards), self.destination(&script));
                let answer_to = ReturnAddress::Shard { shard: ShardIndex(from as u16), call: script.message };
                let Some(script) = self.begin_pair(from, script, answer_to) else { return };
                let envelope = Envelope::Message { sender: script.sender, message: script, answer_to };
                if from == to {
                    self.ingress[to].push_back(Ingress::One(envelope));
                } else {
                    self.effects[from].outboxes[to].push_back(envelope);
                }
            }
            _ => {
                let script = self.script(Tells::Maybe);
                let to = self.destination(&script);
                let answer_to = ReturnAddress::Outside { slot: script.message, generation: 0 };
                let envelope = Envelope::Message { sender: script.sender, message: script, answer_to };
                self.ingress[to].push_back(Ingress::One(envelope));
            }
        }
    }

    /// A task's message begins at once, if it can. It is returned if it cannot.
    fn begin_pair(&mut self, shard: usize, script: Script, answer_to: ReturnAddress) -> Option<Script> {
        self.release_late(shard);
        let (now, sender, effects) = (self.now(), script.sender, &mut self.effects[shard]);
        let script = self.shards[shard].begin_pair(now, sender, script, answer_to, effects).err();
        self.write_and_release(shard);
        script
    }

    /// Some of what is in an outbox goes into its lane.
    fn deliver(&mut self) {
        let (from, to) = (self.dice.below(self.shape.shards), self.dice.below(self.shape.shards));
        let some = self.dice.below(5);
        let outbox = &mut self.effects[from].outboxes[to];
        self.lanes[from][to].extend(outbox.drain(..some.min(outbox.len())));
    }

    pub(super) fn turn(&mut self, shard: usize) {
        self.release_late(shard);
        let start = self.dice.below(self.shape.shards);
        for from in (0..self.shape.shards).map(|from| (from + start) % self.shape.shards) {
            let some = self.dice.below(4);
            let lane = &mut self.lanes[from][shard];
            self.inboxes[shard].envelopes.extend(lane.drain(..some.min(lane.len())));
        }
        for _ in 0..self.dice.below(4) {
            match self.ingress[shard].pop_front() {
                Some(Ingress::One(envelope)) => self.inboxes[shard].envelopes.push(envelope),
                Some(Ingress::Batch(batch)) => {
                    self.inboxes[shard].batches.push(batch);
                    break;
                }
                None => break,
            }
        }
        let now = self.now();
        if self.shards[shard].take_resumed(now) {
            self.shards[shard].run_resumed(&mut self.effects[shard]);
        }
        self.shards[shard].turn(now, &mut self.inboxes[shard], &mut self.effects[shard]);
        // For as long as it has time.
        let mut steps = 0..self.dice.below(3);
        self.shards[shard].sweep(|| steps.next().is_some());
        self.shards[shard].revoke_old(now);
        self.keep_runs(shard);
        self.write_and_release(shard);
        self.begin_actions(shard);
        self.show(shard);
        self.hand_out(shard);
    }

    /// Watches an object from now on, or does not any more.
    fn watch(&mut self) {
        let id = self.dice.next() % self.shape.objects;
        let shard = self.router.home(&Name(id)).index();
        if self.watched.remove(&id).is_some() {
            self.shards[shard].unwatch(&Name(id));
        } else {
            self.watched.insert(id, Vec::new());
            self.shards[shard].watch(Name(id));
            self.show(shard);
        }
    }

    /// Shows what is watched.
    pub(super) fn show(&mut self, shard: usize) {
        let World { shards, watched, effects, lives, .. } = self;
        loop {
            shards[shard].show_watched(|Name(id), state| {
                watched.get_mut(&id).expect("it is watched").push(state.map(|state| *state));
            });
            if lives.is_none() || watched.is_empty() || !shards[shard].release(&mut effects[shard]) {
                return;
            }
        }
    }

    /// Begins all actions that may begin.
    pub(super) fn begin_actions(&mut self, shard: usize) {
        loop {
            while let Some(action) = self.shards[shard].begin_action() {
                self.begun.insert(action.message.message);
                self.actions.push((shard, action));
            }
            let waits = self.lives.is_some() && self.shards[shard].actions().0 > 0;
            if !waits || !self.shards[shard].release(&mut self.effects[shard]) {
                return;
            }
        }
    }

    /// An action ends, or is put back, if there is one and the dice say so.
    pub(super) fn end_action(&mut self) -> bool {
        if self.actions.is_empty() || !self.dice.chance(20) {
            return false;
        }
        let one = self.dice.below(self.actions.len());
        let (shard, action) = self.actions.swap_remove(one);
        if self.dice.chance(20) {
            self.shards[shard].put_action_back(action);
            self.begin_actions(shard);
        } else {
            let BegunAction { id, sender, message } = action;
            let outcome = Script { is_action: false, ..message };
            self.shards[shard].end_action(id, sender, outcome, &mut self.effects[shard]);
        }
        true
    }

    /// Gives answers to whom they are for.
    pub(super) fn hand_out(&mut self, shard: usize) {
        let answers: Vec<_> = self.effects[shard].answers.drain(..).collect();
        for (to, outcome) in answers {
            match to {
                ReturnAddress::Outside { slot, .. } => self.answered(slot, outcome),
                ReturnAddress::Shard { call, .. } => self.answered(call, outcome),
                other => panic!("an answer to {other:?}"),
            }
        }
        let batches: Vec<_> = self.effects[shard].batches.drain(..).collect();
        for batch in batches {
            let messages = self.batches.remove(&batch.tag).expect("a batch comes back once");
            self.batches.insert(batch.tag, Vec::new());
            assert_eq!(messages.len(), batch.entries.len(), "a batch comes back whole");
            for (message, entry) in messages.into_iter().zip(batch.entries) {
                match entry {
                    BatchEntry::Answered(outcome) => self.answered(message, outcome),
                    _ => panic!("message {message} of a batch came back without an outcome"),
                }
            }
        }
    }

    /// Keeps what ran on a shard just now. Of the runs of one message the last is the one that has
    /// no other of its name after it, and that the shard has counted.
    fn keep_runs(&mut self, shard: usize) {
        let mut runs = RUNS.with_borrow_mut(std::mem::take);
        let Counters { fast, consensus, aborted, panicked, .. } = self.shards[shard].counters();
        let mut next = fast + consensus + aborted + panicked;
        for run in runs.iter_mut().rev() {
            run.is_last = run.id.sequence < next;
            run.time = self.now();
            next = run.id.sequence;
        }
        self.history.runs.extend(runs);
    }

    fn answered(&mut self, message: u32, outcome: Outcome<Simulated>) {
        if self.lives.as_ref().is_some_and(|lives| lives.ack == Ack::Applied) {
            self.history.applied.insert(message);
        }
        self.history.answered.insert(message, self.steps);
        let before = self.history.answers.insert(message, outcome);
        assert!(before.is_none(), "message {message} was answered twice");
    }

    /// Judges a life that came to a good end. Returns what must be left of objects, and what is
    /// still owed.
    pub(super) fn judge(&self) -> Result<(Model, Owed), String> {
        for message in self.history.sent.keys() {
            if !self.history.answers.contains_key(message) {
                return Err(format!("message {message} was never answered"));
            }
        }
        if let Some(shard) = self.shards.iter().find(|shard| shard.transactions() != (0, 0)) {
            return Err(format!("a transaction is left over: {:?}", shard.transactions()));
        }
        let (expected, owed) = self.history.explain(|message| self.told.contains(&message), None)?;
        let given_up: u64 = self.shards.iter().map(|shard| shard.counters().unstable).sum();
        if given_up != self.history.unstable.get() {
            return Err(format!(
                "{given_up} messages were given up, and {} did not settle",
                self.history.unstable.get()
            ));
        }
        let revoked: u64 = self.shards.iter().map(|shard| shard.counters().revoked).sum();
        let expired = self.history.audits.iter().filter(|audit| audit.is_expired).count() as u64;
        if expired > revoked {
            return Err(format!("{expired} snapshots expired, and {revoked} were revoked"));
        }
        let public = |object: &&(Ownership, Value)| !matches!(object.0, Ownership::Owned(_));
        if self.mvcc.len() != expected.values().filter(public).count() {
            return Err(format!("{} objects are published of {expected:?}", self.mvcc.len()));
        }
        let mut found = BTreeMap::new();
        for (at, shard) in self.shards.iter().enumerate() {
            let is_kept = |id: &u64| self.router.home(id).index() == at && !expected.contains_key(id);
            let kept = self.watched.keys().filter(|id| is_kept(id)).count();
            if shard.engine.run.partition.iter().count() != shard.objects().count() + kept {
                return Err(format!("shard {at} has slots without an object"));
            }
            shard.check_orders().map_err(|wrong| format!("shard {at}: {wrong}"))?;
            if shard.counters().objects != shard.objects().count() as u64 {
                return Err(format!("shard {at} miscounts its objects"));
            }
            if shard.counters().versions != 0 || shard.has_garbage() || !shard.engine.to_trim.is_empty() {
                return Err(format!("shard {at} keeps old versions for nobody"));
            }
            if !shard.engine.in_doubt.is_empty() {
                return Err(format!("shard {at} has something in doubt"));
            }
            for (id, ownership, value) in shard.objects() {
                if self.router.home(&id).index() != at || found.insert(id.0, (ownership, *value)).is_some() {
                    return Err(format!("object {id:?} is not at home on shard {at}, or there twice"));
                }
            }
        }
        check_index(&found)?;
        if found != expected {
            return Err(format!("left    {found:?}\nexpected {expected:?}"));
        }
        for (id, seen) in &self.watched {
            let left = found.get(id).map(|(_, value)| *value);
            if seen.last() != Some(&left) {
                return Err(format!("object {id} was left as {left:?}, and last seen as {:?}", seen.last()));
            }
        }
        if self.lives.is_none() && !owed.is_empty() {
            return Err(format!("told and never run: {owed:?}"));
        }
        Ok((expected, owed))
    }
}
