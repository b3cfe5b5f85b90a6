//! A database whose epochs leave for a replicated log: owners that are paused for any time and come
//! back, standbys that take over meanwhile, and a log whose acknowledgements come late, never, or
//! say no. What an owner has given up may still arrive, at any time and in any order. Owners crash,
//! and go on with what their own logs have. Some logs lose a message, and an operator has a node
//! found them anew, which need not be the right one (`founding`). In some worlds owners make
//! checkpoints, name them in the log, and trim it; each of these steps may come late, or never.
//!
//! Counters only grow, which makes judging simple. A count that was answered is an upper bound for
//! nothing and a lower bound for whatever is asked later: of any node, owner or not any more. Each
//! count is answered once. Two counters that grow together are never seen apart.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use freehold_shard::log::appends::{Appended, Appends};
use freehold_shard::log::chain::{
    Body, Chain, ChainPlace, ENTRY_BYTES_MIN, EntryHash, Followed, NamedCheckpoint, hash_entry, read_entry,
};
use freehold_shard::log::{Bounds, Gathering, SegmentId, sealed};
use freehold_shard::record::Record;
use freehold_shard::recovery::{Change, Home};
use freehold_shard::*;

use crate::fault::{self, Fault};

mod counters;
mod founding;

use self::counters::{Counters, Message};
use super::stream::{Counts, Stream};
use super::world::Dice;

const SEGMENT_BYTES: usize = 1 << 20;
const DATABASE: u64 = 0xdb;
const NODES: usize = 3;
/// So many pairs of counters.
const PAIRS: u64 = 3;

/// Entries on their way to the log, which stand there together or not at all, and the message that
/// they are to stand behind.
type Sent = (Vec<Vec<u8>>, u64);

/// An epoch in an owner's own log.
type Logged = (Epoch, Time, Vec<Box<[u8]>>);

/// Appends entries where their writer expects them to stand.
fn append<E: AsRef<[u8]>>(stream: &mut Stream, entries: &[E], behind: u64) -> Appended {
    let behind = if fault::is_on(Fault::AppendBlind) { stream.last() } else { behind };
    stream.append(entries, behind)
}

/// Takes records over.
fn apply(counters: &mut Counts, records: &[Box<[u8]>]) -> Result<(), String> {
    for record in records {
        if let Some(Record::Put { id, state, .. }) = Record::read(record) {
            let (id, count) = (id.decode::<u64>(), state.decode::<u64>());
            counters.insert(id.ok_or("an id")?, count.ok_or("a count")?);
        }
    }
    Ok(())
}

/// A node's shards and what it has on its way.
struct Owner {
    router: Router,
    mvcc: Arc<Mvcc<Counters>>,
    durability: Arc<Durability>,
    shards: Vec<Shard<Counters>>,
    inboxes: Vec<Inbox<Counters>>,
    effects: Vec<Effects<Counters>>,
    writing: Vec<Option<Write>>,
    gathering: Gathering,
    appends: Appends,
    /// On their way to the log, in order.
    sent: VecDeque<Sent>,
    acknowledged: Epoch,
    /// What its own log has of its term.
    logged: Vec<Logged>,
    came: VecDeque<Appended>,
    checkpoint: Checkpointing,
}

/// How far an owner is with a checkpoint: its term and number.
#[derive(Default)]
enum Checkpointing {
    #[default]
    No,
    /// It is beside the log.
    Put(Box<NamedCheckpoint>, (u64, u64)),
    /// The entry that names it is on its way.
    Named((u64, u64)),
    /// The log may be trimmed below this message.
    Counts(u64, (u64, u64)),
}

#[derive(Default)]
struct Node {
    owner: Option<Owner>,
    /// What it has sent and waits for no more. It may arrive at any time.
    given_up: Vec<Sent>,
    /// What its own log has, if it has crashed.
    logged: Vec<Logged>,
    /// The whole of its own log, if it has been the owner.
    log: Option<NodeLog>,
    /// It does nothing until this step.
    paused_until: u64,
}

/// A message that was sent.
struct Asked {
    message: Message,
    /// The least that its answer can be.
    least: u64,
    is_answered: bool,
}

pub(super) struct ReplicatedWorld {
    dice: Dice,
    steps: u64,
    stream: Stream,
    nodes: Vec<Node>,
    asked: Vec<Asked>,
    /// By pair: the largest count that was answered, and how many were asked for.
    answered: BTreeMap<u64, u64>,
    grown: BTreeMap<u64, u64>,
    counts: BTreeSet<(u64, u64)>,
    /// Those in which a node was the owner.
    terms: BTreeSet<u64>,
    damages: bool,
    /// Standbys have logs of their own, as the replicated log may be founded anew from them.
    follows: bool,
    /// Of a thousand steps of a standby, how many are a takeover.
    takes: usize,
    /// Of a thousand steps, how many begin a pause.
    pauses: usize,
    /// Of a thousand entries, how many are lost, answered late, or come twice.
    loses: usize,
    /// Of a thousand steps of an owner, how many are a crash.
    crashes: usize,
    /// Of a hundred steps of an owner, how many are for checkpoints.
    checkpoints: usize,
    /// How many were made.
    made: u64,
}

/// What a node that was the owner has in its log.
#[derive(Clone)]
struct NodeLog {
    counters: Counts,
    /// What it remembers: where its takeover ended, and the message there.
    place: ChainPlace,
    sequence: u64,
    tail: Epoch,
    /// The last term that it owned with this log.
    term: u64,
    /// Foundings of its own that may be in the replicated log.
    tried: Vec<EntryHash>,
}

/// What a reader of the log finds: the chain behind it, and the counters.
type Found = (Chain, Counts);

impl ReplicatedWorld {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Dice::of(seed);
        // It takes a log that is damaged twice, which is seldom enough.
        let damages = dice.chance(if fault::is_on(Fault::FoundEarly) { 100 } else { 25 });
        let pauses = [1, 3, 10][dice.below(3)];
        let loses = [0, 5, 30][dice.below(3)];
        let crashes = [0, 2, 10][dice.below(3)];
        // Where a message is lost, nothing is to hide that.
        let checkpoints = if damages { 0 } else { [0, 2, 10][dice.below(3)] };
        ReplicatedWorld {
            dice,
            steps: 0,
            stream: Stream::default(),
            nodes: (0..NODES).map(|_| Node::default()).collect(),
            asked: Vec::new(),
            answered: BTreeMap::new(),
            grown: BTreeMap::new(),
            counts: BTreeSet::new(),
            terms: BTreeSet::new(),
            damages,
            follows: damages,
            // A takeover begins behind epochs that a founding which came to nothing has made up.
            takes: if damages { 8 } else { 20 },
            pauses,
            loses,
            crashes,
            checkpoints,
            made: 0,
        }
    }

    /// Lives, and is judged.
    pub(super) fn run(mut self) -> Result<u64, String> {
        for _ in 0..3_000 {
            self.steps += 1;
            let at = self.dice.below(NODES);
            let left = self.stream.messages.len() - self.stream.trimmed;
            if self.damages && left > 3 && self.dice.chance(1) {
                self.damage(left);
            }
            if self.nodes[at].paused_until > self.steps {
                // What it had sent goes on.
                self.move_network(at);
                continue;
            }
            if self.dice.below(1000) < self.pauses {
                let pause = [10, 100, 600][self.dice.below(3)];
                self.nodes[at].paused_until = self.steps + self.dice.below(pause) as u64;
                continue;
            }
            if self.nodes[at].owner.is_some() {
                self.step(at)?;
            } else if self.dice.below(1000) < self.takes && !self.take_over(at)? {
                // It cannot be read. If nobody founds it anew, that is the end.
                if self.dice.chance(2) {
                    return Ok(self.steps);
                }
                self.found(at)?;
            } else if self.follows && self.dice.chance(20) {
                self.follow(at);
            }
        }
        if self.stream.is_damaged {
            return match self.read() {
                Err(_) => Ok(self.steps),
                Ok(_) => Err("a log that has lost a message reads as whole".to_string()),
            };
        }
        let (_, counters) = self.read()?;
        for (pair, least) in &self.answered {
            let found = counters.get(&(2 * pair)).copied().unwrap_or_default();
            if found < *least || found > self.grown.get(pair).copied().unwrap_or_default() {
                return Err(format!("pair {pair} was answered {least}, and the log has {found}"));
            }
        }
        Ok(self.steps)
    }

    /// A server loses a message of the log, or has another in its place.
    fn damage(&mut self, left: usize) {
        let at = self.stream.trimmed + 1 + self.dice.below(left - 2);
        let lost = self.dice.chance(50);
        self.stream.messages[at] = if lost { Vec::new() } else { self.stream.messages[at - 1].clone() };
        self.stream.is_damaged = true;
        self.damages = false;
    }

    /// Where a reader that has nothing begins: with the log, or with a checkpoint.
    fn begins(&self) -> Result<(usize, Chain, Counts), String> {
        let Stream { messages, trimmed, checkpoints, .. } = &self.stream;
        if *trimmed == 0 {
            return Ok((0, Chain::at(ChainPlace::first(DATABASE)), BTreeMap::new()));
        }
        let (message, named) = self.stream.named().ok_or("the log was trimmed, and names no checkpoint")?;
        let counters = checkpoints.get(&(named.place.term, named.bytes));
        let counters = counters.ok_or(format!("{named:?} is not there"))?.clone();
        if hash_entry(&messages[message as usize - 2]) != named.place.previous {
            return Err(format!("message {message} is not where {named:?} goes on"));
        }
        Ok((message as usize - 1, Chain::at(named.place), counters))
    }

    /// Reads all of the log.
    fn read(&self) -> Result<Found, String> {
        let (begin, mut chain, mut counters) = self.begins()?;
        let is_there = |message: &&Vec<u8>| !message.is_empty() || !fault::is_on(Fault::TrustChain);
        for message in self.stream.messages[begin..].iter().filter(is_there) {
            let Followed::Epochs(gathered) = chain.follow(message).map_err(|error| error.to_string())? else {
                continue;
            };
            apply(&mut counters, &gathered.records)?;
            if let Some(pair) =
                (0..PAIRS).find(|pair| counters.get(&(2 * pair)) != counters.get(&(2 * pair + 1)))
            {
                return Err(format!("pair {pair} is torn in {}: {counters:?}", gathered.epoch));
            }
        }
        Ok((chain, counters))
    }

    /// An owner goes on with a checkpoint: makes one, names it, or trims the log.
    fn checkpoint(&mut self, at: usize) -> Result<(), String> {
        let owner = self.nodes[at].owner.as_ref().expect("it is one");
        let place = owner.appends.chain().place().clone();
        let is_quiet = owner.appends.is_empty() && owner.appends.last() == self.stream.last();
        let copies = is_quiet && matches!(owner.checkpoint, Checkpointing::No);
        // What it has in its own log: the same.
        let copied = if copies { Some(self.read()?) } else { None };
        let (made, stream) = (&mut self.made, &mut self.stream);
        let owner = self.nodes[at].owner.as_mut().expect("it is one");
        owner.checkpoint = match (std::mem::take(&mut owner.checkpoint), copied) {
            (Checkpointing::No, Some((chain, counters))) if *chain.place() == place => {
                *made += 1;
                let (key, epoch) = ((place.term, *made), place.epoch);
                stream.checkpoints.insert(key, counters);
                let object = format!("{key:?}");
                let named = NamedCheckpoint { object, epoch, bytes: *made, hash: [0; 32], place };
                Checkpointing::Put(Box::new(named), key)
            }
            (Checkpointing::No, _) => Checkpointing::No,
            (Checkpointing::Put(named, key), _) => {
                owner.appends.name_checkpoint(*named);
                Checkpointing::Named(key)
            }
            (Checkpointing::Named(key), _) => match owner.appends.trims_below() {
                Some(below) => Checkpointing::Counts(below, key),
                None => Checkpointing::Named(key),
            },
            (Checkpointing::Counts(below, key), _) => {
                stream.trim(below, key);
                Checkpointing::No
            }
        };
        Ok(())
    }

    /// A standby takes over behind all that it has read. Says whether the log could be read.
    fn take_over(&mut self, at: usize) -> Result<bool, String> {
        let read = self.read();
        if self.stream.is_damaged && read.is_err() {
            return Ok(false);
        }
        let (chain, counters) = read?;
        for (pair, least) in &self.answered {
            if counters.get(&(2 * pair)).copied().unwrap_or_default() < *least {
                return Err(format!("pair {pair} was answered {least}, and a standby has {counters:?}"));
            }
        }
        let last = self.stream.last();
        let mut appends = Appends::new(chain, last);
        self.resume(at, &mut appends);
        if !appends.is_empty() {
            // Another was quicker.
            return Ok(true);
        }
        let counters = if appends.last() == last { counters } else { self.read()?.1 };
        appends.take_over(&format!("node {at}"), WrittenSchema::UNSTATED, Epoch(0));
        if self.send_now(at, &mut appends) {
            self.own(at, counters, appends)?;
        }
        Ok(true)
    }

    /// The database is this node's, in a term of its own.
    fn own(&mut self, at: usize, counters: Counts, appends: Appends) -> Result<(), String> {
        let (place, sequence) = (appends.chain().place().clone(), appends.last() + 1);
        if !self.terms.insert(place.term) {
            return Err(format!("two owners of term {}", place.term));
        }
        let shards = 1 + self.dice.below(2);
        let node = &mut self.nodes[at];
        let (counts, tail, term) = (counters.clone(), place.epoch, place.term);
        node.log = Some(NodeLog { counters: counts, place, sequence, tail, term, tried: Vec::new() });
        (node.owner, node.logged) = (Some(Owner::new(shards, counters, appends)), Vec::new());
        Ok(())
    }

    /// A node that has crashed brings to the log what its own log has of its term, if it owns the
    /// database still. It is cut otherwise now.
    fn resume(&mut self, at: usize, appends: &mut Appends) {
        let place = appends.chain().place().clone();
        if place.owner != Some(format!("node {at}")) {
            return;
        }
        let mut logged = std::mem::take(&mut self.nodes[at].logged);
        logged.retain(|(epoch, ..)| *epoch > place.epoch);
        if logged.is_empty() {
            return;
        }
        appends.resume();
        let mut goes_on = self.send_now(at, appends);
        while goes_on && !logged.is_empty() {
            let count = 1 + self.dice.below(logged.len());
            let (mut epoch, mut time, mut records) = (Epoch(0), Time(0), Vec::new());
            for of_epoch in logged.drain(..count) {
                (epoch, time) = (of_epoch.0, of_epoch.1);
                records.extend(of_epoch.2);
            }
            appends.append(epoch, time, &records, ENTRY_BYTES_MIN);
            goes_on = self.send_now(at, appends);
        }
    }

    /// Sends what a node has put down, and hears of each at once: what came first is what counts.
    /// Something that it had given up may come in between. Says whether all of it is there.
    fn send_now(&mut self, at: usize, appends: &mut Appends) -> bool {
        while let Some((entries, behind)) = appends.next_to_send() {
            let appended = append(&mut self.stream, &entries, behind);
            appends.came(appended);
            if appended != Appended::Done {
                return false;
            }
            if self.dice.chance(30) {
                self.move_given_up(at);
            }
        }
        true
    }

    /// Something that a node had given up arrives. Every other time the network does its worst: if
    /// there is an entry that fits, that comes.
    fn move_given_up(&mut self, at: usize) {
        let (given_up, last) = (&mut self.nodes[at].given_up, self.stream.last());
        if given_up.is_empty() {
            return;
        }
        let fits = given_up.iter().position(|(_, behind)| *behind == last);
        let one = fits.filter(|_| self.dice.chance(50));
        let (entries, behind) = given_up.swap_remove(one.unwrap_or(self.dice.below(given_up.len())));
        append(&mut self.stream, &entries, behind);
    }

    /// An owner ends. What it has sent may arrive later, and its own log has all that it had
    /// acknowledged; of the rest, some.
    fn crash(&mut self, at: usize) {
        let Some(owner) = self.nodes[at].owner.take() else { return };
        let acknowledged = owner.logged.iter().filter(|(epoch, ..)| *epoch <= owner.acknowledged).count();
        let kept = acknowledged + self.dice.below(owner.logged.len() - acknowledged + 1);
        let node = &mut self.nodes[at];
        node.given_up.extend(owner.sent);
        node.logged = owner.logged;
        node.logged.truncate(kept);
        let log = node.log.as_mut().expect("it was the owner");
        for (epoch, _, records) in &node.logged {
            log.tail = *epoch;
            apply(&mut log.counters, records).expect("it wrote them");
        }
    }

    /// Moves what a node has on its way to the log.
    fn move_network(&mut self, at: usize) {
        let (lost, late, twice) = (self.loses, self.loses, self.loses);
        if self.dice.chance(20) {
            self.move_given_up(at);
        }
        let Some(owner) = &mut self.nodes[at].owner else { return };
        let Some((entries, behind)) = owner.sent.pop_front() else { return };
        if self.dice.below(1000) < lost {
            owner.came.push_back(Appended::Unknown);
            return;
        }
        let mut came = append(&mut self.stream, &entries, behind);
        if self.dice.below(1000) < twice {
            // The second time it is refused, and nobody hears of it.
            append(&mut self.stream, &entries, behind);
        }
        if self.dice.below(1000) < late {
            came = Appended::Unknown;
        }
        owner.came.push_back(came);
    }

    fn step(&mut self, at: usize) -> Result<(), String> {
        if self.dice.below(100) < self.checkpoints {
            return self.checkpoint(at);
        }
        if self.dice.below(1000) < self.crashes {
            self.crash(at);
            // It may be back before anybody has missed it, and before what it had sent arrives.
            return if self.dice.chance(50) { self.take_over(at).map(drop) } else { Ok(()) };
        }
        match self.dice.below(10) {
            0 | 1 => self.ask(at),
            2 => self.move_network(at),
            3 => self.hear(at),
            4 => self.look(at),
            5 => {
                // It gives up an answer that may still come.
                let node = &mut self.nodes[at];
                let owner = node.owner.as_mut().expect("it is one");
                if self.dice.below(1000) < self.loses && !owner.sent.is_empty() {
                    node.given_up.extend(owner.sent.drain(..));
                    owner.came.push_back(Appended::Unknown);
                }
            }
            _ => {
                let owner = self.nodes[at].owner.as_mut().expect("it is one");
                let shard = self.dice.below(owner.shards.len());
                owner.step(shard, self.steps, self.dice.below(4));
                owner.leave();
            }
        }
        self.judge(at)
    }

    fn ask(&mut self, at: usize) {
        let pair = self.dice.below(PAIRS as usize) as u64;
        let message = if self.dice.chance(60) {
            *self.grown.entry(pair).or_default() += 1;
            Message::Grow(pair)
        } else {
            Message::Read(2 * pair + self.dice.below(2) as u64)
        };
        let least = self.answered.get(&pair).copied().unwrap_or_default();
        let slot = self.asked.len() as u32;
        self.asked.push(Asked { message, least, is_answered: false });
        self.nodes[at].owner.as_mut().expect("it is one").ask(slot, message);
    }

    /// The owner hears what came of an entry.
    fn hear(&mut self, at: usize) {
        let node = &mut self.nodes[at];
        let owner = node.owner.as_mut().expect("it is one");
        let Some(came) = owner.came.pop_front() else { return };
        let counts = owner.appends.came(came);
        if came != Appended::Done {
            // It waits for no other answer, and what it sent may still arrive.
            owner.came.clear();
            node.given_up.extend(owner.sent.drain(..));
        }
        if let Some(epoch) = counts {
            owner.acknowledged = epoch;
            owner.durability.acknowledge(epoch);
            (0..owner.shards.len()).for_each(|shard| owner.release(shard));
        }
    }

    /// An owner that does not know what became of its entries looks.
    fn look(&mut self, at: usize) {
        let owner = self.nodes[at].owner.as_mut().expect("it is one");
        if !owner.appends.must_look() {
            return;
        }
        let looked = owner.appends.look(self.stream.last()).and_then(|()| {
            while let Some(sequence) = owner.appends.unread() {
                owner.appends.read(&self.stream.messages[sequence as usize - 1])?;
            }
            Ok(())
        });
        match looked {
            Ok(()) => {}
            // It answers nobody, and drops what it has.
            Err(_) => self.crash(at),
        }
    }

    /// Whether what was answered could be.
    fn judge(&mut self, at: usize) -> Result<(), String> {
        let Some(owner) = &mut self.nodes[at].owner else { return Ok(()) };
        let answers: Vec<_> =
            owner.effects.iter_mut().flat_map(|effects| effects.answers.drain(..)).collect();
        for (to, outcome) in answers {
            let ReturnAddress::Outside { slot, .. } = to else { return Err(format!("an answer to {to:?}")) };
            let asked = &mut self.asked[slot as usize];
            if std::mem::replace(&mut asked.is_answered, true) {
                return Err(format!("message {slot} is answered twice"));
            }
            let count = outcome.map_err(|error| format!("message {slot}: {error:?}"))?;
            let pair = match asked.message {
                Message::Grow(pair) => {
                    if !self.counts.insert((pair, count)) {
                        return Err(format!("two owners answered {count} for pair {pair}"));
                    }
                    pair
                }
                Message::Read(id) => id / 2,
            };
            let is_grow = matches!(asked.message, Message::Grow(_));
            let most = self.grown.get(&pair).copied().unwrap_or_default();
            if count < asked.least + u64::from(is_grow) || count > most {
                let least = asked.least;
                return Err(format!(
                    "stale: {:?} is answered {count} by node {at}, after {least}",
                    asked.message
                ));
            }
            let answered = self.answered.entry(pair).or_default();
            *answered = count.max(*answered);
        }
        Ok(())
    }
}

impl Owner {
    fn new(shards: usize, counters: Counts, appends: Appends) -> Owner {
        let router = Router::new(PlacementKey(5), shards);
        let (place, term) = (appends.chain().place(), appends.chain().place().term);
        let durability = Arc::new(Durability::replicated(shards, place.epoch));
        let mvcc = Arc::new(Mvcc::logged(shards, durability.clone()));
        let mut homes: Vec<Home<Counters>> = (0..shards).map(|shard| Home::new(shard as u64)).collect();
        for (id, count) in counters {
            let change = Change::Put(id, Ownership::Owned(OwnerId(0)), count);
            homes[router.home(&id).index()].apply([change]);
        }
        let shard = |(at, home): (usize, Home<Counters>)| {
            let first = SegmentId { database: DATABASE, log: at as u64, segment: 0, start: term };
            Shard::new(ShardIndex(at as u16), router, Limits::default(), 3, mvcc.clone())
                .with_objects(home)
                .with_log(LogStart {
                    codec: Codec::new(),
                    ack: Ack::Replicated,
                    first,
                    segment_bytes: SEGMENT_BYTES,
                    first_send: 0,
                    durability: durability.clone(),
                })
        };
        Owner {
            router,
            shards: homes.into_iter().enumerate().map(shard).collect(),
            inboxes: (0..shards).map(|_| Inbox::new()).collect(),
            effects: (0..shards).map(|_| Effects::new(shards)).collect(),
            writing: (0..shards).map(|_| None).collect(),
            gathering: Gathering::new(place.epoch),
            mvcc: mvcc.clone(),
            durability: durability.clone(),
            appends,
            sent: VecDeque::new(),
            acknowledged: Epoch(0),
            logged: Vec::new(),
            came: VecDeque::new(),
            checkpoint: Checkpointing::No,
        }
    }

    fn ask(&mut self, slot: u32, message: Message) {
        let to = match self.router.destination::<Counters>(&message, &mut Addressees::new()) {
            Destination::One(shard) | Destination::Several(shard) => shard.index(),
            Destination::Nowhere => 0,
        };
        let answer_to = ReturnAddress::Outside { slot, generation: 0 };
        self.inboxes[to].envelopes.push(Envelope::Message { message, sender: OwnerId(0), answer_to });
    }

    /// A shard takes a turn, its disk writes, or a lane moves.
    fn step(&mut self, shard: usize, now: u64, what: usize) {
        match what {
            0 | 1 => {
                self.shards[shard].turn(Time(now), &mut self.inboxes[shard], &mut self.effects[shard]);
                self.write(shard, now);
                self.release(shard);
            }
            2 => {
                if let Some(write) = self.writing[shard].take() {
                    self.shards[shard].written(write.batch);
                    self.write(shard, now);
                    (0..self.shards.len()).for_each(|shard| self.release(shard));
                }
            }
            _ => {
                for to in 0..self.shards.len() {
                    let sent: Vec<_> = self.effects[shard].outboxes[to].drain(..).collect();
                    self.inboxes[to].envelopes.extend(sent);
                }
            }
        }
    }

    /// Hands the next batch over, and gives it to the disk.
    fn write(&mut self, shard: usize, now: u64) {
        if let Some(write) = self.shards[shard].next_write(Time(now)) {
            let bounds = Bounds::of_segments(SEGMENT_BYTES);
            let batch = sealed(write.batch.sealed(), bounds).expect("it was just sealed");
            self.gathering.add(&batch);
            self.durability.hand(ShardIndex(shard as u16), write.closed);
            self.writing[shard] = Some(write);
        }
    }

    fn release(&mut self, shard: usize) {
        self.shards[shard].release(&mut self.effects[shard]);
    }

    /// Sends what is complete, or awaited.
    fn leave(&mut self) {
        let handed = self.durability.handed(self.mvcc.epochs());
        let left = self.gathering.left();
        let awaited = handed > left && self.durability.is_awaited(left, handed);
        let gathered = self.gathering.take(handed, 1 << 20);
        let gathered = gathered.or_else(|| awaited.then(|| self.gathering.leave_empty(handed)));
        if let Some(gathered) = gathered {
            self.appends.append(gathered.epoch, gathered.time, &gathered.records, ENTRY_BYTES_MIN);
            self.logged.push((gathered.epoch, gathered.time, gathered.records));
        }
        while let Some((entries, behind)) = self.appends.next_to_send() {
            debug_assert!(entries.iter().all(|entry| read_entry(entry).is_ok()));
            self.sent.push_back((entries.iter().map(|entry| entry.to_vec()).collect(), behind));
        }
    }
}
