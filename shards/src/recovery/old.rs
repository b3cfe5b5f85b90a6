//! Records of earlier versions of the actor's types, replayed as bytes and then migrated.
//!
//! Only what is left of them is migrated: objects that exist, in their last state, and messages that are still owed. So a migration
//! sees what the last run of the old program had, and never what was removed or overwritten.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{NotUnderstood, Objects, Owed, Replay, counts};
use crate::actor::Actor;
use crate::epoch::Epoch;
use crate::log::Batch;
use crate::migration::{Convert, MigrationError, NotMigrated, Reading};
use crate::object::Ownership;
use crate::record::{Debt, Record, decode};
use crate::router::Router;
use crate::schema::SchemaPart;

/// An object in bytes; `None` if it was removed.
type Object = Option<(Ownership, Box<[u8]>)>;

/// What a checkpoint's part or a log leaves, in bytes.
#[derive(Default)]
pub struct OldReplay {
    /// By their ids.
    objects: HashMap<Box<[u8]>, Object, ahash::RandomState>,
    owed: BTreeMap<Debt, Owed>,
    paid: HashSet<Debt, ahash::RandomState>,
}

impl OldReplay {
    fn apply(&mut self, batch: &Batch<'_>, from: Epoch, cut: Epoch) -> Result<(), NotUnderstood> {
        let mut epoch = Epoch(0);
        for (at, record) in batch.records().enumerate() {
            let not = NotUnderstood { record: at, what: "a record of this version" };
            let record = Record::read(record).ok_or(not)?;
            if let Record::Epoch(of) = record {
                epoch = of;
            }
            if !counts(epoch, from, cut) {
                continue;
            }
            match record {
                Record::Epoch(_) => {}
                Record::Put { id, ownership, state } => {
                    self.objects.insert(id.into(), Some((ownership, state.into())));
                }
                Record::Remove { id } => drop(self.objects.insert(id.into(), None)),
                Record::Owe { debt, sender, due, message } => {
                    self.owed.insert(debt, (sender, due, message.into()));
                }
                Record::Paid { debt } => drop(self.paid.insert(debt)),
            }
        }
        Ok(())
    }

    fn follow(&mut self, later: OldReplay) {
        self.objects.extend(later.objects);
        self.owed.extend(later.owed);
        self.paid.extend(later.paid);
    }

    /// All of it, in bytes of the next version. Nothing older than this is to come.
    fn migrated(self, step: &Convert<'_>) -> Result<OldReplay, MigrationError> {
        let mut new = OldReplay { paid: self.paid, ..OldReplay::default() };
        for (id, object) in self.objects {
            let Some((ownership, state)) = object else { continue };
            let (new_id, new_state) = step.object(&id, &state)?;
            if new.objects.insert(new_id.into(), Some((ownership, new_state.into()))).is_some() {
                return Err(step.same_id(&id));
            }
        }
        for (debt, (sender, due, message)) in self.owed {
            if !new.paid.contains(&debt) {
                let message = step.message(debt, &message)?.into();
                new.owed.insert(debt, (sender, due, message));
            }
        }
        Ok(new)
    }

    /// All of it, which is of the actor's version now, by homes.
    fn into_replay<A: Actor>(self, router: Router, version: u32) -> Result<Replay<A>, MigrationError> {
        let mut replay = Replay::new(router);
        (replay.owed, replay.paid) = (self.owed, self.paid);
        for (id, object) in self.objects {
            let Some((ownership, state)) = object else { continue };
            let not = |part, why| {
                let of = format!("the object whose id is in bytes {id:?}");
                MigrationError { from: version, to: version, part, of, why }
            };
            let key = decode::<A::Id>(&id).ok_or_else(|| not(SchemaPart::Id, NotMigrated::NotRead))?;
            let state = decode::<A::State>(&state);
            let state = state.ok_or_else(|| not(SchemaPart::State, NotMigrated::NotRead))?;
            let objects: &mut Objects<A> = &mut replay.objects[router.home(&key).index()];
            if objects.insert(key, Some((ownership, state))).is_some() {
                return Err(not(SchemaPart::Id, NotMigrated::SameId));
            }
        }
        Ok(replay)
    }
}

/// What a checkpoint's part or a log leaves: of this version of the actor's types, or of an earlier one.
pub enum Layer<A: Actor> {
    /// Of this version.
    Now(Replay<A>),
    /// Of an earlier one, which is named.
    Old(u32, OldReplay),
}

impl<A: Actor> Layer<A> {
    /// Of records of this version of the types.
    pub fn new(router: Router, version: u32, reading: &Reading) -> Self {
        match version == reading.version() {
            true => Layer::Now(Replay::new(router)),
            false => Layer::Old(version, OldReplay::default()),
        }
    }

    /// As [`Replay::apply`].
    ///
    /// # Errors
    /// As there. Ids and states of earlier versions are not read yet.
    pub fn apply(&mut self, batch: &Batch<'_>, from: Epoch, cut: Epoch) -> Result<(), NotUnderstood> {
        match self {
            Layer::Now(replay) => replay.apply(batch, from, cut),
            Layer::Old(_, replay) => replay.apply(batch, from, cut),
        }
    }
}

/// Puts layers together, oldest first, and migrates what is of earlier versions.
///
/// # Errors
/// [`MigrationError`]: the first value that cannot be migrated.
///
/// # Panics
/// If the schemas of these layers were not [checked](Reading::check).
pub fn together<A: Actor>(
    layers: impl IntoIterator<Item = Layer<A>>,
    router: Router,
    reading: &Reading,
) -> Result<Replay<A>, MigrationError> {
    let mut old: Option<(u32, OldReplay)> = None;
    let mut all = Replay::new(router);
    // The old ones up to a version, which may be this one.
    let up_to = |(mut at, mut replay): (u32, OldReplay), version: u32| {
        while at < version {
            let step = reading.step(at).expect("an earlier version has a step");
            (replay, at) = (replay.migrated(&step)?, step.to());
        }
        assert_eq!(at, version, "steps lead through every version that records are of");
        Ok((at, replay))
    };
    let finish = |old: Option<(u32, OldReplay)>, all: &mut Replay<A>| {
        if let Some(old) = old {
            let (version, replay) = up_to(old, reading.version())?;
            all.follow(replay.into_replay(router, version)?);
        }
        Ok(())
    };
    for layer in layers {
        match layer {
            Layer::Now(replay) => {
                finish(old.take(), &mut all)?;
                all.follow(replay);
            }
            Layer::Old(version, replay) => {
                let (at, mut before) = match old.take() {
                    Some(before) => up_to(before, version)?,
                    None => (version, OldReplay::default()),
                };
                before.follow(replay);
                old = Some((at, before));
            }
        }
    }
    finish(old, &mut all)?;
    Ok(all)
}
