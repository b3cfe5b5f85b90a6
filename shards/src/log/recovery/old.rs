//! Records of earlier versions of the actor's types, replayed as bytes and then migrated.
//!
//! Only what is left of them is migrated: objects that exist, in their last state, and messages
//! that are still owed. So a migration sees what the last run of the old program had, and never
//! what was removed or overwritten.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;

use super::over::Over;
use super::replay::{NotUnderstood, Owing, Replay, counts};
use crate::epoch::Epoch;
use crate::log::batch::LogBatch;
use crate::log::dated::DatedRecord;
use crate::log::manifest::{Fate, Manifest};
use crate::log::migration::{Convert, MigrationError, NotMigrated, OldTypes, Reading};
use crate::log::record::{Record, SendId, decode};
use crate::log::schema::SchemaPart;
use crate::object::{Change, Ownership, Stored};
use crate::placement::Router;

/// An object in bytes; `None` if it was removed.
type Object = Option<(Ownership, Box<[u8]>)>;

/// What is missing where a collection was cleared.
const NO_COLLECTION: &str = "an object: a collection was cleared, and the types of that version do not say which ids \
     are entries; give them `SchemaTypes::COLLECTION`";

/// Ids in bytes.
type Ids = HashSet<Box<[u8]>, ahash::RandomState>;

/// What a checkpoint's part or a log leaves, in bytes.
#[derive(Default)]
pub struct OldReplay {
    /// By their ids.
    objects: HashMap<Box<[u8]>, Object, ahash::RandomState>,
    /// The entries among them, by their collections: of types that have some.
    entries: HashMap<Box<[u8]>, Ids, ahash::RandomState>,
    /// The collections that were cleared: what was in them before this is no more.
    cleared: Ids,
    owing: Owing,
}

impl OldReplay {
    /// Nothing yet, where these messages are over: nothing of them is kept.
    pub fn knowing(over: Arc<Over>) -> Self {
        OldReplay { owing: Owing::knowing(over), ..OldReplay::default() }
    }

    /// As [`Replay::apply`]. Ids, states and messages are not read yet, but for those of a fixed
    /// width, which are written anew by postcard.
    ///
    /// # Errors
    /// A record of no version, or a value that is none of the `old` types.
    pub fn apply(
        &mut self,
        batch: &LogBatch<'_>,
        from: Epoch,
        cut: Epoch,
        old: &OldTypes<'_>,
    ) -> Result<(), NotUnderstood> {
        for DatedRecord { at, epoch, record, .. } in batch.dated() {
            let not = |what| NotUnderstood { record: at, what };
            let record = record.ok_or(not("a record of this version"))?;
            if !counts(epoch, from, cut) {
                continue;
            }
            match record {
                Record::Epoch(_) => {}
                Record::Put { id, ownership, state } => {
                    let id = old.postcard(SchemaPart::Id, id).ok_or(not("an object's id"))?;
                    let state = old.postcard(SchemaPart::State, state).ok_or(not("an object's state"))?;
                    if old.has_collections()
                        && !matches!(self.objects.get(&id), Some(Some(_)))
                        && let Some(collection) = old.collection(&id)
                    {
                        self.entries.entry(collection).or_default().insert(id.clone());
                    }
                    self.objects.insert(id, Some((ownership, state)));
                }
                Record::Remove { id } => {
                    let id = old.postcard(SchemaPart::Id, id).ok_or(not("an object's id"))?;
                    self.objects.insert(id, None);
                }
                Record::Cleared { collection } => {
                    if !old.has_collections() {
                        return Err(not(NO_COLLECTION));
                    }
                    let id = old.postcard(SchemaPart::Id, collection).ok_or(not("a collection's id"))?;
                    for entry in self.entries.remove(&id).unwrap_or_default() {
                        self.objects.remove(&entry);
                    }
                    self.cleared.insert(id);
                }
                Record::Send { .. } | Record::Delivered { .. } | Record::Cancelled { .. } => {
                    self.owing.note(record);
                }
            }
        }
        Ok(())
    }

    /// Takes over what came later, of the `old` types.
    fn follow(&mut self, later: OldReplay, old: &OldTypes<'_>) {
        if !later.cleared.is_empty() {
            let is_left = |id: &[u8]| old.collection(id).is_none_or(|of| !later.cleared.contains(&of));
            self.objects.retain(|id, _| is_left(id));
        }
        self.objects.extend(later.objects);
        self.owing.follow(later.owing);
    }

    /// All of it, in bytes of the next version. Nothing older than this is to come.
    fn migrated(self, step: &Convert<'_>, dropped: &HashSet<SendId>) -> Result<OldReplay, MigrationError> {
        let mut new = OldReplay::default();
        (new.owing.over, new.owing.known) = (self.owing.over, self.owing.known);
        for (id, object) in self.objects {
            let Some((ownership, state)) = object else { continue };
            let (new_id, new_state) = step.object(&id, &state)?;
            if new.objects.insert(new_id.into(), Some((ownership, new_state.into()))).is_some() {
                return Err(step.same_id(&id));
            }
        }
        for (send_id, (sender, due, message)) in self.owing.owed {
            if new.owing.is_over(send_id, due) {
                continue;
            }
            // One that was dropped is read by nobody. It stays owed, so that it is not forgotten
            // that it was.
            let is_dropped = dropped.contains(&send_id);
            let message = if is_dropped { message } else { step.message(send_id, &message)?.into() };
            new.owing.owed.insert(send_id, (sender, due, message));
        }
        Ok(new)
    }

    /// All of it, which is of the actor's version now. Objects are given to `put`, as by
    /// [`Replay::apply`].
    fn into_replay<A: Stored<State: DeserializeOwned>>(
        self,
        router: Router,
        version: u32,
        mut put: impl FnMut(usize, &mut Vec<Change<A>>),
    ) -> Result<Replay<A>, MigrationError> {
        let mut replay = Replay::new(router);
        replay.owing = self.owing;
        let mut seen: HashSet<A::Id, ahash::RandomState> = HashSet::default();
        for (id, object) in self.objects {
            let Some((ownership, state)) = object else { continue };
            let not = |part, why| {
                let of = format!("the object whose id is in bytes {id:?}");
                MigrationError { from: version, to: version, part, of, why }
            };
            let key = decode::<A::Id>(&id).ok_or_else(|| not(SchemaPart::Id, NotMigrated::NotRead))?;
            let state = decode::<A::State>(&state);
            let state = state.ok_or_else(|| not(SchemaPart::State, NotMigrated::NotRead))?;
            if !seen.insert(key) {
                return Err(not(SchemaPart::Id, NotMigrated::SameId));
            }
            replay.change(router.home(&key).index(), Change::Put(key, ownership, state), &mut put);
        }
        replay.flush(&mut put);
        Ok(replay)
    }
}

/// What was recorded by earlier versions of the actor's types, oldest first, on its way to this
/// one.
pub struct Migrating<'r> {
    reading: &'r Reading,
    /// Messages that are owed and never run.
    dropped: HashSet<SendId>,
    /// The longest value that the database takes.
    value_max: usize,
    /// What there is so far, and of which version it is.
    old: Option<(u32, OldReplay)>,
}

impl<'r> Migrating<'r> {
    /// Nothing yet, of the database with this manifest. The schemas of what follows were
    /// [checked](Reading::check).
    pub fn new(reading: &'r Reading, manifest: &Manifest) -> Self {
        let dropped = manifest.blamed.iter().filter(|blamed| blamed.fate == Fate::Dropped);
        let dropped = dropped.map(|blamed| SendId(blamed.send_id)).collect();
        Migrating { reading, dropped, value_max: manifest.bounds().value(), old: None }
    }

    /// Takes over what the logs of a run, or the parts of a checkpoint, have of this earlier
    /// version.
    ///
    /// # Errors
    /// [`MigrationError`]: the first value that cannot be migrated.
    pub fn follow(
        &mut self,
        version: u32,
        replays: impl IntoIterator<Item = OldReplay>,
    ) -> Result<(), MigrationError> {
        let mut all = self.up_to(version)?;
        let old = self.reading.old_types(version);
        replays.into_iter().for_each(|replay| all.follow(replay, &old));
        self.old = Some((version, all));
        Ok(())
    }

    /// Migrates all there is to this version, before what that has recorded. Objects are given to
    /// `put`, as by [`Replay::apply`]; pending sends are returned.
    ///
    /// # Errors
    /// As [`Migrating::follow`].
    pub fn finish<A: Stored<State: DeserializeOwned>>(
        &mut self,
        router: Router,
        put: impl FnMut(usize, &mut Vec<Change<A>>),
    ) -> Result<Replay<A>, MigrationError> {
        let version = self.reading.version();
        self.up_to(version)?.into_replay(router, version, put)
    }

    fn up_to(&mut self, version: u32) -> Result<OldReplay, MigrationError> {
        let Some((mut at, mut replay)) = self.old.take() else { return Ok(OldReplay::default()) };
        while at < version {
            let step = self.reading.step(at, self.value_max).expect("an earlier version has a step");
            (replay, at) = (replay.migrated(&step, &self.dropped)?, step.to());
        }
        assert_eq!(at, version, "steps lead through every version that records are of");
        Ok(replay)
    }
}
