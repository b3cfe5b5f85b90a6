//! A replicated log that has lost a message, and is founded anew from a node's own log. The
//! operator stops the nodes that can be reached; those that are paused go on later. He may name any
//! node, and one after the other: one whose log lacks something is to be refused. Standbys have
//! logs, too, so several nodes may lack nothing.

use freehold_shard::log::founding::{ChainSurvey, Founder, Left, remember_founding};

use super::*;

/// How often a founding may come to nothing, one after the other.
const TRIES_MAX: usize = 12;

/// What is to be sent, the checkpoint that it names, and that checkpoint's term and number.
type Founding = (Appends, NamedCheckpoint, (u64, u64));

impl ReplicatedWorld {
    /// A standby takes over into its own log what it reads, unless that is less than it has.
    pub(super) fn follow(&mut self, at: usize) {
        let (Ok((chain, counters)), node) = (self.read(), &mut self.nodes[at]) else { return };
        let (place, sequence) = (chain.place().clone(), self.stream.last() + 1);
        let tail = node.log.as_ref().map_or(Epoch(0), |log| log.tail);
        let is_ours = place.owner == Some(format!("node {at}"));
        if self.stream.is_damaged || is_ours || place.epoch < tail {
            return;
        }
        // What only the node's own disk has is set aside.
        let is_strayed = !std::mem::take(&mut node.logged).is_empty();
        let before = node.log.take().filter(|_| !is_strayed);
        let (term, tried) = before.map_or((0, Vec::new()), |log| (log.term, log.tried));
        let tail = place.epoch;
        node.log = Some(NodeLog { counters, place, sequence, tail, term, tried });
    }

    /// Has a node found the log anew, if its log lacks nothing. It may end at any step, and be told
    /// to do it once more.
    pub(super) fn found(&mut self, at: usize) -> Result<(), String> {
        for node in 0..NODES {
            if self.nodes[node].paused_until <= self.steps {
                self.crash(node);
            }
        }
        for _ in 0..self.dice.below(TRIES_MAX) {
            self.begin_to_found(at)?;
        }
        let Some((mut appends, named, key)) = self.begin_to_found(at)? else { return Ok(()) };
        if self.dice.chance(20) {
            return Ok(());
        }
        // What others have sent arrives first, perhaps.
        if self.dice.chance(30) {
            (0..NODES).for_each(|node| self.move_network(node));
        }
        if !self.send_now(at, &mut appends) {
            return Ok(());
        }
        let below = appends.trims_below().ok_or("what was founded does not count")?;
        // A reader begins behind what was damaged if something was trimmed before. Otherwise a node
        // is told to found the log once more.
        self.stream.is_damaged = self.stream.trimmed == 0;
        // It may end before its own log has the epoch.
        if self.dice.chance(20) {
            return Ok(());
        }
        let log = self.nodes[at].log.as_mut().expect("it is there");
        (log.place, log.sequence, log.tail, log.term) = (named.place, below + 1, named.epoch, 0);
        log.tried.clear();
        let counters = log.counters.clone();
        // It may end before it trims.
        if self.dice.chance(20) {
            return Ok(());
        }
        self.stream.trim(below, key);
        self.stream.is_damaged = false;
        self.damages = self.dice.chance(90);
        self.own(at, counters, appends)
    }

    /// A node whose log lacks nothing has put a checkpoint beside the log, and is to send the rest.
    fn begin_to_found(&mut self, at: usize) -> Result<Option<Founding>, String> {
        let Some(NodeLog { counters, tail, .. }) = self.nodes[at].log.clone() else {
            return Ok(None);
        };
        let Some((known, left)) = self.survey(at)? else { return Ok(None) };
        let (node, last) = (format!("node {at}"), self.stream.last());
        let mut appends = Appends::new(Chain::at(left.place(&known, last)), last);
        let place = appends.founded(&node, WrittenSchema::UNSTATED, tail);
        self.made += 1;
        let (key, epoch) = ((place.term, self.made), place.epoch);
        self.stream.checkpoints.insert(key, counters);
        let object = format!("{key:?}");
        let named = NamedCheckpoint { object, epoch, bytes: self.made, hash: [0; 32], place };
        appends.found(&node, WrittenSchema::UNSTATED, tail, named.clone());
        let log = self.nodes[at].log.as_mut().expect("it is there");
        remember_founding(&mut log.tried, named.place.previous);
        if fault::is_on(Fault::FoundEarly) {
            log.tail = epoch;
        }
        Ok(Some((appends, named, key)))
    }

    /// What is left of the log, if a node's own log lacks nothing of it. A founding of its own that
    /// is the last that was appended does not count as something that it lacks.
    fn survey(&self, at: usize) -> Result<Option<(Founder, Left)>, String> {
        let log = self.nodes[at].log.clone().expect("it has one");
        let (NodeLog { place, sequence, tail, term, tried, .. }, last) = (log, self.stream.last());
        let mut survey = ChainSurvey::new(Founder { place, sequence, term, tail, tried }, 1, last);
        let read = self.stream.messages.iter().zip(1..).try_for_each(|(message, sequence)| {
            survey.read(sequence, (!message.is_empty()).then_some(&**message))
        });
        match read.and_then(|()| survey.end()) {
            Ok(found) => Ok(Some(found)),
            Err(error) if self.has_founded(at) => Err(format!("node {at} founded the log itself: {error}")),
            Err(_) => Ok(None),
        }
    }

    /// Whether the last takeover is a founding of this node, which has ended since.
    fn has_founded(&self, at: usize) -> bool {
        let is_takeover = |entry: &&Vec<u8>| {
            read_entry(entry).is_ok_and(|(head, _)| matches!(head.body, Body::Takeover { .. }))
        };
        let last = self.stream.messages.iter().rev().find(is_takeover);
        let tried = self.nodes[at].log.as_ref().map(|log| &log.tried);
        last.zip(tried).is_some_and(|(last, tried)| tried.contains(&hash_entry(last)))
    }
}
