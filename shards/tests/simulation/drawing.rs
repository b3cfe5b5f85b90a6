//! What clients of the simulated runtime send: scripts, drawn by the dice.

use freehold_shard::OwnerId;

use super::ranked::Ranking;
use super::script::{ALL, Failure, Script, Step, Use, entry};
use super::world::World;

/// Whether a message may tell others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tells {
    Maybe,
    Nothing,
}

impl World {
    pub(super) fn script(&mut self, tells: Tells) -> Script {
        self.sent += 1;
        let message = self.sent;
        self.history.sent.insert(message, self.steps);
        let objects = self.shape.objects;
        let sender = OwnerId((self.dice.below(8) == 0).into());
        let many = if self.dice.chance(5) { 6 } else { 3 };
        let ids: Vec<u64> = (0..1 + self.dice.below(many)).map(|_| self.dice.next() % objects).collect();
        let mut steps = Vec::new();
        let mut declared = Vec::new();
        for &id in &ids {
            let key = self.dice.below(4) as u64;
            let step = match self.dice.below(31) {
                28.. => Step::Ranked(id, self.ranking(key)),
                20..=22 => Step::Write(entry(id, key)),
                23 => Step::Remove(entry(id, key)),
                24 => Step::Read(entry(id, key)),
                25 => Step::Range(id, key, 4),
                26 => Step::Ends(id),
                27 => Step::Clear(id, self.dice.below(4)),
                0..=5 => Step::Read(id),
                6..=13 => Step::Write(id),
                14 => Step::Remove(id),
                15 if self.dice.chance(30) => Step::Transfer(id, OwnerId(self.dice.below(2) as u64)),
                16 if self.dice.chance(3) => Step::Freeze(id),
                16 => Step::Share(id),
                17 => Step::Follow(id),
                // Not in what is told: nobody hears how that ends, so only its last run tells.
                18 if tells == Tells::Maybe => Step::Careless(id),
                18 => Step::Want(id, self.dice.next() % objects),
                _ => Step::Write(id),
            };
            // Mostly as it will be used; now and then too little, or not at all.
            let access = match step {
                Step::Read(_) | Step::Follow(_) | Step::Want(..) | Step::Range(..) => Use::Read,
                Step::Ranked(_, Ranking::By(_)) => Use::Read,
                _ if self.dice.chance(10) => Use::Read,
                _ => Use::Write,
            };
            if declared.is_empty() || self.dice.chance(90) {
                // An entry stands for its collection.
                declared.push((if self.dice.chance(20) { entry(id, key) } else { id }, access));
            }
            steps.push(step);
            if step == Step::Clear(id, ALL) && self.dice.chance(50) {
                // An entry that was cleared may have another slot then.
                steps.push(Step::Write(entry(id, key)));
            }
        }
        let end = match self.dice.below(20) {
            0 => Some(Failure::Asked),
            1 => Some(Failure::Panics),
            _ => None,
        };
        let often = self.lives.as_ref().map_or(5, |lives| lives.tells);
        let tells = (tells == Tells::Maybe && self.dice.chance(often)).then(|| {
            // Where much is told, much is owed for long.
            let long = if often == 60 { 4_000 } else { 300 };
            let how = self.dice.below(6);
            let delay = [0, 0, 1, 20, 300, long][how];
            let told = Script { sender, delay, is_action: how == 1, ..self.script(Tells::Nothing) };
            self.told.insert(told.message);
            // When it is sent, nobody knows.
            self.history.sent.remove(&told.message);
            Box::new(told)
        });
        let back = self.dice.below(4);
        let cancels = self.told.iter().rev().nth(back).copied().filter(|_| self.dice.chance(often));
        Script { message, sender, declared, steps, end, objects, tells, cancels, delay: 0, is_action: false }
    }

    fn ranking(&mut self, key: u64) -> Ranking {
        match self.dice.below(8) {
            0..=2 => Ranking::Put(key),
            3 | 4 => Ranking::Change(key),
            5 => Ranking::Take(key),
            6 => Ranking::TakeFirst(key % 3),
            _ => Ranking::By(key % 3),
        }
    }
}
