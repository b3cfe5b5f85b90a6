//! A replicated log that has lost a message, and is founded anew from a node's own log. The
//! operator stops the nodes that can be reached; those that are paused go on later. He may name any
//! node: one whose log lacks something is to be refused.

use freehold_shard::log::founding::{ChainSurvey, Founder};

use super::*;

impl ReplicatedWorld {
    /// Has a node found the log anew, if it was an owner and its log lacks nothing.
    pub(super) fn found(&mut self, at: usize) -> Result<(), String> {
        for node in 0..NODES {
            if self.nodes[node].paused_until <= self.steps {
                self.crash(node);
            }
        }
        let Some(NodeLog { counters, place, sequence, tail }) = self.nodes[at].log.clone() else {
            return Ok(());
        };
        let (term, last) = (place.term, self.stream.last());
        let mut survey = ChainSurvey::new(Founder { place, sequence, term, tail }, 1, last);
        for (message, sequence) in self.stream.messages.iter().zip(1..) {
            let there = (!message.is_empty()).then_some(&**message);
            if survey.read(sequence, there).is_err() {
                return Ok(());
            }
        }
        let Ok((known, left)) = survey.end() else { return Ok(()) };
        let node = format!("node {at}");
        let mut appends = Appends::new(Chain::at(left.place(&known, last)), last);
        let place = appends.founded(&node, WrittenSchema::UNSTATED, tail);
        self.made += 1;
        let (key, epoch) = ((place.term, self.made), place.epoch);
        self.stream.checkpoints.insert(key, counters.clone());
        let object = format!("{key:?}");
        let named = NamedCheckpoint { object, epoch, bytes: self.made, hash: [0; 32], place };
        appends.found(&node, WrittenSchema::UNSTATED, tail, named);
        self.nodes[at].log.as_mut().expect("it is there").tail = epoch;
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
        // It may end before it trims. Who reads begins behind what was damaged if something was
        // trimmed before; otherwise it is told to found it once more.
        let trims = !self.dice.chance(20);
        if trims {
            self.stream.trim(below, key);
        }
        self.stream.is_damaged = self.stream.trimmed == 0;
        if !trims {
            return Ok(());
        }
        self.damages = self.dice.chance(50);
        self.own(at, counters, appends)
    }
}
